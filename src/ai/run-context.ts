import type { ProviderError } from "./provider.ts";

/** What a run is for, in log lines about its failures: an answer, or a background text such as a title. */
export type RunContext = {
  message_id: string;
  request_id: string | null;
  conversation_id?: string;
  task?: string;
};

/** A sentence without secrets on what an operator can do about a failure; null: only wait. */
export type ExplainFailure = (model: string, error: ProviderError) => string | null;
