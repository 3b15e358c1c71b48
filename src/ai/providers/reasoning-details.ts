import type { Thinking } from "../provider.ts";
import { type Fields, readFields, readList, readText } from "./read-fields.ts";

/** A model's thinking in OpenRouter's format (openrouter.ai/docs/use-cases/reasoning-tokens). */
export type ReasoningDetail = {
  type: "reasoning.text" | "reasoning.summary" | "reasoning.encrypted";
  id: string | null;
  format: string;
  index: number;
  [name: string]: unknown;
};

type Detail = Fields;

/** Converts any provider's thinking to OpenRouter's format. Anything without an equivalent is omitted. */
export function listReasoningDetails({ data }: Thinking): ReasoningDetail[] {
  const { blocks, items, details, text, extra, extras } = readFields(data);
  const listed: (Detail | null)[] = [
    ...readList(blocks).map((block) => mapBlock(readFields(block))),
    ...readList(items).flatMap((item) => mapItem(readFields(item))),
    ...readList(details).map((detail) => mapDetail(readFields(detail))),
    ...(readText(text) === null ? [] : [{ type: "reasoning.text" as const, id: null, format: "unknown", text }]),
    ...mapSignature(null, extra),
    ...readList(extras).flatMap((entry) => mapSignature(readText(readList(entry)[0]), readList(entry)[1])),
  ];
  return listed.filter((detail) => detail !== null).map((detail, index) => ({ ...detail, index }) as ReasoningDetail);
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
  const id = readText(item.id);
  const summaries = readList(item.summary).map((part): Detail => {
    return { type: "reasoning.summary", id, format: OPENAI, summary: readText(readFields(part).text) ?? "" };
  });
  return [...summaries, { type: "reasoning.encrypted", id, format: OPENAI, data: item.encrypted_content }];
}

const types = new Set<unknown>(["reasoning.text", "reasoning.summary", "reasoning.encrypted"]);

/** These come from OpenRouter itself. */
const mapDetail = (detail: Fields): Detail | null =>
  types.has(detail.type) ? { ...detail, id: readText(detail.id), format: readText(detail.format) ?? "unknown" } : null;

function mapSignature(id: string | null, extra: unknown): Detail[] {
  const signature = readText(readFields(readFields(extra).google).thought_signature);
  return signature === null ? [] : [{ type: "reasoning.encrypted", id, format: GOOGLE, data: signature }];
}
