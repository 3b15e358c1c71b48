import { describe, expect, test } from "bun:test";
import { createTimeoutsOf } from "../../src/ai/timeouts.ts";
import { listProviders } from "../../src/config/list-providers.ts";
import { findUnknownNames } from "../../src/config/unknown-names.ts";
import { findWarnings } from "../../src/config/warnings.ts";
import { ConfigError, formatConfig, listSecrets, loadConfig } from "../../src/config.ts";

type Environment = Record<string, string>;

const load = (environment: Environment, files: Environment = {}) =>
  loadConfig(environment, (path) => {
    const text = files[path];
    if (text === undefined) throw new Error(`no ${path}`);
    return text;
  });

function findProblems(environment: Environment): string[] {
  try {
    load(environment);
    return [];
  } catch (error) {
    if (error instanceof ConfigError) return error.problems;
    throw error;
  }
}

const two = {
  AI_PROVIDERS: "groq=https://api.groq.com/openai/v1, my-gateway=https://gate.example/v1?api-version=2024-10-21",
  AI_MODELS: "groq/llama-3.3-70b,my-gateway/meta-llama/llama-4:free",
};

describe("servers of AI_PROVIDERS", () => {
  test("each has its own settings, as the built-in providers have", () => {
    const config = load(
      {
        ...two,
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
    const timeoutsOf = createTimeoutsOf(config, () => false);
    expect(timeoutsOf("my-gateway/any")).toEqual({ firstTokenMs: 3_000, idleMs: 2_000 });
    expect(timeoutsOf("groq/any").idleMs).toBe(1_000);
  });

  test("model names may contain slashes and colons", () => {
    expect(load(two).AI_MODELS).toEqual(["groq/llama-3.3-70b", "my-gateway/meta-llama/llama-4:free"]);
    expect(findProblems({ AI_PROVIDERS: "ollama=http://localhost:11434/v1", AI_MODELS: "ollama/qwen3:8b" })).toEqual(
      [],
    );
  });

  test.each<[entry: string, problem: string]>([
    ["https://api.groq.com/v1", "a server's name is missing before its address; write it like groq="],
    ["groq", "a server's name is missing before its address"],
    ["=https://api.groq.com/v1", "a server's name is missing"],
    ["openai=https://gate.example/v1", "openai is a built-in provider; give the server another name."],
    ["offline=https://gate.example/v1", "offline is a built-in provider"],
    ["Groq=https://api.groq.com/v1", "may only have a-z, 0-9 and -; write groq."],
    ["my_gate=https://gate.example/v1", "write my-gate."],
    ["-a=https://gate.example/v1", "must be 1 to 32 of a-z, 0-9 and -, beginning with a letter or a digit"],
    [`${"a".repeat(33)}=https://gate.example/v1`, "must be 1 to 32"],
    ["groq=api.groq.com/v1", "the address of groq does not begin with http:// or https://"],
    ["groq=ftp://api.groq.com/v1", "the address of groq does not begin with http:// or https://"],
    ["groq=https://", "the address of groq is not a URL"],
    ["groq=https://a.example/v1;b=https://b.example/v1", "separate values with commas"],
    ["groq=https://a.example/v1,groq=https://b.example/v1", "two servers are named groq; rename one of them."],
    ["groq=https://a.example/v1/chat/completions", "the address of groq ends with /chat/completions"],
    ["a=https://a.example/deployments/x/chat/completions?api-version=1", "ends with /chat/completions"],
  ])("AI_PROVIDERS=%s: %s", (entry, problem) => {
    const problems = findProblems({ AI_PROVIDERS: entry });
    expect(problems).toHaveLength(1);
    expect(problems[0]).toStartWith("AI_PROVIDERS: ");
    expect(problems[0]).toContain(problem);
  });

  test("an Azure URL with models of other vendors isn't mistaken for a full endpoint URL", () => {
    expect(findProblems({ AI_PROVIDERS: "foundry=https://x.services.ai.azure.com/models?api-version=1" })).toEqual([]);
  });

  test("at most 50 are allowed", () => {
    const entries = Array.from({ length: 51 }, (_, index) => `s${index}=https://s${index}.example/v1`);
    expect(findProblems({ AI_PROVIDERS: entries.slice(1).join() })).toEqual([]);
    expect(findProblems({ AI_PROVIDERS: entries.join() })).toEqual([
      "AI_PROVIDERS: it has more than 50 servers; remove some.",
    ]);
  });

  test("a model of an unknown provider lists the known ones; a wrong address is reported only once", () => {
    expect(findProblems({ ...two, AI_MODELS: "grok/x" })).toEqual([
      'AI_MODELS: "grok/x" names the provider "grok", which is not one of openai, anthropic, compatible, offline, groq, my-gateway; ' +
        "for another OpenAI-compatible server add grok=ITS_BASE_URL to AI_PROVIDERS.",
    ]);
    expect(findProblems({ AI_PROVIDERS: "groq=nowhere", AI_MODELS: "groq/x" })).toHaveLength(1);
    expect(findProblems({ AI_MODELS: "https://user:pass-Word-1@models.example.com/v1" })).toEqual([
      'AI_MODELS: "https://********@models.example.com/v1" is an address; add name=ITS_BASE_URL to AI_PROVIDERS, and name/ and ' +
        "a model here.",
    ]);
    expect(findProblems({ ...two, AI_MODELS: "Groq/x,my-gateway/" })).toEqual([
      'AI_MODELS: "Groq/x" is not a model; write groq/x.',
      'AI_MODELS: "my-gateway/" has no model name; write my-gateway/ followed by the model\'s name.',
    ]);
  });

  test("a request has one credential", () => {
    const AI_PROVIDERS = "gate=https://user:hunter2@gate.example/v1";
    expect(findProblems({ AI_PROVIDERS, AI_GATE_API_KEY: "k" })).toEqual([
      "AI_PROVIDERS: the address of gate has a user and password, but AI_GATE_API_KEY is set; remove one of them.",
    ]);
    expect(findProblems({ AI_PROVIDERS, AI_GATE_HEADERS: '{"Authorization":"x"}' })).toEqual([
      "AI_PROVIDERS: the address of gate has a user and password, but AI_GATE_HEADERS has authorization; remove one of them.",
    ]);
    expect(findProblems({ AI_PROVIDERS, AI_GATE_HEADERS: '{"X-Team":"x"}' })).toEqual([]);
  });

  test("all errors are reported together", () => {
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
  const explain = (value: string) => findProblems({ AI_COMPATIBLE_HEADERS: value });

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
  ])("%s: %s", (value, problem) => {
    const problems = explain(value);
    expect(problems).toHaveLength(1);
    expect(problems[0]).toStartWith("AI_COMPATIBLE_HEADERS: ");
    expect(problems[0]).toContain(problem);
    expect(problems[0]).not.toContain("hunter2");
  });

  test("accepts valid fields", () => {
    expect(explain('{"api-key":"hunter2","X-Title":"Parley, a chat"}')).toEqual([]);
    expect(explain("{}")).toEqual([]);
  });
});

test("the configuration is printed with names and addresses, but without secrets", () => {
  const config = load({
    AI_PROVIDERS: "gate=https://user:hunter2@gate.example/v1?api-version=1&key=hunter3,a=https://a.example/v1",
    AI_A_API_KEY: "hunter4-hunter4",
    AI_GATE_HEADERS: '{"x-gate":"hunter5-hunter5","X-Title":"Parley"}',
  });
  const printed = formatConfig(config, new Map([["AI_A_API_KEY", "environment"]]));
  expect(printed).toContain(
    "AI_PROVIDERS=gate=https://********@gate.example/v1?api-version=1&key=********,a=https://a.example/v1",
  );
  expect(printed).toContain("AI_A_API_KEY=********                     # environment");
  expect(printed).toContain("AI_GATE_HEADERS=********");
  expect(printed).toContain("# AI_GATE_IDLE_TIMEOUT_MS is not set");
  expect(printed).not.toMatch(/hunter/);
  const secrets = listSecrets(config);
  for (const secret of ["hunter2", "hunter3", "hunter4-hunter4", "hunter5-hunter5"]) expect(secrets).toContain(secret);
  // Redacting the user name would remove half of the log.
  expect(secrets).not.toContain("Parley");
});

describe("unknown variables", () => {
  const warn = (name: string, providers = ["groq=https://api.groq.com/v1"]) =>
    findUnknownNames({ [name]: "hunter2" }, undefined, { AI_PROVIDERS: providers }).join("");

  test.each([
    "AI_GROQ_API_KEY",
    "AI_GROQ_HEADERS",
    "AI_GROQ_HEADERS_FILE",
    "AI_GROQ_IDLE_TIMEOUT_MS",
    "AI_PROVIDERS_FILE",
  ])("%s is known", (name) => expect(warn(name)).toBe(""));

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
  ])("%s: %s", (name, remedy) => {
    expect(warn(name)).toBe(`${name} is not a setting of Parley and has no effect; ${remedy}`);
  });
});

test("warns about a server without configured models", () => {
  const warn = (environment: Environment) => findWarnings(load(environment), { environment });
  expect(warn(two)).toEqual([]);
  expect(warn({ ...two, AI_MODELS: "groq/x" })).toEqual([
    expect.stringContaining("AI_PROVIDERS defines the server my-gateway, but AI_MODELS lists none of its models"),
  ]);
});
