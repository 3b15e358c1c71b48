import { expect, test } from "bun:test";
import { Problem } from "../../src/lib/problem.ts";
import { createPasswords, HASHES_WAITING_MAX } from "../../src/modules/users/passwords.ts";

const cheap = { memoryKib: 64, passes: 1 };

test("hashes with argon2id at the stated cost, salted", async () => {
  const passwords = createPasswords();
  const [first, second] = await Promise.all([passwords.hash("one password"), passwords.hash("one password")]);
  expect(first).toStartWith("$argon2id$v=19$m=19456,t=2,p=1$");
  expect(second).not.toBe(first);
  expect(await passwords.matches("one password", first)).toBe(true);
  expect(await passwords.matches("one passwore", first)).toBe(false);
});

test("nobody's hash is matched by nothing, and costs a whole hash", async () => {
  const passwords = createPasswords({ memoryKib: 8_192, passes: 3 });
  const real = await passwords.hash("another password");
  const measure = async (hash: string | null) => {
    const times: number[] = [];
    for (let round = 0; round < 5; round++) {
      const start = performance.now();
      expect(await passwords.matches("any password", hash)).toBe(false);
      times.push(performance.now() - start);
    }
    return Math.min(...times);
  };
  // A hash that is refused for its form would take next to no time.
  expect(await measure(null)).toBeGreaterThan((await measure(real)) / 10);
});

test("works on a few at a time, lets a bounded number wait, and refuses the rest at once", async () => {
  const passwords = createPasswords({ ...cheap, parallelMax: 1 });
  const all = Array.from({ length: HASHES_WAITING_MAX + 11 }, () => passwords.hash("password"));
  const results = await Promise.allSettled(all);
  const refused = results.filter((result) => result.status === "rejected");
  expect(refused).toHaveLength(10);
  for (const { reason } of refused) {
    expect(reason).toBeInstanceOf(Problem);
    expect(reason).toMatchObject({ code: "unavailable", retryAfterMs: expect.any(Number) });
  }
  expect(await passwords.hash("password")).toStartWith("$argon2id$");
});

test("a hash that fails gives its place back", async () => {
  const passwords = createPasswords({ ...cheap, parallelMax: 1, waitingMax: 1 });
  for (let count = 0; count < 5; count++)
    expect(
      await passwords.matches("password", "not a hash").then(
        () => "fine",
        () => "failed",
      ),
    ).toBe("failed");
  expect(await passwords.matches("password", await passwords.hash("password"))).toBe(true);
});

test("the event loop goes on while passwords are hashed", async () => {
  const passwords = createPasswords();
  let longest = 0;
  let last = performance.now();
  const timer = setInterval(() => {
    longest = Math.max(longest, performance.now() - last);
    last = performance.now();
  }, 1);
  const start = performance.now();
  await Promise.all(Array.from({ length: 6 }, () => passwords.hash("password")));
  const all = performance.now() - start;
  clearInterval(timer);
  expect(longest).toBeLessThan(all / 2);
});
