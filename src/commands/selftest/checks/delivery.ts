import type { Check } from "../check.ts";
import type { CheckContext } from "../check-context.ts";
import { findLossProblems, findSequenceProblems } from "../find-problems.ts";
import { findPercentile, formatMs, formatQuantity, roundMs } from "../measurements.ts";
import { listCreatedMessages, listSeqs } from "../received-answer.ts";
import type { TestUser } from "../rest.ts";
import { type Sender, startSender } from "../sender.ts";
import { connectSocket } from "../socket.ts";

const MESSAGES_PER_USER = 500;
const IN_FLIGHT = 4;
const ARRIVAL_TIMEOUT_MS = 20_000;

export const deliveryCheck: Check = {
  name: "delivery",
  claim: "Messages reach the other user's WebSocket in order, without gaps or duplicates.",
  timeoutMs: 45_000,

  async run(context) {
    const { ada, ben } = context.users;
    const conversationId = await context.server.rest.createConversation(ada, [ben], "Delivery");
    const [adaClient, benClient] = await Promise.all([
      connectUser(context, ada, conversationId),
      connectUser(context, ben, conversationId),
    ]);
    const startedAtMs = performance.now();
    const options = { conversationId, inFlightMax: IN_FLIGHT, messagesMax: MESSAGES_PER_USER };
    const senders = [
      startSender({ ...options, socket: adaClient.socket, name: "ada" }),
      startSender({ ...options, socket: benClient.socket, name: "ben" }),
    ] as const;
    await Promise.all(senders.map(({ done }) => done));
    const seconds = (performance.now() - startedAtMs) / 1_000;
    const acknowledgedMessages = new Map(senders.flatMap((sender) => [...sender.acknowledged]));
    const lastSeq = Math.max(...[...acknowledgedMessages.values()].map(({ seq }) => seq));
    for (const { socket } of [adaClient, benClient])
      await socket.waitFor(`the push with seq ${lastSeq}`, ({ seq }) => seq === lastSeq, ARRIVAL_TIMEOUT_MS);

    const latencies = [...findLatencies(senders[0], benClient), ...findLatencies(senders[1], adaClient)];
    const p50 = findPercentile(latencies, 0.5);
    const p99 = findPercentile(latencies, 0.99);
    const problems = senders.flatMap(({ problems }) => problems);
    if (acknowledgedMessages.size !== 2 * MESSAGES_PER_USER)
      problems.push(`expected ${2 * MESSAGES_PER_USER} acknowledged messages, but got ${acknowledgedMessages.size}`);
    for (const { name, socket, firstSeq } of [adaClient, benClient]) {
      problems.push(...findSequenceProblems(name, listSeqs(socket.frames, conversationId), firstSeq + 1, lastSeq));
      problems.push(
        ...findLossProblems(name, acknowledgedMessages, listCreatedMessages(socket.frames, conversationId)),
      );
      await socket.close();
    }
    return {
      summary: `${formatQuantity(acknowledgedMessages.size, "message")} from two users; delivered to the other in p50 ${formatMs(p50)}, p99 ${formatMs(p99)}`,
      measured: {
        messages: acknowledgedMessages.size,
        latency_p50_ms: roundMs(p50),
        latency_p99_ms: roundMs(p99),
        messages_per_s: Math.round(acknowledgedMessages.size / seconds),
      },
      problems,
    };
  },
};

/** Opens a user's socket and records the time at which each message arrives. */
async function connectUser({ server, users }: CheckContext, account: TestUser, conversationId: string) {
  const arrivedAtMs = new Map<string, number>();
  const socket = await connectSocket(server.url, account.token, ({ type, data }) => {
    const id = data?.client_message_id;
    if (type === "message.created" && id) arrivedAtMs.set(id, performance.now());
  });
  const { last_seq: firstSeq = 0 } = await socket.subscribe(conversationId);
  return { name: account === users.ada ? "Ada's socket" : "Ben's socket", socket, firstSeq, arrivedAtMs };
}

/** Returns the latency of each message: the time from sending it until it reaches the other user. */
const findLatencies = ({ sentAtMs }: Sender, { arrivedAtMs }: { arrivedAtMs: Map<string, number> }): number[] =>
  [...sentAtMs].flatMap(([id, sentMs]) => {
    const arrivedMs = arrivedAtMs.get(id);
    return arrivedMs === undefined ? [] : [arrivedMs - sentMs];
  });
