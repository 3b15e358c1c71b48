import { afterEach, beforeEach, describe, expect, setSystemTime, test } from "bun:test";
import { Problem } from "../../src/lib/problem.ts";
import { createLoginGuard, type LoginFailures, type LoginGuard, WAIT_S_MAX } from "../../src/limits/login-guard.ts";

const START = new Date("2026-01-31T12:00:00Z").getTime();
const HERE = "203.0.113.1";
const ELSEWHERE = "198.51.100.1";
let nowS = 0;
let guard: LoginGuard;

const wait = (seconds: number) => {
  nowS += seconds;
  setSystemTime(new Date(START + nowS * 1_000));
};
const create = (failures: Partial<LoginFailures> = {}) =>
  createLoginGuard({
    failures: { account_and_address: 5, account: 1_000, address: 1_000, ...failures },
    redis: null,
    onRejected: () => {},
  });
beforeEach(() => {
  wait(0);
  guard = create();
});
afterEach(() => void setSystemTime());

/** Attempts a login. Returns "right" or "wrong", or the seconds to wait if the attempt was refused. */
async function attempt(isRight: boolean, account = "anna", address = HERE): Promise<number | "right" | "wrong"> {
  try {
    const login = await guard.begin(account, address);
    if (isRight) await login.succeed();
    else await login.fail();
    return isRight ? "right" : "wrong";
  } catch (error) {
    if (!(error instanceof Problem) || error.code !== "rate_limited") throw error;
    return (error.retryAfterMs ?? 0) / 1_000;
  }
}
const fail = async (times: number, account?: string, address?: string) => {
  for (let n = 0; n < times; n += 1) expect(await attempt(false, account, address)).toBe("wrong");
};

describe("a client at one address", () => {
  test("must wait 1, 2, 4 … seconds after the fifth consecutive failure, up to 15 minutes", async () => {
    await fail(5);
    const waits: number[] = [];
    for (let n = 0; n < 12; n += 1) {
      const waitS = (await attempt(true)) as number;
      waits.push(waitS);
      // An early attempt is refused, right or wrong, and does not extend the wait.
      expect(await attempt(false)).toBe(waitS);
      wait(waitS);
      expect(await attempt(false)).toBe("wrong");
    }
    expect(waits.slice(0, 10)).toEqual([1, 2, 4, 8, 16, 32, 64, 128, 256, 512]);
    expect(waits.slice(10)).toEqual([WAIT_S_MAX, WAIT_S_MAX]);
  });

  test("gets one guess per wait, even if many guesses finish at the same time", async () => {
    await fail(5);
    wait(1);
    const attempts = await Promise.all(Array.from({ length: 8 }, () => guard.begin("anna", HERE)));
    const results = await Promise.allSettled(attempts.map((attempt) => attempt.fail()));
    expect(results.filter(({ status }) => status === "fulfilled")).toHaveLength(1);
  });

  test("gets all its free guesses back after a login with the right password", async () => {
    await fail(4);
    expect(await attempt(true)).toBe("right");
    await fail(5);
    wait(1);
    expect(await attempt(true)).toBe("right");
    await fail(5);
  });

  test("delays neither logins to the account from another address nor logins to another account from its own address", async () => {
    await fail(5);
    expect(await attempt(true)).toBe(1);
    expect(await attempt(true, "anna", ELSEWHERE)).toBe("right");
    expect(await attempt(true, "ben")).toBe("right");
  });

  test("has the same wait at all addresses in a /64", async () => {
    for (let n = 0; n < 5; n += 1) await fail(1, "anna", `2001:db8:1:2::${n}`);
    expect(await attempt(true, "anna", "2001:db8:1:2:ffff::1")).toBe(1);
    expect(await attempt(true, "anna", "2001:db8:1:3::1")).toBe("right");
  });

  test("can log in with the right password any number of times in parallel", async () => {
    expect(await Promise.all(Array.from({ length: 50 }, () => attempt(true)))).toEqual(Array(50).fill("right"));
  });

  test("learns nothing from concurrent guesses beyond the free ones, even if one of them is right", async () => {
    const guesses = await Promise.all(Array.from({ length: 20 }, () => guard.begin("anna", HERE)));
    const outcomes: string[] = [];
    for (const [n, guess] of guesses.entries()) {
      // The lock expires before the other guesses finish.
      if (n === 10) wait(60);
      const result = n === 12 ? guess.succeed() : guess.fail();
      outcomes.push(
        await result.then(
          () => "checked",
          () => "refused",
        ),
      );
    }
    expect(outcomes).toEqual([...Array(5).fill("checked"), ...Array(15).fill("refused")]);
    // Refused attempts are not counted.
    expect(await attempt(true)).toBe("right");
  });
});

