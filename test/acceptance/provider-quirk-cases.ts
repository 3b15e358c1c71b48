import { brokenStream, completionChunks, type Reply, rawStream, stream, whole } from "./scripted-server.ts";

/** A provider's misbehavior seen in practice, and the expected result. */
export type ProviderQuirk = {
  name: string;
  provider: "openai" | "anthropic" | "compatible";
  reply: Reply;
  /** The expected text of this provider's answer; null: it fails, and the next model answers. */
  content: string | null;
  /** The expected number of requests. Default: one, or the number of attempts after a transient failure. */
  requests?: number;
  usage?: Record<string, unknown>;
};

const delta = (fields: unknown, finish_reason: unknown = null) => ({
  choices: [{ index: 0, delta: fields, finish_reason }],
});
const text = (content: string) => delta({ content });
const usageChunk = (usage: unknown) => ({ choices: [], usage });
const end = delta({}, "stop");

/** A normal stream with an unusual usage. */
const withUsage = (usage: unknown): Reply => stream(text("Fine."), end, usageChunk(usage), "[DONE]");

const compatible: Omit<ProviderQuirk, "provider">[] = [
  // Impossible token counts.
  ...[7.5, 1e15, "7", -1, {}, null, [], true, Number.MAX_VALUE, ""].map((count) => ({
    name: `prompt and completion tokens of ${JSON.stringify(count)}`,
    reply: withUsage({ prompt_tokens: count, completion_tokens: count, total_tokens: count }),
    content: "Fine.",
    requests: 1,
  })),
  { name: "usage is a string", reply: withUsage("none"), content: "Fine.", requests: 1 },
  {
    name: "details are not objects",
    reply: withUsage({
      prompt_tokens: 10,
      completion_tokens: 4,
      prompt_tokens_details: 5,
      completion_tokens_details: [],
    }),
    content: "Fine.",
    usage: { input_tokens: 10, output_tokens: 4, cached_input_tokens: 0, reasoning_tokens: 0 },
  },
  {
    name: "ids and models of wrong types",
    reply: stream({ id: 5, model: {}, created: "x", ...text("Fine.") }, end),
    content: "Fine.",
    requests: 1,
  },
  {
    name: "malformed choices between valid ones",
    reply: stream(
      text("Fi"),
      { choices: {} },
      { choices: [null] },
      { choices: [{ delta: "x" }] },
      { choices: [{ delta: { tool_calls: {} } }] },
      { choices: [{ delta: { content: 5 } }] },
      text("ne."),
      end,
    ),
    content: "Fine.",
    requests: 1,
  },
  {
    name: "usage details",
    reply: withUsage({
      prompt_tokens: 100,
      completion_tokens: 40,
      prompt_tokens_details: { cached_tokens: 60 },
      completion_tokens_details: { reasoning_tokens: 30 },
    }),
    content: "Fine.",
    usage: { input_tokens: 100, output_tokens: 40, cached_input_tokens: 60, reasoning_tokens: 30 },
  },
  {
    name: "reasoning tokens outside of completion tokens",
    reply: withUsage({
      prompt_tokens: 100,
      completion_tokens: 10,
      total_tokens: 140,
      completion_tokens_details: { reasoning_tokens: 30 },
    }),
    content: "Fine.",
    usage: { input_tokens: 100, output_tokens: 40, reasoning_tokens: 30 },
  },
  {
    name: "DeepSeek's cache hits and misses",
    reply: withUsage({
      prompt_tokens: 100,
      completion_tokens: 10,
      prompt_cache_hit_tokens: 64,
      prompt_cache_miss_tokens: 36,
    }),
    content: "Fine.",
    usage: { input_tokens: 100, cached_input_tokens: 64 },
  },
  // The end was already announced.
  {
    name: "a connection that breaks after finish_reason",
    reply: brokenStream(text("Fine."), end),
    content: "Fine.",
    requests: 1,
  },
  {
    name: "invalid JSON after finish_reason",
    reply: stream(text("Fine."), end, "{broken"),
    content: "Fine.",
    requests: 1,
  },
  {
    name: "an error after finish_reason",
    reply: stream(text("Fine."), end, { error: { message: "late", code: 500 } }),
    content: "Fine.",
    requests: 1,
  },
  // Failures that look like answers.
  ...["insufficient_system_resource", "abort", "error", "malformed_function_call"].map((reason) => ({
    name: `finish_reason ${reason}`,
    reply: stream(text(""), delta({}, reason), "[DONE]"),
    content: null,
  })),
  {
    name: "an unknown finish_reason after text",
    reply: stream(text("Half"), delta({}, "insufficient_system_resource"), "[DONE]"),
    content: null,
    requests: 1,
  },
  {
    name: "object: error",
    reply: stream({ object: "error", message: "no", type: "InternalServerError", code: 500 }, "[DONE]"),
    content: null,
  },
  { name: "the SSE field error:", reply: rawStream('error: {"message":"no"}\n\ndata: [DONE]\n\n'), content: null },
  {
    name: "event: error with an unknown format",
    reply: rawStream('event: error\ndata: "broken"\n\ndata: [DONE]\n\n'),
    content: null,
  },
  {
    name: "an error inside a choice",
    reply: stream(
      {
        choices: [
          { index: 0, delta: { content: "" }, error: { code: 502, message: "upstream" }, finish_reason: "error" },
        ],
      },
      "[DONE]",
    ),
    content: null,
  },
  { name: "only an end marker", reply: stream("[DONE]"), content: null },
  {
    name: "only finish_reason stop",
    reply: stream(delta({ role: "assistant", content: "" }), end, "[DONE]"),
    content: null,
  },
  { name: "only white space", reply: stream(text("\n \n"), end, "[DONE]"), content: null },
  { name: "only reasoning", reply: stream(delta({ reasoning_content: "Hm." }), end, "[DONE]"), content: null },
  { name: "an empty body", reply: rawStream(""), content: null },
  // Answers in unusual fields.
  {
    name: "text in message",
    reply: stream(
      { choices: [{ index: 0, message: { role: "assistant", content: "Fine." }, finish_reason: "stop" }] },
      "[DONE]",
    ),
    content: "Fine.",
    requests: 1,
  },
  {
    name: "content as an array of parts",
    reply: stream(
      delta({ content: [{ type: "text", text: "Fi" }] }),
      delta({ content: [{ type: "text", text: "ne." }] }),
      end,
    ),
    content: "Fine.",
    requests: 1,
  },
  {
    name: 'finish_reason "null" as a string',
    reply: stream(delta({ content: "Fi" }, "null"), delta({ content: "ne." }, "null"), end),
    content: "Fine.",
    requests: 1,
  },
  // Errors within a stream that a retry can't fix.
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
    reply: stream({ error: { message: "no", code } }),
    content: null,
    requests: 1,
  })),
  {
    name: "a nested error code",
    reply: stream({ error: { message: "no", error: { code: 400, message: "bad" } } }),
    content: null,
    requests: 1,
  },
  // Think blocks.
  {
    name: "a leading think block",
    reply: stream(text("<thi"), text("nk>Let me see"), text(".</thi"), text("nk>\n\nFi"), text("ne."), end),
    content: "Fine.",
    requests: 1,
  },
  {
    name: "an empty think block",
    reply: stream(text("<think>\n\n</think>\n\nFine."), end),
    content: "Fine.",
    requests: 1,
  },
  {
    name: "a tag within the text",
    reply: stream(text("Use <think> and </think>."), end),
    content: "Use <think> and </think>.",
    requests: 1,
  },
  {
    name: "a word that starts like the tag",
    reply: stream(text("<thinker> is no tag."), end),
    content: "<thinker> is no tag.",
    requests: 1,
  },
  // Content types.
  {
    name: "events as application/json",
    reply: rawStream(
      completionChunks("Fine.")
        .map((event) => `data: ${JSON.stringify(event).replace('"[DONE]"', "[DONE]")}\n\n`)
        .join(""),
      "application/json",
    ),
    content: "Fine.",
    requests: 1,
  },
  {
    name: "events as text/html",
    reply: rawStream(
      `: hello\n\ndata: ${JSON.stringify(text("Fine."))}\n\ndata: ${JSON.stringify(end)}\n\n`,
      "text/html",
    ),
    content: "Fine.",
    requests: 1,
  },
  {
    name: "a JSON response instead of a stream",
    reply: whole(200, {
      object: "chat.completion",
      choices: [{ index: 0, message: { role: "assistant", content: "Fine." }, finish_reason: "stop" }],
      usage: { prompt_tokens: 10, completion_tokens: 4 },
    }),
    content: "Fine.",
    requests: 1,
    usage: { input_tokens: 10, output_tokens: 4 },
  },
  {
    name: "a JSON response labelled as an event stream",
    reply: rawStream(JSON.stringify({ choices: [{ message: { content: "Fine." }, finish_reason: "stop" }] })),
    content: "Fine.",
    requests: 1,
  },
  {
    name: "an error document under HTTP 200",
    reply: whole(200, { error: { message: "no such model", code: "model_not_found" } }),
    content: null,
    requests: 1,
  },
  { name: "a web page", reply: rawStream("<!doctype html><p>Sign in</p>", "text/html"), content: null, requests: 1 },
];

