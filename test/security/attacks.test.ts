import { afterAll, beforeAll, expect, test } from "bun:test";
import { scopes } from "../../src/access/scopes.ts";
import { createId } from "../../src/lib/id.ts";
import { type Account, startApp, type TestApp } from "../support/app.ts";
import { byHarm, listOperations, type Operation } from "./catalogue.ts";
import { type Credential, createApiKey, createBadCredentials, createKeys, JWT_SECRET } from "./credentials.ts";
import { type Answer, findFormFault, type PlannedRequest, planRequest, send } from "./requests.ts";
import { createWorld, type World } from "./world.ts";

const WORD = "victim7f3a9c";
/** What only administrators may request. */
const administration = /^\/api\/v1\/(users|audit|analytics)\b/;
const keyLike = /\bpk_[0-9A-Za-z]{36}\b|\bprt_[\w-]{70}\b|\beyJ[\w-]+\.[\w-]+\.[\w-]+/;

let parley: TestApp;
let operations: Operation[];
let victim: World;
const counts: Record<string, number> = {};

beforeAll(async () => {
  parley = await startApp({ config: { JWT_SECRET, RATE_LIMIT_ENABLED: "false" } });
  operations = await listOperations(parley);
  victim = await createWorld(parley, await registerAdministrator(`${WORD}@example.com`, `${WORD} owner`), WORD);
  await addIdentity(victim);
});
afterAll(async () => {
  const total = Object.values(counts).reduce((sum, count) => sum + count, 0);
  const cases = `${operations.length} operations × ${Object.keys(counts).length} cases`;
  console.log(`attacks over HTTP: ${cases}, ${total} requests: ${JSON.stringify(counts)}`);
  await parley.stop();
});

async function registerAdministrator(email: string, name: string): Promise<Account> {
  const account = await parley.register(email, name);
  await parley.database.unsafe("update users set role = 'admin' where id = $1", [account.user.id]);
  return account;
}

/** As a login through an issuer would create it. */
async function addIdentity({ places, owner, word }: World): Promise<void> {
  const id = createId();
  const values = [id, word, owner.user.id];
  await parley.database.unsafe("insert into identities (id, issuer, subject, user_id) values ($1, $2, $2, $3)", values);
  places["identities/{id}"] = id;
}

const guarded = () => operations.filter(({ isPublic }) => !isPublic);

/** The failures of an attack; an empty list is expected. */
function judge(
  who: string,
  { name }: Operation,
  request: PlannedRequest,
  answer: Answer,
  isRight: boolean,
  secret = WORD,
): string[] {
  counts[who] = (counts[who] ?? 0) + 1;
  const summary = `${name} with ${who}: ${answer.status}`;
  return [
    ...(isRight ? [] : [`${summary} ${answer.text.slice(0, 300)}`]),
    ...(answer.text.includes(secret) ? [`${summary} leaks ${answer.text.slice(0, 300)}`] : []),
    ...(answer.status >= 400 && keyLike.test(answer.text) ? [`${summary} repeats a credential`] : []),
    ...[findFormFault(request.path, answer)].filter((fault) => fault !== null).map((fault) => `${summary}: ${fault}`),
  ];
}

/** Attacks every operation, and checks after each that the victim still has everything. */
async function attackAll(
  attacked: Operation[],
  attack: (operation: Operation) => Promise<string[]>,
): Promise<string[]> {
  const faults: string[] = [];
  let before = await victim.snapshot();
  for (const operation of attacked) {
    faults.push(...(await attack(operation)));
    const after = await victim.snapshot();
    if (after !== before) faults.push(`${operation.name} changed what the victim has: ${before} -> ${after}`);
    before = after;
  }
  return faults;
}

test("the API document has the operations, and most require a credential", () => {
  expect(operations.length).toBeGreaterThan(60);
  expect(guarded().length).toBeGreaterThan(50);
  expect(guarded().filter(({ scope }) => scope === null)).toEqual([]);
});

test("without a valid credential every request is refused", async () => {
  const site = { parley, sql: parley.database };
  const invalidCredentials: Credential[] = await createBadCredentials(site, victim.owner);
  const faults = await attackAll(guarded(), async (operation) => {
    const request = planRequest(operation, victim);
    const answers = await Promise.all(
      invalidCredentials.map(({ token, headers }) => send(parley, request, token, headers)),
    );
    return answers.flatMap((answer, index) => {
      const { name = "" } = invalidCredentials[index] ?? {};
      return judge(name, operation, request, answer, answer.status === 401);
    });
  });
  expect(faults).toEqual([]);
}, 120_000);

