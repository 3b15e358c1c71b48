import { ask, untilText } from "../asking.ts";
import type { Check } from "../check.ts";
import { formatMs, formatQuantity } from "../figures.ts";
import type { StormReader } from "../interrupted.ts";
import { LONG_MODEL } from "../provider/scripts.ts";
import { listSeqs } from "../reading.ts";
import type { StoredMessage } from "../rest.ts";
import { contentOf, type Sender, startSender } from "../sender.ts";
import { type ClientSocket, openSubscribed } from "../socket.ts";
import type { Stage } from "../stage.ts";
import { findLossProblems, findRepeatProblems, findSequenceProblems } from "../verdicts.ts";

/** Sockets that are disconnected by the kill, and reconnect in the next check. */
const STORM_SOCKETS = 300;
const LOAD_MS = 1_000;
const SENDERS_PER_USER = 2;
const IN_FLIGHT = 8;
/** Messages to this conversation are sent more slowly, because each one is delivered to all the storm's readers. */
const STORM_PACE_MS = 50;
const ANSWER_CHARS_MIN = 100;
/** The check fails with fewer messages, because it would prove little. */
const ACKNOWLEDGED_MIN = 50;

export const killCheck: Check = {
  name: "kill",
  claim: "After kill -9 of Parley and its Postgres, every acknowledged message is there, exactly once, without gaps.",
  timeoutMs: 60_000,

  async run(stage) {
    const { server, people } = stage;
    const { ada, ben } = people;
    const create = (title: string) => server.rest.createConversation(ada, [ben], title);
    const [loadId, stormId, answerConversationId] = await Promise.all([
      create("Load"),
      create("Storm"),
      create("Answer"),
    ]);
    const readers = await openReaders(stage, stormId);
    const adas = await openSubscribed(server.url, ada.token, answerConversationId);
    const answerId = await ask(adas, answerConversationId, LONG_MODEL);
    await untilText(adas, answerId, ANSWER_CHARS_MIN);

    const senders = await startLoad(stage, loadId);
    const paced = await openSubscribed(server.url, ben.token, stormId);
    const stormSender = startSender({
      socket: paced,
      conversationId: stormId,
      name: "calm",
      inFlight: 1,
      paceMs: STORM_PACE_MS,
    });
    await Bun.sleep(LOAD_MS);
    const killedAtMs = performance.now();
    await server.kill();
    await Promise.all([adas.closed, ...readers.map(({ socket }) => socket.closed), ...senders.map(({ done }) => done)]);
    await stormSender.done;
    stage.server = await stage.sandbox.start({
      dataDir: server.dataDir,
      settings: stage.provider.settings,
      port: server.port,
    });
    const lastSeq = listSeqs(adas.frames, answerConversationId).at(-1);
    const reader = await openSubscribed(stage.server.url, ada.token, answerConversationId, lastSeq);
    stage.interrupted = {
      killedAtMs,
      answer: { conversationId: answerConversationId, id: answerId, frames: adas.frames, reader },
      storm: {
        conversationId: stormId,
        readers: readers.map(({ account, socket }) => ({ account, seqs: listSeqs(socket.frames, stormId) })),
      },
      loadConversationId: loadId,
    };
    const problems = [...senders, stormSender].flatMap(({ problems }) => problems);
    const acknowledged = new Map(senders.flatMap((sender) => [...sender.acknowledged]));
    const pending = senders.flatMap((sender) => [...sender.pending]);
    if (acknowledged.size < ACKNOWLEDGED_MIN)
      problems.push(
        `expected at least ${ACKNOWLEDGED_MIN} acknowledged messages before the kill, but got ${acknowledged.size}`,
      );
    const loads: [string, string, ReadonlyMap<string, StoredMessage>][] = [
      ["Load", loadId, acknowledged as Map<string, StoredMessage>],
      ["Storm", stormId, stormSender.acknowledged as Map<string, StoredMessage>],
    ];
    for (const [name, id, kept] of loads)
      problems.push(...findLossProblems(name, kept, await stage.server.rest.listMessages(ada, id)));

    problems.push(...(await resend(stage, loadId, senders)));
    const after = await stage.server.rest.listMessages(ada, loadId);
    const seqs = await stage.server.rest.listSeqs(ada, loadId);
    problems.push(...findRepeatProblems("Load", after), ...findSequenceProblems("Load", seqs, 1, seqs.length));
    const missing = pending.filter((id) => !after.some(({ client_message_id }) => client_message_id === id));
    if (missing.length > 0)
      problems.push(`expected the messages that were sent again, but ${missing.join(", ")} are missing`);
    return {
      summary: `${formatQuantity(acknowledged.size, "message")} acknowledged, ${pending.length} in flight; ready again after ${formatMs(stage.server.readyMs)}`,
      measured: {
        acknowledged: acknowledged.size,
        in_flight: pending.length,
        stored_after_resend: after.length,
        restart_ready_ms: Math.round(stage.server.readyMs),
      },
      problems,
    };
  },
};

async function openReaders({ server, people }: Stage, conversationId: string) {
  const accounts = [people.ada, people.ben];
  const open = async (n: number): Promise<{ account: StormReader["account"]; socket: ClientSocket }> => {
    const account = accounts[n % accounts.length] ?? people.ada;
    return { account, socket: await openSubscribed(server.url, account.token, conversationId) };
  };
  return Promise.all(Array.from({ length: STORM_SOCKETS }, (_, n) => open(n)));
}

function startLoad({ server, people }: Stage, conversationId: string): Promise<Sender[]> {
  const start = async (name: string, token: string) => {
    const socket = await openSubscribed(server.url, token, conversationId);
    return startSender({ socket, conversationId, name, inFlight: IN_FLIGHT });
  };
  return Promise.all(
    Array.from({ length: SENDERS_PER_USER }, (_, n) => [
      start(`ada${n}`, people.ada.token),
      start(`ben${n}`, people.ben.token),
    ]).flat(),
  );
}

/** Resends all messages that weren't acknowledged and the last one that was, like a client that lost its connection. */
async function resend(
  { server, people }: Stage,
  conversationId: string,
  senders: readonly Sender[],
): Promise<string[]> {
  const problems: string[] = [];
  for (const [n, { acknowledged, pending }] of senders.entries()) {
    const { token } = n % 2 === 0 ? people.ada : people.ben;
    const socket = await openSubscribed(server.url, token, conversationId);
    const last = [...acknowledged.keys()].slice(-1);
    for (const client_message_id of [...pending, ...last]) {
      const frame = { conversation_id: conversationId, client_message_id, content: contentOf(client_message_id) };
      const { type, message, duplicate } = await socket.request({ type: "message.send", ...frame, reply: false });
      const known = acknowledged.get(client_message_id);
      if (type !== "ack") problems.push(`expected an ack of ${client_message_id} sent again, but got ${type}`);
      else if (known && (duplicate !== true || message?.id !== known.id))
        problems.push(`expected ${client_message_id} sent again to be message ${known.id}, but got ${message?.id}`);
    }
    await socket.close();
  }
  return problems;
}
