import { expect, setDefaultTimeout, test } from "bun:test";
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";

setDefaultTimeout(300_000);

const root = join(import.meta.dir, "../..");
const bun = process.execPath;
/** Large folders that the steps don't change, and which are therefore linked instead of copied. */
const LINKED_PATHS = ["node_modules", "test/sdk/node_modules", "test/bench/node_modules", "dist/embedded"];
const COPIED_PATHS = ["src", "sql", "scripts", "test", "docs", "contract", "licenses", "deploy", "patches"];

/** Returns the guide's patches and new files. */
function parseSteps(): { patch?: string; file?: string; text: string }[] {
  const guide = readFileSync(join(root, "CONTRIBUTING.md"), "utf8");
  return [...guide.matchAll(/^(`{3,4})(diff|(?:ts|sql) file=(\S+))\n(.*?)^\1$/gms)].map(
    ([, , kind, file, text = ""]) => (kind === "diff" ? { patch: text, text } : { file, text }),
  );
}

/** Renames a migration to the next free number, as the guide says. */
function renumberMigration(folder: string, file: string): string {
  if (!file.startsWith("sql/migrations/")) return file;
  const numbers = readdirSync(join(folder, "sql/migrations")).map((name) => Number.parseInt(name, 10) || 0);
  return file.replace(/\d{4}/, String(Math.max(...numbers) + 1).padStart(4, "0"));
}

test("the steps in CONTRIBUTING.md add a feature that passes the checks", () => {
  const copyFolder = mkdtempSync(join(tmpdir(), "parley-contributing-"));
  const runCommand = (...command: string[]) => {
    const { exitCode, stdout, stderr } = Bun.spawnSync(command, {
      cwd: copyFolder,
      env: { ...process.env, NO_COLOR: "1" },
    });
    return { command: command.join(" "), exitCode, output: exitCode === 0 ? "" : `${stdout}${stderr}`.slice(-4000) };
  };
  const createSuccess = (command: string[]) => ({ command: command.join(" "), exitCode: 0, output: "" });
  const expectSuccess = (...command: string[]) => expect(runCommand(...command)).toEqual(createSuccess(command));
  try {
    const skippedPaths = new Set(LINKED_PATHS.map((path) => join(root, path)));
    const files = readdirSync(root, { withFileTypes: true }).filter((entry) => entry.isFile());
    for (const name of [...COPIED_PATHS, ...files.map(({ name }) => name)])
      cpSync(join(root, name), join(copyFolder, name), { recursive: true, filter: (path) => !skippedPaths.has(path) });
    for (const path of LINKED_PATHS) {
      mkdirSync(dirname(join(copyFolder, path)), { recursive: true });
      symlinkSync(join(root, path), join(copyFolder, path));
    }

    const steps = parseSteps();
    expect(steps.length).toBeGreaterThan(10);
    for (const { patch, file, text } of steps) {
      if (patch !== undefined) {
        writeFileSync(join(copyFolder, "step.patch"), text);
        expectSuccess("git", "apply", "--unsafe-paths", "-C1", "step.patch");
      } else if (file !== undefined) {
        const path = join(copyFolder, renumberMigration(copyFolder, file));
        mkdirSync(dirname(path), { recursive: true });
        writeFileSync(path, text);
      }
    }

    // `make docs contract sql` runs the same scripts.
    for (const script of ["sql-checksums", "docs", "contract"]) expectSuccess(bun, `scripts/${script}.ts`);
    expectSuccess("node_modules/.bin/tsc", "-p", ".");
    expectSuccess("node_modules/.bin/biome", "ci", "src", "test/announcements", "test/support");
    const tests = ["announcements", "providers/recipes.test.ts", "architecture.test.ts", "docs.test.ts"];
    expectSuccess(bun, "test", "--timeout=60000", ...tests.map((path) => `test/${path}`));
    for (const [path, text] of [
      [".env.example", "# ANNOUNCEMENT="],
      ["docs/errors.md", "| `no_announcement` | 404 |"],
      ["docs/monitoring.md", "`parley_announcement_reads_total`"],
      ["contract/openapi.json", '"readAnnouncement"'],
      ["contract/asyncapi.json", '"announcement.read"'],
    ] as const)
      expect(readFileSync(join(copyFolder, path), "utf8")).toContain(text);
  } finally {
    rmSync(copyFolder, { recursive: true, force: true });
  }
});
