import { expect, test } from "bun:test";
import { removeRuntimeProxies, setRuntimeProxies } from "../../src/commands/runtime-proxies.ts";
import { findWarnings } from "../../src/config/warnings.ts";
import { ConfigError, formatConfig, listSecrets, loadConfig } from "../../src/config.ts";
import { createS3Store } from "../../src/modules/backups/s3-store.ts";
import { startHttpProxy } from "../support/http-proxy.ts";
import { startS3 } from "../support/s3.ts";

const load = (environment: Record<string, string>) => loadConfig(environment, () => "");

function findProblems(environment: Record<string, string>): string[] {
  try {
    load(environment);
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
  // As other programs accept it.
  ["proxy.test:3128", "http://proxy.test:3128"],
  ["user:pass@proxy.test", "http://user:pass@proxy.test"],
])("a proxy may be written as %s", (value, kept) => {
  for (const name of ["HTTPS_PROXY", "HTTP_PROXY", "https_proxy", "http_proxy"])
    expect(load({ [name]: value })[name.toUpperCase() as "HTTP_PROXY"]).toBe(kept);
});

test.each([
  ["socks5://user:hunter2@proxy.test", "SOCKS proxies are not supported; use an HTTP proxy"],
  ["socks5h://proxy.test:1080", "SOCKS proxies are not supported"],
  ["https://user:hunter2@proxy.test", "TLS to the proxy itself is not supported; write it like"],
  ["ftp://hunter2@proxy.test", "does not begin with http://; write it like"],
  ["http://proxy.test/hunter2", "more than user, password, host and port"],
  ["http://proxy.test?key=hunter2", "more than user, password, host and port"],
  ["http://proxy.test:0", "more than user, password, host and port"],
  ["http://us er:hunter2@proxy.test", "has a space;"],
  ["http://proxy.test:hunter2", "is not a URL"],
  ["http://", "is not a URL"],
])("a proxy can't be written as %s", (value, sentence) => {
  for (const name of ["HTTPS_PROXY", "http_proxy"]) {
    const problems = findProblems({ [name]: value });
    expect(problems).toEqual([expect.stringContaining(sentence)]);
    expect(problems[0]).toStartWith(`${name.toUpperCase()}: `);
    expect(problems[0]).not.toContain("hunter2");
  }
});

test("uppercase names take precedence over lowercase ones, which only some settings have", () => {
  const config = load({ HTTP_PROXY: "http://a.test", http_proxy: "http://b.test", no_proxy: "c.test", port: "1" });
  expect(config.HTTP_PROXY).toBe("http://a.test");
  expect(config.NO_PROXY).toEqual(["c.test"]);
  expect(config.PORT).toBe(3000);
  expect(load({ HTTP_PROXY: " ", http_proxy: "http://b.test" }).HTTP_PROXY).toBe("http://b.test");
});

test("NO_PROXY accepts commas and spaces; invalid entries stop the start", () => {
  expect(load({ NO_PROXY: " a.test, .b.test  10.0.0.0/8,,*.c.test:81 " }).NO_PROXY).toEqual([
    "a.test",
    ".b.test",
    "10.0.0.0/8",
    "*.c.test:81",
  ]);
  expect(findProblems({ NO_PROXY: "10.*,http://a.test,192.168.*" })).toEqual([
    'NO_PROXY: "10.*" is neither a name nor an address nor a network; write 10.0.0.0/8.',
    'NO_PROXY: "http://a.test" is neither a name nor an address nor a network; write only the host.',
    'NO_PROXY: "192.168.*" is neither a name nor an address nor a network; write 192.168.0.0/16.',
  ]);
});

test("a proxy's credentials are masked in output, and redacted in the log", () => {
  const config = load({ HTTPS_PROXY: "user:hunter2/3@proxy.test:3128".replace("/", "%2F") });
  expect(formatConfig(config)).toContain("HTTPS_PROXY=http://********@proxy.test:3128");
  expect(formatConfig(config)).not.toContain("hunter2");
  expect(listSecrets(config)).toEqual(
    expect.arrayContaining(["hunter2%2F3", "hunter2/3", btoa("user:hunter2/3"), "user:hunter2/3"]),
  );
});

test("warns about likely mistakes, but not about variables of other programs", () => {
  const warn = (environment: Record<string, string>) => findWarnings(load(environment), { environment });
  expect(warn({ http_proxy: "http://a.test" })).toEqual([expect.stringContaining("HTTPS_PROXY is not")]);
  expect(warn({ HTTPS_PROXY: "http://a.test", NO_PROXY: "*" })).toEqual([expect.stringContaining("have no effect")]);
  const both = { https_proxy: "http://a.test", http_proxy: "http://a.test", no_proxy: "b.test" };
  const others = { ALL_PROXY: "x", all_proxy: "x", FTP_PROXY: "x", ftp_proxy: "x", GOPROXY: "x", NODE_OPTIONS: "x" };
  expect(warn({ ...both, ...others })).toEqual([]);
  expect(warn({ HTTPS_PROXI: "x" })).toEqual([expect.stringContaining("did you mean HTTPS_PROXY?")]);
  expect(warn({ EXTRA_CA_CERTS: "x" })).toEqual([expect.stringContaining("did you mean NODE_EXTRA_CA_CERTS?")]);
});

test("backups to S3 use the same proxies and exceptions", async () => {
  const s3 = startS3();
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
  const list = () => createS3Store({ ...s3, prefix: "", endpoint: settings.BACKUP_S3_ENDPOINT, retryMs: 1 }).list();
  try {
    setRuntimeProxies(process.env, load(settings));
    expect(await list()).toEqual([]);
    expect(proxy.requests).toMatchObject([{ form: "absolute", target: `s3.test:${port}` }]);
    // The runtime's own rules support neither networks nor spaces.
    const excepted = load({
      ...settings,
      BACKUP_S3_ENDPOINT: `http://10.255.255.1:${port}`,
      NO_PROXY: "x.test 10.0.0.0/8",
    });
    setRuntimeProxies(process.env, excepted);
    expect(process.env.HTTP_PROXY).toBeUndefined();
    setRuntimeProxies(process.env, load({ HTTP_PROXY: settings.HTTP_PROXY }));
    expect(process.env.HTTP_PROXY).toBeUndefined();
  } finally {
    removeRuntimeProxies(process.env);
    await proxy.stop();
    await s3.stop();
  }
});
