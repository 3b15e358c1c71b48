import type { Socket } from "bun";
import { createResponseParser, type ResponseHead, type ResponseParser } from "./response-parser.ts";

/** What happens to one request; `onClose` comes last, and once. */
export type ResponseHandlers = {
  onHead(head: ResponseHead): void;
  onBody(bytes: Uint8Array): void;
  /** Null: the answer is whole. */
  onClose(error: Error | null): void;
};

/** A connection to a server, for one request after the other. */
export class HttpConnection {
  /** Whether it has served a request before: the server may have closed it without our knowing. */
  isReused = false;
  /** Whether anything of an answer to its request has come. */
  hasAnswered = false;
  /** Since when it waits for the next request, in milliseconds of `Date.now()`. */
  idleSinceMs = 0;
  #socket: Socket | null = null;
  /** Open, but not to be written to yet: the certificate is not known. */
  #unproven: Socket | null = null;
  #handlers: ResponseHandlers | null = null;
  #parser: ResponseParser | null = null;
  #unsent: Uint8Array | null = null;
  #isClosed = false;
  #canReuse = false;
  readonly #onIdle: (connection: HttpConnection) => void;
  readonly #onGone: (connection: HttpConnection) => void;

  /**
   * @param onIdle the answer is whole, and another request may follow.
   * @param onGone it is closed.
   */
  constructor(url: URL, onIdle: (connection: HttpConnection) => void, onGone: (connection: HttpConnection) => void) {
    this.#onIdle = onIdle;
    this.#onGone = onGone;
    const isSecure = url.protocol === "https:";
    const hostname = url.hostname.replace(/^\[(.*)\]$/, "$1");
    const opened = (socket: Socket) => {
      if (this.#isClosed) return void socket.terminate();
      this.#socket = socket;
      this.#flush();
    };
    Bun.connect({
      hostname,
      port: Number(url.port) || (isSecure ? 443 : 80),
      ...(isSecure && { tls: { serverName: hostname } }),
      socket: {
        // Over TLS nothing is sent before the certificate is known to be that of the server.
        open: (socket) => {
          if (!isSecure) return opened(socket);
          if (this.#isClosed) return void socket.terminate();
          this.#unproven = socket;
        },
        ...(isSecure && {
          handshake: (socket: Socket, isAuthorized: boolean, error: Error | null) => {
            if (isAuthorized) return opened(socket);
            this.#close(new Error(`the certificate is not trusted: ${error?.message ?? "unknown reason"}`));
            socket.terminate();
          },
        }),
        data: (_socket, bytes) => this.#receive(bytes),
        drain: () => this.#flush(),
        end: () => this.#close(null),
        close: (_socket, error) => this.#close(error ?? null),
        error: (_socket, error) => this.#close(error),
        connectError: (_socket, error) => this.#close(error),
      },
    }).catch((error) => this.#close(error));
  }

  /** Sends a request; only while no other is under way. */
  send(request: Uint8Array, handlers: ResponseHandlers): void {
    this.hasAnswered = false;
    this.#handlers = handlers;
    this.#unsent = request;
    this.#parser = createResponseParser({
      onHead: handlers.onHead,
      onBody: handlers.onBody,
      onEnd: (canReuse) => {
        this.#canReuse = canReuse && this.#unsent === null;
      },
    });
    this.#socket?.ref();
    this.#flush();
  }

  pause(): void {
    this.#socket?.pause();
  }

  resume(): void {
    this.#socket?.resume();
  }

  /** Ends it at once; its request ends with this error. */
  abort(error: Error): void {
    this.#close(error);
  }

  #flush(): void {
    const { length } = this.#unsent ?? [];
    if (!this.#socket || !this.#unsent || length === undefined) return;
    const written = this.#socket.write(this.#unsent);
    if (written < 0) return;
    this.#unsent = written >= length ? null : this.#unsent.subarray(written);
  }

  #receive(bytes: Uint8Array): void {
    if (this.#isClosed) return;
    this.hasAnswered = true;
    try {
      if (!this.#parser) throw new Error("bytes without a request");
      this.#parser.push(bytes);
      // A reader may have given up in the middle of these bytes: then it is closed, and nobody's any more.
      if (!this.#isClosed && this.#parser.isOver()) this.#finish();
    } catch (error) {
      this.#close(error instanceof Error ? error : new Error("a broken answer"));
    }
  }

  #finish(): void {
    const handlers = this.#handlers;
    this.#handlers = null;
    this.#parser = null;
    if (this.#canReuse) {
      this.isReused = true;
      this.idleSinceMs = Date.now();
      // Whoever paused it for the last packets would leave the next answer unread.
      this.#socket?.resume();
      // Waiting for another request is no reason for the process to live.
      this.#socket?.unref();
      this.#onIdle(this);
    } else this.#close(null);
    handlers?.onClose(null);
  }

  #close(error: Error | null): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    (this.#socket ?? this.#unproven)?.terminate();
    this.#onGone(this);
    const handlers = this.#handlers;
    this.#handlers = null;
    if (!handlers) return;
    const isWhole = error === null && this.#parser?.close() === true;
    handlers.onClose(isWhole ? null : (error ?? new Error("the connection broke")));
  }
}
