import { afterAll, afterEach, expect, setDefaultTimeout, test } from "bun:test";
import { chmodSync, copyFileSync } from "node:fs";
import { connect as connectHttp2 } from "node:http2";
import { join } from "node:path";
import { createCertificates, fetchCertificateNames } from "../support/certificates.ts";
import { TEST_PASSWORD } from "../support/client.ts";
import { openSocket } from "../support/socket.ts";
import { createInstallation, type Installation, type Parley, TEST_TIMEOUT_MS } from "./installation.ts";

setDefaultTimeout(TEST_TIMEOUT_MS);

const certificates = createCertificates();
afterAll(() => certificates.remove());
const firstCertificate = certificates.create("first.test");
const secondCertificate = certificates.create("second.test");

const installations: Installation[] = [];
afterEach(async () => {
  for (const installation of installations.splice(0)) await installation.remove();
});

async function createTestInstallation(): Promise<Installation> {
  const installation = await createInstallation({ env: { HOST: "127.0.0.1" } });
  installations.push(installation);
  return installation;
}

/** Replaces the installation's certificate, as a renewal would. Returns its settings. */
function installCertificate(installation: Installation, { certFile, keyFile }: { certFile: string; keyFile: string }) {
  const files = {
    TLS_CERT_FILE: join(installation.directory, "tls.crt"),
    TLS_KEY_FILE: join(installation.directory, "tls.key"),
  };
  copyFileSync(certFile, files.TLS_CERT_FILE);
  copyFileSync(keyFile, files.TLS_KEY_FILE);
  for (const file of Object.values(files)) chmodSync(file, 0o644);
  return files;
}

const tls = { rejectUnauthorized: false };

/** Creates a REST client that accepts self-signed certificates. */
function createClient(parley: Parley) {
  const url = parley.url.replace("http:", "https:");
  const request = (path: string, token?: string, json?: unknown) =>
    fetch(`${url}${path}`, {
      tls,
      method: json === undefined ? "GET" : "POST",
      headers: { "content-type": "application/json", ...(token !== undefined && { authorization: `Bearer ${token}` }) },
      ...(json !== undefined && { body: JSON.stringify(json) }),
    });
  const waitUntilReady = async () => {
    while ((await request("/readyz")).status !== 200) await Bun.sleep(20);
  };
  return { url, port: Number(new URL(url).port), fetchPath: request, waitUntilReady };
}

async function waitForLog(parley: Parley, text: string): Promise<void> {
  const deadlineMs = performance.now() + 10_000;
  while (!parley.readLog().includes(text)) {
    if (performance.now() > deadlineMs) throw new Error(`The log never contained "${text}": ${parley.readLog()}`);
    await Bun.sleep(10);
  }
}

test("Parley serves https and wss on one port, and SIGHUP reloads the certificate without closing sockets", async () => {
  const installation = await createTestInstallation();
  const parley = await installation.start({
    env: installCertificate(installation, firstCertificate),
    until: "listening",
  });
  const { url, port, fetchPath, waitUntilReady } = createClient(parley);
  await waitUntilReady();
  expect(await fetchCertificateNames(port)).toEqual(["first.test"]);
  expect((await fetchPath("/version")).headers.get("strict-transport-security")).toMatch(/^max-age=\d{8}/);
  expect(
    await installation.run(["healthcheck"], {
      ...installCertificate(installation, firstCertificate),
      PORT: String(port),
    }),
  ).toMatchObject({
    code: 0,
  });
  await expect(fetch(`http://127.0.0.1:${port}/livez`)).rejects.toThrow();

  const json = { email: "anna@example.com", password: TEST_PASSWORD };
  const { access_token } = (await (await fetchPath("/api/v1/auth/register", undefined, json)).json()) as {
    access_token: string;
  };
  const conversation = (await (await fetchPath("/api/v1/conversations", access_token, {})).json()) as { id: string };
  const subscribe = { type: "subscribe", id: "s", conversation_id: conversation.id };
  const oldSocket = await openSocket(url, { token: access_token, tls });
  oldSocket.send(subscribe);
  await oldSocket.waitFor(({ id }) => id === "s");

  installCertificate(installation, secondCertificate);
  process.kill(parley.pid, "SIGHUP");
  await waitForLog(parley, '"names":"CN=second.test"');
  expect(await fetchCertificateNames(port)).toEqual(["second.test"]);
  const newSocket = await openSocket(url, { token: access_token, tls });
  newSocket.send(subscribe);
  await newSocket.waitFor(({ id }) => id === "s");
  await fetchPath(`/api/v1/conversations/${conversation.id}/messages`, access_token, {
    content: "to both",
    reply: false,
  });
  for (const socket of [oldSocket, newSocket]) {
    const { data } = await socket.waitFor(({ type }) => type === "message.created");
    expect(data?.content).toBe("to both");
    socket.send({ type: "ping", id: "p" });
    await socket.waitFor(({ type }) => type === "pong");
  }

  // An incomplete renewal has replaced only the certificate, so the key doesn't match it.
  installCertificate(installation, { certFile: firstCertificate.certFile, keyFile: secondCertificate.keyFile });
  process.kill(parley.pid, "SIGHUP");
  await waitForLog(parley, "the new certificate can't be used; keeping the current one");
  expect(await fetchCertificateNames(port)).toEqual(["second.test"]);

  const { code, durationMs } = await parley.stop();
  expect(code).toBe(0);
  expect(durationMs).toBeLessThan(5_000);
});

