import postgres from "postgres";
import type { RequestsStep } from "../load/requests.ts";
import type { StreamsStep } from "../load/streams.ts";
import type { SubscribesStep } from "../load/subscribes.ts";
import { logIn } from "../support/account.ts";
import { startParleyWith, startProvider } from "../support/answer-servers.ts";
import { callers, DOCUMENTS, openLargeData, writeDocuments } from "../support/large-data.ts";
import { type Load, startLoad } from "../support/load.ts";
import { type RowReport, show } from "../support/report.ts";
import { median, medianOf, runRounds } from "../support/rounds.ts";
import type { Context } from "../support/row.ts";

/** Calls per round, or as many as fit in this time. */
const CALLS = 60;
const ROUND_MS = 6_000;
const AT_ONCE = 20;
const MODEL = "1-0";
const PAGE = 50;
/** Of the branch: with the messages before it, it fits into the model's context, so that nothing is summarized. */
const BRANCH_TIP_SEQ = 81_000;
const BEHIND = 500;
const INDEXING_TIMEOUT_MS = 180_000;
const COUNTING_TIMEOUT_MS = 1_200_000;
/** Before the first message. */
const ALL = "from=2020-01-01T00:00:00Z";

/** For a search, its p95 is shown and limited; for other calls, their p50. */
type Sample = { p50Ms: number; p95Ms: number; p99Ms: number; perSecond: number };
type Call = { what: string; upToMs?: number; isSearch?: boolean; load: Load; measure(): Promise<Sample> };
type Page = { data: { id: string; last_seq: number }[]; next_cursor: string | null };

