import { expect, test } from "bun:test";
import { createLookupCache } from "../../src/cache/lookup-cache.ts";

const options = { ttlMs: 1_000, entriesMax: 10 };
const user = { id: "u" };
type User = typeof user | undefined;

test("concurrent lookups of a key share one query, which is repeated after the entry expires", async () => {
  let queries = 0;
  const identities = createLookupCache(async () => {
    queries++;
    return user;
  }, options);
  await Promise.all(Array.from({ length: 50 }, () => identities.find("s")));
  await identities.find("s");
  expect(queries).toBe(1);
  await Bun.sleep(1_010);
  await identities.find("s");
  expect(queries).toBe(2);
});

test("a key that is invalidated during its lookup is looked up again", async () => {
  const resolvers: ((user: User) => void)[] = [];
  const identities = createLookupCache<User>(() => new Promise((resolve) => resolvers.push(resolve)), options);
  const earlyLookup = identities.find("s");
  identities.invalidate(["s"]);
  const lateLookup = identities.find("s");
  resolvers[0]?.(user);
  resolvers[1]?.(undefined);
  expect(await earlyLookup).toEqual(user);
  expect(await lateLookup).toBeUndefined();
  expect(await identities.find("s")).toBeUndefined();
});

test("a failed lookup isn't cached", async () => {
  let isFailing = true;
  const identities = createLookupCache(async () => {
    if (isFailing) throw new Error("unavailable");
    return user;
  }, options);
  expect(identities.find("s")).rejects.toThrow("unavailable");
  await Bun.sleep(0);
  isFailing = false;
  expect(await identities.find("s")).toEqual(user);
});
