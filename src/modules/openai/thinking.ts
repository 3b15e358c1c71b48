import type { ChatMessage, Thinking } from "../../ai/provider.ts";
import { listReasoningDetails, type ReasoningDetail } from "../../ai/providers/reasoning-details.ts";
import { createSeal, deriveKey } from "../../lib/seal.ts";
import type { CompletionMessage } from "./model.ts";

/**
 * Bytes of thinking that a client is given, as JSON: more of it leaves no room in its next request. That has it almost five
 * times: sealed in two places, which is a third longer, in our words, and as `reasoning_content`.
 */
export const SENT_THINKING_BYTES_MAX = 128 * 1024;

/** What our own entry in `reasoning_details` is called there. */
const SEALED_FORMAT = "parley-v1";
const SEALED_PREFIX = "parley.v1.";

/**
 * Thinking on its way through a client: what comes back may be changed or belong to another provider, so only what is sealed
 * here counts, and only from the user it was given to.
 */
export interface SealedThinking {
  seal(userId: string, thinking: Thinking): string | null;
  /** Null if it was not sealed by this deployment for this user. */
  open(userId: string, sealed: string): Thinking | null;
}

/** Builds the seal. */
export function createSealedThinking(jwtSecret: string): SealedThinking {
  const seal = createSeal(deriveKey(jwtSecret, "thinking of completions"));

  return {
    seal(userId, thinking) {
      const plain = Buffer.from(JSON.stringify(thinking));
      if (plain.byteLength > SENT_THINKING_BYTES_MAX) return null;
      return SEALED_PREFIX + seal.seal(plain, Buffer.from(userId)).toString("base64url");
    },

    open(userId, sealed) {
      const bytes = Buffer.from(sealed.slice(SEALED_PREFIX.length), "base64url");
      const plain = seal.open(bytes, Buffer.from(userId));
      return plain === null ? null : (JSON.parse(plain.toString()) as Thinking);
    },
  };
}

/** What an answer carries of the thinking that led to it, besides its text. */
export type AnswerThinking = {
  reasoning_details: ReasoningDetail[];
  /** Beside its first call, in the field of Gemini's signatures: clients that know no other one give it back. */
  extra_content: { google: { thought_signature: string } };
};

type Sealing = { sealThinking(thinking: Thinking): string | null; showsReasoning: boolean };

/**
 * Null: there is nothing to give back, or too much. Where the client may not read what models think, it is given the sealed
 * form alone.
 */
export function mapThinking(
  thinking: Thinking | undefined,
  { sealThinking, showsReasoning }: Sealing,
): AnswerThinking | null {
  const sealed = thinking ? sealThinking(thinking) : null;
  if (!thinking || sealed === null) return null;
  const details = showsReasoning ? listReasoningDetails(thinking) : [];
  const own = {
    type: "reasoning.encrypted" as const,
    id: null,
    format: SEALED_FORMAT,
    index: details.length,
    data: sealed,
  };
  return { reasoning_details: [...details, own], extra_content: { google: { thought_signature: sealed } } };
}

/** The sealed thinking in a message of a client, wherever it has kept it; null: there is none. */
export function findSealedThinking({ role, reasoning_details, tool_calls = [] }: CompletionMessage): string | null {
  if (role !== "assistant") return null;
  const details = Array.isArray(reasoning_details) ? reasoning_details : [];
  const kept = [...details.map((detail) => read(detail, "data")), ...tool_calls.map(readSignature)];
  return kept.find((value) => typeof value === "string" && value.startsWith(SEALED_PREFIX)) ?? null;
}

const readSignature = ({ extra_content }: { extra_content?: unknown }) =>
  read(read(extra_content, "google"), "thought_signature");

function read(value: unknown, name: string): string | undefined {
  return typeof value === "object" && value !== null ? (value as Record<string, string>)[name] : undefined;
}

/** The messages of a request with their thinking. One that doesn't open is left out: the model is asked without. */
export function openThinking(
  messages: readonly ChatMessage[],
  sealed: ReadonlyMap<number, string>,
  open: (sealed: string) => Thinking | null,
): ChatMessage[] {
  return messages.map((message, index) => {
    const kept = message.role === "assistant" ? sealed.get(index) : undefined;
    const thinking = kept === undefined ? null : open(kept);
    return message.role === "assistant" && thinking ? { ...message, thinking } : message;
  });
}
