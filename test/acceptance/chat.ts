import type { Account } from "../support/client.ts";
import { createConversation } from "../support/conversation.ts";
import { type Frame, openSocket, type TestSocket } from "../support/socket.ts";
import { type AssembledAnswer, assembleAnswer } from "./assemble-answer.ts";
import type { Parley } from "./installation.ts";

/** An answer, as the API returns it. */
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

/** Registers a user with a conversation and a subscribed socket. */
export async function openChat(parley: Parley) {
  const account = await parley.register();
  const { id: conversationId } = await createConversation(parley, account);
  const socket = await openSubscribedSocket(parley, account, conversationId);

  return {
    account,
    conversationId,
    socket,

    /** Sends a question, waits until the answer starts, and returns the answer's id. */
    async requestAnswer(model?: string, content = "What do you say?"): Promise<string> {
      const client_message_id = crypto.randomUUID();
      const frame = { conversation_id: conversationId, client_message_id, content, reply: true };
      const ack = await socket.request({ type: "message.send", ...frame, ...(model !== undefined && { model }) });
      if (ack.type !== "ack") throw new Error(`message.send: ${JSON.stringify(ack)}`);
      const questionId = (ack.message as { id: string }).id;
      const created = await socket.waitFor((frame) => isAnswerTo(frame, questionId));
      return created.data?.id ?? "";
    },

    /** Waits until the answer is complete. */
    waitForAnswer: (answerId: string, waitMs?: number) => waitForAnswer(socket, answerId, waitMs),

    /** Fetches an answer over REST. */
    async fetchAnswer(instance: Parley, answerId: string): Promise<Answer> {
      const path = `/api/v1/conversations/${conversationId}/messages/${answerId}`;
      const response = await instance.fetch(path, { token: account.access_token });
      if (response.status !== 200) throw new Error(`${path}: ${response.status}`);
      return (await response.json()) as Answer;
    },
  };
}

/** Opens a socket and subscribes to a conversation. */
export async function openSubscribedSocket(
  parley: Pick<Parley, "url">,
  account: Account,
  conversation_id: string,
  after_seq?: number,
): Promise<TestSocket> {
  const socket = await openSocket(parley.url, { token: account.access_token });
  const replayOption = after_seq === undefined ? {} : { after_seq };
  const ack = await socket.request({ type: "subscribe", conversation_id, ...replayOption });
  if (ack.type !== "ack") throw new Error(`subscribe: ${JSON.stringify(ack)}`);
  return socket;
}

/** Waits until an answer is complete, and assembles it from the socket's frames. */
export async function waitForAnswer(
  socket: TestSocket,
  answerId: string,
  waitMs?: number,
): Promise<AssembledAnswer & { message: Answer }> {
  await socket.waitFor(({ type, data }) => type === "message.completed" && data?.id === answerId, waitMs);
  const assembled = assembleAnswer(socket.frames, answerId);
  return { ...assembled, message: assembled.finalMessage as Answer };
}

/** Waits until the socket has received at least `length` characters of an answer. */
export async function waitForText(socket: TestSocket, answerId: string, length: number): Promise<void> {
  const hasEnoughText = (frame: Frame) =>
    frame.type === "message.delta" &&
    frame.message_id === answerId &&
    (frame.offset as number) + (frame.text as string).length >= length;
  await socket.waitFor(hasEnoughText);
}

function isAnswerTo({ type, data }: Frame, questionId: string): boolean {
  return type === "message.created" && data?.role === "assistant" && data.parent_id === questionId;
}
