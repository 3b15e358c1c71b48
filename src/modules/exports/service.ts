import type { Caller } from "../../access/caller.ts";
import { Problem } from "../../lib/problem.ts";
import type { Conversation } from "../../protocol/conversation.ts";
import type { Message } from "../../protocol/message.ts";
import type { AuthService } from "../auth/service.ts";
import type { ConversationService } from "../conversations/service.ts";
import type { MessageService } from "../messages/service.ts";
import { formatConversationHeader, formatMessage } from "./markdown.ts";
import type { ExportFormat } from "./model.ts";

/** The maximum number of messages per batch. Their total size is also limited. */
const BATCH_ROWS = 200;

type Dependencies = {
  auth: Pick<AuthService, "hasAccess">;
  conversations: Pick<ConversationService, "get">;
  messages: Pick<MessageService, "list" | "findSeqs">;
};

/** Exports conversations as files. */
export interface ExportService {
  /**
   * Streams a conversation. Members only. Only one batch is in memory. The next batch is read when the client has received the current
   * one. If the caller loses access, the stream is aborted.
   * @throws Problem `not_found`. Reading the stream may also throw.
   */
  open(caller: Caller, id: string, format: ExportFormat): Promise<{ title: string; chunks: AsyncGenerator<string> }>;
}

export function createExportService({ auth, conversations, messages }: Dependencies): ExportService {
  /** Reads the messages in order, except messages that are sent during the export. They could keep the export running forever. */
  async function* readMessages(caller: Caller, { id, last_seq }: Conversation): AsyncGenerator<Message[]> {
    let afterSeq = 0;
    while (afterSeq < last_seq) {
      if (!(await auth.hasAccess(caller))) throw new Problem("unauthorized", "The session or API key has ended.");
      const slice = await messages.list(caller, id, { beforeSeq: undefined, afterSeq }, BATCH_ROWS);
      // Never happens, because `unchanged` is returned only if a version is passed.
      if (slice === "unchanged") return;
      const { rows, fittingCount } = slice;
      const batch = rows.slice(0, Math.min(BATCH_ROWS, fittingCount)).filter(({ seq }) => seq <= last_seq);
      const last = batch.at(-1);
      if (!last) return;
      yield batch;
      afterSeq = last.seq;
    }
  }

  async function* formatMarkdown(caller: Caller, conversation: Conversation): AsyncGenerator<string> {
    yield formatConversationHeader(conversation, new Date());
    let previousMessage: Message | undefined;
    for await (const batch of readMessages(caller, conversation)) {
      const parentIds = batch.flatMap(({ parent_id }, index) => {
        const messageAbove = index === 0 ? previousMessage : batch[index - 1];
        return parent_id !== null && parent_id !== messageAbove?.id ? [parent_id] : [];
      });
      const seqs = await messages.findSeqs(conversation.id, parentIds);
      let text = "";
      for (const message of batch) {
        text += formatMessage(message, previousMessage, (parentId) => seqs.get(parentId));
        previousMessage = message;
      }
      yield text;
    }
  }

  async function* formatJson(caller: Caller, conversation: Conversation): AsyncGenerator<string> {
    const head = JSON.stringify({ exported_at: new Date().toISOString(), conversation });
    // Omits the closing brace, because the list follows.
    yield `${head.slice(0, -1)},"messages":[`;
    let separator = "\n";
    for await (const batch of readMessages(caller, conversation)) {
      yield separator + batch.map((message) => JSON.stringify(message)).join(",\n");
      separator = ",\n";
    }
    yield "\n]}\n";
  }

  async function* formatJsonLines(caller: Caller, conversation: Conversation): AsyncGenerator<string> {
    yield `${JSON.stringify(conversation)}\n`;
    for await (const batch of readMessages(caller, conversation))
      yield batch.map((message) => `${JSON.stringify(message)}\n`).join("");
  }

  const formatters: Record<ExportFormat, (caller: Caller, conversation: Conversation) => AsyncGenerator<string>> = {
    markdown: formatMarkdown,
    json: formatJson,
    jsonl: formatJsonLines,
  };

  return {
    async open(caller, id, format) {
      const conversation = await conversations.get(caller, id);
      return { title: conversation.title, chunks: formatters[format](caller, conversation) };
    },
  };
}
