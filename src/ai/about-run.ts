import type { ProviderError } from "./provider.ts";

/** What a run is for, as the lines of the log about its failures say: an answer, or something that is written beside it. */
export type AboutRun = { message_id: string; request_id: string | null; task?: string };

/** What an operator can do about a failure, as a sentence without a secret; null: nothing but wait. */
export type ExplainFailure = (model: string, error: ProviderError) => string | null;
