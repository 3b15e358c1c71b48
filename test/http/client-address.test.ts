import { expect, test } from "bun:test";
import { createClientAddressLookup } from "../../src/http/client-address.ts";
import { isNetwork } from "../../src/lib/network.ts";

type Case = { name: string; trusted?: string[]; peer: string | null; forwarded?: string; expected: string | null };

const cases: Case[] = [
  {
    name: "the peer's address if no proxy is trusted",
    peer: "203.0.113.7",
    forwarded: "6.6.6.6",
    expected: "203.0.113.7",
  },
  {
    name: "the peer's address if the peer isn't a trusted proxy",
    trusted: ["10.0.0.0/8"],
    peer: "203.0.113.7",
    forwarded: "6.6.6.6",
    expected: "203.0.113.7",
  },
  {
    name: "the address that the trusted proxy saw",
    trusted: ["10.0.0.0/8"],
    peer: "10.1.2.3",
    forwarded: "203.0.113.7",
    expected: "203.0.113.7",
  },
  {
    name: "the address that the trusted proxy saw, not the one that the client claimed",
    trusted: ["10.0.0.0/8"],
    peer: "10.1.2.3",
    forwarded: "6.6.6.6, 203.0.113.7",
    expected: "203.0.113.7",
  },
  {
    name: "the first untrusted address if there are two trusted proxies",
    trusted: ["10.0.0.0/8", "192.168.1.1"],
    peer: "10.1.2.3",
    forwarded: "6.6.6.6,203.0.113.7 , 192.168.1.1",
    expected: "203.0.113.7",
  },
  {
    name: "an address inside the trusted network if no untrusted address is known",
    trusted: ["10.0.0.0/8"],
    peer: "10.1.2.3",
    forwarded: "10.9.9.9",
    expected: "10.9.9.9",
  },
  {
    name: "the nearest hop if the next one is invalid",
    trusted: ["10.0.0.0/8"],
    peer: "10.1.2.3",
    forwarded: "203.0.113.7, unknown, 10.2.2.2",
    expected: "10.2.2.2",
  },
  {
    name: "the proxy's address if it sends no header",
    trusted: ["10.0.0.0/8"],
    peer: "10.1.2.3",
    expected: "10.1.2.3",
  },
  {
    name: "an IPv4 address even if the peer's address is IPv4-mapped",
    trusted: ["10.0.0.0/8"],
    peer: "::ffff:10.1.2.3",
    forwarded: "203.0.113.7:51000",
    expected: "203.0.113.7",
  },
  {
    name: "an IPv6 address in lower case",
    trusted: ["fd00::/8"],
    peer: "fd12::1",
    forwarded: "[2001:DB8::1]:443",
    expected: "2001:db8::1",
  },
  { name: "null on a Unix socket", trusted: ["10.0.0.0/8"], peer: null, forwarded: "6.6.6.6", expected: null },
];

test.each(cases)("the client's address is $name", ({ trusted = [], peer, forwarded, expected }) => {
  const getClientAddress = createClientAddressLookup(trusted);
  const request = new Request("http://parley/", {
    headers: forwarded === undefined ? {} : { "x-forwarded-for": forwarded },
  });
  expect(getClientAddress(request, { requestIP: () => (peer === null ? null : { address: peer }) })).toBe(expected);
});

test("the beginning of a long X-Forwarded-For header is ignored", () => {
  const getClientAddress = createClientAddressLookup(["10.0.0.0/8"]);
  const request = new Request("http://parley/", {
    headers: { "x-forwarded-for": `6.6.6.6${", 10.0.0.1".repeat(1_000)}` },
  });
  expect(getClientAddress(request, { requestIP: () => ({ address: "10.0.0.1" }) })).toBe("10.0.0.1");
});

test("trusted proxies that aren't networks are rejected", () => {
  const invalidNetworks = [
    "10.0.0.0/33",
    "fd00::/129",
    "proxy.example.com",
    "10.0.0.0/8/8",
    "10.0.0.0/x",
    "",
    "10.0.0",
  ];
  expect(
    ["10.0.0.0/8", ...invalidNetworks, "::1", "fd00::/8", "1.2.3.4"].filter((network) => !isNetwork(network)),
  ).toEqual(invalidNetworks);
  expect(() => createClientAddressLookup(["nowhere"])).toThrow("nowhere");
});
