import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { RunRequest } from "../../src/ai/chain/chain.ts";
import {
  ADAPTATIONS_MAX,
  createParameterAdapter,
  LEARNED_MODELS_MAX,
  type ParameterAdapter,
} from "../../src/ai/providers/parameters/adapter.ts";
import { collect, createRecorder, createTestChain } from "./collect.ts";
import { type SentBody, startRejectingServer } from "./rejecting-server.ts";
import { openAi, pydantic, rejections, unsupported } from "./rejections.ts";

let server: ReturnType<typeof startRejectingServer>;
beforeAll(() => {
  server = startRejectingServer();
});
afterAll(() => server.stop());

const tool = { name: "look_up", description: null, parameters: { type: "object" }, isStrict: true };
const everything = {
  tools: [tool],
  toolChoice: "auto" as const,
  temperature: 0.2,
  topP: 0.9,
  stop: ["END"],
  areParallelToolCallsAllowed: false,
};
const fullRequest: Partial<RunRequest> = { options: everything, outputTokensMax: 500 };

const has = (body: SentBody, name: string): boolean => JSON.stringify(body).includes(`"${name}":`);

/** Requests two answers; returns whether both succeeded, and the number of requests for each. */
async function askTwice(model: string, request: Partial<RunRequest> = fullRequest) {
  const { observe, events } = createRecorder();
  const chain = createTestChain(server.urls, [model, "anthropic/spare"], { observe, maxRetries: 3 });
  const first = await collect(chain, request);
  const requests = server.bodies.length;
  const second = await collect(chain, request);
  expect(chain.models().every(({ state }) => state === "available")).toBe(true);
  return { first, second, requests: [requests, server.bodies.length - requests], events };
}

