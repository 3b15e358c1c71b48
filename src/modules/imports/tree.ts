import { createStepCounter, type Steps } from "./steps.ts";

/** The message of a node in the file. */
export type SourceMessage = {
  role: "system" | "user" | "assistant";
  content: string;
  at: Date | null;
  model: string | null;
};

/** A node of a conversation's tree in the file. If `message` is null, the node isn't imported. */
export type SourceNode = {
  id: string;
  parentId: string | null;
  /** In display order, if the file specifies one. */
  childIds: readonly string[];
  message: SourceMessage | null;
};

/** A node in the tree of imported messages. */
export type TreeNode = {
  message: SourceMessage;
  parent: TreeNode | null;
  children: TreeNode[];
  /** Whether the node is on the branch that was displayed last. */
  isCurrent: boolean;
};

/** `leaf` is the last message of the branch that was displayed last. */
export type Tree = { roots: TreeNode[]; leaf: TreeNode | null };

/** `indexes` maps ids to indexes in `nodes`. `parents` contains indexes, or -1 for nodes without a parent. */
type Links = { nodes: SourceNode[]; indexes: Map<string, number>; parents: Int32Array };

/**
 * Builds the tree of imported messages. If a message's parent isn't imported, its nearest imported ancestor becomes its
 * parent. A node becomes a root if its parent is missing, or if a cycle must be broken there. Not recursive, because a tree can
 * have a hundred thousand levels.
 * @param currentId the node that was displayed last.
 */
export function* buildTree(sourceNodes: readonly SourceNode[], currentId: string | null): Steps<Tree> {
  const links = yield* linkParents(sourceNodes);
  yield* breakCycles(links.parents);
  const children = yield* listChildren(links);
  const { nodes, indexes, parents } = links;
  const shouldYield = createStepCounter();
  const roots: TreeNode[] = [];
  const treeNodes: (TreeNode | null)[] = [];
  const stack: number[] = [];
  for (let index = nodes.length - 1; index >= 0; index -= 1) if (parents[index] === -1) stack.push(index);
  for (let index = stack.pop(); index !== undefined; index = stack.pop()) {
    if (shouldYield()) yield;
    const ancestor = treeNodes[parents[index] ?? -1] ?? null;
    const message = nodes[index]?.message;
    treeNodes[index] = message ? addNode(message, ancestor, roots) : ancestor;
    const childIndexes = children[index] ?? [];
    for (let at = childIndexes.length - 1; at >= 0; at -= 1) stack.push(childIndexes[at] as number);
  }
  const current = currentId === null ? undefined : indexes.get(currentId);
  const leaf = yield* findLeaf(roots, (current !== undefined && treeNodes[current]) || null);
  for (let current = leaf; current; current = current.parent) current.isCurrent = true;
  return { roots, leaf };
}

function addNode(message: SourceMessage, parent: TreeNode | null, roots: TreeNode[]): TreeNode {
  const node: TreeNode = { message, parent, children: [], isCurrent: false };
  (parent ? parent.children : roots).push(node);
  return node;
}

/** Determines each node's parent: from its parent field, or else from the parents' lists of children. */
function* linkParents(sourceNodes: readonly SourceNode[]): Steps<Links> {
  const shouldYield = createStepCounter();
  const indexes = new Map<string, number>();
  const nodes: SourceNode[] = [];
  for (const node of sourceNodes) {
    if (shouldYield()) yield;
    // If several nodes have the same id, references point to the first one. All nodes are kept.
    if (!indexes.has(node.id)) indexes.set(node.id, nodes.length);
    nodes.push(node);
  }
  const parents = new Int32Array(nodes.length).fill(-1);
  for (const [index, { childIds }] of nodes.entries()) {
    if (shouldYield()) yield;
    for (const id of childIds) {
      const child = indexes.get(id);
      if (child !== undefined && child !== index && parents[child] === -1) parents[child] = index;
    }
  }
  for (const [index, { parentId }] of nodes.entries()) {
    if (shouldYield()) yield;
    const parent = parentId === null ? undefined : indexes.get(parentId);
    if (parent !== undefined && parent !== index) parents[index] = parent;
  }
  return { nodes, indexes, parents };
}

/** Breaks each cycle by removing the parent of one node in it. */
function* breakCycles(parents: Int32Array): Steps<void> {
  const shouldYield = createStepCounter();
  /** For each node, the start of the traversal that visited it. */
  const visitedFrom = new Int32Array(parents.length).fill(-1);
  for (let start = 0; start < parents.length; start += 1)
    for (let index = start; index !== -1 && visitedFrom[index] === -1; index = parents[index] ?? -1) {
      if (shouldYield()) yield;
      visitedFrom[index] = start;
      if (visitedFrom[parents[index] ?? -1] === start) parents[index] = -1;
    }
}

/** Lists the children of each node: first those in the parent's list, in its order, and then the others in file order. */
function* listChildren({ nodes, indexes, parents }: Links): Steps<(number[] | undefined)[]> {
  const shouldYield = createStepCounter();
  const children: (number[] | undefined)[] = [];
  const isListed = new Uint8Array(nodes.length);
  const add = (parent: number, child: number) => {
    if (isListed[child]) return;
    isListed[child] = 1;
    const siblings = children[parent];
    if (siblings) siblings.push(child);
    else children[parent] = [child];
  };
  for (const [index, { childIds }] of nodes.entries()) {
    if (shouldYield()) yield;
    for (const id of childIds) {
      const child = indexes.get(id);
      if (child !== undefined && parents[child] === index) add(index, child);
    }
  }
  for (const [index, parent] of parents.entries()) {
    if (shouldYield()) yield;
    if (parent !== -1) add(parent, index);
  }
  return children;
}

/** Finds the last message of the current branch or, if there is no current message, of the most recent branch. */
function* findLeaf(roots: readonly TreeNode[], current: TreeNode | null): Steps<TreeNode | null> {
  if (!current) return yield* findNewestLeaf(roots);
  let leaf = current;
  for (let next = leaf.children.at(-1); next; next = leaf.children.at(-1)) leaf = next;
  return leaf;
}

function* findNewestLeaf(roots: readonly TreeNode[]): Steps<TreeNode | null> {
  const shouldYield = createStepCounter();
  let newest: TreeNode | null = null;
  let newestMs = Number.NEGATIVE_INFINITY;
  const stack = [...roots].reverse();
  for (let node = stack.pop(); node; node = stack.pop()) {
    if (shouldYield()) yield;
    const atMs = node.message.at?.getTime() ?? 0;
    if (node.children.length === 0 && atMs >= newestMs) {
      newest = node;
      newestMs = atMs;
    }
    for (let at = node.children.length - 1; at >= 0; at -= 1) stack.push(node.children[at] as TreeNode);
  }
  return newest;
}
