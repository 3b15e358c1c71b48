import type { Caller } from "../../access/caller.ts";
import type { OpenStreams, StreamEnd, StreamEndReason } from "../../access/open-streams.ts";
import { Problem, type ProblemCode } from "../../lib/problem.ts";
import type { Bus, ConversationsMessage } from "../../realtime/bus.ts";
import type { ApiKeyService } from "../api-keys/service.ts";
import type { AuthService } from "../auth/service.ts";
import type { ConversationService, LostMembership } from "../conversations/service.ts";

/** Overlap between polls, because commits can become visible late. */
const OVERLAP_MS = 15_000;
/** Maximum number of sessions checked per statement. */
const SESSIONS_BATCH_MAX = 5_000;

/** Ends this instance's open streams when their access expires or is revoked, on any instance. */
export interface Revocations {
  /**
   * Polls the database for changes that the bus may have lost or doesn't announce. The bus doesn't announce expiries, and changes
   * made on the command line or directly in the database. Called by the job runner.
   */
  check(): Promise<void>;
}

type Dependencies = {
  openStreams: OpenStreams;
  bus: Pick<Bus, "subscribe">;
  auth: Pick<AuthService, "forgetSessions" | "findEndedSessions" | "findEndedSessionsAmong">;
  apiKeys: Pick<ApiKeyService, "findRevoked">;
  conversations: Pick<ConversationService, "findLostMemberships">;
  onError(error: unknown): void;
};

const createStreamEnd = (reason: StreamEndReason, code: ProblemCode, detail: string): StreamEnd => ({
  reason,
  problem: new Problem(code, detail),
});

const streamEnds = {
  credential: () =>
    createStreamEnd(
      "credential",
      "unauthorized",
      "The session or API key has ended. Log in again, or use another key.",
    ),
  keyExpired: () => createStreamEnd("token", "unauthorized", "The API key has expired. Use another key."),
  tokenExpired: () =>
    createStreamEnd("token", "unauthorized", "The access token has expired. Reconnect with a new access token."),
  membership: () =>
    createStreamEnd(
      "membership",
      "forbidden",
      "You are no longer a member of this conversation. Ask an owner to add you.",
    ),
  writeAccess: () =>
    createStreamEnd(
      "membership",
      "forbidden",
      "You may no longer write in this conversation. Ask an owner to change your role.",
    ),
  conversation: () => createStreamEnd("conversation", "not_found", "The conversation was deleted."),
};

/** Creates the service, and subscribes it to the bus. */
export function createRevocations(deps: Dependencies): Revocations {
  const { openStreams, bus, auth, apiKeys, conversations, onError } = deps;
  let checkedAtMs = performance.now();
  /**
   * Whether every session must be checked, because messages about credentials may have been lost. Otherwise, the sessions of
   * deleted users would not be found, because their rows are deleted.
   */
  let mustCheckAll = false;
  /**
   * Sessions that were checked after they opened a stream. A stream can be opened just after the message that announced the end of its
   * session.
   */
  let checkedIds = new Set<string>();
  let isChecking = false;
  let isRecheckNeeded = false;

  function endCredentialStreams(ids: Iterable<string>): void {
    const endedIds = new Set(ids);
    for (const id of endedIds) checkedIds.delete(id);
    if (endedIds.size > 0)
      openStreams.endWhere((_stream, { credentialId }) => endedIds.has(credentialId), streamEnds.credential());
  }

  function endExpiredStreams(nowMs: number): void {
    const hasExpired = ({ expiresAtMs }: Caller) => expiresAtMs <= nowMs;
    openStreams.endWhere((_stream, caller) => caller.scopes !== null && hasExpired(caller), streamEnds.keyExpired());
    openStreams.endWhere(
      (stream, caller) => stream.shouldEndWithToken === true && hasExpired(caller),
      streamEnds.tokenExpired(),
    );
  }

  function endMembershipStreams(lostMemberships: readonly LostMembership[]): void {
    for (const { conversationId, userId, role, isDeleted } of lostMemberships) {
      const streamEnd = isDeleted
        ? streamEnds.conversation()
        : role === null
          ? streamEnds.membership()
          : streamEnds.writeAccess();
      openStreams.endWhere(
        (stream, { user }) =>
          stream.conversationId === conversationId &&
          user.id === userId &&
          (role === null || stream.isWriting === true),
        streamEnd,
      );
    }
  }

  async function checkMemberships(): Promise<void> {
    const memberships = openStreams.listMemberships();
    if (memberships.length > 0) endMembershipStreams(await conversations.findLostMemberships(memberships));
  }

  /**
   * Checks memberships in the database instead of trusting a message, because they may have changed again since. Only one check runs
   * at a time.
   */
  async function scheduleMembershipCheck(): Promise<void> {
    isRecheckNeeded = true;
    if (isChecking) return;
    isChecking = true;
    try {
      while (isRecheckNeeded) {
        isRecheckNeeded = false;
        await checkMemberships();
      }
    } catch (error) {
      onError(error);
    } finally {
      isChecking = false;
    }
  }

  async function checkSessions(nowMs: number): Promise<void> {
    // Covers the time since the last successful check, in case the database was unavailable or slow.
    endCredentialStreams((await auth.findEndedSessions(nowMs - checkedAtMs + OVERLAP_MS)).map(({ id }) => id));
    const openSessionIds = openStreams.listSessionIds();
    const ids = mustCheckAll ? openSessionIds : openSessionIds.filter((id) => !checkedIds.has(id));
    mustCheckAll = false;
    checkedIds = new Set(openSessionIds);
    try {
      for (let offset = 0; offset < ids.length; offset += SESSIONS_BATCH_MAX)
        endCredentialStreams(await auth.findEndedSessionsAmong(ids.slice(offset, offset + SESSIONS_BATCH_MAX)));
    } catch (error) {
      checkedIds.clear();
      throw error;
    }
  }

  async function checkKeys(): Promise<void> {
    const revokedCallers = await apiKeys.findRevoked(openStreams.listKeyCallers());
    if (revokedCallers.size > 0)
      openStreams.endWhere((_stream, caller) => revokedCallers.has(caller), streamEnds.credential());
  }

  bus.subscribe("credentials", {
    onMessage({ ids }) {
      auth.forgetSessions(ids);
      endCredentialStreams(ids);
    },
    onGap() {
      mustCheckAll = true;
    },
  });
  bus.subscribe("conversations", {
    onMessage(message) {
      if (mayAffectMemberships(message) && openStreams.dependsOn(message.conversation_id))
        void scheduleMembershipCheck();
    },
    // The next poll finds lost changes.
    onGap: () => {},
  });

  return {
    async check() {
      const nowMs = performance.now();
      if (openStreams.count() > 0) {
        endExpiredStreams(Date.now());
        // The checks run concurrently, so that a slow statement doesn't delay the others.
        await Promise.all([checkSessions(nowMs), checkKeys(), checkMemberships()]);
      }
      checkedAtMs = nowMs;
    },
  };
}

function mayAffectMemberships(message: ConversationsMessage): boolean {
  if (message.type === "conversation.unlisted") return true;
  if (message.type !== "conversation.changed") return false;
  // `member.added` also announces role changes.
  return ["member.removed", "member.added", "conversation.deleted"].includes(message.event);
}
