import { failSpan, nameError, SpanKind, type Tracing } from "../lib/tracing/tracing.ts";

/** The part of the driver's query used here: calling `handler` sends it, and `resolve` or `reject` settles it. */
type Query = {
  handler(query: unknown): unknown;
  resolve(result: unknown): unknown;
  reject(error: unknown): unknown;
};

type TaggedSql = (first: unknown, ...rest: unknown[]) => unknown;

/**
 * Makes a pool create a span for each statement that is sent within a recorded span. The span contains only a summary such as
 * `SELECT conversations`, not the statement or its parameters. Statements of a transaction belong to the transaction's span.
 * Background work outside a trace creates no spans.
 */
export function traceStatements<Pool extends object>(pool: Pool, tracing: Tracing): Pool {
  const tagged = (first: unknown, ...rest: unknown[]): unknown => {
    const query = (pool as unknown as TaggedSql)(first, ...rest);
    if (!Array.isArray(first) || !("raw" in first)) return query;
    // Fragments of other statements are also queries, but are never sent by themselves.
    const handled = query as Query;
    const { handler } = handled;
    handled.handler = (sent) => {
      if (tracing.recording()) observe(handled, summarize(first as readonly string[]), tracing);
      return handler(sent);
    };
    return query;
  };
  return Object.assign(tagged, pool) as unknown as Pool;
}

function observe(query: Query, summary: string, tracing: Tracing): void {
  const span = tracing.start(summary, {
    kind: SpanKind.CLIENT,
    attributes: { "db.system.name": "postgresql", "db.query.summary": summary },
  });
  const { resolve, reject } = query;
  query.resolve = (result) => {
    span.end();
    return resolve(result);
  };
  query.reject = (error) => {
    failSpan(span, nameError(error));
    span.end();
    return reject(error);
  };
}

/** Matches what a statement reads or changes: a table, or a function that returns rows. */
const tablePattern = /\b(?:from|into|update)\s+(?!unnest\b|only\b)([a-z_]{3,})\b(?!\.)/;
/** Matches the function that a statement calls, if it reads and changes no table. */
const functionPattern = /^\s*select\s+([a-z_]{3,})\s*\(/;
/** Summaries by the array of a template's strings, which is the same object for each call. */
const summaries = new WeakMap<readonly string[], string>();

function summarize(strings: readonly string[]): string {
  const known = summaries.get(strings);
  if (known !== undefined) return known;
  const text = strings.join(" ");
  const [, verb = "query"] = /^\s*(\w+)/.exec(text) ?? [];
  const target = (tablePattern.exec(text) ?? functionPattern.exec(text))?.[1];
  const summary = target === undefined ? verb.toUpperCase() : `${verb.toUpperCase()} ${target}`;
  summaries.set(strings, summary);
  return summary;
}
