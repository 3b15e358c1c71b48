import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { startApp, type TestApp } from "../support/app.ts";
import { type BrowserPage, openPage } from "../support/browser-page.ts";
import { waitUntil } from "../support/wait-until.ts";

setDefaultTimeout(120_000);

const PHONE_WIDTH_PX = 360;

let parley: TestApp;
let page: BrowserPage;
beforeAll(async () => {
  parley = await startApp();
  // Chromium can connect only to this machine, so the pages can't depend on other hosts.
  page = await openPage(`${parley.url}/docs`);
});
afterAll(async () => {
  await page?.close();
  await parley?.stop();
});

async function openPath(path: string): Promise<void> {
  await page.sendCommand("Page.navigate", { url: `${parley.url}${path}` });
  await waitUntil(() =>
    page.evaluate<boolean>(
      `location.href === ${JSON.stringify(parley.url + path)} && document.readyState === "complete"`,
    ),
  );
}

const getPageWidth = () => page.evaluate<number>("document.documentElement.scrollWidth");

test.each([
  "/docs",
  "/docs/realtime",
  "/docs/operations",
  "/docs/changelog",
  "/problems",
  "/problems/invalid",
  "/asyncapi",
])("%s is styled, loads no other resources, and fits the width of a phone", async (path) => {
  await openPath(path);
  expect(await page.evaluate<number>('performance.getEntriesByType("resource").length')).toBe(0);
  expect(await page.evaluate<string>('getComputedStyle(document.querySelector("header")).position')).toBe("sticky");
  const size = { width: PHONE_WIDTH_PX, height: 800, deviceScaleFactor: 2, mobile: true };
  await page.sendCommand("Emulation.setDeviceMetricsOverride", size);
  expect(await getPageWidth()).toBeLessThanOrEqual(PHONE_WIDTH_PX);
  await page.sendCommand("Emulation.clearDeviceMetricsOverride", {});
});

test("the table of contents is open on wide screens and collapsed on phones, and its links work", async () => {
  await openPath("/docs/realtime");
  const isLinkShown = () => page.evaluate<boolean>('document.querySelector("nav li a").checkVisibility()');
  const setWidth = (width: number) =>
    page.sendCommand("Emulation.setDeviceMetricsOverride", { width, height: 800, deviceScaleFactor: 1, mobile: false });
  await setWidth(1400);
  const supportsDetailsContent = await page.evaluate<boolean>('CSS.supports("selector(::details-content)")');
  if (supportsDetailsContent) expect(await isLinkShown()).toBe(true);
  await setWidth(PHONE_WIDTH_PX);
  expect(await isLinkShown()).toBe(false);
  await page.evaluate('document.querySelector("nav summary").click()');
  expect(await isLinkShown()).toBe(true);
  await page.evaluate('[...document.querySelectorAll("nav li a")].at(-1).click()');
  const target = "document.getElementById(decodeURIComponent(location.hash.slice(1)))";
  expect(await page.evaluate<number>(`${target}.getBoundingClientRect().top`)).toBeGreaterThanOrEqual(
    await page.evaluate<number>('document.querySelector("header").getBoundingClientRect().height'),
  );
  await page.sendCommand("Emulation.clearDeviceMetricsOverride", {});
});

test("the search works without a script", async () => {
  await openPath("/docs");
  await page.evaluate('document.querySelector("[name=q]").value = "backpressure"; document.forms[0].submit()');
  await waitUntil(() => page.evaluate<boolean>('location.search !== "" && document.readyState === "complete"'));
  expect(await page.evaluate<string>('document.querySelector("[name=q]").value')).toBe("backpressure");
});

test("a page follows the system's dark mode", async () => {
  await openPath("/docs/realtime");
  const getTextColor = async (value: string) => {
    await page.sendCommand("Emulation.setEmulatedMedia", { features: [{ name: "prefers-color-scheme", value }] });
    return page.evaluate<string>("getComputedStyle(document.body).color");
  };
  expect(await getTextColor("light")).toBe("rgb(0, 0, 0)");
  expect(await getTextColor("dark")).toBe("rgb(255, 255, 255)");
});
