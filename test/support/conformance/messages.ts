import { openDocument } from "./document.ts";

type Ref = { $ref: string };
type Channel = { messages: Record<string, Ref>; "x-close-codes"?: { code: number; reason: string }[] };
type Operation = { action: string; channel: Ref; messages: Ref[]; reply?: { messages: Ref[] } };
type AsyncApi = {
  channels: Record<ChannelName, Channel>;
  operations: Record<string, Operation>;
  components: { messages: Record<string, { name: string }> };
};
export type ChannelName = "realtime" | "events" | "replies" | "webhooks";

const asyncapi = openDocument<AsyncApi>("asyncapi.json");
const nameOf = ({ $ref }: Ref) => $ref.split("/").at(-1) ?? "";

type Tables = {
  /** The names of the messages that the server sends in a channel, by type. */
  sent: Record<string, Map<string, string>>;
  /** The name of the ack of each client frame. */
  acks: Map<string, string>;
  closeCodes: Map<number, string>;
};
let tables: Tables | undefined;

function readTables(): Tables {
  const { channels, operations, components } = asyncapi.get();
  const typeOf = (ref: Ref) => components.messages[nameOf(ref)]?.name ?? "";
  const found: Tables = { sent: {}, acks: new Map(), closeCodes: new Map() };
  for (const name of Object.keys(channels)) found.sent[name] = new Map();
  for (const { action, channel, messages, reply } of Object.values(operations)) {
    const answers = reply?.messages ?? [];
    const ack = answers.find((ref) => typeOf(ref) === "ack");
    if (ack && messages[0]) found.acks.set(typeOf(messages[0]), nameOf(ack));
    const pushed = action === "send" ? messages : answers.filter((ref) => ref !== ack);
    for (const ref of pushed) found.sent[nameOf(channel)]?.set(typeOf(ref), nameOf(ref));
  }
  for (const { code, reason } of channels.realtime["x-close-codes"] ?? []) found.closeCodes.set(code, reason);
  return found;
}

const findIn = (name: string, payload: unknown) => asyncapi.findFault(["components", "schemas", name], payload);

/**
 * What is wrong with a message from the server, as one line; null if it matches the document.
 * @param to the type of the client frame that an ack responds to, if known.
 */
export function findFaultInMessage(channel: ChannelName, payload: unknown, to?: string): string | null {
  tables ??= readTables();
  const type = String((payload as { type?: unknown } | null)?.type);
  if (type === "ack" && channel === "realtime") return findFaultInAck(tables, payload, to);
  const name = tables.sent[channel]?.get(type);
  if (name === undefined) return `The server sends no ${type}.`;
  const fault = findIn(name, payload);
  return fault === null ? null : `This ${type} is not as contract/asyncapi.json says (${channel}): ${fault}`;
}

function findFaultInAck({ acks }: Tables, payload: unknown, to: string | undefined): string | null {
  if (to === undefined) {
    const isSome = [...acks.values()].some((name) => findIn(name, payload) === null);
    return isSome ? null : "This ack is not as contract/asyncapi.json says of any frame.";
  }
  const name = acks.get(to);
  if (name === undefined) return `A ${to} is not acknowledged.`;
  const fault = findIn(name, payload);
  return fault === null ? null : `This ack of ${to} is not as contract/asyncapi.json says: ${fault}`;
}

/** What is wrong with a close code; the document has only the server's own. */
export function findFaultInClose(code: number, reason: string): string | null {
  tables ??= readTables();
  if (code < 4000 || code > 4999) return null;
  const documented = tables.closeCodes.get(code);
  if (documented === undefined) return `The close code ${code} (${reason}) is not in contract/asyncapi.json.`;
  return documented === reason ? null : `The close code ${code} has the reason "${documented}", not "${reason}".`;
}
