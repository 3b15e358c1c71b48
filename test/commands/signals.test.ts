import { expect, test } from "bun:test";
import { join } from "node:path";

async function start(what: string) {
  const child = Bun.spawn([process.execPath, join(import.meta.dir, "watched-process.ts"), what], { stdout: "pipe" });
  let text = "";
  const reading = (async () => {
    for await (const chunk of child.stdout.pipeThrough(new TextDecoderStream())) text += chunk;
  })();
  const waitFor = async (part: string) => {
    while (!text.includes(part)) await Bun.sleep(5);
  };
  await waitFor("started");
  return { child, waitFor, end: async () => ({ code: await child.exited.finally(() => reading), text }) };
}

test("the first signal asks to stop, the second to hurry", async () => {
  const { child, waitFor, end } = await start("twice");
  child.kill("SIGTERM");
  await waitFor("stopping, crashed: false");
  child.kill("SIGINT");
  expect((await end()).code).toBe(7);
});

test("an error that nobody caught is logged, and the process comes to an end", async () => {
  const { end } = await start("throw");
  const { code, text } = await end();
  expect(code).toBe(0);
  expect(text).toContain('"level":"fatal"');
  expect(text).toContain("nobody caught this");
  expect(text).toContain("stopping, crashed: true");
});

test("a rejection that nobody awaited is logged, and the process stays", async () => {
  const { child, waitFor, end } = await start("reject");
  await waitFor("nobody awaited this");
  expect(child.exitCode).toBeNull();
  child.kill("SIGTERM");
  const { code, text } = await end();
  expect(code).toBe(0);
  expect(text).toContain("stopping, crashed: false");
});
