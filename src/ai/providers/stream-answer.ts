import type { IncomingBody } from "../../lib/http-client/incoming-body.ts";
import type { PauseSignal } from "../pause-signal.ts";
import type { ProviderEnd, ProviderError, ProviderPart, ProviderRequest, PushPart } from "../provider.ts";
import { cleanError } from "../provider-error.ts";
import { BrokenStreamError } from "../transport/event-stream.ts";
import { createBodyReader } from "./body-reader.ts";
import type { BodyReader, EventMapper, MappedEvent } from "./event-mapper.ts";
import { mapThrown, type ThrownSource } from "./map-thrown.ts";
import type { SuccessfulResponse } from "./sdk-request.ts";

/**
 * How long a stream whose answer is whole may take to end: its token count may still come, and a connection that ends
 * by itself serves the next request.
 */
const END_GRACE_MS = 1_000;

/** Packets that are read for that sake after the end. */
const DRAIN_PACKETS_MAX = 16;

export type AnswerSource = ThrownSource & {
  /**
   * Sends the request as the SDK would; throws the SDK's errors. Only a good answer comes back.
   * @param onBytes called for each packet of the server, from the first one on.
   */
  send(onBytes: () => void): Promise<SuccessfulResponse>;
  createMapper(): EventMapper;
};

type StreamRequest = Pick<ProviderRequest, "signal" | "pause" | "idleTimeoutMs">;

/**
 * Reads one answer of a provider. Requests, keys, and errors are the SDK's; the events are read here, because the SDKs hide
 * the end marker `[DONE]`, end an aborted stream as if it were whole, keep every comment in memory, and take up to twice
 * the CPU per event. Parts are pushed in the tick of their packet.
 */
export function streamAnswer(
  request: StreamRequest,
  push: PushPart<ProviderPart>,
  source: AnswerSource,
): Promise<ProviderEnd> {
  return new Promise((resolve) => void new AnswerStream(request, push, source, resolve).begin());
}

const activity = { type: "activity", isHead: false } as const;
const headActivity = { type: "activity", isHead: true } as const;

class AnswerStream {
  readonly #signal: AbortSignal;
  readonly #pause: PauseSignal;
  readonly #push: PushPart<ProviderPart>;
  readonly #source: AnswerSource;
  readonly #resolve: (end: ProviderEnd) => void;
  readonly #unlisten: () => void;
  readonly #graceMs: number;
  #body: IncomingBody | null = null;
  #reader: BodyReader | null = null;
  #response: SuccessfulResponse | null = null;
  /** Whether bytes of a body have come. */
  #hasBody = false;
  /** Whether the model has said anything. */
  #hasBegun = false;
  /** The end is there, or nobody wants it any more. */
  #isOver = false;
  #grace: Timer | undefined;
  #drainedPackets = 0;
  /** Every packet is a sign of life, whatever it holds: interim responses, parts of a head, the size of a chunk. */
  readonly #onBytes = () => this.#push(headActivity);
  readonly #onAbort = () => this.#close(false);

  constructor(
    { signal, pause, idleTimeoutMs = Number.POSITIVE_INFINITY }: StreamRequest,
    push: PushPart<ProviderPart>,
    source: AnswerSource,
    resolve: (end: ProviderEnd) => void,
  ) {
    this.#signal = signal;
    this.#pause = pause;
    // Half of it: a whole answer must not be cut off as a silent one.
    this.#graceMs = Math.min(END_GRACE_MS, idleTimeoutMs / 2);
    this.#push = push;
    this.#source = source;
    this.#resolve = resolve;
    this.#unlisten = pause.listen((isPaused) => this.#onPause(isPaused));
    signal.addEventListener("abort", this.#onAbort, { once: true });
  }

  begin(): Promise<void> {
    return this.#open(() => this.#source.send(this.#onBytes));
  }

  async #open(send: () => Promise<SuccessfulResponse>): Promise<void> {
    try {
      const response = await send();
      const { status, headers, body } = response;
      if (this.#isOver) return body.abort();
      if (status === 204) throw new BrokenStreamError("an answer without a body");
      const origin = `HTTP ${status} with ${headers.get("content-type") || "no content type"}`;
      const sink = {
        take: (mapped: MappedEvent) => this.#take(mapped),
        isOver: () => this.#isOver || this.#response !== response,
      };
      const { createMapper, secrets } = this.#source;
      this.#reader = createBodyReader({ mapper: createMapper(), secrets, origin }, sink);
      this.#response = response;
      this.#body = body;
      // The head of the response is a sign of life too.
      this.#push(headActivity);
      body.listen({ onBytes: (bytes) => this.#receive(bytes), onEnd: (error) => this.#onEnd(error) });
      // Behind the beginning of listening, which lets the server go on.
      if (this.#pause.isPaused && !this.#isOver) body.pause();
    } catch (error) {
      this.#fail(error);
    }
  }

  #receive(bytes: Uint8Array): void {
    if (this.#isOver) {
      this.#drain();
      return;
    }
    if (!this.#hasBody) this.#push(activity);
    this.#hasBody = true;
    this.#read((reader) => reader.push(bytes));
    this.#limitEnd();
  }

  #read(read: (reader: BodyReader) => void): void {
    if (!this.#reader || this.#isOver) return;
    try {
      read(this.#reader);
    } catch (error) {
      this.#fail(error);
    }
  }

  #take(mapped: MappedEvent): void {
    if (mapped.type === "error" && !this.#hasBegun && this.#askAgain(mapped.error)) return;
    if (mapped.type === "finish" || mapped.type === "error") this.#end(mapped);
    else {
      this.#hasBegun = true;
      // Some servers say the end in every event: the wait for it begins anew with each text.
      if (this.#grace && mapped.type !== "usage") this.#endGrace();
      this.#push(mapped);
    }
  }

  /**
   * Asks the model once more where a successful response holds nothing but the refusal of a parameter: gateways open the
   * stream before they ask. @returns whether it does.
   */
  #askAgain({ code, cause: message, param }: ProviderError): boolean {
    const refused = this.#response;
    if (code !== "provider_refused" || !refused) return false;
    const sending = refused.retryWithout(JSON.stringify({ error: { message, param } }));
    if (!sending) return false;
    this.#response = null;
    this.#reader = null;
    this.#body = null;
    refused.body.abort();
    void this.#open(() => sending);
    return true;
  }

  #endGrace(): void {
    clearTimeout(this.#grace);
    this.#grace = undefined;
  }

  /** Where the answer is whole, but its end has not come, that is waited for, though not for long. */
  #limitEnd(): void {
    if (this.#isOver || this.#grace || this.#pause.isPaused || !this.#reader?.isComplete()) return;
    this.#grace = setTimeout(() => {
      this.#body?.abort();
      this.#onEnd(null);
    }, this.#graceMs);
  }

  #onPause(isPaused: boolean): void {
    this.#endGrace();
    if (isPaused) this.#body?.pause();
    else this.#body?.resume();
    this.#limitEnd();
  }

  /** The connection has ended, by itself or by a fault. */
  #onEnd(fault: Error | null): void {
    clearTimeout(this.#grace);
    this.#read((reader) => reader.end(fault));
  }

  #fail(error: unknown): void {
    this.#end({ type: "error", error: mapThrown(this.#source, error) });
  }

  #end(end: ProviderEnd): void {
    if (this.#isOver) return;
    this.#close(end.type === "finish");
    this.#resolve(end.type === "error" ? { ...end, error: cleanError(end.error, this.#source.secrets) } : end);
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
