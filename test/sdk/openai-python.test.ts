import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { join } from "node:path";
import recorded from "./fixtures/openai-python-3.22.1.json";
import { models, type SdkParley, startSdkParley } from "./start-parley.ts";

/** A request that python/client.py sent, without its API key, and the response status. */
type RecordedRequest = { method: string; path: string; headers: Record<string, string>; body: string; status: number };

/** The Python interpreter that `make test-python` installs together with the SDK. If it is missing, these tests are skipped. */
const python = join(import.meta.dir, "../../.tools/python/bin/python");
const clientScript = join(import.meta.dir, "python/client.py");

let parley: SdkParley;

beforeAll(async () => {
  parley = await startSdkParley();
});
afterAll(() => parley.stop());

test("recorded requests from openai (python) 3.22.1 receive the expected responses", async () => {
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
    const text = { text: "It's raining." };
    const call = { toolCalls: [{ name: "get_weather", arguments: '{"city":"Paris"}' }], thinkingFormat };
    const finalAnswer = { text: "It's raining in Paris.", thinkingFormat };
    parley.script(model, text, text, text, text, call, finalAnswer, { text: '{"city":"Paris"}' });
    const pythonProcess = Bun.spawn([python, clientScript, parley.baseURL, parley.apiKey, model], {
      stdout: "pipe",
      stderr: "pipe",
    });
    const [stdout, stderr] = await Promise.all([
      new Response(pythonProcess.stdout).text(),
      new Response(pythonProcess.stderr).text(),
    ]);
    expect([await pythonProcess.exited, stderr]).toEqual([0, ""]);
    // The SDK sends the message with the call back unchanged, including the model's thinking.
    expect(parley.provider.thinkingErrors).toEqual([]);
    const badRequest = { error: "BadRequestError", status: 400 };
    expect(JSON.parse(stdout)).toEqual({
      completion: { text: "It's raining.", tokens: true },
      stream: { text: "It's raining.", tokens: true },
      helper: { text: "It's raining.", final: "It's raining." },
      async: { text: "It's raining." },
      tools: { reason: "tool_calls", text: "It's raining in Paris." },
      parsed: { city: "Paris" },
      unsupported: { ...badRequest, code: "unsupported_value", param: "n" },
      unknown: { ...badRequest, code: "unknown_parameter", param: "foo" },
      absent: { error: "NotFoundError", status: 404, code: "model_not_found", param: "model" },
      models: { models, one: model },
    });
  });
});
