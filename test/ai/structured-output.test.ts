import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { createCatalog } from "../../src/ai/models.ts";
import type { AnswerFormat, ChatMessage } from "../../src/ai/provider.ts";
import { readFormat } from "../support/mock-provider/answer-format.ts";
import { type MockProvider, startMockProvider } from "../support/mock-provider/server.ts";
import { collect, createTestChain } from "./collect.ts";

let mockProvider: MockProvider;
beforeAll(() => {
  mockProvider = startMockProvider();
});
afterEach(() => mockProvider.reset());
afterAll(() => mockProvider.stop());

const closed = {
  type: "object",
  properties: { city: { type: "string" }, people: { type: "integer", minimum: 0 } },
  required: ["city", "people"],
  additionalProperties: false,
};
const schemaFormat = (schema: Record<string, unknown> = closed): AnswerFormat => ({
  type: "json_schema",
  name: "place",
  schema,
});
const providers = ["openai", "anthropic", "compatible"] as const;
const bodyOf = (model: string, at = -1): Record<string, unknown> => mockProvider.requestsOf(model).at(at)?.body ?? {};
const validText = '{"city":"Wien","people":2000000}';

describe("the format on the wire", () => {
  test.each(providers)("a schema is sent to %s in its own format", async (provider) => {
    mockProvider.script("m", { text: validText });
    const { end } = await collect(createTestChain(mockProvider, [`${provider}/m`]), {
      options: { format: schemaFormat() },
    });
    expect(end).toMatchObject({ type: "finish", output: { value: { city: "Wien", people: 2_000_000 } } });
    const format = readFormat(bodyOf("m"));
    expect(format.type).toBe("json_schema");
    // Claude supports no bounds: they are moved into the description.
    if (provider === "anthropic") expect(JSON.stringify(format.schema)).toContain("minimum: 0");
    else expect(format).toMatchObject({ name: "place", strict: true, schema: closed });
  });

  test.each(["openai", "compatible"] as const)("an open schema isn't strict for %s", async (provider) => {
    mockProvider.script("m", { text: '{"a":1,"b":2}' });
    const open = { type: "object", properties: { a: { type: "number" } } };
    await collect(createTestChain(mockProvider, [`${provider}/m`]), { options: { format: schemaFormat(open) } });
    expect(readFormat(bodyOf("m"))).toMatchObject({ strict: false, schema: open });
  });

  const unclosable: [string, Record<string, unknown>, string][] = [
    ["a dictionary", { type: "object", additionalProperties: { type: "number" } }, '{"a":1}'],
    [
      "a recursion",
      { $ref: "#/$defs/n", $defs: { n: { type: "object", properties: { n: { $ref: "#/$defs/n" } } } } },
      '{"n":{}}',
    ],
    ["allOf", { type: "object", properties: { a: {} }, allOf: [{ properties: { b: { type: "null" } } }] }, '{"a":1}'],
  ];
  test.each(unclosable)("Claude gets %s as an instruction", async (_name, schema, text) => {
    mockProvider.script("m", { text });
    const { end } = await collect(createTestChain(mockProvider, ["anthropic/m"]), {
      options: { format: schemaFormat(schema) },
    });
    expect(end).toMatchObject({ type: "finish", output: { value: JSON.parse(text) } });
    expect(readFormat(bodyOf("m")).type).toBeUndefined();
    expect(JSON.stringify(bodyOf("m").system)).toContain("valid for this JSON schema");
  });

  test.each(providers)("any object from %s, which is instructed to write JSON", async (provider) => {
    mockProvider.script("m", { text: '{"any":[1]}' });
    const { end } = await collect(createTestChain(mockProvider, [`${provider}/m`]), {
      options: { format: { type: "json_object" } },
    });
    expect(end).toMatchObject({ type: "finish", output: { value: { any: [1] } } });
    expect(readFormat(bodyOf("m")).type).toBe(provider === "anthropic" ? undefined : "json_object");
    expect(JSON.stringify(bodyOf("m"))).toContain("one JSON object");
  });

  test("with callable tools, a compatible server gets an instruction", async () => {
    mockProvider.script("m", { text: validText });
    const tools = [{ name: "f", description: null, parameters: { type: "object" } }];
    const options = { tools, format: schemaFormat() };
    await collect(createTestChain(mockProvider, ["compatible/m"]), { options });
    expect(readFormat(bodyOf("m")).type).toBeUndefined();
    expect(bodyOf("m").tools).toHaveLength(1);
    expect(JSON.stringify(bodyOf("m").messages)).toContain("valid for this JSON schema");
    await collect(createTestChain(mockProvider, ["compatible/m"]), { options: { ...options, toolChoice: "none" } });
    expect(readFormat(bodyOf("m")).type).toBe("json_schema");
    expect(bodyOf("m").tools).toBeUndefined();
  });
});

