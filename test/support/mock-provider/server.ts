import { chatCompletionsFormat } from "./chat-completions.ts";
import { messagesFormat } from "./messages.ts";
import { createScriptedResponse } from "./respond.ts";
import { responsesFormat } from "./responses.ts";
import { createScript, parseModelName, type Script } from "./script.ts";
import { findThinkingError } from "./thinking.ts";
import { PROVIDER_INTERNAL_TEXT, type ReceivedRequest, type WireFormat } from "./wire-format.ts";

const formats: WireFormat[] = [responsesFormat, messagesFormat, chatCompletionsFormat];

/** Maximum number of recorded requests. The oldest are dropped, so that a long benchmark doesn't run out of memory. */
const REQUESTS_MAX = 10_000;

export type MockProvider = {
  port: number;
  /** The value for `OPENAI_BASE_URL` and `COMPATIBLE_BASE_URL`. */
  openaiUrl: string;
  /** The value for `ANTHROPIC_BASE_URL`. */
  anthropicUrl: string;
  /** The requests, in order. */
  requests: ReceivedRequest[];
  /** The error messages for requests with missing thinking, or with a different model's thinking. */
  thinkingErrors: string[];
  listRequests(model: string): ReceivedRequest[];
  /** Sets a model's scripts. Each script is used for one request. The last one is also used for all further requests. */
  script(model: string, ...scripts: (Partial<Script> & { text?: string })[]): void;
  /** Clears scripts and requests. */
  reset(): void;
  stop(): Promise<void>;
};

/**
 * Starts a mock provider with the wire formats of OpenAI (Responses, Chat Completions) and Anthropic (Messages). With
 * port 0, it listens on a free port. `/control` lists the requests and sets scripts over HTTP.
 */
export function startMockProvider({ port = 0, hostname = "127.0.0.1" } = {}): MockProvider {
  const requests: ReceivedRequest[] = [];
  const scripts = new Map<string, Script[]>();
  const faultCounts = new Map<string, number>();
  /** The model of each sent tool call, by the call's id. */
  const modelsByCallId = new Map<string, string>();
  const thinkingErrors: string[] = [];
  let lastId = 0;

  function dequeueScript(model: string): Script {
    const queue = scripts.get(model);
    const script = (queue && queue.length > 1 ? queue.shift() : queue?.[0]) ?? parseModelName(model);
    if (script.fault === null || script.faultCount === Number.POSITIVE_INFINITY) return script;
    const sentFaults = faultCounts.get(model) ?? 0;
    faultCounts.set(model, sentFaults + 1);
    return sentFaults < script.faultCount ? script : { ...script, fault: null };
  }

  function reset() {
    requests.length = 0;
    scripts.clear();
    faultCounts.clear();
    thinkingErrors.length = 0;
  }

  async function handleControl(request: Request, path: string): Promise<Response> {
    if (path === "/control/requests" && request.method === "GET") return Response.json(requests);
    if (path === "/control/reset" && request.method === "POST") {
      reset();
      return new Response(null, { status: 204 });
    }
    if (path !== "/control/scripts" || request.method !== "PUT") return new Response(null, { status: 404 });
    for (const [model, script] of Object.entries((await request.json()) as Record<string, Partial<Script>>))
      scripts.set(model, [createScript(script)]);
    return new Response(null, { status: 204 });
  }

  async function handleRequest(request: Request): Promise<Response> {
    const path = new URL(request.url).pathname;
    if (path.startsWith("/control/")) return handleControl(request, path);
    const format = formats.find((candidate) => candidate.path === path);
    if (!format || request.method !== "POST")
      return Response.json({ error: { message: "Not found" } }, { status: 404 });
    const body = (await request.json()) as Record<string, unknown>;
    const model = String(body.model);
    const headers = Object.fromEntries(request.headers);
    const clientPort = server.requestIP(request)?.port ?? 0;
    const received: ReceivedRequest = {
      receivedAtMs: Date.now(),
      path,
      model,
      clientPort,
      headers,
      body,
      wasAborted: false,
    };
    requests.push(received);
    if (requests.length > REQUESTS_MAX) requests.shift();
    const createErrorResponse = (status: number, message: string) =>
      Response.json(format.createErrorBody(status, message), { status });
    if (!format.hasKey(headers))
      return createErrorResponse(401, `Incorrect API key provided. ${PROVIDER_INTERNAL_TEXT}`);
    const requestError = format.findRequestError(body, headers);
    if (requestError !== null) return createErrorResponse(400, requestError);
    lastId += 1;
    const context = { id: String(lastId), model, script: dequeueScript(model), body };
    const thinkingError = findThinkingError(context, modelsByCallId);
    if (thinkingError !== null) {
      thinkingErrors.push(thinkingError);
      // A rejected request doesn't use up a script.
      const queue = scripts.get(model);
      if (queue && queue[0] !== context.script) queue.unshift(context.script);
      return createErrorResponse(400, thinkingError);
    }
    for (const index of context.script.toolCalls.keys()) modelsByCallId.set(`call_${context.id}_${index}`, model);
    return createScriptedResponse(format, context, request.signal, received);
  }

  const server = Bun.serve({ port, hostname, idleTimeout: 0, development: false, fetch: handleRequest });
  const origin = `http://${hostname}:${server.port}`;
  return {
    port: server.port ?? 0,
    openaiUrl: `${origin}/v1`,
    anthropicUrl: origin,
    requests,
    thinkingErrors,
    listRequests: (model) => requests.filter((request) => request.model === model),
    script: (model, ...modelScripts) => void scripts.set(model, modelScripts.map(createScript)),
    reset,
    stop: () => server.stop(true),
  };
}
