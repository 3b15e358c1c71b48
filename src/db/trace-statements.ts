import { failSpan, getErrorType, SpanKind, type Tracing } from "../lib/tracing/tracing.ts";

/** The part of the driver's query object that is used here. Calling `handler` sends the query, and `resolve` or `reject` settles it. */
type Query = {
  handler(query: unknown): unknown;
  resolve(result: unknown): unknown;
  reject(error: unknown): unknown;
};

type TaggedSql = (first: unknown, ...rest: unknown[]) => unknown;

/**
 * Makes a pool create a span for each statement that is sent within a recorded span. The span contains only a summary such as
 * `SELECT conversations`, not the statement or its parameters. Statements in a transaction belong to the transaction's span.
 * Background work outside a trace creates no spans.
 */
export function traceStatements<Pool extends object>(pool: Pool, tracing: Tracing): Pool {
  const tracedSql = (first: unknown, ...rest: unknown[]): unknown => {
    const query = (pool as unknown as TaggedSql)(first, ...rest);
    if (!Array.isArray(first) || !("raw" in first)) return query;
    // Fragments are also queries, but are never sent on their own.
    const tracedQuery = query as Query;
    const { handler } = tracedQuery;
    tracedQuery.handler = (sent) => {
      if (tracing.getRecordingSpan()) traceQuery(tracedQuery, summarize(first as readonly string[]), tracing);
      return handler(sent);
    };
    return query;
  };
  return Object.assign(tracedSql, pool) as unknown as Pool;
}

function traceQuery(query: Query, summary: string, tracing: Tracing): void {
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
    failSpan(span, getErrorType(error));
    span.end();
    return reject(error);
  };
}

/** Matches the table or function that a statement reads from or changes. */
const tablePattern = /\b(?:from|into|update)\s+(?!unnest\b|only\b)([a-z_]{3,})\b(?!\.)/;
/** Matches the function that a statement calls. Used if the statement contains no table name. */
const functionPattern = /^\s*select\s+([a-z_]{3,})\s*\(/;
/** Summaries by the strings array of a template, which is the same object on every call. */
const summaries = new WeakMap<readonly string[], string>();

function summarize(strings: readonly string[]): string {
  const cached = summaries.get(strings);
  if (cached !== undefined) return cached;
  const text = strings.join(" ");
  const [, verb = "query"] = /^\s*(\w+)/.exec(text) ?? [];
  const target = (tablePattern.exec(text) ?? functionPattern.exec(text))?.[1];
  const summary = target === undefined ? verb.toUpperCase() : `${verb.toUpperCase()} ${target}`;
  summaries.set(strings, summary);
  return summary;
}
