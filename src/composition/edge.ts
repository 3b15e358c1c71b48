import { createEventLoader } from "../events/batched-loads.ts";
import { createFindLastSeq } from "../events/last-seqs.ts";
import { findFreeBytes } from "../lib/free-bytes.ts";
import type { BackupService } from "../modules/backups/service.ts";
import { createHealthService } from "../modules/health/service.ts";
import { createInbox } from "../modules/inbox/service.ts";
import { createStreams } from "../modules/messages/service.ts";
import { createRevocations } from "../modules/revocations/service.ts";
import { createSockets } from "../modules/socket/sockets.ts";
import { createHub } from "../realtime/hub.ts";
import { createTyping } from "../realtime/typing.ts";
import type { Answers } from "./ai.ts";
import type { Core } from "./core.ts";
import type { Conversations, UserServices } from "./domain.ts";
import type { Models } from "./models.ts";

/** Creates the services for client connections (sockets and streams) and for operational endpoints. */
export function createEdge(
  {
    config,
    database,
    log,
    metrics,
    lifecycle,
    parts,
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
  const onPushed = (type: string, listeners: number) => metrics.countPushes(type, listeners);
  const hub = createHub({
    bus,
    instanceId,
    loadEvents: createEventLoader(database),
    findLastSeq: createFindLastSeq(database),
    listSnapshots: liveAnswers.listSnapshots,
    log,
    onPushed: onPushed,
  });
  const { feeds } = limits;
  const streams = createStreams({ hub, events, recovery, feeds, openStreams });
  parts.add({ name: "streams", after: ["generations", "completions"], stop: streams.drain });
  const sockets = createSockets({
    identify: auth.identify,
    conversations,
    messages,
    generations,
    recovery,
    hub,
    inbox: createInbox({ database, bus, log, onPushed }),
    typing: createTyping({ bus, instanceId }),
    limits,
    openStreams,
    log,
    metrics,
    tracing,
  });
  parts.add({ name: "sockets", after: ["readiness"], stop: sockets.drain });
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
