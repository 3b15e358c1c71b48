// Load process: a webhook receiver that accepts every delivery.
import { createHmac } from "node:crypto";
import { type StepResult, serveSteps } from "../support/load.ts";

export type ReceiversStep =
  | { step: "open" }
  /** Waits until this many deliveries have arrived since the previous step. */
  | { step: "await"; count: number };

let deliveryCount = 0;
let onDelivery = () => {};
let firstDeliveryAtMs = 0;

const server = Bun.serve({
  port: 0,
  hostname: "127.0.0.1",
  async fetch(request) {
    const body = await request.text();
    // Real receivers verify the signature. Computing the HMAC takes the same CPU time.
    createHmac("sha256", "a secret")
      .update(`${request.headers.get("webhook-id")}.${body}`)
      .digest();
    if (deliveryCount === 0) firstDeliveryAtMs = performance.now();
    deliveryCount += 1;
    onDelivery();
    return new Response(null, { status: 204 });
  },
});

serveSteps(async (step: ReceiversStep): Promise<StepResult> => {
  if (step.step === "open") return { port: server.port ?? 0 };
  if (deliveryCount < step.count)
    await new Promise<void>((resolve) => {
      onDelivery = () => {
        if (deliveryCount >= step.count) resolve();
      };
    });
  onDelivery = () => {};
  const elapsedMs = performance.now() - firstDeliveryAtMs;
  const received = deliveryCount;
  deliveryCount = 0;
  return { received, elapsedMs };
});
