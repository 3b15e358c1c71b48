import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { createHmac } from "node:crypto";
import type { ProblemBody } from "../../src/http/problem-response.ts";
import { Problem } from "../../src/lib/problem.ts";
import type { CreatedHook } from "../../src/modules/hooks/model.ts";
import { checkSignature } from "../../src/modules/hooks/signature.ts";
import { startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { createRest, type Rest } from "../support/rest.ts";
import { createHook, post } from "./start-hooks.ts";

const nowS = () => Math.floor(Date.now() / 1000);

function sign(secret: string, id: string, timestamp: number, body: string): Record<string, string> {
  const key = Buffer.from(secret.slice("whsec_".length), "base64");
  const signature = createHmac("sha256", key).update(`${id}.${timestamp}.${body}`).digest("base64");
  return { "webhook-id": id, "webhook-timestamp": String(timestamp), "webhook-signature": `v1,${signature}` };
}

describe("a signature", () => {
  // The test vector of the reference libraries of Standard Webhooks.
  const key = Buffer.from("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "base64");
  const body = Buffer.from('{"test": 2432232314}');
  const atS = 1614265330;
  const check = (signature: string, offS = 0, timestamp = String(atS)) => {
    const headers = new Headers({
      "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
      "webhook-timestamp": timestamp,
      "webhook-signature": signature,
    });
    try {
      checkSignature(key, headers, body, (atS + offS) * 1000);
      return true;
    } catch (error) {
      if (error instanceof Problem && error.code === "unauthorized") return false;
      throw error;
    }
  };
  const valid = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

  test("is valid per Standard Webhooks, alone or among others", () => {
    expect(check(valid)).toBe(true);
    expect(check(`v1,AAAA v1a,x ${valid}`)).toBe(true);
  });

  test("is refused for other bytes, another version or an invalid format", () => {
    for (const invalid of [
      "",
      valid.slice(3),
      valid.replace("v1,", "v2,"),
      valid.replace("g0h", "h0g"),
      `${valid}x`,
      "v1,",
    ])
      expect(check(invalid)).toBe(false);
  });

  test("is valid for five minutes in both directions", () => {
    expect([-301, -299, 299, 301].map((offS) => check(valid, offS))).toEqual([false, true, true, false]);
    for (const timestamp of ["", "x", "-1", `${atS}.5`, "9".repeat(30)]) expect(check(valid, 0, timestamp)).toBe(false);
  });
});

describe("a signed hook", () => {
  let parley: TestApp;
  let anna: Rest;
  let id: string;
  let hook: CreatedHook;
  beforeAll(async () => {
    parley = await startApp();
    anna = createRest(parley, await parley.register(undefined, "Anna"));
  });
  afterAll(() => parley.stop());
  beforeEach(async () => {
    id = (await createConversation(parley, anna.account)).id;
    hook = await createHook(anna, id, { signed: true });
  });
  const count = async () => (await anna.get<{ data: object[] }>(`/conversations/${id}/messages`)).body.data.length;
  const json = { "content-type": "application/json" };

  test("accepts a post signed over its exact bytes, once per webhook-id", async () => {
    const body = '{ "content":  "signed" }';
    const headers = sign(String(hook.secret), "msg_1", nowS(), body);
    const first = await post(parley, hook, body, { ...json, ...headers });
    expect(first.status).toBe(201);
    // A retry has a new signature.
    const retry = sign(String(hook.secret), "msg_1", nowS() - 2, body);
    const again = await post(parley, hook, body, { ...json, ...retry });
    expect([again.status, again.headers.get("idempotent-replayed"), again.body]).toEqual([201, "true", first.body]);
    expect(await count()).toBe(1);
  });

  test("refuses posts that are unsigned, signed with another secret, or old", async () => {
    const body = '{"content":"x"}';
    const other = await createHook(anna, id, { signed: true });
    const secret = String(hook.secret);
    for (const headers of [
      {},
      sign(String(other.secret), "msg_2", nowS(), body),
      sign(secret, "msg_2", nowS() - 400, body),
      sign(secret, "msg_2", nowS(), '{"content":"y"}'),
      { ...sign(secret, "msg_2", nowS(), body), "webhook-id": "msg_3" },
    ]) {
      const answer = await post<ProblemBody>(parley, hook, body, { ...json, ...headers });
      expect([answer.status, answer.body.code]).toEqual([401, "unauthorized"]);
    }
    expect(await count()).toBe(0);
  });

  test("refuses everything if its secret was encrypted with another JWT_SECRET", async () => {
    const secret = String(hook.secret);
    const [row] = await parley.database<{ secret: Buffer }[]>`select secret from hooks where id = ${hook.id}`;
    const broken = Buffer.from(row?.secret ?? "");
    broken[20] = (broken[20] ?? 0) ^ 1;
    await parley.database`update hooks set secret = ${broken} where id = ${hook.id}`;
    const body = '{"content":"x"}';
    const answer = await post<ProblemBody>(parley, hook, body, { ...json, ...sign(secret, "msg_4", nowS(), body) });
    expect(answer.body).toMatchObject({
      code: "unauthorized",
      detail: expect.stringContaining("Create the hook again"),
    });
  });
});
