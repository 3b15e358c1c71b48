import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { createFolder, findFreePort, waitForStatus } from "../commands/run-parley.ts";
import { type MockProvider, startMockProvider } from "../support/mock-provider/server.ts";
import { openChat } from "./chat.ts";
import { getExecutableCopy } from "./executable.ts";
import { createInstallation, TEST_TIMEOUT_MS } from "./installation.ts";

setDefaultTimeout(TEST_TIMEOUT_MS);

let mockProvider: MockProvider;
beforeAll(() => {
  mockProvider = startMockProvider();
});
afterAll(() => mockProvider?.stop());

const ESCAPE = String.fromCharCode(27);

/** Starts Parley on a terminal in an empty folder, sends a request, and stops Parley. Returns the terminal's output. */
async function captureFirstStart(env: Record<string, string>) {
  using folder = createFolder();
  const executable = await getExecutableCopy();
  const port = findFreePort();
  const terminal = Bun.spawn(["script", "--quiet", "--return", "--command", `exec ${executable}`, "/dev/null"], {
    cwd: folder.path,
    env: { PATH: process.env.PATH ?? "", TERM: "xterm", PORT: String(port), ...env },
    stdio: ["pipe", "pipe", "inherit"],
  });
  await waitForStatus(`http://127.0.0.1:${port}/readyz`, 200);
  await fetch(`http://127.0.0.1:${port}/api/v1/me`);
  await Bun.sleep(100);
  // Sends Ctrl+C.
  void terminal.stdin.write("\x03");
  await terminal.stdin.flush();
  const text = await new Response(terminal.stdout).text();
  await terminal.exited;
  return { text, lines: text.replaceAll("\r", "").trimEnd().split("\n"), port, folder: folder.path };
}

test("the first start on a terminal prints the URLs and next steps in at most 12 lines", async () => {
  const { lines, port, folder } = await captureFirstStart({ NO_COLOR: "1" });
  const lastLineIndex = lines.findIndex((line) => line.startsWith("  Stop"));
  const screen = lines.slice(0, lastLineIndex + 1);
  expect(screen.length).toBeGreaterThan(5);
  expect(screen.length).toBeLessThanOrEqual(12);
  expect(screen.join("\n")).not.toContain(ESCAPE);
  const url = `http://localhost:${port}`;
  const findLine = (start: string) => screen.find((line) => line.trimStart().startsWith(start)) ?? "";
  expect(findLine("Parley 0.1.0 is ready")).toEndWith(`: ${url}`);
  expect(findLine("API reference")).toEndWith(` ${url}/swagger`);
  expect(findLine("Database")).toMatch(/embedded PostgreSQL 18\.\d+; all data is in \S+\/data$/);
  expect(findLine("Database")).toContain(`${folder}/data`);
  expect(findLine("Models")).toContain("set OPENAI_API_KEY, ANTHROPIC_API_KEY");
  expect(findLine("Administrator")).toContain("parley admin create --email YOU@EXAMPLE.COM");
  expect(screen.filter((line) => line.includes("migration"))).toHaveLength(1);
  const requests = lines.filter((line) => line.includes("/api/v1/me"));
  expect(requests).toEqual([expect.stringMatching(/INFO: GET \/api\/v1\/me 401 [\d.]+ ms \(127\.0\.0\.1\)$/)]);
});

test("on a color terminal, the output is colored and includes the default model", async () => {
  const { text } = await captureFirstStart({ OPENAI_API_KEY: "sk-hunter2", OPENAI_BASE_URL: mockProvider.openaiUrl });
  expect(text).toContain(`${ESCAPE}[`);
  expect(text).toContain("openai/gpt-5.2 (by default; set AI_MODELS to choose)");
  expect(text).not.toContain("hunter2");
});

test("a provider key is the only required setting, and the log is JSON if there is no terminal", async () => {
  const env = { OPENAI_API_KEY: "sk-hunter2", OPENAI_BASE_URL: mockProvider.openaiUrl };
  const installation = await createInstallation({ env });
  try {
    writeFileSync(join(installation.directory, ".env"), 'AI_MODLES="x"\n');
    const parley = await installation.start({ env: { ANTROPIC_API_KEY: "hunter2" } });
    const chat = await openChat(parley);
    const { message } = await chat.waitForAnswer(await chat.requestAnswer(), 15_000);
    expect(message).toMatchObject({ status: "complete", model: "openai/gpt-5.2" });
    await chat.socket.close();
    await parley.stop();
    const lines = installation
      .readLog()
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line) as Record<string, unknown>);
    const readyLine = lines.find(({ msg }) => String(msg).includes("is ready: "));
    expect(readyLine).toMatchObject({ level: "info", models: "openai/gpt-5.2 (by default; set AI_MODELS to choose)" });
    expect(lines.filter(({ level }) => level === "warn").map(({ msg }) => msg)).toEqual([
      "AI_MODLES in .env is not a Parley setting and has no effect; did you mean AI_MODELS?",
      "ANTROPIC_API_KEY is not a Parley setting and has no effect; did you mean ANTHROPIC_API_KEY?",
    ]);
    expect(lines.filter(({ msg }) => msg === "request").every(({ status }) => typeof status === "number")).toBe(true);
    expect(installation.readLog()).not.toContain("hunter2");

    const valid = await installation.run(["config", "check"], { OPENAI_KEY: "hunter2" });
    expect(valid).toMatchObject({ code: 0, stdout: "The configuration is valid.\n" });
    expect(valid.stderr).toContain(
      "Warning: OPENAI_KEY is not a Parley setting and has no effect; did you mean OPENAI_API_KEY?",
    );
    const invalid = await installation.run(["config", "check"], { PORT: "3000x", OPENAI_KEY: "hunter2" });
    expect(invalid.code).toBe(2);
    expect(invalid.stderr).toStartWith('PORT: "3000x" is not a whole number from 0 to 65535; write digits only.\n');
    expect(invalid.stderr).toContain("did you mean OPENAI_API_KEY?");
    expect(valid.stderr + invalid.stderr).not.toContain("hunter2");
  } finally {
    await installation.remove();
  }
});
