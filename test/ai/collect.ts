import type { AnswerPart, RunEnd } from "../../src/ai/answer-part.ts";
import { type Chain, type ChainOptions, createChain, type RunRequest } from "../../src/ai/chain/chain.ts";
import type { ChainObserver } from "../../src/ai/observer.ts";
import { createProviders, type ProvidersObserver } from "../../src/ai/providers/create-providers.ts";
import type { SearchDocuments } from "../../src/ai/providers/offline/provider.ts";
import type { FindProxy } from "../../src/lib/outgoing/find-proxy.ts";
import { silentLog } from "../support/log.ts";
import type { MockProvider } from "../support/mock-provider/server.ts";

export const TEST_KEY = "sk-test-0123456789abcdef";

const noDocuments: SearchDocuments = async () => [];

/** Returns a configuration that uses the mock provider in place of all three providers. */
const createProvidersConfig = (mockProvider: ProviderUrls, models: string[]) => ({
  OPENAI_API_KEY: TEST_KEY,
  OPENAI_BASE_URL: mockProvider.openaiUrl,
  ANTHROPIC_API_KEY: TEST_KEY,
  ANTHROPIC_BASE_URL: mockProvider.anthropicUrl,
  COMPATIBLE_BASE_URL: mockProvider.openaiUrl,
  AI_MODELS: models,
});

type ProviderUrls = Pick<MockProvider, "openaiUrl" | "anthropicUrl">;

type TestChainOptions = Partial<ChainOptions> & {
  firstTokenTimeoutMs?: number;
  idleTimeoutMs?: number;
  requestObserver?: ProvidersObserver;
  findProxy?: FindProxy;
};

/** Creates a failover chain that uses the mock provider, with short timeouts. */
export function createTestChain(
  mockProvider: ProviderUrls,
  models: string[],
  { firstTokenTimeoutMs = 600, idleTimeoutMs = 600, requestObserver, findProxy, ...options }: TestChainOptions = {},
): Chain {
  return createChain({
    ...createProviders(createProvidersConfig(mockProvider, models), noDocuments, requestObserver, findProxy),
    getTimeouts: () => ({ firstTokenMs: firstTokenTimeoutMs, idleMs: idleTimeoutMs }),
    maxRetries: 1,
    backoffBaseMs: 5,
    log: silentLog,
    ...options,
  });
}

export type CollectedRun = {
  parts: AnswerPart[];
  /** The answer's text after all resets. */
  text: string;
  /** The answer's reasoning after all resets. */
  reasoning: string;
  resets: Extract<AnswerPart, { type: "reset" }>[];
  end: RunEnd;
};

/** Runs a failover chain, collects the answer's parts, and checks the invariants of every run. */
export async function collectRun(chain: Chain, request: Partial<RunRequest> = {}): Promise<CollectedRun> {
  const parts: AnswerPart[] = [];
  let text = request.resume?.text ?? "";
  let reasoning = request.resume?.reasoning ?? "";
  let attempt = request.resume?.attempt ?? 0;
  let hasEnded = false;
  const end = await chain.run(
    {
      model: null,
      messages: [{ role: "user", content: "What is Parley?" }],
      signal: new AbortController().signal,
      ...request,
    },
    (part) => {
      if (hasEnded) throw new Error("received a part after the end");
      parts.push(part);
      if (part.type === "text") text += part.text;
      else if (part.type === "reasoning") reasoning += part.text;
      else {
        if (part.attempt <= attempt) throw new Error(`attempt ${part.attempt} started after attempt ${attempt}`);
        attempt = part.attempt;
        if (part.type === "reset") {
          text = part.text;
          reasoning = part.reasoning ?? "";
        }
      }
    },
  );
  hasEnded = true;
  const isContent = (part: AnswerPart) => part.type === "text" || part.type === "reasoning";
  const contentIndex = parts.findIndex(isContent);
  const startIndex = parts.findIndex((part) => !isContent(part));
  // The later steps of an answer don't start with `start` or `reset`.
  const hasStarted = request.resume?.step === "next" || (startIndex !== -1 && startIndex < contentIndex);
  if (contentIndex !== -1 && !hasStarted) throw new Error("received content before `start` or `reset`");
  return { parts, text, reasoning, resets: parts.filter((part) => part.type === "reset"), end };
}

/** Creates an observer that records its events. */
export function createRecordingObserver(): { observer: ChainObserver; events: unknown[][] } {
  const events: unknown[][] = [];
  return {
    events,
    observer: {
      onAttempt: (model) => ({
        onChunk() {},
        onEnd: ({ outcome, code }) => events.push(["attempt", model, outcome, code]),
      }),
      onFailover: (from, to, reason) => events.push(["failover", from, to, reason]),
      onFirstToken: (model, seconds) => events.push(["first_token", model, seconds >= 0]),
      onTokens: (model, kind, count) => events.push(["tokens", model, kind, count > 0]),
      onModelState: (model, state) => events.push(["state", model, state]),
    },
  };
}
