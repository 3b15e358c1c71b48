import type { Log } from "../lib/log.ts";
import type { MemberRole } from "../protocol/conversation.ts";
import type { ConversationEvent, DurableEvent, EphemeralEvent } from "../protocol/events.ts";
import type { Bus, ConversationMessage, TypingMessage } from "./bus.ts";
import { Channel, type Join } from "./channel.ts";
import { Presence } from "./presence.ts";
import { type AnswerSnapshot, RemoteAnswers } from "./remote-answers.ts";
import { createTopic, isOnline, type Listener, type Membership, type Room, type Welcome } from "./room.ts";
import { RoomSync } from "./room-sync.ts";
import { TypingExpiry } from "./typing-expiry.ts";

/** The part of the HTTP server that publishes to native topics. */
type Publisher = { publish(topic: string, text: string): unknown };

type HubDependencies = {
  bus: Bus;
  instanceId: string;
  loadEvents(conversationId: string, afterSeq: number, untilSeq: number): Promise<DurableEvent[]>;
  /** Finds the sequence number of the newest stored event. */
  findLastSeq(conversationId: string): Promise<number>;
  /** Lists the answers that this instance is writing in the conversation. */
  listSnapshots(conversationId: string): AnswerSnapshot[];
  log: Log;
  /** Called for each pushed frame, with the number of listeners it was sent to. */
  onPushed(type: string, listeners: number): void;
};

/**
 * Tracks this instance's listeners and pushes messages from the bus to them. A conversation has a room and a bus subscription
 * only while it has listeners.
 */