describe("a rejected parameter is omitted, in the same attempt", () => {
  test.each(rejections)("$name: $parameter ($model)", async ({ model, parameter, status = 400, rejection }) => {
    server.refuse((body) => (has(body, parameter) ? { status, body: rejection } : null));
    const { first, second, requests, events } = await askTwice(model);
    expect([first.text, second.text]).toEqual(["Done.", "Done."]);
    // The rejection is remembered, unless only the value was rejected.
    const isLearned = !JSON.stringify(rejection).includes("invalid temperature");
    expect(requests).toEqual([2, isLearned ? 1 : 2]);
    const [refused, taken] = server.bodies;
    expect([has(refused ?? {}, parameter), has(taken ?? {}, parameter)]).toEqual([true, false]);
    // Nothing else was omitted.
    const others = ["temperature", "top_p", "stop", "stop_sequences", "tools", "model", "max_tokens"];
    for (const other of others.filter((name) => name !== parameter))
      expect([other, has(taken ?? {}, other)]).toEqual([other, has(refused ?? {}, other)]);
    // One attempt, not counted as failed, and only the answer is charged.
    expect(events.filter(([what]) => what === "attempt")).toEqual([
      ["attempt", model, "complete", true, null],
      ["attempt", model, "complete", true, null],
    ]);
    expect(events.filter(([what]) => what === "failover" || what === "state")).toEqual([]);
    expect(first.end.usage).toMatchObject({ input_tokens: 11, output_tokens: 3, estimated: false });
  });

  test("of conflicting `temperature` and `top_p`, the first is kept", async () => {
    const message = "`temperature` and `top_p` cannot both be specified for this model. Please use only one.";
    server.refuse((body) =>
      has(body, "temperature") && has(body, "top_p")
        ? { status: 400, body: { type: "error", error: { type: "invalid_request_error", message } } }
        : null,
    );
    const { first, requests } = await askTwice("anthropic/own");
    expect([first.text, requests]).toEqual(["Done.", [2, 1]]);
    expect([has(server.bodies[1] ?? {}, "temperature"), has(server.bodies[1] ?? {}, "top_p")]).toEqual([true, false]);
  });

  test("`max_tokens` is renamed, and keeps its value", async () => {
    const message =
      "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.";
    server.refuse((body) => (has(body, "max_tokens") ? { status: 400, body: openAi(message, "max_tokens") } : null));
    const { first, requests } = await askTwice("compatible/own");
    expect([first.text, requests]).toEqual(["Done.", [2, 1]]);
    expect(server.bodies[1]).toMatchObject({ max_completion_tokens: 500 });
  });

  test("several are omitted one by one, or together if all are listed", async () => {
    const names = ["temperature", "top_p", "stop", "stream_options"];
    server.refuse((body) => {
      const name = names.find((each) => has(body, each));
      return name ? { status: 400, body: unsupported(name) } : null;
    });
    const one = await askTwice("compatible/own");
    expect([one.first.text, one.requests]).toEqual(["Done.", [5, 1]]);
    server.refuse((body) => {
      const found = names.filter((each) => has(body, each));
      return found.length > 0 ? { status: 422, body: { detail: found.map((name) => pydantic(name)) } } : null;
    });
    const all = await askTwice("compatible/own");
    expect([all.first.text, all.requests]).toEqual(["Done.", [2, 1]]);
  });

  test("an out-of-range value is omitted once, but other values aren't", async () => {
    server.refuse((body) =>
      Number(body.temperature ?? 0) > 1
        ? { status: 400, body: openAi("Invalid 'temperature': expected a value <= 1, but got 1.5.", "temperature") }
        : null,
    );
    const chain = createTestChain(server.urls, ["compatible/own"]);
    const high = await collect(chain, { options: { temperature: 1.5 } });
    const low = await collect(chain, { options: { temperature: 0.5 } });
    expect([high.text, low.text]).toEqual(["Done.", "Done."]);
    expect(server.bodies.map(({ temperature }) => temperature)).toEqual([1.5, undefined, 0.5]);
  });

  test.each(["openai/model", "anthropic/model", "compatible/model"])(
    "%s: a rejection in a successful response, as an event or a document, counts too",
    async (model) => {
      const error = {
        type: "invalid_request_error",
        message: "Unsupported parameter: 'temperature'",
        param: "temperature",
      };
      const body = { type: "error", error };
      for (const rejection of [body, `data: ${JSON.stringify(body)}\n\ndata: [DONE]\n\n`]) {
        server.refuse((sent) => (has(sent, "temperature") ? { status: 200, body: rejection } : null));
        const { first, second, requests, events } = await askTwice(model);
        expect([first.text, second.text, first.end.type]).toEqual(["Done.", "Done.", "finish"]);
        expect(requests).toEqual([2, 1]);
        expect(events.filter(([what]) => what === "attempt").length).toBe(2);
      }
    },
  );

  test("a rejection after some text ends the attempt", async () => {
    const text = JSON.stringify({ choices: [{ delta: { content: "Half. " } }] });
    const error = JSON.stringify({ error: { message: "Unsupported parameter: 'temperature'", code: 400 } });
    server.refuse((sent) =>
      sent.model === "model" ? { status: 200, body: `data: ${text}\n\ndata: ${error}\n\n` } : null,
    );
    const chain = createTestChain(server.urls, ["compatible/model", "anthropic/spare"]);
    const { text: written, end } = await collect(chain, fullRequest);
    expect([written, end.model, server.bodies.length]).toEqual(["Half. Done.", "anthropic/spare", 2]);
  });

  test("a parameter that one model rejects is still sent to another", async () => {
    server.refuse(({ model, ...body }) =>
      model === "own" && has(body, "temperature") ? { status: 400, body: unsupported("temperature") } : null,
    );
    const chain = createTestChain(server.urls, ["compatible/own", "compatible/other"]);
    for (const model of ["compatible/own", "compatible/other"]) await collect(chain, { ...fullRequest, model });
    expect(server.bodies.map((body) => [body.model, has(body, "temperature")])).toEqual([
      ["own", true],
      ["own", false],
      ["other", true],
    ]);
  });
});

describe("isn't retried", () => {
  const others: [name: string, status: number, body: unknown][] = [
    ["a model that does not exist", 404, openAi("The model 'temperature' does not exist", null, "model_not_found")],
    ["a conversation that is too long", 400, openAi("Too long; temperature", "messages", "context_length_exceeded")],
    [
      "a conversation that is too long, in a sentence",
      400,
      openAi("This model's maximum context length is 8192 tokens; max_tokens and temperature don't help", null),
    ],
    ["messages", 400, openAi("Invalid value: 'temperature' is not a role.", "messages[0].role", "invalid_value")],
    ["tools", 400, openAi("Invalid schema for function 'stop'.", "tools[0].function.parameters", "invalid_schema")],
    ["an answer limit that is too large", 400, openAi("max_tokens is too large: 500. At most 100.", "max_tokens")],
    [
      "words that are not parameter names",
      400,
      openAi("This request can not be served; stop sending it, or store it."),
    ],
    ["a parameter that wasn't sent", 400, openAi("Unsupported parameter: 'logprobs'", "logprobs")],
    ["a server error", 500, openAi("Unsupported parameter: 'temperature'", "temperature")],
    ["no text", 400, ""],
    ["a web page", 400, "<!doctype html><title>400 Bad Request</title>"],
  ];
  test.each(others)("%s", async (_name, status, body) => {
    server.refuse(({ model }) => (model === "own" ? { status, body } : null));
    const chain = createTestChain(server.urls, ["compatible/own"], { maxRetries: 0 });
    const { end } = await collect(chain, fullRequest);
    expect([end.type, server.bodies.length]).toEqual(["error", 1]);
  });

  test("a server that keeps rejecting is tried a few times, then the next model answers", async () => {
    const names = ["temperature", "top_p", "stop", "stream_options", "parallel_tool_calls", "strict", "tool_choice"];
    server.refuse((body) => {
      if (body.model !== "own") return null;
      const name = names.find((each) => has(body, each));
      return { status: 400, body: name ? unsupported(name) : openAi("No.") };
    });
    const { first, requests } = await askTwice("compatible/own");
    expect(first.text).toBe("Done.");
    expect(requests[0]).toBe(ADAPTATIONS_MAX + 2);
  });

  test("omissions that didn't help aren't remembered", async () => {
    server.refuse(({ model }) => (model === "own" ? { status: 400, body: unsupported("temperature") } : null));
    const chain = createTestChain(server.urls, ["compatible/own"]);
    await collect(chain, fullRequest);
    server.refuse(() => null);
    await collect(chain, fullRequest);
    expect(server.bodies.map((body) => has(body, "temperature"))).toEqual([true]);
  });
});

