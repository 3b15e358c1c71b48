import { expect, setDefaultTimeout, test } from "bun:test";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createTestClient } from "../support/client.ts";
import { startRelay } from "../support/relay.ts";
import { waitUntil } from "../support/wait-until.ts";
import { type RunningGuide, runGuide } from "./run-guide.ts";

setDefaultTimeout(300_000);

// The Go example needs Debian's large packages golang-go and golang-github-gorilla-websocket-dev. Without them, it is skipped.
const hasGo = Bun.which("go") !== null;
const env = { GO111MODULE: "off", GOPATH: "/usr/share/gocode", GOCACHE: join(tmpdir(), "parley-gocache") };

const commands = [
  ["node", "--experimental-websocket", "client.mjs"],
  [process.execPath, "client.mjs"],
  ["/usr/bin/python3", "client.py"],
  ...(hasGo ? [["go", "run", "client.go"]] : []),
];

/** Runs a client that loses its connection while messages are sent. Returns its output. */
async function runWithLostConnection(command: string[], { folder, url }: RunningGuide): Promise<string> {
  const parley = createTestClient(url);
  const { access_token: token } = await parley.register();
  const createResource = async (path: string, json: object) =>
    (await (await parley.fetch(`/api/v1${path}`, { token, json })).json()) as { id: string; key: string };
  const { id } = await createResource("/conversations", { kind: "group" });
  const scopes = ["conversations:read", "messages:read", "messages:write"];
  const { key } = await createResource("/api-keys", { name: "example", scopes });
  const sendMessage = (content: string) => createResource(`/conversations/${id}/messages`, { content });

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
  let output = "";
  const outputRead = (async () => {
    for await (const chunk of child.stdout.pipeThrough(new TextDecoderStream())) output += chunk;
  })();
  try {
    await waitUntil(() => output.includes("subscribed"), 60_000);
    await sendMessage("before");
    await waitUntil(() => output.includes("user: before"));
    relay.cut();
    relay.reset();
    await waitUntil(() => output.includes("reconnecting"));
    await sendMessage("during the reconnect");
    relay.restore();
    await waitUntil(() => output.split("subscribed").length > 2, 60_000);
    await sendMessage("after");
    await waitUntil(() => output.includes("user: after"));
  } finally {
    // `go run` starts the client as a child process.
    process.kill(-child.pid, "SIGKILL");
    await outputRead;
    relay.stop();
  }
  return output.replaceAll("reconnecting\n", "");
}

test("the examples in docs/websocket-examples.md work as written, and their clients miss no messages", () =>
  runGuide("docs/websocket-examples.md", {
    env,
    skippedSections: hasGo ? [] : ["Go"],
    async checkResults(guide) {
      for (const command of commands)
        expect([command, await runWithLostConnection(command, guide)]).toEqual([
          command,
          "subscribed\nuser: before\nuser: during the reconnect\nsubscribed\nuser: after\n",
        ]);
    },
  }));
