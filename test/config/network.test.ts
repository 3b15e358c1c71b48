import { expect, test } from "bun:test";
import { removeRuntimeProxies, setRuntimeProxies } from "../../src/commands/runtime-proxies.ts";
import { findWarnings } from "../../src/config/warnings.ts";
import { ConfigError, formatConfig, listSecrets, loadConfig } from "../../src/config.ts";
import { createS3Store } from "../../src/modules/backups/s3-store.ts";
import { startFakeS3 } from "../support/fake-s3.ts";
import { startHttpProxy } from "../support/http-proxy.ts";

const loadTestConfig = (environment: Record<string, string>) => loadConfig(environment, () => "");

function findProblems(environment: Record<string, string>): string[] {
  try {
    loadTestConfig(environment);
    return [];
  } catch (error) {
    if (error instanceof ConfigError) return error.problems;
    throw error;
  }
}

test.each([
  ["http://proxy.test", "http://proxy.test"],
  ["http://user:pa%2Fss@proxy.test:3128/", "http://user:pa%2Fss@proxy.test:3128/"],
  ["HTTP://proxy.test:3128", "HTTP://proxy.test:3128"],
  ["http://[2001:db8::1]:3128", "http://[2001:db8::1]:3128"],
  // Like other programs, Parley accepts a proxy without a scheme.
  ["proxy.test:3128", "http://proxy.test:3128"],
  ["user:pass@proxy.test", "http://user:pass@proxy.test"],
])("%s is a valid proxy setting", (value, expected) => {
  for (const name of ["HTTPS_PROXY", "HTTP_PROXY", "https_proxy", "http_proxy"])
    expect(loadTestConfig({ [name]: value })[name.toUpperCase() as "HTTP_PROXY"]).toBe(expected);
});

test.each([
  ["socks5://user:hunter2@proxy.test", "SOCKS proxies are not supported; use an HTTP proxy"],
  ["socks5h://proxy.test:1080", "SOCKS proxies are not supported"],
  ["https://user:hunter2@proxy.test", "TLS to the proxy itself is not supported; write it as"],
  ["ftp://hunter2@proxy.test", "does not begin with http://; write it as"],
  ["http://proxy.test/hunter2", "more than a user, password, host and port"],
  ["http://proxy.test?key=hunter2", "more than a user, password, host and port"],
  ["http://proxy.test:0", "more than a user, password, host and port"],
  ["http://us er:hunter2@proxy.test", "contains a space;"],
  ["http://proxy.test:hunter2", "is not a URL"],
  ["http://", "is not a URL"],
])("%s isn't a valid proxy setting", (value, expectedProblem) => {
  for (const name of ["HTTPS_PROXY", "http_proxy"]) {
    const problems = findProblems({ [name]: value });
    expect(problems).toEqual([expect.stringContaining(expectedProblem)]);
    expect(problems[0]).toStartWith(`${name.toUpperCase()}: `);
    expect(problems[0]).not.toContain("hunter2");
  }
});

test("uppercase names take precedence over lowercase names, which exist only for proxy settings", () => {
  const config = loadTestConfig({
    HTTP_PROXY: "http://a.test",
    http_proxy: "http://b.test",
    no_proxy: "c.test",
    port: "1",
  });
  expect(config.HTTP_PROXY).toBe("http://a.test");
  expect(config.NO_PROXY).toEqual(["c.test"]);
  expect(config.PORT).toBe(3000);
  expect(loadTestConfig({ HTTP_PROXY: " ", http_proxy: "http://b.test" }).HTTP_PROXY).toBe("http://b.test");
});

test("NO_PROXY entries are separated by commas or spaces, and invalid entries are rejected", () => {
  expect(loadTestConfig({ NO_PROXY: " a.test, .b.test  10.0.0.0/8,,*.c.test:81 " }).NO_PROXY).toEqual([
    "a.test",
    ".b.test",
    "10.0.0.0/8",
    "*.c.test:81",
  ]);
  expect(findProblems({ NO_PROXY: "10.*,http://a.test,192.168.*" })).toEqual([
    'NO_PROXY: "10.*" is not a host name, an IP address or a network; write 10.0.0.0/8.',
    'NO_PROXY: "http://a.test" is not a host name, an IP address or a network; write only the host.',
    'NO_PROXY: "192.168.*" is not a host name, an IP address or a network; write 192.168.0.0/16.',
  ]);
});