describe("a text that doesn't match the format", () => {
  const bad = '{"city":"Wien","people":"many"}';

  test.each(providers)("is returned once to %s, with the error", async (provider) => {
    mockProvider.script("m", { text: bad }, { text: validText });
    const chain = createTestChain(mockProvider, [`${provider}/m`, "openai/other"]);
    const { end, text, resets } = await collect(chain, { options: { format: schemaFormat() } });
    expect(end).toMatchObject({ type: "finish", model: `${provider}/m`, output: { value: JSON.parse(validText) } });
    expect(text).toBe(validText);
    expect(resets).toMatchObject([{ attempt: 2, text: "" }]);
    const request = JSON.stringify(bodyOf("m", 1));
    expect(request).toContain("#/people");
    expect(request).toContain("many");
    // Both are charged.
    expect(end.usage?.output_tokens).toBe(2);
    expect(mockProvider.requestsOf("other")).toHaveLength(0);
  });

  test.each([
    ["words", "Here it is: {}"],
    ["truncated JSON", '{"city":"Wien"'],
    ["an array that is too deep", "[".repeat(200_000)],
  ])("twice is a failure: %s", async (_name, text) => {
    mockProvider.script("m", { pieces: [text] });
    const { end, text: kept } = await collect(createTestChain(mockProvider, ["openai/m", "openai/other"]), {
      options: { format: schemaFormat() },
    });
    expect(end).toMatchObject({ type: "error", code: "invalid_output", model: "openai/m" });
    expect(kept).toBe(text);
    expect(mockProvider.requestsOf("m")).toHaveLength(2);
    expect(mockProvider.requestsOf("other")).toHaveLength(0);
  });

  test("isn't requested again if it can't be taken back", async () => {
    mockProvider.script("m", { text: bad });
    const { end } = await collect(createTestChain(mockProvider, ["openai/m"]), {
      options: { format: schemaFormat() },
      isRepairable: false,
    });
    expect(end).toMatchObject({ type: "error", code: "invalid_output" });
    expect(mockProvider.requestsOf("m")).toHaveLength(1);
  });

  test.each(["length", "content_filter"] as const)("cut off by %s stays as it is", async (finish) => {
    mockProvider.script("m", { text: '{"city":"Wi', finish });
    const { end } = await collect(createTestChain(mockProvider, ["compatible/m"]), {
      options: { format: schemaFormat() },
    });
    expect(end).toMatchObject({ type: "finish", reason: finish });
    expect(end).not.toHaveProperty("output");
    expect(mockProvider.requestsOf("m")).toHaveLength(1);
  });

  test("the question stays, with its tool results, however small the model's window is", async () => {
    mockProvider.script("m", { text: bad }, { text: validText });
    const messages: ChatMessage[] = [
      { role: "user", content: "An older question." },
      { role: "assistant", content: "An older answer." },
      { role: "user", content: `Which city? ${"word ".repeat(2_000)}` },
      { role: "assistant", content: "", toolCalls: [{ id: "c", name: "look_up", arguments: "{}" }] },
      { role: "tool", toolCallId: "c", content: "It is Wien." },
    ];
    const catalog = createCatalog({ inputTokens: 1_000 });
    const chain = createTestChain(mockProvider, ["compatible/m"], { catalog });
    const { end } = await collect(chain, { messages, isFitted: true, options: { format: schemaFormat() } });
    expect(end).toMatchObject({ type: "finish", output: { value: JSON.parse(validText) } });
    expect(mockProvider.requestsOf("m")).toHaveLength(2);
    for (const { body } of mockProvider.requestsOf("m")) {
      expect(JSON.stringify(body)).toContain("Which city?");
      expect(JSON.stringify(body)).toContain("It is Wien.");
      expect(JSON.stringify(body)).not.toContain("An older question.");
    }
  });

  test("a failed repair keeps the first text", async () => {
    mockProvider.script("m", { text: bad }, { fault: "status", status: 400 });
    const { end, text } = await collect(createTestChain(mockProvider, ["openai/m"]), {
      options: { format: schemaFormat() },
    });
    expect(end).toMatchObject({ type: "error", code: "invalid_output" });
    expect(text).toBe(bad);
  });
});

