import type { Caller } from "../../access/caller.ts";
import type { OpenStreams, StreamEnd, StreamEndReason } from "../../access/open-streams.ts";
import { Problem, type ProblemCode } from "../../lib/problem.ts";
import type { Bus, ConversationsMessage } from "../../realtime/bus.ts";
import type { ApiKeyService } from "../api-keys/service.ts";
import type { AuthService } from "../auth/service.ts";
import type { ConversationService, LostMembership } from "../conversations/service.ts";

/** Overlap of each poll with the previous one: a commit may come late. */
const OVERLAP_MS = 15_000;
/** Sessions checked per statement. */
const SESSIONS_BATCH = 5_000;

/** Ends open streams on this instance when their access ends, on whichever instance that happens. */
export interface Revocations {
  /**
   * For the job runner: polls the database for changes that the bus may have lost or doesn't announce: expiries, and
   * changes by the command line or directly in the database.
   */
  check(): Promise<void>;
}

type Dependencies = {
  openStreams: OpenStreams;
  bus: Pick<Bus, "subscribe">;
  auth: Pick<AuthService, "forgetSessions" | "findEndedSessions" | "findEndedSessionsAmong">;
  apiKeys: Pick<ApiKeyService, "findEnded">;
  conversations: Pick<ConversationService, "findLostMemberships">;
  onFault(error: unknown): void;
};

const createEnd = (reason: StreamEndReason, code: ProblemCode, detail: string): StreamEnd => ({
  reason,
  problem: new Problem(code, detail),
});

const createEnds = {
  credential: () =>
    createEnd("credential", "unauthorized", "The session or API key has ended. Log in again, or use another key."),
  keyExpired: () => createEnd("token", "unauthorized", "The API key has expired. Use another key."),
  tokenExpired: () =>
    createEnd("token", "unauthorized", "The access token has expired. Reconnect with a new access token."),
  membership: () =>
    createEnd("membership", "forbidden", "You are no longer a member of this conversation. Ask an owner to add you."),
  writing: () =>
    createEnd(
      "membership",
      "forbidden",
      "You may no longer write in this conversation. Ask an owner to change your role.",
    ),
  conversation: () => createEnd("conversation", "not_found", "The conversation was deleted."),
};

/** Subscribes to the bus immediately. */
export function createRevocations(deps: Dependencies): Revocations {
  const { openStreams, bus, auth, apiKeys, conversations, onFault } = deps;
  let checkedAtMs = performance.now();
  /** Messages about credentials may be lost, and deleted users leave no rows: every session must be checked. */
  let mustCheckAll = false;
  /** Sessions checked since they opened a stream. A stream may open just after the message about its session's end. */
  let checkedIds = new Set<string>();
  let isChecking = false;
  let isCheckDue = false;

  function endCredentials(ids: Iterable<string>): void {
    const ended = new Set(ids);
    for (const id of ended) checkedIds.delete(id);
    if (ended.size > 0)
      openStreams.endWhere((_stream, { credentialId }) => ended.has(credentialId), createEnds.credential());
  }

  function endExpired(nowMs: number): void {
    const isOver = ({ expiresAtMs }: Caller) => expiresAtMs <= nowMs;
    openStreams.endWhere((_stream, caller) => caller.scopes !== null && isOver(caller), createEnds.keyExpired());
    openStreams.endWhere(
      (stream, caller) => stream.endsWithToken === true && isOver(caller),
      createEnds.tokenExpired(),
    );
  }

  function endMemberships(lost: readonly LostMembership[]): void {
    for (const { conversationId, userId, role, isDeleted } of lost) {
      const why = isDeleted
        ? createEnds.conversation()
        : role === null
          ? createEnds.membership()
          : createEnds.writing();
      openStreams.endWhere(
        (stream, { user }) =>
          stream.conversationId === conversationId &&
          user.id === userId &&
          (role === null || stream.isWriting === true),
        why,
      );
    }
  }

  async function checkMemberships(): Promise<void> {
    const memberships = openStreams.listMemberships();
    if (memberships.length > 0) endMemberships(await conversations.findLostMemberships(memberships));
  }

  /** Checks the database, because a message may be older than a later change. One check at a time. */
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
      onFault(error);
    } finally {
      isChecking = false;
    }
  }

  async function checkSessions(nowMs: number): Promise<void> {
    // The database may have been unavailable or slow for longer than the usual overlap.
    endCredentials((await auth.findEndedSessions(nowMs - checkedAtMs + OVERLAP_MS)).map(({ id }) => id));
    const open = openStreams.listSessionIds();
    const ids = mustCheckAll ? open : open.filter((id) => !checkedIds.has(id));
    mustCheckAll = false;
    checkedIds = new Set(open);
    try {
      for (let from = 0; from < ids.length; from += SESSIONS_BATCH)
        endCredentials(await auth.findEndedSessionsAmong(ids.slice(from, from + SESSIONS_BATCH)));
    } catch (error) {
      checkedIds.clear();
      throw error;
    }
  }

  async function checkKeys(): Promise<void> {
    const lockedOut = await apiKeys.findEnded(openStreams.listKeyCallers());
    if (lockedOut.size > 0) openStreams.endWhere((_stream, caller) => lockedOut.has(caller), createEnds.credential());
  }

  bus.subscribe("credentials", {
    onMessage({ ids }) {
      auth.forgetSessions(ids);
      endCredentials(ids);
    },
    onGap() {
      mustCheckAll = true;
    },
  });
  bus.subscribe("conversations", {
    onMessage(message) {
      if (mayEndMemberships(message) && openStreams.dependsOn(message.conversation_id)) void scheduleMembershipCheck();
    },
    // The next poll catches it.
    onGap: () => {},
  });

  return {
    async check() {
      const nowMs = performance.now();
      if (openStreams.count() > 0) {
        endExpired(Date.now());
        // Concurrently, so that no statement waits for another.
        await Promise.all([checkSessions(nowMs), checkKeys(), checkMemberships()]);
      }
      checkedAtMs = nowMs;
    },
  };
}

function mayEndMemberships(message: ConversationsMessage): boolean {
  if (message.type === "conversation.unlisted") return true;
  if (message.type !== "conversation.changed") return false;
  // A role change is announced like an added member.
  return ["member.removed", "member.added", "conversation.deleted"].includes(message.event);
}
