import { createChain } from "./ai/chain.ts";
import { createProviders } from "./ai/create-providers.ts";
import type { Config } from "./config.ts";
import type { Database } from "./db/client.ts";
import { createId } from "./lib/id.ts";
import type { Lifecycle } from "./lib/lifecycle.ts";
import type { Log } from "./lib/log.ts";
import type { Metrics } from "./lib/metrics.ts";
import { createAuthService } from "./modules/auth/service.ts";
import { createConversationService } from "./modules/conversations/service.ts";
import { createDocumentService } from "./modules/documents/service.ts";
import { createGenerationService, type GenerationService } from "./modules/generations/service.ts";
import { createHealthService } from "./modules/health/service.ts";
import { createEventLog, createMessageService, createStreams } from "./modules/messages/service.ts";
import { createSockets, type Sockets } from "./modules/socket/sockets.ts";
import { createPasswords } from "./modules/users/passwords.ts";
import { createUserService } from "./modules/users/service.ts";
import { createHub } from "./realtime/hub.ts";
import { createTyping } from "./realtime/typing.ts";

export type ServiceDependencies = {
  config: Config;
  database: Database;
  log: Log;
  metrics: Metrics;
  lifecycle: Lifecycle;
  jwtSecret: string;
};

/** Events that one look for a gap reads; a larger gap is filled in steps. */
const GAP_EVENTS_MAX = 1_000;

/** Builds every service out of the ones below it. */
export function createServices(deps: ServiceDependencies) {
  const { config, database, log, metrics, lifecycle, jwtSecret } = deps;

  // Two knots: messages start generations, which lie above them, and ended sessions end sockets, the topmost.
  let generations: GenerationService;
  let sockets: Sockets;

  const hub = createHub({
    loadEvents: (id, afterSeq, untilSeq) => events.load(id, afterSeq, untilSeq, GAP_EVENTS_MAX),
    listSnapshots: (id) => generations.listSnapshots(id),
    log,
    onPushed: (type, listeners) => metrics.wsFrames.inc({ direction: "out", type }, listeners),
  });
  const users = createUserService({ database, passwords: createPasswords() });
  const auth = createAuthService({
    database,
    users,
    jwtSecret,
    registration: config.REGISTRATION,
    log,
    onSessionsEnded: (sessionIds) => {
      sockets.endSessions(sessionIds);
      streams.endSessions(sessionIds);
    },
  });
  const documents = createDocumentService({ database, documentsDir: config.DOCUMENTS_DIR, log });
  const chain = createChain({
    ...createProviders(config, documents.searchPassages),
    firstTokenTimeoutMs: config.AI_FIRST_TOKEN_TIMEOUT_MS,
    idleTimeoutMs: config.AI_IDLE_TIMEOUT_MS,
    maxRetries: config.AI_MAX_RETRIES,
    log,
    observe: {
      onFailover: (from, to, reason) => metrics.aiFailovers.inc({ from, to, reason }),
      onFirstToken: (model, seconds) => metrics.generationFirstToken.observe({ model }, seconds),
      onTokens: (model, kind, count) => metrics.aiTokens.inc({ model, kind }, count),
    },
  });
  const conversations = createConversationService({ database, hub, hasModel: chain.has });
  const events = createEventLog(database, conversations);
  const messages = createMessageService({
    database,
    hub,
    metrics,
    defaultModel: chain.defaultModel,
    hasModel: chain.has,
    canAnswer: () => lifecycle.phase !== "draining",
    onAnswer: (answer) => generations.start(answer),
    findLiveText: (messageId) => generations.findLiveText(messageId),
  });
  const instanceId = createId();
  generations = createGenerationService({ database, hub, chain, metrics, log, instanceId, messages, lifecycle });
  const streams = createStreams({ hub, events, listSnapshots: generations.listSnapshots });
  const typing = createTyping(hub);
  const { identify } = auth;
  sockets = createSockets({ identify, conversations, messages, generations, events, hub, typing, log, metrics });
  const health = createHealthService({ database, lifecycle, metrics });

  return { hub, users, auth, documents, conversations, events, messages, generations, streams, sockets, health };
}

export type Services = ReturnType<typeof createServices>;
