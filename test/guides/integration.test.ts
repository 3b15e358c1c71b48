import { setDefaultTimeout, test } from "bun:test";
import { runGuide } from "./run-guide.ts";

setDefaultTimeout(180_000);

test("docs/your-users.md runs as printed", () => runGuide("docs/your-users.md", { ports: [3000, 8080] }));

test("docs/from-socket-io.md runs as printed, with Socket.IO and with Parley", () =>
  runGuide("docs/from-socket-io.md", { ports: [3000, 4000], packages: true }));
