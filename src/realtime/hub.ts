import type { Log } from "../lib/log.ts";
import type { MemberRole } from "../protocol/conversation.ts";
import type { ConversationEvent, DurableEvent, EphemeralEvent } from "../protocol/events.ts";
import type { Bus, ConversationMessage } from "./bus.ts";
import { Channel, type Join, type Snapshot } from "./channel.ts";
import { Presence } from "./presence.ts";

/** One who listens: a socket or an event stream. */
export interface Listener {
  readonly userId: string;
  /** Does not make its user present: it listens on behalf of one request, say. */
  readonly isHidden?: boolean;
  /** Sends a serialised frame to this listener alone; with the event that it says, where that is at hand. */
  send(text: string, event?: ConversationEvent): void;
  /** Native topic subscription; a listener without topics gets every frame by `send`. */
  readonly topics?: { subscribe(topic: string): void; unsubscribe(topic: string): void };
  /** Called when the membership ends, or the conversation: nothing more will come. */
  onExpelled?(conversationId: string): void;
}

/** A listening server, as far as pushes go through it. */
type Publisher = { publish(topic: string, text: string): unknown };

/** After a gap, an instance that does not tell in this time who listens to it is one to which nobody listens. */
const PRESENCE_ANSWER_MS = 2_000;

type User = {
  role: MemberRole;
  /** Up to which event the role is known; older events say nothing new of it. */
  roleSeq: number;
  listeners: Set<Listener>;
};
type Room = {
  channel: Channel;
  users: Map<string, User>;
  presence: Presence;
  direct: Set<Listener>;
  listeners: number;
  joining: number;
  /** After it, who has not told again since a gap has nobody here. */
  doubtTimer: Timer | undefined;
  unsubscribe(): void;
};

/** What a member may do in a conversation, as of an event. */
type Membership = { role: MemberRole; lastSeq: number };

/** What a new listener is told in the very tick in which its pushes begin. */
export type Welcome = { lastSeq: number; missed: DurableEvent[]; usersOnline: string[] };

type HubDependencies = {
  bus: Bus;
  instanceId: string;
  loadEvents(conversationId: string, afterSeq: number, untilSeq: number): Promise<DurableEvent[]>;
  /** The number of the newest event that is stored. */
  findLastSeq(conversationId: string): Promise<number>;
  /** Every answer that is being written in the conversation, with its text so far. */
  listSnapshots(conversationId: string): Snapshot[];
  log: Log;
  /** Counts what was sent to how many listeners. */
  onPushed(type: string, listeners: number): void;
};

function isOnline({ listeners }: User): boolean {
  for (const listener of listeners) if (!listener.isHidden) return true;
  return false;
}

const topicOf = (conversationId: string) => `c:${conversationId}`;

/**
 * Who listens to what on this instance, and the way of every push from the bus to them. Rooms, and with them
 * subscriptions to the bus, exist only while someone listens.
 */
