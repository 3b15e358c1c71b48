import { afterEach, beforeEach, describe, expect, setSystemTime, test } from "bun:test";
import { Problem } from "../../src/lib/problem.ts";
import { createLoginGuard, type LoginFailures, type LoginGuard, WAIT_S_MAX } from "../../src/limits/login-guard.ts";

const START = new Date("2026-01-31T12:00:00Z").getTime();
const ADDRESS = "203.0.113.1";
const OTHER_ADDRESS = "198.51.100.1";
let nowS = 0;
let guard: LoginGuard;

const advanceTime = (seconds: number) => {
  nowS += seconds;
  setSystemTime(new Date(START + nowS * 1_000));
};
const createTestGuard = (failures: Partial<LoginFailures> = {}) =>
  createLoginGuard({
    failures: { account_and_address: 5, account: 1_000, address: 1_000, ...failures },
    redis: null,
    onRejected: () => {},
  });
beforeEach(() => {
  advanceTime(0);
  guard = createTestGuard();
});
afterEach(() => void setSystemTime());

/** Attempts a login. Returns whether the password was "correct" or "incorrect", or the seconds to wait if the attempt was rejected. */
async function attemptLogin(
  isCorrect: boolean,
  account = "anna",
  address = ADDRESS,
): Promise<number | "correct" | "incorrect"> {
  try {
    const login = await guard.startAttempt(account, address);
    if (isCorrect) await login.succeed();
    else await login.fail();
    return isCorrect ? "correct" : "incorrect";
  } catch (error) {
    if (!(error instanceof Problem) || error.code !== "rate_limited") throw error;
    return (error.retryAfterMs ?? 0) / 1_000;
  }
}
const failLogins = async (times: number, account?: string, address?: string) => {
  for (let n = 0; n < times; n += 1) expect(await attemptLogin(false, account, address)).toBe("incorrect");
};

describe("a client at one address", () => {
  test("must wait 1, 2, 4 … seconds after the fifth consecutive failure, up to 15 minutes", async () => {
    await failLogins(5);
    const waits: number[] = [];
    for (let n = 0; n < 12; n += 1) {
      const waitS = (await attemptLogin(true)) as number;
      waits.push(waitS);
      // An early attempt is rejected whether its password is correct or not, and doesn't extend the wait.
      expect(await attemptLogin(false)).toBe(waitS);
      advanceTime(waitS);
      expect(await attemptLogin(false)).toBe("incorrect");
    }
    expect(waits.slice(0, 10)).toEqual([1, 2, 4, 8, 16, 32, 64, 128, 256, 512]);
    expect(waits.slice(10)).toEqual([WAIT_S_MAX, WAIT_S_MAX]);
  });

  test("gets one guess per wait, even if many guesses finish at the same time", async () => {
    await failLogins(5);
    advanceTime(1);
    const attempts = await Promise.all(Array.from({ length: 8 }, () => guard.startAttempt("anna", ADDRESS)));
    const results = await Promise.allSettled(attempts.map((attempt) => attempt.fail()));
    expect(results.filter(({ status }) => status === "fulfilled")).toHaveLength(1);
  });

  test("can make all its free guesses again after a login with the correct password", async () => {
    await failLogins(4);
    expect(await attemptLogin(true)).toBe("correct");
    await failLogins(5);
    advanceTime(1);
    expect(await attemptLogin(true)).toBe("correct");
    await failLogins(5);
  });

  test("doesn't delay logins to the same account from a different address, or logins to a different account from the same address", async () => {
    await failLogins(5);
    expect(await attemptLogin(true)).toBe(1);
    expect(await attemptLogin(true, "anna", OTHER_ADDRESS)).toBe("correct");
    expect(await attemptLogin(true, "ben")).toBe("correct");
  });

  test("has the same wait at all addresses in a /64", async () => {
    for (let n = 0; n < 5; n += 1) await failLogins(1, "anna", `2001:db8:1:2::${n}`);
    expect(await attemptLogin(true, "anna", "2001:db8:1:2:ffff::1")).toBe(1);
    expect(await attemptLogin(true, "anna", "2001:db8:1:3::1")).toBe("correct");
  });

  test("can log in with the correct password any number of times in parallel", async () => {
    expect(await Promise.all(Array.from({ length: 50 }, () => attemptLogin(true)))).toEqual(Array(50).fill("correct"));
  });

  test("learns nothing from concurrent guesses beyond the free ones, even if one of them is correct", async () => {
    const guesses = await Promise.all(Array.from({ length: 20 }, () => guard.startAttempt("anna", ADDRESS)));
    const outcomes: string[] = [];
    for (const [n, guess] of guesses.entries()) {
      // The lock expires before the other guesses finish.
      if (n === 10) advanceTime(60);
      const result = n === 12 ? guess.succeed() : guess.fail();
      outcomes.push(
        await result.then(
          () => "checked",
          () => "rejected",
        ),
      );
    }
    expect(outcomes).toEqual([...Array(5).fill("checked"), ...Array(15).fill("rejected")]);
    // Rejected attempts are not counted.
    expect(await attemptLogin(true)).toBe("correct");
  });
});

