import { createTextWriter } from "../ai/chain/writer.ts";
import { createContextBuilder } from "../modules/generations/context.ts";
import { createFollowUpRunner } from "../modules/generations/follow-ups.ts";
import { createPreviewBuilder } from "../modules/generations/previews.ts";
import { createGenerationService } from "../modules/generations/service.ts";
import { createThinkingStore } from "../modules/generations/thinking-store.ts";
import { createCompletionService } from "../modules/openai/service.ts";
import { createSealedThinking } from "../modules/openai/thinking.ts";
import type { Core } from "./core.ts";
import type { Conversations, Documents, UserServices } from "./domain.ts";
import type { Models } from "./models.ts";
import { createToolServices } from "./tools.ts";

/** Creates the services for model replies, in conversations and for OpenAI clients. */
export function createAnswerServices(
  core: Core,
  { prompts }: UserServices,
  { documents }: Documents,
  { chain, getBudget, cheapestModel }: Models,
  { budgets, conversations, messages }: Conversations,
) {
  const {
    database,
    config,
    log,
    metrics,
    lifecycle,
    components,
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
  const shouldStoreReasoning = config.AI_REASONING === "store";
  const contextBuilder = createContextBuilder({
    database,
    getBudget,
    defaultModel,
    searchPassages: documents.searchPassages,
  });
  const writer =
    cheapestModel === null ? null : createTextWriter({ chain, model: cheapestModel, charge: budgets.charge });
  const followUps = createFollowUpRunner({ database, changes, conversations, getBudget, writer, log });
  components.add({ name: "follow-ups", after: ["generations"], stop: followUps.stop });
  const previews = createPreviewBuilder({ contextBuilder, prompts, conversations });
  const tools = createToolServices(core, documents);
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
    contextBuilder,
    followUps,
    tools,
    shouldStoreReasoning,
    thinkingStore: createThinkingStore(jwtSecret),
    tracing,
  });
  components.add({ name: "generations", after: ["sockets"], stop: generations.drain });
  components.add({ name: "answer lanes", after: ["http", "generations"], stop: generations.close });
  const completions = createCompletionService({
    chain,
    messages,
    conversations,
    budgets,
    lifecycle,
    reserveAnswer: limits.answers.reserve,
    openStreams,
    shouldStoreReasoning,
    shouldShowReasoning: config.AI_REASONING !== "off",
    sealedThinking: createSealedThinking(jwtSecret),
    metrics,
    log,
    tracing,
  });
  components.add({ name: "completions", after: ["sockets"], stop: completions.drain });
  return { generations, completions, previews, followUps };
}

export type Answers = ReturnType<typeof createAnswerServices>;
