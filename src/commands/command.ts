import { type ParseArgsConfig, parseArgs } from "node:util";
import type { InvalidField } from "../lib/problem.ts";

/** Variables of the environment as a command sees them. */
export type Environment = Record<string, string | undefined>;

export type Command = {
  name: string;
  /** One line of `parley --help`. */
  summary: string;
  /** What `parley COMMAND --help` prints. */
  help: string;
  /** Does it, and gives the exit code. Arguments are those behind the command's name. */
  run(args: string[], environment: Environment): Promise<number>;
};

export const exitCodes = { success: 0, failure: 1, usage: 2 } as const;

/** Wrong use of the command line; the message is one sentence that says how to fix it. Exit code 2. */
export class UsageError extends Error {}

/** A command cannot do what it was asked to; the message is one sentence that says how to fix it. Exit code 1. */
export class CommandError extends Error {}

/** What is wrong with a field, said of the option that it was given by. */
export function createUsageError({ pointer, detail }: InvalidField): UsageError {
  const field = pointer.replace("#/", "");
  const option = `--${field.replaceAll("_", "-")}`;
  return new UsageError(detail.startsWith(`${field} `) ? option + detail.slice(field.length) : `${option}: ${detail}`);
}

/**
 * Reads the options of a command.
 * @throws UsageError for an unknown option, a missing value, or an argument too many.
 */
export function parseOptions<const T extends Options>(command: string, args: string[], options: T) {
  return parseArguments(command, args, options, 0).values;
}

/**
 * The same for a command that takes a file.
 * @throws UsageError also when none is named, or more than one.
 */
export function parseFileOptions<const T extends Options>(command: string, args: string[], options: T) {
  const { values, positionals } = parseArguments(command, args, options, 1);
  const [file] = positionals;
  if (!file) throw new UsageError(`Name the file: \`parley ${command} FILE\`; ${findHint(command)}`);
  return { values, file };
}

type Options = NonNullable<ParseArgsConfig["options"]>;

const findHint = (command: string): string => `\`parley ${command} --help\` shows what it takes.`;

function parseArguments<const T extends Options>(command: string, args: string[], options: T, argumentsMax: number) {
  const hint = findHint(command);
  try {
    const parsed = parseArgs({ args, options, strict: true, allowPositionals: true, tokens: true });
    const extra = parsed.tokens.filter((token) => token.kind === "positional")[argumentsMax];
    if (extra) throw new UsageError(`\`parley ${command}\` takes no argument "${extra.value}"; ${hint}`);
    return parsed;
  } catch (error) {
    if (error instanceof UsageError) throw error;
    const option = error instanceof Error ? /'(-[^\s'<]*)/.exec(error.message)?.[1] : undefined;
    const isUnknown = error instanceof Error && "code" in error && error.code === "ERR_PARSE_ARGS_UNKNOWN_OPTION";
    const fault = isUnknown ? `has no option ${option}` : `cannot read its option ${option ?? ""}`.trimEnd();
    throw new UsageError(`\`parley ${command}\` ${fault}; ${hint}`);
  }
}
