import { hasNamespaces } from "./namespace.ts";
import type { Random } from "./random.ts";
import type { BusForm, World } from "./world.ts";

const POLL_MS = 50;

export type Fault = {
  name: string;
  /** The bus forms that the fault applies to; absent: all. */
  forms?: BusForm[];
  /** Breaks something under load, and repairs it. */
  happen(world: World, random: Random): Promise<void>;
};

/** Faults of instances, of their servers, and of the network between them. */
export const faults: Fault[] = [
  { name: "no fault", happen: () => Bun.sleep(1_000) },
  {
    name: "kill -9 of an instance and a restart",
    async happen({ instances }, random) {
      const instance = random.pick(instances);
      await instance.kill();
      await Bun.sleep(random.int(200, 1_500));
      await instance.start();
    },
  },
  {
    name: "a graceful restart of an instance",
    async happen({ instances }, random) {
      const instance = random.pick(instances);
      await instance.stop();
      await instance.start();
    },
  },
  {
    name: "freezing an instance for 4 s",
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
    name: "terminating all connections to Postgres",
    async happen({ server }) {
      await server.psql(
        "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'parley' and backend_type = 'client backend'",
      );
    },
  },
  {
    name: "a 4 s partition between an instance and Postgres",
    async happen({ instances }, random) {
      const { database } = random.pick(instances).networks;
      database.cut();
      await Bun.sleep(4_000);
      database.restore();
    },
  },
  {
    name: "a partition between an instance and Postgres that resets the connections",
    async happen({ instances }, random) {
      const { database } = random.pick(instances).networks;
      database.cut();
      await Bun.sleep(random.int(500, 2_500));
      database.reset();
      database.restore();
    },
  },
  {
    name: "kill -9 of PgBouncer and a restart",
    forms: ["PgBouncer"],
    async happen({ pooler }, random) {
      await pooler?.kill();
      await Bun.sleep(random.int(200, 2_000));
      await pooler?.start();
    },
  },
  {
    name: "kill -9 of Redis and a restart",
    forms: ["Redis"],
    async happen({ redis }, random) {
      await redis?.kill();
      await Bun.sleep(random.int(200, 3_000));
      await redis?.start();
    },
  },
  {
    name: "freezing Redis for 5 s",
    forms: ["Redis"],
    async happen({ redis }) {
      redis?.freeze();
      await Bun.sleep(5_000);
      redis?.thaw();
    },
  },
  {
    name: "a 4 s partition between an instance and Redis",
    forms: ["Redis"],
    async happen({ instances }, random) {
      const { redis } = random.pick(instances).networks;
      redis?.cut();
      await Bun.sleep(4_000);
      redis?.restore();
    },
  },
  {
    name: "dropping the packets between an instance and Redis for seconds",
    forms: hasNamespaces ? ["Redis"] : [],
    async happen({ instances }) {
      const instance = instances.find(({ namespace }) => namespace);
      const port = instance?.networks.redis?.port;
      if (!instance?.namespace || port === undefined) throw new Error("No instance has its own network namespace.");
      instance.namespace.cut(port);
      const isNoticed = async () =>
        (await (await fetch(`${instance.url}/readyz?verbose`)).text()).includes("[-]bus failed");
      while (!(await isNoticed())) await Bun.sleep(POLL_MS);
      await Bun.sleep(1_000);
      instance.namespace.restore(port);
    },
  },
  {
    name: "a partition between an instance and Redis that resets the connections",
    forms: ["Redis"],
    async happen({ instances }, random) {
      const { redis } = random.pick(instances).networks;
      redis?.cut();
      await Bun.sleep(random.int(500, 2_500));
      redis?.reset();
      redis?.restore();
    },
  },
];
