import { requestAnswer, waitForAnswer } from "../answers.ts";
import type { Check } from "../check.ts";
import type { CheckContext } from "../check-context.ts";
import { type AccessAttempt, findLeakProblems, listPushes } from "../find-problems.ts";
import { formatQuantity } from "../measurements.ts";
import { SHORT_MODEL } from "../provider/scripts.ts";
import { listCreatedMessages } from "../received-answer.ts";
import { createContent, startSender } from "../sender.ts";
import { type ClientSocket, connectAndSubscribe, connectSocket } from "../socket.ts";

const SENT_MESSAGES = 50;
/** Time to wait for pushes that should not arrive. */
const SETTLE_MS = 1_200;

export const outsiderCheck: Check = {
  name: "outsider",
  claim: "A user who isn't a member sees nothing: REST returns 404, the WebSocket not_found, and nothing is pushed.",
  timeoutMs: 30_000,

  async run(context) {
    const { server, users } = context;
    const { ada, ben, outsider } = users;
    const conversationId = await server.rest.createConversation(ada, [ben], "Private");
    const benSocket = await connectAndSubscribe(server.url, ben.token, conversationId);
    const outsiderSocket = await connectSocket(server.url, outsider.token);
    await outsiderSocket.request({ type: "inbox.subscribe" });
    const firstAck = await benSocket.request({
      type: "message.send",
      conversation_id: conversationId,
      client_message_id: "first",
      content: createContent("first"),
      reply: false,
    });
    const messageId = firstAck.message?.id ?? "";
    const earlyAttempts = await tryAllRequests(context, outsiderSocket, conversationId, messageId);
    const adaSocket = await connectAndSubscribe(server.url, ada.token, conversationId);
    const sender = startSender({
      socket: adaSocket,
      conversationId,
      name: "private",
      inFlightMax: 4,
      messagesMax: SENT_MESSAGES,
    });
    await sender.done;
    const answerId = await requestAnswer(adaSocket, conversationId, SHORT_MODEL);
    await waitForAnswer(benSocket, answerId);
    await Bun.sleep(SETTLE_MS);
    const attempts = [...earlyAttempts, ...(await tryAllRequests(context, outsiderSocket, conversationId, messageId))];
    const problems = [...sender.problems, ...findLeakProblems(attempts, outsiderSocket.frames)];
    const pushCount = listPushes(outsiderSocket.frames).length;
    // A member must receive the messages. Otherwise, a server that pushes nothing to anyone would pass.
    const receivedCount = listCreatedMessages(benSocket.frames, conversationId).length;
    // The three other messages are Ben's message, the question and the answer.
    const expectedCount = SENT_MESSAGES + 3;
    if (receivedCount !== expectedCount)
      problems.push(`expected a member to receive ${expectedCount} messages, but got ${receivedCount}`);
    for (const socket of [benSocket, outsiderSocket, adaSocket]) await socket.close();
    return {
      summary: `${formatQuantity(attempts.length, "attempt")} rejected; ${formatQuantity(pushCount, "push", "pushes")} to the outsider, ${formatQuantity(receivedCount, "message")} to a member`,
      measured: { attempts: attempts.length, pushes_to_outsider: pushCount, messages_to_member: receivedCount },
      problems,
    };
  },
};

async function tryAllRequests(
  { server, users }: CheckContext,
  socket: ClientSocket,
  conversationId: string,
  messageId: string,
) {
  const { token } = users.outsider;
  const path = `/api/v1/conversations/${conversationId}`;
  const requests: [method: string, path: string, json?: unknown][] = [
    ["GET", path],
    ["PATCH", path, { title: "Mine" }],
    ["DELETE", path],
    ["GET", `${path}/members`],
    ["POST", `${path}/members`, { user_id: users.outsider.id }],
    ["GET", `${path}/messages`],
    ["POST", `${path}/messages`, { content: "Let me in." }],
    ["GET", `${path}/messages/${messageId}`],
    ["PATCH", `${path}/messages/${messageId}`, { content: "Changed." }],
    ["DELETE", `${path}/messages/${messageId}`],
    ["GET", `${path}/events`],
    ["GET", `${path}/export?format=markdown`],
  ];
  const frames = [
    { type: "subscribe", conversation_id: conversationId, after_seq: 0 },
    { type: "message.send", conversation_id: conversationId, client_message_id: "x", content: "Let me in." },
    { type: "message.edit", message_id: messageId, content: "Changed." },
    { type: "message.delete", message_id: messageId },
    { type: "generation.cancel", message_id: messageId },
    { type: "read", conversation_id: conversationId, seq: 1 },
  ];
  const attempts: AccessAttempt[] = [];
  for (const [method, target, json] of requests) {
    const { status } = await server.rest.request(target, { token, method, ...(json !== undefined && { json }) });
    attempts.push({
      action: `${method} ${target.replace(conversationId, "…").replace(messageId, "…")}`,
      expected: 404,
      actual: status,
    });
  }
  for (const frame of frames) {
    const response = await socket.request(frame);
    attempts.push({ action: frame.type, expected: "not_found", actual: response.code ?? response.type });
  }
  return attempts;
}
