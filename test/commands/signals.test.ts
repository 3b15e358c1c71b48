import { expect, test } from "bun:test";
import { join } from "node:path";

async function start(mode: string) {
  const child = Bun.spawn([process.execPath, join(import.meta.dir, "signals-process.ts"), mode], { stdout: "pipe" });
  let text = "";
  const reading = (async () => {
    for await (const chunk of child.stdout.pipeThrough(new TextDecoderStream())) text += chunk;
  })();
  const waitFor = async (part: string) => {
    while (!text.includes(part)) await Bun.sleep(5);
  };
  await waitFor("started");
  return { child, waitFor, waitForExit: async () => ({ code: await child.exited.finally(() => reading), text }) };
}

test("the first signal requests a graceful shutdown, the second an immediate one", async () => {
  const { child, waitFor, waitForExit } = await start("twice");
  child.kill("SIGTERM");
  await waitFor("stopping, crashed: false");
  child.kill("SIGINT");
  expect((await waitForExit()).code).toBe(7);
});

test("an uncaught error is logged, and the process shuts down", async () => {
  const { waitForExit } = await start("throw");
  const { code, text } = await waitForExit();
  expect(code).toBe(0);
  expect(text).toContain('"level":"fatal"');
  expect(text).toContain("an uncaught error");
  expect(text).toContain("stopping, crashed: true");
});

test("an unhandled rejection is logged, and the process continues", async () => {
  const { child, waitFor, waitForExit } = await start("reject");
  await waitFor("an unhandled rejection");
  expect(child.exitCode).toBeNull();
  child.kill("SIGTERM");
  const { code, text } = await waitForExit();
  expect(code).toBe(0);
  expect(text).toContain("stopping, crashed: false");
});
