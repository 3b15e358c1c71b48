import { recordCoverage } from "./coverage.ts";
import { type ChannelName, findMessageError } from "./messages.ts";
import { findBodyError } from "./operations.ts";
import { addViolation } from "./violations.ts";

/** Returns the AsyncAPI channel of the event stream at a path, or null if the stream is not in the AsyncAPI document. */
function findChannel(path: string): ChannelName | null {
  if (/^\/api\/v1\/conversations\/[^/]+\/events\/?$/.test(path)) return "events";
  return /^\/api\/v1\/conversations\/[^/]+\/messages\/?$/.test(path) ? "replies" : null;
}

type CheckBlock = (block: string) => void;

/**
 * Returns the check for each block of the event stream at a path, or null if its events are not documented.
 * @param eventSchemaPath The path of the event's schema in the OpenAPI document.
 */
export function findBlockCheck(path: string, eventSchemaPath: string[] | null): CheckBlock | null {
  const channel = findChannel(path);
  if (channel !== null) return (block) => checkBlock(channel, block);
  return eventSchemaPath === null ? null : (block) => checkOpenAiBlock(eventSchemaPath, block);
}

/** Returns a stream of the same body that checks each event when the test reads it. The stream doesn't read ahead. */
export function checkEventsWhenRead(body: ReadableStream<Uint8Array>, check: CheckBlock): ReadableStream<Uint8Array> {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let partialBlock = "";
  return new ReadableStream(
    {
      async pull(controller) {
        const { done, value } = await reader.read();
        if (done) return controller.close();
        const blocks = (partialBlock + decoder.decode(value, { stream: true })).split("\n\n");
        partialBlock = blocks.pop() ?? "";
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
    addViolation("A block of an event stream is not a valid event.", block);
    return;
  }
  const frame = JSON.parse(event.data ?? "") as { type: string; seq?: number };
  recordCoverage(`${channel} ${frame.type}`);
  const id = "seq" in frame && "at" in frame ? String(frame.seq) : undefined;
  if (frame.type !== event.type || event.id !== id)
    addViolation("An event's `event` or `id` doesn't match its data.", block);
  const error = findMessageError(channel, frame);
  if (error !== null) addViolation(error, frame);
}

/** Checks a block in OpenAI's format, which has only `data`. */
function checkOpenAiBlock(eventSchemaPath: string[], block: string): void {
  if (block.startsWith(":") || block === "data: [DONE]") return;
  const data = /^data: (.*)$/.exec(block)?.[1];
  const error = data === undefined ? "it is not an event" : findBodyError(eventSchemaPath, JSON.parse(data));
  if (error !== null)
    addViolation(`An event of ${eventSchemaPath[1]} doesn't match contract/openapi.json: ${error}`, block);
}