const anthropicStart = (usage: unknown = { input_tokens: 10, output_tokens: 1 }) => ({
  type: "message_start",
  message: { id: "m", role: "assistant", content: [], usage },
});
const anthropicText = (value: string) => ({
  type: "content_block_delta",
  index: 0,
  delta: { type: "text_delta", text: value },
});
const anthropicBlock = { type: "content_block_start", index: 0, content_block: { type: "text", text: "" } };
const anthropicEnd = (stop_reason: unknown = "end_turn", usage: unknown = { output_tokens: 4 }) => ({
  type: "message_delta",
  delta: { stop_reason },
  usage,
});
const messageStop = { type: "message_stop" };

const anthropic: Omit<ProviderQuirk, "provider">[] = [
  ...[7.5, 1e15, "7", -1, {}].map((count) => ({
    name: `tokens of ${JSON.stringify(count)}`,
    reply: stream(
      anthropicStart({ input_tokens: count, output_tokens: count }),
      anthropicBlock,
      anthropicText("Fine."),
      anthropicEnd("end_turn", { output_tokens: count }),
      messageStop,
    ),
    content: "Fine.",
    requests: 1,
  })),
  {
    name: "cached tokens",
    reply: stream(
      anthropicStart({
        input_tokens: 10,
        cache_read_input_tokens: 80,
        cache_creation_input_tokens: 10,
        output_tokens: 1,
      }),
      anthropicBlock,
      anthropicText("Fine."),
      anthropicEnd(),
      messageStop,
    ),
    content: "Fine.",
    usage: { input_tokens: 100, output_tokens: 4, cached_input_tokens: 80 },
  },
  {
    name: "input tokens only in a late event",
    reply: stream(
      anthropicStart({ input_tokens: 0, output_tokens: 0 }),
      anthropicBlock,
      anthropicText("Fine."),
      anthropicEnd("end_turn", { input_tokens: 50, output_tokens: 4 }),
      messageStop,
    ),
    content: "Fine.",
    usage: { input_tokens: 50, output_tokens: 4 },
  },
  {
    name: "a connection that breaks after stop_reason",
    reply: brokenStream(anthropicStart(), anthropicBlock, anthropicText("Fine."), anthropicEnd()),
    content: "Fine.",
    requests: 1,
  },
  {
    name: "text in content_block_start",
    reply: stream(
      anthropicStart(),
      { ...anthropicBlock, content_block: { type: "text", text: "Fi" } },
      anthropicText("ne."),
      anthropicEnd(),
      messageStop,
    ),
    content: "Fine.",
    requests: 1,
  },
  { name: "an end without text", reply: stream(anthropicStart(), anthropicEnd(), messageStop), content: null },
  {
    name: "an invalid_request_error within the stream",
    reply: stream(anthropicStart(), {
      type: "error",
      error: { type: "invalid_request_error", message: "prompt is too long" },
    }),
    content: null,
    requests: 1,
  },
  {
    name: "a JSON response instead of a stream",
    reply: whole(200, {
      type: "message",
      role: "assistant",
      content: [{ type: "text", text: "Fine." }],
      stop_reason: "end_turn",
      usage: { input_tokens: 10, output_tokens: 4 },
    }),
    content: "Fine.",
    requests: 1,
    usage: { input_tokens: 10, output_tokens: 4 },
  },
];

