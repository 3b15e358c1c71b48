import type { ProviderError } from "./provider.ts";

/** Log fields that identify a run's answer or background task. */
export type RunContext = {
  message_id: string;
  request_id: string | null;
  conversation_id?: string;
  task?: string;
};

/** Returns a sentence, without secrets, about what an operator can do about a failure. Returns null if nothing can be done. */
export type ExplainFailure = (model: string, error: ProviderError) => string | null;
