import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { atEndOfRun } from "./end-of-run.ts";

const root = resolve(import.meta.dir, "../..");

/** The version and commit of the second build, and its additional migration. */
export const later = { version: "99.0.0", commit: "1a7e12b01d00", migration: "0099_later.sql" };

let built: Promise<string> | undefined;

/**
 * A later version of Parley: these sources with another version and commit, and an additional migration. Takes 10
 * seconds.
 */
export function buildLaterVersion(): Promise<string> {
  built ??= build();
  return built;
}

async function build(): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), "parley-later-"));
  atEndOfRun(() => {
    built = undefined;
    rmSync(folder, { recursive: true, force: true });
  });
  for (const name of ["src", "sql", "docs", "scripts", "tsconfig.json", "package.json", "bunfig.toml"])
    cpSync(join(root, name), join(folder, name), { recursive: true });
  mkdirSync(join(folder, "dist"));
  symlinkSync(join(root, "node_modules"), join(folder, "node_modules"));
  cpSync(join(root, "dist/embedded"), join(folder, "dist/embedded"), { recursive: true });
  const manifest = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
  writeFileSync(join(folder, "package.json"), JSON.stringify({ ...manifest, version: later.version }));
  writeFileSync(join(folder, "sql/migrations", later.migration), "create table of_a_later_version (id integer);\n");
  const executable = join(folder, "parley-later");
  const child = Bun.spawn([process.execPath, "scripts/build.ts", executable], {
    cwd: folder,
    env: { ...process.env, PARLEY_COMMIT: later.commit },
    stdio: ["ignore", "ignore", "pipe"],
  });
  const output = new Response(child.stderr).text();
  if ((await child.exited) !== 0) throw new Error(`build: ${await output}`);
  return executable;
}
