import { expect, test } from "bun:test";
import type { Requester } from "../../src/limits/hash-queue.ts";
import { createPasswordHasher } from "../../src/modules/users/passwords.ts";

const cheapHashes = { memoryKib: 64, iterations: 1 };
const unknownUser: Requester = { ipAddress: null, account: "unknownUser", knownBy: "nothing" };

test("passwords are hashed with argon2id at the documented cost, with a salt", async () => {
  const passwords = createPasswordHasher();
  const [firstHash, secondHash] = await Promise.all([
    passwords.hash("one password", unknownUser),
    passwords.hash("one password", unknownUser),
  ]);
  expect(firstHash).toStartWith("$argon2id$v=19$m=19456,t=2,p=1$");
  expect(secondHash).not.toBe(firstHash);
  expect(await passwords.matches("one password", firstHash, unknownUser)).toBe(true);
  expect(await passwords.matches("one passwore", firstHash, unknownUser)).toBe(false);
});

test("an unknown user's login fails, but takes as long as a full hash", async () => {
  const passwords = createPasswordHasher({ memoryKib: 8_192, iterations: 3 });
  const realHash = await passwords.hash("another password", unknownUser);
  const measureMatching = async (hash: string | null) => {
    const durationsMs: number[] = [];
    for (let round = 0; round < 5; round++) {
      const startedAtMs = performance.now();
      expect(await passwords.matches("any password", hash, unknownUser)).toBe(false);
      durationsMs.push(performance.now() - startedAtMs);
    }
    return Math.min(...durationsMs);
  };
  // An invalid hash would be rejected immediately.
  expect(await measureMatching(null)).toBeGreaterThan((await measureMatching(realHash)) / 10);
});

test("a failed hash releases its slot", async () => {
  const passwords = createPasswordHasher({ ...cheapHashes, parallelMax: 1 });
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
  const passwords = createPasswordHasher();
  let longestPauseMs = 0;
  let lastTickMs = performance.now();
  const timer = setInterval(() => {
    longestPauseMs = Math.max(longestPauseMs, performance.now() - lastTickMs);
    lastTickMs = performance.now();
  }, 1);
  const startedAtMs = performance.now();
  await Promise.all(Array.from({ length: 6 }, () => passwords.hash("password", unknownUser)));
  const totalMs = performance.now() - startedAtMs;
  clearInterval(timer);
  expect(longestPauseMs).toBeLessThan(totalMs / 2);
});
