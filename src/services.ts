import { createChain } from "./ai/chain/chain.ts";
import { createWriter } from "./ai/chain/writer.ts";
import { createCatalogue, findCheapestModel } from "./ai/models.ts";
import { createProviders } from "./ai/providers/create-providers.ts";
import type { Config } from "./config.ts";
import { createChanges } from "./db/changes.ts";
import type { Database } from "./db/client.ts";
import { createEventLog } from "./events/log.ts";
import { findLastSeq, loadEvents } from "./events/read.ts";
import { createIdempotencyStore } from "./http/idempotency-store.ts";
import { createJobs } from "./jobs/runner.ts";
import { createId } from "./lib/id.ts";
import type { Lifecycle } from "./lib/lifecycle.ts";
import type { Log } from "./lib/log.ts";
import type { Metrics } from "./lib/metrics.ts";
import { createParts } from "./lib/parts.ts";
import { createLimits } from "./limits/limits.ts";
import { createAccountService, createDeletions } from "./modules/accounts/service.ts";
import { createApiKeyService } from "./modules/api-keys/service.ts";
import { createAuditLog, createAuditService } from "./modules/audit/service.ts";
import { createAuthService } from "./modules/auth/service.ts";
import { createBudgetService } from "./modules/budgets/service.ts";
import { createConversationService, createDepartures, createErasures } from "./modules/conversations/service.ts";
import { createDocumentService } from "./modules/documents/service.ts";
import { createContexts } from "./modules/generations/context.ts";
import { createFollowUps } from "./modules/generations/follow-ups.ts";
import { createPreviews } from "./modules/generations/previews.ts";
import { countUnfinished, createGenerationService, createLiveAnswers } from "./modules/generations/service.ts";
import { createHealthService } from "./modules/health/service.ts";
import { createMessageService, createRecovery, createStreams } from "./modules/messages/service.ts";
import { createCompletionService } from "./modules/openai/service.ts";
import { createPromptService } from "./modules/prompts/service.ts";
import { createSockets } from "./modules/socket/sockets.ts";
import { createMcpServers } from "./modules/tools/mcp-servers.ts";
import { createSearchDocuments } from "./modules/tools/search-documents.ts";
import { createToolService } from "./modules/tools/service.ts";
import { createPasswords } from "./modules/users/passwords.ts";
import { createUserService } from "./modules/users/service.ts";
import type { Bus } from "./realtime/bus.ts";
import { createMemoryBus } from "./realtime/bus-memory.ts";
import { createHub } from "./realtime/hub.ts";
import { createTyping } from "./realtime/typing.ts";

export type ServiceDependencies = {
  config: Config;
  database: Database;
  log: Log;
  metrics: Metrics;
  lifecycle: Lifecycle;
  jwtSecret: string;
  /** How instances hear from each other; without it, this one is alone. */
  bus?: Bus;
};

/** The longest time that load balancers are given to notice. */
const UNREADY_MS_MAX = 5_000;
/** Events that one look for a gap reads; a larger gap is filled in steps. */
const GAP_EVENTS_MAX = 1_000;