export function createHub(deps: HubDependencies) {
  const { bus, instanceId, loadEvents, findLastSeq, log, onPushed } = deps;
  const rooms = new Map<string, Room>();
  let server: Publisher | undefined;
  /** Incremented whenever access may have changed. Joins that began earlier must check access again. */
  let accessEpoch = 0;

  bus.subscribe("rooms", {
    onMessage({ conversation_id, instance_id }) {
      if (instance_id !== instanceId) publishReport(conversation_id);
    },
    // A lost request is sent again, because its sender is notified of the gap too.
    onGap: () => {},
  });

  function openRoom(conversationId: string): Room {
    const existing = rooms.get(conversationId);
    if (existing) return existing;
    const topic = createTopic(conversationId);
    const directListeners = new Set<Listener>();
    const channel = new Channel({
      send(text, type, event) {
        if (room.listenerCount > directListeners.size) server?.publish(topic, text);
        for (const listener of directListeners) sendTo(listener, text, event);
        onPushed(type, room.listenerCount);
      },
      onEvent: (event) => applyEvent(room, event),
      endAnswer: (messageId, text) => room.remoteAnswers.end(messageId, text),
      listSnapshots: () => listAllSnapshots(conversationId),
      loadEvents: (afterSeq, untilSeq) => loadEvents(conversationId, afterSeq, untilSeq),
      findLastSeq: () => findLastSeq(conversationId),
      onError: (error) => log.error({ err: error, conversation_id: conversationId }, "could not read missing events"),
    });
    const room: Room = {
      channel,
      users: new Map(),
      presence: new Presence(),
      remoteAnswers: new RemoteAnswers(() => requestReports(conversationId, room)),
      sync: new RoomSync(bus),
      typing: new TypingExpiry(),
      removedUserIds: new Set(),
      directListeners,
      listenerCount: 0,
      joinCount: 0,
      unsubscribe: () => {},
    };
    rooms.set(conversationId, room);
    room.unsubscribe = bus.subscribe(conversationId, {
      onMessage: (message, isRemote) => onBusMessage(room, message, isRemote),
      onGap: () => recoverFromGap(conversationId, room),
      onInstanceLost(lostId) {
        replacePresence(room, conversationId, lostId, []);
        room.sync.onReport(lostId);
      },
    });
    return room;
  }

  /** Called when messages may have been lost, and when other instances' messages start to arrive. */
  function recoverFromGap(conversationId: string, room: Room): void {
    // A client may have joined and read the database before other instances' messages were received.
    if (room.channel.isPushing || room.sync.mayHaveMissedMessages) room.channel.checkForMissed();
    room.presence.expectReports(instanceId, (missingId) => replacePresence(room, conversationId, missingId, []));
    requestReports(conversationId, room);
    // Another instance may have assumed that this one was lost.
    if (room.users.size > 0) publishReport(conversationId);
    room.sync.onSubscribed();
  }

  function closeRoomIfEmpty(conversationId: string, room: Room): void {
    if (room.users.size > 0 || room.joinCount > 0 || rooms.get(conversationId) !== room) return;
    room.unsubscribe();
    room.presence.close();
    room.remoteAnswers.close();
    room.typing.clear();
    room.sync.finish();
    room.channel.close();
    rooms.delete(conversationId);
  }

  /** Sends a frame. If one listener throws, the others must still receive it. */
  function sendTo(listener: Listener, text: string, event?: ConversationEvent): void {
    try {
      listener.send(text, event);
    } catch (error) {
      log.error({ err: error }, "sending to a listener failed");
    }
  }

  function onBusMessage(room: Room, message: ConversationMessage, isRemote: boolean): void {
    switch (message.type) {
      case "message.delta":
      case "message.reset":
        publishText(room, room.remoteAnswers.receive(message, isRemote));
        return;
      case "answer.reasoning":
        publishText(
          room,
          room.remoteAnswers.receive({ ...message, type: "message.delta", part: "reasoning" }, isRemote),
        );
        return;
      case "answer.text": {
        if (!isRemote) return;
        const reset = room.remoteAnswers.receiveSnapshot(message);
        // The message must be pushed before its text.
        if (message.seq > 0) room.channel.announceStored(message.seq);
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
        // This instance already knows its own listeners.
        if (message.instance_id === instanceId) return;
        replacePresence(room, message.conversation_id, message.instance_id, message.user_ids);
        room.sync.onReport(message.instance_id);
        return;
      case "events.stored":
        room.channel.announceStored(message.seq);
        return;
      case "conversation.gone":
        closeRoom(message.conversation_id, room);
        return;
      default:
        // Newer instances may send types that this version doesn't know.
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
    // The user may still be typing in a tab that is connected to another instance.
    else if (room.typing.stop(user_id, instance_id)) return;
    pushToOthers(room, event);
  }

  function pushTypingEnd(room: Room, conversation_id: string, user_id: string): void {
    pushToOthers(room, { type: "typing", conversation_id, user_id, active: false, expires_in_ms: 0 });
  }

  function replacePresence(
    room: Room,
    conversation_id: string,
    reportingInstanceId: string,
    user_ids: readonly string[],
  ): void {
    for (const { userId, online } of room.presence.replace(reportingInstanceId, user_ids))
      pushToOthers(room, { type: "presence", conversation_id, user_id: userId, online });
  }

  /** Requests each instance's list of online users and the text of the answers it is writing. */
  function requestReports(conversation_id: string, room: Room): void {
    if (bus.scope === "process") return;
    room.remoteAnswers.markRequested();
    bus.publish("rooms", () => [{ type: "room.asked", conversation_id, instance_id: instanceId }]);
  }

  /** Responds to `room.asked`. Even without listeners, this instance may be writing answers in the conversation. */
  function publishReport(conversation_id: string): void {
    const user_ids = rooms.get(conversation_id)?.presence.listUsers(instanceId) ?? [];
    const mapSnapshotToMessage = ({ messageId: message_id, seq, attempt, text, reasoning }: AnswerSnapshot) =>
      ({ type: "answer.text", conversation_id, message_id, seq, attempt, text, reasoning }) as const;
    bus.publish(conversation_id, () => [
      ...deps.listSnapshots(conversation_id).map(mapSnapshotToMessage),
      { type: "presence.listed", conversation_id, instance_id: instanceId, user_ids },
    ]);
  }

  /** Lists all instances' answers in progress, except those whose text isn't known. */
  function listAllSnapshots(conversationId: string): AnswerSnapshot[] {
    const ownAnswers = deps.listSnapshots(conversationId);
    const remote = rooms.get(conversationId)?.remoteAnswers;
    if (!remote) return ownAnswers;
    const ids = new Set(ownAnswers.map(({ messageId }) => messageId));
    return [...ownAnswers, ...remote.list(conversationId).filter(({ messageId }) => !ids.has(messageId))];
  }

  function publishPresence(conversation_id: string, user_id: string, online: boolean): void {
    bus.publish(conversation_id, () => [
      { type: "presence.changed", conversation_id, instance_id: instanceId, user_id, online },
    ]);
  }

  /** Sends an event to all listeners on this instance, except the listeners of the event's user. */
  function pushToOthers(room: Room, event: EphemeralEvent & { user_id: string }): void {
    const text = JSON.stringify(event);
    let sentCount = 0;
    for (const [userId, { listeners }] of room.users) {
      if (userId === event.user_id) continue;
      for (const listener of listeners) sendTo(listener, text);
      sentCount += listeners.size;
    }
    onPushed(event.type, sentCount);
  }

  function addListener(room: Room, conversationId: string, listener: Listener, { role, lastSeq }: Membership): void {
    const user = room.users.get(listener.userId) ?? { role, roleSeq: lastSeq, listeners: new Set() };
    if (lastSeq >= user.roleSeq) Object.assign(user, { role, roleSeq: lastSeq });
    const wasOnline = isOnline(user);
    if (!user.listeners.has(listener)) room.listenerCount += 1;
    user.listeners.add(listener);
    room.users.set(listener.userId, user);
    if (!wasOnline && isOnline(user)) publishPresence(conversationId, listener.userId, true);
    if (listener.topics) listener.topics.subscribe(createTopic(conversationId));
    else room.directListeners.add(listener);
  }

  function leave(conversationId: string, listener: Listener, skipPresence = false): boolean {
    const room = rooms.get(conversationId);
    const user = room?.users.get(listener.userId);
    if (!room || !user?.listeners.has(listener)) return false;
    const wasOnline = isOnline(user);
    user.listeners.delete(listener);
    room.listenerCount -= 1;
    room.directListeners.delete(listener);
    listener.topics?.unsubscribe(createTopic(conversationId));
    if (user.listeners.size === 0) room.users.delete(listener.userId);
    if (wasOnline && !isOnline(user) && !skipPresence) publishPresence(conversationId, listener.userId, false);
    closeRoomIfEmpty(conversationId, room);
    return true;
  }

  /** Updates the room after an event. Listeners may lose access, or their users' roles may change. */
  function applyEvent(room: Room, event: DurableEvent): void {
    if (event.type === "message.created") {
      const { id, role, status, content, reasoning } = event.data;
      if (role !== "assistant") return;
      if (status !== "streaming") room.remoteAnswers.end(id, content);
      else if (bus.scope === "instances") room.remoteAnswers.begin(id, event.seq, content, reasoning ?? "");
    } else if (event.type === "message.deleted") room.remoteAnswers.end(event.data.id, "");
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

  /** Removes a user's listeners, or all listeners if `userId` is null. */
  function expel(room: Room, event: DurableEvent, userId: string | null): void {
    accessEpoch += 1;
    const conversationId = event.conversation_id;
    // If an earlier event is missing, this event is still buffered. The removed listeners would never receive it, so it is sent now.
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
   * Adds a listener, which then receives each event exactly once.
   * @param readPosition checks access and reads the start position. It is called again if access may have changed during the join, or if
   * a concurrent join has already started the room's pushes from a later position.
   * @param welcome sends the response to the join. It is called synchronously, before the first push.
   * @param catchUp sends the text of answers in progress. It is called last, unless all listeners will receive the text anyway.
   * @throws any error thrown by `readPosition`, such as `not_found` for outsiders.
   */
  async function join<Position extends Membership>(
    conversationId: string,
    listener: Listener,
    readPosition: () => Promise<Position>,
    welcome: (position: Position, welcome: Welcome) => void,
    catchUp: () => void = () => {},
  ): Promise<void> {
    for (;;) {
      const room = openRoom(conversationId);
      room.joinCount += 1;
      const pendingJoin: Join = room.channel.startJoin();
      let accessEpochAtStart: number;
      let position: Position;
      try {
        const subscribed = room.sync.waitForSubscription();
        if (subscribed) await subscribed;
        accessEpochAtStart = accessEpoch;
        position = await readPosition();
        const reported = listener.isHidden ? undefined : room.sync.waitForReports();
        if (reported) await reported;
        // Without this wait, the listener would receive events that it already has.
        if (position.receivedSeq !== undefined) await room.channel.waitForSeq(position.receivedSeq);
      } catch (error) {
        room.channel.cancelJoin(pendingJoin);
        throw error;
      } finally {
        room.joinCount -= 1;
        queueMicrotask(() => closeRoomIfEmpty(conversationId, room));
      }
      if (accessEpochAtStart !== accessEpoch || room.channel.isOvertaken(pendingJoin, position.lastSeq)) {
        room.channel.cancelJoin(pendingJoin);
        continue;
      }
      const addAndWelcome = (lastSeq: number, missedEvents: DurableEvent[]) => {
        addListener(room, conversationId, listener, position);
        welcome(position, { lastSeq, missedEvents, usersOnline: room.presence.list() });
      };
      room.channel.finishJoin(pendingJoin, position.lastSeq, addAndWelcome, catchUp);
      return;
    }
  }

  return {
    /** Sets the server for native topics. Call this once the server is listening. */
    attach(listeningServer: Publisher): void {
      server = listeningServer;
    },
    join,
    leave,
    /** Lists the answers in progress. A new listener can continue each one with its next delta. The caller must have checked membership. */
    listSnapshots: listAllSnapshots,
    /** Returns a user's role, or null if the user has no listeners on this instance. */
    findRole: (conversationId: string, userId: string): MemberRole | null =>
      rooms.get(conversationId)?.users.get(userId)?.role ?? null,
  };
}

export type Hub = ReturnType<typeof createHub>;
