import { FLAKY_TIMEOUT_MS, flakyModels, LONG_MODEL, LONG_WORDS, SHORT_MODEL, SHORT_WORDS, scripts } from "./scripts.ts";
import { createAnswerStream } from "./stream.ts";

export type FaultyProvider = ReturnType<typeof startFaultyProvider>;

type Body = { model?: string; stream?: boolean; messages?: { role: string; content: unknown }[] };

/**
 * Starts a mock provider with OpenAI's Chat Completions API. Its models fail as their scripts define. If a request contains an
 * interrupted answer, the model continues with the next word, as Parley instructs real models to do. Therefore, a complete text
 * proves that nothing was lost or repeated.
 */
export function startFaultyProvider() {
  const requestCounts = new Map<string, number>();
  async function respond(request: Request): Promise<Response> {
    if (!new URL(request.url).pathname.endsWith("/chat/completions")) return new Response(null, { status: 404 });
    const body = (await request.json()) as Body;
    const name = body.model ?? "";
    const script = scripts[name];
    if (!script || body.stream !== true) {
      const error = { message: "Unknown model, or not a stream.", type: "invalid_request_error" };
      return Response.json({ error }, { status: 404 });
    }
    const count = (requestCounts.get(name) ?? 0) + 1;
    requestCounts.set(name, count);
    const isFaulty = script.fault !== undefined && count <= (script.faultyRequests ?? Number.POSITIVE_INFINITY);
    if (isFaulty && script.fault?.kind === "status") return createErrorResponse(script.fault);
    const quotedWords = countQuotedWords(body);
    const stream = createAnswerStream({
      model: name,
      firstWord: quotedWords + 1,
      words: name === "long" ? LONG_WORDS : SHORT_WORDS,
      wordDelayMs: (quotedWords > 0 && script.resumedDelayMs) || script.wordDelayMs,
      fault: isFaulty ? script.fault : undefined,
      signal: request.signal,
    });
    return new Response(stream, { headers: { "content-type": "text/event-stream" } });
  }

  // The idle timeout is disabled, because the model `hang` sends nothing on purpose.
  const server = Bun.serve({ port: 0, hostname: "127.0.0.1", idleTimeout: 0, fetch: respond });
  const baseUrl = `http://127.0.0.1:${server.port}/v1`;

  return {
    /** The settings that make a server use this provider. */
    settings: {
      AI_PROVIDERS: `steady=${baseUrl},flaky=${baseUrl}`,
      AI_MODELS: [SHORT_MODEL, LONG_MODEL, ...Object.keys(flakyModels).map((name) => `flaky/${name}`)].join(","),
      AI_FLAKY_FIRST_TOKEN_TIMEOUT_MS: String(FLAKY_TIMEOUT_MS),
      AI_FLAKY_IDLE_TIMEOUT_MS: String(FLAKY_TIMEOUT_MS),
    },
    /** Returns how many requests a model received. */
    countRequests: (name: string): number => requestCounts.get(name) ?? 0,
    stop: () => server.stop(true),
  };
}

/** Returns the number of words of an interrupted answer that the last message quotes; 0 for a new answer. */
function countQuotedWords({ messages = [] }: Body): number {
  const quoted = JSON.stringify(messages.at(-1)?.content ?? "");
  return Number([...quoted.matchAll(/\bw(\d+)\b/g)].at(-1)?.[1] ?? 0);
}

function createErrorResponse({ status, retryAfterS }: { status: number; retryAfterS?: number }): Response {
  const type = status === 429 ? "rate_limit_error" : "server_error";
  const headers = retryAfterS === undefined ? {} : { "retry-after": String(retryAfterS) };
  return Response.json({ error: { message: "Scripted failure.", type, param: null, code: null } }, { status, headers });
}
