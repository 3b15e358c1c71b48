/** Facts learned while handling a request, for its access log line. */
type Facts = { userId?: string; isUpgraded?: boolean };

const facts = new WeakMap<Request, Facts>();

export function addFacts(request: Request, known: Facts): void {
  const before = facts.get(request);
  if (before) Object.assign(before, known);
  else facts.set(request, known);
}

export const readFacts = (request: Request): Readonly<Facts> => facts.get(request) ?? {};
