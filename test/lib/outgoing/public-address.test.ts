import { expect, test } from "bun:test";
import fc from "fast-check";
import { isPublicAddress } from "../../../src/lib/outgoing/public-address.ts";

const privateAddresses = `
0.0.0.0 0.1.2.3 10.0.0.0 10.255.255.255 100.64.0.0 100.100.100.200 100.127.255.255 127.0.0.1 127.255.255.254
168.63.129.16 169.254.0.1 169.254.169.254 172.16.0.1 172.31.255.255 192.0.0.1 192.0.0.192 192.0.2.1 192.88.99.1
192.168.0.1 192.168.255.255 198.18.0.1 198.19.255.255 198.51.100.7 203.0.113.7 224.0.0.1 239.255.255.255 240.0.0.1
255.255.255.255
:: ::1 0:0:0:0:0:0:0:1 ::2 ::127.0.0.1 ::8.8.8.8 fc00:: fd00::1 fd00:ec2::254 fdff:ffff:ffff::1 fe80::1 febf::1
fec0::1 ff02::1 100::1 5f00::1 4000::1 2001::1 2001:0:4136:e378:8000:63bf:3fff:fdd2 2001:2::1 2001:10::1 2001:1ff::1
2001:db8::1 2001:0db8:ffff::1 2002:7f00:1:: 2002:808:808:: 3fff::1 3fff:fff::1
::ffff:127.0.0.1 ::ffff:7f00:1 ::ffff:10.0.0.1 ::ffff:169.254.169.254 ::ffff:0.0.0.0 ::ffff:0:8.8.8.8 ::FFFF:192.168.1.1
0:0:0:0:0:ffff:7f00:0001 64:ff9b::127.0.0.1 64:ff9b::7f00:1 64:ff9b::a9fe:a9fe 64:ff9b::10.0.0.1 64:ff9b:: 64:ff9b:1::1
64:ff9b:1::8.8.8.8 64:ff9b::1:808:808
fe80::1%eth0 2606:4700::1111%eth0 8.8.8.8%eth0 localhost 2130706433 0x7f.1 127.1 010.8.8.8 8.8.8 [::1] 1.2.3.4.5
`;

const publicAddresses = `
1.0.0.1 8.8.8.8 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.1 168.63.129.15 169.253.255.255
169.255.0.0 172.15.255.255 172.32.0.0 191.255.255.255 192.0.1.1 192.0.3.1 192.167.255.255 192.169.0.0 198.17.255.255
198.20.0.0 198.51.99.1 203.0.112.1 223.255.255.255
2000::1 2001:200::1 2001:4860:4860::8888 2001:db7:ffff::1 2001:db9::1 2003::1 2606:4700:4700::1111 2a00:1450:4001:81b::200e
3ffe::1 3fff:1000::1 ::ffff:8.8.8.8 ::ffff:808:808 64:ff9b::8.8.8.8 64:ff9b::808:808
`;

const splitWords = (text: string) => text.trim().split(/\s+/);

test.each(splitWords(privateAddresses))("%s isn't public", (address) => expect(isPublicAddress(address)).toBe(false));

test.each(splitWords(publicAddresses))("%s is public", (address) => expect(isPublicAddress(address)).toBe(true));

test("invalid addresses aren't public", () => {
  for (const text of ["", " ", " 8.8.8.8", "8.8.8.8 ", "8.8.8.8\n", "８.８.８.８", "%"])
    expect(isPublicAddress(text)).toBe(false);
});

/** The private IPv4 networks as numeric ranges, listed independently of the code under test. */
const privateRanges: [from: number, to: number][] = [
  [0x00000000, 0x00ffffff],
  [0x0a000000, 0x0affffff],
  [0x64400000, 0x647fffff],
  [0x7f000000, 0x7fffffff],
  [0xa83f8110, 0xa83f8110],
  [0xa9fe0000, 0xa9feffff],
  [0xac100000, 0xac1fffff],
  [0xc0000000, 0xc00000ff],
  [0xc0000200, 0xc00002ff],
  [0xc0586300, 0xc05863ff],
  [0xc0a80000, 0xc0a8ffff],
  [0xc6120000, 0xc613ffff],
  [0xc6336400, 0xc63364ff],
  [0xcb007100, 0xcb0071ff],
  [0xe0000000, 0xffffffff],
];
const isPublicNumber = (value: number) => !privateRanges.some(([from, to]) => value >= from && value <= to);
const formatIpv4 = (value: number) => [24, 16, 8, 0].map((shift) => (value >>> shift) & 255).join(".");

/** Any address, often at the edge of a network. */
const ipv4 = fc.oneof(
  fc.nat({ max: 0xffffffff }),
  fc
    .tuple(fc.constantFrom(...privateRanges.flat()), fc.integer({ min: -2, max: 2 }))
    .map(([edge, step]) => Math.min(0xffffffff, Math.max(0, edge + step))),
);

test("IPv4 addresses are classified correctly, alone and embedded in IPv6", () => {
  fc.assert(
    fc.property(ipv4, (value) => {
      const address = formatIpv4(value);
      const groups = [value >>> 16, value & 0xffff].map((group) => group.toString(16)).join(":");
      const notations = [
        address,
        `::ffff:${address}`,
        `::ffff:${groups}`,
        `64:ff9b::${address}`,
        `64:FF9B:0:0:0:0:${groups}`,
      ];
      expect(notations.map((notation) => isPublicAddress(notation))).toEqual(
        notations.map(() => isPublicNumber(value)),
      );
      // Tunnel addresses and unrouted addresses are never public.
      for (const notation of [`::${address}`, `::ffff:0:${address}`, `2002:${groups}::1`, `64:ff9b:1::${address}`])
        expect(isPublicAddress(notation)).toBe(false);
    }),
  );
});

test("IPv6 addresses outside 2000::/3 aren't public unless they embed an IPv4 address", () => {
  const group = fc.nat({ max: 0xffff });
  fc.assert(
    fc.property(fc.nat({ max: 0xffff }), fc.array(group, { minLength: 7, maxLength: 7 }), (firstGroup, otherGroups) => {
      const address = [firstGroup, ...otherGroups].map((value) => value.toString(16)).join(":");
      const isGlobal = firstGroup >= 0x2000 && firstGroup <= 0x3fff;
      const isSpecial =
        (firstGroup === 0x2001 && ((otherGroups[0] ?? 0) < 0x200 || otherGroups[0] === 0xdb8)) ||
        firstGroup === 0x2002 ||
        (firstGroup === 0x3fff && (otherGroups[0] ?? 0) < 0x1000);
      const isNat64 = firstGroup === 0x64 && otherGroups[0] === 0xff9b;
      const isMapped = firstGroup === 0 && otherGroups.slice(0, 4).every((value) => value === 0);
      if (isNat64 || isMapped) return;
      expect(isPublicAddress(address)).toBe(isGlobal && !isSpecial);
    }),
  );
});
