import { createAnswers } from "./ai.ts";
import { createCore, type ServiceDependencies } from "./core.ts";
import { createConversations, createDocuments, createPeople } from "./domain.ts";
import { createEdge } from "./edge.ts";
import { createModels } from "./models.ts";

export type { ServiceDependencies } from "./core.ts";

/** Builds every service, each out of those above it. */
export function createServices(deps: ServiceDependencies) {
  const core = createCore(deps);
  const people = createPeople(core);
  const { documents } = createDocuments(core);
  const models = createModels(core, documents);
  const conversations = createConversations(core, people, models);
  const answers = createAnswers(core, people, { documents }, models, conversations);
  const edge = createEdge(core, people, models, conversations, answers);
  const { parts, jobs, limits, events } = core;
  return {
    parts,
    jobs,
    limits,
    events,
    chain: models.chain,
    ...people,
    documents,
    ...conversations,
    ...answers,
    ...edge,
  };
}

export type Services = ReturnType<typeof createServices>;
