import { afterAll, beforeAll, beforeEach, expect, setDefaultTimeout, test } from "bun:test";
import { startApp, type TestApp } from "../support/app.ts";
import { type BrowserPage, openPage } from "../support/browser-page.ts";
import { waitUntil } from "../support/wait-until.ts";

setDefaultTimeout(120_000);

const PHONE_WIDTH_PX = 360;

let parley: TestApp;
let page: BrowserPage;
beforeAll(async () => {
  parley = await startApp();
  // Its Chromium can reach this machine only.
  page = await openPage(`${parley.url}/asyncapi`);
});
beforeEach(async () => {
  await page.evaluate('location.hash = ""; field.value = ""; search(); document.activeElement.blur()');
});
afterAll(async () => {
  await page?.close();
  await parley?.stop();
});

async function press(key: string, code = key): Promise<void> {
  const text = key.length === 1 ? { text: key } : {};
  const windowsVirtualKeyCode = { Tab: 9, Enter: 13, Escape: 27, "/": 191 }[key];
  await page.call("Input.dispatchKeyEvent", { type: "keyDown", key, code, windowsVirtualKeyCode, ...text });
  await page.call("Input.dispatchKeyEvent", { type: "keyUp", key, code, windowsVirtualKeyCode });
}

/** The titles of the visible entries. */
const listShown = () =>
  page.evaluate<string[]>(
    '[...document.querySelectorAll("main article")].filter((one) => one.checkVisibility()).map((one) => one.querySelector("h3").textContent)',
  );

test("script and style run under the content security policy, and nothing else is loaded", async () => {
  expect(await page.evaluate<number>('performance.getEntriesByType("resource").length')).toBe(0);
  expect(await page.evaluate<string>('getComputedStyle(document.querySelector("header")).position')).toBe("sticky");
  expect(await page.evaluate<boolean>('document.querySelector("nav details").open')).toBe(
    await page.evaluate<boolean>('matchMedia("(min-width: 60rem)").matches'),
  );
});

test("the search finds frames by any word in them, with the keyboard alone", async () => {
  const all = await listShown();
  expect(all.length).toBeGreaterThan(50);
  await press("/", "Slash");
  expect(await page.evaluate<string>("document.activeElement.id")).toBe("search");
  await page.call("Input.insertText", { text: "AFTER_SEQ subscribe" });
  const found = await listShown();
  expect(found).toContain("subscribe");
  expect(found.length).toBeLessThan(all.length);
  expect(await page.evaluate<string>("found.textContent")).toMatch(/^\d+ entr(?:y|ies)$/);
  await press("Escape");
  expect(await listShown()).toEqual(all);
});

test("a link leads to its target, even if the search hides it", async () => {
  await page.evaluate('field.value = "no such word"; search()');
  expect(await listShown()).toEqual([]);
  // The page's own listener runs first.
  await page.evaluate(
    'new Promise((resolve) => { addEventListener("hashchange", resolve, { once: true }); location.hash = "#schema-Message"; }).then(() => {})',
  );
  expect(await listShown()).toContain("Message");
  const top = await page.evaluate<number>('document.querySelector("#schema-Message").getBoundingClientRect().top');
  expect(top).toBeGreaterThanOrEqual(0);
  expect(top).toBeLessThan(await page.evaluate<number>("innerHeight"));
});

test("Tab reaches the content first, then the search", async () => {
  await page.evaluate("window.isOld = true");
  await page.call("Page.reload", {});
  await waitUntil(() => page.evaluate<boolean>('!window.isOld && document.readyState === "complete"'));
  await press("Tab");
  expect(await page.evaluate<string>("document.activeElement.textContent")).toBe("Skip to content");
  await press("Tab");
  expect(await page.evaluate<string>("document.activeElement.id")).toBe("search");
});

test("it fits a phone: only tables and examples scroll sideways", async () => {
  const size = { width: PHONE_WIDTH_PX, height: 800, deviceScaleFactor: 2, mobile: true };
  await page.call("Emulation.setDeviceMetricsOverride", size);
  expect(await page.evaluate<number>("document.documentElement.scrollWidth")).toBeLessThanOrEqual(PHONE_WIDTH_PX);
  await page.call("Emulation.clearDeviceMetricsOverride", {});
});

test("it follows the system's dark mode", async () => {
  const colorIn = async (value: string) => {
    await page.call("Emulation.setEmulatedMedia", { features: [{ name: "prefers-color-scheme", value }] });
    return page.evaluate<string>("getComputedStyle(document.body).color");
  };
  expect(await colorIn("light")).toBe("rgb(0, 0, 0)");
  expect(await colorIn("dark")).toBe("rgb(255, 255, 255)");
});
