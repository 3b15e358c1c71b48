import { afterEach, beforeEach, expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { createSite, type Parley, type Site, TEST_TIMEOUT_MS } from "./site.ts";

setDefaultTimeout(TEST_TIMEOUT_MS);

let site: Site;
let parley: Parley;
// A new folder for each: both create the same account.
beforeEach(async () => {
  site = await createSite();
  parley = await site.start();
});
afterEach(() => site?.remove());

/** The shell snippets to type while Parley runs, as printed. */
function readSnippets(path: string): string[] {
  const markdown = readFileSync(join(import.meta.dir, "../..", path), "utf8");
  const blocks = [...markdown.matchAll(/^```sh\n(.*?)^```$/gms)].map(([, block = ""]) => block);
  // Snippets that start the server, or contain placeholders, can't be run unchanged.
  return blocks.filter((block) => !/^make |^parley |…/m.test(block));
}

/** Runs them in one bash, which stops at the first failing command. Only the port is replaced. */
async function runSnippets(snippets: string[]): Promise<{ code: number; output: string; errors: string }> {
  const script = snippets.join("\n").replaceAll("localhost:3000", new URL(parley.url).host);
  const bash = Bun.spawn(["bash", "--norc", "-euo", "pipefail", "-c", script], {
    cwd: site.directory,
    env: { PATH: process.env.PATH ?? "", HOME: site.directory },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const [output, errors] = await Promise.all([new Response(bash.stdout).text(), new Response(bash.stderr).text()]);
  return { code: await bash.exited, output, errors };
}

/** Node prints that WebSockets are experimental. */
const withoutWarnings = (errors: string): string => errors.replaceAll(/^\(.*\n/gm, "");

test("the snippets of the README work, also a second time", async () => {
  const snippets = readSnippets("README.md");
  expect(snippets).toHaveLength(3);
  for (const run of ["first", "second"]) {
    const { code, output, errors } = await runSnippets(snippets);
    expect({ run, code, errors: withoutWarnings(errors) }).toEqual({ run, code: 0, errors: "" });
    expect(output).toContain("event: message.completed");
    expect(output).toMatch(/^user: How do I connect a model\?$/m);
    expect(output).toMatch(/^assistant: \S/m);
    expect(output).toMatch(/type: 'message.completed'/);
    const registered = JSON.parse(readFileSync(join(site.directory, "register.json"), "utf8"));
    if (run === "first") expect(registered).toHaveProperty("user.email", "ada@example.com");
    else expect(registered).toMatchObject({ status: 409, code: "conflict" });
  }
});

test("the snippets of docs/getting-started.md work, also a second time", async () => {
  const snippets = readSnippets("docs/getting-started.md");
  expect(snippets).toHaveLength(6);
  for (const run of ["first", "second"]) {
    const { code, output, errors } = await runSnippets(snippets);
    expect({ run, code, errors: withoutWarnings(errors) }).toEqual({ run, code: 0, errors: "" });
    // Bob's question has a response; his message before it has none.
    const lines = output.match(/^(?:\{.*\})?(?:Ada|Bob|model): .{1,15}/gm)?.map((line) => line.replace(/^\{.*\}/, ""));
    expect(lines).toEqual(["Bob: Good morning!", "Ada: @ai How do I co", "model: I am offline: n"]);
  }
});
