import { escapeHtml } from "../../lib/html.ts";
import { isJsonObject, type Json, type JsonObject } from "../../lib/json.ts";
import type { AsyncApiParts, DocumentMessage } from "./parse-document.ts";
import { renderSchema, renderText } from "./render-schema.ts";

export type Section = { id: string; title: string; intro: string; entries: Entry[] };
/** An entry that the search can find. `body` is HTML. */
type Entry = { id: string; title: string; body: string };

/** Returns the page's sections in order. */
export function createPageSections(document: AsyncApiParts): Section[] {
  const { operations } = document;
  const findMessages = (name: string) => operations.find((operation) => operation.name === name)?.messages ?? [];
  const frames = operations.filter(({ channel, action }) => channel === "realtime" && action === "receive");
  const otherPushes = ["sendReady", "sendInbox", "sendServerDraining"].flatMap(findMessages);
  const pong = frames.flatMap(({ replies }) => replies).filter(({ type }) => type === "pong");
  return [
    createConnectionSection(document),
    {
      id: "client-frames",
      title: "Client frames",
      intro: "The frames that you send, with their responses. Any frame with an `id` can also receive an `error`.",
      entries: frames.map(({ messages: [frame], replies }) => createFrameEntry(frame as DocumentMessage, replies)),
    },
    createMessageSection(
      "events",
      "Durable events",
      "Stored events with a `seq` that has no gaps.",
      findMessages("sendEvents"),
    ),
    createMessageSection(
      "ephemeral-events",
      "Ephemeral events",
      "Events that are never stored or replayed.",
      findMessages("sendEphemeralEvents"),
    ),
    createMessageSection("pushes", "Other pushes", "Other frames that the server sends.", [...otherPushes, ...pong]),
    createMessageSection("errors", "Error frame", "`/problems` explains every `code`.", findMessages("sendError")),
    createCloseCodeSection(document),
    createLimitSection(document),
    createStreamSection(document),
    createMessageSection(
      "webhooks",
      "Webhooks",
      toText(document.getChannel("webhooks").description),
      findMessages("postWebhook"),
    ),
    {
      id: "schemas",
      title: "Schemas",
      intro: "The objects in frames and events.",
      entries: document.schemas.map(({ name, schema }) => ({
        id: `schema-${name}`,
        title: name,
        body: `${renderParagraph(toText(schema.description))}${renderSchema(schema)}`,
      })),
    },
  ];
}

const toText = (value: Json | undefined): string => (typeof value === "string" ? value : "");
const renderParagraph = (text: string): string => (text === "" ? "" : `<p>${renderText(text)}</p>`);
const renderExample = (example: Json): string =>
  `<pre tabindex="0"><code>${escapeHtml(JSON.stringify(example, null, 2))}</code></pre>`;

const createMessageSection = (id: string, title: string, intro: string, messages: DocumentMessage[]): Section => ({
  id,
  title,
  intro,
  entries: messages.map((message) => ({
    id: `message-${message.key}`,
    title: message.type,
    body: renderMessage(message),
  })),
});

/** Renders a message with the anchor that other schemas link to. */
const renderMessage = ({ key, summary, schema, example }: DocumentMessage): string =>
  `<div id="schema-${escapeHtml(key)}">${renderParagraph(summary)}${renderSchema(schema)}${renderExample(example)}</div>`;

function createFrameEntry(frame: DocumentMessage, replies: DocumentMessage[]): Entry {
  const ack = replies.find(({ type }) => type === "ack");
  const link = ({ key, title }: DocumentMessage) => `<a href="#message-${escapeHtml(key)}">${escapeHtml(title)}</a>`;
  const otherReplies = replies.filter((reply) => reply !== ack).map(link);
  const ackBody = ack ? `<h4 id="message-${escapeHtml(ack.key)}">ack</h4>${renderMessage(ack)}` : "";
  return {
    id: `message-${frame.key}`,
    title: frame.type,
    body: `${renderMessage(frame)}${ackBody}<p>${ack ? "Or" : "Response"}: ${otherReplies.join(", ")}</p>`,
  };
}

