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

/** One open WebSocket: its caller, subscriptions and queued frames. */
export class Connection implements Listener, OpenStream {
  readonly id = createId();
  readonly openedAtMs = Date.now();
  readonly subscriptions = new Set<string>();
  /** Frames queued behind the one in progress, because a connection's frames take effect in order. */
  readonly queue = new QueuedFrames();
  caller: Caller | null;
  isBusy = false;
  /** The number of messages that aren't committed yet. */
  pendingSends = 0;
  readonly sendOrder = new SendOrder();
  /** The number of consecutive invalid frames. */
  violations = 0;
  /** Releases the connection's slot in the user's limit. */
  release = () => {};
  lastSeenAtMs = Date.now();
  pingedAtMs = 0;
  /** Whether the last sweep found the client too slow. */
  isSlow = false;
  closedAtMs = 0;
  #socket: Socket | undefined;
  #onSent: ((type: string) => void) | undefined;
  /** Frames to be sent together at the end of this event loop turn. */
  #unsent: string[] = [];
  #meter: FrameMeter | undefined;

  /**
   * @param ipAddress the client's IP address, if known.
   * @param requestId the id of the request that opened the connection, for the log.
   * @param trace the span of that request, for links.
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

  /** Counts recently received frames. Created on demand, because most connections only listen. */
  get meter(): FrameMeter {
    this.#meter ??= new FrameMeter();
    return this.#meter;
  }

  get isClosing(): boolean {
    return this.closedAtMs > 0;
  }

  /** The socket's native topics, through which it receives pushes. */
  get topics(): { subscribe(topic: string): void; unsubscribe(topic: string): void } {
    return {
      subscribe: (topic) => this.#socket?.subscribe(topic),
      unsubscribe: (topic) => this.#socket?.unsubscribe(topic),
    };
  }

  /** @param onSent counts frames that are sent only to this connection, by type. */
  attach(socket: Socket, onSent: (type: string) => void): void {
    this.#socket = socket;
    this.#onSent = onSent;
  }

  onExpelled(conversationId: string): void {
    this.subscriptions.delete(conversationId);
  }

  send(text: string): void {
    if (this.isClosing) return;
    this.#flush();
    this.#socket?.send(text);
  }

  sendFrame(frame: Push): void {
    this.#onSent?.(frame.type);
    this.send(JSON.stringify(frame));
  }

  /**
   * Sends a frame at the end of this event loop turn. A group commit acknowledges hundreds of messages in one turn;
   * batching takes one system call per socket, including its pending pushes, instead of one per message.
   */
  sendFrameSoon(frame: Push): void {
    if (this.isClosing) return;
    this.#onSent?.(frame.type);
    if (this.#unsent.push(JSON.stringify(frame)) === 1) process.nextTick(() => this.#flush());
  }

  #flush(): void {
    const socket = this.#socket;
    if (this.#unsent.length === 0 || !socket) return;
    const frames = this.#unsent.splice(0);
    socket.cork(() => {
      for (const text of frames) socket.send(text);
    });
  }

  /** Pushes need a valid credential, so the connection ends when its access token expires. */
  get endsWithToken(): boolean {
    return true;
  }

  end({ reason }: StreamEnd): void {
    this.close(reason === "token" ? "token_expired" : "session_revoked");
  }

  ping(nowMs: number): void {
    this.pingedAtMs = nowMs;
    this.#socket?.ping();
  }

  /** Bytes that the client hasn't received yet. */
  bufferedBytes(): number {
    return this.#socket?.getBufferedAmount() ?? 0;
  }

  close(reason: CloseReason): void {
    if (this.isClosing) return;
    this.#flush();
    this.closedAtMs = Date.now();
    const { code, reason: text } = closeCodes[reason];
    this.#socket?.close(code, text);
  }

  /** Terminates the TCP connection. Call it if the client doesn't respond to the close frame. */
  terminate(): void {
    this.#socket?.terminate();
  }
}
