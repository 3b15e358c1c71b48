import { expect, test } from "bun:test";
import { createProxyFinder } from "../../src/lib/outgoing/find-proxy.ts";
import { createNoProxyMatcher, isNoProxyEntry } from "../../src/lib/outgoing/no-proxy.ts";

const isDirect = (entries: string, url: string): boolean =>
  createNoProxyMatcher(entries.split(" ").filter(Boolean))(new URL(url));

test.each([
  // Names and their subdomains, in any notation.
  ["example.com", "https://example.com/", true],
  ["example.com", "https://api.example.com/", true],
  ["example.com", "https://a.b.EXAMPLE.com./", true],
  ["example.com", "https://notexample.com/", false],
  ["example.com", "https://example.com.evil.test/", false],
  [".example.com", "https://example.com/", true],
  [".example.com", "https://api.example.com/", true],
  ["*.example.com", "https://api.example.com/", true],
  ["Example.COM.", "https://example.com/", true],
  ["my_host", "http://my_host/", true],
  ["example.com:8443", "https://example.com:8443/", true],
  ["example.com:8443", "https://example.com/", false],
  ["example.com:443", "https://api.example.com/", true],
  ["example.com:80", "http://example.com/", true],
  ["10.0.0.1:81", "http://10.0.0.1:81/", true],
  ["10.0.0.1:81", "http://10.0.0.1/", false],
  ["[2001:db8::1]:81", "http://[2001:db8::1]:81/", true],
  ["[2001:db8::1]", "http://[2001:db8:0::1]/", true],
  // Addresses and networks, which do not match names.
  ["10.1.2.3", "http://10.1.2.3:9/", true],
  ["10.1.2.3", "http://10.1.2.33/", false],
  ["10.1.2.3", "http://a.10.1.2.3.test/", false],
  ["10.0.0.0/8", "http://10.200.0.1/", true],
  ["10.0.0.0/8", "http://11.0.0.1/", false],
  ["10.0.0.0/8", "http://ten.example.com/", false],
  ["2001:db8::1", "http://[2001:db8::1]/", true],
  ["2001:db8::/32", "http://[2001:db8:1::7]/", true],
  ["2001:db8::/32", "http://[2001:db9::7]/", false],
  ["*", "https://anything.example/", true],
  ["", "https://anything.example/", false],
  ["a.test b.test 10.0.0.0/8", "https://b.test/", true],
  // This machine, with any setting.
  ["", "http://localhost:11434/v1", true],
  ["", "http://ollama.localhost/", true],
  ["", "http://127.0.0.1:1/", true],
  ["", "http://127.1/", true],
  ["", "http://[::1]/", true],
  ["", "http://localhost.example.com/", false],
  ["", "http://127.example.com/", false],
])("with NO_PROXY=%s, %s is connected to directly: %p", (entries, url, expected) => {
  expect(isDirect(entries, url)).toBe(expected);
});

test.each([
  "10.*",
  "<local>",
  "http://a.test",
  "a.test:x",
  "a.test:70000",
  "10.0.0.0/33",
  "1.2.3",
  "[a.test]",
  "a b",
  "*x",
])("%s is an invalid entry", (entry) => {
  expect(isNoProxyEntry(entry)).toBe(false);
});

test("each scheme has its own proxy setting", () => {
  const findProxy = createProxyFinder({
    HTTPS_PROXY: "http://us%65r:p%40ss@one.test:3128",
    HTTP_PROXY: "http://[2001:db8::2]",
    NO_PROXY: ["direct.test"],
  });
  expect(findProxy(new URL("https://models.test/"))).toEqual({
    hostname: "one.test",
    port: 3128,
    authorization: `Basic ${btoa("user:p@ss")}`,
    setting: "HTTPS_PROXY",
    isTunnel: true,
  });
  expect(findProxy(new URL("http://models.test/"))).toEqual({
    hostname: "2001:db8::2",
    port: 80,
    authorization: null,
    setting: "HTTP_PROXY",
    isTunnel: false,
  });
  expect(findProxy(new URL("https://api.direct.test/"))).toBeNull();
  expect(createProxyFinder({ HTTPS_PROXY: "http://one.test" })(new URL("http://models.test/"))).toBeNull();
});
