import type { RoutePlugin } from "../../http/mount.ts";
import { showOutcome } from "../../http/rate-limit.ts";
import { readRequestId } from "../../http/request-id.ts";
import { readUrl } from "../../http/request-url.ts";
import { createNotFound } from "../../lib/problem.ts";
import type { Limits } from "../../limits/limits.ts";
import { type HookService, type KnownHook, mapToCaller } from "./service.ts";

/** Where programs post. The token is a secret: log and measure only the route template. */
export const HOOK_POST_PATH = "/api/v1/hooks/:token";
const TOKEN_AT = HOOK_POST_PATH.split("/").indexOf(":token");

/** Finds the hook of a post before its body is read. */
export interface HookEntry {
  /** Runs on the entry of every route; only acts on the posting route. */
  plugin: RoutePlugin;
  /** The hook of a request on this route. */
  getHook(request: Request): KnownHook;
}

type Dependencies = { hooks: Pick<HookService, "getByToken">; limits: Pick<Limits, "countHook"> };

export function createHookEntry({ hooks, limits }: Dependencies): HookEntry {
  const entered = new WeakMap<Request, KnownHook>();
  return {
    plugin: ({ path }) =>
      path !== HOOK_POST_PATH
        ? undefined
        : {
            async onEnter(visit) {
              const { request, headers } = visit;
              const hook = await hooks.getByToken(readUrl(request).pathname.split("/")[TOKEN_AT] ?? "");
              const counted = showOutcome(limits.countHook(hook.id), headers);
              if (counted) await counted;
              // Large bodies are queued per user.
              visit.caller = mapToCaller(hook);
              entered.set(request, { ...hook, requestId: readRequestId(visit) });
            },
          },

    getHook(request) {
      const hook = entered.get(request);
      if (!hook) throw createNotFound("hook");
      return hook;
    },
  };
}
