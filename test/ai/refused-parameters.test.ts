import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { RunRequest } from "../../src/ai/chain/chain.ts";
import {
  ADAPTATIONS_MAX,
  createParameterAdapter,
  LEARNED_MODELS_MAX,
  type ParameterAdapter,
} from "../../src/ai/providers/parameters/adapter.ts";
import { collectRun, createRecordingObserver, createTestChain } from "./collect.ts";
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
  const { observer, events } = createRecordingObserver();
  const chain = createTestChain(server.urls, [model, "anthropic/spare"], { observer, maxRetries: 3 });
  const firstRun = await collectRun(chain, request);
  const firstRequestCount = server.bodies.length;
  const secondRun = await collectRun(chain, request);
  expect(chain.listModels().every(({ state }) => state === "available")).toBe(true);
  return {
    firstRun,
    secondRun,
    requestCounts: [firstRequestCount, server.bodies.length - firstRequestCount],
    events,
  };
}

describe("a rejected parameter", () => {
  test.each(rejections)(
    "is omitted when the request is retried in the same attempt ($name: $parameter)",
    async ({ model, parameter, status = 400, rejection }) => {
      server.rejectWith((body) => (hasField(body, parameter) ? { status, body: rejection } : null));
      const { firstRun, secondRun, requestCounts, events } = await runTwice(model);
      expect([firstRun.text, secondRun.text]).toEqual(["Done.", "Done."]);
      // The rejection is remembered, unless only the value was rejected.
      const isRemembered = !JSON.stringify(rejection).includes("invalid temperature");
      expect(requestCounts).toEqual([2, isRemembered ? 1 : 2]);
      const [rejected, accepted] = server.bodies;
      expect([hasField(rejected ?? {}, parameter), hasField(accepted ?? {}, parameter)]).toEqual([true, false]);
      // No other parameter was omitted.
      const checkedNames = ["temperature", "top_p", "stop", "stop_sequences", "tools", "model", "max_tokens"];
      for (const otherName of checkedNames.filter((name) => name !== parameter))
        expect([otherName, hasField(accepted ?? {}, otherName)]).toEqual([
          otherName,
          hasField(rejected ?? {}, otherName),
        ]);
      // Each run is one attempt that didn't fail, and only the answer is charged.
      expect(events.filter(([kind]) => kind === "attempt")).toEqual([
        ["attempt", model, "complete", null],
        ["attempt", model, "complete", null],
      ]);
      expect(events.filter(([kind]) => kind === "failover" || kind === "state")).toEqual([]);
      expect(firstRun.end.usage).toMatchObject({ input_tokens: 11, output_tokens: 3, estimated: false });
    },
  );

  test("is omitted if it conflicts with another parameter", async () => {
    const message = "`temperature` and `top_p` cannot both be specified for this model. Please use only one.";
    server.rejectWith((body) =>
      hasField(body, "temperature") && hasField(body, "top_p")
        ? { status: 400, body: { type: "error", error: { type: "invalid_request_error", message } } }
        : null,
    );
    const { firstRun, requestCounts } = await runTwice("anthropic/own");
    expect([firstRun.text, requestCounts]).toEqual(["Done.", [2, 1]]);
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
    const { firstRun, requestCounts } = await runTwice("compatible/own");
    expect([firstRun.text, requestCounts]).toEqual(["Done.", [2, 1]]);
    expect(server.bodies[1]).toMatchObject({ max_completion_tokens: 500 });
  });

  test("is omitted together with the other parameters that the error lists", async () => {
    const names = ["temperature", "top_p", "stop", "stream_options"];
    server.rejectWith((body) => {
      const name = names.find((field) => hasField(body, field));
      return name ? { status: 400, body: createUnsupportedError(name) } : null;
    });
    const runsWithSeparateErrors = await runTwice("compatible/own");
    expect([runsWithSeparateErrors.firstRun.text, runsWithSeparateErrors.requestCounts]).toEqual(["Done.", [5, 1]]);
    server.rejectWith((body) => {
      const rejectedNames = names.filter((field) => hasField(body, field));
      return rejectedNames.length > 0
        ? { status: 422, body: { detail: rejectedNames.map((name) => createPydanticError(name)) } }
        : null;
    });
    const runsWithJointError = await runTwice("compatible/own");
    expect([runsWithJointError.firstRun.text, runsWithJointError.requestCounts]).toEqual(["Done.", [2, 1]]);
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
    const runWithHighTemperature = await collectRun(chain, { options: { temperature: 1.5 } });
    const runWithLowTemperature = await collectRun(chain, { options: { temperature: 0.5 } });
    expect([runWithHighTemperature.text, runWithLowTemperature.text]).toEqual(["Done.", "Done."]);
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
        const { firstRun, secondRun, requestCounts, events } = await runTwice(model);
        expect([firstRun.text, secondRun.text, firstRun.end.type]).toEqual(["Done.", "Done.", "finish"]);
        expect(requestCounts).toEqual([2, 1]);
        expect(events.filter(([kind]) => kind === "attempt").length).toBe(2);
      }
    },
  );

  test("ends the attempt if the rejection arrives after some text", async () => {
    const textChunk = JSON.stringify({ choices: [{ delta: { content: "Half. " } }] });
    const error = JSON.stringify({ error: { message: "Unsupported parameter: 'temperature'", code: 400 } });
    server.rejectWith((sent) =>
      sent.model === "model" ? { status: 200, body: `data: ${textChunk}\n\ndata: ${error}\n\n` } : null,
    );
    const chain = createTestChain(server.urls, ["compatible/model", "anthropic/spare"]);
    const { text, end } = await collectRun(chain, fullRequest);
    expect([text, end.model, server.bodies.length]).toEqual(["Half. Done.", "anthropic/spare", 2]);
  });

  test("is still sent to other models", async () => {
    server.rejectWith(({ model, ...body }) =>
      model === "own" && hasField(body, "temperature")
        ? { status: 400, body: createUnsupportedError("temperature") }
        : null,
    );
    const chain = createTestChain(server.urls, ["compatible/own", "compatible/other"]);
    for (const model of ["compatible/own", "compatible/other"]) await collectRun(chain, { ...fullRequest, model });
    expect(server.bodies.map((body) => [body.model, hasField(body, "temperature")])).toEqual([
      ["own", true],
      ["own", false],
      ["other", true],
    ]);
  });
});

