import { describe, expect, test } from "bun:test";
import { createTimeoutLookup } from "../../src/ai/timeouts.ts";
import { listProviders } from "../../src/config/list-providers.ts";
import { findUnknownNames } from "../../src/config/unknown-names.ts";
import { findWarnings } from "../../src/config/warnings.ts";
import { ConfigError, formatConfig, listSecrets, loadConfig } from "../../src/config.ts";

type Environment = Record<string, string>;

const loadTestConfig = (environment: Environment, files: Environment = {}) =>
  loadConfig(environment, (path) => {
    const text = files[path];
    if (text === undefined) throw new Error(`no ${path}`);
    return text;
  });

function findProblems(environment: Environment): string[] {
  try {
    loadTestConfig(environment);
    return [];
  } catch (error) {
    if (error instanceof ConfigError) return error.problems;
    throw error;
  }
}

const twoServers = {
  AI_PROVIDERS: "groq=https://api.groq.com/openai/v1, my-gateway=https://gate.example/v1?api-version=2024-10-21",
  AI_MODELS: "groq/llama-3.3-70b,my-gateway/meta-llama/llama-4:free",
};

describe("the servers in AI_PROVIDERS", () => {
  test("have the same settings as the built-in providers", () => {
    const config = loadTestConfig(
      {
        ...twoServers,
        AI_GROQ_API_KEY: "gsk_1",
        AI_MY_GATEWAY_HEADERS_FILE: "/run/headers",
        AI_OPENAI_HEADERS: '{"OpenAI-Organization":"org-1"}',
        AI_IDLE_TIMEOUT_MS: "1000",
        AI_MY_GATEWAY_IDLE_TIMEOUT_MS: "2000",
        AI_MY_GATEWAY_FIRST_TOKEN_TIMEOUT_MS: "3000",
      },
      { "/run/headers": '{"API-Key":"k"}\n' },
    );
    expect(listProviders(config).map(({ name, baseUrl, apiKey, headers }) => [name, baseUrl, apiKey, headers])).toEqual(
      [
        ["openai", undefined, undefined, { "openai-organization": "org-1" }],
        ["anthropic", undefined, undefined, {}],
        ["compatible", undefined, undefined, {}],
        ["groq", "https://api.groq.com/openai/v1", "gsk_1", {}],
        ["my-gateway", "https://gate.example/v1?api-version=2024-10-21", undefined, { "api-key": "k" }],
      ],
    );
    const getTimeouts = createTimeoutLookup(config, () => false);
    expect(getTimeouts("my-gateway/any")).toEqual({ firstTokenMs: 3_000, idleMs: 2_000 });
    expect(getTimeouts("groq/any").idleMs).toBe(1_000);
  });

  test("can have model names with slashes and colons", () => {
    expect(loadTestConfig(twoServers).AI_MODELS).toEqual(["groq/llama-3.3-70b", "my-gateway/meta-llama/llama-4:free"]);
    expect(findProblems({ AI_PROVIDERS: "ollama=http://localhost:11434/v1", AI_MODELS: "ollama/qwen3:8b" })).toEqual(
      [],
    );
  });

  test.each<[entry: string, problem: string]>([
    ["https://api.groq.com/v1", "a server's name is missing before its URL; write it as groq="],
    ["groq", "a server's name is missing before its URL"],
    ["=https://api.groq.com/v1", "a server's name is missing"],
    ["openai=https://gate.example/v1", "openai is a built-in provider; choose a different name for the server."],
    ["offline=https://gate.example/v1", "offline is a built-in provider"],
    ["Groq=https://api.groq.com/v1", "may contain only a-z, 0-9 and -; write groq."],
    ["my_gate=https://gate.example/v1", "write my-gate."],
    ["-a=https://gate.example/v1", "must have 1 to 32 characters (a-z, 0-9, -) and begin with a letter or digit"],
    [`${"a".repeat(33)}=https://gate.example/v1`, "must have 1 to 32"],
    ["groq=api.groq.com/v1", "the URL of groq does not begin with http:// or https://"],
    ["groq=ftp://api.groq.com/v1", "the URL of groq does not begin with http:// or https://"],
    ["groq=https://", "the URL of groq is invalid"],
    ["groq=https://a.example/v1;b=https://b.example/v1", "separate values with commas"],
    ["groq=https://a.example/v1,groq=https://b.example/v1", "two servers are named groq; rename one of them."],
    ["groq=https://a.example/v1/chat/completions", "the URL of groq ends with /chat/completions"],
    ["a=https://a.example/deployments/x/chat/completions?api-version=1", "ends with /chat/completions"],
  ])("are rejected if they are set to %s: %s", (entry, problem) => {
    const problems = findProblems({ AI_PROVIDERS: entry });
    expect(problems).toHaveLength(1);
    expect(problems[0]).toStartWith("AI_PROVIDERS: ");
    expect(problems[0]).toContain(problem);
  });

  test("can have an Azure URL that ends with /models", () => {
    expect(findProblems({ AI_PROVIDERS: "foundry=https://x.services.ai.azure.com/models?api-version=1" })).toEqual([]);
  });

  test("are limited to 50", () => {
    const entries = Array.from({ length: 51 }, (_, index) => `s${index}=https://s${index}.example/v1`);
    expect(findProblems({ AI_PROVIDERS: entries.slice(1).join() })).toEqual([]);
    expect(findProblems({ AI_PROVIDERS: entries.join() })).toEqual([
      "AI_PROVIDERS: it has more than 50 servers; remove some.",
    ]);
  });

  test("are listed in the error for a model with an unknown provider", () => {
    expect(findProblems({ ...twoServers, AI_MODELS: "grok/x" })).toEqual([
      'AI_MODELS: "grok/x" specifies the provider "grok", which is not one of openai, anthropic, compatible, offline, groq, my-gateway; ' +
        "for another OpenAI-compatible server add grok=ITS_BASE_URL to AI_PROVIDERS.",
    ]);
    expect(findProblems({ AI_PROVIDERS: "groq=nowhere", AI_MODELS: "groq/x" })).toHaveLength(1);
    expect(findProblems({ AI_MODELS: "https://user:pass-Word-1@models.example.com/v1" })).toEqual([
      'AI_MODELS: "https://********@models.example.com/v1" is a URL; add name=ITS_BASE_URL to AI_PROVIDERS, and name/ and ' +
        "a model here.",
    ]);
    expect(findProblems({ ...twoServers, AI_MODELS: "Groq/x,my-gateway/" })).toEqual([
      'AI_MODELS: "Groq/x" is not a model; write groq/x.',
      'AI_MODELS: "my-gateway/" has no model name; write my-gateway/ followed by the model\'s name.',
    ]);
  });

  test("can have only one credential each", () => {
    const AI_PROVIDERS = "gate=https://user:hunter2@gate.example/v1";
    expect(findProblems({ AI_PROVIDERS, AI_GATE_API_KEY: "k" })).toEqual([
      "AI_PROVIDERS: the URL of gate has a user and password, but AI_GATE_API_KEY is set; remove one of them.",
    ]);
    expect(findProblems({ AI_PROVIDERS, AI_GATE_HEADERS: '{"Authorization":"x"}' })).toEqual([
      "AI_PROVIDERS: the URL of gate has a user and password, but AI_GATE_HEADERS has authorization; remove one of them.",
    ]);
    expect(findProblems({ AI_PROVIDERS, AI_GATE_HEADERS: '{"X-Team":"x"}' })).toEqual([]);
  });

  test("have all errors reported together", () => {
    const problems = findProblems({
      AI_PROVIDERS: "a=https://a.example/v1,b=nowhere",
      AI_A_API_KEY: "two words",
      AI_A_HEADERS: "[]",
      AI_B_IDLE_TIMEOUT_MS: "soon",
      AI_A_FIRST_TOKEN_TIMEOUT_MS: "700000",
      AI_MODELS: "c/x",
    });
    expect(problems.map((problem) => problem.slice(0, problem.indexOf(":"))).sort()).toEqual([
      "AI_A_API_KEY",
      "AI_A_FIRST_TOKEN_TIMEOUT_MS",
      "AI_A_HEADERS",
      "AI_B_IDLE_TIMEOUT_MS",
      "AI_MODELS",
      "AI_PROVIDERS",
    ]);
  });
});

