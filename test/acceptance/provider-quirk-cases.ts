import {
  createBrokenStream,
  createCompletionChunks,
  createRawStream,
  createResponse,
  createStream,
  type ScriptedResponse,
} from "./scripted-server.ts";

/** An unusual response that providers have sent in practice, and the expected result. */
export type ProviderQuirk = {
  name: string;
  provider: "openai" | "anthropic" | "compatible";
  response: ScriptedResponse;
  /** The expected answer, or null if the model should fail and the next model should answer. */
  expectedText: string | null;
  /** The expected number of requests. The default is one if the model answers, or else the number of retries plus one. */
  expectedRequests?: number;
  expectedUsage?: Record<string, unknown>;
};

const createDelta = (fields: unknown, finish_reason: unknown = null) => ({
  choices: [{ index: 0, delta: fields, finish_reason }],
});
const createText = (content: string) => createDelta({ content });
const createUsageChunk = (usage: unknown) => ({ choices: [], usage });
const stopChunk = createDelta({}, "stop");

/** Creates a normal stream with this token usage. */
const createStreamWithUsage = (usage: unknown): ScriptedResponse =>
  createStream(createText("Fine."), stopChunk, createUsageChunk(usage), "[DONE]");

const compatible: Omit<ProviderQuirk, "provider">[] = [
  // Invalid token counts.
  ...[7.5, 1e15, "7", -1, {}, null, [], true, Number.MAX_VALUE, ""].map((count) => ({
    name: `prompt and completion token counts of ${JSON.stringify(count)}`,
    response: createStreamWithUsage({ prompt_tokens: count, completion_tokens: count, total_tokens: count }),
    expectedText: "Fine.",
    expectedRequests: 1,
  })),
  {
    name: "usage that is a string",
    response: createStreamWithUsage("none"),
    expectedText: "Fine.",
    expectedRequests: 1,
  },
  {
    name: "usage details that are not objects",
    response: createStreamWithUsage({
      prompt_tokens: 10,
      completion_tokens: 4,
      prompt_tokens_details: 5,
      completion_tokens_details: [],
    }),
    expectedText: "Fine.",
    expectedUsage: { input_tokens: 10, output_tokens: 4, cached_input_tokens: 0, reasoning_tokens: 0 },
  },
  {
    name: "ids and models of the wrong type",
    response: createStream({ id: 5, model: {}, created: "x", ...createText("Fine.") }, stopChunk),
    expectedText: "Fine.",
    expectedRequests: 1,
  },
  {
    name: "malformed choices between valid ones",
    response: createStream(
      createText("Fi"),
      { choices: {} },
      { choices: [null] },
      { choices: [{ delta: "x" }] },
      { choices: [{ delta: { tool_calls: {} } }] },
      { choices: [{ delta: { content: 5 } }] },
      createText("ne."),
      stopChunk,
    ),
    expectedText: "Fine.",
    expectedRequests: 1,
  },
  {
    name: "usage details",
    response: createStreamWithUsage({
      prompt_tokens: 100,
      completion_tokens: 40,
      prompt_tokens_details: { cached_tokens: 60 },
      completion_tokens_details: { reasoning_tokens: 30 },
    }),
    expectedText: "Fine.",
    expectedUsage: { input_tokens: 100, output_tokens: 40, cached_input_tokens: 60, reasoning_tokens: 30 },
  },
  {
    name: "reasoning tokens outside of completion tokens",
    response: createStreamWithUsage({
      prompt_tokens: 100,
      completion_tokens: 10,
      total_tokens: 140,
      completion_tokens_details: { reasoning_tokens: 30 },
    }),
    expectedText: "Fine.",
    expectedUsage: { input_tokens: 100, output_tokens: 40, reasoning_tokens: 30 },
  },
  {
    name: "DeepSeek's cache hits and misses",
    response: createStreamWithUsage({
      prompt_tokens: 100,
      completion_tokens: 10,
      prompt_cache_hit_tokens: 64,
      prompt_cache_miss_tokens: 36,
    }),
    expectedText: "Fine.",
    expectedUsage: { input_tokens: 100, cached_input_tokens: 64 },
  },
  // Errors after the finish reason.
  {
    name: "a connection that breaks after finish_reason",
    response: createBrokenStream(createText("Fine."), stopChunk),
    expectedText: "Fine.",
    expectedRequests: 1,
  },
  {
    name: "invalid JSON after finish_reason",
    response: createStream(createText("Fine."), stopChunk, "{broken"),
    expectedText: "Fine.",
    expectedRequests: 1,
  },
  {
    name: "an error after finish_reason",
    response: createStream(createText("Fine."), stopChunk, { error: { message: "late", code: 500 } }),
    expectedText: "Fine.",
    expectedRequests: 1,
  },
  // Failures that look like answers.
  ...["insufficient_system_resource", "abort", "error", "malformed_function_call"].map((reason) => ({
    name: `finish_reason ${reason}`,
    response: createStream(createText(""), createDelta({}, reason), "[DONE]"),
    expectedText: null,
  })),
  {
    name: "an unknown finish_reason after text",
    response: createStream(createText("Half"), createDelta({}, "insufficient_system_resource"), "[DONE]"),
    expectedText: null,
    expectedRequests: 1,
  },
  {
    name: "object: error",
    response: createStream({ object: "error", message: "no", type: "InternalServerError", code: 500 }, "[DONE]"),
    expectedText: null,
  },
  {
    name: "the SSE field error:",
    response: createRawStream('error: {"message":"no"}\n\ndata: [DONE]\n\n'),
    expectedText: null,
  },
  {
    name: "event: error with an unknown format",
    response: createRawStream('event: error\ndata: "broken"\n\ndata: [DONE]\n\n'),
    expectedText: null,
  },
  {
    name: "an error inside a choice",
    response: createStream(
      {
        choices: [
          { index: 0, delta: { content: "" }, error: { code: 502, message: "upstream" }, finish_reason: "error" },
        ],
      },
      "[DONE]",
    ),
    expectedText: null,
  },
  { name: "only an end marker", response: createStream("[DONE]"), expectedText: null },
  {
    name: "only finish_reason stop",
    response: createStream(createDelta({ role: "assistant", content: "" }), stopChunk, "[DONE]"),
    expectedText: null,
  },
  { name: "only whitespace", response: createStream(createText("\n \n"), stopChunk, "[DONE]"), expectedText: null },
  {
    name: "only reasoning",
    response: createStream(createDelta({ reasoning_content: "Hm." }), stopChunk, "[DONE]"),
    expectedText: null,
  },
  { name: "an empty body", response: createRawStream(""), expectedText: null },
  // Answers in unusual fields.
  {
    name: "text in message",
    response: createStream(
      { choices: [{ index: 0, message: { role: "assistant", content: "Fine." }, finish_reason: "stop" }] },
      "[DONE]",
    ),
    expectedText: "Fine.",
    expectedRequests: 1,
  },
  {
    name: "content as an array of parts",
    response: createStream(
      createDelta({ content: [{ type: "text", text: "Fi" }] }),
      createDelta({ content: [{ type: "text", text: "ne." }] }),
      stopChunk,
    ),
    expectedText: "Fine.",
    expectedRequests: 1,
  },
  {
    name: 'finish_reason "null" as a string',
    response: createStream(createDelta({ content: "Fi" }, "null"), createDelta({ content: "ne." }, "null"), stopChunk),
    expectedText: "Fine.",
    expectedRequests: 1,
  },
  // Non-retryable errors within a stream.
  ...[
    400,
    401,
    402,
    403,
    404,
    "400",
    "401",
    "context_length_exceeded",
    "invalid_api_key",
    "model_not_found",
    "insufficient_quota",
  ].map((code) => ({
    name: `an error event with the code ${JSON.stringify(code)}`,
    response: createStream({ error: { message: "no", code } }),
    expectedText: null,
    expectedRequests: 1,
  })),
  {
    name: "a nested error code",
    response: createStream({ error: { message: "no", error: { code: 400, message: "bad" } } }),
    expectedText: null,
    expectedRequests: 1,
  },
  // Think blocks.
  {
    name: "a leading think block",
    response: createStream(
      createText("<thi"),
      createText("nk>Let me see"),
      createText(".</thi"),
      createText("nk>\n\nFi"),
      createText("ne."),
      stopChunk,
    ),
    expectedText: "Fine.",
    expectedRequests: 1,
  },
  {
    name: "an empty think block",
    response: createStream(createText("<think>\n\n</think>\n\nFine."), stopChunk),
    expectedText: "Fine.",
    expectedRequests: 1,
  },
  {
    name: "think tags within the text",
    response: createStream(createText("Use <think> and </think>."), stopChunk),
    expectedText: "Use <think> and </think>.",
    expectedRequests: 1,
  },
  {
    name: "a word that starts like a think tag",
    response: createStream(createText("<thinker> is not a tag."), stopChunk),
    expectedText: "<thinker> is not a tag.",
    expectedRequests: 1,
  },
  // Content types.
  {
    name: "events as application/json",
    response: createRawStream(
      createCompletionChunks("Fine.")
        .map((event) => `data: ${JSON.stringify(event).replace('"[DONE]"', "[DONE]")}\n\n`)
        .join(""),
      "application/json",
    ),
    expectedText: "Fine.",
    expectedRequests: 1,
  },
  {
    name: "events as text/html",
    response: createRawStream(
      `: hello\n\ndata: ${JSON.stringify(createText("Fine."))}\n\ndata: ${JSON.stringify(stopChunk)}\n\n`,
      "text/html",
    ),
    expectedText: "Fine.",
    expectedRequests: 1,
  },
  {
    name: "a JSON response instead of a stream",
    response: createResponse(200, {
      object: "chat.completion",
      choices: [{ index: 0, message: { role: "assistant", content: "Fine." }, finish_reason: "stop" }],
      usage: { prompt_tokens: 10, completion_tokens: 4 },
    }),
    expectedText: "Fine.",
    expectedRequests: 1,
    expectedUsage: { input_tokens: 10, output_tokens: 4 },
  },
  {
    name: "a JSON response labeled as an event stream",
    response: createRawStream(JSON.stringify({ choices: [{ message: { content: "Fine." }, finish_reason: "stop" }] })),
    expectedText: "Fine.",
    expectedRequests: 1,
  },
  {
    name: "an error with HTTP status 200",
    response: createResponse(200, { error: { message: "no such model", code: "model_not_found" } }),
    expectedText: null,
    expectedRequests: 1,
  },
  {
    name: "a web page",
    response: createRawStream("<!doctype html><p>Sign in</p>", "text/html"),
    expectedText: null,
    expectedRequests: 1,
  },
];

