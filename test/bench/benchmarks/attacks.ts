import type { AttackStep } from "../load/attack.ts";
import type { OtherUser, OtherUsersStep } from "../load/other-users.ts";
import { PASSWORD, registerAccount } from "../support/account.ts";
import { type Attack, createAttacks, setUpAttacks } from "../support/attacks.ts";
import type { BenchmarkContext } from "../support/benchmark.ts";
import { type LoadProcess, startLoadProcess } from "../support/load.ts";
import type { BenchPostgres } from "../support/postgres.ts";
import { readCpuMs, readProcessTreeCpuMs, readRssBytes } from "../support/process-usage.ts";
import { type BenchmarkReport, formatNumber, type Line } from "../support/report.ts";
import { medianBy } from "../support/rounds.ts";
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
  peakGrowthMib: number;
  remainingGrowthMib: number;
  attackMs: number;
  succeeded: number;
  rejected: number;
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
  const startServer = () => startParley({ databaseUrl, environment });
  const setupServer = await startServer();
  const data = await setUpAttacks(setupServer.url, databaseUrl);
  const users: OtherUser[] = [];
  for (let n = 0; n < OTHER_USERS; n += 1) {
    const { token, email, createConversation } = await registerAccount(setupServer.url);
    users.push({ token, email, conversationId: await createConversation() });
  }
  await setupServer.stop();

  // `ATTACKS=kB` runs only the attacks with `kB` in their name.
  const names = Object.keys(createAttacks(data)).filter((name) => name.includes(process.env.ATTACKS ?? ""));
  const samples = Object.fromEntries(names.map((name) => [name, [] as Sample[]]));
  for (let round = 0; round < rounds; round += 1)
    for (const name of names) {
      const attack = createAttacks(data)[name] as Attack;
      await attack.prepare?.();
      const server = await startServer();
      samples[name]?.push(await measureAttack(attack, { server, postgres, users, token: data.token }));
      await server.stop();
    }
  await data.close();
  return {
    lines: names.flatMap((name): Line[] => {
      const getMedian = (getValue: (sample: Sample) => number) => medianBy(samples[name] ?? [], getValue);
      return [
        {
          label: `${name}: p99 of other users`,
          unit: "ms",
          parley: getMedian(({ p99Ms }) => p99Ms),
          target: { upTo: P99_MS_MAX },
        },
        {
          label: "    memory growth",
          unit: "MiB",
          parley: getMedian(({ peakGrowthMib }) => peakGrowthMib),
          target: { upTo: GROWTH_MIB_MAX },
        },
        {
          label: "    errors of other users",
          unit: "",
          parley: getMedian(({ errors }) => errors),
          target: { upTo: 0 },
        },
      ];
    }),
    notes: [
      `attacks: ${OTHER_USERS} other users send a message every ${SEND_INTERVAL_MS} ms over WebSocket, one reads /me as often, one ` +
        `logs in every ${LOGIN_INTERVAL_MS} ms; default limits; memory is the growth of the server's RSS`,
      ...names.map((name) => describeSamples(name, samples[name] ?? [])),
    ],
  };
}

type AttackContext = { server: Server; postgres: BenchPostgres; users: OtherUser[]; token: string };

async function measureAttack(attack: Attack, { server, postgres, users, token }: AttackContext): Promise<Sample> {
  const otherUsers = startLoadProcess("other-users.ts");
  const attacker = startLoadProcess("attack.ts");
  const runOtherUsers = (step: OtherUsersStep) => otherUsers.runStep(step);
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
  await runOtherUsers({ step: "reset" });
  const beforeBytes = readRssBytes(server.pid);
  let peakBytes = beforeBytes;
  const rssTimer = setInterval(() => {
    peakBytes = Math.max(peakBytes, readRssBytes(server.pid));
  }, RSS_INTERVAL_MS);
  const serverCpuBeforeMs = readCpuMs(server.pid);
  const postgresCpuBeforeMs = readProcessTreeCpuMs(postgres.pid);
  const { elapsedMs, cpuMs, succeeded, rejected, failed } = await runAttack(attacker, attack, server, token);
  const serverCpuMs = readCpuMs(server.pid) - serverCpuBeforeMs;
  const postgresCpuMs = readProcessTreeCpuMs(postgres.pid) - postgresCpuBeforeMs;
  await Bun.sleep(SETTLE_MS);
  const result = await runOtherUsers({ step: "stop" });
  clearInterval(rssTimer);
  const { p50Ms = 0, p99Ms = 0, maxMs = 0, loginMaxMs = 0, errors = 0 } = result;
  await otherUsers.stop();
  await attacker.stop();
  return {
    p50Ms,
    p99Ms,
    maxMs,
    loginMaxMs,
    errors,
    peakGrowthMib: (peakBytes - beforeBytes) / MIB,
    remainingGrowthMib: (readRssBytes(server.pid) - beforeBytes) / MIB,
    attackMs: elapsedMs,
    succeeded: succeeded ?? 0,
    rejected: rejected ?? 0,
    failed: failed ?? 0,
    serverShare: serverCpuMs / elapsedMs,
    postgresShare: postgresCpuMs / elapsedMs,
    attackerShare: cpuMs / elapsedMs,
  };
}

function runAttack(load: LoadProcess, attack: Attack, { url }: Server, token: string) {
  const { prepare: _, ...step } = attack;
  const headers = { authorization: `Bearer ${token}`, "x-forwarded-for": "203.0.113.1" };
  return load.runStep({ ...step, url: `${url}/api/v1`, headers } satisfies AttackStep);
}

function describeSamples(name: string, samples: Sample[]): string {
  const formatMedian = (getValue: (sample: Sample) => number) => formatNumber(medianBy(samples, getValue));
  const formatPercent = (getValue: (sample: Sample) => number) =>
    `${formatNumber(medianBy(samples, getValue) * 100)} %`;
  return (
    `${name}: took ${formatMedian(({ attackMs }) => attackMs / 1000)} s, ${formatMedian(({ succeeded }) => succeeded)} succeeded, ${formatMedian(({ rejected }) => rejected)} ` +
    `rejected, ${formatMedian(({ failed }) => failed)} failed; others p50 ${formatMedian(({ p50Ms }) => p50Ms)} ms, max ${formatMedian(({ maxMs }) => maxMs)} ` +
    `ms, login max ${formatMedian(({ loginMaxMs }) => loginMaxMs)} ms; memory afterwards +${formatMedian(({ remainingGrowthMib }) => remainingGrowthMib)} MiB; CPU: ` +
    `server ${formatPercent(({ serverShare }) => serverShare)}, Postgres ${formatPercent(({ postgresShare }) => postgresShare)}, ` +
    `the attacker's own client ${formatPercent(({ attackerShare }) => attackerShare)}`
  );
}
