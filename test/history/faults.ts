import type { BusKind, Cluster } from "./cluster.ts";
import { canUseNamespaces } from "./namespace.ts";
import type { Random } from "./random.ts";

const POLL_MS = 50;

export type Fault = {
  name: string;
  /** The kinds of bus to which the fault applies. If omitted, it applies to all. */
  busKinds?: BusKind[];
  /** Breaks something, and repairs it after a while. */
  inject(cluster: Cluster, random: Random): Promise<void>;
};

/** Faults in instances, in their servers, and in the network between them. */
export const faults: Fault[] = [
  { name: "no fault", inject: () => Bun.sleep(1_000) },
  {
    name: "killing and restarting an instance",
    async inject({ instances }, random) {
      const instance = random.pick(instances);
      await instance.kill();
      await Bun.sleep(random.int(200, 1_500));
      await instance.start();
    },
  },
  {
    name: "a graceful restart of an instance",
    async inject({ instances }, random) {
      const instance = random.pick(instances);
      await instance.stop();
      await instance.start();
    },
  },
  {
    name: "freezing an instance for 4 s",
    async inject({ instances }, random) {
      const instance = random.pick(instances);
      instance.freeze();
      await Bun.sleep(4_000);
      instance.thaw();
    },
  },
  {
    name: "an immediate restart of Postgres",
    async inject({ server }, random) {
      await server.shutDown("immediate");
      await Bun.sleep(random.int(100, 1_500));
      await server.start();
    },
  },
  {
    name: "terminating all connections to Postgres",
    async inject({ server }) {
      await server.psql(
        "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'parley' and backend_type = 'client backend'",
      );
    },
  },
  {
    name: "a 4 s partition between an instance and Postgres",
    async inject({ instances }, random) {
      const { database } = random.pick(instances).relays;
      database.cut();
      await Bun.sleep(4_000);
      database.restore();
    },
  },
  {
    name: "a partition between an instance and Postgres that resets the connections",
    async inject({ instances }, random) {
      const { database } = random.pick(instances).relays;
      database.cut();
      await Bun.sleep(random.int(500, 2_500));
      database.reset();
      database.restore();
    },
  },
  {
    name: "killing and restarting PgBouncer",
    busKinds: ["PgBouncer"],
    async inject({ pooler }, random) {
      await pooler?.kill();
      await Bun.sleep(random.int(200, 2_000));
      await pooler?.start();
    },
  },
  {
    name: "killing and restarting Redis",
    busKinds: ["Redis"],
    async inject({ redis }, random) {
      await redis?.kill();
      await Bun.sleep(random.int(200, 3_000));
      await redis?.start();
    },
  },
  {
    name: "freezing Redis for 5 s",
    busKinds: ["Redis"],
    async inject({ redis }) {
      redis?.pause();
      await Bun.sleep(5_000);
      redis?.resume();
    },
  },
  {
    name: "a 4 s partition between an instance and Redis",
    busKinds: ["Redis"],
    async inject({ instances }, random) {
      const { redis } = random.pick(instances).relays;
      redis?.cut();
      await Bun.sleep(4_000);
      redis?.restore();
    },
  },
  {
    name: "packet loss between an instance and Redis for several seconds",
    busKinds: canUseNamespaces ? ["Redis"] : [],
    async inject({ instances }) {
      const instance = instances.find(({ namespace }) => namespace);
      const port = instance?.relays.redis?.port;
      if (!instance?.namespace || port === undefined) throw new Error("No instance has its own network namespace.");
      instance.namespace.cut(port);
      const isPartitionDetected = async () =>
        (await (await fetch(`${instance.url}/readyz?verbose`)).text()).includes("[-]bus failed");
      while (!(await isPartitionDetected())) await Bun.sleep(POLL_MS);
      await Bun.sleep(1_000);
      instance.namespace.restore(port);
    },
  },
  {
    name: "a partition between an instance and Redis that resets the connections",
    busKinds: ["Redis"],
    async inject({ instances }, random) {
      const { redis } = random.pick(instances).relays;
      redis?.cut();
      await Bun.sleep(random.int(500, 2_500));
      redis?.reset();
      redis?.restore();
    },
  },
];
