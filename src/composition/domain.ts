import { createIdempotencyStore } from "../http/idempotency-store.ts";
import { createAccountService, createDeletions } from "../modules/accounts/service.ts";
import { createApiKeyService } from "../modules/api-keys/service.ts";
import { createAuditLog, createAuditService } from "../modules/audit/service.ts";
import { createAuthService } from "../modules/auth/service.ts";
import { createBudgetService } from "../modules/budgets/service.ts";
import {
  createActivity,
  createConversationService,
  createDepartures,
  createErasures,
} from "../modules/conversations/service.ts";
import { createDocumentService } from "../modules/documents/service.ts";
import { createMessageService, createRecovery } from "../modules/messages/service.ts";
import { createPromptService } from "../modules/prompts/service.ts";
import type { QuotaName } from "../modules/quotas/model.ts";
import { createQuotaService } from "../modules/quotas/service.ts";
import { createPasswords } from "../modules/users/passwords.ts";
import { createUserService } from "../modules/users/service.ts";
import type { Core } from "./core.ts";
import type { Models } from "./models.ts";

/** People, how they are let in, and what belongs to them alone. */
export function createPeople({
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
  passwords: options,
}: Core) {
  const audit = createAuditService();
  const auditLog = createAuditLog({ database, config });
  const announceEnd = (ids: string[]) => bus.publish("credentials", () => [{ type: "credentials.ended", ids }]);
  const onRefused = (quota: QuotaName) => metrics.quotaRejections.inc({ quota });
  const quotas = createQuotaService({ database, config, onRefused });
  const idempotency = createIdempotencyStore({ database, jwtSecret, instanceId });
  const passwords = createPasswords(options, () => metrics.rateLimited.inc({ limit: "hashes" }));
  const users = createUserService({ database, passwords, audit });
  const apiKeys = createApiKeyService({ database, audit, quotas, log, onKeysEnded: announceEnd });
  const auth = createAuthService({
    database,
    config,
    users,
    audit,
    apiKeys,
    guard: limits.logins,
    checksPerUser: limits.passwordChecks,
    jwtSecret,
    log,
    onSessionsEnded: announceEnd,
  });
  const prompts = createPromptService({ database, jobs, quotas });
  const deletions = createDeletions({ database, audit, departures: createDepartures({ database, events }), jobs });
  const accounts = createAccountService({ database, users, auth, audit, deletions });
  return { audit, auditLog, quotas, idempotency, users, apiKeys, auth, prompts, deletions, accounts };
}

export type People = ReturnType<typeof createPeople>;

/** The documents that everybody may read. */
export function createDocuments({ database, config, log, parts }: Core) {
  const documents = createDocumentService({ database, config, log });
  parts.add({ name: "documents", after: ["readiness"], stop: documents.stop });
  return { documents };
}

export type Documents = ReturnType<typeof createDocuments>;

/** Conversations, their messages, and what their answers may cost. */
export function createConversations(core: Core, { prompts, quotas }: People, { chain, ...models }: Models) {
  const { database, config, log, metrics, lifecycle, parts, events, bus, limits, instanceId, liveAnswers } = core;
  const { defaultModel } = chain;
  const budgets = createBudgetService({
    database,
    config,
    prices: models.prices,
    models: models.names,
    defaultModel,
    promptTokensMaxOf: (model) => models.budgetOf(model).inputTokens,
    metrics,
    instanceId,
  });
  const conversations = createConversationService({
    database,
    events,
    bus,
    prompts,
    quotas,
    limits,
    hasModel: chain.has,
  });
  const recovery = createRecovery({ database, conversations, events });
  const messages = createMessageService({
    database,
    conversations,
    events,
    metrics,
    log,
    defaultModel,
    budgets,
    quotas,
    limits,
    takeLease: liveAnswers.takeLease,
    hasModel: chain.has,
    canAnswer: () => lifecycle.phase !== "draining",
    onAnswer: liveAnswers.handOver,
    findLiveText: liveAnswers.findText,
  });
  parts.add({ name: "lanes of sends", after: ["http"], stop: messages.close });
  return {
    budgets,
    conversations,
    recovery,
    messages,
    erasures: createErasures({ database }),
    activity: createActivity({ database }),
  };
}

export type Conversations = ReturnType<typeof createConversations>;
