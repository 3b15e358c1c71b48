import { FLAKY_SILENCE_MS, flakyModels, LONG_MODEL, LONG_WORDS, SHORT_MODEL, SHORT_WORDS, scripts } from "./scripts.ts";
import { writeAnswerStream } from "./stream.ts";

export type FaultyProvider = ReturnType<typeof startFaultyProvider>;

type Body = { model?: string; stream?: boolean; messages?: { role: string; content: unknown }[] };

/**
 * A fake provider with OpenAI's Chat Completions API, whose models fail as their scripts say. If a request contains an
 * interrupted answer, the model continues with the next word, as real models are asked to. So a complete text proves that
 * nothing was lost or repeated.
 */
export function startFaultyProvider() {
  const requests = new Map<string, number>();
  async function answer(request: Request): Promise<Response> {
    if (!new URL(request.url).pathname.endsWith("/chat/completions")) return new Response(null, { status: 404 });
    const body = (await request.json()) as Body;
    const name = body.model ?? "";
    const script = scripts[name];
    if (!script || body.stream !== true) {
      const error = { message: "Unknown model, or not a stream.", type: "invalid_request_error" };
      return Response.json({ error }, { status: 404 });
    }
    const count = (requests.get(name) ?? 0) + 1;
    requests.set(name, count);
    const isFaulty = script.fault !== undefined && count <= (script.faults ?? Number.POSITIVE_INFINITY);
    if (isFaulty && script.fault?.kind === "status") return refuse(script.fault);
    const written = countQuotedWords(body);
    const stream = writeAnswerStream({
      model: name,
      firstWord: written + 1,
      words: name === "long" ? LONG_WORDS : SHORT_WORDS,
      wordDelayMs: (written > 0 && script.resumedDelayMs) || script.wordDelayMs,
      fault: isFaulty ? script.fault : undefined,
      signal: request.signal,
    });
    return new Response(stream, { headers: { "content-type": "text/event-stream" } });
  }

  // No idle timeout, because a hanging model sends nothing on purpose.
  const server = Bun.serve({ port: 0, hostname: "127.0.0.1", idleTimeout: 0, fetch: answer });
  const base = `http://127.0.0.1:${server.port}/v1`;

  return {
    /** The settings with which a server uses this provider. */
    settings: {
      AI_PROVIDERS: `steady=${base},flaky=${base}`,
      AI_MODELS: [SHORT_MODEL, LONG_MODEL, ...Object.keys(flakyModels).map((name) => `flaky/${name}`)].join(","),
      AI_FLAKY_FIRST_TOKEN_TIMEOUT_MS: String(FLAKY_SILENCE_MS),
      AI_FLAKY_IDLE_TIMEOUT_MS: String(FLAKY_SILENCE_MS),
    },
    /** Returns how many requests a model received. */
    countRequests: (name: string): number => requests.get(name) ?? 0,
    stop: () => server.stop(true),
  };
}

/** Returns how many words of an interrupted answer the last message quotes; 0 for a new answer. */
function countQuotedWords({ messages = [] }: Body): number {
  const quoted = JSON.stringify(messages.at(-1)?.content ?? "");
  return Number([...quoted.matchAll(/\bw(\d+)\b/g)].at(-1)?.[1] ?? 0);
}

function refuse({ status, retryAfterS }: { status: number; retryAfterS?: number }): Response {
  const type = status === 429 ? "rate_limit_error" : "server_error";
  const headers = retryAfterS === undefined ? {} : { "retry-after": String(retryAfterS) };
  return Response.json({ error: { message: "Scripted failure.", type, param: null, code: null } }, { status, headers });
}
