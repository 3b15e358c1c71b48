// Load process: a webhook receiver that accepts every delivery.
import { createHmac } from "node:crypto";
import { type StepResult, serveSteps } from "../support/load.ts";

export type ReceiversStep =
  | { step: "open" }
  /** Waits until this many deliveries have arrived since the previous step. */
  | { step: "await"; count: number };

let count = 0;
let onCount = () => {};
let firstAtMs = 0;

const server = Bun.serve({
  port: 0,
  hostname: "127.0.0.1",
  async fetch(request) {
    const body = await request.text();
    // Real receivers verify the signature; computing the HMAC costs the same.
    createHmac("sha256", "a secret")
      .update(`${request.headers.get("webhook-id")}.${body}`)
      .digest();
    if (count === 0) firstAtMs = performance.now();
    count += 1;
    onCount();
    return new Response(null, { status: 204 });
  },
});

serveSteps(async (step: ReceiversStep): Promise<StepResult> => {
  if (step.step === "open") return { port: server.port ?? 0 };
  if (count < step.count)
    await new Promise<void>((resolve) => {
      onCount = () => {
        if (count >= step.count) resolve();
      };
    });
  onCount = () => {};
  const elapsedMs = performance.now() - firstAtMs;
  const received = count;
  count = 0;
  return { received, elapsedMs };
});
