import { expect, setDefaultTimeout, test } from "bun:test";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { parseBlocks } from "./blocks.ts";
import { findExpected, isExpected } from "./expected-output.ts";
import { replacePorts } from "./ports.ts";
import { type GuideOptions, runBlocks } from "./run-guide.ts";

setDefaultTimeout(60_000);

/** Runs a page whose fences are written as `'''`. */
const runPage = (page: string, options?: GuideOptions) =>
  runBlocks(parseBlocks("page.md", page.replaceAll("'''", "```")), options);

const page = `
'''sh background
DATA_DIR=here parley serve
'''

'''sh
NAME=Ada
curl -sS -H 'Content-Type: application/json' localhost:3000/api/v1/auth/register \\
  -d '{"email":"ada@example.com","password":"correct horse battery"}' | jq .user
'''

'''text output
{
  "id": "0199a3b2-7c1e-7d21-8f4e-5b6a7c8d9e0f",
  "email": "ada@example.com",
…
  "created_at": "2026-01-31T12:00:00.000Z"
}
'''

1. A step of a list:

   '''py file=hello.py
   import sys
   for line in sys.stdin:
     print("Hello,", line.strip(), flush=True)
   '''

'''sh background terminal=bob
python3 hello.py
'''

'''text input terminal=bob
Bob
'''

'''text output terminal=bob
Hello, Bob
'''

'''sh
echo "still $NAME"; read -r LINE; echo "read $LINE"
'''

'''text input
a line
'''

'''text output
still Ada
read a line
'''

'''sh exit=2
parley nonsense
'''

'''sh terminal=bob
echo "\${NAME:-nobody}"
'''

`;

test("a page runs from top to bottom in several terminals", async () => {
  let folderPath = "";
  await runPage(page, {
    async checkResults({ folder, url, readScreen }) {
      folderPath = folder;
      expect((await fetch(`${url}/livez`)).status).toBe(200);
      // Ctrl+C stopped the program, and the next block was typed into the same terminal.
      expect(readScreen("bob")).toMatch(/^Hello, Bob\n(?:.*\n)*nobody\n$/);
      expect(existsSync(join(folder, "here"))).toBe(true);
    },
  });
  expect(existsSync(folderPath)).toBe(false);
});

test.each([
  ["a command that fails", "'''sh\nfalse\necho end\n'''", "page.md:1 exited with status 1."],
  ["a variable that is not set", "'''sh\necho $MISSING\n'''", "exited with status 1"],
  ["a command that should fail but doesn't", "'''sh exit=1\ntrue\n'''", "exited with status 0."],
  ["a different output", "'''sh\necho one\n'''\n\n'''text output\ntwo\n'''", "page.md:5 doesn't match the output"],
  ["more output than shown", "'''sh\necho one; echo two\n'''\n'''text output\none\n'''", "doesn't match the output"],
  ["an error from the server", "'''sh\ncurl -sS localhost:3000/api/v1/me\n'''", "received an error from the server"],
  ["a block that can't be run", "'''go\npackage main\n'''", "can't be run"],
  ["a server that exits", "'''sh background\nPORT=nonsense parley serve\n'''", "exited, but should have kept running"],
])("a page fails because of %s", async (_, text, message) => {
  await expect(runPage(text)).rejects.toThrow(message);
});

test("unknown options of a block are rejected", () => {
  expect(() => parseBlocks("page.md", "```sh backgruond\nx\n```\n")).toThrow(
    'page.md:1: "backgruond" is not an option',
  );
});

test("expected output can contain wildcards, and ids and times can differ", () => {
  const id = "0199a3b2-7c1e-7d21-8f4e-5b6a7c8d9e0f";
  expect(isExpected("a 1\nb\nc\n", "a …\n…\nc")).toBe(true);
  expect(isExpected("a 1\nc\n", "a …\n…\nc")).toBe(true);
  expect(isExpected("a 1\nb\n", "a …\n…\nc")).toBe(false);
  expect(isExpected(`{"id":"${crypto.randomUUID()}"}`, `{"id":"${id}"}`)).toBe(true);
  expect(isExpected('{"id":"1"}', `{"id":"${id}"}`)).toBe(false);
  expect(isExpected("at 2027-02-03T04:05:06.789Z", "at 2026-01-31T12:00:00Z")).toBe(true);
  expect(isExpected("(node:1) ExperimentalWarning: x\n(Use `node --trace-warnings ...`)\n1.5", "1.5")).toBe(true);
  expect(isExpected("125", "1.5")).toBe(false);
  expect(findExpected("first\nsecond\nthird\n", "second")).toBe("first\nsecond".length);
  expect(findExpected("a second\n", "second")).toBe(-1);
});

test("ports are replaced, but other numbers aren't", () => {
  const ports = new Map([[3000, 40001]]);
  expect(replacePorts("localhost:3000/x PORT=3000 server.listen(3000) sleep(3000) :30001", ports)).toBe(
    "localhost:40001/x PORT=40001 server.listen(40001) sleep(3000) :30001",
  );
});
