import { findRequiredFormat } from "./answer-format.ts";
import type { Script } from "./script.ts";
import {
  type AnswerContext,
  formatSse,
  PROVIDER_INTERNAL_TEXT,
  type ReceivedRequest,
  type WireFormat,
} from "./wire-format.ts";

const FLOOD_BLOCK_BYTES = 64 * 1024;

const encoder = new TextEncoder();
const commentBlock = encoder.encode(": keep-alive\n\n".repeat(FLOOD_BLOCK_BYTES / 14));
const lineBlock = encoder.encode("x".repeat(FLOOD_BLOCK_BYTES));

/** Creates the response that a request's script specifies. */
export async function createScriptedResponse(
  format: WireFormat,
  context: AnswerContext,
  signal: AbortSignal,
  received: ReceivedRequest,
): Promise<Response> {
  const { script } = context;
  signal.addEventListener("abort", () => {
    received.wasAborted = true;
  });
  if (script.rejectFormats && findRequiredFormat(context.body).type !== undefined)
    return Response.json(format.createErrorBody(400, "This response_format type is unavailable now"), { status: 400 });
  if (script.fault === "status") {
    const headers = script.retryAfter === null ? undefined : { "retry-after": script.retryAfter };
    const body = format.createErrorBody(
      script.status,
      `The mock provider fails as scripted. ${PROVIDER_INTERNAL_TEXT}`,
    );
    return Response.json(body, { status: script.status, headers });
  }
  if (script.fault === "html") {
    const page = `<!doctype html><title>Sign in</title><p>${PROVIDER_INTERNAL_TEXT}</p>`;
    return new Response(page, { headers: { "content-type": "text/html; charset=utf-8" } });
  }
  if (script.fault === "no_headers") await waitForAbort(signal);
  return new Response(createBody(format, context, signal), {
    headers: { "content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache" },
  });
}

type Controller = ReadableStreamDefaultController<Uint8Array>;

function createBody(format: WireFormat, context: AnswerContext, signal: AbortSignal): ReadableStream<Uint8Array> {
  const { fault } = context.script;
  if (fault === "comment_storm" || fault === "endless_line") {
    const block = fault === "comment_storm" ? commentBlock : lineBlock;
    // The stream is pull-based, so the data doesn't accumulate in memory.
    return new ReadableStream({ pull: (controller) => controller.enqueue(block) });
  }
  return new ReadableStream({
    async start(controller) {
      // `controller.error` resets the connection. If its argument is undefined, Bun doesn't print an error.
      try {
        if ((await writeAnswer(format, context, signal, controller)) === "close") controller.close();
        else controller.error(undefined);
      } catch {
        // The client has disconnected, which closed the controller.
      }
    },
  });
}

/** Writes the answer. Returns how the connection must be closed. */
async function writeAnswer(
  format: WireFormat,
  context: AnswerContext,
  signal: AbortSignal,
  controller: Controller,
): Promise<"close" | "reset"> {
  const { script } = context;
  const sendText = (text: string) =>
    script.splitBytes ? sendBytes(controller, text) : controller.enqueue(encoder.encode(text));
  if (script.recording !== null) {
    // Providers send each event separately.
    for (const event of script.recording.split(/(?<=\n\n)/)) await sendText(event);
    return "close";
  }
  if (script.fault === "connection_reset") return "reset";
  await sleep(script.firstDelayMs);
  await sendText(format.formatStart(context));
  if (script.fault === "no_first_token") return waitForAbort(signal);
  for (const thought of listThinkingTexts(script)) {
    await sleep(script.pieceDelayMs);
    await sendText(format.formatThinkingDelta(context, thought));
  }
  await script.thinkUntil;
  if (script.thinkingFormat !== null) await sendText(format.formatRequiredThinking(context));
  const sentPieces = script.fault === null ? script.pieces : script.pieces.slice(0, script.piecesBeforeFault);
  for (const [index, piece] of sentPieces.entries()) {
    if (index > 0) await sleep(script.pieceDelayMs);
    if (signal.aborted) return "reset";
    await sendText(format.formatTextDelta(context, piece));
  }
  for (const [index, call] of script.fault === null ? script.toolCalls.entries() : [])
    await sendText(format.formatToolCall(context, { ...call, index, id: `call_${context.id}_${index}` }, true));
  if (script.fault !== null) return injectFault(format, context, signal, sendText);
  const tokens = { input: JSON.stringify(context.body).length, output: script.pieces.length };
  await sendText(format.formatEnd(context, script.pieces.join(""), tokens));
  return script.keepConnectionOpen ? waitForAbort(signal) : "close";
}

const listThinkingTexts = ({ thinking }: Script): string[] =>
  typeof thinking === "number" ? Array.from({ length: thinking }, () => "Thinking. ") : thinking;

async function injectFault(
  format: WireFormat,
  context: AnswerContext,
  signal: AbortSignal,
  send: (text: string) => void | Promise<void>,
): Promise<"close" | "reset"> {
  const { fault }: Script = context.script;
  if (fault === "stall") return waitForAbort(signal);
  if (fault === "not_json") await send(formatSse(null, `{"${PROVIDER_INTERNAL_TEXT}`));
  if (fault === "error_event") await send(format.formatErrorEvent(context));
  if (fault === "tool_call_cut") {
    const call = { name: "f", arguments: "", index: 0, id: "call_cut" };
    await send(format.formatToolCall(context, call, false));
  }
  // Gives buffered data time to be sent before the connection breaks.
  if (fault === "cut" || fault === "tool_call_cut") await Bun.sleep(5);
  return fault === "cut" || fault === "tool_call_cut" ? "reset" : "close";
}

async function sendBytes(controller: Controller, text: string): Promise<void> {
  for (const byte of encoder.encode(text)) {
    controller.enqueue(new Uint8Array([byte]));
    // Waits for the event loop, so that two bytes don't share a packet.
    await new Promise((resolve) => setImmediate(resolve));
  }
}

const sleep = (ms: number): Promise<void> => (ms > 0 ? Bun.sleep(ms) : Promise.resolve());

function waitForAbort(signal: AbortSignal): Promise<"reset"> {
  return new Promise((resolve) => signal.addEventListener("abort", () => resolve("reset"), { once: true }));
}
