import { expect, test } from "bun:test";
import { chmodSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { createFolder, findFreePort, spawnParley, waitForStatus } from "./run-parley.ts";

const isRoot = process.getuid?.() === 0;

/** The command that makes `DATA_DIR` first is the one that needs a secret there, before Postgres does. */
test.skipIf(!isRoot)(
  `serve as root in an empty folder: Postgres has no capability${isRoot ? "" : " (skipped: the tests do not run as root)"}`,
  async () => {
    using folder = createFolder();
    chmodSync(folder.path, 0o755);
    const port = findFreePort();
    const server = spawnParley(["serve"], { cwd: folder.path, env: { PORT: String(port), HOST: "127.0.0.1" } });
    try {
      await waitForStatus(`http://127.0.0.1:${port}/readyz`, 200);
      const dataDir = join(folder.path, "data");
      const pid = readFileSync(join(dataDir, "postgres/postmaster.pid"), "utf8").split("\n")[0];
      const status = readFileSync(`/proc/${pid}/status`, "utf8");
      expect(/^CapEff:\s+(\w+)$/m.exec(status)?.[1]).toBe("0".repeat(16));
      expect(statSync(dataDir).mode & 0o777).toBe(0o711);
      expect(statSync(join(dataDir, "jwt-secret")).mode & 0o777).toBe(0o600);
    } finally {
      server.kill();
      await server.exited;
    }
    expect(await new Response(server.stdout).text()).not.toContain("capability");
  },
  60_000,
);
