import type { RoutePlugin } from "../../http/mount.ts";
import { addLimitHeaders } from "../../http/rate-limit.ts";
import { readRequestId } from "../../http/request-id.ts";
import { readUrl } from "../../http/request-url.ts";
import { createNotFound } from "../../lib/problem.ts";
import type { Limits } from "../../limits/limits.ts";
import { type HookService, type KnownHook, mapToCaller } from "./service.ts";

/** The route that programs post to. The token is a secret, so logs and metrics must contain only this template. */
export const HOOK_POST_PATH = "/api/v1/hooks/:token";
const TOKEN_INDEX = HOOK_POST_PATH.split("/").indexOf(":token");

/** Finds a request's hook before the body is read. */
export interface HookEntry {
  /** Runs for every route, but only acts on the posting route. */
  plugin: RoutePlugin;
  /** Returns the hook of a request on the posting route. */
  getHook(request: Request): KnownHook;
}

type Dependencies = { hooks: Pick<HookService, "getByToken">; limits: Pick<Limits, "countHook"> };

export function createHookEntry({ hooks, limits }: Dependencies): HookEntry {
  const hooksByRequest = new WeakMap<Request, KnownHook>();
  return {
    plugin: ({ path }) =>
      path !== HOOK_POST_PATH
        ? undefined
        : {
            async onEnter(visit) {
              const { request, headers } = visit;
              const hook = await hooks.getByToken(readUrl(request).pathname.split("/")[TOKEN_INDEX] ?? "");
              const countResult = addLimitHeaders(limits.countHook(hook.id), headers);
              if (countResult) await countResult;
              // The caller is set because large bodies are queued per user.
              visit.caller = mapToCaller(hook);
              hooksByRequest.set(request, { ...hook, requestId: readRequestId(visit) });
            },
          },

    getHook(request) {
      const hook = hooksByRequest.get(request);
      if (!hook) throw createNotFound("hook");
      return hook;
    },
  };
}