const createAnthropicStart = (usage: unknown = { input_tokens: 10, output_tokens: 1 }) => ({
  type: "message_start",
  message: { id: "m", role: "assistant", content: [], usage },
});
const createAnthropicText = (value: string) => ({
  type: "content_block_delta",
  index: 0,
  delta: { type: "text_delta", text: value },
});
const anthropicBlock = { type: "content_block_start", index: 0, content_block: { type: "text", text: "" } };
const createAnthropicEnd = (stop_reason: unknown = "end_turn", usage: unknown = { output_tokens: 4 }) => ({
  type: "message_delta",
  delta: { stop_reason },
  usage,
});
const messageStop = { type: "message_stop" };

const anthropic: Omit<ProviderQuirk, "provider">[] = [
  ...[7.5, 1e15, "7", -1, {}].map((count) => ({
    name: `token counts of ${JSON.stringify(count)}`,
    response: createStream(
      createAnthropicStart({ input_tokens: count, output_tokens: count }),
      anthropicBlock,
      createAnthropicText("Fine."),
      createAnthropicEnd("end_turn", { output_tokens: count }),
      messageStop,
    ),
    expectedText: "Fine.",
    expectedRequests: 1,
  })),
  {
    name: "cached tokens",
    response: createStream(
      createAnthropicStart({
        input_tokens: 10,
        cache_read_input_tokens: 80,
        cache_creation_input_tokens: 10,
        output_tokens: 1,
      }),
      anthropicBlock,
      createAnthropicText("Fine."),
      createAnthropicEnd(),
      messageStop,
    ),
    expectedText: "Fine.",
    expectedUsage: { input_tokens: 100, output_tokens: 4, cached_input_tokens: 80 },
  },
  {
    name: "input tokens only in a late event",
    response: createStream(
      createAnthropicStart({ input_tokens: 0, output_tokens: 0 }),
      anthropicBlock,
      createAnthropicText("Fine."),
      createAnthropicEnd("end_turn", { input_tokens: 50, output_tokens: 4 }),
      messageStop,
    ),
    expectedText: "Fine.",
    expectedUsage: { input_tokens: 50, output_tokens: 4 },
  },
  {
    name: "a connection that breaks after stop_reason",
    response: createBrokenStream(
      createAnthropicStart(),
      anthropicBlock,
      createAnthropicText("Fine."),
      createAnthropicEnd(),
    ),
    expectedText: "Fine.",
    expectedRequests: 1,
  },
  {
    name: "text in content_block_start",
    response: createStream(
      createAnthropicStart(),
      { ...anthropicBlock, content_block: { type: "text", text: "Fi" } },
      createAnthropicText("ne."),
      createAnthropicEnd(),
      messageStop,
    ),
    expectedText: "Fine.",
    expectedRequests: 1,
  },
  {
    name: "a stream that ends without text",
    response: createStream(createAnthropicStart(), createAnthropicEnd(), messageStop),
    expectedText: null,
  },
  {
    name: "an invalid_request_error within the stream",
    response: createStream(createAnthropicStart(), {
      type: "error",
      error: { type: "invalid_request_error", message: "prompt is too long" },
    }),
    expectedText: null,
    expectedRequests: 1,
  },
  {
    name: "a JSON response instead of a stream",
    response: createResponse(200, {
      type: "message",
      role: "assistant",
      content: [{ type: "text", text: "Fine." }],
      stop_reason: "end_turn",
      usage: { input_tokens: 10, output_tokens: 4 },
    }),
    expectedText: "Fine.",
    expectedRequests: 1,
    expectedUsage: { input_tokens: 10, output_tokens: 4 },
  },
];

