import { createWriter } from "../ai/chain/writer.ts";
import { createContexts } from "../modules/generations/context.ts";
import { createFollowUps } from "../modules/generations/follow-ups.ts";
import { createPreviews } from "../modules/generations/previews.ts";
import { createGenerationService } from "../modules/generations/service.ts";
import { createThinkingStore } from "../modules/generations/thinking-store.ts";
import { createCompletionService } from "../modules/openai/service.ts";
import { createSealedThinking } from "../modules/openai/thinking.ts";
import type { Core } from "./core.ts";
import type { Conversations, Documents, UserServices } from "./domain.ts";
import type { Models } from "./models.ts";
import { createTools } from "./tools.ts";

/** Creates the services for model replies, in conversations and for OpenAI clients. */
export function createAnswers(
  core: Core,
  { prompts }: UserServices,
  { documents }: Documents,
  { chain, getBudget, cheapest }: Models,
  { budgets, conversations, messages }: Conversations,
) {
  const {
    database,
    config,
    log,
    metrics,
    lifecycle,
    parts,
    changes,
    events,
    bus,
    limits,
    instanceId,
    liveAnswers,
    openStreams,
    jwtSecret,
    tracing,
  } = core;
  const { defaultModel } = chain;
  const storesReasoning = config.AI_REASONING === "store";
  const contexts = createContexts({ database, getBudget, defaultModel, searchPassages: documents.searchPassages });
  const writer = cheapest === null ? null : createWriter({ chain, model: cheapest, charge: budgets.charge });
  const followUps = createFollowUps({ database, changes, conversations, getBudget, writer, log });
  parts.add({ name: "follow-ups", after: ["generations"], stop: followUps.stop });
  const previews = createPreviews({ contexts, prompts, conversations });
  const tools = createTools(core, documents);
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
    storesReasoning,
    thinking: createThinkingStore(jwtSecret),
    tracing,
  });
  parts.add({ name: "generations", after: ["sockets"], stop: generations.drain });
  parts.add({ name: "answer lanes", after: ["http", "generations"], stop: generations.close });
  const completions = createCompletionService({
    chain,
    messages,
    conversations,
    budgets,
    lifecycle,
    reserveAnswer: limits.answers.reserve,
    openStreams,
    storesReasoning,
    showsReasoning: config.AI_REASONING !== "off",
    sealedThinking: createSealedThinking(jwtSecret),
    metrics,
    log,
    tracing,
  });
  parts.add({ name: "completions", after: ["sockets"], stop: completions.drain });
  return { generations, completions, previews, followUps };
}

export type Answers = ReturnType<typeof createAnswers>;
