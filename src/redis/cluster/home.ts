import type { NodePubSub } from "../node.ts";
import type { ChannelText } from "../pub-sub-port.ts";
import type { Address } from "./slots.ts";

/** Looks at a home that is away until another node becomes it. */
const AWAY_LOOKS_MAX = 2;

/**
 * The node that the channels of all instances go through. The cluster passes their messages on to all nodes, so any one will do,
 * and one that is lost is replaced at once; but only one at a time, which keeps them in order.
 */
export function createHome(open: (address: Address) => NodePubSub) {
  const wanted = new Set<string>();
  let masters: Address[] = [];
  let address: Address | null = null;
  let node: NodePubSub | null = null;
  let awayLooks = 0;

  /** Goes to another master if there is one. */
  function move(): void {
    const others = masters.filter((master) => master !== address);
    const next = others[Math.floor(Math.random() * others.length)] ?? address;
    if (next === null) return;
    if (next === address) {
      node?.reconnect();
      return;
    }
    node?.close();
    awayLooks = 0;
    address = next;
    node = open(next);
    for (const channel of wanted) node.subscribe(channel);
  }

  return {
    move,
    setMasters(next: ReadonlySet<Address>): void {
      masters = [...next];
      if (address === null || !next.has(address)) move();
    },
    isConnected: (): boolean => node?.isConnected() ?? false,
    look(): void {
      if (!node) return;
      void node.probe();
      awayLooks = node.publisher.status === "ready" ? 0 : awayLooks + 1;
      if (awayLooks >= AWAY_LOOKS_MAX) move();
    },
    async publish(messages: readonly ChannelText[]): Promise<void> {
      if (!node) throw new Error("No node of the cluster is known yet.");
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
