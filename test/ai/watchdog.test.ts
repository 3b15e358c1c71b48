import { expect, test } from "bun:test";
import { watch } from "../../src/ai/attempt/watchdog.ts";
import { PauseSignal } from "../../src/ai/pause-signal.ts";
import type { ProviderEnd, ProviderPart, PushPart } from "../../src/ai/provider.ts";

type Open = (signal: AbortSignal, push: PushPart<ProviderPart>) => Promise<ProviderEnd>;

const neverResolves = () => new Promise<never>(() => {});
const text = (value: string): ProviderPart => ({ type: "text", text: value });
const finish: ProviderEnd = { type: "finish", reason: "stop", usage: null };
const createOptions = () => ({
  signal: new AbortController().signal,
  pause: new PauseSignal(),
  firstTokenTimeoutMs: 60,
  idleTimeoutMs: 30,
  endsAtMs: Number.POSITIVE_INFINITY,
});

/** The parts taken, the result, and the duration. */
async function run(open: Open, options = createOptions()) {
  const startedMs = performance.now();
  const parts: ProviderPart[] = [];
  const end = await watch(open, options, (part) => void parts.push(part));
  const code = end.type === "error" ? end.error.code : end.type;
  return { parts, end, codes: [...parts.map(({ type }) => type), code], ms: performance.now() - startedMs };
}

test("a provider that hangs and ignores its signal can't block the answer", async () => {
  const { codes, ms } = await run(async (_signal, push) => {
    push(text("a"));
    return neverResolves();
  });
  expect(codes).toEqual(["text", "provider_timeout"]);
  expect(ms).toBeGreaterThanOrEqual(29);
  expect(ms).toBeLessThan(1_000);
});

test("a short idle timeout applies although the first token may take long", async () => {
  const slow: Open = async (_signal, push) => {
    await Bun.sleep(40);
    push(text("a"));
    return neverResolves();
  };
  const { codes, ms } = await run(slow, { ...createOptions(), firstTokenTimeoutMs: 5_000 });
  expect(codes).toEqual(["text", "provider_timeout"]);
  expect(ms).toBeLessThan(1_000);
});

test("the provider is notified of every end that it didn't cause", async () => {
  let receivedSignal: AbortSignal | undefined;
  const open: Open = (signal, push) => {
    receivedSignal = signal;
    push(text("a"));
    return neverResolves();
  };
  await run(open);
  expect(receivedSignal?.aborted).toBe(true);
  const early = await watch(open, createOptions(), () => finish);
  expect([early, receivedSignal?.aborted]).toEqual([finish, true]);
  const controller = new AbortController();
  setTimeout(() => controller.abort(), 5);
  const { codes } = await run(open, { ...createOptions(), signal: controller.signal });
  expect([codes, receivedSignal?.aborted]).toEqual([["text", "aborted"], true]);
  await run(async (signal) => {
    receivedSignal = signal;
    return finish;
  });
  expect(receivedSignal?.aborted).toBe(false);
});

test("nothing is taken after the end", async () => {
  let late: PushPart<ProviderPart> = () => {};
  const { parts } = await run((_signal, push) => {
    push(text("a"));
    late = push;
    return neverResolves();
  });
  late(text("b"));
  expect(parts).toEqual([text("a")]);
});

test("silence doesn't count while the reader is paused", async () => {
  const options = createOptions();
  const endsAtMs = performance.now() + 100;
  const open: Open = async (_signal, push) => {
    push(text("a"));
    options.pause.set(true);
    setTimeout(() => options.pause.set(false), 100);
    return neverResolves();
  };
  const { codes } = await run(open, options);
  expect(codes).toEqual(["text", "provider_timeout"]);
  // The timeout restarts at the end of the pause.
  expect(performance.now()).toBeGreaterThanOrEqual(endsAtMs + 29);
});

test("nor while it is paused before the first token", async () => {
  const options = { ...createOptions(), firstTokenTimeoutMs: 150, idleTimeoutMs: 150 };
  options.pause.set(true);
  setTimeout(() => options.pause.set(false), 300);
  const { codes } = await run(async (_signal, push) => {
    await Bun.sleep(375);
    push(text("a"));
    return finish;
  }, options);
  expect(codes).toEqual(["text", "finish"]);
});

test.each([
  [
    "immediately",
    () => () => {
      throw new Error("broken inside");
    },
  ],
  ["later", () => () => Promise.reject(new Error("broken inside"))],
] as [string, () => Open][])("an exception thrown by a provider %s becomes an error", async (_when, create) => {
  const { end } = await run(create());
  expect(end).toMatchObject({
    type: "error",
    error: { code: "provider_unavailable", detail: expect.not.stringContaining("inside") },
  });
});

test("if aborted before the start, the provider isn't called", async () => {
  let calls = 0;
  const open: Open = async () => {
    calls += 1;
    return finish;
  };
  const { codes } = await run(open, { ...createOptions(), signal: AbortSignal.abort() });
  expect([codes, calls]).toEqual([["aborted"], 0]);
});
