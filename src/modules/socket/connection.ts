import type { ServerWebSocket } from "bun";
import type { Caller } from "../../access/caller.ts";
import type { OpenStream, StreamEnd } from "../../access/open-streams.ts";
import { createId } from "../../lib/id.ts";
import type { SpanContext } from "../../lib/tracing/tracing.ts";
import { FrameMeter } from "../../limits/frame-limit.ts";
import { type CloseReason, closeCodes } from "../../protocol/close-codes.ts";
import type { Push } from "../../protocol/pushes.ts";
import type { Listener } from "../../realtime/room.ts";
import { QueuedFrames } from "./queued-frames.ts";
import { SendOrder } from "./send-order.ts";

export type Socket = ServerWebSocket<{ connection: Connection }>;

/** An open WebSocket with its caller, subscriptions and queued frames. */
export class Connection implements Listener, OpenStream {
  readonly id = createId();
  readonly openedAtMs = Date.now();
  readonly subscriptions = new Set<string>();
  /** Frames that were received while another frame was being processed. A connection's frames are processed in order. */
  readonly queuedFrames = new QueuedFrames();
  caller: Caller | null;
  isBusy = false;
  /** The number of uncommitted messages. */
  pendingSends = 0;
  readonly sendOrder = new SendOrder();
  /** The number of consecutive invalid frames. */
  consecutiveViolations = 0;
  /** Releases the resources that were acquired when the connection was accepted. */
  releaseResources = () => {};
  lastSeenAtMs = Date.now();
  pingedAtMs = 0;
  /** Whether the last sweep found the client too slow. */
  wasSlowAtLastSweep = false;
  closedAtMs = 0;
  #socket: Socket | undefined;
  #onSent: ((type: string) => void) | undefined;
  /** Frames to send together at the end of this event loop turn. */
  #unsentFrames: string[] = [];
  #meter: FrameMeter | undefined;

  /**
   * @param ipAddress the client's IP address, if known.
   * @param requestId the id of the request that opened the connection, for the log.
   * @param trace the span of that request, which the connection's traces link to.
   */
  constructor(
    caller: Caller | null,
    readonly ipAddress: string | null,
    readonly requestId: string,
    readonly trace?: SpanContext | undefined,
  ) {
    this.caller = caller;
  }

  get userId(): string {
    return this.caller?.user.id ?? "";
  }

  /** Counts recently received frames. Created on demand, because most connections only receive pushes. */
  get meter(): FrameMeter {
    this.#meter ??= new FrameMeter();
    return this.#meter;
  }

  get isClosing(): boolean {
    return this.closedAtMs > 0;
  }

  /** The topics of Bun's socket, through which it receives pushes. */
  get topics(): { subscribe(topic: string): void; unsubscribe(topic: string): void } {
    return {
      subscribe: (topic) => this.#socket?.subscribe(topic),
      unsubscribe: (topic) => this.#socket?.unsubscribe(topic),
    };
  }

  /** Attaches the socket when it has opened. @param onSent called for each frame that is sent only to this connection. */
  attach(socket: Socket, onSent: (type: string) => void): void {
    this.#socket = socket;
    this.#onSent = onSent;
  }

  onExpelled(conversationId: string): void {
    this.subscriptions.delete(conversationId);
  }

  send(frame: string): void {
    if (this.isClosing) return;
    this.#flush();
    this.#socket?.send(frame);
  }

  sendFrame(frame: Push): void {
    this.#onSent?.(frame.type);
    this.send(JSON.stringify(frame));
  }

  /**
   * Sends a frame at the end of this event loop turn. A group commit acknowledges hundreds of messages in one turn. If the acks are
   * sent together, one system call per socket is enough, instead of one per message.
   */
  sendFrameSoon(frame: Push): void {
    if (this.isClosing) return;
    this.#onSent?.(frame.type);
    if (this.#unsentFrames.push(JSON.stringify(frame)) === 1) process.nextTick(() => this.#flush());
  }

  #flush(): void {
    const socket = this.#socket;
    if (this.#unsentFrames.length === 0 || !socket) return;
    const frames = this.#unsentFrames.splice(0);
    socket.cork(() => {
      for (const frame of frames) socket.send(frame);
    });
  }

  /** Pushes require a valid credential, so the connection is closed when its access token expires. */
  get shouldEndWithToken(): boolean {
    return true;
  }

  end({ reason }: StreamEnd): void {
    this.close(reason === "token" ? "token_expired" : "session_revoked");
  }

  ping(nowMs: number): void {
    this.pingedAtMs = nowMs;
    this.#socket?.ping();
  }

  /** Returns the number of bytes that the client hasn't received. */
  getBufferedBytes(): number {
    return this.#socket?.getBufferedAmount() ?? 0;
  }

  close(reason: CloseReason): void {
    if (this.isClosing) return;
    this.#flush();
    this.closedAtMs = Date.now();
    const { code, reason: closeReason } = closeCodes[reason];
    this.#socket?.close(code, closeReason);
  }

  /** Terminates the TCP connection. Call this if the client doesn't respond to the close frame. */
  terminate(): void {
    this.#socket?.terminate();
  }
}
