import type { Account } from "../support/client.ts";
import { createConversation } from "../support/conversation.ts";
import { type Frame, openSocket, type TestSocket } from "../support/socket.ts";
import { type Reading, readAnswer } from "./reader.ts";
import type { Parley } from "./site.ts";

/** An answer's message, as the API returns it. */
export type Answer = {
  id: string;
  seq: number;
  status: string;
  content: string;
  model: string | null;
  finish_reason: string | null;
  usage: { input_tokens: number; output_tokens: number; cost_usd: number | null } | null;
  error: { code: string; detail: string } | null;
};

export type Chat = Awaited<ReturnType<typeof openChat>>;

/** A user with a conversation and a subscribed socket. */
export async function openChat(parley: Parley) {
  const account = await parley.register();
  const { id: conversationId } = await createConversation(parley, account);
  const socket = await openSubscribed(parley, account, conversationId);

  return {
    account,
    conversationId,
    socket,

    /** Sends a question. @returns the answer's id, once the answer has started. */
    async ask(model?: string, content = "What do you say?"): Promise<string> {
      const client_message_id = crypto.randomUUID();
      const frame = { conversation_id: conversationId, client_message_id, content, reply: true };
      const ack = await socket.request({ type: "message.send", ...frame, ...(model !== undefined && { model }) });
      if (ack.type !== "ack") throw new Error(`message.send: ${JSON.stringify(ack)}`);
      const questionId = (ack.message as { id: string }).id;
      const created = await socket.waitFor((frame) => isAnswerTo(frame, questionId));
      return created.data?.id ?? "";
    },

    /** Reads until the answer is complete. */
    readToEnd: (answerId: string, waitMs?: number) => readToEnd(socket, answerId, waitMs),

    /** The message as REST returns it. */
    async get(from: Parley, answerId: string): Promise<Answer> {
      const path = `/api/v1/conversations/${conversationId}/messages/${answerId}`;
      const response = await from.fetch(path, { token: account.access_token });
      if (response.status !== 200) throw new Error(`${path}: ${response.status}`);
      return (await response.json()) as Answer;
    },
  };
}

/** A socket subscribed to the conversation. */
export async function openSubscribed(
  parley: Pick<Parley, "url">,
  account: Account,
  conversation_id: string,
  after_seq?: number,
): Promise<TestSocket> {
  const socket = await openSocket(parley.url, { token: account.access_token });
  const more = after_seq === undefined ? {} : { after_seq };
  const ack = await socket.request({ type: "subscribe", conversation_id, ...more });
  if (ack.type !== "ack") throw new Error(`subscribe: ${JSON.stringify(ack)}`);
  return socket;
}

export async function readToEnd(
  socket: TestSocket,
  answerId: string,
  waitMs?: number,
): Promise<Reading & { message: Answer }> {
  await socket.waitFor(({ type, data }) => type === "message.completed" && data?.id === answerId, waitMs);
  const reading = readAnswer(socket.frames, answerId);
  return { ...reading, message: reading.final as Answer };
}

/** Waits until the reader has at least `length` characters of the answer. */
export async function waitForText(socket: TestSocket, answerId: string, length: number): Promise<void> {
  const hasReached = (frame: Frame) =>
    frame.type === "message.delta" &&
    frame.message_id === answerId &&
    (frame.offset as number) + (frame.text as string).length >= length;
  await socket.waitFor(hasReached);
}

function isAnswerTo({ type, data }: Frame, questionId: string): boolean {
  return type === "message.created" && data?.role === "assistant" && data.parent_id === questionId;
}
