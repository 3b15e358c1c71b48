import { escapeHtml } from "../../lib/html.ts";
import { isJsonObject, type Json, type JsonObject } from "../../lib/json.ts";
import type { ShownDocument, ShownMessage } from "./read-document.ts";
import { renderSchema, renderText } from "./render-schema.ts";

/** A part of the page, with the entries of its table of contents. */
export type Section = { id: string; title: string; intro: string; entries: Entry[] };
/** Something that the search finds. `body` is HTML. */
type Entry = { id: string; title: string; body: string };

/** All sections of the page, in order. */
export function createSections(shown: ShownDocument): Section[] {
  const { operations } = shown;
  const ofSocket = operations.filter(({ channel }) => channel === "realtime");
  const sent = (name: string) => operations.find((one) => one.name === name)?.messages ?? [];
  const frames = ofSocket.filter(({ action }) => action === "receive");
  const others = ["sendReady", "sendInbox", "sendServerDraining"].flatMap(sent);
  const pong = frames.flatMap(({ answers }) => answers).filter(({ type }) => type === "pong");
  return [
    createConnection(shown),
    {
      id: "client-frames",
      title: "Client frames",
      intro: "What you send, with the response to each. Every frame with an `id` can also get an `error`.",
      entries: frames.map(({ messages: [frame], answers }) => createFrame(frame as ShownMessage, answers)),
    },
    createMessages("events", "Durable events", "Stored and numbered: `seq` has no gaps.", sent("sendEvents")),
    createMessages(
      "ephemeral-events",
      "Ephemeral events",
      "Never stored, never repeated.",
      sent("sendEphemeralEvents"),
    ),
    createMessages("pushes", "Other pushes", "What else the server sends.", [...others, ...pong]),
    createMessages("errors", "Error frame", "`/problems` explains every `code`.", sent("sendError")),
    createCloseCodes(shown),
    createLimits(shown),
    createStreams(shown),
    createMessages("webhooks", "Webhooks", textOf(shown.channel("webhooks").description), sent("postWebhook")),
    {
      id: "schemas",
      title: "Schemas",
      intro: "What frames and events contain.",
      entries: shown.schemas.map(({ name, schema }) => ({
        id: `schema-${name}`,
        title: name,
        body: `${paragraph(textOf(schema.description))}${renderSchema(schema)}`,
      })),
    },
  ];
}

const textOf = (value: Json | undefined): string => (typeof value === "string" ? value : "");
const paragraph = (text: string): string => (text === "" ? "" : `<p>${renderText(text)}</p>`);
const renderExample = (example: Json): string =>
  `<pre tabindex="0"><code>${escapeHtml(JSON.stringify(example, null, 2))}</code></pre>`;

const createMessages = (id: string, title: string, intro: string, messages: ShownMessage[]): Section => ({
  id,
  title,
  intro,
  entries: messages.map((message) => ({
    id: `message-${message.key}`,
    title: message.type,
    body: renderMessage(message),
  })),
});

/** Other schemas link to it by the name of its schema, which is that of the message. */
const renderMessage = ({ key, summary, schema, example }: ShownMessage): string =>
  `<div id="schema-${escapeHtml(key)}">${paragraph(summary)}${renderSchema(schema)}${renderExample(example)}</div>`;

function createFrame(frame: ShownMessage, answers: ShownMessage[]): Entry {
  const ack = answers.find(({ type }) => type === "ack");
  const link = ({ key, title }: ShownMessage) => `<a href="#message-${escapeHtml(key)}">${escapeHtml(title)}</a>`;
  const others = answers.filter((answer) => answer !== ack).map(link);
  const acked = ack ? `<h4 id="message-${escapeHtml(ack.key)}">ack</h4>${renderMessage(ack)}` : "";
  return {
    id: `message-${frame.key}`,
    title: frame.type,
    body: `${renderMessage(frame)}${acked}<p>${ack ? "Or" : "Answered with"}: ${others.join(", ")}</p>`,
  };
}

