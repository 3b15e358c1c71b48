import type { Caller } from "../../access/caller.ts";
import { type Database, requireRow, type Sql, withTransaction } from "../../db/client.ts";
import type { EventLog, EventTransaction } from "../../events/log.ts";
import { findShared } from "../../events/read.ts";
import type { PageRequest } from "../../http/pagination.ts";
import { createId } from "../../lib/id.ts";
import { createInvalid, createUnknownModel, Problem } from "../../lib/problem.ts";
import { isUuid } from "../../lib/schema.ts";
import {
  type Conversation,
  type Member,
  type MemberRole,
  type MemberRow,
  mapRowToMember,
} from "../../protocol/conversation.ts";
import type { Bus } from "../../realtime/bus.ts";
import type { PromptService } from "../prompts/service.ts";
import { type AddMember, type ChangeConversation, type CreateConversation, METADATA_BYTES_MAX } from "./model.ts";
import * as queries from "./queries.ts";

export { createDepartures, type Departures } from "./departures.ts";
export { createErasures, type Erasures } from "./erasures.ts";

/** Members of one conversation. */
export const MEMBERS_MAX = 10_000;

type Dependencies = {
  database: Database;
  events: EventLog;
  /** For what is not stored. */
  bus: Pick<Bus, "publish">;
  prompts: PromptService;
  /** Whether a model of this name is configured. */
  hasModel(model: string): boolean;
};

