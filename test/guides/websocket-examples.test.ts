import { expect, setDefaultTimeout, test } from "bun:test";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createTestClient } from "../support/client.ts";
import { startRelay } from "../support/relay.ts";
import { waitUntil } from "../support/wait-until.ts";
import { type RunningGuide, runGuide } from "./run-guide.ts";

setDefaultTimeout(300_000);

// Debian's packages of Go: golang-go and golang-github-gorilla-websocket-dev. They are large, so only machines that have them run that part.
const hasGo = Bun.which("go") !== null;
const env = { GO111MODULE: "off", GOPATH: "/usr/share/gocode", GOCACHE: join(tmpdir(), "parley-gocache") };

const commands = [
  ["node", "--experimental-websocket", "client.mjs"],
  [process.execPath, "client.mjs"],
  ["/usr/bin/python3", "client.py"],
  ...(hasGo ? [["go", "run", "client.go"]] : []),
];

/** Runs a client whose connection is lost while others write, and comes back. @returns what it has printed. */
async function loseConnection(command: string[], { folder, url }: RunningGuide): Promise<string> {
  const parley = createTestClient(url);
  const { access_token: token } = await parley.register();
  const create = async (path: string, json: object) =>
    (await (await parley.fetch(`/api/v1${path}`, { token, json })).json()) as { id: string; key: string };
  const { id } = await create("/conversations", { kind: "group" });
  const scopes = ["conversations:read", "messages:read", "messages:write"];
  const { key } = await create("/api-keys", { name: "example", scopes });
  const send = (content: string) => create(`/conversations/${id}/messages`, { content });

  const relay = startRelay(
    { hostname: "127.0.0.1", port: 0 },
    { hostname: "127.0.0.1", port: Number(new URL(url).port) },
  );
  const child = Bun.spawn(command, {
    cwd: folder,
    env: {
      ...process.env,
      ...env,
      PARLEY_URL: `ws://127.0.0.1:${relay.port}/realtime`,
      PARLEY_KEY: key,
      PARLEY_CONVERSATION: id,
    },
    stdio: ["pipe", "pipe", "inherit"],
    detached: true,
  });
  let printed = "";
  const reading = (async () => {
    for await (const chunk of child.stdout.pipeThrough(new TextDecoderStream())) printed += chunk;
  })();
  try {
    await waitUntil(() => printed.includes("subscribed"), 60_000);
    await send("before");
    await waitUntil(() => printed.includes("user: before"));
    relay.cut();
    relay.reset();
    await waitUntil(() => printed.includes("reconnecting"));
    await send("meanwhile");
    relay.restore();
    await waitUntil(() => printed.split("subscribed").length > 2, 60_000);
    await send("after");
    await waitUntil(() => printed.includes("user: after"));
  } finally {
    // `go run` starts the client as a child of its own.
    process.kill(-child.pid, "SIGKILL");
    await reading;
    relay.stop();
  }
  return printed.replaceAll("reconnecting\n", "");
}

test("docs/websocket-examples.md runs as printed, and its clients miss nothing of others", () =>
  runGuide("docs/websocket-examples.md", {
    env,
    without: hasGo ? [] : ["Go"],
    async afterwards(guide) {
      for (const command of commands)
        expect([command, await loseConnection(command, guide)]).toEqual([
          command,
          "subscribed\nuser: before\nuser: meanwhile\nsubscribed\nuser: after\n",
        ]);
    },
  }));
