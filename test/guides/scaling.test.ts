import { afterAll, setDefaultTimeout, test } from "bun:test";
import { startInstalledPostgres } from "../support/installed-postgres.ts";
import { startRedis } from "../support/redis.ts";
import { findFreePort } from "./ports.ts";
import { runGuide } from "./run-guide.ts";

setDefaultTimeout(180_000);

const cleanups: (() => Promise<unknown>)[] = [];
afterAll(async () => {
  for (const cleanUp of cleanups) await cleanUp();
});

test("the commands in docs/scaling.md work as written", async () => {
  const port = findFreePort();
  const postgres = await startInstalledPostgres({ port, settings: { fsync: "off" } });
  cleanups.push(postgres.stop);
  await postgres.psql("create role parley login password 'secret'");
  await postgres.psql("create database parley owner parley");
  const redis = await startRedis();
  cleanups.push(redis.stop);
  const redisPort = Number(new URL(redis.url).port);
  await runGuide("docs/scaling.md", { ports: [3000, 3001], serverPorts: { 5432: port, 6379: redisPort } });
});
