import { expect, test } from "bun:test";
import { createResponsesMapper } from "../../src/ai/providers/openai/read-responses.ts";
import { event, readBody, summarize } from "./read-body.ts";

const typedEvent = (type: string, fields: object = {}) => event(type, { type, ...fields });
const completed = (output: object[] = []) =>
  typedEvent("response.completed", { response: { status: "completed", output } });
const call = (callArguments: unknown, fields: object = {}) => ({
  type: "function_call",
  id: "fc_1",
  call_id: "call_1",
  name: "look_up",
  arguments: callArguments,
  ...fields,
});
const itemAdded = (item: object, index: unknown = 0) =>
  typedEvent("response.output_item.added", { output_index: index, item });
const itemDone = (item: object, index: unknown = 0) =>
  typedEvent("response.output_item.done", { output_index: index, item });
const argumentsDelta = (delta: unknown, fields: object = { output_index: 0, item_id: "fc_1" }) =>
  typedEvent("response.function_call_arguments.delta", { ...fields, delta });
const argumentsDone = (complete: unknown, fields: object = { output_index: 0, item_id: "fc_1" }) =>
  typedEvent("response.function_call_arguments.done", { ...fields, arguments: complete });

const oneCall = ['look_up {"q":1}'];
const twoCalls = ['look_up {"q":1}', 'look_up {"q":2}'];
const deltas = argumentsDelta('{"q"') + argumentsDelta(null) + argumentsDelta(":1}");

test.each([
  ["arguments only in deltas", itemAdded(call("")) + deltas + completed(), oneCall],
  ["arguments without deltas", itemAdded(call(null)) + argumentsDone('{"q":1}') + completed(), oneCall],
  [
    "arguments in deltas and in the final events",
    itemAdded(call("")) + deltas + argumentsDone('{"q":1}') + itemDone(call('{"q":1}')) + completed(),
    oneCall,
  ],
  ["a final item without arguments", itemAdded(call("")) + deltas + itemDone(call("")) + completed(), oneCall],
  [
    "a final item without a name",
    itemAdded(call("")) + deltas + itemDone(call(undefined, { name: undefined })) + completed(),
    oneCall,
  ],
  ["arguments as an object", itemDone(call({ q: 1 })) + completed([call({ q: 1 })]), oneCall],
  ["a repeated final item", itemDone(call('{"q":1}')) + itemDone(call('{"q":1}')) + completed(), oneCall],
  [
    "another id in the last event",
    itemDone(call('{"q":1}')) + completed([call('{ "q": 1 }', { call_id: "call_9" })]),
    oneCall,
  ],
  [
    "an item id first, and a call id in the last event",
    itemDone(call('{"q":1}', { call_id: null })) + completed([call('{"q":1}')]),
    oneCall,
  ],
  ["two calls with one id", itemDone(call('{"q":1}')) + itemDone(call('{"q":2}'), 1) + completed(), twoCalls],
  [
    "two calls in sequence with the same index, in deltas",
    itemAdded(call("")) +
      deltas +
      itemDone(call("")) +
      itemAdded(call("")) +
      argumentsDelta('{"q":2}') +
      itemDone(call("")) +
      completed(),
    twoCalls,
  ],
  [
    "two concurrent calls with two indexes, and ids that change",
    itemAdded(call("")) +
      itemAdded(call("", { id: "fc_2", call_id: "call_2" }), 1) +
      argumentsDelta('{"q":', { output_index: 1, item_id: "x" }) +
      deltas +
      argumentsDelta("2}", { output_index: 1, item_id: "y" }) +
      completed(),
    twoCalls,
  ],
  [
    "ids instead of indexes",
    typedEvent("response.output_item.added", { item: call("") }) +
      argumentsDelta('{"q":1}', { item_id: "fc_1" }) +
      typedEvent("response.output_item.done", { item: call("") }) +
      completed(),
    oneCall,
  ],
  [
    "a second call only in the last event",
    itemDone(call('{"q":1}')) + completed([call('{"q":1}'), call('{"q":2}', { id: "fc_2", call_id: "call_2" })]),
    twoCalls,
  ],
  [
    "a first call only in the last event",
    itemDone(call('{"q":2}', { call_id: "call_2" })) + completed([call('{"q":1}', { id: "fc_2" }), call('{"q":2}')]),
    [...twoCalls].reverse(),
  ],
  ["no arguments", itemAdded(call(null)) + itemDone(call(null)) + completed([call(null)]), ["look_up {}"]],
])("reads calls with %s", (_name, body, calls) => {
  expect(summarize(readBody(createResponsesMapper(), [body]))).toMatchObject({ end: "tool_calls", calls });
});

test("calls of a truncated answer aren't executed", () => {
  const incompleteEvent = typedEvent("response.incomplete", {
    response: { incomplete_details: { reason: "max_output_tokens" } },
  });
  expect(summarize(readBody(createResponsesMapper(), [itemAdded(call("")) + deltas + incompleteEvent])).end).toBe(
    "length",
  );
});
