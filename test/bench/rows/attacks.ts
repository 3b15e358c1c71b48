import type { AttackStep } from "../load/attack.ts";
import type { Bystander, BystandersStep } from "../load/bystanders.ts";
import { PASSWORD, register } from "../support/account.ts";
import { type Attack, createAttacks, setUpAttacks } from "../support/attacks.ts";
import { type Load, startLoad } from "../support/load.ts";
import type { BenchPostgres } from "../support/postgres.ts";
import { readCpuMs, readFamilyCpuMs, readRssBytes } from "../support/process-usage.ts";
import { type RowReport, show } from "../support/report.ts";
import { medianOf } from "../support/rounds.ts";
import type { Context } from "../support/row.ts";
import { type Server, startParley } from "../support/servers.ts";

const BYSTANDERS = 10;
const SEND_EVERY_MS = 50;
const LOG_IN_EVERY_MS = 1_000;
const CALM_MS = 2_000;
const AFTER_MS = 1_500;
const RSS_EVERY_MS = 20;
const P99_MS_MAX = 100;
const GROWTH_MIB_MAX = 100;
const MIB = 1024 * 1024;

/** Shares are of one core, during the attack. */
type Sample = {
  p50Ms: number;
  p99Ms: number;
  maxMs: number;
  loginMaxMs: number;
  errors: number;
  growthMib: number;
  afterMib: number;
  attackMs: number;
  done: number;
  refused: number;
  failed: number;
  serverShare: number;
  postgresShare: number;
  attackerShare: number;
};

/** What one ordinary user can do to others: each attack on a freshly started server, while others continue to work. */
export async function measureAttacks({ rounds, getPostgres }: Context): Promise<RowReport> {
  const postgres = await getPostgres();
  const databaseUrl = await postgres.createDatabase("attacks");
  const environment = {
    RATE_LIMIT_ENABLED: "true",
    LOG_LEVEL: "fatal",
    TRUSTED_PROXIES: "127.0.0.1",
    JWT_SECRET: "one secret for all starts, so that tokens stay good",
  };
  const start = () => startParley({ databaseUrl, environment });
  const first = await start();
  const data = await setUpAttacks(first.url, databaseUrl);
  const users: Bystander[] = [];
  for (let n = 0; n < BYSTANDERS; n += 1) {
    const { token, email, createConversation } = await register(first.url);
    users.push({ token, email, conversationId: await createConversation() });
  }
  await first.stop();

  // `ATTACKS=kB` measures only the attacks with this in their name.
  const names = Object.keys(createAttacks(data)).filter((name) => name.includes(process.env.ATTACKS ?? ""));
  const samples = Object.fromEntries(names.map((name) => [name, [] as Sample[]]));
  for (let round = 0; round < rounds; round += 1)
    for (const name of names) {
      const attack = createAttacks(data)[name] as Attack;
      await attack.prepare?.();
      const server = await start();
      samples[name]?.push(await measure(attack, { server, postgres, users, token: data.token }));
      await server.stop();
    }
  await data.end();
  return {
    lines: names.flatMap((name) => {
      const of = (read: (sample: Sample) => number) => medianOf(samples[name] ?? [], read);
      return [
        { what: `${name}: p99 of others`, unit: "ms", parley: of(({ p99Ms }) => p99Ms), bound: { upTo: P99_MS_MAX } },
        {
          what: "    memory growth",
          unit: "MiB",
          parley: of(({ growthMib }) => growthMib),
          bound: { upTo: GROWTH_MIB_MAX },
        },
        { what: "    errors of others", unit: "", parley: of(({ errors }) => errors), bound: { upTo: 0 } },
      ];
    }),
    notes: [
      `attacks: ${BYSTANDERS} others send a message every ${SEND_EVERY_MS} ms over WebSocket, one reads /me as often, one ` +
        `logs in every ${LOG_IN_EVERY_MS} ms; default limits; memory is the server's RSS above what it had before`,
      ...names.map((name) => describe(name, samples[name] ?? [])),
    ],
  };
}

type Scene = { server: Server; postgres: BenchPostgres; users: Bystander[]; token: string };

async function measure(attack: Attack, { server, postgres, users, token }: Scene): Promise<Sample> {
  const others = startLoad("bystanders.ts");
  const attacker = startLoad("attack.ts");
  const ask = (step: BystandersStep) => others.ask(step);
  await ask({
    step: "open",
    url: server.url,
    users,
    password: PASSWORD,
    sendEveryMs: SEND_EVERY_MS,
    logInEveryMs: LOG_IN_EVERY_MS,
  });
  await Bun.sleep(CALM_MS);
  await postgres.checkpoint();
  await ask({ step: "start" });
  const beforeBytes = readRssBytes(server.pid);
  let peakBytes = beforeBytes;
  const watch = setInterval(() => {
    peakBytes = Math.max(peakBytes, readRssBytes(server.pid));
  }, RSS_EVERY_MS);
  const serverBefore = readCpuMs(server.pid);
  const postgresBefore = readFamilyCpuMs(postgres.pid);
  const { elapsedMs, cpuMs, done, refused, failed } = await run(attacker, attack, server, token);
  const serverMs = readCpuMs(server.pid) - serverBefore;
  const postgresMs = readFamilyCpuMs(postgres.pid) - postgresBefore;
  await Bun.sleep(AFTER_MS);
  const result = await ask({ step: "stop" });
  clearInterval(watch);
  const { p50Ms = 0, p99Ms = 0, maxMs = 0, loginMaxMs = 0, errors = 0 } = result;
  await others.stop();
  await attacker.stop();
  return {
    p50Ms,
    p99Ms,
    maxMs,
    loginMaxMs,
    errors,
    growthMib: (peakBytes - beforeBytes) / MIB,
    afterMib: (readRssBytes(server.pid) - beforeBytes) / MIB,
    attackMs: elapsedMs,
    done: done ?? 0,
    refused: refused ?? 0,
    failed: failed ?? 0,
    serverShare: serverMs / elapsedMs,
    postgresShare: postgresMs / elapsedMs,
    attackerShare: cpuMs / elapsedMs,
  };
}

function run(load: Load, attack: Attack, { url }: Server, token: string) {
  const { prepare: _, ...step } = attack;
  const headers = { authorization: `Bearer ${token}`, "x-forwarded-for": "203.0.113.1" };
  return load.ask({ ...step, url: `${url}/api/v1`, headers } satisfies AttackStep);
}

function describe(name: string, samples: Sample[]): string {
  const of = (read: (sample: Sample) => number) => show(medianOf(samples, read));
  const percent = (read: (sample: Sample) => number) => `${show(medianOf(samples, read) * 100)} %`;
  return (
    `${name}: took ${of(({ attackMs }) => attackMs / 1000)} s, ${of(({ done }) => done)} done, ${of(({ refused }) => refused)} ` +
    `refused, ${of(({ failed }) => failed)} failed; others p50 ${of(({ p50Ms }) => p50Ms)} ms, max ${of(({ maxMs }) => maxMs)} ` +
    `ms, login max ${of(({ loginMaxMs }) => loginMaxMs)} ms; memory afterwards +${of(({ afterMib }) => afterMib)} MiB; CPU: ` +
    `server ${percent(({ serverShare }) => serverShare)}, Postgres ${percent(({ postgresShare }) => postgresShare)}, ` +
    `the attacker's own client ${percent(({ attackerShare }) => attackerShare)}`
  );
}