/** Reads and sends of one client with 5,000,000 messages stored: no latency may grow with the data of others. */
export async function measureLarge({ rounds, isFresh }: Context): Promise<RowReport> {
  const data = await openLargeData({ isFresh });
  const provider = await startProvider();
  const parley = await startParleyWith({
    databaseUrl: data.databaseUrl,
    provider,
    models: [MODEL],
    environment: { DOCUMENTS_DIR: await writeDocuments(), AI_CONTEXT_TOKENS: "200000" },
  });
  await waitForDocuments(data.databaseUrl);
  const countingMs = await waitForAnalytics(data.databaseUrl);
  const { url } = parley;
  const api = createApi(url);
  const tokens = {} as Record<keyof typeof callers, string>;
  for (const name of Object.keys(callers) as (keyof typeof callers)[]) tokens[name] = await logIn(url, callers[name]);

  const findOnly = async (token: string) => (await api<Page>(token, "/conversations?limit=1")).data[0]?.id ?? "";
  const big = await findOnly(tokens.writer);
  const branch = await findOnly(tokens.brancher);
  const crowd = await findOnly(tokens.host);
  const watched = await findOnly(tokens.follower);
  const after = `/conversations/${branch}/messages?after_seq=${BRANCH_TIP_SEQ - 1}&limit=1`;
  const tip = (await api<Page>(tokens.brancher, after)).data[0]?.id;
  const { last_seq: lastSeq } = await api<{ last_seq: number }>(tokens.follower, `/conversations/${watched}`);

  const get = (what: string, upToMs: number | undefined, token: string, path: string, connections = 1) =>
    openRequests(what, upToMs, {
      url,
      method: "GET",
      path,
      headers: { authorization: `Bearer ${token}` },
      connections,
    });
  const list = async (what: string, upToMs: number, token: string, page: number) =>
    get(what, upToMs, token, `/conversations?limit=${PAGE}${await findCursor(api, token, page)}`);
  const allCalls: Call[] = [
    await get("conversation of 100,000 own messages", 2, tokens.writer, `/conversations/${big}`),
    await get(`  ${AT_ONCE} at once`, undefined, tokens.writer, `/conversations/${big}`, AT_ONCE),
    await list("list, in 2,000 conversations, page 1", 5, tokens.in2000, 1),
    await list("list, in 2,000 conversations, page 20", 5, tokens.in2000, 20),
    await list("list, in 20,000 conversations, page 1", 10, tokens.in20000, 1),
    await list("list, in 20,000 conversations, page 100", 10, tokens.in20000, 100),
    await get("export of a user with 2 kB", 100, tokens.quiet, "/me/export"),
    await get("user search, two letters, no hit", 10, tokens.admin, "/users?q=zq"),
    await get(`document search, ${DOCUMENTS} hits`, 10, tokens.admin, "/documents?q=harbour"),
    ...(await openSearches(tokens, get)),
    await get("analytics overview, all of the time", 50, tokens.admin, `/analytics/overview?${ALL}`),
    await get("  last 7 days", undefined, tokens.admin, "/analytics/overview?to=2026-10-20T10:10:10Z"),
    await get("  usage by day", undefined, tokens.admin, `/analytics/usage?from=2026-01-01T00:00:00Z`),
    await get(
      "  usage by day in Kolkata",
      undefined,
      tokens.admin,
      `/analytics/usage?from=2026-01-01T00:00:00Z&time_zone=Asia/Kolkata`,
    ),
    await get("  models", undefined, tokens.admin, `/analytics/models?${ALL}`),
    await get("  users, first page", undefined, tokens.admin, `/analytics/users?${ALL}`),
    await openSubscribes({ url, token: tokens.follower, conversationId: watched, afterSeq: lastSeq - BEHIND }),
    await openAnswers({ url, token: tokens.brancher, conversationId: branch, parentId: tip ?? "" }),
    await get("page of messages of the big conversation", undefined, tokens.writer, `/conversations/${big}/messages`),
    await openRequests("send into the big conversation", undefined, {
      url,
      method: "POST",
      path: `/conversations/${big}/messages`,
      headers: { authorization: `Bearer ${tokens.writer}`, "content-type": "application/json" },
      body: JSON.stringify({ content: "One more.", reply: false }),
      connections: 1,
    }),
    await get("200 of 5,000 members", undefined, tokens.host, `/conversations/${crowd}/members?limit=200`),
  ];
  // `LARGE=search` measures only the calls with this in their name.
  const calls = allCalls.filter(({ what }) => what.includes(process.env.LARGE ?? ""));
  const samples = await runRounds(Object.fromEntries(calls.map(({ what, measure }) => [what, measure])), rounds);
  for (const { load } of allCalls) await load.stop();
  await parley.stop();
  const of = ({ what }: Call, read: (sample: Sample) => number) => medianOf(samples[what] ?? [], read);
  return {
    lines: calls.flatMap((call) => [
      {
        what: `large: ${call.what}`,
        unit: "ms",
        parley: of(call, ({ p50Ms, p95Ms }) => (call.isSearch ? p95Ms : p50Ms)),
        ...(call.upToMs !== undefined && { bound: { upTo: call.upToMs } }),
      },
      { what: "    its p99", unit: "ms", parley: of(call, ({ p99Ms }) => p99Ms) },
    ]),
    notes: [
      `large: rounds of ${CALLS} calls one after the other, or of ${ROUND_MS / 1000} s; 5,000,000 messages, default settings`,
      `large: ${show(countingMs / 1000)} s until analytics had counted all messages, if that was to be done`,
      ...calls
        .filter(({ what }) => what.includes("at once"))
        .map((call) => `large: ${AT_ONCE} at once: ${show(of(call, ({ perSecond }) => perSecond))} a second`),
    ],
  };
}

/** Searches find all documents only once all are indexed. */
async function waitForDocuments(databaseUrl: string): Promise<void> {
  const sql = postgres(databaseUrl, { max: 1 });
  const untilMs = performance.now() + INDEXING_TIMEOUT_MS;
  while (Number((await sql`select count(*) from documents`)[0]?.count) < DOCUMENTS) {
    if (performance.now() > untilMs) throw new Error("Indexing the documents timed out.");
    await Bun.sleep(200);
  }
  await sql`analyze documents, document_passages`;
  await sql.end();
}

/**
 * Waits until all messages are counted, after starting on a database that was filled without counters. @returns how
 * long it took.
 */
async function waitForAnalytics(databaseUrl: string): Promise<number> {
  const sql = postgres(databaseUrl, { max: 1 });
  const startedAtMs = performance.now();
  const hasCounted = async () => {
    const [row] = await sql<{ has_counted: boolean }[]>`
      select as_of > now() - interval '2 minutes' and not exists (
        select from analytics_days d where not d.is_rolled_up and d.day < s.frontier - interval '1 day') as has_counted
      from analytics_state s`;
    return row?.has_counted ?? false;
  };
  while (!(await hasCounted())) {
    if (performance.now() - startedAtMs > COUNTING_TIMEOUT_MS) throw new Error("Counting for analytics timed out.");
    await Bun.sleep(1_000);
  }
  await sql.end();
  return performance.now() - startedAtMs;
}

