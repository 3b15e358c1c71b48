import { afterEach, beforeEach, expect, test } from "bun:test";
import { createProxyFinder } from "../../src/lib/outgoing/find-proxy.ts";
import { createGuardedSender } from "../../src/lib/outgoing/send-guarded.ts";
import { waitUntilReusable } from "../ai/raw-server.ts";
import { createRequest, formatResponse, type Receiver, startReceiver } from "../lib/outgoing/receiver.ts";
import { type HttpProxy, startHttpProxy } from "../support/http-proxy.ts";

/** A public address that the test proxy maps to this machine. */
const PUBLIC_ADDRESS = "93.184.216.34";

let proxy: HttpProxy;
let receiver: Receiver;
beforeEach(async () => {
  proxy = await startHttpProxy("user:hunter2");
  receiver = startReceiver((socket) => void socket.write(formatResponse("200 OK", "thanks")));
});
afterEach(async () => {
  receiver.stop();
  await proxy.stop();
});

const createProxyUrl = (password = "hunter2") => proxy.url.replace("://", `://user:${password}@`);

/** Creates a sender that uses the proxy and resolves all names to `addresses`. */
const createSender = (addresses: string[], { proxyUrl = createProxyUrl(), noProxy = [] as string[] } = {}) =>
  createGuardedSender(async () => addresses, createProxyFinder({ HTTP_PROXY: proxyUrl, NO_PROXY: noProxy }));

const catchError = (response: Promise<unknown>): Promise<Error> =>
  response.then(
    () => {
      throw new Error("the request was sent");
    },
    (error) => error,
  );

const publicOnly = { allowPrivate: false };

test("the proxy connects to the checked address, and the server receives the host name", async () => {
  const send = createSender([PUBLIC_ADDRESS]);
  const response = await send(createRequest(`http://hooks.test:${receiver.port}/in`, publicOnly));
  expect(response.status).toBe(200);
  expect(new TextDecoder().decode(response.body)).toBe("thanks");
  expect(proxy.requests).toMatchObject([{ kind: "tunnel", target: `${PUBLIC_ADDRESS}:${receiver.port}` }]);
  expect(receiver.requests[0]).toStartWith("POST /in HTTP/1.1\r\n");
  expect(receiver.requests[0]).toContain(`host: hooks.test:${receiver.port}\r\n`);
  expect(receiver.requests[0]?.toLowerCase()).not.toContain("proxy-");
});

test.each([
  ["a name with a private address", "http://inside.test", ["10.0.0.7"]],
  ["a name with a public and a private address", "http://both.test", [PUBLIC_ADDRESS, "169.254.169.254"]],
  ["a private address", "http://10.0.0.7", []],
  ["a cloud metadata service", "http://169.254.169.254", []],
  ["this machine", "http://127.0.0.1", []],
  ["this machine's name", "http://localhost", []],
  ["an unknown name", "http://nowhere.test", []],
])("no proxy is used for %s", async (_, origin, addresses) => {
  const error = await catchError(createSender(addresses)(createRequest(`${origin}:${receiver.port}/`, publicOnly)));
  expect(error.message).toMatch(/not resolve to a public address|is not a public address/);
  expect(proxy.requests).toEqual([]);
  expect(receiver.connectionCount).toBe(0);
});

test("the addresses of a name in NO_PROXY are checked too", async () => {
  const send = createSender(["127.0.0.1"], { noProxy: ["hooks.test"] });
  const url = `http://hooks.test:${receiver.port}/`;
  expect((await catchError(send(createRequest(url, publicOnly)))).message).toContain(
    "does not resolve to a public address",
  );
  expect(receiver.connectionCount).toBe(0);
  expect((await send(createRequest(url))).status).toBe(200);
  expect(proxy.requests).toEqual([]);
});

test("if private addresses are allowed, the proxy resolves names that Parley can't resolve", async () => {
  const send = createGuardedSender(
    () => Promise.reject(new Error("ENOTFOUND")),
    createProxyFinder({ HTTP_PROXY: createProxyUrl() }),
  );
  expect((await send(createRequest(`http://hooks.test:${receiver.port}/`))).status).toBe(200);
  expect(proxy.requests).toMatchObject([{ kind: "tunnel", target: `hooks.test:${receiver.port}` }]);
});

test("connections are reused per address", async () => {
  const addresses = [PUBLIC_ADDRESS];
  const send = createSender(addresses);
  const url = `http://hooks.test:${receiver.port}/`;
  await send(createRequest(url, publicOnly));
  await waitUntilReusable();
  await send(createRequest(url, publicOnly));
  expect(proxy.requests.length).toBe(1);
  const sendToOtherAddress = createSender(["93.184.216.35"]);
  await sendToOtherAddress(createRequest(url, publicOnly));
  expect(proxy.requests.at(-1)?.target).toBe(`93.184.216.35:${receiver.port}`);
});

test("the next address is used when the proxy can't reach the first one", async () => {
  // The test proxy maps every address to the same port, so both connections fail.
  receiver.stop();
  await catchError(
    createSender([PUBLIC_ADDRESS, "93.184.216.35"])(createRequest(`http://hooks.test:${receiver.port}/`, publicOnly)),
  );
  expect(proxy.requests.map(({ target }) => target.split(":")[0])).toEqual([PUBLIC_ADDRESS, "93.184.216.35"]);
});

test("a webhook's owner receives no information about the proxy", async () => {
  const url = `http://hooks.test:${receiver.port}/`;
  const credentialsError = await catchError(
    createSender([PUBLIC_ADDRESS, "93.184.216.35"], { proxyUrl: createProxyUrl("wrong") })(
      createRequest(url, publicOnly),
    ),
  );
  expect(credentialsError.message).toBe(`hooks.test:${receiver.port} could not be reached.`);
  // The other address isn't tried, because the proxy would require the same credentials.
  expect(proxy.requests.length).toBe(1);
  expect((credentialsError.cause as Error).message).toBe(
    `the proxy 127.0.0.1:${proxy.port} rejects the credentials (HTTP 407): correct the user and password in HTTP_PROXY`,
  );
  proxy.state.mode = "rejects";
  const connectError = await catchError(createSender([PUBLIC_ADDRESS])(createRequest(url, publicOnly)));
  expect(connectError.message).toBe(`hooks.test:${receiver.port} could not be reached.`);
  expect(receiver.connectionCount).toBe(0);
});

test("a stalled proxy is disconnected when the request times out", async () => {
  proxy.state.mode = "stalls";
  const error = await catchError(
    createSender([PUBLIC_ADDRESS])(createRequest(`http://hooks.test:${receiver.port}/`, { timeoutMs: 100 })),
  );
  expect(error.message).toMatch(/could not be reached|No response within 0\.1 seconds/);
});
