import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { dirname, join, normalize } from "node:path";

const src = join(import.meta.dir, "../src");
const files = [...new Bun.Glob("**/*.ts").scanSync(src)].filter((file) => !file.endsWith(".d.ts")).sort();
const texts = new Map(files.map((file) => [file, readFileSync(join(src, file), "utf8")]));

/** The source files that each file imports, including types. */
const imports = new Map(
  [...texts].map(([file, text]) => {
    const targets = [...text.matchAll(/^(?:import|export)\b[^;"]*"(\.[^"]+)"|\bimport\("(\.[^"]+)"\)/gm)]
      .map(([, stated, dynamic]) => normalize(join(dirname(file), stated ?? dynamic ?? "")))
      .filter((target) => texts.has(target));
    return [file, targets];
  }),
);

/** From bottom to top: a layer may import lower layers and its own folder, but not its neighbors. */
const layers = [
  ["lib"],
  ["redis"],
  ["config.ts", "config", "protocol", "cache"],
  ["db", "limits"],
  ["realtime", "access", "ai"],
  ["events", "http", "jobs"],
  ["modules"],
  ["composition"],
  ["routes.ts"],
  ["app.ts"],
  ["commands"],
  ["main.ts"],
];

/** From bottom to top: a module may import earlier ones, but only their service.ts and model.ts. */
const modules = [
  "models",
  "backups",
  "health",
  "audit",
  "analytics",
  "quotas",
  "webhooks",
  "users",
  "api-keys",
  "auth",
  "documents",
  "search",
  "tools",
  "prompts",
  "budgets",
  "conversations",
  "inbox",
  "messages",
  "hooks",
  "imports",
  "exports",
  "generations",
  "openai",
  "accounts",
  "me",
  "revocations",
  "socket",
];
const publicFiles = ["service.ts", "model.ts"];

const topOf = (file: string) => (file.split("/")[0] ?? "").replace(/\.ts$/, "");
const layerOf = (file: string) => layers.findIndex((layer) => layer.includes(file.split("/")[0] ?? ""));
const moduleOf = (file: string) => (file.startsWith("modules/") ? file.split("/")[1] : undefined);

const importPairs = [...imports].flatMap(([file, targets]) => targets.map((target) => ({ file, target })));

test("finds the imports", () => {
  expect(files.length).toBeGreaterThan(80);
  expect(importPairs.length).toBeGreaterThan(200);
  expect(importPairs).toContainEqual({ file: "main.ts", target: "commands/serve.ts" });
});

test("every file belongs to a layer, every module is listed", () => {
  expect(files.filter((file) => layerOf(file) === -1)).toEqual([]);
  expect(files.filter((file) => moduleOf(file) !== undefined && !modules.includes(moduleOf(file) ?? ""))).toEqual([]);
});

test("imports never point upwards, nor to a neighbor in the same layer", () => {
  const isNeighbour = (file: string, target: string) =>
    layerOf(target) === layerOf(file) && topOf(target) !== topOf(file) && layerOf(file) < layerOf("modules/any.ts");
  const wrong = importPairs.filter(({ file, target }) => layerOf(target) > layerOf(file) || isNeighbour(file, target));
  expect(wrong).toEqual([]);
});

test("a module only imports earlier modules, and only their service.ts and model.ts", () => {
  const wrong = importPairs.filter(({ file, target }) => {
    const from = moduleOf(file);
    const to = moduleOf(target);
    if (from === undefined || to === undefined || from === to) return false;
    // Routes are grouped by path and imported by no module, so they may use any service.
    const isUpwards = !/routes\.ts$/.test(file) && modules.indexOf(to) > modules.indexOf(from);
    return isUpwards || !publicFiles.includes(target.split("/").slice(2).join("/"));
  });
  expect(wrong).toEqual([]);
});

test("there are no circular imports", () => {
  const done = new Set<string>();
  const circles: string[][] = [];
  const visit = (file: string, path: string[]) => {
    if (path.includes(file)) {
      circles.push([...path.slice(path.indexOf(file)), file]);
      return;
    }
    if (done.has(file)) return;
    for (const target of imports.get(file) ?? []) visit(target, [...path, file]);
    done.add(file);
  };
  for (const file of files) visit(file, []);
  expect(circles).toEqual([]);
});

test("only http/ and the composition root use the framework: routes are declared", () => {
  const users = [...texts]
    .filter(([, text]) => /from "elysia"|from "@elysiajs\/swagger"/.test(text))
    .map(([file]) => file);
  expect(users.filter((file) => !file.startsWith("http/"))).toEqual(["app.ts"]);
});

test("only the command line reads the environment or exits", () => {
  const readers = [...texts]
    .filter(([, text]) => /\bprocess\.(?:env|exit|argv)\b|\bBun\.env\b|\bimport\.meta\.env\b/.test(text))
    .map(([file]) => file)
    .filter((file) => file !== "main.ts" && !file.startsWith("commands/"));
  expect(readers).toEqual([]);
});

/** From bottom to top, within ai/: a folder may import earlier ones in the same line, and files outside the folders. */
const aiFolders = [
  ["format", "transport", "providers"],
  ["format", "attempt", "chain"],
];

test("within ai/, providers don't depend on attempts, and the chain doesn't depend on wire formats", () => {
  const folderOf = (file: string) => /^ai\/([^/]+)\//.exec(file)?.[1];
  const wrong = importPairs.filter(({ file, target }) => {
    const to = folderOf(target);
    if (!file.startsWith("ai/") || to === undefined) return false;
    const from = folderOf(file);
    const line = aiFolders.find((folders) => folders.includes(from ?? ""));
    return !line?.includes(to) || line.indexOf(to) > line.indexOf(from ?? "");
  });
  expect(wrong).toEqual([]);
  expect(files.flatMap((file) => folderOf(file) ?? []).filter((folder) => !aiFolders.flat().includes(folder))).toEqual(
    [],
  );
});

test("wire formats stay in ai/providers/", () => {
  const users = [...texts].filter(([, text]) => /from "(?:openai|@anthropic-ai)/.test(text)).map(([file]) => file);
  expect(users.length).toBeGreaterThan(0);
  expect(users.filter((file) => !file.startsWith("ai/providers/"))).toEqual([]);
});

test("Parley's tokens are signed and verified in one file; jose is used for issuers' tokens and for MCP servers", () => {
  const importersOf = (name: string) =>
    [...texts].filter(([, text]) => text.includes(`from "${name}"`)).map(([file]) => file);
  expect(importersOf("@elysiajs/jwt")).toEqual(["modules/auth/access-tokens.ts"]);
  const ofJose = importersOf("jose");
  expect(ofJose.length).toBeGreaterThan(0);
  expect(ofJose.filter((file) => !file.startsWith("modules/auth/oidc/"))).toEqual(["modules/tools/mcp/identity.ts"]);
});

test("there is one bounded cache", () => {
  const users = [...texts].filter(([, text]) => text.includes('from "lru-cache"')).map(([file]) => file);
  expect(users).toEqual(["cache/bounded-cache.ts"]);
});

/** The files that connect to other machines, and who sets the URL. */
const connectingFiles = {
  "ai/providers/sdk-request.ts": "the administrator",
  "commands/doctor/http-answer.ts": "the administrator",
  "commands/doctor/mcp.ts": "the administrator",
  "commands/doctor/oidc.ts": "the administrator",
  "commands/doctor/own-server.ts": "this machine",
  "commands/healthcheck.ts": "the administrator",
  "commands/selftest/rest.ts": "this machine",
  "commands/selftest/socket.ts": "this machine",
  "commands/upgrade/source.ts": "the administrator",
  "db/tls-check.ts": "the administrator",
  "lib/http-client/open-socket.ts": "its callers",
  "lib/outgoing/create-fetch.ts": "the administrator",
  "lib/outgoing/send-guarded.ts": "a user; guarded here",
  "lib/tracing/propagate-trace.ts": "its callers",
  "lib/tracing/send-spans.ts": "the administrator",
  "modules/auth/oidc/key-source.ts": "the administrator",
  "modules/tools/mcp/bounded-fetch.ts": "the administrator",
  "modules/tools/mcp/connection.ts": "the administrator",
};

test("only lib/outgoing connects to URLs set by users: every file that connects is listed", () => {
  const connectCalls =
    /\bfetch\(|\bBun\.connect\(|\bsendRequest\(|\b(?:net|tls|https?)\.(?:connect|request|get)\(|ClientTransport\(|new WebSocket\(|connect as \w+.* from "node:(?:net|tls)"/;
  const callers = [...texts]
    .filter(([, text]) => connectCalls.test(text.replace(/^\s*(?:\/\/|\*).*$/gm, "")))
    .map(([file]) => file);
  expect(callers.filter((file) => file !== "lib/http-client/client.ts")).toEqual(Object.keys(connectingFiles));
});

/** Add a new one to its caller's open streams (docs/decisions/0089), or explain here why that isn't necessary. */
const streamMakers = {
  // The self-test's stream is its provider's, the archive's reads a file for a command, create-fetch's is another server's response.
  "new ReadableStream": [
    "commands/selftest/provider/stream.ts",
    "db/archive/encryption.ts",
    "http/event-stream.ts",
    "http/expensive-reads.ts",
    "http/stream-text.ts",
    "lib/outgoing/create-fetch.ts",
  ],
  "createEventStream(": ["http/event-stream.ts", "modules/messages/streams.ts", "modules/openai/chunk-stream.ts"],
  // Downloads: their routes declare `expensive: "download"`, whose plugin adds them.
  "streamText(": ["http/stream-text.ts", "modules/exports/routes.ts", "modules/me/account-routes.ts"],
  "streamsBody: true": ["modules/imports/routes.ts"],
};

test("long-lived responses are only created in the listed files", () => {
  for (const [word, known] of Object.entries(streamMakers))
    expect([word, files.filter((file) => texts.get(file)?.includes(word))]).toEqual([word, known]);
});
