import { expect, test } from "bun:test";
import fc from "fast-check";
import { maskUserinfo, readUserinfo } from "../../src/lib/userinfo.ts";
import { countRuns } from "../support/properties.ts";

const basic = (credentials: string | Uint8Array) => `Basic ${Buffer.from(credentials).toString("base64")}`;

test.each([
  ["http://user:pass@host/v1", "http://host/v1", basic("user:pass")],
  ["https://us%40er:p%3Ass%2F%25@host:8443/v1?a=b", "https://host:8443/v1?a=b", basic("us@er:p:ss/%")],
  ["http://token@host/v1", "http://host/v1", basic("token:")],
  ["http://:pass@host/v1", "http://host/v1", basic(":pass")],
  ["http://grüße:wörld@host/", "http://host/", basic("grüße:wörld")],
  ["http://user:p%FFs%zz@host/", "http://host/", basic(Buffer.from("user:p\xffs%zz", "latin1"))],
  ["http://user:a@b@host/", "http://host/", basic("user:a@b")],
])("%s is requested at %s with %s", (address, url, authorization) => {
  expect(readUserinfo(address)).toMatchObject({ url, authorization });
});

test.each(["http://host/v1", "http://host/@user:pass@x", "http://@host/", "nonsense", ""])(
  "%s has no user info",
  (address) => {
    expect(readUserinfo(address)).toBeNull();
  },
);

test("lists every form in which its secrets may reappear", () => {
  const secrets = readUserinfo("http://us%40er:p%3Ass@host/")?.secrets;
  for (const form of [btoa("us@er:p:ss"), "us%40er:p%3Ass", "us@er:p:ss", "p%3Ass", "p:ss"])
    expect(secrets).toContain(form);
  // `URL` writes a colon in a password as %3A.
  expect(readUserinfo("http://user:pa:ss@host/")?.secrets).toEqual(
    [btoa("user:pa:ss"), "user:pa%3Ass", "user:pa:ss", "pa%3Ass", "pa:ss"].sort((a, b) => b.length - a.length),
  );
  expect(readUserinfo("http://to%2Dken@host/")?.secrets).toEqual(expect.arrayContaining(["to-ken", "to%2Dken"]));
  for (const address of ["http://:pass@host/", "http://user:@host/", "http://user@host/"])
    expect(readUserinfo(address)?.secrets).not.toContain("");
});

test.each([
  ["http://user:pass@host/v1", "http://********@host/v1"],
  ["http://user:pa/ss@host/v1", "http://********@host/v1"],
  ['"http://user:pa ss@host"', '"http://********@host"'],
  ["name=https://token@host/", "name=https://********@host/"],
  ["name=https://user:pa=ss@host/?a=b", "name=https://********@host/?a=b"],
  ["HTTP://user:pass@host", "HTTP://********@host"],
  ["http://user:/pass@host", "http://********@host"],
  ["http://host:80/@user/x", "http://host:80/@user/x"],
  ["http://host/@user/x?y=a@b", "http://host/@user/x?y=a@b"],
  ["name=http://host/@user", "name=http://host/@user"],
  ["admin@example.com", "admin@example.com"],
  ["4000", "4000"],
])("%s is masked as %s", (text, shown) => {
  expect(maskUserinfo(text)).toBe(shown);
});

test("reveals no password, whatever its characters", () => {
  fc.assert(
    fc.property(fc.string({ minLength: 3 }), fc.boolean(), (password, isEncoded) => {
      // These end the user info of an address.
      fc.pre(isEncoded || !/[/\\?#]/.test(password));
      const shown = maskUserinfo(`http://user:${isEncoded ? encodeURIComponent(password) : password}~@host/v1`);
      expect(shown).toBe("http://********@host/v1");
    }),
    { numRuns: countRuns(1_000) },
  );
});
