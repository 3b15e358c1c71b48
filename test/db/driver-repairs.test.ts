import { afterEach, expect, test } from "bun:test";
import type { Database } from "../../src/db/client.ts";
import {
  administratorError,
  copied,
  copyDone,
  copyIn,
  copyOut,
  copyRow,
  createScriptedPostgres,
  ready,
  uniqueViolation,
} from "../support/scripted-postgres.ts";

// One test for each file of patches/postgres, which fails without it.
const WAIT_MS = 1_000;
const WAIT_FOR_TURN_MS = 20;

const undo: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const step of undo.splice(0)) await step();
});

function start(...options: Parameters<typeof createScriptedPostgres>) {
  const scripted = createScriptedPostgres(...options);
  undo.push(() => scripted.sql.end({ timeout: 0 }));
  return scripted;
}

/** Fails instead of waiting for ever. */
const soon = <T>(work: Promise<T>): Promise<T> =>
  Promise.race([work, Bun.sleep(WAIT_MS).then(() => Promise.reject(new Error("It waits for ever.")))]);

/** The code of what a promise is rejected with. */
const fail = (work: Promise<unknown>): Promise<unknown> =>
  soon(work).then(
    () => "fulfilled",
    (error) => error.code ?? error.message,
  );

/** Promises go on, timers and sockets do not. */
async function passMicrotasks(): Promise<void> {
  for (let count = 0; count < 10; count += 1) await Promise.resolve();
}

const createReset = () => Object.assign(new Error("read ECONNRESET"), { code: "ECONNRESET" });

test("repair 1, writes after the close: a connection that closed with something to write sends again", async () => {
  const { ask, getSocket } = start();
  await ask("one");
  const lost = fail(ask("lost"));
  await passMicrotasks();
  getSocket(0).close();
  expect(await lost).toBe("CONNECTION_CLOSED");
  expect(await soon(ask("two"))).toEqual(["two"]);
});

test("repair 2, queries after an error: a query between the error of a socket and its close is rejected", async () => {
  const { ask, getSocket } = start();
  await ask("one");
  getSocket(0).emit("error", createReset());
  const between = fail(ask("between"));
  await passMicrotasks();
  getSocket(0).close(true);
  expect(await between).toBe("ECONNRESET");
  expect(await soon(ask("two"))).toEqual(["two"]);
});

test("repair 3, half-read answers: the last error of a connection is not the answer on the next one", async () => {
  const { ask, getSocket } = start();
  await ask("one");
  getSocket(0).isSilent = true;
  const lost = fail(ask("lost"));
  await Bun.sleep(5);
  getSocket(0).reply(administratorError);
  getSocket(0).close();
  expect(await lost).toBe("57P01");
  expect(await soon(ask("two"))).toEqual(["two"]);
});

test("repair 4, closed handshakes: the query is rejected, and the server is not asked without end", async () => {
  const { ask, server, sockets } = start();
  server.isClosing = true;
  expect(await fail(ask("one"))).toBe("CONNECTION_CLOSED");
  await Bun.sleep(50);
  expect(sockets).toHaveLength(1);
  server.isClosing = false;
  expect(await soon(ask("two"))).toEqual(["two"]);
});

test("repair 5, lost array types: a connection that is lost while they are looked up rejects the query alone", async () => {
  const unhandled: unknown[] = [];
  const onUnhandled = (error: unknown) => void unhandled.push(error);
  process.on("unhandledRejection", onUnhandled);
  const { ask, server, sockets, getSocket } = start({ fetchesTypes: true });
  server.isSilent = true;
  const lost = fail(ask("one"));
  while (!sockets[0]?.ownCount) await Bun.sleep(1);
  getSocket(0).close();
  expect(await lost).toBe("CONNECTION_CLOSED");
  await Bun.sleep(50);
  process.off("unhandledRejection", onUnhandled);
  expect(unhandled).toEqual([]);
});

test("repair 6, lost transactions: no statement of one runs on the connection that took its place", async () => {
  const { sql, ask, getSocket } = start();
  let late: unknown;
  const transaction = sql.begin(async (own) => {
    await ask("insert 1", own as never);
    getSocket(0).close();
    // Opens the connection again.
    await ask("other");
    late = await fail(ask("insert 2", own as never));
  });
  expect(await fail(transaction)).toBe("CONNECTION_CLOSED");
  while (late === undefined) await Bun.sleep(1);
  expect(late).toBe("CONNECTION_CLOSED");
  expect(getSocket(0).statements).toContain("insert 1");
  expect(getSocket(1).statements).toEqual(["other"]);
});

test("repair 7, lost reservations: no statement of one runs on the connection that took its place", async () => {
  const { sql, ask, getSocket } = start({ fetchesTypes: true });
  const reserved = await sql.reserve();
  await ask("mine 1", reserved);
  getSocket(0).close();
  await ask("other");
  expect(await fail(ask("mine 2", reserved))).toBe("CONNECTION_CLOSED");
  reserved.release();
  expect(await soon(Promise.all([ask("two"), ask("three")]))).toEqual([["two"], ["three"]]);
  expect(getSocket(1).statements).toEqual(["other", "two", "three"]);
});

test("repair 8, leaked reservations: one that failed takes no connection later", async () => {
  const { sql, ask, server } = start({ fetchesTypes: true });
  server.isClosing = true;
  expect(await fail(sql.reserve())).toBe("CONNECTION_CLOSED");
  server.isClosing = false;
  for (const statement of ["one", "two", "three"]) expect(await soon(ask(statement))).toEqual([statement]);
});

