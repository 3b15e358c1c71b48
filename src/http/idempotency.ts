import type { Log } from "../lib/log.ts";
import { Problem } from "../lib/problem.ts";
import { acceptsEventStream } from "./event-stream.ts";
import { parseIdempotencyKey } from "./idempotency-key.ts";
import type {
  Claim,
  ClaimResult,
  IdempotencyCaller,
  IdempotencyStore,
  IdempotentRequest,
} from "./idempotency-store.ts";
import type { RoutePlugin } from "./mount.ts";
import { isOpenAiPath } from "./openai-error.ts";
import { parseRequestUrl } from "./request-url.ts";
import type { IdempotencyMode, Route } from "./route.ts";
import { bufferResponse, createResponse, restoreResponse } from "./stored-response.ts";

/** Maximum time that a repeated request waits for the first request to finish. After that, it is rejected with 409. */
const IDEMPOTENCY_WAIT_MS = 1_500;
const FIRST_DELAY_MS = 25;
const DELAY_MS_MAX = 200;
const RETRY_AFTER_MS = 1_000;

type Settings = { headers: Record<string, string | number>; status?: number | string };
type Context = { request: Request; body: unknown; caller: IdempotencyCaller; set: Settings };

const operationIds = new WeakMap<Request, string>();

/**
 * Returns the operation id of a request, for routes in the mode `exact`. Repeated requests have the same operation id. Returns
 * undefined if the request has no key.
 */
export const findOperationId = (request: Request): string | undefined => operationIds.get(request);

type Dependencies = { store: IdempotencyStore; log: Log };

/** Returns a route's idempotency mode, or undefined if the header has no effect. */
export function getIdempotencyMode({ method, path, scope, idempotencyKey }: Route): IdempotencyMode | undefined {
  if (method !== "POST" || scope === undefined || idempotencyKey === "ignored") return undefined;
  return path.startsWith("/api/v1/") || isOpenAiPath(path) ? (idempotencyKey ?? "stored") : undefined;
}

/**
 * Creates the plugin for `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header). A repeated POST receives the stored
 * response and isn't executed again.
 */
export function createIdempotencyPlugin({ store, log }: Dependencies): RoutePlugin {
  const claims = new WeakMap<Request, Claim>();

  /** Claims a key, or waits for the attempt that has claimed it. If that attempt fails, a waiting attempt claims the key. */
  async function claimOrWait(identity: IdempotentRequest, waitMs: number): Promise<ClaimResult> {
    const deadlineMs = performance.now() + waitMs;
    for (let delayMs = FIRST_DELAY_MS; ; delayMs = Math.min(2 * delayMs, DELAY_MS_MAX)) {
      const result = await store.claim(identity);
      if (result.state !== "running" || performance.now() + delayMs > deadlineMs) return result;
      await Bun.sleep(delayMs);
    }
  }

  /** Stores an attempt's result. If storing fails, the response is sent anyway, because the operation can't be undone. */
  async function trySaveResult(claim: Claim, saveResult: () => Promise<void>): Promise<void> {
    try {
      await saveResult();
    } catch (error) {
      log.warn({ err: error }, "the response to an Idempotency-Key could not be stored");
    } finally {
      store.stopRenewing(claim);
    }
  }

  /**
   * Runs before the handler. @returns the stored response, or undefined if the handler must run.
   * @throws Problem `malformed`, `idempotency_key_reused`, `idempotency_in_progress`, `idempotency_answer_not_kept`.
   */
  async function startAttempt(
    mode: IdempotencyMode,
    { request, body, caller, set }: Context,
  ): Promise<Response | undefined> {
    const key = parseIdempotencyKey(request.headers.get("idempotency-key") ?? "");
    const { pathname: path, search: query } = parseRequestUrl(request);
    const identity = store.createIdentity(caller, request.method, { path, query }, key, body);
    // A stream can't be replayed, but a repeated request can join the running one.
    const canJoinStream = mode === "exact" && acceptsEventStream(request);
    const result = await claimOrWait(identity, canJoinStream ? 0 : IDEMPOTENCY_WAIT_MS);
    if (result.state === "reused") throw createReusedProblem();
    if (result.state === "running" && !canJoinStream) throw createInProgressProblem();
    if (result.state === "ended") {
      const { response } = result;
      if (response && !(canJoinStream && response.status < 400)) return restoreResponse(response, replayedHeader);
      if (mode !== "exact") throw createNotStoredProblem();
    }
    if (result.state === "claimed") claims.set(request, result.claim);
    else Object.assign(set.headers, replayedHeader);
    operationIds.set(request, identity.operationId);
    return undefined;
  }

  /** Runs after the handler has returned or thrown. Stores the result. @returns the response to send. */
  async function finishAttempt(claim: Claim, request: Request, set: Settings, value: unknown): Promise<Response> {
    claims.delete(request);
    const response = createResponse(value, set);
    // The access log doesn't wait for the promise.
    set.status = response.status;
    if (isTransient(response.status)) {
      await trySaveResult(claim, () => store.release(claim));
      return response;
    }
    if (response.headers.get("content-type")?.startsWith("text/event-stream")) {
      await trySaveResult(claim, () => store.storeResponse(claim, null));
      return response;
    }
    const storedResponse = await bufferResponse(response, set);
    await trySaveResult(claim, () => store.storeResponse(claim, storedResponse));
    return restoreResponse({ ...storedResponse, headers: Object.fromEntries(response.headers) });
  }

  return (route) => {
    const mode = getIdempotencyMode(route);
    if (mode === undefined) return undefined;
    const isOpenAi = isOpenAiPath(route.path);
    // Elysia reads the source code of these functions, to see which context fields they use and whether they return promises.
    return {
      beforeHandle: ({ request, body, caller, set }) => {
        if (!request.headers.has("idempotency-key") || (isOpenAi && isStreamed(body))) return;
        return startAttempt(mode, { request, body, caller, set });
      },
      mapResponse: ({ request, set, responseValue }) => {
        const claim = claims.get(request);
        if (!claim) return;
        return finishAttempt(claim, request, set, responseValue);
      },
    };
  };
}

const replayedHeader = { "idempotent-replayed": "true" };

/** Whether a completion is streamed. Streamed completions aren't stored, so a repeated request generates a new one. */
const isStreamed = (body: unknown): boolean => (body as { stream?: unknown } | null)?.stream === true;

/** Whether the same request may succeed later. */
const isTransient = (status: number): boolean => status >= 500 || [401, 403, 404, 408, 425, 429].includes(status);

const createReusedProblem = () =>
  new Problem("idempotency_key_reused", "This Idempotency-Key was used for a request with a different body or query.");
const createInProgressProblem = () =>
  new Problem("idempotency_in_progress", "The first request with this Idempotency-Key is still running.", {
    retryAfterMs: RETRY_AFTER_MS,
  });
const createNotStoredProblem = () =>
  new Problem(
    "idempotency_answer_not_kept",
    "The request completed, but its response was a stream or too large to be stored.",
  );
