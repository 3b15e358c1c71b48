import { expect, test } from "bun:test";
import { BoundedCache } from "../../src/cache/bounded-cache.ts";

const listKeys = (cache: BoundedCache<number>) => ["a", "b", "c", "d"].filter((key) => cache.get(key) !== undefined);

test("a full cache evicts the least recently used entry", () => {
  const cache = new BoundedCache<number>({ maxSize: 3 });
  for (const key of ["a", "b", "c"]) cache.set(key, 1);
  cache.get("a");
  cache.set("d", 1);
  expect(listKeys(cache)).toEqual(["a", "c", "d"]);
});

test("an entry expires even if it is used", () => {
  let nowMs = 1_000;
  const cache = new BoundedCache<number>({ maxSize: 3, ttlMs: 100, now: () => nowMs });
  cache.set("a", 1);
  nowMs += 60;
  expect(cache.get("a")).toBe(1);
  nowMs += 60;
  expect(cache.get("a")).toBeUndefined();
});

test("each insert removes some expired entries", () => {
  let nowMs = 1_000;
  const cache = new BoundedCache<number>({ maxSize: 10_000, ttlMs: 100, now: () => nowMs });
  for (let n = 0; n < 1_500; n += 1) cache.set(`old ${n}`, n);
  nowMs += 101;
  cache.set("a", 1);
  expect(cache.size).toBe(501);
  cache.set("b", 1);
  expect(cache.size).toBe(2);
});

test("a cache with entry sizes is limited in bytes", () => {
  const cache = new BoundedCache<string>({ maxSize: 10, getSizeBytes: (text) => text.length });
  cache.set("a", "12345");
  cache.set("b", "12345");
  cache.set("c", "123");
  expect([cache.get("a"), cache.get("b"), cache.get("c")]).toEqual([undefined, "12345", "123"]);
  cache.set("d", "x".repeat(11));
  expect(cache.get("d")).toBeUndefined();
  expect(cache.get("c")).toBe("123");
});

test("deleting a replaced value doesn't delete the new one", () => {
  const cache = new BoundedCache<number>({ maxSize: 3 });
  cache.set("a", 2);
  cache.deleteValue("a", 1);
  expect(cache.get("a")).toBe(2);
  cache.deleteValue("a", 2);
  expect(cache.get("a")).toBeUndefined();
});

test("a large capacity allocates no memory in advance", () => {
  const rssBytesBefore = process.memoryUsage().rss;
  const caches = Array.from({ length: 20 }, () => new BoundedCache<number>({ maxSize: 100_000, ttlMs: 1_000 }));
  expect(process.memoryUsage().rss - rssBytesBefore).toBeLessThan(30 * 1024 * 1024);
  expect(caches[0]?.size).toBe(0);
});
