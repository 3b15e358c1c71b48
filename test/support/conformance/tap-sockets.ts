import { findFaultInClose, findFaultInMessage } from "./messages.ts";
import { noteSeen } from "./seen.ts";
import { addViolation } from "./violations.ts";

/**
 * Makes `WebSocket` check everything from a Parley against the AsyncAPI document, acks by the frames that they respond
 * to.
 */
export function tapSockets(): void {
  const Untapped = globalThis.WebSocket;
  class Tapped extends Untapped {
    constructor(...args: ConstructorParameters<typeof WebSocket>) {
      super(...args);
      if (new URL(String(args[0])).pathname === "/realtime") checkSocket(this);
    }
  }
  // Its types have more constructor overloads than a subclass can declare.
  globalThis.WebSocket = Tapped as unknown as typeof WebSocket;
}

function checkSocket(socket: WebSocket): void {
  const sentTypes = new Map<string, string>();
  const send = socket.send.bind(socket);
  socket.send = (data: Parameters<WebSocket["send"]>[0]) => {
    const { id, type } = readSent(data);
    // Two frames with the same id: it is unknown which of them an ack responds to.
    if (typeof id === "string" && sentTypes.has(id)) sentTypes.delete(id);
    else if (typeof id === "string" && typeof type === "string") sentTypes.set(id, type);
    send(data);
  };
  socket.addEventListener("message", ({ data }) => {
    const push = JSON.parse(String(data)) as { type?: string; id?: string };
    const to = push.id === undefined ? undefined : sentTypes.get(push.id);
    sentTypes.delete(push.id ?? "");
    noteSeen(push.type === "ack" ? `ack ${to}` : `realtime ${push.type}`);
    const fault = findFaultInMessage("realtime", push, to);
    if (fault !== null) addViolation(fault, push);
  });
  socket.addEventListener("close", ({ code, reason }) => {
    noteSeen(`close ${code}`);
    const fault = findFaultInClose(code, reason);
    if (fault !== null) addViolation(fault);
  });
}

function readSent(data: unknown): { id?: unknown; type?: unknown } {
  try {
    const frame = (JSON.parse(String(data)) ?? {}) as { id?: unknown; type?: unknown };
    if (typeof frame.type === "string") noteSeen(`frame ${frame.type}`);
    return frame;
  } catch {
    // Tests send invalid JSON, too.
    return {};
  }
}
