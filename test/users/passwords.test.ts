import { expect, test } from "bun:test";
import type { Requester } from "../../src/limits/hash-queue.ts";
import { createPasswords } from "../../src/modules/users/passwords.ts";

const cheap = { memoryKib: 64, passes: 1 };
const anybody: Requester = { ipAddress: null, account: "anybody", knownBy: "nothing" };

test("hashes with argon2id at the stated cost, salted", async () => {
  const passwords = createPasswords();
  const [first, second] = await Promise.all([
    passwords.hash("one password", anybody),
    passwords.hash("one password", anybody),
  ]);
  expect(first).toStartWith("$argon2id$v=19$m=19456,t=2,p=1$");
  expect(second).not.toBe(first);
  expect(await passwords.matches("one password", first, anybody)).toBe(true);
  expect(await passwords.matches("one passwore", first, anybody)).toBe(false);
});

test("nobody's hash is matched by nothing, and costs a whole hash", async () => {
  const passwords = createPasswords({ memoryKib: 8_192, passes: 3 });
  const real = await passwords.hash("another password", anybody);
  const measure = async (hash: string | null) => {
    const times: number[] = [];
    for (let round = 0; round < 5; round++) {
      const start = performance.now();
      expect(await passwords.matches("any password", hash, anybody)).toBe(false);
      times.push(performance.now() - start);
    }
    return Math.min(...times);
  };
  // A hash that is refused for its form would take next to no time.
  expect(await measure(null)).toBeGreaterThan((await measure(real)) / 10);
});

test("a hash that fails gives its place back", async () => {
  const passwords = createPasswords({ ...cheap, parallelMax: 1 });
  for (let count = 0; count < 5; count++)
    expect(
      await passwords.matches("password", "not a hash", anybody).then(
        () => "fine",
        () => "failed",
      ),
    ).toBe("failed");
  expect(await passwords.matches("password", await passwords.hash("password", anybody), anybody)).toBe(true);
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
  await Promise.all(Array.from({ length: 6 }, () => passwords.hash("password", anybody)));
  const all = performance.now() - start;
  clearInterval(timer);
  expect(longest).toBeLessThan(all / 2);
});
