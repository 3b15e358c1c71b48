import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import fc from "fast-check";
import { startApp, type TestApp } from "../support/app.ts";
import { scaleRuns } from "../support/property-tests.ts";
import type { RestClient } from "../support/rest.ts";
import {
  createConversationId,
  createSearchPath,
  createUser,
  findMessageIds,
  sendMessage,
  waitForIndex,
} from "./search-client.ts";

let parley: TestApp;
let anna: RestClient;
let ids: string[];

beforeAll(async () => {
  parley = await startApp();
  anna = await createUser(parley);
  const conversationId = await createConversationId(parley, anna);
  ids = [
    await sendMessage(anna, conversationId, "the and of"),
    await sendMessage(anna, conversationId, "a lamp | & ! <-> \\ ' :*"),
  ];
  await waitForIndex(parley);
});
afterAll(() => parley.stop());

describe("an invalid search", () => {
  test.each([
    ["10,000 characters", { q: "a ".repeat(5_000) }, "#/query/q"],
    ["an empty string", { q: "" }, "#/query/q"],
    ["only spaces", { q: "   " }, "#/query/q"],
    ["a NUL character", { q: "a\0b" }, "#/query/q"],
    ["only operators", { q: "&|!:*()<->" }, "#/query/q"],
    ["only quotes", { q: `"' "" '` }, "#/query/q"],
    ["only backslashes", { q: "\\\\\\" }, "#/query/q"],
    ["only `or`", { q: "or OR or" }, "#/query/q"],
    ["only excluded words", { q: "-lamp -shade" }, "#/query/q"],
    ["an alternative of excluded words", { q: "lamp or -shade" }, "#/query/q"],
    ["200 words", { q: "a ".repeat(200) }, "#/query/q"],
    ["a phrase of 200 words", { q: `"${"a ".repeat(200)}"` }, "#/query/q"],
    ["a role that does not exist", { q: "a", role: "pirate" }, "#/query/role"],
    ["an invalid conversation id", { q: "a", conversation_id: "1" }, "#/query/conversation_id"],
    ["an invalid time", { q: "a", from: "yesterday" }, "#/query/from"],
    ["the year 0", { q: "a", to: "0000-01-01T00:00:00Z" }, "#/query/to"],
  ])("for %s is rejected, and the error identifies the parameter", async (_, query, pointer) => {
    const { status, errors } = await anna.requestProblem(
      "GET",
      `/search?${new URLSearchParams(query as Record<string, string>)}`,
    );
    expect(status).toBe(422);
    expect(errors?.map((error) => error.pointer)).toEqual([pointer]);
  });

  test("without q is rejected", async () => {
    expect((await anna.requestProblem("GET", "/search")).status).toBe(422);
  });

  test.each([
    "nonsense",
    btoa('["v1","2","2026-01-01T00:00:00Z","x"]'),
    btoa('["v1","0.1"]'),
    btoa('["v1","NaN","",""]'),
  ])("with the cursor %s is rejected", async (cursor) => {
    const { status, code } = await anna.requestProblem("GET", createSearchPath("lamp", { cursor }));
    expect({ status, code }).toEqual({ status: 400, code: "bad_cursor" });
  });
});

describe("a valid search", () => {
  test.each([
    ["only stop words", "the of", [0]],
    ["operators between words", "a & lamp | ( ! )", [1]],
    ["operators of another query language", "lamp:* <-> 'a'", [1]],
    ["an unclosed quote", '"a lamp', [1]],
    ["a word of 500 characters", "x".repeat(500), []],
    ["500 characters of four bytes", "𝔘".repeat(250), []],
    ["text that looks like index marks", "r.user m.0 c.0", []],
  ])("for %s succeeds", async (_, q, expected) => {
    expect(await findMessageIds(anna, q)).toEqual(expected.map((index) => ids[index] ?? ""));
  });

  test("with arbitrary input returns 200 or 422", async () => {
    const arbitraryInput = fc.oneof(
      fc.string({ maxLength: 40, unit: "grapheme" }),
      fc.string({
        maxLength: 40,
        unit: fc.constantFrom(
          "a",
          "-",
          '"',
          "*",
          "'",
          "\\",
          ":",
          "&",
          "|",
          "!",
          "(",
          ")",
          "<",
          ">",
          " ",
          "京",
          "é",
          ".",
        ),
      }),
    );
    await fc.assert(
      fc.asyncProperty(arbitraryInput, async (q) => {
        const { status, body } = await anna.get(createSearchPath(q));
        if (status !== 200 && status !== 422) throw new Error(`${status} ${JSON.stringify(body)}`);
      }),
      { numRuns: scaleRuns(150) },
    );
  });
});
