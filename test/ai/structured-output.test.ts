import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { createCatalog } from "../../src/ai/models.ts";
import type { AnswerFormat, ChatMessage } from "../../src/ai/provider.ts";
import { findRequiredFormat } from "../support/mock-provider/answer-format.ts";
import { type MockProvider, startMockProvider } from "../support/mock-provider/server.ts";
import { collectRun, createTestChain } from "./collect.ts";

let mockProvider: MockProvider;
beforeAll(() => {
  mockProvider = startMockProvider();
});
afterEach(() => mockProvider.reset());
afterAll(() => mockProvider.stop());

const closedSchema = {
  type: "object",
  properties: { city: { type: "string" }, people: { type: "integer", minimum: 0 } },
  required: ["city", "people"],
  additionalProperties: false,
};
const createSchemaFormat = (schema: Record<string, unknown> = closedSchema): AnswerFormat => ({
  type: "json_schema",
  name: "place",
  schema,
});
const providers = ["openai", "anthropic", "compatible"] as const;
const findBody = (model: string, index = -1): Record<string, unknown> =>
  mockProvider.listRequests(model).at(index)?.body ?? {};
const validText = '{"city":"Wien","people":2000000}';

describe("a format", () => {
  test.each(providers)("is sent to %s as a schema", async (provider) => {
    mockProvider.script("m", { text: validText });
    const { end } = await collectRun(createTestChain(mockProvider, [`${provider}/m`]), {
      options: { format: createSchemaFormat() },
    });
    expect(end).toMatchObject({ type: "finish", output: { value: { city: "Wien", people: 2_000_000 } } });
    const format = findRequiredFormat(findBody("m"));
    expect(format.type).toBe("json_schema");
    // Claude doesn't support `minimum`, so it is moved to the description.
    if (provider === "anthropic") expect(JSON.stringify(format.schema)).toContain("minimum: 0");
    else expect(format).toMatchObject({ name: "place", strict: true, schema: closedSchema });
  });

  test.each(["openai", "compatible"] as const)("isn't strict for %s if its schema is open", async (provider) => {
    mockProvider.script("m", { text: '{"a":1,"b":2}' });
    const openSchema = { type: "object", properties: { a: { type: "number" } } };
    await collectRun(createTestChain(mockProvider, [`${provider}/m`]), {
      options: { format: createSchemaFormat(openSchema) },
    });
    expect(findRequiredFormat(findBody("m"))).toMatchObject({ strict: false, schema: openSchema });
  });

  const unsupportedSchemas: [string, Record<string, unknown>, string][] = [
    ["a dictionary", { type: "object", additionalProperties: { type: "number" } }, '{"a":1}'],
    [
      "a recursive reference",
      { $ref: "#/$defs/n", $defs: { n: { type: "object", properties: { n: { $ref: "#/$defs/n" } } } } },
      '{"n":{}}',
    ],
    ["allOf", { type: "object", properties: { a: {} }, allOf: [{ properties: { b: { type: "null" } } }] }, '{"a":1}'],
  ];
  test.each(unsupportedSchemas)(
    "is sent to Claude as an instruction if its schema has %s",
    async (_name, schema, text) => {
      mockProvider.script("m", { text });
      const { end } = await collectRun(createTestChain(mockProvider, ["anthropic/m"]), {
        options: { format: createSchemaFormat(schema) },
      });
      expect(end).toMatchObject({ type: "finish", output: { value: JSON.parse(text) } });
      expect(findRequiredFormat(findBody("m")).type).toBeUndefined();
      expect(JSON.stringify(findBody("m").system)).toContain("valid for this JSON schema");
    },
  );

  test.each(providers)("is sent to %s with an instruction if its type is json_object", async (provider) => {
    mockProvider.script("m", { text: '{"any":[1]}' });
    const { end } = await collectRun(createTestChain(mockProvider, [`${provider}/m`]), {
      options: { format: { type: "json_object" } },
    });
    expect(end).toMatchObject({ type: "finish", output: { value: { any: [1] } } });
    expect(findRequiredFormat(findBody("m")).type).toBe(provider === "anthropic" ? undefined : "json_object");
    expect(JSON.stringify(findBody("m"))).toContain("one JSON object");
  });

  test("is sent to a compatible server as an instruction if tools can be called", async () => {
    mockProvider.script("m", { text: validText });
    const tools = [{ name: "f", description: null, parameters: { type: "object" } }];
    const options = { tools, format: createSchemaFormat() };
    await collectRun(createTestChain(mockProvider, ["compatible/m"]), { options });
    expect(findRequiredFormat(findBody("m")).type).toBeUndefined();
    expect(findBody("m").tools).toHaveLength(1);
    expect(JSON.stringify(findBody("m").messages)).toContain("valid for this JSON schema");
    await collectRun(createTestChain(mockProvider, ["compatible/m"]), { options: { ...options, toolChoice: "none" } });
    expect(findRequiredFormat(findBody("m")).type).toBe("json_schema");
    expect(findBody("m").tools).toBeUndefined();
  });
});

