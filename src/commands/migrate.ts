import { listMigrations, migrate } from "../db/migrate.ts";
import { createLog } from "../lib/log.ts";
import { type Command, exitCodes, parseOptions } from "./command.ts";
import { loadConfigFrom } from "./load-config.ts";
import { withDatabase } from "./with-database.ts";

export const migrateCommand: Command = {
  name: "migrate",
  summary: "migrate the database, or list its migrations (--status)",
  help: `Usage: parley migrate
       parley migrate --status

Applies pending migrations; \`parley serve\` also does this at startup. With --status, it only lists every migration
with its state: applied, pending, changed (its file differs from what was applied) or unknown (applied by another build).`,

  async run(args, environment) {
    const { status } = parseOptions("migrate", args, { status: { type: "boolean" } });
    const config = loadConfigFrom(environment);
    const log = createLog("silent", config.LOG_FORMAT);
    await withDatabase(config, log, async (database) => {
      if (status) {
        for (const { name, state, applied_at } of await listMigrations(database))
          console.log(`${state.padEnd(8)} ${name}${applied_at ? ` (${applied_at.toISOString()})` : ""}`);
        return;
      }
      const appliedNames = await migrate(database, log);
      for (const name of appliedNames) console.log(`applied  ${name}`);
      if (appliedNames.length === 0) console.log("The database is up to date.");
    });
    return exitCodes.success;
  },
};
