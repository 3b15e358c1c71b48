import type { NodePubSub } from "../node.ts";
import type { ChannelText } from "../pub-sub-port.ts";
import type { Address } from "./slots.ts";

/** After this many failed checks, another node replaces the home node. */
const FAILED_CHECKS_MAX = 2;

/**
 * Creates the home node, which handles channels that aren't sharded. The cluster forwards their messages to all nodes. Therefore, any node
 * can be used, and a lost node can be replaced immediately. Only one node is used at a time, which keeps messages in order.
 */
export function createHomeNode(openNode: (address: Address) => NodePubSub) {
  const subscribedChannels = new Set<string>();
  let masters: Address[] = [];
  let address: Address | null = null;
  let node: NodePubSub | null = null;
  let failedChecks = 0;

  /** Switches to another master if there is one. */
  function switchNode(): void {
    const otherMasters = masters.filter((master) => master !== address);
    const next = otherMasters[Math.floor(Math.random() * otherMasters.length)] ?? address;
    if (next === null) return;
    if (next === address) {
      node?.reconnect();
      return;
    }
    node?.close();
    failedChecks = 0;
    address = next;
    node = openNode(next);
    for (const channel of subscribedChannels) node.subscribe(channel);
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
      subscribedChannels.add(channel);
      node?.subscribe(channel);
    },
    unsubscribe(channel: string): void {
      subscribedChannels.delete(channel);
      node?.unsubscribe(channel);
    },
    close: (): void => node?.close(),
  };
}
