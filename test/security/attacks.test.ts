import { afterAll, beforeAll, expect, test } from "bun:test";
import { scopes } from "../../src/access/scopes.ts";
import { createId } from "../../src/lib/id.ts";
import { type Account, startApp, type TestApp } from "../support/app.ts";
import { compareDestructiveness, listOperations, type Operation } from "./catalog.ts";
import { type Credential, createApiKey, createInvalidCredentials, createKeys, JWT_SECRET } from "./credentials.ts";
import { findFormatError, type PlannedRequest, planRequest, type ReceivedResponse, sendRequest } from "./requests.ts";
import { createUserData, type UserData } from "./user-data.ts";

const WORD = "victim7f3a9c";
/** Paths that only administrators can request. */
const adminPathPattern = /^\/api\/v1\/(users|audit|analytics)\b/;
const credentialPattern = /\bpk_[0-9A-Za-z]{36}\b|\bprt_[\w-]{70}\b|\beyJ[\w-]+\.[\w-]+\.[\w-]+/;

let parley: TestApp;
let operations: Operation[];
let victim: UserData;
const requestCounts: Record<string, number> = {};

beforeAll(async () => {
  parley = await startApp({ config: { JWT_SECRET, RATE_LIMIT_ENABLED: "false" } });
  operations = await listOperations(parley);
  victim = await createUserData(parley, await registerAdministrator(`${WORD}@example.com`, `${WORD} owner`), WORD);
  await addIdentity(victim);
});
afterAll(async () => {
  const total = Object.values(requestCounts).reduce((sum, count) => sum + count, 0);
  const cases = `${operations.length} operations × ${Object.keys(requestCounts).length} cases`;
  console.log(`attacks over HTTP: ${cases}, ${total} requests: ${JSON.stringify(requestCounts)}`);
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
  requestCounts[attacker] = (requestCounts[attacker] ?? 0) + 1;
  const summary = `${name} with ${attacker}: ${response.status}`;
  const formatError = findFormatError(request.path, response);
  return [
    ...(isExpected ? [] : [`${summary} ${response.text.slice(0, 300)}`]),
    ...(response.text.includes(secret) ? [`${summary} leaks ${response.text.slice(0, 300)}`] : []),
    ...(response.status >= 400 && credentialPattern.test(response.text) ? [`${summary} contains a credential`] : []),
    ...(formatError === null ? [] : [`${summary}: ${formatError}`]),
  ];
}

/** Attacks every operation, and checks after each attack that the victim's data is unchanged. */
async function attackAll(
  attackedOperations: Operation[],
  attack: (operation: Operation) => Promise<string[]>,
): Promise<string[]> {
  const problems: string[] = [];
  let snapshotBefore = await victim.snapshot();
  for (const operation of attackedOperations) {
    problems.push(...(await attack(operation)));
    const snapshotAfter = await victim.snapshot();
    if (snapshotAfter !== snapshotBefore)
      problems.push(`${operation.name} changed the victim's data: ${snapshotBefore} -> ${snapshotAfter}`);
    snapshotBefore = snapshotAfter;
  }
  return problems;
}

test("the OpenAPI document lists the operations, and most of them require a credential", () => {
  expect(operations.length).toBeGreaterThan(60);
  expect(listGuardedOperations().length).toBeGreaterThan(50);
  expect(listGuardedOperations().filter(({ scope }) => scope === null)).toEqual([]);
});

test("without a valid credential, every request is rejected", async () => {
  const server = { parley, sql: parley.database };
  const invalidCredentials: Credential[] = await createInvalidCredentials(server, victim.owner);
  const problems = await attackAll(listGuardedOperations(), async (operation) => {
    const request = planRequest(operation, victim);
    const responses = await Promise.all(
      invalidCredentials.map(({ token, headers }) => sendRequest(parley, request, token, headers)),
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
    const response = await sendRequest(parley, request, null);
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
    const isForbidden = request.refersToUser || adminPathPattern.test(operation.path);
    const problems: string[] = [];
    for (const [attacker, headers] of Object.entries(attackers)) {
      const response = await sendRequest(parley, request, outsider.access_token, headers(victim));
      const isExpected = isForbidden ? isClientError(response) : response.status < 500;
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
    if (!request.refersToUser && !adminPathPattern.test(operation.path)) return [];
    const response = await sendRequest(parley, request, key);
    const responseOnBehalf = await sendRequest(parley, request, key, { "x-on-behalf-of": victim.owner.user.id });
    return [
      ...listProblems("an outsider's key", operation, request, response, isClientError(response)),
      ...listProblems(
        "an outsider's key, on behalf of the victim",
        operation,
        request,
        responseOnBehalf,
        isClientError(responseOnBehalf),
      ),
    ];
  });
  expect(problems).toEqual([]);
});

test("an API key without the required scope can't even access its owner's data", async () => {
  const keys = await createKeys(parley, victim.owner);
  const snapshotBefore = await victim.snapshot();
  const problems: string[] = [];
  for (const operation of listGuardedOperations()) {
    const { scope } = operation;
    if (scope === "any") continue;
    const token = (scope === "session" ? keys.all : keys.withoutScope.get(scope ?? "")) ?? "";
    const request = planRequest(operation, victim);
    const response = await sendRequest(parley, request, token);
    problems.push(...listProblems("a key without the scope", operation, request, response, response.status === 403));
  }
  expect(problems).toEqual([]);
  expect(await victim.snapshot()).toBe(snapshotBefore);
});

/** Operations that fail even with the required credential, and the reason. */
const expectedFailures: Record<string, string> = {
  linkMyIdentity: "This server has no identity issuer.",
  createImport: "A key also needs messages:write, because an import stores messages.",
  createHook: "A key also needs messages:write, because a hook sends messages.",
  createChatCompletion: "A key also needs messages:write to store the exchange in a conversation.",
};

test("the rejected requests succeed with the required scope or a session, so only the credential caused the rejections", async () => {
  const name = "positive5d2b";
  const userData = await createUserData(parley, await registerAdministrator(`${name}@example.com`, name), name);
  await addIdentity(userData);
  const { onlyScope } = await createKeys(parley, userData.owner);
  const problems: string[] = [];
  const streamedIds: string[] = [];
  for (const operation of [...listGuardedOperations()].sort(compareDestructiveness)) {
    const request = planRequest(operation, userData);
    const response = await sendRequest(
      parley,
      request,
      onlyScope.get(operation.scope ?? "") ?? userData.owner.access_token,
    );
    const hasSucceeded = response.status < 300 || response.status === 409;
    const isExpected = hasSucceeded !== operation.id in expectedFailures;
    problems.push(
      ...listProblems("the owner", operation, request, response, isExpected, "a secret that is never stored"),
    );
    const isStreamed = response.headers.get("transfer-encoding") === "chunked";
    if (isStreamed) streamedIds.push(operation.id);
    // test/security/open-streams.test.ts opens the streams that the OpenAPI document declares.
    if (isStreamed && operation.streams.length === 0)
      problems.push(`${operation.name} streams its response, but has no x-streams`);
  }
  expect(problems).toEqual([]);
  expect(streamedIds).toContain("exportConversation");
});

const isClientError = ({ status }: ReceivedResponse) => status >= 400 && status < 500;
