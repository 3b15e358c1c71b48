import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterTestRun } from "./after-test-run.ts";

const root = resolve(import.meta.dir, "../..");

/** The version, commit and additional migration of the later version. */
export const laterVersion = { version: "99.0.0", commit: "1a7e12b01d00", migration: "0099_later.sql" };

let building: Promise<string> | undefined;

/**
 * Builds a later version of Parley from this source tree, with a higher version number, a different commit and one more
 * migration, in about 10 seconds. Returns the path of the executable.
 */
export function buildLaterVersion(): Promise<string> {
  building ??= build();
  return building;
}

async function build(): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), "parley-later-"));
  afterTestRun(() => {
    building = undefined;
    rmSync(folder, { recursive: true, force: true });
  });
  const sources = ["src", "sql", "docs", "scripts", "tsconfig.json", "package.json", "bunfig.toml"];
  for (const name of [...sources, "THIRD-PARTY-NOTICES.txt"])
    cpSync(join(root, name), join(folder, name), { recursive: true });
  mkdirSync(join(folder, "dist"));
  symlinkSync(join(root, "node_modules"), join(folder, "node_modules"));
  cpSync(join(root, "dist/embedded"), join(folder, "dist/embedded"), { recursive: true });
  const manifest = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
  writeFileSync(join(folder, "package.json"), JSON.stringify({ ...manifest, version: laterVersion.version }));
  writeFileSync(
    join(folder, "sql/migrations", laterVersion.migration),
    "create table of_a_later_version (id integer);\n",
  );
  const executable = join(folder, "parley-later");
  const child = Bun.spawn([process.execPath, "scripts/build.ts", executable], {
    cwd: folder,
    env: { ...process.env, PARLEY_COMMIT: laterVersion.commit },
    stdio: ["ignore", "ignore", "pipe"],
  });
  const output = new Response(child.stderr).text();
  if ((await child.exited) !== 0) throw new Error(`build: ${await output}`);
  return executable;
}
