import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { RunRequest } from "../../src/ai/chain/chain.ts";
import {
  ADAPTATIONS_MAX,
  createParameterAdapter,
  LEARNED_MODELS_MAX,
  type ParameterAdapter,
} from "../../src/ai/providers/parameters/adapter.ts";
import { collect, createRecordingObserver, createTestChain } from "./collect.ts";
import { type SentBody, startRejectingServer } from "./rejecting-server.ts";
import { createOpenAiError, createPydanticError, createUnsupportedError, rejections } from "./rejections.ts";

let server: ReturnType<typeof startRejectingServer>;
beforeAll(() => {
  server = startRejectingServer();
});
afterAll(() => server.stop());

const tool = { name: "look_up", description: null, parameters: { type: "object" }, isStrict: true };
const allOptions = {
  tools: [tool],
  toolChoice: "auto" as const,
  temperature: 0.2,
  topP: 0.9,
  stop: ["END"],
  canCallToolsInParallel: false,
};
const fullRequest: Partial<RunRequest> = { options: allOptions, outputTokensMax: 500 };

const hasField = (body: SentBody, name: string): boolean => JSON.stringify(body).includes(`"${name}":`);

/** Runs a model twice. Returns both results, and the number of requests for each. */
async function runTwice(model: string, request: Partial<RunRequest> = fullRequest) {
  const { observe, events } = createRecordingObserver();
  const chain = createTestChain(server.urls, [model, "anthropic/spare"], { observe, maxRetries: 3 });
  const first = await collect(chain, request);
  const requests = server.bodies.length;
  const second = await collect(chain, request);
  expect(chain.listModels().every(({ state }) => state === "available")).toBe(true);
  return { first, second, requests: [requests, server.bodies.length - requests], events };
}

