import { migrate } from "../db/migrate.ts";
import { createLog } from "../lib/log.ts";
import { Problem } from "../lib/problem.ts";
import { createAuditService } from "../modules/audit/service.ts";
import { createPasswords } from "../modules/users/passwords.ts";
import { createUserService } from "../modules/users/service.ts";
import { type Command, CommandError, createUsageError, exitCodes, parseOptions, UsageError } from "./command.ts";
import { loadConfigFrom } from "./load-config.ts";
import { useDatabase } from "./use-database.ts";

const hint = "`parley admin --help` shows how.";

export const adminCommand: Command = {
  name: "admin",
  summary: "create an administrator (admin create --email E --password P)",
  help: `Usage: parley admin create --email E --password P

Creates an administrator. A user who already has this address is raised to administrator and keeps their password. It
may be run beside a running server.`,

  async run([action, ...args], environment) {
    if (action !== "create")
      throw new UsageError(action ? `\`parley admin\` cannot "${action}"; ${hint}` : `Say what to do; ${hint}`);
    const { email, password } = parseOptions("admin create", args, {
      email: { type: "string" },
      password: { type: "string" },
    });
    if (email === undefined || password === undefined) throw new UsageError(`Give --email and --password; ${hint}`);
    const config = loadConfigFrom(environment);
    const log = createLog("silent", config.LOG_FORMAT);
    await useDatabase(config, log, async (database) => {
      await migrate(database, log);
      const users = createUserService({ database, passwords: createPasswords(), audit: createAuditService() });
      const { user, isNew } = await users.createAdministrator(email, password).catch(explain);
      console.log(
        isNew
          ? `${user.email} is an administrator now.`
          : `${user.email} existed and is an administrator now; the password stays as it was.`,
      );
    });
    return exitCodes.success;
  },
};

function explain(error: unknown): never {
  if (!(error instanceof Problem)) throw error;
  const [field] = error.errors ?? [];
  if (field) throw createUsageError(field);
  throw new CommandError(error.message);
}
