import { afterAll, beforeAll, expect, test } from "bun:test";
import { startApp, type TestApp } from "../support/app.ts";

let parley: TestApp;

beforeAll(async () => {
  parley = await startApp();
});
afterAll(() => parley.stop());

test("docs/monitoring.md documents every Parley metric that /metrics exposes", async () => {
  const text = await (await parley.fetch("/metrics")).text();
  const names = [...text.matchAll(/^# TYPE ((?:parley|gen_ai)_\w+) /gm)].map(([, name]) => name);
  expect(names.length).toBeGreaterThan(20);
  const guide = await Bun.file(new URL("../../docs/monitoring.md", import.meta.url)).text();
  expect(names.filter((name) => !guide.includes(`| \`${name}\` |`))).toEqual([]);
});
