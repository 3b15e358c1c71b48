import { afterAll, beforeAll, expect, test } from "bun:test";
import fc from "fast-check";
import { orderMessages } from "../../src/modules/imports/order.ts";
import { runSteps } from "../../src/modules/imports/steps.ts";
import { buildTree, type SourceNode } from "../../src/modules/imports/tree.ts";
import type { Message } from "../../src/protocol/message.ts";
import { type Account, startApp, type TestApp } from "../support/app.ts";
import { createChatGptConversation, importFile } from "../support/imports.ts";
import { scaleRuns } from "../support/property-tests.ts";

let parley: TestApp;
let account: Account;

beforeAll(async () => {
  parley = await startApp();
  account = await parley.register();
});
afterAll(() => parley.stop());

type PlannedMessage = { parent: number | null; role: "user" | "assistant" };

/** Trees like those in real conversations, where users write and edit messages, and models answer one or more times. */
const trees = fc
  .array(fc.record({ offset: fc.nat(), isRoot: fc.integer({ min: 0, max: 9 }) }), { minLength: 1, maxLength: 25 })
  .map((steps) => {
    const planned: PlannedMessage[] = [];
    for (const { offset, isRoot } of steps) {
      const parent = planned.length === 0 || isRoot === 0 ? null : offset % planned.length;
      const role = parent !== null && planned[parent]?.role === "user" ? "assistant" : "user";
      planned.push({ parent, role });
    }
    return planned;
  });

function listAncestors(planned: PlannedMessage[], index: number): string[] {
  const names: string[] = [];
  for (let at: number | null = index; at !== null; at = planned[at]?.parent ?? null) names.push(`m${at}`);
  return names;
}

test("messages in a realistic tree keep their ancestors, and the current message is stored last", async () => {
  let n = 0;
  await fc.assert(
    fc.asyncProperty(trees, fc.nat(), async (planned, current) => {
      n += 1;
      const messages = Object.fromEntries(
        planned.map(({ parent, role }, at) => [`m${at}`, { role, parent: parent === null ? "root" : `m${parent}` }]),
      );
      const leaves = planned.map((_, at) => at).filter((at) => !planned.some(({ parent }) => parent === at));
      const leaf = leaves[current % leaves.length] ?? 0;
      const id = `tree-${n}`;
      const result = await importFile(parley, account, "chatgpt", [
        createChatGptConversation(id, messages, { current_node: `m${leaf}` }),
      ]);
      expect(result).toMatchObject({ status: "done", imported: 1 });
      const rows = await parley.database<Pick<Message, "seq" | "content" | "conversation_id">[]>`
        select m.seq, m.content, m.conversation_id from import_sources s
        join messages m on m.conversation_id = s.conversation_id where s.source_id = ${id} order by m.seq`;
      expect(rows.map(({ seq }) => seq)).toEqual(rows.map((_, at) => at + 1));
      expect(rows.at(-1)?.content).toBe(`m${leaf}`);
      expect(
        rows
          .map(({ content }) => content)
          .filter((content) => content !== "")
          .sort(),
      ).toEqual(Object.keys(messages).sort());
      for (const { seq, content, conversation_id } of rows) {
        if (content === "") continue;
        const path = await parley.database<{ content: string | null }[]>`
          select content from list_path(${conversation_id}, ${seq}, 5000, 1000000, null, false)`;
        const names = path.flatMap((row) => row.content ?? []);
        expect(names).toEqual(listAncestors(planned, Number(content.slice(1))));
      }
    }),
    { numRuns: scaleRuns(40) },
  );
}, 60_000);

const names = ["a", "b", "c", "d", "e", "f"];
const anyNodes = fc.array(
  fc.record({
    id: fc.constantFrom(...names),
    parentId: fc.option(fc.constantFrom(...names, "missing")),
    childIds: fc.array(fc.constantFrom(...names, "missing"), { maxLength: 3 }),
    message: fc.option(
      fc.record({
        role: fc.constantFrom("system" as const, "user" as const, "assistant" as const),
        content: fc.constantFrom(...names),
        at: fc.constant(null),
        model: fc.constant(null),
      }),
    ),
  }),
  { maxLength: 8 },
);

test("orderMessages returns each message of any tree once, after its parent", () => {
  fc.assert(
    fc.property(anyNodes, fc.option(fc.constantFrom(...names)), (nodes: SourceNode[], currentId) => {
      const tree = runSteps(buildTree(nodes, currentId));
      const ordered = runSteps(orderMessages(tree));
      const messages = nodes.flatMap(({ message }) => message ?? []);
      const orderedMessages = ordered.flatMap(({ node }) => node?.message ?? []);
      expect(new Set(orderedMessages)).toEqual(new Set(messages));
      expect(orderedMessages).toHaveLength(messages.length);
      for (const [index, { parent }] of ordered.entries()) expect(parent ?? -1).toBeLessThan(index);
      if (tree.leaf) expect(ordered.at(-1)?.node).toBe(tree.leaf);
    }),
  );
});

test("orderMessages supports a branch of 100,000 messages", () => {
  const count = 100_000;
  const nodes = Array.from(
    { length: count },
    (_, n): SourceNode => ({
      id: `n${n}`,
      parentId: n === 0 ? null : `n${n - 1}`,
      childIds: [`n${n + 1}`],
      message: { role: n % 2 === 0 ? "user" : "assistant", content: `${n}`, at: null, model: null },
    }),
  ).reverse();
  const ordered = runSteps(orderMessages(runSteps(buildTree(nodes, null))));
  expect(ordered).toHaveLength(count);
  expect(ordered.every(({ node, parent }, at) => node?.message.content === `${at}` && (parent ?? -1) === at - 1)).toBe(
    true,
  );
});
