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
import { readUrl } from "./request-url.ts";
import type { IdempotencyMode, Route } from "./route.ts";
import { createResponse, readResponse, restoreResponse } from "./stored-response.ts";

/** Maximum time that a repeated request waits for the first one to finish. After that, the response is 409. */
const IDEMPOTENCY_WAIT_MS = 1_500;
const FIRST_DELAY_MS = 25;
const DELAY_MS_MAX = 200;
const RETRY_AFTER_MS = 1_000;

type Settings = { headers: Record<string, string | number>; status?: number | string };
type Context = { request: Request; body: unknown; caller: IdempotencyCaller; set: Settings };

const operationIds = new WeakMap<Request, string>();

/**
 * Returns the operation id of a request, for routes in the mode `exact`. Repeated requests have the same operation id. Undefined
 * if there is no key.
 */
export const findOperationId = (request: Request): string | undefined => operationIds.get(request);

type Dependencies = { store: IdempotencyStore; log: Log };

/** Returns a route's idempotency mode, or undefined if the header has no effect. */
export function getIdempotencyMode({ method, path, scope, idempotencyKey }: Route): IdempotencyMode | undefined {
  if (method !== "POST" || scope === undefined || idempotencyKey === "ignored") return undefined;
  return path.startsWith("/api/v1/") || isOpenAiPath(path) ? (idempotencyKey ?? "stored") : undefined;
}

/**
 * Creates the plugin for `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header). A repeated POST gets the stored
 * response and isn't executed again.
 */
export function createIdempotency({ store, log }: Dependencies): RoutePlugin {
  const claims = new WeakMap<Request, Claim>();

  /** Claims a key, or waits for another attempt that has claimed it. If that attempt fails, a waiting one takes over. */
  async function claimOrWait(call: IdempotentRequest, waitMs: number): Promise<ClaimResult> {
    const deadlineMs = performance.now() + waitMs;
    for (let delayMs = FIRST_DELAY_MS; ; delayMs = Math.min(2 * delayMs, DELAY_MS_MAX)) {
      const found = await store.claim(call);
      if (found.state !== "running" || performance.now() + delayMs > deadlineMs) return found;
      await Bun.sleep(delayMs);
    }
  }

  /** Stores an attempt's result. If storing fails, the response is sent anyway, because the operation can't be undone. */
  async function storeResult(claim: Claim, work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      log.warn({ err: error }, "the response to an Idempotency-Key could not be stored");
    } finally {
      store.forget(claim);
    }
  }

  /**
   * Runs before the handler. @returns the stored response, or undefined if the handler must run.
   * @throws Problem `malformed`, `idempotency_key_reused`, `idempotency_in_progress`, `idempotency_answer_not_kept`.
   */
  async function beginAttempt(
    mode: IdempotencyMode,
    { request, body, caller, set }: Context,
  ): Promise<Response | undefined> {
    const key = parseIdempotencyKey(request.headers.get("idempotency-key") ?? "");
    const { pathname: path, search: query } = readUrl(request);
    const call = store.describe(caller, request.method, { path, query }, key, body);
    // A stream can't be replayed, but a repeated request can join the running one.
    const canJoinStream = mode === "exact" && acceptsEventStream(request);
    const found = await claimOrWait(call, canJoinStream ? 0 : IDEMPOTENCY_WAIT_MS);
    if (found.state === "reused") throw createReusedProblem();
    if (found.state === "running" && !canJoinStream) throw createInProgressProblem();
    if (found.state === "ended") {
      const { answer } = found;
      if (answer && !(canJoinStream && answer.status < 400)) return restoreResponse(answer, replayedHeader);
      if (mode !== "exact") throw createNotStoredProblem();
    }
    if (found.state === "claimed") claims.set(request, found.claim);
    else Object.assign(set.headers, replayedHeader);
    operationIds.set(request, call.operationId);
    return undefined;
  }

  /** Runs after the handler or its error. Stores the result. @returns the response to send. */
  async function endAttempt(claim: Claim, request: Request, set: Settings, value: unknown): Promise<Response> {
    claims.delete(request);
    const response = createResponse(value, set);
    // The access log doesn't wait for the promise.
    set.status = response.status;
    if (isTransient(response.status)) {
      await storeResult(claim, () => store.release(claim));
      return response;
    }
    if (response.headers.get("content-type")?.startsWith("text/event-stream")) {
      await storeResult(claim, () => store.keep(claim, null));
      return response;
    }
    const answer = await readResponse(response, set);
    await storeResult(claim, () => store.keep(claim, answer));
    return restoreResponse({ ...answer, headers: Object.fromEntries(response.headers) });
  }

  return (route) => {
    const mode = getIdempotencyMode(route);
    if (mode === undefined) return undefined;
    const isOpenAi = isOpenAiPath(route.path);
    // Elysia reads the source code of these functions, to see which context fields they use and whether they return promises.
    return {
      beforeHandle: ({ request, body, caller, set }) => {
        if (!request.headers.has("idempotency-key") || (isOpenAi && isStreamed(body))) return;
        return beginAttempt(mode, { request, body, caller, set });
      },
      mapResponse: ({ request, set, responseValue }) => {
        const claim = claims.get(request);
        if (!claim) return;
        return endAttempt(claim, request, set, responseValue);
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
  new Problem("idempotency_key_reused", "This Idempotency-Key was used for a request with another body or query.");
const createInProgressProblem = () =>
  new Problem("idempotency_in_progress", "The first request with this Idempotency-Key is still running.", {
    retryAfterMs: RETRY_AFTER_MS,
  });
const createNotStoredProblem = () =>
  new Problem(
    "idempotency_answer_not_kept",
    "The request completed, but its response was a stream or too large to be stored.",
  );
