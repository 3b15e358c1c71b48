import { afterAll, beforeAll, expect, test } from "bun:test";
import { startApp, type TestApp } from "../support/app.ts";

let parley: TestApp;

beforeAll(async () => {
  parley = await startApp();
});
afterAll(() => parley.stop());

test("docs/operations.md documents every Parley metric of /metrics", async () => {
  const text = await (await parley.fetch("/metrics")).text();
  const names = [...text.matchAll(/^# TYPE (parley_\w+) /gm)].map(([, name]) => name);
  expect(names.length).toBeGreaterThan(20);
  const operations = await Bun.file(new URL("../../docs/operations.md", import.meta.url)).text();
  expect(names.filter((name) => !operations.includes(`| \`${name}\` |`))).toEqual([]);
});
