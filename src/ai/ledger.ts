import { calculateCostUsd, type PriceTable } from "./pricing.ts";
import type { ChatMessage, Usage } from "./provider.ts";

/** About how many UTF-16 units make a token, over languages and models. */
const UNITS_PER_TOKEN = 4;

const estimateTokens = (length: number): number => Math.ceil(length / UNITS_PER_TOKEN);

/**
 * What a run has used, over all models that took part. `estimated`: at least one of them broke off before it reported
 * its tokens, so that they were guessed from the length of the texts.
 */
export type RunUsage = Usage & { estimated: boolean };

export type Bill = { usage: RunUsage | null; costUsd: number | null };

/** One request to one model, as far as it costs. */
export type LedgerEntry = {
  /** Characters that the model wrote, shown or not. */
  textLength: number;
  /** The last count that the provider gave. */
  reported: Usage | null;
  /** Whether that count is the final one. */
  isFinal: boolean;
};

/** Sums the tokens and the money of one run. */
export function createLedger(
  messages: readonly ChatMessage[],
  prices: PriceTable,
  onCost: (model: string, usd: number) => void = () => {},
) {
  const entries: { model: string; entry: LedgerEntry }[] = [];

  function settle({ textLength, reported, isFinal }: LedgerEntry): RunUsage | null {
    if (reported && isFinal) return { ...reported, estimated: false };
    // A request that failed before the first character is not charged by the providers, unless they said so.
    if (textLength === 0) return reported && { ...reported, estimated: false };
    const promptLength = messages.reduce((sum, { content }) => sum + content.length, 0);
    return {
      input_tokens: reported?.input_tokens || estimateTokens(promptLength),
      output_tokens: Math.max(reported?.output_tokens ?? 0, estimateTokens(textLength)),
      estimated: true,
    };
  }

  return {
    open(model: string): LedgerEntry {
      const entry: LedgerEntry = { textLength: 0, reported: null, isFinal: false };
      entries.push({ model, entry });
      return entry;
    },
    /** The sum so far. The cost is null as soon as one part of it is not known. */
    close(): Bill {
      let usage: RunUsage | null = null;
      let costUsd: number | null = 0;
      for (const { model, entry } of entries) {
        const used = settle(entry);
        if (!used) continue;
        usage ??= { input_tokens: 0, output_tokens: 0, estimated: false };
        usage.input_tokens += used.input_tokens;
        usage.output_tokens += used.output_tokens;
        usage.estimated ||= used.estimated;
        const cost: number | null = calculateCostUsd(model, used, prices);
        if (cost) onCost(model, cost);
        costUsd = costUsd === null || cost === null ? null : costUsd + cost;
      }
      return { usage, costUsd: usage === null ? null : costUsd };
    },
  };
}
