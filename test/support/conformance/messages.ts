import { loadDocument } from "./document.ts";

type Ref = { $ref: string };
type Channel = { messages: Record<string, Ref>; "x-close-codes"?: { code: number; reason: string }[] };
type Operation = { action: string; channel: Ref; messages: Ref[]; reply?: { messages: Ref[] } };
type AsyncApi = {
  channels: Record<ChannelName, Channel>;
  operations: Record<string, Operation>;
  components: { messages: Record<string, { name: string }> };
};
export type ChannelName = "realtime" | "events" | "replies" | "webhooks";

const asyncapi = loadDocument<AsyncApi>("asyncapi.json");
const parseName = ({ $ref }: Ref) => $ref.split("/").at(-1) ?? "";

type Tables = {
  /** The names of the messages that the server sends in a channel, by type. */
  messageNames: Record<string, Map<string, string>>;
  /** The name of the ack of each client frame. */
  acks: Map<string, string>;
  closeCodes: Map<number, string>;
};
let tables: Tables | undefined;

function createTables(): Tables {
  const { channels, operations, components } = asyncapi.getDocument();
  const findType = (ref: Ref) => components.messages[parseName(ref)]?.name ?? "";
  const newTables: Tables = { messageNames: {}, acks: new Map(), closeCodes: new Map() };
  for (const name of Object.keys(channels)) newTables.messageNames[name] = new Map();
  for (const { action, channel, messages, reply } of Object.values(operations)) {
    const replies = reply?.messages ?? [];
    const ack = replies.find((ref) => findType(ref) === "ack");
    if (ack && messages[0]) newTables.acks.set(findType(messages[0]), parseName(ack));
    const pushRefs = action === "send" ? messages : replies.filter((ref) => ref !== ack);
    for (const ref of pushRefs) newTables.messageNames[parseName(channel)]?.set(findType(ref), parseName(ref));
  }
  for (const { code, reason } of channels.realtime["x-close-codes"] ?? []) newTables.closeCodes.set(code, reason);
  return newTables;
}

const findPayloadError = (name: string, payload: unknown) =>
  asyncapi.findError(["components", "schemas", name], payload);

/**
 * Returns a description, on one line, of how a message from the server violates the AsyncAPI document, or null if the
 * message is valid.
 * @param frameType The type of the client frame that an ack responds to, if known.
 */
export function findMessageError(channel: ChannelName, payload: unknown, frameType?: string): string | null {
  tables ??= createTables();
  const type = String((payload as { type?: unknown } | null)?.type);
  if (type === "ack" && channel === "realtime") return findAckError(tables, payload, frameType);
  const name = tables.messageNames[channel]?.get(type);
  if (name === undefined) return `The message ${type} is not in contract/asyncapi.json (${channel}).`;
  const error = findPayloadError(name, payload);
  return error === null ? null : `The message ${type} doesn't match contract/asyncapi.json (${channel}): ${error}`;
}

function findAckError({ acks }: Tables, payload: unknown, frameType: string | undefined): string | null {
  if (frameType === undefined) {
    const matchesAnyAck = [...acks.values()].some((name) => findPayloadError(name, payload) === null);
    return matchesAnyAck ? null : "The ack doesn't match any ack in contract/asyncapi.json.";
  }
  const name = acks.get(frameType);
  if (name === undefined) return `The frame ${frameType} has no ack in contract/asyncapi.json.`;
  const error = findPayloadError(name, payload);
  return error === null ? null : `The ack of ${frameType} doesn't match contract/asyncapi.json: ${error}`;
}

/** Returns an error if a close code or its reason is not documented. Only codes from 4000 to 4999 are checked. */
export function findCloseError(code: number, reason: string): string | null {
  tables ??= createTables();
  if (code < 4000 || code > 4999) return null;
  const documented = tables.closeCodes.get(code);
  if (documented === undefined) return `The close code ${code} (${reason}) is not in contract/asyncapi.json.`;
  return documented === reason ? null : `The close code ${code} has the reason "${documented}", not "${reason}".`;
}
