import { afterAll, beforeAll, expect, test } from "bun:test";
import { scopes } from "../../src/access/scopes.ts";
import { createId } from "../../src/lib/id.ts";
import { type Account, startApp, type TestApp } from "../support/app.ts";
import { compareDestructiveness, listOperations, type Operation } from "./catalog.ts";
import { type Credential, createApiKey, createInvalidCredentials, createKeys, JWT_SECRET } from "./credentials.ts";
import { findFormatError, type PlannedRequest, planRequest, type ReceivedResponse, send } from "./requests.ts";
import { createUserData, type UserData } from "./user-data.ts";

const WORD = "victim7f3a9c";
/** Paths that only administrators can request. */
const adminPathPattern = /^\/api\/v1\/(users|audit|analytics)\b/;
const credentialPattern = /\bpk_[0-9A-Za-z]{36}\b|\bprt_[\w-]{70}\b|\beyJ[\w-]+\.[\w-]+\.[\w-]+/;

let parley: TestApp;
let operations: Operation[];
let victim: UserData;
const counts: Record<string, number> = {};

beforeAll(async () => {
  parley = await startApp({ config: { JWT_SECRET, RATE_LIMIT_ENABLED: "false" } });
  operations = await listOperations(parley);
  victim = await createUserData(parley, await registerAdministrator(`${WORD}@example.com`, `${WORD} owner`), WORD);
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

/** Adds an identity, as a login through an identity issuer would. */
async function addIdentity({ pathValues, owner, word }: UserData): Promise<void> {
  const id = createId();
  const values = [id, word, owner.user.id];
  await parley.database.unsafe("insert into identities (id, issuer, subject, user_id) values ($1, $2, $2, $3)", values);
  pathValues["identities/{id}"] = id;
}

const listGuardedOperations = () => operations.filter(({ isPublic }) => !isPublic);

/** Lists the problems with the response to an attack. */
function listProblems(
  attacker: string,
  { name }: Operation,
  request: PlannedRequest,
  response: ReceivedResponse,
  isExpected: boolean,
  secret = WORD,
): string[] {
  counts[attacker] = (counts[attacker] ?? 0) + 1;
  const summary = `${name} with ${attacker}: ${response.status}`;
  const formatError = findFormatError(request.path, response);
  return [
    ...(isExpected ? [] : [`${summary} ${response.text.slice(0, 300)}`]),
    ...(response.text.includes(secret) ? [`${summary} leaks ${response.text.slice(0, 300)}`] : []),
    ...(response.status >= 400 && credentialPattern.test(response.text) ? [`${summary} repeats a credential`] : []),
    ...(formatError === null ? [] : [`${summary}: ${formatError}`]),
  ];
}

/** Attacks every operation, and checks after each that the victim's data is unchanged. */
async function attackAll(
  attacked: Operation[],
  attack: (operation: Operation) => Promise<string[]>,
): Promise<string[]> {
  const problems: string[] = [];
  let before = await victim.snapshot();
  for (const operation of attacked) {
    problems.push(...(await attack(operation)));
    const after = await victim.snapshot();
    if (after !== before) problems.push(`${operation.name} changed the victim's data: ${before} -> ${after}`);
    before = after;
  }
  return problems;
}

test("the OpenAPI document lists the operations, and most of them require a credential", () => {
  expect(operations.length).toBeGreaterThan(60);
  expect(listGuardedOperations().length).toBeGreaterThan(50);
  expect(listGuardedOperations().filter(({ scope }) => scope === null)).toEqual([]);
});

test("without a valid credential, every request is refused", async () => {
  const site = { parley, sql: parley.database };
  const invalidCredentials: Credential[] = await createInvalidCredentials(site, victim.owner);
  const problems = await attackAll(listGuardedOperations(), async (operation) => {
    const request = planRequest(operation, victim);
    const responses = await Promise.all(
      invalidCredentials.map(({ token, headers }) => send(parley, request, token, headers)),
    );
    return responses.flatMap((response, index) => {
      const { name = "" } = invalidCredentials[index] ?? {};
      return listProblems(name, operation, request, response, response.status === 401);
    });
  });
  expect(problems).toEqual([]);
}, 120_000);

test("a public operation gives no access to another user's account", async () => {
  const guesses = { email: victim.owner.user.email, password: "a wrong password", refresh_token: "prt_wrong" };
  const problems = await attackAll(operations, async (operation) => {
    if (!operation.isPublic) return [];
    const request = planRequest(operation, victim, guesses);
    const response = await send(parley, request, null);
    const isExpected = operation.body === null || operation.id === "logout" || response.status >= 400;
    return listProblems("guessed credentials", operation, request, response, isExpected && response.status < 500);
  });
  expect(problems).toEqual([]);
});

test("an outsider can't access the victim's data, and has no administrator rights", async () => {
  let outsider = await parley.register();
  const problems = await attackAll(listGuardedOperations(), async (operation) => {
    const me = await parley.fetch("/api/v1/me", { token: outsider.access_token });
    if (me.status !== 200) outsider = await parley.register();
    const request = planRequest(operation, victim, { refresh_token: outsider.refresh_token });
    const isForbidden = request.isPrivate || adminPathPattern.test(operation.path);
    const problems: string[] = [];
    for (const [attacker, headers] of Object.entries(attackers)) {
      const response = await send(parley, request, outsider.access_token, headers(victim));
      const isExpected = isForbidden ? isRefusal(response) : response.status < 500;
      problems.push(...listProblems(attacker, operation, request, response, isExpected));
    }
    return problems;
  });
  expect(problems).toEqual([]);
});

/** Variants of the outsider's requests, which can take different code paths in the server. */
const attackers: Record<string, (victim: UserData) => Record<string, string>> = {
  "an outsider": () => ({}),
  "an outsider who requests a stream": () => ({ accept: "text/event-stream" }),
  "an outsider on behalf of the victim": ({ owner }) => ({ "x-on-behalf-of": owner.user.id }),
};

test("an ordinary user's API key has no administrator rights", async () => {
  const ordinaryScopes = scopes.filter((scope) => scope !== "admin");
  const key = await createApiKey(parley, await parley.register(), ordinaryScopes);
  const problems = await attackAll(listGuardedOperations(), async (operation) => {
    const request = planRequest(operation, victim);
    if (!request.isPrivate && !adminPathPattern.test(operation.path)) return [];
    const response = await send(parley, request, key);
    const asVictim = await send(parley, request, key, { "x-on-behalf-of": victim.owner.user.id });
    return [
      ...listProblems("an outsider's key", operation, request, response, isRefusal(response)),
      ...listProblems("an outsider's key, on behalf of the victim", operation, request, asVictim, isRefusal(asVictim)),
    ];
  });
  expect(problems).toEqual([]);
});

test("an API key without the required scope can't even access its owner's data", async () => {
  const keys = await createKeys(parley, victim.owner);
  const before = await victim.snapshot();
  const problems: string[] = [];
  for (const operation of listGuardedOperations()) {
    const { scope } = operation;
    if (scope === "any") continue;
    const token = (scope === "session" ? keys.all : keys.withoutScope.get(scope ?? "")) ?? "";
    const request = planRequest(operation, victim);
    const response = await send(parley, request, token);
    problems.push(...listProblems("a key without the scope", operation, request, response, response.status === 403));
  }
  expect(problems).toEqual([]);
  expect(await victim.snapshot()).toBe(before);
});

/** Requests that are refused even with the right credential, and why. */
const refusedToAll: Record<string, string> = {
  linkMyIdentity: "This server has no identity issuer.",
  createImport: "A key also needs messages:write, because an import stores messages.",
  createHook: "A key also needs messages:write, because a hook sends messages.",
  createChatCompletion: "A key also needs messages:write to store the exchange in a conversation.",
};

test("the refused requests succeed with the required scope or a session, so only the credential caused the refusals", async () => {
  const name = "positive5d2b";
  const userData = await createUserData(parley, await registerAdministrator(`${name}@example.com`, name), name);
  await addIdentity(userData);
  const { onlyScope } = await createKeys(parley, userData.owner);
  const problems: string[] = [];
  const streamed: string[] = [];
  for (const operation of [...listGuardedOperations()].sort(compareDestructiveness)) {
    const request = planRequest(operation, userData);
    const response = await send(parley, request, onlyScope.get(operation.scope ?? "") ?? userData.owner.access_token);
    const succeeded = response.status < 300 || response.status === 409;
    const isExpected = succeeded !== operation.id in refusedToAll;
    problems.push(
      ...listProblems("the owner", operation, request, response, isExpected, "a secret that is never stored"),
    );
    const isStreamed = response.headers.get("transfer-encoding") === "chunked";
    if (isStreamed) streamed.push(operation.id);
    // test/security/open-streams.test.ts opens the streams that the OpenAPI document declares.
    if (isStreamed && operation.streams.length === 0)
      problems.push(`${operation.name} streams its response, but has no x-streams`);
  }
  expect(problems).toEqual([]);
  expect(streamed).toContain("exportConversation");
});

const isRefusal = ({ status }: ReceivedResponse) => status >= 400 && status < 500;
