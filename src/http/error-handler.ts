import { addSkipped, createLineLimit } from "../lib/line-limit.ts";
import type { Log } from "../lib/log.ts";
import { Problem, problemCodes } from "../lib/problem.ts";
import { findChallenge } from "./challenge.ts";
import { createOpenAiErrorResponse, isOpenAiPath, mapProblemToOpenAiError } from "./openai-error.ts";
import { createProblemResponse, mapErrorToProblem, unwrapError } from "./problem-response.ts";
import { readRequestId } from "./request-id.ts";
import { readUrl } from "./request-url.ts";

type ErrorContext = {
  error: unknown;
  code: unknown;
  request: Request;
  route?: string;
  set: { headers: Record<string, string | number | undefined>; status?: number | string };
};

/** The methods of all routes with this path; empty if there are none. */
export type FindMethods = (path: string) => string[];

/**
 * The only `onError`, for the composition root: turns everything thrown into a problem and logs internal errors with their
 * cause. A known path with another method gets 405 with `Allow`. Below `/v1`, errors have OpenAI's shape.
 */
export function createErrorHandler({ log, findMethods }: { log: Log; findMethods: FindMethods }) {
  const countLine = createLineLimit();
  return ({ error: thrown, code, request, route, set }: ErrorContext): Response => {
    const error = unwrapError(thrown);
    const { problem, isFault } = mapErrorToProblem(error, code);
    const requestId = readRequestId(set);
    if (isFault) {
      const line = { request_id: requestId, method: request.method, route, code: problem.code };
      if (problem.code === "unavailable" || problem.code === "overloaded") {
        // When the database is down, every request fails the same way. The database logs its own line as well.
        const skipped = countLine(problem.code);
        const fields = { ...line, reason: describeReason(error) };
        if (skipped === null) log.debug(fields, "request failed");
        else log.warn(addSkipped(fields, skipped), "request failed");
      } else log.error({ ...line, err: error }, "request failed");
    }
    const { pathname } = readUrl(request);
    const methods = code === "NOT_FOUND" ? findMethods(pathname) : [];
    const shown =
      methods.length > 0 ? new Problem("method_not_allowed", `This address supports ${methods.join(", ")}.`) : problem;
    if (methods.length > 0) set.headers.allow = methods.join(", ");
    if (shown.headers) Object.assign(set.headers, shown.headers);
    const challenge = findChallenge(shown, request);
    if (challenge) set.headers["www-authenticate"] = challenge;
    if (isOpenAiPath(pathname)) {
      const openAiError = mapProblemToOpenAiError(shown);
      set.status = openAiError.status;
      return createOpenAiErrorResponse(openAiError);
    }
    set.status = problemCodes[shown.code].status;
    return createProblemResponse(shown, requestId);
  };
}

const describeReason = (error: unknown) => (error instanceof Error ? error.message : String(error));

/** Builds the lookup from the declared routes. It is linear, because it runs only for requests without a route. */
export function createFindMethods(routes: readonly { method: string; path: string }[]): FindMethods {
  const patterns = routes.map((route) => ({ method: route.method, pattern: compilePath(route.path) }));
  return (path) => {
    const found = new Set(patterns.filter(({ pattern }) => pattern.test(path)).map(({ method }) => method));
    if (found.has("GET")) found.add("HEAD");
    return [...found].sort();
  };
}

function compilePath(path: string): RegExp {
  const source = path
    .replace(/\/$/, "")
    .replaceAll(/[.+^${}()|[\]\\]/g, "\\$&")
    .replaceAll(/\/:[^/]+\?/g, "(?:/[^/]+)?")
    .replaceAll(/:[^/]+/g, "[^/]+")
    .replaceAll("*", ".*");
  return new RegExp(`^${source}/?$`);
}
