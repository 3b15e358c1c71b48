import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { connect as connectHttp2 } from "node:http2";
import { createServer } from "node:net";
import { connect as connectTls } from "node:tls";
import { BODY_BYTES_MAX } from "../../src/http/body.ts";
import { canReloadCaddy } from "../deploy/programs.ts";
import { type ProxiedSetup, type ProxyName, startProxiedSetup, startProxy } from "../deploy/proxies.ts";
import { fetchCertificateNames } from "../support/certificates.ts";
import { type Account, TEST_PASSWORD } from "../support/client.ts";
import { createConversation } from "../support/conversation.ts";
import { openStream } from "../support/event-stream.ts";
import { openSocket, type TestSocket } from "../support/socket.ts";
import { waitUntil } from "../support/wait-until.ts";
import { TEST_TIMEOUT_MS } from "./installation.ts";

setDefaultTimeout(2 * TEST_TIMEOUT_MS);

const PIECES = 12;
const PIECE_DELAY_MS = 150;
const METRICS_TOKEN = "a-token-that-only-tests-know-0123456789";
/** An IP address that differs from the proxy's. */
const CLIENT_ADDRESS = "127.0.0.2";
const SEND_PAUSE_MS = 20;

for (const name of ["nginx", "caddy"] as const) describe(name, () => testProxy(name));

