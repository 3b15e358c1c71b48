import type { Caller } from "../../access/caller.ts";
import type { Config } from "../../config.ts";
import { type Database, getReservedPool, requireRow, type Sql, withTransaction } from "../../db/client.ts";
import type { EventLog, EventTransaction } from "../../events/log.ts";
import { findSharedConversation } from "../../events/read.ts";
import type { Precondition } from "../../http/etag.ts";
import { createBadCursorProblem, type PageRequest, parseIdCursor } from "../../http/pagination.ts";
import { createId } from "../../lib/id.ts";
import { createInvalidProblem, createNotFoundProblem, createUnknownModelProblem, Problem } from "../../lib/problem.ts";
import { isUuid } from "../../lib/schema.ts";
import type { Limits } from "../../limits/limits.ts";
import {
  type Conversation,
  type Member,
  type MemberRole,
  type MemberRow,
  mapRowToMember,
} from "../../protocol/conversation.ts";
import type { EventPosition } from "../../protocol/events.ts";
import type { Bus } from "../../realtime/bus.ts";
import type { PromptService } from "../prompts/service.ts";
import type { QuotaService } from "../quotas/service.ts";
import type { UserService } from "../users/service.ts";
import { type AddMember, type ChangeConversation, type CreateConversation, METADATA_BYTES_MAX } from "./model.ts";
import * as queries from "./queries.ts";

export { type ActivityMover, createActivityMover } from "./activity.ts";
export { createDepartureService, type DepartureService } from "./departures.ts";
export { type ConversationWork, createErasureJobs, type ErasureJobs } from "./erasures.ts";
export type { LostMembership } from "./queries.ts";

/** Maximum number of members per conversation. */
const MEMBERS_MAX = 10_000;
/** Maximum number of user ids in a message between instances. */
const USER_IDS_PER_MESSAGE_MAX = 100;

type Dependencies = {
  database: Database;
  events: EventLog;
  /** Publishes messages that are not stored. */
  bus: Pick<Bus, "publish">;
  prompts: PromptService;
  quotas: QuotaService;
  limits: Pick<Limits, "countAddedMember" | "lookups">;
  config: Pick<Config, "MEMBER_BY_EMAIL">;
  users: Pick<UserService, "findByEmail">;
  /** Returns whether a model with this name is configured. */
  hasModel(model: string): boolean;
};

/** Manages conversations and their members. Every lookup checks membership. To outsiders, a conversation doesn't exist. */
export interface ConversationService {
  /**
   * Creates a conversation that the caller owns.
   * @throws Problem `unknown_model`, `invalid` (metadata, prompt), `quota_exceeded`.
   */
  create(caller: Caller, input: CreateConversation): Promise<Conversation>;

  /** Returns a conversation. Members only. @throws Problem `not_found`. */
  get(caller: Caller, id: string): Promise<Conversation>;

  /** Lists the caller's conversations, latest activity first. `page.after` is [updated_at, id]. */
  list(caller: Caller, page: PageRequest): Promise<queries.MembershipRow[]>;

  /** Lists the ids of at most `idsMax` of the caller's conversations, in any order. */
  listIds(caller: Caller, idsMax: number): Promise<string[]>;

  /**
   * Changes a conversation. Owners only.
   * @throws Problem `not_found`, `forbidden`, `unknown_model`, `invalid`, `precondition_failed`.
   */
  update(caller: Caller, id: string, input: ChangeConversation, precondition?: Precondition): Promise<Conversation>;

  /**
   * Deletes the conversation with all its messages. Owners only.
   * @throws Problem `not_found`, `forbidden`, `precondition_failed`.
   */
  remove(caller: Caller, id: string, precondition?: Precondition): Promise<void>;

  /** Lists the members. Members only. `page.after` is [user_id]. @throws Problem `not_found`. */
  listMembers(caller: Caller, id: string, page: PageRequest): Promise<MemberRow[]>;

  /**
   * Adds a user, or changes a member's role. Owners only. Email addresses are looked up only for owners.
   * @throws Problem `not_found` (conversation or user), `forbidden` (not an owner, or an email address with MEMBER_BY_EMAIL=off),
   * `conflict` (the last owner, or too many members), `rate_limited`, `quota_exceeded` (the user is in too many other people's
   * conversations).
   */
  addMember(caller: Caller, id: string, input: AddMember): Promise<Member>;

