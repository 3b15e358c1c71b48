import type { Span } from "../lib/tracing/tracing.ts";

/** Facts about a request, which are recorded in its access log line and its span. */
type Facts = { userId?: string; isUpgraded?: boolean; span?: Span };

const facts = new WeakMap<Request, Facts>();

export function addFacts(request: Request, newFacts: Facts): void {
  const existing = facts.get(request);
  if (existing) Object.assign(existing, newFacts);
  else facts.set(request, newFacts);
}

export const readFacts = (request: Request): Readonly<Facts> => facts.get(request) ?? {};
