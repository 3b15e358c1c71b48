import type { ChatMessage, Thinking } from "../../ai/provider.ts";
import { listReasoningDetails, type ReasoningDetail } from "../../ai/providers/reasoning-details.ts";
import { createSeal, deriveKey } from "../../lib/seal.ts";
import type { CompletionMessage } from "./model.ts";

/**
 * Bytes of thinking that a client is given, as JSON: more of it leaves no room in its next request. That has it almost five
 * times: sealed in two places, which is a third longer, in our words, and as `reasoning_content`.
 */
export const SENT_THINKING_BYTES_MAX = 128 * 1024;

/** The format name of Parley's own entry in `reasoning_details`. */
const SEALED_FORMAT = "parley-v1";
const SEALED_PREFIX = "parley.v1.";

/**
 * Protects thinking that passes through a client. When returned, it may be modified or belong to another provider, so only
 * data sealed here is accepted, and only from the same user.
 */
export interface SealedThinking {
  seal(userId: string, thinking: Thinking): string | null;
  /** Null if this deployment did not seal it for this user. */
  open(userId: string, sealed: string): Thinking | null;
}

/** Creates the seal. */
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

/** The fields of an answer that carry its thinking. */
export type AnswerThinking = {
  reasoning_details: ReasoningDetail[];
  /** Attached to its first call, in the field of Gemini's signatures, for clients that return no other field. */
  extra_content: { google: { thought_signature: string } };
};

type Sealing = { sealThinking(thinking: Thinking): string | null; showsReasoning: boolean };

/** Null: nothing to return, or too long. If the client may not read reasoning, it only gets the sealed form. */
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

/** The sealed thinking in a client's message, in whichever field it was kept; null: none. */
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

/** Adds thinking to the messages of a request. Thinking that can't be opened is omitted. */
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
