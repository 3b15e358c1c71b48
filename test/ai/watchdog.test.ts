import { expect, test } from "bun:test";
import type { StreamPart } from "../../src/ai/provider.ts";
import { watch } from "../../src/ai/watchdog.ts";

const never = new AbortController().signal;
const text = (value: string): StreamPart => ({ type: "text", text: value });
const timeouts = { signal: never, firstTokenTimeoutMs: 60, idleTimeoutMs: 30 };

async function* readAll(open: (signal: AbortSignal) => AsyncIterable<StreamPart>, options = timeouts) {
  const stream = watch(open, options);
  try {
    for (let part = await stream.next(); part; part = await stream.next()) yield part;
  } finally {
    stream.close();
  }
}

async function run(open: (signal: AbortSignal) => AsyncIterable<StreamPart>, options = timeouts) {
  const startedMs = performance.now();
  const parts = await Array.fromAsync(readAll(open, options));
  const codes = parts.map((part) => (part.type === "error" ? part.error.code : part.type));
  return { parts, codes, ms: performance.now() - startedMs };
}

test("a provider that hangs and ignores its signal cannot hold the answer", async () => {
  const { codes, ms } = await run(async function* () {
    yield text("a");
    await new Promise(() => {});
  });
  expect(codes).toEqual(["text", "provider_timeout"]);
  expect(ms).toBeGreaterThanOrEqual(29);
  expect(ms).toBeLessThan(1_000);
});

test("a short idle limit is kept although the first token may take long", async () => {
  const { codes, ms } = await run(
    async function* () {
      await Bun.sleep(40);
      yield text("a");
      await new Promise(() => {});
    },
    { signal: never, firstTokenTimeoutMs: 5_000, idleTimeoutMs: 30 },
  );
  expect(codes).toEqual(["text", "provider_timeout"]);
  expect(ms).toBeLessThan(1_000);
});

test("the provider is told, whatever ends the stream", async () => {
  let told: AbortSignal | undefined;
  const open = (signal: AbortSignal): AsyncIterable<StreamPart> => {
    told = signal;
    return (async function* () {
      yield text("a");
      await new Promise(() => {});
    })();
  };
  await run(open);
  expect(told?.aborted).toBe(true);
  for await (const _part of readAll(open)) break;
  expect(told?.aborted).toBe(true);
  const controller = new AbortController();
  setTimeout(() => controller.abort(), 5);
  const { codes } = await run(open, { ...timeouts, signal: controller.signal });
  expect([codes, told?.aborted]).toEqual([["text"], true]);
});

test("time that the consumer takes is not the provider's silence", async () => {
  const source = async function* () {
    for (const value of ["a", "b", "c"]) yield text(value);
    yield { type: "finish", reason: "stop", usage: null } as const;
  };
  const seen: string[] = [];
  for await (const part of readAll(source)) {
    seen.push(part.type);
    await Bun.sleep(45);
  }
  expect(seen).toEqual(["text", "text", "text", "finish"]);
});

test("what a provider throws becomes an error part", async () => {
  const { parts } = await run(async function* () {
    yield text("a");
    throw new Error("broken inside");
  });
  expect(parts[1]).toMatchObject({
    type: "error",
    error: { code: "provider_unavailable", detail: expect.not.stringContaining("inside") },
  });
});

test("aborted before it begins, the provider is not asked", async () => {
  let asked = 0;
  const open = (): AsyncIterable<StreamPart> => {
    asked += 1;
    return (async function* () {})();
  };
  const { parts } = await run(open, { ...timeouts, signal: AbortSignal.abort() });
  expect([parts, asked]).toEqual([[], 0]);
});
