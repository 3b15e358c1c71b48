import { rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import postgres from "postgres";
import { PASSWORD } from "./account.ts";
import { type BenchPostgres, startPostgres } from "./postgres.ts";
import { executable } from "./servers.ts";
import { createTemporaryFolder } from "./temporary.ts";

const MESSAGES = 5_000_000;
const MESSAGES_PER_STATEMENT = 100_000;
/** The folder with the Postgres data and the documents. It persists between runs, because filling takes minutes. */
const largeDataFolder = join(tmpdir(), "parley-bench-large");
const FILLING_DATABASE = "filling";

/** Users who can log in with the bench's password, and their data (large-data.sql). */
export const callers = {
  /** The owner and only author of a conversation with 100,000 messages. */
  writer: "caller-1@example.com",
  /** A member of 2,000 conversations. */
  in2000: "caller-2@example.com",
  /** A member of 20,000 conversations. */
  in20000: "caller-3@example.com",
  /** A user who has written 2 kB in two conversations. */
  quiet: "caller-4@example.com",
  /** The owner of a conversation with 90,000 messages. Every 90th message belongs to a branch. */
  brancher: "caller-5@example.com",
  /** A member who has not received the last 500 events of a conversation. */
  follower: "caller-6@example.com",
  /** The owner of a conversation with 5,000 members. */
  host: "caller-7@example.com",
  admin: "caller-8@example.com",
} as const;

export type LargeData = { postgres: BenchPostgres; databaseUrl: string };

/**
 * Starts a separate Postgres with a filled database. Fills a new database unless one exists for this schema and data.
 * Each run adds a few hundred messages, which are not removed.
 */
export async function openLargeData({ shouldRecreateData }: { shouldRecreateData: boolean }): Promise<LargeData> {
  if (shouldRecreateData) rmSync(largeDataFolder, { recursive: true, force: true });
  const server = await startPostgres(join(largeDataFolder, "postgres"));
  await server.dropDatabase(FILLING_DATABASE);
  const emptyUrl = await server.createDatabase(FILLING_DATABASE);
  await migrate(emptyUrl);
  const sql = postgres(emptyUrl, { max: 1, onnotice: () => {} });
  const scripts = await Promise.all(
    ["large-data.sql", "large-data-answers.sql", "derived-data.sql", "search-data.sql"].map(readScript),
  );
  const name = `large_${Bun.hash(`${await describeSchema(sql)}${scripts}`).toString(36)}`;
  let databaseUrl = await server.findDatabase(name);
  if (!databaseUrl) await fillDatabase(sql, scripts);
  await sql.end();
  if (databaseUrl) await server.dropDatabase(FILLING_DATABASE);
  else databaseUrl = await server.renameDatabase(FILLING_DATABASE, name);
  return { postgres: server, databaseUrl };
}

const readScript = (name: string): Promise<string> => Bun.file(join(import.meta.dir, name)).text();

/** Describes the schema by its migrations and checksums, because the tested executable can have a different version. */
async function describeSchema(sql: postgres.Sql): Promise<string> {
  const rows = await sql`select name, checksum from migrations order by name`;
  return rows.map(({ name, checksum }) => `${name} ${checksum}\n`).join("");
}

async function migrate(databaseUrl: string): Promise<void> {
  const dataDir = createTemporaryFolder();
  const env = { PATH: process.env.PATH ?? "", DATA_DIR: dataDir, DATABASE_URL: databaseUrl };
  const child = Bun.spawn([executable, "migrate"], { cwd: dataDir, env, stdio: ["ignore", "ignore", "inherit"] });
  if ((await child.exited) !== 0) throw new Error("`parley migrate` failed.");
}

async function fillDatabase(sql: postgres.Sql, scripts: string[]): Promise<void> {
  const [mainScript = "", answersScript = "", derivedDataScript = "", searchScript = ""] = scripts;
  const startedAtMs = performance.now();
  const logProgress = (step: string) => {
    console.error(`large: ${step} after ${Math.round((performance.now() - startedAtMs) / 1000)} s`);
  };
  logProgress("started filling the database for this schema");
  await sql.unsafe(mainScript.replaceAll(":'password_hash'", `'${await Bun.password.hash(PASSWORD, "argon2id")}'`));
  logProgress("inserted users, conversations and members");
  for (let from = 1; from <= MESSAGES; from += MESSAGES_PER_STATEMENT) {
    await sql`select pg_temp.fill_messages(${from}, ${from + MESSAGES_PER_STATEMENT - 1})`;
    if ((from - 1) % 1_000_000 === 0) logProgress(`inserted ${from - 1 + MESSAGES_PER_STATEMENT} messages`);
  }
  await sql.unsafe(answersScript);
  await sql.unsafe(derivedDataScript);
  logProgress("inserted answers, events and counters");
  await sql.unsafe(searchScript);
  logProgress("filled the search index");
  await sql`vacuum (analyze)`;
  await sql`checkpoint`;
  logProgress("finished");
}

/** The number of documents. All contain the word "harbour". */
export const DOCUMENTS = 2_000;

/** Writes the documents, and returns their folder. */
export async function writeDocuments(): Promise<string> {
  const documentsFolder = join(largeDataFolder, "documents");
  const lastDocument = Bun.file(join(documentsFolder, `${DOCUMENTS}.md`));
  if (await lastDocument.exists()) return documentsFolder;
  for (let n = 1; n <= DOCUMENTS; n += 1) {
    const paragraph = `Pier ${n} of the harbour is ${n % 97} m long. Ships of class ${n % 13} moor there in winter.`;
    const text = `# Pier ${n}\n\n${paragraph}\n\n## Rules\n\n${paragraph.repeat(1 + (n % 5))}\n\n## Tides\n\n${paragraph}\n`;
    await Bun.write(join(documentsFolder, `${n}.md`), text);
  }
  return documentsFolder;
}
