import { createId } from "../../lib/id.ts";
import { followAnswer, type Reading } from "./reading.ts";
import type { Rest, StoredMessage, TestUser } from "./rest.ts";
import type { ClientSocket, Frame } from "./socket.ts";

const POLL_MS = 50;

/** Asks a model in a conversation that the socket is subscribed to. @returns the answer's id, once the answer has begun. */
export async function ask(socket: ClientSocket, conversationId: string, model: string): Promise<string> {
  const message = { client_message_id: createId(), content: "Please count.", model, reply: true };
  const ack = await socket.request({ type: "message.send", conversation_id: conversationId, ...message });
  if (ack.type !== "ack") throw new Error(`expected an ack of the question to ${model}, but got ${ack.code}`);
  const isAnswer = ({ type, data }: Frame) =>
    type === "message.created" && data?.role === "assistant" && data.parent_id === ack.message?.id;
  const created = await socket.waitFor(`the answer of ${model} to begin`, isAnswer);
  return created.data?.id ?? "";
}

/** Waits until the socket has received at least `charsMin` characters of an answer. */
export async function untilText(
  socket: ClientSocket,
  answerId: string,
  charsMin: number,
  timeoutMs?: number,
): Promise<void> {
  const isLongEnough = ({ type, message_id, offset = 0, text = "" }: Frame) =>
    type === "message.delta" && message_id === answerId && offset + text.length >= charsMin;
  await socket.waitFor(`${charsMin} characters of an answer`, isLongEnough, timeoutMs);
}

/** Waits until the socket has received the end of an answer. The reader may already have frames from an earlier socket. */
export async function readToEnd(
  socket: ClientSocket,
  answerId: string,
  { timeoutMs, before = [] }: { timeoutMs?: number; before?: readonly Frame[] } = {},
): Promise<Reading> {
  const isEnd = ({ type, data }: Frame) => type === "message.completed" && data?.id === answerId;
  const hasEnd = (frame: Frame) => isEnd(frame) || (frame.events?.some(isEnd) ?? false);
  await socket.waitFor("message.completed", hasEnd, timeoutMs);
  return followAnswer([...before, ...socket.frames], answerId);
}

/** Waits until no message of these conversations is streaming. @returns those that still are at `deadlineMs`. */
export async function findStreaming(
  rest: Rest,
  account: TestUser,
  conversationIds: readonly string[],
  deadlineMs: number,
): Promise<StoredMessage[]> {
  for (;;) {
    const histories = await Promise.all(conversationIds.map((id) => rest.listMessages(account, id)));
    const streaming = histories.flat().filter(({ status }) => status === "streaming");
    if (streaming.length === 0 || performance.now() > deadlineMs) return streaming;
    await Bun.sleep(POLL_MS);
  }
}
