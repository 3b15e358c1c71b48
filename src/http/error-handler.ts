import { addSkippedLineCount, createLogLineLimit } from "../lib/line-limit.ts";
import type { Log } from "../lib/log.ts";
import { Problem, problemCodes } from "../lib/problem.ts";
import { findChallenge } from "./challenge.ts";
import { createOpenAiErrorResponse, isOpenAiPath, mapProblemToOpenAiError } from "./openai-error.ts";
import { createProblemResponse, mapErrorToProblem, unwrapError } from "./problem-response.ts";
import { getRequestId } from "./request-id.ts";
import { parseRequestUrl } from "./request-url.ts";

type ErrorContext = {
  error: unknown;
  code: unknown;
  request: Request;
  route?: string;
  set: { headers: Record<string, string | number | undefined>; status?: number | string };
};

/** Returns the methods of all routes with this path. */
export type FindMethods = (path: string) => string[];

/**
 * Creates the app's only `onError` handler. It maps all errors to problems and logs internal ones. If the path exists but
 * doesn't support the method, it responds with 405 and `Allow`. Errors under `/v1` have OpenAI's format.
 */
export function createErrorHandler({ log, findMethods }: { log: Log; findMethods: FindMethods }) {
  const admitLine = createLogLineLimit();
  return ({ error: thrown, code, request, route, set }: ErrorContext): Response => {
    const error = unwrapError(thrown);
    const { problem, isInternalError } = mapErrorToProblem(error, code);
    const requestId = getRequestId(set);
    if (isInternalError) {
      const line = { request_id: requestId, method: request.method, route, code: problem.code };
      if (problem.code === "unavailable" || problem.code === "overloaded") {
        // If the database is down, all requests fail, so these lines are rate-limited.
        const skippedLines = admitLine(problem.code);
        const fields = { ...line, reason: describeReason(error) };
        if (skippedLines === null) log.debug(fields, "request failed");
        else log.warn(addSkippedLineCount(fields, skippedLines), "request failed");
      } else log.error({ ...line, err: error }, "request failed");
    }
    const { pathname } = parseRequestUrl(request);
    const methods = code === "NOT_FOUND" ? findMethods(pathname) : [];
    const sentProblem =
      methods.length > 0 ? new Problem("method_not_allowed", `This path supports ${methods.join(", ")}.`) : problem;
    if (methods.length > 0) set.headers.allow = methods.join(", ");
    if (sentProblem.headers) Object.assign(set.headers, sentProblem.headers);
    const challenge = findChallenge(sentProblem, request);
    if (challenge) set.headers["www-authenticate"] = challenge;
    if (isOpenAiPath(pathname)) {
      const openAiError = mapProblemToOpenAiError(sentProblem);
      set.status = openAiError.status;
      return createOpenAiErrorResponse(openAiError);
    }
    set.status = problemCodes[sentProblem.code].status;
    return createProblemResponse(sentProblem, requestId);
  };
}

const describeReason = (error: unknown) => (error instanceof Error ? error.message : String(error));

/** Creates a function that finds the methods of a path. The function is slow, but only called for requests without a route. */
export function createMethodFinder(routes: readonly { method: string; path: string }[]): FindMethods {
  const patterns = routes.map((route) => ({ method: route.method, pattern: compilePath(route.path) }));
  return (path) => {
    const methods = new Set(patterns.filter(({ pattern }) => pattern.test(path)).map(({ method }) => method));
    if (methods.has("GET")) methods.add("HEAD");
    return [...methods].sort();
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
