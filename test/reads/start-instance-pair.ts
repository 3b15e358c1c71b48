import { expect } from "bun:test";
import { createMemoryBus } from "../../src/realtime/bus-memory.ts";
import { type Account, startApp } from "../support/app.ts";
import { silentLog } from "../support/log.ts";
import { createTestDatabase } from "../support/postgres.ts";
import { createRestClient } from "../support/rest.ts";

export type InstancePair = Awaited<ReturnType<typeof startInstancePair>>;

/** Starts two instances with the same database and bus. One has a read cache, and the other has none and is the reference. */
export async function startInstancePair() {
  const database = await createTestDatabase();
  const bus = createMemoryBus({ log: silentLog });
  const cachedInstance = await startApp({ database, bus, isAlone: true });
  const uncachedInstance = await startApp({ database, bus, config: { READ_CACHE: "off" } });

  async function countHits(cache: string): Promise<number> {
    const { values } = await cachedInstance.metrics.cacheRequests.get();
    return values.find(({ labels }) => labels.cache === cache && labels.result === "hit")?.value ?? 0;
  }

  return {
    cachedInstance,

    /** Expects the same responses from both instances, and returns their statuses. */
    async expectSame(token: string, paths: readonly string[], headers: Record<string, string> = {}) {
      return Promise.all(
        paths.map(async (path) => {
          const [cachedResponse, uncachedResponse] = await Promise.all(
            [cachedInstance, uncachedInstance].map(async (parley) => {
              const response = await parley.fetch(`/api/v1${path}`, { token, headers });
              const link = response.headers.get("link");
              return {
                path,
                status: response.status,
                etag: response.headers.get("etag"),
                link,
                text: await response.text(),
              };
            }),
          );
          // Errors differ in their request IDs.
          if (uncachedResponse?.status !== 200) expect(cachedResponse?.status).toBe(uncachedResponse?.status as number);
          else expect(cachedResponse).toEqual(uncachedResponse);
          return uncachedResponse?.status;
        }),
      );
    },

    /** Reads until a response comes from the cache. On a busy machine, an entry may expire before the second read. */
    async readUntilHit(account: Account, cache: string, path: string): Promise<void> {
      const { get } = createRestClient(cachedInstance, account);
      for (let hits = await countHits(cache); (await countHits(cache)) === hits; ) await get(path);
    },

    async stop(): Promise<void> {
      await uncachedInstance.stop();
      await cachedInstance.stop();
      await database.database.end({ timeout: 1 });
    },
  };
}