describe("learned parameters", () => {
  const rejection = JSON.stringify(unsupported("temperature"));
  const begin = (adapter: ParameterAdapter, model: string) => adapter.begin({ model, temperature: 0.2 });

  test("are reported once per model and parameter", () => {
    const learned: string[][] = [];
    const adapter = createParameterAdapter({ api: "chat", onLearned: (...what) => learned.push(what) });
    const atOnce = ["a", "a", "b"].map((model) => begin(adapter, model));
    for (const { retry } of atOnce) expect(has(retry(400, rejection) ?? {}, "temperature")).toBe(false);
    expect(learned).toEqual([
      ["a", "temperature"],
      ["b", "temperature"],
    ]);
  });

  test("are logged once, with the model's full name", async () => {
    server.refuse((body) => (has(body, "top_p") ? { status: 400, body: unsupported("top_p") } : null));
    const lines: unknown[] = [];
    const observeRequests = { onLearned: (model: string, parameter: string) => lines.push({ model, parameter }) };
    const chain = createTestChain(server.urls, ["anthropic/own"], { observeRequests });
    for (let index = 0; index < 3; index += 1) await collect(chain, fullRequest);
    expect(lines).toEqual([{ model: "anthropic/own", parameter: "top_p" }]);
  });

  test("are limited: the model learned first is forgotten", () => {
    const adapter = createParameterAdapter({ api: "chat" });
    for (let index = 0; index <= LEARNED_MODELS_MAX; index += 1) begin(adapter, `model${index}`).retry(400, rejection);
    const isSent = (model: string) => has(begin(adapter, model).body, "temperature");
    expect(["model0", "model1", `model${LEARNED_MODELS_MAX}`].map(isSent)).toEqual([true, false, false]);
  });
});

describe("nested parameters", () => {
  /** Returns what is sent after a rejection. */
  function retry(api: "responses" | "messages", body: Record<string, unknown>, rejection: unknown) {
    return createParameterAdapter({ api }).begin(body).retry(400, JSON.stringify(rejection));
  }
  const notVerified = "Your organization must be verified to generate reasoning summaries.";

  test.each([
    ["its field", openAi(notVerified, "reasoning.summary", "unsupported_value")],
    ["a sentence", openAi(notVerified)],
  ])("only a reasoning summary rejected by %s is removed", (_name, rejection) => {
    const reasoning = { effort: "high", summary: "auto" };
    expect(retry("responses", { model: "m", reasoning }, rejection)).toEqual({
      model: "m",
      reasoning: { effort: "high" },
    });
    expect(retry("responses", { model: "m", reasoning: { summary: "auto" } }, rejection)).toEqual({ model: "m" });
  });

  test("reasoning that a model doesn't support is removed completely", () => {
    const rejection = unsupported("reasoning.effort");
    expect(retry("responses", { model: "m", reasoning: { summary: "auto" } }, rejection)).toEqual({ model: "m" });
  });

  test("cache markers are removed everywhere, and the texts stay", () => {
    const mark = { cache_control: { type: "ephemeral" } };
    const block = { type: "text", text: "Hello." };
    const messages = [
      { role: "user", content: "Hello." },
      { role: "assistant", content: [block, { ...block, ...mark }] },
    ];
    const rejection = { error: { message: "system.0.cache_control: Extra inputs are not permitted" } };
    expect(retry("messages", { model: "m", system: [{ ...block, ...mark }], messages }, rejection)).toEqual({
      model: "m",
      system: [block],
      messages: [messages[0], { role: "assistant", content: [block, block] }],
    });
  });

  test("tool_choice is removed only if it has the default value", () => {
    const rejection = openAi("Unrecognized request argument supplied: tool_choice");
    expect(retry("responses", { model: "m", tool_choice: "auto" }, rejection)).toEqual({ model: "m" });
    for (const tool_choice of ["required", "none", { type: "function", name: "f" }])
      expect(retry("responses", { model: "m", tool_choice }, rejection)).toBeNull();
  });
});

