import type { NodePubSub } from "../node.ts";
import type { ChannelText } from "../pub-sub-port.ts";
import type { Address } from "./slots.ts";

/** How often to check an unreachable home node, until another node replaces it. */
const FAILED_CHECKS_MAX = 2;

/**
 * The node for the channels of all instances. The cluster forwards their messages to all nodes, so any node works, and a
 * lost one is replaced immediately. Only one node at a time, which keeps the messages in order.
 */
export function createHome(open: (address: Address) => NodePubSub) {
  const wanted = new Set<string>();
  let masters: Address[] = [];
  let address: Address | null = null;
  let node: NodePubSub | null = null;
  let failedChecks = 0;

  /** Switches to another master if there is one. */
  function switchNode(): void {
    const others = masters.filter((master) => master !== address);
    const next = others[Math.floor(Math.random() * others.length)] ?? address;
    if (next === null) return;
    if (next === address) {
      node?.reconnect();
      return;
    }
    node?.close();
    failedChecks = 0;
    address = next;
    node = open(next);
    for (const channel of wanted) node.subscribe(channel);
  }

  return {
    switchNode,
    setMasters(next: ReadonlySet<Address>): void {
      masters = [...next];
      if (address === null || !next.has(address)) switchNode();
    },
    isConnected: (): boolean => node?.isConnected() ?? false,
    check(): void {
      if (!node) return;
      void node.probe();
      failedChecks = node.publisher.status === "ready" ? 0 : failedChecks + 1;
      if (failedChecks >= FAILED_CHECKS_MAX) switchNode();
    },
    async publish(messages: readonly ChannelText[]): Promise<void> {
      if (!node) throw new Error("No cluster node is known yet.");
      await node.publish(messages);
    },
    subscribe(channel: string): void {
      wanted.add(channel);
      node?.subscribe(channel);
    },
    unsubscribe(channel: string): void {
      wanted.delete(channel);
      node?.unsubscribe(channel);
    },
    close: (): void => node?.close(),
  };
}
