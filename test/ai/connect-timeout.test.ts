import { afterEach, expect, spyOn, test } from "bun:test";
import { CONNECT_TIMEOUT_MS } from "../../src/lib/http-client/open-socket.ts";
import type { MockProvider } from "../support/mock-provider/server.ts";
import { collectRun, createTestChain } from "./collect.ts";

const realSetTimeout = globalThis.setTimeout;
afterEach(() => {
  globalThis.setTimeout = realSetTimeout;
});

test("a stalled TLS handshake times out long before the first-token timeout", async () => {
  let connections = 0;
  const server = Bun.listen({
    hostname: "127.0.0.1",
    port: 0,
    socket: {
      open() {
        connections += 1;
      },
      data() {},
    },
  });
  // Shortens the timeout for the test.
  spyOn(globalThis, "setTimeout").mockImplementation(((callback: () => void, ms: number) =>
    realSetTimeout(callback, ms === CONNECT_TIMEOUT_MS ? 100 : ms)) as typeof setTimeout);
  const url = `https://127.0.0.1:${server.port}/v1`;
  const mockProvider = { openaiUrl: url, anthropicUrl: url } as MockProvider;
  const options = { firstTokenTimeoutMs: 60_000, maxRetries: 1 };
  const startedMs = performance.now();
  const { end } = await collectRun(createTestChain(mockProvider, ["openai/model"], options));
  server.stop(true);
  expect(end).toMatchObject({ type: "error", code: "provider_unavailable" });
  expect(performance.now() - startedMs).toBeWithin(200, 3_000);
  expect(connections).toBe(2);
});
