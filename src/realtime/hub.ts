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

/** The part of a listening server that pushes need. */
type Publisher = { publish(topic: string, text: string): unknown };

type HubDependencies = {
  bus: Bus;
  instanceId: string;
  loadEvents(conversationId: string, afterSeq: number, untilSeq: number): Promise<DurableEvent[]>;
  /** The number of the newest stored event. */
  findLastSeq(conversationId: string): Promise<number>;
  /** Every answer that this instance writes in the conversation, with its text so far. */
  listSnapshots(conversationId: string): AnswerSnapshot[];
  log: Log;
  /** Counts frames by the number of listeners they were sent to. */
  onPushed(type: string, listeners: number): void;
};

/**
 * Tracks the listeners of this instance, and delivers pushes from the bus to them. Rooms and their bus subscriptions exist
 * only while they have listeners.
 */
export function createHub(deps: HubDependencies) {
  const { bus, instanceId, loadEvents, findLastSeq, log, onPushed } = deps;
  const rooms = new Map<string, Room>();
  let server: Publisher | undefined;
  /** Incremented whenever access is revoked: a join that began earlier must check again. */
  let accessEpoch = 0;

  bus.subscribe("rooms", {
    onMessage({ conversation_id, instance_id }) {
      if (instance_id !== instanceId) reportRoom(conversation_id);
    },
    // Requests made before are repeated: both sides get a gap.
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

  /** Something may have been lost, or the other instances are received for the first time. */
  function recoverFromGap(conversationId: string, room: Room): void {
    // A client that joined may have read the database before other instances were received.
    if (room.channel.hasStarted || room.survey.hasReadBeforeSubscribed) room.channel.checkForMissed();
    room.presence.expectReports(instanceId, (missing) => replacePresence(room, conversationId, missing, []));
    requestReports(conversationId, room);
    // Another instance may have assumed that this one is gone.
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

  /** An error of one listener must not affect the others, or the publisher. */
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
        // Send nothing about a message that listeners don't have yet.
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
        // This instance knows its own answers better.
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
        // The end of a membership takes effect immediately, even while an earlier event is missing.
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

  /** Every instance responds with its listeners, and with the text so far of the answers it writes. */
  function requestReports(conversation_id: string, room: Room): void {
    if (bus.scope === "process") return;
    room.remote.markRequested();
    bus.publish("rooms", () => [{ type: "room.asked", conversation_id, instance_id: instanceId }]);
  }

  /** Even if the room isn't open here: its answers may be written here. */
  function reportRoom(conversation_id: string): void {
    const user_ids = rooms.get(conversation_id)?.presence.listOf(instanceId) ?? [];
    const mapSnapshotToText = ({ messageId: message_id, seq, attempt, text, reasoning }: AnswerSnapshot) =>
      ({ type: "answer.text", conversation_id, message_id, seq, attempt, text, reasoning }) as const;
    bus.publish(conversation_id, () => [
      ...deps.listSnapshots(conversation_id).map(mapSnapshotToText),
      { type: "presence.listed", conversation_id, instance_id: instanceId, user_ids },
    ]);
  }

  /** Every answer in progress on any instance, if its text is known. */
  function listAllSnapshots(conversationId: string): AnswerSnapshot[] {
    const own = deps.listSnapshots(conversationId);
    const remote = rooms.get(conversationId)?.remote;
    if (!remote) return own;
    const ids = new Set(own.map(({ messageId }) => messageId));
    return [...own, ...remote.list(conversationId).filter(({ messageId }) => !ids.has(messageId))];
  }

  function publishPresence(conversation_id: string, user_id: string, online: boolean): void {
    bus.publish(conversation_id, () => [
      { type: "presence.changed", conversation_id, instance_id: instanceId, user_id, online },
    ]);
  }

  /** Sends to every listener here, except the user concerned. */
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

  /** Applies an event to this instance: listeners lose access with their membership, or get another role. */
  function applyEvent(room: Room, event: DurableEvent): void {
    if (event.type === "message.created") {
      const { id, role, status, content, reasoning } = event.data;
      if (role !== "assistant") return;
      if (status !== "streaming") room.remote.end(id, content);
      else if (bus.scope === "instances") room.remote.begin(id, event.seq, content, reasoning ?? "");
    } else if (event.type === "message.deleted") room.remote.end(event.data.id, "");
    else if (event.type === "member.added") {
      // A join in progress may have read the former role.
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

  /** A deleted conversation whose last event can no longer be read. */
  function closeRoom(conversationId: string, room: Room): void {
    accessEpoch += 1;
    for (const listener of [...room.users.values()].flatMap(({ listeners }) => [...listeners])) {
      leave(conversationId, listener, true);
      listener.onExpelled?.(conversationId, "deleted");
    }
  }

  /** Afterwards nothing more reaches the listeners of this user, or of anyone without a user. */
  function expel(room: Room, event: DurableEvent, userId: string | null): void {
    accessEpoch += 1;
    const conversationId = event.conversation_id;
    // An earlier event may be missing; the leaving listeners would never get this one.
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
   * Adds a listener, without a gap or a repeat.
   * @param read checks the access and reads the position; repeated if access was revoked during the join, or if a concurrent
   * join started the pushes behind it.
   * @param welcome runs in the tick in which pushes begin, so its response comes before the first push.
   * @param catchUp runs afterwards, and sends the text so far of answers; skipped if all listeners get it anyway.
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
        // Continuing the pushes from an earlier event would repeat events that the listener has.
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
    /** The server for native topics; set once it listens. */
    attach(listening: Publisher): void {
      server = listening;
    },
    join,
    leave,
    /** What a new listener needs to continue with the next delta. For callers who have checked the membership. */
    listSnapshots: listAllSnapshots,
    /** The role of a user who listens here, or null. */
    findRole: (conversationId: string, userId: string): MemberRole | null =>
      rooms.get(conversationId)?.users.get(userId)?.role ?? null,
  };
}

export type Hub = ReturnType<typeof createHub>;
