import { expect, test } from "bun:test";
import fc from "fast-check";
import { isPublicAddress } from "../../../src/lib/outgoing/public-address.ts";
import { checkTargetUrl, TARGET_URL_LENGTH_MAX } from "../../../src/lib/outgoing/target-url.ts";

const invalidUrls: [url: string, detail: string][] = [
  ["", "must begin with"],
  ["example.com/hook", "must begin with"],
  ["//example.com/hook", "must begin with"],
  ["ftp://example.com/", "must begin with"],
  ["file:///etc/passwd", "must begin with"],
  ["javascript:alert(1)", "must begin with"],
  ["gopher://example.com/", "must begin with"],
  ["http:example.com", "must begin with"],
  ["http:/example.com", "must begin with"],
  ["http://", "invalid"],
  ["https://example.com:99999/", "invalid"],
  ["https://exa%00mple.com/", "invalid"],
  ["https://[fe80::1%25eth0]/", "invalid"],
  ["https://[::1/", "invalid"],
  ["https://example.com:0/", "Port 0"],
  ["https://user@example.com/", "user name"],
  ["https://user:secret@example.com/", "user name"],
  ["https://:secret@example.com/", "user name"],
  ["http://127.0.0.1:80@example.com/", "user name"],
  ["https://example.com/#part", "fragment"],
  ["https://example.com/#", "fragment"],
  ["https://example.com/a b", "spaces"],
  [" https://example.com/", "spaces"],
  ["https://example.com/\n", "spaces"],
  ["https://exam\tple.com/", "spaces"],
  ["https://example.com\\@localhost/", "backslashes"],
  ["https://example.com/\u202e", "control characters"],
  ["https://example.com/\u0000", "control characters"],
  ["https://a..b/", "host"],
  ["https://-/", "host"],
  ["https://a*b.com/", "host"],
  [`https://${"a".repeat(64)}.com/`, "host"],
  [`https://example.com/${"a".repeat(TARGET_URL_LENGTH_MAX)}`, "longer"],
];

const privateUrls = `
http://localhost/ https://LOCALHOST:8443/hook http://localhost./ http://hooks.localhost/ http://127.0.0.1/ http://127.0.0.1./
http://127.1/ http://2130706433/ http://0x7f000001/ http://0x7f.1/ http://0177.0.0.1/ http://017700000001/ http://１２７.0.0.1/
http://①②⑦.⓪.⓪.①/ http://127。0。0。1/ http://%31%32%37.0.0.1/ http://0/ http://0.0.0.0/ http://169.254.169.254/latest/
http://2852039166/ http://10.0.0.1/ http://172.16.0.1/ http://192.168.1.1:8080/ http://100.64.0.1/ http://[::1]/ http://[::]/
http://[0:0:0:0:0:0:0:1]/ http://[::ffff:127.0.0.1]/ http://[::ffff:7f00:1]/ http://[64:ff9b::7f00:1]/ http://[fd00::1]/
http://[fe80::1]/ http://[2002:7f00:1::]/ http://[ff02::1]/ http://255.255.255.255/
`;

const validUrls = `
https://example.com https://example.com/hook http://example.com:8080/hook?token=1 https://EXAMPLE.com./ https://a_b.example.com/
https://xn--bcher-kva.example/ https://bücher.example/ https://8.8.8.8/ https://[2606:4700:4700::1111]:8443/ https://intranet/
https://example.com:22/ https://127.0.0.1.example.com/ https://notlocalhost/ https://localhost.example.com/
`;

const splitWords = (text: string) => text.trim().split(/\s+/);

test.each(invalidUrls)("%p is rejected even if private addresses are allowed", (url, detail) => {
  expect(checkTargetUrl(url)).toContain(detail);
  expect(checkTargetUrl(url, true)).toContain(detail);
});

test.each(splitWords(privateUrls))("%s is rejected unless private addresses are allowed", (url) => {
  expect(checkTargetUrl(url)).toContain("is not a public address");
  expect(checkTargetUrl(url, true)).toBeNull();
});

test.each(splitWords(validUrls))("%s is accepted", (url) => expect(checkTargetUrl(url)).toBeNull());

/** Functions that write an IPv4 address in the notations that browsers and resolvers accept. */
const notations: ((value: number) => string)[] = [
  (value) => String(value),
  (value) => `0x${value.toString(16)}`,
  (value) => `0${value.toString(8)}`,
  (value) => `${value >>> 24}.${value & 0xffffff}`,
  (value) => `0x${(value >>> 24).toString(16)}.0${((value >>> 16) & 255).toString(8)}.${value & 0xffff}.`,
  (value) => `[::ffff:${(value >>> 16).toString(16)}:${(value & 0xffff).toString(16)}]`,
  (value) => `[64:ff9b::${value >>> 24}.${(value >>> 16) & 255}.${(value >>> 8) & 255}.${value & 255}]`,
];

test("only public IPv4 addresses are accepted, in every notation", () => {
  // Makes private addresses as likely as public addresses.
  const firstByte = fc.oneof(fc.constantFrom(0, 10, 127, 169, 172, 192, 224, 255), fc.nat({ max: 255 }));
  const address = fc.tuple(firstByte, fc.nat({ max: 255 }), fc.nat({ max: 255 }), fc.nat({ max: 255 }));
  fc.assert(
    fc.property(address, fc.constantFrom("http", "https"), fc.nat({ max: 65_534 }), (bytes, scheme, port) => {
      const value = bytes.reduce((sum, byte) => sum * 256 + byte, 0);
      const isPublic = isPublicAddress(bytes.join("."));
      for (const notation of notations) {
        const error = checkTargetUrl(`${scheme}://${notation(value)}:${port + 1}/`);
        expect([notation(value), error === null]).toEqual([notation(value), isPublic]);
      }
    }),
  );
});
