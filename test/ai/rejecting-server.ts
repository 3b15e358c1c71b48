import type { MockProvider } from "../support/mock-provider/server.ts";

export type SentBody = Record<string, unknown>;
/** A rejection to send, or null to answer. `type` is for a string body; default: `text/plain`. */
type Reject = (body: SentBody) => { status: number; body: unknown; type?: string } | null;

const event = (data: object) => `event: ${"type" in data ? data.type : "message"}\ndata: ${JSON.stringify(data)}\n\n`;

/** The text "Done." in each of the three wire formats. */
const answers: Record<string, string> = {
  "/v1/chat/completions": `data: ${JSON.stringify({
    choices: [{ index: 0, delta: { content: "Done." }, finish_reason: "stop" }],
    usage: { prompt_tokens: 11, completion_tokens: 3 },
  })}\n\ndata: [DONE]\n\n`,
  "/v1/responses":
    event({ type: "response.output_text.delta", delta: "Done." }) +
    event({ type: "response.completed", response: { usage: { input_tokens: 11, output_tokens: 3 } } }),
  "/v1/messages":
    event({ type: "message_start", message: { usage: { input_tokens: 11, output_tokens: 0 } } }) +
    event({ type: "content_block_delta", index: 0, delta: { type: "text_delta", text: "Done." } }) +
    event({ type: "message_delta", delta: { stop_reason: "end_turn" }, usage: { output_tokens: 3 } }) +
    event({ type: "message_stop" }),
};

/** A server for all three wire formats that rejects requests as instructed. `bodies` are the requests in order. */
export function startRejectingServer() {
  const bodies: SentBody[] = [];
  let refuse: Reject = () => null;
  const server = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    idleTimeout: 0,
    async fetch(request) {
      const body = (await request.json()) as SentBody;
      bodies.push(body);
      const refusal = refuse(body);
      if (refusal) {
        const isText = typeof refusal.body === "string";
        return new Response(isText ? String(refusal.body) : JSON.stringify(refusal.body), {
          status: refusal.status,
          headers: { "content-type": isText ? (refusal.type ?? "text/plain") : "application/json" },
        });
      }
      return new Response(answers[new URL(request.url).pathname], {
        headers: { "content-type": "text/event-stream" },
      });
    },
  });
  const origin = `http://127.0.0.1:${server.port}`;
  return {
    bodies,
    /** Its URLs, for `createTestChain`. */
    urls: { openaiUrl: `${origin}/v1`, anthropicUrl: origin } as MockProvider,
    refuse(next: Reject): void {
      refuse = next;
      bodies.length = 0;
    },
    stop: () => server.stop(true),
  };
}
