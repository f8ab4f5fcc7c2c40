// Two windows of headless Chromium on the page of the example broadcast. The last case interrupts the
// server, whose process id is an argument.

import assert from "node:assert/strict";
import process from "node:process";
import { args, run, test } from "./cases.mjs";
import { launch, visit } from "./windows.mjs";

const [TICKER, PID, CHROMIUM] = args("TICKER_HOST:PORT", "TICKER_PID", "CHROMIUM");

const browser = await launch(CHROMIUM);
const complaints = [];
const [one, two] = await Promise.all([1, 2].map(() => visit(browser, `http://${TICKER}/`, complaints)));

const count = async (page, id) => Number(await page.textContent(id));

test("prices come by themselves, of each symbol", async () => {
  for (const page of [one, two]) {
    await page.waitForSelector("main[data-state=open]");
    await page.waitForFunction(() => document.querySelectorAll("#rows tr").length === 6);
    for (const price of await page.locator("#rows .price").allTextContents()) {
      assert.match(price, /^\d+\.\d\d$/);
    }
  }
});

test("both windows are counted, and miss nothing", async () => {
  for (const page of [one, two]) {
    const before = await count(page, "#received");
    await page.waitForFunction(
      (before) => Number(document.querySelector("#received").textContent) >= before + 10, before);
    assert.equal(await count(page, "#watching"), 2);
    assert.equal(await count(page, "#missed"), 0);
  }
});

test("who leaves is not counted any more", async () => {
  await two.close();
  await one.waitForFunction(() => document.querySelector("#watching").textContent === "1");
});

test("the page complains about nothing, and shows 1001 when the server is interrupted", async () => {
  assert.deepEqual(complaints, []);
  process.kill(Number(PID), "SIGINT");
  await one.waitForSelector("#note[data-code='1001']");
  await browser.close();
});

await run("ticker");
