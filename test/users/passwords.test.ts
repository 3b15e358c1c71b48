import { expect, test } from "bun:test";
import type { Requester } from "../../src/limits/hash-queue.ts";
import { createPasswords } from "../../src/modules/users/passwords.ts";

const cheapHashes = { memoryKib: 64, iterations: 1 };
const unknownUser: Requester = { ipAddress: null, account: "unknownUser", knownBy: "nothing" };

test("passwords are hashed by argon2id at the documented cost, with a salt", async () => {
  const passwords = createPasswords();
  const [first, second] = await Promise.all([
    passwords.hash("one password", unknownUser),
    passwords.hash("one password", unknownUser),
  ]);
  expect(first).toStartWith("$argon2id$v=19$m=19456,t=2,p=1$");
  expect(second).not.toBe(first);
  expect(await passwords.matches("one password", first, unknownUser)).toBe(true);
  expect(await passwords.matches("one passwore", first, unknownUser)).toBe(false);
});

test("an unknown user's login fails, but takes as long as a full hash", async () => {
  const passwords = createPasswords({ memoryKib: 8_192, iterations: 3 });
  const real = await passwords.hash("another password", unknownUser);
  const measure = async (hash: string | null) => {
    const times: number[] = [];
    for (let round = 0; round < 5; round++) {
      const start = performance.now();
      expect(await passwords.matches("any password", hash, unknownUser)).toBe(false);
      times.push(performance.now() - start);
    }
    return Math.min(...times);
  };
  // An invalid hash would be rejected immediately.
  expect(await measure(null)).toBeGreaterThan((await measure(real)) / 10);
});

test("a failing hash releases its slot", async () => {
  const passwords = createPasswords({ ...cheapHashes, parallelMax: 1 });
  for (let count = 0; count < 5; count++)
    expect(
      await passwords.matches("password", "not a hash", unknownUser).then(
        () => "succeeded",
        () => "failed",
      ),
    ).toBe("failed");
  expect(await passwords.matches("password", await passwords.hash("password", unknownUser), unknownUser)).toBe(true);
});

test("hashing does not block the event loop", async () => {
  const passwords = createPasswords();
  let longestPauseMs = 0;
  let last = performance.now();
  const timer = setInterval(() => {
    longestPauseMs = Math.max(longestPauseMs, performance.now() - last);
    last = performance.now();
  }, 1);
  const start = performance.now();
  await Promise.all(Array.from({ length: 6 }, () => passwords.hash("password", unknownUser)));
  const totalMs = performance.now() - start;
  clearInterval(timer);
  expect(longestPauseMs).toBeLessThan(totalMs / 2);
});
