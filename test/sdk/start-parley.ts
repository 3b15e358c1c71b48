import { createKey } from "../api-keys/create-key.ts";
import { startApp } from "../support/app.ts";
import { type MockProvider, startMockProvider } from "../support/mock-provider/server.ts";

/** The configured models, one per wire format. */
export const models = ["openai/one", "anthropic/two", "compatible/three"];

type ModelScript = Parameters<MockProvider["script"]>[1];
export type SdkParley = Awaited<ReturnType<typeof startSdkParley>>;

/** Starts Parley with a provider for each wire format, and creates an API key that can only call models. */
export async function startSdkParley(config: Record<string, string> = {}) {
  const provider = startMockProvider();
  const parley = await startApp({
    config: {
      OPENAI_API_KEY: "sk-test",
      OPENAI_BASE_URL: provider.openaiUrl,
      ANTHROPIC_API_KEY: "sk-ant-test",
      ANTHROPIC_BASE_URL: provider.anthropicUrl,
      COMPATIBLE_BASE_URL: provider.openaiUrl,
      AI_MODELS: models.join(","),
      AI_MAX_RETRIES: "0",
      ...config,
    },
  });
  const anna = await parley.register();
  const { key: apiKey } = await createKey(parley, anna, { scopes: ["chat:completions"] });
  return {
    parley,
    provider,
    anna,
    apiKey,
    baseURL: `${parley.url}/v1`,
    /** Scripts the answers of a model (`provider/name`). */
    script(model: string, ...scripts: ModelScript[]): void {
      provider.script(model.slice(model.indexOf("/") + 1), ...scripts);
    },
    async stop(): Promise<void> {
      await parley.stop();
      await provider.stop();
    },
  };
}
