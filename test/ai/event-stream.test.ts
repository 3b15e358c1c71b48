import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import {
  BrokenStreamError,
  createEventParser,
  EVENT_BYTES_MAX,
  type ServerSentEvent,
} from "../../src/ai/transport/event-stream.ts";

const encoder = new TextEncoder();

function parsePackets(packets: Iterable<Uint8Array>): ServerSentEvent[] {
  const parser = createEventParser();
  return [...[...packets].flatMap((packet) => parser.push(packet)), ...parser.end()];
}

const parseText = (text: string) => parsePackets([encoder.encode(text)]);

describe("createEventParser", () => {
  test.each([
    ["an event", "event: a\ndata: b\n\n", [{ event: "a", data: "b" }]],
    ["several data lines", "data: a\ndata:b\ndata\n\n", [{ event: null, data: "a\nb\n" }]],
    ["comments and unknown fields", ": hi\nid: 1\nretry: 5\ndata: a\n\n:\n\n", [{ event: null, data: "a" }]],
    ["an event without data, which is ignored", "event: ping\n\ndata: a\n\n", [{ event: null, data: "a" }]],
    [
      "a last event without its blank line",
      "data: a\n\ndata: [DONE]",
      [
        { event: null, data: "a" },
        { event: null, data: "[DONE]" },
      ],
    ],
    ["a byte order mark", "\ufeffdata: a\n\n", [{ event: null, data: "a" }]],
    [
      "the field `error`",
      'error: {"a":1}\ndata: b\n\n',
      [
        { event: "error", data: '{"a":1}' },
        { event: null, data: "b" },
      ],
    ],
    ["an error without data", "event: error\n\nerror:\n\n", [{ event: "error", data: "" }]],
    [
      "an object between events",
      'data: a\n\n{"error":1}\n\n{half\n',
      [
        { event: null, data: "a" },
        { event: null, data: '{"error":1}' },
      ],
    ],
    ["an empty stream", "", []],
  ])("parses %s", (_name, text, expected) => {
    expect(parseText(text)).toEqual(expected);
  });

  test("parses every line ending in packets of any size", () => {
    const lineEnd = fc.constantFrom("\n", "\r\n", "\r");
    fc.assert(
      fc.property(
        fc.array(fc.string({ unit: "grapheme", maxLength: 6 }), { maxLength: 6 }),
        lineEnd,
        fc.integer({ min: 1, max: 7 }),
        (values, end, size) => {
          const payloads = values.map((value) => value.replace(/[\r\n\ufeff]/g, ""));
          const bytes = encoder.encode(
            payloads.map((data) => `: c${end}event: e${end}data: ${data}${end}${end}`).join(""),
          );
          const packets = Array.from({ length: Math.ceil(bytes.length / size) }, (_, index) =>
            bytes.slice(index * size, (index + 1) * size),
          );
          expect(parsePackets(packets)).toEqual(payloads.map((data) => ({ event: "e", data })));
        },
      ),
    );
  });

  test("parses a line of several megabytes quickly", () => {
    const data = "x".repeat(EVENT_BYTES_MAX - 100_000);
    const bytes = encoder.encode(`data: ${data}\n\n`);
    const packets = Array.from({ length: Math.ceil(bytes.length / 16_384) }, (_, index) =>
      bytes.subarray(index * 16_384, (index + 1) * 16_384),
    );
    const startedMs = performance.now();
    expect(parsePackets(packets)[0]?.data.length).toBe(data.length);
    expect(performance.now() - startedMs).toBeLessThan(1_000);
  });

  test.each([
    ["endless comments", ": keep-alive\n\n"],
    ["an endless line", "data: x"],
  ])("throws on %s", (_name, text) => {
    const packet = encoder.encode(text.repeat(10_000));
    const parser = createEventParser();
    let bytes = 0;
    const pushForever = () => {
      for (;;) {
        bytes += packet.length;
        parser.push(packet);
      }
    };
    expect(pushForever).toThrow(BrokenStreamError);
    expect(bytes).toBeLessThan(EVENT_BYTES_MAX + 2 * packet.length);
  });
});
