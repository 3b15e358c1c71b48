import { recordCoverage } from "./coverage.ts";
import { findCloseError, findMessageError } from "./messages.ts";
import { addViolation } from "./violations.ts";

/** Replaces `WebSocket` so that it checks every message and close code from Parley against the AsyncAPI document. */
export function checkWebSockets(): void {
  const OriginalWebSocket = globalThis.WebSocket;
  class CheckedWebSocket extends OriginalWebSocket {
    constructor(...args: ConstructorParameters<typeof WebSocket>) {
      super(...args);
      if (new URL(String(args[0])).pathname === "/realtime") checkSocket(this);
    }
  }
  // A subclass can't declare all constructor overloads of the original.
  globalThis.WebSocket = CheckedWebSocket as unknown as typeof WebSocket;
}

function checkSocket(socket: WebSocket): void {
  const sentTypes = new Map<string, string>();
  const send = socket.send.bind(socket);
  socket.send = (data: Parameters<WebSocket["send"]>[0]) => {
    const { id, type } = parseSentFrame(data);
    // If two frames have the same id, it is unknown which of them an ack responds to.
    if (typeof id === "string" && sentTypes.has(id)) sentTypes.delete(id);
    else if (typeof id === "string" && typeof type === "string") sentTypes.set(id, type);
    send(data);
  };
  socket.addEventListener("message", ({ data }) => {
    const push = JSON.parse(String(data)) as { type?: string; id?: string };
    const frameType = push.id === undefined ? undefined : sentTypes.get(push.id);
    sentTypes.delete(push.id ?? "");
    recordCoverage(push.type === "ack" ? `ack ${frameType}` : `realtime ${push.type}`);
    const error = findMessageError("realtime", push, frameType);
    if (error !== null) addViolation(error, push);
  });
  socket.addEventListener("close", ({ code, reason }) => {
    recordCoverage(`close ${code}`);
    const error = findCloseError(code, reason);
    if (error !== null) addViolation(error);
  });
}

function parseSentFrame(data: unknown): { id?: unknown; type?: unknown } {
  try {
    const frame = (JSON.parse(String(data)) ?? {}) as { id?: unknown; type?: unknown };
    if (typeof frame.type === "string") recordCoverage(`frame ${frame.type}`);
    return frame;
  } catch {
    // Some tests send invalid JSON.
    return {};
  }
}
