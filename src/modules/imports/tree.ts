import { createStepCounter, type Steps } from "./steps.ts";

/** The content of one node in the file. */
export type SourceMessage = {
  role: "system" | "user" | "assistant";
  content: string;
  at: Date | null;
  model: string | null;
};

/** A node of a conversation's tree, as read. `message` is null if it isn't imported. */
export type SourceNode = {
  id: string;
  parentId: string | null;
  /** In order, if the file gives one. */
  childIds: readonly string[];
  message: SourceMessage | null;
};

/** A message in the tree of imported messages. */
export type Branch = {
  message: SourceMessage;
  parent: Branch | null;
  children: Branch[];
  /** Whether it is on the branch that the user saw last. */
  isCurrent: boolean;
};

/** `leaf` is the end of the branch that the user saw last. */
export type Tree = { roots: Branch[]; leaf: Branch | null };

/** Nodes by index; -1: none. */
type Links = { nodes: SourceNode[]; indexes: Map<string, number>; parents: Int32Array };

/**
 * Builds the tree of imported messages: a message whose parent isn't imported gets its nearest imported ancestor. A node
 * with a missing parent, or one in a cycle, becomes a root. Iterative, because a tree may be a hundred thousand deep.
 * @param currentId the node that the user saw last.
 */
export function* buildTree(sourceNodes: readonly SourceNode[], currentId: string | null): Steps<Tree> {
  const links = yield* linkParents(sourceNodes);
  yield* breakCircles(links.parents);
  const children = yield* listChildren(links);
  const { nodes, indexes, parents } = links;
  const isDue = createStepCounter();
  const roots: Branch[] = [];
  const branches: (Branch | null)[] = [];
  const waiting: number[] = [];
  for (let index = nodes.length - 1; index >= 0; index -= 1) if (parents[index] === -1) waiting.push(index);
  for (let index = waiting.pop(); index !== undefined; index = waiting.pop()) {
    if (isDue()) yield;
    const above = branches[parents[index] ?? -1] ?? null;
    const message = nodes[index]?.message;
    branches[index] = message ? place(message, above, roots) : above;
    const below = children[index] ?? [];
    for (let at = below.length - 1; at >= 0; at -= 1) waiting.push(below[at] as number);
  }
  const current = currentId === null ? undefined : indexes.get(currentId);
  const leaf = yield* findLeaf(roots, (current !== undefined && branches[current]) || null);
  for (let branch = leaf; branch; branch = branch.parent) branch.isCurrent = true;
  return { roots, leaf };
}

function place(message: SourceMessage, parent: Branch | null, roots: Branch[]): Branch {
  const branch: Branch = { message, parent, children: [], isCurrent: false };
  (parent ? parent.children : roots).push(branch);
  return branch;
}

/** Uses the nodes' parent fields, or else the parents' child lists. */
function* linkParents(sourceNodes: readonly SourceNode[]): Steps<Links> {
  const isDue = createStepCounter();
  const indexes = new Map<string, number>();
  const nodes: SourceNode[] = [];
  for (const node of sourceNodes) {
    if (isDue()) yield;
    // If ids repeat, references mean the first node; none is lost.
    if (!indexes.has(node.id)) indexes.set(node.id, nodes.length);
    nodes.push(node);
  }
  const parents = new Int32Array(nodes.length).fill(-1);
  for (const [index, { childIds }] of nodes.entries()) {
    if (isDue()) yield;
    for (const id of childIds) {
      const child = indexes.get(id);
      if (child !== undefined && child !== index && parents[child] === -1) parents[child] = index;
    }
  }
  for (const [index, { parentId }] of nodes.entries()) {
    if (isDue()) yield;
    const parent = parentId === null ? undefined : indexes.get(parentId);
    if (parent !== undefined && parent !== index) parents[index] = parent;
  }
  return { nodes, indexes, parents };
}

/** Breaks cycles by removing one node's parent in each. */
function* breakCircles(parents: Int32Array): Steps<void> {
  const isDue = createStepCounter();
  /** The walk in which a node was visited. */
  const walks = new Int32Array(parents.length).fill(-1);
  for (let start = 0; start < parents.length; start += 1)
    for (let index = start; index !== -1 && walks[index] === -1; index = parents[index] ?? -1) {
      if (isDue()) yield;
      walks[index] = start;
      if (walks[parents[index] ?? -1] === start) parents[index] = -1;
    }
}

/** In the parent's order, then in file order. */
function* listChildren({ nodes, indexes, parents }: Links): Steps<(number[] | undefined)[]> {
  const isDue = createStepCounter();
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
    if (isDue()) yield;
    for (const id of childIds) {
      const child = indexes.get(id);
      if (child !== undefined && parents[child] === index) add(index, child);
    }
  }
  for (const [index, parent] of parents.entries()) {
    if (isDue()) yield;
    if (parent !== -1) add(parent, index);
  }
  return children;
}

/** The end of the branch through the current message; without one, of the most recent branch. */
function* findLeaf(roots: readonly Branch[], current: Branch | null): Steps<Branch | null> {
  if (!current) return yield* findNewestLeaf(roots);
  let leaf = current;
  for (let next = leaf.children.at(-1); next; next = leaf.children.at(-1)) leaf = next;
  return leaf;
}

function* findNewestLeaf(roots: readonly Branch[]): Steps<Branch | null> {
  const isDue = createStepCounter();
  let newest: Branch | null = null;
  let newestMs = Number.NEGATIVE_INFINITY;
  const waiting = [...roots].reverse();
  for (let branch = waiting.pop(); branch; branch = waiting.pop()) {
    if (isDue()) yield;
    const atMs = branch.message.at?.getTime() ?? 0;
    if (branch.children.length === 0 && atMs >= newestMs) {
      newest = branch;
      newestMs = atMs;
    }
    for (let at = branch.children.length - 1; at >= 0; at -= 1) waiting.push(branch.children[at] as Branch);
  }
  return newest;
}