function createConnectionSection({ servers, getChannel, securitySchemes, info }: AsyncApiParts): Section {
  const addresses = servers
    .filter(({ protocol }) => toText(protocol).startsWith("ws"))
    .map(({ protocol, host, pathname }) => {
      const path = toText(pathname).replace(/\/$/, "") + toText(getChannel("realtime").address);
      return `${toText(protocol)}://${toText(host)}${path}`;
    });
  const bindings = getChannel("realtime").bindings;
  const ws = isJsonObject(bindings) && isJsonObject(bindings.ws) ? bindings.ws : {};
  const getSchema = (name: "headers" | "query") => (isJsonObject(ws[name]) ? (ws[name] as JsonObject) : {});
  return {
    id: "connection",
    title: "Connection and credentials",
    intro: "",
    entries: [
      {
        id: "address",
        title: "Address",
        body: `${addresses.map((address) => `<p><code>${escapeHtml(address)}</code></p>`).join("")}${toText(
          info.description,
        )
          .split("\n\n")
          .map(renderParagraph)
          .join("")}${renderParagraph(toText(getChannel("realtime").description))}`,
      },
      {
        id: "credentials",
        title: "Credentials",
        body: `<p>Authenticate in one of these ways:</p><ul>${securitySchemes
          .map(({ name, description }) => `<li><strong>${escapeHtml(name)}</strong>: ${renderText(description)}</li>`)
          .join("")}</ul>`,
      },
      { id: "handshake-headers", title: "Headers of the handshake", body: renderSchema(getSchema("headers")) },
      { id: "handshake-query", title: "Query of the handshake", body: renderSchema(getSchema("query")) },
    ],
  };
}

function renderTable(head: string[], rows: Json[][]): string {
  const cells = (tag: string, row: Json[]) =>
    row.map((cell) => `<${tag}>${renderText(String(cell))}</${tag}>`).join("");
  const body = rows.map((row) => `<tr>${cells("td", row)}</tr>`).join("\n");
  return `<div class="wide" tabindex="0"><table><thead><tr>${cells("th", head)}</tr></thead><tbody>\n${body}\n</tbody></table></div>`;
}

const toObjects = (value: Json | undefined): JsonObject[] => (Array.isArray(value) ? value.filter(isJsonObject) : []);

function createCloseCodeSection({ getChannel }: AsyncApiParts): Section {
  const rows = toObjects(getChannel("realtime")["x-close-codes"]);
  return {
    id: "close-codes",
    title: "Close codes",
    intro: "After any other code, including 1006, reconnect with exponential backoff and jitter.",
    entries: rows.map(({ code, name, reason, verdict, remedy }) => ({
      id: `close-${code}`,
      title: `${code} ${toText(name)}`,
      body: renderTable(["when", "verdict", "what to do"], [[reason ?? "", verdict ?? "", remedy ?? ""]]),
    })),
  };
}

function createLimitSection({ getChannel }: AsyncApiParts): Section {
  const rows = toObjects(getChannel("realtime")["x-limits"]).map(({ name, value, unit, effect }) => [
    `\`${toText(name)}\``,
    Number(value).toLocaleString("en"),
    unit ?? "",
    effect ?? "",
  ]);
  return {
    id: "limits",
    title: "Limits",
    intro: "These limits are fixed. `ready` announces some of them.",
    entries: [
      {
        id: "connection-limits",
        title: "Limits of a connection",
        body: renderTable(["limit", "value", "unit", "effect"], rows),
      },
    ],
  };
}

/** Creates the section about HTTP event streams, which links to the WebSocket's messages. */
function createStreamSection({ operations, getChannel }: AsyncApiParts): Section {
  const streams = operations.filter(({ channel: name }) => name === "events" || name === "replies");
  return {
    id: "streams",
    title: "Event streams",
    intro: "The same events over HTTP, with `Accept: text/event-stream`.",
    entries: streams.map(({ channel: name, summary, messages }) => ({
      id: `stream-${name}`,
      title: toText(getChannel(name).title),
      body: `<p><code>${escapeHtml(toText(getChannel(name).address))}</code></p>${renderParagraph(summary)}${renderParagraph(
        toText(getChannel(name).description),
      )}<p>Events: ${messages
        .map(({ key, type }) => `<a href="#message-${escapeHtml(key)}"><code>${escapeHtml(type)}</code></a>`)
        .join(", ")}</p>`,
    })),
  };
}
