import { expect, test } from "bun:test";
import { type RunnableTool, ToolError } from "../../src/modules/tools/model.ts";
import { createToolService, TOOL_RESULT_CHARS_MAX } from "../../src/modules/tools/service.ts";
import { silentLog } from "../support/log.ts";

const tool = (name: string, run: RunnableTool["run"]): RunnableTool => ({
  name,
  description: null,
  parameters: {},
  run,
});
const never = new AbortController().signal;
const all = { selection: true, userId: null, signal: never };
const call = (name: string) => ({ id: "c1", name, arguments: "{}" });

test("cuts a long result between characters, and makes it storable", async () => {
  const service = createToolService({
    listTools: async () => [tool("long", async () => `\0${"🦊".repeat(TOOL_RESULT_CHARS_MAX)}`)],
    log: silentLog,
  });
  const { content, isError } = await (await service.open(all)).call(call("long"), never);
  expect(isError).toBe(false);
  expect(content.length).toBeLessThanOrEqual(TOOL_RESULT_CHARS_MAX);
  expect(content).toStartWith("🦊");
  expect(content).toEndWith("(The rest was cut off.)");
  expect(content.isWellFormed()).toBe(true);
});

test("sends only our own error texts to the model", async () => {
  const service = createToolService({
    listTools: async () => [
      tool("ours", async () => {
        throw new ToolError("No such city.");
      }),
      tool("foreign", async () => {
        throw new Error("password=hunter2");
      }),
    ],
    log: silentLog,
  });
  const { call: run } = await service.open(all);
  expect(await run(call("ours"), never)).toEqual({ content: "Error: No such city.", isError: true });
  expect(await run(call("foreign"), never)).toEqual({ content: "Error: the tool failed.", isError: true });
});

test("the first of two tools with the same name wins, and a stop ends a tool that ignores its signal", async () => {
  const service = createToolService({
    listTools: async () => [tool("same", () => new Promise(() => {})), tool("same", async () => "second")],
    log: silentLog,
  });
  const tools = await service.open(all);
  expect(tools.definitions.length).toBe(1);
  const controller = new AbortController();
  const running = tools.call(call("same"), controller.signal);
  controller.abort();
  expect(await running).toMatchObject({ isError: true });
});

test("an answer keeps the tools chosen at its start, up to the providers' limit", async () => {
  let tools = [tool("one", async () => "1"), tool("two", async () => "2")];
  const { open } = createToolService({ listTools: async () => tools, log: silentLog });
  const { definitions, call: run } = await open({ ...all, selection: ["two", "gone"] });
  expect(definitions.map(({ name }) => name)).toEqual(["two"]);
  expect(await run(call("one"), never)).toEqual({ content: "Error: This tool is not available.", isError: true });
  tools = Array.from({ length: 200 }, (_, index) => tool(`t${index}`, async () => "other"));
  expect(await run(call("two"), never)).toEqual({ content: "2", isError: false });
  expect((await open({ ...all, selection: false })).definitions).toEqual([]);
  expect((await open(all)).definitions.length).toBe(128);
});
