import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { type ProxiedSetup, type ProxyName, startProxiedSetup } from "../deploy/proxies.ts";
import { type BrowserPage, openPage } from "../support/browser-page.ts";
import { TEST_PASSWORD } from "../support/client.ts";
import type { Frame } from "../support/socket.ts";
import { TEST_TIMEOUT_MS } from "./installation.ts";

setDefaultTimeout(2 * TEST_TIMEOUT_MS);

const PIECES = 10;
const PIECE_DELAY_MS = 150;

/** A client that runs in each page, as a developer would write it. It connects the socket with a ticket. */
const clientScript = `
window.parley = {
  frames: [],
  async call(path, json) {
    const response = await fetch("/api/v1" + path, {
      method: json === undefined ? "GET" : "POST",
      headers: { "content-type": "application/json", ...(this.token && { authorization: "Bearer " + this.token }) },
      ...(json !== undefined && { body: JSON.stringify(json) }),
    });
    if (!response.ok) throw new Error(path + ": " + response.status + " " + await response.text());
    return response.json();
  },
  async login(email, password) {
    const { access_token, user } = await this.call("/auth/login", { email, password });
    this.token = access_token;
    return user.id;
  },
  async connect() {
    const { ticket } = await this.call("/auth/ticket", {});
    this.socket = new WebSocket(location.origin.replace("http", "ws") + "/realtime?ticket=" + ticket, ["parley.v1"]);
    this.socket.onmessage = ({ data }) => this.frames.push({ ...JSON.parse(data), arrived_at: performance.now() });
    await this.wait(({ type }) => type === "ready");
    return this.socket.protocol;
  },
  async wait(matches) {
    for (let n = 0; n < 1000; n += 1) {
      const found = this.frames.find(matches);
      if (found) return found;
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    throw new Error("No such frame: " + JSON.stringify(this.frames.map(({ type }) => type)));
  },
  send(frame) { this.socket.send(JSON.stringify(frame)); },
  request(frame) {
    const id = crypto.randomUUID();
    this.send({ id, ...frame });
    return this.wait((response) => response.id === id);
  },
};
`;

for (const name of ["nginx", "caddy"] as const) describe(name, () => testBrowsers(name));

function testBrowsers(name: ProxyName) {
  let proxied: ProxiedSetup;
  const pages: BrowserPage[] = [];
  beforeAll(async () => {
    proxied = await startProxiedSetup(name);
    proxied.mockProvider.script("slow", {
      pieces: Array.from({ length: PIECES }, (_, n) => `piece${n} `),
      pieceDelayMs: PIECE_DELAY_MS,
    });
  }, 3 * TEST_TIMEOUT_MS);
  afterAll(async () => {
    for (const page of pages) await page.close();
    await proxied?.stop();
  });

  test("two browsers exchange messages and typing events, and receive a streamed answer", async () => {
    const { proxy } = proxied;
    const accounts = await Promise.all(["ada@example.com", "bob@example.com"].map((email) => proxy.register(email)));
    for (const { user } of accounts) {
      const page = await openPage(`${proxy.url}/swagger`, proxy);
      pages.push(page);
      expect(await page.evaluate<boolean>("isSecureContext")).toBe(true);
      await page.evaluate(clientScript);
      expect(await page.evaluate<string>(`parley.login("${user.email}", "${TEST_PASSWORD}")`)).toBe(user.id);
      expect(await page.evaluate<string>("parley.connect()")).toBe("parley.v1");
    }
    const [ada, bob] = pages as [BrowserPage, BrowserPage];
    const [, bobAccount] = accounts as [unknown, (typeof accounts)[number]];
    const { id } = await ada.evaluate<{ id: string }>(
      'parley.call("/conversations", { title: "Two browsers", kind: "group", reply_mode: "never" })',
    );
    await ada.evaluate(`parley.call("/conversations/${id}/members", { user_id: "${bobAccount.user.id}" })`);
    for (const page of pages)
      expect(
        await page.evaluate<Frame>(`parley.request({ type: "subscribe", conversation_id: "${id}" })`),
      ).toMatchObject({
        type: "ack",
      });

    await ada.evaluate(`parley.send({ type: "typing.start", conversation_id: "${id}" })`);
    await bob.evaluate('parley.wait(({ type, active }) => type === "typing" && active)');

    const createSendExpression = (content: string, reply: boolean) =>
      `parley.request({ type: "message.send", conversation_id: "${id}", client_message_id: crypto.randomUUID(), content: "${content}", reply: ${reply} })`;
    expect(await ada.evaluate<Frame>(createSendExpression("Hello Bob", false))).toMatchObject({ type: "ack" });
    await bob.evaluate('parley.wait(({ type, data }) => type === "message.created" && data.content === "Hello Bob")');
    expect(await bob.evaluate<Frame>(createSendExpression("What does the model say?", true))).toMatchObject({
      type: "ack",
    });
    const text = Array.from({ length: PIECES }, (_, n) => `piece${n} `).join("");
    for (const page of pages) {
      const completed = await page.evaluate<Frame>('parley.wait(({ type }) => type === "message.completed")');
      expect(completed.data?.content).toBe(text);
      const deltas = await page.evaluate<(Frame & { arrived_at: number })[]>(
        'parley.frames.filter(({ type }) => type === "message.delta")',
      );
      expect(deltas.map((delta) => delta.text).join("")).toBe(text);
      const intervalsMs = deltas.slice(1).map((delta, n) => delta.arrived_at - (deltas[n]?.arrived_at ?? 0));
      expect(intervalsMs.filter((intervalMs) => intervalMs > PIECE_DELAY_MS / 2).length).toBeGreaterThan(PIECES / 2);
    }
    // The browser used HTTP/2.
    expect(await ada.evaluate<string>('performance.getEntriesByType("navigation")[0].nextHopProtocol')).toBe("h2");
    // The page's CSP allowed the socket's URL.
    expect(await ada.evaluate<number>('parley.frames.filter(({ type }) => type === "error").length')).toBe(0);
  });

  test("a socket from a page with a different origin is rejected", async () => {
    const { proxy } = proxied;
    const response = await fetch(`${proxy.url}/realtime`, {
      tls: proxy.tls,
      headers: {
        origin: "https://evil.example.com",
        connection: "upgrade",
        upgrade: "websocket",
        "sec-websocket-version": "13",
        "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
      },
    });
    expect(response.status).toBe(403);
  });
}
