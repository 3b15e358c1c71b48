import { afterEach, beforeEach, expect, test } from "bun:test";
import { createFindProxy } from "../../src/lib/outgoing/find-proxy.ts";
import { createGuardedSender } from "../../src/lib/outgoing/send-guarded.ts";
import { untilReusable } from "../ai/raw-server.ts";
import { type Receiver, receive, request, respond } from "../lib/outgoing/receiver.ts";
import { type HttpProxy, startHttpProxy } from "../support/http-proxy.ts";

/** A public address, which the test proxy maps to this machine. */
const PUBLIC = "93.184.216.34";

let proxy: HttpProxy;
let receiver: Receiver;
beforeEach(async () => {
  proxy = await startHttpProxy("user:hunter2");
  receiver = receive((socket) => void socket.write(respond("200 OK", "thanks")));
});
afterEach(async () => {
  receiver.stop();
  await proxy.stop();
});

const addressOf = (password = "hunter2") => proxy.url.replace("://", `://user:${password}@`);

/** Sends through the proxy, with names resolving to these addresses. */
const sendTo = (addresses: string[], { address = addressOf(), direct = [] as string[] } = {}) =>
  createGuardedSender(async () => addresses, createFindProxy({ HTTP_PROXY: address, NO_PROXY: direct }));

const failed = (sent: Promise<unknown>): Promise<Error> =>
  sent.then(
    () => {
      throw new Error("the request was sent");
    },
    (error) => error,
  );

const toPublic = { allowsPrivate: false };

test("the proxy connects to the checked address, and the server gets the name", async () => {
  const send = sendTo([PUBLIC]);
  const response = await send(request(`http://hooks.test:${receiver.port}/in`, toPublic));
  expect(response.status).toBe(200);
  expect(new TextDecoder().decode(response.body)).toBe("thanks");
  expect(proxy.requests).toMatchObject([{ form: "tunnel", target: `${PUBLIC}:${receiver.port}` }]);
  expect(receiver.requests[0]).toStartWith("POST /in HTTP/1.1\r\n");
  expect(receiver.requests[0]).toContain(`host: hooks.test:${receiver.port}\r\n`);
  expect(receiver.requests[0]?.toLowerCase()).not.toContain("proxy-");
});

test.each([
  ["a name with a private address", "http://inside.test", ["10.0.0.7"]],
  ["a name with addresses of both kinds", "http://both.test", [PUBLIC, "169.254.169.254"]],
  ["a private address", "http://10.0.0.7", []],
  ["a cloud metadata service", "http://169.254.169.254", []],
  ["this machine", "http://127.0.0.1", []],
  ["this machine's name", "http://localhost", []],
  ["an unknown name", "http://nowhere.test", []],
])("no proxy is used for %s", async (_, origin, addresses) => {
  const error = await failed(sendTo(addresses)(request(`${origin}:${receiver.port}/`, toPublic)));
  expect(error.message).toMatch(/not resolve to a public address|is not a public address/);
  expect(proxy.requests).toEqual([]);
  expect(receiver.connections).toBe(0);
});

test("a name in NO_PROXY is checked all the same", async () => {
  const send = sendTo(["127.0.0.1"], { direct: ["hooks.test"] });
  const url = `http://hooks.test:${receiver.port}/`;
  expect((await failed(send(request(url, toPublic)))).message).toContain("does not resolve to a public address");
  expect(receiver.connections).toBe(0);
  expect((await send(request(url))).status).toBe(200);
  expect(proxy.requests).toEqual([]);
});

test("if private addresses are allowed, the proxy resolves names that are unknown here", async () => {
  const send = createGuardedSender(
    () => Promise.reject(new Error("ENOTFOUND")),
    createFindProxy({ HTTP_PROXY: addressOf() }),
  );
  expect((await send(request(`http://hooks.test:${receiver.port}/`))).status).toBe(200);
  expect(proxy.requests).toMatchObject([{ form: "tunnel", target: `hooks.test:${receiver.port}` }]);
});

test("connections are reused per address", async () => {
  const addresses = [PUBLIC];
  const send = sendTo(addresses);
  const url = `http://hooks.test:${receiver.port}/`;
  await send(request(url, toPublic));
  await untilReusable();
  await send(request(url, toPublic));
  expect(proxy.requests.length).toBe(1);
  const other = sendTo(["93.184.216.35"]);
  await other(request(url, toPublic));
  expect(proxy.requests.at(-1)?.target).toBe(`93.184.216.35:${receiver.port}`);
});

test("the next address is used when the proxy can't reach the first one", async () => {
  // The test proxy maps every address to the same port, so both fail.
  receiver.stop();
  await failed(sendTo([PUBLIC, "93.184.216.35"])(request(`http://hooks.test:${receiver.port}/`, toPublic)));
  expect(proxy.requests.map(({ target }) => target.split(":")[0])).toEqual([PUBLIC, "93.184.216.35"]);
});

test("the owner of a webhook learns nothing about the proxy", async () => {
  const url = `http://hooks.test:${receiver.port}/`;
  const wrong = await failed(
    sendTo([PUBLIC, "93.184.216.35"], { address: addressOf("wrong") })(request(url, toPublic)),
  );
  expect(wrong.message).toBe(`hooks.test:${receiver.port} could not be reached.`);
  // One attempt: other addresses would need the same credentials.
  expect(proxy.requests.length).toBe(1);
  expect((wrong.cause as Error).message).toBe(
    `the proxy 127.0.0.1:${proxy.port} refuses the credentials (HTTP 407): correct user and password in HTTP_PROXY`,
  );
  proxy.state.mode = "refuses";
  const refused = await failed(sendTo([PUBLIC])(request(url, toPublic)));
  expect(refused.message).toBe(`hooks.test:${receiver.port} could not be reached.`);
  expect(receiver.connections).toBe(0);
});

test("a proxy that stalls is cut off at the timeout of the request", async () => {
  proxy.state.mode = "stalls";
  const error = await failed(sendTo([PUBLIC])(request(`http://hooks.test:${receiver.port}/`, { timeoutMs: 100 })));
  expect(error.message).toMatch(/could not be reached|No response within 0\.1 seconds/);
});
