import { createHash, randomBytes } from "node:crypto";
import type { Caller } from "../../access/caller.ts";
import { requireScope } from "../../access/scopes.ts";
import { type Database, getReservedPool, requireRow, withTransaction } from "../../db/client.ts";
import type { RawBody } from "../../http/body.ts";
import { readIdempotencyKey } from "../../http/idempotency-key.ts";
import { type PageRequest, readIdCursor } from "../../http/pagination.ts";
import { createId } from "../../lib/id.ts";
import type { Log } from "../../lib/log.ts";
import { createInvalid, createNotFound, Problem } from "../../lib/problem.ts";
import { createSeal, deriveKey } from "../../lib/seal.ts";
import { CLIENT_MESSAGE_ID_CHARS_MAX } from "../../protocol/frames.ts";
import type { AuditService } from "../audit/service.ts";
import type { SentMessage } from "../messages/model.ts";
import type { MessageService } from "../messages/service.ts";
import { HOOKS_PER_CONVERSATION_MAX } from "./limits.ts";
import type { CreatedHook, CreateHook } from "./model.ts";
import * as queries from "./queries.ts";
import { readPost } from "./read-post.ts";
import { checkSignature, showSecret } from "./signature.ts";
import { createToken, hashToken, showEnd } from "./token.ts";

export type { KnownHook } from "./queries.ts";

const SECRET_BYTES = 32;

/** The result of a post; `isRepeated`: the same id was posted before, so it isn't posted again. */
type Posted = Pick<SentMessage, "message" | "reply"> & { isRepeated: boolean; isSlack: boolean };

/** Incoming hooks: programs post into a conversation on behalf of the member who created the hook. */
export interface HookService {
  /**
   * For members who may write; an API key must also have `messages:write`, and must not expire.
   * @param origin the base URL of this server, such as `https://chat.example.com`.
   * @throws Problem `not_found`, `forbidden`, `invalid`, `conflict` (too many hooks).
   */
  create(caller: Caller, conversationId: string, input: CreateHook, origin: string): Promise<CreatedHook>;

  /** For members, oldest first: owners get all, others their own. `page.after` is [id]. @throws Problem `not_found`. */
  list(caller: Caller, conversationId: string, page: PageRequest): Promise<queries.HookRow[]>;

  /** For owners and the hook's creator. Its messages stay. @throws Problem `not_found`. */
  remove(caller: Caller, conversationId: string, id: string): Promise<void>;

  /**
   * For everyone with the token. @throws Problem `not_found`, the same whether the hook doesn't exist or its creator is
   * disabled, has left, or may only read.
   */
  getByToken(token: string): Promise<queries.KnownHook>;

  /**
   * Posts a message. Repeating a hook's `webhook-id`, or else `Idempotency-Key`, always returns the same message.
   * @throws Problem `malformed`, `invalid`, `unsupported_media_type`, `unauthorized` (signature), `idempotency_key_reused`, and
   * what sending a message throws.
   */
  post(hook: queries.KnownHook, headers: Headers, body: RawBody): Promise<Posted>;
}

type Dependencies = {
  database: Database;
  audit: AuditService;
  messages: Pick<MessageService, "post">;
  jwtSecret: string;
  log: Log;
};