/** Returns the cipher that openssl negotiates with these options, or null if the handshake fails. */
async function negotiateCipher(port: number, ...offer: string[]): Promise<string | null> {
  const child = Bun.spawn(["openssl", "s_client", "-connect", `127.0.0.1:${port}`, ...offer], {
    stdio: ["ignore", "pipe", "ignore"],
    timeout: 10_000,
  });
  const text = await new Response(child.stdout).text();
  await child.exited;
  const cipher = /^New, .*, Cipher is (\S+)$/m.exec(text)?.[1];
  return cipher === undefined || cipher === "(NONE)" ? null : cipher;
}

/** Lists all TLS 1.2 ciphers that openssl supports, including weak ones. */
function listCiphers(): string[] {
  const { stdout } = Bun.spawnSync(["openssl", "ciphers", "-s", "-tls1_2", "ALL:COMPLEMENTOFALL:@SECLEVEL=0"]);
  return String(stdout).trim().split(":");
}

test.each([
  ["ec", "ECDHE-ECDSA", "on"],
  ["rsa", "ECDHE-RSA", "off"],
] as const)(
  "with TLS 1.2, only ECDHE ciphers with AEAD are accepted, and older versions are rejected (%s)",
  async (algorithm, keyExchange, http2) => {
    const installation = await createTestInstallation();
    const certificate = certificates.create(`${algorithm}.test`, { algorithm });
    const parley = await installation.start({
      env: { ...installCertificate(installation, certificate), HTTP2: http2 },
      until: "listening",
    });
    const { port, waitUntilReady } = createClient(parley);
    await waitUntilReady();
    const expectedCiphers = ["AES128-GCM-SHA256", "AES256-GCM-SHA384", "CHACHA20-POLY1305"].map(
      (name) => `${keyExchange}-${name}`,
    );
    const knownCiphers = listCiphers();
    for (const name of [
      ...expectedCiphers,
      "AES128-SHA",
      "AES128-GCM-SHA256",
      `${keyExchange}-AES128-SHA`,
      `${keyExchange}-AES256-SHA384`,
    ])
      expect(knownCiphers).toContain(name);
    const listSupportedCiphers = async () => {
      const supportedCiphers: string[] = [];
      const remainingCiphers = new Set(knownCiphers);
      // Each handshake omits the ciphers that the server has already picked.
      for (;;) {
        const name = await negotiateCipher(
          port,
          "-tls1_2",
          "-cipher",
          `${[...remainingCiphers].join(":")}:@SECLEVEL=0`,
        );
        if (name === null || !remainingCiphers.delete(name)) return supportedCiphers.sort();
        supportedCiphers.push(name);
      }
    };
    expect(await listSupportedCiphers()).toEqual(expectedCiphers);
    for (const version of ["-tls1", "-tls1_1"])
      expect(await negotiateCipher(port, version, "-cipher", "ALL:@SECLEVEL=0")).toBeNull();
    for (const name of ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"])
      expect(await negotiateCipher(port, "-tls1_3", "-ciphersuites", name)).toBe(name);

    // Renewing the certificate doesn't change the ciphers.
    installCertificate(installation, certificates.create(`renewed-${algorithm}.test`, { algorithm }));
    process.kill(parley.pid, "SIGHUP");
    await waitForLog(parley, `"names":"CN=renewed-${algorithm}.test"`);
    expect(await listSupportedCiphers()).toEqual(expectedCiphers);
    expect((await parley.stop()).code).toBe(0);
  },
);

test("Parley serves HTTP/2 to clients that support it", async () => {
  const installation = await createTestInstallation();
  const parley = await installation.start({
    env: installCertificate(installation, firstCertificate),
    until: "listening",
  });
  const { url, waitUntilReady } = createClient(parley);
  await waitUntilReady();
  const session = connectHttp2(url, tls);
  const stream = session.request({ ":path": "/api/v1/me", authorization: "Bearer no.good.token" });
  const headers = await new Promise<Record<string, unknown>>((resolve) => stream.on("response", resolve));
  let body = "";
  for await (const chunk of stream) body += chunk;
  expect(session.alpnProtocol).toBe("h2");
  expect(headers).toMatchObject({ ":status": 401, "content-type": "application/problem+json" });
  expect(JSON.parse(body)).toMatchObject({ code: "unauthorized" });
  session.destroy();
  expect((await parley.stop()).code).toBe(0);
});

test("without TLS, SIGHUP has no effect", async () => {
  const parley = await (await createTestInstallation()).start();
  process.kill(parley.pid, "SIGHUP");
  await waitForLog(parley, "no certificate to reload");
  expect((await parley.fetch("/readyz")).status).toBe(200);
  expect((await parley.stop()).code).toBe(0);
});

test("Parley doesn't start if the key doesn't match the certificate", async () => {
  const installation = await createTestInstallation();
  const env = installCertificate(installation, {
    certFile: firstCertificate.certFile,
    keyFile: secondCertificate.keyFile,
  });
  for (const args of [["config", "check"], ["serve"]])
    expect(await installation.run(args, env)).toEqual({
      code: 2,
      stdout: "",
      stderr:
        "TLS_CERT_FILE and TLS_KEY_FILE: the key does not belong to the certificate; set both to a matching pair.\n",
    });
});
