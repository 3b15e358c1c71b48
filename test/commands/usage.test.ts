import { expect, setDefaultTimeout, test } from "bun:test";
import { version } from "../../package.json";
import { runParley } from "./run-parley.ts";

// Each test starts several processes.
setDefaultTimeout(30_000);

const invalidUsage: [string, string][] = [
  ["fly", 'Unknown command "fly"; `parley --help` shows the usage.'],
  ["--fly", 'Unknown option "--fly"; `parley --help` shows the usage.'],
  ["serve --port 3", "`parley serve` has no option --port; `parley serve --help` shows the usage."],
  ["serve now", '`parley serve` does not accept the argument "now"; `parley serve --help` shows the usage.'],
  ["migrate -s", "`parley migrate` has no option -s; `parley migrate --help` shows the usage."],
  [
    "migrate --status=yes",
    "`parley migrate` can't parse the option --status; `parley migrate --help` shows the usage.",
  ],
  ["config chekc", '`parley config` has no action "chekc"; `parley config --help` shows the usage.'],
  [
    "config check now",
    '`parley config check` does not accept the argument "now"; `parley config check --help` shows the usage.',
  ],
  ["healthcheck -x", "`parley healthcheck` has no option -x; `parley healthcheck --help` shows the usage."],
  ["version now", '`parley version` does not accept the argument "now"; `parley version --help` shows the usage.'],
  ["help fly", 'Unknown command "fly"; `parley --help` shows the usage.'],
  ["help serve now", "`parley help` takes one command; `parley --help` lists them."],
  ["admin", "An action is missing; `parley admin --help` shows the usage."],
];

test.each(invalidUsage)("parley %s is a usage error with a one-sentence message", async (args, expectedError) => {
  expect(await runParley(args.split(" "))).toEqual({ code: 2, stdout: "", stderr: `${expectedError}\n` });
});

test.each(["--version", "version"])("%s prints the version and the commit", async (argument) => {
  const { code, stdout, stderr } = await runParley([argument]);
  expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
  expect(stdout).toMatch(new RegExp(`^parley ${version} \\(([0-9a-f]{12}|unknown)\\)\n$`));
});

test.each(["--help", "help"])("%s lists the commands, and each has its own help", async (argument) => {
  const { code, stdout, stderr } = await runParley([argument]);
  expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
  const names = [...stdout.matchAll(/^ {2}([a-z]+) /gm)].map(([, name = ""]) => name);
  expect(names).toEqual([
    "serve",
    "migrate",
    "admin",
    "key",
    "backup",
    "verify",
    "restore",
    "config",
    "upgrade",
    "doctor",
    "selftest",
    "healthcheck",
    "licenses",
  ]);
  const helps = await Promise.all(
    names.map((name) => runParley(argument === "help" ? ["help", name] : [name, "--help"])),
  );
  expect((await runParley(["version", "--help"])).stdout).toContain("Usage: parley version");
  helps.forEach((help, index) => {
    expect(help).toEqual({ code: 0, stdout: expect.stringContaining(`Usage: parley ${names[index]}`), stderr: "" });
  });
});