describe("an answer that doesn't match the format", () => {
  const invalidText = '{"city":"Wien","people":"many"}';

  test.each(providers)("is sent back to %s once, with the error", async (provider) => {
    mockProvider.script("m", { text: invalidText }, { text: validText });
    const chain = createTestChain(mockProvider, [`${provider}/m`, "openai/other"]);
    const { end, text, resets } = await collectRun(chain, { options: { format: createSchemaFormat() } });
    expect(end).toMatchObject({ type: "finish", model: `${provider}/m`, output: { value: JSON.parse(validText) } });
    expect(text).toBe(validText);
    expect(resets).toMatchObject([{ attempt: 2, text: "" }]);
    const request = JSON.stringify(findBody("m", 1));
    expect(request).toContain("#/people");
    expect(request).toContain("many");
    // Both attempts are charged.
    expect(end.usage?.output_tokens).toBe(2);
    expect(mockProvider.listRequests("other")).toHaveLength(0);
  });

  test.each([
    ["words", "Here it is: {}"],
    ["truncated JSON", '{"city":"Wien"'],
    ["an array that is too deep", "[".repeat(200_000)],
  ])("fails the run if the second attempt doesn't match either (%s)", async (_name, text) => {
    mockProvider.script("m", { pieces: [text] });
    const { end, text: finalText } = await collectRun(createTestChain(mockProvider, ["openai/m", "openai/other"]), {
      options: { format: createSchemaFormat() },
    });
    expect(end).toMatchObject({ type: "error", code: "invalid_output", model: "openai/m" });
    expect(finalText).toBe(text);
    expect(mockProvider.listRequests("m")).toHaveLength(2);
    expect(mockProvider.listRequests("other")).toHaveLength(0);
  });

  test("isn't corrected if the client can't replace the text that it has received", async () => {
    mockProvider.script("m", { text: invalidText });
    const { end } = await collectRun(createTestChain(mockProvider, ["openai/m"]), {
      options: { format: createSchemaFormat() },
      isRepairable: false,
    });
    expect(end).toMatchObject({ type: "error", code: "invalid_output" });
    expect(mockProvider.listRequests("m")).toHaveLength(1);
  });

  test.each(["length", "content_filter"] as const)(
    "is kept if the answer ended because of %s",
    async (finishReason) => {
      mockProvider.script("m", { text: '{"city":"Wi', finishReason });
      const { end } = await collectRun(createTestChain(mockProvider, ["compatible/m"]), {
        options: { format: createSchemaFormat() },
      });
      expect(end).toMatchObject({ type: "finish", reason: finishReason });
      expect(end).not.toHaveProperty("output");
      expect(mockProvider.listRequests("m")).toHaveLength(1);
    },
  );

  test("is corrected by a request with the question and its tool results, even if the context window is small", async () => {
    mockProvider.script("m", { text: invalidText }, { text: validText });
    const messages: ChatMessage[] = [
      { role: "user", content: "An older question." },
      { role: "assistant", content: "An older answer." },
      { role: "user", content: `Which city? ${"word ".repeat(2_000)}` },
      { role: "assistant", content: "", toolCalls: [{ id: "c", name: "look_up", arguments: "{}" }] },
      { role: "tool", toolCallId: "c", content: "It is Wien." },
    ];
    const catalog = createCatalog({ inputTokens: 1_000 });
    const chain = createTestChain(mockProvider, ["compatible/m"], { catalog });
    const { end } = await collectRun(chain, {
      messages,
      shouldFitModelLimits: true,
      options: { format: createSchemaFormat() },
    });
    expect(end).toMatchObject({ type: "finish", output: { value: JSON.parse(validText) } });
    expect(mockProvider.listRequests("m")).toHaveLength(2);
    for (const { body } of mockProvider.listRequests("m")) {
      expect(JSON.stringify(body)).toContain("Which city?");
      expect(JSON.stringify(body)).toContain("It is Wien.");
      expect(JSON.stringify(body)).not.toContain("An older question.");
    }
  });

  test("is kept if the correction fails", async () => {
    mockProvider.script("m", { text: invalidText }, { fault: "status", status: 400 });
    const { end, text } = await collectRun(createTestChain(mockProvider, ["openai/m"]), {
      options: { format: createSchemaFormat() },
    });
    expect(end).toMatchObject({ type: "error", code: "invalid_output" });
    expect(text).toBe(invalidText);
  });
});

