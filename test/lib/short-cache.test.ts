import { expect, test } from "bun:test";
import { BoundedMap } from "../../src/lib/bounded-map.ts";
import { createShortCache } from "../../src/lib/short-cache.ts";

const kept = { keptMs: 1_000, entriesMax: 10 };
const user = { id: "u" };
type User = typeof user | undefined;

test("a burst for one key asks once, and again after a second", async () => {
  let asked = 0;
  const identities = createShortCache(async () => {
    asked++;
    return user;
  }, kept);
  await Promise.all(Array.from({ length: 50 }, () => identities.find("s")));
  await identities.find("s");
  expect(asked).toBe(1);
  await Bun.sleep(1_010);
  await identities.find("s");
  expect(asked).toBe(2);
});

test("what was forgotten while it was looked up is looked up again", async () => {
  const answers: ((user: User) => void)[] = [];
  const identities = createShortCache<User>(() => new Promise((resolve) => answers.push(resolve)), kept);
  const before = identities.find("s");
  identities.forget(["s"]);
  const after = identities.find("s");
  answers[0]?.(user);
  answers[1]?.(undefined);
  expect(await before).toEqual(user);
  expect(await after).toBeUndefined();
  expect(await identities.find("s")).toBeUndefined();
});

test("a failed look-up is not remembered", async () => {
  let isAway = true;
  const identities = createShortCache(async () => {
    if (isAway) throw new Error("away");
    return user;
  }, kept);
  expect(identities.find("s")).rejects.toThrow("away");
  await Bun.sleep(0);
  isAway = false;
  expect(await identities.find("s")).toEqual(user);
});

test("a full map forgets what was set longest ago", () => {
  const map = new BoundedMap<string, number>(3);
  for (const key of ["a", "b", "c", "a", "d"]) map.set(key, 1);
  expect([...map.keys()]).toEqual(["c", "a", "d"]);
});
