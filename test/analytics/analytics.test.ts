import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type {
  AnalyticsModels,
  AnalyticsOverview,
  AnalyticsUsage,
  UserFigures,
} from "../../src/modules/analytics/model.ts";
import { type Administration, startAdministration } from "../accounts/start-administration.ts";
import type { Account } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { createRestClient, type RestClient } from "../support/rest.ts";

type Users = { data: UserFigures[]; next_cursor: string | null };
const paths = ["overview", "usage", "models", "users"];

let parley: Administration;
let admin: RestClient;
beforeAll(async () => {
  parley = await startAdministration({ config: { AI_MODELS: "offline/documents" } });
  admin = parley.admin;
});
afterAll(() => parley.stop());

const fetchOverview = async (query = "") => (await admin.get<AnalyticsOverview>(`/analytics/overview?${query}`)).body;
const fetchCsv = async (path: string) => {
  const response = await parley.fetch(`/api/v1/analytics/${path}`, {
    token: admin.account.access_token,
    headers: { accept: "text/csv" },
  });
  return { response, text: await response.text() };
};

async function sendMessage(account: Account, conversationId: string, content: string, reply = false): Promise<string> {
  const response = await createRestClient(parley, account).request<{ message: { id: string } }>(
    "POST",
    `/conversations/${conversationId}/messages`,
    { content, reply },
  );
  expect(response.status).toBe(201);
  return response.body.message.id;
}

/** Sends a message, and changes its time to `at` in the database. */
async function sendMessageAt(account: Account, conversationId: string, at: string): Promise<void> {
  const id = await sendMessage(account, conversationId, "late");
  await parley.database`update messages set created_at = ${at} where id = ${id}`;
  await parley.database`select mark_analytics_slots(array[${at}::timestamptz])`;
}

describe("access to analytics", () => {
  test("requires an administrator's session, or an administrator's key with the analytics:read scope", async () => {
    const user = createRestClient(parley, await parley.register());
    const keys = await Promise.all(
      ["analytics:read", "users:read", "admin"].map(async (scope) => {
        const { body } = await admin.request<{ key: string }>("POST", "/api-keys", { name: scope, scopes: [scope] });
        return body.key;
      }),
    );
    const userKey = await user.request<{ key: string }>("POST", "/api-keys", {
      name: "own",
      scopes: ["analytics:read"],
    });
    for (const path of paths) {
      const fetchStatus = async (token?: string) =>
        (await parley.fetch(`/api/v1/analytics/${path}`, token === undefined ? {} : { token })).status;
      expect(await fetchStatus()).toBe(401);
      expect(await fetchStatus(user.account.access_token)).toBe(403);
      expect(await fetchStatus(userKey.body.key)).toBe(403);
      expect(await Promise.all(keys.map(fetchStatus))).toEqual([200, 403, 200]);
    }
  });
});