describe("header fields", () => {
  const findHeaderProblems = (value: string) => findProblems({ AI_COMPATIBLE_HEADERS: value });

  test.each<[value: string, problem: string]>([
    ["api-key: hunter2", "is not a JSON object"],
    ['["hunter2"]', "is not a JSON object"],
    ['{"Host":"hunter2"}', "the header field Host is set by Parley itself; remove it."],
    ['{"content-length":"hunter2"}', "the header field content-length is set by Parley itself"],
    ['{"Transfer-Encoding":"hunter2"}', "is set by Parley itself"],
    ['{"connection":"hunter2"}', "is set by Parley itself"],
    ['{"x":"a\\r\\nhost: hunter2"}', "the header field x has a line break in its value; remove it."],
    ['{"x":"a\\nhunter2"}', "has a line break"],
    ['{"x: hunter2":"y"}', "the name of a header field may only have letters, digits and -"],
    ['{"":"hunter2"}', "the name of a header field may only have letters, digits and -"],
    ['{"x":7}', "the header field x is not a string; write its value in quotes."],
    ['{"x":null}', "is not a string"],
    ['{"x":""}', "the header field x is empty"],
    ['{"x":" hunter2"}', "begins or ends with a space"],
    ['{"x":"hünter2"}', "has non-ASCII characters"],
    ['{"x":"hunter2","X":"hunter2"}', "the header field X appears twice; keep one of them."],
    [`{"x":"${"hunter2".repeat(2_000)}"}`, "is longer than 8192 characters"],
    [JSON.stringify(Object.fromEntries(Array.from({ length: 51 }, (_, n) => [`x${n}`, "hunter2"]))), "more than 50"],
  ])("are rejected if they are set to %s: %s", (value, problem) => {
    const problems = findHeaderProblems(value);
    expect(problems).toHaveLength(1);
    expect(problems[0]).toStartWith("AI_COMPATIBLE_HEADERS: ");
    expect(problems[0]).toContain(problem);
    expect(problems[0]).not.toContain("hunter2");
  });

  test("are accepted if they are valid", () => {
    expect(findHeaderProblems('{"api-key":"hunter2","X-Title":"Parley, a chat"}')).toEqual([]);
    expect(findHeaderProblems("{}")).toEqual([]);
  });
});

