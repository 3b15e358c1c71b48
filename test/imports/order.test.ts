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

/** Trees as in real conversations, in which users write and edit messages, and models answer each message once or more. */
const treeArbitrary = fc
  .array(fc.record({ parentChoice: fc.nat(), rootChoice: fc.integer({ min: 0, max: 9 }) }), {
    minLength: 1,
    maxLength: 25,
  })
  .map((steps) => {
    const plannedMessages: PlannedMessage[] = [];
    for (const { parentChoice, rootChoice } of steps) {
      const parent = plannedMessages.length === 0 || rootChoice === 0 ? null : parentChoice % plannedMessages.length;
      const role = parent !== null && plannedMessages[parent]?.role === "user" ? "assistant" : "user";
      plannedMessages.push({ parent, role });
    }
    return plannedMessages;
  });

function listAncestors(plannedMessages: PlannedMessage[], index: number): string[] {
  const names: string[] = [];
  for (let ancestor: number | null = index; ancestor !== null; ancestor = plannedMessages[ancestor]?.parent ?? null)
    names.push(`m${ancestor}`);
  return names;
}

test("messages in a realistic tree keep their ancestors, and the current message is stored last", async () => {
  let treeCount = 0;
  await fc.assert(
    fc.asyncProperty(treeArbitrary, fc.nat(), async (plannedMessages, leafChoice) => {
      treeCount += 1;
      const messages = Object.fromEntries(
        plannedMessages.map(({ parent, role }, index) => [
          `m${index}`,
          { role, parent: parent === null ? "root" : `m${parent}` },
        ]),
      );
      const leaves = plannedMessages
        .map((_, index) => index)
        .filter((index) => !plannedMessages.some(({ parent }) => parent === index));
      const leaf = leaves[leafChoice % leaves.length] ?? 0;
      const id = `tree-${treeCount}`;
      const result = await importFile(parley, account, "chatgpt", [
        createChatGptConversation(id, messages, { current_node: `m${leaf}` }),
      ]);
      expect(result).toMatchObject({ status: "done", imported: 1 });
      const rows = await parley.database<Pick<Message, "seq" | "content" | "conversation_id">[]>`
        select m.seq, m.content, m.conversation_id from import_sources s
        join messages m on m.conversation_id = s.conversation_id where s.source_id = ${id} order by m.seq`;
      expect(rows.map(({ seq }) => seq)).toEqual(rows.map((_, index) => index + 1));
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
        expect(names).toEqual(listAncestors(plannedMessages, Number(content.slice(1))));
      }
    }),
    { numRuns: scaleRuns(40) },
  );
}, 60_000);

const names = ["a", "b", "c", "d", "e", "f"];
const nodesArbitrary = fc.array(
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
    fc.property(nodesArbitrary, fc.option(fc.constantFrom(...names)), (nodes: SourceNode[], currentId) => {
      const tree = runSteps(buildTree(nodes, currentId));
      const orderedNodes = runSteps(orderMessages(tree));
      const messages = nodes.flatMap(({ message }) => message ?? []);
      const orderedMessages = orderedNodes.flatMap(({ node }) => node?.message ?? []);
      expect(new Set(orderedMessages)).toEqual(new Set(messages));
      expect(orderedMessages).toHaveLength(messages.length);
      for (const [index, { parent }] of orderedNodes.entries()) expect(parent ?? -1).toBeLessThan(index);
      if (tree.leaf) expect(orderedNodes.at(-1)?.node).toBe(tree.leaf);
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
  const orderedNodes = runSteps(orderMessages(runSteps(buildTree(nodes, null))));
  expect(orderedNodes).toHaveLength(count);
  expect(
    orderedNodes.every(
      ({ node, parent }, index) => node?.message.content === `${index}` && (parent ?? -1) === index - 1,
    ),
  ).toBe(true);
});
