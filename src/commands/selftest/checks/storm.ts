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
  claim: "When all sockets reconnect at once after the kill, each one recovers every event that it missed, in order.",
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
    // Keeps sending while the readers reconnect, to detect gaps between recovered events and live ones.
    const liveSender = startSender({
      socket: senderSocket,
      conversationId,
      name: "live",
      inFlightMax: 1,
      pauseMs: LIVE_PAUSE_MS,
    });
    const startedAtMs = performance.now();
    const reconnected = await Promise.all(readers.map((reader) => reconnect(server.url, conversationId, reader)));
    const tookMs = performance.now() - startedAtMs;
    await liveSender.stop();
    const lastSeq = Math.max(
      ...[...missedSender.acknowledged.values(), ...liveSender.acknowledged.values()].map(({ seq }) => seq),
    );
    await Promise.all(reconnected.map(({ socket }) => waitForSeq(socket, conversationId, lastSeq)));

    const problems = [...missedSender.problems, ...liveSender.problems];
    for (const [n, { reader, socket, isRecovered }] of reconnected.entries()) {
      const seqs = [...reader.seqs, ...listSeqs(socket.frames, conversationId)];
      if (!isRecovered) problems.push(`reader ${n}: expected recovered: true, but got false`);
      problems.push(...findSequenceProblems(`reader ${n}`, seqs, seqs[0] ?? 0, lastSeq));
      if (problems.length > 10) break;
    }
    const events = reconnected.reduce((sum, { recoveredEvents }) => sum + recoveredEvents, 0);
    await Promise.all([senderSocket, ...reconnected.map(({ socket }) => socket)].map((socket) => socket.close()));
    const times = reconnected.map(({ tookMs }) => tookMs);
    return {
      summary: `${formatQuantity(readers.length, "socket")} recovered ${formatQuantity(events, "event")} within ${formatMs(tookMs)}; each p50 ${formatMs(findPercentile(times, 0.5))}, p99 ${formatMs(findPercentile(times, 0.99))}`,
      measured: {
        sockets: readers.length,
        recovered_events: events,
        all_recovered_ms: Math.round(tookMs),
        recovered_p50_ms: Math.round(findPercentile(times, 0.5)),
        recovered_p99_ms: Math.round(findPercentile(times, 0.99)),
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
  const tookMs = performance.now() - startedAtMs;
  return { reader, socket, isRecovered: recovered, recoveredEvents: events.length, tookMs };
}

async function waitForSeq(socket: ClientSocket, conversationId: string, lastSeq: number): Promise<void> {
  if (listSeqs(socket.frames, conversationId).includes(lastSeq)) return;
  const isLast = ({ conversation_id, seq }: { conversation_id?: string; seq?: number }) =>
    conversation_id === conversationId && seq === lastSeq;
  await socket.waitFor(`the event with seq ${lastSeq}`, isLast, ARRIVAL_TIMEOUT_MS);
}
