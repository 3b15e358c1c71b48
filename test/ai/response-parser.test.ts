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
function parse(...packets: string[]): ParsedResponse & { isComplete: boolean } {
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

const head = (...fields: string[]) => ["HTTP/1.1 200 OK", ...fields, "", ""].join("\r\n");
const chunked = head("Transfer-Encoding: chunked");

/** Complete responses with their expected results. */
const responses: [name: string, text: string, body: string, canReuse: boolean][] = [
  ["with a length", `${head("Content-Length: 5")}hello`, "hello", true],
  ["without a body", head("content-length: 0"), "", true],
  ["without content", "HTTP/1.1 204 No Content\r\n\r\n", "", true],
  ["that ends with the connection", `${head()}all of it`, "all of it", false],
  ["in chunks", `${chunked}5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n`, "hello world", true],
  ["in chunks with long sizes", `${chunked}0000000005\r\nhello\r\n0\r\n\r\n`, "hello", true],
  ["in chunks with extensions", `${chunked}5;name=value\r\nhello\r\n0;last\r\n\r\n`, "hello", true],
  ["with trailers", `${chunked}A\r\n0123456789\r\n0\r\nDigest: x\r\nOther: y\r\n\r\n`, "0123456789", true],
  ["after an early hint", `HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n${head("Content-Length: 2")}ok`, "ok", true],
  ["from a server that closes the connection", `${head("Connection: close", "Content-Length: 2")}ok`, "ok", false],
  ["over HTTP/1.0", "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", "ok", false],
  ["with bare line feeds", "HTTP/1.1 200 OK\nContent-Length: 2\n\nok", "ok", true],
  [
    "with both a length and chunks",
    `${head("Content-Length: 99", "Transfer-Encoding: chunked")}2\r\nok\r\n0\r\n\r\n`,
    "ok",
    false,
  ],
];

for (const [name, text, body, canReuse] of responses)
  test(`a response ${name} is parsed the same however it is split`, () => {
    expect(parse(text)).toMatchObject({ body, canReuse, isComplete: true });
    expect(parse(...text)).toMatchObject({ body, canReuse, isComplete: true });
    fc.assert(
      fc.property(fc.array(fc.nat(text.length), { maxLength: 6 }), (cuts) => {
        const cutIndexes = [0, ...cuts.sort((a, b) => a - b), text.length];
        const packets = cutIndexes.slice(1).map((to, index) => text.slice(cutIndexes[index], to));
        expect(parse(...packets)).toMatchObject({ body, canReuse, isComplete: true });
      }),
    );
  });

const completeResponses = [
  `${head("Content-Length: 2")}ok`,
  `${chunked}2\r\nok\r\n0\r\n\r\n`,
  head("Content-Length: 0"),
];
for (const text of completeResponses)
  test(`data after a response closes the connection: ${JSON.stringify(text.slice(15))}`, () => {
    const body = text.includes("ok") ? "ok" : "";
    for (const extra of ["\r\n", "ay", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx"]) {
      expect(parse(text + extra)).toMatchObject({ body, canReuse: false, isComplete: true });
      // Extra data in a separate packet belongs to no request.
      expect(() => parse(text, extra)).toThrow("data after the response");
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
  expect(parse(`${head("Content-Length: 0", `Keep-Alive: ${field}`)}`).keepAliveSeconds).toBe(seconds);
});

test("the status and headers are parsed, and repeated headers are joined", () => {
  const { status, headers } = parse(
    "HTTP/1.1 429 Too Many\r\nRetry-After:  7 \r\nX-A: 1\r\nx-a: 2\r\nContent-Length: 0\r\n\r\n",
  );
  expect([status, headers["retry-after"], headers["x-a"]]).toEqual([429, "7", "1, 2"]);
});

const truncated = [
  head("Content-Length: 5"),
  `${head("Content-Length: 5")}hell`,
  chunked,
  `${chunked}5\r\nhello\r\n`,
  "HTTP/1.1 2",
];
for (const text of truncated)
  test(`a truncated response is incomplete: ${JSON.stringify(text.slice(-30))}`, () =>
    expect(parse(text).isComplete).toBe(false));

const malformed = [
  "HTTP/2 200\r\n\r\n",
  "SSH-2.0-OpenSSH\r\n\r\n",
  "HTTP/1.1 101 Switching Protocols\r\n\r\n",
  head("no colon"),
  head("Name : value"),
  head(" folded: value"),
  head("Content-Length: -1"),
  head("Content-Length: 1", "Content-Length: 2"),
  head("Content-Length: 1e3"),
  head("Transfer-Encoding: gzip, chunked"),
  `${chunked}xyz\r\n`,
  `${chunked}-5\r\nhello`,
  `${chunked}1234567890123\r\n`,
  `${chunked}5\r\nhello!!`,
  `${chunked}\r\n`,
  "HTTP/1.1 100 Continue\r\n\r\n".repeat(5_000),
  `${chunked}0\r\n${"Trailer: x\r\n".repeat(10_000)}`,
  `HTTP/1.1 103 Early Hints\r\nLink: ${"a".repeat(30_000)}\r\n\r\n`.repeat(3),
  `HTTP/1.1 200 OK\r\nX: ${"a".repeat(HEAD_BYTES_MAX)}`,
  `${chunked}${"0".repeat(5000)}`,
];
for (const text of malformed)
  test(`a malformed response is rejected: ${JSON.stringify(text.slice(0, 60))}`, () => {
    expect(() => parse(text)).toThrow(MalformedResponseError);
    expect(() => parse(...text)).toThrow(MalformedResponseError);
  });

test("random bytes are either parsed or rejected", () => {
  fc.assert(
    fc.property(fc.array(fc.string({ unit: "binary-ascii" })), (packets) => {
      try {
        parse(...packets);
      } catch (error) {
        expect(error).toBeInstanceOf(MalformedResponseError);
      }
    }),
  );
});
