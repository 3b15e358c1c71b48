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
  const jsonResponse = await parley.fetch("/asyncapi.json");
  expect([jsonResponse.status, jsonResponse.headers.get("content-type")]).toEqual([200, "application/json"]);
  const document = (await jsonResponse.json()) as Document;
  expect(document).toMatchObject({ asyncapi: "3.0.0", info: { title: "Parley" } });
  const yamlResponse = await parley.fetch("/asyncapi.yaml");
  expect([yamlResponse.status, yamlResponse.headers.get("content-type")]).toEqual([200, "application/yaml"]);
  expect(parse(await yamlResponse.text(), { maxAliasCount: -1 })).toEqual(document);
});

test("the document equals the one in contract/, except for the server addresses", async () => {
  const { servers, ...otherFields } = await fetchDocument(parley);
  const { servers: _, ...expectedFields } = await Bun.file(`${import.meta.dir}/../../contract/asyncapi.json`).json();
  expect(otherFields as object).toEqual(expectedFields);
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

test("without PUBLIC_URL, the document contains the requested host, even if forwarded headers contain a different host", async () => {
  for (const host of ["one.example.com", "two.example.com"])
    expect((await fetchDocument(parley, { host })).servers.parley).toMatchObject({ host, protocol: "ws" });
  const forwardedHeaders = { "x-forwarded-host": "forged.example.com", "x-forwarded-proto": "https" };
  const { servers } = await fetchDocument(parley, forwardedHeaders);
  expect(servers.parley).toMatchObject({ host: new URL(parley.url).host, protocol: "ws" });
});

test("with PUBLIC_URL, the document contains that URL, even if a different host was requested", async () => {
  const proxiedApp = await startApp({ config: { PUBLIC_URL: "https://chat.example.com/parley/" } });
  try {
    const forgedHeaders = { host: "forged.example.com", "x-forwarded-host": "forged.example.com" };
    const { servers } = await fetchDocument(proxiedApp, forgedHeaders);
    expect(servers.parley).toMatchObject({ host: "chat.example.com", pathname: "/parley", protocol: "wss" });
    expect(servers.http).toMatchObject({ host: "chat.example.com", pathname: "/parley", protocol: "https" });
    const page = await (await proxiedApp.fetch("/asyncapi", { headers: forgedHeaders })).text();
    expect(page).toContain("<code>wss://chat.example.com/parley/realtime</code>");
    expect(page).not.toContain("forged");
  } finally {
    await proxiedApp.stop();
  }
});

test.each(["/asyncapi.json", "/asyncapi.yaml"])("%s has a different ETag when it is compressed", async (path) => {
  const fetchPath = (headers: Record<string, string>) => fetch(`${parley.url}${path}`, { headers, decompress: false });
  const uncompressedResponse = await fetchPath({ "accept-encoding": "identity" });
  const text = await uncompressedResponse.text();
  const compressedResponse = await fetchPath({ "accept-encoding": "gzip" });
  expect(compressedResponse.headers.get("content-encoding")).toBe("gzip");
  expect(compressedResponse.headers.get("vary")).toContain("Accept-Encoding");
  expect(new TextDecoder().decode(Bun.gunzipSync(await compressedResponse.arrayBuffer()))).toBe(text);
  const etags = [uncompressedResponse, compressedResponse].map(({ headers }) => headers.get("etag") ?? "");
  expect(new Set(etags).size).toBe(2);
  for (const [coding, etag] of [
    ["identity", etags[0]],
    ["gzip", etags[1]],
  ] as const) {
    const cachedResponse = await fetchPath({ "accept-encoding": coding, "if-none-match": etag ?? "" });
    expect([cachedResponse.status, await cachedResponse.text()]).toEqual([304, ""]);
  }
});
