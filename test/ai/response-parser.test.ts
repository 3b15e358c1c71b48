import { expect, test } from "bun:test";
import fc from "fast-check";
import {
  createResponseParser,
  HEAD_BYTES_MAX,
  MalformedResponseError,
} from "../../src/lib/http-client/response-parser.ts";

type ParsedResponse = {
  status: number;
  headers: Record<string, string>;
  body: string;
  canReuse: boolean | null;
  keepAliveSeconds: number | null;
};

/** Parses a response from packets, then closes the connection. */
function parsePackets(...packets: string[]): ParsedResponse & { isComplete: boolean } {
  const parsed: ParsedResponse = { status: 0, headers: {}, body: "", canReuse: null, keepAliveSeconds: null };
  const parser = createResponseParser({
    onHead({ status, headers }) {
      Object.assign(parsed, { status, headers: headers.toJSON() });
    },
    onBody(bytes) {
      parsed.body += Buffer.from(bytes).toString("latin1");
    },
    onEnd(canReuse, keepAliveSeconds) {
      Object.assign(parsed, { canReuse, keepAliveSeconds });
    },
  });
  for (const packet of packets) parser.push(Buffer.from(packet, "latin1"));
  const isComplete = parser.close();
  return { ...parsed, isComplete };
}

const createHead = (...fields: string[]) => ["HTTP/1.1 200 OK", ...fields, "", ""].join("\r\n");
const chunkedHead = createHead("Transfer-Encoding: chunked");

/** Complete responses with their expected results. */
const responses: [name: string, text: string, body: string, canReuse: boolean][] = [
  ["with a length", `${createHead("Content-Length: 5")}hello`, "hello", true],
  ["without a body", createHead("content-length: 0"), "", true],
  ["without content", "HTTP/1.1 204 No Content\r\n\r\n", "", true],
  ["that ends when the connection closes", `${createHead()}all of it`, "all of it", false],
  ["in chunks", `${chunkedHead}5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n`, "hello world", true],
  ["in chunks with long sizes", `${chunkedHead}0000000005\r\nhello\r\n0\r\n\r\n`, "hello", true],
  ["in chunks with extensions", `${chunkedHead}5;name=value\r\nhello\r\n0;last\r\n\r\n`, "hello", true],
  ["with trailers", `${chunkedHead}A\r\n0123456789\r\n0\r\nDigest: x\r\nOther: y\r\n\r\n`, "0123456789", true],
  [
    "after an early hint",
    `HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n${createHead("Content-Length: 2")}ok`,
    "ok",
    true,
  ],
  [
    "from a server that closes the connection",
    `${createHead("Connection: close", "Content-Length: 2")}ok`,
    "ok",
    false,
  ],
  ["over HTTP/1.0", "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", "ok", false],
  ["with bare line feeds", "HTTP/1.1 200 OK\nContent-Length: 2\n\nok", "ok", true],
  [
    "with both a length and chunks",
    `${createHead("Content-Length: 99", "Transfer-Encoding: chunked")}2\r\nok\r\n0\r\n\r\n`,
    "ok",
    false,
  ],
];

for (const [name, text, body, canReuse] of responses)
  test(`a response ${name} is parsed the same way, however it is split`, () => {
    expect(parsePackets(text)).toMatchObject({ body, canReuse, isComplete: true });
    expect(parsePackets(...text)).toMatchObject({ body, canReuse, isComplete: true });
    fc.assert(
      fc.property(fc.array(fc.nat(text.length), { maxLength: 6 }), (cuts) => {
        const cutIndexes = [0, ...cuts.sort((a, b) => a - b), text.length];
        const packets = cutIndexes.slice(1).map((to, index) => text.slice(cutIndexes[index], to));
        expect(parsePackets(...packets)).toMatchObject({ body, canReuse, isComplete: true });
      }),
    );
  });

