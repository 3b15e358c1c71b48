import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { buildExecutable } from "../acceptance/executable.ts";
import { TEST_PASSWORD } from "../support/client.ts";
import { createFolder, runParley, spawnParley } from "./run-parley.ts";

const executable = await buildExecutable();

/** Runs the executable, and writes the input to its standard input. */
async function runWithInput(args: string[], input: string | Blob, env: Record<string, string>) {
  const child = Bun.spawn([executable, ...args], {
    env: { PATH: process.env.PATH ?? "", ...env },
    stdin: new Blob([input]),
    stdout: "pipe",
    stderr: "pipe",
  });
  const [stdout, stderr] = await Promise.all([new Response(child.stdout).bytes(), new Response(child.stderr).text()]);
  return { code: await child.exited, stdout, stderr };
}

test.each([
  [["backup"], "The file is missing"],
  [["verify"], "The file is missing"],
  [["restore"], "The file is missing"],
  [["backup", ""], "The file is missing"],
  [["backup", "a", "b"], 'does not accept the argument "b"'],
  [["verify", "a", "b"], 'does not accept the argument "b"'],
  [["backup", "a", "--compress"], "no option --compress"],
  [["restore", "a", "--force"], "no option --force"],
])("%j is a usage error with a one-sentence message", async (args, expectedError) => {
  using folder = createFolder();
  const { code, stdout, stderr } = await runParley(args, { env: { DATA_DIR: folder.path }, cwd: folder.path });
  expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
  expect(stderr).toContain(expectedError);
  expect(stderr.trim().split("\n")).toHaveLength(1);
  expect(readdirSync(folder.path)).toEqual([]);
});

