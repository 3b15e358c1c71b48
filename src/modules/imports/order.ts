import { createStepCounter, type Steps } from "./steps.ts";
import type { Branch, Tree } from "./tree.ts";

/** A message with its place: `parent` is an index in the same list, of an earlier one. */
export type Placed = { branch: Branch | null; parent: number | null };

/** Messages of which each stands right after the one before it; `others` begin runs of their own. */
type Run = { branches: Branch[]; others: Branch[] };

/**
 * The messages in an order in which every branch is found again from its end (sql/functions/list_path.sql): a user's message
 * goes back to its parent, wherever that is; an answer goes back to the message before it, or, if it is a further answer, to where
 * the first answer to its parent stands. So the first answer has to follow its parent at once.
 *
 * The branch of `leaf` comes last, so that the next message goes on there. Where several branches begin with their first message,
 * the list starts with a message without a text (`branch` is null), from which all of them branch off.
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

  /** Where runs begin, and the last one once what branches off within it is placed. */
  const waiting: (Branch | Run)[] = [first];
  const add = (starts: Branch[]) => {
    for (const start of sortByCurrent(starts).reverse()) waiting.push(start);
  };
  for (let next = waiting.pop(); next; next = waiting.pop()) {
    const run = "branches" in next ? next : yield* collectRun(next, next.children);
    const { branches, others } = run;
    // What branches off within the last run has to stand before it, and goes back to what is above the run.
    if (leaf && others.length > 0 && branches.at(-1) === leaf) waiting.push({ branches, others: [] });
    else yield* emit(run);
    add(others);
  }
  return placed;
}

/** A message with the answers that follow it at once. */
function* collectRun(start: Branch | null, below: readonly Branch[]): Steps<Run> {
  const isDue = createStepCounter();
  const branches = start ? [start] : [];
  const others: Branch[] = [];
  // Of beginnings, only a single one is the first message.
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

/** Rather one that is not on the current branch, which comes later. */
function findNext(children: readonly Branch[]): Branch | undefined {
  const answers = children.filter(({ message }) => message.role !== "user");
  return answers.find(({ isCurrent }) => !isCurrent) ?? answers[0];
}

const sortByCurrent = (branches: Branch[]): Branch[] => [
  ...branches.filter(({ isCurrent }) => !isCurrent),
  ...branches.filter(({ isCurrent }) => isCurrent),
];