describe("a code fence around the whole text", () => {
  test.each([
    ["arrives in three chunks", ["```json\n", validText, "\n```"]],
    ["arrives in single characters", [..."```json\r\n", ...validText, ..."\n```\n"]],
    ["has no language", ["```\n", `${validText}\n`, "```"]],
  ])("is removed if it %s", async (_name, chunks) => {
    mockProvider.script("m", { pieces: chunks });
    const { end, text } = await collectRun(createTestChain(mockProvider, ["openai/m"]), {
      options: { format: createSchemaFormat() },
    });
    expect(end).toMatchObject({ type: "finish", output: { value: JSON.parse(validText) } });
    expect(text).toBe(validText);
    expect(mockProvider.listRequests("m")).toHaveLength(1);
  });

  test("isn't removed if other text precedes it", async () => {
    const text = `Here:\n\`\`\`json\n${validText}\n\`\`\``;
    mockProvider.script("m", { text }, { text: validText });
    const { end } = await collectRun(createTestChain(mockProvider, ["openai/m"]), {
      options: { format: createSchemaFormat() },
    });
    expect(end).toMatchObject({ type: "finish", output: { value: JSON.parse(validText) } });
    expect(JSON.stringify(findBody("m", 1))).toContain("Here:");
  });

  test("isn't removed within JSON", async () => {
    const value = { city: "```\nx\n```", people: 1 };
    mockProvider.script("m", { pieces: [JSON.stringify(value, null, 2)] });
    const { end } = await collectRun(createTestChain(mockProvider, ["openai/m"]), {
      options: { format: createSchemaFormat() },
    });
    expect(end).toMatchObject({ type: "finish", output: { value } });
  });

  test("isn't removed if no format was requested", async () => {
    mockProvider.script("m", { text: "```json\n{}\n```" });
    expect((await collectRun(createTestChain(mockProvider, ["openai/m"]))).text).toBe("```json\n{}\n```");
  });
});

describe("a failover", () => {
  test("occurs if a model rejects the format", async () => {
    mockProvider.script("one", { rejectFormats: true });
    mockProvider.script("two", { text: validText });
    const { end } = await collectRun(createTestChain(mockProvider, ["compatible/one", "openai/two"]), {
      options: { format: createSchemaFormat() },
    });
    expect(end).toMatchObject({ type: "finish", model: "openai/two", output: { value: JSON.parse(validText) } });
    // The request isn't sent again without the format.
    expect(mockProvider.listRequests("one")).toHaveLength(1);
  });

  test("skips models that don't support the format", async () => {
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
    const { end } = await collectRun(chain, { options: { format: createSchemaFormat() } });
    expect(end).toMatchObject({ type: "finish", model: "compatible/three" });
    expect(mockProvider.requests.map(({ model }) => model)).toEqual(["gpt-5", "three"]);
    // Without a format, gpt-4-turbo is tried.
    mockProvider.script("gpt-4-turbo", { text: "Hello." });
    expect((await collectRun(chain)).end).toMatchObject({ model: "openai/gpt-4-turbo" });
  });

  test("starts the answer over, because a different model can't continue JSON", async () => {
    mockProvider.script("one", { pieces: ['{"city":', '"Wi', "never sent"], fault: "cut", piecesBeforeFault: 2 });
    mockProvider.script("two", { text: validText });
    const { end, text, resets } = await collectRun(createTestChain(mockProvider, ["openai/one", "anthropic/two"]), {
      options: { format: createSchemaFormat() },
    });
    expect(end).toMatchObject({ type: "finish", model: "anthropic/two" });
    expect(text).toBe(validText);
    expect(resets).toMatchObject([{ text: "" }]);
    expect(JSON.stringify(findBody("two"))).not.toContain("partial_answer");
  });

  test("also starts the answer over if a different instance resumes it", async () => {
    mockProvider.script("m", { text: validText });
    const { end, text, resets } = await collectRun(createTestChain(mockProvider, ["openai/m"]), {
      options: { format: createSchemaFormat() },
      resume: { text: '{"city":"Gr', attempt: 3 },
    });
    expect(end).toMatchObject({ type: "finish", output: { value: JSON.parse(validText) } });
    expect(text).toBe(validText);
    expect(resets).toMatchObject([{ attempt: 4, text: "" }]);
  });
});
