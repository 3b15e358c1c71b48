import { expect, test } from "bun:test";
import fc from "fast-check";
import { listAddressSecrets, maskAddress, maskSecretAddress } from "../../src/lib/mask-address.ts";
import { createSecretMasker } from "../../src/lib/mask-secrets.ts";

test.each([
  ["https://host/v1", "https://host/v1"],
  ["http://user:pass@host:80/v1", "http://********@host:80/v1"],
  ["https://host/v1?key=abc", "https://host/v1?key=********"],
  ["https://host/v1?api-version=3&token=a%20b=c&x", "https://host/v1?api-version=3&token=********&********"],
  ["wiki=https://u:p@host/mcp?key=1#frag", "wiki=https://********@host/mcp?key=********#********"],
  ["https://host/api/s/Zm9vYmFyYmF6cXV4MTIzNDU2/mcp", "https://host/api/s/********/mcp"],
  ["https://host/a-page-with-a-long-name/mcp", "https://host/a-page-with-a-long-name/mcp"],
  [
    "postgres://u:p@db:5432/parley?sslmode=require&password=x",
    "postgres://********@db:5432/parley?sslmode=require&password=********",
  ],
  ["postgres:///parley?host=/tmp&user=me", "postgres:///parley?host=/tmp&user=********"],
  ["http://bad host/?key=a b", "http://bad host/?key=********"],
  ["4000", "4000"],
  ["", ""],
])("%s is masked as %s", (address, maskedUrl) => {
  expect(maskAddress(address)).toBe(maskedUrl);
});

test.each([
  ["postgres://u:pa/ss@db:5432/x", "postgres://********@db:5432/x"],
  ["postgres://u:12/ss@db/x", "postgres://********@db/x"],
  ["postgres://u:12#ss@db/x", "postgres://********@db/x"],
  ["redis://host:6379/1", "redis://host:6379/1"],
  ["wiki=https://u:1?p@host/mcp", "wiki=https://********@host/mcp"],
  ["a-secret-that-is-not-a-url", "********"],
])("the secret %s is masked as %s", (address, maskedUrl) => {
  expect(maskSecretAddress(address)).toBe(maskedUrl);
});

test("a masked URL doesn't reveal its secrets", () => {
  const word = fc.string({ minLength: 8, unit: "grapheme-ascii" });
  fc.assert(
    fc.property(word, word, word, (user, password, value) => {
      const [u, p, v] = [user, password, value].map((text) => encodeURIComponent(`~${text}7`));
      const address = `https://${u}:${p}@host/v1?api-version=1&token=${v}`;
      const maskedUrl = "https://********@host/v1?api-version=1&token=********";
      expect(maskAddress(address)).toBe(maskedUrl);
      expect(maskSecretAddress(address)).toBe(maskedUrl);
      const mask = createSecretMasker(listAddressSecrets(address));
      for (const text of [
        address,
        new URL(address).href,
        JSON.stringify({ path: address }),
        `no response from ${value}7`,
      ])
        expect(mask(text)).not.toContain(`~${value}7`);
      expect(mask(JSON.stringify({ user: `~${user}7:~${password}7` }))).not.toContain(
        JSON.stringify(`~${password}7`).slice(1, -1),
      );
    }),
  );
});

test("common words aren't masked in the log, even if one of them is a password", () => {
  const mask = createSecretMasker(["postgres", "1", "", "hunter2", "a.b*c(d"]);
  expect(mask("postgres is ready after 1 ms")).toBe("postgres is ready after 1 ms");
  expect(mask("hunter2 a.b*c(d aXbbc(d")).toBe("******** ******** aXbbc(d");
});