const completed = (response: unknown) => ({ type: "response.completed", response });
const outputText = (value: string) => ({
  type: "response.output_text.delta",
  delta: value,
  output_index: 0,
  content_index: 0,
});
const output = (value: string) => [
  { type: "message", role: "assistant", content: [{ type: "output_text", text: value }] },
];

const openai: Omit<ProviderQuirk, "provider">[] = [
  ...[7.5, 1e15, "7", -1, {}].map((count) => ({
    name: `tokens of ${JSON.stringify(count)}`,
    reply: stream(
      outputText("Fine."),
      completed({ status: "completed", output: output("Fine."), usage: { input_tokens: count, output_tokens: count } }),
    ),
    content: "Fine.",
    requests: 1,
  })),
  {
    name: "text only in the final event",
    reply: stream(
      completed({ status: "completed", output: output("Fine."), usage: { input_tokens: 10, output_tokens: 4 } }),
    ),
    content: "Fine.",
    requests: 1,
    usage: { input_tokens: 10, output_tokens: 4 },
  },
  {
    name: "a connection that breaks after the end",
    reply: brokenStream(outputText("Fine."), completed({ status: "completed", output: output("Fine.") })),
    content: "Fine.",
    requests: 1,
  },
  {
    name: "usage details",
    reply: stream(
      outputText("Fine."),
      completed({
        output: output("Fine."),
        usage: {
          input_tokens: 100,
          input_tokens_details: { cached_tokens: 60 },
          output_tokens: 40,
          output_tokens_details: { reasoning_tokens: 30 },
        },
      }),
    ),
    content: "Fine.",
    usage: { input_tokens: 100, output_tokens: 40, cached_input_tokens: 60, reasoning_tokens: 30 },
  },
  {
    name: "a failure with a code that a retry can't fix",
    reply: stream({
      type: "response.failed",
      response: { error: { code: "context_length_exceeded", message: "too long" } },
    }),
    content: null,
    requests: 1,
  },
  {
    name: "an error event with a nested code",
    reply: stream({ type: "error", error: { code: "invalid_api_key", message: "no" } }),
    content: null,
    requests: 1,
  },
  {
    name: "an end without output",
    reply: stream(completed({ status: "completed", output: [], usage: { input_tokens: 10, output_tokens: 0 } })),
    content: null,
  },
  {
    name: "a JSON response instead of a stream",
    reply: whole(200, {
      object: "response",
      status: "completed",
      output: output("Fine."),
      usage: { input_tokens: 10, output_tokens: 4 },
    }),
    content: "Fine.",
    requests: 1,
  },
];

/** All cases, each under its own model name. */
export const providerQuirks: (ProviderQuirk & { model: string })[] = [
  ...compatible.map((one) => ({ ...one, provider: "compatible" as const })),
  ...anthropic.map((one) => ({ ...one, provider: "anthropic" as const })),
  ...openai.map((one) => ({ ...one, provider: "openai" as const })),
].map((one, index) => ({ ...one, model: `case-${index}` }));
