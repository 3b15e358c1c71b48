import { afterAll, beforeAll, expect, test } from "bun:test";
import fc from "fast-check";
import { type Account, startApp, type TestApp } from "../support/app.ts";
import { type Frame, openSocket, type TestSocket } from "../support/socket.ts";
import { type FrameDescription, listFrames } from "./catalog.ts";
import { createApiKey, createInvalidCredentials, createKeys, JWT_SECRET } from "./credentials.ts";
import { replyFormatArbitrary } from "./requests.ts";
import { createSamples, type FieldArbitraries } from "./samples.ts";
import { createUserData, type UserData } from "./user-data.ts";

const WORD = "victim4e81d0";
const frames = listFrames();

let parley: TestApp;
let victim: UserData;
let observer: TestSocket;
let attempts = 0;

beforeAll(async () => {
  parley = await startApp({ config: { JWT_SECRET, RATE_LIMIT_ENABLED: "false" } });
  const owner = await parley.register(`${WORD}@example.com`, `${WORD} owner`);
  await parley.database.unsafe("update users set role = 'admin' where id = $1", [owner.user.id]);
  victim = await createUserData(parley, owner, WORD);
  observer = await openSocket(parley.url, { token: owner.access_token });
  await observer.request({ type: "subscribe", conversation_id: String(victim.fields.conversation_id) });
});
afterAll(async () => {
  console.log(`attacks by frames: ${frames.length} frames, ${attempts} attempts`);
  await observer.close();
  await parley.stop();
});

/** Opens an authenticated socket. */
async function openAuthenticatedSocket(token: string): Promise<TestSocket> {
  const socket = await openSocket(parley.url, { token });
  await socket.waitFor(({ type }) => type === "ready");
  return socket;
}

/** Creates a frame that refers to the victim's data, and would be valid if the victim sent it. */
function planFrame(
  { schema }: FrameDescription,
  overrides: Record<string, unknown> = {},
): Record<string, unknown> & { type: string } {
  const values = { ...victim.fields, seq: 1, model: "offline/documents", id: `a${++attempts}`, ...overrides };
  const constants = Object.entries(values).map(([name, value]) => [name, fc.constant(value)]);
  const arbitraries: FieldArbitraries = { ...replyFormatArbitrary, ...Object.fromEntries(constants) };
  const [frame] = fc.sample(createSamples(schema, arbitraries, true), { numRuns: 1, seed: 42 });
  return frame as Record<string, unknown> & { type: string };
}

const refersToVictim = ({ schema }: FrameDescription) =>
  Object.keys(schema.properties ?? {}).some((name) => name in victim.fields);

/** Sends a frame and a ping, and returns all frames received until the pong. */
async function sendAndCollect(socket: TestSocket, frame: Record<string, unknown>): Promise<Frame[]> {
  const frameCountBefore = socket.frames.length;
  const pingId = `p${attempts}`;
  socket.send(frame);
  socket.send({ type: "ping", id: pingId });
  // A message that is still being stored does not delay the pong.
  if (frame.type === "message.send") await socket.waitFor(({ id }) => id === frame.id);
  await socket.waitFor(({ id }) => id === pingId);
  return socket.frames.slice(frameCountBefore).filter(({ id }) => id !== pingId);
}

/** Runs an attack, and expects that the victim's data is unchanged and that the victim's socket received nothing. */
async function expectVictimUnaffected(attack: () => Promise<void>): Promise<void> {
  const snapshotBefore = await victim.snapshot();
  const frameCountBefore = observer.frames.length;
  await attack();
  expect(await victim.snapshot()).toBe(snapshotBefore);
  observer.send({ type: "ping", id: `o${attempts}` });
  await observer.waitFor(({ id }) => id === `o${attempts}`);
  expect(observer.frames.slice(frameCountBefore).filter(({ type }) => type !== "pong" && type !== "presence")).toEqual(
    [],
  );
}

