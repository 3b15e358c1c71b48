import type { MockProvider } from "../support/mock-provider/server.ts";

export type SentBody = Record<string, unknown>;
/** Returns a rejection, or null to send an answer. `type` is the content type of a string (default: `text/plain`). */
type Reject = (body: SentBody) => { status: number; body: unknown; type?: string } | null;

const formatTypedEvent = (data: object) =>
  `event: ${"type" in data ? data.type : "message"}\ndata: ${JSON.stringify(data)}\n\n`;

/** The text "Done." in each of the three wire formats. */
const responses: Record<string, string> = {
  "/v1/chat/completions": `data: ${JSON.stringify({
    choices: [{ index: 0, delta: { content: "Done." }, finish_reason: "stop" }],
    usage: { prompt_tokens: 11, completion_tokens: 3 },
  })}\n\ndata: [DONE]\n\n`,
  "/v1/responses":
    formatTypedEvent({ type: "response.output_text.delta", delta: "Done." }) +
    formatTypedEvent({ type: "response.completed", response: { usage: { input_tokens: 11, output_tokens: 3 } } }),
  "/v1/messages":
    formatTypedEvent({ type: "message_start", message: { usage: { input_tokens: 11, output_tokens: 0 } } }) +
    formatTypedEvent({ type: "content_block_delta", index: 0, delta: { type: "text_delta", text: "Done." } }) +
    formatTypedEvent({ type: "message_delta", delta: { stop_reason: "end_turn" }, usage: { output_tokens: 3 } }) +
    formatTypedEvent({ type: "message_stop" }),
};

/** Starts a server for all three wire formats. It rejects requests as `rejectWith` specifies, and records their bodies. */
export function startRejectingServer() {
  const bodies: SentBody[] = [];
  let reject: Reject = () => null;
  const server = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    idleTimeout: 0,
    async fetch(request) {
      const body = (await request.json()) as SentBody;
      bodies.push(body);
      const rejection = reject(body);
      if (rejection) {
        const isText = typeof rejection.body === "string";
        return new Response(isText ? String(rejection.body) : JSON.stringify(rejection.body), {
          status: rejection.status,
          headers: { "content-type": isText ? (rejection.type ?? "text/plain") : "application/json" },
        });
      }
      return new Response(responses[new URL(request.url).pathname], {
        headers: { "content-type": "text/event-stream" },
      });
    },
  });
  const origin = `http://127.0.0.1:${server.port}`;
  return {
    bodies,
    /** The server's URLs, for `createTestChain`. */
    urls: { openaiUrl: `${origin}/v1`, anthropicUrl: origin } as MockProvider,
    rejectWith(newReject: Reject): void {
      reject = newReject;
      bodies.length = 0;
    },
    stop: () => server.stop(true),
  };
}
