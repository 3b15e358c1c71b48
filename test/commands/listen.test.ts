import { afterAll, afterEach, describe, expect, setDefaultTimeout, test } from "bun:test";
import { connect as connectHttp2 } from "node:http2";
import { Elysia } from "elysia";
import pino from "pino";
import { CommandError } from "../../src/commands/command.ts";
import { listen, type PortListener } from "../../src/commands/listen.ts";
import { logCertificate, reloadTls } from "../../src/commands/tls.ts";
import { loadConfig } from "../../src/config.ts";
import { createMetrics } from "../../src/lib/metrics.ts";
import { createCertificates, fetchCertificateNames } from "../support/certificates.ts";
import { findFreePort } from "./run-parley.ts";

setDefaultTimeout(20_000);

const certificates = createCertificates();
afterAll(() => certificates.remove());
const firstCertificate = certificates.create("first.test");
const secondCertificate = certificates.create("second.test", { issuer: firstCertificate });

const listeners: PortListener[] = [];
afterEach(async () => {
  for (const listener of listeners.splice(0)) await listener.stop(true);
});

const TICK_MS = 50;

function createLogCollector() {
  const collected: string[] = [];
  const log = pino(
    { formatters: { level: (level) => ({ level }) } },
    { write: (line: string) => void collected.push(line) },
  );
  return { log, parseLines: () => collected.map((line) => JSON.parse(line) as Record<string, unknown>) };
}

/**
 * Starts a server with WebSocket, streaming and slow routes. Tests use them to check that existing connections survive a
 * certificate change.
 */
function startServer(
  env: Record<string, string> = {},
  tls: { cert: string; key: string } | undefined = firstCertificate,
) {
  const config = loadConfig({ HOST: "127.0.0.1", PORT: "0", ...env }, () => "");
  const app = new Elysia()
    .get("/", () => "hello")
    .get("/slow", async () => {
      await Bun.sleep(10 * TICK_MS);
      return "slow response";
    })
    .get("/stream", async function* () {
      for (let i = 0; i < 10; i += 1) {
        await Bun.sleep(TICK_MS);
        yield `${i} `;
      }
    })
    .get("/socket", ({ request, server }) => {
      (server as { upgrade(request: Request, options: object): boolean } | null)?.upgrade(request, { data: {} });
    });
  const websocket = {
    open: (socket: Bun.ServerWebSocket<unknown>) => socket.subscribe("all"),
    message: (socket: Bun.ServerWebSocket<unknown>, text: string) => void socket.send(`echo ${text}`),
  };
  const listener = listen({ app, websocket } as unknown as Parameters<typeof listen>[0], config, tls);
  listeners.push(listener);
  return { listener, app, url: `https://127.0.0.1:${listener.port}` };
}

const clientTls = { rejectUnauthorized: false };
const fetchText = async (url: string) => (await fetch(url, { tls: clientTls, keepalive: false })).text();

async function openSocket(url: string) {
  const socket = new WebSocket(`${url.replace("http", "ws")}/socket`, { tls: clientTls } as unknown as string[]);
  const received: string[] = [];
  let closeCode: number | undefined;
  socket.onmessage = ({ data }) => received.push(String(data));
  socket.onclose = ({ code }) => {
    closeCode = code;
  };
  await new Promise((resolve, reject) => {
    socket.onopen = resolve;
    socket.onerror = reject;
  });
  const waitForMessage = async (text: string) => {
    while (!received.includes(text) && closeCode === undefined) await Bun.sleep(5);
    expect(received).toContain(text);
  };
  return { socket, waitForMessage, isOpen: () => closeCode === undefined };
}

