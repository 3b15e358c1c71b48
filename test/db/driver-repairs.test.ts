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

// One test per file of patches/postgres, which fails without it.
const WAIT_MS = 1_000;
const QUEUE_WAIT_MS = 20;

const cleanups: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const step of cleanups.splice(0)) await step();
});

function start(...options: Parameters<typeof createScriptedPostgres>) {
  const scripted = createScriptedPostgres(...options);
  cleanups.push(() => scripted.sql.end({ timeout: 0 }));
  return scripted;
}

/** Rejects instead of waiting forever. */
const withTimeout = <T>(work: Promise<T>): Promise<T> =>
  Promise.race([work, Bun.sleep(WAIT_MS).then(() => Promise.reject(new Error("Timed out.")))]);

/** The code of the error that a promise rejects with. */
const codeOfError = (work: Promise<unknown>): Promise<unknown> =>
  withTimeout(work).then(
    () => "fulfilled",
    (error) => error.code ?? error.message,
  );

/** Lets promises proceed, but not timers and sockets. */
async function passMicrotasks(): Promise<void> {
  for (let count = 0; count < 10; count += 1) await Promise.resolve();
}

const createReset = () => Object.assign(new Error("read ECONNRESET"), { code: "ECONNRESET" });

test("repair 1, writes after the close: a connection that closed with pending writes sends again", async () => {
  const { ask, getSocket } = start();
  await ask("one");
  const lost = codeOfError(ask("lost"));
  await passMicrotasks();
  getSocket(0).close();
  expect(await lost).toBe("CONNECTION_CLOSED");
  expect(await withTimeout(ask("two"))).toEqual(["two"]);
});

test("repair 2, queries after an error: a query between a socket's error and its close is rejected", async () => {
  const { ask, getSocket } = start();
  await ask("one");
  getSocket(0).emit("error", createReset());
  const between = codeOfError(ask("between"));
  await passMicrotasks();
  getSocket(0).close(true);
  expect(await between).toBe("ECONNRESET");
  expect(await withTimeout(ask("two"))).toEqual(["two"]);
});

test("repair 3, half-read answers: a connection's last error isn't returned by the next connection", async () => {
  const { ask, getSocket } = start();
  await ask("one");
  getSocket(0).isSilent = true;
  const lost = codeOfError(ask("lost"));
  await Bun.sleep(5);
  getSocket(0).reply(administratorError);
  getSocket(0).close();
  expect(await lost).toBe("57P01");
  expect(await withTimeout(ask("two"))).toEqual(["two"]);
});

test("repair 4, closed handshakes: the query is rejected, and the server isn't contacted endlessly", async () => {
  const { ask, server, sockets } = start();
  server.isClosing = true;
  expect(await codeOfError(ask("one"))).toBe("CONNECTION_CLOSED");
  await Bun.sleep(50);
  expect(sockets).toHaveLength(1);
  server.isClosing = false;
  expect(await withTimeout(ask("two"))).toEqual(["two"]);
});

test("repair 5, lost array types: a connection lost during their lookup only rejects the query", async () => {
  const unhandled: unknown[] = [];
  const onUnhandled = (error: unknown) => void unhandled.push(error);
  process.on("unhandledRejection", onUnhandled);
  const { ask, server, sockets, getSocket } = start({ fetchesTypes: true });
  server.isSilent = true;
  const lost = codeOfError(ask("one"));
  while (!sockets[0]?.ownCount) await Bun.sleep(1);
  getSocket(0).close();
  expect(await lost).toBe("CONNECTION_CLOSED");
  await Bun.sleep(50);
  process.off("unhandledRejection", onUnhandled);
  expect(unhandled).toEqual([]);
});

test("repair 6, lost transactions: no statement of a lost transaction runs on the replacement connection", async () => {
  const { sql, ask, getSocket } = start();
  let late: unknown;
  const transaction = sql.begin(async (own) => {
    await ask("insert 1", own as never);
    getSocket(0).close();
    // Reopens the connection.
    await ask("other");
    late = await codeOfError(ask("insert 2", own as never));
  });
  expect(await codeOfError(transaction)).toBe("CONNECTION_CLOSED");
  while (late === undefined) await Bun.sleep(1);
  expect(late).toBe("CONNECTION_CLOSED");
  expect(getSocket(0).statements).toContain("insert 1");
  expect(getSocket(1).statements).toEqual(["other"]);
});

test("repair 7, lost reservations: no statement of a lost reservation runs on the replacement connection", async () => {
  const { sql, ask, getSocket } = start({ fetchesTypes: true });
  const reserved = await sql.reserve();
  await ask("mine 1", reserved);
  getSocket(0).close();
  await ask("other");
  expect(await codeOfError(ask("mine 2", reserved))).toBe("CONNECTION_CLOSED");
  reserved.release();
  expect(await withTimeout(Promise.all([ask("two"), ask("three")]))).toEqual([["two"], ["three"]]);
  expect(getSocket(1).statements).toEqual(["other", "two", "three"]);
});

test("repair 8, leaked reservations: a failed reservation takes no connection later", async () => {
  const { sql, ask, server } = start({ fetchesTypes: true });
  server.isClosing = true;
  expect(await codeOfError(sql.reserve())).toBe("CONNECTION_CLOSED");
  server.isClosing = false;
  for (const statement of ["one", "two", "three"]) expect(await withTimeout(ask(statement))).toEqual([statement]);
});

