import { createStepCounter, type Steps } from "./steps.ts";
import type { Branch, Tree } from "./tree.ts";

/** A message with its position: `parent` is the index of an earlier one in the same list. */
export type Placed = { branch: Branch | null; parent: number | null };

/** Messages that each directly follow the previous one; `others` start new chains. */
type Run = { branches: Branch[]; others: Branch[] };

/**
 * Orders the messages so that every branch can be found from its end (sql/functions/list_path.sql): a user message leads
 * to its parent, wherever that is; a response leads to the message before it, or, if it is a further response, to the
 * position of its parent's first response. So the first response must directly follow its parent.
 *
 * The branch of `leaf` comes last, so that the next message continues it. If several branches start with their first
 * message, the list starts with a message without text (`branch` is null) as their common parent.
 */
export function* orderMessages({ roots, leaf }: Tree): Steps<Placed[]> {
  const isDue = createStepCounter();
  const placed: Placed[] = [];
  const indexes = new Map<Branch, number>();
  const first = yield* collectRun(null, roots);
  const hasRoot = roots.length > 1 || (first.others.length > 0 && first.branches.at(-1) === leaf);
  if (hasRoot) placed.push({ branch: null, parent: null });

  function* emit({ branches }: Run): Steps<void> {
    for (const branch of branches) {
      if (isDue()) yield;
      let above = branch.parent;
      while (above && !indexes.has(above)) above = above.parent;
      const parent = above ? indexes.get(above) : undefined;
      indexes.set(branch, placed.length);
      placed.push({ branch, parent: parent ?? (hasRoot ? 0 : null) });
    }
  }

  /** Starts of chains; a chain appears again once its inner branches are placed. */
  const waiting: (Branch | Run)[] = [first];
  const add = (starts: Branch[]) => {
    for (const start of sortByCurrent(starts).reverse()) waiting.push(start);
  };
  for (let next = waiting.pop(); next; next = waiting.pop()) {
    const run = "branches" in next ? next : yield* collectRun(next, next.children);
    const { branches, others } = run;
    // Branches within the last chain must come before it, and lead to the message above the chain.
    if (leaf && others.length > 0 && branches.at(-1) === leaf) waiting.push({ branches, others: [] });
    else yield* emit(run);
    add(others);
  }
  return placed;
}

/** A message with the responses that directly follow it. */
function* collectRun(start: Branch | null, below: readonly Branch[]): Steps<Run> {
  const isDue = createStepCounter();
  const branches = start ? [start] : [];
  const others: Branch[] = [];
  // A root is the first message only if there is just one.
  let next = start || below.length > 1 ? findNext(below) : below[0];
  for (const child of below) if (child !== next) others.push(child);
  while (next) {
    if (isDue()) yield;
    branches.push(next);
    const following: Branch | undefined = findNext(next.children);
    for (const child of next.children) if (child !== following) others.push(child);
    next = following;
  }
  return { branches, others };
}

/** Prefers one that isn't on the current branch, which comes later. */
function findNext(children: readonly Branch[]): Branch | undefined {
  const answers = children.filter(({ message }) => message.role !== "user");
  return answers.find(({ isCurrent }) => !isCurrent) ?? answers[0];
}

const sortByCurrent = (branches: Branch[]): Branch[] => [
  ...branches.filter(({ isCurrent }) => !isCurrent),
  ...branches.filter(({ isCurrent }) => isCurrent),
];
