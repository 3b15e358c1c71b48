import { expect, test } from "bun:test";
import { TaggedCache } from "../../src/cache/tagged-cache.ts";

function createCache(options: { bytesMax?: number; isReceivingChanges?: () => boolean } = {}) {
  let nowMs = 1_000;
  const cache = new TaggedCache<string>({
    bytesMax: options.bytesMax ?? 100_000,
    entryBytesMax: 50,
    ttlMs: 100,
    getSizeBytes: (text) => text.length,
    isReceivingChanges: options.isReceivingChanges ?? (() => true),
    now: () => nowMs,
  });
  return {
    cache,
    advance: (ms: number) => {
      nowMs += ms;
    },
    /** Returns whether a value was already cached. Caches the value if it wasn't. */
    wasCached: async (key: string, tags: string[] = [key]) =>
      (await cache.find({ key, tags, load: async () => ({ value: key }) })).isHit,
  };
}

/** Creates a lookup that resolves when `finish` is called. */
function createSlowLookup(value: string, tags?: string[]) {
  const gate = Promise.withResolvers<void>();
  const load = async () => {
    await gate.promise;
    return { value, ...(tags && { tags }) };
  };
  return { load, finish: gate.resolve };
}

test("a value is cached until it expires or one of its tags is invalidated", async () => {
  const { cache, wasCached, advance } = createCache();
  expect(await wasCached("a", ["1", "2"])).toBe(false);
  expect(await wasCached("b", ["2", "3"])).toBe(false);
  expect([await wasCached("a"), await wasCached("b")]).toEqual([true, true]);
  cache.invalidate("1");
  expect([await wasCached("a", ["1", "2"]), await wasCached("b")]).toEqual([false, true]);
  cache.invalidate("2");
  expect([await wasCached("a", ["1", "2"]), await wasCached("b", ["2", "3"])]).toEqual([false, false]);
  advance(101);
  expect(await wasCached("a")).toBe(false);
});

test("a value that is invalidated during its lookup is returned to waiting callers, but not cached", async () => {
  const { cache } = createCache();
  const oldLookup = createSlowLookup("old");
  const earlyLookup = cache.find({ key: "a", tags: ["1"], load: oldLookup.load });
  const concurrentLookup = cache.find({ key: "a", tags: ["1"], load: oldLookup.load });
  cache.invalidate("1");
  const lateLookup = cache.find({ key: "a", tags: ["1"], load: async () => ({ value: "new" }) });
  expect((await lateLookup).value).toBe("new");
  oldLookup.finish();
  expect([(await earlyLookup).value, (await concurrentLookup).value]).toEqual(["old", "old"]);
  const lastResult = await cache.find({ key: "a", tags: ["1"], load: async () => ({ value: "newer" }) });
  expect(lastResult).toEqual({ isHit: true, value: "new" });
});

test("a value isn't cached if a tag that its lookup adds was invalidated during the lookup", async () => {
  const { cache } = createCache();
  const findList = (lookup: ReturnType<typeof createSlowLookup>) =>
    cache.find({ key: "list", tags: ["user"], canAddTags: true, load: lookup.load });
  const oldLookup = createSlowLookup("old", ["conversation"]);
  const earlyLookup = findList(oldLookup);
  cache.invalidate("conversation");
  const newLookup = createSlowLookup("new", ["conversation"]);
  const lateLookup = findList(newLookup);
  newLookup.finish();
  expect((await lateLookup).value).toBe("new");
  oldLookup.finish();
  expect((await earlyLookup).value).toBe("old");
  expect(await findList(createSlowLookup("none"))).toEqual({ isHit: true, value: "new" });
  cache.invalidate("conversation");
  const lastLookup = createSlowLookup("last", ["conversation"]);
  lastLookup.finish();
  expect(await findList(lastLookup)).toEqual({ isHit: false, value: "last" });
});

test("a value isn't cached if too many tags are invalidated during its lookup", async () => {
  const { cache, wasCached } = createCache();
  const slowLookup = createSlowLookup("list", ["kept"]);
  const findPromise = cache.find({ key: "list", tags: ["user"], canAddTags: true, load: slowLookup.load });
  for (let n = 0; n < 2_000; n += 1) cache.invalidate(`other ${n}`);
  slowLookup.finish();
  await findPromise;
  expect(await wasCached("list")).toBe(false);
});

test("while change notifications are unavailable, nothing is cached or read from the cache", async () => {
  let isReceivingChanges = true;
  const { wasCached } = createCache({ isReceivingChanges: () => isReceivingChanges });
  await wasCached("a");
  isReceivingChanges = false;
  expect([await wasCached("a"), await wasCached("b")]).toEqual([false, false]);
  isReceivingChanges = true;
  expect([await wasCached("a"), await wasCached("b")]).toEqual([true, false]);
});

test("failed lookups, uncacheable results and large values aren't cached", async () => {
  const { cache, wasCached } = createCache();
  const failedFind = cache.find({ key: "a", tags: [], load: () => Promise.reject(new Error("unavailable")) });
  expect(failedFind).rejects.toThrow("unavailable");
  await Bun.sleep(0);
  await cache.find({ key: "b", tags: [], load: async () => ({ value: "b", isUncacheable: true }) });
  await cache.find({ key: "c", tags: [], load: async () => ({ value: "c".repeat(51) }) });
  expect([await wasCached("a"), await wasCached("b"), await wasCached("c")]).toEqual([false, false, false]);
});

test("invalidateAll clears the cache, and the results of pending lookups aren't cached", async () => {
  const { cache, wasCached } = createCache();
  await wasCached("a");
  const slowLookup = createSlowLookup("b");
  const findPromise = cache.find({ key: "b", tags: [], load: slowLookup.load });
  cache.invalidateAll();
  slowLookup.finish();
  await findPromise;
  expect([await wasCached("a"), await wasCached("b")]).toEqual([false, false]);
});

test("the total size stays within the limit, including tags", async () => {
  const { cache, wasCached } = createCache({ bytesMax: 10_000 });
  const tags = Array.from({ length: 20 }, (_, n) => `tag ${n}`);
  for (let n = 0; n < 100; n += 1) await wasCached(`key ${n}`, tags);
  expect(cache.size.bytes).toBeLessThanOrEqual(10_000);
  expect(cache.size.entries).toBeLessThan(5);
  expect([await wasCached("key 99"), await wasCached("key 0")]).toEqual([true, false]);
});
