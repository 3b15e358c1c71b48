import { createHash } from "node:crypto";
import { readFields } from "../../ai/fields.ts";
import { createId } from "../../lib/id.ts";
import type { ConversationFields, Format } from "./format.ts";
import { createOmissions, type Omissions } from "./omissions.ts";
import { orderMessages, type Placed } from "./order.ts";
import { createStepCounter, type Steps } from "./steps.ts";
import { cleanId, cleanLine, cleanModel, readTime } from "./texts.ts";
import { buildTree, type SourceNode } from "./tree.ts";

/** Limits per conversation, which is entirely in memory: tree nodes, and UTF-16 units of texts. */
const NODES_MAX = 250_000;
const CONVERSATION_CHARS_MAX = 32 * 1024 * 1024;

export type ImportedMessage = {
  id: string;
  role: "system" | "user" | "assistant";
  content: string;
  parent: string | null;
  model: string | null;
  at: string;
};

/** A conversation ready to be stored. */
export type ImportedConversation = {
  id: string;
  sourceId: string;
  title: string;
  createdAt: string;
  updatedAt: string;
  messages: ImportedMessage[];
  /** UTF-8 bytes of all texts. */
  bytes: number;
  /** What was left out; null: nothing. */
  note: string | null;
};

/** The result for one item of the file. */
export type Read = { title: string; conversation: ImportedConversation } | { title: string; skipped: string };

/** Assembles conversations from their parts, one after the other. */
export type ConversationBuilder = {
  addNode(field: string, key: string, value: unknown): void;
  /** Ends a conversation. The next one may begin before the returned work is done. */
  finish(value: unknown): Steps<Read>;
  /** The conversation couldn't be read completely. */
  drop(): Steps<Read>;
};

type Other = Pick<Format, "label" | "source" | "nodesField">;

/**
 * @param other the format of the other source, in case the wrong file was sent.
 * @param nowMs replaces missing or invalid times.
 */
export function createConversationBuilder(format: Format, other: Other, nowMs: number): ConversationBuilder {
  let nodes: SourceNode[] = [];
  let omissions: Omissions = createOmissions();
  let chars = 0;
  let isOfOther = false;
  let isOversized = false;

  function reset(): void {
    nodes = [];
    omissions = createOmissions();
    chars = 0;
    isOfOther = false;
    isOversized = false;
  }

  function findFault(value: unknown): string | null {
    if (isOversized)
      return `It has more than ${NODES_MAX} messages, or more than ${CONVERSATION_CHARS_MAX} characters.`;
    const fields = readFields(value);
    if (isOfOther || (nodes.length === 0 && Object.hasOwn(fields, other.nodesField))) return describeWrongSource(other);
    if (!Object.hasOwn(fields, format.nodesField)) return `This is not a ${format.label} conversation.`;
    return null;
  }

  return {
    addNode(field, key, value) {
      if (field === other.nodesField) isOfOther = true;
      if (field !== format.nodesField || isOversized) return;
      const node = format.readNode({ key, value, omissions, nowMs, previousId: nodes.at(-1)?.id ?? null });
      nodes.push(node);
      chars += (node.message?.content.length ?? 0) + node.childIds.reduce((sum, id) => sum + id.length, node.id.length);
      isOversized = nodes.length > NODES_MAX || chars > CONVERSATION_CHARS_MAX;
      if (isOversized) nodes = [];
    },

    finish(value) {
      const fault = findFault(value);
      const fields = format.readConversation(readFields(value));
      const work = fault === null ? build(fields, nodes, omissions) : skip(cleanLine(fields.title), fault);
      reset();
      return work;
    },

    drop() {
      reset();
      return skip("", "Part of it is too large.");
    },
  };

  function* build(fields: ConversationFields, found: SourceNode[], missing: Omissions): Steps<Read> {
    const title = cleanLine(fields.title);
    const placed = yield* orderMessages(yield* buildTree(found, fields.currentId));
    if (placed.length === 0) return { title, skipped: "It has no messages." };
    return { title, conversation: yield* createConversation(title, fields, placed, nowMs, missing.describe()) };
  }
}

// biome-ignore lint/correctness/useYield: the other steps yield, so this one has the same type.
function* skip(title: string, skipped: string): Steps<Read> {
  return { title, skipped };
}

/** For a file, or part of it, that another source has written. */
export const describeWrongSource = ({ label, source }: Pick<Format, "label" | "source">): string =>
  `This is an export of ${label}. Import it with ?source=${source}.`;

function* createConversation(
  title: string,
  fields: ConversationFields,
  placed: readonly Placed[],
  nowMs: number,
  note: string | null,
): Steps<ImportedConversation> {
  const isDue = createStepCounter();
  const createdAt = readTime(fields.createdAt, nowMs);
  const messages: ImportedMessage[] = [];
  const model = cleanModel(fields.model);
  let at = createdAt ?? readTime(fields.updatedAt, nowMs) ?? new Date(nowMs);
  let newestMs = Number.NEGATIVE_INFINITY;
  let oldestMs = Number.POSITIVE_INFINITY;
  let bytes = 0;
  for (const { branch, parent } of placed) {
    if (isDue()) yield;
    // A message without a time gets the time of the one before it.
    at = branch?.message.at ?? at;
    if (branch?.message.at) {
      newestMs = Math.max(newestMs, at.getTime());
      oldestMs = Math.min(oldestMs, at.getTime());
    }
    const content = branch?.message.content ?? "";
    const role = branch?.message.role ?? "system";
    messages.push({
      id: createId(),
      role,
      content,
      parent: parent === null ? null : (messages[parent]?.id ?? null),
      model: role === "assistant" ? (branch?.message.model ?? model) : null,
      at: at.toISOString(),
    });
    bytes += Buffer.byteLength(content);
  }
  const updatedAt = Number.isFinite(newestMs) ? new Date(newestMs) : (readTime(fields.updatedAt, nowMs) ?? at);
  const startedAt = createdAt ?? (Number.isFinite(oldestMs) ? new Date(oldestMs) : updatedAt);
  return {
    id: createId(),
    sourceId: cleanId(fields.id) ?? hashConversation(title, createdAt, messages),
    title,
    createdAt: startedAt.toISOString(),
    updatedAt: new Date(Math.max(updatedAt.getTime(), startedAt.getTime())).toISOString(),
    messages,
    bytes,
    note,
  };
}

/** Replaces a missing conversation id with a hash of the content, so that repeats are recognized. */
function hashConversation(title: string, createdAt: Date | null, messages: readonly ImportedMessage[]): string {
  const hash = createHash("sha256").update(JSON.stringify([title, createdAt]));
  for (const { role, content } of messages) hash.update(JSON.stringify([role, content]));
  return `sha256:${hash.digest("hex")}`;
}
