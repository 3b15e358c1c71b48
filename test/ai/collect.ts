import {
  type Chain,
  type ChainObserver,
  type ChainOptions,
  type ChainPart,
  type ChainRequest,
  createChain,
} from "../../src/ai/chain.ts";
import { createProviders } from "../../src/ai/create-providers.ts";
import type { SearchDocuments } from "../../src/ai/offline.ts";
import { silentLog } from "../support/log.ts";
import type { ProviderStandIn } from "../support/provider-stand-in/server.ts";

export const TEST_KEY = "sk-test-0123456789abcdef";

const noDocuments: SearchDocuments = async () => [];

/** The configuration of all three providers at the stand-in. */
export const configureProviders = (standIn: ProviderStandIn, models: string[]) => ({
  OPENAI_API_KEY: TEST_KEY,
  OPENAI_BASE_URL: standIn.openaiUrl,
  ANTHROPIC_API_KEY: TEST_KEY,
  ANTHROPIC_BASE_URL: standIn.anthropicUrl,
  COMPATIBLE_BASE_URL: standIn.openaiUrl,
  AI_MODELS: models,
});

/** A chain over the real SDKs at the stand-in, with timeouts that suit a test. */
export function createTestChain(
  standIn: ProviderStandIn,
  models: string[],
  options: Partial<ChainOptions> = {},
): Chain {
  return createChain({
    ...createProviders(configureProviders(standIn, models), noDocuments),
    firstTokenTimeoutMs: 300,
    idleTimeoutMs: 300,
    maxRetries: 1,
    backoffBaseMs: 5,
    log: silentLog,
    ...options,
  });
}

type Last = Extract<ChainPart, { type: "finish" | "error" | "aborted" }>;

export type Collected = {
  parts: ChainPart[];
  /** The answer as a reader has it who obeys every reset. */
  text: string;
  resets: Extract<ChainPart, { type: "reset" }>[];
  /** The last part. */
  last: Last;
};

const isLast = (part: ChainPart): part is Last => ["finish", "error", "aborted"].includes(part.type);

/** Runs the chain to its end, as a reader would, and checks what holds for every run. */
export async function collect(chain: Chain, request: Partial<ChainRequest> = {}): Promise<Collected> {
  const parts: ChainPart[] = [];
  let text = request.resume?.text ?? "";
  let attempt = request.resume?.attempt ?? 0;
  for await (const part of chain.run({
    model: null,
    messages: [{ role: "user", content: "What is Parley?" }],
    signal: new AbortController().signal,
    // A text that is handed on at once stands where it would as a part.
    onText(piece) {
      parts.push({ type: "text", text: piece });
      text += piece;
    },
    ...request,
  })) {
    parts.push(part);
    if (part.type === "text") text += part.text;
    if (part.type !== "start" && part.type !== "reset") continue;
    if (part.attempt <= attempt) throw new Error(`attempt ${part.attempt} after ${attempt}`);
    attempt = part.attempt;
    if (part.type === "reset") text = part.text;
  }
  const ends = parts.filter(isLast);
  const [last] = ends;
  if (!last || ends.length !== 1 || parts.at(-1) !== last) throw new Error("not exactly one last part, at the end");
  const firstText = parts.findIndex((part) => part.type === "text");
  const opening = parts.findIndex((part) => part.type === "start" || part.type === "reset");
  // The next turn of an answer needs none: its readers are up to date.
  const isOpened = request.resume?.turn === "next" || (opening !== -1 && opening < firstText);
  if (firstText !== -1 && !isOpened) throw new Error("text before any start");
  return { parts, text, resets: parts.filter((part) => part.type === "reset"), last };
}

/** An observer that writes down what it hears. */
export function createRecorder(): { observe: ChainObserver; events: unknown[][] } {
  const events: unknown[][] = [];
  return {
    events,
    observe: {
      onLeg: (model, outcome, seconds, code) => events.push(["leg", model, outcome, seconds >= 0, code]),
      onFailover: (from, to, reason) => events.push(["failover", from, to, reason]),
      onFirstToken: (model, seconds) => events.push(["first_token", model, seconds >= 0]),
      onTokens: (model, kind, count) => events.push(["tokens", model, kind, count > 0]),
      onModelState: (model, state) => events.push(["state", model, state]),
    },
  };
}
