import { expect, test } from "bun:test";
import { join } from "node:path";

/** Starts signals-process.ts, and waits until it handles signals. */
async function startProcess(mode: string) {
  const child = Bun.spawn([process.execPath, join(import.meta.dir, "signals-process.ts"), mode], { stdout: "pipe" });
  let stdout = "";
  const stdoutReader = (async () => {
    for await (const chunk of child.stdout.pipeThrough(new TextDecoderStream())) stdout += chunk;
  })();
  const waitForText = async (text: string) => {
    while (!stdout.includes(text)) await Bun.sleep(5);
  };
  await waitForText("started");
  return {
    child,
    waitForText,
    waitForExit: async () => ({ code: await child.exited.finally(() => stdoutReader), stdout }),
  };
}

test("the first signal requests a graceful shutdown, and the second requests an immediate one", async () => {
  const { child, waitForText, waitForExit } = await startProcess("twice");
  child.kill("SIGTERM");
  await waitForText("stopping, crashed: false");
  child.kill("SIGINT");
  expect((await waitForExit()).code).toBe(7);
});

test("an uncaught error is logged, and the process shuts down", async () => {
  const { waitForExit } = await startProcess("throw");
  const { code, stdout } = await waitForExit();
  expect(code).toBe(0);
  expect(stdout).toContain('"level":"fatal"');
  expect(stdout).toContain("an uncaught error");
  expect(stdout).toContain("stopping, crashed: true");
});

test("an unhandled rejection is logged, and the process continues", async () => {
  const { child, waitForText, waitForExit } = await startProcess("reject");
  await waitForText("an unhandled rejection");
  expect(child.exitCode).toBeNull();
  child.kill("SIGTERM");
  const { code, stdout } = await waitForExit();
  expect(code).toBe(0);
  expect(stdout).toContain("stopping, crashed: false");
});
