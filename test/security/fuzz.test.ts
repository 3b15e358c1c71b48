import { afterAll, beforeAll, expect, test } from "bun:test";
import fc from "fast-check";
import { createId } from "../../src/lib/id.ts";
import { type Account, startApp, TEST_PASSWORD, type TestApp } from "../support/app.ts";
import { createTestClient, type TestClient } from "../support/client.ts";
import { countRuns, propertySeed } from "../support/properties.ts";
import { type Frame, openSocket, type TestSocket } from "../support/socket.ts";
import { byHarm, listFrames, listOperations } from "./catalogue.ts";
import { createHints, createRequests } from "./fuzz-requests.ts";
import { corrupt, mutate } from "./mutations.ts";
import { type Answer, findFormFault, sendRaw } from "./requests.ts";
import { createSamples } from "./samples.ts";
import { createWorld, type World } from "./world.ts";

const requestsMin = countRuns(1_500);
const framesMin = countRuns(2_000);
const seed = propertySeed;
const long = Math.max(60_000, requestsMin * 60);

let own: TestApp | undefined;
let parley: TestClient;
let root: Account;
const statuses: Record<string, number> = {};

/** `FUZZ_URL` names a running Parley, with `ADMIN_EMAIL=root@example.com` and the tests' password. */
beforeAll(async () => {
  const url = process.env.FUZZ_URL;
  if (url) {
    parley = createTestClient(url);
    root = await login("root@example.com");
    return;
  }
  own = await startApp({ config: { RATE_LIMIT_ENABLED: "false" } });
  parley = own;
  root = await parley.register("root@example.com", "Root");
  await own.database.unsafe("update users set role = 'admin' where id = $1", [root.user.id]);
});
afterAll(async () => {
  await own?.stop();
});

async function login(email: string): Promise<Account> {
  const response = await parley.fetch("/api/v1/auth/login", { json: { email, password: TEST_PASSWORD } });
  if (response.status !== 200) throw new Error(`login: ${response.status} ${await response.text()}`);
  return (await response.json()) as Account;
}

/** Fuzzing deletes data; then everything is recreated. */
async function createFuzzWorld(): Promise<World> {
  const word = `fuzz-${createId()}`;
  const email = `${word}@example.com`;
  // The root's access token expires before a long test run ends.
  const { access_token } = await login("root@example.com");
  const json = { email, password: TEST_PASSWORD, role: "admin", display_name: "Fuzz" };
  const created = await parley.fetch("/api/v1/users", { token: access_token, json });
  if (created.status !== 201) throw new Error(`administrator: ${created.status} ${await created.text()}`);
  return createWorld(parley, await login(email), word);
}

function findFault(path: string, answer: Answer): string | null {
  const { status, text } = answer;
  if (status >= 500) return `${status}: ${text}`;
  return findFormFault(path, answer);
}

test(
  "no request causes a server error",
  async () => {
    const operations = (await listOperations(parley)).sort(byHarm);
    const numRuns = Math.ceil(requestsMin / operations.length);
    const faults: string[] = [];
    let world = await createFuzzWorld();
    for (const operation of operations) {
      if (!(await world.isWhole())) world = await createFuzzWorld();
      const { access_token } = world.owner;
      const property = fc.asyncProperty(createRequests(operation, world), async ({ path, headers, body }) => {
        const init = {
          method: operation.method,
          headers: { authorization: `Bearer ${access_token}`, ...headers },
          body,
        };
        const answer = await sendRaw(`${parley.url}${path}`, init);
        statuses[answer.status] = (statuses[answer.status] ?? 0) + 1;
        const fault = findFault(path, answer);
        if (fault !== null) throw new Error(fault);
      });
      await fc
        .assert(property, { numRuns, seed })
        .catch((error: Error) => faults.push(describeFailure(operation.name, error)));
    }
    const total = Object.values(statuses).reduce((sum, count) => sum + count, 0);
    console.log(
      `fuzz: ${total} requests at ${operations.length} operations, seed ${seed}: ${JSON.stringify(statuses)}`,
    );
    expect(faults).toEqual([]);
    expect((await parley.fetch("/readyz")).status).toBe(200);
  },
  long,
);

const describeFailure = (name: string, { cause, message }: Error) => `${name}: ${cause}\n${message}`.slice(0, 4_000);

/** The expected response to a frame; null if the protocol has none, or only an error. */
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
  const isShown = typeof id === "string" && id.length <= 64 && id.isWellFormed() && !id.includes("\0");
  return { id: isShown ? id.normalize("NFC") : null };
}

test(
  "no frame causes a server error, and every frame gets its response",
  async () => {
    const world = await createFuzzWorld();
    const hints = { ...createHints(world), id: fc.uuid() };
    const numRuns = Math.ceil(framesMin / listFrames().length);
    const faults: string[] = [];
    const answered: Record<string, number> = {};
    let count = 0;
    let socket: TestSocket | undefined;

    async function provoke(text: string | Uint8Array<ArrayBuffer>): Promise<Frame[]> {
      socket ??= await openSocket(parley.url, { token: world.owner.access_token });
      const { frames, waitFor, closed } = socket;
      const end = closed.then(({ code }) => {
        socket = undefined;
        throw new Error(`closed with ${code}`);
      });
      count += 1;
      const before = frames.length;
      const pingId = `ping ${count}`;
      socket.socket.send(text);
      socket.send({ type: "ping", id: pingId });
      const expected = typeof text === "string" ? findExpectedId(text) : { id: null };
      const isNew = (frame: Frame) => frames.indexOf(frame) >= before;
      const isAnswer = ({ type }: Frame) => type === "ack" || type === "error" || type === "pong";
      await Promise.race([waitFor(({ id }) => id === pingId), end]);
      if (expected)
        await Promise.race([waitFor((frame) => isAnswer(frame) && frame.id === expected.id && isNew(frame)), end]);
      return frames.splice(0);
    }

    for (const { type, schema } of listFrames()) {
      const validFrame = createSamples(schema, {
        ...hints,
        token: fc.oneof(fc.constant(world.owner.access_token), fc.string()),
      });
      const text = corrupt(mutate(validFrame)).map((bytes) => new TextDecoder().decode(bytes));
      const frame = fc.oneof(
        { weight: 40, arbitrary: text },
        { weight: 1, arbitrary: fc.uint8Array({ maxLength: 99 }).map((raw) => new Uint8Array(raw)) },
      );
      const property = fc.asyncProperty(frame, async (sent) => {
        for (const { type, code } of await provoke(sent)) {
          const kind = code === undefined ? type : `${type} ${code}`;
          answered[kind] = (answered[kind] ?? 0) + 1;
          if (code === "internal" || code === "unavailable") throw new Error(code);
        }
      });
      await fc.assert(property, { numRuns, seed }).catch((error: Error) => faults.push(describeFailure(type, error)));
    }
    console.log(`fuzz: ${count} frames, seed ${seed}: ${JSON.stringify(answered)}`);
    await socket?.close();
    expect(faults).toEqual([]);
    expect((await parley.fetch("/readyz")).status).toBe(200);
  },
  long,
);
