import { expect, test } from "bun:test";
import { createResponsesMapper } from "../../src/ai/providers/openai/read-responses.ts";
import { event, readBody, summarize } from "./read-body.ts";

const typed = (type: string, fields: object = {}) => event(type, { type, ...fields });
const completed = (output: object[] = []) => typed("response.completed", { response: { status: "completed", output } });
const call = (text: unknown, fields: object = {}) => ({
  type: "function_call",
  id: "fc_1",
  call_id: "call_1",
  name: "look_up",
  arguments: text,
  ...fields,
});
const added = (item: object, index: unknown = 0) => typed("response.output_item.added", { output_index: index, item });
const done = (item: object, index: unknown = 0) => typed("response.output_item.done", { output_index: index, item });
const piece = (text: unknown, fields: object = { output_index: 0, item_id: "fc_1" }) =>
  typed("response.function_call_arguments.delta", { ...fields, delta: text });
const text = (whole: unknown, fields: object = { output_index: 0, item_id: "fc_1" }) =>
  typed("response.function_call_arguments.done", { ...fields, arguments: whole });

const one = ['look_up {"q":1}'];
const two = ['look_up {"q":1}', 'look_up {"q":2}'];
const pieces = piece('{"q"') + piece(null) + piece(":1}");

test.each([
  ["arguments only in deltas", added(call("")) + pieces + completed(), one],
  ["arguments only as a whole", added(call(null)) + text('{"q":1}') + completed(), one],
  ["arguments in both", added(call("")) + pieces + text('{"q":1}') + done(call('{"q":1}')) + completed(), one],
  ["an end without arguments", added(call("")) + pieces + done(call("")) + completed(), one],
  ["an end without a name", added(call("")) + pieces + done(call(undefined, { name: undefined })) + completed(), one],
  ["arguments as an object", done(call({ q: 1 })) + completed([call({ q: 1 })]), one],
  ["an item that ends twice", done(call('{"q":1}')) + done(call('{"q":1}')) + completed(), one],
  ["another id in the last event", done(call('{"q":1}')) + completed([call('{ "q": 1 }', { call_id: "call_9" })]), one],
  [
    "an item id first, and a call id in the last event",
    done(call('{"q":1}', { call_id: null })) + completed([call('{"q":1}')]),
    one,
  ],
  ["two calls with one id", done(call('{"q":1}')) + done(call('{"q":2}'), 1) + completed(), two],
  [
    "two calls in sequence with the same index, in deltas",
    added(call("")) + pieces + done(call("")) + added(call("")) + piece('{"q":2}') + done(call("")) + completed(),
    two,
  ],
  [
    "two concurrent calls with two indexes, and ids that change",
    added(call("")) +
      added(call("", { id: "fc_2", call_id: "call_2" }), 1) +
      piece('{"q":', { output_index: 1, item_id: "x" }) +
      pieces +
      piece("2}", { output_index: 1, item_id: "y" }) +
      completed(),
    two,
  ],
  [
    "indexes only from ids",
    typed("response.output_item.added", { item: call("") }) +
      piece('{"q":1}', { item_id: "fc_1" }) +
      typed("response.output_item.done", { item: call("") }) +
      completed(),
    one,
  ],
  [
    "a second call only in the last event",
    done(call('{"q":1}')) + completed([call('{"q":1}'), call('{"q":2}', { id: "fc_2", call_id: "call_2" })]),
    two,
  ],
  [
    "a first call only in the last event",
    done(call('{"q":2}', { call_id: "call_2" })) + completed([call('{"q":1}', { id: "fc_2" }), call('{"q":2}')]),
    [...two].reverse(),
  ],
  ["no arguments", added(call(null)) + done(call(null)) + completed([call(null)]), ["look_up {}"]],
])("%s", (_name, body, calls) => {
  expect(summarize(readBody(createResponsesMapper(), [body]))).toMatchObject({ end: "tool_calls", calls });
});

test("calls of a truncated answer aren't executed", () => {
  const cut = typed("response.incomplete", { response: { incomplete_details: { reason: "max_output_tokens" } } });
  expect(summarize(readBody(createResponsesMapper(), [added(call("")) + pieces + cut])).end).toBe("length");
});
