import "./commands/production-mode.ts";
import { adminCommand } from "./commands/admin.ts";
import { backupCommand } from "./commands/backup.ts";
import { type Command, CommandError, exitCodes, parseOptions, UsageError } from "./commands/command.ts";
import { configCommand } from "./commands/config.ts";
import { explainDatabaseError } from "./commands/database-error.ts";
import { doctorCommand } from "./commands/doctor.ts";
import { healthcheckCommand } from "./commands/healthcheck.ts";
import { keyCommand } from "./commands/key.ts";
import { licensesCommand } from "./commands/licenses.ts";
import { migrateCommand } from "./commands/migrate.ts";
import { restoreCommand } from "./commands/restore.ts";
import { selftestCommand } from "./commands/selftest.ts";
import { serveCommand } from "./commands/serve.ts";
import { upgradeCommand } from "./commands/upgrade.ts";
import { verifyCommand } from "./commands/verify.ts";
import { ConfigError } from "./config.ts";
import { build } from "./lib/build.ts";

const commands: Command[] = [
  serveCommand,
  migrateCommand,
  adminCommand,
  keyCommand,
  backupCommand,
  verifyCommand,
  restoreCommand,
  configCommand,
  upgradeCommand,
  doctorCommand,
  selftestCommand,
  healthcheckCommand,
  licensesCommand,
];

const help = `Parley, an AI chat backend in one executable.

Usage: parley [COMMAND]

${commands.map(({ name, summary }) => `  ${name.padEnd(12)} ${summary}`).join("\n")}

  --version    print the version; also \`parley version\`
  --help       print this help; also \`parley COMMAND --help\` and \`parley help COMMAND\`

Settings come from the environment; \`parley config\` shows them.`;

async function runCommand(args: string[]): Promise<number> {
  const [commandName = "serve", ...rest] = args;
  if (commandName === "version" || commandName === "--version" || commandName === "-v") return printVersion(rest);
  if (commandName === "help") return printHelp(rest);
  if (commandName === "--help" || commandName === "-h") return print(help);
  const command = commands.find(({ name }) => name === commandName);
  if (!command) {
    const kind = commandName.startsWith("-") ? "option" : "command";
    throw new UsageError(`Unknown ${kind} "${commandName}"; \`parley --help\` shows the usage.`);
  }
  if (rest.includes("--help") || rest.includes("-h")) return print(command.help);
  return await command.run(rest, process.env);
}

function printVersion(args: string[]): number {
  if (args.includes("--help") || args.includes("-h"))
    return print("Usage: parley version\n\nPrints the version and its commit.");
  parseOptions("version", args, {});
  return print(`parley ${build.version} (${build.commit})`);
}

/** Prints the help of a command. */
function printHelp([name, ...rest]: string[]): number {
  if (name === undefined || name === "--help" || name === "-h") return print(help);
  if (rest.length > 0) throw new UsageError("`parley help` takes one command; `parley --help` lists them.");
  const command = commands.find((candidate) => candidate.name === name);
  if (command) return print(command.help);
  if (name === "help" || name === "version") return print(help);
  throw new UsageError(`Unknown command ${JSON.stringify(name)}; \`parley --help\` shows the usage.`);
}

function print(text: string): number {
  console.log(text);
  return exitCodes.success;
}

/** Returns the lines to print for an error, and the exit code. */
function explainError(error: unknown): { lines: string[]; code: number } {
  if (error instanceof UsageError) return { lines: [error.message], code: exitCodes.usage };
  if (error instanceof ConfigError) return { lines: error.problems, code: exitCodes.usage };
  if (error instanceof CommandError) return { lines: [error.message], code: exitCodes.failure };
  const text = error instanceof Error ? error.message : String(error);
  return { lines: [explainDatabaseError(error) ?? text], code: exitCodes.failure };
}

const code = await runCommand(process.argv.slice(2)).catch((error: unknown) => {
  const { lines, code } = explainError(error);
  for (const line of lines) console.error(line);
  return code;
});
process.exit(code);
