import type { Log } from "../lib/log.ts";
import { Problem } from "../lib/problem.ts";
import { acceptsEventStream } from "./event-stream.ts";
import { readIdempotencyKey } from "./idempotency-key.ts";
import type { Call, Claim, Found, IdempotencyCaller, IdempotencyStore } from "./idempotency-store.ts";
import type { RoutePlugin } from "./mount.ts";
import { isOpenAiPath } from "./openai-error.ts";
import { readUrl } from "./request-url.ts";
import type { IdempotencyMode, Route } from "./route.ts";
import { createResponse, readAnswer, restoreAnswer } from "./stored-response.ts";

/** How long a repeated request waits for the first one to end, before it gets 409. */
const IDEMPOTENCY_WAIT_MS = 1_500;
const FIRST_PAUSE_MS = 25;
const PAUSE_MS_MAX = 200;
const RETRY_AFTER_MS = 1_000;

type Settings = { headers: Record<string, string | number>; status?: number | string };
type Context = { request: Request; body: unknown; caller: IdempotencyCaller; set: Settings };

/** Permanent id of a request that has a key. */
const operationIds = new WeakMap<Request, string>();

/**
 * For handlers of idempotent operations (mode `exact`): the id of this request, the same for every repetition; undefined
 * without a key.
 */
export const findOperationId = (request: Request): string | undefined => operationIds.get(request);

type Dependencies = { store: IdempotencyStore; log: Log };

/** What the header does on a route; undefined where it has no effect: only routes that may create something use it. */
export function modeOf({ method, path, scope, idempotencyKey }: Route): IdempotencyMode | undefined {
  if (method !== "POST" || scope === undefined || idempotencyKey === "ignored") return undefined;
  return path.startsWith("/api/v1/") || isOpenAiPath(path) ? (idempotencyKey ?? "stored") : undefined;
}

/** `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header): a repeated POST gets the stored response and is not executed again. */
export function createIdempotency({ store, log }: Dependencies): RoutePlugin {
  const claims = new WeakMap<Request, Claim>();

  /** If the first attempt fails or dies while others wait for it, one of them takes over. */
  async function claimInTime(call: Call, waitMs: number): Promise<Found> {
    const deadlineMs = performance.now() + waitMs;
    for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs = Math.min(2 * pauseMs, PAUSE_MS_MAX)) {
      const found = await store.claim(call);
      if (found.state !== "running" || performance.now() + pauseMs > deadlineMs) return found;
      await Bun.sleep(pauseMs);
    }
  }

  /** The operation can't be undone when the database fails, so the response is sent even if it can't be stored. */
  async function conclude(claim: Claim, work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      log.warn({ err: error }, "the response to an Idempotency-Key could not be stored");
    } finally {
      store.forget(claim);
    }
  }

  /**
   * Runs before the handler. @returns the stored response; undefined if the handler must run.
   * @throws Problem `malformed`, `idempotency_key_reused`, `idempotency_in_progress`, `idempotency_answer_not_kept`.
   */
  async function begin(mode: IdempotencyMode, { request, body, caller, set }: Context): Promise<Response | undefined> {
    const key = readIdempotencyKey(request.headers.get("idempotency-key") ?? "");
    const { pathname: path, search: query } = readUrl(request);
    const call = store.describe(caller, request.method, { path, query }, key, body);
    // A stream can't be replayed, but a repeated request may join the one that is being written.
    const joins = mode === "exact" && acceptsEventStream(request);
    const found = await claimInTime(call, joins ? 0 : IDEMPOTENCY_WAIT_MS);
    if (found.state === "reused") throw createReused();
    if (found.state === "running" && !joins) throw createInProgress();
    if (found.state === "ended") {
      const { answer } = found;
      if (answer && !(joins && answer.status < 400)) return restoreAnswer(answer, replayed);
      if (mode !== "exact") throw createNotStored();
    }
    if (found.state === "claimed") claims.set(request, found.claim);
    else Object.assign(set.headers, replayed);
    operationIds.set(request, call.operationId);
    return undefined;
  }

  /** Runs after the handler, or its error: stores the result. @returns the response to send. */
  async function end(claim: Claim, request: Request, set: Settings, value: unknown): Promise<Response> {
    claims.delete(request);
    const response = createResponse(value, set);
    // Read by the access log, which doesn't wait for this promise.
    set.status = response.status;
    if (isPassing(response.status)) {
      await conclude(claim, () => store.release(claim));
      return response;
    }
    if (response.headers.get("content-type")?.startsWith("text/event-stream")) {
      await conclude(claim, () => store.keep(claim, null));
      return response;
    }
    const answer = await readAnswer(response, set);
    await conclude(claim, () => store.keep(claim, answer));
    return restoreAnswer({ ...answer, headers: Object.fromEntries(response.headers) });
  }

  return (route) => {
    const mode = modeOf(route);
    if (mode === undefined) return undefined;
    const isOpenAi = isOpenAiPath(route.path);
    // Elysia reads the source text of these two: that they may return promises (`return x(`), and which context fields they use.
    return {
      beforeHandle: ({ request, body, caller, set }) => {
        if (!request.headers.has("idempotency-key") || (isOpenAi && isStreamed(body))) return;
        return begin(mode, { request, body, caller, set });
      },
      mapResponse: ({ request, set, responseValue }) => {
        const claim = claims.get(request);
        if (!claim) return;
        return end(claim, request, set, responseValue);
      },
    };
  };
}

const replayed = { "idempotent-replayed": "true" };

/** A streamed completion is not stored: a repeated request generates it again. */
const isStreamed = (body: unknown): boolean => (body as { stream?: unknown } | null)?.stream === true;

/** Statuses that depend on the moment, not on the operation: the same request may succeed later. */
const isPassing = (status: number): boolean => status >= 500 || [401, 403, 404, 408, 425, 429].includes(status);

const createReused = () =>
  new Problem("idempotency_key_reused", "This Idempotency-Key was used for a request with another body or query.");
const createInProgress = () =>
  new Problem("idempotency_in_progress", "The first request with this Idempotency-Key is still running.", {
    retryAfterMs: RETRY_AFTER_MS,
  });
const createNotStored = () =>
  new Problem(
    "idempotency_answer_not_kept",
    "The request completed, but its response was a stream or too large to be stored.",
  );
