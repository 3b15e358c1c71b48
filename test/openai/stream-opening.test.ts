import { afterAll, describe, expect, test } from "bun:test";
import OpenAI, { APIError } from "openai";
import { COMMENT_INTERVAL_MS } from "../../src/modules/openai/chunk-stream.ts";
import {
  createFailure,
  createFinish,
  pushText,
  type ScriptedRun,
  startCompletionServer,
} from "../support/scripted-completion-server.ts";

/** Tolerance for late timers on a busy machine. */
const TIMER_TOLERANCE_MS = 700;

const servers = new Set<ReturnType<typeof startCompletionServer>>();
afterAll(() => Promise.all([...servers].map((server) => server.stop())));

function startServer(run: ScriptedRun, options = {}) {
  const server = startCompletionServer(options);
  servers.add(server);
  server.scriptRun(run);
  return server;
}

type Chunk = { atMs: number; text: string };

/** Sends a request, and returns each received chunk with its time since the request. */
async function sendRequest(run: ScriptedRun, body: object = { stream: true }) {
  const { url } = startServer(run);
  const startedMs = performance.now();
  const measureMs = () => performance.now() - startedMs;
  const response = await fetch(`${url}/chat/completions`, { method: "POST", body: JSON.stringify(body) });
  const openedMs = measureMs();
  const chunks: Chunk[] = [];
  const decoder = new TextDecoder();
  for await (const bytes of response.body ?? []) chunks.push({ atMs: measureMs(), text: decoder.decode(bytes) });
  const text = chunks.map((chunk) => chunk.text).join("");
  return {
    response,
    openedMs,
    chunks,
    text,
    commentCount: text.match(/^: keep-alive$/gm)?.length ?? 0,
    endedMs: measureMs(),
  };
}

