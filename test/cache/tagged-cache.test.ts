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
    pass: (ms: number) => {
      nowMs += ms;
    },
    /** Whether a value is cached; if not, it is cached from now on. */
    isKnown: async (key: string, tags: string[] = [key]) =>
      (await cache.find({ key, tags, load: async () => ({ value: key }) })).isHit,
  };
}

/** A lookup that resolves on command. */
function createSlow(value: string, tags?: string[]) {
  const gate = Promise.withResolvers<void>();
  const load = async () => {
    await gate.promise;
    return { value, ...(tags && { tags }) };
  };
  return { load, finish: gate.resolve };
}

test("a value is cached until one of its tags is invalidated, or it expires", async () => {
  const { cache, isKnown, pass } = createCache();
  expect(await isKnown("a", ["1", "2"])).toBe(false);
  expect(await isKnown("b", ["2", "3"])).toBe(false);
  expect([await isKnown("a"), await isKnown("b")]).toEqual([true, true]);
  cache.forget("1");
  expect([await isKnown("a", ["1", "2"]), await isKnown("b")]).toEqual([false, true]);
  cache.forget("2");
  expect([await isKnown("a", ["1", "2"]), await isKnown("b", ["2", "3"])]).toEqual([false, false]);
  pass(101);
  expect(await isKnown("a")).toBe(false);
});

test("a value invalidated during its lookup is returned to the waiting callers, but not cached", async () => {
  const { cache } = createCache();
  const old = createSlow("old");
  const before = cache.find({ key: "a", tags: ["1"], load: old.load });
  const concurrent = cache.find({ key: "a", tags: ["1"], load: old.load });
  cache.forget("1");
  const after = cache.find({ key: "a", tags: ["1"], load: async () => ({ value: "new" }) });
  expect((await after).value).toBe("new");
  old.finish();
  expect([(await before).value, (await concurrent).value]).toEqual(["old", "old"]);
  const last = await cache.find({ key: "a", tags: ["1"], load: async () => ({ value: "newer" }) });
  expect(last).toEqual({ isHit: true, value: "new" });
});

test("a tag known only from the value is invalidated from the start of its lookup", async () => {
  const { cache } = createCache();
  const find = (slow: ReturnType<typeof createSlow>) =>
    cache.find({ key: "list", tags: ["user"], mayAddTags: true, load: slow.load });
  const old = createSlow("old", ["conversation"]);
  const before = find(old);
  cache.forget("conversation");
  const fresh = createSlow("new", ["conversation"]);
  const after = find(fresh);
  fresh.finish();
  expect((await after).value).toBe("new");
  old.finish();
  expect((await before).value).toBe("old");
  expect(await find(createSlow("none"))).toEqual({ isHit: true, value: "new" });
  cache.forget("conversation");
  const last = createSlow("last", ["conversation"]);
  last.finish();
  expect(await find(last)).toEqual({ isHit: false, value: "last" });
});

test("a lookup during which too much changes isn't cached", async () => {
  const { cache, isKnown } = createCache();
  const slow = createSlow("list", ["kept"]);
  const finding = cache.find({ key: "list", tags: ["user"], mayAddTags: true, load: slow.load });
  for (let n = 0; n < 2_000; n += 1) cache.forget(`other ${n}`);
  slow.finish();
  await finding;
  expect(await isKnown("list")).toBe(false);
});

test("while change notifications are unavailable, nothing is cached or read from the cache", async () => {
  let receivesChanges = true;
  const { isKnown } = createCache({ receivesChanges: () => receivesChanges });
  await isKnown("a");
  receivesChanges = false;
  expect([await isKnown("a"), await isKnown("b")]).toEqual([false, false]);
  receivesChanges = true;
  expect([await isKnown("a"), await isKnown("b")]).toEqual([true, false]);
});

test("failed lookups, uncacheable results and large values aren't cached", async () => {
  const { cache, isKnown } = createCache();
  const failing = cache.find({ key: "a", tags: [], load: () => Promise.reject(new Error("away")) });
  expect(failing).rejects.toThrow("away");
  await Bun.sleep(0);
  await cache.find({ key: "b", tags: [], load: async () => ({ value: "b", isUncacheable: true }) });
  await cache.find({ key: "c", tags: [], load: async () => ({ value: "c".repeat(51) }) });
  expect([await isKnown("a"), await isKnown("b"), await isKnown("c")]).toEqual([false, false, false]);
});

test("after forgetAll, nothing is cached, including pending lookups", async () => {
  const { cache, isKnown } = createCache();
  await isKnown("a");
  const slow = createSlow("b");
  const finding = cache.find({ key: "b", tags: [], load: slow.load });
  cache.forgetAll();
  slow.finish();
  await finding;
  expect([await isKnown("a"), await isKnown("b")]).toEqual([false, false]);
});

test("the total size stays within the limit, including tags", async () => {
  const { cache, isKnown } = createCache({ bytesMax: 10_000 });
  const tags = Array.from({ length: 20 }, (_, n) => `tag ${n}`);
  for (let n = 0; n < 100; n += 1) await isKnown(`key ${n}`, tags);
  expect(cache.size.bytes).toBeLessThanOrEqual(10_000);
  expect(cache.size.entries).toBeLessThan(5);
  expect([await isKnown("key 99"), await isKnown("key 0")]).toEqual([true, false]);
});
