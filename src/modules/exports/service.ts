import type { Caller } from "../../access/caller.ts";
import { Problem } from "../../lib/problem.ts";
import type { Conversation } from "../../protocol/conversation.ts";
import type { Message } from "../../protocol/message.ts";
import type { AuthService } from "../auth/service.ts";
import type { ConversationService } from "../conversations/service.ts";
import type { MessageService } from "../messages/service.ts";
import { writeHead, writeMessage } from "./markdown.ts";
import type { ExportFormat } from "./model.ts";

/** Messages per batch; the size of their texts is bounded as well. */
const BATCH_ROWS = 200;

type Dependencies = {
  auth: Pick<AuthService, "hasAccess">;
  conversations: Pick<ConversationService, "get">;
  messages: Pick<MessageService, "list" | "findSeqs">;
};

/** Conversations as files. */
export interface ExportService {
  /**
   * For members: the current conversation, streamed. Only one batch is in memory, and the next is read when the reader
   * has consumed this one. Losing access aborts the file.
   * @throws Problem `not_found`; the stream throws as well.
   */
  open(caller: Caller, id: string, format: ExportFormat): Promise<{ title: string; pieces: AsyncGenerator<string> }>;
}

export function createExportService({ auth, conversations, messages }: Dependencies): ExportService {
  /** In order, up to the newest message at the start: otherwise new messages could keep it from ending. */
  async function* readMessages(caller: Caller, { id, last_seq }: Conversation): AsyncGenerator<Message[]> {
    let afterSeq = 0;
    while (afterSeq < last_seq) {
      if (!(await auth.hasAccess(caller))) throw new Problem("unauthorized", "The session or API key has ended.");
      const slice = await messages.list(caller, id, { beforeSeq: undefined, afterSeq }, BATCH_ROWS);
      // Only for callers who name a version that they have.
      if (slice === "unchanged") return;
      const { rows, fitting } = slice;
      const batch = rows.slice(0, Math.min(BATCH_ROWS, fitting)).filter(({ seq }) => seq <= last_seq);
      const last = batch.at(-1);
      if (!last) return;
      yield batch;
      afterSeq = last.seq;
    }
  }

  async function* writeMarkdown(caller: Caller, conversation: Conversation): AsyncGenerator<string> {
    yield writeHead(conversation, new Date());
    let before: Message | undefined;
    for await (const batch of readMessages(caller, conversation)) {
      const parentIds = batch.flatMap(({ parent_id }, at) => {
        const above = at === 0 ? before : batch[at - 1];
        return parent_id !== null && parent_id !== above?.id ? [parent_id] : [];
      });
      const seqs = await messages.findSeqs(conversation.id, parentIds);
      let text = "";
      for (const message of batch) {
        text += writeMessage(message, before, (parentId) => seqs.get(parentId));
        before = message;
      }
      yield text;
    }
  }

  async function* writeJson(caller: Caller, conversation: Conversation): AsyncGenerator<string> {
    const head = JSON.stringify({ exported_at: new Date().toISOString(), conversation });
    // The opening brace stays open for the list that follows.
    yield `${head.slice(0, -1)},"messages":[`;
    let separator = "\n";
    for await (const batch of readMessages(caller, conversation)) {
      yield separator + batch.map((message) => JSON.stringify(message)).join(",\n");
      separator = ",\n";
    }
    yield "\n]}\n";
  }

  async function* writeLines(caller: Caller, conversation: Conversation): AsyncGenerator<string> {
    yield `${JSON.stringify(conversation)}\n`;
    for await (const batch of readMessages(caller, conversation))
      yield batch.map((message) => `${JSON.stringify(message)}\n`).join("");
  }

  const writers: Record<ExportFormat, (caller: Caller, conversation: Conversation) => AsyncGenerator<string>> = {
    markdown: writeMarkdown,
    json: writeJson,
    jsonl: writeLines,
  };

  return {
    async open(caller, id, format) {
      const conversation = await conversations.get(caller, id);
      return { title: conversation.title, pieces: writers[format](caller, conversation) };
    },
  };
}
