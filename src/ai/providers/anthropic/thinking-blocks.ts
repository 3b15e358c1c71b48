import type { ContentBlockParam } from "@anthropic-ai/sdk/resources/messages/messages";
import type { ThinkingSource } from "../../thinking.ts";
import { createThinking, findModelThinking, THINKING_LENGTH_MAX } from "../../thinking.ts";
import type { Turn } from "../map-conversation.ts";
import { type Fields, readFields, readList, readText } from "../read-fields.ts";

/** A block of an answer in the form in which it is returned to the API; a call only by its id, since the rest is known. */
type Block = { type: "thinking" | "redacted_thinking" | "text" | "tool_use"; [name: string]: unknown };

/**
 * Records the blocks of an answer in order. In a tool loop, `thinking` and `redacted_thinking` blocks must be returned
 * complete, unmodified, and in their places between texts and calls
 * (platform.claude.com/docs/en/build-with-claude/thinking-tool-workflows).
 */
export function createBlockRecord() {
  const blocks: Block[] = [];
  /** The block being written at each index. */
  const open = new Map<unknown, Block>();
  let length = 0;

  /** Appends to a text of a block. Beyond the limit nothing is kept, since none of it could be returned. */
  function append(block: Block, name: string, value: unknown): void {
    const text = readText(value);
    if (text === null) return;
    length += text.length;
    if (length <= THINKING_LENGTH_MAX) block[name] = `${block[name] ?? ""}${text}`;
  }

  return {
    /** Starts a block, or adds a complete one. */
    begin(key: unknown, { type, ...fields }: Fields): void {
      if (type !== "thinking" && type !== "redacted_thinking" && type !== "text" && type !== "tool_use") return;
      const block: Block = { type };
      open.set(key, block);
      blocks.push(block);
      if (type === "tool_use") block.id = fields.id;
      if (type === "text") append(block, "text", fields.text);
      if (type === "redacted_thinking") append(block, "data", fields.data);
      if (type !== "thinking") return;
      // May stay empty: some models only send the signature.
      block.thinking = "";
      append(block, "thinking", fields.thinking);
      append(block, "signature", fields.signature);
    },
    /** Continues a block. */
    add(key: unknown, delta: Fields): void {
      const block = open.get(key);
      if (block?.type === "text") append(block, "text", delta.text);
      if (block?.type !== "thinking") return;
      append(block, "thinking", delta.thinking);
      append(block, "signature", delta.signature);
    },
    /** Returns the thinking to send back to this model with the answer's calls. */
    read(thinker: ThinkingSource | undefined) {
      const hasThinking = length <= THINKING_LENGTH_MAX && blocks.some(isThinking);
      return createThinking(thinker, hasThinking ? { blocks } : null);
    },
  };
}

const isThinking = ({ type }: Fields): boolean => type === "thinking" || type === "redacted_thinking";

type AssistantTurn = Extract<Turn, { role: "assistant" }>;

/** Finds the blocks that this same model sent with a turn; another model's blocks are unreadable to it. */
export const findBlocks = (turn: AssistantTurn, thinker: ThinkingSource): readonly Fields[] =>
  readList(findModelThinking(turn.thinking, thinker)?.blocks).map(readFields);

/**
 * Maps a turn with its thinking blocks in place. If the turn's text differs from the blocks (another model wrote its start),
 * the text follows the thinking.
 */
export function mapBlocks(
  blocks: readonly Fields[],
  text: ContentBlockParam[],
  calls: ReadonlyMap<string, ContentBlockParam>,
  content: string,
): ContentBlockParam[] {
  const isOwnText =
    removeWhitespace(blocks.map((block) => readText(block.text) ?? "").join("")) === removeWhitespace(content);
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

const removeWhitespace = (text: string): string => text.replaceAll(/\s+/g, "");
