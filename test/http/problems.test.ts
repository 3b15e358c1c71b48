import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { type ErrorCode, errorCodes } from "../../src/lib/error-codes.ts";
import { startApp, type TestApp } from "../support/app.ts";

let parley: TestApp;

beforeAll(async () => {
  parley = await startApp();
});
afterAll(() => parley.stop());

const codes = Object.keys(errorCodes) as ErrorCode[];

describe.each(codes)("/problems/%s", (code) => {
  test("is a page that explains the error and what to do", async () => {
    const response = await parley.fetch(`/problems/${code}`);
    expect(response.status).toBe(200);
    expect(response.headers.get("content-type")).toBe("text/html; charset=utf-8");
    const page = await response.text();
    expect(page).toContain(`${errorCodes[code].status ?? ""} <code>${code}</code>`);
    expect(page).toMatch(/<dt>What to do<\/dt><dd>[^<]/);
    expect(page).not.toMatch(/undefined|null|`/);
  });

  test("is returned as JSON if the client requests it", async () => {
    const response = await parley.fetch(`/problems/${code}`, { headers: { accept: "application/json" } });
    expect(response.headers.get("content-type")).toStartWith("application/json");
    expect(await response.json()).toEqual({ code, ...errorCodes[code] });
  });
});

describe.each(["/problems", "/problems/"])("%s", (path) => {
  test("is a page with a link to every code", async () => {
    const response = await parley.fetch(path);
    expect(response.status).toBe(200);
    expect(response.headers.get("content-type")).toBe("text/html; charset=utf-8");
    const links = [...(await response.text()).matchAll(/href="\/problems\/(\w+)"/g)].map(([, code]) => code);
    expect(links.sort()).toEqual([...codes].sort());
  });

  test("is returned as JSON if the client requests it", async () => {
    const response = await parley.fetch(path, { headers: { accept: "application/json" } });
    expect(await response.json()).toEqual({ data: codes.map((code) => ({ code, ...errorCodes[code] })) });
  });
});

test.each(["nothing", "constructor", "%3Cscript%3E"])("/problems/%s returns 404", async (code) => {
  const response = await parley.fetch(`/problems/${code}`);
  expect(response.status).toBe(404);
  expect(await response.json()).toMatchObject({ code: "not_found" });
});
