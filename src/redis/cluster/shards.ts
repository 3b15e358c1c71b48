import type { NodePubSub } from "../node.ts";
import type { ChannelText } from "../pub-sub-port.ts";
import type { Address, SlotMap } from "./slots.ts";

/** Creates the manager of sharded channels. Each channel uses the master of its slot, and follows the slot if it moves. */
export function createShardManager(openNode: (address: Address) => NodePubSub) {
  const nodes = new Map<Address, NodePubSub>();
  const subscribedChannels = new Set<string>();
  /** The node at which each channel is subscribed. */
  const addressByChannel = new Map<string, Address>();
  let slots: SlotMap | null = null;

  /** Moves a channel's subscription to the current node of its slot. */
  function assignChannel(channel: string): void {
    const address = subscribedChannels.has(channel) ? slots?.findOwner(channel) : undefined;
    const previous = addressByChannel.get(channel);
    if (previous === address) return;
    if (previous !== undefined) nodes.get(previous)?.unsubscribe(channel);
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
      for (const address of masters) if (!nodes.has(address)) nodes.set(address, openNode(address));
      for (const channel of subscribedChannels) assignChannel(channel);
      for (const [address, node] of nodes) {
        if (masters.has(address)) node.renew();
        else {
          node.close();
          nodes.delete(address);
        }
      }
    },

    isConnected: (): boolean =>
      addressByChannel.size === subscribedChannels.size && [...nodes.values()].every((node) => node.isConnected()),

    async publish(messages: readonly ChannelText[]): Promise<void> {
      const groups = Map.groupBy(messages, ({ channel }) => slots?.findOwner(channel));
      await Promise.all([...groups].map(([address, group]) => publishTo(address, group)));
    },
    subscribe(channel: string): void {
      subscribedChannels.add(channel);
      assignChannel(channel);
    },
    unsubscribe(channel: string): void {
      subscribedChannels.delete(channel);
      assignChannel(channel);
    },
    close(): void {
      for (const node of nodes.values()) node.close();
    },
  };
}
