import type { BusMessage } from "../../src/realtime/bus.ts";
import { createMemoryBus } from "../../src/realtime/bus-memory.ts";
import { createHub } from "../../src/realtime/hub.ts";
import { silentLog } from "./log.ts";

/** A hub as its instance has it, on a bus of its own if none is given. */
export function createTestHub(options: Partial<Parameters<typeof createHub>[0]> = {}) {
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
    publish: (message: BusMessage<string>) => bus.publish(message.conversation_id, () => [message]),
    /** Whether anybody subscribes to the conversation. */
    isHeard(conversationId: string): boolean {
      let isHeard = false;
      bus.publish(conversationId, () => {
        isHeard = true;
        return [];
      });
      return isHeard;
    },
  };
}
