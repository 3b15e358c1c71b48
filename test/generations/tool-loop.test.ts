import { expect, test } from "bun:test";
import type { AnswerPart, RunEnd } from "../../src/ai/answer-part.ts";
import type { Chain, RunRequest } from "../../src/ai/chain/chain.ts";
import type { PushPart, Thinking } from "../../src/ai/provider.ts";
import { THINKING_LENGTH_MAX } from "../../src/ai/thinking.ts";
import { noUsage } from "../../src/ai/usage.ts";
import { type FinishedToolCall, runWithTools } from "../../src/modules/generations/tool-loop.ts";
import type { AnswerTools } from "../../src/modules/tools/service.ts";

const model = "a/b";
const accounting = {
  models: [model],
  usage: { ...noUsage, input_tokens: 1, output_tokens: 2, estimated: false },
  costUsd: 0.5,
};
const call = { id: "1", name: "look_up", arguments: "{}" };
const createFinish = (toolCalls: (typeof call)[], thinking?: Thinking): RunEnd => ({
  type: "finish",
  model,
  reason: toolCalls.length > 0 ? "tool_calls" : "stop",
  toolCalls,
  thinking,
  ...accounting,
});

/** Creates a failover chain that performs the next of these steps on each run. */
function createChain(steps: { parts: AnswerPart[]; end: RunEnd }[]) {
  const requests: RunRequest[] = [];
  const run = async (request: RunRequest, push: PushPart<AnswerPart>): Promise<RunEnd> => {
    const step = steps[requests.length];
    requests.push(request);
    if (!step) throw new Error("The loop ran more steps than were scripted.");
    for (const part of step.parts) push(part);
    return step.end;
  };
  return { chain: { run, answerTimeoutMs: 60_000 } as unknown as Chain, requests };
}

const openTools = async (): Promise<AnswerTools> => ({
  definitions: [],
  call: async () => ({ content: "red", isError: false }),
});
const request = { model, messages: [{ role: "user" as const, content: "?" }], signal: new AbortController().signal };

test("tool calls wait until the text before them is stored, even if storing a reset is slow", async () => {
  const { chain, requests } = createChain([
    {
      parts: [
        { type: "reset", model, attempt: 2, text: "" },
        { type: "reasoning", text: "A color?" },
        { type: "text", text: "Let me look. " },
      ],
      end: createFinish([call]),
    },
    { parts: [{ type: "text", text: "It is red." }], end: createFinish([]) },
  ]);
  let text = "text of the failed attempt";
  const textsAtResults: string[] = [];
  const onResult = async () => void textsAtResults.push(text);
  const end = await runWithTools({ chain, openTools, onResult }, request, null, async (part) => {
    if (part.type === "reset") await Bun.sleep(30);
    text = part.type === "reset" ? part.text : text + (part.type === "text" ? part.text : "");
  });
  expect(textsAtResults).toEqual(["Let me look. "]);
  expect(text).toBe("Let me look. It is red.");
  expect(requests[1]?.resume).toEqual({
    text: "Let me look. ",
    reasoning: "A color?",
    attempt: 2,
    step: "next",
  });
  expect(end).toMatchObject({ type: "finish", costUsd: 1, usage: { input_tokens: 2, output_tokens: 4 } });
});

test("the tool loop stops if a part can't be stored", async () => {
  const { chain, requests } = createChain([
    { parts: [{ type: "start", model, attempt: 1 }], end: createFinish([call]) },
  ]);
  const rejectPart = () => Promise.reject(new Error("not stored"));
  const run = runWithTools({ chain, openTools, onResult: async () => {} }, request, null, rejectPart);
  await expect(run).rejects.toThrow("not stored");
  expect(requests.length).toBe(1);
});

test("thinking is sent back to the model with its tool calls, up to a maximum length per answer", async () => {
  const createHalfLengthThinking = (name: string): Thinking => ({
    provider: name,
    data: "x".repeat(THINKING_LENGTH_MAX / 2),
  });
  const startPart: AnswerPart = { type: "start", model, attempt: 1 };
  const { chain, requests } = createChain([
    { parts: [startPart], end: createFinish([call, call], createHalfLengthThinking("first")) },
    { parts: [], end: createFinish([call], createHalfLengthThinking("second")) },
    { parts: [], end: createFinish([call], { provider: "third", data: "x" }) },
    { parts: [], end: createFinish([]) },
  ]);
  const storedProviders: (string | undefined)[] = [];
  const onResult = async ({ thinking }: FinishedToolCall) => void storedProviders.push(thinking?.provider);
  const progress = { messages: [], steps: 2, offset: 0, reasoningOffset: 0, thinkingLength: 0 };
  const end = await runWithTools({ chain, openTools, onResult }, request, progress, () => undefined);
  expect(end.type).toBe("finish");
  // Only the first call of a step carries the step's thinking. The second half doesn't fit, because the JSON around each
  // half counts toward the maximum. The third thinking is short enough to fit.
  expect(storedProviders).toEqual(["first", undefined, undefined, "third"]);
  const lastMessages = requests.at(-1)?.messages ?? [];
  const sentProviders = lastMessages.flatMap((message) =>
    message.role === "assistant" ? [message.thinking?.provider] : [],
  );
  expect(sentProviders).toEqual(["first", undefined, "third"]);
  // Thinking stored before a takeover counts toward the maximum.
  const secondLoop = createChain([
    { parts: [startPart], end: createFinish([call], createHalfLengthThinking("fourth")) },
    { parts: [], end: createFinish([]) },
  ]);
  const fullProgress = { ...progress, thinkingLength: THINKING_LENGTH_MAX };
  await runWithTools({ chain: secondLoop.chain, openTools, onResult }, request, fullProgress, () => undefined);
  expect(storedProviders.at(-1)).toBeUndefined();
});
