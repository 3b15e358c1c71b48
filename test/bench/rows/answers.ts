import type { StreamsStep } from "../load/streams.ts";
import { register } from "../support/account.ts";
import { createTitledConversation, startParleyWith, startPortkey, startProvider } from "../support/answer-servers.ts";
import { type Load, startLoad } from "../support/load.ts";
import { readCpuMs, readFamilyCpuMs } from "../support/process-usage.ts";
import { type Line, type RowReport, show } from "../support/report.ts";
import { medianOf, runRounds } from "../support/rounds.ts";
import type { Context } from "../support/row.ts";
import type { Server } from "../support/servers.ts";

/** An answer: so many pieces, so far apart; it takes about a second. */
const PIECES = 50;
const PIECE_DELAY_MS = 20;
const MODEL = `${PIECES}-${PIECE_DELAY_MS}`;
const CONCURRENT = 100;
/** As many answers begin as end: CONCURRENT of them are being written all the time. */
const INTERVAL_MS = (PIECES * PIECE_DELAY_MS) / CONCURRENT;
const STREAMS = 500;
/** Conversations that are made at the same time. */
const MAKING = 20;
const QUESTION = "What is the answer to the question that everybody asks?";

const P50_ADDED_MS_MAX = 3;
const P99_ADDED_MS_MAX = 15;
const PEER_SHARE_MAX = 0.2;

type Sample = {
  p50Ms: number;
  p99Ms: number;
  burstP50Ms: number;
  burstP99Ms: number;
  cpuMs: number;
  databaseMs: number;
};

/** Answers of models: what the way through Parley adds to the first token, and what a stream costs the server. */
export async function measureAnswers({ rounds, getPostgres }: Context): Promise<RowReport> {
  const postgres = await getPostgres();
  const provider = await startProvider();
  const parley = await startParleyWith({
    databaseUrl: await postgres.createDatabase("answers"),
    provider,
    models: [MODEL],
  });
  const portkey = await startPortkey();
  const account = await register(parley.url);
  // A new one for each stream: all sides then ask the provider the same single question, and carry no history along.
  const conversations: string[] = [];
  const make = () => createTitledConversation(parley.url, account.token);
  while (conversations.length < (rounds + 1) * (STREAMS + CONCURRENT))
    conversations.push(...(await Promise.all(Array.from({ length: MAKING }, make))));

  const chat = JSON.stringify({
    model: MODEL,
    messages: [{ role: "user", content: QUESTION }],
    stream: true,
    stream_options: { include_usage: true },
  });
  const chatMarks = { firstMark: "a word or", lastMark: "[DONE]" };
  const sides = {
    direct: await open({ url: provider.url, paths: ["/v1/chat/completions"], headers: {}, body: chat, ...chatMarks }),
    parley: await open({
      url: parley.url,
      paths: conversations.map((id) => `/api/v1/conversations/${id}/messages`),
      headers: { authorization: `Bearer ${account.token}`, accept: "text/event-stream" },
      body: JSON.stringify({ content: QUESTION, reply: true }),
      firstMark: "event: message.delta",
      lastMark: "event: message.completed",
    }),
    portkey: await open({
      url: portkey.url,
      paths: ["/v1/chat/completions"],
      headers: {
        authorization: "Bearer none",
        "x-portkey-provider": "openai",
        "x-portkey-custom-host": `${provider.url.replace("127.0.0.1", "localhost")}/v1`,
      },
      body: chat,
      ...chatMarks,
    }),
  };
  const samples = await runRounds(
    {
      direct: () => measure(sides.direct, provider, postgres.pid),
      parley: () => measure(sides.parley, parley, postgres.pid),
      portkey: () => measure(sides.portkey, portkey, postgres.pid),
    },
    rounds,
  );
  for (const load of Object.values(sides)) await load.stop();
  for (const server of [portkey, parley, provider]) await server.stop();

  const added = (of: Sample[], read: (sample: Sample) => number) => medianOf(of, read) - medianOf(samples.direct, read);
  const first = (what: string, read: (sample: Sample) => number, bounded: boolean): Line => ({
    what: `added to the first token, ${what}`,
    unit: "ms",
    parley: added(samples.parley, read),
    peer: { name: "Portkey", value: added(samples.portkey, read) },
    ...(bounded && { bound: { atMost: PEER_SHARE_MAX } }),
  });
  const limit = (what: string, read: (sample: Sample) => number, limitMs: number): Line => ({
    what: `added to the first token, ${what}`,
    unit: "ms",
    parley: added(samples.parley, read),
    bound: { upTo: limitMs },
  });
  return {
    lines: [
      limit(`p50 of ${CONCURRENT} steady`, (sample) => sample.p50Ms, P50_ADDED_MS_MAX),
      limit(`p99 of ${CONCURRENT} steady`, (sample) => sample.p99Ms, P99_ADDED_MS_MAX),
      first(`p50 of ${CONCURRENT} steady`, (sample) => sample.p50Ms, true),
      first(`p99 of ${CONCURRENT} steady`, (sample) => sample.p99Ms, false),
      first(`p50 of ${CONCURRENT} at once`, (sample) => sample.burstP50Ms, false),
      first(`p99 of ${CONCURRENT} at once`, (sample) => sample.burstP99Ms, false),
      {
        what: `a stream of ${PIECES} chunks`,
        unit: "ms CPU",
        parley: medianOf(samples.parley, (sample) => sample.cpuMs),
        peer: { name: "Portkey", value: medianOf(samples.portkey, (sample) => sample.cpuMs) },
        bound: { atMost: 1 },
      },
    ],
    notes: [
      `answers: ${STREAMS} a round, ${PIECES} pieces each, ${PIECE_DELAY_MS} ms apart, ${CONCURRENT} at a time; Parley ` +
        `stores question and answer, which costs Postgres ${show(medianOf(samples.parley, (sample) => sample.databaseMs))} ms CPU a stream`,
      ...Object.entries(samples).map(
        ([name, of]) =>
          `${name}: first token p50 ${show(medianOf(of, (sample) => sample.p50Ms))} ms, p99 ` +
          `${show(medianOf(of, (sample) => sample.p99Ms))} ms; at once ${show(medianOf(of, (sample) => sample.burstP50Ms))} ` +
          `and ${show(medianOf(of, (sample) => sample.burstP99Ms))} ms`,
      ),
    ],
  };
}

async function open(setup: Omit<Extract<StreamsStep, { step: "open" }>, "step">): Promise<Load> {
  const load = startLoad("streams.ts");
  await load.ask({ step: "open", ...setup });
  return load;
}

async function measure(load: Load, server: Server, databasePid: number): Promise<Sample> {
  const run = (step: Omit<Extract<StreamsStep, { step: "run" }>, "step">) => load.ask({ step: "run", ...step });
  const cpuBefore = readCpuMs(server.pid);
  const databaseBefore = readFamilyCpuMs(databasePid);
  const { p50Ms = Number.NaN, p99Ms = Number.NaN } = await run({ streams: STREAMS, intervalMs: INTERVAL_MS });
  const cpuMs = (readCpuMs(server.pid) - cpuBefore) / STREAMS;
  const databaseMs = (readFamilyCpuMs(databasePid) - databaseBefore) / STREAMS;
  const burst = await run({ streams: CONCURRENT, intervalMs: 0 });
  const { p50Ms: burstP50Ms = Number.NaN, p99Ms: burstP99Ms = Number.NaN } = burst;
  return { p50Ms, p99Ms, burstP50Ms, burstP99Ms, cpuMs, databaseMs };
}