test("repair 8, leaked reservations: one that waits when a connection is lost gets the next one", async () => {
  const { sql, ask, getSocket } = start({ fetchesTypes: true });
  await ask("one");
  getSocket(0).isSilent = true;
  const lost = fail(ask("lost"));
  await passMicrotasks();
  const reserving = sql.reserve();
  await Bun.sleep(5);
  getSocket(0).close();
  expect(await lost).toBe("CONNECTION_CLOSED");
  const reserved = await soon(reserving);
  expect(await soon(ask("mine", reserved))).toEqual(["mine"]);
  reserved.release();
  expect(await soon(ask("two"))).toEqual(["two"]);
});

test("repair 9, fatal errors: the statement is rejected with the server's words, those behind it with the loss", async () => {
  const { ask, getSocket } = start();
  await ask("one");
  getSocket(0).isSilent = true;
  const lost = [fail(ask("lost")), fail(ask("behind"))];
  await Bun.sleep(5);
  getSocket(0).reply(administratorError);
  getSocket(0).close();
  expect(await Promise.all(lost)).toEqual(["57P01", "CONNECTION_CLOSED"]);
});

test("repair 10, unfinished copies: an error at the end of a COPY is the error of its stream", async () => {
  const { sql, ask, getSocket } = start();
  await ask("one");
  const socket = getSocket(0);
  socket.isSilent = true;
  const opening = sql.unsafe("copy t from stdin").writable();
  await Bun.sleep(5);
  socket.reply(copyIn);
  const stream = await soon(opening);
  const failed = new Promise<unknown>((resolve) => stream.once("error", resolve));
  stream.end("a row\n");
  await Bun.sleep(5);
  socket.reply(uniqueViolation, ready);
  expect(await soon(failed)).toMatchObject({ code: "23505" });
  socket.isSilent = false;
  expect(await soon(ask("two"))).toEqual(["two"]);
});

test("repair 11, paused copies: a connection goes on after more rows than its stream takes at once", async () => {
  const { sql, ask, getSocket } = start();
  await ask("one");
  const socket = getSocket(0);
  socket.isSilent = true;
  const opening = sql.unsafe("copy t to stdout").readable();
  await Bun.sleep(5);
  socket.reply(copyOut);
  const stream = await soon(opening);
  socket.reply(copyRow("x".repeat(200_000)), copyRow("y"), copyDone, copied, ready);
  expect(socket.isPaused).toBe(false);
  expect(await soon(Array.fromAsync(stream).then((pieces) => Buffer.concat(pieces).length))).toBe(200_001);
  socket.isSilent = false;
  expect(await soon(ask("two"))).toEqual(["two"]);
});

test("speed, warmest connection: the one used last takes the next query", async () => {
  const { ask, sockets, getSocket } = start({ poolSize: 2 });
  await Promise.all([ask("one"), ask("two")]);
  expect(sockets).toHaveLength(2);
  for (let count = 0; count < 10; count += 1) await ask("next");
  const counts = [getSocket(0), getSocket(1)].map(({ statements }) => statements.length);
  expect(counts.sort((a, b) => a - b)).toEqual([1, 11]);
});

test("timing, statements: it is told when each was asked for and taken, and what waits", async () => {
  const told: [string, boolean, boolean][] = [];
  const { ask, sql, getSocket } = start({
    onstatement: (text, askedAtMs, startedAtMs) =>
      told.push([text, askedAtMs !== undefined, startedAtMs - (askedAtMs ?? 0) >= WAIT_FOR_TURN_MS]),
  });
  const { countConnections } = sql as Database;
  await ask("one");
  expect(countConnections?.()).toEqual({ idle: 1, active: 0, waiting: 0 });
  getSocket(0).isSilent = true;
  const running = [ask("slow"), ask("behind")];
  await Bun.sleep(WAIT_FOR_TURN_MS + 5);
  expect(countConnections?.()).toEqual({ idle: 0, active: 1, waiting: 1 });
  getSocket(0).answer("slow");
  getSocket(0).answer("behind");
  await soon(Promise.all(running));
  expect(told).toEqual([
    ["one", true, false],
    ["slow", true, false],
    ["behind", true, true],
  ]);
});

test("turns, behind poolers: without prepared statements, none is sent behind one that still runs", async () => {
  const { ask, getSocket } = start({ prepare: false });
  await ask("one");
  getSocket(0).isSilent = true;
  const running = [ask("slow"), ask("behind")];
  await Bun.sleep(5);
  expect(getSocket(0).statements).toEqual(["one", "slow"]);
  getSocket(0).isSilent = false;
  getSocket(0).answer("slow");
  expect(await soon(Promise.all(running))).toEqual([["slow"], ["behind"]]);
});

test("waits, bounded: more statements than may wait are rejected at once, those that wait are not", async () => {
  const { ask, getSocket } = start({ prepare: false, waitingMax: 2 });
  await ask("one");
  getSocket(0).isSilent = true;
  const running = ["slow", "second", "third"].map((text) => ask(text));
  await Bun.sleep(5);
  expect(await fail(ask("too many"))).toBe("TOO_MANY_WAITING");
  getSocket(0).isSilent = false;
  getSocket(0).answer("slow");
  expect(await soon(Promise.all(running))).toEqual([["slow"], ["second"], ["third"]]);
});
