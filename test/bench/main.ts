// Compares Parley with its peers: `make bench`, or `bun test/bench/main.ts [--rounds=N] [--fresh] [ROW…]`.
// docs/benchmarks.md explains each row. Exits with 1 if a bound is missed.
import { cpus } from "node:os";
import { measureAnswers } from "./rows/answers.ts";
import { measureAttacks } from "./rows/attacks.ts";
import { measureCaches } from "./rows/caches.ts";
import { measureFanOut } from "./rows/fan-out.ts";
import { measureGenerationMemory } from "./rows/generation-memory.ts";
import { measureHotConversation } from "./rows/hot-conversation.ts";
import { measureInstances } from "./rows/instances.ts";
import { measureLarge } from "./rows/large.ts";
import { measureLimited } from "./rows/limited.ts";
import { measureLogins } from "./rows/logins.ts";
import { measureMemory } from "./rows/memory.ts";
import { measureSends } from "./rows/sends.ts";
import { measureStart } from "./rows/start.ts";
import { measureWatchers } from "./rows/watchers.ts";
import { measureWebhooks } from "./rows/webhooks.ts";
import { type BenchPostgres, startPostgres } from "./support/postgres.ts";
import { isMissed, type Line, printLines } from "./support/report.ts";
import type { Row } from "./support/row.ts";
import { undoAll } from "./support/temporary.ts";

const ROUNDS = 5;
const rows: Record<string, Row> = {
  sends: measureSends,
  "hot-conversation": measureHotConversation,
  "fan-out": measureFanOut,
  memory: measureMemory,
  start: measureStart,
  answers: measureAnswers,
  watchers: measureWatchers,
  "generation-memory": measureGenerationMemory,
  limited: measureLimited,
  logins: measureLogins,
  large: measureLarge,
  attacks: measureAttacks,
  webhooks: measureWebhooks,
  instances: measureInstances,
  caches: measureCaches,
};

const options = process.argv.slice(2).filter((word) => word.startsWith("--"));
const names = process.argv.slice(2).filter((word) => !word.startsWith("--"));
const rounds = Number(options.find((option) => option.startsWith("--rounds="))?.slice("--rounds=".length) ?? ROUNDS);
const isFresh = options.includes("--fresh");
const unknown = names.filter((name) => !rows[name]);
if (unknown.length > 0 || !Number.isInteger(rounds) || rounds < 1) {
  console.error(`Usage: main.ts [--rounds=N] [--fresh] [ROW…], with rows of: ${Object.keys(rows).join(", ")}.`);
  process.exit(2);
}

for (const signal of ["SIGINT", "SIGTERM"] as const)
  process.once(signal, async () => {
    await undoAll();
    process.exit(1);
  });

let postgres: Promise<BenchPostgres> | undefined;
const getPostgres = () => {
  postgres ??= startPostgres();
  return postgres;
};

try {
  const lines: Line[] = [];
  const notes: string[] = [];
  for (const name of names.length > 0 ? names : Object.keys(rows)) {
    console.error(`${name}: 1 round to warm up and ${rounds} that count …`);
    const report = await rows[name]?.({ rounds, isFresh, getPostgres });
    lines.push(...(report?.lines ?? []));
    notes.push(...(report?.notes ?? []));
  }
  const machine = `${cpus().length} × ${cpus()[0]?.model.trim()}, Bun ${Bun.version}, ${new Date().toISOString().slice(0, 10)}`;
  console.log(`\nMedians of ${rounds} rounds; ${machine}\n\n${printLines(lines)}\n`);
  for (const note of notes) console.log(`- ${note}`);
  process.exitCode = lines.some(isMissed) ? 1 : 0;
} finally {
  await undoAll();
}