describe("an account", () => {
  test("can't be used for a while after many failures, except from addresses where it was used recently", async () => {
    guard = create({ account: 20 });
    expect(await attempt(true, "anna", HERE)).toBe("right");
    for (let n = 0; n < 5; n += 1) await fail(4, "anna", `198.51.100.${n}`);
    expect(await attempt(true, "anna", "192.0.2.1")).toBe(1);
    expect(await attempt(true, "anna", HERE)).toBe("right");
    expect(await attempt(true, "ben", "192.0.2.1")).toBe("right");
    wait(24 * 60 * 60);
    for (let n = 0; n < 5; n += 1) await fail(4, "anna", `198.51.100.${n}`);
    expect(await attempt(true, "anna", HERE)).toBe(1);
  });
});

describe("a client", () => {
  const findKnownBy = async (account: string, address: string) => (await guard.begin(account, address)).knownBy;

  test("is known by its account, by its address, or not at all, depending on recent logins from the address", async () => {
    expect([await findKnownBy("anna", HERE), await guard.findKnown(HERE)]).toEqual(["nothing", "nothing"]);
    await fail(2);
    expect(await findKnownBy("anna", HERE)).toBe("nothing");
    expect(await attempt(true)).toBe("right");
    expect([await findKnownBy("anna", HERE), await findKnownBy("ben", HERE)]).toEqual(["account", "address"]);
    expect([await findKnownBy("anna", ELSEWHERE), await findKnownBy("ben", ELSEWHERE)]).toEqual(["nothing", "nothing"]);
    expect([await guard.findKnown(HERE), await guard.findKnown(ELSEWHERE)]).toEqual(["address", "nothing"]);
    await guard.remember("ben", ELSEWHERE);
    expect([await findKnownBy("ben", ELSEWHERE), await findKnownBy("anna", ELSEWHERE)]).toEqual(["account", "address"]);
    wait(24 * 60 * 60);
    expect([await findKnownBy("anna", HERE), await findKnownBy("ben", ELSEWHERE)]).toEqual(["nothing", "nothing"]);
  });

  test("is known from every IPv6 address in the same /64", async () => {
    expect(await attempt(true, "anna", "2001:db8:1:2::1")).toBe("right");
    expect(await findKnownBy("anna", "2001:db8:1:2::2")).toBe("account");
    expect(await findKnownBy("anna", "2001:db8:1:3::2")).toBe("nothing");
  });
});

describe("an address", () => {
  test("must wait after many failures for any accounts, until they are cleared after 15 minutes", async () => {
    guard = create({ address: 10 });
    for (let n = 0; n < 10; n += 1) await fail(1, `account ${n}`);
    expect(await attempt(true, "anna")).toBe(1);
    expect(await attempt(true, "anna", ELSEWHERE)).toBe("right");
    wait(1);
    // A successful login to one account doesn't reset the failures of others.
    expect(await attempt(true, "mine")).toBe("right");
    await fail(1, "account 11");
    expect(await attempt(true, "anna")).toBe(2);
    wait(15 * 60);
    await fail(9, "carl", "203.0.113.1").catch(() => {});
    expect(await attempt(true, "anna")).toBe("right");
  });
});
