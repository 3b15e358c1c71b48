import { createId } from "../../lib/id.ts";
import { assembleAnswer, type ReceivedAnswer } from "./received-answer.ts";
import type { RestClient, StoredMessage, TestUser } from "./rest.ts";
import type { ClientSocket, Frame } from "./socket.ts";

const POLL_MS = 50;

/** Requests an answer from a model. Returns the answer's id once it has started. The socket must be subscribed to the conversation. */
export async function requestAnswer(socket: ClientSocket, conversationId: string, model: string): Promise<string> {
  const message = { client_message_id: createId(), content: "Please count.", model, reply: true };
  const ack = await socket.request({ type: "message.send", conversation_id: conversationId, ...message });
  if (ack.type !== "ack") throw new Error(`expected an ack of the message to ${model}, but got ${ack.code}`);
  const isAnswer = ({ type, data }: Frame) =>
    type === "message.created" && data?.role === "assistant" && data.parent_id === ack.message?.id;
  const frame = await socket.waitFor(`an answer from ${model}`, isAnswer);
  return frame.data?.id ?? "";
}

/** Waits until the socket has received at least `charsMin` characters of an answer. */
export async function waitForText(
  socket: ClientSocket,
  answerId: string,
  charsMin: number,
  timeoutMs?: number,
): Promise<void> {
  const isLongEnough = ({ type, message_id, offset = 0, text = "" }: Frame) =>
    type === "message.delta" && message_id === answerId && offset + text.length >= charsMin;
  await socket.waitFor(`${charsMin} characters of an answer`, isLongEnough, timeoutMs);
}

/** Waits until the socket has received a complete answer. @param options.earlierFrames frames received on an earlier socket. */
export async function waitForAnswer(
  socket: ClientSocket,
  answerId: string,
  { timeoutMs, earlierFrames = [] }: { timeoutMs?: number; earlierFrames?: readonly Frame[] } = {},
): Promise<ReceivedAnswer> {
  const isCompletion = ({ type, data }: Frame) => type === "message.completed" && data?.id === answerId;
  const hasCompletion = (frame: Frame) => isCompletion(frame) || (frame.events?.some(isCompletion) ?? false);
  await socket.waitFor("message.completed", hasCompletion, timeoutMs);
  return assembleAnswer([...earlierFrames, ...socket.frames], answerId);
}

/** Waits until no message in these conversations is streaming. Returns the messages that are still streaming at `deadlineMs`. */
export async function waitUntilNotStreaming(
  rest: RestClient,
  account: TestUser,
  conversationIds: readonly string[],
  deadlineMs: number,
): Promise<StoredMessage[]> {
  for (;;) {
    const histories = await Promise.all(conversationIds.map((id) => rest.listMessages(account, id)));
    const streamingMessages = histories.flat().filter(({ status }) => status === "streaming");
    if (streamingMessages.length === 0 || performance.now() > deadlineMs) return streamingMessages;
    await Bun.sleep(POLL_MS);
  }
}