describe("a rejected parameter", () => {
  test.each(rejections)(
    "is omitted in the same attempt ($name: $parameter)",
    async ({ model, parameter, status = 400, rejection }) => {
      server.rejectWith((body) => (hasField(body, parameter) ? { status, body: rejection } : null));
      const { first, second, requests, events } = await runTwice(model);
      expect([first.text, second.text]).toEqual(["Done.", "Done."]);
      // The rejection is remembered, unless only the value was rejected.
      const isRemembered = !JSON.stringify(rejection).includes("invalid temperature");
      expect(requests).toEqual([2, isRemembered ? 1 : 2]);
      const [rejected, accepted] = server.bodies;
      expect([hasField(rejected ?? {}, parameter), hasField(accepted ?? {}, parameter)]).toEqual([true, false]);
      // No other parameter was omitted.
      const checkedNames = ["temperature", "top_p", "stop", "stop_sequences", "tools", "model", "max_tokens"];
      for (const other of checkedNames.filter((name) => name !== parameter))
        expect([other, hasField(accepted ?? {}, other)]).toEqual([other, hasField(rejected ?? {}, other)]);
      // Each run is one attempt that didn't fail, and only the answer is charged.
      expect(events.filter(([kind]) => kind === "attempt")).toEqual([
        ["attempt", model, "complete", null],
        ["attempt", model, "complete", null],
      ]);
      expect(events.filter(([kind]) => kind === "failover" || kind === "state")).toEqual([]);
      expect(first.end.usage).toMatchObject({ input_tokens: 11, output_tokens: 3, estimated: false });
    },
  );

  test("is omitted if it conflicts with another parameter", async () => {
    const message = "`temperature` and `top_p` cannot both be specified for this model. Please use only one.";
    server.rejectWith((body) =>
      hasField(body, "temperature") && hasField(body, "top_p")
        ? { status: 400, body: { type: "error", error: { type: "invalid_request_error", message } } }
        : null,
    );
    const { first, requests } = await runTwice("anthropic/own");
    expect([first.text, requests]).toEqual(["Done.", [2, 1]]);
    expect([hasField(server.bodies[1] ?? {}, "temperature"), hasField(server.bodies[1] ?? {}, "top_p")]).toEqual([
      true,
      false,
    ]);
  });

  test("is renamed without changing its value if it is `max_tokens`", async () => {
    const message =
      "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.";
    server.rejectWith((body) =>
      hasField(body, "max_tokens") ? { status: 400, body: createOpenAiError(message, "max_tokens") } : null,
    );
    const { first, requests } = await runTwice("compatible/own");
    expect([first.text, requests]).toEqual(["Done.", [2, 1]]);
    expect(server.bodies[1]).toMatchObject({ max_completion_tokens: 500 });
  });

  test("is omitted together with the others that the error lists", async () => {
    const names = ["temperature", "top_p", "stop", "stream_options"];
    server.rejectWith((body) => {
      const name = names.find((field) => hasField(body, field));
      return name ? { status: 400, body: createUnsupportedError(name) } : null;
    });
    const rejectedSingly = await runTwice("compatible/own");
    expect([rejectedSingly.first.text, rejectedSingly.requests]).toEqual(["Done.", [5, 1]]);
    server.rejectWith((body) => {
      const rejectedNames = names.filter((field) => hasField(body, field));
      return rejectedNames.length > 0
        ? { status: 422, body: { detail: rejectedNames.map((name) => createPydanticError(name)) } }
        : null;
    });
    const rejectedTogether = await runTwice("compatible/own");
    expect([rejectedTogether.first.text, rejectedTogether.requests]).toEqual(["Done.", [2, 1]]);
  });

  test("is still sent with other values if a value was out of range", async () => {
    server.rejectWith((body) =>
      Number(body.temperature ?? 0) > 1
        ? {
            status: 400,
            body: createOpenAiError("Invalid 'temperature': expected a value <= 1, but got 1.5.", "temperature"),
          }
        : null,
    );
    const chain = createTestChain(server.urls, ["compatible/own"]);
    const high = await collect(chain, { options: { temperature: 1.5 } });
    const low = await collect(chain, { options: { temperature: 0.5 } });
    expect([high.text, low.text]).toEqual(["Done.", "Done."]);
    expect(server.bodies.map(({ temperature }) => temperature)).toEqual([1.5, undefined, 0.5]);
  });

  test.each(["openai/model", "anthropic/model", "compatible/model"])(
    "is also omitted if %s rejects it with status 200",
    async (model) => {
      const error = {
        type: "invalid_request_error",
        message: "Unsupported parameter: 'temperature'",
        param: "temperature",
      };
      const body = { type: "error", error };
      for (const rejection of [body, `data: ${JSON.stringify(body)}\n\ndata: [DONE]\n\n`]) {
        server.rejectWith((sent) => (hasField(sent, "temperature") ? { status: 200, body: rejection } : null));
        const { first, second, requests, events } = await runTwice(model);
        expect([first.text, second.text, first.end.type]).toEqual(["Done.", "Done.", "finish"]);
        expect(requests).toEqual([2, 1]);
        expect(events.filter(([kind]) => kind === "attempt").length).toBe(2);
      }
    },
  );

  test("ends the attempt if it is rejected after some text", async () => {
    const text = JSON.stringify({ choices: [{ delta: { content: "Half. " } }] });
    const error = JSON.stringify({ error: { message: "Unsupported parameter: 'temperature'", code: 400 } });
    server.rejectWith((sent) =>
      sent.model === "model" ? { status: 200, body: `data: ${text}\n\ndata: ${error}\n\n` } : null,
    );
    const chain = createTestChain(server.urls, ["compatible/model", "anthropic/spare"]);
    const { text: written, end } = await collect(chain, fullRequest);
    expect([written, end.model, server.bodies.length]).toEqual(["Half. Done.", "anthropic/spare", 2]);
  });

  test("is still sent to other models", async () => {
    server.rejectWith(({ model, ...body }) =>
      model === "own" && hasField(body, "temperature")
        ? { status: 400, body: createUnsupportedError("temperature") }
        : null,
    );
    const chain = createTestChain(server.urls, ["compatible/own", "compatible/other"]);
    for (const model of ["compatible/own", "compatible/other"]) await collect(chain, { ...fullRequest, model });
    expect(server.bodies.map((body) => [body.model, hasField(body, "temperature")])).toEqual([
      ["own", true],
      ["own", false],
      ["other", true],
    ]);
  });
});

