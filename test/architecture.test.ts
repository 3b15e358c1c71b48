import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { dirname, join, normalize } from "node:path";

const src = join(import.meta.dir, "../src");
const files = [...new Bun.Glob("**/*.ts").scanSync(src)].filter((file) => !file.endsWith(".d.ts")).sort();
const texts = new Map(files.map((file) => [file, readFileSync(join(src, file), "utf8")]));

/** Every file that a file of ours imports, types too. */
const imports = new Map(
  [...texts].map(([file, text]) => {
    const targets = [...text.matchAll(/^(?:import|export)\b[^;"]*"(\.[^"]+)"|\bimport\("(\.[^"]+)"\)/gm)]
      .map(([, stated, dynamic]) => normalize(join(dirname(file), stated ?? dynamic ?? "")))
      .filter((target) => texts.has(target));
    return [file, targets];
  }),
);

/** From the ground up: a layer may use those below it, and a folder itself, but not its neighbours. */
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

/** From the ground up: a module may use those before it, and of them only what they show: service.ts and model.ts. */
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
const shown = ["service.ts", "model.ts"];

const topOf = (file: string) => (file.split("/")[0] ?? "").replace(/\.ts$/, "");
const layerOf = (file: string) => layers.findIndex((layer) => layer.includes(file.split("/")[0] ?? ""));
const moduleOf = (file: string) => (file.startsWith("modules/") ? file.split("/")[1] : undefined);

const arrows = [...imports].flatMap(([file, targets]) => targets.map((target) => ({ file, target })));

test("the imports were read", () => {
  expect(files.length).toBeGreaterThan(80);
  expect(arrows.length).toBeGreaterThan(200);
  expect(arrows).toContainEqual({ file: "main.ts", target: "commands/serve.ts" });
});

test("every file belongs to a layer, every module has its place", () => {
  expect(files.filter((file) => layerOf(file) === -1)).toEqual([]);
  expect(files.filter((file) => moduleOf(file) !== undefined && !modules.includes(moduleOf(file) ?? ""))).toEqual([]);
});

test("imports never run upwards, nor to a neighbour in the same layer", () => {
  const isNeighbour = (file: string, target: string) =>
    layerOf(target) === layerOf(file) && topOf(target) !== topOf(file) && layerOf(file) < layerOf("modules/any.ts");
  const wrong = arrows.filter(({ file, target }) => layerOf(target) > layerOf(file) || isNeighbour(file, target));
  expect(wrong).toEqual([]);
});

test("a module uses only those below it, and of them only what they show", () => {
  const wrong = arrows.filter(({ file, target }) => {
    const from = moduleOf(file);
    const to = moduleOf(target);
    if (from === undefined || to === undefined || from === to) return false;
    // Routes lie by their addresses, and nothing lies above them: they may use any service.
    const isUpwards = !/routes\.ts$/.test(file) && modules.indexOf(to) > modules.indexOf(from);
    return isUpwards || !shown.includes(target.split("/").slice(2).join("/"));
  });
  expect(wrong).toEqual([]);
});

test("no file imports itself by way of others", () => {
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

test("only http/ and the composition root know the framework: routes are declared", () => {
  const users = [...texts]
    .filter(([, text]) => /from "elysia"|from "@elysiajs\/swagger"/.test(text))
    .map(([file]) => file);
  expect(users.filter((file) => !file.startsWith("http/"))).toEqual(["app.ts"]);
});

test("only the command line reads the environment or ends the process", () => {
  const readers = [...texts]
    .filter(([, text]) => /\bprocess\.(?:env|exit|argv)\b|\bBun\.env\b|\bimport\.meta\.env\b/.test(text))
    .map(([file]) => file)
    .filter((file) => file !== "main.ts" && !file.startsWith("commands/"));
  expect(readers).toEqual([]);
});

/** From the ground up, within ai/: a folder uses those before it in the same line, and files that lie beside the folders. */
const aiFolders = [
  ["format", "transport", "providers"],
  ["format", "attempt", "chain"],
];

test("within ai/, providers know nothing of attempts, and the chain nothing of the wire", () => {
  const folderOf = (file: string) => /^ai\/([^/]+)\//.exec(file)?.[1];
  const wrong = arrows.filter(({ file, target }) => {
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

test("what providers speak stays in ai/providers/", () => {
  const users = [...texts].filter(([, text]) => /from "(?:openai|@anthropic-ai)/.test(text)).map(([file]) => file);
  expect(users.length).toBeGreaterThan(0);
  expect(users.filter((file) => !file.startsWith("ai/providers/"))).toEqual([]);
});

test("our own tokens are signed and checked in one place, jose serves the tokens of issuers, and those for MCP servers", () => {
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

/** Where connections to other machines begin, and whose word the address is. */
const connecting = {
  "ai/providers/sdk-request.ts": "the administrator's",
  "commands/healthcheck.ts": "the administrator's",
  "commands/upgrade/source.ts": "the administrator's",
  "db/tls-check.ts": "the administrator's",
  "lib/http-client/open-socket.ts": "its callers'",
  "lib/outgoing/create-fetch.ts": "the administrator's",
  "lib/outgoing/send-guarded.ts": "a user's, which it guards",
  "lib/tracing/propagate-trace.ts": "passes on MCP requests",
  "lib/tracing/send-spans.ts": "the collector of the settings",
  "modules/auth/oidc/key-source.ts": "the administrator's",
  "modules/tools/mcp/bounded-fetch.ts": "the administrator's",
  "modules/tools/mcp/connection.ts": "the administrator's",
};

test("an address that a user sets is called by lib/outgoing alone: whoever connects is listed here", () => {
  const ways =
    /\bfetch\(|\bBun\.connect\(|\bsendRequest\(|\b(?:net|tls|https?)\.(?:connect|request|get)\(|ClientTransport\(|new WebSocket\(|connect as \w+.* from "node:(?:net|tls)"/;
  const callers = [...texts]
    .filter(([, text]) => ways.test(text.replace(/^\s*(?:\/\/|\*).*$/gm, "")))
    .map(([file]) => file);
  expect(callers.filter((file) => file !== "lib/http-client/client.ts")).toEqual(Object.keys(connecting));
});

/** Whoever adds one adds it to the open streams of its caller (docs/decisions/0089), or says here why it needs none. */
const streamMakers = {
  // The one of backups reads a file for a command, the one of `fetch` a response of another server.
  "new ReadableStream": [
    "db/archive/encryption.ts",
    "http/event-stream.ts",
    "http/expensive-reads.ts",
    "http/stream-text.ts",
    "lib/outgoing/create-fetch.ts",
  ],
  "createEventStream(": ["http/event-stream.ts", "modules/messages/streams.ts", "modules/openai/chunk-stream.ts"],
  // Downloads: their routes say `expensive: "download"`, whose plugin adds them.
  "streamText(": ["http/stream-text.ts", "modules/exports/routes.ts", "modules/me/account-routes.ts"],
  "streamsBody: true": ["modules/imports/routes.ts"],
};

test("what keeps a request open is made in the places that are known", () => {
  for (const [word, known] of Object.entries(streamMakers))
    expect([word, files.filter((file) => texts.get(file)?.includes(word))]).toEqual([word, known]);
});
