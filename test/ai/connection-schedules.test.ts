import { expect, test } from "bun:test";
import type { Socket } from "bun";
import fc from "fast-check";
import { countRuns } from "../support/properties.ts";
import { ask, readAll, serveBytes } from "./raw-server.ts";

const HEALTHY_MS_MAX = 3_000;
const WRITE_ATTEMPTS_MAX = 500;

/** One request to a misbehaving server. Times in milliseconds. */
const misbehavior = fc.record({
  framing: fc.constantFrom("length", "chunks", "close"),
  bytes: fc.constantFrom(0, 1, 500, 70_000, 300_000),
  /** Where its response is split into packets, in thousandths. */
  cuts: fc.array(fc.nat(1_000), { maxLength: 4 }),
  gapMs: fc.nat(2),
  ending: fc.constantFrom("stay", "end", "reset"),
  /** The response breaks off after this many thousandths, in the way of `ending`. */
  upTo: fc.oneof(fc.constant(1_000), fc.nat(1_000)),
  reader: fc.constantFrom("read", "pause", "abort", "abort at the end", "abort before", "signal", "leave"),
  afterMs: fc.nat(4),
});
type Misbehavior = typeof misbehavior extends fc.Arbitrary<infer T> ? T : never;

const healthyAnswer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n";

function encodeAnswer({ framing, bytes }: Misbehavior): string {
  const body = "x".repeat(bytes);
  if (framing === "length") return `HTTP/1.1 500 No\r\nContent-Length: ${bytes}\r\n\r\n${body}`;
  if (framing === "close") return `HTTP/1.1 500 No\r\n\r\n${body}`;
  const chunk = bytes === 0 ? "" : `${bytes.toString(16)}\r\n${body}\r\n`;
  return `HTTP/1.1 500 No\r\nTransfer-Encoding: chunked\r\n\r\n${chunk}0\r\n\r\n`;
}

async function misbehave(socket: Socket, plan: Misbehavior): Promise<void> {
  const answer = encodeAnswer(plan);
  const whole = answer.slice(0, Math.ceil((answer.length * plan.upTo) / 1_000));
  const cuts = [...plan.cuts.map((cut) => Math.floor((whole.length * cut) / 1_000)), whole.length];
  let from = 0;
  for (const to of cuts.sort((a, b) => a - b)) {
    let rest = Buffer.from(whole.slice(from, to));
    for (let attempts = 0; rest.length > 0; attempts += 1) {
      const written = socket.write(rest);
      // The client has disconnected, or stopped reading.
      if (written < 0 || attempts === WRITE_ATTEMPTS_MAX) return void socket.terminate();
      rest = rest.subarray(written);
      if (rest.length > 0) await Bun.sleep(1);
    }
    from = to;
    if (plan.gapMs > 0) await Bun.sleep(plan.gapMs);
  }
  if (plan.ending === "reset") socket.terminate();
  // A response that breaks off or has no length needs an end.
  else if (plan.ending === "end" || plan.upTo < 1_000 || plan.framing === "close") socket.end();
}

/** Sends a request to the misbehaving server; its result is ignored. */
async function requestMisbehaving(url: string, plan: Misbehavior, index: number): Promise<void> {
  const stopping = new AbortController();
  const timer =
    plan.reader === "signal" ? setTimeout(() => stopping.abort(new Error("stop")), plan.afterMs) : undefined;
  try {
    const { body } = await ask(new URL(`/misbehavior/${index}`, url), "", { signal: stopping.signal });
    if (plan.reader === "abort before") return body.abort();
    if (plan.reader === "leave") return void setTimeout(body.abort, plan.afterMs);
    const ended = Promise.withResolvers<void>();
    body.listen({
      onBytes() {
        if (plan.reader === "abort") {
          body.abort();
          ended.resolve();
        } else if (plan.reader === "pause") {
          body.pause();
          setTimeout(body.resume, plan.afterMs);
        }
      },
      onEnd() {
        if (plan.reader === "abort at the end") body.abort();
        ended.resolve();
      },
    });
    await ended.promise;
    // What happens to it from here on doesn't matter.
    body.pause();
    body.abort();
  } catch {
    // A planned failure.
  } finally {
    clearTimeout(timer);
    stopping.abort(new Error("over"));
  }
}

/** One step: a request with a good response, or a misbehaving one. */
const step = fc.oneof({ weight: 2, arbitrary: fc.constant(null) }, { weight: 3, arbitrary: misbehavior });

test("a request gets its response whatever happens to others on the same connections", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.record({ step, waitMs: fc.constantFrom(null, 0, 0, 1, 3) }), { minLength: 4, maxLength: 24 }),
      fc.integer({ min: 1, max: 4 }),
      async (steps, lanes) => {
        let repeats = 0;
        let index = 0;
        const server = serveBytes((socket, packet) => {
          const misbehavior = /^POST \/misbehavior\/(\d+) /.exec(packet)?.[1];
          const plan = misbehavior === undefined ? null : steps[Number(misbehavior)]?.step;
          if (plan) void misbehave(socket, plan);
          else socket.write(healthyAnswer);
        });
        const runLane = async (): Promise<void> => {
          for (let at = index++; at < steps.length; at = index++) {
            const { step: plan, waitMs } = steps[at] ?? { step: null, waitMs: null };
            if (plan) await requestMisbehaving(server.url, plan, at);
            else {
              const signal = AbortSignal.timeout(HEALTHY_MS_MAX);
              const onRepeat = () => {
                repeats += 1;
              };
              const response = await ask(new URL(`/healthy/${at}`, server.url), "", { signal, onRepeat });
              expect(await readAll(response)).toEqual({ text: "ok", error: null });
            }
            if (waitMs !== null) await Bun.sleep(waitMs);
          }
        };
        try {
          await Promise.all(Array.from({ length: lanes }, runLane));
          // None arrived twice, except for reported repeats.
          const healthy = server.requests.filter((line) => line.includes("/healthy/"));
          expect(healthy.length - new Set(healthy).size).toBeLessThanOrEqual(repeats);
          expect(new Set(healthy).size).toBe(steps.filter(({ step: plan }) => plan === null).length);
        } finally {
          server.stop();
        }
      },
    ),
    { numRuns: countRuns(40) },
  );
}, 60_000);