describe("a rejection", () => {
  const cases: [name: string, status: number, body: unknown][] = [
    [
      "a model that does not exist",
      404,
      createOpenAiError("The model 'temperature' does not exist", null, "model_not_found"),
    ],
    [
      "a conversation that is too long",
      400,
      createOpenAiError("Too long; temperature", "messages", "context_length_exceeded"),
    ],
    [
      "a conversation that is too long, in a sentence",
      400,
      createOpenAiError(
        "This model's maximum context length is 8192 tokens; max_tokens and temperature don't help",
        null,
      ),
    ],
    [
      "messages",
      400,
      createOpenAiError("Invalid value: 'temperature' is not a role.", "messages[0].role", "invalid_value"),
    ],
    [
      "tools",
      400,
      createOpenAiError("Invalid schema for function 'stop'.", "tools[0].function.parameters", "invalid_schema"),
    ],
    [
      "an answer limit that is too large",
      400,
      createOpenAiError("max_tokens is too large: 500. At most 100.", "max_tokens"),
    ],
    [
      "words that are not parameter names",
      400,
      createOpenAiError("This request can not be served; stop sending it, or store it."),
    ],
    ["a parameter that wasn't sent", 400, createOpenAiError("Unsupported parameter: 'logprobs'", "logprobs")],
    ["a server error", 500, createOpenAiError("Unsupported parameter: 'temperature'", "temperature")],
    ["no text", 400, ""],
    ["a web page", 400, "<!doctype html><title>400 Bad Request</title>"],
  ];
  test.each(cases)("isn't retried without a parameter to omit (%s)", async (_name, status, body) => {
    server.rejectWith(({ model }) => (model === "own" ? { status, body } : null));
    const chain = createTestChain(server.urls, ["compatible/own"], { maxRetries: 0 });
    const { end } = await collect(chain, fullRequest);
    expect([end.type, server.bodies.length]).toEqual(["error", 1]);
  });

  test("is retried a few times, then the next model is tried", async () => {
    const names = ["temperature", "top_p", "stop", "stream_options", "parallel_tool_calls", "strict", "tool_choice"];
    server.rejectWith((body) => {
      if (body.model !== "own") return null;
      const name = names.find((field) => hasField(body, field));
      return { status: 400, body: name ? createUnsupportedError(name) : createOpenAiError("No.") };
    });
    const { first, requests } = await runTwice("compatible/own");
    expect(first.text).toBe("Done.");
    expect(requests[0]).toBe(ADAPTATIONS_MAX + 2);
  });

  test("isn't remembered if the omission didn't help", async () => {
    server.rejectWith(({ model }) =>
      model === "own" ? { status: 400, body: createUnsupportedError("temperature") } : null,
    );
    const chain = createTestChain(server.urls, ["compatible/own"]);
    await collect(chain, fullRequest);
    server.rejectWith(() => null);
    await collect(chain, fullRequest);
    expect(server.bodies.map((body) => hasField(body, "temperature"))).toEqual([true]);
  });
});

