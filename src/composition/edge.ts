import { findLastSeq, loadEvents } from "../events/read.ts";
import { findFreeBytes } from "../lib/free-bytes.ts";
import { createHealthService } from "../modules/health/service.ts";
import { createStreams } from "../modules/messages/service.ts";
import { createSockets } from "../modules/socket/sockets.ts";
import { createHub } from "../realtime/hub.ts";
import { createTyping } from "../realtime/typing.ts";
import type { Answers } from "./ai.ts";
import type { Core } from "./core.ts";
import type { Conversations, People } from "./domain.ts";
import type { Models } from "./models.ts";

/** Events that one look for a gap reads; a larger gap is filled in steps. */
const GAP_EVENTS_MAX = 1_000;

/** What clients are connected with: sockets and streams; and what machines ask about this instance. */
export function createEdge(
  { config, database, log, metrics, lifecycle, parts, instanceId, bus, events, limits, liveAnswers }: Core,
  { auth }: People,
  { chain }: Models,
  { conversations, messages, recovery }: Conversations,
  { generations }: Answers,
) {
  const hub = createHub({
    bus,
    instanceId,
    loadEvents: (id, afterSeq, untilSeq) => loadEvents(database, id, afterSeq, untilSeq, GAP_EVENTS_MAX),
    findLastSeq: (id) => findLastSeq(database, id),
    listSnapshots: liveAnswers.listSnapshots,
    log,
    onPushed: (type, listeners) => metrics.countPushes(type, listeners),
  });
  const { feeds } = limits;
  const streams = createStreams({ hub, events, recovery, feeds, listSnapshots: liveAnswers.listSnapshots });
  parts.add({ name: "streams", after: ["generations", "completions"], stop: streams.drain });
  const sockets = createSockets({
    identify: auth.identify,
    conversations,
    messages,
    generations,
    recovery,
    hub,
    typing: createTyping(bus),
    limits,
    log,
    metrics,
  });
  parts.add({ name: "sockets", after: ["readiness"], stop: sockets.drain });
  // If it gets lost on the way from another instance, a job finds it in the database.
  bus.subscribe("credentials", {
    onMessage({ ids }) {
      auth.forgetSessions(ids);
      sockets.endCredentials(ids);
      streams.endCredentials(ids);
    },
    onGap: () => {},
  });
  const isEmbedded = config.DATABASE_URL === undefined;
  const health = createHealthService({
    database,
    lifecycle,
    metrics,
    listModels: chain.models,
    redis: limits.redis,
    findFreeBytes: isEmbedded ? () => findFreeBytes(config.DATA_DIR) : null,
  });
  return { hub, streams, sockets, health };
}
