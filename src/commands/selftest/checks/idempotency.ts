import { createId } from "../../../lib/id.ts";
import type { Check } from "../check.ts";
import { formatQuantity } from "../figures.ts";
import { listCreated } from "../reading.ts";
import type { StoredMessage } from "../rest.ts";
import { openSubscribed } from "../socket.ts";
import { findRepeatProblems } from "../verdicts.ts";

const ROUNDS = 20;
const REPEATS_PER_SOCKET = 3;

export const idempotencyCheck: Check = {
  name: "idempotency",
  claim:
    "A message sent again with the same client_message_id is stored once, and each response returns the same message.",
  timeoutMs: 30_000,

  async run(stage) {
    const { server, people } = stage;
    const { ada, ben } = people;
    const conversationId = await server.rest.createConversation(ada, [ben], "Idempotency");
    const reader = await openSubscribed(server.url, ben.token, conversationId);
    const sockets = await Promise.all([1, 2].map(() => openSubscribed(server.url, ada.token, conversationId)));
    const problems: string[] = [];
    let sends = 0;
    for (let round = 0; round < ROUNDS; round += 1) {
      const message = { client_message_id: createId(), content: `Only once: ${round}.`, reply: false };
      const frame = { type: "message.send", conversation_id: conversationId, ...message };
      // Sends over two connections at once, then over REST, like a client that lost its connection.
      const acks = await Promise.all(
        sockets.flatMap((socket) => Array.from({ length: REPEATS_PER_SOCKET }, () => socket.request(frame))),
      );
      const path = `/api/v1/conversations/${conversationId}/messages`;
      const { body } = await server.rest.call(path, { token: ada.token, json: message });
      const ids = [...acks.map(({ message }) => message?.id), (body as { message?: StoredMessage }).message?.id];
      const stored = acks.filter(({ duplicate }) => duplicate === false).length;
      sends += ids.length;
      if (new Set(ids).size !== 1 || ids[0] === undefined)
        problems.push(`expected one message id from ${ids.length} sends, but got ${[...new Set(ids)].join(", ")}`);
      if (stored !== 1) problems.push(`expected one ack without \`duplicate\`, but got ${stored}`);
    }
    const stored = await server.rest.listMessages(ada, conversationId);
    const lastSeq = stored.at(-1)?.seq ?? 0;
    await reader.waitFor(`the push with seq ${lastSeq}`, ({ seq }) => seq === lastSeq);
    const pushed = listCreated(reader.frames, conversationId);
    problems.push(...findRepeatProblems("stored", stored), ...findRepeatProblems("pushed", pushed));
    for (const [what, list] of [["stored", stored] as const, ["pushed", pushed] as const])
      if (list.length !== ROUNDS) problems.push(`expected ${ROUNDS} messages to be ${what}, but got ${list.length}`);
    for (const socket of [reader, ...sockets]) await socket.close();
    return {
      summary: `${formatQuantity(sends, "send")} of ${ROUNDS} messages over two sockets and REST; ${stored.length} stored, ${pushed.length} pushed`,
      measured: { sends, messages: ROUNDS, stored: stored.length, pushed: pushed.length },
      problems,
    };
  },
};
