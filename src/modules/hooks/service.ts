import { createHash, randomBytes } from "node:crypto";
import type { Caller } from "../../access/caller.ts";
import { requireScope } from "../../access/scopes.ts";
import { type Database, getReservedPool, requireRow, withTransaction } from "../../db/client.ts";
import type { RawBody } from "../../http/body.ts";
import { parseIdempotencyKey } from "../../http/idempotency-key.ts";
import { type PageRequest, parseIdCursor } from "../../http/pagination.ts";
import { createId } from "../../lib/id.ts";
import type { Log } from "../../lib/log.ts";
import { createInvalidProblem, createNotFoundProblem, Problem } from "../../lib/problem.ts";
import { createSeal, deriveKey } from "../../lib/seal.ts";
import { CLIENT_MESSAGE_ID_CHARS_MAX } from "../../protocol/frames.ts";
import type { AuditService } from "../audit/service.ts";
import type { SentMessage } from "../messages/model.ts";
import type { MessageService } from "../messages/service.ts";
import { HOOKS_PER_CONVERSATION_MAX } from "./limits.ts";
import type { CreatedHook, CreateHook } from "./model.ts";
import { parsePost } from "./parse-post.ts";
import * as queries from "./queries.ts";
import { checkSignature, formatSecret } from "./signature.ts";
import { createToken, extractSuffix, hashToken } from "./token.ts";

export type { ActiveHook } from "./queries.ts";

const SECRET_BYTES = 32;

/** The result of a post. If `isRepeated` is true, a post with the same id already exists, so nothing was posted. */
type PostResult = Pick<SentMessage, "message" | "reply"> & { isRepeated: boolean; isSlack: boolean };

/** Manages incoming hooks, with which programs post to a conversation on behalf of the member who created the hook. */
export interface HookService {
  /**
   * Creates a hook. Members with write access only. An API key must also have `messages:write`, and must not expire.
   * @param origin the base URL of this server, such as `https://chat.example.com`.
   * @throws Problem `not_found`, `forbidden`, `invalid`, `conflict` (too many hooks).
   */
  create(caller: Caller, conversationId: string, input: CreateHook, origin: string): Promise<CreatedHook>;

  /**
   * Lists hooks, oldest first: all hooks for owners, and only their own hooks for other members. `page.after` is [id].
   * @throws Problem `not_found`.
   */
  list(caller: Caller, conversationId: string, page: PageRequest): Promise<queries.HookRow[]>;

  /** Deletes a hook. Owners and the hook's creator only. The hook's messages are kept. @throws Problem `not_found`. */
  remove(caller: Caller, conversationId: string, id: string): Promise<void>;

  /**
   * Returns the hook with this token.
   * @throws Problem `not_found` if the hook doesn't exist, or if its creator is disabled, has left, or has no write access.
   */
  getByToken(token: string): Promise<queries.ActiveHook>;

  /**
   * Posts a message. A repeated `webhook-id` or, without one, a repeated `Idempotency-Key` always returns the same message.
   * @throws Problem `malformed`, `invalid`, `unsupported_media_type`, `unauthorized` (signature), `idempotency_key_reused`, and the
   * errors of sending a message.
   */
  post(hook: queries.ActiveHook, headers: Headers, body: RawBody): Promise<PostResult>;
}

type Dependencies = {
  database: Database;
  audit: AuditService;
  messages: Pick<MessageService, "sendFromHook">;
  jwtSecret: string;
  log: Log;
};

