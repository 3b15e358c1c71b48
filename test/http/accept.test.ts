import { expect, test } from "bun:test";
import { findQuality, parseAccept } from "../../src/http/accept.ts";
import { acceptsEventStream } from "../../src/http/event-stream.ts";

const scenarios: [string | null, boolean][] = [
  [null, false],
  ["", false],
  ["*/*", false],
  ["text/*", false],
  ["text/html", false],
  ["text/event-stream", true],
  ["Text/Event-Stream", true],
  ["text/event-stream; charset=utf-8", true],
  ["application/json, text/event-stream", true],
  ["text/event-stream;q=0.5, */*;q=0.1", true],
  ["text/event-stream;q=0", false],
  ["text/event-stream; q = 0.0, application/json", false],
  ["application/json, text/event-stream;q=0.5", false],
  ["application/json;q=0.5, text/event-stream;q=0.5", true],
  ["text/event-stream;q=nonsense", false],
  ["text/event-streams", false],
];
test.each(scenarios)("the Accept header %p requests an event stream: %p", (accept, expected) => {
  const request = new Request("http://parley/", { headers: accept === null ? {} : { accept } });
  expect(acceptsEventStream(request)).toBe(expected);
});

test("the most specific media range determines the quality", () => {
  const ranges = parseAccept("text/*;q=0.3, text/html;q=0.7, */*;q=0.1");
  expect(["text/html", "text/markdown", "application/json"].map((type) => findQuality(type, ranges))).toEqual([
    0.7, 0.3, 0.1,
  ]);
});

test("the media ranges at the end of a long Accept header are ignored", () => {
  expect(findQuality("text/html", parseAccept(`${"a/b,".repeat(32)}text/html`))).toBe(0);
});
