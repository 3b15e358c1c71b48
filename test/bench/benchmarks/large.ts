import postgres from "postgres";
import type { RequestsStep } from "../load/requests.ts";
import type { StreamsStep } from "../load/streams.ts";
import type { SubscriptionsStep } from "../load/subscribes.ts";
import { logIn } from "../support/account.ts";
import { startParleyWithModels, startProvider } from "../support/answer-servers.ts";
import type { BenchmarkContext } from "../support/benchmark.ts";
import { callers, DOCUMENTS, openLargeData, writeDocuments } from "../support/large-data.ts";
import { type LoadProcess, startLoadProcess } from "../support/load.ts";
import { type BenchmarkReport, formatNumber, type Line } from "../support/report.ts";
import { median, medianBy, runRounds } from "../support/rounds.ts";

/** A round has this number of calls, or fewer if `ROUND_MS` elapses first. */
const CALLS = 60;
const ROUND_MS = 6_000;
const CONCURRENT_CALLS = 20;
const MODEL = "1-0";
const PAGE_ROWS = 50;
/** The last message of the branch. The branch fits into the model's context, so it isn't summarized. */
const BRANCH_TIP_SEQ = 81_000;
const EVENTS_BEHIND = 500;
const INDEXING_TIMEOUT_MS = 180_000;
const COUNTING_TIMEOUT_MS = 1_200_000;
/** A query string for a period that starts before the first message. */
const ALL_TIME = "from=2020-01-01T00:00:00Z";

/** The target applies to the p95 of a search, and to the p50 of other calls. */
type Sample = { p50Ms: number; p95Ms: number; p99Ms: number; callsPerSecond: number };
type Call = { label: string; targetMs?: number; isSearch?: boolean; load: LoadProcess; measure(): Promise<Sample> };
type Page = { data: { id: string; last_seq: number }[]; next_cursor: string | null };

