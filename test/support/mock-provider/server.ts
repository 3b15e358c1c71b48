import { answer } from "./answer.ts";
import { chatCompletionsFormat } from "./chat-completions.ts";
import { messagesFormat } from "./messages.ts";
import { responsesFormat } from "./responses.ts";
import { createScript, parseModelName, type Script } from "./script.ts";
import { findThoughtMistake } from "./thoughts.ts";
import { FOREIGN_TEXT, type SeenRequest, type WireFormat } from "./wire-format.ts";

const formats: WireFormat[] = [responsesFormat, messagesFormat, chatCompletionsFormat];

/** The number of recorded requests; the oldest are dropped, so that a long bench does not fill the memory. */
const SEEN_REQUESTS_MAX = 10_000;

export type MockProvider = {
  port: number;
  /** `OPENAI_BASE_URL` and `COMPATIBLE_BASE_URL`. */
  openaiUrl: string;
  /** `ANTHROPIC_BASE_URL`. */
  anthropicUrl: string;
  /** The requests, in order. */
  requests: SeenRequest[];
  /** Requests refused because of missing thinking, or that of another model. */
  refusals: string[];
  requestsOf(model: string): SeenRequest[];
  /** Scripts the answers of a model; each script serves one request, and the last one all further requests. */
  script(model: string, ...scripts: (Partial<Script> & { text?: string })[]): void;
  /** Clears scripts and requests. */
  reset(): void;
  stop(): Promise<void>;
};

/**
 * Starts a server with the wire formats of OpenAI (Responses, Chat Completions) and Anthropic (Messages), with scripted
 * faults. Port 0 uses a free one. Requests and scripts are also available over HTTP at `/control`.
 */
export function startMockProvider({ port = 0, hostname = "127.0.0.1" } = {}): MockProvider {
  const requests: SeenRequest[] = [];
  const scripts = new Map<string, Script[]>();
  const faultsSeen = new Map<string, number>();
  /** The tool calls so far, with their models. */
  const given = new Map<string, string>();
  const refusals: string[] = [];
  let lastId = 0;

  function nextScript(model: string): Script {
    const queue = scripts.get(model);
    const script = (queue && queue.length > 1 ? queue.shift() : queue?.[0]) ?? parseModelName(model);
    if (script.fault === null || script.times === Number.POSITIVE_INFINITY) return script;
    const seen = faultsSeen.get(model) ?? 0;
    faultsSeen.set(model, seen + 1);
    return seen < script.times ? script : { ...script, fault: null };
  }

  function reset() {
    requests.length = 0;
    scripts.clear();
    faultsSeen.clear();
    refusals.length = 0;
  }

  async function handleControl(request: Request, path: string): Promise<Response> {
    if (path === "/control/requests" && request.method === "GET") return Response.json(requests);
    if (path === "/control/reset" && request.method === "POST") {
      reset();
      return new Response(null, { status: 204 });
    }
    if (path !== "/control/scripts" || request.method !== "PUT") return new Response(null, { status: 404 });
    for (const [model, parts] of Object.entries((await request.json()) as Record<string, Partial<Script>>))
      scripts.set(model, [createScript(parts)]);
    return new Response(null, { status: 204 });
  }

  async function handle(request: Request): Promise<Response> {
    const path = new URL(request.url).pathname;
    if (path.startsWith("/control/")) return handleControl(request, path);
    const format = formats.find((candidate) => candidate.path === path);
    if (!format || request.method !== "POST")
      return Response.json({ error: { message: "Not found" } }, { status: 404 });
    const body = (await request.json()) as Record<string, unknown>;
    const model = String(body.model);
    const headers = Object.fromEntries(request.headers);
    const clientPort = server.requestIP(request)?.port ?? 0;
    const seen: SeenRequest = { at: Date.now(), path, model, clientPort, headers, body, aborted: false };
    requests.push(seen);
    if (requests.length > SEEN_REQUESTS_MAX) requests.shift();
    const fail = (status: number, message: string) => Response.json(format.errorBody(status, message), { status });
    if (!format.hasKey(headers)) return fail(401, `Incorrect API key provided. ${FOREIGN_TEXT}`);
    const mistake = format.findMistake(body, headers);
    if (mistake !== null) return fail(400, mistake);
    lastId += 1;
    const context = { id: String(lastId), model, script: nextScript(model), body };
    const forgotten = findThoughtMistake(context, given);
    if (forgotten !== null) {
      refusals.push(forgotten);
      // Only an accepted request uses up a script.
      const queue = scripts.get(model);
      if (queue && queue[0] !== context.script) queue.unshift(context.script);
      return fail(400, forgotten);
    }
    for (const index of context.script.toolCalls.keys()) given.set(`call_${context.id}_${index}`, model);
    return answer(format, context, request.signal, seen);
  }

  const server = Bun.serve({ port, hostname, idleTimeout: 0, development: false, fetch: handle });
  const origin = `http://${hostname}:${server.port}`;
  return {
    port: server.port ?? 0,
    openaiUrl: `${origin}/v1`,
    anthropicUrl: origin,
    requests,
    refusals,
    requestsOf: (model) => requests.filter((request) => request.model === model),
    script: (model, ...parts) => void scripts.set(model, parts.map(createScript)),
    reset,
    stop: () => server.stop(true),
  };
}