  /**
   * Removes a member. Owners can remove any member, and members can leave. The removed user's sockets stop receiving the
   * conversation's events.
   * @throws Problem `not_found` (conversation or member), `forbidden`, `conflict` (the last owner).
   */
  removeMember(caller: Caller, id: string, userId: string): Promise<void>;

  /**
   * Moves the caller's read position forward, and notifies subscribers if it has moved. Members only.
   * @returns the current position. @throws Problem `not_found`, `invalid` (a `seq` that doesn't exist yet).
   */
  markRead(caller: Caller, id: string, seq: number): Promise<number>;

  /** Returns the caller's role and the newest `seq`. Members only. @throws Problem `not_found`. */
  getPosition(caller: Caller, id: string): Promise<{ role: MemberRole; lastSeq: number }>;

  /** Returns the memberships that have ended or whose role is now viewer, no matter which instance changed them. */
  findLostMemberships(
    memberships: readonly { conversationId: string; userId: string }[],
  ): Promise<queries.LostMembership[]>;

  /**
   * Claims the conversation's title for a model.
   * @returns whether to generate the title now. This is true at most once, and never after a person has set a title.
   */
  claimTitle(id: string): Promise<boolean>;

  /** Sets a claimed title, unless a person has set one or the conversation is deleted. */
  setGeneratedTitle(id: string, title: string): Promise<void>;
}

