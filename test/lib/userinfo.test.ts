import { expect, test } from "bun:test";
import fc from "fast-check";
import { maskUserinfo, parseUserinfo } from "../../src/lib/userinfo.ts";
import { scaleRuns } from "../support/property-tests.ts";

const formatBasicAuth = (credentials: string | Uint8Array) => `Basic ${Buffer.from(credentials).toString("base64")}`;

test.each([
  ["http://user:pass@host/v1", "http://host/v1", formatBasicAuth("user:pass")],
  ["https://us%40er:p%3Ass%2F%25@host:8443/v1?a=b", "https://host:8443/v1?a=b", formatBasicAuth("us@er:p:ss/%")],
  ["http://token@host/v1", "http://host/v1", formatBasicAuth("token:")],
  ["http://:pass@host/v1", "http://host/v1", formatBasicAuth(":pass")],
  ["http://grüße:wörld@host/", "http://host/", formatBasicAuth("grüße:wörld")],
  ["http://user:p%FFs%zz@host/", "http://host/", formatBasicAuth(Buffer.from("user:p\xffs%zz", "latin1"))],
  ["http://user:a@b@host/", "http://host/", formatBasicAuth("user:a@b")],
])("%s is requested at %s with %s", (address, url, authorization) => {
  expect(parseUserinfo(address)).toMatchObject({ url, authorization });
});

test.each(["http://host/v1", "http://host/@user:pass@x", "http://@host/", "nonsense", ""])(
  "%s has no user info",
  (address) => {
    expect(parseUserinfo(address)).toBeNull();
  },
);

test("every encoding in which the secrets can appear is listed", () => {
  const secrets = parseUserinfo("http://us%40er:p%3Ass@host/")?.secrets;
  for (const encodedSecret of [btoa("us@er:p:ss"), "us%40er:p%3Ass", "us@er:p:ss", "p%3Ass", "p:ss"])
    expect(secrets).toContain(encodedSecret);
  // `URL` writes a colon in a password as %3A.
  expect(parseUserinfo("http://user:pa:ss@host/")?.secrets).toEqual(
    [btoa("user:pa:ss"), "user:pa%3Ass", "user:pa:ss", "pa%3Ass", "pa:ss"].sort((a, b) => b.length - a.length),
  );
  expect(parseUserinfo("http://to%2Dken@host/")?.secrets).toEqual(expect.arrayContaining(["to-ken", "to%2Dken"]));
  for (const address of ["http://:pass@host/", "http://user:@host/", "http://user@host/"])
    expect(parseUserinfo(address)?.secrets).not.toContain("");
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
])("%s is masked as %s", (text, maskedUrl) => {
  expect(maskUserinfo(text)).toBe(maskedUrl);
});

test("passwords are masked regardless of the characters that they contain", () => {
  fc.assert(
    fc.property(fc.string({ minLength: 3 }), fc.boolean(), (password, isEncoded) => {
      // Without encoding, these characters end the user info.
      fc.pre(isEncoded || !/[/\\?#]/.test(password));
      const maskedUrl = maskUserinfo(`http://user:${isEncoded ? encodeURIComponent(password) : password}~@host/v1`);
      expect(maskedUrl).toBe("http://********@host/v1");
    }),
    { numRuns: scaleRuns(1_000) },
  );
});
