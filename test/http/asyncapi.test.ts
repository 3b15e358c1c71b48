import { afterAll, beforeAll, expect, test } from "bun:test";
import { parse } from "yaml";
import { startApp, type TestApp } from "../support/app.ts";
import { openSocket } from "../support/socket.ts";

type Server = { host: string; pathname: string; protocol: string };
type Document = {
  asyncapi: string;
  info: { title: string; version: string };
  servers: { parley: Server; http: Server };
  channels: { realtime: { address: string } };
};

let parley: TestApp;
beforeAll(async () => {
  parley = await startApp();
});
afterAll(() => parley.stop());

const read = async (app: TestApp, headers: Record<string, string> = {}): Promise<Document> =>
  (await app.fetch("/asyncapi.json", { headers })).json() as Promise<Document>;

test("/asyncapi.json and /asyncapi.yaml are public, and have the same content", async () => {
  const json = await parley.fetch("/asyncapi.json");
  expect([json.status, json.headers.get("content-type")]).toEqual([200, "application/json"]);
  const document = (await json.json()) as Document;
  expect(document).toMatchObject({ asyncapi: "3.0.0", info: { title: "Parley" } });
  const yaml = await parley.fetch("/asyncapi.yaml");
  expect([yaml.status, yaml.headers.get("content-type")]).toEqual([200, "application/yaml"]);
  expect(parse(await yaml.text(), { maxAliasCount: -1 })).toEqual(document);
});

test("the document equals the one in contract/, with the requested address", async () => {
  const { servers, ...rest } = await read(parley);
  const { servers: _, ...expected } = await Bun.file(`${import.meta.dir}/../../contract/asyncapi.json`).json();
  expect(rest as object).toEqual(expected);
  const { host } = new URL(parley.url);
  expect(servers.parley).toMatchObject({ host, pathname: "/", protocol: "ws" });
  expect(servers.http).toMatchObject({ host, pathname: "/", protocol: "http" });
  expect(Object.keys(servers.parley)).not.toContain("variables");
});

test("its address leads to the socket", async () => {
  const { servers, channels } = await read(parley);
  const { access_token } = await parley.register();
  const url = new URL(channels.realtime.address, `${servers.http.protocol}://${servers.parley.host}`);
  expect(url.pathname).toBe("/realtime");
  const socket = await openSocket(url.origin, { token: access_token });
  expect(await socket.waitFor(({ type }) => type === "ready")).toBeDefined();
  await socket.close();
});

test("each host gets the document with its own address, with TLS if a proxy terminates it", async () => {
  const of = async (app: TestApp, headers: Record<string, string>) => (await read(app, headers)).servers.parley;
  expect(await of(parley, { host: "one.example.com" })).toMatchObject({ host: "one.example.com", protocol: "ws" });
  const forwarded = { host: "two.example.com", "x-forwarded-proto": "https" };
  expect(await of(parley, forwarded)).toMatchObject({ host: "two.example.com", protocol: "wss" });
  const proxied = await startApp({ config: { PUBLIC_URL: "https://chat.example.com" } });
  try {
    expect(await of(proxied, { host: "chat.example.com" })).toMatchObject({ protocol: "wss" });
    expect(await of(proxied, { host: "10.0.0.1:3000" })).toMatchObject({ host: "10.0.0.1:3000", protocol: "ws" });
  } finally {
    await proxied.stop();
  }
});

test.each(["/asyncapi.json", "/asyncapi.yaml"])("%s has an ETag, and another one when compressed", async (path) => {
  const ask = (headers: Record<string, string>) => fetch(`${parley.url}${path}`, { headers, decompress: false });
  const plain = await ask({ "accept-encoding": "identity" });
  const text = await plain.text();
  const small = await ask({ "accept-encoding": "gzip" });
  expect(small.headers.get("content-encoding")).toBe("gzip");
  expect(small.headers.get("vary")).toContain("Accept-Encoding");
  expect(new TextDecoder().decode(Bun.gunzipSync(await small.arrayBuffer()))).toBe(text);
  const tags = [plain, small].map(({ headers }) => headers.get("etag") ?? "");
  expect(new Set(tags).size).toBe(2);
  for (const [coding, tag] of [
    ["identity", tags[0]],
    ["gzip", tags[1]],
  ] as const) {
    const again = await ask({ "accept-encoding": coding, "if-none-match": tag ?? "" });
    expect([again.status, await again.text()]).toEqual([304, ""]);
  }
});