type Api = <T>(token: string, path: string) => Promise<T>;

const createApi =
  (url: string): Api =>
  async (token, path) => {
    const response = await fetch(`${url}/api/v1${path}`, { headers: { authorization: `Bearer ${token}` } });
    if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`);
    return (await response.json()) as never;
  };

async function findCursor(api: Api, token: string, page: number): Promise<string> {
  let cursor = "";
  for (let n = 1; n < page; n += 1) {
    const { next_cursor } = await api<Page>(token, `/conversations?limit=${PAGE}${cursor}`);
    if (next_cursor === null) throw new Error(`There is no page ${n + 1}.`);
    cursor = `&cursor=${encodeURIComponent(next_cursor)}`;
  }
  return cursor;
}

const readSample = ({
  p50Ms = Number.NaN,
  p95Ms = Number.NaN,
  p99Ms = Number.NaN,
  requests = 0,
  elapsedMs = 0,
}): Sample => ({
  p50Ms,
  p95Ms,
  p99Ms,
  perSecond: (requests / elapsedMs) * 1_000,
});

async function openRequests(
  what: string,
  upToMs: number | undefined,
  setup: Omit<Extract<RequestsStep, { step: "open" }>, "step">,
): Promise<Call> {
  const load = startLoad("requests.ts");
  await load.ask({ step: "open", ...setup, path: `/api/v1${setup.path}` } satisfies RequestsStep);
  const run: RequestsStep = { step: "run", durationMs: ROUND_MS, requestsMax: CALLS * setup.connections };
  return { what, ...(upToMs !== undefined && { upToMs }), load, measure: async () => readSample(await load.ask(run)) };
}

/** Search terms by their characteristics: all texts are prefixes of the same sentence, after a unique number. */
const searches = {
  "a word in nearly all messages": "quiet",
  "a word in one message of another user": "4711",
  "no hit": "zeppelin",
  "a phrase": '"quiet when the first"',
  "two words": "harbour pale",
  "a beginning": "harb*",
  "a prefix without hits": "zepp*",
};
const searchers = ["writer", "in2000", "in20000", "quiet", "host"] as const;
type Get = (what: string, upToMs: number, token: string, path: string) => Promise<Call>;

async function openSearches(tokens: Record<keyof typeof callers, string>, get: Get): Promise<Call[]> {
  const calls: Call[] = [];
  for (const searcher of searchers)
    for (const [what, q] of Object.entries(searches)) {
      const path = `/search?${new URLSearchParams({ q, limit: "20" })}`;
      calls.push({ ...(await get(`search by ${searcher}, ${what}, p95`, 50, tokens[searcher], path)), isSearch: true });
    }
  return calls;
}

async function openSubscribes(options: { url: string; token: string; conversationId: string; afterSeq: number }) {
  const { url, token, conversationId, afterSeq } = options;
  const load = startLoad("subscribes.ts");
  const target = { dialect: "parley" as const, url, token };
  await load.ask({ step: "open", target } satisfies SubscribesStep);
  const run: SubscribesStep = { step: "run", conversationId, afterSeq, times: CALLS };
  const measure = async () => readSample(await load.ask(run));
  return { what: `subscribe, ${BEHIND} events behind`, upToMs: 8, load, measure };
}

/** Each requests an answer at the end of the branch, one after the other. */
async function openAnswers(options: { url: string; token: string; conversationId: string; parentId: string }) {
  const { url, token, conversationId, parentId } = options;
  const load = startLoad("streams.ts");
  const open: StreamsStep = {
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
  await load.ask(open);
  const run: StreamsStep = { step: "run", streams: 1, intervalMs: 0, model: MODEL };
  const measure = async () => {
    const tookMs: number[] = [];
    const endsAtMs = performance.now() + ROUND_MS;
    while (tookMs.length < CALLS && performance.now() < endsAtMs)
      tookMs.push((await load.ask(run)).p50Ms ?? Number.NaN);
    const p99Ms = tookMs.toSorted((a, b) => a - b)[Math.floor(0.99 * tookMs.length)] ?? Number.NaN;
    return readSample({ p50Ms: median(tookMs), p99Ms });
  };
  return { what: "first token, a branch 900 deep", upToMs: 20, load, measure };
}
