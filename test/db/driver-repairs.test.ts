import { afterEach, expect, test } from "bun:test";
import type { Database } from "../../src/db/client.ts";
import {
  administratorError,
  copyComplete,
  copyDone,
  copyIn,
  copyOut,
  copyRow,
  createScriptedPostgres,
  readyForQuery,
  uniqueViolation,
} from "../support/scripted-postgres.ts";

// Each test is named after a file in patches/postgres, and fails without that patch.

const WAIT_MS = 1_000;
const QUEUE_WAIT_MS = 20;

const cleanups: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0)) await cleanup();
});

function createScriptedServer(...options: Parameters<typeof createScriptedPostgres>) {
  const scripted = createScriptedPostgres(...options);
  cleanups.push(() => scripted.sql.end({ timeout: 0 }));
  return scripted;
}

/** Waits for a promise, but rejects after `WAIT_MS`. */
const withTimeout = <T>(work: Promise<T>): Promise<T> =>
  Promise.race([work, Bun.sleep(WAIT_MS).then(() => Promise.reject(new Error("Timed out.")))]);

/** Returns the code of the error with which a promise rejects. */
const getErrorCode = (work: Promise<unknown>): Promise<unknown> =>
  withTimeout(work).then(
    () => "fulfilled",
    (error) => error.code ?? error.message,
  );

/** Settles pending promises without running timers or socket callbacks. */
async function flushMicrotasks(): Promise<void> {
  for (let count = 0; count < 10; count += 1) await Promise.resolve();
}

const createReset = () => Object.assign(new Error("read ECONNRESET"), { code: "ECONNRESET" });

test("repair-1-writes-after-close: a connection that was closed with pending writes works after it is reopened", async () => {
  const { query, getSocket } = createScriptedServer();
  await query("one");
  const lostCode = getErrorCode(query("lost"));
  await flushMicrotasks();
  getSocket(0).close();
  expect(await lostCode).toBe("CONNECTION_CLOSED");
  expect(await withTimeout(query("two"))).toEqual(["two"]);
});

test("repair-2-queries-after-error: a query that starts between a socket's error and its close is rejected", async () => {
  const { query, getSocket } = createScriptedServer();
  await query("one");
  getSocket(0).emit("error", createReset());
  const betweenCode = getErrorCode(query("between"));
  await flushMicrotasks();
  getSocket(0).close(true);
  expect(await betweenCode).toBe("ECONNRESET");
  expect(await withTimeout(query("two"))).toEqual(["two"]);
});

test("repair-3-half-read-answers: the last error of a lost connection doesn't affect queries on the next connection", async () => {
  const { query, getSocket } = createScriptedServer();
  await query("one");
  getSocket(0).isUnresponsive = true;
  const lostCode = getErrorCode(query("lost"));
  await Bun.sleep(5);
  getSocket(0).sendMessages(administratorError);
  getSocket(0).close();
  expect(await lostCode).toBe("57P01");
  expect(await withTimeout(query("two"))).toEqual(["two"]);
});

test("repair-4-closed-handshakes: the query is rejected, and the driver doesn't reconnect endlessly", async () => {
  const { query, server, sockets } = createScriptedServer();
  server.closeDuringHandshake = true;
  expect(await getErrorCode(query("one"))).toBe("CONNECTION_CLOSED");
  await Bun.sleep(50);
  expect(sockets).toHaveLength(1);
  server.closeDuringHandshake = false;
  expect(await withTimeout(query("two"))).toEqual(["two"]);
});

test("repair-5-lost-array-types: if the connection is lost while array types are fetched, only the query is rejected", async () => {
  const unhandledErrors: unknown[] = [];
  const onUnhandled = (error: unknown) => void unhandledErrors.push(error);
  process.on("unhandledRejection", onUnhandled);
  const { query, server, sockets, getSocket } = createScriptedServer({ fetchTypes: true });
  server.isUnresponsive = true;
  const lostCode = getErrorCode(query("one"));
  while (!sockets[0]?.driverStatementCount) await Bun.sleep(1);
  getSocket(0).close();
  expect(await lostCode).toBe("CONNECTION_CLOSED");
  await Bun.sleep(50);
  process.off("unhandledRejection", onUnhandled);
  expect(unhandledErrors).toEqual([]);
});

