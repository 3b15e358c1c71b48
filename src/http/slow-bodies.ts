import type { Caller } from "../access/caller.ts";
import { Problem } from "../lib/problem.ts";
import type { RoutePlugin } from "./mount.ts";

/** A body that takes longer than this may come with a credential that has ended meanwhile. */
const SLOW_MS = 100;

type Dependencies = { isStillIn(caller: Caller): Promise<boolean> };

/**
 * The caller is known before the body is read. A body that comes slowly, or waits for its turn, must not carry out anything
 * with a credential that was taken away since.
 */
export const createSlowBodies =
  ({ isStillIn }: Dependencies): RoutePlugin =>
  ({ public: isPublic }) => {
    if (isPublic) return undefined;
    return {
      onSlowBody: {
        afterMs: SLOW_MS,
        async check(caller) {
          if (!(await isStillIn(caller))) throw createRefusal();
        },
      },
    };
  };

const createRefusal = () =>
  new Problem(
    "unauthorized",
    "The session or API key ended while the request was sent. Log in again, or use another key.",
  );