test("repair 8, leaked reservations: a reservation that waits when a connection is lost gets the next one", async () => {
  const { sql, ask, getSocket } = start({ fetchesTypes: true });
  await ask("one");
  getSocket(0).isSilent = true;
  const lost = codeOfError(ask("lost"));
  await passMicrotasks();
  const reserving = sql.reserve();
  await Bun.sleep(5);
  getSocket(0).close();
  expect(await lost).toBe("CONNECTION_CLOSED");
  const reserved = await withTimeout(reserving);
  expect(await withTimeout(ask("mine", reserved))).toEqual(["mine"]);
  reserved.release();
  expect(await withTimeout(ask("two"))).toEqual(["two"]);
});

test("repair 9, fatal errors: the statement is rejected with the server's message, queued ones with the lost connection", async () => {
  const { ask, getSocket } = start();
  await ask("one");
  getSocket(0).isSilent = true;
  const lost = [codeOfError(ask("lost")), codeOfError(ask("behind"))];
  await Bun.sleep(5);
  getSocket(0).reply(administratorError);
  getSocket(0).close();
  expect(await Promise.all(lost)).toEqual(["57P01", "CONNECTION_CLOSED"]);
});

test("repair 10, unfinished copies: an error at the end of a COPY is its stream's error", async () => {
  const { sql, ask, getSocket } = start();
  await ask("one");
  const socket = getSocket(0);
  socket.isSilent = true;
  const opening = sql.unsafe("copy t from stdin").writable();
  await Bun.sleep(5);
  socket.reply(copyIn);
  const stream = await withTimeout(opening);
  const failed = new Promise<unknown>((resolve) => stream.once("error", resolve));
  stream.end("a row\n");
  await Bun.sleep(5);
  socket.reply(uniqueViolation, ready);
  expect(await withTimeout(failed)).toMatchObject({ code: "23505" });
  socket.isSilent = false;
  expect(await withTimeout(ask("two"))).toEqual(["two"]);
});

test("repair 11, paused copies: a connection resumes after more rows than its stream buffers", async () => {
  const { sql, ask, getSocket } = start();
  await ask("one");
  const socket = getSocket(0);
  socket.isSilent = true;
  const opening = sql.unsafe("copy t to stdout").readable();
  await Bun.sleep(5);
  socket.reply(copyOut);
  const stream = await withTimeout(opening);
  socket.reply(copyRow("x".repeat(200_000)), copyRow("y"), copyDone, copied, ready);
  expect(socket.isPaused).toBe(false);
  expect(await withTimeout(Array.fromAsync(stream).then((pieces) => Buffer.concat(pieces).length))).toBe(200_001);
  socket.isSilent = false;
  expect(await withTimeout(ask("two"))).toEqual(["two"]);
});

test("speed, warmest connection: the most recently used connection takes the next query", async () => {
  const { ask, sockets, getSocket } = start({ poolSize: 2 });
  await Promise.all([ask("one"), ask("two")]);
  expect(sockets).toHaveLength(2);
  for (let count = 0; count < 10; count += 1) await ask("next");
  const counts = [getSocket(0), getSocket(1)].map(({ statements }) => statements.length);
  expect(counts.sort((a, b) => a - b)).toEqual([1, 11]);
});

test("timing, statements: reports when each was requested and started, and how many wait", async () => {
  const reported: [string, boolean, boolean][] = [];
  const { ask, sql, getSocket } = start({
    onstatement: (text, askedAtMs, startedAtMs) =>
      reported.push([text, askedAtMs !== undefined, startedAtMs - (askedAtMs ?? 0) >= QUEUE_WAIT_MS]),
  });
  const { countConnections } = sql as Database;
  await ask("one");
  expect(countConnections?.()).toEqual({ idle: 1, active: 0, waiting: 0 });
  getSocket(0).isSilent = true;
  const running = [ask("slow"), ask("behind")];
  await Bun.sleep(QUEUE_WAIT_MS + 5);
  expect(countConnections?.()).toEqual({ idle: 0, active: 1, waiting: 1 });
  getSocket(0).answer("slow");
  getSocket(0).answer("behind");
  await withTimeout(Promise.all(running));
  expect(reported).toEqual([
    ["one", true, false],
    ["slow", true, false],
    ["behind", true, true],
  ]);
});

test("turns, behind poolers: without prepared statements, no query is sent while another runs", async () => {
  const { ask, getSocket } = start({ prepare: false });
  await ask("one");
  getSocket(0).isSilent = true;
  const running = [ask("slow"), ask("behind")];
  await Bun.sleep(5);
  expect(getSocket(0).statements).toEqual(["one", "slow"]);
  getSocket(0).isSilent = false;
  getSocket(0).answer("slow");
  expect(await withTimeout(Promise.all(running))).toEqual([["slow"], ["behind"]]);
});

test("waits, bounded: statements beyond the queue limit are rejected immediately, queued ones are not", async () => {
  const { ask, getSocket } = start({ prepare: false, waitingMax: 2 });
  await ask("one");
  getSocket(0).isSilent = true;
  const running = ["slow", "second", "third"].map((text) => ask(text));
  await Bun.sleep(5);
  expect(await codeOfError(ask("too many"))).toBe("TOO_MANY_WAITING");
  getSocket(0).isSilent = false;
  getSocket(0).answer("slow");
  expect(await withTimeout(Promise.all(running))).toEqual([["slow"], ["second"], ["third"]]);
});
