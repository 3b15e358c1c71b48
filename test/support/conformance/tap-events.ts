import { type ChannelName, findFaultInMessage } from "./messages.ts";
import { noteSeen } from "./seen.ts";
import { addViolation } from "./violations.ts";

/** The channel of an event stream by the path of its request; null: described by another document. */
function findChannel(path: string): ChannelName | null {
  if (/^\/api\/v1\/conversations\/[^/]+\/events\/?$/.test(path)) return "events";
  return /^\/api\/v1\/conversations\/[^/]+\/messages\/?$/.test(path) ? "replies" : null;
}

/** The same body, whose events are checked while the test reads them; nothing is read ahead. */
export function tapEvents(body: ReadableStream<Uint8Array>, path: string): ReadableStream<Uint8Array> {
  const channel = findChannel(path);
  if (channel === null) return body;
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let rest = "";
  return new ReadableStream(
    {
      async pull(controller) {
        const { done, value } = await reader.read();
        if (done) return controller.close();
        const blocks = (rest + decoder.decode(value, { stream: true })).split("\n\n");
        rest = blocks.pop() ?? "";
        for (const block of blocks) checkBlock(channel, block);
        controller.enqueue(value);
      },
      cancel: (reason) => reader.cancel(reason),
    },
    { highWaterMark: 0 },
  );
}

function checkBlock(channel: ChannelName, block: string): void {
  if (block.startsWith(":")) return;
  const event = /^(?:id: (?<id>\d+)\n)?event: (?<type>[\w.]+)\ndata: (?<data>.*)$/.exec(block)?.groups;
  if (!event) {
    addViolation("A block of an event stream has another form than the document says.", block);
    return;
  }
  const frame = JSON.parse(event.data ?? "") as { type: string; seq?: number };
  noteSeen(`${channel} ${frame.type}`);
  const id = "seq" in frame && "at" in frame ? String(frame.seq) : undefined;
  if (frame.type !== event.type || event.id !== id)
    addViolation("An event's `event` or `id` is not what its data says.", block);
  const fault = findFaultInMessage(channel, frame);
  if (fault !== null) addViolation(fault, frame);
}
