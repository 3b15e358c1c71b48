import { isJsonObject, type Json, type JsonObject } from "../../lib/json.ts";
import { listFields, toLine } from "../pages/schema-markdown.ts";
import { type DocumentMessage, parseAsyncApi } from "./parse-document.ts";

const toTrimmedText = (value: Json | undefined): string => (typeof value === "string" ? value.trim() : "");
const toObjects = (value: Json | undefined): JsonObject[] => (Array.isArray(value) ? value.filter(isJsonObject) : []);

/** Renders an AsyncAPI document as Markdown. */
export function renderAsyncApiMarkdown(document: JsonObject): string {
  const { info, servers, operations, getChannel, schemas, securitySchemes } = parseAsyncApi(document);
  const addresses = servers
    .filter(({ protocol }) => toTrimmedText(protocol).startsWith("ws"))
    .map(
      ({ protocol, host }) =>
        `- \`${toTrimmedText(protocol)}://${toTrimmedText(host)}${toTrimmedText(getChannel("realtime").address)}\``,
    );
  const messages = new Map(
    operations
      .flatMap((operation) => [...operation.messages, ...operation.replies])
      .map((message) => [message.key, message]),
  );
  const codes = toObjects(getChannel("realtime")["x-close-codes"]).map(
    ({ code, name, reason, verdict, remedy }) =>
      `- ${code} \`${toTrimmedText(name)}\`: ${[reason, verdict, remedy].map(toLine).join(" · ")}`,
  );
  const limits = toObjects(getChannel("realtime")["x-limits"]).map(
    ({ name, value, unit, effect }) =>
      `- \`${toTrimmedText(name)}\`: ${value} ${toTrimmedText(unit)}. ${toLine(effect)}`,
  );
  return `${[
    `# ${toTrimmedText(info.title)} realtime API ${toTrimmedText(info.version)}`,
    "Machine-readable versions: `/asyncapi.json` and `/asyncapi.yaml` (AsyncAPI).",
    toTrimmedText(info.description),
    "## Address and credentials",
    addresses.join("\n"),
    toTrimmedText(getChannel("realtime").description),
    securitySchemes.map(({ name, description }) => `- ${name}: ${toLine(description)}`).join("\n"),
    "## Operations",
    operations
      .map(({ name, action, channel: channelName, summary, messages, replies }) => {
        const replyText = replies.length === 0 ? "" : ` Response: ${listKeys(replies)}.`;
        const address = toTrimmedText(getChannel(channelName).address);
        const location = channelName === "realtime" || address === "" ? "" : ` (\`${address}\`)`;
        const sender = action === "receive" ? "You send" : "The server sends";
        return `- ${name}${location}: ${toLine(summary)} ${sender}: ${listKeys(messages)}.${replyText}`;
      })
      .join("\n"),
    "## Messages",
    ...[...messages.values()].map(renderMessage),
    "## Close codes",
    codes.join("\n"),
    "## Limits",
    limits.join("\n"),
    "## Schemas",
    ...schemas.map(({ name, schema }) =>
      [`### ${name}`, toLine(schema.description), listFields(schema).trimEnd()].filter(Boolean).join("\n\n"),
    ),
  ]
    .filter((part) => part !== "")
    .join("\n\n")}\n`;
}

const listKeys = (messages: DocumentMessage[]): string => messages.map(({ key }) => `\`${key}\``).join(", ");

function renderMessage({ key, type, summary, schema, example }: DocumentMessage): string {
  const heading = key === type ? `### ${key}` : `### ${key}: \`${type}\``;
  const block = `\`\`\`json\n${JSON.stringify(example, null, 2)}\n\`\`\``;
  return [heading, toLine(summary), listFields(schema).trimEnd(), block].filter(Boolean).join("\n\n");
}