/** Builds every service out of the ones below it. */
export function createServices(deps: ServiceDependencies) {
  const { config, database, log, metrics, lifecycle, jwtSecret } = deps;

  const parts = createParts();
  // Load balancers have to notice first that this instance is not ready any more.
  const unreadyMs = config.APP_ENV === "production" ? Math.min(UNREADY_MS_MAX, config.SHUTDOWN_TIMEOUT_MS / 5) : 0;
  parts.add({ name: "readiness", stop: () => Bun.sleep(unreadyMs) });

  const instanceId = createId();
  // Before all that asks about answers in progress; the generation service, which writes them, comes late.
  const liveAnswers = createLiveAnswers({ lifecycle, instanceId });
  const bus = deps.bus ?? createMemoryBus({ log });
  const hub = createHub({
    bus,
    instanceId,
    loadEvents: (id, afterSeq, untilSeq) => loadEvents(database, id, afterSeq, untilSeq, GAP_EVENTS_MAX),
    findLastSeq: (id) => findLastSeq(database, id),
    listSnapshots: liveAnswers.listSnapshots,
    log,
    onPushed: (type, listeners) => metrics.countPushes(type, listeners),
  });
  const jobs = createJobs({ database, log, instanceId });
  parts.add({ name: "jobs", after: ["generations", "completions", "follow-ups"], stop: jobs.stop });
  const changes = createChanges(database);
  const events = createEventLog({ database, changes, bus });
  const limits = createLimits({
    config,
    log,
    metrics,
    countStored: (userId) => countUnfinished(database, userId),
  });
  parts.add({ name: "redis", after: ["http"], stop: async () => limits.redis?.close() });
  const audit = createAuditService();
  const auditLog = createAuditLog({ database, retentionDays: config.AUDIT_RETENTION_DAYS });
  const announceEnd = (ids: string[]) => bus.publish("credentials", () => [{ type: "credentials.ended", ids }]);
  const idempotency = createIdempotencyStore({ database, jwtSecret, instanceId });
  const users = createUserService({ database, passwords: createPasswords(), audit });
  const apiKeys = createApiKeyService({
    database,
    audit,
    log,
    onKeysEnded: announceEnd,
  });
  const auth = createAuthService({
    database,
    users,
    audit,
    apiKeys,
    guard: limits.logins,
    jwtSecret,
    registration: config.REGISTRATION,
    issuer: readIssuer(config),
    log,
    onSessionsEnded: announceEnd,
  });
  const documents = createDocumentService({ database, documentsDir: config.DOCUMENTS_DIR, log });
  const stopping = new AbortController();
  parts.add({ name: "documents", after: ["readiness"], stop: async () => stopping.abort() });
  const catalogue = createCatalogue({ prices: config.AI_PRICES, inputTokens: config.AI_CONTEXT_TOKENS });
  const { prices, budgetOf } = catalogue;
  const providers = createProviders(config, documents.searchPassages);
  const chain = createChain({
    ...providers,
    catalogue,
    firstTokenTimeoutMs: config.AI_FIRST_TOKEN_TIMEOUT_MS,
    idleTimeoutMs: config.AI_IDLE_TIMEOUT_MS,
    maxRetries: config.AI_MAX_RETRIES,
    log,
    observe: {
      onFailover: (from, to, reason) => metrics.aiFailovers.inc({ from, to, reason }),
      onFirstToken: (model, seconds) => metrics.generationFirstToken.observe({ model }, seconds),
      onCost: (model, usd) => metrics.aiCostUsd.inc({ model }, usd),
      onTokens: (model, kind, count) => metrics.aiTokens.inc({ model, kind }, count),
    },
  });
  const prompts = createPromptService({ database, jobs });
  const { models } = providers;
  const { defaultModel } = chain;
  const promptTokensMaxOf = (model: string) => budgetOf(model).inputTokens;
  const budgets = createBudgetService({
    database,
    config,
    prices,
    models,
    defaultModel,
    promptTokensMaxOf,
    metrics,
    instanceId,
  });
  const conversations = createConversationService({ database, events, bus, prompts, hasModel: chain.has });
  const recovery = createRecovery({ database, conversations, events });
  const messages = createMessageService({
    database,
    events,
    metrics,
    log,
    defaultModel,
    budgets,
    limits,
    takeLease: liveAnswers.takeLease,
    hasModel: chain.has,
    canAnswer: () => lifecycle.phase !== "draining",
    onAnswer: liveAnswers.handOver,
    findLiveText: liveAnswers.findText,
  });
  parts.add({ name: "lanes of sends", after: ["http"], stop: messages.close });
  const contexts = createContexts({ database, budgetOf, defaultModel, searchPassages: documents.searchPassages });
  const cheapestModel = findCheapestModel(models, prices);
  const writer = cheapestModel === null ? null : createWriter({ chain, model: cheapestModel, charge: budgets.charge });
  const followUps = createFollowUps({ database, changes, conversations, budgetOf, writer, log });
  parts.add({ name: "follow-ups", after: ["generations"], stop: followUps.stop });
  const previews = createPreviews({ contexts, prompts, conversations });
  const builtInTools = [createSearchDocuments(documents.searchPassages)];
  const mcpServers = createMcpServers(config.MCP_SERVERS, log);
  parts.add({ name: "mcp", after: ["generations", "completions"], stop: mcpServers.close });
  const tools = createToolService({
    listTools: async () => [...builtInTools, ...(await mcpServers.listTools())],
    log,
  });
  const generations = createGenerationService({
    database,
    changes,
    events,
    bus,
    chain,
    metrics,
    log,
    instanceId,
    liveAnswers,
    messages,
    lifecycle,
    storeAnswer: limits.answers.store,
    budgets,
    contexts,
    followUps,
    tools,
  });
  parts.add({ name: "generations", after: ["sockets"], stop: generations.drain });
  parts.add({ name: "lanes of answers", after: ["http", "generations"], stop: generations.close });
  const completions = createCompletionService({
    chain,
    messages,
    conversations,
    budgets,
    lifecycle,
    holdAnswer: limits.answers.hold,
    metrics,
    log,
  });
  parts.add({ name: "completions", after: ["sockets"], stop: completions.drain });
  const { feeds } = limits;
  const streams = createStreams({ hub, events, recovery, feeds, listSnapshots: liveAnswers.listSnapshots });
  parts.add({ name: "streams", after: ["generations", "completions"], stop: streams.drain });
  const typing = createTyping(bus);
  const { identify } = auth;
  const sockets = createSockets({
    identify,
    conversations,
    messages,
    generations,
    recovery,
    hub,
    typing,
    limits,
    log,
    metrics,
  });
  parts.add({ name: "sockets", after: ["readiness"], stop: sockets.drain });
  // Should it get lost on the way from another instance, a job finds it in the database.
  bus.subscribe("credentials", {
    onMessage({ ids }) {
      auth.forgetSessions(ids);
      sockets.endCredentials(ids);
      streams.endCredentials(ids);
    },
    onGap: () => {},
  });
  const deletions = createDeletions({ database, audit, departures: createDepartures({ database, events }), jobs });
  const accounts = createAccountService({ database, users, auth, audit, deletions });
  const health = createHealthService({
    database,
    lifecycle,
    metrics,
    listModels: chain.models,
    redis: limits.redis,
  });

  return {
    parts,
    jobs,
    stopping: stopping.signal,
    erasures: createErasures({ database }),
    hub,
    limits,
    audit,
    auditLog,
    deletions,
    accounts,
    idempotency,
    users,
    apiKeys,
    auth,
    documents,
    conversations,
    events,
    messages,
    generations,
    streams,
    sockets,
    health,
    budgets,
    completions,
    prompts,
    previews,
  };
}

export type Services = ReturnType<typeof createServices>;

/** Whose tokens are accepted besides our own; null: nobody's. */
function readIssuer(config: Config) {
  const { OIDC_ISSUER, OIDC_AUDIENCE, OIDC_JWKS_URL, OIDC_PROVISION } = config;
  if (OIDC_ISSUER === undefined) return null;
  const isProvisioning = OIDC_PROVISION === "on";
  return { issuer: OIDC_ISSUER, audience: OIDC_AUDIENCE, jwksUrl: OIDC_JWKS_URL, isProvisioning };
}
