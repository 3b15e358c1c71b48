import type { Caller } from "../../access/caller.ts";
import type { OpenStreams, StreamEnd, StreamEndReason } from "../../access/open-streams.ts";
import { Problem, type ProblemCode } from "../../lib/problem.ts";
import type { Bus, ConversationsMessage } from "../../realtime/bus.ts";
import type { ApiKeyService } from "../api-keys/service.ts";
import type { AuthService } from "../auth/service.ts";
import type { ConversationService, LostMembership } from "../conversations/service.ts";

/** Overlap of each poll with the previous one, because commits may become visible late. */
const OVERLAP_MS = 15_000;
/** Maximum sessions checked per statement. */
const SESSIONS_BATCH = 5_000;

/** Ends this instance's open streams when their access is revoked or expires, no matter which instance causes that. */
export interface Revocations {
  /**
   * Polls the database for changes that the bus may have lost or doesn't announce: expiries, and changes by the command
   * line or directly in the database. Called by the job runner.
   */
  check(): Promise<void>;
}

type Dependencies = {
  openStreams: OpenStreams;
  bus: Pick<Bus, "subscribe">;
  auth: Pick<AuthService, "forgetSessions" | "findEndedSessions" | "findEndedSessionsAmong">;
  apiKeys: Pick<ApiKeyService, "findEnded">;
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
  writing: () =>
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
   * Whether every session must be checked, because messages about credentials may have been lost (the sessions of
   * deleted users leave no rows to find).
   */
  let mustCheckAll = false;
  /**
   * Sessions that were checked after they opened a stream, which may happen just after the message that the session has
   * ended.
   */
  let checkedIds = new Set<string>();
  let isChecking = false;
  let isCheckDue = false;

  function endStreamsOfCredentials(ids: Iterable<string>): void {
    const ended = new Set(ids);
    for (const id of ended) checkedIds.delete(id);
    if (ended.size > 0)
      openStreams.endWhere((_stream, { credentialId }) => ended.has(credentialId), streamEnds.credential());
  }

  function endExpiredStreams(nowMs: number): void {
    const hasExpired = ({ expiresAtMs }: Caller) => expiresAtMs <= nowMs;
    openStreams.endWhere((_stream, caller) => caller.scopes !== null && hasExpired(caller), streamEnds.keyExpired());
    openStreams.endWhere(
      (stream, caller) => stream.endsWithToken === true && hasExpired(caller),
      streamEnds.tokenExpired(),
    );
  }

  function endStreamsOfMemberships(lost: readonly LostMembership[]): void {
    for (const { conversationId, userId, role, isDeleted } of lost) {
      const end = isDeleted
        ? streamEnds.conversation()
        : role === null
          ? streamEnds.membership()
          : streamEnds.writing();
      openStreams.endWhere(
        (stream, { user }) =>
          stream.conversationId === conversationId &&
          user.id === userId &&
          (role === null || stream.isWriting === true),
        end,
      );
    }
  }

  async function checkMemberships(): Promise<void> {
    const memberships = openStreams.listMemberships();
    if (memberships.length > 0) endStreamsOfMemberships(await conversations.findLostMemberships(memberships));
  }

  /**
   * Checks memberships in the database, because they may have changed again since the message. Only one check runs at a
   * time.
   */
  async function scheduleMembershipCheck(): Promise<void> {
    isCheckDue = true;
    if (isChecking) return;
    isChecking = true;
    try {
      while (isCheckDue) {
        isCheckDue = false;
        await checkMemberships();
      }
    } catch (error) {
      onError(error);
    } finally {
      isChecking = false;
    }
  }

  async function checkSessions(nowMs: number): Promise<void> {
    // Covers the time since the last successful check, because the database may have been unavailable or slow.
    endStreamsOfCredentials((await auth.findEndedSessions(nowMs - checkedAtMs + OVERLAP_MS)).map(({ id }) => id));
    const open = openStreams.listSessionIds();
    const ids = mustCheckAll ? open : open.filter((id) => !checkedIds.has(id));
    mustCheckAll = false;
    checkedIds = new Set(open);
    try {
      for (let from = 0; from < ids.length; from += SESSIONS_BATCH)
        endStreamsOfCredentials(await auth.findEndedSessionsAmong(ids.slice(from, from + SESSIONS_BATCH)));
    } catch (error) {
      checkedIds.clear();
      throw error;
    }
  }

  async function checkKeys(): Promise<void> {
    const ended = await apiKeys.findEnded(openStreams.listKeyCallers());
    if (ended.size > 0) openStreams.endWhere((_stream, caller) => ended.has(caller), streamEnds.credential());
  }

  bus.subscribe("credentials", {
    onMessage({ ids }) {
      auth.forgetSessions(ids);
      endStreamsOfCredentials(ids);
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
        // Concurrently, so that a slow statement doesn't delay the others.
        await Promise.all([checkSessions(nowMs), checkKeys(), checkMemberships()]);
      }
      checkedAtMs = nowMs;
    },
  };
}

function mayAffectMemberships(message: ConversationsMessage): boolean {
  if (message.type === "conversation.unlisted") return true;
  if (message.type !== "conversation.changed") return false;
  // Role changes are announced as `member.added`, too.
  return ["member.removed", "member.added", "conversation.deleted"].includes(message.event);
}