describe("a rejected request", () => {
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
      "an invalid message",
      400,
      createOpenAiError("Invalid value: 'temperature' is not a role.", "messages[0].role", "invalid_value"),
    ],
    [
      "an invalid tool schema",
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
    ["an empty body", 400, ""],
    ["a web page", 400, "<!doctype html><title>400 Bad Request</title>"],
  ];
  test.each(cases)("isn't retried if no parameter can be omitted (%s)", async (_name, status, body) => {
    server.rejectWith(({ model }) => (model === "own" ? { status, body } : null));
    const chain = createTestChain(server.urls, ["compatible/own"], { maxRetries: 0 });
    const { end } = await collectRun(chain, fullRequest);
    expect([end.type, server.bodies.length]).toEqual(["error", 1]);
  });

  test("is retried a few times, then the next model is tried", async () => {
    const names = ["temperature", "top_p", "stop", "stream_options", "parallel_tool_calls", "strict", "tool_choice"];
    server.rejectWith((body) => {
      if (body.model !== "own") return null;
      const name = names.find((field) => hasField(body, field));
      return { status: 400, body: name ? createUnsupportedError(name) : createOpenAiError("No.") };
    });
    const { firstRun, requestCounts } = await runTwice("compatible/own");
    expect(firstRun.text).toBe("Done.");
    // The original request, its retries, and the request to the next model.
    expect(requestCounts[0]).toBe(1 + ADAPTATIONS_MAX + 1);
  });

  test("doesn't mark a parameter as unsupported if omitting it didn't help", async () => {
    server.rejectWith(({ model }) =>
      model === "own" ? { status: 400, body: createUnsupportedError("temperature") } : null,
    );
    const chain = createTestChain(server.urls, ["compatible/own"]);
    await collectRun(chain, fullRequest);
    server.rejectWith(() => null);
    await collectRun(chain, fullRequest);
    expect(server.bodies.map((body) => hasField(body, "temperature"))).toEqual([true]);
  });
});

describe("parameters that a model has rejected", () => {
  const rejection = JSON.stringify(createUnsupportedError("temperature"));
  const beginRequest = (adapter: ParameterAdapter, model: string) =>
    adapter.startAdaptation({ model, temperature: 0.2 });

  test("are reported once per model and parameter", () => {
    const learnedPairs: string[][] = [];
    const adapter = createParameterAdapter({ api: "chat", onParameterRejected: (...pair) => learnedPairs.push(pair) });
    const requests = ["a", "a", "b"].map((model) => beginRequest(adapter, model));
    for (const { adaptBody } of requests) expect(hasField(adaptBody(400, rejection) ?? {}, "temperature")).toBe(false);
    expect(learnedPairs).toEqual([
      ["a", "temperature"],
      ["b", "temperature"],
    ]);
  });

  test("are logged once, with the model's full name", async () => {
    server.rejectWith((body) =>
      hasField(body, "top_p") ? { status: 400, body: createUnsupportedError("top_p") } : null,
    );
    const logEntries: unknown[] = [];
    const requestObserver = {
      onParameterRejected: (model: string, parameter: string) => logEntries.push({ model, parameter }),
    };
    const chain = createTestChain(server.urls, ["anthropic/own"], { requestObserver });
    for (let index = 0; index < 3; index += 1) await collectRun(chain, fullRequest);
    expect(logEntries).toEqual([{ model: "anthropic/own", parameter: "top_p" }]);
  });

  test("are remembered only for the most recently used models", () => {
    const adapter = createParameterAdapter({ api: "chat" });
    for (let index = 0; index <= LEARNED_MODELS_MAX; index += 1)
      beginRequest(adapter, `model${index}`).adaptBody(400, rejection);
    const isSent = (model: string) => hasField(beginRequest(adapter, model).body, "temperature");
    expect(["model0", "model1", `model${LEARNED_MODELS_MAX}`].map(isSent)).toEqual([true, false, false]);
  });
});

