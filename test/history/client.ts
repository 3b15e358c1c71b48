import type { Account } from "../support/client.ts";
import type { Frame } from "../support/socket.ts";
import { type Connection, connect } from "./connection.ts";
import { InboxReader } from "./inbox-reader.ts";
import type { Random } from "./random.ts";
import type { Send, View } from "./record.ts";
import { Subscription } from "./subscription.ts";

/** Pause before the next connection attempt. */
const RECONNECT_MS = { min: 20, max: 150 };
const RETRY_MS = 50;

/** A counter that orders the events of this process. */
export type Steps = { next(): number };

type Options = {
  name: string;
  account: Account;
  random: Random;
  steps: Steps;
  /** Picks an instance to connect to, as a load balancer would. */
  pickUrl(): string;
};

/**
 * A client like a user's: keeps one socket, reconnects to any instance, resubscribes after the last event that it has,
 * resends unacknowledged messages, and records everything.
 */
export class Client {
  readonly sends: Send[] = [];
  readonly stray: { client: string; frame: Frame }[] = [];
  /** Permanent errors, and close codes that forbid reconnecting. */
  readonly refusals: string[] = [];
  readonly inbox: InboxReader;
  ackedCount = 0;
  readonly #subscriptions = new Map<string, Subscription>();
  #connection: Connection | null = null;
  #isStopped = false;
  #running: Promise<void> = Promise.resolve();

  constructor(readonly options: Options) {
    this.inbox = new InboxReader(options.account, options.pickUrl);
  }

  get name(): string {
    return this.options.name;
  }

  get userId(): string {
    return this.options.account.user.id;
  }

  get views(): View[] {
    return [...this.#subscriptions.values()].map(({ view }) => view);
  }

  get isSettled(): boolean {
    return this.inbox.isReady && [...this.#subscriptions.values()].every(({ isSubscribed }) => isSubscribed);
  }

  /** The members online in a conversation, as far as the client knows. */
  listOnline(conversationId: string): string[] {
    return [...(this.#subscriptions.get(conversationId)?.online ?? [])].sort();
  }

  /** The newest event that the client has of each conversation. */
  listSeqs(): Record<string, number> {
    return Object.fromEntries([...this.#subscriptions].map(([id, { seq }]) => [id, seq]));
  }

  /** Adds a conversation to the view. Call it before `start`. */
  watch(conversationId: string, { isGuest = false } = {}): void {
    const onRefused = (error: Frame) => this.#refuse(`subscribe: ${JSON.stringify(error)}`);
    const options = { client: this.name, userId: this.userId, conversationId, isGuest, onRefused };
    this.#subscriptions.set(conversationId, new Subscription(options));
  }

  start(): void {
    this.#running = this.#stayConnected();
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    this.#connection?.close();
    await this.#running;
  }

  async #stayConnected(): Promise<void> {
    const { account, pickUrl, random } = this.options;
    while (!this.#isStopped) {
      const onFrame = (frame: Frame) => this.#take(frame);
      const connection = await connect({ url: pickUrl(), token: account.access_token, onFrame });
      if (connection && !this.#isStopped) await this.#use(connection);
      connection?.close();
      await Bun.sleep(random.int(RECONNECT_MS.min, RECONNECT_MS.max));
    }
  }

  async #use(connection: Connection): Promise<void> {
    this.#connection = connection;
    for (const subscription of this.#subscriptions.values()) void subscription.subscribe(connection);
    void this.inbox.begin(connection);
    const { code, reason } = await connection.closed;
    this.#connection = null;
    if (code >= 4500) this.#refuse(`closed with ${code} ${reason}`);
  }

  #take(frame: Frame): void {
    if (frame.type === "inbox") this.inbox.take(frame);
    else if (typeof frame.conversation_id !== "string") return;
    else if (!this.#subscriptions.get(frame.conversation_id)?.take(frame))
      this.stray.push({ client: this.name, frame });
  }

  /** Sends a message until it is acknowledged, over as many connections as it takes. @returns its seq. */
  async send(conversationId: string, content: string, more: { reply?: boolean } = {}): Promise<number> {
    const { steps, name } = this.options;
    const clientMessageId = `${name}-${this.sends.length + 1}`;
    const sentStep = steps.next();
    const send: Send = { client: name, conversationId, clientMessageId, content, sentStep, ackedStep: null, acks: [] };
    this.sends.push(send);
    const frame = {
      conversation_id: conversationId,
      client_message_id: clientMessageId,
      content,
      reply: false,
      ...more,
    };
    while (!(await this.#trySend(send, frame))) await Bun.sleep(RETRY_MS);
    return send.acks[0]?.seq ?? 0;
  }

  /** Sends an acknowledged message again, like a client that lost the ack. */
  async sendAgain(send: Send): Promise<void> {
    const { conversationId: conversation_id, clientMessageId: client_message_id, content } = send;
    await this.#trySend(send, { conversation_id, client_message_id, content, reply: false });
  }

  async #trySend(send: Send, frame: object): Promise<boolean> {
    const connection = this.#connection;
    if (!connection) return this.#isStopped;
    const answer = await connection.ask({ type: "message.send", ...frame });
    if (answer?.type === "error") {
      if (answer.temporary === true) return false;
      this.#refuse(`message.send: ${JSON.stringify(answer)}`);
      return true;
    }
    const message = answer?.message as Send["acks"][number] | undefined;
    if (!message) return false;
    if (send.acks.length === 0) {
      send.ackedStep = this.options.steps.next();
      this.ackedCount += 1;
    }
    send.acks.push({ id: message.id, seq: message.seq, content: message.content });
    return true;
  }

  /** Moves the read position to the newest event that the client has. */
  async markRead(conversationId: string): Promise<void> {
    const seq = this.#subscriptions.get(conversationId)?.seq ?? 0;
    await this.#connection?.ask({ type: "read", conversation_id: conversationId, seq });
  }

  #refuse(what: string): void {
    this.refusals.push(`${this.name}: ${what}`);
  }
}