function createConnection({ servers, channel, securitySchemes, info }: ShownDocument): Section {
  const addresses = servers
    .filter(({ protocol }) => textOf(protocol).startsWith("ws"))
    .map(({ protocol, host, pathname }) => {
      const path = textOf(pathname).replace(/\/$/, "") + textOf(channel("realtime").address);
      return `${textOf(protocol)}://${textOf(host)}${path}`;
    });
  const bindings = channel("realtime").bindings;
  const ws = isJsonObject(bindings) && isJsonObject(bindings.ws) ? bindings.ws : {};
  const schemaOf = (name: "headers" | "query") => (isJsonObject(ws[name]) ? (ws[name] as JsonObject) : {});
  return {
    id: "connection",
    title: "Connection and credentials",
    intro: "",
    entries: [
      {
        id: "address",
        title: "Address",
        body: `${addresses.map((address) => `<p><code>${escapeHtml(address)}</code></p>`).join("")}${textOf(
          info.description,
        )
          .split("\n\n")
          .map(paragraph)
          .join("")}${paragraph(textOf(channel("realtime").description))}`,
      },
      {
        id: "credentials",
        title: "Credentials",
        body: `<p>Authenticate in one of these ways:</p><ul>${securitySchemes
          .map(({ name, description }) => `<li><strong>${escapeHtml(name)}</strong>: ${renderText(description)}</li>`)
          .join("")}</ul>`,
      },
      { id: "handshake-headers", title: "Headers of the handshake", body: renderSchema(schemaOf("headers")) },
      { id: "handshake-query", title: "Query of the handshake", body: renderSchema(schemaOf("query")) },
    ],
  };
}

function renderTable(head: string[], rows: Json[][]): string {
  const cells = (tag: string, row: Json[]) =>
    row.map((cell) => `<${tag}>${renderText(String(cell))}</${tag}>`).join("");
  const body = rows.map((row) => `<tr>${cells("td", row)}</tr>`).join("\n");
  return `<div class="wide" tabindex="0"><table><thead><tr>${cells("th", head)}</tr></thead><tbody>\n${body}\n</tbody></table></div>`;
}

const listOf = (value: Json | undefined): JsonObject[] => (Array.isArray(value) ? value.filter(isJsonObject) : []);

function createCloseCodes({ channel }: ShownDocument): Section {
  const rows = listOf(channel("realtime")["x-close-codes"]);
  return {
    id: "close-codes",
    title: "Close codes",
    intro: "After any other code, including 1006, reconnect with exponential backoff and jitter.",
    entries: rows.map(({ code, name, reason, verdict, remedy }) => ({
      id: `close-${code}`,
      title: `${code} ${textOf(name)}`,
      body: renderTable(["when", "verdict", "what to do"], [[reason ?? "", verdict ?? "", remedy ?? ""]]),
    })),
  };
}

function createLimits({ channel }: ShownDocument): Section {
  const rows = listOf(channel("realtime")["x-limits"]).map(({ name, value, unit, effect }) => [
    `\`${textOf(name)}\``,
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

/** Their messages are those of the WebSocket. */
function createStreams({ operations, channel }: ShownDocument): Section {
  const streams = operations.filter((one) => one.channel === "events" || one.channel === "replies");
  return {
    id: "streams",
    title: "Event streams",
    intro: "The same events over HTTP, with `Accept: text/event-stream`.",
    entries: streams.map(({ channel: name, summary, messages }) => ({
      id: `stream-${name}`,
      title: textOf(channel(name).title),
      body: `<p><code>${escapeHtml(textOf(channel(name).address))}</code></p>${paragraph(summary)}${paragraph(
        textOf(channel(name).description),
      )}<p>Events: ${messages
        .map(({ key, type }) => `<a href="#message-${escapeHtml(key)}"><code>${escapeHtml(type)}</code></a>`)
        .join(", ")}</p>`,
    })),
  };
}
