import { afterAll, beforeAll, expect, test } from "bun:test";
import { PauseSignal } from "../../src/ai/pause-signal.ts";
import { createProviders } from "../../src/ai/providers/create-providers.ts";
import { loadConfig } from "../../src/config.ts";

const requests: { url: string; headers: Record<string, string> }[] = [];
let server: ReturnType<typeof Bun.serve>;
beforeAll(() => {
  server = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    fetch(request) {
      requests.push({ url: request.url, headers: Object.fromEntries(request.headers) });
      return new Response("", { status: 500 });
    },
  });
});
afterAll(() => server.stop(true));

/** Sends a request with a key and custom header fields, and returns the header fields that the server received. */
async function sendRequest(name: string, headers: Record<string, string>): Promise<Record<string, string>> {
  const settingPrefix = name.toUpperCase();
  const config = loadConfig(
    {
      [`${settingPrefix}_API_KEY`]: "the-key",
      [`${settingPrefix}_BASE_URL`]: `${server.url.origin}/v1`,
      [`AI_${settingPrefix}_HEADERS`]: JSON.stringify(headers),
      AI_MODELS: `${name}/model`,
    },
    () => "",
  );
  const { providers } = createProviders(config, async () => []);
  await providers.get(name)?.stream(
    {
      model: "model",
      messages: [{ role: "user", content: "Hello" }],
      partial: null,
      outputTokensMax: null,
      canThink: false,
      options: {},
      signal: new AbortController().signal,
      pause: new PauseSignal(),
    },
    () => {},
  );
  return requests.at(-1)?.headers ?? {};
}

test.each(["openai", "anthropic", "compatible"])(
  "custom header fields are sent to %s, and replace Parley's own",
  async (name) => {
    const headersWithAdditions = await sendRequest(name, { "X-Team": "blue", "User-Agent": "Parley" });
    expect(headersWithAdditions).toMatchObject({ "x-team": "blue", "user-agent": "Parley" });
    expect(JSON.stringify(headersWithAdditions)).toContain("the-key");
    const headersWithReplacements = await sendRequest(name, { Authorization: "Token other", "X-Api-Key": "another" });
    expect(headersWithReplacements).toMatchObject({ authorization: "Token other", "x-api-key": "another" });
    expect(JSON.stringify(headersWithReplacements)).not.toContain("the-key");
  },
);
