import { createId } from "../../../lib/id.ts";
import type { Check } from "../check.ts";
import { findDuplicateProblems } from "../find-problems.ts";
import { formatQuantity } from "../measurements.ts";
import { listCreatedMessages } from "../received-answer.ts";
import type { StoredMessage } from "../rest.ts";
import { connectAndSubscribe } from "../socket.ts";

const ROUNDS = 20;
const SENDS_PER_SOCKET = 3;

export const idempotencyCheck: Check = {
  name: "idempotency",
  claim:
    "A message sent again with the same client_message_id is stored once, and each response returns the same message.",
  timeoutMs: 30_000,

  async run(context) {
    const { server, users } = context;
    const { ada, ben } = users;
    const conversationId = await server.rest.createConversation(ada, [ben], "Idempotency");
    const reader = await connectAndSubscribe(server.url, ben.token, conversationId);
    const sockets = await Promise.all([1, 2].map(() => connectAndSubscribe(server.url, ada.token, conversationId)));
    const problems: string[] = [];
    let sends = 0;
    for (let round = 0; round < ROUNDS; round += 1) {
      const message = { client_message_id: createId(), content: `Only once: ${round}.`, reply: false };
      const frame = { type: "message.send", conversation_id: conversationId, ...message };
      // The message is sent over two connections simultaneously, then over REST, as by a client that lost its connection.
      const acks = await Promise.all(
        sockets.flatMap((socket) => Array.from({ length: SENDS_PER_SOCKET }, () => socket.request(frame))),
      );
      const path = `/api/v1/conversations/${conversationId}/messages`;
      const { body } = await server.rest.request(path, { token: ada.token, json: message });
      const ids = [...acks.map(({ message }) => message?.id), (body as { message?: StoredMessage }).message?.id];
      const newCount = acks.filter(({ duplicate }) => duplicate === false).length;
      sends += ids.length;
      if (new Set(ids).size !== 1 || ids[0] === undefined)
        problems.push(`expected one message id from ${ids.length} sends, but got ${[...new Set(ids)].join(", ")}`);
      if (newCount !== 1) problems.push(`expected one ack without \`duplicate\`, but got ${newCount}`);
    }
    const storedMessages = await server.rest.listMessages(ada, conversationId);
    const lastSeq = storedMessages.at(-1)?.seq ?? 0;
    await reader.waitFor(`the push with seq ${lastSeq}`, ({ seq }) => seq === lastSeq);
    const pushedMessages = listCreatedMessages(reader.frames, conversationId);
    problems.push(
      ...findDuplicateProblems("stored", storedMessages),
      ...findDuplicateProblems("pushed", pushedMessages),
    );
    for (const [state, list] of [["stored", storedMessages] as const, ["pushed", pushedMessages] as const])
      if (list.length !== ROUNDS) problems.push(`expected ${ROUNDS} messages to be ${state}, but got ${list.length}`);
    for (const socket of [reader, ...sockets]) await socket.close();
    return {
      summary: `${formatQuantity(sends, "send")} of ${ROUNDS} messages over two sockets and REST; ${storedMessages.length} stored, ${pushedMessages.length} pushed`,
      measured: { sends, messages: ROUNDS, stored: storedMessages.length, pushed: pushedMessages.length },
      problems,
    };
  },
};
