import { afterAll, afterEach, beforeAll, describe, expect, jest, test } from "bun:test";
import { connect } from "node:net";
import {
  createEventStream,
  type EventStream,
  STREAM_BUFFER_BYTES_MAX,
  STREAM_SLOW_BYTES,
  STREAM_SLOW_MS,
} from "../../src/http/event-stream.ts";
import { STREAM_HEARTBEAT_MS } from "../../src/protocol/limits.ts";

afterEach(() => {
  jest.useRealTimers();
});

async function readText(response: Response): Promise<string> {
  let text = "";
  const decoder = new TextDecoder();
  for await (const chunk of response.body ?? []) text += decoder.decode(chunk, { stream: true });
  return text;
}

describe("an event stream", () => {
  test("starts immediately, and sends a comment every 15 seconds", async () => {
    jest.useFakeTimers();
    let endCount = 0;
    const stream = createEventStream(new Request("http://x/"), null, () => {
      endCount += 1;
    });
    jest.advanceTimersByTime(STREAM_HEARTBEAT_MS * 2);
    stream.write("data: 1\n\n");
    stream.end();
    stream.end();
    stream.write("data: too late\n\n");
    jest.advanceTimersByTime(STREAM_HEARTBEAT_MS * 2);
    expect({ endCount, hasEnded: stream.hasEnded(), timers: jest.getTimerCount() }).toEqual({
      endCount: 1,
      hasEnded: true,
      timers: 0,
    });
    expect(await readText(stream.response)).toBe(": connected\n\n: keep-alive\n\n: keep-alive\n\ndata: 1\n\n");
  });

  test("sends comments only while nothing else is sent if `onlyWhenIdle` is set", () => {
    jest.useFakeTimers();
    const comments = { intervalMs: 1_000, onlyWhenIdle: true };
    const stream = createEventStream(new Request("http://x/"), null, () => {}, comments);
    for (let writes = 0; writes < 5; writes += 1) {
      jest.advanceTimersByTime(900);
      stream.write("data: 1\n\n");
    }
    jest.advanceTimersByTime(999);
    stream.write("data: last\n\n");
    jest.advanceTimersByTime(2_000);
    stream.end();
    jest.useRealTimers();
    return expect(readText(stream.response)).resolves.toBe(
      `: connected\n\n${"data: 1\n\n".repeat(5)}data: last\n\n: keep-alive\n\n: keep-alive\n\n`,
    );
  });

  test("ends immediately if its reader has already disconnected", async () => {
    const aborter = new AbortController();
    aborter.abort();
    let endedStream: EventStream | undefined;
    const stream = createEventStream(new Request("http://x/", { signal: aborter.signal }), null, () => {
      endedStream = stream;
    });
    expect(endedStream).toBeUndefined();
    await Promise.resolve();
    expect(endedStream).toBe(stream);
  });

  test("is closed if its reader lags for too long, even if few new bytes are sent", () => {
    jest.useFakeTimers();
    const stream = createEventStream(new Request("http://x/"), null, () => {});
    stream.write("x".repeat(STREAM_SLOW_BYTES + 100_000));
    stream.write("data: 1\n\n");
    jest.advanceTimersByTime(STREAM_SLOW_MS);
    stream.write("data: 2\n\n");
    expect(stream.hasEnded()).toBe(false);
    jest.advanceTimersByTime(1);
    stream.write("data: 3\n\n");
    expect(stream.hasEnded()).toBe(true);
  });

  test("is closed immediately if its reader lags by too many bytes", () => {
    const stream = createEventStream(new Request("http://x/"), null, () => {});
    stream.write("x".repeat(STREAM_BUFFER_BYTES_MAX));
    expect(stream.hasEnded()).toBe(false);
    stream.write("x".repeat(100_000));
    stream.write("x");
    expect(stream.hasEnded()).toBe(true);
  });
});

describe("a connected reader", () => {
  const streams: EventStream[] = [];
  let server: Bun.Server<unknown>;
  beforeAll(() => {
    server = Bun.serve({
      port: 0,
      idleTimeout: 1,
      fetch(request, self) {
        const stream = createEventStream(request, self, () => {});
        streams.push(stream);
        return stream.response;
      },
    });
  });
  afterAll(() => server.stop(true));

  async function openReader(isReading: boolean) {
    const socket = connect(server.port ?? 0, "127.0.0.1");
    let receivedBytes = 0;
    socket.on("data", (chunk) => {
      receivedBytes += chunk.length;
      if (!isReading) socket.pause();
    });
    const previousCount = streams.length;
    socket.write("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    while (streams.length === previousCount) await Bun.sleep(5);
    return { socket, stream: streams.at(-1) as EventStream, getReceivedBytes: () => receivedBytes };
  }
  const chunk = `data: ${"x".repeat(100_000)}\n\n`;

  test("is disconnected if it doesn't read, and receives everything if it does", async () => {
    const stalledReader = await openReader(false);
    const reader = await openReader(true);
    let writtenChunks = 0;
    while (!stalledReader.stream.hasEnded() && writtenChunks < 1_000) {
      for (const { stream } of [stalledReader, reader]) stream.write(chunk);
      writtenChunks += 1;
      if (writtenChunks % 10 === 0) await Bun.sleep(1);
    }
    expect(writtenChunks * chunk.length).toBeLessThan(2 * STREAM_BUFFER_BYTES_MAX);
    expect(reader.stream.hasEnded()).toBe(false);
    reader.stream.end();
    while (reader.getReceivedBytes() < writtenChunks * chunk.length) await Bun.sleep(5);
    for (const { socket } of [stalledReader, reader]) socket.destroy();
  });

  test("stays connected longer than the server's idle timeout", async () => {
    const { socket, stream, getReceivedBytes } = await openReader(true);
    // The server checks the idle timeout only once a second.
    await Bun.sleep(1_500);
    stream.write("data: still here\n\n");
    await Bun.sleep(20);
    expect(stream.hasEnded()).toBe(false);
    expect(getReceivedBytes()).toBeGreaterThan(0);
    socket.destroy();
    while (!stream.hasEnded()) await Bun.sleep(5);
  });
});