test("a public operation gives no access to another user's account", async () => {
  const guesses = { email: victim.owner.user.email, password: "a wrong password", refresh_token: "prt_wrong" };
  const faults = await attackAll(operations, async (operation) => {
    if (!operation.isPublic) return [];
    const request = planRequest(operation, victim, guesses);
    const answer = await send(parley, request, null);
    const isRight = operation.body === null || operation.id === "logout" || answer.status >= 400;
    return judge("a guess", operation, request, answer, isRight && answer.status < 500);
  });
  expect(faults).toEqual([]);
});

test("an outsider gets nothing of the victim's data, and has no administrator rights", async () => {
  let outsider = await parley.register();
  const faults = await attackAll(guarded(), async (operation) => {
    const alive = await parley.fetch("/api/v1/me", { token: outsider.access_token });
    if (alive.status !== 200) outsider = await parley.register();
    const request = planRequest(operation, victim, { refresh_token: outsider.refresh_token });
    const isForbidden = request.isPrivate || administration.test(operation.path);
    const faults: string[] = [];
    for (const [who, headers] of Object.entries(disguises)) {
      const answer = await send(parley, request, outsider.access_token, headers(victim));
      faults.push(...judge(who, operation, request, answer, isForbidden ? isRefusal(answer) : answer.status < 500));
    }
    return faults;
  });
  expect(faults).toEqual([]);
});

/** Variants of the outsider's requests, which may take another code path in the server. */
const disguises: Record<string, (victim: World) => Record<string, string>> = {
  "an outsider": () => ({}),
  "an outsider who wants a stream": () => ({ accept: "text/event-stream" }),
  "an outsider on behalf of the victim": ({ owner }) => ({ "x-on-behalf-of": owner.user.id }),
};

test("a key of an ordinary user has no administrator rights", async () => {
  const everything = scopes.filter((scope) => scope !== "admin");
  const key = await createApiKey(parley, await parley.register(), everything);
  const faults = await attackAll(guarded(), async (operation) => {
    const request = planRequest(operation, victim);
    if (!request.isPrivate && !administration.test(operation.path)) return [];
    const answer = await send(parley, request, key);
    const asVictim = await send(parley, request, key, { "x-on-behalf-of": victim.owner.user.id });
    return [
      ...judge("an outsider's key", operation, request, answer, isRefusal(answer)),
      ...judge("an outsider's key, on behalf of the victim", operation, request, asVictim, isRefusal(asVictim)),
    ];
  });
  expect(faults).toEqual([]);
});

test("a key without the scope gets nothing, even of its owner's data", async () => {
  const keys = await createKeys(parley, victim.owner);
  const before = await victim.snapshot();
  const faults: string[] = [];
  for (const operation of guarded()) {
    const { scope } = operation;
    if (scope === "any") continue;
    const token = (scope === "session" ? keys.all : keys.lacking.get(scope ?? "")) ?? "";
    const request = planRequest(operation, victim);
    const answer = await send(parley, request, token);
    faults.push(...judge("a key without the scope", operation, request, answer, answer.status === 403));
  }
  expect(faults).toEqual([]);
  expect(await victim.snapshot()).toBe(before);
});

/** Requests that are refused even with the right credential, and why. */
const refusedToAll: Record<string, string> = {
  linkMyIdentity: "This server has no issuer of identities.",
  createImport: "A key needs messages:write as well, since an import stores messages.",
  createHook: "A key needs messages:write as well, since a hook posts messages.",
  createChatCompletion: "A key needs messages:write as well to store the exchange in a conversation.",
};

test("with only the scope, or a session, each of these requests succeeds, so the credential made the difference", async () => {
  const name = "positive5d2b";
  const world = await createWorld(parley, await registerAdministrator(`${name}@example.com`, name), name);
  await addIdentity(world);
  const { having } = await createKeys(parley, world.owner);
  const faults: string[] = [];
  const streamed: string[] = [];
  for (const operation of [...guarded()].sort(byHarm)) {
    const request = planRequest(operation, world);
    const answer = await send(parley, request, having.get(operation.scope ?? "") ?? world.owner.access_token);
    const isRight = answer.status < 300 || answer.status === 409;
    const isExpected = isRight !== operation.id in refusedToAll;
    faults.push(...judge("the owner", operation, request, answer, isExpected, "nobody's secret"));
    const isStreamed = answer.headers.get("transfer-encoding") === "chunked";
    if (isStreamed) streamed.push(operation.id);
    // test/security/open-streams.test.ts opens those that the document names.
    if (isStreamed && operation.streams.length === 0) faults.push(`${operation.name} streams, and has no x-streams`);
  }
  expect(faults).toEqual([]);
  expect(streamed).toContain("exportConversation");
});

const isRefusal = ({ status }: Answer) => status >= 400 && status < 500;
