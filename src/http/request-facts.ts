import type { Span } from "../lib/tracing/tracing.ts";

/** Facts about a request, which are recorded in its access log line and its span. */
type Facts = { userId?: string; isUpgraded?: boolean; span?: Span };

const facts = new WeakMap<Request, Facts>();

export function addRequestFacts(request: Request, newFacts: Facts): void {
  const existingFacts = facts.get(request);
  if (existingFacts) Object.assign(existingFacts, newFacts);
  else facts.set(request, newFacts);
}

export const getRequestFacts = (request: Request): Readonly<Facts> => facts.get(request) ?? {};
