import { abortable } from "../../lib/abortable.ts";
import { explainLoopback } from "../../lib/container.ts";
import { maskAddress } from "../../lib/mask-address.ts";
import { type DoctorContext, REQUEST_TIMEOUT_MS } from "./check.ts";
import { compareWithDateHeader } from "./clock-reading.ts";

/**
 * A response, or the reason why there was none. `failure` continues a sentence that starts with the server's name. `hint` is
 * empty, or another sentence that starts with a space.
 */
export type HttpOutcome = { status: number; json: unknown } | { failure: string; hint: string };

const BODY_BYTES_MAX = 4 * 1024 * 1024;

/** Sends a request, parses the response as JSON, and compares the clocks. Never rejects. */
export async function requestJson(
  context: Pick<DoctorContext, "fetch" | "clockReadings">,
  url: string,
  init: RequestInit = {},
  signal = AbortSignal.timeout(REQUEST_TIMEOUT_MS),
): Promise<HttpOutcome> {
  const sentAtMs = Date.now();
  const { host, hostname } = new URL(url);
  try {
    const response = await abortable(context.fetch(url, { redirect: "manual", ...init, signal }), signal);
    const reading = compareWithDateHeader(host, response.headers, sentAtMs);
    if (reading) context.clockReadings.push(reading);
    return { status: response.status, json: await abortable(readJsonBody(response), signal) };
  } catch (error) {
    if (signal.aborted) return { failure: `did not respond within ${REQUEST_TIMEOUT_MS / 1_000} s`, hint: "" };
    const reason = error instanceof Error ? error.message : String(error);
    return { failure: `can't be reached (${maskAddress(reason)})`, hint: explainLoopback(hostname) };
  }
}

/** Reads and parses a body. Returns undefined if it isn't JSON, or is too large. */
async function readJsonBody(response: Response): Promise<unknown> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of response.body ?? []) {
    bytes += chunk.byteLength;
    // Leaving the loop cancels the body.
    if (bytes > BODY_BYTES_MAX) return undefined;
    chunks.push(chunk);
  }
  try {
    return JSON.parse(Buffer.concat(chunks).toString());
  } catch {
    return undefined;
  }
}
