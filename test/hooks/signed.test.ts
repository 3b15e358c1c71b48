import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { createHmac } from "node:crypto";
import type { ProblemBody } from "../../src/http/problem-response.ts";
import { Problem } from "../../src/lib/problem.ts";
import type { CreatedHook } from "../../src/modules/hooks/model.ts";
import { checkSignature } from "../../src/modules/hooks/signature.ts";
import { startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { createRestClient, type RestClient } from "../support/rest.ts";
import { createHook, postToHook } from "./start-hooks.ts";

const getNowS = () => Math.floor(Date.now() / 1000);

function createSignatureHeaders(secret: string, id: string, timestamp: number, body: string): Record<string, string> {
  const key = Buffer.from(secret.slice("whsec_".length), "base64");
  const signature = createHmac("sha256", key).update(`${id}.${timestamp}.${body}`).digest("base64");
  return { "webhook-id": id, "webhook-timestamp": String(timestamp), "webhook-signature": `v1,${signature}` };
}

describe("a signature", () => {
  // These values are the test vector of Standard Webhooks' reference libraries.
  const key = Buffer.from("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "base64");
  const body = Buffer.from('{"test": 2432232314}');
  const timestampS = 1614265330;
  const isAccepted = (signature: string, offsetS = 0, timestamp = String(timestampS)) => {
    const headers = new Headers({
      "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
      "webhook-timestamp": timestamp,
      "webhook-signature": signature,
    });
    try {
      checkSignature(key, headers, body, (timestampS + offsetS) * 1000);
      return true;
    } catch (error) {
      if (error instanceof Problem && error.code === "unauthorized") return false;
      throw error;
    }
  };
  const validSignature = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

  test("is accepted if it is valid, alone or in a list with other signatures", () => {
    expect(isAccepted(validSignature)).toBe(true);
    expect(isAccepted(`v1,AAAA v1a,x ${validSignature}`)).toBe(true);
  });

  test("is rejected if it is incorrect, has a different version, or is malformed", () => {
    for (const invalid of [
      "",
      validSignature.slice(3),
      validSignature.replace("v1,", "v2,"),
      validSignature.replace("g0h", "h0g"),
      `${validSignature}x`,
      "v1,",
    ])
      expect(isAccepted(invalid)).toBe(false);
  });

  test("is valid from five minutes before to five minutes after its timestamp", () => {
    expect([-301, -299, 299, 301].map((offsetS) => isAccepted(validSignature, offsetS))).toEqual([
      false,
      true,
      true,
      false,
    ]);
    for (const timestamp of ["", "x", "-1", `${timestampS}.5`, "9".repeat(30)])
      expect(isAccepted(validSignature, 0, timestamp)).toBe(false);
  });
});

describe("a signed hook", () => {
  let parley: TestApp;
  let anna: RestClient;
  let conversationId: string;
  let hook: CreatedHook;
  beforeAll(async () => {
    parley = await startApp();
    anna = createRestClient(parley, await parley.register(undefined, "Anna"));
  });
  afterAll(() => parley.stop());
  beforeEach(async () => {
    conversationId = (await createConversation(parley, anna.account)).id;
    hook = await createHook(anna, conversationId, { signed: true });
  });
  const countMessages = async () =>
    (await anna.get<{ data: object[] }>(`/conversations/${conversationId}/messages`)).body.data.length;
  const jsonHeader = { "content-type": "application/json" };

  test("accepts a post signed over its exact bytes, once per webhook-id", async () => {
    const body = '{ "content":  "signed" }';
    const headers = createSignatureHeaders(String(hook.secret), "msg_1", getNowS(), body);
    const firstResponse = await postToHook(parley, hook, body, { ...jsonHeader, ...headers });
    expect(firstResponse.status).toBe(201);
    // A retry has a new signature.
    const retryHeaders = createSignatureHeaders(String(hook.secret), "msg_1", getNowS() - 2, body);
    const repeatedResponse = await postToHook(parley, hook, body, { ...jsonHeader, ...retryHeaders });
    expect([
      repeatedResponse.status,
      repeatedResponse.headers.get("idempotent-replayed"),
      repeatedResponse.body,
    ]).toEqual([201, "true", firstResponse.body]);
    expect(await countMessages()).toBe(1);
  });

  test("rejects posts that are unsigned, signed with a different secret, or old", async () => {
    const body = '{"content":"x"}';
    const otherHook = await createHook(anna, conversationId, { signed: true });
    const secret = String(hook.secret);
    for (const headers of [
      {},
      createSignatureHeaders(String(otherHook.secret), "msg_2", getNowS(), body),
      createSignatureHeaders(secret, "msg_2", getNowS() - 400, body),
      createSignatureHeaders(secret, "msg_2", getNowS(), '{"content":"y"}'),
      { ...createSignatureHeaders(secret, "msg_2", getNowS(), body), "webhook-id": "msg_3" },
    ]) {
      const response = await postToHook<ProblemBody>(parley, hook, body, { ...jsonHeader, ...headers });
      expect([response.status, response.body.code]).toEqual([401, "unauthorized"]);
    }
    expect(await countMessages()).toBe(0);
  });

  test("rejects all posts if its secret can't be decrypted", async () => {
    const secret = String(hook.secret);
    const [row] = await parley.database<{ secret: Buffer }[]>`select secret from hooks where id = ${hook.id}`;
    const corruptSecret = Buffer.from(row?.secret ?? "");
    corruptSecret[20] = (corruptSecret[20] ?? 0) ^ 1;
    await parley.database`update hooks set secret = ${corruptSecret} where id = ${hook.id}`;
    const body = '{"content":"x"}';
    const response = await postToHook<ProblemBody>(parley, hook, body, {
      ...jsonHeader,
      ...createSignatureHeaders(secret, "msg_4", getNowS(), body),
    });
    expect(response.body).toMatchObject({
      code: "unauthorized",
      detail: expect.stringContaining("Create the hook again"),
    });
  });
});
