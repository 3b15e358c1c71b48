import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { isSoakRun } from "../support/soak.ts";
import { checkHistory } from "./check.ts";
import { type BusKind, type Cluster, startCluster } from "./cluster.ts";
import { collectHistory, waitUntilSettled } from "./collect-history.ts";
import { type Fault, faults } from "./faults.ts";
import type { History } from "./history.ts";
import { registerUsers, startLoad, type TestUsers } from "./load.ts";
import { createRandom, type Random } from "./random.ts";

/** The timeout of a test, which is much longer than a test takes on a busy machine. */
const TIMEOUT_MS = isSoakRun ? 900_000 : 180_000;
const INSTANCE_COUNT = isSoakRun ? 3 : 2;
const MEMBER_COUNT = isSoakRun ? 6 : 4;
/** The number of messages that are acknowledged before and after each fault. */
const ACKS_PER_PHASE = isSoakRun ? 1_500 : 100;
/** The number of times that a fault is injected per test. */
const ROUNDS = isSoakRun ? 5 : 1;
const REPORTED_VIOLATIONS_MAX = 20;
/** The seed of the random choices. Set `HISTORY_SEED` to repeat the choices of an earlier test run. */
const seed = Number(process.env.HISTORY_SEED ?? Math.floor(Math.random() * 2 ** 31));

/** Defines a test for each fault that applies to this kind of bus. */
export function describeDrills(busKind: BusKind): void {
  describe(`over ${busKind},`, () => {
    let cluster: Cluster;
    let users: TestUsers;
    let random: Random;
    beforeAll(async () => {
      console.log(`To repeat this test run: HISTORY_SEED=${seed}`);
      random = createRandom(seed);
      cluster = await startCluster(busKind, { instances: INSTANCE_COUNT });
      await cluster.waitUntilHealthy();
      users = await registerUsers(cluster, MEMBER_COUNT);
    }, TIMEOUT_MS);
    afterAll(() => cluster?.close(), TIMEOUT_MS);

    const applicableFaults = faults.filter(({ busKinds }) => !busKinds || busKinds.includes(busKind));
    test.each(applicableFaults)(
      "what clients received matches what is stored after $name",
      async (fault) => {
        const history = await recordHistory(cluster, users, fault, random);
        const violations = checkHistory(history).map(({ rule, detail }) => `${rule}: ${detail}`);
        if (violations.length > 0) await saveHistory(history, cluster.readLog());
        expect(violations.slice(0, REPORTED_VIOLATIONS_MAX)).toEqual([]);
        expect(history.stored.flatMap(({ messages }) => messages).some(({ role }) => role === "assistant")).toBe(true);
      },
      TIMEOUT_MS,
    );
  });
}

/** Injects a fault under load, and waits until the system has settled. @returns the history. */
async function recordHistory(cluster: Cluster, users: TestUsers, { inject }: Fault, random: Random): Promise<History> {
  const load = await startLoad(cluster, users, random.fork());
  try {
    for (let round = 1; round <= ROUNDS; round += 1) {
      await load.waitForAcks(ACKS_PER_PHASE);
      await inject(cluster, random);
      await cluster.waitUntilHealthy();
    }
    await load.waitForAcks(ACKS_PER_PHASE);
    await load.stopWriting();
    const comparisons = await waitUntilSettled(cluster, load);
    return await collectHistory(cluster, load, comparisons);
  } finally {
    // A failing test must not affect the next test.
    await load.stop();
  }
}

/** Saves the history and the logs for debugging. */
async function saveHistory(history: History, log: string): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "parley-history-"));
  await Bun.write(join(folder, "history.json"), JSON.stringify(history));
  await Bun.write(join(folder, "log.txt"), log);
  console.log(`The history and the instances' logs are in ${folder}`);
}
