import { expect, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import packageJson from "../../package.json";

const patchesDir = join(import.meta.dir, "../../patches");
const patchNames = readdirSync(join(patchesDir, "postgres")).sort();
const readPatchFile = (path: string) => readFileSync(join(patchesDir, path), "utf8");

test("the applied patch consists of all files in patches/postgres, in order (`make patches` writes it)", () => {
  expect(packageJson.patchedDependencies["postgres@3.4.9"]).toBe("patches/postgres@3.4.9.patch");
  expect(readPatchFile("postgres@3.4.9.patch")).toBe(
    patchNames.map((name) => readPatchFile(`postgres/${name}`)).join(""),
  );
});

test("each patch file states its reason, and has a test in driver-repairs.test.ts that is named after it", () => {
  expect(patchNames.length).toBeGreaterThan(5);
  const tests = readFileSync(join(import.meta.dir, "driver-repairs.test.ts"), "utf8");
  for (const name of patchNames) {
    const [kind] = name.split("-");
    expect(readPatchFile(`postgres/${name}`)).toMatch(/^(Repair|Speed|Timing|Turns|Waits): .+\n\n.+/);
    expect(readPatchFile(`postgres/${name}`).toLowerCase()).toStartWith(`${kind}: `);
    expect(tests).toContain(`test("${name.replace(".patch", "")}: `);
  }
});
