import type { Caller } from "../access/caller.ts";
import { Problem } from "../lib/problem.ts";
import type { RoutePlugin } from "./mount.ts";

/** If receiving a body takes longer than this, the credential is checked again. */
const SLOW_MS = 100;

type Dependencies = { hasAccess(caller: Caller): Promise<boolean> };

/**
 * The caller is authenticated before the body is read. If a body arrives slowly or waits in the queue, the credential may be
 * revoked in the meantime, so it is checked again.
 */
export const createSlowBodies =
  ({ hasAccess }: Dependencies): RoutePlugin =>
  ({ public: isPublic }) => {
    if (isPublic) return undefined;
    return {
      onSlowBody: {
        afterMs: SLOW_MS,
        async check(caller) {
          if (!(await hasAccess(caller))) throw createRefusal();
        },
      },
    };
  };

const createRefusal = () =>
  new Problem(
    "unauthorized",
    "The session or API key was revoked or expired while the request was being sent. Log in again, or use another key.",
  );