describe("figures", () => {
  test("immediately reflect messages, answers, ratings and deletions", async () => {
    const overviewBefore = await fetchOverview();
    const account = await parley.register();
    const { id } = await createConversation(parley, account);
    await sendMessage(account, id, "first");
    const secondMessageId = await sendMessage(account, id, "second", true);
    const rest = createRestClient(parley, account);
    type MessagePage = { data: { id: string; role: string; status: string; usage: { input_tokens: number } | null }[] };
    const findAnswer = async () =>
      (await rest.get<MessagePage>(`/conversations/${id}/messages`)).body.data.find(({ role }) => role === "assistant");
    let answer = await findAnswer();
    for (; answer?.status === "streaming"; answer = await findAnswer()) await Bun.sleep(20);
    if (answer?.status !== "complete") throw new Error(`The answer ended with status ${answer?.status}.`);
    await rest.request("PUT", `/conversations/${id}/messages/${answer.id}/feedback`, { rating: -1 });
    const overviewAfter = await fetchOverview();
    expect(overviewAfter.messages - overviewBefore.messages).toBe(3);
    expect(overviewAfter.active_users - overviewBefore.active_users).toBe(1);
    expect(overviewAfter.active_conversations - overviewBefore.active_conversations).toBe(1);
    expect(overviewAfter.generations - overviewBefore.generations).toBe(1);
    expect(overviewAfter.feedback.negative - overviewBefore.feedback.negative).toBe(1);
    expect(overviewAfter.sessions - overviewBefore.sessions).toBeGreaterThanOrEqual(1);
    expect(overviewAfter.first_token_ms?.p50).toBeGreaterThanOrEqual(0);
    expect(Date.parse(overviewAfter.to) - Date.parse(overviewAfter.from)).toBe(7 * 86_400_000);
    const { body: models } = await admin.get<AnalyticsModels>("/analytics/models");
    expect(models.data.map(({ model }) => model)).toEqual(["offline/documents"]);

    expect((await rest.request("DELETE", `/conversations/${id}/messages/${secondMessageId}`)).status).toBe(204);
    expect((await fetchOverview()).messages).toBe(overviewAfter.messages - 1);
    await rest.request("PUT", `/conversations/${id}/messages/${answer.id}/feedback`, { rating: 1 });
    expect((await fetchOverview()).feedback).toEqual({
      positive: overviewAfter.feedback.positive + 1,
      negative: overviewAfter.feedback.negative - 1,
    });
    expect((await rest.request("DELETE", `/conversations/${id}`)).status).toBe(204);
    const overviewAfterDeletion = await fetchOverview();
    expect({ messages: overviewAfterDeletion.messages, active: overviewAfterDeletion.active_users }).toEqual({
      messages: overviewBefore.messages,
      active: overviewBefore.active_users,
    });
  });

  test("include the start of a time span, but not its end", async () => {
    const account = await parley.register();
    const { id } = await createConversation(parley, account);
    for (const time of ["10:07:30.000", "10:07:30.001", "10:22:00.000"])
      await sendMessageAt(account, id, `2025-02-03T${time}Z`);
    const countMessages = async (from: string, to: string) =>
      (await fetchOverview(`from=2025-02-03T${from}Z&to=2025-02-03T${to}Z`)).messages;
    expect(await countMessages("10:07:30.000", "10:07:30.001")).toBe(1);
    expect(await countMessages("10:07:30.001", "10:22:00.000")).toBe(1);
    expect(await countMessages("10:07:30.000", "10:22:00.001")).toBe(3);
    expect(await countMessages("10:00:00", "10:15:00")).toBe(2);
    expect(await countMessages("10:08:00", "10:08:00")).toBe(0);
  });

  test("are stored without text, and without ids of deleted conversations", async () => {
    const account = await parley.register();
    const { id } = await createConversation(parley, account);
    await sendMessageAt(account, id, "2025-02-05T10:00:00Z");
    await fetchOverview("from=2025-02-05T00:00:00Z&to=2025-02-06T00:00:00Z");
    const countRowsWithId = async () => {
      const tables = await parley.database<{ name: string }[]>`
        select relname as name from pg_class where relkind = 'r' and relname like 'analytics%'`;
      expect(tables.length).toBeGreaterThan(5);
      const pendingRows = tables.map(
        ({ name }) => parley.database<{ text: string }[]>`select x::text as text from ${parley.database(name)} x`,
      );
      return (await Promise.all(pendingRows)).flat().filter(({ text }) => text.includes(id)).length;
    };
    expect(await countRowsWithId()).toBe(1);
    await createRestClient(parley, account).request("DELETE", `/conversations/${id}`);
    for (let waits = 0; waits < 400 && (await countRowsWithId()) > 0; waits += 1) await Bun.sleep(50);
    expect(await countRowsWithId()).toBe(0);
    expect((await fetchOverview("from=2025-02-05T00:00:00Z&to=2025-02-06T00:00:00Z")).messages).toBe(0);
  });
});

