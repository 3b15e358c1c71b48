import { requestAnswer, waitForText } from "../answers.ts";
import type { Check } from "../check.ts";
import type { CheckContext } from "../check-context.ts";
import { findDuplicateProblems, findLossProblems, findSequenceProblems } from "../find-problems.ts";
import type { StormReader } from "../interrupted-work.ts";
import { formatMs, formatQuantity } from "../measurements.ts";
import { LONG_MODEL } from "../provider/scripts.ts";
import { listSeqs } from "../received-answer.ts";
import type { StoredMessage } from "../rest.ts";
import { createContent, type Sender, startSender } from "../sender.ts";
import { type ClientSocket, connectAndSubscribe } from "../socket.ts";

/** Number of sockets that the kill disconnects. They reconnect in the next check. */
const STORM_SOCKETS = 300;
const LOAD_MS = 1_000;
const SENDERS_PER_USER = 2;
const IN_FLIGHT = 8;
/** Pause between messages to the conversation `Storm`. Each message is delivered to all readers. */
const STORM_PAUSE_MS = 50;
const ANSWER_CHARS_MIN = 100;
/** If fewer messages than this are acknowledged, the check fails, because it would prove little. */
const ACKNOWLEDGED_MIN = 50;

export const killCheck: Check = {
  name: "kill",
  claim: "After kill -9 of Parley and its Postgres, every acknowledged message is there, exactly once, without gaps.",
  timeoutMs: 60_000,

  async run(context) {
    const { server, users } = context;
    const { ada, ben } = users;
    const createConversation = (title: string) => server.rest.createConversation(ada, [ben], title);
    const [loadId, stormId, answerConversationId] = await Promise.all([
      createConversation("Load"),
      createConversation("Storm"),
      createConversation("Answer"),
    ]);
    const readers = await openReaders(context, stormId);
    const adaSocket = await connectAndSubscribe(server.url, ada.token, answerConversationId);
    const answerId = await requestAnswer(adaSocket, answerConversationId, LONG_MODEL);
    await waitForText(adaSocket, answerId, ANSWER_CHARS_MIN);

    const senders = await startLoadSenders(context, loadId);
    const stormSocket = await connectAndSubscribe(server.url, ben.token, stormId);
    const stormSender = startSender({
      socket: stormSocket,
      conversationId: stormId,
      name: "storm",
      inFlightMax: 1,
      pauseMs: STORM_PAUSE_MS,
    });
    await Bun.sleep(LOAD_MS);
    const killedAtMs = performance.now();
    await server.kill();
    await Promise.all([
      adaSocket.closed,
      ...readers.map(({ socket }) => socket.closed),
      ...senders.map(({ done }) => done),
    ]);
    await stormSender.done;
    context.server = await context.sandbox.start({
      dataDir: server.dataDir,
      settings: context.provider.settings,
      port: server.port,
    });
    const lastSeq = listSeqs(adaSocket.frames, answerConversationId).at(-1);
    const reader = await connectAndSubscribe(context.server.url, ada.token, answerConversationId, lastSeq);
    context.interruptedWork = {
      killedAtMs,
      answer: { conversationId: answerConversationId, id: answerId, frames: adaSocket.frames, reader },
      storm: {
        conversationId: stormId,
        readers: readers.map(({ account, socket }) => ({ account, seqs: listSeqs(socket.frames, stormId) })),
      },
      loadConversationId: loadId,
    };
    const problems = [...senders, stormSender].flatMap(({ problems }) => problems);
    const acknowledged = new Map(senders.flatMap((sender) => [...sender.acknowledged]));
    const unacknowledgedIds = senders.flatMap((sender) => [...sender.pending]);
    if (acknowledged.size < ACKNOWLEDGED_MIN)
      problems.push(
        `expected at least ${ACKNOWLEDGED_MIN} acknowledged messages before the kill, but got ${acknowledged.size}`,
      );
    const conversations: [string, string, ReadonlyMap<string, StoredMessage>][] = [
      ["Load", loadId, acknowledged as Map<string, StoredMessage>],
      ["Storm", stormId, stormSender.acknowledged as Map<string, StoredMessage>],
    ];
    for (const [name, id, acknowledgedMessages] of conversations)
      problems.push(...findLossProblems(name, acknowledgedMessages, await context.server.rest.listMessages(ada, id)));

    problems.push(...(await resendMessages(context, loadId, senders)));
    const storedMessages = await context.server.rest.listMessages(ada, loadId);
    const seqs = await context.server.rest.listSeqs(ada, loadId);
    problems.push(
      ...findDuplicateProblems("Load", storedMessages),
      ...findSequenceProblems("Load", seqs, 1, seqs.length),
    );
    const missingIds = unacknowledgedIds.filter(
      (id) => !storedMessages.some(({ client_message_id }) => client_message_id === id),
    );
    if (missingIds.length > 0)
      problems.push(`expected the resent messages to be stored, but ${missingIds.join(", ")} are missing`);
    return {
      summary: `${formatQuantity(acknowledged.size, "message")} acknowledged, ${unacknowledgedIds.length} in flight; ready again after ${formatMs(context.server.readyMs)}`,
      measured: {
        acknowledged: acknowledged.size,
        in_flight: unacknowledgedIds.length,
        stored_after_resend: storedMessages.length,
        restart_ready_ms: Math.round(context.server.readyMs),
      },
      problems,
    };
  },
};

