import { expect, test } from "bun:test";
import { createResponsesMapper } from "../../src/ai/providers/openai/read-responses.ts";
import { formatEvent, readBody, summarizeAnswer } from "./read-body.ts";

const typedEvent = (type: string, fields: object = {}) => formatEvent(type, { type, ...fields });
const createCompletedEvent = (output: object[] = []) =>
  typedEvent("response.completed", { response: { status: "completed", output } });
const createCallItem = (callArguments: unknown, fields: object = {}) => ({
  type: "function_call",
  id: "fc_1",
  call_id: "call_1",
  name: "look_up",
  arguments: callArguments,
  ...fields,
});
const createItemAddedEvent = (item: object, index: unknown = 0) =>
  typedEvent("response.output_item.added", { output_index: index, item });
const createItemDoneEvent = (item: object, index: unknown = 0) =>
  typedEvent("response.output_item.done", { output_index: index, item });
const createArgumentsDeltaEvent = (delta: unknown, fields: object = { output_index: 0, item_id: "fc_1" }) =>
  typedEvent("response.function_call_arguments.delta", { ...fields, delta });
const createArgumentsDoneEvent = (complete: unknown, fields: object = { output_index: 0, item_id: "fc_1" }) =>
  typedEvent("response.function_call_arguments.done", { ...fields, arguments: complete });

const oneCall = ['look_up {"q":1}'];
const twoCalls = ['look_up {"q":1}', 'look_up {"q":2}'];
const argumentDeltas =
  createArgumentsDeltaEvent('{"q"') + createArgumentsDeltaEvent(null) + createArgumentsDeltaEvent(":1}");

test.each([
  [
    "arguments only in deltas",
    createItemAddedEvent(createCallItem("")) + argumentDeltas + createCompletedEvent(),
    oneCall,
  ],
  [
    "arguments without deltas",
    createItemAddedEvent(createCallItem(null)) + createArgumentsDoneEvent('{"q":1}') + createCompletedEvent(),
    oneCall,
  ],
  [
    "arguments in deltas and in the final events",
    createItemAddedEvent(createCallItem("")) +
      argumentDeltas +
      createArgumentsDoneEvent('{"q":1}') +
      createItemDoneEvent(createCallItem('{"q":1}')) +
      createCompletedEvent(),
    oneCall,
  ],
  [
    "a final item without arguments",
    createItemAddedEvent(createCallItem("")) +
      argumentDeltas +
      createItemDoneEvent(createCallItem("")) +
      createCompletedEvent(),
    oneCall,
  ],
  [
    "a final item without a name",
    createItemAddedEvent(createCallItem("")) +
      argumentDeltas +
      createItemDoneEvent(createCallItem(undefined, { name: undefined })) +
      createCompletedEvent(),
    oneCall,
  ],
  [
    "arguments as an object",
    createItemDoneEvent(createCallItem({ q: 1 })) + createCompletedEvent([createCallItem({ q: 1 })]),
    oneCall,
  ],
  [
    "a repeated final item",
    createItemDoneEvent(createCallItem('{"q":1}')) +
      createItemDoneEvent(createCallItem('{"q":1}')) +
      createCompletedEvent(),
    oneCall,
  ],
  [
    "a different id in the last event",
    createItemDoneEvent(createCallItem('{"q":1}')) +
      createCompletedEvent([createCallItem('{ "q": 1 }', { call_id: "call_9" })]),
    oneCall,
  ],
  [
    "an item id first, and a call id in the last event",
    createItemDoneEvent(createCallItem('{"q":1}', { call_id: null })) +
      createCompletedEvent([createCallItem('{"q":1}')]),
    oneCall,
  ],
  [
    "two calls with one id",
    createItemDoneEvent(createCallItem('{"q":1}')) +
      createItemDoneEvent(createCallItem('{"q":2}'), 1) +
      createCompletedEvent(),
    twoCalls,
  ],
  [
    "two calls in sequence with the same index, in deltas",
    createItemAddedEvent(createCallItem("")) +
      argumentDeltas +
      createItemDoneEvent(createCallItem("")) +
      createItemAddedEvent(createCallItem("")) +
      createArgumentsDeltaEvent('{"q":2}') +
      createItemDoneEvent(createCallItem("")) +
      createCompletedEvent(),
    twoCalls,
  ],
  [
    "two concurrent calls with two indexes, and ids that change",
    createItemAddedEvent(createCallItem("")) +
      createItemAddedEvent(createCallItem("", { id: "fc_2", call_id: "call_2" }), 1) +
      createArgumentsDeltaEvent('{"q":', { output_index: 1, item_id: "x" }) +
      argumentDeltas +
      createArgumentsDeltaEvent("2}", { output_index: 1, item_id: "y" }) +
      createCompletedEvent(),
    twoCalls,
  ],
  [
    "ids instead of indexes",
    typedEvent("response.output_item.added", { item: createCallItem("") }) +
      createArgumentsDeltaEvent('{"q":1}', { item_id: "fc_1" }) +
      typedEvent("response.output_item.done", { item: createCallItem("") }) +
      createCompletedEvent(),
    oneCall,
  ],
  [
    "a second call only in the last event",
    createItemDoneEvent(createCallItem('{"q":1}')) +
      createCompletedEvent([createCallItem('{"q":1}'), createCallItem('{"q":2}', { id: "fc_2", call_id: "call_2" })]),
    twoCalls,
  ],
  [
    "a first call only in the last event",
    createItemDoneEvent(createCallItem('{"q":2}', { call_id: "call_2" })) +
      createCompletedEvent([createCallItem('{"q":1}', { id: "fc_2" }), createCallItem('{"q":2}')]),
    [...twoCalls].reverse(),
  ],
  [
    "no arguments",
    createItemAddedEvent(createCallItem(null)) +
      createItemDoneEvent(createCallItem(null)) +
      createCompletedEvent([createCallItem(null)]),
    ["look_up {}"],
  ],
])("reads calls with %s", (_name, body, calls) => {
  expect(summarizeAnswer(readBody(createResponsesMapper(), [body]))).toMatchObject({ end: "tool_calls", calls });
});

test("calls of a truncated answer aren't executed", () => {
  const incompleteEvent = typedEvent("response.incomplete", {
    response: { incomplete_details: { reason: "max_output_tokens" } },
  });
  expect(
    summarizeAnswer(
      readBody(createResponsesMapper(), [createItemAddedEvent(createCallItem("")) + argumentDeltas + incompleteEvent]),
    ).end,
  ).toBe("length");
});