describe("time series", () => {
  const fetchUsage = async (query: string) => (await admin.get<AnalyticsUsage>(`/analytics/usage?${query}`)).body.data;
  const listStarts = async (query: string) => (await fetchUsage(query)).map(({ start }) => start);

  test("have days of 23 and 25 hours when clocks change", async () => {
    const springQuery = "from=2026-03-28T00:00:00%2B01:00&to=2026-03-31T00:00:00%2B02:00&time_zone=Europe/Berlin";
    expect(await listStarts(springQuery)).toEqual([
      "2026-03-27T23:00:00.000Z",
      "2026-03-28T23:00:00.000Z",
      "2026-03-29T22:00:00.000Z",
    ]);
    const autumnQuery = "from=2026-10-24T22:00:00Z&to=2026-10-25T23:00:00Z&time_zone=Europe/Berlin";
    expect(await listStarts(`${autumnQuery}&interval=day`)).toEqual(["2026-10-24T22:00:00.000Z"]);
    const hours = await listStarts(`${autumnQuery}&interval=hour`);
    expect(hours.length).toBe(25);
    expect(new Set(hours).size).toBe(25);
    const newfoundlandQuery = "from=2026-03-07T03:30:00Z&to=2026-03-09T02:30:00Z&time_zone=America/St_Johns";
    expect(await listStarts(newfoundlandQuery)).toEqual(["2026-03-07T03:30:00.000Z", "2026-03-08T03:30:00.000Z"]);
    expect((await listStarts(`${newfoundlandQuery}&interval=hour`)).length).toBe(47);
  });

  test("align days and hours to time zones with half-hour and quarter-hour offsets", async () => {
    expect(await listStarts("from=2026-05-01T20:00:00Z&to=2026-05-02T20:00:00Z&time_zone=Asia/Kolkata")).toEqual([
      "2026-05-01T18:30:00.000Z",
      "2026-05-02T18:30:00.000Z",
    ]);
    expect(
      await listStarts("from=2026-05-01T18:00:00Z&to=2026-05-01T19:20:00Z&time_zone=Asia/Kathmandu&interval=hour"),
    ).toEqual(["2026-05-01T17:15:00.000Z", "2026-05-01T18:15:00.000Z", "2026-05-01T19:15:00.000Z"]);
    // On Lord Howe Island, clocks go back by half an hour.
    const lordHoweQuery =
      "from=2026-04-04T13:00:00Z&to=2026-04-04T17:30:00Z&time_zone=Australia/Lord_Howe&interval=hour";
    expect((await listStarts(lordHoweQuery)).slice(0, 4)).toEqual([
      "2026-04-04T13:00:00.000Z",
      "2026-04-04T14:00:00.000Z",
      "2026-04-04T15:00:00.000Z",
      "2026-04-04T15:30:00.000Z",
    ]);
    const havanaQuery = "from=2026-10-31T04:00:00Z&to=2026-11-02T05:00:00Z&time_zone=America/Havana";
    expect(await listStarts(havanaQuery)).toEqual(["2026-10-31T04:00:00.000Z", "2026-11-01T04:00:00.000Z"]);
  });

  test("assign messages to days in the time zone, and include empty days", async () => {
    const account = await parley.register();
    const { id } = await createConversation(parley, account);
    await sendMessageAt(account, id, "2025-05-02T18:29:59.999Z");
    await sendMessageAt(account, id, "2025-05-02T18:30:00Z");
    const timeSpan = "from=2025-04-30T18:30:00Z&to=2025-05-04T18:30:00Z";
    const countMessagesPerDay = async (timeZone: string) =>
      (await fetchUsage(`${timeSpan}&time_zone=${timeZone}`)).map(({ messages }) => messages);
    expect(await countMessagesPerDay("Asia/Kolkata")).toEqual([0, 1, 1, 0]);
    expect(await countMessagesPerDay("UTC")).toEqual([0, 0, 2, 0, 0]);
  });
});

describe("users", () => {
  test("are paginated, most expensive first, without deleted users", async () => {
    const accounts = await Promise.all(Array.from({ length: 5 }, () => parley.register()));
    const dayQuery = "from=2024-06-01T00:00:00Z&to=2024-06-02T00:00:00Z";
    for (const [index, account] of accounts.entries()) {
      const { id } = await createConversation(parley, account);
      await sendMessageAt(account, id, "2024-06-01T10:00:00Z");
      await parley.database`
        update messages set cost_usd = ${index}, input_tokens = 7, output_tokens = 3 where conversation_id = ${id}`;
    }
    const { rows, pages } = await admin.listAll<UserFigures>(`/analytics/users?${dayQuery}`, 2);
    expect(pages).toEqual([2, 2, 1]);
    expect(rows.map(({ user }) => user.id)).toEqual(accounts.map(({ user }) => user.id).toReversed());
    expect(rows[0]).toMatchObject({ cost_usd: 4, messages: 1, input_tokens: 7, output_tokens: 3 });

    const deletedAccount = accounts[4] as Account;
    expect((await admin.request("DELETE", `/users/${deletedAccount.user.id}`)).status).toBe(204);
    const remainingUsers = await admin.get<Users>(`/analytics/users?${dayQuery}`);
    expect(remainingUsers.body.data.map(({ user }) => user.id)).not.toContain(deletedAccount.user.id);
    expect(remainingUsers.body.data.length).toBe(4);
    const userSlots = await parley.database`
      select 1 from analytics_slot_users s join analytics_users u on u.n = any (s.users) where u.user_id = ${deletedAccount.user.id}`;
    expect(userSlots.length).toBe(0);
  });

  test("are listed for the same time span on every page", async () => {
    const account = await parley.register();
    for (const sender of [account, await parley.register()])
      await sendMessage(sender, (await createConversation(parley, sender)).id, "now");
    const firstPage = await admin.get<Users & { to: string }>("/analytics/users?limit=1");
    const secondPage = await admin.get<Users & { to: string }>(
      `/analytics/users?limit=1&cursor=${firstPage.body.next_cursor}`,
    );
    expect(secondPage.body.to).toBe(firstPage.body.to);
    expect((await admin.requestProblem("GET", "/analytics/users?cursor=x")).code).toBe("bad_cursor");
    const forgedCursor = Buffer.from(JSON.stringify(["v1", "x", "y", "1", "1", "1"])).toString("base64url");
    expect((await admin.requestProblem("GET", `/analytics/users?cursor=${forgedCursor}`)).code).toBe("bad_cursor");
  });
});

