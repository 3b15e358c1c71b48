import { expect, test } from "bun:test";
import { createBusTable } from "../../src/realtime/postgres/table.ts";
import { createTestDatabase } from "../support/postgres.ts";
import { waitUntil } from "../support/wait-until.ts";

test("messages in the table are read after a crash of the server, which resets their ids", async () => {
  const { database } = await createTestDatabase(2);
  const payloads: string[] = [];
  const readings: true[] = [];
  const table = createBusTable(database, {
    onPayload: (payload) => void payloads.push(payload),
    onReading: () => void readings.push(true),
  });
  const insert = (payload: string) => database`insert into bus_messages (payload) values (${payload})`;
  table.start();
  await waitUntil(() => readings.length === 1);
  for (const payload of ["one", "two", "three"]) await insert(payload);
  await waitUntil(() => payloads.length === 3);
  // What the server does with an unlogged table and its sequence.
  await database`truncate bus_messages restart identity`;
  // Only now older ids count as read.
  await waitUntil(async () => {
    await insert("again");
    return payloads.includes("again");
  });
  expect(payloads.slice(0, 3)).toEqual(["one", "two", "three"]);
  table.stop();
  await database.end({ timeout: 1 });
});
