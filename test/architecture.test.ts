import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { dirname, join, normalize } from "node:path";

const sourceFolder = join(import.meta.dir, "../src");
const files = [...new Bun.Glob("**/*.ts").scanSync(sourceFolder)].filter((file) => !file.endsWith(".d.ts")).sort();
const sourceTexts = new Map(files.map((file) => [file, readFileSync(join(sourceFolder, file), "utf8")]));

/** The source files that each source file imports, including types. */
const imports = new Map(
  [...sourceTexts].map(([file, text]) => {
    const targets = [...text.matchAll(/^(?:import|export)\b[^;"]*"(\.[^"]+)"|\bimport\("(\.[^"]+)"\)/gm)]
      .map(([, staticImport, dynamicImport]) => normalize(join(dirname(file), staticImport ?? dynamicImport ?? "")))
      .filter((target) => sourceTexts.has(target));
    return [file, targets];
  }),
);

/** The layers from bottom to top. A folder may import lower layers, but not other folders in its layer. */
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

/** The modules from bottom to top. A module may import earlier ones, but only their service.ts and model.ts. */
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

const getTopFolder = (file: string) => (file.split("/")[0] ?? "").replace(/\.ts$/, "");
const findLayer = (file: string) => layers.findIndex((layer) => layer.includes(file.split("/")[0] ?? ""));
const findModule = (file: string) => (file.startsWith("modules/") ? file.split("/")[1] : undefined);

const importPairs = [...imports].flatMap(([file, targets]) => targets.map((target) => ({ file, target })));

test("the imports are found", () => {
  expect(files.length).toBeGreaterThan(80);
  expect(importPairs.length).toBeGreaterThan(200);
  expect(importPairs).toContainEqual({ file: "main.ts", target: "commands/serve.ts" });
});

test("every file belongs to a layer, and every module is listed", () => {
  expect(files.filter((file) => findLayer(file) === -1)).toEqual([]);
  expect(files.filter((file) => findModule(file) !== undefined && !modules.includes(findModule(file) ?? ""))).toEqual(
    [],
  );
});

test("imports never point upwards or to another folder in the same layer", () => {
  const isNeighbor = (file: string, target: string) =>
    findLayer(target) === findLayer(file) &&
    getTopFolder(target) !== getTopFolder(file) &&
    findLayer(file) < findLayer("modules/any.ts");
  const violations = importPairs.filter(
    ({ file, target }) => findLayer(target) > findLayer(file) || isNeighbor(file, target),
  );
  expect(violations).toEqual([]);
});

test("a module imports only earlier modules, and only their service.ts and model.ts", () => {
  const violations = importPairs.filter(({ file, target }) => {
    const fromModule = findModule(file);
    const toModule = findModule(target);
    if (fromModule === undefined || toModule === undefined || fromModule === toModule) return false;
    // Routes are grouped by path and imported by no module, so they may use any service.
    const isUpwards = !/routes\.ts$/.test(file) && modules.indexOf(toModule) > modules.indexOf(fromModule);
    return isUpwards || !publicFiles.includes(target.split("/").slice(2).join("/"));
  });
  expect(violations).toEqual([]);
});

test("there are no circular imports", () => {
  const visited = new Set<string>();
  const cycles: string[][] = [];
  const visit = (file: string, path: string[]) => {
    if (path.includes(file)) {
      cycles.push([...path.slice(path.indexOf(file)), file]);
      return;
    }
    if (visited.has(file)) return;
    for (const target of imports.get(file) ?? []) visit(target, [...path, file]);
    visited.add(file);
  };
  for (const file of files) visit(file, []);
  expect(cycles).toEqual([]);
});

test("only http/ and app.ts use the framework", () => {
  const users = [...sourceTexts]
    .filter(([, text]) => /from "elysia"|from "@elysiajs\/swagger"/.test(text))
    .map(([file]) => file);
  expect(users.filter((file) => !file.startsWith("http/"))).toEqual(["app.ts"]);
});

test("only the command line reads the environment or exits", () => {
  const readers = [...sourceTexts]
    .filter(([, text]) => /\bprocess\.(?:env|exit|argv)\b|\bBun\.env\b|\bimport\.meta\.env\b/.test(text))
    .map(([file]) => file)
    .filter((file) => file !== "main.ts" && !file.startsWith("commands/"));
  expect(readers).toEqual([]);
});

/** The folders in ai/ from bottom to top. A folder may import earlier ones in the same row, and files outside the folders. */
const aiFolders = [
  ["format", "transport", "providers"],
  ["format", "attempt", "chain"],
];

test("within ai/, providers don't depend on attempts, and the chain doesn't depend on wire formats", () => {
  const findFolder = (file: string) => /^ai\/([^/]+)\//.exec(file)?.[1];
  const violations = importPairs.filter(({ file, target }) => {
    const toFolder = findFolder(target);
    if (!file.startsWith("ai/") || toFolder === undefined) return false;
    const fromFolder = findFolder(file);
    const row = aiFolders.find((folders) => folders.includes(fromFolder ?? ""));
    return !row?.includes(toFolder) || row.indexOf(toFolder) > row.indexOf(fromFolder ?? "");
  });
  expect(violations).toEqual([]);
  expect(
    files.flatMap((file) => findFolder(file) ?? []).filter((folder) => !aiFolders.flat().includes(folder)),
  ).toEqual([]);
});

test("wire formats stay in ai/providers/", () => {
  const users = [...sourceTexts]
    .filter(([, text]) => /from "(?:openai|@anthropic-ai)/.test(text))
    .map(([file]) => file);
  expect(users.length).toBeGreaterThan(0);
  expect(users.filter((file) => !file.startsWith("ai/providers/"))).toEqual([]);
});

test("Parley's tokens are signed and verified in one file, and jose is used only for issuers' tokens and for MCP servers", () => {
  const listImporters = (name: string) =>
    [...sourceTexts].filter(([, text]) => text.includes(`from "${name}"`)).map(([file]) => file);
  expect(listImporters("@elysiajs/jwt")).toEqual(["modules/auth/access-tokens.ts"]);
  const joseImporters = listImporters("jose");
  expect(joseImporters.length).toBeGreaterThan(0);
  expect(joseImporters.filter((file) => !file.startsWith("modules/auth/oidc/"))).toEqual([
    "modules/tools/mcp/identity.ts",
  ]);
});

test("only one file uses the cache package", () => {
  const users = [...sourceTexts].filter(([, text]) => text.includes('from "lru-cache"')).map(([file]) => file);
  expect(users).toEqual(["cache/bounded-cache.ts"]);
});

/** The files that open connections, and who sets the URL. */
const connectingFiles = {
  "ai/providers/sdk-request.ts": "the administrator",
  "commands/doctor/http-response.ts": "the administrator",
  "commands/doctor/local-server.ts": "this machine",
  "commands/doctor/mcp.ts": "the administrator",
  "commands/doctor/oidc.ts": "the administrator",
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

test("every file that opens connections is listed, and only lib/outgoing connects to URLs set by users", () => {
  const connectCalls =
    /\bfetch\(|\bBun\.connect\(|\bsendRequest\(|\b(?:net|tls|https?)\.(?:connect|request|get)\(|ClientTransport\(|new WebSocket\(|connect as \w+.* from "node:(?:net|tls)"/;
  const callers = [...sourceTexts]
    .filter(([, text]) => connectCalls.test(text.replace(/^\s*(?:\/\/|\*).*$/gm, "")))
    .map(([file]) => file);
  expect(callers.filter((file) => file !== "lib/http-client/client.ts")).toEqual(Object.keys(connectingFiles));
});

/**
 * The files that create streams. A new one must be added to its caller's open streams (docs/decisions/0089), or this list must
 * explain why that isn't necessary.
 */
const streamCreators = {
  // These streams are not responses to callers, but the self-test's answers, files read by commands, and other servers' responses.
  "new ReadableStream": [
    "commands/selftest/provider/stream.ts",
    "db/archive/encryption.ts",
    "http/event-stream.ts",
    "http/expensive-reads.ts",
    "http/stream-text.ts",
    "lib/outgoing/create-fetch.ts",
  ],
  "createEventStream(": ["http/event-stream.ts", "modules/messages/streams.ts", "modules/openai/chunk-stream.ts"],
  // These streams are downloads. Their routes declare `expensive: "download"`, whose plugin adds them to the open streams.
  "createTextStream(": ["http/stream-text.ts", "modules/exports/routes.ts", "modules/me/account-routes.ts"],
  "streamsBody: true": ["modules/imports/routes.ts"],
};

test("long-lived responses are only created in the listed files", () => {
  for (const [code, expectedFiles] of Object.entries(streamCreators))
    expect([code, files.filter((file) => sourceTexts.get(file)?.includes(code))]).toEqual([code, expectedFiles]);
});