test("a proxy's credentials are masked in output and redacted in the log", () => {
  const config = loadTestConfig({ HTTPS_PROXY: "user:hunter2/3@proxy.test:3128".replace("/", "%2F") });
  expect(formatConfig(config)).toContain("HTTPS_PROXY=http://********@proxy.test:3128");
  expect(formatConfig(config)).not.toContain("hunter2");
  expect(listSecrets(config)).toEqual(
    expect.arrayContaining(["hunter2%2F3", "hunter2/3", btoa("user:hunter2/3"), "user:hunter2/3"]),
  );
});

test("likely mistakes cause warnings, but other programs' variables don't", () => {
  const listWarnings = (environment: Record<string, string>) =>
    findWarnings(loadTestConfig(environment), { environment });
  expect(listWarnings({ http_proxy: "http://a.test" })).toEqual([expect.stringContaining("HTTPS_PROXY is not")]);
  expect(listWarnings({ HTTPS_PROXY: "http://a.test", NO_PROXY: "*" })).toEqual([
    expect.stringContaining("have no effect"),
  ]);
  const proxyVariables = { https_proxy: "http://a.test", http_proxy: "http://a.test", no_proxy: "b.test" };
  const otherVariables = {
    ALL_PROXY: "x",
    all_proxy: "x",
    FTP_PROXY: "x",
    ftp_proxy: "x",
    GOPROXY: "x",
    NODE_OPTIONS: "x",
  };
  expect(listWarnings({ ...proxyVariables, ...otherVariables })).toEqual([]);
  expect(listWarnings({ HTTPS_PROXI: "x" })).toEqual([expect.stringContaining("did you mean HTTPS_PROXY?")]);
  expect(listWarnings({ EXTRA_CA_CERTS: "x" })).toEqual([expect.stringContaining("did you mean NODE_EXTRA_CA_CERTS?")]);
});

test("backups to S3 use HTTP_PROXY and NO_PROXY", async () => {
  const s3 = startFakeS3();
  const proxy = await startHttpProxy("user:pass");
  const port = new URL(s3.endpoint).port;
  const settings = {
    BACKUP_SCHEDULE: "0 2 * * *",
    BACKUP_S3_BUCKET: "backups",
    BACKUP_S3_REGION: s3.region,
    BACKUP_S3_ENDPOINT: `http://s3.test:${port}`,
    BACKUP_S3_ACCESS_KEY_ID: s3.accessKeyId,
    BACKUP_S3_SECRET_ACCESS_KEY: s3.secretAccessKey,
    BACKUP_PASSPHRASE: "a passphrase of some length",
    HTTP_PROXY: proxy.url.replace("://", "://user:pass@"),
  };
  const listBackups = () =>
    createS3Store({ ...s3, prefix: "", endpoint: settings.BACKUP_S3_ENDPOINT, retryMs: 1 }).list();
  try {
    setRuntimeProxies(process.env, loadTestConfig(settings));
    expect(await listBackups()).toEqual([]);
    expect(proxy.requests).toMatchObject([{ kind: "absolute", target: `s3.test:${port}` }]);
    // The runtime's implementation of NO_PROXY supports neither networks nor spaces.
    const exemptConfig = loadTestConfig({
      ...settings,
      BACKUP_S3_ENDPOINT: `http://10.255.255.1:${port}`,
      NO_PROXY: "x.test 10.0.0.0/8",
    });
    setRuntimeProxies(process.env, exemptConfig);
    expect(process.env.HTTP_PROXY).toBeUndefined();
    setRuntimeProxies(process.env, loadTestConfig({ HTTP_PROXY: settings.HTTP_PROXY }));
    expect(process.env.HTTP_PROXY).toBeUndefined();
  } finally {
    removeRuntimeProxies(process.env);
    await proxy.stop();
    await s3.stop();
  }
});
