import { afterAll, beforeAll, expect, test } from "bun:test";
import fc from "fast-check";
import { type Account, startApp, type TestApp } from "../support/app.ts";
import { type Frame, openSocket, type TestSocket } from "../support/socket.ts";
import { type FrameDescription, listFrames } from "./catalogue.ts";
import { createApiKey, createBadCredentials, createKeys, JWT_SECRET } from "./credentials.ts";
import { formatHints } from "./requests.ts";
import { createSamples, type Hints } from "./samples.ts";
import { createWorld, type World } from "./world.ts";

const WORD = "victim4e81d0";
const frames = listFrames();

let parley: TestApp;
let victim: World;
let observer: TestSocket;
let attempts = 0;

beforeAll(async () => {
  parley = await startApp({ config: { JWT_SECRET, RATE_LIMIT_ENABLED: "false" } });
  const owner = await parley.register(`${WORD}@example.com`, `${WORD} owner`);
  await parley.database.unsafe("update users set role = 'admin' where id = $1", [owner.user.id]);
  victim = await createWorld(parley, owner, WORD);
  observer = await openSocket(parley.url, { token: owner.access_token });
  await observer.request({ type: "subscribe", conversation_id: String(victim.fields.conversation_id) });
});
afterAll(async () => {
  console.log(`attacks by frames: ${frames.length} frames, ${attempts} attempts`);
  await observer.close();
  await parley.stop();
});

/** An authenticated socket. */
async function enter(token: string): Promise<TestSocket> {
  const socket = await openSocket(parley.url, { token });
  await socket.waitFor(({ type }) => type === "ready");
  return socket;
}

/** A valid frame, except for its sender, that names the victim's data. */
function planFrame(
  { schema }: FrameDescription,
  more: Record<string, unknown> = {},
): Record<string, unknown> & { type: string } {
  const values = { ...victim.fields, seq: 1, model: "offline/documents", id: `a${++attempts}`, ...more };
  const constant = Object.entries(values).map(([name, value]) => [name, fc.constant(value)]);
  const hints: Hints = { ...formatHints, ...Object.fromEntries(constant) };
  const [frame] = fc.sample(createSamples(schema, hints, true), { numRuns: 1, seed: 42 });
  return frame as Record<string, unknown> & { type: string };
}

const namesVictim = ({ schema }: FrameDescription) =>
  Object.keys(schema.properties ?? {}).some((name) => name in victim.fields);

/** All frames received in response to one frame: it has been handled once the `pong` after it arrives. */
async function provoke(socket: TestSocket, frame: Record<string, unknown>): Promise<Frame[]> {
  const before = socket.frames.length;
  const pingId = `p${attempts}`;
  socket.send(frame);
  socket.send({ type: "ping", id: pingId });
  // A message in progress does not delay the pong after it.
  if (frame.type === "message.send") await socket.waitFor((answer) => answer.id === frame.id);
  await socket.waitFor((answer) => answer.id === pingId);
  return socket.frames.slice(before).filter(({ id }) => id !== pingId);
}

/** Runs the attacks, and checks that the victim still has everything and that their sockets received nothing. */
async function leavesVictimAlone(attack: () => Promise<void>): Promise<void> {
  const before = await victim.snapshot();
  const seen = observer.frames.length;
  await attack();
  expect(await victim.snapshot()).toBe(before);
  observer.send({ type: "ping", id: `o${attempts}` });
  await observer.waitFor(({ id }) => id === `o${attempts}`);
  expect(observer.frames.slice(seen).filter(({ type }) => type !== "pong" && type !== "presence")).toEqual([]);
}

test("a socket with an invalid credential is refused at the upgrade, or closed after an auth frame", async () => {
  const invalid = await createBadCredentials({ parley, sql: parley.database }, victim.owner);
  await leavesVictimAlone(async () => {
    for (const { name, token, headers } of invalid) {
      // Together with an unrelated header, or none.
      if (token === null || headers) continue;
      attempts += 2;
      const opened = await openSocket(parley.url, { token }).catch(() => null);
      expect({ name, isOpen: opened !== null }).toEqual({ name, isOpen: false });
      if (token === "") continue;
      const socket = await openSocket(parley.url);
      socket.send({ type: "auth", token });
      expect({ name, ...(await socket.closed) }).toMatchObject({ name, code: 4501 });
      expect(socket.frames).toEqual([]);
    }
  });
});

test("without a credential every frame is refused", async () => {
  await leavesVictimAlone(async () => {
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
  const socket = await enter(outsider.access_token);
  await leavesVictimAlone(async () => {
    for (const description of frames) {
      const { type } = description;
      const frame = planFrame(description, { token: outsider.access_token });
      const answers = await provoke(socket, frame);
      expect({ type, leaks: JSON.stringify(answers).includes(WORD) }).toEqual({ type, leaks: false });
      if (!namesVictim(description)) continue;
      // Unsubscribing from anything is no error, and reveals nothing.
      if (type === "unsubscribe") expect(answers).toEqual([{ type: "ack", id: String(frame.id) }]);
      else
        expect({ type, answers }).toMatchObject({
          type,
          answers: [{ type: "error", code: type === "auth" ? "forbidden" : "not_found" }],
        });
    }
  });
  await socket.close();
});

test("an outsider can't renew a connection as another user", async () => {
  const outsider: Account = await parley.register();
  const socket = await enter(outsider.access_token);
  const answer = await socket.request({ type: "auth", token: victim.owner.access_token });
  expect(answer).toMatchObject({ type: "error", code: "forbidden" });
  await socket.close();
});

test("a key without the scope may not send the frame, even for its owner", async () => {
  const { lacking } = await createKeys(parley, victim.owner);
  await leavesVictimAlone(async () => {
    for (const description of frames) {
      const { type, scope } = description;
      if (scope === "any") continue;
      const socket = await enter(lacking.get(scope) ?? "");
      const answers = await provoke(socket, planFrame(description));
      expect({ type, answers }).toMatchObject({ type, answers: [{ type: "error", code: "forbidden" }] });
      await socket.close();
    }
  });
});

test("with the scope each of these frames works, so the credential made the difference", async () => {
  const owner = await parley.register("positive1a@example.com", "positive");
  await parley.database.unsafe("update users set role = 'admin' where id = $1", [owner.user.id]);
  const world = await createWorld(parley, owner, "positive1a");
  for (const description of frames) {
    const { type, scope } = description;
    const token = scope === "any" ? owner.access_token : await createApiKey(parley, owner, [scope as "messages:read"]);
    const socket = await enter(token);
    const answers = await provoke(socket, planFrame(description, { ...world.fields, token, on_behalf_of: undefined }));
    const refused = answers.filter(({ type, code }) => type === "error" && code !== "conflict");
    expect({ type, refused }).toEqual({ type, refused: [] });
    await socket.close();
  }
});
