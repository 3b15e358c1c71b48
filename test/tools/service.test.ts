import { expect, test } from "bun:test";
import { type RunnableTool, ToolError } from "../../src/modules/tools/model.ts";
import { createToolService, TOOL_RESULT_CHARS_MAX } from "../../src/modules/tools/service.ts";
import { silentLog } from "../support/log.ts";

const createTool = (name: string, run: RunnableTool["run"]): RunnableTool => ({
  name,
  description: null,
  parameters: {},
  run,
});
const neverAborted = new AbortController().signal;
const allTools = { selection: true, userId: null, signal: neverAborted };
const createCall = (name: string) => ({ id: "c1", name, arguments: "{}" });

test("a long tool result is truncated between characters and stripped of NUL", async () => {
  const service = createToolService({
    listTools: async () => [createTool("long", async () => `\0${"🦊".repeat(TOOL_RESULT_CHARS_MAX)}`)],
    log: silentLog,
  });
  const { content, isError } = await (await service.selectTools(allTools)).call(createCall("long"), neverAborted);
  expect(isError).toBe(false);
  expect(content.length).toBeLessThanOrEqual(TOOL_RESULT_CHARS_MAX);
  expect(content).toStartWith("🦊");
  expect(content).toEndWith("(The rest was cut off.)");
  expect(content.isWellFormed()).toBe(true);
});

test("only Parley's own error messages are sent to the model", async () => {
  const service = createToolService({
    listTools: async () => [
      createTool("known_error", async () => {
        throw new ToolError("No such city.");
      }),
      createTool("unknown_error", async () => {
        throw new Error("password=hunter2");
      }),
    ],
    log: silentLog,
  });
  const { call: callTool } = await service.selectTools(allTools);
  expect(await callTool(createCall("known_error"), neverAborted)).toEqual({
    content: "Error: No such city.",
    isError: true,
  });
  expect(await callTool(createCall("unknown_error"), neverAborted)).toEqual({
    content: "Error: the tool failed.",
    isError: true,
  });
});

test("the first of two tools with the same name is called, and aborting ends a call that ignores its signal", async () => {
  const service = createToolService({
    listTools: async () => [createTool("same", () => new Promise(() => {})), createTool("same", async () => "second")],
    log: silentLog,
  });
  const tools = await service.selectTools(allTools);
  expect(tools.definitions.length).toBe(1);
  const controller = new AbortController();
  const pendingCall = tools.call(createCall("same"), controller.signal);
  controller.abort();
  expect(await pendingCall).toMatchObject({ isError: true });
});

test("an answer keeps the tools that were available when it started, up to the providers' limit", async () => {
  let tools = [createTool("one", async () => "1"), createTool("two", async () => "2")];
  const { selectTools } = createToolService({ listTools: async () => tools, log: silentLog });
  const { definitions, call: callTool } = await selectTools({ ...allTools, selection: ["two", "removed"] });
  expect(definitions.map(({ name }) => name)).toEqual(["two"]);
  expect(await callTool(createCall("one"), neverAborted)).toEqual({
    content: "Error: This tool is not available.",
    isError: true,
  });
  tools = Array.from({ length: 200 }, (_, index) => createTool(`t${index}`, async () => "other"));
  expect(await callTool(createCall("two"), neverAborted)).toEqual({ content: "2", isError: false });
  expect((await selectTools({ ...allTools, selection: false })).definitions).toEqual([]);
  expect((await selectTools(allTools)).definitions.length).toBe(128);
});
