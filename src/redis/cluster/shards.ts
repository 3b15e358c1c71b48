import type { NodePubSub } from "../node.ts";
import type { ChannelText } from "../pub-sub-port.ts";
import type { Address, SlotMap } from "./slots.ts";

/** Sharded channels: each goes through the master of its slot, wherever that moves. */
export function createShards(open: (address: Address) => NodePubSub) {
  const nodes = new Map<Address, NodePubSub>();
  const wanted = new Set<string>();
  /** Where each channel is subscribed. */
  const addressByChannel = new Map<string, Address>();
  let slots: SlotMap | null = null;

  /** Subscribes a channel at its current node. */
  function assign(channel: string): void {
    const address = wanted.has(channel) ? slots?.findOwner(channel) : undefined;
    const former = addressByChannel.get(channel);
    if (former === address) return;
    if (former !== undefined) nodes.get(former)?.unsubscribe(channel);
    addressByChannel.delete(channel);
    if (address === undefined) return;
    addressByChannel.set(channel, address);
    nodes.get(address)?.subscribe(channel);
  }

  async function publishTo(address: Address | undefined, messages: readonly ChannelText[]): Promise<void> {
    const node = address === undefined ? undefined : nodes.get(address);
    if (!node) throw new Error("No cluster node serves this channel.");
    await node.publish(messages);
  }

  return {
    nodes: (): IterableIterator<[Address, NodePubSub]> => nodes.entries(),

    setSlots(next: SlotMap): void {
      slots = next;
      const { masters } = next;
      for (const address of masters) if (!nodes.has(address)) nodes.set(address, open(address));
      for (const channel of wanted) assign(channel);
      for (const [address, node] of nodes) {
        if (masters.has(address)) node.renew();
        else {
          node.close();
          nodes.delete(address);
        }
      }
    },

    isConnected: (): boolean =>
      addressByChannel.size === wanted.size && [...nodes.values()].every((node) => node.isConnected()),

    async publish(messages: readonly ChannelText[]): Promise<void> {
      const groups = Map.groupBy(messages, ({ channel }) => slots?.findOwner(channel));
      await Promise.all([...groups].map(([address, group]) => publishTo(address, group)));
    },
    subscribe(channel: string): void {
      wanted.add(channel);
      assign(channel);
    },
    unsubscribe(channel: string): void {
      wanted.delete(channel);
      assign(channel);
    },
    close(): void {
      for (const node of nodes.values()) node.close();
    },
  };
}
