import type { Caller } from "../../access/caller.ts";
import { type Database, requireRow, type Sql, withTransaction } from "../../db/client.ts";
import type { PageRequest } from "../../http/pagination.ts";
import { enqueue } from "../../jobs/queue.ts";
import type { Jobs } from "../../jobs/runner.ts";
import { waitUntilGone } from "../../lib/batches.ts";
import { createId } from "../../lib/id.ts";
import { createInvalid, Problem } from "../../lib/problem.ts";
import { isUuid } from "../../lib/schema.ts";
import type { ChangePrompt, CreatePrompt, Prompt } from "./model.ts";
import * as queries from "./queries.ts";
import { checkTemplate } from "./template.ts";

export { deletePrompts, releasePrompts } from "./queries.ts";
export { renderTemplate } from "./template.ts";
export { createVariables } from "./variables.ts";

/** Prompts of one user. */
export const PROMPTS_MAX = 1_000;
/** Versions of one prompt that are kept; older ones are forgotten. */
export const VERSIONS_MAX = 1_000;

/** The queue of prompts that are being deleted, by their ids. */
export const DELETION_QUEUE = "prompt deletions";
/** A request waits for so long; what is not done by then is done after its answer. */
const DELETION_WAIT_MS = 2_000;

type Dependencies = { database: Database; jobs: Pick<Jobs, "nudge"> };

/** Rules of prompts: each belongs to the user who made it, and to everyone else it is not there. */
export function createPromptService({ database, jobs }: Dependencies) {
  async function get(caller: Caller, id: string): Promise<Prompt> {
    return queries.mapToPrompt(requireRow(await queries.findPrompt(database, id, caller.user.id), "prompt"));
  }

  return {
    /** For its owner. @throws Problem `not_found`. */
    get,

    /** Any user. @throws Problem `invalid` (an unknown variable), `conflict` (too many). */
    async create(caller: Caller, { name, template, is_default = false }: CreatePrompt): Promise<Prompt> {
      checkTemplate(template);
      const id = createId();
      const userId = caller.user.id;
      const insert = async (sql: Sql) => {
        if ((await queries.lockPrompts(sql, userId)) >= PROMPTS_MAX)
          throw new Problem("conflict", `A user may have ${PROMPTS_MAX} prompts.`);
        if (is_default) await queries.clearDefault(sql, userId);
        await queries.insertPrompt(sql, { id, userId, name, isDefault: is_default });
        await queries.insertVersion(sql, id, 1, template);
      };
      await withTransaction(database, insert, `user:${userId}`);
      return get(caller, id);
    },

    /** The caller's own, newest first. `page.after` is [id]. */
    async list(caller: Caller, { limit, after }: PageRequest): Promise<queries.PromptRow[]> {
      const afterId = after?.[0] ?? null;
      if (afterId !== null && !isUuid(afterId)) throw createCursorProblem();
      return queries.listPrompts(database, caller.user.id, afterId, limit + 1);
    },

    /** For its owner, newest first. `page.after` is [version]. @throws Problem `not_found`. */
    async listVersions(caller: Caller, id: string, { limit, after }: PageRequest): Promise<queries.VersionRow[]> {
      await get(caller, id);
      const before = after ? Number(after[0]) : null;
      if (before !== null && !(Number.isInteger(before) && Math.abs(before) < 2 ** 31)) throw createCursorProblem();
      return queries.listVersions(database, id, before, limit + 1);
    },

    /**
     * For its owner. Another template is a new version, which conversations with this prompt use from then on.
     * @throws Problem `not_found`, `invalid` (an unknown variable).
     */
    async change(caller: Caller, id: string, input: ChangePrompt): Promise<Prompt> {
      if (input.template !== undefined) checkTemplate(input.template);
      const userId = caller.user.id;
      const update = async (sql: Sql) => {
        await queries.lockPrompts(sql, userId);
        const now = requireRow(await queries.findPrompt(sql, id, userId), "prompt");
        const { name = now.name, template = now.template, is_default = now.is_default } = input;
        const isNewVersion = template !== now.template;
        if (!isNewVersion && name === now.name && is_default === now.is_default) return;
        const version = now.version + Number(isNewVersion);
        if (isNewVersion) await queries.insertVersion(sql, id, version, template);
        await queries.deleteVersionsBelow(sql, id, version - VERSIONS_MAX + 1);
        if (is_default && !now.is_default) await queries.clearDefault(sql, userId);
        await queries.updatePrompt(sql, id, { name, version, is_default });
      };
      await withTransaction(database, update, `user:${userId}`);
      return get(caller, id);
    },

    /** For its owner; conversations that had it go on without one. @throws Problem `not_found`. */
    async remove(caller: Caller, id: string): Promise<void> {
      const remove = async (sql: Sql) => {
        requireRow((await queries.markDeleted(sql, id, caller.user.id)) || undefined, "prompt");
        await enqueue(sql, DELETION_QUEUE, [id]);
      };
      await withTransaction(database, remove, `prompt:${id}`);
      jobs.nudge(DELETION_QUEUE);
      await waitUntilGone(() => queries.isLeft(database, id), DELETION_WAIT_MS);
    },

    /** The work of the queue: takes a prompt out of its conversations, and deletes it. @throws when one stays locked. */
    async erase(id: string, signal: AbortSignal): Promise<void> {
      while (await queries.releasePrompts(database, { id })) signal.throwIfAborted();
      await withTransaction(database, (sql) => queries.deletePrompts(sql, { id }));
    },

    /** What a conversation of this user begins with, or null. */
    findDefault: (userId: string): Promise<string | null> => queries.findDefaultPrompt(database, userId),

    /**
     * Whether the user may give this prompt to a conversation; in a transaction it then stays until the end of it.
     * @throws Problem `invalid`, at `#/prompt_id`.
     */
    async checkChoice(sql: Sql, userId: string, id: string): Promise<void> {
      if (await queries.lockChoice(sql, id, userId)) return;
      throw createInvalid("#/prompt_id", "You have no prompt with this prompt_id.");
    },
  };
}

export type PromptService = ReturnType<typeof createPromptService>;

const createCursorProblem = () => new Problem("bad_cursor", "The cursor is not one that this list gave out.");
