import { expect, test } from "bun:test";
import type { AnswerPart, RunEnd } from "../../src/ai/answer-part.ts";
import type { Chain, RunRequest } from "../../src/ai/chain/chain.ts";
import type { PushPart, Thinking } from "../../src/ai/provider.ts";
import { THINKING_LENGTH_MAX } from "../../src/ai/thinking.ts";
import { noUsage } from "../../src/ai/usage.ts";
import { type FinishedToolCall, runWithTools } from "../../src/modules/generations/tool-loop.ts";
import type { AnswerTools } from "../../src/modules/tools/service.ts";

const model = "a/b";
const account = {
  models: [model],
  usage: { ...noUsage, input_tokens: 1, output_tokens: 2, estimated: false },
  costUsd: 0.5,
};
const call = { id: "1", name: "look_up", arguments: "{}" };
const finish = (toolCalls: (typeof call)[], thinking?: Thinking): RunEnd => ({
  type: "finish",
  model,
  reason: toolCalls.length > 0 ? "tool_calls" : "stop",
  toolCalls,
  thinking,
  ...account,
});

/** A chain with these steps, one per run. */
function createChain(steps: { parts: AnswerPart[]; end: RunEnd }[]) {
  const asked: RunRequest[] = [];
  const run = async (request: RunRequest, push: PushPart<AnswerPart>): Promise<RunEnd> => {
    const step = steps[asked.length];
    asked.push(request);
    if (!step) throw new Error("more steps than scripted");
    for (const part of step.parts) push(part);
    return step.end;
  };
  return { chain: { run, answerTimeoutMs: 60_000 } as unknown as Chain, asked };
}

const openTools = async (): Promise<AnswerTools> => ({
  definitions: [],
  call: async () => ({ content: "red", isError: false }),
});
const request = { model, messages: [{ role: "user" as const, content: "?" }], signal: new AbortController().signal };

test("calls wait until their step is accepted, also when storing a reset takes long", async () => {
  const { chain, asked } = createChain([
    {
      parts: [
        { type: "reset", model, attempt: 2, text: "" },
        { type: "reasoning", text: "A colour?" },
        { type: "text", text: "Let me look. " },
      ],
      end: finish([call]),
    },
    { parts: [{ type: "text", text: "It is red." }], end: finish([]) },
  ]);
  let text = "shown before";
  const textAtResult: string[] = [];
  const onResult = async () => void textAtResult.push(text);
  const end = await runWithTools({ chain, openTools, onResult }, request, null, async (part) => {
    if (part.type === "reset") await Bun.sleep(30);
    text = part.type === "reset" ? part.text : text + (part.type === "text" ? part.text : "");
  });
  expect(textAtResult).toEqual(["Let me look. "]);
  expect(text).toBe("Let me look. It is red.");
  expect(asked[1]?.resume).toEqual({
    text: "Let me look. ",
    reasoning: "A colour?",
    attempt: 2,
    step: "next",
  });
  expect(end).toMatchObject({ type: "finish", costUsd: 1, usage: { input_tokens: 2, output_tokens: 4 } });
});

test("a failing reader ends the loop", async () => {
  const { chain, asked } = createChain([{ parts: [{ type: "start", model, attempt: 1 }], end: finish([call]) }]);
  const failing = () => Promise.reject(new Error("no room"));
  const run = runWithTools({ chain, openTools, onResult: async () => {} }, request, null, failing);
  await expect(run).rejects.toThrow("no room");
  expect(asked.length).toBe(1);
});

test("thinking is sent back with its calls; beyond the limit of an answer, the loop continues without it", async () => {
  const half = (name: string): Thinking => ({ provider: name, data: "x".repeat(THINKING_LENGTH_MAX / 2) });
  const start: AnswerPart = { type: "start", model, attempt: 1 };
  const { chain, asked } = createChain([
    { parts: [start], end: finish([call, call], half("first")) },
    { parts: [], end: finish([call], half("second")) },
    { parts: [], end: finish([call], { provider: "third", data: "x" }) },
    { parts: [], end: finish([]) },
  ]);
  const kept: (string | undefined)[] = [];
  const onResult = async ({ thinking }: FinishedToolCall) => void kept.push(thinking?.provider);
  const progress = { messages: [], steps: 2, offset: 0, reasoningOffset: 0, thinkingLength: 0 };
  const end = await runWithTools({ chain, openTools, onResult }, request, progress, () => undefined);
  expect(end.type).toBe("finish");
  // Only with the first call of a step. The second half, with its quotes, is too long; less still fits.
  expect(kept).toEqual(["first", undefined, undefined, "third"]);
  const last = asked.at(-1)?.messages ?? [];
  const thought = last.flatMap((message) => (message.role === "assistant" ? [message.thinking?.provider] : []));
  expect(thought).toEqual(["first", undefined, "third"]);
  // Thinking kept before a takeover counts.
  const again = createChain([
    { parts: [start], end: finish([call], half("fourth")) },
    { parts: [], end: finish([]) },
  ]);
  const full = { ...progress, thinkingLength: THINKING_LENGTH_MAX };
  await runWithTools({ chain: again.chain, openTools, onResult }, request, full, () => undefined);
  expect(kept.at(-1)).toBeUndefined();
});
