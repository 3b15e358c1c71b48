import type { Cluster, Redis } from "ioredis";

/** A command that a limiter defines by a script. */
type Definition = Parameters<Redis["defineCommand"]>;

/** The client of limiters. They are built before the kind of server is known. */
export type StoreClient = Pick<Redis, "defineCommand"> & {
  readonly status: string;
  /** Sends commands to this client from now on. */
  use(client: Redis | Cluster): void;
};

/** A client that isn't ready until `use`, and then forwards to the given one. */
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
    use(next: Redis | Cluster): void {
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
