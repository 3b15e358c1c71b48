import type { Account } from "../support/client.ts";
import type { Frame } from "../support/socket.ts";
import { type Connection, openConnection } from "./connection.ts";
import type { Send, View } from "./history.ts";
import { InboxReader } from "./inbox-reader.ts";
import type { Random } from "./random.ts";
import { Subscription } from "./subscription.ts";

/** The range of the delay before the next connection attempt. */
const RECONNECT_MS = { min: 20, max: 150 };
const RETRY_MS = 50;

/** A counter that orders the sends and acks of all clients. */
export type StepCounter = { next(): number };

type ClientOptions = {
  name: string;
  account: Account;
  random: Random;
  steps: StepCounter;
  /** Picks an instance to connect to, as a load balancer would. */
  pickUrl(): string;
};

/**
 * A client that keeps one socket open, reconnects to any instance, resubscribes from its last event on, resends
 * unacknowledged messages, and records what it sends and receives.
 */
export class Client {
  readonly sends: Send[] = [];
  readonly unexpectedFrames: { client: string; frame: Frame }[] = [];
  /** The permanent errors and the close codes that forbid reconnecting. */
  readonly permanentErrors: string[] = [];
  readonly inbox: InboxReader;
  ackedCount = 0;
  readonly #subscriptions = new Map<string, Subscription>();
  #connection: Connection | null = null;
  #isStopped = false;
  #running: Promise<void> = Promise.resolve();

  constructor(readonly options: ClientOptions) {
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

  /** Whether the inbox is loaded and every conversation is subscribed. */
  get isSettled(): boolean {
    return this.inbox.isReady && [...this.#subscriptions.values()].every(({ isSubscribed }) => isSubscribed);
  }

  /** Lists the users that the client considers online in a conversation. */
  listOnline(conversationId: string): string[] {
    return [...(this.#subscriptions.get(conversationId)?.onlineUserIds ?? [])].sort();
  }

  /** Returns the sequence number of the client's newest event in each conversation. */
  listSeqs(): Record<string, number> {
    return Object.fromEntries([...this.#subscriptions].map(([id, { seq }]) => [id, seq]));
  }

  /** Adds a conversation to subscribe to. Call it before `start`. */
  addConversation(conversationId: string, { isGuest = false } = {}): void {
    const onPermanentError = (error: Frame) => this.#recordError(`subscribe: ${JSON.stringify(error)}`);
    const options = { client: this.name, userId: this.userId, conversationId, isGuest, onPermanentError };
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
      const onFrame = (frame: Frame) => this.#handleFrame(frame);
      const connection = await openConnection({ url: pickUrl(), token: account.access_token, onFrame });
      if (connection && !this.#isStopped) await this.#useConnection(connection);
      connection?.close();
      await Bun.sleep(random.int(RECONNECT_MS.min, RECONNECT_MS.max));
    }
  }

  async #useConnection(connection: Connection): Promise<void> {
    this.#connection = connection;
    for (const subscription of this.#subscriptions.values()) void subscription.subscribe(connection);
    void this.inbox.subscribe(connection);
    const { code, reason } = await connection.closed;
    this.#connection = null;
    if (code >= 4500) this.#recordError(`closed with ${code} ${reason}`);
  }

  #handleFrame(frame: Frame): void {
    if (frame.type === "inbox") this.inbox.handleFrame(frame);
    else if (typeof frame.conversation_id !== "string") return;
    else if (!this.#subscriptions.get(frame.conversation_id)?.handleFrame(frame))
      this.unexpectedFrames.push({ client: this.name, frame });
  }

  /** Sends a message repeatedly until it is acknowledged. @returns its sequence number. */
  async sendMessage(conversationId: string, content: string, options: { reply?: boolean } = {}): Promise<number> {
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
      ...options,
    };
    while (!(await this.#trySend(send, frame))) await Bun.sleep(RETRY_MS);
    return send.acks[0]?.seq ?? 0;
  }

  /** Resends an acknowledged message, like a client that didn't receive the ack. */
  async resend(send: Send): Promise<void> {
    const { conversationId: conversation_id, clientMessageId: client_message_id, content } = send;
    await this.#trySend(send, { conversation_id, client_message_id, content, reply: false });
  }

  async #trySend(send: Send, frame: object): Promise<boolean> {
    const connection = this.#connection;
    if (!connection) return this.#isStopped;
    const response = await connection.request({ type: "message.send", ...frame });
    if (response?.type === "error") {
      if (response.temporary === true) return false;
      this.#recordError(`message.send: ${JSON.stringify(response)}`);
      return true;
    }
    const message = response?.message as Send["acks"][number] | undefined;
    if (!message) return false;
    if (send.acks.length === 0) {
      send.ackedStep = this.options.steps.next();
      this.ackedCount += 1;
    }
    send.acks.push({ id: message.id, seq: message.seq, content: message.content });
    return true;
  }

  /** Moves the read position to the client's newest event. */
  async markRead(conversationId: string): Promise<void> {
    const seq = this.#subscriptions.get(conversationId)?.seq ?? 0;
    await this.#connection?.request({ type: "read", conversation_id: conversationId, seq });
  }

  #recordError(error: string): void {
    this.permanentErrors.push(`${this.name}: ${error}`);
  }
}