describe.concurrent("a stream", () => {
  test("opens with the model's first byte, before there is text", async () => {
    const { openedMs, text, response } = await sendRequest(async (push, { onActivity }) => {
      await Bun.sleep(100);
      onActivity();
      await Bun.sleep(1_000);
      pushText(push, "Hello");
      return createFinish();
    });
    expect(openedMs).toBeWithin(95, 100 + TIMER_TOLERANCE_MS);
    expect(response.headers.get("content-type")).toStartWith("text/event-stream");
    expect(text).toStartWith(": connected\n\ndata: {");
    expect(text).toEndWith("data: [DONE]\n\n");
  });

  test("opens after two seconds without any output", async () => {
    const { openedMs, chunks } = await sendRequest(async (push) => {
      await Bun.sleep(3_000);
      pushText(push, "Hello");
      return createFinish();
    });
    expect(openedMs).toBeWithin(1_950, 2_000 + TIMER_TOLERANCE_MS);
    expect(chunks[0]?.text).toBe(": connected\n\n");
    // The role is sent with the first text, because the answering model isn't known before that.
    expect(chunks[1]?.atMs).toBeGreaterThan(2_950);
    expect(chunks[1]?.text).toContain('"model":"a/b","choices":[{"index":0,"delta":{"role":"assistant","content":""}');
  });

  test("has a role chunk even if the model sends only tool calls or nothing", async () => {
    for (const toolCalls of [[{ id: "c1", name: "look_up", arguments: "{}" }], []]) {
      const { text } = await sendRequest(async (_push, { onActivity }) => {
        onActivity();
        await Bun.sleep(20);
        return createFinish({ toolCalls, reason: toolCalls.length > 0 ? "tool_calls" : "stop" });
      });
      expect(text).toMatch(/^: connected\n\ndata: \{[^\n]*"role":"assistant"/);
      expect(text.match(/"role"/g)?.length).toBe(1);
      expect(text.includes('"name":"look_up"')).toBe(toolCalls.length > 0);
      expect(text).toEndWith("data: [DONE]\n\n");
    }
  });

  test("isn't opened if the provider rejects the request, and the error keeps its status and Retry-After", async () => {
    const { response, text } = await sendRequest(async () => {
      await Bun.sleep(1_500);
      return createFailure("provider_rate_limited", { status: 429, retryAfterMs: 2_100 });
    });
    expect([response.status, response.headers.get("retry-after")]).toEqual([429, "3"]);
    expect(response.headers.get("content-type")).toStartWith("application/json");
    expect(JSON.parse(text).error).toMatchObject({ code: "provider_rate_limited", type: "rate_limit_error" });
  });

  test("isn't opened if the model's first packet is an error, even if the run ends much later", async () => {
    const { response, text } = await sendRequest((_push, { onActivity, onEnd }) => {
      onActivity();
      onEnd();
      return Bun.sleep(2_500).then(() =>
        createFailure("provider_refused", { providerCode: "context_length_exceeded" }),
      );
    });
    expect(response.status).toBe(400);
    expect(JSON.parse(text).error).toMatchObject({ code: "context_length_exceeded" });
  });

  test("that is already open ends with an error event and without [DONE] if the provider rejects the request", async () => {
    const { response, text, endedMs } = await sendRequest(async (_push, { onActivity }) => {
      onActivity();
      await Bun.sleep(100);
      return createFailure("provider_refused", { status: 400, providerCode: "invalid_value", param: "top_p" });
    });
    expect(response.status).toBe(200);
    expect(endedMs).toBeLessThan(1_000);
    const [first, event, rest] = text.split("\n\n");
    expect([first, rest]).toEqual([": connected", ""]);
    expect(JSON.parse(event?.replace("data: ", "") ?? "")).toEqual({
      error: {
        message: "The model rejected the value of a parameter of the request. Parameter: top_p.",
        type: "invalid_request_error",
        param: "top_p",
        code: "invalid_value",
      },
    });
  });

  test("sends a comment after every five seconds without text, even before the first text", async () => {
    const { chunks, commentCount, text } = await sendRequest(async (push, { onActivity }) => {
      onActivity();
      await Bun.sleep(COMMENT_INTERVAL_MS + 1_000);
      pushText(push, "Hello");
      await Bun.sleep(COMMENT_INTERVAL_MS + 1_000);
      return createFinish();
    });
    expect(commentCount).toBe(2);
    const chunkTimesMs = chunks.map(({ atMs }) => atMs);
    for (const [index, atMs] of [...chunkTimesMs, chunkTimesMs.at(-1) ?? 0].entries())
      expect(atMs - (chunkTimesMs[index - 1] ?? 0)).toBeLessThan(COMMENT_INTERVAL_MS + TIMER_TOLERANCE_MS);
    expect(text).toEndWith("data: [DONE]\n\n");
  }, 20_000);

  test("sends no comments while text is sent", async () => {
    const { commentCount, text } = await sendRequest(async (push) => {
      pushText(push);
      for (let sent = 0; sent < 13; sent += 1) {
        push({ type: "text", text: "word " });
        await Bun.sleep(500);
      }
      return createFinish();
    });
    expect(commentCount).toBe(0);
    expect(text.match(/word /g)?.length).toBe(13);
  }, 20_000);

  test("ends immediately if the model's run resets text that was already sent, even if the run continues", async () => {
    const { text, endedMs } = await sendRequest(async (push) => {
      pushText(push, "Let me ", "look");
      push({ type: "reset", model: "c/d", attempt: 2, text: "" });
      push({ type: "text", text: "Something else." });
      await Bun.sleep(3_000);
      return createFinish();
    });
    expect(endedMs).toBeLessThan(1_000);
    expect(text).not.toContain("Something else.");
    expect(text).not.toContain("[DONE]");
    expect(text).toContain('"error":{');
  });
});

describe.concurrent("a disconnecting reader", () => {
  async function disconnect(
    server: ReturnType<typeof startServer>,
    stream: boolean,
    started: Promise<void>,
  ): Promise<void> {
    const abort = new AbortController();
    const body = JSON.stringify({ stream });
    const request = fetch(`${server.url}/chat/completions`, { method: "POST", body, signal: abort.signal });
    request.catch(() => {});
    await started;
    abort.abort();
    for (let waits = 0; waits < 50 && server.countDisconnects() === 0; waits += 1) await Bun.sleep(20);
  }

  test.each([true, false])("ends the run before the model has answered (stream: %p)", async (stream) => {
    const started = Promise.withResolvers<void>();
    const server = startServer(() => {
      started.resolve();
      return new Promise(() => {});
    });
    await disconnect(server, stream, started.promise);
    expect(server.countDisconnects()).toBe(1);
  });

  test.each([true, false])("ends the run before a model is called (stream: %p)", async (stream) => {
    const server = startServer(() => new Promise(() => {}), { startDelayMs: 300 });
    await disconnect(server, stream, Bun.sleep(100));
    expect(server.countDisconnects()).toBe(1);
  });
});

describe.concurrent("a non-streamed answer", () => {
  test("sends no early bytes, and its connection isn't closed by the server's idle timeout", async () => {
    const { openedMs, text, response } = await sendRequest(async (push, { onActivity }) => {
      onActivity();
      // This test's server closes connections that have been idle for a second, and checks them every four seconds.
      await Bun.sleep(8_000);
      pushText(push, "Hello");
      return createFinish();
    }, {});
    expect(openedMs).toBeGreaterThan(7_900);
    expect(response.headers.get("content-type")).toStartWith("application/json");
    expect(JSON.parse(text)).toMatchObject({ model: "a/b", choices: [{ message: { content: "Hello" } }] });
  }, 20_000);
});

describe.concurrent("OpenAI's client", () => {
  const createClient = (run: ScriptedRun) => new OpenAI({ apiKey: "k", baseURL: startServer(run).url, maxRetries: 0 });
  const params = { model: "a/b", messages: [{ role: "user" as const, content: "Hello" }], stream: true as const };
  const refusal = createFailure("provider_refused", {
    status: 422,
    providerCode: "invalid_type",
    param: "messages[0].content",
  });

  async function catchError(run: ScriptedRun): Promise<{ error: APIError; receivedTexts: string[] }> {
    const receivedTexts: string[] = [];
    try {
      for await (const chunk of await createClient(run).chat.completions.create(params))
        receivedTexts.push(chunk.choices[0]?.delta.content ?? "");
    } catch (error) {
      if (error instanceof APIError) return { error, receivedTexts };
      throw error;
    }
    throw new Error("The request succeeded.");
  }

  test("ignores comments", async () => {
    const stream = await createClient(async (push, { onActivity }) => {
      onActivity();
      await Bun.sleep(COMMENT_INTERVAL_MS + 500);
      pushText(push, "Hel", "lo");
      return createFinish();
    }).chat.completions.create(params);
    const texts = [];
    for await (const { choices } of stream) texts.push(choices[0]?.delta.content ?? null);
    expect(texts).toEqual(["", "Hel", "lo", null]);
  }, 20_000);

  test("throws an APIError with status, code and parameter if the request is rejected before the stream opens", async () => {
    const { error } = await catchError(async () => refusal);
    expect(error).toMatchObject({ status: 422, code: "invalid_type", param: "messages[0].content" });
  });

  test("throws an APIError with code and parameter if the request is rejected later, after returning the text received before", async () => {
    const { error, receivedTexts } = await catchError(async (push) => {
      pushText(push, "Hel", "lo");
      await Bun.sleep(50);
      return refusal;
    });
    expect(error).toMatchObject({ status: undefined, code: "invalid_type", param: "messages[0].content" });
    expect(receivedTexts).toEqual(["", "Hel", "lo"]);
  });
});