export function createConversationService({
  database,
  events,
  bus,
  prompts,
  quotas,
  limits,
  config,
  users,
  hasModel,
}: Dependencies): ConversationService {
  function checkInput({ model, metadata }: { model?: string | null; metadata?: Record<string, unknown> }): void {
    if (model && !hasModel(model)) throw createUnknownModelProblem(model);
    if (metadata && Buffer.byteLength(JSON.stringify(metadata)) > METADATA_BYTES_MAX)
      throw createInvalidProblem("#/metadata", `metadata may have at most ${METADATA_BYTES_MAX} bytes as JSON.`);
  }

  /** Locks the conversation and then runs a change. @throws Problem `not_found` for outsiders. */
  function changeLockedConversation<T>(
    caller: Caller,
    id: string,
    work: (transaction: EventTransaction, role: MemberRole) => Promise<T>,
  ): Promise<T> {
    return events.write(id, async (transaction) =>
      work(transaction, requireRow(await queries.lockMembership(transaction.sql, id, caller.user.id), "conversation")),
    );
  }

  async function findConversation(sql: Sql, caller: Caller, id: string): Promise<Conversation> {
    return queries.mapRowToConversation(
      requireRow(await queries.findConversation(sql, id, caller.user.id), "conversation"),
    );
  }
  const get = (caller: Caller, id: string): Promise<Conversation> => findConversation(database, caller, id);

  /**
   * Finds the enabled user with this email address. An unknown address counts as a failed login of the caller and of their IP address.
   * A known address doesn't reset that count, because everyone knows at least one existing address.
   */
  async function findUserIdByEmail(caller: Caller, email: string): Promise<string> {
    if (config.MEMBER_BY_EMAIL === "off")
      throw new Problem("forbidden", "Adding members by email is disabled on this server. Use user_id.");
    const attempt = await limits.lookups.startAttempt(`user:${caller.user.id}`, caller.ipAddress);
    const user = await users.findByEmail(email);
    if (user && !user.disabled) {
      await attempt.succeed();
      return user.id;
    }
    await attempt.fail();
    throw createNotFoundProblem("user");
  }

  /** Notifies the former members of a deleted conversation. They are passed in, because they can no longer be looked up. */
  function notifyFormerMembers(conversation_id: string, { seq, at }: EventPosition, members: string[]): void {
    const announcement = { type: "conversation.unlisted", conversation_id, seq, at: at.toISOString() } as const;
    for (let from = 0; from < members.length; from += USER_IDS_PER_MESSAGE_MAX) {
      const user_ids = members.slice(from, from + USER_IDS_PER_MESSAGE_MAX);
      bus.publish("conversations", () => [{ ...announcement, user_ids }]);
    }
  }

  return {
    get,

    async create(caller, input) {
      checkInput(input);
      const kind = input.kind ?? "direct";
      const id = createId();
      const row = {
        id,
        kind,
        title: input.title ?? "",
        model: input.model ?? null,
        prompt_id: input.prompt_id === undefined ? await prompts.findDefault(caller.user.id) : input.prompt_id,
        // In a group, a model that answers every message is annoying. In a direct conversation, users expect it.
        reply_mode: input.reply_mode ?? (kind === "group" ? "mention" : "always"),
        documents: input.documents ?? false,
        tools: input.tools ?? false,
        reasoning_effort: input.reasoning_effort ?? null,
        metadata: input.metadata ?? {},
      };
      const insert = async (sql: Sql) => {
        if (input.prompt_id) await prompts.checkAssignable(sql, caller.user.id, input.prompt_id);
        await queries.insertConversation(sql, row, caller.user.id);
      };
      const store = () => withTransaction(database, insert, `user:${caller.user.id}`);
      await quotas.reserve("conversations", caller.user.id, 1, store);
      bus.publish("conversations", () => [
        { type: "conversation.listed", conversation_id: id, user_ids: [caller.user.id] },
      ]);
      return get(caller, id);
    },

    async list(caller, { limit, after }) {
      return queries.listConversations(database, caller.user.id, after && parseListCursor(after), limit + 1);
    },

    listIds: (caller, idsMax) => queries.listConversationIds(database, caller.user.id, idsMax),

    async update(caller, id, input, precondition) {
      checkInput(input);
      return changeLockedConversation(caller, id, async ({ sql, append }, role) => {
        requireOwner(role);
        precondition?.(await findConversation(sql, caller, id));
        if (input.prompt_id) await prompts.checkAssignable(sql, caller.user.id, input.prompt_id);
        if (Object.keys(input).length === 0) return findConversation(sql, caller, id);
        let changed: Conversation | undefined;
        await append("conversation.updated", id, async () => {
          await queries.updateConversation(sql, id, input);
          changed = await findConversation(sql, caller, id);
          const { role: _role, last_read_seq: _position, unread: _unread, ...shared } = changed;
          return shared;
        });
        return requireRow(changed, "conversation");
      });
    },

    async remove(caller, id, precondition) {
      const { members, position } = await changeLockedConversation(caller, id, async ({ sql, append }, role) => {
        requireOwner(role);
        precondition?.(await findConversation(sql, caller, id));
        const members = await queries.listMemberIds(sql, id, MEMBERS_MAX);
        let position: EventPosition = { seq: 0, at: new Date() };
        await append("conversation.deleted", id, async (assigned) => {
          position = assigned;
          await queries.markDeleted(sql, id, assigned.at);
          return { id };
        });
        return { members, position };
      });
      notifyFormerMembers(id, position, members);
      quotas.invalidate(caller.user.id);
    },

    async listMembers(caller, id, { limit, after }) {
      requireRow(await queries.findPosition(database, id, caller.user.id), "conversation");
      return queries.listMembers(database, id, parseIdCursor(after), limit + 1);
    },

    async addMember(caller, id, input) {
      const { role = "member" } = input;
      const reference = parseUserReference(input);
      // Checked before the email address and the limits, so that an unauthorized caller can't find out which addresses have an account,
      // and doesn't use up limits.
      const roles = await queries.findRoles(database, id, [caller.user.id]);
      requireOwner(requireRow(roles.get(caller.user.id), "conversation"));
      const userId = "email" in reference ? await findUserIdByEmail(caller, reference.email) : reference.userId;
      const add = () =>
        changeLockedConversation(caller, id, async ({ sql, append }, callerRole) => {
          requireOwner(callerRole);
          const existingMember = await queries.findMember(sql, id, userId);
          if (existingMember?.role === role) return mapRowToMember(existingMember);
          await checkMemberCounts(sql, id, existingMember?.role, role);
          return append("member.added", id, async ({ at }) =>
            mapRowToMember(requireRow(await queries.upsertMember(sql, id, userId, { role, at }), "user")),
          );
        });
      if ((await queries.findRoles(database, id, [userId])).has(userId)) return add();
      await limits.countAddedMember(caller, userId, () =>
        queries.hasSharedConversation(database, userId, caller.user.id),
      );
      return quotas.reserve("joined_conversations", userId, 1, add);
    },

    async removeMember(caller, id, userId) {
      await changeLockedConversation(caller, id, async ({ sql, append }, callerRole) => {
        if (userId !== caller.user.id) requireOwner(callerRole);
        const { user_id, display_name, role } = requireRow(await queries.findMember(sql, id, userId), "member");
        await checkMemberCounts(sql, id, role, null);
        await append("member.removed", id, async () => {
          await queries.deleteMember(sql, id, userId);
          return { user_id, display_name, role };
        });
      });
      quotas.invalidate(userId);
    },

    async markRead(caller, id, seq) {
      const userId = caller.user.id;
      const movePosition = (sql: Sql, shouldWait: boolean) =>
        queries.moveReadPosition(sql, id, userId, seq, { shouldWait });
      let hasMoved = await movePosition(database, false);
      if (!hasMoved) {
        const position = requireRow(await queries.findPosition(database, id, userId), "conversation");
        if (seq > position.last_seq)
          throw createInvalidProblem("#/seq", "The conversation has no event with this seq yet.");
        if (position.last_read_seq >= seq) return position.last_read_seq;
        // Another transaction has locked the row.
        hasMoved = await withTransaction(database, (sql) => movePosition(sql, true), `member:${id}:${userId}`);
        // In the meantime, another request has moved the position further, or the membership has ended.
        if (!hasMoved)
          return requireRow(await queries.findPosition(database, id, userId), "conversation").last_read_seq;
      }
      const position = { conversation_id: id, user_id: userId, seq };
      bus.publish("conversations", () => [{ type: "conversation.read", ...position }]);
      bus.publish(id, () => [{ type: "read", ...position }]);
      return seq;
    },

    claimTitle: (id) => withTransaction(database, (sql) => queries.claimTitle(sql, id), id),

    async setGeneratedTitle(id, title) {
      await events.write(id, async ({ sql, append }) => {
        if (!(await queries.updateClaimedTitle(sql, id, title))) return;
        await append("conversation.updated", id, async () =>
          requireRow(await findSharedConversation(sql, id), "conversation"),
        );
      });
    },

    findLostMemberships: (memberships) => queries.listLostMemberships(getReservedPool(database), memberships),

    async getPosition(caller, id) {
      const row = requireRow(await queries.findPosition(database, id, caller.user.id), "conversation");
      return { role: row.role, lastSeq: row.last_seq };
    },
  };
}

