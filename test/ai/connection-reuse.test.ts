import { afterAll, expect, test } from "bun:test";
import { join } from "node:path";
import type { Socket } from "bun";
import { HttpConnection } from "../../src/lib/http-client/connection.ts";
import { PROBE_AFTER_MS } from "../../src/lib/http-client/open-socket.ts";
import { createCertificates } from "../support/certificates.ts";
import { findFailures } from "./fixtures/misbehaving-servers.ts";
import { post, readAll, startRawServer, waitUntilReusable } from "./raw-server.ts";

const cleanups: (() => unknown)[] = [];
afterAll(() => {
  for (const cleanUp of cleanups) cleanUp();
});

/** Starts a server that is stopped after the tests. */
function startServer(respond: Parameters<typeof startRawServer>[0]) {
  const server = startRawServer(respond);
  cleanups.push(server.stop);
  return server;
}

const createOkResponse = (...fields: string[]) =>
  ["HTTP/1.1 200 OK", ...fields, "Content-Length: 2", "", "ok"].join("\r\n");

test("a request succeeds without being resent, however the previous response ended", async () => {
  expect(await findFailures(null)).toEqual([]);
});

test("a request over TLS succeeds without being resent, however the previous response ended", async () => {
  const certificates = createCertificates();
  cleanups.push(certificates.remove);
  const { keyFile, certFile } = certificates.create("localhost");
  const program = join(import.meta.dir, "fixtures/misbehaving-servers.ts");
  const child = Bun.spawn([process.execPath, program, keyFile, certFile], {
    env: { ...process.env, NODE_EXTRA_CA_CERTS: certFile },
  });
  expect(JSON.parse(await new Response(child.stdout).text())).toEqual([]);
});

test("an idle connection that receives data or is closed by the server isn't reused", async () => {
  const disturbances: ((socket: Socket) => void)[] = [
    (socket) => void socket.write("HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n"),
    (socket) => void socket.write("\r\n"),
    (socket) => void socket.end(),
    (socket) => void socket.terminate(),
  ];
  for (const disturb of disturbances) {
    const server = startServer((socket) => {
      socket.write(createOkResponse());
      setTimeout(() => disturb(socket), 5);
    });
    let resends = 0;
    for (let n = 0; n < 3; n += 1) {
      const response = await post(server.url, "", {
        onResend: () => {
          resends += 1;
        },
      });
      expect(await readAll(response)).toEqual({ text: "ok", error: null });
      await Bun.sleep(30);
    }
    expect({ ...server, resends }).toMatchObject({ connections: 3, resends: 0 });
    expect(server.requests.length).toBe(3);
  }
});

test("a connection isn't reused after the server's keep-alive timeout", async () => {
  const countConnections = async (keepAlive: string) => {
    const server = startServer((socket) => void socket.write(createOkResponse(`Keep-Alive: ${keepAlive}`)));
    for (let n = 0; n < 3; n += 1) {
      await readAll(await post(server.url));
      await Bun.sleep(5);
    }
    return server.connections;
  };
  // The client stops reusing a connection one second before the server's timeout.
  expect(await countConnections("timeout=1")).toBe(3);
  expect(await countConnections("timeout=0")).toBe(3);
  expect(await countConnections("timeout=5, max=100")).toBe(1);
  expect(await countConnections("max=100")).toBe(1);
});

test("a rejection is read even if the request is still being sent, and the connection is then closed", async () => {
  const endings = {
    end: (socket: Socket) => socket.end(),
    reset: (socket: Socket) => socket.terminate(),
    stay: () => {},
  };
  for (const [name, endConnection] of Object.entries(endings)) {
    const server = startServer((socket, packet) => {
      if (!packet.startsWith("POST ")) return;
      socket.write("HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno");
      endConnection(socket);
    });
    const response = await post(server.url, "x".repeat(20_000_000));
    expect({ name, status: response.status, ...(await readAll(response)) }).toEqual({
      name,
      status: 413,
      text: "no",
      error: null,
    });
    await waitUntilReusable();
    await readAll(await post(server.url));
    expect(server.connections).toBe(2);
  }
});

test.skipIf(process.platform !== "linux")("an idle connection is probed by TCP keep-alive", async () => {
  const server = startServer((socket) => void socket.write(createOkResponse()));
  await readAll(await post(server.url));
  const port = Number(new URL(server.url).port).toString(16).toUpperCase().padStart(4, "0");
  const tables = await Promise.all(["/proc/net/tcp", "/proc/net/tcp6"].map((path) => Bun.file(path).text()));
  const connection = tables
    .join("\n")
    .split("\n")
    .map((line) => line.trim().split(/\s+/))
    .find(([, , remote = "", state]) => remote.endsWith(`:${port}`) && state === "01");
  // The column `tr:tm->when`: 02 is the keep-alive timer, followed by its remaining hundredths of a second in hex.
  const [timer, remaining = ""] = (connection?.[5] ?? "").split(":");
  expect(timer).toBe("02");
  expect(Number.parseInt(remaining, 16) * 10).toBeLessThanOrEqual(PROBE_AFTER_MS);
});

test("a request on a closed connection fails immediately", async () => {
  const server = startServer((socket) => socket.end());
  const connectionClosed = Promise.withResolvers<void>();
  const connection = new HttpConnection(
    { url: new URL(server.url), origin: server.url },
    () => {},
    () => connectionClosed.resolve(),
  );
  const errors: (string | null)[] = [];
  const handlers = () => ({
    onHead: () => {},
    onBody: () => {},
    onClose: (error: Error | null) => void errors.push(error?.message ?? null),
  });
  connection.send(Buffer.from("POST / HTTP/1.1\r\n\r\n"), handlers());
  expect(connection.isIdle).toBe(false);
  expect(() => connection.send(Buffer.from("POST / HTTP/1.1\r\n\r\n"), handlers())).toThrow("in use");
  await connectionClosed.promise;
  await waitUntilReusable();
  expect(errors).toEqual(["connection lost"]);
  connection.send(Buffer.from("POST / HTTP/1.1\r\n\r\n"), handlers());
  expect(errors).toEqual(["connection lost", "the connection is closed"]);
  expect(connection.isIdle).toBe(false);
});
