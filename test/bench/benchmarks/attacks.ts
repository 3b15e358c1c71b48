import type { AttackStep } from "../load/attack.ts";
import type { OtherUser, OtherUsersStep } from "../load/other-users.ts";
import { PASSWORD, register } from "../support/account.ts";
import { type Attack, createAttacks, setUpAttacks } from "../support/attacks.ts";
import type { BenchmarkContext } from "../support/benchmark.ts";
import { type Load, startLoad } from "../support/load.ts";
import type { BenchPostgres } from "../support/postgres.ts";
import { readCpuMs, readProcessTreeCpuMs, readRssBytes } from "../support/process-usage.ts";
import { type BenchmarkReport, formatNumber, type Line } from "../support/report.ts";
import { medianOf } from "../support/rounds.ts";
import { type Server, startParley } from "../support/servers.ts";

const OTHER_USERS = 10;
const SEND_INTERVAL_MS = 50;
const LOGIN_INTERVAL_MS = 1_000;
const WARM_UP_MS = 2_000;
const SETTLE_MS = 1_500;
const RSS_INTERVAL_MS = 20;
const P99_MS_MAX = 100;
const GROWTH_MIB_MAX = 100;
const MIB = 1024 * 1024;

/** CPU shares are fractions of one core during the attack. */
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

/** Measures how one user's expensive requests affect other users. Each attack runs against a newly started server. */
export async function measureAttacks({ rounds, getPostgres }: BenchmarkContext): Promise<BenchmarkReport> {
  const postgres = await getPostgres();
  const databaseUrl = await postgres.createDatabase("attacks");
  const environment = {
    RATE_LIMIT_ENABLED: "true",
    LOG_LEVEL: "fatal",
    TRUSTED_PROXIES: "127.0.0.1",
    JWT_SECRET: "one secret for all starts, so that tokens stay valid",
  };
  const start = () => startParley({ databaseUrl, environment });
  const first = await start();
  const data = await setUpAttacks(first.url, databaseUrl);
  const users: OtherUser[] = [];
  for (let n = 0; n < OTHER_USERS; n += 1) {
    const { token, email, createConversation } = await register(first.url);
    users.push({ token, email, conversationId: await createConversation() });
  }
  await first.stop();

  // `ATTACKS=kB` only runs the attacks whose names contain `kB`.
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
  await data.close();
  return {
    lines: names.flatMap((name): Line[] => {
      const median = (read: (sample: Sample) => number) => medianOf(samples[name] ?? [], read);
      return [
        {
          what: `${name}: p99 of other users`,
          unit: "ms",
          parley: median(({ p99Ms }) => p99Ms),
          target: { upTo: P99_MS_MAX },
        },
        {
          what: "    memory growth",
          unit: "MiB",
          parley: median(({ growthMib }) => growthMib),
          target: { upTo: GROWTH_MIB_MAX },
        },
        { what: "    errors of other users", unit: "", parley: median(({ errors }) => errors), target: { upTo: 0 } },
      ];
    }),
    notes: [
      `attacks: ${OTHER_USERS} other users send a message every ${SEND_INTERVAL_MS} ms over WebSocket, one reads /me as often, one ` +
        `logs in every ${LOGIN_INTERVAL_MS} ms; default limits; memory is the growth of the server's RSS`,
      ...names.map((name) => describe(name, samples[name] ?? [])),
    ],
  };
}

type AttackContext = { server: Server; postgres: BenchPostgres; users: OtherUser[]; token: string };

async function measure(attack: Attack, { server, postgres, users, token }: AttackContext): Promise<Sample> {
  const others = startLoad("other-users.ts");
  const attacker = startLoad("attack.ts");
  const runOtherUsers = (step: OtherUsersStep) => others.runStep(step);
  await runOtherUsers({
    step: "open",
    url: server.url,
    users,
    password: PASSWORD,
    sendIntervalMs: SEND_INTERVAL_MS,
    logInIntervalMs: LOGIN_INTERVAL_MS,
  });
  await Bun.sleep(WARM_UP_MS);
  await postgres.checkpoint();
  await runOtherUsers({ step: "start" });
  const beforeBytes = readRssBytes(server.pid);
  let peakBytes = beforeBytes;
  const watch = setInterval(() => {
    peakBytes = Math.max(peakBytes, readRssBytes(server.pid));
  }, RSS_INTERVAL_MS);
  const serverBefore = readCpuMs(server.pid);
  const postgresBefore = readProcessTreeCpuMs(postgres.pid);
  const { elapsedMs, cpuMs, done, refused, failed } = await run(attacker, attack, server, token);
  const serverMs = readCpuMs(server.pid) - serverBefore;
  const postgresMs = readProcessTreeCpuMs(postgres.pid) - postgresBefore;
  await Bun.sleep(SETTLE_MS);
  const result = await runOtherUsers({ step: "stop" });
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
  return load.runStep({ ...step, url: `${url}/api/v1`, headers } satisfies AttackStep);
}

function describe(name: string, samples: Sample[]): string {
  const median = (read: (sample: Sample) => number) => formatNumber(medianOf(samples, read));
  const percent = (read: (sample: Sample) => number) => `${formatNumber(medianOf(samples, read) * 100)} %`;
  return (
    `${name}: took ${median(({ attackMs }) => attackMs / 1000)} s, ${median(({ done }) => done)} done, ${median(({ refused }) => refused)} ` +
    `refused, ${median(({ failed }) => failed)} failed; others p50 ${median(({ p50Ms }) => p50Ms)} ms, max ${median(({ maxMs }) => maxMs)} ` +
    `ms, login max ${median(({ loginMaxMs }) => loginMaxMs)} ms; memory afterwards +${median(({ afterMib }) => afterMib)} MiB; CPU: ` +
    `server ${percent(({ serverShare }) => serverShare)}, Postgres ${percent(({ postgresShare }) => postgresShare)}, ` +
    `the attacker's own client ${percent(({ attackerShare }) => attackerShare)}`
  );
}
