import type { Caller } from "../../http/authenticate.ts";
import { BoundedMap } from "./bounded-map.ts";
import { IDENTITIES_CACHED_MAX, IDENTITY_CACHE_MS } from "./limits.ts";

type User = Caller["user"];
type Entry = { user: Promise<User | undefined>; until: number };

/**
 * Remembers for a moment whose session it is, so that a burst of requests asks the database once.
 * What this instance ends is forgotten at once; a look-up that was under way then is not remembered either.
 */
export function createIdentities(load: (sessionId: string) => Promise<User | undefined>) {
  const entries = new BoundedMap<string, Entry>(IDENTITIES_CACHED_MAX);

  return {
    find(sessionId: string): Promise<User | undefined> {
      const known = entries.get(sessionId);
      if (known && known.until > performance.now()) return known.user;
      const entry: Entry = { user: load(sessionId), until: performance.now() + IDENTITY_CACHE_MS };
      entries.set(sessionId, entry);
      entry.user.catch(() => {
        if (entries.get(sessionId) === entry) entries.delete(sessionId);
      });
      return entry.user;
    },

    forget(sessionIds: readonly string[]): void {
      for (const id of sessionIds) entries.delete(id);
    },
  };
}
