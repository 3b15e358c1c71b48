import type { Chain } from "./chain.ts";
import type { Usage } from "./provider.ts";

/** A text that takes longer is not worth waiting for. */
const WRITE_TIMEOUT_MS = 60_000;

export type WriteRequest = {
  system: string;
  text: string;
  outputTokensMax: number;
  /** Who is charged for it. */
  payerId: string | null;
  signal: AbortSignal;
};
export type Written = { text: string; model: string; usage: Usage | null; costUsd: number | null };

type WriterDependencies = {
  chain: Chain;
  model: string;
  charge(payerId: string | null, written: Pick<Written, "usage" | "costUsd">): Promise<void>;
};

/** Has one model, and no other, write a short text in the background. */
export function createWriter({ chain, model, charge }: WriterDependencies) {
  return {
    model,
    /** @throws Error when the model fails, is told to stop, takes too long or writes nothing. */
    async write({ system, text, outputTokensMax, payerId, signal }: WriteRequest): Promise<Written> {
      let written = "";
      for await (const part of chain.run({
        model,
        messages: [
          { role: "system", content: system },
          { role: "user", content: text },
        ],
        outputTokensMax,
        hasFallback: false,
        signal: AbortSignal.any([signal, AbortSignal.timeout(WRITE_TIMEOUT_MS)]),
      })) {
        if (part.type === "text") written += part.text;
        else if (part.type === "reset") written = part.text;
        else if (part.type !== "start") {
          // What it cost is owed in any case.
          await charge(payerId, part);
          if (part.type === "error") throw new Error(part.detail);
          if (part.type === "finish" && written.trim() !== "")
            return { text: written, model: part.model, usage: part.usage, costUsd: part.costUsd };
        }
      }
      throw new Error("The model wrote nothing.");
    },
  };
}

export type Writer = ReturnType<typeof createWriter>;