describe("parameters that a model is known to reject aren't sent", () => {
  const sent = async (model: string, request: Partial<RunRequest> = fullRequest): Promise<SentBody> => {
    server.refuse(() => null);
    await collect(createTestChain(server.urls, [model]), request);
    return server.bodies[0] ?? {};
  };

  test.each(["openai/gpt-5", "openai/gpt-5.2-pro", "openai/o3-mini", "openai/o1"])("%s", async (model) => {
    const body = await sent(model);
    expect([has(body, "temperature"), has(body, "top_p"), body.max_output_tokens]).toEqual([false, false, 500]);
  });

  test.each(["compatible/gpt-5", "compatible/openai/gpt-5-mini", "compatible/vendor/o3-mini", "compatible/o4-mini"])(
    "%s",
    async (model) => {
      const body = await sent(model);
      const gone = ["temperature", "top_p", "stop", "max_tokens"].filter((name) => has(body, name));
      expect([gone, body.max_completion_tokens]).toEqual([[], 500]);
    },
  );

  test.each(["openai/gpt-5-chat-latest", "openai/gpt-4o", "compatible/gpt-oss-120b", "compatible/openai/gpt-5-chat"])(
    "%s accepts all of them",
    async (model) => {
      const body = await sent(model);
      expect(body).toMatchObject({ temperature: 0.2, top_p: 0.9 });
    },
  );

  test.each([
    ["claude-sonnet-4-5", false],
    ["claude-opus-4-1-20250805", false],
    ["claude-opus-5", false],
    ["claude-sonnet-4-20250514", true],
    ["claude-3-5-haiku-latest", true],
  ])("anthropic/%s: sends `top_p` with `temperature`: %p", async (model, isSent) => {
    const body = await sent(`anthropic/${model}`);
    expect([body.temperature, has(body, "top_p")]).toEqual([0.2, isSent]);
    const alone = await sent(`anthropic/${model}`, { options: { topP: 0.9 } });
    expect(alone.top_p).toBe(0.9);
  });

  test("a server that doesn't know the new name of `max_tokens` gets the old one", async () => {
    server.refuse((body) =>
      has(body, "max_completion_tokens")
        ? { status: 400, body: openAi("Unrecognized request argument supplied: max_completion_tokens") }
        : null,
    );
    const { first, requests } = await askTwice("compatible/vendor/o3-mini");
    expect([first.text, requests]).toEqual(["Done.", [2, 1]]);
    expect(server.bodies[1]).toMatchObject({ max_tokens: 500 });
  });
});

describe("a rejection in a successful response", () => {
  const error = unsupported("temperature");
  const document = JSON.stringify(error);
  test.each([
    ["a document", document, "application/json"],
    ["an event", `data: ${document}\n\n`, "text/event-stream"],
    ["an error event", `: wait\n\nevent: error\ndata: ${document}\n\n`, "text/event-stream"],
  ])("%s counts too", async (_name, body, type) => {
    for (const model of ["openai/gpt-4o", "anthropic/claude-3-opus", "compatible/any"]) {
      server.refuse((sent) => (has(sent, "temperature") ? { status: 200, body, type } : null));
      const { first, second, requests, events } = await askTwice(model);
      expect([first.text, second.text, requests]).toEqual(["Done.", "Done.", [2, 1]]);
      expect(events.filter(([what]) => what === "attempt").map(([, , outcome]) => outcome)).toEqual([
        "complete",
        "complete",
      ]);
      expect(first.end.usage).toMatchObject({ input_tokens: 11, output_tokens: 3 });
    }
  });

  test("of anything else isn't retried", async () => {
    const other = 'data: {"error":{"code":"context_length_exceeded","message":"temperature is not supported"}}\n\n';
    server.refuse((sent) => (sent.model === "any" ? { status: 200, body: other, type: "text/event-stream" } : null));
    const { requests } = await askTwice("compatible/any");
    expect(requests).toEqual([2, 2]);
    expect(server.bodies.map(({ model }) => model)).toEqual(["any", "spare", "any", "spare"]);
  });

  test("after the start of an answer ends it", async () => {
    const begun = `data: {"choices":[{"delta":{"content":"Do"}}]}\n\ndata: ${document}\n\n`;
    server.refuse((sent) => (sent.model === "any" ? { status: 200, body: begun, type: "text/event-stream" } : null));
    await askTwice("compatible/any");
    expect(server.bodies.map(({ model }) => model)).toEqual(["any", "spare", "any", "spare"]);
  });
});
