import { DONE, type Failure, type Quirks } from "./quirks.ts";

type Seen = { path: string; headers: Record<string, string>; body: Record<string, unknown> };

/** `unknown model`: for any model; `error in stream`: after the first piece. */
type Mode = "answer" | "wrong key" | "unknown model" | "error in stream";

export type CompatibleServer = {
  origin: string;
  /** The requests, in order. */
  requests: Seen[];
  mode: Mode;
  stop(): Promise<void>;
};

/**
 * Starts a server with the quirks of one kind of compatible servers.
 * @param key the only accepted one; null: none is accepted.
 */
export function startCompatibleServer(quirks: Quirks, key: string | null, pieces: readonly string[]): CompatibleServer {
  const { credential, wrongKey } = quirks;
  const requests: Seen[] = [];

  function findFailure({ path, headers, body }: Seen): Failure | null {
    if (path !== quirks.path) return quirks.wrongPath;
    const isRight = credential === null || headers[credential.field] === `${credential.scheme}${key}`;
    if (wrongKey && (!isRight || server.mode === "wrong key")) return wrongKey;
    if (server.mode === "unknown model") return quirks.unknownModel;
    return quirks.refuse?.(body) ?? null;
  }

  async function handle(request: Request): Promise<Response> {
    const { pathname, search } = new URL(request.url);
    const headers = Object.fromEntries(request.headers);
    const seen: Seen = { path: pathname + search, headers, body: (await request.json()) as Seen["body"] };
    requests.push(seen);
    const failure = findFailure(seen);
    if (failure) return respond(failure);
    const events = quirks.stream(String(seen.body.model), pieces);
    const sent = server.mode === "error in stream" ? breakOff(quirks, events, pieces[0] ?? "") : events;
    return new Response(toStream(sent), { headers: { "content-type": "text/event-stream" } });
  }

  const listener = Bun.serve({ port: 0, hostname: "127.0.0.1", idleTimeout: 0, development: false, fetch: handle });
  const server: CompatibleServer = {
    origin: `http://127.0.0.1:${listener.port}`,
    requests,
    mode: "answer",
    stop: () => listener.stop(true),
  };
  return server;
}

function respond({ status, body }: Failure): Response {
  if (typeof body !== "string") return Response.json(body, { status });
  return new Response(body, { status, headers: { "content-type": body.startsWith("<") ? "text/html" : "text/plain" } });
}

/**
 * The events up to the one with the first piece of text, then the error, then the end marker: a client that ignores the
 * error would take the answer for a complete one.
 */
function breakOff(quirks: Quirks, events: readonly string[], text: string): string[] {
  const begun = events.slice(0, events.findIndex((event) => event.includes(JSON.stringify(text))) + 1);
  const error = quirks.breakOff("model");
  return [...begun, error, ...(error.includes("data: ") ? [DONE] : [])];
}

const encoder = new TextEncoder();

/** Each event in a separate packet. */
const toStream = (events: readonly string[]): ReadableStream<Uint8Array> =>
  new ReadableStream({
    async start(controller) {
      for (const event of events) {
        controller.enqueue(encoder.encode(event));
        await new Promise((resolve) => setImmediate(resolve));
      }
      controller.close();
    },
  });
