import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { join } from "node:path";
import recorded from "./fixtures/openai-python-3.22.1.json";
import { models, type SdkParley, startSdkParley } from "./start-parley.ts";

/** What the SDK has sent while it ran python/client.py, but for its key, and the status of the response. */
type Recorded = { method: string; path: string; headers: Record<string, string>; body: string; status: number };

/** `make test-python` installs the SDK there; where its packages cannot be reached, these tests are left out. */
const python = join(import.meta.dir, "../../.tools/python/bin/python");
const client = join(import.meta.dir, "python/client.py");

let parley: SdkParley;

beforeAll(async () => {
  parley = await startSdkParley();
});
afterAll(() => parley.stop());

test("the requests of openai (python) 3.22.1, as it sent them", async () => {
  parley.script("openai/one", { text: "It rains." });
  const requests = recorded as Recorded[];
  expect(requests.length).toBe(11);
  for (const { method, path, headers, body, status } of requests) {
    const response = await fetch(`${parley.parley.url}${path}`, {
      method,
      headers: { ...headers, authorization: `Bearer ${parley.apiKey}` },
      ...(body !== "" && { body }),
    });
    const text = await response.text();
    expect([path, body, response.status]).toEqual([path, body, status]);
    if (body.includes('"stream":true')) expect(text).toEndWith("data: [DONE]\n\n");
    else if (status === 200 && body !== "") expect(JSON.parse(text).choices[0].message.content).toBe("It rains.");
    else if (status !== 200) expect(JSON.parse(text).error.type).toBe("invalid_request_error");
  }
});

describe.skipIf(!existsSync(python))("openai (python)", () => {
  test.each(models)("%s: whole answers, streams, tool loops, errors and models", async (model) => {
    const text = { text: "It rains." };
    const call = { toolCalls: [{ name: "get_weather", arguments: '{"city":"Paris"}' }] };
    parley.script(model, text, text, text, text, call, { text: "It rains in Paris." });
    const run = Bun.spawn([python, client, parley.baseURL, parley.apiKey, model], { stdout: "pipe", stderr: "pipe" });
    const [output, errors] = await Promise.all([new Response(run.stdout).text(), new Response(run.stderr).text()]);
    expect([await run.exited, errors]).toEqual([0, ""]);
    const refused = { error: "BadRequestError", status: 400 };
    expect(JSON.parse(output)).toEqual({
      whole: { text: "It rains.", tokens: true },
      stream: { text: "It rains.", tokens: true },
      helper: { text: "It rains.", final: "It rains." },
      async: { text: "It rains." },
      tools: { reason: "tool_calls", text: "It rains in Paris." },
      refused: { ...refused, code: "unsupported_value", param: "n" },
      unknown: { ...refused, code: "unknown_parameter", param: "foo" },
      absent: { error: "NotFoundError", status: 404, code: "model_not_found", param: "model" },
      models: { models, one: model },
    });
  });
});
