import { expect, test } from "bun:test";
import { createBusTable } from "../../src/realtime/postgres/table.ts";
import { createTestDatabase } from "../support/postgres.ts";
import { waitUntil } from "../support/wait-until.ts";

test("messages in the table are still read after a database crash resets their ids", async () => {
  const { database } = await createTestDatabase(2);
  const payloads: string[] = [];
  let startCount = 0;
  const table = createBusTable(database, {
    onPayload: (payload) => void payloads.push(payload),
    onStarted: () => {
      startCount += 1;
    },
  });
  const insert = (payload: string) => database`insert into bus_messages (payload) values (${payload})`;
  table.start();
  await waitUntil(() => startCount === 1);
  for (const payload of ["one", "two", "three"]) await insert(payload);
  await waitUntil(() => payloads.length === 3);
  // A crash empties unlogged tables and resets their sequences.
  await database`truncate bus_messages restart identity`;
  // Until the reset is detected, ids up to the last one read are skipped.
  await waitUntil(async () => {
    await insert("again");
    return payloads.includes("again");
  });
  expect(payloads.slice(0, 3)).toEqual(["one", "two", "three"]);
  table.stop();
  await database.end({ timeout: 1 });
});
