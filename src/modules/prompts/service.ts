import type { Caller } from "../../access/caller.ts";
import { type Database, requireRow, type Sql, withTransaction } from "../../db/client.ts";
import type { Precondition } from "../../http/etag.ts";
import { createBadCursorProblem, type PageRequest, parseIdCursor } from "../../http/pagination.ts";
import { enqueue } from "../../jobs/queue.ts";
import type { Jobs } from "../../jobs/runner.ts";
import { waitUntilDeleted } from "../../lib/batches.ts";
import { createId } from "../../lib/id.ts";
import { createInvalidProblem, Problem } from "../../lib/problem.ts";
import type { Bus } from "../../realtime/bus.ts";
import type { QuotaService } from "../quotas/service.ts";
import type { ChangePrompt, CreatePrompt, Prompt } from "./model.ts";
import * as queries from "./queries.ts";
import { checkTemplate } from "./template.ts";

export { deletePrompts, releasePrompts } from "./queries.ts";
export { renderTemplate } from "./template.ts";
export { createVariables } from "./variables.ts";

/** The job queue of prompt deletions; its keys are prompt ids. */
export const PROMPT_DELETIONS = "prompt deletions";
/** Maximum time that a request waits for a deletion. After that, the deletion continues in the background. */
const DELETION_WAIT_MS = 2_000;

/** Manages prompts. Only the user who created a prompt can see it. */
export interface PromptService {
  /** Returns one of the caller's prompts. @throws Problem `not_found`. */
  get(caller: Caller, id: string): Promise<Prompt>;

  /** Creates a prompt for the caller. @throws Problem `invalid` (an unknown variable), `quota_exceeded`. */
  create(caller: Caller, input: CreatePrompt): Promise<Prompt>;

  /** Lists the caller's prompts, newest first. `page.after` is [id]. @throws Problem `bad_cursor`. */
  list(caller: Caller, page: PageRequest): Promise<queries.PromptRow[]>;

  /**
   * Lists the versions of one of the caller's prompts, newest first. `page.after` is [version].
   * @throws Problem `not_found`, `bad_cursor`.
   */
  listVersions(caller: Caller, id: string, page: PageRequest): Promise<queries.VersionRow[]>;

  /**
   * Changes one of the caller's prompts. A changed template becomes a new version, which the prompt's conversations then use.
   * @throws Problem `not_found`, `invalid` (an unknown variable), `quota_exceeded`, `precondition_failed`.
   */
  change(caller: Caller, id: string, input: ChangePrompt, precondition?: Precondition): Promise<Prompt>;

  /**
   * Deletes one of the caller's prompts. Conversations that use it continue without a prompt.
   * @throws Problem `not_found`, `precondition_failed`.
   */
  remove(caller: Caller, id: string, precondition?: Precondition): Promise<void>;

  /**
   * Deletes an older version of one of the caller's prompts.
   * @throws Problem `not_found`, `conflict` (the version in use).
   */
  removeVersion(caller: Caller, id: string, version: number): Promise<void>;

  /** Runs a queued deletion. Removes a prompt from its conversations and deletes it. @throws if a conversation stays locked. */
  runDeletion(id: string, signal: AbortSignal): Promise<void>;

  /** Finds the default prompt for this user's new conversations. */
  findDefault(userId: string): Promise<string | null>;

  /**
   * Checks that the user may assign this prompt to a conversation. The prompt can't be deleted until the transaction ends.
   * @throws Problem `invalid`, at `#/prompt_id`.
   */
  checkAssignable(sql: Sql, userId: string, id: string): Promise<void>;
}

type Dependencies = {
  database: Database;
  jobs: Pick<Jobs, "nudge">;
  quotas: QuotaService;
  bus: Pick<Bus, "publish">;
};

