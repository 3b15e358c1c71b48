import { expect } from "bun:test";
import { createMemoryBus } from "../../src/realtime/bus-memory.ts";
import { type Account, startApp } from "../support/app.ts";
import { silentLog } from "../support/log.ts";
import { createTestDatabase } from "../support/postgres.ts";
import { createRest } from "../support/rest.ts";

export type InstancePair = Awaited<ReturnType<typeof startInstancePair>>;

/** A caching instance, and one without a cache on the same database and bus, whose responses are the reference. */
export async function startInstancePair() {
  const database = await createTestDatabase();
  const bus = createMemoryBus({ log: silentLog });
  const cached = await startApp({ database, bus, isAlone: true });
  const plain = await startApp({ database, bus, config: { READ_CACHE: "off" } });

  async function countHits(cache: string): Promise<number> {
    const { values } = await cached.metrics.cacheRequests.get();
    return values.find(({ labels }) => labels.cache === cache && labels.result === "hit")?.value ?? 0;
  }

  return {
    cached,

    /** The common response of both. @param token of a session or a key. */
    async expectSame(token: string, paths: readonly string[], headers: Record<string, string> = {}) {
      return Promise.all(
        paths.map(async (path) => {
          const [seen, right] = await Promise.all(
            [cached, plain].map(async (parley) => {
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
          // An error contains its request ID.
          if (right?.status !== 200) expect(seen?.status).toBe(right?.status as number);
          else expect(seen).toEqual(right);
          return right?.status;
        }),
      );
    },

    /** Reads until the response comes from the cache: an entry lives a second, and a busy machine may need longer. */
    async readUntilHit(account: Account, cache: string, path: string): Promise<void> {
      const { get } = createRest(cached, account);
      for (let hits = await countHits(cache); (await countHits(cache)) === hits; ) await get(path);
    },

    async stop(): Promise<void> {
      await plain.stop();
      await cached.stop();
      await database.database.end({ timeout: 1 });
    },
  };
}
