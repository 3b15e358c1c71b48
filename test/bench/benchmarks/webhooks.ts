import postgres from "postgres";
import type { ReceiversStep } from "../load/receivers.ts";
import type { SendsStep } from "../load/sends.ts";
import { type BenchAccount, registerAccount } from "../support/account.ts";
import type { BenchmarkContext } from "../support/benchmark.ts";
import { type LoadProcess, startLoadProcess } from "../support/load.ts";
import { readCpuMs, readProcessTreeCpuMs } from "../support/process-usage.ts";
import { type BenchmarkReport, formatNumber } from "../support/report.ts";
import { medianBy, runRounds } from "../support/rounds.ts";
import { type Server, startParley } from "../support/servers.ts";

const ENDPOINTS = 5;
const CONVERSATIONS = 50;
const IN_FLIGHT_PER_CONVERSATION = 4;
const CONTENT_CHARS = 100;
const ROUND_MS = 4_000;
/** The number of messages per round and endpoint. */
const MESSAGES_PER_ROUND = 3_000;
const DELIVERIES_PER_SECOND_MIN = 3_000;
const SENDS_RATIO_MIN = 0.85;

/** Measures deliveries per second to five endpoints, and how they affect concurrent sends. */
export async function measureWebhooks({ rounds, getPostgres }: BenchmarkContext): Promise<BenchmarkReport> {
  const benchPostgres = await getPostgres();
  const databaseUrl = await benchPostgres.createDatabase("webhooks");
  const sql = postgres(databaseUrl, { max: 1, onnotice: () => {} });
  const parley = await startParley({ databaseUrl, environment: { WEBHOOK_ALLOW_PRIVATE_NETWORKS: "true" } });
  const account = await registerAccount(parley.url);
  const receivers = startLoadProcess("receivers.ts");
  const openStep: ReceiversStep = { step: "open" };
  const { port } = await receivers.runStep(openStep);
  for (let n = 0; n < ENDPOINTS; n += 1) await createWebhook(parley, account, `http://127.0.0.1:${port}/${n}`);
  const sendsLoad = await openSendsLoad(parley, account);

  const setWebhooksEnabled = (areWebhooksEnabled: boolean) => sql`
    update webhooks set disabled_at = ${areWebhooksEnabled ? null : sql`now()`},
      disabled_reason = ${areWebhooksEnabled ? null : "user"}`;
  /** Deletes all pending deliveries. */
  const deletePendingDeliveries = () => sql`truncate webhook_outbox, webhook_deliveries`;

  async function measureSendRate(areWebhooksEnabled: boolean) {
    await setWebhooksEnabled(areWebhooksEnabled);
    await benchPostgres.checkpoint();
    const step: SendsStep = { step: "run", durationMs: ROUND_MS };
    const { acks = 0, elapsedMs } = await sendsLoad.runStep(step);
    await setWebhooksEnabled(false);
    // Waits for requests in flight.
    await Bun.sleep(1_000);
    await deletePendingDeliveries();
    return { perSecond: (acks / elapsedMs) * 1_000 };
  }

  async function measureDeliveries() {
    await setWebhooksEnabled(true);
    await benchPostgres.checkpoint();
    await receivers.runStep({ step: "await", count: 0 } satisfies ReceiversStep);
    const serverCpuBeforeMs = readCpuMs(parley.pid);
    const postgresCpuBeforeMs = readProcessTreeCpuMs(benchPostgres.pid);
    const count = MESSAGES_PER_ROUND * ENDPOINTS;
    const lastDelivery = receivers.runStep({ step: "await", count } satisfies ReceiversStep);
    await sql`
      insert into webhook_outbox (conversations, seqs, types, messages, at)
      select array_agg(m.conversation_id), array_agg(m.seq), array_agg('message.created'::text), array_agg(m.id), now()
      from (select *, row_number() over (order by id) as n from messages order by id limit ${MESSAGES_PER_ROUND}) m
      group by m.n / 20`;
    const { elapsedMs } = await lastDelivery;
    const serverCpuMs = readCpuMs(parley.pid) - serverCpuBeforeMs;
    const postgresCpuMs = readProcessTreeCpuMs(benchPostgres.pid) - postgresCpuBeforeMs;
    await setWebhooksEnabled(false);
    await Bun.sleep(500);
    await deletePendingDeliveries();
    return {
      perSecond: (count / elapsedMs) * 1_000,
      serverShare: serverCpuMs / elapsedMs,
      postgresShare: postgresCpuMs / elapsedMs,
    };
  }

  await measureSendRate(false);
  const samples = await runRounds(
    {
      webhooksDisabled: () => measureSendRate(false),
      webhooksEnabled: () => measureSendRate(true),
      deliveries: measureDeliveries,
    },
    rounds,
  );
  await Promise.all([sendsLoad.stop(), receivers.stop()]);
  await parley.stop();
  await sql.end();
  const { webhooksDisabled, webhooksEnabled, deliveries } = samples;
  return {
    lines: [
      {
        label: `webhooks delivered to ${ENDPOINTS} endpoints`,
        unit: "/s",
        parley: medianBy(deliveries, ({ perSecond }) => perSecond),
        peer: { name: "the target", value: DELIVERIES_PER_SECOND_MIN },
        target: { atLeast: 1 },
      },
      {
        label: `durable sends with ${ENDPOINTS} subscribed endpoints`,
        unit: "acks/s",
        parley: medianBy(webhooksEnabled, ({ perSecond }) => perSecond),
        peer: { name: "without webhooks", value: medianBy(webhooksDisabled, ({ perSecond }) => perSecond) },
        target: { atLeast: SENDS_RATIO_MIN },
      },
    ],
    notes: [
      `webhooks: ${MESSAGES_PER_ROUND} messages sent to ${ENDPOINTS} endpoints of one receiver on this machine, ` +
        `server ${formatNumber(medianBy(deliveries, ({ serverShare }) => serverShare) * 100)} % of a core, ` +
        `Postgres ${formatNumber(medianBy(deliveries, ({ postgresShare }) => postgresShare) * 100)} %`,
    ],
  };
}

async function createWebhook({ url }: Server, { token }: BenchAccount, target: string): Promise<void> {
  const response = await fetch(`${url}/api/v1/webhooks`, {
    method: "POST",
    headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
    body: JSON.stringify({ url: target, events: ["message.created"] }),
  });
  if (!response.ok) throw new Error(`webhook: ${response.status} ${await response.text()}`);
}

async function openSendsLoad({ url }: Server, account: BenchAccount): Promise<LoadProcess> {
  const load = startLoadProcess("sends.ts");
  const conversations: string[] = [];
  for (let n = 0; n < CONVERSATIONS; n += 1) conversations.push(await account.createConversation());
  const step: SendsStep = {
    step: "open",
    target: { protocol: "parley", url, token: account.token },
    conversations,
    inFlight: IN_FLIGHT_PER_CONVERSATION,
    contentChars: CONTENT_CHARS,
  };
  await load.runStep(step);
  return load;
}