describe("a code fence around the whole text", () => {
  test.each([
    ["whole", ["```json\n", validText, "\n```"]],
    ["in pieces", [..."```json\r\n", ...validText, ..."\n```\n"]],
    ["without a language", ["```\n", `${validText}\n`, "```"]],
  ])("is removed: %s", async (_name, pieces) => {
    mockProvider.script("m", { pieces });
    const { end, text } = await collect(createTestChain(mockProvider, ["openai/m"]), {
      options: { format: schemaFormat() },
    });
    expect(end).toMatchObject({ type: "finish", output: { value: JSON.parse(validText) } });
    expect(text).toBe(validText);
    expect(mockProvider.requestsOf("m")).toHaveLength(1);
  });

  test("a text that contains a fence keeps it, and isn't JSON", async () => {
    const text = `Here:\n\`\`\`json\n${validText}\n\`\`\``;
    mockProvider.script("m", { text }, { text: validText });
    const { end } = await collect(createTestChain(mockProvider, ["openai/m"]), { options: { format: schemaFormat() } });
    expect(end).toMatchObject({ type: "finish", output: { value: JSON.parse(validText) } });
    expect(JSON.stringify(bodyOf("m", 1))).toContain("Here:");
  });

  test("JSON that contains fences is unchanged", async () => {
    const value = { city: "```\nx\n```", people: 1 };
    mockProvider.script("m", { pieces: [JSON.stringify(value, null, 2)] });
    const { end } = await collect(createTestChain(mockProvider, ["openai/m"]), { options: { format: schemaFormat() } });
    expect(end).toMatchObject({ type: "finish", output: { value } });
  });

  test("a text without a requested format keeps its fence", async () => {
    mockProvider.script("m", { text: "```json\n{}\n```" });
    expect((await collect(createTestChain(mockProvider, ["openai/m"]))).text).toBe("```json\n{}\n```");
  });
});

describe("failover", () => {
  test("falls back to the next model if one rejects the format", async () => {
    mockProvider.script("one", { refusesFormats: true });
    mockProvider.script("two", { text: validText });
    const { end } = await collect(createTestChain(mockProvider, ["compatible/one", "openai/two"]), {
      options: { format: schemaFormat() },
    });
    expect(end).toMatchObject({ type: "finish", model: "openai/two", output: { value: JSON.parse(validText) } });
    // It isn't sent without the format.
    expect(mockProvider.requestsOf("one")).toHaveLength(1);
  });

  test("skips models that don't support it", async () => {
    mockProvider.script("gpt-5", { fault: "status", status: 500 });
    mockProvider.script("three", { text: validText });
    const models = [
      "openai/gpt-5",
      "openai/gpt-4-turbo",
      "offline/documents",
      "anthropic/claude-3-opus",
      "compatible/three",
    ];
    const chain = createTestChain(mockProvider, models, { maxRetries: 0 });
    const { end } = await collect(chain, { options: { format: schemaFormat() } });
    expect(end).toMatchObject({ type: "finish", model: "compatible/three" });
    expect(mockProvider.requests.map(({ model }) => model)).toEqual(["gpt-5", "three"]);
    // Without a format, it is tried.
    mockProvider.script("gpt-4-turbo", { text: "Hello." });
    expect((await collect(chain)).end).toMatchObject({ model: "openai/gpt-4-turbo" });
  });

  test("mid-answer starts over, since JSON can't be continued by another model", async () => {
    mockProvider.script("one", { pieces: ['{"city":', '"Wi', "never sent"], fault: "cut", after: 2 });
    mockProvider.script("two", { text: validText });
    const { end, text, resets } = await collect(createTestChain(mockProvider, ["openai/one", "anthropic/two"]), {
      options: { format: schemaFormat() },
    });
    expect(end).toMatchObject({ type: "finish", model: "anthropic/two" });
    expect(text).toBe(validText);
    expect(resets).toMatchObject([{ text: "" }]);
    expect(JSON.stringify(bodyOf("two"))).not.toContain("partial_answer");
  });

  test("a successor starts over", async () => {
    mockProvider.script("m", { text: validText });
    const { end, text, resets } = await collect(createTestChain(mockProvider, ["openai/m"]), {
      options: { format: schemaFormat() },
      resume: { text: '{"city":"Gr', attempt: 3 },
    });
    expect(end).toMatchObject({ type: "finish", output: { value: JSON.parse(validText) } });
    expect(text).toBe(validText);
    expect(resets).toMatchObject([{ attempt: 4, text: "" }]);
  });
});
