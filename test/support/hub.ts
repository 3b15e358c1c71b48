import type { Bus, BusMessage } from "../../src/realtime/bus.ts";
import { createMemoryBus } from "../../src/realtime/bus-memory.ts";
import { createHub, type Hub } from "../../src/realtime/hub.ts";
import type { Listener } from "../../src/realtime/room.ts";
import { silentLog } from "./log.ts";
import { checkPush } from "./pushes.ts";

export type TestHub = Hub & {
  bus: Bus;
  publish(message: BusMessage<string>): void;
  /** Whether the conversation has subscribers. */
  isHeard(conversationId: string): boolean;
};

const checked = new WeakSet<Listener>();

/** Checks everything sent to a listener; the hub identifies a listener by reference, so it is modified, not wrapped. */
function checkListener(listener: Listener): void {
  if (checked.has(listener)) return;
  checked.add(listener);
  const { send } = listener;
  listener.send = (text, event) => {
    checkPush(JSON.parse(text));
    send.call(listener, text, event);
  };
}

/** A hub like that of an instance, with a separate bus unless one is passed. */
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
      checkListener(listener);
      return hub.join(conversationId, listener, ...rest);
    },
    publish: (message: BusMessage<string>) => bus.publish(message.conversation_id, () => [message]),
    isHeard(conversationId) {
      let isHeard = false;
      bus.publish(conversationId, () => {
        isHeard = true;
        return [];
      });
      return isHeard;
    },
  };
}
