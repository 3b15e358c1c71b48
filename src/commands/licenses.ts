import notices from "../../THIRD-PARTY-NOTICES.txt" with { type: "text" };
import { type Command, exitCodes, parseOptions } from "./command.ts";

export const licensesCommand: Command = {
  name: "licenses",
  summary: "print the licenses of the software in this executable",
  help: `Usage: parley licenses

Prints the licenses of the software in this executable: the npm packages, PostgreSQL, the Bun runtime, and their libraries.
To read them in pages: \`parley licenses | less\`.`,

  async run(args) {
    parseOptions("licenses", args, {});
    // A pipe accepts 64 KiB at a time, so wait until everything is written or the reader has closed the pipe.
    await new Promise((resolve) => process.stdout.on("error", resolve).write(notices, resolve));
    return exitCodes.success;
  },
};
