import { BrokenStreamError, createEventParser, type ServerSentEvent } from "./event-stream.ts";
import { readStart } from "./http-fetch.ts";
import type { ProviderError, StreamPart } from "./provider.ts";
import { cleanCause, createProviderError, type HttpFailure, mapHttpFailure } from "./provider-error.ts";

/**
 * How long a stream whose answer is whole may take to end: its token count may still come, and a connection that ends
 * by itself serves the next request.
 */
const END_GRACE_MS = 1_000;

/** Packets that are read for that sake after the last part. */
const DRAIN_PACKETS_MAX = 16;

/** Translates one answer's events into our parts; new for each answer. */
export type EventMapper = {
  /** @throws SyntaxError when the data is not JSON. */
  map(event: ServerSentEvent): StreamPart | null;
  /** Whether the answer's text is whole, although the end of the stream has not come. */
  isComplete?(): boolean;
  /** The last part when the stream ends by itself without one: null where its end marker is missing. */
  end?(): StreamPart | null;
};

export type AnswerSource = {
  signal: AbortSignal;
  /** Sends the request by the SDK; throws the SDK's errors. */
  send(): Promise<Response>;
  mapper: EventMapper;
  /** What the SDK's error says, or null when it is none of the SDK's. */
  mapSdkError(error: unknown): HttpFailure | null;
  /** Never to appear in a log. */
  secrets: readonly string[];
};

/**
 * One answer of a provider as parts. Requests, keys, and errors are the SDK's; the events are read here, because the
 * SDKs hide the end marker `[DONE]`, end an aborted stream as if it were whole, keep every comment in memory, and take
 * up to twice the CPU per event. One generator, without helpers that yield: each of those costs on every token.
 */
export async function* streamAnswer(source: AnswerSource): AsyncGenerator<StreamPart, void, undefined> {
  const { signal, mapper, secrets } = source;
  const parser = createEventParser();
  let reader: ByteReader | null = null;
  let isFinished = false;
  // A broken connection rejects the cancelling as well; there is nothing left to do about it.
  const stop = () => void reader?.cancel().catch(() => {});
  let grace: ReturnType<typeof setTimeout> | undefined;
  try {
    reader = await openBody(await source.send());
    signal.addEventListener("abort", stop, { once: true });
    for (let done = false; !done && !signal.aborted; ) {
      const packet = await reader.read();
      if (signal.aborted) return;
      done = packet.done || !packet.value;
      for (const event of packet.value ? parser.push(packet.value) : parser.end()) {
        const part = mapper.map(event);
        if (!part) continue;
        if (part.type === "error") part.error.cause = cleanCause(part.error.cause, secrets);
        isFinished = part.type === "finish";
        yield part;
        if (isFinished || part.type === "error") return;
      }
      if (!grace && mapper.isComplete?.()) grace = setTimeout(stop, END_GRACE_MS);
    }
    if (signal.aborted) return;
    yield mapper.end?.() ?? { type: "error", error: createProviderError("provider_unavailable", "no end marker") };
  } catch (error) {
    if (!signal.aborted) yield { type: "error", error: mapThrown(source, error) };
  } finally {
    clearTimeout(grace);
    signal.removeEventListener("abort", stop);
    if (isFinished && reader) drain(reader).catch(() => {});
    else stop();
  }
}

/** Lets a finished stream end by itself, within bounds. */
async function drain(reader: ByteReader): Promise<void> {
  const stop = () => void reader.cancel().catch(() => {});
  const timer = setTimeout(stop, END_GRACE_MS);
  try {
    for (let packets = 0; packets < DRAIN_PACKETS_MAX; packets += 1) if ((await reader.read()).done) return;
  } finally {
    clearTimeout(timer);
    stop();
  }
}

type ByteReader = { read(): Promise<{ done: boolean; value?: Uint8Array | undefined }>; cancel(): Promise<void> };

async function openBody(response: Response): Promise<ByteReader> {
  if (response.body === null) throw new BrokenStreamError("an answer without a body");
  const type = response.headers.get("content-type") ?? "";
  if (!/html|json/i.test(type)) return response.body.getReader();
  const start = await (await readStart(response.body)).text();
  throw new UnexpectedAnswerError(`HTTP ${response.status} with ${type} instead of an event stream: ${start}`);
}

/** A web page or a document where a stream was due: a wrong address or a proxy, which no retry mends. */
class UnexpectedAnswerError extends Error {}

function mapThrown({ mapSdkError, secrets }: AnswerSource, error: unknown): ProviderError {
  const failure = mapSdkError(error);
  if (failure) return mapHttpFailure(failure, secrets);
  const cause = error instanceof Error ? `${error.name}: ${error.message}` : "unknown error";
  const retryable = !(error instanceof UnexpectedAnswerError);
  return createProviderError("provider_unavailable", cause, { secrets, retryable });
}
