import { createStepCounter, type Steps } from "./steps.ts";
import type { Tree, TreeNode } from "./tree.ts";

/** An entry of the ordered list; `parent` is the index of an earlier entry. */
export type OrderedMessage = { node: TreeNode | null; parent: number | null };

/**
 * Messages that each directly follow the previous one. `branchStarts` are their other children, which start new chains.
 */
type Chain = { nodes: TreeNode[]; branchStarts: TreeNode[] };

/**
 * Orders the messages so that every branch can be followed from its end (sql/functions/list_path.sql). From a user
 * message the path continues at its parent, wherever that is. From a response it continues at the message directly
 * before it, or, for an additional response, before its parent's first response. So the first response must directly
 * follow its parent.
 *
 * The branch of `leaf` comes last, so that the next message continues it. If there are several first messages, the list
 * starts with a message without text (`node` is null) as their common parent.
 */
export function* orderMessages({ roots, leaf }: Tree): Steps<OrderedMessage[]> {
  const shouldYield = createStepCounter();
  const ordered: OrderedMessage[] = [];
  const indexes = new Map<TreeNode, number>();
  const first = yield* collectChain(null, roots);
  const hasRoot = roots.length > 1 || (first.branchStarts.length > 0 && first.nodes.at(-1) === leaf);
  if (hasRoot) ordered.push({ node: null, parent: null });

  function* appendChain({ nodes }: Chain): Steps<void> {
    for (const node of nodes) {
      if (shouldYield()) yield;
      let ancestor = node.parent;
      while (ancestor && !indexes.has(ancestor)) ancestor = ancestor.parent;
      const parent = ancestor ? indexes.get(ancestor) : undefined;
      indexes.set(node, ordered.length);
      ordered.push({ node, parent: parent ?? (hasRoot ? 0 : null) });
    }
  }

  /** First messages of chains, and chains that are postponed until the branches within them are in the list. */
  const stack: (TreeNode | Chain)[] = [first];
  const add = (starts: TreeNode[]) => {
    for (const start of sortCurrentLast(starts).reverse()) stack.push(start);
  };
  for (let next = stack.pop(); next; next = stack.pop()) {
    const chain = "nodes" in next ? next : yield* collectChain(next, next.children);
    const { nodes, branchStarts } = chain;
    // The current branch comes last: branches that start within its chain precede it, so their paths continue at the
    // message before the chain.
    if (leaf && branchStarts.length > 0 && nodes.at(-1) === leaf) stack.push({ nodes, branchStarts: [] });
    else yield* appendChain(chain);
    add(branchStarts);
  }
  return ordered;
}

/** Collects a message and the responses that directly follow it. */
function* collectChain(start: TreeNode | null, children: readonly TreeNode[]): Steps<Chain> {
  const shouldYield = createStepCounter();
  const nodes = start ? [start] : [];
  const branchStarts: TreeNode[] = [];
  // Without a start, a single root begins the chain.
  let next = start || children.length > 1 ? findDirectFollower(children) : children[0];
  for (const child of children) if (child !== next) branchStarts.push(child);
  while (next) {
    if (shouldYield()) yield;
    nodes.push(next);
    const following: TreeNode | undefined = findDirectFollower(next.children);
    for (const child of next.children) if (child !== following) branchStarts.push(child);
    next = following;
  }
  return { nodes, branchStarts };
}

/** Finds the response that follows directly. Prefers one that isn't on the current branch, because that comes last. */
function findDirectFollower(children: readonly TreeNode[]): TreeNode | undefined {
  const responses = children.filter(({ message }) => message.role !== "user");
  return responses.find(({ isCurrent }) => !isCurrent) ?? responses[0];
}

const sortCurrentLast = (nodes: TreeNode[]): TreeNode[] => [
  ...nodes.filter(({ isCurrent }) => !isCurrent),
  ...nodes.filter(({ isCurrent }) => isCurrent),
];
