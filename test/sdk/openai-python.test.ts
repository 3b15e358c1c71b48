import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { join } from "node:path";
import recorded from "./fixtures/openai-python-3.22.1.json";
import { models, type SdkParley, startSdkParley } from "./start-parley.ts";

/** A request that python/client.py sent, without its API key, and the response status. */
type RecordedRequest = { method: string; path: string; headers: Record<string, string>; body: string; status: number };

/** Where `make test-python` installs the SDK. If its packages can't be downloaded, these tests are skipped. */
const python = join(import.meta.dir, "../../.tools/python/bin/python");
const client = join(import.meta.dir, "python/client.py");

let parley: SdkParley;

beforeAll(async () => {
  parley = await startSdkParley();
});
afterAll(() => parley.stop());

test("recorded requests of openai (python) 3.22.1 get the expected responses", async () => {
  const text = '{"city":"Paris"}';
  parley.script("openai/one", { text });
  const requests = recorded as RecordedRequest[];
  expect(requests.length).toBe(12);
  for (const { method, path, headers, body, status } of requests) {
    const response = await fetch(`${parley.parley.url}${path}`, {
      method,
      headers: { ...headers, authorization: `Bearer ${parley.apiKey}` },
      ...(body !== "" && { body }),
    });
    const responseText = await response.text();
    expect([path, body, response.status]).toEqual([path, body, status]);
    if (body.includes('"stream":true')) expect(responseText).toEndWith("data: [DONE]\n\n");
    else if (status === 200 && body !== "") expect(JSON.parse(responseText).choices[0].message.content).toBe(text);
    else if (status !== 200) expect(JSON.parse(responseText).error.type).toBe("invalid_request_error");
  }
});

describe.skipIf(!existsSync(python))("openai (python)", () => {
  const thinkingFormats = ["encrypted", "signed", "plain"] as const;
  const cases = models.map((model, index) => [model, thinkingFormats[index] ?? null] as const);
  test.each(cases)("reads answers, streams, tool loops, errors and models with %s", async (model, thinkingFormat) => {
    const text = { text: "It rains." };
    const call = { toolCalls: [{ name: "get_weather", arguments: '{"city":"Paris"}' }], thinkingFormat };
    const last = { text: "It rains in Paris.", thinkingFormat };
    parley.script(model, text, text, text, text, call, last, { text: '{"city":"Paris"}' });
    const run = Bun.spawn([python, client, parley.baseURL, parley.apiKey, model], { stdout: "pipe", stderr: "pipe" });
    const [output, errors] = await Promise.all([new Response(run.stdout).text(), new Response(run.stderr).text()]);
    expect([await run.exited, errors]).toEqual([0, ""]);
    // The SDK sends the message with the call back unchanged, including the model's thinking.
    expect(parley.provider.refusals).toEqual([]);
    const refused = { error: "BadRequestError", status: 400 };
    expect(JSON.parse(output)).toEqual({
      completion: { text: "It rains.", tokens: true },
      stream: { text: "It rains.", tokens: true },
      helper: { text: "It rains.", final: "It rains." },
      async: { text: "It rains." },
      tools: { reason: "tool_calls", text: "It rains in Paris." },
      parsed: { city: "Paris" },
      refused: { ...refused, code: "unsupported_value", param: "n" },
      unknown: { ...refused, code: "unknown_parameter", param: "foo" },
      absent: { error: "NotFoundError", status: 404, code: "model_not_found", param: "model" },
      models: { models, one: model },
    });
  });
});
