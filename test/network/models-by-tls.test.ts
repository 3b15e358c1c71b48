import { afterAll, expect, test } from "bun:test";
import { join } from "node:path";
import { createCertificates } from "../support/certificates.ts";
import { startHttpProxy } from "../support/http-proxy.ts";

const certificates = createCertificates();
afterAll(certificates.remove);

/** Runs the proxy tests in another process, because the runtime reads CA certificates only at startup. */
async function runProxyTests(caFile: string, files: Record<string, string>) {
  const child = Bun.spawn(
    [
      process.execPath,
      "test",
      "--timeout=30000",
      "-t",
      "tunnel with TLS",
      join(import.meta.dir, "models-by-proxy.test.ts"),
    ],
    { env: { ...process.env, NODE_EXTRA_CA_CERTS: caFile, ...files }, stdout: "ignore", stderr: "pipe" },
  );
  const [output, code] = await Promise.all([new Response(child.stderr).text(), child.exited]);
  return { code, output, passedCount: Number(/^ *(\d+) pass$/m.exec(output)?.[1]) };
}

test("models with TLS behave the same through a proxy", async () => {
  const authority = certificates.create("Test CA", { extensions: "authority" });
  const names = ["*.models.test"];
  const { certFile, keyFile } = certificates.create("models", { issuer: authority, extensions: "local", names });
  const { code, output, passedCount } = await runProxyTests(authority.certFile, {
    TEST_TLS_CERT: certFile,
    TEST_TLS_KEY: keyFile,
  });
  expect({ code, output }).toEqual({ code: 0, output: expect.any(String) });
  expect(passedCount).toBeGreaterThan(35);
});

test("a certificate for a different name or from an unknown CA is rejected even in a tunnel", async () => {
  const authority = certificates.create("Test CA", { extensions: "authority" });
  const otherAuthority = certificates.create("Other CA", { extensions: "authority" });
  const names = ["models.test"];
  const certificate = certificates.create("models", { issuer: authority, extensions: "local", names });
  const proxy = await startHttpProxy();
  let requestCount = 0;
  const server = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    tls: { cert: certificate.cert, key: certificate.key },
    fetch() {
      requestCount += 1;
      return new Response("welcome");
    },
  });
  const fetchThroughProxy = async (host: string, { certFile }: { certFile: string }): Promise<string> => {
    const program = join(import.meta.dir, "fixtures/request.ts");
    const child = Bun.spawn([process.execPath, program, `https://${host}:${server.port}/`, proxy.url], {
      env: { PATH: process.env.PATH, NODE_EXTRA_CA_CERTS: certFile },
    });
    const [output] = await Promise.all([new Response(child.stdout).text(), child.exited]);
    return output.trim();
  };
  expect(await fetchThroughProxy("models.test", authority)).toBe("welcome");
  expect(requestCount).toBe(1);
  expect(await fetchThroughProxy("elsewhere.test", authority)).toContain("the certificate is not trusted: ");
  expect(await fetchThroughProxy("models.test", otherAuthority)).toEndWith(
    "set NODE_EXTRA_CA_CERTS to a file with that CA's certificate",
  );
  expect(requestCount).toBe(1);
  expect(proxy.requests.length).toBe(3);
  await server.stop(true);
  await proxy.stop();
});