describe("a new certificate", () => {
  test("is used for new connections, and existing connections stay open", async () => {
    const { listener, url } = startServer();
    expect(await fetchCertificateNames(listener.port)).toEqual(["first.test"]);
    const oldSocket = await openSocket(url);
    const slowResponse = fetchText(`${url}/slow`);
    const streamedText = fetchText(`${url}/stream`);
    await Bun.sleep(2 * TICK_MS);

    listener.useTls({ cert: secondCertificate.cert + firstCertificate.cert, key: secondCertificate.key });
    for (let i = 0; i < 5; i += 1)
      expect(await fetchCertificateNames(listener.port)).toEqual(["second.test", "first.test"]);
    const newSocket = await openSocket(url);
    listener.publish("all", "to everyone");
    for (const { socket, waitForMessage } of [oldSocket, newSocket]) {
      await waitForMessage("to everyone");
      socket.send("1");
      await waitForMessage("echo 1");
    }
    expect(await slowResponse).toBe("slow response");
    expect(await streamedText).toBe("0 1 2 3 4 5 6 7 8 9 ");
    expect(oldSocket.isOpen()).toBe(true);
  });

  test("can be replaced repeatedly without leaking listeners", async () => {
    const { listener, url } = startServer();
    const oldSocket = await openSocket(url);
    const listenersBefore = process.listenerCount("beforeExit");
    for (let i = 0; i < 6; i += 1) listener.useTls(i % 2 === 0 ? secondCertificate : firstCertificate);
    expect(await fetchCertificateNames(listener.port)).toEqual(["first.test"]);
    expect(process.listenerCount("beforeExit")).toBe(listenersBefore);
    listener.publish("all", "once");
    await oldSocket.waitForMessage("once");
  });

  test("is ignored if it is invalid", async () => {
    const { listener, url } = startServer();
    const oldSocket = await openSocket(url);
    expect(() => listener.useTls({ cert: secondCertificate.cert, key: firstCertificate.key })).toThrow(CommandError);
    expect(() => listener.useTls({ cert: "", key: "" })).toThrow(CommandError);
    expect(await fetchCertificateNames(listener.port)).toEqual(["first.test"]);
    expect(await fetchText(url)).toBe("hello");
    expect(oldSocket.isOpen()).toBe(true);
  });

  test("doesn't prevent a shutdown from closing older connections", async () => {
    const { listener, url } = startServer();
    const oldSocket = await openSocket(url);
    listener.useTls(secondCertificate);
    const newSocket = await openSocket(url);
    await listener.stop(true);
    while (oldSocket.isOpen() || newSocket.isOpen()) await Bun.sleep(5);
    await expect(fetchCertificateNames(listener.port)).rejects.toThrow();
  });
});

describe("a running server", () => {
  const metrics = createMetrics({ version: "test", commit: "test" });
  const readExpiry = async () =>
    Number(/^parley_tls_certificate_expiry_timestamp_seconds (\d+)$/m.exec(await metrics.registry.metrics())?.[1]);

  test("reloads its certificate and logs it, but keeps the current one and logs an error if the new one is invalid", async () => {
    const { listener } = startServer();
    const { log, parseLines } = createLogCollector();
    const [certFile, keyFile] = [certificates.getPath("live.crt"), certificates.getPath("live.key")];
    await Bun.write(certFile, secondCertificate.cert);
    await Bun.write(keyFile, secondCertificate.key);
    const config = loadConfig(
      { TLS_CERT_FILE: firstCertificate.certFile, TLS_KEY_FILE: firstCertificate.keyFile },
      (path) => (path === firstCertificate.certFile ? firstCertificate.cert : firstCertificate.key),
    );
    const deps = { config: { ...config, TLS_CERT_FILE: certFile, TLS_KEY_FILE: keyFile }, listener, log, metrics };
    reloadTls(deps);
    expect(await fetchCertificateNames(listener.port)).toEqual(["second.test"]);
    expect(parseLines().at(-1)).toMatchObject({ level: "info", names: "CN=second.test" });

    // An incomplete renewal has replaced only the certificate, so the key doesn't match it.
    await Bun.write(certFile, firstCertificate.cert);
    reloadTls(deps);
    expect(await fetchCertificateNames(listener.port)).toEqual(["second.test"]);
    expect(parseLines().at(-1)).toMatchObject({
      level: "error",
      reason:
        "TLS_CERT_FILE and TLS_KEY_FILE: the key does not belong to the certificate; set both to a matching pair.",
      msg: "the new certificate can't be used; keeping the current one",
    });
    reloadTls({ ...deps, config: { ...deps.config, TLS_KEY_FILE: "/no/such/file" } });
    expect(parseLines().at(-1)).toMatchObject({
      level: "error",
      reason: "TLS_KEY_FILE: the file /no/such/file can't be read.",
    });
    expect(await fetchCertificateNames(listener.port)).toEqual(["second.test"]);
  });

  test.each([
    { days: -1, level: "warn", msg: "the certificate has expired; clients will reject it" },
    { days: 13, level: "warn", msg: "the certificate expires soon" },
    { days: 15, level: "info", msg: "serving this certificate" },
  ])("logs a certificate that expires in $days days: $msg", async ({ days, level, msg }) => {
    const { log, parseLines } = createLogCollector();
    logCertificate(certificates.create("aging.test", { days }), log, metrics);
    expect(parseLines()).toMatchObject([{ level, msg }]);
    expect(Math.round((await readExpiry()) - Date.now() / 1_000 - days * 86_400)).toBeWithin(-60, 60);
  });

  test("exposes no expiry metric without TLS", async () => {
    const { registry } = createMetrics({ version: "test", commit: "test" });
    expect(await registry.metrics()).not.toMatch(/^parley_tls_certificate_expiry_timestamp_seconds /m);
  });
});

