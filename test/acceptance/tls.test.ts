import { afterAll, afterEach, expect, setDefaultTimeout, test } from "bun:test";
import { chmodSync, copyFileSync } from "node:fs";
import { connect as connectHttp2 } from "node:http2";
import { join } from "node:path";
import { createCertificates, readServedNames } from "../support/certificates.ts";
import { TEST_PASSWORD } from "../support/client.ts";
import { openSocket } from "../support/socket.ts";
import { createSite, type Parley, type Site, TEST_TIMEOUT_MS } from "./site.ts";

setDefaultTimeout(TEST_TIMEOUT_MS);

const certificates = createCertificates();
afterAll(() => certificates.remove());
const first = certificates.create("first.test");
const second = certificates.create("second.test");

const sites: Site[] = [];
afterEach(async () => {
  for (const site of sites.splice(0)) await site.remove();
});

async function openSite(): Promise<Site> {
  const site = await createSite({ env: { HOST: "127.0.0.1" } });
  sites.push(site);
  return site;
}

/** Replaces the site's certificate, as a renewal would. */
function installCertificate(site: Site, { certFile, keyFile }: { certFile: string; keyFile: string }) {
  const files = { TLS_CERT_FILE: join(site.directory, "tls.crt"), TLS_KEY_FILE: join(site.directory, "tls.key") };
  copyFileSync(certFile, files.TLS_CERT_FILE);
  copyFileSync(keyFile, files.TLS_KEY_FILE);
  for (const file of Object.values(files)) chmodSync(file, 0o644);
  return files;
}

const tls = { rejectUnauthorized: false };

/** REST over a self-signed certificate. */
function createClient(parley: Parley) {
  const url = parley.url.replace("http:", "https:");
  const call = (path: string, token?: string, json?: unknown) =>
    fetch(`${url}${path}`, {
      tls,
      method: json === undefined ? "GET" : "POST",
      headers: { "content-type": "application/json", ...(token !== undefined && { authorization: `Bearer ${token}` }) },
      ...(json !== undefined && { body: JSON.stringify(json) }),
    });
  const waitReady = async () => {
    while ((await call("/readyz")).status !== 200) await Bun.sleep(20);
  };
  return { url, port: Number(new URL(url).port), call, waitReady };
}

async function waitForLog(parley: Parley, text: string): Promise<void> {
  const deadlineMs = performance.now() + 10_000;
  while (!parley.readLog().includes(text)) {
    if (performance.now() > deadlineMs) throw new Error(`The log never contained "${text}": ${parley.readLog()}`);
    await Bun.sleep(10);
  }
}

test("serves https and wss on one port; SIGHUP loads a new certificate, and an open socket stays", async () => {
  const site = await openSite();
  const parley = await site.start({ env: installCertificate(site, first), until: "listening" });
  const { url, port, call, waitReady } = createClient(parley);
  await waitReady();
  expect(await readServedNames(port)).toEqual(["first.test"]);
  expect((await call("/version")).headers.get("strict-transport-security")).toMatch(/^max-age=\d{8}/);
  expect(await site.run(["healthcheck"], { ...installCertificate(site, first), PORT: String(port) })).toMatchObject({
    code: 0,
  });
  await expect(fetch(`http://127.0.0.1:${port}/livez`)).rejects.toThrow();

  const json = { email: "anna@example.com", password: TEST_PASSWORD };
  const { access_token } = (await (await call("/api/v1/auth/register", undefined, json)).json()) as {
    access_token: string;
  };
  const conversation = (await (await call("/api/v1/conversations", access_token, {})).json()) as { id: string };
  const subscribe = { type: "subscribe", id: "s", conversation_id: conversation.id };
  const early = await openSocket(url, { token: access_token, tls });
  early.send(subscribe);
  await early.waitFor(({ id }) => id === "s");

  installCertificate(site, second);
  process.kill(parley.pid, "SIGHUP");
  await waitForLog(parley, '"names":"CN=second.test"');
  expect(await readServedNames(port)).toEqual(["second.test"]);
  const late = await openSocket(url, { token: access_token, tls });
  late.send(subscribe);
  await late.waitFor(({ id }) => id === "s");
  await call(`/api/v1/conversations/${conversation.id}/messages`, access_token, { content: "to both", reply: false });
  for (const socket of [early, late]) {
    const { data } = await socket.waitFor(({ type }) => type === "message.created");
    expect(data?.content).toBe("to both");
    socket.send({ type: "ping", id: "p" });
    await socket.waitFor(({ type }) => type === "pong");
  }

  // An incomplete renewal: the key doesn't match the certificate.
  installCertificate(site, { certFile: first.certFile, keyFile: second.keyFile });
  process.kill(parley.pid, "SIGHUP");
  await waitForLog(parley, "the new certificate can't be used; keeping the current one");
  expect(await readServedNames(port)).toEqual(["second.test"]);

  const { code, tookMs } = await parley.stop();
  expect(code).toBe(0);
  expect(tookMs).toBeLessThan(5_000);
});

