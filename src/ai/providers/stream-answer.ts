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
 * How long a stream may continue after its answer is complete: the token count may still arrive, and a connection that ends
 * normally can be reused.
 */
const END_GRACE_MS = 1_000;

/** Packets read after the end for that purpose. */
const DRAIN_PACKETS_MAX = 16;

export type AnswerSource = ThrownSource & {
  /**
   * Sends the request as the SDK would and throws the SDK's errors. Resolves only with a successful response.
   * @param onBytes called for each packet from the server.
   */
  send(onBytes: () => void): Promise<SuccessfulResponse>;
  createMapper(): EventMapper;
};

type StreamRequest = Pick<ProviderRequest, "signal" | "pause" | "idleTimeoutMs">;

/**
 * Streams one answer from a provider. The SDK handles requests, keys and errors. Events are read here, because the SDKs hide
 * the end marker `[DONE]`, end an aborted stream as if it were complete, keep every comment in memory, and use up to twice
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
  /** Whether bytes of a body have arrived. */
  #hasBody = false;
  /** Whether the model has produced anything. */
  #hasStarted = false;
  /** The end has arrived, or the answer is no longer needed. */
  #isOver = false;
  #grace: Timer | undefined;
  #drainedPackets = 0;
  /** Every packet is a sign of life, even interim responses, parts of a head, or a chunk size. */
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
    // Half of it, so that a complete answer isn't cut off as a silent one.
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
        take: (mapped: MappedEvent) => this.#onEvent(mapped),
        isOver: () => this.#isOver || this.#response !== response,
      };
      const { createMapper, secrets } = this.#source;
      this.#reader = createBodyReader({ mapper: createMapper(), secrets, origin }, sink);
      this.#response = response;
      this.#body = body;
      // The response head is a sign of life too.
      this.#push(headActivity);
      body.listen({ onBytes: (bytes) => this.#receive(bytes), onEnd: (error) => this.#onEnd(error) });
      // Pauses after the listeners are set, because setting them resumes the stream.
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

  #onEvent(mapped: MappedEvent): void {
    if (mapped.type === "error" && !this.#hasStarted && this.#retryWithoutParameter(mapped.error)) return;
    if (mapped.type === "finish" || mapped.type === "error") this.#end(mapped);
    else {
      this.#hasStarted = true;
      // Some servers send the end in every event: each further text restarts the grace period.
      if (this.#grace && mapped.type !== "usage") this.#endGrace();
      this.#push(mapped);
    }
  }

  /**
   * Repeats the request if a successful response holds only the rejection of a parameter: gateways open the stream before
   * they call the model. @returns whether it does.
   */
  #retryWithoutParameter({ code, cause: message, param }: ProviderError): boolean {
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

  /** Limits the wait for the stream's end once the answer is complete. */
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

  /** The connection has ended, normally or with a fault. */
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
    // A finished stream may end normally, within limits, so that its connection can be reused.
    if (this.#pause.isPaused) this.#body?.resume();
    this.#grace = setTimeout(() => this.#body?.abort(), END_GRACE_MS);
  }

  #drain(): void {
    this.#drainedPackets += 1;
    if (this.#drainedPackets > DRAIN_PACKETS_MAX) this.#body?.abort();
  }
}
