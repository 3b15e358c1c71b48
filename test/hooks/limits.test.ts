import { afterAll, beforeAll, expect, test } from "bun:test";
import type { ProblemBody } from "../../src/http/problem-response.ts";
import { startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { createRestClient, type RestClient } from "../support/rest.ts";
import { createHook, postToHook } from "./start-hooks.ts";

let parley: TestApp;
let anna: RestClient;
let conversationId: string;

beforeAll(async () => {
  parley = await startApp({
    config: {
      RATE_LIMIT_ENABLED: "true",
      RATE_LIMIT_HOOKS_PER_10S: "3",
      RATE_LIMIT_HOOKS_ADDRESS_PER_10S: "12",
      QUOTA_STORED_BYTES: "100",
    },
  });
  anna = createRestClient(parley, await parley.register());
  conversationId = (await createConversation(parley, anna.account)).id;
});
afterAll(() => parley.stop());

test("each hook's posts and stored bytes are limited, and so are the posts from each IP address", async () => {
  const firstHook = await createHook(anna, conversationId);
  const secondHook = await createHook(anna, conversationId);
  const quotaResponse = await postToHook<ProblemBody>(parley, firstHook, { content: "x".repeat(101) });
  expect([quotaResponse.status, quotaResponse.body.code]).toEqual([403, "quota_exceeded"]);
  for (let n = 0; n < 2; n += 1) {
    const { status, headers } = await postToHook(parley, firstHook, { text: "x" });
    expect([status, headers.get("ratelimit-policy")]).toEqual([200, '"burst";q=3;w=10, "sustained";q=600;w=60']);
  }
  const rejectedResponse = await postToHook<ProblemBody>(parley, firstHook, { text: "x" });
  expect([rejectedResponse.status, rejectedResponse.body.code, rejectedResponse.body.detail]).toEqual([
    429,
    "rate_limited",
    expect.stringContaining("posts to this hook"),
  ]);
  expect(rejectedResponse.headers.has("retry-after")).toBe(true);
  expect((await postToHook(parley, secondHook, { text: "x" })).status).toBe(200);

  const attempts = await Promise.all(
    [...Array(8)].map(() => postToHook<ProblemBody>(parley, { token: "hk_guess" }, { text: "x" })),
  );
  expect(attempts.filter(({ status }) => status === 404)).toHaveLength(7);
  expect(attempts.find(({ status }) => status === 429)?.body.detail).toContain("posts to hooks from this address");
  expect((await postToHook(parley, secondHook, { text: "x" })).status).toBe(429);
});