test("a socket with an invalid credential is rejected at the upgrade, or closed after an auth frame", async () => {
  const invalidCredentials = await createInvalidCredentials({ parley, sql: parley.database }, victim.owner);
  await expectVictimUnaffected(async () => {
    for (const { name, token, headers } of invalidCredentials) {
      // Sockets accept credentials only as tokens.
      if (token === null || headers) continue;
      attempts += 2;
      const upgradedSocket = await openSocket(parley.url, { token }).catch(() => null);
      expect({ name, isOpen: upgradedSocket !== null }).toEqual({ name, isOpen: false });
      if (token === "") continue;
      const socket = await openSocket(parley.url);
      socket.send({ type: "auth", token });
      expect({ name, ...(await socket.closed) }).toMatchObject({ name, code: 4501 });
      expect(socket.frames).toEqual([]);
    }
  });
});

test("without a credential, every frame is rejected", async () => {
  await expectVictimUnaffected(async () => {
    const socket = await openSocket(parley.url);
    for (const description of frames) {
      if (description.type === "auth") continue;
      const frame = planFrame(description);
      socket.send(frame);
      expect(await socket.waitFor(({ id }) => id === frame.id)).toMatchObject({ type: "error", code: "unauthorized" });
    }
    expect(socket.frames.filter(({ type }) => type !== "error")).toEqual([]);
    await socket.close();
  });
});

test("an outsider's frames don't affect or reveal the victim's data", async () => {
  const outsider = await parley.register();
  const socket = await openAuthenticatedSocket(outsider.access_token);
  await expectVictimUnaffected(async () => {
    for (const description of frames) {
      const { type } = description;
      const frame = planFrame(description, { token: outsider.access_token });
      const responses = await sendAndCollect(socket, frame);
      expect({ type, leaks: JSON.stringify(responses).includes(WORD) }).toEqual({ type, leaks: false });
      if (!refersToVictim(description)) continue;
      // Unsubscribing always succeeds, and reveals nothing.
      if (type === "unsubscribe") expect(responses).toEqual([{ type: "ack", id: String(frame.id) }]);
      else
        expect({ type, responses }).toMatchObject({
          type,
          responses: [{ type: "error", code: type === "auth" ? "forbidden" : "not_found" }],
        });
    }
  });
  await socket.close();
});

test("an outsider can't reauthenticate a connection as another user", async () => {
  const outsider: Account = await parley.register();
  const socket = await openAuthenticatedSocket(outsider.access_token);
  const response = await socket.request({ type: "auth", token: victim.owner.access_token });
  expect(response).toMatchObject({ type: "error", code: "forbidden" });
  await socket.close();
});

test("an API key without the required scope can't send a frame, even to its owner's conversation", async () => {
  const { withoutScope } = await createKeys(parley, victim.owner);
  await expectVictimUnaffected(async () => {
    for (const description of frames) {
      const { type, scope } = description;
      if (scope === "any") continue;
      const socket = await openAuthenticatedSocket(withoutScope.get(scope) ?? "");
      const responses = await sendAndCollect(socket, planFrame(description));
      expect({ type, responses }).toMatchObject({ type, responses: [{ type: "error", code: "forbidden" }] });
      await socket.close();
    }
  });
});

test("the rejected frames succeed with the required scope, so only the credential caused the rejections", async () => {
  const owner = await parley.register("positive1a@example.com", "positive");
  await parley.database.unsafe("update users set role = 'admin' where id = $1", [owner.user.id]);
  const userData = await createUserData(parley, owner, "positive1a");
  for (const description of frames) {
    const { type, scope } = description;
    const token = scope === "any" ? owner.access_token : await createApiKey(parley, owner, [scope as "messages:read"]);
    const socket = await openAuthenticatedSocket(token);
    const responses = await sendAndCollect(
      socket,
      planFrame(description, { ...userData.fields, token, on_behalf_of: undefined }),
    );
    const failures = responses.filter(({ type, code }) => type === "error" && code !== "conflict");
    expect({ type, failures }).toEqual({ type, failures: [] });
    await socket.close();
  }
});