export function createPromptService({ database, jobs, quotas, bus }: Dependencies): PromptService {
  async function get(caller: Caller, id: string): Promise<Prompt> {
    return queries.mapToPrompt(requireRow(await queries.findPrompt(database, id, caller.user.id), "prompt"));
  }

  const publishChanged = (userId: string): void =>
    bus.publish("users", () => [{ type: "prompts.changed", user_id: userId }]);
  const publishReleased = (): void => bus.publish("users", () => [{ type: "prompts.released" }]);

  return {
    get,

    async create(caller, { name, template, is_default = false }) {
      checkTemplate(template);
      const id = createId();
      const userId = caller.user.id;
      const insert = async (sql: Sql) => {
        quotas.requireBelowLimit("prompts", await queries.lockAndCountPrompts(sql, userId));
        if (is_default) await queries.clearDefaultPrompt(sql, userId);
        await queries.insertPrompt(sql, { id, userId, name, isDefault: is_default });
        await queries.insertVersion(sql, id, 1, template);
      };
      const store = () => withTransaction(database, insert, `user:${userId}`);
      await quotas.reserve("stored_bytes", userId, Buffer.byteLength(template), store);
      publishChanged(userId);
      return get(caller, id);
    },

    async list(caller, { limit, after }) {
      return queries.listPrompts(database, caller.user.id, parseIdCursor(after), limit + 1);
    },

    async listVersions(caller, id, { limit, after }) {
      await get(caller, id);
      const beforeVersion = after ? Number(after[0]) : null;
      if (beforeVersion !== null && !(Number.isInteger(beforeVersion) && Math.abs(beforeVersion) < 2 ** 31))
        throw createBadCursorProblem();
      return queries.listVersions(database, id, beforeVersion, limit + 1);
    },

    async change(caller, id, input, precondition) {
      if (input.template !== undefined) checkTemplate(input.template);
      const userId = caller.user.id;
      const update = async (sql: Sql) => {
        await queries.lockAndCountPrompts(sql, userId);
        const current = requireRow(await queries.findPrompt(sql, id, userId), "prompt");
        precondition?.(queries.mapToPrompt(current));
        const { name = current.name, template = current.template, is_default = current.is_default } = input;
        const isNewVersion = template !== current.template;
        if (!isNewVersion && name === current.name && is_default === current.is_default) return current;
        const version = current.version + Number(isNewVersion);
        if (isNewVersion) {
          quotas.requireBelowLimit("prompt_versions", await queries.countVersions(sql, id));
          await queries.insertVersion(sql, id, version, template);
        }
        if (is_default && !current.is_default) await queries.clearDefaultPrompt(sql, userId);
        const updatedFields = await queries.updatePrompt(sql, id, { name, version, is_default });
        return { ...current, name, template, version, is_default, ...updatedFields };
      };
      const store = () => withTransaction(database, update, `user:${userId}`);
      const { template } = input;
      const isNewVersion = template !== undefined && template !== (await get(caller, id)).template;
      const storing = isNewVersion
        ? quotas.reserve("stored_bytes", userId, Buffer.byteLength(template), store)
        : store();
      const prompt = queries.mapToPrompt(await storing);
      publishChanged(userId);
      return prompt;
    },

    async remove(caller, id, precondition) {
      const remove = async (sql: Sql) => {
        if (precondition) {
          await queries.lockAndCountPrompts(sql, caller.user.id);
          precondition(queries.mapToPrompt(requireRow(await queries.findPrompt(sql, id, caller.user.id), "prompt")));
        }
        requireRow((await queries.markPromptDeleted(sql, id, caller.user.id)) || undefined, "prompt");
        await enqueue(sql, PROMPT_DELETIONS, [id]);
      };
      await withTransaction(database, remove, precondition ? `user:${caller.user.id}` : `prompt:${id}`);
      publishChanged(caller.user.id);
      quotas.invalidate(caller.user.id);
      jobs.nudge(PROMPT_DELETIONS);
      await waitUntilDeleted(() => queries.promptExists(database, id), DELETION_WAIT_MS);
      // The message is also published here, because the deletion may still be running on another instance.
      publishReleased();
    },

    async removeVersion(caller, id, version) {
      const userId = caller.user.id;
      const remove = async (sql: Sql) => {
        await queries.lockAndCountPrompts(sql, userId);
        const current = requireRow(await queries.findPrompt(sql, id, userId), "prompt");
        if (version === current.version)
          throw new Problem("conflict", "This version is in use. Change the template first, or delete the prompt.");
        requireRow((await queries.deleteVersion(sql, id, version)) || undefined, "version");
      };
      await withTransaction(database, remove, `user:${userId}`);
      publishChanged(userId);
      quotas.invalidate(userId);
    },

    async runDeletion(id, signal) {
      while (await queries.releasePrompts(database, { id })) signal.throwIfAborted();
      await withTransaction(database, (sql) => queries.deletePrompts(sql, { id }));
      publishReleased();
    },

    findDefault: (userId) => queries.findDefaultPrompt(database, userId),

    async checkAssignable(sql, userId, id) {
      if (await queries.lockPrompt(sql, id, userId)) return;
      throw createInvalidProblem("#/prompt_id", "You don't have a prompt with this prompt_id.");
    },
  };
}
