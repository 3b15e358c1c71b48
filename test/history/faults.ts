import { hasNamespaces } from "./namespace.ts";
import type { Random } from "./random.ts";
import type { BusForm, World } from "./world.ts";

const POLL_MS = 50;

export type Fault = {
  name: string;
  /** Where it can happen; absent: in each. */
  forms?: BusForm[];
  /** Breaks something under load, and mends it. */
  happen(world: World, random: Random): Promise<void>;
};

/** Everything that goes wrong between instances, and with them. */
export const faults: Fault[] = [
  { name: "no fault", happen: () => Bun.sleep(1_000) },
  {
    name: "kill -9 of an instance, and its restart",
    async happen({ instances }, random) {
      const instance = random.pick(instances);
      await instance.kill();
      await Bun.sleep(random.int(200, 1_500));
      await instance.start();
    },
  },
  {
    name: "an orderly restart of an instance",
    async happen({ instances }, random) {
      const instance = random.pick(instances);
      await instance.stop();
      await instance.start();
    },
  },
  {
    name: "an instance that is frozen for 4 s",
    async happen({ instances }, random) {
      const instance = random.pick(instances);
      instance.freeze();
      await Bun.sleep(4_000);
      instance.thaw();
    },
  },
  {
    name: "an immediate restart of Postgres",
    async happen({ server }, random) {
      await server.halt("immediate");
      await Bun.sleep(random.int(100, 1_500));
      await server.start();
    },
  },
  {
    name: "the connections of all instances to Postgres ended",
    async happen({ server }) {
      await server.psql(
        "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'parley' and backend_type = 'client backend'",
      );
    },
  },
  {
    name: "a cut of 4 s between an instance and Postgres",
    async happen({ instances }, random) {
      const { database } = random.pick(instances).networks;
      database.cut();
      await Bun.sleep(4_000);
      database.mend();
    },
  },
  {
    name: "a cut between an instance and Postgres that ends the connections",
    async happen({ instances }, random) {
      const { database } = random.pick(instances).networks;
      database.cut();
      await Bun.sleep(random.int(500, 2_500));
      database.reset();
      database.mend();
    },
  },
  {
    name: "kill -9 of PgBouncer, and its restart",
    forms: ["PgBouncer"],
    async happen({ pooler }, random) {
      await pooler?.kill();
      await Bun.sleep(random.int(200, 2_000));
      await pooler?.start();
    },
  },
  {
    name: "kill -9 of Redis, and its restart",
    forms: ["Redis"],
    async happen({ redis }, random) {
      await redis?.kill();
      await Bun.sleep(random.int(200, 3_000));
      await redis?.start();
    },
  },
  {
    name: "a Redis that is frozen for 5 s",
    forms: ["Redis"],
    async happen({ redis }) {
      redis?.freeze();
      await Bun.sleep(5_000);
      redis?.thaw();
    },
  },
  {
    name: "a cut of 4 s between an instance and Redis",
    forms: ["Redis"],
    async happen({ instances }, random) {
      const { redis } = random.pick(instances).networks;
      redis?.cut();
      await Bun.sleep(4_000);
      redis?.mend();
    },
  },
  {
    name: "seconds in which the packets between an instance and Redis are dropped",
    forms: hasNamespaces ? ["Redis"] : [],
    async happen({ instances }) {
      const instance = instances.find(({ namespace }) => namespace);
      const port = instance?.networks.redis?.port;
      if (!instance?.namespace || port === undefined) throw new Error("No instance has a network of its own.");
      instance.namespace.cut(port);
      const isNoticed = async () =>
        (await (await fetch(`${instance.url}/readyz?verbose`)).text()).includes("[-]bus failed");
      while (!(await isNoticed())) await Bun.sleep(POLL_MS);
      await Bun.sleep(1_000);
      instance.namespace.mend(port);
    },
  },
  {
    name: "a cut between an instance and Redis that ends the connections",
    forms: ["Redis"],
    async happen({ instances }, random) {
      const { redis } = random.pick(instances).networks;
      redis?.cut();
      await Bun.sleep(random.int(500, 2_500));
      redis?.reset();
      redis?.mend();
    },
  },
];
