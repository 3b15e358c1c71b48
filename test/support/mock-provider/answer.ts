import { readFormat } from "./answer-format.ts";
import type { Script } from "./script.ts";
import { type AnswerContext, FOREIGN_TEXT, type SeenRequest, sse, type WireFormat } from "./wire-format.ts";

const STORM_BLOCK_BYTES = 64 * 1024;

const encoder = new TextEncoder();
const comments = encoder.encode(": keep-alive\n\n".repeat(STORM_BLOCK_BYTES / 14));
const endlessLine = encoder.encode("x".repeat(STORM_BLOCK_BYTES));

/** Answers one request as its script says. */
export async function answer(
  format: WireFormat,
  context: AnswerContext,
  signal: AbortSignal,
  seen: SeenRequest,
): Promise<Response> {
  const { script } = context;
  signal.addEventListener("abort", () => {
    seen.aborted = true;
  });
  if (script.refusesFormats && readFormat(context.body).type !== undefined)
    return Response.json(format.errorBody(400, "This response_format type is unavailable now"), { status: 400 });
  if (script.fault === "status") {
    const headers = script.retryAfter === null ? undefined : { "retry-after": script.retryAfter };
    const body = format.errorBody(script.status, `The mock provider was told to fail. ${FOREIGN_TEXT}`);
    return Response.json(body, { status: script.status, headers });
  }
  if (script.fault === "html") {
    const page = `<!doctype html><title>Sign in</title><p>${FOREIGN_TEXT}</p>`;
    return new Response(page, { headers: { "content-type": "text/html; charset=utf-8" } });
  }
  if (script.fault === "no_headers") await untilAborted(signal);
  return new Response(createBody(format, context, signal), {
    headers: { "content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache" },
  });
}

type Controller = ReadableStreamDefaultController<Uint8Array>;

function createBody(format: WireFormat, context: AnswerContext, signal: AbortSignal): ReadableStream<Uint8Array> {
  const { fault } = context.script;
  if (fault === "comment_storm" || fault === "endless_line") {
    const block = fault === "comment_storm" ? comments : endlessLine;
    // Pull-based, so that the flood is as fast as its reader and fills no memory here.
    return new ReadableStream({ pull: (controller) => controller.enqueue(block) });
  }
  return new ReadableStream({
    async start(controller) {
      // Erroring the stream resets the connection; without a value Bun prints nothing.
      try {
        if ((await write(format, context, signal, controller)) === "close") controller.close();
        else controller.error(undefined);
      } catch {
        // The client disconnected, and the controller is closed already.
      }
    },
  });
}

/** Writes the whole answer. @returns how the connection ends. */
async function write(
  format: WireFormat,
  context: AnswerContext,
  signal: AbortSignal,
  controller: Controller,
): Promise<"close" | "reset"> {
  const { script } = context;
  const send = (text: string) =>
    script.splitBytes ? sendBytes(controller, text) : controller.enqueue(encoder.encode(text));
  if (script.recording !== null) {
    // One event each, as providers send them.
    for (const event of script.recording.split(/(?<=\n\n)/)) await send(event);
    return "close";
  }
  if (script.fault === "refuse") return "reset";
  await pause(script.firstDelayMs);
  await send(format.open(context));
  if (script.fault === "no_first_token") return untilAborted(signal);
  for (const thought of listThoughts(script)) {
    await pause(script.pieceDelayMs);
    await send(format.thinking(context, thought));
  }
  await script.thinkUntil;
  if (script.thought !== null) await send(format.thought(context));
  const shown = script.fault === null ? script.pieces : script.pieces.slice(0, script.after);
  for (const [index, piece] of shown.entries()) {
    if (index > 0) await pause(script.pieceDelayMs);
    if (signal.aborted) return "reset";
    await send(format.delta(context, piece));
  }
  for (const [index, call] of script.fault === null ? script.toolCalls.entries() : [])
    await send(format.toolCall(context, { ...call, index, id: `call_${context.id}_${index}` }, true));
  if (script.fault !== null) return breakOff(format, context, signal, send);
  const tokens = { input: JSON.stringify(context.body).length, output: script.pieces.length };
  await send(format.close(context, script.pieces.join(""), tokens));
  return script.hold ? untilAborted(signal) : "close";
}

const listThoughts = ({ thinking }: Script): string[] =>
  typeof thinking === "number" ? Array.from({ length: thinking }, () => "Thinking. ") : thinking;

async function breakOff(
  format: WireFormat,
  context: AnswerContext,
  signal: AbortSignal,
  send: (text: string) => void | Promise<void>,
): Promise<"close" | "reset"> {
  const { fault }: Script = context.script;
  if (fault === "stall") return untilAborted(signal);
  if (fault === "not_json") await send(sse(null, `{"${FOREIGN_TEXT}`));
  if (fault === "error_event") await send(format.errorEvent(context));
  if (fault === "tool_call_cut") {
    const call = { name: "f", arguments: "", index: 0, id: "call_cut" };
    await send(format.toolCall(context, call, false));
  }
  // Buffered data must be sent before the connection breaks.
  if (fault === "cut" || fault === "tool_call_cut") await Bun.sleep(5);
  return fault === "cut" || fault === "tool_call_cut" ? "reset" : "close";
}

async function sendBytes(controller: Controller, text: string): Promise<void> {
  for (const byte of encoder.encode(text)) {
    controller.enqueue(new Uint8Array([byte]));
    // Waits for the event loop between two bytes, so that they do not share a packet.
    await new Promise((resolve) => setImmediate(resolve));
  }
}

const pause = (ms: number): Promise<void> => (ms > 0 ? Bun.sleep(ms) : Promise.resolve());

function untilAborted(signal: AbortSignal): Promise<"reset"> {
  return new Promise((resolve) => signal.addEventListener("abort", () => resolve("reset"), { once: true }));
}
