// Load process: sends an attacker's requests concurrently, until `total` requests are sent or `durationMs` has elapsed.
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

const SHORT_BODY_CHARS_MAX = 1_000;
/** Pause after a rejected request. Without it, the benchmark would measure only how fast requests are rejected. */
const REJECTED_PAUSE_MS = 20;

async function runAttack({ url, headers, requests, concurrency, total, durationMs }: AttackStep) {
  const deadlineMs = performance.now() + (durationMs ?? Number.POSITIVE_INFINITY);
  let sentCount = 0;
  let succeeded = 0;
  let rejected = 0;
  let failed = 0;
  const sendRequest = async (): Promise<void> => {
    const { method, path, body } = requests[sentCount % requests.length] as AttackRequest;
    sentCount += 1;
    const insertNumber = (text: string) =>
      text.length < SHORT_BODY_CHARS_MAX ? text.replaceAll("{n}", String(sentCount)) : text;
    try {
      const response = await fetch(`${url}${insertNumber(path)}`, {
        method,
        headers: { ...headers, ...(body !== undefined && { "content-type": "application/json" }) },
        ...(body !== undefined && { body: insertNumber(body) }),
      });
      await response.arrayBuffer();
      if (response.ok) succeeded += 1;
      // 401 is the expected response to a login with an unknown email.
      else if (response.status === 401) succeeded += 1;
      else if (response.status === 429 || response.status === 503) {
        rejected += 1;
        await Bun.sleep(REJECTED_PAUSE_MS);
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
  return { succeeded, rejected, failed };
}

serveSteps(runAttack);