describe("CSV", () => {
  test("has a header line, RFC 4180 line endings and the header Vary: Accept", async () => {
    for (const path of paths) {
      const { response, text } = await fetchCsv(path);
      expect(response.status).toBe(200);
      expect(response.headers.get("content-type")).toStartWith("text/csv; charset=utf-8");
      expect(response.headers.get("content-disposition")).toBe(`attachment; filename="${path}.csv"`);
      expect(response.headers.get("vary")).toContain("Accept");
      const [names = "", ...lines] = text.split("\r\n");
      expect(lines.at(-1)).toBe("");
      const columnCount = names.split(",").length;
      expect(columnCount).toBeGreaterThan(8);
      for (const line of lines.slice(0, -1)) expect(line.split(",").length).toBe(columnCount);
    }
    const jsonResponse = await parley.fetch("/api/v1/analytics/overview", { token: admin.account.access_token });
    expect(jsonResponse.headers.get("content-type")).toStartWith("application/json");
    expect(jsonResponse.headers.get("vary")).toContain("Accept");
    const htmlRequest = { token: admin.account.access_token, headers: { accept: "text/html" } };
    expect((await parley.fetch("/api/v1/analytics/usage", htmlRequest)).status).toBe(406);
  });

  test("escapes formulas but not numbers", async () => {
    const names = ["=1+1", "+1", "-1", "@SUM(A1)", "＝1+1", '=HYPERLINK("http://x","y")', "Ann, B."];
    const timeSpan = "from=2024-07-01T00:00:00Z&to=2024-07-02T00:00:00Z";
    for (const [index, name] of names.entries()) {
      const account = await parley.createNamedUser(name, `formula-${index}`);
      const { id } = await createConversation(parley, account);
      await sendMessageAt(account, id, "2024-07-01T10:00:00Z");
    }
    const { text } = await fetchCsv(`users?${timeSpan}`);
    for (const cell of ["'=1+1", "'+1", "'-1", "'@SUM(A1)", "'＝1+1", `"'=HYPERLINK(""http://x"",""y"")"`, '"Ann, B."'])
      expect(text).toContain(`,${cell},1,0,0,0,0,0\r\n`);
  });
});

test("invalid input returns 422 with a pointer", async () => {
  const fetchProblem = async (path: string, query: string) => {
    const { status, errors } = await admin.requestProblem("GET", `/analytics/${path}?${query}`);
    return [status, errors?.[0]?.pointer];
  };
  for (const path of paths) {
    expect(await fetchProblem(path, "from=2026-02-02T00:00:00Z&to=2026-02-01T00:00:00Z")).toEqual([
      422,
      "#/query/from",
    ]);
    expect(await fetchProblem(path, "from=0000-01-01T00:00:00Z")).toEqual([422, "#/query/from"]);
    expect(await fetchProblem(path, "to=9999-12-31T23:59:59-23:00")).toEqual([422, "#/query/to"]);
    expect(await fetchProblem(path, "from=yesterday")).toEqual([422, "#/query/from"]);
    expect(await fetchProblem(path, "from=2026-02-30T00:00:00Z")).toEqual([422, "#/query/from"]);
    for (const timeZone of [
      "Mars/Olympus",
      "%2B05:30",
      "",
      "UTC%00",
      "EST5EDT,M3",
      "x".repeat(70),
      "Etc/Unknown",
      "localtime",
    ])
      expect([timeZone, ...(await fetchProblem(path, `time_zone=${timeZone}`))]).toEqual([
        timeZone,
        422,
        "#/query/time_zone",
      ]);
  }
  expect(await fetchProblem("usage", "interval=minute")).toEqual([422, "#/query/interval"]);
  const tooManyHours = "from=2016-01-01T00:00:00Z&to=2026-01-01T00:00:00Z";
  expect(await fetchProblem("usage", `interval=hour&${tooManyHours}`)).toEqual([422, "#/query/interval"]);
  expect(await fetchProblem("usage", "from=0001-01-01T00:00:00Z&to=9999-01-01T00:00:00Z")).toEqual([
    422,
    "#/query/interval",
  ]);
  for (const timeSpan of [
    "from=0001-01-01T00:00:00Z&to=9999-12-31T00:00:00Z",
    "from=9998-01-01T00:00:00Z&to=9999-01-01T00:00:00Z",
  ])
    for (const path of ["overview", "models", "users"])
      expect((await admin.get(`/analytics/${path}?${timeSpan}`)).status).toBe(200);
  expect((await admin.get("/analytics/overview?to=0001-01-02T00:00:00Z")).status).toBe(200);
  expect((await admin.get("/analytics/usage?from=9998-01-01T00:00:00Z&to=9999-01-01T00:00:00Z")).status).toBe(200);
  expect(
    (await admin.get("/analytics/usage?from=0001-01-01T00:00:00Z&to=0002-01-01T00:00:00Z&time_zone=Asia/Kolkata"))
      .status,
  ).toBe(200);
});
