import type { Bus, BusMessage } from "../../src/realtime/bus.ts";
import { createMemoryBus } from "../../src/realtime/bus-memory.ts";
import { createHub, type Hub } from "../../src/realtime/hub.ts";
import type { Listener } from "../../src/realtime/room.ts";
import { checkPush } from "./check-pushes.ts";
import { silentLog } from "./log.ts";

export type TestHub = Hub & {
  bus: Bus;
  publish(message: BusMessage<string>): void;
  /** Whether the conversation has subscribers. */
  hasSubscribers(conversationId: string): boolean;
};

const checkedListeners = new WeakSet<Listener>();

/** Checks all pushes to a listener. Modifies the listener itself, because the hub identifies listeners by reference. */
function checkPushesTo(listener: Listener): void {
  if (checkedListeners.has(listener)) return;
  checkedListeners.add(listener);
  const { send } = listener;
  listener.send = (text, event) => {
    checkPush(JSON.parse(text));
    send.call(listener, text, event);
  };
}

/** Creates a hub, by default with a new in-memory bus. */
export function createTestHub(options: Partial<Parameters<typeof createHub>[0]> = {}): TestHub {
  const bus = options.bus ?? createMemoryBus({ log: silentLog });
  const hub = createHub({
    bus,
    instanceId: "this-instance",
    loadEvents: async () => [],
    findLastSeq: async () => 0,
    listSnapshots: () => [],
    log: silentLog,
    onPushed: () => {},
    ...options,
  });
  return {
    ...hub,
    bus,
    join(conversationId, listener, ...rest) {
      checkPushesTo(listener);
      return hub.join(conversationId, listener, ...rest);
    },
    publish: (message: BusMessage<string>) => bus.publish(message.conversation_id, () => [message]),
    hasSubscribers(conversationId) {
      let hasSubscribers = false;
      bus.publish(conversationId, () => {
        hasSubscribers = true;
        return [];
      });
      return hasSubscribers;
    },
  };
}
