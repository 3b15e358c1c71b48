import { isJsonObject, type Json, type JsonObject } from "../../lib/json.ts";
import { listFields, toLine } from "../pages/schema-markdown.ts";
import { readAsyncApi, type ShownMessage } from "./read-document.ts";

const textOf = (value: Json | undefined): string => (typeof value === "string" ? value.trim() : "");
const listOf = (value: Json | undefined): JsonObject[] => (Array.isArray(value) ? value.filter(isJsonObject) : []);

/** An AsyncAPI document as markdown: each operation with its messages, each message once, then the other schemas. */
export function renderAsyncApiMarkdown(document: JsonObject): string {
  const { info, servers, operations, channel, schemas, securitySchemes } = readAsyncApi(document);
  const isRealtime = (one: { channel: string }) => one.channel === "realtime";
  const addresses = servers
    .filter(({ protocol }) => textOf(protocol).startsWith("ws"))
    .map(({ protocol, host }) => `- \`${textOf(protocol)}://${textOf(host)}${textOf(channel("realtime").address)}\``);
  const messages = new Map(
    operations.flatMap((one) => [...one.messages, ...one.answers]).map((message) => [message.key, message]),
  );
  const codes = listOf(channel("realtime")["x-close-codes"]).map(
    ({ code, name, reason, verdict, remedy }) =>
      `- ${code} \`${textOf(name)}\`: ${[reason, verdict, remedy].map(toLine).join(" · ")}`,
  );
  const limits = listOf(channel("realtime")["x-limits"]).map(
    ({ name, value, unit, effect }) => `- \`${textOf(name)}\`: ${value} ${textOf(unit)}. ${toLine(effect)}`,
  );
  return `${[
    `# ${textOf(info.title)} realtime API ${textOf(info.version)}`,
    "The same for programs: `/asyncapi.json` and `/asyncapi.yaml` (AsyncAPI).",
    textOf(info.description),
    "## Address and credentials",
    addresses.join("\n"),
    textOf(channel("realtime").description),
    securitySchemes.map(({ name, description }) => `- ${name}: ${toLine(description)}`).join("\n"),
    "## Operations",
    operations
      .map((one) => {
        const answers = one.answers.length === 0 ? "" : ` Answered with: ${nameAll(one.answers)}.`;
        const address = textOf(channel(one.channel).address);
        const place = isRealtime(one) || address === "" ? "" : ` (\`${address}\`)`;
        const sender = one.action === "receive" ? "You send" : "The server sends";
        return `- ${one.name}${place}: ${toLine(one.summary)} ${sender}: ${nameAll(one.messages)}.${answers}`;
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

const nameAll = (messages: ShownMessage[]): string => messages.map(({ key }) => `\`${key}\``).join(", ");

function renderMessage({ key, type, summary, schema, example }: ShownMessage): string {
  const heading = key === type ? `### ${key}` : `### ${key}: \`${type}\``;
  const block = `\`\`\`json\n${JSON.stringify(example, null, 2)}\n\`\`\``;
  return [heading, toLine(summary), listFields(schema).trimEnd(), block].filter(Boolean).join("\n\n");
}
