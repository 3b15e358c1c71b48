import { type ParseArgsConfig, parseArgs } from "node:util";
import type { InvalidField } from "../lib/problem.ts";

/** Environment variables. */
export type Environment = Record<string, string | undefined>;

export type Command = {
  name: string;
  /** One line of `parley --help`. */
  summary: string;
  /** The output of `parley COMMAND --help`. */
  help: string;
  /** Runs the command and returns its exit code. `args` are the arguments after the command's name. */
  run(args: string[], environment: Environment): Promise<number>;
};

export const exitCodes = { success: 0, failure: 1, usage: 2 } as const;

/** A command was called incorrectly. The message explains how to fix it. Exit code 2. */
export class UsageError extends Error {}

/** A command failed. The message explains how to fix it. Exit code 1. */
export class CommandError extends Error {}

/** Converts an error about a request field to an error about the command-line option that set the field. */
export function createUsageError({ pointer, detail }: InvalidField): UsageError {
  const field = pointer.replace("#/", "");
  const option = `--${field.replaceAll("_", "-")}`;
  return new UsageError(detail.startsWith(`${field} `) ? option + detail.slice(field.length) : `${option}: ${detail}`);
}

/**
 * Parses a command's options.
 * @throws UsageError for an unknown option, a missing value, or an extra argument.
 */
export function parseOptions<const T extends Options>(command: string, args: string[], options: T) {
  return parseArguments(command, args, options, 0).values;
}

/**
 * Parses the options of a command that takes one file.
 * @throws UsageError like `parseOptions`, and if the file is missing.
 */
export function parseFileOptions<const T extends Options>(command: string, args: string[], options: T) {
  const { values, positionals } = parseArguments(command, args, options, 1);
  const [file] = positionals;
  if (!file) throw new UsageError(`The file is missing: \`parley ${command} FILE\`; ${formatHint(command)}`);
  return { values, file };
}

type Options = NonNullable<ParseArgsConfig["options"]>;

const formatHint = (command: string): string => `\`parley ${command} --help\` shows the usage.`;

function parseArguments<const T extends Options>(command: string, args: string[], options: T, argumentsMax: number) {
  const hint = formatHint(command);
  try {
    const result = parseArgs({ args, options, strict: true, allowPositionals: true, tokens: true });
    const extraArgument = result.tokens.filter((token) => token.kind === "positional")[argumentsMax];
    if (extraArgument)
      throw new UsageError(`\`parley ${command}\` does not accept the argument "${extraArgument.value}"; ${hint}`);
    return result;
  } catch (error) {
    if (error instanceof UsageError) throw error;
    const option = error instanceof Error ? /'(-[^\s'<]*)/.exec(error.message)?.[1] : undefined;
    const isUnknown = error instanceof Error && "code" in error && error.code === "ERR_PARSE_ARGS_UNKNOWN_OPTION";
    const reason = isUnknown ? `has no option ${option}` : `can't parse the option ${option ?? ""}`.trimEnd();
    throw new UsageError(`\`parley ${command}\` ${reason}; ${hint}`);
  }
}
