import type { ContentBlockParam } from "@anthropic-ai/sdk/resources/messages/messages";
import type { Thinker } from "../../thinking.ts";
import { createThinking, findModelThinking, THINKING_LENGTH_MAX } from "../../thinking.ts";
import type { Turn } from "../map-conversation.ts";
import { type Fields, readFields, readList, readText } from "../read-fields.ts";

/** A block of an answer as it has to come back; a call only by its id, since it is known in full. */
type Block = { type: "thinking" | "redacted_thinking" | "text" | "tool_use"; [name: string]: unknown };

/**
 * Collects the blocks of an answer in their order. In a loop with tools, `thinking` and `redacted_thinking` blocks have to
 * come back complete, unmodified and in their places between texts and calls
 * (platform.claude.com/docs/en/build-with-claude/thinking-tool-workflows).
 */
export function createBlockRecord() {
  const blocks: Block[] = [];
  /** The block that is being written at an index. */
  const open = new Map<unknown, Block>();
  let length = 0;

  /** Appends to a text of a block. Beyond the limit nothing is kept: none of it would go back. */
  function append(block: Block, name: string, value: unknown): void {
    const text = readText(value);
    if (text === null) return;
    length += text.length;
    if (length <= THINKING_LENGTH_MAX) block[name] = `${block[name] ?? ""}${text}`;
  }

  return {
    /** A block begins, or comes whole. */
    begin(key: unknown, { type, ...fields }: Fields): void {
      if (type !== "thinking" && type !== "redacted_thinking" && type !== "text" && type !== "tool_use") return;
      const block: Block = { type };
      open.set(key, block);
      blocks.push(block);
      if (type === "tool_use") block.id = fields.id;
      if (type === "text") append(block, "text", fields.text);
      if (type === "redacted_thinking") append(block, "data", fields.data);
      if (type !== "thinking") return;
      // It may be empty: some models only give its signature.
      block.thinking = "";
      append(block, "thinking", fields.thinking);
      append(block, "signature", fields.signature);
    },
    /** A block goes on. */
    add(key: unknown, delta: Fields): void {
      const block = open.get(key);
      if (block?.type === "text") append(block, "text", delta.text);
      if (block?.type !== "thinking") return;
      append(block, "thinking", delta.thinking);
      append(block, "signature", delta.signature);
    },
    /** What goes back to this model with the calls of the answer. */
    read(thinker: Thinker | undefined) {
      const hasThinking = length <= THINKING_LENGTH_MAX && blocks.some(isThinking);
      return createThinking(thinker, hasThinking ? { blocks } : null);
    },
  };
}

const isThinking = ({ type }: Fields): boolean => type === "thinking" || type === "redacted_thinking";

type AssistantTurn = Extract<Turn, { role: "assistant" }>;

/** The blocks that this very model has given with a turn; none of another model, which could not read them. */
export const findBlocks = (turn: AssistantTurn, thinker: Thinker): readonly Fields[] =>
  readList(findModelThinking(turn.thinking, thinker)?.blocks).map(readFields);

/**
 * A turn with its thinking in its place. Where the turn's text is not that of the blocks (another model wrote its beginning),
 * it comes after the thinking.
 */
export function mapBlocks(
  blocks: readonly Fields[],
  text: ContentBlockParam[],
  calls: ReadonlyMap<string, ContentBlockParam>,
  content: string,
): ContentBlockParam[] {
  const isOwnText = squeeze(blocks.map((block) => readText(block.text) ?? "").join("")) === squeeze(content);
  const left = new Map(calls);
  const mapped: ContentBlockParam[] = [];
  for (const block of blocks) {
    if (isThinking(block)) mapped.push(block as unknown as ContentBlockParam);
    else if (block.type === "text" && isOwnText && readText(block.text)?.trim())
      mapped.push(block as unknown as ContentBlockParam);
    else if (block.type === "tool_use") {
      const call = left.get(String(block.id));
      if (call) mapped.push(call);
      left.delete(String(block.id));
    }
  }
  const firstCall = mapped.findIndex(({ type }) => type === "tool_use");
  if (!isOwnText) mapped.splice(firstCall === -1 ? mapped.length : firstCall, 0, ...text);
  return [...mapped, ...left.values()];
}

const squeeze = (text: string): string => text.replaceAll(/\s+/g, "");
