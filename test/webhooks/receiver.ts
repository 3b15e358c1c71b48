import { Webhook } from "standardwebhooks";
import { checkWebhook } from "../support/check-pushes.ts";

/** A request to a test receiver. */
export type ReceivedRequest = {
  id: string;
  headers: Headers;
  body: string;
  json: {
    type: string;
    timestamp: string;
    conversation_id?: string;
    seq?: number;
    data: Record<string, unknown>;
  };
  atMs: number;
};

type Respond = (received: ReceivedRequest, count: number) => Response | Promise<Response>;

const WAIT_MS_MAX = 10_000;

/**
 * Starts a webhook receiver on this machine.
 * @param respond Responds to a request, by default with 204. `count` is the number of requests so far.
 */
export function startReceiver(respond: Respond = () => new Response(null, { status: 204 })) {
  const received: ReceivedRequest[] = [];
  const server = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    idleTimeout: 60,
    async fetch(request) {
      const body = await request.text();
      const receivedRequest = {
        id: request.headers.get("webhook-id") ?? "",
        headers: request.headers,
        body,
        json: JSON.parse(body),
        atMs: performance.now(),
      };
      checkWebhook(receivedRequest.json);
      received.push(receivedRequest);
      return await respond(receivedRequest, received.length);
    },
  });

  return {
    url: `http://127.0.0.1:${server.port}/hook`,
    received,
    listTypes: () => received.map(({ json }) => json.type),

    /** Waits for `count` requests. */
    async waitForRequests(count: number): Promise<ReceivedRequest[]> {
      const deadlineMs = performance.now() + WAIT_MS_MAX;
      while (received.length < count) {
        if (performance.now() > deadlineMs)
          throw new Error(`Only ${received.length} of ${count} requests have arrived.`);
        await Bun.sleep(5);
      }
      return received;
    },

    stop: () => server.stop(true),
  };
}

export type Receiver = ReturnType<typeof startReceiver>;

/** Verifies a request with the reference library of Standard Webhooks, and throws an error if the signature is invalid. */
export function verifySignature(secret: string, { headers, body }: ReceivedRequest): unknown {
  return new Webhook(secret).verify(body, Object.fromEntries(headers));
}
