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

const fetchDocument = async (app: TestApp, headers: Record<string, string> = {}): Promise<Document> =>
  (await app.fetch("/asyncapi.json", { headers })).json() as Promise<Document>;

test("/asyncapi.json and /asyncapi.yaml are public and have the same content", async () => {
  const json = await parley.fetch("/asyncapi.json");
  expect([json.status, json.headers.get("content-type")]).toEqual([200, "application/json"]);
  const document = (await json.json()) as Document;
  expect(document).toMatchObject({ asyncapi: "3.0.0", info: { title: "Parley" } });
  const yaml = await parley.fetch("/asyncapi.yaml");
  expect([yaml.status, yaml.headers.get("content-type")]).toEqual([200, "application/yaml"]);
  expect(parse(await yaml.text(), { maxAliasCount: -1 })).toEqual(document);
});

test("the document equals the one in contract/, except for the server addresses", async () => {
  const { servers, ...rest } = await fetchDocument(parley);
  const { servers: _, ...expected } = await Bun.file(`${import.meta.dir}/../../contract/asyncapi.json`).json();
  expect(rest as object).toEqual(expected);
  const { host } = new URL(parley.url);
  expect(servers.parley).toMatchObject({ host, pathname: "/", protocol: "ws" });
  expect(servers.http).toMatchObject({ host, pathname: "/", protocol: "http" });
  expect(Object.keys(servers.parley)).not.toContain("variables");
});

test("a socket can be opened at the URL in the document", async () => {
  const { servers, channels } = await fetchDocument(parley);
  const { access_token } = await parley.register();
  const url = new URL(channels.realtime.address, `${servers.http.protocol}://${servers.parley.host}`);
  expect(url.pathname).toBe("/realtime");
  const socket = await openSocket(url.origin, { token: access_token });
  expect(await socket.waitFor(({ type }) => type === "ready")).toBeDefined();
  await socket.close();
});

test("without PUBLIC_URL, the document contains the requested host, even if forwarded headers have another one", async () => {
  for (const host of ["one.example.com", "two.example.com"])
    expect((await fetchDocument(parley, { host })).servers.parley).toMatchObject({ host, protocol: "ws" });
  const forwarded = { "x-forwarded-host": "forged.example.com", "x-forwarded-proto": "https" };
  const { servers } = await fetchDocument(parley, forwarded);
  expect(servers.parley).toMatchObject({ host: new URL(parley.url).host, protocol: "ws" });
});

test("with PUBLIC_URL, the document contains that URL, even if another host was requested", async () => {
  const proxiedApp = await startApp({ config: { PUBLIC_URL: "https://chat.example.com/parley/" } });
  try {
    const forged = { host: "forged.example.com", "x-forwarded-host": "forged.example.com" };
    const { servers } = await fetchDocument(proxiedApp, forged);
    expect(servers.parley).toMatchObject({ host: "chat.example.com", pathname: "/parley", protocol: "wss" });
    expect(servers.http).toMatchObject({ host: "chat.example.com", pathname: "/parley", protocol: "https" });
    const page = await (await proxiedApp.fetch("/asyncapi", { headers: forged })).text();
    expect(page).toContain("<code>wss://chat.example.com/parley/realtime</code>");
    expect(page).not.toContain("forged");
  } finally {
    await proxiedApp.stop();
  }
});

test.each(["/asyncapi.json", "/asyncapi.yaml"])("%s has a different ETag when it is compressed", async (path) => {
  const fetchPath = (headers: Record<string, string>) => fetch(`${parley.url}${path}`, { headers, decompress: false });
  const uncompressed = await fetchPath({ "accept-encoding": "identity" });
  const text = await uncompressed.text();
  const compressed = await fetchPath({ "accept-encoding": "gzip" });
  expect(compressed.headers.get("content-encoding")).toBe("gzip");
  expect(compressed.headers.get("vary")).toContain("Accept-Encoding");
  expect(new TextDecoder().decode(Bun.gunzipSync(await compressed.arrayBuffer()))).toBe(text);
  const tags = [uncompressed, compressed].map(({ headers }) => headers.get("etag") ?? "");
  expect(new Set(tags).size).toBe(2);
  for (const [coding, tag] of [
    ["identity", tags[0]],
    ["gzip", tags[1]],
  ] as const) {
    const cachedResponse = await fetchPath({ "accept-encoding": coding, "if-none-match": tag ?? "" });
    expect([cachedResponse.status, await cachedResponse.text()]).toEqual([304, ""]);
  }
});