test("the configuration is printed with names and URLs, but without secrets", () => {
  const config = loadTestConfig({
    AI_PROVIDERS: "gate=https://user:hunter2@gate.example/v1?api-version=1&key=hunter3,a=https://a.example/v1",
    AI_A_API_KEY: "hunter4-hunter4",
    AI_GATE_HEADERS: '{"x-gate":"hunter5-hunter5","X-Title":"Parley"}',
  });
  const output = formatConfig(config, new Map([["AI_A_API_KEY", "environment"]]));
  expect(output).toContain(
    "AI_PROVIDERS=gate=https://********@gate.example/v1?api-version=1&key=********,a=https://a.example/v1",
  );
  expect(output).toContain("AI_A_API_KEY=********                     # environment");
  expect(output).toContain("AI_GATE_HEADERS=********");
  expect(output).toContain("# AI_GATE_IDLE_TIMEOUT_MS is not set");
  expect(output).not.toMatch(/hunter/);
  const secrets = listSecrets(config);
  for (const secret of ["hunter2", "hunter3", "hunter4-hunter4", "hunter5-hunter5"]) expect(secrets).toContain(secret);
  // Redacting such a common word would make the log unreadable.
  expect(secrets).not.toContain("Parley");
});

describe("unknown variables", () => {
  const listWarnings = (name: string, providers = ["groq=https://api.groq.com/v1"]) =>
    findUnknownNames({ [name]: "hunter2" }, undefined, { AI_PROVIDERS: providers }).join("");

  test.each([
    "AI_GROQ_API_KEY",
    "AI_GROQ_HEADERS",
    "AI_GROQ_HEADERS_FILE",
    "AI_GROQ_IDLE_TIMEOUT_MS",
    "AI_PROVIDERS_FILE",
  ])("don't include %s", (name) => expect(listWarnings(name)).toBe(""));

  test.each<[name: string, remedy: string]>([
    ["AI_GROK_API_KEY", "did you mean AI_GROQ_API_KEY?"],
    ["AI_GROQ_HEADER", "did you mean AI_GROQ_HEADERS?"],
    ["AI_GROQ_KEY", "did you mean AI_GROQ_API_KEY?"],
    ["AI_OPENAI_API_KEY", "did you mean OPENAI_API_KEY?"],
    ["AI_COMPATIBLE_BASE_URL", "did you mean COMPATIBLE_BASE_URL?"],
    ["OPENAI_CUSTOM_HEADERS", "did you mean AI_OPENAI_HEADERS?"],
    ["AI_MISTRAL_API_KEY", "add the server to AI_PROVIDERS, as mistral=ITS_BASE_URL."],
    ["AI_MY_GATEWAY_HEADERS_FILE", "add the server to AI_PROVIDERS, as my-gateway=ITS_BASE_URL."],
    ["AI_GROQ_BASE_URL", "add the server to AI_PROVIDERS, as groq=ITS_BASE_URL."],
    ["AI_PROVIDER", "did you mean AI_PROVIDERS?"],
  ])("cause a warning: %s, %s", (name, remedy) => {
    expect(listWarnings(name)).toBe(`${name} is not a Parley setting and has no effect; ${remedy}`);
  });
});

test("a server without configured models causes a warning", () => {
  const listWarnings = (environment: Environment) => findWarnings(loadTestConfig(environment), { environment });
  expect(listWarnings(twoServers)).toEqual([]);
  expect(listWarnings({ ...twoServers, AI_MODELS: "groq/x" })).toEqual([
    expect.stringContaining("AI_PROVIDERS defines the server my-gateway, but AI_MODELS lists none of its models"),
  ]);
});
