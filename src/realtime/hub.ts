import type { Log } from "../lib/log.ts";
import type { MemberRole } from "../protocol/conversation.ts";
import type { ConversationEvent, DurableEvent, EphemeralEvent } from "../protocol/events.ts";
import type { Bus, ConversationMessage, TypingMessage } from "./bus.ts";
import { Channel, type Join } from "./channel.ts";
import { Presence } from "./presence.ts";
import { type AnswerSnapshot, RemoteAnswers } from "./remote-answers.ts";
import { isOnline, type Listener, type Membership, type Room, topicOf, type Welcome } from "./room.ts";
import { Survey } from "./survey.ts";
import { TypingExpiry } from "./typing-expiry.ts";

/** The part of the HTTP server that pushes need. */
type Publisher = { publish(topic: string, text: string): unknown };

type HubDependencies = {
  bus: Bus;
  instanceId: string;
  loadEvents(conversationId: string, afterSeq: number, untilSeq: number): Promise<DurableEvent[]>;
  /** Finds the sequence number of the newest stored event. */
  findLastSeq(conversationId: string): Promise<number>;
  /** Lists the answers that this instance is writing in the conversation, with their text so far. */
  listSnapshots(conversationId: string): AnswerSnapshot[];
  log: Log;
  /** Counts frames by the number of listeners they were sent to. */
  onPushed(type: string, listeners: number): void;
};

/**
 * Tracks the listeners of this instance, and delivers pushes from the bus to them. A conversation has a room and a bus
 * subscription only while it has listeners.
 */