test("repair-6-lost-transactions: no statement of a lost transaction runs on the replacement connection", async () => {
  const { sql, query, getSocket } = createScriptedServer();
  let lateCode: unknown;
  const transaction = sql.begin(async (transactionSql) => {
    await query("insert 1", transactionSql as never);
    getSocket(0).close();
    // This query reopens the connection.
    await query("other");
    lateCode = await getErrorCode(query("insert 2", transactionSql as never));
  });
  expect(await getErrorCode(transaction)).toBe("CONNECTION_CLOSED");
  while (lateCode === undefined) await Bun.sleep(1);
  expect(lateCode).toBe("CONNECTION_CLOSED");
  expect(getSocket(0).statements).toContain("insert 1");
  expect(getSocket(1).statements).toEqual(["other"]);
});

test("repair-7-lost-reservations: no statement of a lost reservation runs on the replacement connection", async () => {
  const { sql, query, getSocket } = createScriptedServer({ fetchTypes: true });
  const reservedConnection = await sql.reserve();
  await query("mine 1", reservedConnection);
  getSocket(0).close();
  await query("other");
  expect(await getErrorCode(query("mine 2", reservedConnection))).toBe("CONNECTION_CLOSED");
  reservedConnection.release();
  expect(await withTimeout(Promise.all([query("two"), query("three")]))).toEqual([["two"], ["three"]]);
  expect(getSocket(1).statements).toEqual(["other", "two", "three"]);
});

test("repair-8-leaked-reservations: a failed reservation doesn't reserve a connection later", async () => {
  const { sql, query, server } = createScriptedServer({ fetchTypes: true });
  server.closeDuringHandshake = true;
  expect(await getErrorCode(sql.reserve())).toBe("CONNECTION_CLOSED");
  server.closeDuringHandshake = false;
  for (const statement of ["one", "two", "three"]) expect(await withTimeout(query(statement))).toEqual([statement]);
});

test("repair-8-leaked-reservations: a reservation that waits for a lost connection receives the next connection", async () => {
  const { sql, query, getSocket } = createScriptedServer({ fetchTypes: true });
  await query("one");
  getSocket(0).isUnresponsive = true;
  const lostCode = getErrorCode(query("lost"));
  await flushMicrotasks();
  const reservePromise = sql.reserve();
  await Bun.sleep(5);
  getSocket(0).close();
  expect(await lostCode).toBe("CONNECTION_CLOSED");
  const reservedConnection = await withTimeout(reservePromise);
  expect(await withTimeout(query("mine", reservedConnection))).toEqual(["mine"]);
  reservedConnection.release();
  expect(await withTimeout(query("two"))).toEqual(["two"]);
});

test("repair-9-fatal-errors: the running statement is rejected with the server's error, and queued statements with CONNECTION_CLOSED", async () => {
  const { query, getSocket } = createScriptedServer();
  await query("one");
  getSocket(0).isUnresponsive = true;
  const lostCodes = [getErrorCode(query("lost")), getErrorCode(query("behind"))];
  await Bun.sleep(5);
  getSocket(0).sendMessages(administratorError);
  getSocket(0).close();
  expect(await Promise.all(lostCodes)).toEqual(["57P01", "CONNECTION_CLOSED"]);
});

test("repair-10-unfinished-copies: an error at the end of a COPY is emitted by its stream", async () => {
  const { sql, query, getSocket } = createScriptedServer();
  await query("one");
  const socket = getSocket(0);
  socket.isUnresponsive = true;
  const openPromise = sql.unsafe("copy t from stdin").writable();
  await Bun.sleep(5);
  socket.sendMessages(copyIn);
  const stream = await withTimeout(openPromise);
  const streamError = new Promise<unknown>((resolve) => stream.once("error", resolve));
  stream.end("a row\n");
  await Bun.sleep(5);
  socket.sendMessages(uniqueViolation, readyForQuery);
  expect(await withTimeout(streamError)).toMatchObject({ code: "23505" });
  socket.isUnresponsive = false;
  expect(await withTimeout(query("two"))).toEqual(["two"]);
});

