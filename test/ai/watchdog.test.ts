import { expect, test } from "bun:test";
import { watchStream } from "../../src/ai/attempt/watchdog.ts";
import { PauseSignal } from "../../src/ai/pause-signal.ts";
import type { ProviderEnd, ProviderPart, PushPart } from "../../src/ai/provider.ts";

type OpenStream = (signal: AbortSignal, push: PushPart<ProviderPart>) => Promise<ProviderEnd>;

const createPendingPromise = () => new Promise<never>(() => {});
const createTextPart = (value: string): ProviderPart => ({ type: "text", text: value });
const finish: ProviderEnd = { type: "finish", reason: "stop", usage: null };
const createOptions = () => ({
  signal: new AbortController().signal,
  pause: new PauseSignal(),
  firstTokenTimeoutMs: 60,
  idleTimeoutMs: 30,
  deadlineMs: Number.POSITIVE_INFINITY,
});

/** Runs a stream under the watchdog. */
async function runStream(open: OpenStream, options = createOptions()) {
  const startedMs = performance.now();
  const parts: ProviderPart[] = [];
  const end = await watchStream(open, options, (part) => void parts.push(part));
  const code = end.type === "error" ? end.error.code : end.type;
  return { parts, end, codes: [...parts.map(({ type }) => type), code], ms: performance.now() - startedMs };
}

test("a provider that hangs and ignores its signal can't block the answer", async () => {
  const { codes, ms } = await runStream(async (_signal, push) => {
    push(createTextPart("a"));
    return createPendingPromise();
  });
  expect(codes).toEqual(["text", "provider_timeout"]);
  expect(ms).toBeGreaterThanOrEqual(29);
  expect(ms).toBeLessThan(1_000);
});

test("the idle timeout applies even if the first-token timeout is longer", async () => {
  const openSlowStream: OpenStream = async (_signal, push) => {
    await Bun.sleep(40);
    push(createTextPart("a"));
    return createPendingPromise();
  };
  const { codes, ms } = await runStream(openSlowStream, { ...createOptions(), firstTokenTimeoutMs: 5_000 });
  expect(codes).toEqual(["text", "provider_timeout"]);
  expect(ms).toBeLessThan(1_000);
});

test("the provider's signal is aborted unless the provider itself ended the stream", async () => {
  let receivedSignal: AbortSignal | undefined;
  const open: OpenStream = (signal, push) => {
    receivedSignal = signal;
    push(createTextPart("a"));
    return createPendingPromise();
  };
  await runStream(open);
  expect(receivedSignal?.aborted).toBe(true);
  const earlyEnd = await watchStream(open, createOptions(), () => finish);
  expect([earlyEnd, receivedSignal?.aborted]).toEqual([finish, true]);
  const controller = new AbortController();
  setTimeout(() => controller.abort(), 5);
  const { codes } = await runStream(open, { ...createOptions(), signal: controller.signal });
  expect([codes, receivedSignal?.aborted]).toEqual([["text", "aborted"], true]);
  await runStream(async (signal) => {
    receivedSignal = signal;
    return finish;
  });
  expect(receivedSignal?.aborted).toBe(false);
});

test("parts pushed after the end are ignored", async () => {
  let pushLate: PushPart<ProviderPart> = () => {};
  const { parts } = await runStream((_signal, push) => {
    push(createTextPart("a"));
    pushLate = push;
    return createPendingPromise();
  });
  pushLate(createTextPart("b"));
  expect(parts).toEqual([createTextPart("a")]);
});

test("the idle timeout is suspended while the reader is paused", async () => {
  const options = createOptions();
  const deadlineMs = performance.now() + 100;
  const open: OpenStream = async (_signal, push) => {
    push(createTextPart("a"));
    options.pause.set(true);
    setTimeout(() => options.pause.set(false), 100);
    return createPendingPromise();
  };
  const { codes } = await runStream(open, options);
  expect(codes).toEqual(["text", "provider_timeout"]);
  // The timeout restarts at the end of the pause.
  expect(performance.now()).toBeGreaterThanOrEqual(deadlineMs + 29);
});

test("the first-token timeout is suspended while the reader is paused", async () => {
  const options = { ...createOptions(), firstTokenTimeoutMs: 150, idleTimeoutMs: 150 };
  options.pause.set(true);
  setTimeout(() => options.pause.set(false), 300);
  const { codes } = await runStream(async (_signal, push) => {
    await Bun.sleep(375);
    push(createTextPart("a"));
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
] as [string, () => OpenStream][])(
  "an exception that a provider throws %s becomes an error",
  async (_when, createOpenStream) => {
    const { end } = await runStream(createOpenStream());
    expect(end).toMatchObject({
      type: "error",
      error: { code: "provider_unavailable", detail: expect.not.stringContaining("inside") },
    });
  },
);

test("the provider isn't called if the run was aborted before it started", async () => {
  let calls = 0;
  const open: OpenStream = async () => {
    calls += 1;
    return finish;
  };
  const { codes } = await runStream(open, { ...createOptions(), signal: AbortSignal.abort() });
  expect([codes, calls]).toEqual([["aborted"], 0]);
});
