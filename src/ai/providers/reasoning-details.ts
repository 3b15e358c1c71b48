import type { Thinking } from "../provider.ts";
import { asFields, asList, asNonEmptyString, type Fields } from "./read-fields.ts";

/** A model's thinking in OpenRouter's format (openrouter.ai/docs/use-cases/reasoning-tokens). */
export type ReasoningDetail = {
  type: "reasoning.text" | "reasoning.summary" | "reasoning.encrypted";
  id: string | null;
  format: string;
  index: number;
  [name: string]: unknown;
};

type Detail = Fields;

/** Converts a provider's thinking to OpenRouter's format. Omits entries without an equivalent. */
export function listReasoningDetails({ data }: Thinking): ReasoningDetail[] {
  const { blocks, items, details, text, extra, extras } = asFields(data);
  const allDetails: (Detail | null)[] = [
    ...asList(blocks).map((block) => mapBlock(asFields(block))),
    ...asList(items).flatMap((item) => mapItem(asFields(item))),
    ...asList(details).map((detail) => mapDetail(asFields(detail))),
    ...(asNonEmptyString(text) === null
      ? []
      : [{ type: "reasoning.text" as const, id: null, format: "unknown", text }]),
    ...mapSignature(null, extra),
    ...asList(extras).flatMap((entry) => mapSignature(asNonEmptyString(asList(entry)[0]), asList(entry)[1])),
  ];
  return allDetails
    .filter((detail) => detail !== null)
    .map((detail, index) => ({ ...detail, index }) as ReasoningDetail);
}

const ANTHROPIC = "anthropic-claude-v1";
const OPENAI = "openai-responses-v1";
const GOOGLE = "google-gemini-v1";

function mapBlock({ type, thinking, signature, data }: Fields): Detail | null {
  if (type === "redacted_thinking") return { type: "reasoning.encrypted", id: null, format: ANTHROPIC, data };
  if (type !== "thinking") return null;
  return { type: "reasoning.text", id: null, format: ANTHROPIC, text: thinking, signature: signature ?? null };
}

function mapItem(item: Fields): Detail[] {
  if (item.type !== "reasoning") return [];
  const id = asNonEmptyString(item.id);
  const summaries = asList(item.summary).map((part): Detail => {
    return { type: "reasoning.summary", id, format: OPENAI, summary: asNonEmptyString(asFields(part).text) ?? "" };
  });
  return [...summaries, { type: "reasoning.encrypted", id, format: OPENAI, data: item.encrypted_content }];
}

const detailTypes = new Set<unknown>(["reasoning.text", "reasoning.summary", "reasoning.encrypted"]);

/** Maps a detail that is already in OpenRouter's format, because OpenRouter sent it. */
const mapDetail = (detail: Fields): Detail | null =>
  detailTypes.has(detail.type)
    ? { ...detail, id: asNonEmptyString(detail.id), format: asNonEmptyString(detail.format) ?? "unknown" }
    : null;

function mapSignature(id: string | null, extra: unknown): Detail[] {
  const signature = asNonEmptyString(asFields(asFields(extra).google).thought_signature);
  return signature === null ? [] : [{ type: "reasoning.encrypted", id, format: GOOGLE, data: signature }];
}
