import { createHash } from "node:crypto";
import { readFields } from "../../ai/fields.ts";
import { createId } from "../../lib/id.ts";
import type { ConversationFields, Format } from "./format.ts";
import { createOmissions, type Omissions } from "./omissions.ts";
import { type OrderedMessage, orderMessages } from "./order.ts";
import { createStepCounter, type Steps } from "./steps.ts";
import { cleanId, cleanLine, cleanModel, readTime } from "./texts.ts";
import { buildTree, type SourceNode } from "./tree.ts";

/** Limits per conversation, because each is held in memory as a whole: tree nodes, and UTF-16 units of all texts. */
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
  /** The size of all texts in UTF-8 bytes. */
  bytes: number;
  /** Describes what was left out; null if nothing was. */
  note: string | null;
};

/** The result of reading one item of the file. */
export type ReadResult = { title: string; conversation: ImportedConversation } | { title: string; skipped: string };

/** Builds conversations one after the other from the parts that the reader finds. */
export type ConversationBuilder = {
  addNode(field: string, key: string, value: unknown): void;
  /** Finishes the current conversation. The next one may be started before the returned work is done. */
  finish(value: unknown): Steps<ReadResult>;
  /** Skips the current conversation, which couldn't be read completely. */
  skipUnreadable(): Steps<ReadResult>;
};

type OtherFormat = Pick<Format, "label" | "source" | "nodesField">;

/**
 * @param other the format of the other source, to recognize a file sent with the wrong `source`.
 * @param nowMs the time to use where times are missing or invalid.
 */
export function createConversationBuilder(format: Format, other: OtherFormat, nowMs: number): ConversationBuilder {
  let nodes: SourceNode[] = [];
  let omissions: Omissions = createOmissions();
  let chars = 0;
  let isFromOtherSource = false;
  let isOversized = false;

  function reset(): void {
    nodes = [];
    omissions = createOmissions();
    chars = 0;
    isFromOtherSource = false;
    isOversized = false;
  }

  function findSkipReason(value: unknown): string | null {
    if (isOversized)
      return `It has more than ${NODES_MAX} messages, or more than ${CONVERSATION_CHARS_MAX} characters.`;
    const fields = readFields(value);
    if (isFromOtherSource || (nodes.length === 0 && Object.hasOwn(fields, other.nodesField)))
      return describeWrongSource(other);
    if (!Object.hasOwn(fields, format.nodesField)) return `This is not a ${format.label} conversation.`;
    return null;
  }

  return {
    addNode(field, key, value) {
      if (field === other.nodesField) isFromOtherSource = true;
      if (field !== format.nodesField || isOversized) return;
      const node = format.readNode({ key, value, omissions, nowMs, previousId: nodes.at(-1)?.id ?? null });
      nodes.push(node);
      chars += (node.message?.content.length ?? 0) + node.childIds.reduce((sum, id) => sum + id.length, node.id.length);
      isOversized = nodes.length > NODES_MAX || chars > CONVERSATION_CHARS_MAX;
      if (isOversized) nodes = [];
    },

    finish(value) {
      const skipReason = findSkipReason(value);
      const fields = format.readConversation(readFields(value));
      const work = skipReason === null ? build(fields, nodes, omissions) : skip(cleanLine(fields.title), skipReason);
      reset();
      return work;
    },

    skipUnreadable() {
      reset();
      return skip("", "Part of it is too large.");
    },
  };

  function* build(fields: ConversationFields, sourceNodes: SourceNode[], omitted: Omissions): Steps<ReadResult> {
    const title = cleanLine(fields.title);
    const ordered = yield* orderMessages(yield* buildTree(sourceNodes, fields.currentId));
    if (ordered.length === 0) return { title, skipped: "It has no messages." };
    return { title, conversation: yield* createConversation(title, fields, ordered, nowMs, omitted.describe()) };
  }
}

// biome-ignore lint/correctness/useYield: the other steps yield, so this one has the same type.
function* skip(title: string, skipped: string): Steps<ReadResult> {
  return { title, skipped };
}

/** The error for a file, or part of a file, that was exported from the other source. */
export const describeWrongSource = ({ label, source }: Pick<Format, "label" | "source">): string =>
  `This is an export of ${label}. Import it with ?source=${source}.`;

function* createConversation(
  title: string,
  fields: ConversationFields,
  ordered: readonly OrderedMessage[],
  nowMs: number,
  note: string | null,
): Steps<ImportedConversation> {
  const shouldYield = createStepCounter();
  const createdAt = readTime(fields.createdAt, nowMs);
  const messages: ImportedMessage[] = [];
  const model = cleanModel(fields.model);
  let at = createdAt ?? readTime(fields.updatedAt, nowMs) ?? new Date(nowMs);
  let newestMs = Number.NEGATIVE_INFINITY;
  let oldestMs = Number.POSITIVE_INFINITY;
  let bytes = 0;
  for (const { node, parent } of ordered) {
    if (shouldYield()) yield;
    // A message without a time gets that of the previous message.
    at = node?.message.at ?? at;
    if (node?.message.at) {
      newestMs = Math.max(newestMs, at.getTime());
      oldestMs = Math.min(oldestMs, at.getTime());
    }
    const content = node?.message.content ?? "";
    const role = node?.message.role ?? "system";
    messages.push({
      id: createId(),
      role,
      content,
      parent: parent === null ? null : (messages[parent]?.id ?? null),
      model: role === "assistant" ? (node?.message.model ?? model) : null,
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

/** Creates a replacement for a missing conversation id from the content, so that repeated imports are recognized. */
function hashConversation(title: string, createdAt: Date | null, messages: readonly ImportedMessage[]): string {
  const hash = createHash("sha256").update(JSON.stringify([title, createdAt]));
  for (const { role, content } of messages) hash.update(JSON.stringify([role, content]));
  return `sha256:${hash.digest("hex")}`;
}
