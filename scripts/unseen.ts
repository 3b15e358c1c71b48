// Lists what of the documents in contract/ no test has seen: `make unseen`. It is a report and fails nothing.
// Usage: unseen.ts FOLDER, where the tests left what they saw (CONTRACT_SEEN).
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

const read = <D>(name: string): D => JSON.parse(readFileSync(join(import.meta.dir, "../contract", name), "utf8")) as D;
const lastOf = ({ $ref }: Ref) => $ref.split("/").at(-1) ?? "";

function listHttp({ paths, components }: OpenApi): string[] {
  return Object.entries(paths).flatMap(([template, operations]) =>
    Object.entries(operations).flatMap(([method, { responses }]) =>
      Object.entries(responses).flatMap(([status, response]) => {
        const { content } = response.$ref ? (components.responses[lastOf(response as Ref)] ?? {}) : response;
        const name = `${method.toUpperCase()} ${template} ${status}`;
        return content ? Object.keys(content).map((type) => `${name} ${type}`) : [name];
      }),
    ),
  );
}

function listRealtime({ channels, operations, components }: AsyncApi): string[] {
  const typeOf = (ref: Ref) => components.messages[lastOf(ref)]?.name ?? "";
  const messages = Object.values(operations).flatMap(({ action, channel, messages, reply }) => {
    if (action === "send") return messages.map((ref) => `${lastOf(channel)} ${typeOf(ref)}`);
    const type = messages[0] ? typeOf(messages[0]) : "";
    const answers = reply?.messages.map((ref) => (typeOf(ref) === "ack" ? `ack ${type}` : `realtime ${typeOf(ref)}`));
    return [`frame ${type}`, ...(answers ?? [])];
  });
  return [...messages, ...channels.realtime["x-close-codes"].map(({ code }) => `close ${code}`)];
}

const [folder] = process.argv.slice(2);
if (folder === undefined) throw new Error("Usage: unseen.ts FOLDER");
const seen = new Set(readdirSync(folder).flatMap((file) => readFileSync(join(folder, file), "utf8").split("\n")));
const all = [...new Set([...listHttp(read("openapi.json")), ...listRealtime(read("asyncapi.json"))])];
// Any operation may fail so; no test makes each of them. 409 of a read: the first request with an identity provider's token.
const isGeneral = (name: string) => / (?:429|500|503)(?: |$)|^GET .* 409 /.test(name);
const unseen = all.filter((name) => !seen.has(name));
for (const name of unseen.filter((one) => !isGeneral(one))) console.log(name);
console.log(
  `${all.length} documented, ${all.length - unseen.length} seen; of the ${unseen.length} others, ${unseen.filter(isGeneral).length} may come from any operation.`,
);
