import { createEventLoader } from "../events/batched-loads.ts";
import { createLastSeqLookup } from "../events/last-seqs.ts";
import { findFreeBytes } from "../lib/free-bytes.ts";
import type { BackupService } from "../modules/backups/service.ts";
import { createHealthService } from "../modules/health/service.ts";
import { createInbox } from "../modules/inbox/service.ts";
import { createStreams } from "../modules/messages/service.ts";
import { createRevocations } from "../modules/revocations/service.ts";
import { createSockets } from "../modules/socket/sockets.ts";
import { createHub } from "../realtime/hub.ts";
import { createTypingTracker } from "../realtime/typing.ts";
import type { Answers } from "./ai.ts";
import type { Core } from "./core.ts";
import type { Conversations, UserServices } from "./domain.ts";
import type { Models } from "./models.ts";

/** Creates the services for client connections (sockets and streams) and for operational endpoints. */
export function createConnectionServices(
  {
    config,
    database,
    log,
    metrics,
    lifecycle,
    components,
    instanceId,
    bus,
    events,
    limits,
    liveAnswers,
    openStreams,
    tracing,
  }: Core,
  { auth, apiKeys }: UserServices,
  { chain }: Models,
  { conversations, messages, recovery }: Conversations,
  { generations }: Answers,
  backups: BackupService | null,
) {
  const onPushed = (type: string, listenerCount: number) => metrics.countPushes(type, listenerCount);
  const hub = createHub({
    bus,
    instanceId,
    loadEvents: createEventLoader(database),
    findLastSeq: createLastSeqLookup(database),
    listSnapshots: liveAnswers.listSnapshots,
    log,
    onPushed,
  });
  const streams = createStreams({ hub, events, recovery, feedSlots: limits.feeds, openStreams });
  components.add({ name: "streams", after: ["generations", "completions"], stop: streams.drain });
  const sockets = createSockets({
    identify: auth.identify,
    conversations,
    messages,
    generations,
    recovery,
    hub,
    inbox: createInbox({ database, bus, log, onPushed }),
    typing: createTypingTracker({ bus, instanceId }),
    limits,
    openStreams,
    log,
    metrics,
    tracing,
  });
  components.add({ name: "sockets", after: ["readiness"], stop: sockets.drain });
  const revocations = createRevocations({
    openStreams,
    bus,
    auth,
    apiKeys,
    conversations,
    onError: (error) => log.error({ err: error }, "could not check whether memberships have ended"),
  });
  const isEmbedded = config.DATABASE_URL === undefined;
  const health = createHealthService({
    database,
    lifecycle,
    metrics,
    listModels: chain.listModels,
    redis: limits.redis,
    bus,
    backups,
    findFreeBytes: isEmbedded ? () => findFreeBytes(config.DATA_DIR) : null,
  });
  return { hub, streams, sockets, revocations, health };
}
