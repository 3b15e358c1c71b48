import { Value } from "@sinclair/typebox/value";
import { scopes as knownScopes, type Scope } from "../access/scopes.ts";
import { migrate } from "../db/migrate.ts";
import { createLog } from "../lib/log.ts";
import { Problem } from "../lib/problem.ts";
import { listSchemaErrors } from "../lib/schema-errors.ts";
import { CreateApiKey } from "../modules/api-keys/model.ts";
import { createApiKeyService } from "../modules/api-keys/service.ts";
import { createAuditService } from "../modules/audit/service.ts";
import { createQuotaService } from "../modules/quotas/service.ts";
import { parseEmail } from "../modules/users/service.ts";
import { type Command, CommandError, createUsageError, exitCodes, parseOptions, UsageError } from "./command.ts";
import { describeConfiguredDatabase, requireDatabase } from "./database-description.ts";
import { loadConfigFrom } from "./load-config.ts";
import { withDatabase } from "./with-database.ts";

const hint = "`parley key --help` shows the usage.";

export const keyCommand: Command = {
  name: "key",
  summary: "create an API key (key create --name N --scopes a,b)",
  help: `Usage: parley key create --name N --scopes a,b [--email E] [--expires-at T] [--service]

Creates an API key and prints it, once. Also works while the server is running.

    --name N        the purpose of the key
    --scopes a,b    its permissions, comma-separated:
${formatScopes(knownScopes)}
    --email E       the user who owns it (default: the first administrator)
    --expires-at T  when it expires, for example 2030-01-31T00:00:00Z (default: never)
    --service       allow it to act for other users except administrators (X-On-Behalf-Of)`,

  async run([action, ...args], environment) {
    if (action !== "create")
      throw new UsageError(
        action ? `\`parley key\` has no action "${action}"; ${hint}` : `An action is missing; ${hint}`,
      );
    const options = parseOptions("key create", args, {
      name: { type: "string" },
      scopes: { type: "string" },
      email: { type: "string" },
      "expires-at": { type: "string" },
      service: { type: "boolean" },
    });
    if (options.name === undefined || options.scopes === undefined)
      throw new UsageError(`--name and --scopes are required; ${hint}`);
    const input = parseInput({ ...options, name: options.name, scopes: options.scopes });
    const normalizedEmail = options.email === undefined ? null : parseEmailOption(options.email);
    const config = loadConfigFrom(environment);
    requireDatabase(config);
    const log = createLog("silent", config.LOG_FORMAT);
    await withDatabase(config, log, async (database) => {
      await migrate(database, log);
      const apiKeys = createApiKeyService({
        database,
        audit: createAuditService(),
        quotas: createQuotaService({ database, config, onRejected: () => {} }),
        log,
        onKeysDeleted: () => {},
      });
      const { key } = await apiKeys.createForOperator(normalizedEmail, input).catch((error) => {
        throw toCommandError(error, options.email, describeConfiguredDatabase(config));
      });
      console.log(key);
    });
    return exitCodes.success;
  },
};

type Options = { name: string; scopes: string; "expires-at"?: string; service?: boolean };

/** Converts the options to a request body and validates it against the API's schema. @throws UsageError. */
function parseInput({ name, scopes, service = false, ...options }: Options): CreateApiKey {
  const scopeNames = scopes
    .split(",")
    .map((scope) => scope.trim())
    .filter((scope) => scope !== "");
  const unknownScope = scopeNames.find((scope) => !knownScopes.some((known) => known === scope));
  if (unknownScope !== undefined) throw new UsageError(`--scopes: unknown scope "${unknownScope}"; ${hint}`);
  if (scopeNames.length === 0) throw new UsageError(`--scopes: specify at least one; ${hint}`);
  const expiresAt = options["expires-at"];
  const input = {
    name,
    scopes: [...new Set(scopeNames)] as Scope[],
    service,
    ...(expiresAt !== undefined && { expires_at: expiresAt }),
  };
  const [error] = listSchemaErrors(Value.Errors(CreateApiKey, input), "body");
  if (error) throw createUsageError(error);
  return input;
}

function parseEmailOption(email: string): string {
  try {
    return parseEmail(email).key;
  } catch (error) {
    throw toCommandError(error, email, "");
  }
}

/** @param database a description of the database, for the error message. */
function toCommandError(error: unknown, email: string | undefined, database: string): unknown {
  if (!(error instanceof Problem)) return error;
  const [field] = error.errors ?? [];
  if (field) return createUsageError(field);
  if (error.code !== "not_found") return new CommandError(error.message);
  return new CommandError(
    email === undefined
      ? `No administrator exists in ${database}; create one with \`parley admin create --email E\`.`
      : `No user ${email} exists in ${database}; have them register, or use a different email.`,
  );
}

function formatScopes(names: readonly string[]): string {
  const lines: string[] = [];
  for (let index = 0; index < names.length; index += 4) lines.push(names.slice(index, index + 4).join(" "));
  return lines.map((line) => `                  ${line}`).join("\n");
}