export function createHookService({ database, audit, messages, jwtSecret, log }: Dependencies): HookService {
  const seal = createSeal(deriveKey(jwtSecret, "hook secrets"));

  function checkPostSignature({ id, secret }: queries.ActiveHook, headers: Headers, { bytes }: RawBody): void {
    if (secret === null) return;
    const key = seal.open(secret, Buffer.from(id));
    if (key === null) {
      log.warn({ hook_id: id }, "decrypting a hook's secret failed: JWT_SECRET has changed since the hook was created");
      throw new Problem("unauthorized", "The hook's secret can no longer be decrypted. Create the hook again.");
    }
    checkSignature(key, headers, bytes, Date.now());
  }

  return {
    async create(caller, conversationId, { name: rawName, signed = false }, origin) {
      requireScope(caller.scopes, "messages:write");
      // Without this check, an attacker could use a stolen key that expires soon to gain permanent access.
      if (caller.scopes !== null && Number.isFinite(caller.expiresAtMs))
        throw new Problem("forbidden", "An API key that expires can't create hooks, which don't expire.");
      const name = rawName.trim();
      if (name === "") throw createInvalidProblem("#/name", "name must not be empty.");
      const id = createId();
      const token = createToken();
      const key = signed ? randomBytes(SECRET_BYTES) : null;
      const row = await withTransaction(
        database,
        async (sql) => {
          const role = requireRow(await queries.lockRole(sql, conversationId, caller.user.id), "conversation");
          if (role === "viewer") throw new Problem("forbidden", "Viewers can't send messages.");
          if ((await queries.countHooks(sql, conversationId)) >= HOOKS_PER_CONVERSATION_MAX)
            throw new Problem(
              "conflict",
              `A conversation can have at most ${HOOKS_PER_CONVERSATION_MAX} hooks. Delete one first.`,
            );
          const insertedHook = await queries.insertHook(sql, {
            ...{ id, conversation_id: conversationId, user_id: caller.user.id, name, last_four: extractSuffix(token) },
            ...{ tokenHash: hashToken(token), secret: key && seal.seal(key, Buffer.from(id)) },
          });
          const details = { conversation_id: conversationId, signed };
          await audit.record(sql, { action: "hook.created", ...describeActor(caller, id), details });
          return requireRow(insertedHook, "hook");
        },
        conversationId,
      );
      const createdHook = { ...queries.mapRowToHook(row), token, url: `${origin}/api/v1/hooks/${token}` };
      return key ? { ...createdHook, secret: formatSecret(key) } : createdHook;
    },

    async list(caller, conversationId, { limit, after }) {
      const role = requireRow(await queries.findRole(database, conversationId, caller.user.id), "conversation");
      const userId = role === "owner" ? null : caller.user.id;
      return queries.listHooks(database, conversationId, userId, parseIdCursor(after), limit + 1);
    },

    async remove(caller, conversationId, id) {
      await withTransaction(database, async (sql) => {
        const role = requireRow(await queries.findRole(sql, conversationId, caller.user.id), "conversation");
        const userId = role === "owner" ? null : caller.user.id;
        if (!(await queries.deleteHook(sql, conversationId, id, userId))) throw createNotFoundProblem("hook");
        const details = { conversation_id: conversationId };
        await audit.record(sql, { action: "hook.deleted", ...describeActor(caller, id), details });
      });
    },

    async getByToken(token) {
      return requireRow(await queries.findActiveHook(getReservedPool(database), hashToken(token)), "hook");
    },

    async post(hook, headers, body) {
      checkPostSignature(hook, headers, body);
      const post = parsePost(body);
      const { content, reply } = post;
      const input = { content, reply, client_message_id: parsePostId(headers) };
      const integration = { hookId: hook.id, displayName: post.displayName ?? hook.name };
      const result = await messages.sendFromHook(mapToCaller(hook), hook.conversationId, input, integration);
      if (result.duplicate) checkRepeatedPost(result, content, integration.displayName, headers);
      return { message: result.message, reply: result.reply, isRepeated: result.duplicate, isSlack: post.isSlack };
    },
  };
}

const describeActor = ({ user, credentialId, ipAddress }: Caller, hookId: string) => ({
  ...{ actorId: user.id, credentialId, ipAddress },
  target: { type: "hook", id: hookId } as const,
});

/** Returns the caller for a hook's posts, which is the hook's creator. */
export const mapToCaller = ({ id, creator, requestId }: queries.ActiveHook): Caller => ({
  user: creator,
  credentialId: id,
  scopes: null,
  expiresAtMs: Number.POSITIVE_INFINITY,
  ipAddress: null,
  requestId,
});

/** Returns the id of a post, or null if it has none. @throws Problem `malformed`. */
function parsePostId(headers: Headers): string | null {
  const webhookId = headers.get("webhook-id");
  const idempotencyKey = headers.get("idempotency-key");
  const id = webhookId ?? (idempotencyKey === null ? null : parseIdempotencyKey(idempotencyKey));
  if (id === null) return null;
  if (!/^[!-~]{1,255}$/.test(id))
    throw new Problem("malformed", "webhook-id must have 1 to 255 visible ASCII characters.");
  return id.length <= CLIENT_MESSAGE_ID_CHARS_MAX ? id : createHash("sha256").update(id).digest("hex");
}

/** Checks a repeated post. @throws Problem `idempotency_key_reused` if its text or name differs from the first post's. */
function checkRepeatedPost({ message }: SentMessage, content: string, displayName: string, headers: Headers): void {
  if (headers.has("webhook-id") || message.deleted_at !== null) return;
  if (message.content === content && message.author?.display_name === displayName) return;
  throw new Problem(
    "idempotency_key_reused",
    "This Idempotency-Key was already used for a post with a different text or name. Use a new key.",
  );
}
