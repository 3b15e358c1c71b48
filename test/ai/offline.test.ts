import { expect, test } from "bun:test";
import { createChain } from "../../src/ai/chain/chain.ts";
import { createProviders } from "../../src/ai/providers/create-providers.ts";
import type { SearchDocuments } from "../../src/ai/providers/offline/provider.ts";
import { noUsage } from "../../src/ai/usage.ts";
import { silentLog } from "../support/log.ts";
import { collectRun } from "./collect.ts";

const options = { getTimeouts: () => ({ firstTokenMs: 100, idleMs: 100 }), maxRetries: 0, log: silentLog };

const createOfflineChain = (search: SearchDocuments, models: string[] = []) =>
  createChain({ ...createProviders({ AI_MODELS: models }, search), ...options });

test("the offline model says that no model is configured, quotes the documents and cites the files", async () => {
  const searches: unknown[] = [];
  const chain = createOfflineChain(async (query, limit) => {
    searches.push([query, limit]);
    return [
      { path: "guides/start.md", title: "Start", heading: "Install", snippet: "Run `make run`.\nThen wait." },
      { path: "README.md", title: "Parley", heading: null, snippet: "A chat backend." },
    ];
  });
  const { parts, text, end } = await collectRun(chain);
  expect(searches).toEqual([["What is Parley?", 3]]);
  expect(text).toContain("I am offline: no AI model is configured");
  expect(text).toContain("**Start › Install** (`guides/start.md`)\n\n> Run `make run`.\n> Then wait.");
  expect(text).toEndWith("Sources: `guides/start.md`, `README.md`");
  expect(parts.filter((part) => part.type === "text").length).toBeGreaterThan(30);
  expect(end).toEqual({
    type: "finish",
    model: "offline/documents",
    models: ["offline/documents"],
    reason: "stop",
    toolCalls: [],
    usage: { ...noUsage, input_tokens: 0, output_tokens: 0, estimated: false },
    costUsd: 0,
  });
  expect(chain.listModels()).toEqual([{ id: "offline/documents", provider: "offline", state: "available" }]);
});

test("the offline model says that it found nothing if no document matches", async () => {
  const { text } = await collectRun(createOfflineChain(async () => []));
  expect(text).toContain("found no passage that fits");
});

test("a failing search ends the run with an error that has no details", async () => {
  const { parts, end } = await collectRun(createOfflineChain(() => Promise.reject(new Error("relation is missing"))));
  expect(end).toMatchObject({ type: "error", code: "provider_unavailable" });
  expect(JSON.stringify([parts, end])).not.toContain("relation");
});

test("a hanging search times out", async () => {
  const { end } = await collectRun(createOfflineChain(() => new Promise(() => {})));
  expect(end).toMatchObject({ type: "error", code: "provider_timeout" });
});

test("an unknown offline model is rejected", async () => {
  const { end } = await collectRun(createOfflineChain(async () => [], ["offline/other"]));
  expect(end).toMatchObject({ type: "error", code: "provider_refused" });
});

test("only configured providers are created, and the offline model is used if no model is configured", () => {
  const search: SearchDocuments = async () => [];
  const withKey = createProviders({ OPENAI_API_KEY: "k", AI_MODELS: [] }, search);
  expect([[...withKey.providers.keys()], withKey.models]).toEqual([["offline", "openai"], ["offline/documents"]]);
  const withDuplicate = createProviders(
    { COMPATIBLE_BASE_URL: "http://x/v1", AI_MODELS: ["compatible/a", "compatible/a"] },
    search,
  );
  expect([[...withDuplicate.providers.keys()], withDuplicate.models]).toEqual([
    ["offline", "compatible"],
    ["compatible/a"],
  ]);
});

test("a failover chain without models or with an unknown provider is rejected", () => {
  const { providers } = createProviders({ AI_MODELS: [] }, async () => []);
  expect(() => createChain({ ...options, providers, models: [] })).toThrow("at least one model");
  expect(() => createChain({ ...options, providers, models: ["openai/x"] })).toThrow("No provider");
});
