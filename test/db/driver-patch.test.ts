import { expect, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import packageJson from "../../package.json";

const patches = join(import.meta.dir, "../../patches");
const names = readdirSync(join(patches, "postgres")).sort();
const read = (path: string) => readFileSync(join(patches, path), "utf8");

test("the applied patch is what `make patches` writes: all files of patches/postgres in order", () => {
  expect(packageJson.patchedDependencies["postgres@3.4.9"]).toBe("patches/postgres@3.4.9.patch");
  expect(read("postgres@3.4.9.patch")).toBe(names.map((name) => read(`postgres/${name}`)).join(""));
});

test("each patch file states its reason and has a test named after it", () => {
  expect(names.length).toBeGreaterThan(5);
  const tests = readFileSync(join(import.meta.dir, "driver-repairs.test.ts"), "utf8");
  for (const name of names) {
    const [kind = "", ...words] = name.replace(".patch", "").split("-");
    expect(read(`postgres/${name}`)).toMatch(/^(Repair|Speed|Timing|Turns|Waits): .+\n\n.+/);
    expect(read(`postgres/${name}`).toLowerCase()).toStartWith(`${kind}: `);
    // For example "repair 3, half-read answers".
    const title = kind === "repair" ? `${kind} ${words.shift()}, ${words[0]}` : `${kind}, ${words[0]}`;
    expect(tests).toContain(`test("${title}`);
  }
});
