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

/** `indexesById` maps ids to indexes in `nodes`. `parentIndexes` contains -1 for nodes without a parent. */
type Links = { nodes: SourceNode[]; indexesById: Map<string, number>; parentIndexes: Int32Array };

/**
 * Builds the tree of imported messages. If a message's parent isn't imported, its nearest imported ancestor becomes its
 * parent. A node becomes a root if its parent is missing, or if a cycle must be broken there. The function is not recursive, because a
 * tree can have a hundred thousand levels.
 * @param currentId the node that was displayed last.
 */
export function* buildTree(sourceNodes: readonly SourceNode[], currentId: string | null): Steps<Tree> {
  const links = yield* linkParents(sourceNodes);
  yield* breakCycles(links.parentIndexes);
  const children = yield* listChildren(links);
  const { nodes, indexesById, parentIndexes } = links;
  const shouldYield = createStepCounter();
  const roots: TreeNode[] = [];
  const treeNodes: (TreeNode | null)[] = [];
  const stack: number[] = [];
  for (let index = nodes.length - 1; index >= 0; index -= 1) if (parentIndexes[index] === -1) stack.push(index);
  for (let index = stack.pop(); index !== undefined; index = stack.pop()) {
    if (shouldYield()) yield;
    const ancestor = treeNodes[parentIndexes[index] ?? -1] ?? null;
    const message = nodes[index]?.message;
    treeNodes[index] = message ? addNode(message, ancestor, roots) : ancestor;
    const childIndexes = children[index] ?? [];
    for (let nth = childIndexes.length - 1; nth >= 0; nth -= 1) stack.push(childIndexes[nth] as number);
  }
  const currentIndex = currentId === null ? undefined : indexesById.get(currentId);
  const leaf = yield* findLeaf(roots, (currentIndex !== undefined && treeNodes[currentIndex]) || null);
  for (let node = leaf; node; node = node.parent) node.isCurrent = true;
  return { roots, leaf };
}

function addNode(message: SourceMessage, parent: TreeNode | null, roots: TreeNode[]): TreeNode {
  const node: TreeNode = { message, parent, children: [], isCurrent: false };
  (parent ? parent.children : roots).push(node);
  return node;
}

/** Determines each node's parent: from the node's own parent field, or else from the lists of children of other nodes. */
function* linkParents(sourceNodes: readonly SourceNode[]): Steps<Links> {
  const shouldYield = createStepCounter();
  const indexesById = new Map<string, number>();
  const nodes: SourceNode[] = [];
  for (const node of sourceNodes) {
    if (shouldYield()) yield;
    // If several nodes have the same id, references point to the first one. All nodes are kept.
    if (!indexesById.has(node.id)) indexesById.set(node.id, nodes.length);
    nodes.push(node);
  }
  const parentIndexes = new Int32Array(nodes.length).fill(-1);
  for (const [index, { childIds }] of nodes.entries()) {
    if (shouldYield()) yield;
    for (const id of childIds) {
      const child = indexesById.get(id);
      if (child !== undefined && child !== index && parentIndexes[child] === -1) parentIndexes[child] = index;
    }
  }
  for (const [index, { parentId }] of nodes.entries()) {
    if (shouldYield()) yield;
    const parent = parentId === null ? undefined : indexesById.get(parentId);
    if (parent !== undefined && parent !== index) parentIndexes[index] = parent;
  }
  return { nodes, indexesById, parentIndexes };
}

/** Breaks each cycle by removing the parent of one node in it. */
function* breakCycles(parentIndexes: Int32Array): Steps<void> {
  const shouldYield = createStepCounter();
  /** For each node, the start of the traversal that visited it. */
  const visitedFrom = new Int32Array(parentIndexes.length).fill(-1);
  for (let startIndex = 0; startIndex < parentIndexes.length; startIndex += 1)
    for (let index = startIndex; index !== -1 && visitedFrom[index] === -1; index = parentIndexes[index] ?? -1) {
      if (shouldYield()) yield;
      visitedFrom[index] = startIndex;
      if (visitedFrom[parentIndexes[index] ?? -1] === startIndex) parentIndexes[index] = -1;
    }
}

/** Lists the children of each node: first the children in the node's own list, in that order, and then the others in file order. */
function* listChildren({ nodes, indexesById, parentIndexes }: Links): Steps<(number[] | undefined)[]> {
  const shouldYield = createStepCounter();
  const children: (number[] | undefined)[] = [];
  const isListed = new Uint8Array(nodes.length);
  const addChild = (parent: number, child: number) => {
    if (isListed[child]) return;
    isListed[child] = 1;
    const siblings = children[parent];
    if (siblings) siblings.push(child);
    else children[parent] = [child];
  };
  for (const [index, { childIds }] of nodes.entries()) {
    if (shouldYield()) yield;
    for (const id of childIds) {
      const child = indexesById.get(id);
      if (child !== undefined && parentIndexes[child] === index) addChild(index, child);
    }
  }
  for (const [index, parent] of parentIndexes.entries()) {
    if (shouldYield()) yield;
    if (parent !== -1) addChild(parent, index);
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
  let newestLeaf: TreeNode | null = null;
  let newestMs = Number.NEGATIVE_INFINITY;
  const stack = [...roots].reverse();
  for (let node = stack.pop(); node; node = stack.pop()) {
    if (shouldYield()) yield;
    const atMs = node.message.at?.getTime() ?? 0;
    if (node.children.length === 0 && atMs >= newestMs) {
      newestLeaf = node;
      newestMs = atMs;
    }
    for (let nth = node.children.length - 1; nth >= 0; nth -= 1) stack.push(node.children[nth] as TreeNode);
  }
  return newestLeaf;
}
