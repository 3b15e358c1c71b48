import { createHash } from "node:crypto";
import { asFields } from "../../ai/fields.ts";
import { createId } from "../../lib/id.ts";
import { cleanId, cleanLine, cleanModel, parseTime } from "./field-values.ts";
import type { ConversationFields, SourceFormat } from "./format.ts";
import { createOmissions, type Omissions } from "./omissions.ts";
import { type OrderedMessage, orderMessages } from "./order.ts";
import { createStepCounter, type Steps } from "./steps.ts";
import { buildTree, type SourceNode } from "./tree.ts";

/** Maximum number of tree nodes per conversation. Limited because a whole conversation is kept in memory. */
const NODES_MAX = 250_000;
/** Maximum total length of a conversation's text, in UTF-16 code units. */
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
  /** Total size of the text in UTF-8 bytes. */
  bytes: number;
  /** Describes what was omitted or truncated; null if nothing was. */
  note: string | null;
};

/** A conversation read from the file, or the reason why it was skipped. */
export type ReadResult = { title: string; conversation: ImportedConversation } | { title: string; skipReason: string };

/** Builds conversations, one after the other, from the messages and fields that the JSON reader finds. */
export type ConversationBuilder = {
  addNode(field: string, key: string, value: unknown): void;
  /** Finishes the current conversation. The next one may be started before the returned steps have run. */
  finish(value: unknown): Steps<ReadResult>;
  /** Skips the current conversation, which can't be read completely. */
  skipUnreadable(): Steps<ReadResult>;
};

type OtherFormat = Pick<SourceFormat, "label" | "source" | "nodesField">;

/**
 * Creates a builder for one file.
 * @param otherFormat the format of the other source, to recognize files sent with an incorrect `source`.
 * @param nowMs the time that replaces missing and invalid times.
 */
export function createConversationBuilder(
  format: SourceFormat,
  otherFormat: OtherFormat,
  nowMs: number,
): ConversationBuilder {
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
    const fields = asFields(value);
    if (isFromOtherSource || (nodes.length === 0 && Object.hasOwn(fields, otherFormat.nodesField)))
      return describeWrongSource(otherFormat);
    if (!Object.hasOwn(fields, format.nodesField)) return `This is not a ${format.label} conversation.`;
    return null;
  }

  return {
    addNode(field, key, value) {
      if (field === otherFormat.nodesField) isFromOtherSource = true;
      if (field !== format.nodesField || isOversized) return;
      const node = format.parseNode({ key, value, omissions, nowMs, previousId: nodes.at(-1)?.id ?? null });
      nodes.push(node);
      chars += (node.message?.content.length ?? 0) + node.childIds.reduce((sum, id) => sum + id.length, node.id.length);
      isOversized = nodes.length > NODES_MAX || chars > CONVERSATION_CHARS_MAX;
      if (isOversized) nodes = [];
    },

    finish(value) {
      const skipReason = findSkipReason(value);
      const fields = format.parseConversation(asFields(value));
      const steps =
        skipReason === null
          ? buildConversation(fields, nodes, omissions)
          : createSkipResult(cleanLine(fields.title), skipReason);
      reset();
      return steps;
    },

    skipUnreadable() {
      reset();
      return createSkipResult("", "Part of it is too large.");
    },
  };

  function* buildConversation(
    fields: ConversationFields,
    sourceNodes: SourceNode[],
    conversationOmissions: Omissions,
  ): Steps<ReadResult> {
    const title = cleanLine(fields.title);
    const orderedMessages = yield* orderMessages(yield* buildTree(sourceNodes, fields.currentId));
    if (orderedMessages.length === 0) return { title, skipReason: "It has no messages." };
    return {
      title,
      conversation: yield* createConversation(title, fields, orderedMessages, nowMs, conversationOmissions.describe()),
    };
  }
}

// biome-ignore lint/correctness/useYield: it must have the same type as generators that yield.
function* createSkipResult(title: string, skipReason: string): Steps<ReadResult> {
  return { title, skipReason };
}

/** Returns the error message for a file that was exported from the other source. */
export const describeWrongSource = ({ label, source }: Pick<SourceFormat, "label" | "source">): string =>
  `This is a ${label} export. Import it with ?source=${source}.`;

function* createConversation(
  title: string,
  fields: ConversationFields,
  orderedMessages: readonly OrderedMessage[],
  nowMs: number,
  note: string | null,
): Steps<ImportedConversation> {
  const shouldYield = createStepCounter();
  const createdAt = parseTime(fields.createdAt, nowMs);
  const messages: ImportedMessage[] = [];
  const model = cleanModel(fields.model);
  let time = createdAt ?? parseTime(fields.updatedAt, nowMs) ?? new Date(nowMs);
  let newestMs = Number.NEGATIVE_INFINITY;
  let oldestMs = Number.POSITIVE_INFINITY;
  let bytes = 0;
  for (const { node, parent } of orderedMessages) {
    if (shouldYield()) yield;
    // A message without a time gets the time of the previous message.
    time = node?.message.at ?? time;
    if (node?.message.at) {
      newestMs = Math.max(newestMs, time.getTime());
      oldestMs = Math.min(oldestMs, time.getTime());
    }
    const content = node?.message.content ?? "";
    const role = node?.message.role ?? "system";
    messages.push({
      id: createId(),
      role,
      content,
      parent: parent === null ? null : (messages[parent]?.id ?? null),
      model: role === "assistant" ? (node?.message.model ?? model) : null,
      at: time.toISOString(),
    });
    bytes += Buffer.byteLength(content);
  }
  const updatedAt = Number.isFinite(newestMs) ? new Date(newestMs) : (parseTime(fields.updatedAt, nowMs) ?? time);
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

/** Hashes a conversation that has no id. The hash serves as its id, so that the same conversation is imported only once. */
function hashConversation(title: string, createdAt: Date | null, messages: readonly ImportedMessage[]): string {
  const hash = createHash("sha256").update(JSON.stringify([title, createdAt]));
  for (const { role, content } of messages) hash.update(JSON.stringify([role, content]));
  return `sha256:${hash.digest("hex")}`;
}