export function createHub({ bus, instanceId, loadEvents, findLastSeq, listSnapshots, log, onPushed }: HubDependencies) {
  const rooms = new Map<string, Room>();
  let server: Publisher | undefined;
  /** Rises whenever access is taken away: a join that began before must look again. */
  let accessEpoch = 0;

  function openRoom(conversationId: string): Room {
    const existing = rooms.get(conversationId);
    if (existing) return existing;
    const topic = topicOf(conversationId);
    const direct = new Set<Listener>();
    const channel = new Channel({
      send(text, type, event) {
        if (room.listeners > direct.size) server?.publish(topic, text);
        for (const listener of direct) sendTo(listener, text, event);
        onPushed(type, room.listeners);
      },
      onEvent: (event) => actOn(room, event),
      listSnapshots: () => listSnapshots(conversationId),
      loadEvents: (afterSeq, untilSeq) => loadEvents(conversationId, afterSeq, untilSeq),
      findLastSeq: () => findLastSeq(conversationId),
      onFault: (error) => log.error({ err: error, conversation_id: conversationId }, "missing events cannot be read"),
    });
    const unsubscribe = bus.subscribe(conversationId, {
      onMessage: (message) => hear(room, message),
      onGap() {
        channel.lookForMissed();
        room.presence.doubt(instanceId);
        askWhoIsOnline(conversationId);
        clearTimeout(room.doubtTimer);
        room.doubtTimer = setTimeout(() => {
          for (const silent of room.presence.listDoubted()) takePresence(room, conversationId, silent, []);
        }, PRESENCE_ANSWER_MS);
      },
    });
    const users = new Map<string, User>();
    const presence = new Presence();
    const room: Room = {
      channel,
      users,
      presence,
      direct,
      listeners: 0,
      joining: 0,
      doubtTimer: undefined,
      unsubscribe,
    };
    rooms.set(conversationId, room);
    askWhoIsOnline(conversationId);
    return room;
  }

  function closeRoomIfEmpty(conversationId: string, room: Room): void {
    if (room.users.size > 0 || room.joining > 0 || rooms.get(conversationId) !== room) return;
    room.unsubscribe();
    clearTimeout(room.doubtTimer);
    room.channel.close();
    rooms.delete(conversationId);
  }

  /** What goes wrong with one listener must not keep the push from the others, or from whoever makes it. */
  function sendTo(listener: Listener, text: string, event?: ConversationEvent): void {
    try {
      listener.send(text, event);
    } catch (error) {
      log.error({ err: error }, "a listener could not be sent to");
    }
  }

  /** Takes in what the bus brings of a conversation. */
  function hear(room: Room, message: ConversationMessage): void {
    switch (message.type) {
      case "message.delta":
      case "message.reset":
      case "read":
        room.channel.publishFrame(message);
        return;
      case "typing":
        pushToOthers(room, message);
        return;
      case "presence.changed": {
        const { conversation_id, instance_id, user_id, online } = message;
        if (room.presence.set(instance_id, user_id, online))
          pushToOthers(room, { type: "presence", conversation_id, user_id, online });
        return;
      }
      case "presence.listed": {
        // What this instance has, it knows better itself.
        if (message.instance_id === instanceId) return;
        takePresence(room, message.conversation_id, message.instance_id, message.user_ids);
        return;
      }
      case "presence.asked":
        if (message.instance_id !== instanceId) tellWhoIsOnline(message.conversation_id, room);
        return;
      default:
        // A newer instance may say what this one does not know.
        if (!Number.isInteger(message.seq)) return;
        // The end of a membership takes effect at once, also while an event before it is missing.
        room.channel.publish(message);
        if (!room.channel.hasPushed(message.seq)) actOn(room, message);
    }
  }

  function takePresence(room: Room, conversation_id: string, from: string, user_ids: readonly string[]): void {
    for (const { userId, online } of room.presence.replace(from, user_ids))
      pushToOthers(room, { type: "presence", conversation_id, user_id: userId, online });
  }

  function askWhoIsOnline(conversation_id: string): void {
    bus.publish(conversation_id, () => [{ type: "presence.asked", conversation_id, instance_id: instanceId }]);
  }

  function tellWhoIsOnline(conversation_id: string, { presence }: Room): void {
    const user_ids = presence.listOf(instanceId);
    bus.publish(conversation_id, () => [
      { type: "presence.listed", conversation_id, instance_id: instanceId, user_ids },
    ]);
  }

  function publishPresence(conversation_id: string, user_id: string, online: boolean): void {
    bus.publish(conversation_id, () => [
      { type: "presence.changed", conversation_id, instance_id: instanceId, user_id, online },
    ]);
  }

  /** To everyone who listens here, but for the user it is about. */
  function pushToOthers(room: Room, event: EphemeralEvent & { user_id: string }): void {
    const text = JSON.stringify(event);
    let sent = 0;
    for (const [userId, { listeners }] of room.users) {
      if (userId === event.user_id) continue;
      for (const listener of listeners) sendTo(listener, text);
      sent += listeners.size;
    }
    onPushed(event.type, sent);
  }

  function add(room: Room, conversationId: string, listener: Listener, { role, lastSeq }: Membership): void {
    const user = room.users.get(listener.userId) ?? { role, roleSeq: lastSeq, listeners: new Set() };
    if (lastSeq >= user.roleSeq) Object.assign(user, { role, roleSeq: lastSeq });
    const wasOnline = isOnline(user);
    if (!user.listeners.has(listener)) room.listeners += 1;
    user.listeners.add(listener);
    room.users.set(listener.userId, user);
    if (!wasOnline && isOnline(user)) publishPresence(conversationId, listener.userId, true);
    if (listener.topics) listener.topics.subscribe(topicOf(conversationId));
    else room.direct.add(listener);
  }

  function leave(conversationId: string, listener: Listener, isSilent = false): boolean {
    const room = rooms.get(conversationId);
    const user = room?.users.get(listener.userId);
    if (!room || !user?.listeners.has(listener)) return false;
    const wasOnline = isOnline(user);
    user.listeners.delete(listener);
    room.listeners -= 1;
    room.direct.delete(listener);
    listener.topics?.unsubscribe(topicOf(conversationId));
    if (user.listeners.size === 0) room.users.delete(listener.userId);
    if (wasOnline && !isOnline(user) && !isSilent) publishPresence(conversationId, listener.userId, false);
    closeRoomIfEmpty(conversationId, room);
    return true;
  }

  /** Does what an event asks of this instance: listeners lose access with their membership, or get another role. */
  function actOn(room: Room, event: DurableEvent): void {
    if (event.type === "member.added") {
      // A join in progress may have read the former role.
      accessEpoch += 1;
      const user = room.users.get(event.data.user_id);
      if (user && event.seq > user.roleSeq) Object.assign(user, { role: event.data.role, roleSeq: event.seq });
    } else if (event.type === "member.removed") expel(room, event, event.data.user_id);
    else if (event.type === "conversation.deleted") expel(room, event, null);
  }

  /** After it, nothing more reaches the listeners of this user, or without a user anybody. */
  function expel(room: Room, event: DurableEvent, userId: string | null): void {
    accessEpoch += 1;
    const conversationId = event.conversation_id;
    // An event before it may be missing; the listeners who leave would never get this one.
    const isHeld = !room.channel.hasPushed(event.seq);
    const listeners = [...room.users].flatMap(([id, user]) =>
      (userId === null || id === userId) && event.seq > user.roleSeq ? [...user.listeners] : [],
    );
    for (const listener of listeners) {
      if (isHeld) sendTo(listener, JSON.stringify(event));
      leave(conversationId, listener, userId === null);
      listener.onExpelled?.(conversationId);
    }
  }

  /**
   * Lets someone listen, without a gap and without a repeat.
   * @param read checks the access and reads the position; it is asked again if access was taken away meanwhile, or if
   * another one who came at the same time begins the pushes behind it.
   * @param welcome runs in the tick in which pushes begin, so that it can answer before the first of them.
   * @param catchUp runs after it, and tells the text so far of answers; not when all who listen are told it anyway.
   * @throws whatever `read` throws: an outsider's `not_found`.
   */
  async function join<Position extends Membership>(
    conversationId: string,
    listener: Listener,
    read: () => Promise<Position>,
    welcome: (position: Position, welcome: Welcome) => void,
    catchUp: () => void = () => {},
  ): Promise<void> {
    for (;;) {
      const epoch = accessEpoch;
      const room = openRoom(conversationId);
      room.joining += 1;
      const pending: Join = room.channel.startJoin();
      let position: Position;
      try {
        position = await read();
      } catch (error) {
        room.channel.cancelJoin(pending);
        throw error;
      } finally {
        room.joining -= 1;
        queueMicrotask(() => closeRoomIfEmpty(conversationId, room));
      }
      if (epoch !== accessEpoch || room.channel.isOvertaken(pending, position.lastSeq)) {
        room.channel.cancelJoin(pending);
        continue;
      }
      const begin = (lastSeq: number, missed: DurableEvent[]) => {
        add(room, conversationId, listener, position);
        welcome(position, { lastSeq, missed, usersOnline: room.presence.list() });
      };
      room.channel.finishJoin(pending, position.lastSeq, begin, catchUp);
      return;
    }
  }

  return {
    /** What carries the pushes by native topics; set once it listens. */
    attach(listening: Publisher): void {
      server = listening;
    },
    join,
    leave,
    /** The role with which a user listens here, or null. */
    findRole: (conversationId: string, userId: string): MemberRole | null =>
      rooms.get(conversationId)?.users.get(userId)?.role ?? null,
  };
}

export type Hub = ReturnType<typeof createHub>;
