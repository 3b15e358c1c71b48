import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { isSoak } from "../support/soak.ts";
import { checkHistory } from "./check.ts";
import { type Fault, faults } from "./faults.ts";
import { type People, registerPeople, startLoad } from "./load.ts";
import { createRandom, type Random } from "./random.ts";
import type { History } from "./record.ts";
import { collectHistory, waitForRest } from "./settle.ts";
import { type BusForm, openWorld, type World } from "./world.ts";

/** Far above what a drill takes on a busy machine. */
const TIMEOUT_MS = isSoak ? 900_000 : 180_000;
const INSTANCES = isSoak ? 3 : 2;
const MEMBERS = isSoak ? 6 : 4;
/** Messages that are acknowledged before each fault, and after it. */
const ACKS_AROUND = isSoak ? 1_500 : 100;
/** How often the fault is injected under one load. */
const ROUNDS = isSoak ? 5 : 1;
const SHOWN_VIOLATIONS = 20;
/** `HISTORY_SEED` repeats the random choices of an earlier test run. */
const seed = Number(process.env.HISTORY_SEED ?? Math.floor(Math.random() * 2 ** 31));

/** Injects each applicable fault under load, then compares what clients saw with what is stored. */
export function describeDrills(form: BusForm): void {
  describe(`over ${form}, clients see what is stored after`, () => {
    let world: World;
    let people: People;
    let random: Random;
    beforeAll(async () => {
      console.log(`To repeat this test run: HISTORY_SEED=${seed}`);
      random = createRandom(seed);
      world = await openWorld(form, { instances: INSTANCES });
      await world.waitHealthy();
      people = await registerPeople(world, MEMBERS);
    }, TIMEOUT_MS);
    afterAll(() => world?.close(), TIMEOUT_MS);

    const applicable = faults.filter(({ forms }) => !forms || forms.includes(form));
    test.each(applicable)(
      "$name",
      async (fault) => {
        const history = await record(world, people, fault, random);
        const violations = checkHistory(history).map(({ rule, detail }) => `${rule}: ${detail}`);
        if (violations.length > 0) await keep(history, world.readLog());
        expect(violations.slice(0, SHOWN_VIOLATIONS)).toEqual([]);
        expect(history.stored.flatMap(({ messages }) => messages).some(({ role }) => role === "assistant")).toBe(true);
      },
      TIMEOUT_MS,
    );
  });
}

/** Injects a fault under load. @returns the history to check, once the system has settled. */
async function record(world: World, people: People, { happen }: Fault, random: Random): Promise<History> {
  const load = await startLoad(world, people, random.fork());
  try {
    for (let round = 1; round <= ROUNDS; round += 1) {
      await load.waitForAcks(ACKS_AROUND);
      await happen(world, random);
      await world.waitHealthy();
    }
    await load.waitForAcks(ACKS_AROUND);
    await load.stopWriting();
    const settled = await waitForRest(world, load);
    return await collectHistory(world, load, settled);
  } finally {
    // A failing drill must not affect the next one.
    await load.stop();
  }
}

/** Keeps the evidence of a failure for debugging. */
async function keep(history: History, log: string): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "parley-history-"));
  await Bun.write(join(folder, "history.json"), JSON.stringify(history));
  await Bun.write(join(folder, "log.txt"), log);
  console.log(`The history and the instances' logs are in ${folder}`);
}