describe("learned parameters", () => {
  const rejection = JSON.stringify(createUnsupportedError("temperature"));
  const begin = (adapter: ParameterAdapter, model: string) => adapter.begin({ model, temperature: 0.2 });

  test("are reported once per model and parameter", () => {
    const learned: string[][] = [];
    const adapter = createParameterAdapter({ api: "chat", onLearned: (...kind) => learned.push(kind) });
    const requests = ["a", "a", "b"].map((model) => begin(adapter, model));
    for (const { adaptBody } of requests) expect(hasField(adaptBody(400, rejection) ?? {}, "temperature")).toBe(false);
    expect(learned).toEqual([
      ["a", "temperature"],
      ["b", "temperature"],
    ]);
  });

  test("are logged once, with the model's full name", async () => {
    server.rejectWith((body) =>
      hasField(body, "top_p") ? { status: 400, body: createUnsupportedError("top_p") } : null,
    );
    const lines: unknown[] = [];
    const observeRequests = { onLearned: (model: string, parameter: string) => lines.push({ model, parameter }) };
    const chain = createTestChain(server.urls, ["anthropic/own"], { observeRequests });
    for (let index = 0; index < 3; index += 1) await collect(chain, fullRequest);
    expect(lines).toEqual([{ model: "anthropic/own", parameter: "top_p" }]);
  });

  test("are remembered only for the models that were used last", () => {
    const adapter = createParameterAdapter({ api: "chat" });
    for (let index = 0; index <= LEARNED_MODELS_MAX; index += 1)
      begin(adapter, `model${index}`).adaptBody(400, rejection);
    const isSent = (model: string) => hasField(begin(adapter, model).body, "temperature");
    expect(["model0", "model1", `model${LEARNED_MODELS_MAX}`].map(isSent)).toEqual([true, false, false]);
  });
});

describe("a request with nested parameters", () => {
  /** Returns the body that is sent after a rejection. */
  function adaptBody(api: "responses" | "messages", body: Record<string, unknown>, rejection: unknown) {
    return createParameterAdapter({ api }).begin(body).adaptBody(400, JSON.stringify(rejection));
  }
  const notVerified = "Your organization must be verified to generate reasoning summaries.";

  test.each([
    ["a field", createOpenAiError(notVerified, "reasoning.summary", "unsupported_value")],
    ["a sentence", createOpenAiError(notVerified)],
  ])("loses only the reasoning summary if %s of the error rejects it", (_name, rejection) => {
    const reasoning = { effort: "high", summary: "auto" };
    expect(adaptBody("responses", { model: "m", reasoning }, rejection)).toEqual({
      model: "m",
      reasoning: { effort: "high" },
    });
    expect(adaptBody("responses", { model: "m", reasoning: { summary: "auto" } }, rejection)).toEqual({ model: "m" });
  });

  test("loses `reasoning` completely if the model doesn't support it", () => {
    const rejection = createUnsupportedError("reasoning.effort");
    expect(adaptBody("responses", { model: "m", reasoning: { summary: "auto" } }, rejection)).toEqual({ model: "m" });
  });

  test("loses all cache markers but no text", () => {
    const cacheMarker = { cache_control: { type: "ephemeral" } };
    const block = { type: "text", text: "Hello." };
    const messages = [
      { role: "user", content: "Hello." },
      { role: "assistant", content: [block, { ...block, ...cacheMarker }] },
    ];
    const rejection = { error: { message: "system.0.cache_control: Extra inputs are not permitted" } };
    expect(adaptBody("messages", { model: "m", system: [{ ...block, ...cacheMarker }], messages }, rejection)).toEqual({
      model: "m",
      system: [block],
      messages: [messages[0], { role: "assistant", content: [block, block] }],
    });
  });

  test("loses `tool_choice` only if it has the default value", () => {
    const rejection = createOpenAiError("Unrecognized request argument supplied: tool_choice");
    expect(adaptBody("responses", { model: "m", tool_choice: "auto" }, rejection)).toEqual({ model: "m" });
    for (const tool_choice of ["required", "none", { type: "function", name: "f" }])
      expect(adaptBody("responses", { model: "m", tool_choice }, rejection)).toBeNull();
  });
});