describe("an account", () => {
  test("can't be logged in to for a while after many failures, except from addresses with a recent login", async () => {
    guard = createTestGuard({ account: 20 });
    expect(await attemptLogin(true, "anna", ADDRESS)).toBe("correct");
    for (let n = 0; n < 5; n += 1) await failLogins(4, "anna", `198.51.100.${n}`);
    expect(await attemptLogin(true, "anna", "192.0.2.1")).toBe(1);
    expect(await attemptLogin(true, "anna", ADDRESS)).toBe("correct");
    expect(await attemptLogin(true, "ben", "192.0.2.1")).toBe("correct");
    advanceTime(24 * 60 * 60);
    for (let n = 0; n < 5; n += 1) await failLogins(4, "anna", `198.51.100.${n}`);
    expect(await attemptLogin(true, "anna", ADDRESS)).toBe(1);
  });
});

describe("a client", () => {
  const findKnownBy = async (account: string, address: string) => (await guard.startAttempt(account, address)).knownBy;

  test("is known by its account, by its address, or by neither, depending on recent logins from the address", async () => {
    expect([await findKnownBy("anna", ADDRESS), await guard.findKnownBy(ADDRESS)]).toEqual(["nothing", "nothing"]);
    await failLogins(2);
    expect(await findKnownBy("anna", ADDRESS)).toBe("nothing");
    expect(await attemptLogin(true)).toBe("correct");
    expect([await findKnownBy("anna", ADDRESS), await findKnownBy("ben", ADDRESS)]).toEqual(["account", "address"]);
    expect([await findKnownBy("anna", OTHER_ADDRESS), await findKnownBy("ben", OTHER_ADDRESS)]).toEqual([
      "nothing",
      "nothing",
    ]);
    expect([await guard.findKnownBy(ADDRESS), await guard.findKnownBy(OTHER_ADDRESS)]).toEqual(["address", "nothing"]);
    await guard.rememberAddress("ben", OTHER_ADDRESS);
    expect([await findKnownBy("ben", OTHER_ADDRESS), await findKnownBy("anna", OTHER_ADDRESS)]).toEqual([
      "account",
      "address",
    ]);
    advanceTime(24 * 60 * 60);
    expect([await findKnownBy("anna", ADDRESS), await findKnownBy("ben", OTHER_ADDRESS)]).toEqual([
      "nothing",
      "nothing",
    ]);
  });

  test("is known from every IPv6 address in the same /64", async () => {
    expect(await attemptLogin(true, "anna", "2001:db8:1:2::1")).toBe("correct");
    expect(await findKnownBy("anna", "2001:db8:1:2::2")).toBe("account");
    expect(await findKnownBy("anna", "2001:db8:1:3::2")).toBe("nothing");
  });
});

describe("an address", () => {
  test("must wait after many failures across all accounts, until the failures are cleared after 15 minutes", async () => {
    guard = createTestGuard({ address: 10 });
    for (let n = 0; n < 10; n += 1) await failLogins(1, `account ${n}`);
    expect(await attemptLogin(true, "anna")).toBe(1);
    expect(await attemptLogin(true, "anna", OTHER_ADDRESS)).toBe("correct");
    advanceTime(1);
    // A successful login to one account doesn't reset the failures of others.
    expect(await attemptLogin(true, "mine")).toBe("correct");
    await failLogins(1, "account 11");
    expect(await attemptLogin(true, "anna")).toBe(2);
    advanceTime(15 * 60);
    await failLogins(9, "carl", "203.0.113.1").catch(() => {});
    expect(await attemptLogin(true, "anna")).toBe("correct");
  });
});
