import { randomBytes } from "node:crypto";
import type { Config } from "../config.ts";
import type { Database } from "../db/client.ts";
import { migrate } from "../db/migrate.ts";
import { createLog } from "../lib/log.ts";
import { Problem } from "../lib/problem.ts";
import { createAuditService } from "../modules/audit/service.ts";
import { setPasswordByOperator } from "../modules/auth/operator-passwords.ts";
import { createPasswordHasher } from "../modules/users/passwords.ts";
import { createUserService, parseEmail } from "../modules/users/service.ts";
import {
  type Command,
  CommandError,
  createUsageError,
  type Environment,
  exitCodes,
  parseOptions,
  UsageError,
} from "./command.ts";
import { describeConfiguredDatabase, requireDatabase } from "./database-description.ts";
import { loadConfigFrom } from "./load-config.ts";
import { readPassword } from "./read-password.ts";
import { withDatabase } from "./with-database.ts";

const hint = "`parley admin --help` shows the usage.";
/** Random bytes in a generated password: 144 bits, or 24 characters in base64url. */
const GENERATED_PASSWORD_BYTES = 18;

export const adminCommand: Command = {
  name: "admin",
  summary: "create an administrator, or set a user's password (admin create | password --email E)",
  help: `Usage: parley admin create --email E [--password P]
       parley admin password --email E

create    creates an administrator. If a user with this email exists, makes them an administrator and keeps their
          password. Without --password, the password is read from standard input, so it doesn't appear in process lists.
password  sets a user's password, which is read from standard input, and ends the user's sessions. If the input is empty,
          a password is generated and printed. The user's API keys keep working.

On a terminal you are asked for the password. Otherwise the first line is read:
  printf '%s' "$PASSWORD" | parley admin create --email ada@example.com

Both work while the server is running.`,

  async run([action, ...args], environment) {
    if (action === "create") return createAdministrator(args, environment);
    if (action === "password") return setPassword(args, environment);
    throw new UsageError(
      action ? `\`parley admin\` has no action "${action}"; ${hint}` : `An action is missing; ${hint}`,
    );
  },
};

async function createAdministrator(args: string[], environment: Environment): Promise<number> {
  const options = parseOptions("admin create", args, { email: { type: "string" }, password: { type: "string" } });
  const email = parseEmailOption(options.email);
  const config = loadConfigFrom(environment);
  const readRequiredPassword = async () =>
    requirePassword(options.password ?? (await readPassword("Administrator password:")));
  const suppliedPassword = options.password === undefined && process.stdin.isTTY ? null : await readRequiredPassword();
  await withServices(config, async ({ users }) => {
    // On a terminal, ask for a password only if a new user must be created.
    const promotedUser = suppliedPassword === null ? await users.promoteAdministrator(email) : null;
    const { user, isNew } = promotedUser
      ? { user: promotedUser, isNew: false }
      : await users
          .createAdministrator(email, suppliedPassword ?? (await readRequiredPassword()))
          .catch((error) => rethrowAsCommandError(error, options.password !== undefined));
    console.log(
      isNew
        ? `${user.email} is now an administrator.`
        : `${user.email} already existed and is now an administrator; the password was not changed.`,
    );
  });
  return exitCodes.success;
}

async function setPassword(args: string[], environment: Environment): Promise<number> {
  const options = parseOptions("admin password", args, { email: { type: "string" } });
  const email = parseEmailOption(options.email);
  const config = loadConfigFrom(environment);
  requireDatabase(config);
  const enteredPassword = await readPassword("New password (leave empty to generate one):");
  const password =
    enteredPassword === "" ? randomBytes(GENERATED_PASSWORD_BYTES).toString("base64url") : enteredPassword;
  await withServices(config, async (services) => {
    const { user, endedSessions } = await setPasswordByOperator(services, email, password).catch((error) => {
      if (!(error instanceof Problem) || error.code !== "not_found") return rethrowAsCommandError(error, false);
      throw new CommandError(`No user ${email} exists in ${describeConfiguredDatabase(config)}; check the email.`);
    });
    const sessions = endedSessions === 1 ? "1 session was ended." : `${endedSessions} sessions were ended.`;
    const outcome = `The password for ${user.email} has been set. ${sessions}`;
    // Only the password goes to stdout, so that scripts can read it.
    if (enteredPassword === "") console.error(outcome);
    console.log(enteredPassword === "" ? password : outcome);
  });
  return exitCodes.success;
}

async function withServices(config: Config, work: (services: Services) => Promise<void>): Promise<void> {
  const log = createLog("silent", config.LOG_FORMAT);
  await withDatabase(config, log, async (database) => {
    await migrate(database, log);
    const audit = createAuditService();
    await work({ database, audit, users: createUserService({ database, passwords: createPasswordHasher(), audit }) });
  });
}

type Services = {
  database: Database;
  audit: ReturnType<typeof createAuditService>;
  users: ReturnType<typeof createUserService>;
};

/** @throws UsageError if the password is empty. */
function requirePassword(password: string): string {
  if (password !== "") return password;
  throw new UsageError(`The password is empty; type one, pipe it to standard input, or pass --password. ${hint}`);
}

/** Validates --email; called before prompting for a password. @throws UsageError. */
function parseEmailOption(email: string | undefined): string {
  if (email === undefined) throw new UsageError(`--email is missing; ${hint}`);
  try {
    parseEmail(email);
    return email;
  } catch (error) {
    return rethrowAsCommandError(error, false);
  }
}

/** @param isOption whether the password was passed as an option, so that the error can mention the option. */
function rethrowAsCommandError(error: unknown, isOption: boolean): never {
  if (!(error instanceof Problem)) throw error;
  const [field] = error.errors ?? [];
  if (field?.pointer === "#/password" && !isOption)
    throw new UsageError(field.detail.replace(/^password/, "The password"));
  if (field) throw createUsageError(field);
  throw new CommandError(error.message);
}
