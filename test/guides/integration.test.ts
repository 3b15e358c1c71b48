import { setDefaultTimeout, test } from "bun:test";
import { runGuide } from "./run-guide.ts";

setDefaultTimeout(180_000);

test("the commands in docs/your-users.md work as written", () =>
  runGuide("docs/your-users.md", { ports: [3000, 8080] }));

test("the commands in docs/from-socket-io.md work as written, with Socket.IO and with Parley", () =>
  runGuide("docs/from-socket-io.md", { ports: [3000, 4000], hasPackages: true }));