async function openReaders({ server, users }: CheckContext, conversationId: string) {
  const accounts = [users.ada, users.ben];
  const openReader = async (n: number): Promise<{ account: StormReader["account"]; socket: ClientSocket }> => {
    const account = accounts[n % accounts.length] ?? users.ada;
    return { account, socket: await connectAndSubscribe(server.url, account.token, conversationId) };
  };
  return Promise.all(Array.from({ length: STORM_SOCKETS }, (_, n) => openReader(n)));
}

function startLoadSenders({ server, users }: CheckContext, conversationId: string): Promise<Sender[]> {
  const startLoadSender = async (name: string, token: string) => {
    const socket = await connectAndSubscribe(server.url, token, conversationId);
    return startSender({ socket, conversationId, name, inFlightMax: IN_FLIGHT });
  };
  return Promise.all(
    Array.from({ length: SENDERS_PER_USER }, (_, n) => [
      startLoadSender(`ada${n}`, users.ada.token),
      startLoadSender(`ben${n}`, users.ben.token),
    ]).flat(),
  );
}

/** Resends the unacknowledged messages and the last acknowledged one, as a client does after losing its connection. */
async function resendMessages(
  { server, users }: CheckContext,
  conversationId: string,
  senders: readonly Sender[],
): Promise<string[]> {
  const problems: string[] = [];
  for (const [n, { acknowledged, pending }] of senders.entries()) {
    const { token } = n % 2 === 0 ? users.ada : users.ben;
    const socket = await connectAndSubscribe(server.url, token, conversationId);
    const lastAcknowledgedId = [...acknowledged.keys()].slice(-1);
    for (const client_message_id of [...pending, ...lastAcknowledgedId]) {
      const frame = { conversation_id: conversationId, client_message_id, content: createContent(client_message_id) };
      const { type, message, duplicate } = await socket.request({ type: "message.send", ...frame, reply: false });
      const acknowledgedMessage = acknowledged.get(client_message_id);
      if (type !== "ack") problems.push(`expected an ack of the resent message ${client_message_id}, but got ${type}`);
      else if (acknowledgedMessage && (duplicate !== true || message?.id !== acknowledgedMessage.id))
        problems.push(
          `expected the resent message ${client_message_id} to be ${acknowledgedMessage.id}, but got ${message?.id}`,
        );
    }
    await socket.close();
  }
  return problems;
}