/** Measures one client's requests while 5,000,000 messages are stored. Other users' data must not increase latencies. */
export async function measureLarge({ rounds, shouldRecreateData }: BenchmarkContext): Promise<BenchmarkReport> {
  const largeData = await openLargeData({ shouldRecreateData });
  const provider = await startProvider();
  const parley = await startParleyWithModels({
    databaseUrl: largeData.databaseUrl,
    provider,
    models: [MODEL],
    environment: { DOCUMENTS_DIR: await writeDocuments(), AI_CONTEXT_TOKENS: "200000" },
  });
  await waitForDocuments(largeData.databaseUrl);
  const countingMs = await waitForAnalytics(largeData.databaseUrl);
  const { url } = parley;
  const fetchJson = createFetchJson(url);
  const tokens = {} as Record<keyof typeof callers, string>;
  for (const name of Object.keys(callers) as (keyof typeof callers)[]) tokens[name] = await logIn(url, callers[name]);

  const findOnlyConversation = async (token: string) =>
    (await fetchJson<Page>(token, "/conversations?limit=1")).data[0]?.id ?? "";
  const largeConversation = await findOnlyConversation(tokens.writer);
  const branchedConversation = await findOnlyConversation(tokens.brancher);
  const crowdedConversation = await findOnlyConversation(tokens.host);
  const followedConversation = await findOnlyConversation(tokens.follower);
  const branchTipPath = `/conversations/${branchedConversation}/messages?after_seq=${BRANCH_TIP_SEQ - 1}&limit=1`;
  const branchTip = (await fetchJson<Page>(tokens.brancher, branchTipPath)).data[0]?.id;
  const { last_seq: lastSeq } = await fetchJson<{ last_seq: number }>(
    tokens.follower,
    `/conversations/${followedConversation}`,
  );

  const openGet = (label: string, targetMs: number | undefined, token: string, path: string, connections = 1) =>
    openRequestCall(label, targetMs, {
      url,
      method: "GET",
      path,
      headers: { authorization: `Bearer ${token}` },
      connections,
    });
  const openList = async (label: string, targetMs: number, token: string, page: number) =>
    openGet(label, targetMs, token, `/conversations?limit=${PAGE_ROWS}${await fetchCursor(fetchJson, token, page)}`);
  const allCalls: Call[] = [
    await openGet("conversation with 100,000 own messages", 2, tokens.writer, `/conversations/${largeConversation}`),
    await openGet(
      `  ${CONCURRENT_CALLS} at once`,
      undefined,
      tokens.writer,
      `/conversations/${largeConversation}`,
      CONCURRENT_CALLS,
    ),
    await openList("list, in 2,000 conversations, page 1", 5, tokens.in2000, 1),
    await openList("list, in 2,000 conversations, page 20", 5, tokens.in2000, 20),
    await openList("list, in 20,000 conversations, page 1", 10, tokens.in20000, 1),
    await openList("list, in 20,000 conversations, page 100", 10, tokens.in20000, 100),
    await openGet("export of a user with 2 kB", 100, tokens.quiet, "/me/export"),
    await openGet("user search, two letters, no hit", 10, tokens.admin, "/users?q=zq"),
    await openGet(`document search, ${DOCUMENTS} hits`, 10, tokens.admin, "/documents?q=harbour"),
    ...(await openSearchCalls(tokens, openGet)),
    await openGet("analytics overview, all time", 50, tokens.admin, `/analytics/overview?${ALL_TIME}`),
    await openGet("  last 7 days", undefined, tokens.admin, "/analytics/overview?to=2026-10-20T10:10:10Z"),
    await openGet("  usage by day", undefined, tokens.admin, `/analytics/usage?from=2026-01-01T00:00:00Z`),
    await openGet(
      "  usage by day in Kolkata",
      undefined,
      tokens.admin,
      `/analytics/usage?from=2026-01-01T00:00:00Z&time_zone=Asia/Kolkata`,
    ),
    await openGet("  models", undefined, tokens.admin, `/analytics/models?${ALL_TIME}`),
    await openGet("  users, first page", undefined, tokens.admin, `/analytics/users?${ALL_TIME}`),
    await openSubscribeCall({
      url,
      token: tokens.follower,
      conversationId: followedConversation,
      afterSeq: lastSeq - EVENTS_BEHIND,
    }),
    await openAnswerCall({
      url,
      token: tokens.brancher,
      conversationId: branchedConversation,
      parentId: branchTip ?? "",
    }),
    await openGet(
      "page of messages in the large conversation",
      undefined,
      tokens.writer,
      `/conversations/${largeConversation}/messages`,
    ),
    await openRequestCall("send to the large conversation", undefined, {
      url,
      method: "POST",
      path: `/conversations/${largeConversation}/messages`,
      headers: { authorization: `Bearer ${tokens.writer}`, "content-type": "application/json" },
      body: JSON.stringify({ content: "One more.", reply: false }),
      connections: 1,
    }),
    await openGet(
      "200 of 5,000 members",
      undefined,
      tokens.host,
      `/conversations/${crowdedConversation}/members?limit=200`,
    ),
  ];
  // `LARGE=search` measures only the calls with `search` in their label.
  const calls = allCalls.filter(({ label }) => label.includes(process.env.LARGE ?? ""));
  const samples = await runRounds(Object.fromEntries(calls.map(({ label, measure }) => [label, measure])), rounds);
  for (const { load } of allCalls) await load.stop();
  await parley.stop();
  const getCallMedian = ({ label }: Call, getValue: (sample: Sample) => number) =>
    medianBy(samples[label] ?? [], getValue);
  return {
    lines: calls.flatMap((call): Line[] => [
      {
        label: `large: ${call.label}`,
        unit: "ms",
        parley: getCallMedian(call, ({ p50Ms, p95Ms }) => (call.isSearch ? p95Ms : p50Ms)),
        ...(call.targetMs !== undefined && { target: { upTo: call.targetMs } }),
      },
      { label: "    p99", unit: "ms", parley: getCallMedian(call, ({ p99Ms }) => p99Ms) },
    ]),
    notes: [
      `large: rounds of ${CALLS} consecutive calls or ${ROUND_MS / 1000} s; 5,000,000 messages, default settings`,
      `large: ${formatNumber(countingMs / 1000)} s until analytics had counted all messages (once per database)`,
      ...calls
        .filter(({ label }) => label.includes("at once"))
        .map(
          (call) =>
            `large: ${CONCURRENT_CALLS} at once: ${formatNumber(getCallMedian(call, ({ callsPerSecond }) => callsPerSecond))} a second`,
        ),
    ],
  };
}

/** Waits until all documents are indexed. */
async function waitForDocuments(databaseUrl: string): Promise<void> {
  const sql = postgres(databaseUrl, { max: 1 });
  const deadlineMs = performance.now() + INDEXING_TIMEOUT_MS;
  while (Number((await sql`select count(*) from documents`)[0]?.count) < DOCUMENTS) {
    if (performance.now() > deadlineMs) throw new Error("Indexing the documents timed out.");
    await Bun.sleep(200);
  }
  await sql`analyze documents, document_passages`;
  await sql.end();
}

/** Waits until analytics has counted all messages. Returns the duration. */
async function waitForAnalytics(databaseUrl: string): Promise<number> {
  const sql = postgres(databaseUrl, { max: 1 });
  const startedAtMs = performance.now();
  const hasCountedAllMessages = async () => {
    const [row] = await sql<{ has_counted: boolean }[]>`
      select as_of > now() - interval '2 minutes' and not exists (
        select from analytics_days d where not d.is_rolled_up and d.day < s.frontier - interval '1 day') as has_counted
      from analytics_state s`;
    return row?.has_counted ?? false;
  };
  while (!(await hasCountedAllMessages())) {
    if (performance.now() - startedAtMs > COUNTING_TIMEOUT_MS) throw new Error("Counting for analytics timed out.");
    await Bun.sleep(1_000);
  }
  await sql.end();
  return performance.now() - startedAtMs;
}

