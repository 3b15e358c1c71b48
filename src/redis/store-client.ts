import type { Cluster, Redis } from "ioredis";

/** The definition of a limiter's script command. */
type Definition = Parameters<Redis["defineCommand"]>;

/** The Redis client for limiters, which are created before the kind of server is known. */
export type StoreClient = Pick<Redis, "defineCommand"> & {
  readonly status: string;
  /** Sets the client to which commands are forwarded. */
  setClient(client: Redis | Cluster): void;
};

/** Creates a client that isn't ready until `setClient` is called. It then forwards commands to that client. */
export function createStoreClient(): StoreClient {
  const definitions: Definition[] = [];
  let client: Redis | Cluster | null = null;
  const facade: StoreClient = {
    get status() {
      return client?.status ?? "connecting";
    },
    defineCommand(...definition: Definition): void {
      definitions.push(definition);
      client?.defineCommand(...definition);
    },
    setClient(next: Redis | Cluster): void {
      for (const definition of definitions) next.defineCommand(...definition);
      client = next;
    },
  };
  return new Proxy(facade, {
    get(_, name) {
      if (Object.hasOwn(facade, name) || client === null) return Reflect.get(facade, name);
      const value: unknown = Reflect.get(client, name);
      return typeof value === "function" ? value.bind(client) : value;
    },
  });
}
