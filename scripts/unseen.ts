// Lists the parts of the documents in contract/ that no test has covered: `make unseen`. It never fails.
// Usage: unseen.ts FOLDER, the folder in which the tests recorded what they saw (CONTRACT_SEEN).
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

type Response = { $ref?: string; content?: object };
type OpenApi = {
  paths: Record<string, Record<string, { responses: Record<string, Response> }>>;
  components: { responses: Record<string, Response> };
};
type Ref = { $ref: string };
type Operation = { action: string; channel: Ref; messages: Ref[]; reply?: { messages: Ref[] } };
type AsyncApi = {
  channels: { realtime: { "x-close-codes": { code: number }[] } };
  operations: Record<string, Operation>;
  components: { messages: Record<string, { name: string }> };
};

const readDocument = <D>(name: string): D =>
  JSON.parse(readFileSync(join(import.meta.dir, "../contract", name), "utf8")) as D;
const nameOf = ({ $ref }: Ref) => $ref.split("/").at(-1) ?? "";

function listHttpResponses({ paths, components }: OpenApi): string[] {
  return Object.entries(paths).flatMap(([template, operations]) =>
    Object.entries(operations).flatMap(([method, { responses }]) =>
      Object.entries(responses).flatMap(([status, response]) => {
        const { content } = response.$ref ? (components.responses[nameOf(response as Ref)] ?? {}) : response;
        const name = `${method.toUpperCase()} ${template} ${status}`;
        return content ? Object.keys(content).map((type) => `${name} ${type}`) : [name];
      }),
    ),
  );
}

function listRealtimeMessages({ channels, operations, components }: AsyncApi): string[] {
  const typeOf = (ref: Ref) => components.messages[nameOf(ref)]?.name ?? "";
  const messages = Object.values(operations).flatMap(({ action, channel, messages, reply }) => {
    if (action === "send") return messages.map((ref) => `${nameOf(channel)} ${typeOf(ref)}`);
    const type = messages[0] ? typeOf(messages[0]) : "";
    const replies = reply?.messages.map((ref) => (typeOf(ref) === "ack" ? `ack ${type}` : `realtime ${typeOf(ref)}`));
    return [`frame ${type}`, ...(replies ?? [])];
  });
  return [...messages, ...channels.realtime["x-close-codes"].map(({ code }) => `close ${code}`)];
}

const [folder] = process.argv.slice(2);
if (folder === undefined) throw new Error("Usage: unseen.ts FOLDER");
const seen = new Set(readdirSync(folder).flatMap((file) => readFileSync(join(folder, file), "utf8").split("\n")));
const all = [
  ...new Set([
    ...listHttpResponses(readDocument("openapi.json")),
    ...listRealtimeMessages(readDocument("asyncapi.json")),
  ]),
];
// Failures that are possible for every operation; no test provokes them for each one. 409 for a GET: the first request with
// an identity provider's token.
const isPossibleEverywhere = (name: string) => / (?:429|500|503)(?: |$)|^GET .* 409 /.test(name);
const unseen = all.filter((name) => !seen.has(name));
for (const name of unseen.filter((one) => !isPossibleEverywhere(one))) console.log(name);
console.log(
  `${all.length} documented, ${all.length - unseen.length} seen; of the ${unseen.length} others, ${unseen.filter(isPossibleEverywhere).length} are failures that any operation may return.`,
);
