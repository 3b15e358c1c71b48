import { formatConfig } from "../config.ts";
import { type Command, exitCodes, parseOptions, UsageError } from "./command.ts";
import { findSources, loadConfigWithWarnings } from "./load-config.ts";

export const configCommand: Command = {
  name: "config",
  summary: "print the effective configuration, or check it (config check)",
  help: `Usage: parley config
       parley config check

Prints the effective configuration with secrets masked, each value with its source: environment, .env, NAME_FILE or default.
With \`check\`, it lists all errors instead (exit code 2), and warns about names that are probably misspelled and settings that
are unusual in production. Settings come from the environment; .env.example lists them all.`,

  async run(args, environment) {
    const [action, ...rest] = args;
    const isCheck = action === "check";
    if (action !== undefined && !isCheck && !action.startsWith("-"))
      throw new UsageError(`\`parley config\` has no action "${action}"; \`parley config --help\` shows the usage.`);
    parseOptions(isCheck ? "config check" : "config", isCheck ? rest : args, {});
    const { config, warnings } = loadConfigWithWarnings(environment);
    for (const warning of warnings) console.error(`Warning: ${warning}`);
    console.log(isCheck ? "The configuration is valid." : formatConfig(config, findSources(environment, config)));
    return exitCodes.success;
  },
};
