import { afterAll, beforeAll, expect, test } from "bun:test";
import fc from "fast-check";
import { createId } from "../../src/lib/id.ts";
import { type Account, startApp, TEST_PASSWORD, type TestApp } from "../support/app.ts";
import { createTestClient, type TestClient } from "../support/client.ts";
import { propertySeed, scaleRuns } from "../support/property-tests.ts";
import { type Frame, openSocket, type TestSocket } from "../support/socket.ts";
import { compareDestructiveness, listFrames, listOperations } from "./catalog.ts";
import { createFieldArbitraries, createRequests } from "./fuzz-requests.ts";
import { mutate, serializeAndCorrupt } from "./mutations.ts";
import { findFormatError, type ReceivedResponse, sendFetch } from "./requests.ts";
import { createSamples } from "./samples.ts";
import { createUserData, type UserData } from "./user-data.ts";

const requestsMin = scaleRuns(1_500);
const framesMin = scaleRuns(2_000);
const seed = propertySeed;
const timeoutMs = Math.max(60_000, requestsMin * 60);

let localApp: TestApp | undefined;
let parley: TestClient;
let root: Account;
const statusCounts: Record<string, number> = {};

// If `FUZZ_URL` is set, the tests fuzz that server. Its administrator must have the email root@example.com and `TEST_PASSWORD`.
beforeAll(async () => {
  const url = process.env.FUZZ_URL;
  if (url) {
    parley = createTestClient(url);
    root = await logIn("root@example.com");
    return;
  }
  localApp = await startApp({ config: { RATE_LIMIT_ENABLED: "false" } });
  parley = localApp;
  root = await parley.register("root@example.com", "Root");
  await localApp.database.unsafe("update users set role = 'admin' where id = $1", [root.user.id]);
});
afterAll(async () => {
  await localApp?.stop();
});

async function logIn(email: string): Promise<Account> {
  const response = await parley.fetch("/api/v1/auth/login", { json: { email, password: TEST_PASSWORD } });
  if (response.status !== 200) throw new Error(`login: ${response.status} ${await response.text()}`);
  return (await response.json()) as Account;
}

/** Creates a user with data, at the start and whenever fuzzing has deleted the data. */
async function createFuzzData(): Promise<UserData> {
  const word = `fuzz-${createId()}`;
  const email = `${word}@example.com`;
  // Logs in again, because an access token expires before a long test run ends.
  const { access_token } = await logIn("root@example.com");
  const json = { email, password: TEST_PASSWORD, role: "admin", display_name: "Fuzz" };
  const created = await parley.fetch("/api/v1/users", { token: access_token, json });
  if (created.status !== 201) throw new Error(`administrator: ${created.status} ${await created.text()}`);
  return createUserData(parley, await logIn(email), word);
}

function findError(path: string, response: ReceivedResponse): string | null {
  const { status, text } = response;
  if (status >= 500) return `${status}: ${text}`;
  return findFormatError(path, response);
}

test(
  "no request causes a server error",
  async () => {
    const operations = (await listOperations(parley)).sort(compareDestructiveness);
    const numRuns = Math.ceil(requestsMin / operations.length);
    const failures: string[] = [];
    let userData = await createFuzzData();
    for (const operation of operations) {
      if (!(await userData.isComplete())) userData = await createFuzzData();
      const { access_token } = userData.owner;
      const property = fc.asyncProperty(createRequests(operation, userData), async ({ path, headers, body }) => {
        const init = {
          method: operation.method,
          headers: { authorization: `Bearer ${access_token}`, ...headers },
          body,
        };
        const response = await sendFetch(`${parley.url}${path}`, init);
        statusCounts[response.status] = (statusCounts[response.status] ?? 0) + 1;
        const error = findError(path, response);
        if (error !== null) throw new Error(error);
      });
      await fc
        .assert(property, { numRuns, seed })
        .catch((error: Error) => failures.push(describeFailure(operation.name, error)));
    }
    const total = Object.values(statusCounts).reduce((sum, count) => sum + count, 0);
    console.log(
      `fuzz: ${total} requests to ${operations.length} operations, seed ${seed}: ${JSON.stringify(statusCounts)}`,
    );
    expect(failures).toEqual([]);
    expect((await parley.fetch("/readyz")).status).toBe(200);
  },
  timeoutMs,
);

