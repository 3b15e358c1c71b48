import { expect, test } from "bun:test";
import type { Socket } from "bun";
import fc from "fast-check";
import { scaleRuns } from "../support/property-tests.ts";
import { post, readAll, startRawServer } from "./raw-server.ts";

const HEALTHY_TIMEOUT_MS = 3_000;
const WRITE_ATTEMPTS_MAX = 500;

/** A response from a misbehaving server, and what the client does with it. */
const arbitraryMisbehavior = fc.record({
  framing: fc.constantFrom("length", "chunks", "close"),
  bytes: fc.constantFrom(0, 1, 500, 70_000, 300_000),
  /** Where the response is split into packets, in thousandths of its length. */
  cuts: fc.array(fc.nat(1_000), { maxLength: 4 }),
  packetDelayMs: fc.nat(2),
  ending: fc.constantFrom("stay", "end", "reset"),
  /** How much of the response is sent, in thousandths of its length. */
  sentThousandths: fc.oneof(fc.constant(1_000), fc.nat(1_000)),
  /** `abort before` aborts immediately, `leave` aborts later without reading, `signal` aborts the request's signal. */
  reader: fc.constantFrom("read", "pause", "abort", "abort at the end", "abort before", "signal", "leave"),
  readerDelayMs: fc.nat(4),
});
type Misbehavior = typeof arbitraryMisbehavior extends fc.Arbitrary<infer T> ? T : never;

const healthyResponse = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n";

function encodeResponse({ framing, bytes }: Misbehavior): string {
  const body = "x".repeat(bytes);
  if (framing === "length") return `HTTP/1.1 500 No\r\nContent-Length: ${bytes}\r\n\r\n${body}`;
  if (framing === "close") return `HTTP/1.1 500 No\r\n\r\n${body}`;
  const chunk = bytes === 0 ? "" : `${bytes.toString(16)}\r\n${body}\r\n`;
  return `HTTP/1.1 500 No\r\nTransfer-Encoding: chunked\r\n\r\n${chunk}0\r\n\r\n`;
}

async function sendMisbehavingResponse(socket: Socket, plan: Misbehavior): Promise<void> {
  const response = encodeResponse(plan);
  const sentPart = response.slice(0, Math.ceil((response.length * plan.sentThousandths) / 1_000));
  const cuts = [...plan.cuts.map((cut) => Math.floor((sentPart.length * cut) / 1_000)), sentPart.length];
  let from = 0;
  for (const to of cuts.sort((a, b) => a - b)) {
    let unsentBytes = Buffer.from(sentPart.slice(from, to));
    for (let attempts = 0; unsentBytes.length > 0; attempts += 1) {
      const writtenBytes = socket.write(unsentBytes);
      // The client has disconnected, or stopped reading.
      if (writtenBytes < 0 || attempts === WRITE_ATTEMPTS_MAX) return void socket.terminate();
      unsentBytes = unsentBytes.subarray(writtenBytes);
      if (unsentBytes.length > 0) await Bun.sleep(1);
    }
    from = to;
    if (plan.packetDelayMs > 0) await Bun.sleep(plan.packetDelayMs);
  }
  if (plan.ending === "reset") socket.terminate();
  // A response that is truncated or has no length ends only when the connection is closed.
  else if (plan.ending === "end" || plan.sentThousandths < 1_000 || plan.framing === "close") socket.end();
}

/** Sends a request whose response misbehaves. The result is ignored. */
async function requestMisbehavingResponse(url: string, plan: Misbehavior, index: number): Promise<void> {
  const controller = new AbortController();
  const timer =
    plan.reader === "signal" ? setTimeout(() => controller.abort(new Error("stop")), plan.readerDelayMs) : undefined;
  try {
    const { body } = await post(new URL(`/misbehavior/${index}`, url), "", { signal: controller.signal });
    if (plan.reader === "abort before") return body.abort();
    if (plan.reader === "leave") return void setTimeout(body.abort, plan.readerDelayMs);
    const bodyEnd = Promise.withResolvers<void>();
    body.listen({
      onBytes() {
        if (plan.reader === "abort") {
          body.abort();
          bodyEnd.resolve();
        } else if (plan.reader === "pause") {
          body.pause();
          setTimeout(body.resume, plan.readerDelayMs);
        }
      },
      onEnd() {
        if (plan.reader === "abort at the end") body.abort();
        bodyEnd.resolve();
      },
    });
    await bodyEnd.promise;
    // Calls after the end must not affect other requests.
    body.pause();
    body.abort();
  } catch {
    // The request may fail, because the server misbehaves.
  } finally {
    clearTimeout(timer);
    controller.abort(new Error("finished"));
  }
}

/** The plan for one request: how its response misbehaves, or null for a healthy response. */
const arbitraryPlan = fc.oneof(
  { weight: 2, arbitrary: fc.constant(null) },
  { weight: 3, arbitrary: arbitraryMisbehavior },
);

test("a request receives its response, whatever happens to other requests on the same connections", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.record({ plan: arbitraryPlan, waitMs: fc.constantFrom(null, 0, 0, 1, 3) }), {
        minLength: 4,
        maxLength: 24,
      }),
      fc.integer({ min: 1, max: 4 }),
      async (steps, concurrency) => {
        let resends = 0;
        let nextIndex = 0;
        const server = startRawServer((socket, packet) => {
          const requestIndex = /^POST \/misbehavior\/(\d+) /.exec(packet)?.[1];
          const plan = requestIndex === undefined ? null : steps[Number(requestIndex)]?.plan;
          if (plan) void sendMisbehavingResponse(socket, plan);
          else socket.write(healthyResponse);
        });
        const runWorker = async (): Promise<void> => {
          for (let index = nextIndex++; index < steps.length; index = nextIndex++) {
            const { plan, waitMs } = steps[index] ?? { plan: null, waitMs: null };
            if (plan) await requestMisbehavingResponse(server.url, plan, index);
            else {
              const signal = AbortSignal.timeout(HEALTHY_TIMEOUT_MS);
              const onResend = () => {
                resends += 1;
              };
              const response = await post(new URL(`/healthy/${index}`, server.url), "", { signal, onResend });
              expect(await readAll(response)).toEqual({ text: "ok", error: null });
            }
            if (waitMs !== null) await Bun.sleep(waitMs);
          }
        };
        try {
          await Promise.all(Array.from({ length: concurrency }, runWorker));
          // No request arrived twice, except for the reported resends.
          const healthyRequests = server.requests.filter((line) => line.includes("/healthy/"));
          expect(healthyRequests.length - new Set(healthyRequests).size).toBeLessThanOrEqual(resends);
          expect(new Set(healthyRequests).size).toBe(steps.filter(({ plan }) => plan === null).length);
        } finally {
          server.stop();
        }
      },
    ),
    { numRuns: scaleRuns(40) },
  );
}, 60_000);
