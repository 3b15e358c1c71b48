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
/** The folder with the Postgres data and the documents. It persists, because filling the database takes minutes. */
const folder = join(tmpdir(), "parley-bench-large");
const FILLING_DATABASE = "filling";

/** Users who can log in with the bench's password, and their data (large-data.sql). */
export const callers = {
  /** The owner of a conversation with 100,000 messages, all of them their own. */
  writer: "caller-1@example.com",
  /** A member of 2,000 conversations. */
  in2000: "caller-2@example.com",
  /** A member of 20,000 conversations. */
  in20000: "caller-3@example.com",
  /** A user who has written 2 kB in two conversations. */
  quiet: "caller-4@example.com",
  /** The owner of a conversation with 90,000 messages, of which every 90th belongs to a branch. */
  brancher: "caller-5@example.com",
  /** A member of a conversation who is 500 events behind. */
  follower: "caller-6@example.com",
  /** The owner of a conversation with 5,000 members. */
  host: "caller-7@example.com",
  admin: "caller-8@example.com",
} as const;

export type LargeData = { postgres: BenchPostgres; databaseUrl: string };

/**
 * Starts a separate Postgres with the filled database. It is filled if no database exists for this schema and data. The
 * messages that the benchmark sends, a few hundred per run, stay in it.
 */
export async function openLargeData({ isFresh }: { isFresh: boolean }): Promise<LargeData> {
  if (isFresh) rmSync(folder, { recursive: true, force: true });
  const server = await startPostgres(join(folder, "postgres"));
  await server.dropDatabase(FILLING_DATABASE);
  const emptyUrl = await server.createDatabase(FILLING_DATABASE);
  await migrate(emptyUrl);
  const sql = postgres(emptyUrl, { max: 1, onnotice: () => {} });
  const scripts = await Promise.all(
    ["large-data.sql", "large-data-answers.sql", "derived-data.sql", "search-data.sql"].map(readScript),
  );
  const name = `large_${Bun.hash(`${await describeSchema(sql)}${scripts}`).toString(36)}`;
  let databaseUrl = await server.findDatabase(name);
  if (!databaseUrl) await fill(sql, scripts);
  await sql.end();
  if (databaseUrl) await server.dropDatabase(FILLING_DATABASE);
  else databaseUrl = await server.renameDatabase(FILLING_DATABASE, name);
  return { postgres: server, databaseUrl };
}

const readScript = (name: string): Promise<string> => Bun.file(join(import.meta.dir, name)).text();

/** Describes the schema by its migrations and checksums, because the tested executable can be another version. */
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

async function fill(sql: postgres.Sql, [start = "", end = "", derived = "", search = ""]: string[]): Promise<void> {
  const startedAtMs = performance.now();
  const logProgress = (what: string) => {
    console.error(`large: ${what} after ${Math.round((performance.now() - startedAtMs) / 1000)} s`);
  };
  logProgress("started filling the database for this schema");
  await sql.unsafe(start.replaceAll(":'password_hash'", `'${await Bun.password.hash(PASSWORD, "argon2id")}'`));
  logProgress("inserted users, conversations and members");
  for (let from = 1; from <= MESSAGES; from += MESSAGES_PER_STATEMENT) {
    await sql`select pg_temp.fill_messages(${from}, ${from + MESSAGES_PER_STATEMENT - 1})`;
    if ((from - 1) % 1_000_000 === 0) logProgress(`inserted ${from - 1 + MESSAGES_PER_STATEMENT} messages`);
  }
  await sql.unsafe(end);
  await sql.unsafe(derived);
  logProgress("inserted answers, events and counters");
  await sql.unsafe(search);
  logProgress("filled the search index");
  await sql`vacuum (analyze)`;
  await sql`checkpoint`;
  logProgress("finished");
}

/** The number of documents. All contain the word "harbour". */
export const DOCUMENTS = 2_000;

/** Writes the documents, and returns their folder. */
export async function writeDocuments(): Promise<string> {
  const documents = join(folder, "documents");
  const last = Bun.file(join(documents, `${DOCUMENTS}.md`));
  if (await last.exists()) return documents;
  for (let n = 1; n <= DOCUMENTS; n += 1) {
    const paragraph = `Pier ${n} of the harbour is ${n % 97} m long. Ships of class ${n % 13} moor there in winter.`;
    const text = `# Pier ${n}\n\n${paragraph}\n\n## Rules\n\n${paragraph.repeat(1 + (n % 5))}\n\n## Tides\n\n${paragraph}\n`;
    await Bun.write(join(documents, `${n}.md`), text);
  }
  return documents;
}
