import type { Check } from "../check.ts";
import type { CheckContext } from "../check-context.ts";
import { findSequenceProblems } from "../find-problems.ts";
import type { InterruptedWork, StormReader } from "../interrupted-work.ts";
import { findPercentile, formatMs, formatQuantity } from "../measurements.ts";
import { listSeqs } from "../received-answer.ts";
import { startSender } from "../sender.ts";
import { type ClientSocket, connectAndSubscribe, connectSocket } from "../socket.ts";

const MISSED_MESSAGES = 100;
const LIVE_PAUSE_MS = 20;
const ARRIVAL_TIMEOUT_MS = 20_000;

export const stormCheck: Check = {
  name: "storm",
  claim:
    "When all sockets reconnect simultaneously after the kill, each one recovers every event that it missed, in order.",
  timeoutMs: 45_000,

  async run(context) {
    const { server, users } = context;
    const interruptedWork = requireInterruptedWork(context);
    const { conversationId, readers } = interruptedWork.storm;
    const senderSocket = await connectAndSubscribe(server.url, users.ben.token, conversationId);
    const missedSender = startSender({
      socket: senderSocket,
      conversationId,
      name: "missed",
      inFlightMax: 8,
      messagesMax: MISSED_MESSAGES,
    });
    await missedSender.done;
    // This sender keeps sending while the readers reconnect, to detect gaps between recovered and live events.
    const liveSender = startSender({
      socket: senderSocket,
      conversationId,
      name: "live",
      inFlightMax: 1,
      pauseMs: LIVE_PAUSE_MS,
    });
    const startedAtMs = performance.now();
    const reconnectedReaders = await Promise.all(
      readers.map((reader) => reconnect(server.url, conversationId, reader)),
    );
    const durationMs = performance.now() - startedAtMs;
    await liveSender.stop();
    const lastSeq = Math.max(
      ...[...missedSender.acknowledged.values(), ...liveSender.acknowledged.values()].map(({ seq }) => seq),
    );
    await Promise.all(reconnectedReaders.map(({ socket }) => waitForSeq(socket, conversationId, lastSeq)));

    const problems = [...missedSender.problems, ...liveSender.problems];
    for (const [n, { reader, socket, isRecovered }] of reconnectedReaders.entries()) {
      const seqs = [...reader.seqs, ...listSeqs(socket.frames, conversationId)];
      if (!isRecovered) problems.push(`reader ${n}: expected recovered: true, but got false`);
      problems.push(...findSequenceProblems(`reader ${n}`, seqs, seqs[0] ?? 0, lastSeq));
      if (problems.length > 10) break;
    }
    const eventCount = reconnectedReaders.reduce((sum, { recoveredEvents }) => sum + recoveredEvents, 0);
    await Promise.all(
      [senderSocket, ...reconnectedReaders.map(({ socket }) => socket)].map((socket) => socket.close()),
    );
    const durationsMs = reconnectedReaders.map(({ durationMs }) => durationMs);
    return {
      summary: `${formatQuantity(readers.length, "socket")} recovered ${formatQuantity(eventCount, "event")} within ${formatMs(durationMs)}; each p50 ${formatMs(findPercentile(durationsMs, 0.5))}, p99 ${formatMs(findPercentile(durationsMs, 0.99))}`,
      measured: {
        sockets: readers.length,
        recovered_events: eventCount,
        all_recovered_ms: Math.round(durationMs),
        recovered_p50_ms: Math.round(findPercentile(durationsMs, 0.5)),
        recovered_p99_ms: Math.round(findPercentile(durationsMs, 0.99)),
      },
      problems,
    };
  },
};

function requireInterruptedWork({ interruptedWork }: CheckContext): InterruptedWork {
  if (interruptedWork === null) throw new Error("expected the server to have been killed, but it wasn't");
  return interruptedWork;
}

async function reconnect(url: string, conversationId: string, reader: StormReader) {
  const startedAtMs = performance.now();
  const socket = await connectSocket(url, reader.account.token);
  const { recovered = false, events = [] } = await socket.subscribe(conversationId, reader.seqs.at(-1));
  const durationMs = performance.now() - startedAtMs;
  return { reader, socket, isRecovered: recovered, recoveredEvents: events.length, durationMs };
}

async function waitForSeq(socket: ClientSocket, conversationId: string, lastSeq: number): Promise<void> {
  if (listSeqs(socket.frames, conversationId).includes(lastSeq)) return;
  const isLast = ({ conversation_id, seq }: { conversation_id?: string; seq?: number }) =>
    conversation_id === conversationId && seq === lastSeq;
  await socket.waitFor(`the event with seq ${lastSeq}`, isLast, ARRIVAL_TIMEOUT_MS);
}