describe("parameters that a model is known to reject aren't sent", () => {
  const captureBody = async (model: string, request: Partial<RunRequest> = fullRequest): Promise<SentBody> => {
    server.rejectWith(() => null);
    await collect(createTestChain(server.urls, [model]), request);
    return server.bodies[0] ?? {};
  };

  test.each(["openai/gpt-5", "openai/gpt-5.2-pro", "openai/o3-mini", "openai/o1"])("to %s", async (model) => {
    const body = await captureBody(model);
    expect([hasField(body, "temperature"), hasField(body, "top_p"), body.max_output_tokens]).toEqual([
      false,
      false,
      500,
    ]);
  });

  test.each(["compatible/gpt-5", "compatible/openai/gpt-5-mini", "compatible/vendor/o3-mini", "compatible/o4-mini"])(
    "to %s",
    async (model) => {
      const body = await captureBody(model);
      const sentNames = ["temperature", "top_p", "stop", "max_tokens"].filter((name) => hasField(body, name));
      expect([sentNames, body.max_completion_tokens]).toEqual([[], 500]);
    },
  );

  test.each(["openai/gpt-5-chat-latest", "openai/gpt-4o", "compatible/gpt-oss-120b", "compatible/openai/gpt-5-chat"])(
    "except to %s, which accepts them",
    async (model) => {
      const body = await captureBody(model);
      expect(body).toMatchObject({ temperature: 0.2, top_p: 0.9 });
    },
  );

  test.each([
    ["claude-sonnet-4-5", false],
    ["claude-opus-4-1-20250805", false],
    ["claude-opus-5", false],
    ["claude-sonnet-4-20250514", true],
    ["claude-3-5-haiku-latest", true],
  ])("to anthropic/%s (`top_p` with `temperature`: %p)", async (model, isSent) => {
    const body = await captureBody(`anthropic/${model}`);
    expect([body.temperature, hasField(body, "top_p")]).toEqual([0.2, isSent]);
    const alone = await captureBody(`anthropic/${model}`, { options: { topP: 0.9 } });
    expect(alone.top_p).toBe(0.9);
  });

  test("but `max_tokens` is sent again to a server that doesn't know its new name", async () => {
    server.rejectWith((body) =>
      hasField(body, "max_completion_tokens")
        ? { status: 400, body: createOpenAiError("Unrecognized request argument supplied: max_completion_tokens") }
        : null,
    );
    const { first, requests } = await runTwice("compatible/vendor/o3-mini");
    expect([first.text, requests]).toEqual(["Done.", [2, 1]]);
    expect(server.bodies[1]).toMatchObject({ max_tokens: 500 });
  });
});

describe("a rejection in a successful response", () => {
  const error = createUnsupportedError("temperature");
  const document = JSON.stringify(error);
  test.each([
    ["a document", document, "application/json"],
    ["an event", `data: ${document}\n\n`, "text/event-stream"],
    ["an error event", `: wait\n\nevent: error\ndata: ${document}\n\n`, "text/event-stream"],
  ])("is recognized in %s", async (_name, body, type) => {
    for (const model of ["openai/gpt-4o", "anthropic/claude-3-opus", "compatible/any"]) {
      server.rejectWith((sent) => (hasField(sent, "temperature") ? { status: 200, body, type } : null));
      const { first, second, requests, events } = await runTwice(model);
      expect([first.text, second.text, requests]).toEqual(["Done.", "Done.", [2, 1]]);
      expect(events.filter(([kind]) => kind === "attempt").map(([, , outcome]) => outcome)).toEqual([
        "complete",
        "complete",
      ]);
      expect(first.end.usage).toMatchObject({ input_tokens: 11, output_tokens: 3 });
    }
  });

  test("isn't retried if it doesn't concern a parameter", async () => {
    const other = 'data: {"error":{"code":"context_length_exceeded","message":"temperature is not supported"}}\n\n';
    server.rejectWith((sent) =>
      sent.model === "any" ? { status: 200, body: other, type: "text/event-stream" } : null,
    );
    const { requests } = await runTwice("compatible/any");
    expect(requests).toEqual([2, 2]);
    expect(server.bodies.map(({ model }) => model)).toEqual(["any", "spare", "any", "spare"]);
  });

  test("ends the attempt if the answer has started", async () => {
    const startedAnswer = `data: {"choices":[{"delta":{"content":"Do"}}]}\n\ndata: ${document}\n\n`;
    server.rejectWith((sent) =>
      sent.model === "any" ? { status: 200, body: startedAnswer, type: "text/event-stream" } : null,
    );
    await runTwice("compatible/any");
    expect(server.bodies.map(({ model }) => model)).toEqual(["any", "spare", "any", "spare"]);
  });
});
