import { DONE, type Failure, type ServerProfile } from "./server-profile.ts";

type ReceivedRequest = { path: string; headers: Record<string, string>; body: Record<string, unknown> };

/** With `unknown model`, all models are unknown. With `error in stream`, an error follows the first piece. */
type Mode = "answer" | "wrong key" | "unknown model" | "error in stream";

export type CompatibleServer = {
  origin: string;
  /** The requests, in order. */
  requests: ReceivedRequest[];
  mode: Mode;
  stop(): Promise<void>;
};

/**
 * Starts a server that behaves like one kind of compatible server.
 * @param key The only valid key, or null if no key is valid.
 */
export function startCompatibleServer(
  profile: ServerProfile,
  key: string | null,
  pieces: readonly string[],
): CompatibleServer {
  const { credential, wrongKey } = profile;
  const requests: ReceivedRequest[] = [];

  function findFailure({ path, headers, body }: ReceivedRequest): Failure | null {
    if (path !== profile.path) return profile.wrongPath;
    const hasValidKey = credential === null || headers[credential.field] === `${credential.scheme}${key}`;
    if (wrongKey && (!hasValidKey || server.mode === "wrong key")) return wrongKey;
    if (server.mode === "unknown model") return profile.unknownModel;
    return profile.findRejection?.(body) ?? null;
  }

  async function handleRequest(request: Request): Promise<Response> {
    const { pathname, search } = new URL(request.url);
    const headers = Object.fromEntries(request.headers);
    const received: ReceivedRequest = {
      path: pathname + search,
      headers,
      body: (await request.json()) as ReceivedRequest["body"],
    };
    requests.push(received);
    const failure = findFailure(received);
    if (failure) return createFailureResponse(failure);
    const events = profile.streamAnswer(String(received.body.model), pieces);
    const sentEvents = server.mode === "error in stream" ? insertError(profile, events, pieces[0] ?? "") : events;
    return new Response(createStream(sentEvents), { headers: { "content-type": "text/event-stream" } });
  }

  const listener = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    idleTimeout: 0,
    development: false,
    fetch: handleRequest,
  });
  const server: CompatibleServer = {
    origin: `http://127.0.0.1:${listener.port}`,
    requests,
    mode: "answer",
    stop: () => listener.stop(true),
  };
  return server;
}

function createFailureResponse({ status, body }: Failure): Response {
  if (typeof body !== "string") return Response.json(body, { status });
  return new Response(body, { status, headers: { "content-type": body.startsWith("<") ? "text/html" : "text/plain" } });
}

/**
 * Returns the events up to the first piece of text, then the error, then the end marker. The end marker would make the
 * answer look complete to a client that ignores the error.
 */
function insertError(profile: ServerProfile, events: readonly string[], text: string): string[] {
  const firstEvents = events.slice(0, events.findIndex((event) => event.includes(JSON.stringify(text))) + 1);
  const error = profile.formatStreamError("model");
  return [...firstEvents, error, ...(error.includes("data: ") ? [DONE] : [])];
}

const encoder = new TextEncoder();

/** Streams each event in a separate packet. */
const createStream = (events: readonly string[]): ReadableStream<Uint8Array> =>
  new ReadableStream({
    async start(controller) {
      for (const event of events) {
        controller.enqueue(encoder.encode(event));
        await new Promise((resolve) => setImmediate(resolve));
      }
      controller.close();
    },
  });
