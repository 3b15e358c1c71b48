import { expect, test } from "bun:test";
import { chmodSync, chownSync, mkdirSync, readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { createInstallation } from "../acceptance/installation.ts";
import { createFolder, findFreePort, spawnParley, waitForStatus } from "./run-parley.ts";

const isRoot = process.getuid?.() === 0;

test.skipIf(!isRoot)(
  `if serve runs as root, Postgres has no capabilities${isRoot ? "" : " (skipped: the tests do not run as root)"}`,
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

/** The ID of a user without an entry in /etc/passwd. Some containers run as such a user. */
const UNNAMED_USER = 20_002;

test.skipIf(!isRoot)(
  "if DATA_DIR belongs to a different user, the error names both users and suggests a remedy",
  async () => {
    const installation = await createInstallation({ user: { uid: UNNAMED_USER, gid: UNNAMED_USER } });
    try {
      const dataDir = join(installation.directory, "data");
      const closedDir = join(installation.directory, "closed");
      mkdirSync(dataDir, { mode: 0o755 });
      mkdirSync(join(closedDir, "data"), { recursive: true });
      chmodSync(closedDir, 0o700);
      const runServe = (env: Record<string, string>) =>
        installation.run(["serve"], { HOST: "127.0.0.1", LOG_LEVEL: "silent", ...env });
      const expectedError = `User ${UNNAMED_USER} can't use DATA_DIR ${dataDir}, which belongs to user 0; run \`chown -R ${UNNAMED_USER}:${UNNAMED_USER}\` on that folder or volume, or set a different DATA_DIR.\n`;
      const JWT_SECRET = "0123456789abcdef0123456789abcdef";
      for (const extraEnv of [{}, { JWT_SECRET }] as Record<string, string>[])
        expect(await runServe({ DATA_DIR: dataDir, ...extraEnv })).toEqual({
          code: 1,
          stdout: "",
          stderr: expectedError,
        });
      const inClosedFolder = await runServe({ DATA_DIR: join(closedDir, "data") });
      expect(inClosedFolder).toMatchObject({
        code: 1,
        stderr: expect.stringContaining("can't enter the parent folders of DATA_DIR"),
      });

      chownSync(dataDir, UNNAMED_USER, UNNAMED_USER);
      chmodSync(dataDir, 0o500);
      const inReadOnlyFolder = await runServe({ DATA_DIR: dataDir });
      expect(inReadOnlyFolder).toMatchObject({
        code: 1,
        stderr: expect.stringContaining(`run \`chmod u+rwx ${dataDir}\``),
      });
    } finally {
      await installation.remove();
    }
  },
);

test.skipIf(!isRoot)("if the user has no entry in /etc/passwd, the error suggests a remedy", async () => {
  const installation = await createInstallation({ user: { uid: UNNAMED_USER, gid: UNNAMED_USER } });
  try {
    const { code, stderr } = await installation.run(["serve"], { HOST: "127.0.0.1", LOG_LEVEL: "silent" });
    expect(code).toBe(1);
    expect(stderr).toBe(
      `The embedded Postgres needs a named user, and user ${UNNAMED_USER} has no entry in /etc/passwd; start Parley as a different user (10001 in its container image), or set DATABASE_URL.\n`,
    );
    // No partial files remain.
    expect(
      readdirSync(join(installation.directory, "data")).filter((name) => name.startsWith("postgres-new-")),
    ).toEqual([]);
  } finally {
    await installation.remove();
  }
});
