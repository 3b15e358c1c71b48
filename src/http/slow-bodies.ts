import type { Caller } from "../access/caller.ts";
import { Problem } from "../lib/problem.ts";
import type { RoutePlugin } from "./mount.ts";

/** If a body takes longer than this to arrive, the credential is checked again. */
const SLOW_MS = 100;

type Dependencies = { hasAccess(caller: Caller): Promise<boolean> };

/**
 * Creates the plugin that checks the credential again after a slow body. The caller is authenticated before the body is
 * received, so the credential may have been revoked while the body arrived or waited in a queue.
 */
export const createSlowBodyCheck =
  ({ hasAccess }: Dependencies): RoutePlugin =>
  ({ public: isPublic }) => {
    if (isPublic) return undefined;
    return {
      onSlowBody: {
        afterMs: SLOW_MS,
        async check(caller) {
          if (!(await hasAccess(caller))) throw createRevokedProblem();
        },
      },
    };
  };

const createRevokedProblem = () =>
  new Problem(
    "unauthorized",
    "The session or API key was revoked or expired while the request was being sent. Log in again, or use a different key.",
  );
