// Compares Parley with other programs: `make bench`, or `bun test/bench/main.ts [--rounds=N] [--fresh] [BENCHMARK…]`.
// docs/benchmarks.md explains each benchmark. Exits with code 1 if a target is missed.
import { cpus } from "node:os";
import { measureAnswers } from "./benchmarks/answers.ts";
import { measureAttacks } from "./benchmarks/attacks.ts";
import { measureCaches } from "./benchmarks/caches.ts";
import { measureFanOut } from "./benchmarks/fan-out.ts";
import { measureGenerationMemory } from "./benchmarks/generation-memory.ts";
import { measureHotConversation } from "./benchmarks/hot-conversation.ts";
import { measureInstances } from "./benchmarks/instances.ts";
import { measureLarge } from "./benchmarks/large.ts";
import { measureRateLimitedGet } from "./benchmarks/limited.ts";
import { measureLogins } from "./benchmarks/logins.ts";
import { measureMemory } from "./benchmarks/memory.ts";
import { measureSends } from "./benchmarks/sends.ts";
import { measureStart } from "./benchmarks/start.ts";
import { measureWatchers } from "./benchmarks/watchers.ts";
import { measureWebhooks } from "./benchmarks/webhooks.ts";
import type { Benchmark } from "./support/benchmark.ts";
import { type BenchPostgres, startPostgres } from "./support/postgres.ts";
import { formatTable, isTargetMissed, type Line } from "./support/report.ts";
import { runCleanups } from "./support/temporary.ts";

const DEFAULT_ROUNDS = 5;
const benchmarks: Record<string, Benchmark> = {
  sends: measureSends,
  "hot-conversation": measureHotConversation,
  "fan-out": measureFanOut,
  memory: measureMemory,
  start: measureStart,
  answers: measureAnswers,
  watchers: measureWatchers,
  "generation-memory": measureGenerationMemory,
  limited: measureRateLimitedGet,
  logins: measureLogins,
  large: measureLarge,
  attacks: measureAttacks,
  webhooks: measureWebhooks,
  instances: measureInstances,
  caches: measureCaches,
};

const options = process.argv.slice(2).filter((argument) => argument.startsWith("--"));
const names = process.argv.slice(2).filter((argument) => !argument.startsWith("--"));
const rounds = Number(
  options.find((option) => option.startsWith("--rounds="))?.slice("--rounds=".length) ?? DEFAULT_ROUNDS,
);
const shouldRecreateData = options.includes("--fresh");
const unknownNames = names.filter((name) => !benchmarks[name]);
if (unknownNames.length > 0 || !Number.isInteger(rounds) || rounds < 1) {
  console.error(
    `Usage: main.ts [--rounds=N] [--fresh] [BENCHMARK…]. Benchmarks: ${Object.keys(benchmarks).join(", ")}.`,
  );
  process.exit(2);
}

for (const signal of ["SIGINT", "SIGTERM"] as const)
  process.once(signal, async () => {
    await runCleanups();
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
  for (const name of names.length > 0 ? names : Object.keys(benchmarks)) {
    console.error(`${name}: 1 warm-up round and ${rounds} measured rounds …`);
    const report = await benchmarks[name]?.({ rounds, shouldRecreateData, getPostgres });
    lines.push(...(report?.lines ?? []));
    notes.push(...(report?.notes ?? []));
  }
  const machine = `${cpus().length} × ${cpus()[0]?.model.trim()}, Bun ${Bun.version}, ${new Date().toISOString().slice(0, 10)}`;
  console.log(`\nMedians of ${rounds} rounds; ${machine}\n\n${formatTable(lines)}\n`);
  for (const note of notes) console.log(`- ${note}`);
  process.exitCode = lines.some(isTargetMissed) ? 1 : 0;
} finally {
  await runCleanups();
}
