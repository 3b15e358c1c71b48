import type { TestApp } from "./app.ts";
import type { FetchOptions } from "./client.ts";
import type { Frame } from "./socket.ts";

export type StreamedEvent = { id: string | null; event: string; frame: Frame };
export type TestStream = Awaited<ReturnType<typeof openStream>>;

/** Opens an event stream and collects its events. @throws Error if the response is not an event stream. */
export async function openStream(
  parley: Pick<TestApp, "url"> & { tls?: { ca: string } },
  path: string,
  options: FetchOptions = {},
) {
  const { token, method, json, headers } = options;
  const aborter = new AbortController();
  const response = await fetch(`${parley.url}/api/v1${path}`, {
    method: method ?? (json === undefined ? "GET" : "POST"),
    headers: {
      accept: "text/event-stream",
      ...(token !== undefined && { authorization: `Bearer ${token}` }),
      ...(json !== undefined && { "content-type": "application/json" }),
      ...headers,
    },
    ...(json !== undefined && { body: JSON.stringify(json) }),
    signal: aborter.signal,
    ...(parley.tls && { tls: parley.tls }),
  });
  if (response.headers.get("content-type") !== "text/event-stream; charset=utf-8")
    throw new Error(`No stream: ${response.status} ${await response.text()}`);

  const events: StreamedEvent[] = [];
  let onEvent: () => void = () => {};
  const closed = (async () => {
    const decoder = new TextDecoder();
    let partialBlock = "";
    for await (const chunk of response.body ?? []) {
      const blocks = (partialBlock + decoder.decode(chunk, { stream: true })).split("\n\n");
      partialBlock = blocks.pop() ?? "";
      events.push(...blocks.flatMap(parseBlock));
      onEvent();
    }
    if (partialBlock !== "") throw new Error(`The stream ended in the middle of an event: ${partialBlock}`);
  })().catch((error: unknown) => {
    if (!aborter.signal.aborted) throw error;
  });

  return {
    response,
    events,
    /** Resolves when the stream is closed. */
    closed,
    listFrames: (): Frame[] => events.map(({ frame }) => frame),
    listSeqs: (): number[] => events.flatMap(({ frame }) => frame.seq ?? []),

    /** Waits for a matching event unless it has already been received. */
    async waitFor(matches: (frame: Frame) => boolean, waitMs = 3_000): Promise<StreamedEvent> {
      const deadlineMs = performance.now() + waitMs;
      for (;;) {
        const receivedEvent = events.find(({ frame }) => matches(frame));
        if (receivedEvent) return receivedEvent;
        const remainingMs = deadlineMs - performance.now();
        if (remainingMs <= 0) throw new Error(`No match. Received: ${events.map(({ event }) => event).join(" ")}`);
        await Promise.race([
          Bun.sleep(remainingMs),
          new Promise<void>((resolve) => {
            onEvent = resolve;
          }),
        ]);
      }
    },

    async close(): Promise<void> {
      aborter.abort();
      await closed;
    },
  };
}

/** Returns the event in a block, or an empty list if it is a comment. @throws Error if the block is invalid. */
function parseBlock(block: string): StreamedEvent[] {
  if (block.startsWith(":")) return [];
  const match = /^(?:id: (?<id>\d+)\n)?event: (?<event>[\w.]+)\ndata: (?<data>.*)$/.exec(block);
  if (!match?.groups) throw new Error(`Invalid event: ${block}`);
  const { id = null, event = "", data = "" } = match.groups as { id?: string; event?: string; data?: string };
  const frame = JSON.parse(data) as Frame;
  if (frame.type !== event || (frame.seq === undefined ? id !== null : id !== String(frame.seq)))
    throw new Error(`The event's name and id don't match its data: ${block}`);
  return [{ id, event, frame }];
}
