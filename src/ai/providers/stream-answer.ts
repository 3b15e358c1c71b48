import type { PauseSignal } from "../pause-signal.ts";
import type { ProviderEnd, ProviderError, ProviderPart, ProviderRequest, PushPart } from "../provider.ts";
import { cleanCause, createProviderError, type HttpFailure, mapHttpFailure } from "../provider-error.ts";
import type { IncomingBody, IncomingResponse } from "../transport/client.ts";
import { BrokenStreamError, createEventParser, type ServerSentEvent } from "../transport/event-stream.ts";
import { readStart } from "../transport/read-start.ts";

/**
 * How long a stream whose answer is whole may take to end: its token count may still come, and a connection that ends
 * by itself serves the next request.
 */
const END_GRACE_MS = 1_000;

/** Packets that are read for that sake after the end. */
const DRAIN_PACKETS_MAX = 16;

/** What an event of a provider says. */
export type MappedEvent = ProviderPart | ProviderEnd;

/** Translates one answer's events into our parts; new for each answer. */
export type EventMapper = {
  /** @throws SyntaxError when the data is not JSON. */
  map(event: ServerSentEvent): MappedEvent | null;
  /** Whether the answer's text is whole, although the end of the stream has not come. */
  isComplete?(): boolean;
  /** The end when the stream ends by itself without one: null where its end marker is missing. */
  end?(): ProviderEnd | null;
};

export type AnswerSource = {
  /** Sends the request as the SDK would; throws the SDK's errors. Only a good answer comes back. */
  send(): Promise<IncomingResponse>;
  mapper: EventMapper;
  /** What the SDK's error says, or null when it is none of the SDK's. */
  mapSdkError(error: unknown): HttpFailure | null;
  /** Never to appear in a log. */
  secrets: readonly string[];
};

/**
 * Reads one answer of a provider. Requests, keys, and errors are the SDK's; the events are read here, because the SDKs hide
 * the end marker `[DONE]`, end an aborted stream as if it were whole, keep every comment in memory, and take up to twice
 * the CPU per event. Parts are pushed in the tick of their packet.
 */
export function streamAnswer(
  request: Pick<ProviderRequest, "signal" | "pause">,
  push: PushPart<ProviderPart>,
  source: AnswerSource,
): Promise<ProviderEnd> {
  return new Promise((resolve) => void new AnswerStream(request, push, source, resolve).begin());
}

class AnswerStream {
  readonly #signal: AbortSignal;
  readonly #pause: PauseSignal;
  readonly #push: PushPart<ProviderPart>;
  readonly #source: AnswerSource;
  readonly #resolve: (end: ProviderEnd) => void;
  readonly #parser = createEventParser();
  readonly #unlisten: () => void;
  #body: IncomingBody | null = null;
  /** The end is there, or nobody wants it any more. */
  #isOver = false;
  #grace: Timer | undefined;
  #drainedPackets = 0;
  readonly #onAbort = () => this.#close(false);

  constructor(
    { signal, pause }: Pick<ProviderRequest, "signal" | "pause">,
    push: PushPart<ProviderPart>,
    source: AnswerSource,
    resolve: (end: ProviderEnd) => void,
  ) {
    this.#signal = signal;
    this.#pause = pause;
    this.#push = push;
    this.#source = source;
    this.#resolve = resolve;
    this.#unlisten = pause.listen((isPaused) => this.#onPause(isPaused));
    signal.addEventListener("abort", this.#onAbort, { once: true });
  }

  async begin(): Promise<void> {
    try {
      const body = await openBody(await this.#source.send());
      if (this.#isOver) return body.abort();
      this.#body = body;
      if (this.#pause.isPaused) body.pause();
      body.listen({ onBytes: (bytes) => this.#receive(bytes), onEnd: (error) => this.#onEnd(error) });
    } catch (error) {
      this.#fail(error);
    }
  }

  #receive(bytes: Uint8Array): void {
    if (this.#isOver) this.#drain();
    else this.#takeEvents(() => this.#parser.push(bytes));
    this.#limitEnd();
  }

  #takeEvents(read: () => ServerSentEvent[]): void {
    try {
      for (const event of read()) {
        const mapped = this.#source.mapper.map(event);
        if (!mapped) continue;
        if (mapped.type === "finish" || mapped.type === "error") this.#end(mapped);
        else this.#push(mapped);
        if (this.#isOver) return;
      }
    } catch (error) {
      this.#fail(error);
    }
  }

  /** Where the answer is whole, but its end has not come, that is waited for, though not for long. */
  #limitEnd(): void {
    if (this.#isOver || this.#grace || this.#pause.isPaused || !this.#source.mapper.isComplete?.()) return;
    this.#grace = setTimeout(() => {
      this.#body?.abort();
      this.#onEnd(null);
    }, END_GRACE_MS);
  }

  #onPause(isPaused: boolean): void {
    clearTimeout(this.#grace);
    this.#grace = undefined;
    if (isPaused) this.#body?.pause();
    else this.#body?.resume();
    this.#limitEnd();
  }

  /** The connection has ended, by itself or by a fault. */
  #onEnd(error: Error | null): void {
    clearTimeout(this.#grace);
    if (error) this.#fail(error);
    else if (!this.#isOver) this.#takeEvents(() => this.#parser.end());
    if (this.#isOver) return;
    const missing = { type: "error", error: createProviderError("provider_unavailable", "no end marker") } as const;
    this.#end(this.#source.mapper.end?.() ?? missing);
  }

  #fail(error: unknown): void {
    this.#end({ type: "error", error: mapThrown(this.#source, error) });
  }

  #end(end: ProviderEnd): void {
    if (this.#isOver) return;
    if (end.type === "error") end.error.cause = cleanCause(end.error.cause, this.#source.secrets);
    this.#close(end.type === "finish");
    this.#resolve(end);
  }

  #close(isFinished: boolean): void {
    this.#isOver = true;
    clearTimeout(this.#grace);
    this.#signal.removeEventListener("abort", this.#onAbort);
    this.#unlisten();
    if (!isFinished) {
      this.#body?.abort();
      return;
    }
    // A finished stream may end by itself, within bounds: its connection then serves the next request.
    if (this.#pause.isPaused) this.#body?.resume();
    this.#grace = setTimeout(() => this.#body?.abort(), END_GRACE_MS);
  }

  #drain(): void {
    this.#drainedPackets += 1;
    if (this.#drainedPackets > DRAIN_PACKETS_MAX) this.#body?.abort();
  }
}

async function openBody({ status, headers, body }: IncomingResponse): Promise<IncomingBody> {
  if (status === 204) throw new BrokenStreamError("an answer without a body");
  const type = headers.get("content-type") ?? "";
  if (!/html|json/i.test(type)) return body;
  const start = await (await readStart(body)).text();
  throw new UnexpectedAnswerError(`HTTP ${status} with ${type} instead of an event stream: ${start}`);
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