const completeResponses = [
  `${createHead("Content-Length: 2")}ok`,
  `${chunkedHead}2\r\nok\r\n0\r\n\r\n`,
  createHead("Content-Length: 0"),
];
for (const text of completeResponses)
  test(`data after a response closes the connection: ${JSON.stringify(text.slice(15))}`, () => {
    const body = text.includes("ok") ? "ok" : "";
    for (const extraData of ["\r\n", "ay", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx"]) {
      expect(parsePackets(text + extraData)).toMatchObject({ body, canReuse: false, isComplete: true });
      // Extra data in a separate packet belongs to no request.
      expect(() => parsePackets(text, extraData)).toThrow("data after the response");
    }
  });

test.each([
  ["timeout=5", 5],
  ["max=100, timeout=72", 72],
  ['Timeout = "30"', 30],
  ["max=100", null],
  ["timeout=", null],
  ["timeout=-1", null],
  ["timeout=9999999999", null],
])("the keep-alive timeout of %p is %p", (field, seconds) => {
  expect(parsePackets(`${createHead("Content-Length: 0", `Keep-Alive: ${field}`)}`).keepAliveSeconds).toBe(seconds);
});

test("the status and headers are parsed, and repeated headers are joined", () => {
  const { status, headers } = parsePackets(
    "HTTP/1.1 429 Too Many\r\nRetry-After:  7 \r\nX-A: 1\r\nx-a: 2\r\nContent-Length: 0\r\n\r\n",
  );
  expect([status, headers["retry-after"], headers["x-a"]]).toEqual([429, "7", "1, 2"]);
});

const truncatedResponses = [
  createHead("Content-Length: 5"),
  `${createHead("Content-Length: 5")}hell`,
  chunkedHead,
  `${chunkedHead}5\r\nhello\r\n`,
  "HTTP/1.1 2",
];
for (const text of truncatedResponses)
  test(`a truncated response is incomplete: ${JSON.stringify(text.slice(-30))}`, () =>
    expect(parsePackets(text).isComplete).toBe(false));

const malformedResponses = [
  "HTTP/2 200\r\n\r\n",
  "SSH-2.0-OpenSSH\r\n\r\n",
  "HTTP/1.1 101 Switching Protocols\r\n\r\n",
  createHead("no colon"),
  createHead("Name : value"),
  createHead(" folded: value"),
  createHead("Content-Length: -1"),
  createHead("Content-Length: 1", "Content-Length: 2"),
  createHead("Content-Length: 1e3"),
  createHead("Transfer-Encoding: gzip, chunked"),
  `${chunkedHead}xyz\r\n`,
  `${chunkedHead}-5\r\nhello`,
  `${chunkedHead}1234567890123\r\n`,
  `${chunkedHead}5\r\nhello!!`,
  `${chunkedHead}\r\n`,
  "HTTP/1.1 100 Continue\r\n\r\n".repeat(5_000),
  `${chunkedHead}0\r\n${"Trailer: x\r\n".repeat(10_000)}`,
  `HTTP/1.1 103 Early Hints\r\nLink: ${"a".repeat(30_000)}\r\n\r\n`.repeat(3),
  `HTTP/1.1 200 OK\r\nX: ${"a".repeat(HEAD_BYTES_MAX)}`,
  `${chunkedHead}${"0".repeat(5000)}`,
];
for (const text of malformedResponses)
  test(`a malformed response is rejected: ${JSON.stringify(text.slice(0, 60))}`, () => {
    expect(() => parsePackets(text)).toThrow(MalformedResponseError);
    expect(() => parsePackets(...text)).toThrow(MalformedResponseError);
  });

test("random bytes are either parsed or rejected", () => {
  fc.assert(
    fc.property(fc.array(fc.string({ unit: "binary-ascii" })), (packets) => {
      try {
        parsePackets(...packets);
      } catch (error) {
        expect(error).toBeInstanceOf(MalformedResponseError);
      }
    }),
  );
});