type FetchJson = <T>(token: string, path: string) => Promise<T>;

const createFetchJson =
  (url: string): FetchJson =>
  async (token, path) => {
    const response = await fetch(`${url}/api/v1${path}`, { headers: { authorization: `Bearer ${token}` } });
    if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`);
    return (await response.json()) as never;
  };

async function fetchCursor(fetchJson: FetchJson, token: string, page: number): Promise<string> {
  let cursor = "";
  for (let n = 1; n < page; n += 1) {
    const { next_cursor } = await fetchJson<Page>(token, `/conversations?limit=${PAGE_ROWS}${cursor}`);
    if (next_cursor === null) throw new Error(`There is no page ${n + 1}.`);
    cursor = `&cursor=${encodeURIComponent(next_cursor)}`;
  }
  return cursor;
}

const createSample = ({
  p50Ms = Number.NaN,
  p95Ms = Number.NaN,
  p99Ms = Number.NaN,
  requests = 0,
  elapsedMs = 0,
}): Sample => ({
  p50Ms,
  p95Ms,
  p99Ms,
  callsPerSecond: (requests / elapsedMs) * 1_000,
});

async function openRequestCall(
  label: string,
  targetMs: number | undefined,
  setup: Omit<Extract<RequestsStep, { step: "open" }>, "step">,
): Promise<Call> {
  const load = startLoadProcess("requests.ts");
  await load.runStep({ step: "open", ...setup, path: `/api/v1${setup.path}` } satisfies RequestsStep);
  const runStep: RequestsStep = { step: "run", durationMs: ROUND_MS, requestsMax: CALLS * setup.connections };
  return {
    label,
    ...(targetMs !== undefined && { targetMs }),
    load,
    measure: async () => createSample(await load.runStep(runStep)),
  };
}

/** Search queries by kind. Each message consists of a unique number and a prefix of the same sentence. */
const searchQueries = {
  "a word in nearly all messages": "quiet",
  "a word in one message of another user": "4711",
  "no hit": "zeppelin",
  "a phrase": '"quiet when the first"',
  "two words": "harbour pale",
  "a prefix": "harb*",
  "a prefix, no hit": "zepp*",
};
const searchers = ["writer", "in2000", "in20000", "quiet", "host"] as const;
type OpenGet = (label: string, targetMs: number, token: string, path: string) => Promise<Call>;

async function openSearchCalls(tokens: Record<keyof typeof callers, string>, openGet: OpenGet): Promise<Call[]> {
  const calls: Call[] = [];
  for (const searcher of searchers)
    for (const [label, q] of Object.entries(searchQueries)) {
      const path = `/search?${new URLSearchParams({ q, limit: "20" })}`;
      calls.push({
        ...(await openGet(`search by ${searcher}, ${label}, p95`, 50, tokens[searcher], path)),
        isSearch: true,
      });
    }
  return calls;
}

async function openSubscribeCall(options: { url: string; token: string; conversationId: string; afterSeq: number }) {
  const { url, token, conversationId, afterSeq } = options;
  const load = startLoadProcess("subscribes.ts");
  const target = { protocol: "parley" as const, url, token };
  await load.runStep({ step: "open", target } satisfies SubscriptionsStep);
  const runStep: SubscriptionsStep = { step: "run", conversationId, afterSeq, times: CALLS };
  const measure = async () => createSample(await load.runStep(runStep));
  return { label: `subscribe, ${EVENTS_BEHIND} events behind`, targetMs: 8, load, measure };
}

/** Requests answers at the end of the branch, one after the other. */
async function openAnswerCall(options: { url: string; token: string; conversationId: string; parentId: string }) {
  const { url, token, conversationId, parentId } = options;
  const load = startLoadProcess("streams.ts");
  const openStep: StreamsStep = {
    step: "open",
    url,
    headers: { authorization: `Bearer ${token}`, accept: "text/event-stream" },
    requests: [
      {
        path: `/api/v1/conversations/${conversationId}/messages`,
        body: JSON.stringify({ content: "And then?", reply: true, parent_id: parentId }),
      },
    ],
    format: "conversation",
  };
  await load.runStep(openStep);
  const runStep: StreamsStep = { step: "run", streams: 1, intervalMs: 0, model: MODEL };
  const measure = async () => {
    const durationsMs: number[] = [];
    const deadlineMs = performance.now() + ROUND_MS;
    while (durationsMs.length < CALLS && performance.now() < deadlineMs)
      durationsMs.push((await load.runStep(runStep)).p50Ms ?? Number.NaN);
    const p99Ms = durationsMs.toSorted((a, b) => a - b)[Math.floor(0.99 * durationsMs.length)] ?? Number.NaN;
    return createSample({ p50Ms: median(durationsMs), p99Ms });
  };
  return { label: "first token, a branch 900 deep", targetMs: 20, load, measure };
}