describe("a backup of an embedded database", () => {
  const folder = createFolder();
  const DATA_DIR = join(folder.path, "data");
  const env = { DATA_DIR };
  const getPath = (name: string) => join(folder.path, name);
  const runCommand = (args: string[], extraEnv: Record<string, string> = {}) =>
    runParley(args, { env: { ...env, ...extraEnv } });
  const listFiles = () => readdirSync(folder.path).filter((name) => name !== "data");

  beforeAll(async () => {
    const created = await runCommand(["admin", "create", "--email", "ada@example.com", "--password", TEST_PASSWORD]);
    expect(created.code).toBe(0);
  }, 60_000);
  afterAll(() => folder[Symbol.dispose]());

  test("is accessible only to its owner, can be verified, and is replaced only with --force", async () => {
    const file = getPath("valid.parley");
    const created = await runCommand(["backup", file]);
    expect({ code: created.code, stderr: created.stderr }).toEqual({ code: 0, stderr: "" });
    expect(created.stdout).toContain(`Wrote ${file}.`);
    expect(created.stdout).toMatch(/users +1 /);
    expect(statSync(file).mode & 0o777).toBe(0o600);
    expect(listFiles()).toEqual(["valid.parley"]);

    const verified = await runParley(["verify", file], { env: { APP_ENV: "production" } });
    expect({ code: verified.code, stderr: verified.stderr }).toEqual({ code: 0, stderr: "" });
    expect(verified.stdout).toContain("The backup is valid.");

    const originalBytes = readFileSync(file);
    const rejected = await runCommand(["backup", file]);
    expect({ code: rejected.code, stdout: rejected.stdout }).toEqual({ code: 1, stdout: "" });
    expect(rejected.stderr).toBe(`${file} already exists; specify a different file, or use --force to replace it.\n`);
    expect(readFileSync(file).equals(originalBytes)).toBe(true);
    expect((await runCommand(["backup", file, "--force"])).code).toBe(0);
    expect(readFileSync(file).equals(originalBytes)).toBe(false);
    expect(listFiles()).toEqual(["valid.parley"]);
  }, 60_000);

  test("removes the partial file left by an earlier backup that was killed, and follows a symlink", async () => {
    const file = getPath("linked.parley");
    writeFileSync(file, "old");
    symlinkSync(file, getPath("link"));
    writeFileSync(getPath(".linked.parley.999999999-0123abcd.partial"), "half");
    expect((await runCommand(["backup", getPath("link"), "--force"])).code).toBe(0);
    expect(existsSync(getPath(".linked.parley.999999999-0123abcd.partial"))).toBe(false);
    expect((await runCommand(["verify", file])).code).toBe(0);
  }, 60_000);

  test("can be written to standard output and read from standard input", async () => {
    const created = await runWithInput(["backup", "-"], "", env);
    expect(created.code).toBe(0);
    expect(created.stderr).toContain("The JWT secret was not found");
    expect((await runWithInput(["verify", "-"], new Blob([created.stdout]), {})).code).toBe(0);
    const restored = await runWithInput(["restore", "-"], new Blob([created.stdout]), {
      DATA_DIR: getPath("restored"),
    });
    expect({ code: restored.code, stderr: restored.stderr }).toEqual({ code: 0, stderr: "" });
    const keyCommand = ["key", "create", "--name", "n", "--scopes", "admin"];
    expect((await runParley(keyCommand, { env: { DATA_DIR: getPath("restored") } })).code).toBe(0);
  }, 60_000);

  test("fails with one error if standard output is closed", async () => {
    const child = Bun.spawn(["sh", "-c", `"$0" backup - | head -c 10 >"$1"`, executable, getPath("begin")], {
      env: { PATH: process.env.PATH ?? "", ...env },
      stdio: ["ignore", "ignore", "pipe"],
    });
    expect(await new Response(child.stderr).text()).toBe(
      "Standard output was closed before the backup was complete; the backup is unusable.\n",
    );
  }, 60_000);

  test("can be read only with its passphrase if it is encrypted", async () => {
    const file = getPath("secret.parley");
    const passphraseFile = join(folder.path, "passphrase");
    writeFileSync(passphraseFile, "correct horse\n");
    expect((await runWithInput(["backup", file, "--encrypt"], "correct horse\n", env)).code).toBe(0);
    expect(readFileSync(file, "latin1")).toStartWith("age-encryption.org/v1\n");
    expect((await runWithInput(["verify", file], "correct horse\n", {})).code).toBe(0);
    expect((await runParley(["verify", file], { env: { BACKUP_PASSPHRASE_FILE: passphraseFile } })).code).toBe(0);
    expect(await runParley(["verify", file], { env: { BACKUP_PASSPHRASE_FILE: getPath("missing") } })).toMatchObject({
      code: 2,
      stderr: "BACKUP_PASSPHRASE_FILE: the file can't be read; use an existing file that Parley's user can read.\n",
    });

    const rejected = await runParley(["verify", file], { env: { BACKUP_PASSPHRASE: "wrong horse" } });
    expect({ code: rejected.code, stdout: rejected.stdout }).toEqual({ code: 1, stdout: "" });
    expect(rejected.stderr).toContain("The passphrase is wrong");
    expect(rejected.stderr).not.toContain("wrong horse");
    for (const [args, input] of [
      [["verify", file], ""],
      [["backup", getPath("none.parley"), "--encrypt"], ""],
    ] as const)
      expect(await runWithInput([...args], input, env)).toMatchObject({
        code: 2,
        stderr: "The backup needs a passphrase; set BACKUP_PASSPHRASE, or pass it on standard input.\n",
      });
    expect((await runWithInput(["verify", "-"], Bun.file(file), {})).code).toBe(2);
    // If BACKUP_PASSPHRASE is set, backups are encrypted even without --encrypt.
    expect((await runCommand(["backup", getPath("set.parley")], { BACKUP_PASSPHRASE: "x" })).code).toBe(0);
    expect(readFileSync(getPath("set.parley"), "latin1")).toStartWith("age-encryption.org/v1\n");
  }, 120_000);

  test.each<[string, string[], RegExp]>([
    ["a folder", ["backup", "."], /is a folder/],
    ["a device", ["backup", "/dev/null"], /is not a regular file/],
    ["a missing folder", ["backup", "nowhere/file"], /doesn't exist/],
    ["a name that is too long", ["backup", "x".repeat(300)], /too long/],
    ["a missing file", ["verify", "missing"], /doesn't exist/],
    ["a folder", ["verify", "."], /is a folder/],
    ["a file that isn't a backup", ["verify", "/etc/passwd"], /is not a Parley backup/],
    ["an empty file", ["verify", "/dev/null"], /empty/],
    ["a file that isn't a backup", ["restore", "/etc/passwd"], /is not a Parley backup/],
  ])(
    "fails with one error for %s: %j",
    async (_path, args, expectedError) => {
      const { code, stdout, stderr } = await runParley(args, {
        env: { ...env, ...(args[0] === "restore" && { DATA_DIR: getPath("other") }) },
        cwd: folder.path,
      });
      expect({ code, stdout }).toEqual({ code: 1, stdout: "" });
      expect(stderr).toMatch(expectedError);
      expect(stderr.trim().split("\n")).toHaveLength(1);
      expect(listFiles().filter((name) => name.endsWith(".partial"))).toEqual([]);
    },
    60_000,
  );

  test("fails if DATA_DIR has no database, and doesn't create DATA_DIR", async () => {
    const missingFolder = getPath("missing-folder");
    const { code, stderr } = await runParley(["backup", getPath("x")], { env: { DATA_DIR: missingFolder } });
    expect({ code, exists: existsSync(missingFolder) }).toEqual({ code: 1, exists: false });
    expect(stderr).toContain("No embedded database exists");
  });

  test("leaves no file if the disk is full", async () => {
    const smallDisk = getPath("small-disk");
    mkdirSync(smallDisk);
    if (Bun.spawnSync(["mount", "-t", "tmpfs", "-o", "size=4k", "none", smallDisk]).exitCode !== 0) {
      console.warn("No file system can be mounted here, so the full disk is not tested.");
      return;
    }
    try {
      const { code, stderr } = await runCommand(["backup", join(smallDisk, "file")]);
      expect({ code, stderr }).toEqual({
        code: 1,
        stderr: `The disk of ${smallDisk} is full; free some space, or specify a file on a different disk.\n`,
      });
      expect(readdirSync(smallDisk)).toEqual([]);
    } finally {
      Bun.spawnSync(["umount", smallDisk]);
    }
  }, 60_000);

  test("leaves no file if it is interrupted with Ctrl-C", async () => {
    const child = spawnParley(["backup", getPath("interrupted.parley")], { env });
    while (!readdirSync(folder.path).some((name) => name.startsWith(".interrupted"))) await Bun.sleep(5);
    child.kill("SIGINT");
    expect(await child.exited).toBe(1);
    expect(await new Response(child.stderr).text()).toBe("The backup was interrupted; no file was written.\n");
    expect(readdirSync(folder.path).filter((name) => name.includes("interrupted"))).toEqual([]);
  }, 60_000);

  test("can't be restored into a database with users, or while Parley is running", async () => {
    const file = getPath("valid.parley");
    const rejected = await runCommand(["restore", file]);
    expect({ code: rejected.code, stdout: rejected.stdout }).toEqual({ code: 1, stdout: "" });
    expect(rejected.stderr).toBe(
      `The database is not empty: it has users. Nothing was changed; move ${DATA_DIR} away, or set DATA_DIR to a different folder, and restore again.\n`,
    );
    const server = spawnParley(["serve"], { env: { ...env, PORT: "0", LOG_LEVEL: "silent" } });
    while (!existsSync(join(DATA_DIR, "postgres/postmaster.pid"))) await Bun.sleep(20);
    const whileServing = await runCommand(["restore", file]);
    expect(whileServing.code).toBe(1);
    expect(whileServing.stderr).toContain("Another Parley");
    server.kill();
    await server.exited;
  }, 60_000);
});

test("verify reports a file that the user has no permission to read", async () => {
  if (process.getuid?.() !== 0) return;
  using folder = createFolder();
  chmodSync(folder.path, 0o755);
  const file = join(folder.path, "unreadable");
  writeFileSync(file, "x", { mode: 0o600 });
  const child = Bun.spawn(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", executable, "verify", file], {
    env: { PATH: process.env.PATH ?? "" },
    stdout: "ignore",
    stderr: "pipe",
  });
  expect(await new Response(child.stderr).text()).toContain(`This user has no permission to read ${file}`);
  expect(await child.exited).toBe(1);
});
