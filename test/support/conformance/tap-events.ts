import { type ChannelName, findFaultInMessage } from "./messages.ts";
import { findFaultInBody } from "./operations.ts";
import { noteSeen } from "./seen.ts";
import { addViolation } from "./violations.ts";

/** The channel of an event stream, by the path of its request; null: another document describes it. */
function findChannel(path: string): ChannelName | null {
  if (/^\/api\/v1\/conversations\/[^/]+\/events\/?$/.test(path)) return "events";
  return /^\/api\/v1\/conversations\/[^/]+\/messages\/?$/.test(path) ? "replies" : null;
}

/** Checks one block of a stream. */
type CheckBlock = (block: string) => void;

/**
 * The check for the streams at this path; null: none is documented. @param pathToEvent where OpenAPI has the event's
 * schema.
 */
export function findBlockCheck(path: string, pathToEvent: string[] | null): CheckBlock | null {
  const channel = findChannel(path);
  if (channel !== null) return (block) => checkBlock(channel, block);
  return pathToEvent === null ? null : (block) => checkData(pathToEvent, block);
}

/** The same body; its events are checked while the test reads them, without reading ahead. */
export function tapEvents(body: ReadableStream<Uint8Array>, check: CheckBlock): ReadableStream<Uint8Array> {
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
        for (const block of blocks) check(block);
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

/** A stream in OpenAI's format: data only. */
function checkData(pathToEvent: string[], block: string): void {
  if (block.startsWith(":") || block === "data: [DONE]") return;
  const data = /^data: (.*)$/.exec(block)?.[1];
  const fault = data === undefined ? "it is no event" : findFaultInBody(pathToEvent, JSON.parse(data));
  if (fault !== null)
    addViolation(`An event of ${pathToEvent[1]} is not as contract/openapi.json says: ${fault}`, block);
}
