import type { IncomingBody } from "../../lib/http-client/incoming-body.ts";
import type { PauseSignal } from "../pause-signal.ts";
import type { ProviderEnd, ProviderError, ProviderPart, ProviderRequest, PushPart } from "../provider.ts";
import { cleanError } from "../provider-error.ts";
import { BrokenStreamError } from "../transport/event-stream.ts";
import { createBodyReader } from "./body-reader.ts";
import type { BodyReader, EventMapper, MappedEvent } from "./event-mapper.ts";
import { type ErrorSource, mapThrownError } from "./map-thrown.ts";
import type { SuccessfulResponse } from "./sdk-request.ts";

/**
 * Maximum time to wait for the end of a stream after its answer is complete. The token count may arrive late, and a connection
 * can only be reused if its stream ends.
 */
const END_GRACE_PERIOD_MS = 1_000;

/** Maximum number of packets that are read after the answer's end, so that the connection can be reused. */
const DRAIN_PACKETS_MAX = 16;

export type AnswerSource = ErrorSource & {
  /**
   * Sends the request. Resolves with a successful response; otherwise throws the SDK's error.
   * @param onBytes called for each packet from the server.
   */
  send(onBytes: () => void): Promise<SuccessfulResponse>;
  createMapper(): EventMapper;
};

type StreamRequest = Pick<ProviderRequest, "signal" | "pause" | "idleTimeoutMs">;

/**
 * Streams one answer from a provider. Parts are pushed as soon as their packet arrives, in the same tick. The SDKs' event parsers
 * are not used: they hide the end marker `[DONE]`, end an aborted stream as if it were complete, keep all comments in memory,
 * and need up to twice the CPU time.
 */
export function streamAnswer(
  request: StreamRequest,
  push: PushPart<ProviderPart>,
  source: AnswerSource,
): Promise<ProviderEnd> {
  return new Promise((resolve) => void new AnswerStream(request, push, source, resolve).start());
}

const activity = { type: "activity", isHead: false } as const;
const headActivity = { type: "activity", isHead: true } as const;

class AnswerStream {
  readonly #signal: AbortSignal;
  readonly #pause: PauseSignal;
  readonly #push: PushPart<ProviderPart>;
  readonly #source: AnswerSource;
  readonly #resolve: (end: ProviderEnd) => void;
  readonly #stopListening: () => void;
  readonly #gracePeriodMs: number;
  #body: IncomingBody | null = null;
  #reader: BodyReader | null = null;
  #response: SuccessfulResponse | null = null;
  #hasBody = false;
  /** Whether any part was pushed. */
  #hasStarted = false;
  /** Whether the end has arrived or the answer is no longer needed. */
  #isDone = false;
  #graceTimer: Timer | undefined;
  #drainedPackets = 0;
  /** Called for every packet, including those of interim responses and headers. */
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
    // The grace period must end before the idle timeout, because the idle timeout would make a complete answer fail.
    this.#gracePeriodMs = Math.min(END_GRACE_PERIOD_MS, idleTimeoutMs / 2);
    this.#push = push;
    this.#source = source;
    this.#resolve = resolve;
    this.#stopListening = pause.listen((isPaused) => this.#onPause(isPaused));
    signal.addEventListener("abort", this.#onAbort, { once: true });
  }

  start(): Promise<void> {
    return this.#open(() => this.#source.send(this.#onBytes));
  }

  async #open(send: () => Promise<SuccessfulResponse>): Promise<void> {
    try {
      const response = await send();
      const { status, headers, body } = response;
      if (this.#isDone) return body.abort();
      if (status === 204) throw new BrokenStreamError("a response without a body");
      const responseDescription = `HTTP ${status} with ${headers.get("content-type") || "no content type"}`;
      const sink = {
        push: (mapped: MappedEvent) => this.#onEvent(mapped),
        isDone: () => this.#isDone || this.#response !== response,
      };
      const { createMapper, secrets } = this.#source;
      this.#reader = createBodyReader({ mapper: createMapper(), secrets, responseDescription }, sink);
      this.#response = response;
      this.#body = body;
      this.#push(headActivity);
      body.listen({ onBytes: (bytes) => this.#receive(bytes), onEnd: (error) => this.#onEnd(error) });
      // Setting the listeners resumes the stream, so it must be paused afterwards.
      if (this.#pause.isPaused && !this.#isDone) body.pause();
    } catch (error) {
      this.#fail(error);
    }
  }

  #receive(bytes: Uint8Array): void {
    if (this.#isDone) {
      this.#drain();
      return;
    }
    if (!this.#hasBody) this.#push(activity);
    this.#hasBody = true;
    this.#useReader((reader) => reader.push(bytes));
    this.#startGracePeriod();
  }

  #useReader(read: (reader: BodyReader) => void): void {
    if (!this.#reader || this.#isDone) return;
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
      // Some servers send a finish reason in every event, so each new part restarts the grace period.
      if (this.#graceTimer && mapped.type !== "usage") this.#clearGraceTimer();
      this.#push(mapped);
    }
  }

  /**
   * Sends the request again without a parameter if a response with a success status contains only an error about that parameter.
   * Some gateways send the status before they call the model.
   * @returns whether the request is sent again.
   */
  #retryWithoutParameter({ code, cause: message, param }: ProviderError): boolean {
    const response = this.#response;
    if (code !== "provider_refused" || !response) return false;
    const retriedResponse = response.retryWithoutParameter(JSON.stringify({ error: { message, param } }));
    if (!retriedResponse) return false;
    this.#response = null;
    this.#reader = null;
    this.#body = null;
    response.body.abort();
    void this.#open(() => retriedResponse);
    return true;
  }

  #clearGraceTimer(): void {
    clearTimeout(this.#graceTimer);
    this.#graceTimer = undefined;
  }

  /** Starts the grace period for the stream's end if the answer is complete. */
  #startGracePeriod(): void {
    if (this.#isDone || this.#graceTimer || this.#pause.isPaused || !this.#reader?.isComplete()) return;
    this.#graceTimer = setTimeout(() => {
      this.#body?.abort();
      this.#onEnd(null);
    }, this.#gracePeriodMs);
  }

  #onPause(isPaused: boolean): void {
    this.#clearGraceTimer();
    if (isPaused) this.#body?.pause();
    else this.#body?.resume();
    this.#startGracePeriod();
  }

  #onEnd(error: Error | null): void {
    clearTimeout(this.#graceTimer);
    this.#useReader((reader) => reader.end(error));
  }

  #fail(error: unknown): void {
    this.#end({ type: "error", error: mapThrownError(this.#source, error) });
  }

  #end(end: ProviderEnd): void {
    if (this.#isDone) return;
    this.#close(end.type === "finish");
    this.#resolve(end.type === "error" ? { ...end, error: cleanError(end.error, this.#source.secrets) } : end);
  }

  #close(isFinished: boolean): void {
    this.#isDone = true;
    clearTimeout(this.#graceTimer);
    this.#signal.removeEventListener("abort", this.#onAbort);
    this.#stopListening();
    if (!isFinished) {
      this.#body?.abort();
      return;
    }
    // If the stream ends within the grace period, its connection can be reused.
    if (this.#pause.isPaused) this.#body?.resume();
    this.#graceTimer = setTimeout(() => this.#body?.abort(), END_GRACE_PERIOD_MS);
  }

  #drain(): void {
    this.#drainedPackets += 1;
    if (this.#drainedPackets > DRAIN_PACKETS_MAX) this.#body?.abort();
  }
}
