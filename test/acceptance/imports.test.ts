import { afterAll, expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync } from "node:fs";
import type { Import } from "../../src/modules/imports/model.ts";
import type { Conversation } from "../../src/protocol/conversation.ts";
import { createConversation } from "../support/conversation.ts";
import { createChatGptConversation, waitForImport } from "../support/imports.ts";
import { createRestClient } from "../support/rest.ts";
import { createInstallation, type Installation, type Parley } from "./installation.ts";

setDefaultTimeout(600_000);

const MIB = 1024 * 1024;
const FILE_BYTES = 200 * MIB;
/** Maximum memory growth. It is less than the size of the file, but more than the normal growth of a busy process. */
const GROWTH_BYTES_MAX = 160 * MIB;

const installations: Installation[] = [];
afterAll(async () => void (await Promise.all(installations.map((installation) => installation.remove()))));

async function startParley(): Promise<{ installation: Installation; parley: Parley }> {
  const installation = await createInstallation({ env: { RATE_LIMIT_ENABLED: "false" } });
  installations.push(installation);
  return { installation, parley: await installation.start() };
}

const encoder = new TextEncoder();
const createConversationBytes = (n: number, chars: number) => {
  const messages = Object.fromEntries(
    Array.from({ length: 10 }, (_, index) => [`m${index}`, { text: `${n} ${"word ".repeat(chars / 50)}` }]),
  );
  return encoder.encode(JSON.stringify(createChatGptConversation(`c-${n}`, messages)));
};

/**
 * Streams a generated list of conversations with about `bytesMax` bytes. The list is never entirely in memory.
 * `getCount` returns the number of conversations that have been streamed.
 */
function streamFile(bytesMax: number, chars: number): { body: ReadableStream<Uint8Array>; getCount: () => number } {
  let bytes = 0;
  let count = 0;
  const body = new ReadableStream<Uint8Array>({
    pull(controller) {
      const conversation = createConversationBytes(count, chars);
      controller.enqueue(encoder.encode(count === 0 ? "[" : ","));
      controller.enqueue(conversation);
      count += 1;
      bytes += conversation.byteLength;
      if (bytes < bytesMax) return;
      controller.enqueue(encoder.encode("]"));
      controller.close();
    },
  });
  return { body, getCount: () => count };
}

async function uploadStream(parley: Parley, token: string, body: ReadableStream<Uint8Array>): Promise<string> {
  const response = await parley.fetch("/api/v1/imports?source=chatgpt", {
    method: "POST",
    token,
    body,
    headers: { "content-type": "application/json" },
  });
  if (response.status !== 202) throw new Error(`${response.status} ${await response.text()}`);
  return ((await response.json()) as Import).id;
}

const readRssBytes = (pid: number): number =>
  Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? 0) * 1024;

/** Samples a process's memory usage. Returns a function that stops the sampling and returns the peak in bytes. */
function trackPeakMemory(pid: number) {
  let peakBytes = readRssBytes(pid);
  const timer = setInterval(() => {
    peakBytes = Math.max(peakBytes, readRssBytes(pid));
  }, 50);
  return () => {
    clearInterval(timer);
    return peakBytes;
  };
}

const toMib = (bytes: number) => Math.round(bytes / MIB);

test("an import continues after kill -9 without importing a conversation twice", async () => {
  const { installation, parley } = await startParley();
  const account = await parley.register("anna@example.com", "Anna");
  const { body, getCount } = streamFile(30 * MIB, 2_000);
  const id = await uploadStream(parley, account.access_token, body);
  const getImport = async (instance: Parley) =>
    (await createRestClient(instance, account).get<Import>(`/imports/${id}`)).body;
  while ((await getImport(parley)).imported < getCount() / 10) await Bun.sleep(5);
  await parley.kill();
  const restartedParley = await installation.start();
  const unfinishedImport = await getImport(restartedParley);
  expect(unfinishedImport.status).toBe("running");
  expect(unfinishedImport.imported).toBeLessThan(getCount());
  const finishedImport = await waitForImport(restartedParley, account, id);
  expect(finishedImport).toMatchObject({
    status: "done",
    imported: getCount(),
    skipped: 0,
    messages: 10 * getCount(),
    report: [],
  });
  const { rows } = await createRestClient(restartedParley, account).listAll<Conversation>("/conversations", 200);
  expect(new Set(rows.map(({ title }) => title)).size).toBe(getCount());
  expect(rows).toHaveLength(getCount());
  expect(rows.every(({ last_seq, unread }) => last_seq === 10 && unread === 0)).toBe(true);
  await restartedParley.stop();
});

