import type { ChatMessage, Thinking } from "../../ai/provider.ts";
import { listReasoningDetails, type ReasoningDetail } from "../../ai/providers/reasoning-details.ts";
import { createSeal, deriveKey } from "../../lib/seal.ts";
import type { CompletionMessage } from "./model.ts";

/**
 * Maximum size of the thinking sent to a client, in bytes of JSON. Longer thinking would not fit in the client's next request, which
 * contains it four times: encrypted in two fields, where it is a third longer, and readable in `reasoning_details` and
 * `reasoning_content`.
 */
export const SENT_THINKING_BYTES_MAX = 128 * 1024;

/** The format name of Parley's own entry in `reasoning_details`. */
const SEALED_FORMAT = "parley-v1";
const SEALED_PREFIX = "parley.v1.";

/**
 * Encrypts thinking for clients, which return it in later requests. Clients could modify it or send another provider's data, so only
 * data that was encrypted for the same user is accepted.
 */
export interface SealedThinking {
  seal(userId: string, thinking: Thinking): string | null;
  /** Decrypts thinking. Returns null if it wasn't encrypted by this deployment for this user. */
  open(userId: string, sealed: string): Thinking | null;
}

export function createSealedThinking(jwtSecret: string): SealedThinking {
  const cipher = createSeal(deriveKey(jwtSecret, "thinking of completions"));

  return {
    seal(userId, thinking) {
      const plain = Buffer.from(JSON.stringify(thinking));
      if (plain.byteLength > SENT_THINKING_BYTES_MAX) return null;
      return SEALED_PREFIX + cipher.seal(plain, Buffer.from(userId)).toString("base64url");
    },

    open(userId, sealed) {
      const bytes = Buffer.from(sealed.slice(SEALED_PREFIX.length), "base64url");
      const plain = cipher.open(bytes, Buffer.from(userId));
      return plain === null ? null : (JSON.parse(plain.toString()) as Thinking);
    },
  };
}

/** The fields of an answer that contain its thinking. */
export type AnswerThinking = {
  reasoning_details: ReasoningDetail[];
  /** Attached to the first tool call, in Gemini's signature field, for clients that return no other field. */
  extra_content: { google: { thought_signature: string } };
};

type SealingOptions = { sealThinking(thinking: Thinking): string | null; shouldShowReasoning: boolean };

/**
 * Maps thinking to the fields of an answer. Returns null if there is no thinking, or it is too long. A client that isn't allowed to
 * read reasoning receives only the encrypted form.
 */
export function mapThinking(
  thinking: Thinking | undefined,
  { sealThinking, shouldShowReasoning }: SealingOptions,
): AnswerThinking | null {
  const sealed = thinking ? sealThinking(thinking) : null;
  if (!thinking || sealed === null) return null;
  const details = shouldShowReasoning ? listReasoningDetails(thinking) : [];
  const sealedDetail = {
    type: "reasoning.encrypted" as const,
    id: null,
    format: SEALED_FORMAT,
    index: details.length,
    data: sealed,
  };
  return { reasoning_details: [...details, sealedDetail], extra_content: { google: { thought_signature: sealed } } };
}

/** Finds the encrypted thinking in a client's message, in any field that may contain it. */
export function findSealedThinking({ role, reasoning_details, tool_calls = [] }: CompletionMessage): string | null {
  if (role !== "assistant") return null;
  const details = Array.isArray(reasoning_details) ? reasoning_details : [];
  const values = [...details.map((detail) => getField(detail, "data")), ...tool_calls.map(getSignature)];
  return values.find((value) => typeof value === "string" && value.startsWith(SEALED_PREFIX)) ?? null;
}

const getSignature = ({ extra_content }: { extra_content?: unknown }) =>
  getField(getField(extra_content, "google"), "thought_signature");

function getField(value: unknown, name: string): string | undefined {
  return typeof value === "object" && value !== null ? (value as Record<string, string>)[name] : undefined;
}

/** Decrypts thinking and adds it to the messages of a request. Omits thinking that can't be decrypted. */
export function addDecryptedThinking(
  messages: readonly ChatMessage[],
  sealedByIndex: ReadonlyMap<number, string>,
  decrypt: (sealed: string) => Thinking | null,
): ChatMessage[] {
  return messages.map((message, index) => {
    const sealed = message.role === "assistant" ? sealedByIndex.get(index) : undefined;
    const thinking = sealed === undefined ? null : decrypt(sealed);
    return message.role === "assistant" && thinking ? { ...message, thinking } : message;
  });
}
