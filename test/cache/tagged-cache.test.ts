import { expect, test } from "bun:test";
import { TaggedCache } from "../../src/cache/tagged-cache.ts";

function createCache(options: { bytesMax?: number; receivesChanges?: () => boolean } = {}) {
  let nowMs = 1_000;
  const cache = new TaggedCache<string>({
    bytesMax: options.bytesMax ?? 100_000,
    entryBytesMax: 50,
    ttlMs: 100,
    bytesOf: (text) => text.length,
    receivesChanges: options.receivesChanges ?? (() => true),
    now: () => nowMs,
  });
  return {
    cache,
    advance: (ms: number) => {
      nowMs += ms;
    },
    /** Returns whether a value was cached, and caches it. */
    isHit: async (key: string, tags: string[] = [key]) =>
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
  const { cache, isHit, advance } = createCache();
  expect(await isHit("a", ["1", "2"])).toBe(false);
  expect(await isHit("b", ["2", "3"])).toBe(false);
  expect([await isHit("a"), await isHit("b")]).toEqual([true, true]);
  cache.invalidate("1");
  expect([await isHit("a", ["1", "2"]), await isHit("b")]).toEqual([false, true]);
  cache.invalidate("2");
  expect([await isHit("a", ["1", "2"]), await isHit("b", ["2", "3"])]).toEqual([false, false]);
  advance(101);
  expect(await isHit("a")).toBe(false);
});

test("a value invalidated during its lookup is returned to waiting callers, but not cached", async () => {
  const { cache } = createCache();
  const oldLookup = createSlowLookup("old");
  const before = cache.find({ key: "a", tags: ["1"], load: oldLookup.load });
  const concurrent = cache.find({ key: "a", tags: ["1"], load: oldLookup.load });
  cache.invalidate("1");
  const after = cache.find({ key: "a", tags: ["1"], load: async () => ({ value: "new" }) });
  expect((await after).value).toBe("new");
  oldLookup.finish();
  expect([(await before).value, (await concurrent).value]).toEqual(["old", "old"]);
  const last = await cache.find({ key: "a", tags: ["1"], load: async () => ({ value: "newer" }) });
  expect(last).toEqual({ isHit: true, value: "new" });
});

test("a value isn't cached if a tag that its lookup adds was invalidated during the lookup", async () => {
  const { cache } = createCache();
  const find = (slow: ReturnType<typeof createSlowLookup>) =>
    cache.find({ key: "list", tags: ["user"], mayAddTags: true, load: slow.load });
  const oldLookup = createSlowLookup("old", ["conversation"]);
  const before = find(oldLookup);
  cache.invalidate("conversation");
  const newLookup = createSlowLookup("new", ["conversation"]);
  const after = find(newLookup);
  newLookup.finish();
  expect((await after).value).toBe("new");
  oldLookup.finish();
  expect((await before).value).toBe("old");
  expect(await find(createSlowLookup("none"))).toEqual({ isHit: true, value: "new" });
  cache.invalidate("conversation");
  const last = createSlowLookup("last", ["conversation"]);
  last.finish();
  expect(await find(last)).toEqual({ isHit: false, value: "last" });
});

test("a value isn't cached if too many tags are invalidated during its lookup", async () => {
  const { cache, isHit } = createCache();
  const slow = createSlowLookup("list", ["kept"]);
  const finding = cache.find({ key: "list", tags: ["user"], mayAddTags: true, load: slow.load });
  for (let n = 0; n < 2_000; n += 1) cache.invalidate(`other ${n}`);
  slow.finish();
  await finding;
  expect(await isHit("list")).toBe(false);
});

test("while change notifications are unavailable, nothing is cached or read from the cache", async () => {
  let receivesChanges = true;
  const { isHit } = createCache({ receivesChanges: () => receivesChanges });
  await isHit("a");
  receivesChanges = false;
  expect([await isHit("a"), await isHit("b")]).toEqual([false, false]);
  receivesChanges = true;
  expect([await isHit("a"), await isHit("b")]).toEqual([true, false]);
});

test("failed lookups, uncacheable results and large values aren't cached", async () => {
  const { cache, isHit } = createCache();
  const failing = cache.find({ key: "a", tags: [], load: () => Promise.reject(new Error("unavailable")) });
  expect(failing).rejects.toThrow("unavailable");
  await Bun.sleep(0);
  await cache.find({ key: "b", tags: [], load: async () => ({ value: "b", isUncacheable: true }) });
  await cache.find({ key: "c", tags: [], load: async () => ({ value: "c".repeat(51) }) });
  expect([await isHit("a"), await isHit("b"), await isHit("c")]).toEqual([false, false, false]);
});

test("invalidateAll clears the cache, and the results of pending lookups aren't cached", async () => {
  const { cache, isHit } = createCache();
  await isHit("a");
  const slow = createSlowLookup("b");
  const finding = cache.find({ key: "b", tags: [], load: slow.load });
  cache.invalidateAll();
  slow.finish();
  await finding;
  expect([await isHit("a"), await isHit("b")]).toEqual([false, false]);
});

test("the total size stays within the limit, including tags", async () => {
  const { cache, isHit } = createCache({ bytesMax: 10_000 });
  const tags = Array.from({ length: 20 }, (_, n) => `tag ${n}`);
  for (let n = 0; n < 100; n += 1) await isHit(`key ${n}`, tags);
  expect(cache.size.bytes).toBeLessThanOrEqual(10_000);
  expect(cache.size.entries).toBeLessThan(5);
  expect([await isHit("key 99"), await isHit("key 0")]).toEqual([true, false]);
});
