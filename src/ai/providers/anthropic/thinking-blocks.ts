import type { ContentBlockParam } from "@anthropic-ai/sdk/resources/messages/messages";
import type { ThinkingSource } from "../../thinking.ts";
import { createThinking, findModelThinking, THINKING_LENGTH_MAX } from "../../thinking.ts";
import type { Turn } from "../map-conversation.ts";
import { asFields, asList, asNonEmptyString, type Fields } from "../read-fields.ts";

/** A block of an answer, as it is sent back to the API. Only the id of a call is recorded, because calls are stored elsewhere. */
type Block = { type: "thinking" | "redacted_thinking" | "text" | "tool_use"; [name: string]: unknown };

/**
 * Records an answer's blocks in order. In a tool loop, `thinking` and `redacted_thinking` blocks must be sent back complete,
 * unmodified and in their original order with text blocks and calls
 * (platform.claude.com/docs/en/build-with-claude/thinking-tool-workflows).
 */
export function createBlockRecord() {
  const blocks: Block[] = [];
  /** The current block at each index. */
  const currentBlocks = new Map<unknown, Block>();
  let length = 0;

  /** Appends to a block's text. If the blocks exceed the limit, all are discarded, because they must be sent back complete. */
  function append(block: Block, name: string, value: unknown): void {
    const text = asNonEmptyString(value);
    if (text === null) return;
    length += text.length;
    if (length <= THINKING_LENGTH_MAX) block[name] = `${block[name] ?? ""}${text}`;
  }

  return {
    /** Adds a complete block or the start of a block. */
    startBlock(key: unknown, { type, ...fields }: Fields): void {
      if (type !== "thinking" && type !== "redacted_thinking" && type !== "text" && type !== "tool_use") return;
      const block: Block = { type };
      currentBlocks.set(key, block);
      blocks.push(block);
      if (type === "tool_use") block.id = fields.id;
      if (type === "text") append(block, "text", fields.text);
      if (type === "redacted_thinking") append(block, "data", fields.data);
      if (type !== "thinking") return;
      // Some models only send the signature.
      block.thinking = "";
      append(block, "thinking", fields.thinking);
      append(block, "signature", fields.signature);
    },
    /** Adds a delta to a block. */
    add(key: unknown, delta: Fields): void {
      const block = currentBlocks.get(key);
      if (block?.type === "text") append(block, "text", delta.text);
      if (block?.type !== "thinking") return;
      append(block, "thinking", delta.thinking);
      append(block, "signature", delta.signature);
    },
    /** Returns the thinking to send back to this model with the answer's calls. */
    buildThinking(thinkingSource: ThinkingSource | undefined) {
      const hasThinking = length <= THINKING_LENGTH_MAX && blocks.some(isThinkingBlock);
      return createThinking(thinkingSource, hasThinking ? { blocks } : null);
    },
  };
}

const isThinkingBlock = ({ type }: Fields): boolean => type === "thinking" || type === "redacted_thinking";

type AssistantTurn = Extract<Turn, { role: "assistant" }>;

/** Returns a turn's blocks if this model sent them. A model can't read other models' blocks. */
export const findThinkingBlocks = (turn: AssistantTurn, thinkingSource: ThinkingSource): readonly Fields[] =>
  asList(findModelThinking(turn.thinking, thinkingSource)?.blocks).map(asFields);

/**
 * Maps a turn with its thinking blocks in their original order. If another model wrote the start of the text, the whole text
 * follows the thinking.
 */
export function mapBlocks(
  blocks: readonly Fields[],
  text: ContentBlockParam[],
  calls: ReadonlyMap<string, ContentBlockParam>,
  content: string,
): ContentBlockParam[] {
  const isTextUnchanged =
    removeWhitespace(blocks.map((block) => asNonEmptyString(block.text) ?? "").join("")) === removeWhitespace(content);
  const remainingCalls = new Map(calls);
  const mappedBlocks: ContentBlockParam[] = [];
  for (const block of blocks) {
    if (isThinkingBlock(block)) mappedBlocks.push(block as unknown as ContentBlockParam);
    else if (block.type === "text" && isTextUnchanged && asNonEmptyString(block.text)?.trim())
      mappedBlocks.push(block as unknown as ContentBlockParam);
    else if (block.type === "tool_use") {
      const call = remainingCalls.get(String(block.id));
      if (call) mappedBlocks.push(call);
      remainingCalls.delete(String(block.id));
    }
  }
  const firstCallIndex = mappedBlocks.findIndex(({ type }) => type === "tool_use");
  if (!isTextUnchanged) mappedBlocks.splice(firstCallIndex === -1 ? mappedBlocks.length : firstCallIndex, 0, ...text);
  return [...mappedBlocks, ...remainingCalls.values()];
}

const removeWhitespace = (text: string): string => text.replaceAll(/\s+/g, "");