test("repair-11-paused-copies: a connection resumes after a COPY that is larger than its stream's buffer", async () => {
  const { sql, query, getSocket } = createScriptedServer();
  await query("one");
  const socket = getSocket(0);
  socket.isUnresponsive = true;
  const openPromise = sql.unsafe("copy t to stdout").readable();
  await Bun.sleep(5);
  socket.sendMessages(copyOut);
  const stream = await withTimeout(openPromise);
  socket.sendMessages(copyRow("x".repeat(200_000)), copyRow("y"), copyDone, copyComplete, readyForQuery);
  expect(socket.isPaused).toBe(false);
  expect(await withTimeout(Array.fromAsync(stream).then((pieces) => Buffer.concat(pieces).length))).toBe(200_001);
  socket.isUnresponsive = false;
  expect(await withTimeout(query("two"))).toEqual(["two"]);
});

test("speed-warmest-connection: the most recently used connection runs the next query", async () => {
  const { query, sockets, getSocket } = createScriptedServer({ poolSize: 2 });
  await Promise.all([query("one"), query("two")]);
  expect(sockets).toHaveLength(2);
  for (let count = 0; count < 10; count += 1) await query("next");
  const statementCounts = [getSocket(0), getSocket(1)].map(({ statements }) => statements.length);
  expect(statementCounts.sort((a, b) => a - b)).toEqual([1, 11]);
});

test("timing-statements: the driver reports when each statement was requested and started, and how many statements wait", async () => {
  const reports: [string, boolean, boolean][] = [];
  const { query, sql, getSocket } = createScriptedServer({
    onstatement: (text, requestedAtMs, startedAtMs) =>
      reports.push([text, requestedAtMs !== undefined, startedAtMs - (requestedAtMs ?? 0) >= QUEUE_WAIT_MS]),
  });
  const { countConnections } = sql as Database;
  await query("one");
  expect(countConnections?.()).toEqual({ idle: 1, active: 0, waiting: 0 });
  getSocket(0).isUnresponsive = true;
  const runningQueries = [query("slow"), query("behind")];
  await Bun.sleep(QUEUE_WAIT_MS + 5);
  expect(countConnections?.()).toEqual({ idle: 0, active: 1, waiting: 1 });
  getSocket(0).respond("slow");
  getSocket(0).respond("behind");
  await withTimeout(Promise.all(runningQueries));
  expect(reports).toEqual([
    ["one", true, false],
    ["slow", true, false],
    ["behind", true, true],
  ]);
});

test("turns-behind-poolers: without prepared statements, no query is sent while another query runs", async () => {
  const { query, getSocket } = createScriptedServer({ prepare: false });
  await query("one");
  getSocket(0).isUnresponsive = true;
  const runningQueries = [query("slow"), query("behind")];
  await Bun.sleep(5);
  expect(getSocket(0).statements).toEqual(["one", "slow"]);
  getSocket(0).isUnresponsive = false;
  getSocket(0).respond("slow");
  expect(await withTimeout(Promise.all(runningQueries))).toEqual([["slow"], ["behind"]]);
});

test("waits-bounded: a statement that exceeds the queue limit is rejected immediately, and queued statements still run", async () => {
  const { query, getSocket } = createScriptedServer({ prepare: false, waitingMax: 2 });
  await query("one");
  getSocket(0).isUnresponsive = true;
  const runningQueries = ["slow", "second", "third"].map((text) => query(text));
  await Bun.sleep(5);
  expect(await getErrorCode(query("too many"))).toBe("TOO_MANY_WAITING");
  getSocket(0).isUnresponsive = false;
  getSocket(0).respond("slow");
  expect(await withTimeout(Promise.all(runningQueries))).toEqual([["slow"], ["second"], ["third"]]);
});
