import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import {
  createIdempotencyStore,
  IDEMPOTENCY_LEASE_MS,
  IDEMPOTENCY_RETENTION_S,
  IDEMPOTENCY_SWEEP_BATCH,
  type IdempotencyStore,
  type IdempotentRequest,
} from "../../src/http/idempotency-store.ts";
import { createId } from "../../src/lib/id.ts";
import { createTestDatabase } from "../support/postgres.ts";

type Database = Awaited<ReturnType<typeof createTestDatabase>>["database"];

let database: Database;
/** The stores of two instances. */
let firstStore: IdempotencyStore;
let secondStore: IdempotencyStore;
const user = { id: createId() };
let idempotentRequest: IdempotentRequest;

beforeAll(async () => {
  ({ database } = await createTestDatabase());
  await database`insert into users (id, email, email_key, display_name) values (${user.id}, 'a@b.c', 'a@b.c', 'A')`;
});
beforeEach(async () => {
  await database`delete from idempotency_keys`;
  const createStore = () => createIdempotencyStore({ database, jwtSecret: "a secret", instanceId: createId() });
  [firstStore, secondStore] = [createStore(), createStore()];
  idempotentRequest = createRequest();
});
afterAll(() => database.end());

const caller = { user, credentialId: createId(), scopes: null };
const createRequest = (body: unknown = {}, key = "key", path = "/x", query = ""): IdempotentRequest =>
  firstStore.createIdentity(caller, "POST", { path, query }, key, body);
const createResponse = (body: string) => ({ status: 201, headers: { location: "/x" }, body: Buffer.from(body) });
async function claimKey(store: IdempotencyStore, request = idempotentRequest) {
  const result = await store.claim(request);
  if (result.state !== "claimed") throw new Error(`The key is ${result.state}.`);
  return result.claim;
}
const expireLease = () => database`update idempotency_keys set lease_until = now() - interval '1 ms'`;
const setKeyAge = (seconds: number) =>
  database`update idempotency_keys set created_at = now() - make_interval(secs => ${seconds}::float8)`;
const countKeys = async () => (await database`select 1 from idempotency_keys`).length;

describe("a run", () => {
  test("has the same response on every instance after it has finished", async () => {
    const claim = await claimKey(firstStore);
    expect(await secondStore.claim(idempotentRequest)).toEqual({ state: "running" });
    await firstStore.storeResponse(claim, createResponse("done"));
    expect(await secondStore.claim(idempotentRequest)).toEqual({ state: "ended", response: createResponse("done") });
    expect(await secondStore.claim(createRequest({ other: 1 }))).toEqual({ state: "reused" });
  });

  test("can be claimed by any request after it is released", async () => {
    await firstStore.release(await claimKey(firstStore));
    expect(await countKeys()).toBe(0);
    expect((await secondStore.claim(createRequest({ other: 1 }))).state).toBe("claimed");
  });

  test("can be claimed after its lease has expired, but only with the same payload", async () => {
    const firstClaim = await claimKey(firstStore);
    await database`update idempotency_keys set lease_until = now() + interval '2 s'`;
    expect((await secondStore.claim(idempotentRequest)).state).toBe("running");
    await expireLease();
    expect((await secondStore.claim(createRequest({ other: 1 }))).state).toBe("reused");
    const secondClaim = await claimKey(secondStore);
    // The first instance may still be running, but its late result is ignored.
    await firstStore.storeResponse(firstClaim, createResponse("late"));
    await firstStore.release(firstClaim);
    expect((await firstStore.claim(idempotentRequest)).state).toBe("running");
    await secondStore.storeResponse(secondClaim, createResponse("done"));
    expect(await firstStore.claim(idempotentRequest)).toEqual({ state: "ended", response: createResponse("done") });
  });

  test("is protected from other claims only while its lease is renewed", async () => {
    const claim = await claimKey(firstStore);
    await expireLease();
    await secondStore.renewAttempts();
    expect((await database`select 1 from idempotency_keys where lease_until > now()`).length).toBe(0);
    await firstStore.renewAttempts();
    const [row] = await database<{ remaining_s: number }[]>`
      select extract(epoch from lease_until - now())::float8 as remaining_s from idempotency_keys`;
    expect(row?.remaining_s).toBeGreaterThan(IDEMPOTENCY_LEASE_MS / 1_000 - 5);
    firstStore.stopRenewing(claim);
    await expireLease();
    await firstStore.renewAttempts();
    expect((await secondStore.claim(idempotentRequest)).state).toBe("claimed");
  });

  test("is claimed by exactly one of many requests", async () => {
    const claims = await Promise.all(
      Array.from({ length: 16 }, (_, n) => (n % 2 ? firstStore : secondStore).claim(idempotentRequest)),
    );
    expect(claims.filter(({ state }) => state === "claimed")).toHaveLength(1);
    expect(claims.filter(({ state }) => state === "running")).toHaveLength(15);
  });
});

