import { applyPart } from "../answer-part.ts";
import type { Usage } from "../provider.ts";
import type { RunContext } from "../run-context.ts";
import { THINKING_TIMEOUT_MS } from "../timeouts.ts";
import type { Chain } from "./chain.ts";

/**
 * Timeout of a background text. A thinking model may send nothing for THINKING_TIMEOUT_MS. The same time again is left for
 * writing or a retry.
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
  about: RunContext;
};
export type WrittenText = { text: string; model: string; usage: Usage | null; costUsd: number | null };

type WriterDependencies = {
  chain: Chain;
  model: string;
  charge(payerId: string | null, written: Pick<WrittenText, "usage" | "costUsd">): Promise<void>;
};

/** Creates a writer of short background texts, which uses one specific model. */
export function createWriter({ chain, model, charge }: WriterDependencies) {
  return {
    model,
    /** @throws Error if the model fails, is aborted, times out or writes nothing. */
    async write({ system, text: input, outputTokensMax, payerId, signal, about }: WriteRequest): Promise<WrittenText> {
      let text = "";
      const request = {
        model,
        messages: [
          { role: "system" as const, content: system },
          { role: "user" as const, content: input },
        ],
        outputTokensMax,
        hasFallback: false,
        about,
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

export type Writer = ReturnType<typeof createWriter>;
