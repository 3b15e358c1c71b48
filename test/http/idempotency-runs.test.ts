import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import {
  type Call,
  createIdempotencyStore,
  IDEMPOTENCY_LEASE_MS,
  IDEMPOTENCY_RETENTION_S,
  IDEMPOTENCY_SWEEP_BATCH,
  type IdempotencyStore,
} from "../../src/http/idempotency-store.ts";
import { createId } from "../../src/lib/id.ts";
import { createTestDatabase } from "../support/postgres.ts";

type Database = Awaited<ReturnType<typeof createTestDatabase>>["database"];

let database: Database;
/** Two instances. */
let one: IdempotencyStore;
let two: IdempotencyStore;
const user = { id: createId() };
let call: Call;

beforeAll(async () => {
  ({ database } = await createTestDatabase());
  await database`insert into users (id, email, email_key, display_name) values (${user.id}, 'a@b.c', 'a@b.c', 'A')`;
});
beforeEach(async () => {
  await database`delete from idempotency_keys`;
  const createStore = () => createIdempotencyStore({ database, jwtSecret: "a secret", instanceId: createId() });
  [one, two] = [createStore(), createStore()];
  call = describeCall();
});
afterAll(() => database.end());

type Store = IdempotencyStore;
const caller = { user, credentialId: createId(), scopes: null };
const describeCall = (body: unknown = {}, key = "key", path = "/x", query = ""): Call =>
  one.describe(caller, "POST", { path, query }, key, body);
const text = (body: string) => ({ status: 201, headers: { location: "/x" }, body: Buffer.from(body) });
async function claim(store: Store, at = call) {
  const found = await store.claim(at);
  if (found.state !== "claimed") throw new Error(`The key is ${found.state}.`);
  return found.claim;
}
const expireLease = () => database`update idempotency_keys set lease_until = now() - interval '1 ms'`;
const age = (seconds: number) =>
  database`update idempotency_keys set created_at = now() - make_interval(secs => ${seconds}::float8)`;
const count = async () => (await database`select 1 from idempotency_keys`).length;

describe("a run", () => {
  test("that has finished is known to all instances, with its response", async () => {
    const mine = await claim(one);
    expect(await two.claim(call)).toEqual({ state: "running" });
    await one.keep(mine, text("done"));
    expect(await two.claim(call)).toEqual({ state: "ended", answer: text("done") });
    expect(await two.claim(describeCall({ other: 1 }))).toEqual({ state: "reused" });
  });

  test("that was released can be claimed by any request", async () => {
    await one.release(await claim(one));
    expect(await count()).toBe(0);
    expect((await two.claim(describeCall({ other: 1 }))).state).toBe("claimed");
  });

  test("can be claimed after its lease if its instance died, but only with the same payload", async () => {
    const lost = await claim(one);
    await database`update idempotency_keys set lease_until = now() + interval '2 s'`;
    expect((await two.claim(call)).state).toBe("running");
    await expireLease();
    expect((await two.claim(describeCall({ other: 1 }))).state).toBe("reused");
    const taken = await claim(two);
    // The first instance was not dead after all; its late result changes nothing.
    await one.keep(lost, text("late"));
    await one.release(lost);
    expect((await one.claim(call)).state).toBe("running");
    await two.keep(taken, text("done"));
    expect(await one.claim(call)).toEqual({ state: "ended", answer: text("done") });
  });

  test("keeps its lease while it is renewed, and no longer", async () => {
    const mine = await claim(one);
    await expireLease();
    await two.renew();
    expect((await database`select 1 from idempotency_keys where lease_until > now()`).length).toBe(0);
    await one.renew();
    const [row] = await database<{ left: number }[]>`
      select extract(epoch from lease_until - now())::float8 as left from idempotency_keys`;
    expect(row?.left).toBeGreaterThan(IDEMPOTENCY_LEASE_MS / 1_000 - 5);
    one.forget(mine);
    await expireLease();
    await one.renew();
    expect((await two.claim(call)).state).toBe("claimed");
  });

  test("is claimed by exactly one of many", async () => {
    const found = await Promise.all(Array.from({ length: 16 }, (_, n) => (n % 2 ? one : two).claim(call)));
    expect(found.filter(({ state }) => state === "claimed")).toHaveLength(1);
    expect(found.filter(({ state }) => state === "running")).toHaveLength(15);
  });
});

test("a key is remembered for a day, even if no sweep runs", async () => {
  await one.keep(await claim(one), text("done"));
  await age(IDEMPOTENCY_RETENTION_S - 5);
  expect((await two.claim(call)).state).toBe("ended");
  await age(IDEMPOTENCY_RETENTION_S + 1);
  expect((await two.claim(describeCall({ other: 1 }))).state).toBe("claimed");
});

test("the sweep deletes only expired keys, in bounded statements, and skips locked rows", async () => {
  const old = IDEMPOTENCY_SWEEP_BATCH * 2 + 10;
  await database`
    insert into idempotency_keys (name, user_id, fingerprint, owner, fence, lease_until, created_at)
    select int4send(n), ${user.id}, '', gen_random_uuid(), 1, now(), now() - make_interval(secs => ${IDEMPOTENCY_RETENTION_S + 1})
    from generate_series(1, ${old}) n`;
  await one.keep(await claim(one), text("done"));
  await database.begin(async (sql) => {
    await sql`select 1 from idempotency_keys where name = int4send(1) for update`;
    const stopped = AbortSignal.abort();
    expect(await two.sweep(stopped)).toBe(0);
    expect(await two.sweep(new AbortController().signal)).toBe(old - 1);
  });
  expect(await count()).toBe(2);
  expect(await two.sweep(new AbortController().signal)).toBe(1);
  expect((await two.claim(call)).state).toBe("ended");
});

test("a request is identified by user, credential, method, path and key; its payload by query and body", () => {
  const other = { ...caller, user: { id: createId() } };
  const machine = { ...caller, scopes: new Set<string>() };
  const secondMachine = { ...machine, credentialId: createId() };
  const at = { path: "/x", query: "" };
  const names = [
    describeCall(),
    one.describe(other, "POST", at, "key", {}),
    one.describe(machine, "POST", at, "key", {}),
    one.describe(secondMachine, "POST", at, "key", {}),
    one.describe(caller, "PUT", at, "key", {}),
    describeCall({}, "key", "/xk"),
    describeCall({}, "kkey"),
    describeCall({}, "ey", "/xk"),
    createIdempotencyStore({ database, jwtSecret: "another", instanceId: createId() }).describe(
      caller,
      "POST",
      at,
      "key",
      {},
    ),
  ].map(({ name }) => name.toString("hex"));
  expect(new Set(names).size).toBe(names.length);
  const newSession = one.describe({ ...caller, credentialId: createId() }, "POST", at, "key", {});
  expect(newSession.name.toString("hex")).toBe(names[0] ?? "");

  const payloads = [describeCall(), describeCall({ a: 1 }), describeCall({}, "key", "/x", "?a=1"), describeCall(null)];
  expect(new Set(payloads.map(({ name }) => name.toString("hex"))).size).toBe(1);
  expect(new Set(payloads.map(({ fingerprint }) => fingerprint.toString("hex"))).size).toBe(payloads.length);
  expect(new Set(payloads.map(({ operationId }) => operationId)).size).toBe(payloads.length);
});