test("a key expires after a day, even if no sweep runs", async () => {
  await firstStore.storeResponse(await claimKey(firstStore), createResponse("done"));
  await setKeyAge(IDEMPOTENCY_RETENTION_S - 5);
  expect((await secondStore.claim(idempotentRequest)).state).toBe("ended");
  await setKeyAge(IDEMPOTENCY_RETENTION_S + 1);
  expect((await secondStore.claim(createRequest({ other: 1 }))).state).toBe("claimed");
});

test("the sweep deletes expired keys in batches, and skips locked rows", async () => {
  const expiredCount = IDEMPOTENCY_SWEEP_BATCH * 2 + 10;
  await database`
    insert into idempotency_keys (name, user_id, fingerprint, owner, fence, lease_until, created_at)
    select int4send(n), ${user.id}, '', gen_random_uuid(), 1, now(), now() - make_interval(secs => ${IDEMPOTENCY_RETENTION_S + 1})
    from generate_series(1, ${expiredCount}) n`;
  await firstStore.storeResponse(await claimKey(firstStore), createResponse("done"));
  await database.begin(async (sql) => {
    await sql`select 1 from idempotency_keys where name = int4send(1) for update`;
    const abortedSignal = AbortSignal.abort();
    expect(await secondStore.deleteExpiredKeys(abortedSignal)).toBe(0);
    expect(await secondStore.deleteExpiredKeys(new AbortController().signal)).toBe(expiredCount - 1);
  });
  expect(await countKeys()).toBe(2);
  expect(await secondStore.deleteExpiredKeys(new AbortController().signal)).toBe(1);
  expect((await secondStore.claim(idempotentRequest)).state).toBe("ended");
});

test("a request is identified by user, credential, method, path and key, and its payload by query and body", () => {
  const otherCaller = { ...caller, user: { id: createId() } };
  const apiKeyCaller = { ...caller, scopes: new Set<string>() };
  const secondApiKeyCaller = { ...apiKeyCaller, credentialId: createId() };
  const target = { path: "/x", query: "" };
  const names = [
    createRequest(),
    firstStore.createIdentity(otherCaller, "POST", target, "key", {}),
    firstStore.createIdentity(apiKeyCaller, "POST", target, "key", {}),
    firstStore.createIdentity(secondApiKeyCaller, "POST", target, "key", {}),
    firstStore.createIdentity(caller, "PUT", target, "key", {}),
    createRequest({}, "key", "/xk"),
    createRequest({}, "kkey"),
    createRequest({}, "ey", "/xk"),
    createIdempotencyStore({ database, jwtSecret: "a different secret", instanceId: createId() }).createIdentity(
      caller,
      "POST",
      target,
      "key",
      {},
    ),
  ].map(({ name }) => name.toString("hex"));
  expect(new Set(names).size).toBe(names.length);
  const newSession = firstStore.createIdentity({ ...caller, credentialId: createId() }, "POST", target, "key", {});
  expect(newSession.name.toString("hex")).toBe(names[0] ?? "");

  const payloads = [
    createRequest(),
    createRequest({ a: 1 }),
    createRequest({}, "key", "/x", "?a=1"),
    createRequest(null),
  ];
  expect(new Set(payloads.map(({ name }) => name.toString("hex"))).size).toBe(1);
  expect(new Set(payloads.map(({ fingerprint }) => fingerprint.toString("hex"))).size).toBe(payloads.length);
  expect(new Set(payloads.map(({ operationId }) => operationId)).size).toBe(payloads.length);
});
