import { createFormatCheck } from "../ai/format/reply-format.ts";
import { createIdempotencyStore } from "../http/idempotency-store.ts";
import { DOCUMENTS_TAG } from "../http/read-cache.ts";
import { createAccountService, createDeletionService } from "../modules/accounts/service.ts";
import { createAnalyticsService } from "../modules/analytics/service.ts";
import { createApiKeyService } from "../modules/api-keys/service.ts";
import { createAuditLog, createAuditService } from "../modules/audit/service.ts";
import { createAuthService } from "../modules/auth/service.ts";
import { createBudgetService } from "../modules/budgets/service.ts";
import {
  createActivityMover,
  createConversationService,
  createDepartureService,
  createErasureJobs,
} from "../modules/conversations/service.ts";
import { createDocumentService } from "../modules/documents/service.ts";
import { createExportService } from "../modules/exports/service.ts";
import { createHookService } from "../modules/hooks/service.ts";
import { createImportService } from "../modules/imports/service.ts";
import { createHistory, createMessageService, createRecovery } from "../modules/messages/service.ts";
import { createPromptService } from "../modules/prompts/service.ts";
import type { QuotaName } from "../modules/quotas/model.ts";
import { createQuotaService } from "../modules/quotas/service.ts";
import { createSearchIndexer, createSearchService } from "../modules/search/service.ts";
import { createPasswordHasher } from "../modules/users/passwords.ts";
import { createUserService } from "../modules/users/service.ts";
import type { Core } from "./core.ts";
import type { Models } from "./models.ts";

/** Creates the services for users, authentication and data that belongs to a single user. */
export function createUserServices({
  database,
  config,
  log,
  bus,
  jobs,
  limits,
  jwtSecret,
  instanceId,
  events,
  metrics,
  fetch,
  passwords: passwordOptions,
}: Core) {
  const audit = createAuditService();
  const auditLog = createAuditLog({ database, config });
  const analytics = createAnalyticsService({ database, metrics, log });
  const announceEndedCredentials = (ids: string[]) =>
    bus.publish("credentials", () => [{ type: "credentials.ended", ids }]);
  const onRejected = (quota: QuotaName) => metrics.quotaRejections.inc({ quota });
  const quotas = createQuotaService({ database, config, onRejected });
  const idempotency = createIdempotencyStore({ database, jwtSecret, instanceId });
  const passwords = createPasswordHasher(passwordOptions, () => metrics.rateLimited.inc({ limit: "hashes" }));
  const announceNewName = (userId: string) => bus.publish("users", () => [{ type: "user.renamed", user_id: userId }]);
  const users = createUserService({ database, passwords, audit, onRenamed: announceNewName });
  const apiKeys = createApiKeyService({ database, audit, quotas, log, onKeysDeleted: announceEndedCredentials });
  const auth = createAuthService({
    database,
    config,
    users,
    audit,
    apiKeys,
    guard: limits.logins,
    checksPerUser: limits.passwordChecks,
    jwtSecret,
    fetch,
    log,
    onSessionsEnded: announceEndedCredentials,
  });
  const prompts = createPromptService({ database, jobs, quotas, bus });
  const departures = createDepartureService({ database, events });
  // A deleted user is shown under a placeholder name, so a deletion is announced as a new name.
  const deletions = createDeletionService({ database, audit, departures, jobs, onDeleted: announceNewName });
  const accounts = createAccountService({ database, users, auth, audit, deletions, onRenamed: announceNewName });
  return { audit, auditLog, analytics, quotas, idempotency, users, apiKeys, auth, prompts, deletions, accounts };
}

export type UserServices = ReturnType<typeof createUserServices>;

/** Creates the service for documents, which all users can read. */
export function createDocumentServices({ database, config, log, components, reads }: Core) {
  const onScanned = () => reads.invalidate(DOCUMENTS_TAG);
  const documents = createDocumentService({ database, config, log, onScanned });
  components.add({ name: "documents", after: ["readiness"], stop: documents.stop });
  return { documents };
}

export type Documents = ReturnType<typeof createDocumentServices>;

/** Creates the services for conversations, their messages, and budgets for model replies. */
export function createConversationServices(
  core: Core,
  { users, prompts, quotas, audit, auth }: UserServices,
  { chain, ...models }: Models,
) {
  const {
    database,
    config,
    log,
    metrics,
    lifecycle,
    components,
    events,
    bus,
    limits,
    instanceId,
    liveAnswers,
    jwtSecret,
    jobs,
    openStreams,
    tracing,
  } = core;
  const { defaultModel } = chain;
  const budgets = createBudgetService({
    database,
    config,
    prices: models.prices,
    models: models.modelNames,
    defaultModel,
    getPromptTokensMax: (model) => models.getBudget(model).inputTokens,
    metrics,
    log,
    instanceId,
  });
  const conversations = createConversationService({
    database,
    events,
    bus,
    prompts,
    quotas,
    limits,
    config,
    users,
    hasModel: chain.has,
  });
  const recovery = createRecovery({ database, conversations, events });
  const messages = createMessageService({
    database,
    events,
    metrics,
    log,
    tracing,
    defaultModel,
    budgets,
    quotas,
    limits,
    acquireLease: liveAnswers.acquireLease,
    hasModel: chain.has,
    checkReplyFormat: createFormatCheck(chain),
    canAnswer: () => lifecycle.phase !== "draining",
    onAnswerCreated: liveAnswers.handOver,
    findLiveText: liveAnswers.findText,
  });
  components.add({ name: "send lanes", after: ["http"], stop: messages.close });
  const imports = createImportService({ database, jobs, quotas, bus, openStreams, config });
  components.add({ name: "imports", after: ["http", "jobs"], stop: imports.close });
  return {
    budgets,
    conversations,
    recovery,
    messages,
    imports,
    exports: createExportService({ auth, conversations, messages }),
    history: createHistory({ messages, metrics, isCacheEnabled: config.READ_CACHE === "on" }),
    hooks: createHookService({ database, audit, messages, jwtSecret, log }),
    erasures: createErasureJobs({ database }),
    activityMover: createActivityMover({ database }),
    search: createSearchService({ database, config }),
    searchIndexer: createSearchIndexer({ database, config }),
  };
}

export type Conversations = ReturnType<typeof createConversationServices>;
