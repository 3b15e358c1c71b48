import { expect, test } from "bun:test";
import { findWarnings } from "../../src/config/warnings.ts";
import { loadConfig } from "../../src/config.ts";

const listWarnings = (environment: Record<string, string>) =>
  findWarnings(
    loadConfig(environment, () => ""),
    { environment },
  );

test("a model server that is never used causes a warning with the settings to add", () => {
  expect(listWarnings({ COMPATIBLE_BASE_URL: "http://localhost:11434/v1" })).toEqual([
    expect.stringMatching(/^COMPATIBLE_BASE_URL is set, but .+; set AI_MODELS=compatible\/NAME /),
  ]);
  expect(
    listWarnings({ COMPATIBLE_BASE_URL: "http://u:hunter2@x/v1", OPENAI_API_KEY: "hunter2" }).join(),
  ).not.toContain("hunter2");
  expect(listWarnings({ COMPATIBLE_BASE_URL: "http://localhost:1/v1", AI_MODELS: "compatible/a" })).toEqual([]);
  expect(listWarnings({ COMPATIBLE_API_KEY: "k" })).toEqual([expect.stringContaining("; set both, and AI_MODELS.")]);
});
