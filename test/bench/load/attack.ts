// Load process: sends an attacker's requests concurrently, until all are sent or the time is up.
import { serveSteps } from "../support/load.ts";

export type AttackRequest = { method: "GET" | "POST" | "PATCH" | "DELETE"; path: string; body?: string };
export type AttackStep = {
  url: string;
  headers: Record<string, string>;
  /** Sent in rotation. `{n}` in a path or a short body is replaced by the number of the request. */
  requests: AttackRequest[];
  concurrency: number;
  total?: number;
  durationMs?: number;
};

const SHORT_TEXT_CHARS_MAX = 1_000;
/** Pause after a refusal. Without it, the attack would only measure how fast requests are refused. */
const REFUSED_PAUSE_MS = 20;

async function run({ url, headers, requests, concurrency, total, durationMs }: AttackStep) {
  const deadlineMs = performance.now() + (durationMs ?? Number.POSITIVE_INFINITY);
  let sentCount = 0;
  let done = 0;
  let refused = 0;
  let failed = 0;
  const sendRequest = async (): Promise<void> => {
    const { method, path, body } = requests[sentCount % requests.length] as AttackRequest;
    sentCount += 1;
    const fillIn = (text: string) =>
      text.length < SHORT_TEXT_CHARS_MAX ? text.replaceAll("{n}", String(sentCount)) : text;
    try {
      const response = await fetch(`${url}${fillIn(path)}`, {
        method,
        headers: { ...headers, ...(body !== undefined && { "content-type": "application/json" }) },
        ...(body !== undefined && { body: fillIn(body) }),
      });
      await response.arrayBuffer();
      if (response.ok) done += 1;
      // 401 is the expected response to a login with an unknown address.
      else if (response.status === 401) done += 1;
      else if (response.status === 429 || response.status === 503) {
        refused += 1;
        await Bun.sleep(REFUSED_PAUSE_MS);
      } else failed += 1;
    } catch {
      failed += 1;
    }
  };
  const sendRequests = async () => {
    while ((total === undefined || sentCount < total) && performance.now() < deadlineMs) await sendRequest();
  };
  if (requests.length === 0) await Bun.sleep(durationMs ?? 0);
  await Promise.all(Array.from({ length: concurrency }, sendRequests));
  return { done, refused, failed };
}

serveSteps(run);
