import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { AnswerOptions } from "../../src/ai/provider.ts";
import type { ReasoningEffort } from "../../src/protocol/reasoning-effort.ts";
import { collectRun, createTestChain } from "./collect.ts";
import { startRejectingServer } from "./rejecting-server.ts";
import { createOpenAiError, createPydanticError } from "./rejections.ts";

let server: ReturnType<typeof startRejectingServer>;
beforeAll(() => {
  server = startRejectingServer();
});
afterAll(() => server.stop());

type EffortRequest = {
  model: string;
  effort: ReasoningEffort | null;
  options?: AnswerOptions;
  outputTokensMax?: number;
};

/** Returns the request that a model receives. */
async function captureRequest({
  model,
  effort,
  options = {},
  outputTokensMax,
}: EffortRequest): Promise<Record<string, unknown>> {
  server.rejectWith(() => null);
  const chain = createTestChain(server.urls, [model]);
  const request = { options: { ...options, reasoningEffort: effort }, outputTokensMax: outputTokensMax ?? null };
  const { text } = await collectRun(chain, request);
  expect(text).toBe("Done.");
  return server.bodies[0] ?? {};
}

describe("OpenAI models", () => {
  test.each([
    ["o3", { none: "low", minimal: "low", medium: "medium", xhigh: "high" }],
    ["gpt-5-mini", { none: "minimal", minimal: "minimal", high: "high", xhigh: "high" }],
    ["gpt-5-pro", { none: "high", xhigh: "high" }],
    ["gpt-5-codex", { none: "low", high: "high", xhigh: "high" }],
    ["gpt-5.1", { none: "none", minimal: "none", xhigh: "high" }],
    ["gpt-5.1-codex-max", { none: "low", xhigh: "xhigh" }],
    ["gpt-5.2", { none: "none", minimal: "none", xhigh: "xhigh" }],
    ["gpt-5.2-pro", { none: "medium", low: "medium", xhigh: "xhigh" }],
    ["gpt-6-sol", { none: "none", xhigh: "xhigh" }],
    ["fine-tuned", { minimal: "minimal" }],
  ])("%s receives the nearest effort that it supports", async (model, efforts) => {
    for (const [effort, expectedEffort] of Object.entries(efforts)) {
      const { reasoning } = await captureRequest({ model: `openai/${model}`, effort: effort as ReasoningEffort });
      expect([effort, reasoning]).toEqual([
        effort,
        { effort: expectedEffort, ...(expectedEffort !== "none" && { summary: "auto" }) } as Record<string, unknown>,
      ]);
    }
  });
});

test("no effort is sent if the model doesn't reason or no effort is set", async () => {
  expect(await captureRequest({ model: "openai/gpt-4o", effort: "high" })).not.toHaveProperty("reasoning");
  expect(await captureRequest({ model: "openai/gpt-5.2", effort: null })).toMatchObject({
    reasoning: { summary: "auto" },
  });
  expect(await captureRequest({ model: "anthropic/claude-3-5-sonnet-latest", effort: "high" })).not.toHaveProperty(
    "thinking",
  );
  const chatRequest = await captureRequest({ model: "compatible/any", effort: null });
  expect(Object.keys(chatRequest)).not.toContain("reasoning_effort");
});

const adaptive = { type: "adaptive", display: "summarized" };