export function createHookService({ database, audit, messages, jwtSecret, log }: Dependencies): HookService {
  const seal = createSeal(deriveKey(jwtSecret, "hook secrets"));

  function checkSigned({ id, secret }: queries.KnownHook, headers: Headers, { bytes }: RawBody): void {
    if (secret === null) return;
    const key = seal.open(secret, Buffer.from(id));
    if (key === null) {
      log.warn({ hook_id: id }, "decrypting a hook's secret failed: JWT_SECRET has changed since the hook was created");
      throw new Problem("unauthorized", "The hook's secret can't be decrypted any more. Create the hook again.");
    }
    checkSignature(key, headers, bytes, Date.now());
  }

  return {
    async create(caller, conversationId, { name: newName, signed = false }, origin) {
      requireScope(caller.scopes, "messages:write");
      // Otherwise a stolen key that expires soon could create permanent access.
      if (caller.scopes !== null && Number.isFinite(caller.expiresAtMs))
        throw new Problem("forbidden", "An API key that expires can't create hooks, which don't expire.");
      const name = newName.trim();
      if (name === "") throw createInvalid("#/name", "name must not be empty.");
      const id = createId();
      const token = createToken();
      const key = signed ? randomBytes(SECRET_BYTES) : null;
      const row = await withTransaction(
        database,
        async (sql) => {
          const role = requireRow(await queries.lockRole(sql, conversationId, caller.user.id), "conversation");
          if (role === "viewer") throw new Problem("forbidden", "Viewers can't write in a conversation.");
          if ((await queries.countHooks(sql, conversationId)) >= HOOKS_PER_CONVERSATION_MAX)
            throw new Problem(
              "conflict",
              `A conversation can have at most ${HOOKS_PER_CONVERSATION_MAX} hooks. Delete one first.`,
            );
          const inserted = await queries.insertHook(sql, {
            ...{ id, conversation_id: conversationId, user_id: caller.user.id, name, last_four: showEnd(token) },
            ...{ tokenHash: hashToken(token), secret: key && seal.seal(key, Buffer.from(id)) },
          });
          const details = { conversation_id: conversationId, signed };
          await audit.record(sql, { action: "hook.created", ...describeActor(caller, id), details });
          return requireRow(inserted, "hook");
        },
        conversationId,
      );
      const shown = { ...queries.mapRowToHook(row), token, url: `${origin}/api/v1/hooks/${token}` };
      return key ? { ...shown, secret: showSecret(key) } : shown;
    },

    async list(caller, conversationId, { limit, after }) {
      const role = requireRow(await queries.findRole(database, conversationId, caller.user.id), "conversation");
      const userId = role === "owner" ? null : caller.user.id;
      return queries.listHooks(database, conversationId, userId, readIdCursor(after), limit + 1);
    },

    async remove(caller, conversationId, id) {
      await withTransaction(database, async (sql) => {
        const role = requireRow(await queries.findRole(sql, conversationId, caller.user.id), "conversation");
        const userId = role === "owner" ? null : caller.user.id;
        if (!(await queries.deleteHook(sql, conversationId, id, userId))) throw createNotFound("hook");
        const details = { conversation_id: conversationId };
        await audit.record(sql, { action: "hook.deleted", ...describeActor(caller, id), details });
      });
    },

    async getByToken(token) {
      return requireRow(await queries.findKnownHook(getReservedPool(database), hashToken(token)), "hook");
    },

    async post(hook, headers, body) {
      checkSigned(hook, headers, body);
      const post = readPost(body);
      const { content, reply } = post;
      const input = { content, reply, client_message_id: readPostId(headers) };
      const integration = { hookId: hook.id, displayName: post.displayName ?? hook.name };
      const sent = await messages.post(mapToCaller(hook), hook.conversationId, input, integration);
      if (sent.duplicate) checkRepetition(sent, content, integration.displayName, headers);
      return { message: sent.message, reply: sent.reply, isRepeated: sent.duplicate, isSlack: post.isSlack };
    },
  };
}

const describeActor = ({ user, credentialId, ipAddress }: Caller, hookId: string) => ({
  ...{ actorId: user.id, credentialId, ipAddress },
  target: { type: "hook", id: hookId } as const,
});

/** A hook's creator, on whose behalf it acts. */
export const mapToCaller = ({ id, creator, requestId }: queries.KnownHook): Caller => ({
  user: creator,
  credentialId: id,
  scopes: null,
  expiresAtMs: Number.POSITIVE_INFINITY,
  ipAddress: null,
  requestId,
});

/** The id that identifies a post; null: none. @throws Problem `malformed`. */
function readPostId(headers: Headers): string | null {
  const webhookId = headers.get("webhook-id");
  const idempotencyKey = headers.get("idempotency-key");
  const id = webhookId ?? (idempotencyKey === null ? null : readIdempotencyKey(idempotencyKey));
  if (id === null) return null;
  if (!/^[!-~]{1,255}$/.test(id))
    throw new Problem("malformed", "webhook-id must have 1 to 255 visible ASCII characters.");
  return id.length <= CLIENT_MESSAGE_ID_CHARS_MAX ? id : createHash("sha256").update(id).digest("hex");
}

/** @throws Problem `idempotency_key_reused` if the same `Idempotency-Key` came with another text or name. */
function checkRepetition({ message }: SentMessage, content: string, displayName: string, headers: Headers): void {
  if (headers.has("webhook-id") || message.deleted_at !== null) return;
  if (message.content === content && message.author?.display_name === displayName) return;
  throw new Problem(
    "idempotency_key_reused",
    "This Idempotency-Key was already used for a post with another text or name. Use a new key.",
  );
}