test("a conversation with 100,000 messages can be imported", async () => {
  const { parley } = await startParley();
  const account = await parley.register();
  const count = 100_000;
  const createNode = (n: number) => ({
    id: `n${n}`,
    parent: n === 0 ? null : `n${n - 1}`,
    children: [`n${n + 1}`],
    message: { author: { role: n % 2 === 0 ? "user" : "assistant" }, content: { parts: [`Text ${n}`] } },
  });
  const mapping = Object.fromEntries(Array.from({ length: count }, (_, n) => [`n${n}`, createNode(n)]).reverse());
  const response = await parley.fetch("/api/v1/imports?source=chatgpt", {
    token: account.access_token,
    json: [{ id: "deep", title: "Deep", mapping, current_node: `n${count - 1}` }],
  });
  const finishedImport = await waitForImport(parley, account, ((await response.json()) as Import).id);
  expect(finishedImport).toMatchObject({ status: "done", imported: 1, messages: count, error: null });
  const rest = createRestClient(parley, account);
  const { rows } = await rest.listAll<Conversation>("/conversations", 200);
  expect(rows).toMatchObject([{ title: "Deep", last_seq: count, unread: 0 }]);
  const lastPage = await rest.get<{ data: { content: string; seq: number }[] }>(
    `/conversations/${rows[0]?.id}/messages?limit=1`,
  );
  expect(lastPage.body.data).toMatchObject([{ content: `Text ${count - 1}`, seq: count }]);
});

test("an import of 200 MB uses bounded memory while another user sends messages", async () => {
  const { parley } = await startParley();
  const [anna, ben] = [await parley.register(), await parley.register()];
  const { id: conversationId } = await createConversation(parley, ben);
  const rest = createRestClient(parley, ben);
  const durationsMs: number[] = [];
  let isImportDone = false;
  const sendLoop = (async () => {
    while (!isImportDone) {
      const startedAtMs = performance.now();
      const { status } = await rest.request("POST", `/conversations/${conversationId}/messages`, { content: "Hello" });
      expect(status).toBe(201);
      durationsMs.push(performance.now() - startedAtMs);
      await Bun.sleep(10);
    }
  })();
  await Bun.sleep(1_000);
  const rssBytesBefore = readRssBytes(parley.pid);
  const stopTracking = trackPeakMemory(parley.pid);
  const startedAtMs = performance.now();
  const { body, getCount } = streamFile(FILE_BYTES, 10_000);
  const id = await uploadStream(parley, anna.access_token, body);
  const uploadedAtMs = performance.now();
  const finishedImport = await waitForImport(parley, anna, id);
  const importedAtMs = performance.now();
  isImportDone = true;
  await sendLoop;
  const growthBytes = stopTracking() - rssBytesBefore;
  const sortedMs = durationsMs.toSorted((a, b) => a - b);
  const getQuantile = (share: number) => Math.round(sortedMs[Math.floor(sortedMs.length * share)] ?? 0);
  console.log(
    `${toMib(finishedImport.bytes)} MiB: uploaded in ${Math.round(uploadedAtMs - startedAtMs)} ms, imported in ` +
      `${Math.round(importedAtMs - uploadedAtMs)} ms; memory grew by ${toMib(growthBytes)} MiB; ${durationsMs.length} sends by another user, ` +
      `p50 ${getQuantile(0.5)} ms, p99 ${getQuantile(0.99)} ms`,
  );
  expect(finishedImport).toMatchObject({ status: "done", imported: getCount(), skipped: 0 });
  expect(finishedImport.bytes).toBeGreaterThan(FILE_BYTES);
  expect(growthBytes).toBeLessThan(GROWTH_BYTES_MAX);
});

test("rejected uploads of 500 MB use bounded memory", async () => {
  const { parley } = await startParley();
  const account = await parley.register();
  const rssBytesBefore = readRssBytes(parley.pid);
  const stopTracking = trackPeakMemory(parley.pid);
  for (const [path, token] of [
    ["/api/v1/conversations", account.access_token],
    ["/api/v1/imports?source=chatgpt", "nobody"],
    ["/api/v1/imports?source=nothing", account.access_token],
  ] as const) {
    let sentBytes = 0;
    const body = new ReadableStream<Uint8Array>({
      pull(controller) {
        sentBytes += MIB;
        controller.enqueue(new Uint8Array(MIB).fill(0x20));
        if (sentBytes >= 500 * MIB) controller.close();
      },
    });
    const headers = { "content-type": "application/json" };
    const response = await parley.fetch(path, { method: "POST", token, body, headers }).catch(() => null);
    if (response) expect([401, 413, 422]).toContain(response.status);
  }
  expect(stopTracking() - rssBytesBefore).toBeLessThan(GROWTH_BYTES_MAX);
});
