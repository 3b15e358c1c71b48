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

/** Reads the patches and new files that the guide says to apply. */
function readSteps(): { patch?: string; file?: string; text: string }[] {
  const guide = readFileSync(join(root, "CONTRIBUTING.md"), "utf8");
  return [...guide.matchAll(/^(`{3,4})(diff|(?:ts|sql) file=(\S+))\n(.*?)^\1$/gms)].map(
    ([, , kind, file, text = ""]) => (kind === "diff" ? { patch: text, text } : { file, text }),
  );
}

/** Renames a migration to the next free number, as the guide says. */
function numberMigration(folder: string, file: string): string {
  if (!file.startsWith("sql/migrations/")) return file;
  const numbers = readdirSync(join(folder, "sql/migrations")).map((name) => Number.parseInt(name, 10) || 0);
  return file.replace(/\d{4}/, String(Math.max(...numbers) + 1).padStart(4, "0"));
}

test("the steps in CONTRIBUTING.md add a feature that passes the checks", () => {
  const copy = mkdtempSync(join(tmpdir(), "parley-contributing-"));
  const run = (...command: string[]) => {
    const { exitCode, stdout, stderr } = Bun.spawnSync(command, { cwd: copy, env: { ...process.env, NO_COLOR: "1" } });
    return { command: command.join(" "), exitCode, output: exitCode === 0 ? "" : `${stdout}${stderr}`.slice(-4000) };
  };
  const succeeds = (command: string[]) => ({ command: command.join(" "), exitCode: 0, output: "" });
  const check = (...command: string[]) => expect(run(...command)).toEqual(succeeds(command));
  try {
    const skip = new Set(LINKED_PATHS.map((path) => join(root, path)));
    const files = readdirSync(root, { withFileTypes: true }).filter((entry) => entry.isFile());
    for (const name of [...COPIED_PATHS, ...files.map(({ name }) => name)])
      cpSync(join(root, name), join(copy, name), { recursive: true, filter: (path) => !skip.has(path) });
    for (const path of LINKED_PATHS) {
      mkdirSync(dirname(join(copy, path)), { recursive: true });
      symlinkSync(join(root, path), join(copy, path));
    }

    const steps = readSteps();
    expect(steps.length).toBeGreaterThan(10);
    for (const { patch, file, text } of steps) {
      if (patch !== undefined) {
        writeFileSync(join(copy, "step.patch"), text);
        check("git", "apply", "--unsafe-paths", "-C1", "step.patch");
      } else if (file !== undefined) {
        const path = join(copy, numberMigration(copy, file));
        mkdirSync(dirname(path), { recursive: true });
        writeFileSync(path, text);
      }
    }

    // `make docs contract sql` runs the same scripts.
    for (const script of ["sql-checksums", "docs", "contract"]) check(bun, `scripts/${script}.ts`);
    check("node_modules/.bin/tsc", "-p", ".");
    check("node_modules/.bin/biome", "ci", "src", "test/announcements", "test/support");
    const tests = ["announcements", "providers/recipes.test.ts", "architecture.test.ts", "docs.test.ts"];
    check(bun, "test", "--timeout=60000", ...tests.map((path) => `test/${path}`));
    for (const [path, text] of [
      [".env.example", "# ANNOUNCEMENT="],
      ["docs/errors.md", "| `no_announcement` | 404 |"],
      ["docs/monitoring.md", "`parley_announcement_reads_total`"],
      ["contract/openapi.json", '"readAnnouncement"'],
      ["contract/asyncapi.json", '"announcement.read"'],
    ] as const)
      expect(readFileSync(join(copy, path), "utf8")).toContain(text);
  } finally {
    rmSync(copy, { recursive: true, force: true });
  }
});