const describeFailure = (name: string, { cause, message }: Error) => `${name}: ${cause}\n${message}`.slice(0, 4_000);

/** Returns the id of the expected response to a frame, or null if no response is required. */
function findExpectedId(text: string): { id: string | null } | null {
  let frame: unknown;
  try {
    frame = JSON.parse(text);
  } catch {
    return { id: null };
  }
  if (typeof frame !== "object" || frame === null || Array.isArray(frame)) return { id: null };
  const { id, type } = frame as { id?: unknown; type?: unknown };
  if (typeof type === "string" && ["typing.start", "typing.stop", "auth", "ping"].includes(type) && id === undefined)
    return null;
  if (typeof type === "string" && type.startsWith("typing.")) return null;
  const isValidId = typeof id === "string" && id.length <= 64 && id.isWellFormed() && !id.includes("\0");
  return { id: isValidId ? id.normalize("NFC") : null };
}

test(
  "no frame causes a server error, and every frame that requires a response gets one",
  async () => {
    const userData = await createFuzzData();
    const arbitraries = { ...createFieldArbitraries(userData), id: fc.uuid() };
    const numRuns = Math.ceil(framesMin / listFrames().length);
    const failures: string[] = [];
    const responseCounts: Record<string, number> = {};
    let frameCount = 0;
    let socket: TestSocket | undefined;

    async function sendAndCollect(text: string | Uint8Array<ArrayBuffer>): Promise<Frame[]> {
      socket ??= await openSocket(parley.url, { token: userData.owner.access_token });
      const { frames, waitFor, closed } = socket;
      const unexpectedClose = closed.then(({ code }) => {
        socket = undefined;
        throw new Error(`closed with ${code}`);
      });
      frameCount += 1;
      const frameCountBefore = frames.length;
      const pingId = `ping ${frameCount}`;
      socket.socket.send(text);
      socket.send({ type: "ping", id: pingId });
      const expectedResponse = typeof text === "string" ? findExpectedId(text) : { id: null };
      const isNew = (frame: Frame) => frames.indexOf(frame) >= frameCountBefore;
      const isResponse = ({ type }: Frame) => type === "ack" || type === "error" || type === "pong";
      await Promise.race([waitFor(({ id }) => id === pingId), unexpectedClose]);
      if (expectedResponse) {
        const response = waitFor((frame) => isResponse(frame) && frame.id === expectedResponse.id && isNew(frame));
        await Promise.race([response, unexpectedClose]);
      }
      return frames.splice(0);
    }

    for (const { type, schema } of listFrames()) {
      const validFrame = createSamples(schema, {
        ...arbitraries,
        token: fc.oneof(fc.constant(userData.owner.access_token), fc.string()),
      });
      const text = serializeAndCorrupt(mutate(validFrame)).map((bytes) => new TextDecoder().decode(bytes));
      const frame = fc.oneof(
        { weight: 40, arbitrary: text },
        { weight: 1, arbitrary: fc.uint8Array({ maxLength: 99 }).map((raw) => new Uint8Array(raw)) },
      );
      const property = fc.asyncProperty(frame, async (sent) => {
        for (const { type, code } of await sendAndCollect(sent)) {
          const responseKind = code === undefined ? type : `${type} ${code}`;
          responseCounts[responseKind] = (responseCounts[responseKind] ?? 0) + 1;
          if (code === "internal" || code === "unavailable") throw new Error(code);
        }
      });
      await fc.assert(property, { numRuns, seed }).catch((error: Error) => failures.push(describeFailure(type, error)));
    }
    console.log(`fuzz: ${frameCount} frames, seed ${seed}: ${JSON.stringify(responseCounts)}`);
    await socket?.close();
    expect(failures).toEqual([]);
    expect((await parley.fetch("/readyz")).status).toBe(200);
  },
  timeoutMs,
);
