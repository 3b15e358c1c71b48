import { BrokenStreamError, createEventParser, type ServerSentEvent } from "./event-stream.ts";
import type { IncomingBody, IncomingResponse } from "./http/client.ts";
import { readStart } from "./http/read-start.ts";
import type { PartStream, ProviderError, StreamPart, TakePart } from "./provider.ts";
import { cleanCause, createProviderError, type HttpFailure, mapHttpFailure } from "./provider-error.ts";

/**
 * How long a stream whose answer is whole may take to end: its token count may still come, and a connection that ends
 * by itself serves the next request.
 */
const END_GRACE_MS = 1_000;

/** Packets that are read for that sake after the last part. */
const DRAIN_PACKETS_MAX = 16;

/** Parts that may wait for their reader; then the provider has to wait. */
const READY_PARTS_MAX = 256;

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
  /** Sends the request as the SDK would; throws the SDK's errors. Only a good answer comes back. */
  send(): Promise<IncomingResponse>;
  mapper: EventMapper;
  /** What the SDK's error says, or null when it is none of the SDK's. */
  mapSdkError(error: unknown): HttpFailure | null;
  /** Never to appear in a log. */
  secrets: readonly string[];
};

/**
 * One answer of a provider as parts. Requests, keys, and errors are the SDK's; the events are read here, because the
 * SDKs hide the end marker `[DONE]`, end an aborted stream as if it were whole, keep every comment in memory, and take
 * up to twice the CPU per event. Written out instead of a generator over a stream: parts go from the packet to whoever
 * waits for them in one step, and each step costs on every token.
 */
export function streamAnswer(source: AnswerSource): PartStream & AsyncIterator<StreamPart> {
  return new AnswerStream(source);
}

const OVER = { done: true, value: undefined } as const;
type Step = IteratorResult<StreamPart, undefined>;

class AnswerStream implements AsyncIterableIterator<StreamPart, undefined, undefined> {
  readonly #source: AnswerSource;
  readonly #parser = createEventParser();
  /** Parts that nobody has waited for yet. */
  #ready: StreamPart[] = [];
  #waiting: ((step: Step) => void) | null = null;
  #body: IncomingBody | null = null;
  #isPaused = false;
  #hasBegun = false;
  /** The last part is there, or nobody wants it any more. */
  #isOver = false;
  #isFinished = false;
  #grace: Timer | undefined;
  #drainedPackets = 0;
  #take: TakePart | null = null;
  readonly #onAbort = () => this.#leave();

  constructor(source: AnswerSource) {
    this.#source = source;
  }

  forward(take: TakePart): void {
    this.#take = take;
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  next(): Promise<Step> {
    const part = this.#ready.shift();
    if (part) {
      if (this.#isPaused && this.#ready.length === 0) this.#resume();
      return Promise.resolve({ done: false, value: part });
    }
    if (this.#isOver) return Promise.resolve(OVER);
    if (!this.#hasBegun) {
      this.#hasBegun = true;
      this.#begin();
    }
    return new Promise((resolve) => {
      if (this.#isOver) resolve(OVER);
      else this.#waiting = resolve;
    });
  }

  return(): Promise<Step> {
    this.#leave();
    return Promise.resolve(OVER);
  }

  async #begin(): Promise<void> {
    const { signal } = this.#source;
    if (signal.aborted) return this.#leave();
    signal.addEventListener("abort", this.#onAbort, { once: true });
    try {
      const body = await openBody(await this.#source.send());
      if (this.#isOver) return body.abort();
      this.#body = body;
      body.listen({ onBytes: (bytes) => this.#receive(bytes), onEnd: (error) => this.#end(error) });
    } catch (error) {
      this.#fail(error);
    }
  }

  #receive(bytes: Uint8Array): void {
    if (this.#isOver) this.#drain();
    else this.#takeEvents(() => this.#parser.push(bytes));
    if (this.#isOver) return;
    // The answer is whole, but its end has not come: it is waited for, though not for long.
    if (!this.#grace && this.#source.mapper.isComplete?.())
      this.#grace = setTimeout(() => {
        this.#body?.abort();
        this.#end(null);
      }, END_GRACE_MS);
    if (this.#ready.length >= READY_PARTS_MAX && !this.#isPaused) {
      this.#isPaused = true;
      this.#body?.pause();
    }
  }

  #takeEvents(read: () => ServerSentEvent[]): void {
    try {
      for (const event of read()) {
        const part = this.#source.mapper.map(event);
        if (!part) continue;
        if (part.type === "error") part.error.cause = cleanCause(part.error.cause, this.#source.secrets);
        this.#give(part);
        if (this.#isOver) return;
      }
    } catch (error) {
      this.#fail(error);
    }
  }

  /** The connection has ended, by itself or by a fault. */
  #end(error: Error | null): void {
    clearTimeout(this.#grace);
    if (error) this.#fail(error);
    else if (!this.#isOver) this.#takeEvents(() => this.#parser.end());
    if (this.#isOver) return;
    const missing = { type: "error", error: createProviderError("provider_unavailable", "no end marker") } as const;
    this.#give(this.#source.mapper.end?.() ?? missing);
  }

  #fail(error: unknown): void {
    if (this.#isOver) return;
    this.#give({ type: "error", error: mapThrown(this.#source, error) });
  }

  #give(part: StreamPart): void {
    if (this.#waiting && this.#take?.(part)) return;
    const resolve = this.#waiting;
    this.#waiting = null;
    if (resolve) resolve({ done: false, value: part });
    else this.#ready.push(part);
    if (part.type !== "finish" && part.type !== "error") return;
    this.#isFinished = part.type === "finish";
    this.#close();
  }

  /** Nobody wants the rest. */
  #leave(): void {
    this.#ready = [];
    if (!this.#isOver) this.#close();
  }

  #close(): void {
    this.#isOver = true;
    clearTimeout(this.#grace);
    this.#source.signal.removeEventListener("abort", this.#onAbort);
    this.#waiting?.(OVER);
    this.#waiting = null;
    if (!this.#isFinished) {
      this.#body?.abort();
      return;
    }
    // A finished stream may end by itself, within bounds: its connection then serves the next request.
    if (this.#isPaused) this.#resume();
    this.#grace = setTimeout(() => this.#body?.abort(), END_GRACE_MS);
  }

  #drain(): void {
    this.#drainedPackets += 1;
    if (this.#drainedPackets > DRAIN_PACKETS_MAX) this.#body?.abort();
  }

  #resume(): void {
    this.#isPaused = false;
    this.#body?.resume();
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
