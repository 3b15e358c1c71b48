import { createAnswers } from "./ai.ts";
import { createBackups } from "./backups.ts";
import { createCore, type ServiceDependencies } from "./core.ts";
import { createConversations, createDocuments, createUserServices } from "./domain.ts";
import { createEdge } from "./edge.ts";
import { createModels } from "./models.ts";
import { createWebhooks } from "./webhooks.ts";

export type { ServiceDependencies } from "./core.ts";

/** Creates all services in the order of their dependencies. */
export function createServices(deps: ServiceDependencies) {
  const core = createCore(deps);
  const people = createUserServices(core);
  const { webhooks, dispatcher } = createWebhooks(core, people);
  const { documents } = createDocuments(core);
  const models = createModels(core, documents);
  const conversations = createConversations(core, people, models);
  const answers = createAnswers(core, people, { documents }, models, conversations);
  const backups = createBackups(core);
  const edge = createEdge(core, people, models, conversations, answers, backups);
  const { parts, bus, jobs, limits, events, reads, openStreams } = core;
  return {
    parts,
    bus,
    jobs,
    limits,
    events,
    reads,
    openStreams,
    chain: models.chain,
    backups,
    ...people,
    webhooks,
    dispatcher,
    documents,
    ...conversations,
    ...answers,
    ...edge,
  };
}

export type Services = ReturnType<typeof createServices>;
