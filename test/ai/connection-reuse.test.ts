import { afterAll, expect, test } from "bun:test";
import { join } from "node:path";
import type { Socket } from "bun";
import { HttpConnection } from "../../src/lib/http-client/connection.ts";
import { PROBE_AFTER_MS } from "../../src/lib/http-client/open-socket.ts";
import { createCertificates } from "../support/certificates.ts";
import { runAllCases } from "./fixtures/misbehaving-servers.ts";
import { ask, readAll, serveBytes, untilReusable } from "./raw-server.ts";

const stops: (() => unknown)[] = [];
afterAll(() => {
  for (const stop of stops) stop();
});

function serve(answer: Parameters<typeof serveBytes>[0]) {
  const server = serveBytes(answer);
  stops.push(server.stop);
  return server;
}

const ok = (...fields: string[]) => ["HTTP/1.1 200 OK", ...fields, "Content-Length: 2", "", "ok"].join("\r\n");

test("however an answer ends and its reader leaves it, the next request is sent once and answered", async () => {
  expect(await runAllCases(null)).toEqual([]);
});

test("the same over TLS", async () => {
  const certificates = createCertificates();
  stops.push(certificates.remove);
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
    const server = serve((socket) => {
      socket.write(ok());
      setTimeout(() => disturb(socket), 5);
    });
    let repeats = 0;
    for (let n = 0; n < 3; n += 1) {
      const response = await ask(server.url, "", {
        onRepeat: () => {
          repeats += 1;
        },
      });
      expect(await readAll(response)).toEqual({ text: "ok", error: null });
      await Bun.sleep(30);
    }
    expect({ ...server, repeats }).toMatchObject({ connections: 3, repeats: 0 });
    expect(server.requests.length).toBe(3);
  }
});

test("a connection isn't reused after the server's keep-alive timeout", async () => {
  const countConnections = async (keepAlive: string) => {
    const server = serve((socket) => void socket.write(ok(`Keep-Alive: ${keepAlive}`)));
    for (let n = 0; n < 3; n += 1) {
      await readAll(await ask(server.url));
      await Bun.sleep(5);
    }
    return server.connections;
  };
  // One second is reserved for the response in flight.
  expect(await countConnections("timeout=1")).toBe(3);
  expect(await countConnections("timeout=0")).toBe(3);
  expect(await countConnections("timeout=5, max=100")).toBe(1);
  expect(await countConnections("max=100")).toBe(1);
});

test("a rejection received while the request is being sent is read, and the connection closed", async () => {
  const leave = {
    end: (socket: Socket) => socket.end(),
    reset: (socket: Socket) => socket.terminate(),
    stay: () => {},
  };
  for (const [name, then] of Object.entries(leave)) {
    const server = serve((socket, packet) => {
      if (!packet.startsWith("POST ")) return;
      socket.write("HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno");
      then(socket);
    });
    const response = await ask(server.url, "x".repeat(20_000_000));
    expect({ name, status: response.status, ...(await readAll(response)) }).toEqual({
      name,
      status: 413,
      text: "no",
      error: null,
    });
    await untilReusable();
    await readAll(await ask(server.url));
    expect(server.connections).toBe(2);
  }
});

test.skipIf(process.platform !== "linux")("TCP keep-alive probes a silent connection", async () => {
  const server = serve((socket) => void socket.write(ok()));
  await readAll(await ask(server.url));
  const port = Number(new URL(server.url).port).toString(16).toUpperCase().padStart(4, "0");
  const tables = await Promise.all(["/proc/net/tcp", "/proc/net/tcp6"].map((path) => Bun.file(path).text()));
  const ours = tables
    .join("\n")
    .split("\n")
    .map((line) => line.trim().split(/\s+/))
    .find(([, , remote = "", state]) => remote.endsWith(`:${port}`) && state === "01");
  // The fifth column is a timer: 02 is the keep-alive timer, with the remaining hundredths of a second.
  const [kind, left = ""] = (ours?.[5] ?? "").split(":");
  expect(kind).toBe("02");
  expect(Number.parseInt(left, 16) * 10).toBeLessThanOrEqual(PROBE_AFTER_MS);
});

test("a request on a closed connection fails immediately", async () => {
  const server = serve((socket) => socket.end());
  const gone = Promise.withResolvers<void>();
  const connection = new HttpConnection(
    { url: new URL(server.url), origin: server.url },
    () => {},
    () => gone.resolve(),
  );
  const ends: (string | null)[] = [];
  const handlers = () => ({
    onHead: () => {},
    onBody: () => {},
    onClose: (error: Error | null) => void ends.push(error?.message ?? null),
  });
  connection.send(Buffer.from("POST / HTTP/1.1\r\n\r\n"), handlers());
  expect(connection.isIdle).toBe(false);
  expect(() => connection.send(Buffer.from("POST / HTTP/1.1\r\n\r\n"), handlers())).toThrow("in use");
  await gone.promise;
  await untilReusable();
  expect(ends).toEqual(["connection lost"]);
  connection.send(Buffer.from("POST / HTTP/1.1\r\n\r\n"), handlers());
  expect(ends).toEqual(["connection lost", "the connection is closed"]);
  expect(connection.isIdle).toBe(false);
});
