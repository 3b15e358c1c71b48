import { createAnswerServices } from "./ai.ts";
import { createScheduledBackups } from "./backups.ts";
import { createCoreServices, type ServiceDependencies } from "./core.ts";
import { createConversationServices, createDocumentServices, createUserServices } from "./domain.ts";
import { createConnectionServices } from "./edge.ts";
import { createModelServices } from "./models.ts";
import { createWebhookServices } from "./webhooks.ts";

export type { ServiceDependencies } from "./core.ts";

/** Creates all services in the order of their dependencies. */
export function createServices(deps: ServiceDependencies) {
  const core = createCoreServices(deps);
  const userServices = createUserServices(core);
  const { webhooks, dispatcher } = createWebhookServices(core, userServices);
  const { documents } = createDocumentServices(core);
  const models = createModelServices(core, documents);
  const conversations = createConversationServices(core, userServices, models);
  const answers = createAnswerServices(core, userServices, { documents }, models, conversations);
  const backups = createScheduledBackups(core);
  const edge = createConnectionServices(core, userServices, models, conversations, answers, backups);
  const { components, bus, jobs, limits, events, reads, openStreams } = core;
  return {
    components,
    bus,
    jobs,
    limits,
    events,
    reads,
    openStreams,
    chain: models.chain,
    backups,
    ...userServices,
    webhooks,
    dispatcher,
    documents,
    ...conversations,
    ...answers,
    ...edge,
  };
}

export type Services = ReturnType<typeof createServices>;
