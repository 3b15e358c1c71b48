import { expect, test } from "bun:test";
import type { Caller } from "../../src/http/authenticate.ts";
import { BoundedMap } from "../../src/modules/auth/bounded-map.ts";
import { createIdentities } from "../../src/modules/auth/identities.ts";

const user: Caller["user"] = {
  id: "u",
  email: "u@example.com",
  display_name: "U",
  role: "user",
  created_at: new Date(0),
};

test("a burst for one session asks once, and again after a second", async () => {
  let asked = 0;
  const identities = createIdentities(async () => {
    asked++;
    return user;
  });
  await Promise.all(Array.from({ length: 50 }, () => identities.find("s")));
  await identities.find("s");
  expect(asked).toBe(1);
  await Bun.sleep(1_010);
  await identities.find("s");
  expect(asked).toBe(2);
});

test("what was forgotten while it was looked up is looked up again", async () => {
  const answers: ((user: Caller["user"] | undefined) => void)[] = [];
  const identities = createIdentities(() => new Promise((resolve) => answers.push(resolve)));
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
  const identities = createIdentities(async () => {
    if (isAway) throw new Error("away");
    return user;
  });
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
