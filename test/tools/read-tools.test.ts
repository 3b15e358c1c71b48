import { expect, test } from "bun:test";
import { convertTools } from "../../src/modules/tools/mcp/convert-tools.ts";

test("a tool with an oversized schema or an unresolvable reference is left out", () => {
  const references = Array.from({ length: 10_000 }, (_, index) => ({ $ref: `#/nowhere/${index}` }));
  const { tools, problems } = convertTools("wiki", [
    { name: "long", inputSchema: { type: "object", default: references } },
    { name: "short", inputSchema: { type: "object", default: references.slice(0, 1) } },
    { name: "valid", inputSchema: { type: "object", $defs: { a: {} }, properties: { a: { $ref: "#/$defs/a" } } } },
  ]);
  expect(tools.map(({ name }) => name)).toEqual(["wiki_valid"]);
  expect(problems).toEqual([
    expect.stringMatching(/"long": the schema has more than \d+ characters/),
    '"short": a $ref points to nothing in the schema',
  ]);
});