describe("a port with TLS", () => {
  test("can't be shared with a second Parley, although it is opened with SO_REUSEPORT", () => {
    const port = String(findFreePort());
    startServer({ PORT: port });
    expect(() => startServer({ PORT: port })).toThrow(`Port ${port} on 127.0.0.1 is in use`);
    expect(() => startServer({ PORT: port }, undefined)).toThrow(`Port ${port} on 127.0.0.1 is in use`);
  });

  test("can't be opened while a Parley without TLS uses it", () => {
    const port = String(findFreePort());
    startServer({ PORT: port }, undefined);
    expect(() => startServer({ PORT: port })).toThrow(`Port ${port} on 127.0.0.1 is in use`);
  });

  test("closes plain HTTP connections, and keeps running", async () => {
    const { listener, url } = startServer();
    const httpRequest = fetch(`http://127.0.0.1:${listener.port}/`).then(
      ({ status }) => status,
      () => "closed",
    );
    expect(await httpRequest).toBe("closed");
    expect(await fetchText(url)).toBe("hello");
  });

  test.each([
    ["-tls1_1", false],
    ["-tls1_2", true],
    ["-tls1_3", true],
  ])("accepts TLS connections with %s: %p", async (version, isAccepted) => {
    const { listener } = startServer();
    const child = Bun.spawn(
      ["openssl", "s_client", version, "-cipher", "ALL:@SECLEVEL=0", "-connect", `127.0.0.1:${listener.port}`],
      { stdin: "ignore", stdout: "pipe", stderr: "ignore" },
    );
    expect((await new Response(child.stdout).text()).includes("subject=CN = first.test")).toBe(isAccepted);
  });

  test.each([
    ["on", "h2"],
    ["off", "http/1.1"],
  ])("and HTTP2=%s negotiates %s with clients that support HTTP/1.1 and HTTP/2", async (setting, expected) => {
    const { url } = startServer({ HTTP2: setting });
    const session = connectHttp2(url, { rejectUnauthorized: false });
    const protocol = await new Promise((resolve) => {
      session.on("connect", () => resolve(session.alpnProtocol));
      session.on("error", () => resolve("http/1.1"));
    });
    expect(protocol).toBe(expected);
    if (protocol === "h2") {
      const stream = session.request({ ":path": "/" });
      let body = "";
      for await (const chunk of stream) body += chunk;
      expect(body).toBe("hello");
    }
    session.destroy();
    // HTTP/1.1 and WebSocket clients can always connect.
    expect(await fetchText(url)).toBe("hello");
    const socket = await openSocket(url);
    expect(socket.isOpen()).toBe(true);
  });
});