/** Rules of conversations and their members. Access is the look-up: what one is not a member of is not found. */
export function createConversationService({ database, events, bus, prompts, hasModel }: Dependencies) {
  function checkInput({ model, metadata }: { model?: string | null; metadata?: Record<string, unknown> }): void {
    if (model && !hasModel(model)) throw createUnknownModel(model);
    if (metadata && Buffer.byteLength(JSON.stringify(metadata)) > METADATA_BYTES_MAX)
      throw createInvalid("#/metadata", `metadata may have at most ${METADATA_BYTES_MAX} bytes as JSON.`);
  }

  /** Runs a change under the conversation's lock. */
  function change<T>(
    caller: Caller,
    id: string,
    work: (transaction: EventTransaction, role: MemberRole) => Promise<T>,
  ): Promise<T> {
    return events.write(id, async (transaction) =>
      work(transaction, requireRow(await queries.lockMembership(transaction.sql, id, caller.user.id), "conversation")),
    );
  }

  async function get(caller: Caller, id: string): Promise<Conversation> {
    return queries.mapRowToConversation(
      requireRow(await queries.findConversation(database, id, caller.user.id), "conversation"),
    );
  }

  return {
    /** For members. @throws Problem `not_found`. */
    get,

    /** Any user; they become its owner. @throws Problem `unknown_model`, `invalid` (metadata, prompt). */
    async create(caller: Caller, input: CreateConversation): Promise<Conversation> {
      checkInput(input);
      const kind = input.kind ?? "direct";
      const id = createId();
      const row = {
        id,
        kind,
        title: input.title ?? "",
        model: input.model ?? null,
        prompt_id: input.prompt_id === undefined ? await prompts.findDefault(caller.user.id) : input.prompt_id,
        // Among people a model that answers every line is a nuisance; alone with one it is the point.
        reply_mode: input.reply_mode ?? (kind === "group" ? "mention" : "always"),
        metadata: input.metadata ?? {},
      };
      const insert = async (sql: Sql) => {
        if (input.prompt_id) await prompts.checkChoice(sql, caller.user.id, input.prompt_id);
        await queries.insertConversation(sql, row, caller.user.id);
      };
      await withTransaction(database, insert, `user:${caller.user.id}`);
      return get(caller, id);
    },

    /** The caller's own, latest activity first. `page.after` is [updated_at, id]. */
    async list(caller: Caller, { limit, after }: PageRequest): Promise<queries.MembershipRow[]> {
      return queries.listConversations(database, caller.user.id, after && readPosition(after), limit + 1);
    },

    /** For owners. @throws Problem `not_found`, `forbidden`, `unknown_model`, `invalid`. */
    async update(caller: Caller, id: string, input: ChangeConversation): Promise<Conversation> {
      checkInput(input);
      await change(caller, id, async ({ sql, append }, role) => {
        requireOwner(role);
        if (input.prompt_id) await prompts.checkChoice(sql, caller.user.id, input.prompt_id);
        if (Object.keys(input).length === 0) return;
        await append("conversation.updated", id, async () => {
          await queries.updateConversation(sql, id, input);
          return requireRow(await findShared(sql, id), "conversation");
        });
      });
      return get(caller, id);
    },

    /** For owners: the conversation is gone with all its messages. @throws Problem `not_found`, `forbidden`. */
    async remove(caller: Caller, id: string): Promise<void> {
      await change(caller, id, async ({ sql, append }, role) => {
        requireOwner(role);
        await append("conversation.deleted", id, async ({ at }) => {
          await queries.markDeleted(sql, id, at);
          return { id };
        });
      });
    },

    /** For members. `page.after` is [user_id]. @throws Problem `not_found`. */
    async listMembers(caller: Caller, id: string, { limit, after }: PageRequest): Promise<MemberRow[]> {
      requireRow(await queries.findPosition(database, id, caller.user.id), "conversation");
      const afterUserId = after?.[0] ?? null;
      if (afterUserId !== null && !isUuid(afterUserId))
        throw new Problem("bad_cursor", "The cursor is not one that this list gave out.");
      return queries.listMembers(database, id, afterUserId, limit + 1);
    },

    /**
     * For owners: adds a user, or changes a member's role.
     * @throws Problem `not_found` (conversation or user), `forbidden`, `conflict` (the last owner, or too many).
     */
    async addMember(caller: Caller, id: string, input: AddMember): Promise<Member> {
      const { role = "member" } = input;
      const userId = input.user_id.toLowerCase();
      return change(caller, id, async ({ sql, append }, callerRole) => {
        requireOwner(callerRole);
        const before = await queries.findMember(sql, id, userId);
        if (before?.role === role) return mapRowToMember(before);
        await checkRoom(sql, id, before?.role, role);
        if (!(await queries.upsertMember(sql, id, userId, role)))
          throw new Problem("not_found", "There is no such user.");
        const member = mapRowToMember(requireRow(await queries.findMember(sql, id, userId), "member"));
        return append("member.added", id, () => member);
      });
    },

    /**
     * For owners, and for members to leave; the removed user's sockets hear no more of the conversation.
     * @throws Problem `not_found` (conversation or member), `forbidden`, `conflict` (the last owner).
     */
    async removeMember(caller: Caller, id: string, userId: string): Promise<void> {
      await change(caller, id, async ({ sql, append }, callerRole) => {
        if (userId !== caller.user.id) requireOwner(callerRole);
        const { user_id, display_name, role } = requireRow(await queries.findMember(sql, id, userId), "member");
        await checkRoom(sql, id, role, null);
        await append("member.removed", id, async () => {
          await queries.deleteMember(sql, id, userId);
          return { user_id, display_name, role };
        });
      });
    },

    /**
     * For members: moves their read position forward, and if it moves, tells those who listen.
     * @returns the position now. @throws Problem `not_found`, `invalid` (a `seq` that does not exist yet).
     */
    async read(caller: Caller, id: string, seq: number): Promise<number> {
      const userId = caller.user.id;
      const move = (sql: Sql, waits: boolean) => queries.moveReadPosition(sql, id, userId, seq, { waits });
      let hasMoved = await move(database, false);
      if (!hasMoved) {
        const position = requireRow(await queries.findPosition(database, id, userId), "conversation");
        if (seq > position.last_seq) throw createInvalid("#/seq", "The conversation has no event with this seq yet.");
        if (position.last_read_seq >= seq) return position.last_read_seq;
        // Somebody else has the row locked.
        hasMoved = await withTransaction(database, (sql) => move(sql, true), `member:${id}:${userId}`);
      }
      if (hasMoved) bus.publish(id, () => [{ type: "read", conversation_id: id, user_id: userId, seq }]);
      return seq;
    },

    /** Whether the conversation is to be given a title now: true once at most, and never after a person's word. */
    claimTitle: (id: string): Promise<boolean> => withTransaction(database, (sql) => queries.claimTitle(sql, id), id),

    /** Gives a conversation the title that was claimed, unless a person has settled it or the conversation is gone. */
    async giveTitle(id: string, title: string): Promise<void> {
      await events.write(id, async ({ sql, append }) => {
        if (!(await queries.updateClaimedTitle(sql, id, title))) return;
        await append("conversation.updated", id, async () => requireRow(await findShared(sql, id), "conversation"));
      });
    },

    /** Role and newest `seq`, for members. @throws Problem `not_found`. */
    async getPosition(caller: Caller, id: string): Promise<{ role: MemberRole; lastSeq: number }> {
      const row = requireRow(await queries.findPosition(database, id, caller.user.id), "conversation");
      return { role: row.role, lastSeq: row.last_seq };
    },
  };
}

export type ConversationService = ReturnType<typeof createConversationService>;

/** The cursor of the list: microseconds, which a `Date` would lose. */
function readPosition([updatedAt = "", id = ""]: string[]): { updatedAt: string; id: string } {
  const seconds = /^((?!0000)\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)\.\d{6}Z$/.exec(updatedAt)?.[1];
  const time = new Date(`${seconds}Z`);
  // Written back it must be the same: what is no date for Postgres must not reach it.
  const isTime = !Number.isNaN(time.getTime()) && time.toISOString().startsWith(`${seconds}.`);
  if (!isTime || !isUuid(id)) throw new Problem("bad_cursor", "The cursor is not one that this list gave out.");
  return { updatedAt, id };
}

function requireOwner(role: MemberRole): void {
  if (role !== "owner") throw new Problem("forbidden", "Only an owner of the conversation may do this.");
}

async function checkRoom(sql: Sql, id: string, from: MemberRole | undefined, to: MemberRole | null): Promise<void> {
  const { members, owners } = await queries.countMembers(sql, id);
  if (from === "owner" && to !== "owner" && owners === 1)
    throw new Problem("conflict", "A conversation keeps an owner: make somebody else one first, or delete it.");
  if (from === undefined && members >= MEMBERS_MAX)
    throw new Problem("conflict", `A conversation may have ${MEMBERS_MAX} members.`);
}
