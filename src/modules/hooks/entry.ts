import type { RoutePlugin } from "../../http/mount.ts";
import { addLimitHeaders } from "../../http/rate-limit.ts";
import { getRequestId } from "../../http/request-id.ts";
import { parseRequestUrl } from "../../http/request-url.ts";
import { createNotFoundProblem } from "../../lib/problem.ts";
import type { Limits } from "../../limits/limits.ts";
import { type ActiveHook, type HookService, mapToCaller } from "./service.ts";

/** The route that programs post to. The token is a secret, so logs and metrics must contain only this template. */
export const HOOK_POST_PATH = "/api/v1/hooks/:token";
const TOKEN_INDEX = HOOK_POST_PATH.split("/").indexOf(":token");

/** Finds a request's hook before the body is read. */
export interface HookEntry {
  /** Added to every route, but does nothing except on the posting route. */
  plugin: RoutePlugin;
  /** Returns the hook of a request on the posting route. */
  getHook(request: Request): ActiveHook;
}

type Dependencies = { hooks: Pick<HookService, "getByToken">; limits: Pick<Limits, "countHook"> };

export function createHookEntry({ hooks, limits }: Dependencies): HookEntry {
  const hooksByRequest = new WeakMap<Request, ActiveHook>();
  return {
    plugin: ({ path }) =>
      path !== HOOK_POST_PATH
        ? undefined
        : {
            async onEnter(visit) {
              const { request, headers } = visit;
              const hook = await hooks.getByToken(parseRequestUrl(request).pathname.split("/")[TOKEN_INDEX] ?? "");
              const countResult = addLimitHeaders(limits.countHook(hook.id), headers);
              if (countResult) await countResult;
              // The caller is set because large bodies are queued per user.
              visit.caller = mapToCaller(hook);
              hooksByRequest.set(request, { ...hook, requestId: getRequestId(visit) });
            },
          },

    getHook(request) {
      const hook = hooksByRequest.get(request);
      if (!hook) throw createNotFoundProblem("hook");
      return hook;
    },
  };
}
