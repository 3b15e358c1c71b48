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

/** One open WebSocket: who it is, what it listens to, and the frames that wait for their turn. */
export class Connection implements Listener, OpenStream {
  readonly id = createId();
  readonly openedAtMs = Date.now();
  readonly subscriptions = new Set<string>();
  /** Frames behind one that is still being answered: those of one connection take effect in their order. */
  readonly waiting = new WaitingFrames();
  caller: Caller | null;
  isBusy = false;
  /** Messages that are not committed yet. */
  sending = 0;
  readonly sendOrder = new SendOrder();
  /** Frames in a row that were not of the protocol. */
  violations = 0;
  /** Gives back its place among the sockets of its user. */
  release = () => {};
  lastSeenAtMs = Date.now();
  pingedAtMs = 0;
  /** The last sweep found it too slow. */
  isSlow = false;
  closedAtMs = 0;
  #socket: Socket | undefined;
  #onSent: ((type: string) => void) | undefined;
  /** Frames that go out together at the end of this turn of the event loop. */
  #unsent: string[] = [];
  #meter: FrameMeter | undefined;

  /**
   * @param ipAddress where it comes from, if that is known.
   * @param requestId of the request that opened it, which lines of the log about it name.
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

  /** What it has sent lately; most connections only listen, and need none. */
  get meter(): FrameMeter {
    this.#meter ??= new FrameMeter();
    return this.#meter;
  }

  get isClosing(): boolean {
    return this.closedAtMs > 0;
  }

  /** The native topics of the socket, over which pushes come. */
  get topics(): { subscribe(topic: string): void; unsubscribe(topic: string): void } {
    return {
      subscribe: (topic) => this.#socket?.subscribe(topic),
      unsubscribe: (topic) => this.#socket?.unsubscribe(topic),
    };
  }

  /** @param onSent counts what this connection alone is sent, by its type. */
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
   * Answers at the end of this turn. A group commit answers hundreds of messages in one turn: they then cost one system
   * call for each socket, together with the pushes that wait for it, and not one for each message.
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

  /** Pushes come until the credential ends, so it ends with its access token too. */
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

  /** Bytes that the client has not taken yet. */
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

  /** Ends the transport of a client that does not answer the close. */
  terminate(): void {
    this.#socket?.terminate();
  }
}