describe("a request with nested parameters", () => {
  /** Returns the body that is sent after a rejection, or null if the request isn't retried. */
  function adaptBody(api: "responses" | "messages", body: Record<string, unknown>, rejection: unknown) {
    return createParameterAdapter({ api }).startAdaptation(body).adaptBody(400, JSON.stringify(rejection));
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

describe("parameters that a model is known to reject", () => {
  const captureBody = async (model: string, request: Partial<RunRequest> = fullRequest): Promise<SentBody> => {
    server.rejectWith(() => null);
    await collectRun(createTestChain(server.urls, [model]), request);
    return server.bodies[0] ?? {};
  };

  test.each(["openai/gpt-5", "openai/gpt-5.2-pro", "openai/o3-mini", "openai/o1"])(
    "aren't sent to %s",
    async (model) => {
      const body = await captureBody(model);
      expect([hasField(body, "temperature"), hasField(body, "top_p"), body.max_output_tokens]).toEqual([
        false,
        false,
        500,
      ]);
    },
  );

  test.each(["compatible/gpt-5", "compatible/openai/gpt-5-mini", "compatible/vendor/o3-mini", "compatible/o4-mini"])(
    "aren't sent to %s",
    async (model) => {
      const body = await captureBody(model);
      const sentNames = ["temperature", "top_p", "stop", "max_tokens"].filter((name) => hasField(body, name));
      expect([sentNames, body.max_completion_tokens]).toEqual([[], 500]);
    },
  );

  test.each(["openai/gpt-5-chat-latest", "openai/gpt-4o", "compatible/gpt-oss-120b", "compatible/openai/gpt-5-chat"])(
    "are sent to %s, which accepts them",
    async (model) => {
      const body = await captureBody(model);
      expect(body).toMatchObject({ temperature: 0.2, top_p: 0.9 });
    },
  );

  test.each([
    ["claude-sonnet-4-5", true],
    ["claude-opus-4-1-20250805", true],
    ["claude-opus-5", true],
    ["claude-sonnet-4-20250514", false],
    ["claude-3-5-haiku-latest", false],
  ])("include `top_p` together with `temperature` for anthropic/%s: %p", async (model, isRejected) => {
    const body = await captureBody(`anthropic/${model}`);
    expect([body.temperature, hasField(body, "top_p")]).toEqual([0.2, !isRejected]);
    const bodyWithoutTemperature = await captureBody(`anthropic/${model}`, { options: { topP: 0.9 } });
    expect(bodyWithoutTemperature.top_p).toBe(0.9);
  });

  test("include `max_tokens`, but it is sent to a server that rejects its new name", async () => {
    server.rejectWith((body) =>
      hasField(body, "max_completion_tokens")
        ? { status: 400, body: createOpenAiError("Unrecognized request argument supplied: max_completion_tokens") }
        : null,
    );
    const { firstRun, requestCounts } = await runTwice("compatible/vendor/o3-mini");
    expect([firstRun.text, requestCounts]).toEqual(["Done.", [2, 1]]);
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
      const { firstRun, secondRun, requestCounts, events } = await runTwice(model);
      expect([firstRun.text, secondRun.text, requestCounts]).toEqual(["Done.", "Done.", [2, 1]]);
      expect(events.filter(([kind]) => kind === "attempt").map(([, , outcome]) => outcome)).toEqual([
        "complete",
        "complete",
      ]);
      expect(firstRun.end.usage).toMatchObject({ input_tokens: 11, output_tokens: 3 });
    }
  });

  test("causes no retry if it doesn't concern a parameter", async () => {
    const unrelatedRejection =
      'data: {"error":{"code":"context_length_exceeded","message":"temperature is not supported"}}\n\n';
    server.rejectWith((sent) =>
      sent.model === "any" ? { status: 200, body: unrelatedRejection, type: "text/event-stream" } : null,
    );
    const { requestCounts } = await runTwice("compatible/any");
    expect(requestCounts).toEqual([2, 2]);
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