export function createHub(deps: HubDependencies) {
  const { bus, instanceId, loadEvents, findLastSeq, log, onPushed } = deps;
  const rooms = new Map<string, Room>();
  let server: Publisher | undefined;
  /** Incremented whenever access is revoked. Joins that began earlier must check access again. */
  let accessEpoch = 0;

  bus.subscribe("rooms", {
    onMessage({ conversation_id, instance_id }) {
      if (instance_id !== instanceId) reportRoom(conversation_id);
    },
    // Nothing to do: lost requests are repeated, because the requesting side gets a gap too.
    onGap: () => {},
  });

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
      onEvent: (event) => applyEvent(room, event),
      endAnswer: (messageId, text) => room.remote.end(messageId, text),
      listSnapshots: () => listAllSnapshots(conversationId),
      loadEvents: (afterSeq, untilSeq) => loadEvents(conversationId, afterSeq, untilSeq),
      findLastSeq: () => findLastSeq(conversationId),
      onFault: (error) => log.error({ err: error, conversation_id: conversationId }, "missing events cannot be read"),
    });
    const room: Room = {
      channel,
      users: new Map(),
      presence: new Presence(),
      remote: new RemoteAnswers(() => requestReports(conversationId, room)),
      survey: new Survey(bus),
      typing: new TypingExpiry(),
      removedUserIds: new Set(),
      direct,
      listeners: 0,
      joining: 0,
      unsubscribe: () => {},
    };
    rooms.set(conversationId, room);
    room.unsubscribe = bus.subscribe(conversationId, {
      onMessage: (message, isRemote) => onBusMessage(room, message, isRemote),
      onGap: () => recoverFromGap(conversationId, room),
      onPeerLost(lostPeer) {
        replacePresence(room, conversationId, lostPeer, []);
        room.survey.onReport(lostPeer);
      },
    });
    return room;
  }

  /** Recovers after messages may have been lost, or when other instances' messages are received for the first time. */
  function recoverFromGap(conversationId: string, room: Room): void {
    // A client may have joined and read the database before other instances' messages were received.
    if (room.channel.hasStarted || room.survey.hasReadBeforeSubscribed) room.channel.checkForMissed();
    room.presence.expectReports(instanceId, (missing) => replacePresence(room, conversationId, missing, []));
    requestReports(conversationId, room);
    // Another instance may have assumed that this one has ended.
    if (room.users.size > 0) reportRoom(conversationId);
    room.survey.onSubscribed();
  }

  function closeRoomIfEmpty(conversationId: string, room: Room): void {
    if (room.users.size > 0 || room.joining > 0 || rooms.get(conversationId) !== room) return;
    room.unsubscribe();
    room.presence.close();
    room.remote.close();
    room.typing.clear();
    room.survey.end();
    room.channel.close();
    rooms.delete(conversationId);
  }

  /** Sends a frame. An error of one listener must not affect the others or the publisher. */
  function sendTo(listener: Listener, text: string, event?: ConversationEvent): void {
    try {
      listener.send(text, event);
    } catch (error) {
      log.error({ err: error }, "sending to a listener failed");
    }
  }

  /** Handles a bus message of a conversation. */
  function onBusMessage(room: Room, message: ConversationMessage, isRemote: boolean): void {
    switch (message.type) {
      case "message.delta":
      case "message.reset":
        publishText(room, room.remote.receive(message, isRemote));
        return;
      case "answer.reasoning":
        publishText(room, room.remote.receive({ ...message, type: "message.delta", part: "reasoning" }, isRemote));
        return;
      case "answer.text": {
        if (!isRemote) return;
        const reset = room.remote.receiveSnapshot(message);
        // Sends nothing about a message that hasn't been pushed yet.
        if (message.seq > 0) room.channel.announce(message.seq);
        publishText(room, reset);
        return;
      }
      case "read":
        room.channel.publishFrame(message);
        return;
      case "typing":
        pushTyping(room, message);
        return;
      case "presence.changed": {
        const { conversation_id, instance_id, user_id, online } = message;
        if (room.presence.set(instance_id, user_id, online))
          pushToOthers(room, { type: "presence", conversation_id, user_id, online });
        return;
      }
      case "presence.listed":
        // Ignored for an answer of this instance, which knows it better.
        if (message.instance_id === instanceId) return;
        replacePresence(room, message.conversation_id, message.instance_id, message.user_ids);
        room.survey.onReport(message.instance_id);
        return;
      case "events.stored":
        room.channel.announce(message.seq);
        return;
      case "conversation.gone":
        closeRoom(message.conversation_id, room);
        return;
      default:
        // A newer instance may send unknown types.
        if (!Number.isInteger(message.seq)) return;
        // Removing a member takes effect immediately, even if an earlier event is missing.
        room.channel.publish(message);
        if (!room.channel.hasPushed(message.seq)) applyEvent(room, message);
    }
  }

  function publishText(room: Room, text: EphemeralEvent<"message.delta" | "message.reset"> | null): void {
    if (text) room.channel.publishFrame(text);
  }

  function pushTyping(room: Room, { instance_id = "", ...event }: TypingMessage): void {
    const { user_id, active, expires_in_ms } = event;
    if (room.removedUserIds.has(user_id)) return;
    if (active)
      room.typing.start(user_id, instance_id, expires_in_ms, () => pushTypingEnd(room, event.conversation_id, user_id));
    // Another tab may be connected to another instance.
    else if (room.typing.stop(user_id, instance_id)) return;
    pushToOthers(room, event);
  }

  function pushTypingEnd(room: Room, conversation_id: string, user_id: string): void {
    pushToOthers(room, { type: "typing", conversation_id, user_id, active: false, expires_in_ms: 0 });
  }

  function replacePresence(room: Room, conversation_id: string, from: string, user_ids: readonly string[]): void {
    for (const { userId, online } of room.presence.replace(from, user_ids))
      pushToOthers(room, { type: "presence", conversation_id, user_id: userId, online });
  }

  /** Asks every instance for its listeners, and for the text so far of the answers that it writes. */
  function requestReports(conversation_id: string, room: Room): void {
    if (bus.scope === "process") return;
    room.remote.markRequested();
    bus.publish("rooms", () => [{ type: "room.asked", conversation_id, instance_id: instanceId }]);
  }

  /** Responds to such a request. The room needn't be open here, because this instance may still write answers in it. */
  function reportRoom(conversation_id: string): void {
    const user_ids = rooms.get(conversation_id)?.presence.listOf(instanceId) ?? [];
    const mapSnapshotToText = ({ messageId: message_id, seq, attempt, text, reasoning }: AnswerSnapshot) =>
      ({ type: "answer.text", conversation_id, message_id, seq, attempt, text, reasoning }) as const;
    bus.publish(conversation_id, () => [
      ...deps.listSnapshots(conversation_id).map(mapSnapshotToText),
      { type: "presence.listed", conversation_id, instance_id: instanceId, user_ids },
    ]);
  }

  /** Lists the answers in progress on all instances whose text is known. */
  function listAllSnapshots(conversationId: string): AnswerSnapshot[] {
    const ownAnswers = deps.listSnapshots(conversationId);
    const remote = rooms.get(conversationId)?.remote;
    if (!remote) return ownAnswers;
    const ids = new Set(ownAnswers.map(({ messageId }) => messageId));
    return [...ownAnswers, ...remote.list(conversationId).filter(({ messageId }) => !ids.has(messageId))];
  }

  function publishPresence(conversation_id: string, user_id: string, online: boolean): void {
    bus.publish(conversation_id, () => [
      { type: "presence.changed", conversation_id, instance_id: instanceId, user_id, online },
    ]);
  }

  /** Sends an event to all listeners of this instance, except those of the user that it is about. */
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

  /** Applies an event to this instance's listeners, who may lose access or get a different role. */
  function applyEvent(room: Room, event: DurableEvent): void {
    if (event.type === "message.created") {
      const { id, role, status, content, reasoning } = event.data;
      if (role !== "assistant") return;
      if (status !== "streaming") room.remote.end(id, content);
      else if (bus.scope === "instances") room.remote.begin(id, event.seq, content, reasoning ?? "");
    } else if (event.type === "message.deleted") room.remote.end(event.data.id, "");
    else if (event.type === "member.added") {
      // A join in progress may have read the old role.
      accessEpoch += 1;
      room.removedUserIds.delete(event.data.user_id);
      const user = room.users.get(event.data.user_id);
      if (user && event.seq > user.roleSeq) Object.assign(user, { role: event.data.role, roleSeq: event.seq });
    } else if (event.type === "member.removed") {
      const { user_id } = event.data;
      room.removedUserIds.add(user_id);
      if (room.typing.stopEverywhere(user_id)) pushTypingEnd(room, event.conversation_id, user_id);
      expel(room, event, user_id);
    } else if (event.type === "conversation.deleted") expel(room, event, null);
  }

  /** Closes the room of a deleted conversation whose last event can no longer be read. */
  function closeRoom(conversationId: string, room: Room): void {
    accessEpoch += 1;
    for (const listener of [...room.users.values()].flatMap(({ listeners }) => [...listeners])) {
      leave(conversationId, listener, true);
      listener.onExpelled?.(conversationId, "deleted");
    }
  }

  /** Removes the listeners of a user; of all users if `userId` is null. They receive nothing more. */
  function expel(room: Room, event: DurableEvent, userId: string | null): void {
    accessEpoch += 1;
    const conversationId = event.conversation_id;
    // If the event is held back because an earlier one is missing, these listeners would never get it, so it is sent now.
    const isBuffered = !room.channel.hasPushed(event.seq);
    const listeners = [...room.users].flatMap(([id, user]) =>
      (userId === null || id === userId) && event.seq > user.roleSeq ? [...user.listeners] : [],
    );
    for (const listener of listeners) {
      if (isBuffered) sendTo(listener, JSON.stringify(event));
      leave(conversationId, listener, userId === null);
      listener.onExpelled?.(conversationId, userId === null ? "deleted" : "removed");
    }
  }

  /**
   * Adds a listener, without gaps or repeated events.
   * @param read checks access and reads the position. It is repeated if access was revoked during the join, or a concurrent join
   * has started the pushes after that position.
   * @param welcome called synchronously before pushes begin, so that its response comes before the first push.
   * @param catchUp sends the text so far of answers. It is called last, and skipped if all listeners get the text anyway.
   * @throws whatever `read` throws, such as `not_found` for outsiders.
   */
  async function join<Position extends Membership>(
    conversationId: string,
    listener: Listener,
    read: () => Promise<Position>,
    welcome: (position: Position, welcome: Welcome) => void,
    catchUp: () => void = () => {},
  ): Promise<void> {
    for (;;) {
      const room = openRoom(conversationId);
      room.joining += 1;
      const pending: Join = room.channel.startJoin();
      let epoch: number;
      let position: Position;
      try {
        const subscribed = room.survey.untilSubscribed();
        if (subscribed) await subscribed;
        epoch = accessEpoch;
        position = await read();
        const reported = listener.isHidden ? undefined : room.survey.untilReported();
        if (reported) await reported;
        // Otherwise, pushes would continue from an earlier event and repeat events that the listener has.
        if (position.receivedSeq !== undefined) await room.channel.waitForSeq(position.receivedSeq);
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
    /** Sets the server for native topics. Call this once it is listening. */
    attach(listening: Publisher): void {
      server = listening;
    },
    join,
    leave,
    /** Lists what a new listener needs to continue with the next delta. The caller must have checked the membership. */
    listSnapshots: listAllSnapshots,
    /** Returns the role of a user who listens on this instance; null for others. */
    findRole: (conversationId: string, userId: string): MemberRole | null =>
      rooms.get(conversationId)?.users.get(userId)?.role ?? null,
  };
}

export type Hub = ReturnType<typeof createHub>;