/** Parses a list cursor. Its time is kept as a string, because a `Date` would lose the microseconds. */
function parseListCursor([updatedAt = "", id = ""]: string[]): { updatedAt: string; id: string } {
  const seconds = /^((?!0000)\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)\.\d{6}Z$/.exec(updatedAt)?.[1];
  const time = new Date(`${seconds}Z`);
  // Parsing and formatting must not change the time, so that Postgres receives only valid dates.
  const isValidTime = !Number.isNaN(time.getTime()) && time.toISOString().startsWith(`${seconds}.`);
  if (!isValidTime || !isUuid(id)) throw createBadCursorProblem();
  return { updatedAt, id };
}

/** Returns `user_id` or `email`. @throws Problem `invalid` unless exactly one of them is present. */
function parseUserReference({ user_id, email }: AddMember): { userId: string } | { email: string } {
  if (user_id !== undefined && email !== undefined)
    throw createInvalidProblem("#/email", "Send either email or user_id, not both.");
  if (email !== undefined) return { email };
  if (user_id !== undefined) return { userId: user_id.toLowerCase() };
  throw createInvalidProblem("#/user_id", "user_id or email is required.");
}

function requireOwner(role: MemberRole): void {
  if (role !== "owner") throw new Problem("forbidden", "Only an owner of the conversation can do this.");
}

async function checkMemberCounts(
  sql: Sql,
  id: string,
  oldRole: MemberRole | undefined,
  newRole: MemberRole | null,
): Promise<void> {
  const { members, owners } = await queries.countMembers(sql, id);
  if (oldRole === "owner" && newRole !== "owner" && owners === 1)
    throw new Problem(
      "conflict",
      "A conversation needs an owner. Make another member an owner first, or delete the conversation.",
    );
  if (oldRole === undefined && members >= MEMBERS_MAX)
    throw new Problem("conflict", `A conversation can have at most ${MEMBERS_MAX} members.`);
}