/** The cipher that openssl negotiates when it offers only this; null if none. */
async function negotiate(port: number, ...offer: string[]): Promise<string | null> {
  const child = Bun.spawn(["openssl", "s_client", "-connect", `127.0.0.1:${port}`, ...offer], {
    stdio: ["ignore", "pipe", "ignore"],
    timeout: 10_000,
  });
  const text = await new Response(child.stdout).text();
  await child.exited;
  const agreed = /^New, .*, Cipher is (\S+)$/m.exec(text)?.[1];
  return agreed === undefined || agreed === "(NONE)" ? null : agreed;
}

/** Every TLS 1.2 cipher that openssl knows, including weak ones. */
function listCiphers(): string[] {
  const { stdout } = Bun.spawnSync(["openssl", "ciphers", "-s", "-tls1_2", "ALL:COMPLEMENTOFALL:@SECLEVEL=0"]);
  return String(stdout).trim().split(":");
}

test.each([
  ["ec", "ECDHE-ECDSA", "on"],
  ["rsa", "ECDHE-RSA", "off"],
] as const)(
  "of TLS 1.2, only ECDHE with AEAD is supported, and nothing older (%s)",
  async (algorithm, exchange, http2Cipher) => {
    const site = await openSite();
    const certificate = certificates.create(`${algorithm}.test`, { algorithm });
    const parley = await site.start({
      env: { ...installCertificate(site, certificate), http2Cipher },
      until: "listening",
    });
    const { port, waitReady } = createClient(parley);
    await waitReady();
    const allowed = ["AES128-GCM-SHA256", "AES256-GCM-SHA384", "CHACHA20-POLY1305"].map(
      (name) => `${exchange}-${name}`,
    );
    const known = listCiphers();
    for (const name of [
      ...allowed,
      "AES128-SHA",
      "AES128-GCM-SHA256",
      `${exchange}-AES128-SHA`,
      `${exchange}-AES256-SHA384`,
    ])
      expect(known).toContain(name);
    const listSupported = async () => {
      const supported: string[] = [];
      const left = new Set(known);
      // The server picks one; the next offer omits it.
      for (;;) {
        const name = await negotiate(port, "-tls1_2", "-cipher", `${[...left].join(":")}:@SECLEVEL=0`);
        if (name === null || !left.delete(name)) return supported.sort();
        supported.push(name);
      }
    };
    expect(await listSupported()).toEqual(allowed);
    for (const version of ["-tls1", "-tls1_1"])
      expect(await negotiate(port, version, "-cipher", "ALL:@SECLEVEL=0")).toBeNull();
    for (const name of ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"])
      expect(await negotiate(port, "-tls1_3", "-ciphersuites", name)).toBe(name);

    // A renewed certificate has the same ciphers.
    installCertificate(site, certificates.create(`renewed-${algorithm}.test`, { algorithm }));
    process.kill(parley.pid, "SIGHUP");
    await waitForLog(parley, `"names":"CN=renewed-${algorithm}.test"`);
    expect(await listSupported()).toEqual(allowed);
    expect((await parley.stop()).code).toBe(0);
  },
);

test("serves HTTP/2 to clients that support it", async () => {
  const site = await openSite();
  const parley = await site.start({ env: installCertificate(site, first), until: "listening" });
  const { url, waitReady } = createClient(parley);
  await waitReady();
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
  const parley = await (await openSite()).start();
  process.kill(parley.pid, "SIGHUP");
  await waitForLog(parley, "no certificate to reload");
  expect((await parley.fetch("/readyz")).status).toBe(200);
  expect((await parley.stop()).code).toBe(0);
});

test("a key that doesn't match the certificate stops the start", async () => {
  const site = await openSite();
  const env = installCertificate(site, { certFile: first.certFile, keyFile: second.keyFile });
  for (const args of [["config", "check"], ["serve"]])
    expect(await site.run(args, env)).toEqual({
      code: 2,
      output: "",
      errors:
        "TLS_CERT_FILE and TLS_KEY_FILE: the key does not belong to the certificate; set both to a matching pair.\n",
    });
});
