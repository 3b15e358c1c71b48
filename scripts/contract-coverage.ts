// Lists the parts of the documents in contract/ that no test has covered: `make contract-coverage`. It never fails.
// Usage: contract-coverage.ts FOLDER, the folder to which the tests wrote what they covered (CONTRACT_COVERAGE).
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

type ApiResponse = { $ref?: string; content?: object };
type OpenApi = {
  paths: Record<string, Record<string, { responses: Record<string, ApiResponse> }>>;
  components: { responses: Record<string, ApiResponse> };
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
const getRefName = ({ $ref }: Ref) => $ref.split("/").at(-1) ?? "";

function listHttpResponses({ paths, components }: OpenApi): string[] {
  return Object.entries(paths).flatMap(([template, operations]) =>
    Object.entries(operations).flatMap(([method, { responses }]) =>
      Object.entries(responses).flatMap(([status, response]) => {
        const { content } = response.$ref ? (components.responses[getRefName(response as Ref)] ?? {}) : response;
        const name = `${method.toUpperCase()} ${template} ${status}`;
        return content ? Object.keys(content).map((type) => `${name} ${type}`) : [name];
      }),
    ),
  );
}

function listRealtimeMessages({ channels, operations, components }: AsyncApi): string[] {
  const getMessageType = (ref: Ref) => components.messages[getRefName(ref)]?.name ?? "";
  const messages = Object.values(operations).flatMap(({ action, channel, messages, reply }) => {
    if (action === "send") return messages.map((ref) => `${getRefName(channel)} ${getMessageType(ref)}`);
    const type = messages[0] ? getMessageType(messages[0]) : "";
    const replies = reply?.messages.map((ref) =>
      getMessageType(ref) === "ack" ? `ack ${type}` : `realtime ${getMessageType(ref)}`,
    );
    return [`frame ${type}`, ...(replies ?? [])];
  });
  return [...messages, ...channels.realtime["x-close-codes"].map(({ code }) => `close ${code}`)];
}

const [folder] = process.argv.slice(2);
if (folder === undefined) throw new Error("Usage: contract-coverage.ts FOLDER");
const coveredParts = new Set(
  readdirSync(folder).flatMap((file) => readFileSync(join(folder, file), "utf8").split("\n")),
);
const documentedParts = [
  ...new Set([
    ...listHttpResponses(readDocument("openapi.json")),
    ...listRealtimeMessages(readDocument("asyncapi.json")),
  ]),
];
// Any operation may return these statuses, so no test covers them for each operation. A GET may return 409 for the first
// request with an identity provider's token.
const isPossibleEverywhere = (name: string) => / (?:429|500|503)(?: |$)|^GET .* 409 /.test(name);
const uncoveredParts = documentedParts.filter((name) => !coveredParts.has(name));
for (const name of uncoveredParts.filter((name) => !isPossibleEverywhere(name))) console.log(name);
console.log(
  `${documentedParts.length} documented, ${documentedParts.length - uncoveredParts.length} covered; of the ${uncoveredParts.length} others, ${uncoveredParts.filter(isPossibleEverywhere).length} are failures that any operation may return.`,
);
