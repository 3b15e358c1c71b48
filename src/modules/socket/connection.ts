import type { ServerWebSocket } from "bun";
import type { Caller } from "../../access/caller.ts";
import type { OpenStream, StreamEnd } from "../../access/open-streams.ts";
import { createId } from "../../lib/id.ts";
import { FrameMeter } from "../../limits/frame-limit.ts";
import { type CloseReason, closeCodes } from "../../protocol/close-codes.ts";
import type { Push } from "../../protocol/pushes.ts";
import type { Listener } from "../../realtime/room.ts";
import { SendOrder } from "./send-order.ts";
import { WaitingFrames } from "./waiting-frames.ts";

export type Socket = ServerWebSocket<{ connection: Connection }>;

/** One open WebSocket: its caller, subscriptions and queued frames. */
export class Connection implements Listener, OpenStream {
  readonly id = createId();
  readonly openedAtMs = Date.now();
  readonly subscriptions = new Set<string>();
  /** Frames queued behind one in progress: a connection's frames take effect in order. */
  readonly waiting = new WaitingFrames();
  caller: Caller | null;
  isBusy = false;
  /** Messages not committed yet. */
  sending = 0;
  readonly sendOrder = new SendOrder();
  /** Consecutive invalid frames. */
  violations = 0;
  /** Releases its slot in the user's connection limit. */
  release = () => {};
  lastSeenAtMs = Date.now();
  pingedAtMs = 0;
  /** Whether the last sweep found it too slow. */
  isSlow = false;
  closedAtMs = 0;
  #socket: Socket | undefined;
  #onSent: ((type: string) => void) | undefined;
  /** Frames sent together at the end of this event loop turn. */
  #unsent: string[] = [];
  #meter: FrameMeter | undefined;

  /**
   * @param ipAddress the client's address, if known.
   * @param requestId of the request that opened it, for the log.
   */
  constructor(
    caller: Caller | null,
    readonly ipAddress: string | null,
    readonly requestId: string,
  ) {
    this.caller = caller;
  }

  get userId(): string {
    return this.caller?.user.id ?? "";
  }

  /** Recently sent messages; most connections only listen, and need none. */
  get meter(): FrameMeter {
    this.#meter ??= new FrameMeter();
    return this.#meter;
  }

  get isClosing(): boolean {
    return this.closedAtMs > 0;
  }

  /** The socket's native topics, which deliver pushes. */
  get topics(): { subscribe(topic: string): void; unsubscribe(topic: string): void } {
    return {
      subscribe: (topic) => this.#socket?.subscribe(topic),
      unsubscribe: (topic) => this.#socket?.unsubscribe(topic),
    };
  }

  /** @param onSent counts frames sent to this connection alone, by type. */
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

  answer(frame: Push): void {
    this.#onSent?.(frame.type);
    this.send(JSON.stringify(frame));
  }

  /**
   * Sends at the end of this event loop turn. A group commit acknowledges hundreds of messages in one turn: batching costs
   * one system call per socket, including its pending pushes, instead of one per message.
   */
  answerSoon(frame: Push): void {
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

  /** Terminates the transport if the client doesn't answer the close frame. */
  terminate(): void {
    this.#socket?.terminate();
  }
}