describe("Claude", () => {
  test.each([
    ["claude-opus-5-5", "none", undefined, { effort: "low" }],
    ["claude-fable-5-1", "none", undefined, { effort: "low" }],
    ["claude-sonnet-5-5", "none", { type: "between_tools" }, undefined],
    ["claude-haiku-5-5", "none", { type: "disabled" }, undefined],
    ["claude-opus-5", "none", { type: "disabled" }, undefined],
    ["claude-opus-5", "minimal", adaptive, { effort: "low" }],
    ["claude-opus-5-5", "xhigh", adaptive, { effort: "xhigh" }],
    ["claude-opus-4-8", "none", undefined, undefined],
    ["claude-opus-4-7", "xhigh", adaptive, { effort: "xhigh" }],
    ["claude-sonnet-4-6", "xhigh", adaptive, { effort: "high" }],
    ["claude-sonnet-4-6", "none", undefined, undefined],
    ["claude-sonnet-4-5-20250929", "medium", { type: "enabled", budget_tokens: 8_192 }, undefined],
    ["claude-opus-4-20250514", "low", { type: "enabled", budget_tokens: 2_048 }, undefined],
    ["claude-3-7-sonnet-latest", "none", undefined, undefined],
    ["claude-3-7-sonnet-latest", "minimal", { type: "enabled", budget_tokens: 1_024 }, undefined],
    ["claude-next", "high", adaptive, { effort: "high" }],
    // This model thinks by default, but sends its thinking only on request.
    ["claude-opus-5-5", null, adaptive, undefined],
    ["claude-opus-4-8", null, undefined, undefined],
    ["claude-next", null, undefined, undefined],
  ] as const)(
    "receives an effort or a thinking budget (%s, effort %s)",
    async (model, effort, thinking, outputConfig) => {
      const { thinking: sentThinking, output_config } = await captureRequest({ model: `anthropic/${model}`, effort });
      expect([sentThinking, output_config]).toEqual([thinking, outputConfig] as unknown[]);
    },
  );

  test("receives a budget that leaves tokens for the text, or no budget", async () => {
    const model = "anthropic/claude-sonnet-4-5";
    const requestWithBudget = await captureRequest({ model, effort: "xhigh", outputTokensMax: 10_000 });
    expect(requestWithBudget).toMatchObject({
      max_tokens: 10_000,
      thinking: { type: "enabled", budget_tokens: 8_000 },
    });
    expect(await captureRequest({ model, effort: "high", outputTokensMax: 1_200 })).not.toHaveProperty("thinking");
  });

  test("receives no parameters that are incompatible with thinking", async () => {
    const tools = [{ name: "f", description: null, parameters: { type: "object" } }];
    const model = "anthropic/claude-sonnet-4-5";
    const requestWithToolChoice = await captureRequest({
      model,
      effort: "high",
      options: { tools, toolChoice: "required" },
    });
    expect(requestWithToolChoice).not.toHaveProperty("thinking");
    const requestWithSampling = await captureRequest({
      model,
      effort: "high",
      options: { temperature: 0.5, topP: 0.5 },
    });
    expect(requestWithSampling).toHaveProperty("thinking");
    expect(["temperature", "top_p"].filter((name) => name in requestWithSampling)).toEqual([]);
  });
});

describe("a Chat Completions server", () => {
  test.each([
    ["any", "xhigh", { reasoning_effort: "xhigh" }],
    ["any", "none", { reasoning_effort: "none" }],
    ["Qwen/Qwen3-32B", "none", { reasoning_effort: "none", chat_template_kwargs: { enable_thinking: false } }],
    ["Qwen/Qwen3-32B", "low", { reasoning_effort: "low" }],
    ["deepseek-v4-pro", "none", { thinking: { type: "disabled" } }],
    ["kimi-k3", "none", { thinking: { type: "disabled" } }],
  ] as const)("receives the effort in the model's format (%s, effort %s)", async (model, effort, fields) => {
    const { reasoning_effort, chat_template_kwargs, thinking } = await captureRequest({
      model: `compatible/${model}`,
      effort,
    });
    const sentFields = { reasoning_effort, chat_template_kwargs, thinking };
    expect(JSON.parse(JSON.stringify(sentFields))).toEqual(fields as object);
  });
});

/** Makes the server reject every effort that isn't in the list. */
function rejectAllExcept(supportedEfforts: readonly string[], createBody: (effort: string) => unknown): void {
  server.rejectWith((body) => {
    const { effort } = (body.reasoning ?? body.output_config ?? {}) as { effort?: string };
    const sentEffort = effort ?? (body.reasoning_effort as string | undefined);
    if (sentEffort === undefined || supportedEfforts.includes(sentEffort)) return null;
    return { status: 400, body: createBody(sentEffort) };
  });
}

