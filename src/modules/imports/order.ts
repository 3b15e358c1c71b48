import { createStepCounter, type Steps } from "./steps.ts";
import type { Tree, TreeNode } from "./tree.ts";

/** An entry of the ordered list. `parent` is the index of an earlier entry. */
export type OrderedMessage = { node: TreeNode | null; parent: number | null };

/** A chain of consecutive messages on a branch. `branchStarts` are the other children of these messages; each starts a new chain. */
type Chain = { nodes: TreeNode[]; branchStarts: TreeNode[] };

/**
 * Orders the messages so that sql/functions/list_path.sql can follow every branch back to its start. From a user message, that
 * function continues to the message's parent, wherever the parent is in the list. From an answer, it continues to the entry directly
 * before the first answer to the same message. Therefore, the first answer to a message must directly follow the message.
 *
 * The branch of `leaf` comes last, so that the next message of the conversation continues it. If the conversation has several first
 * messages, the list starts with an empty message (`node` is null) as their common parent.
 */
export function* orderMessages({ roots, leaf }: Tree): Steps<OrderedMessage[]> {
  const shouldYield = createStepCounter();
  const orderedMessages: OrderedMessage[] = [];
  const indexesByNode = new Map<TreeNode, number>();
  const firstChain = yield* collectChain(null, roots);
  const needsCommonRoot = roots.length > 1 || (firstChain.branchStarts.length > 0 && firstChain.nodes.at(-1) === leaf);
  if (needsCommonRoot) orderedMessages.push({ node: null, parent: null });

  function* appendChain({ nodes }: Chain): Steps<void> {
    for (const node of nodes) {
      if (shouldYield()) yield;
      let ancestor = node.parent;
      while (ancestor && !indexesByNode.has(ancestor)) ancestor = ancestor.parent;
      const parent = ancestor ? indexesByNode.get(ancestor) : undefined;
      indexesByNode.set(node, orderedMessages.length);
      orderedMessages.push({ node, parent: parent ?? (needsCommonRoot ? 0 : null) });
    }
  }

  /** The remaining work: the first messages of chains, and chains that must follow the branches that start in them. */
  const stack: (TreeNode | Chain)[] = [firstChain];
  const pushBranches = (starts: TreeNode[]) => {
    for (const branchStart of sortCurrentLast(starts).reverse()) stack.push(branchStart);
  };
  for (let entry = stack.pop(); entry; entry = stack.pop()) {
    const chain = "nodes" in entry ? entry : yield* collectChain(entry, entry.children);
    const { nodes, branchStarts } = chain;
    // The current branch comes last, so branches that start within its chain precede it.
    if (leaf && branchStarts.length > 0 && nodes.at(-1) === leaf) stack.push({ nodes, branchStarts: [] });
    else yield* appendChain(chain);
    pushBranches(branchStarts);
  }
  return orderedMessages;
}

/** Collects a message and the answers that directly follow it. @param children the children of `start`, or the roots if it is null. */
function* collectChain(start: TreeNode | null, children: readonly TreeNode[]): Steps<Chain> {
  const shouldYield = createStepCounter();
  const nodes = start ? [start] : [];
  const branchStarts: TreeNode[] = [];
  // If there is no start message and only one root, the chain starts with the root.
  let next = start || children.length > 1 ? findDirectFollower(children) : children[0];
  for (const child of children) if (child !== next) branchStarts.push(child);
  while (next) {
    if (shouldYield()) yield;
    nodes.push(next);
    const nextFollower: TreeNode | undefined = findDirectFollower(next.children);
    for (const child of next.children) if (child !== nextFollower) branchStarts.push(child);
    next = nextFollower;
  }
  return { nodes, branchStarts };
}

/**
 * Finds the answer to place directly after a message. Prefers an answer that isn't on the current branch, because that branch comes
 * last.
 */
function findDirectFollower(children: readonly TreeNode[]): TreeNode | undefined {
  const responses = children.filter(({ message }) => message.role !== "user");
  return responses.find(({ isCurrent }) => !isCurrent) ?? responses[0];
}

const sortCurrentLast = (nodes: TreeNode[]): TreeNode[] => [
  ...nodes.filter(({ isCurrent }) => !isCurrent),
  ...nodes.filter(({ isCurrent }) => isCurrent),
];
