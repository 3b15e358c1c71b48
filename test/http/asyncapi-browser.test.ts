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
  // Chromium can connect only to this machine, so the page can't depend on other hosts.
  page = await openPage(`${parley.url}/asyncapi`);
});
beforeEach(async () => {
  await page.evaluate('location.hash = ""; field.value = ""; search(); document.activeElement.blur()');
});
afterAll(async () => {
  await page?.close();
  await parley?.stop();
});

async function pressKey(key: string, code = key): Promise<void> {
  const text = key.length === 1 ? { text: key } : {};
  const windowsVirtualKeyCode = { Tab: 9, Enter: 13, Escape: 27, "/": 191 }[key];
  await page.sendCommand("Input.dispatchKeyEvent", { type: "keyDown", key, code, windowsVirtualKeyCode, ...text });
  await page.sendCommand("Input.dispatchKeyEvent", { type: "keyUp", key, code, windowsVirtualKeyCode });
}

/** Lists the titles of the visible entries. */
const listVisibleTitles = () =>
  page.evaluate<string[]>(
    '[...document.querySelectorAll("main article")].filter((entry) => entry.checkVisibility()).map((entry) => entry.querySelector("h3").textContent)',
  );

test("the page's script and style work under its content security policy, and the page loads no other resources", async () => {
  expect(await page.evaluate<number>('performance.getEntriesByType("resource").length')).toBe(0);
  expect(await page.evaluate<string>('getComputedStyle(document.querySelector("header")).position')).toBe("sticky");
  expect(await page.evaluate<boolean>('document.querySelector("nav details").open')).toBe(
    await page.evaluate<boolean>('matchMedia("(min-width: 60rem)").matches'),
  );
});

test("the search finds entries by any words in them, and can be used with the keyboard", async () => {
  const allTitles = await listVisibleTitles();
  expect(allTitles.length).toBeGreaterThan(50);
  await pressKey("/", "Slash");
  expect(await page.evaluate<string>("document.activeElement.id")).toBe("search");
  await page.sendCommand("Input.insertText", { text: "AFTER_SEQ subscribe" });
  const foundTitles = await listVisibleTitles();
  expect(foundTitles).toContain("subscribe");
  expect(foundTitles.length).toBeLessThan(allTitles.length);
  expect(await page.evaluate<string>("found.textContent")).toMatch(/^\d+ entr(?:y|ies)$/);
  await pressKey("Escape");
  expect(await listVisibleTitles()).toEqual(allTitles);
});

test("following a link shows its target, even if the search has hidden the target", async () => {
  await page.evaluate('field.value = "no such word"; search()');
  expect(await listVisibleTitles()).toEqual([]);
  // This listener runs after the page's own listener, which was added earlier.
  await page.evaluate(
    'new Promise((resolve) => { addEventListener("hashchange", resolve, { once: true }); location.hash = "#schema-Message"; }).then(() => {})',
  );
  expect(await listVisibleTitles()).toContain("Message");
  const top = await page.evaluate<number>('document.querySelector("#schema-Message").getBoundingClientRect().top');
  expect(top).toBeGreaterThanOrEqual(0);
  expect(top).toBeLessThan(await page.evaluate<number>("innerHeight"));
});

test("Tab moves the focus first to the link to the content, and then to the search field", async () => {
  await page.evaluate("window.isOld = true");
  await page.sendCommand("Page.reload", {});
  await waitUntil(() => page.evaluate<boolean>('!window.isOld && document.readyState === "complete"'));
  await pressKey("Tab");
  expect(await page.evaluate<string>("document.activeElement.textContent")).toBe("Skip to content");
  await pressKey("Tab");
  expect(await page.evaluate<string>("document.activeElement.id")).toBe("search");
});

test("the page fits the width of a phone", async () => {
  const size = { width: PHONE_WIDTH_PX, height: 800, deviceScaleFactor: 2, mobile: true };
  await page.sendCommand("Emulation.setDeviceMetricsOverride", size);
  expect(await page.evaluate<number>("document.documentElement.scrollWidth")).toBeLessThanOrEqual(PHONE_WIDTH_PX);
  await page.sendCommand("Emulation.clearDeviceMetricsOverride", {});
});

test("the page follows the system's dark mode", async () => {
  const getTextColor = async (value: string) => {
    await page.sendCommand("Emulation.setEmulatedMedia", { features: [{ name: "prefers-color-scheme", value }] });
    return page.evaluate<string>("getComputedStyle(document.body).color");
  };
  expect(await getTextColor("light")).toBe("rgb(0, 0, 0)");
  expect(await getTextColor("dark")).toBe("rgb(255, 255, 255)");
});
