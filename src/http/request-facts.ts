import type { Span } from "../lib/tracing/tracing.ts";

/** Facts learned while handling a request, for its access log line and its span. */
type Facts = { userId?: string; isUpgraded?: boolean; span?: Span };

const facts = new WeakMap<Request, Facts>();

export function addFacts(request: Request, known: Facts): void {
  const before = facts.get(request);
  if (before) Object.assign(before, known);
  else facts.set(request, known);
}

export const readFacts = (request: Request): Readonly<Facts> => facts.get(request) ?? {};