/** Runs a model twice, and returns the effort of every request. */
async function runTwice(model: string, effort: ReasoningEffort): Promise<unknown[]> {
  const chain = createTestChain(server.urls, [model]);
  for (const _ of [1, 2])
    expect((await collectRun(chain, { options: { reasoningEffort: effort } })).text).toBe("Done.");
  return server.bodies.map((body) => {
    const { effort: sentEffort } = (body.reasoning ?? body.output_config ?? {}) as { effort?: string };
    return sentEffort ?? body.reasoning_effort ?? null;
  });
}

describe("a rejected value", () => {
  test("is permanently replaced by the nearest effort that the error lists", async () => {
    const createBody = (effort: string) =>
      createOpenAiError(
        `Unsupported value: '${effort}' is not supported with the 'own' model. Supported values are: 'none', 'low', 'medium', and 'high'.`,
        "reasoning.effort",
        "unsupported_value",
      );
    rejectAllExcept(["none", "low", "medium", "high"], createBody);
    expect(await runTwice("openai/own", "xhigh")).toEqual(["xhigh", "high", "high"]);
    rejectAllExcept(["none", "low", "medium", "high"], createBody);
    expect(await runTwice("openai/own", "minimal")).toEqual(["minimal", "none", "none"]);
  });

  test("is replaced even if the list has no quotes or comes from FastAPI", async () => {
    rejectAllExcept(["low", "medium"], () => createOpenAiError("`reasoning_effort` must be one of low, medium"));
    expect(await runTwice("compatible/own", "none")).toEqual(["none", "low", "low"]);
    const detail = [
      {
        ...createPydanticError("reasoning_effort"),
        type: "literal_error",
        msg: "Input should be 'low', 'medium' or 'high'",
        input: "xhigh",
      },
    ];
    rejectAllExcept(["low", "medium", "high"], () => ({ detail }));
    expect(await runTwice("compatible/own", "xhigh")).toEqual(["xhigh", "high", "high"]);
  });

  test("is lowered step by step if the error lists no values, and finally omitted", async () => {
    rejectAllExcept(["medium"], (effort) => createOpenAiError(`Invalid value: '${effort}'.`, "reasoning_effort"));
    expect(await runTwice("compatible/own", "xhigh")).toEqual(["xhigh", "high", "medium", "medium"]);
    rejectAllExcept([], (effort) => createOpenAiError(`Invalid value: '${effort}'.`, "reasoning_effort"));
    expect(await runTwice("compatible/own", "minimal")).toEqual(["minimal", "none", null, null]);
  });

  test("is omitted immediately if the model supports no effort", async () => {
    rejectAllExcept([], () => createOpenAiError("Argument not supported on this model: reasoningEffort"));
    expect(await runTwice("compatible/own", "high")).toEqual(["high", null, null]);
    rejectAllExcept([], () => ({
      type: "error",
      error: { type: "invalid_request_error", message: "This model does not support the effort parameter." },
    }));
    expect(await runTwice("anthropic/own", "high")).toEqual(["high", null, null]);
  });

  test("is omitted without changing the effort if it is a Claude model's thinking mode", async () => {
    const message =
      '"thinking.type.adaptive" is not supported for this model. Use "thinking.type.enabled" to control thinking behavior.';
    server.rejectWith((body) =>
      body.thinking
        ? { status: 400, body: { type: "error", error: { type: "invalid_request_error", message } } }
        : null,
    );
    expect(await runTwice("anthropic/own", "high")).toEqual(["high", "high", "high"]);
    expect(server.bodies.map(({ thinking }) => thinking !== undefined)).toEqual([true, false, false]);
  });

  test("doesn't affect requests with other values", async () => {
    const chain = createTestChain(server.urls, ["compatible/own"]);
    rejectAllExcept(["low"], (effort) => createOpenAiError(`Invalid value: '${effort}'.`, "reasoning_effort"));
    for (const reasoningEffort of ["high", "xhigh", "low", "xhigh"] as const)
      expect((await collectRun(chain, { options: { reasoningEffort } })).text).toBe("Done.");
    expect(server.bodies.map(({ reasoning_effort }) => reasoning_effort)).toEqual([
      "high",
      "medium",
      "low",
      "xhigh",
      "low",
      "low",
      "low",
    ]);
  });
});
