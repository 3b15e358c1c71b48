import { ask, readToEnd } from "../asking.ts";
import type { Check } from "../check.ts";
import { formatQuantity } from "../figures.ts";
import { SHORT_MODEL } from "../provider/scripts.ts";
import { listCreated } from "../reading.ts";
import { contentOf, startSender } from "../sender.ts";
import { type ClientSocket, connectSocket, openSubscribed } from "../socket.ts";
import type { Stage } from "../stage.ts";
import { type AccessAttempt, findLeakProblems, listPushes } from "../verdicts.ts";

const MESSAGES = 50;
/** Time in which a late push would arrive. */
const SETTLE_MS = 1_200;

export const outsiderCheck: Check = {
  name: "outsider",
  claim: "A user who isn't a member sees nothing: REST returns 404, the WebSocket not_found, and nothing is pushed.",
  timeoutMs: 30_000,

  async run(stage) {
    const { server, people } = stage;
    const { ada, ben, outsider } = people;
    const conversationId = await server.rest.createConversation(ada, [ben], "Private");
    const member = await openSubscribed(server.url, ben.token, conversationId);
    const outsiderSocket = await connectSocket(server.url, outsider.token);
    await outsiderSocket.request({ type: "inbox.subscribe" });
    const first = await member.request({
      type: "message.send",
      conversation_id: conversationId,
      client_message_id: "first",
      content: contentOf("first"),
      reply: false,
    });
    const messageId = first.message?.id ?? "";
    const before = await tryAll(stage, outsiderSocket, conversationId, messageId);
    const adas = await openSubscribed(server.url, ada.token, conversationId);
    const sender = startSender({ socket: adas, conversationId, name: "private", inFlight: 4, messagesMax: MESSAGES });
    await sender.done;
    const answerId = await ask(adas, conversationId, SHORT_MODEL);
    await readToEnd(member, answerId);
    await Bun.sleep(SETTLE_MS);
    const refusals = [...before, ...(await tryAll(stage, outsiderSocket, conversationId, messageId))];
    const problems = [...sender.problems, ...findLeakProblems(refusals, outsiderSocket.frames)];
    const pushes = listPushes(outsiderSocket.frames).length;
    // Otherwise a server that pushes nothing to anyone would pass.
    const seen = listCreated(member.frames, conversationId).length;
    if (seen !== MESSAGES + 3) problems.push(`expected a member to receive ${MESSAGES + 3} messages, but got ${seen}`);
    for (const socket of [member, outsiderSocket, adas]) await socket.close();
    return {
      summary: `${formatQuantity(refusals.length, "attempt")} refused; ${formatQuantity(pushes, "push", "pushes")} to the outsider, ${formatQuantity(seen, "message")} to a member`,
      measured: { attempts: refusals.length, pushes_to_outsider: pushes, messages_to_member: seen },
      problems,
    };
  },
};

async function tryAll({ server, people }: Stage, socket: ClientSocket, conversationId: string, messageId: string) {
  const { token } = people.outsider;
  const path = `/api/v1/conversations/${conversationId}`;
  const requests: [method: string, path: string, json?: unknown][] = [
    ["GET", path],
    ["PATCH", path, { title: "Mine" }],
    ["DELETE", path],
    ["GET", `${path}/members`],
    ["POST", `${path}/members`, { user_id: people.outsider.id }],
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
  const refusals: AccessAttempt[] = [];
  for (const [method, target, json] of requests) {
    const { status } = await server.rest.call(target, { token, method, ...(json !== undefined && { json }) });
    refusals.push({
      what: `${method} ${target.replace(conversationId, "…").replace(messageId, "…")}`,
      expected: 404,
      seen: status,
    });
  }
  for (const frame of frames) {
    const answer = await socket.request(frame);
    refusals.push({ what: frame.type, expected: "not_found", seen: answer.code ?? answer.type });
  }
  return refusals;
}