const createCompletedEvent = (response: unknown) => ({ type: "response.completed", response });
const createOutputText = (value: string) => ({
  type: "response.output_text.delta",
  delta: value,
  output_index: 0,
  content_index: 0,
});
const createOutput = (value: string) => [
  { type: "message", role: "assistant", content: [{ type: "output_text", text: value }] },
];

const openai: Omit<ProviderQuirk, "provider">[] = [
  ...[7.5, 1e15, "7", -1, {}].map((count) => ({
    name: `token counts of ${JSON.stringify(count)}`,
    response: createStream(
      createOutputText("Fine."),
      createCompletedEvent({
        status: "completed",
        output: createOutput("Fine."),
        usage: { input_tokens: count, output_tokens: count },
      }),
    ),
    expectedText: "Fine.",
    expectedRequests: 1,
  })),
  {
    name: "text only in the final event",
    response: createStream(
      createCompletedEvent({
        status: "completed",
        output: createOutput("Fine."),
        usage: { input_tokens: 10, output_tokens: 4 },
      }),
    ),
    expectedText: "Fine.",
    expectedRequests: 1,
    expectedUsage: { input_tokens: 10, output_tokens: 4 },
  },
  {
    name: "a connection that breaks after the final event",
    response: createBrokenStream(
      createOutputText("Fine."),
      createCompletedEvent({ status: "completed", output: createOutput("Fine.") }),
    ),
    expectedText: "Fine.",
    expectedRequests: 1,
  },
  {
    name: "usage details",
    response: createStream(
      createOutputText("Fine."),
      createCompletedEvent({
        output: createOutput("Fine."),
        usage: {
          input_tokens: 100,
          input_tokens_details: { cached_tokens: 60 },
          output_tokens: 40,
          output_tokens_details: { reasoning_tokens: 30 },
        },
      }),
    ),
    expectedText: "Fine.",
    expectedUsage: { input_tokens: 100, output_tokens: 40, cached_input_tokens: 60, reasoning_tokens: 30 },
  },
  {
    name: "a failure with a non-retryable code",
    response: createStream({
      type: "response.failed",
      response: { error: { code: "context_length_exceeded", message: "too long" } },
    }),
    expectedText: null,
    expectedRequests: 1,
  },
  {
    name: "an error event with a nested code",
    response: createStream({ type: "error", error: { code: "invalid_api_key", message: "no" } }),
    expectedText: null,
    expectedRequests: 1,
  },
  {
    name: "a stream that ends without output",
    response: createStream(
      createCompletedEvent({ status: "completed", output: [], usage: { input_tokens: 10, output_tokens: 0 } }),
    ),
    expectedText: null,
  },
  {
    name: "a JSON response instead of a stream",
    response: createResponse(200, {
      object: "response",
      status: "completed",
      output: createOutput("Fine."),
      usage: { input_tokens: 10, output_tokens: 4 },
    }),
    expectedText: "Fine.",
    expectedRequests: 1,
  },
];

/** The cases of all providers. Each case has its own model. */
export const providerQuirks: (ProviderQuirk & { model: string })[] = [
  ...compatible.map((quirk) => ({ ...quirk, provider: "compatible" as const })),
  ...anthropic.map((quirk) => ({ ...quirk, provider: "anthropic" as const })),
  ...openai.map((quirk) => ({ ...quirk, provider: "openai" as const })),
].map((quirk, index) => ({ ...quirk, model: `case-${index}` }));
