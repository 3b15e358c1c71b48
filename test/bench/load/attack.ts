// Load process: one attacker's requests, this many at once, until all are sent or the time is over.
import { serveSteps } from "../support/load.ts";

export type AttackRequest = { method: "GET" | "POST" | "PATCH" | "DELETE"; path: string; body?: string };
export type AttackStep = {
  url: string;
  headers: Record<string, string>;
  /** Sent in turn. `{n}` in a path or a short body stands for a number that changes each time. */
  requests: AttackRequest[];
  atOnce: number;
  total?: number;
  durationMs?: number;
};

const SHORT_CHARS = 1_000;
/** Pause after a refusal; retrying at once would only measure how fast refusals are. */
const REFUSED_PAUSE_MS = 20;

async function run({ url, headers, requests, atOnce, total, durationMs }: AttackStep) {
  const endsAtMs = performance.now() + (durationMs ?? Number.POSITIVE_INFINITY);
  let sentCount = 0;
  let done = 0;
  let refused = 0;
  let failed = 0;
  const askOne = async (): Promise<void> => {
    const { method, path, body } = requests[sentCount % requests.length] as AttackRequest;
    sentCount += 1;
    const place = (text: string) => (text.length < SHORT_CHARS ? text.replaceAll("{n}", String(sentCount)) : text);
    try {
      const response = await fetch(`${url}${place(path)}`, {
        method,
        headers: { ...headers, ...(body !== undefined && { "content-type": "application/json" }) },
        ...(body !== undefined && { body: place(body) }),
      });
      await response.arrayBuffer();
      if (response.ok) done += 1;
      // An unknown address is the expected response to a login.
      else if (response.status === 401) done += 1;
      else if (response.status === 429 || response.status === 503) {
        refused += 1;
        await Bun.sleep(REFUSED_PAUSE_MS);
      } else failed += 1;
    } catch {
      failed += 1;
    }
  };
  const askInTurn = async () => {
    while ((total === undefined || sentCount < total) && performance.now() < endsAtMs) await askOne();
  };
  if (requests.length === 0) await Bun.sleep(durationMs ?? 0);
  await Promise.all(Array.from({ length: atOnce }, askInTurn));
  return { done, refused, failed };
}

serveSteps(run);
