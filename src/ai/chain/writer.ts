import { applyPart } from "../answer-part.ts";
import type { Usage } from "../provider.ts";
import type { RunContext } from "../run-context.ts";
import { THINKING_SILENCE_MS } from "../timeouts.ts";
import type { Chain } from "./chain.ts";

/**
 * Time limit of a background text. A thinking model may stay silent for 5 minutes (THINKING_SILENCE_MS) before it writes;
 * this leaves the same time again for writing, or for a retry.
 */
const WRITE_TIMEOUT_MS = 2 * THINKING_SILENCE_MS;

export type WriteRequest = {
  system: string;
  text: string;
  outputTokensMax: number;
  /** The user who is charged. */
  payerId: string | null;
  signal: AbortSignal;
  /** What the text is for, for the log. */
  about: RunContext;
};
export type Written = { text: string; model: string; usage: Usage | null; costUsd: number | null };

type WriterDependencies = {
  chain: Chain;
  model: string;
  charge(payerId: string | null, written: Pick<Written, "usage" | "costUsd">): Promise<void>;
};

/** Has one specific model write a short text in the background. */
export function createWriter({ chain, model, charge }: WriterDependencies) {
  return {
    model,
    /** @throws Error if the model fails, is aborted, times out or writes nothing. */
    async write({ system, text: asked, outputTokensMax, payerId, signal, about }: WriteRequest): Promise<Written> {
      let text = "";
      const request = {
        model,
        messages: [
          { role: "system" as const, content: system },
          { role: "user" as const, content: asked },
        ],
        outputTokensMax,
        hasFallback: false,
        about,
        signal: AbortSignal.any([signal, AbortSignal.timeout(WRITE_TIMEOUT_MS)]),
      };
      const end = await chain.run(request, (part) => {
        text = applyPart(text, part);
      });
      // The cost is charged in any case.
      await charge(payerId, end);
      if (end.type === "error") throw new Error(end.detail);
      if (end.type === "aborted" || text.trim() === "") throw new Error("The model wrote nothing.");
      return { text, model: end.model, usage: end.usage, costUsd: end.costUsd };
    },
  };
}

export type Writer = ReturnType<typeof createWriter>;
