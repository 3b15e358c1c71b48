import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { isFieldsObject } from "../../src/modules/openai/field-rules.ts";
import { fieldsByRole } from "../../src/modules/openai/message-fields.ts";
import { requestFields } from "../../src/modules/openai/request-fields.ts";

const declarations = readFileSync(
  join(dirname(Bun.resolveSync("openai/resources/chat/completions", import.meta.dir)), "completions/completions.d.ts"),
  "utf8",
);

/** Lists the fields of an interface in the `openai` package, from its declaration. */
function listFields(name: string): string[] {
  const body = declarations.split(new RegExp(`^export interface ${name} .*\\{$`, "m"))[1]?.split(/^\}$/m)[0] ?? "";
  const fields = [...body.matchAll(/^ {4}(\w+)\??:/gm)].map(([, field = ""]) => field);
  if (fields.length === 0) throw new Error(`The package declares no fields for ${name}.`);
  return fields;
}

const listFieldsWithoutRules = (fields: string[], rules: object | undefined) =>
  fields.filter((field) => !Object.hasOwn(rules ?? {}, field));
const getInnerRules = (field: string, value: Record<string, unknown> = {}) =>
  requestFields[field]?.getInnerRules?.(value);

test("every field of OpenAI's completion request has a rule", () => {
  const fields = listFields("ChatCompletionCreateParamsBase");
  expect(fields.length).toBeGreaterThanOrEqual(37);
  expect(listFieldsWithoutRules(fields, requestFields)).toEqual([]);
});

test.each([
  ["ChatCompletionDeveloperMessageParam", fieldsByRole["system, developer"]],
  ["ChatCompletionSystemMessageParam", fieldsByRole["system, developer"]],
  ["ChatCompletionUserMessageParam", fieldsByRole.user],
  ["ChatCompletionAssistantMessageParam", fieldsByRole.assistant],
  // Clients send the model's messages back, so fields of responses need rules too.
  ["ChatCompletionMessage", fieldsByRole.assistant],
  ["ChatCompletionToolMessageParam", fieldsByRole.tool],
  ["ChatCompletionContentPartText", fieldsByRole.user?.content?.getInnerRules?.({ type: "text" })],
  ["ChatCompletionContentPartRefusal", fieldsByRole.assistant?.content?.getInnerRules?.({ type: "refusal" })],
  ["ChatCompletionMessageFunctionToolCall", fieldsByRole.assistant?.tool_calls?.getInnerRules?.({})],
  ["ChatCompletionFunctionTool", getInnerRules("tools")],
  ["ChatCompletionStreamOptions", getInnerRules("stream_options")],
  ["ChatCompletionNamedToolChoice", getInnerRules("tool_choice")],
  ["ChatCompletionAllowedToolChoice", getInnerRules("tool_choice")],
])("every field of %s has a rule", (name, rules) => {
  expect(isFieldsObject(rules)).toBe(true);
  expect(listFieldsWithoutRules(listFields(name), rules)).toEqual([]);
});
