import { setDefaultTimeout, test } from "bun:test";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { runGuide } from "./run-guide.ts";

setDefaultTimeout(300_000);

// Debian's packages of Go: golang-go and golang-github-gorilla-websocket-dev. They are large, so only machines that have them run that part.
const hasGo = Bun.which("go") !== null;
const env = { GO111MODULE: "off", GOPATH: "/usr/share/gocode", GOCACHE: join(tmpdir(), "parley-gocache") };

test("docs/websocket-examples.md runs as printed", () =>
  runGuide("docs/websocket-examples.md", { env, without: hasGo ? [] : ["Go"] }));
