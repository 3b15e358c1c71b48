import type { BudgetWindow, BudgetWindows } from "./model.ts";
import type * as queries from "./queries.ts";
import type { BudgetLimits } from "./rules.ts";

/** Maps a payer's windows to the response format. */
export function mapToWindows(rows: queries.WindowRow[], limits: BudgetLimits | null): BudgetWindows {
  const mapWindow = (period: queries.Period): BudgetWindow => {
    const row = rows.find((candidate) => candidate.period === period);
    if (!row) throw new Error(`The query returned no row for the ${period}.`);
    return {
      starts_at: row.starts_at.toISOString(),
      ends_at: row.ends_at.toISOString(),
      spent_tokens: row.spent_tokens,
      reserved_tokens: row.reserved_tokens,
      limit_tokens: limits?.[`${period}_tokens`] ?? null,
      spent_usd: Number(row.spent_usd),
      reserved_usd: Number(row.reserved_usd),
      limit_usd: limits?.[`${period}_usd`] ?? null,
    };
  };
  return { day: mapWindow("day"), month: mapWindow("month") };
}

/** Returns the end of the current day or month (UTC). */
export function getPeriodEnd(period: queries.Period, now: Date): Date {
  const [year, month, day] = [now.getUTCFullYear(), now.getUTCMonth(), now.getUTCDate()];
  return new Date(period === "day" ? Date.UTC(year, month, day + 1) : Date.UTC(year, month + 1, 1));
}