function testProxy(name: ProxyName) {
  let proxied: ProxiedSetup;
  let account: Account;
  beforeAll(async () => {
    proxied = await startProxiedSetup(name, {
      METRICS_TOKEN,
      IMPORT_BYTES_MAX: "2000000",
      RATE_LIMIT_USER_PER_MINUTE: "5000",
    });
    proxied.mockProvider.script("slow", {
      pieces: Array.from({ length: PIECES }, (_, n) => `piece${n} `),
      pieceDelayMs: PIECE_DELAY_MS,
    });
    account = await proxied.proxy.register();
  }, 3 * TEST_TIMEOUT_MS);
  afterAll(() => proxied?.stop());

  const openAccountSocket = () =>
    openSocket(proxied.proxy.url, { token: account.access_token, tls: proxied.proxy.tls });
  const openSubscribedSocket = async (conversation_id: string, after_seq?: number): Promise<TestSocket> => {
    const socket = await openAccountSocket();
    const ack = await socket.request({
      type: "subscribe",
      conversation_id,
      ...(after_seq !== undefined && { after_seq }),
    });
    expect(ack).toMatchObject({ type: "ack" });
    return socket;
  };
  const postMessage = (conversationId: string, content: string, client_message_id?: string) =>
    proxied.proxy.fetch(`/api/v1/conversations/${conversationId}/messages`, {
      token: account.access_token,
      json: { content, ...(client_message_id && { client_message_id }) },
    });
  const isMessageWith = (content: string) => (frame: { type: string; data?: { content?: string } }) =>
    frame.type === "message.created" && frame.data?.content === content;

  /** Reads a body. Returns its text and the intervals between its chunks. */
  async function readChunkTimes(response: Response): Promise<{ text: string; intervalsMs: number[] }> {
    const timesMs: number[] = [];
    let text = "";
    for await (const chunk of response.body ?? []) {
      text += new TextDecoder().decode(chunk);
      timesMs.push(performance.now());
    }
    return { text, intervalsMs: timesMs.slice(1).map((timeMs, n) => timeMs - (timesMs[n] ?? 0)) };
  }
  const countPauses = (intervalsMs: number[]) =>
    intervalsMs.filter((intervalMs) => intervalMs > PIECE_DELAY_MS / 2).length;

  test("forwards an answer's chunks without buffering them", async () => {
    const { proxy } = proxied;
    const { id } = await createConversation(proxy, account);
    const parleyStream = await proxy.fetch(`/api/v1/conversations/${id}/messages`, {
      token: account.access_token,
      json: { content: "What do you say?", reply: true },
      headers: { accept: "text/event-stream", "accept-encoding": "gzip, br" },
    });
    expect(parleyStream.headers.get("content-type")).toStartWith("text/event-stream");
    expect(parleyStream.headers.get("content-encoding")).toBeNull();
    const parleyChunks = await readChunkTimes(parleyStream);
    expect(parleyChunks.text).toContain("message.completed");
    expect(countPauses(parleyChunks.intervalsMs)).toBeGreaterThan(PIECES / 2);

    const openAiStream = await proxy.fetch("/v1/chat/completions", {
      token: account.access_token,
      json: { model: "compatible/slow", stream: true, messages: [{ role: "user", content: "What do you say?" }] },
      headers: { "accept-encoding": "gzip, br" },
    });
    const openAiChunks = await readChunkTimes(openAiStream);
    expect(openAiChunks.text).toContain("[DONE]");
    expect(countPauses(openAiChunks.intervalsMs)).toBeGreaterThan(PIECES / 2);
  });

  test("forwards Last-Event-ID, so that event streams resume after that event, even over HTTP/2", async () => {
    const { proxy } = proxied;
    const { id } = await createConversation(proxy, account);
    for (const content of ["one", "two", "three"]) expect((await postMessage(id, content)).status).toBe(201);
    const stream = await openStream(proxy, `/conversations/${id}/events`, {
      token: account.access_token,
      headers: { "last-event-id": "1" },
    });
    await stream.waitFor(isMessageWith("three"));
    expect((await postMessage(id, "four")).status).toBe(201);
    await stream.waitFor(isMessageWith("four"));
    expect(stream.listSeqs()).toEqual([2, 3, 4]);
    await stream.close();

    const session = connectHttp2(proxy.url, proxy.tls);
    const request = session.request({
      ":path": `/api/v1/conversations/${id}/events`,
      authorization: `Bearer ${account.access_token}`,
      accept: "text/event-stream",
      "last-event-id": "3",
    });
    let text = "";
    const { promise: receivedFive, resolve } = Promise.withResolvers<void>();
    request.on("data", (chunk: Buffer) => {
      text += chunk.toString();
      if (text.includes('"five"')) resolve();
    });
    await new Promise((opened) => request.once("response", opened));
    expect((await postMessage(id, "five")).status).toBe(201);
    await receivedFive;
    expect(text).toContain('"four"');
    expect(text).not.toContain('"three"');
    request.close();
    session.destroy();
  });

  test("forwards the client's real IP address, even if the client sends a different one in a header", async () => {
    const { proxy, instances } = proxied;
    const login = async (password: string, forwarded: string) => {
      const curl = Bun.spawn(
        // biome-ignore format: one option per line
        [
          "curl", "--silent", "--cacert", proxy.authorityFile, "--interface", CLIENT_ADDRESS,
          "--resolve", `localhost:${proxy.httpsPort}:127.0.0.1`,
          "--header", `X-Forwarded-For: ${forwarded}`, "--header", `X-Real-IP: ${forwarded}`,
          "--header", `Forwarded: for=${forwarded}`,
          "--json", JSON.stringify({ email: account.user.email, password }),
          "--write-out", "\n%{http_code}", `${proxy.url}/api/v1/auth/login`,
        ],
        { stdout: "pipe" },
      );
      const [body = "", status] = (await new Response(curl.stdout).text()).split("\n");
      return { status: Number(status), body };
    };
    const { status, body } = await login(TEST_PASSWORD, "203.0.113.9");
    expect(status).toBe(200);
    const { access_token } = JSON.parse(body) as Account;
    const sessions = (await (await proxy.fetch("/api/v1/me/sessions", { token: access_token })).json()) as {
      data: { ip_address: string; current: boolean }[];
    };
    expect(sessions.data.find(({ current }) => current)?.ip_address).toBe(CLIENT_ADDRESS);
    const log = instances.map((instance) => instance.readLog()).join("");
    expect(log).toContain(CLIENT_ADDRESS);
    expect(log).not.toContain("203.0.113.9");

    // These requests count towards the same rate limit, although each request sends a different address in its headers.
    const responses: Awaited<ReturnType<typeof login>>[] = [];
    for (let n = 0; n < 200 && responses.at(-1)?.status !== 429; n += 1)
      responses.push(await login("wrong horse battery", `203.0.113.${n % 250}`));
    const lastResponse = responses.at(-1);
    expect(lastResponse?.status).toBe(429);
    expect(JSON.parse(lastResponse?.body ?? "")).toMatchObject({
      status: 429,
      type: expect.stringContaining("/problems/"),
    });
  });

  test("forwards Parley's errors unchanged", async () => {
    const { proxy } = proxied;
    const { id } = await createConversation(proxy, account);
    const readResponse = async (response: Response) => ({
      status: response.status,
      type: response.headers.get("content-type"),
      body: (await response.json()) as { code: string; request_id: string },
      id: response.headers.get("x-request-id"),
    });
    const notFound = await readResponse(await proxy.fetch("/api/v1/nothing", { token: account.access_token }));
    expect(notFound).toMatchObject({ status: 404, type: "application/problem+json", body: { code: "not_found" } });
    expect(notFound.body.request_id).toBe(notFound.id as string);
    for (const bytes of [BODY_BYTES_MAX + 1, 2 * BODY_BYTES_MAX - 100, 20 * BODY_BYTES_MAX]) {
      const tooLarge = await readResponse(await postMessage(id, "a".repeat(bytes)));
      expect(tooLarge).toMatchObject({ status: 413, type: "application/problem+json", body: { code: "too_large" } });
      expect(tooLarge.body.request_id).toBe(tooLarge.id as string);
    }
    // This route has a lower limit.
    const tooLargeToken = await readResponse(
      await proxy.fetch("/api/v1/auth/refresh", { json: { refresh_token: "a".repeat(70_000) } }),
    );
    expect(tooLargeToken).toMatchObject({ status: 413, body: { code: "too_large" } });
    const accepted = await postMessage(id, "a".repeat(30_000));
    expect(accepted.status).toBe(201);

    const file = `[${'"a",'.repeat(900_000)}"a"]`;
    const rejectedImport = await proxy.fetch("/api/v1/imports?source=chatgpt", {
      token: account.access_token,
      body: file,
      headers: { "content-type": "application/json" },
      method: "POST",
    });
    expect(await readResponse(rejectedImport)).toMatchObject({ status: 413, body: { code: "too_large" } });
    // This body exceeds the limit of all other routes.
    const acceptedImport = await proxy.fetch("/api/v1/imports?source=chatgpt", {
      token: account.access_token,
      body: `[${" ".repeat(1_900_000)}]`,
      headers: { "content-type": "application/json" },
      method: "POST",
    });
    expect(acceptedImport.status).toBe(202);

    const completion = await proxy.fetch("/v1/chat/completions", {
      token: account.access_token,
      json: { model: "compatible/slow", messages: [{ role: "user", content: "a".repeat(3 * BODY_BYTES_MAX) }] },
    });
    expect({ status: completion.status, body: await completion.json() }).toMatchObject({
      status: 413,
      body: { error: { code: "too_large", type: "invalid_request_error" } },
    });
  });

  test("blocks /metrics, and redirects http to https", async () => {
    const { proxy } = proxied;
    for (const path of [
      "/metrics",
      "/metrics/",
      "//metrics",
      "/METRICS",
      "/%6detrics",
      "/metrics?x",
      "/./metrics",
      "/a/../metrics",
      "/metrics%2f",
      "/metrics;x",
    ]) {
      const response = await requestRaw(path);
      expect({ path, isBlocked: /^HTTP\/1\.1 (4\d\d|30\d) /.test(response) }).toEqual({ path, isBlocked: true });
      expect(response).not.toContain("parley_build_info");
    }
    const directResponse = await proxied.instances[0].fetch("/metrics", { token: METRICS_TOKEN });
    expect(await directResponse.text()).toContain("parley_build_info{");
    const httpResponse = await fetch(`http://localhost:${proxy.httpPort}/version`, { redirect: "manual" });
    expect(httpResponse.status).toBe(308);
    expect(httpResponse.headers.get("location")).toStartWith("https://localhost");
    expect((await proxy.fetch("/version")).headers.get("strict-transport-security")).toMatch(/^max-age=\d{8}/);
  });

  /** Sends a request with an unusual path, which `fetch` would normalize. Returns the complete response. */
  function requestRaw(path: string): Promise<string> {
    const { promise, resolve, reject } = Promise.withResolvers<string>();
    const options = { port: proxied.proxy.httpsPort, host: "127.0.0.1", servername: "localhost", ...proxied.proxy.tls };
    const head = `GET ${path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer ${METRICS_TOKEN}\r\nConnection: close\r\n\r\n`;
    const socket = connectTls(options, () => socket.write(head));
    let text = "";
    socket.on("data", (chunk: Buffer) => {
      text += chunk.toString();
    });
    socket.on("end", () => resolve(text));
    socket.on("error", reject);
    return promise;
  }

  test("forwards ETag and If-Match unchanged", async () => {
    const { proxy } = proxied;
    const webhookResponse = await proxy.fetch("/api/v1/webhooks", {
      token: account.access_token,
      json: { url: "https://hooks.example.com/", events: ["message.created"] },
    });
    const path = `/api/v1/webhooks/${((await webhookResponse.json()) as { id: string }).id}`;
    const headers = { "accept-encoding": "gzip, br" };
    const etag = (await proxy.fetch(path, { token: account.access_token, headers })).headers.get("etag") ?? "";
    expect(etag).toStartWith('"');
    const patchWebhook = (value: string) =>
      proxy.fetch(path, {
        token: account.access_token,
        method: "PATCH",
        headers: { "if-match": value, "content-type": "application/json" },
        body: '{"description":"Other"}',
      });
    expect((await patchWebhook('"stale"')).status).toBe(412);
    expect((await patchWebhook(etag)).status).toBe(200);
  });

  test("logs no credentials", async () => {
    const { proxy } = proxied;
    const hookToken = "hk_this_is_a_credential";
    await proxy.fetch(`/api/v1/hooks/${hookToken}`, { json: { content: "hello" } });
    await expect(openSocket(proxy.url, { tls: proxy.tls, query: "?ticket=this-is-a-ticket" })).rejects.toThrow();
    expect(proxy.readLog()).not.toContain(hookToken);
    expect(proxy.readLog()).not.toContain("this-is-a-ticket");
    expect(proxy.readLog()).not.toContain(account.access_token);
  });

  test("retries failed GET requests but not POST requests, and logs no credentials", async () => {
    const receivedRequests: string[] = [];
    const failingServers = await Promise.all(
      [0, 1].map(async () => {
        const server = createServer((socket) => {
          socket.on("error", () => {});
          socket.on("data", (data) => {
            const line = data.toString().split("\r\n")[0] ?? "";
            // Responds to Caddy's health checks.
            if (line.startsWith("GET /readyz")) return socket.end("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
            if (line.includes(" /api/")) receivedRequests.push(line);
            socket.destroy();
          });
        });
        await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
        return server;
      }),
    );
    const [firstPort, secondPort] = failingServers.map((server) => (server.address() as { port: number }).port);
    const proxy = await startProxy(name, [firstPort as number, secondPort as number]);
    try {
      const postResponse = await proxy.fetch("/api/v1/conversations/1/messages", { json: { content: "hello" } });
      expect(postResponse.status).toBe(502);
      expect(await postResponse.json()).toMatchObject({
        status: 502,
        code: "bad_gateway",
        request_id: expect.any(String),
      });
      expect(receivedRequests).toEqual(["POST /api/v1/conversations/1/messages HTTP/1.1"]);
      // Failed requests are logged without credentials.
      await proxy.fetch("/api/v1/hooks/this-is-a-credential", { json: { content: "hello" }, token: "this-is-a-token" });
      await proxy.fetch("/realtime?ticket=this-is-a-ticket", { token: "this-is-a-token" });
      expect(proxy.readLog()).not.toMatch(/this-is-a/);
      const completion = await proxy.fetch("/v1/chat/completions", { json: {} });
      expect(await completion.json()).toMatchObject({ error: { code: "bad_gateway" } });
      receivedRequests.length = 0;
      expect((await proxy.fetch("/api/v1/me")).status).toBe(502);
      expect(receivedRequests.length).toBeGreaterThan(1);
    } finally {
      await proxy.stop();
      for (const server of failingServers) server.close();
    }
  });

  // Debian's version of Caddy closes sockets when it reloads (see docs/proxies.md).
  const keepsSockets = name === "nginx" || canReloadCaddy();
  test(`keeps streams open during a reload, and ${keepsSockets ? "keeps sockets open" : "lets clients reconnect"}`, async () => {
    const { proxy } = proxied;
    const { id } = await createConversation(proxy, account);
    const socket = await openSubscribedSocket(id);
    const stream = await openStream(proxy, `/conversations/${id}/events`, { token: account.access_token });
    const answer = await proxy.fetch(`/api/v1/conversations/${id}/messages`, {
      token: account.access_token,
      json: { content: "What do you say?", reply: true },
      headers: { accept: "text/event-stream" },
    });
    const answerChunks = readChunkTimes(answer);
    await proxy.reload();
    // The old workers accept connections for a moment after the reload.
    await waitUntil(async () =>
      name === "nginx"
        ? (await fetchCertificateNames(proxy.httpsPort)).includes("second.test")
        : (await proxy.fetch("/version")).headers.get("x-reloaded") === "yes",
    );
    expect((await answerChunks).text).toContain("message.completed");
    // Waits longer than Caddy's grace period.
    await Bun.sleep(11_000);
    expect(socket.socket.readyState === WebSocket.OPEN).toBe(keepsSockets);
    const activeSocket = keepsSockets ? socket : await openSubscribedSocket(id);
    expect((await postMessage(id, "after the reload")).status).toBe(201);
    await activeSocket.waitFor(isMessageWith("after the reload"));
    await stream.waitFor(isMessageWith("after the reload"));
    await stream.close();
    await activeSocket.close();
  });

  test.if(name === "nginx")("fails no requests while an instance that is marked as down restarts", async () => {
    const { proxy, instances, startInstance } = proxied;
    const { id } = await createConversation(proxy, account);
    const stopController = new AbortController();
    const failures: string[] = [];
    let sentCount = 0;
    const sendMessages = async () => {
      while (!stopController.signal.aborted) {
        sentCount += 1;
        const response = await postMessage(id, `message ${sentCount}`).catch((error: Error) => error);
        if (response instanceof Error) failures.push(response.message);
        else if (response.status !== 201) failures.push(`${response.status} ${await response.text()}`);
        await Bun.sleep(SEND_PAUSE_MS);
      }
    };
    const senders = [sendMessages(), sendMessages()];
    for (const n of [0, 1] as const) {
      const address = `server 127.0.0.1:${proxy.upstreams[n]}`;
      await proxy.reload((text) => text.replace(address, `${address} down`));
      await Bun.sleep(1_000);
      expect((await instances[n].stop()).code).toBe(0);
      instances[n] = await startInstance(n);
      await proxy.reload();
      await Bun.sleep(1_000);
    }
    stopController.abort();
    await Promise.all(senders);
    expect(failures).toEqual([]);
    expect(sentCount).toBeGreaterThan(50);
  });

  test("moves clients to the other instance during a rolling restart, without losing or duplicating messages", async () => {
    const { instances, startInstance } = proxied;
    const { id } = await createConversation(proxied.proxy, account);
    const stopController = new AbortController();
    const seqs: number[] = [];
    const closeCodes: number[] = [];
    /** Reconnects and resumes after the last event, as client libraries do. */
    const receiveEvents = async () => {
      while (!stopController.signal.aborted) {
        const socket = await openSubscribedSocket(id, seqs.at(-1) ?? 0).catch(() => null);
        if (!socket) {
          await Bun.sleep(100);
          continue;
        }
        const ack = socket.frames.find(({ type }) => type === "ack") as unknown as { events?: { seq: number }[] };
        const recordSeqs = (list: { seq?: number }[]) => {
          for (const { seq } of list) if (seq !== undefined && seq > (seqs.at(-1) ?? 0)) seqs.push(seq);
        };
        recordSeqs(ack.events ?? []);
        const stopped = new Promise<void>((resolve) =>
          stopController.signal.addEventListener("abort", () => resolve()),
        );
        const closed = await Promise.race([socket.closed, stopped]);
        recordSeqs(socket.list("message.created"));
        if (closed) closeCodes.push(closed.code);
        else await socket.close();
      }
    };
    const receiver = receiveEvents();
    const failures: string[] = [];
    let sentCount = 0;
    const sendMessages = async () => {
      while (!stopController.signal.aborted) {
        sentCount += 1;
        const key = `message-${sentCount}`;
        for (;;) {
          const response = await postMessage(id, key, key).catch(() => null);
          const body = (await response?.json().catch(() => null)) as { code?: string } | null;
          if (response?.ok) break;
          failures.push(`${response?.status} ${body?.code}`);
          await Bun.sleep(100);
        }
        await Bun.sleep(SEND_PAUSE_MS);
      }
    };
    const senders = [sendMessages(), sendMessages()];
    for (const n of [0, 1] as const) {
      expect((await instances[n].stop()).code).toBe(0);
      instances[n] = await startInstance(n);
      // Caddy's health checks run every two seconds.
      await Bun.sleep(3_000);
    }
    // Simulates a crash.
    await instances[0].kill();
    await Bun.sleep(2_000);
    instances[0] = await startInstance(0);
    await Bun.sleep(1_000);
    stopController.abort();
    await Promise.all([...senders, receiver]);
    if (process.env.VERBOSE) console.log(name, { sentCount, failures, closeCodes });
    expect(sentCount).toBeGreaterThan(50);
    // Requests to an instance that is starting, stopping or killed fail with one of these JSON errors.
    expect(failures.filter((failure) => !/^(503 draining|503 unavailable|502 bad_gateway)$/.test(failure))).toEqual([]);
    const path = `/api/v1/conversations/${id}`;
    const { last_seq } = (await (await proxied.proxy.fetch(path, { token: account.access_token })).json()) as {
      last_seq: number;
    };
    expect(last_seq).toBe(sentCount);
    expect(seqs).toEqual(Array.from({ length: seqs.length }, (_, n) => n + 1));
    expect(closeCodes).toContain(4001);
  });
}
