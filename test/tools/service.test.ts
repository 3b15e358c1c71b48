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
const call = (name: string) => ({ id: "c1", name, arguments: "{}" });

test("a long result is cut, never inside a character, and made fit to store", async () => {
  const { call: run } = createToolService({
    listTools: async () => [tool("long", async () => `\0${"🦊".repeat(TOOL_RESULT_CHARS_MAX)}`)],
    log: silentLog,
  });
  const { content, isError } = await run(call("long"), never);
  expect(isError).toBe(false);
  expect(content.length).toBeLessThanOrEqual(TOOL_RESULT_CHARS_MAX);
  expect(content).toStartWith("🦊");
  expect(content).toEndWith("(The rest was cut off.)");
  expect(content.isWellFormed()).toBe(true);
});

test("only our own words of an error are told", async () => {
  const { call: run } = createToolService({
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
  expect(await run(call("ours"), never)).toEqual({ content: "Error: No such city.", isError: true });
  expect(await run(call("foreign"), never)).toEqual({ content: "Error: the tool failed.", isError: true });
});

test("of two tools with one name the first counts, and a stop ends a tool that does not listen", async () => {
  const service = createToolService({
    listTools: async () => [tool("same", () => new Promise(() => {})), tool("same", async () => "second")],
    log: silentLog,
  });
  expect((await service.list()).length).toBe(1);
  const controller = new AbortController();
  const running = service.call(call("same"), controller.signal);
  controller.abort();
  expect(await running).toMatchObject({ isError: true });
});
