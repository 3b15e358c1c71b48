import { applyPart } from "../answer-part.ts";
import type { Usage } from "../provider.ts";
import type { RunContext } from "../run-context.ts";
import { THINKING_TIMEOUT_MS } from "../timeouts.ts";
import type { Chain } from "./chain.ts";

/**
 * Timeout for one call of `write`. It is twice THINKING_TIMEOUT_MS, because a thinking model may send nothing for that long, and
 * then needs time to write or to be retried.
 */
const WRITE_TIMEOUT_MS = 2 * THINKING_TIMEOUT_MS;

export type WriteRequest = {
  system: string;
  text: string;
  outputTokensMax: number;
  /** The user who is charged. */
  payerId: string | null;
  signal: AbortSignal;
  /** Log fields that identify the text. */
  logContext: RunContext;
};
export type WrittenText = { text: string; model: string; usage: Usage | null; costUsd: number | null };

type WriterDependencies = {
  chain: Chain;
  model: string;
  charge(payerId: string | null, written: Pick<WrittenText, "usage" | "costUsd">): Promise<void>;
};

/** Creates a writer that uses one specific model for short background tasks, such as writing titles. */
export function createTextWriter({ chain, model, charge }: WriterDependencies) {
  return {
    model,
    /** @throws Error if the model fails, is aborted, times out or writes nothing. */
    async write({
      system,
      text: input,
      outputTokensMax,
      payerId,
      signal,
      logContext,
    }: WriteRequest): Promise<WrittenText> {
      let text = "";
      const request = {
        model,
        messages: [
          { role: "system" as const, content: system },
          { role: "user" as const, content: input },
        ],
        outputTokensMax,
        hasFallback: false,
        logContext,
        signal: AbortSignal.any([signal, AbortSignal.timeout(WRITE_TIMEOUT_MS)]),
      };
      const end = await chain.run(request, (part) => {
        text = applyPart(text, part);
      });
      // Failed runs are charged too.
      await charge(payerId, end);
      if (end.type === "error") throw new Error(end.detail);
      if (end.type === "aborted" || text.trim() === "") throw new Error("The model wrote nothing.");
      return { text, model: end.model, usage: end.usage, costUsd: end.costUsd };
    },
  };
}

export type Writer = ReturnType<typeof createTextWriter>;
