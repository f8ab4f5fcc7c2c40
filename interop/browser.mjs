// Headless Chromium on the page of the example echo, as a person would use it.
//
// The last case interrupts the server, whose process id is an argument.

import assert from "node:assert/strict";
import process from "node:process";
import { args, run, test } from "./cases.mjs";
import { launch } from "./windows.mjs";

const [ECHO, PID, CHROMIUM, SCREENSHOT] = args("ECHO_HOST:PORT", "ECHO_PID", "CHROMIUM", "[SCREENSHOT]");

const browser = await launch(CHROMIUM);
const complaints = [];
const requests = [];
const page = await visit({ width: 900, height: 760 });

async function visit(viewport, colorScheme = "light") {
  const page = await browser.newPage({ viewport, colorScheme });
  page.setDefaultTimeout(20_000);
  page.on("pageerror", (error) => complaints.push(error));
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) complaints.push(message.text());
  });
  page.on("request", (request) => requests.push(request.url()));
  await page.goto(`http://${ECHO}/`);
  await page.waitForSelector("main[data-state=open]");
  return page;
}

const bubble = (kind) => page.locator(`#log .${kind} .bubble`).last();

async function roundTrips(n) {
  await page.waitForFunction((n) => document.querySelectorAll("#log .received").length === n, n);
}

test("the page connects and says so", async () => {
  assert.equal(await page.title(), "Greenwood echo");
  assert.equal(await page.textContent("#state"), "open");
  assert.equal(await page.textContent("#url"), `ws://${ECHO}/echo`);
});

test("what is typed comes back, with its round-trip time", async () => {
  await page.keyboard.type("hello, greenwood"); // the field has the focus from the start
  await page.keyboard.press("Enter");
  await roundTrips(1);
  assert.equal(await bubble("sent").textContent(), "hello, greenwood");
  assert.equal(await bubble("received").textContent(), "hello, greenwood");
  assert.match(await page.textContent("#log .received .meta"), /^↓ text, 16 B · [\d.]+ m?s$/);
  assert.equal(await page.inputValue("#text"), "");
});

test("markup is shown as text", async () => {
  await page.fill("#text", "<img src=x onerror=alert(1)>");
  await page.click("#send");
  await roundTrips(2);
  assert.equal(await bubble("received").textContent(), "<img src=x onerror=alert(1)>");
  assert.equal(await page.locator("#log img").count(), 0);
});

test("arrow up brings back what was sent", async () => {
  await page.focus("#text");
  await page.keyboard.press("ArrowUp");
  await page.keyboard.press("ArrowUp");
  assert.equal(await page.inputValue("#text"), "hello, greenwood");
  await page.keyboard.press("Enter");
  await roundTrips(3);
});

test("random bytes come back as they were", async () => {
  await page.click("#binary");
  await roundTrips(4);
  const received = await bubble("received").textContent();
  assert.match(received, /^([0-9a-f]{2} ){63}[0-9a-f]{2}$/);
  assert.equal(await bubble("sent").textContent(), received);
});

test("a file comes back", async () => {
  const buffer = Buffer.alloc(200_000, 7);
  await page.setInputFiles("#file", { name: "seven", mimeType: "application/octet-stream", buffer });
  await roundTrips(5);
  assert.match(await page.locator("#log .received .meta").last().textContent(), /binary, 195\.3 KiB/);
  assert.equal(await page.locator("#log .bad").count(), 0, "something differs from what was sent");
});

test("1,000 messages come back in order", async () => {
  await page.click("#burst");
  const note = page.locator("#log .note").filter({ hasText: "1,000 messages" });
  await note.waitFor();
  assert.match(await note.textContent(), /there and back in [\d.]+ m?s \([\d,]+ per second, in order\)/);
  assert.equal(await page.textContent("#echoed"), "1,005");
});

test("close and reconnect", async () => {
  await page.click("#toggle");
  await page.waitForSelector("main[data-state=closed]");
  assert.match(await page.locator("#log .note").last().textContent(), /^Closed with 1000 normal closure/);
  assert.equal(await page.isDisabled("#send"), true);
  await page.click("#toggle");
  await page.waitForSelector("main[data-state=open]");
  await page.keyboard.type("back again"); // reconnecting puts the focus into the field
  await page.keyboard.press("Enter");
  await roundTrips(6);
});

test("a file over the limit ends with 1009", async () => {
  const buffer = Buffer.alloc((1 << 20) + 1);
  await page.setInputFiles("#file", { name: "large", mimeType: "application/octet-stream", buffer });
  await page.waitForSelector("main[data-state=closed]");
  assert.match(await page.locator("#log .note").last().textContent(), /^Closed with 1009 message too big/);
  await page.click("#toggle");
  await page.waitForSelector("main[data-state=open]");
});

test("escape clears the log", async () => {
  await page.focus("#text");
  await page.keyboard.press("Escape");
  assert.equal(await page.locator("#log li").count(), 0);
});

test("the page fits a phone", async () => {
  const phone = await visit({ width: 360, height: 640 }, "dark");
  await phone.keyboard.type("w".repeat(200));
  await phone.keyboard.press("Enter");
  await phone.waitForSelector("#log .received");
  const [width, scroll] = await phone.evaluate(() => {
    const root = document.documentElement;
    return [root.clientWidth, Math.max(root.scrollWidth, document.querySelector("main").scrollWidth)];
  });
  assert.ok(scroll <= width, `${scroll} px wide on a screen of ${width} px`);
  for (const id of ["#text", "#send", "#toggle"]) {
    const box = await phone.locator(id).boundingBox();
    assert.ok(box.x >= 0 && box.x + box.width <= width && box.y + box.height <= 640, `${id} is cut off`);
  }
  await phone.close();
});

test("a screenshot can be taken", async () => {
  const texts = ["hello, greenwood", "plain blocking code, no async"];
  for (const [i, text] of texts.entries()) {
    await page.fill("#text", text);
    await page.keyboard.press("Enter");
    await roundTrips(i + 1);
  }
  await page.click("#binary");
  await roundTrips(3);
  await page.click("#burst");
  await page.locator("#log .note").filter({ hasText: "1,000 messages" }).waitFor();
  await page.focus("#text");
  const png = await page.screenshot({ path: SCREENSHOT, animations: "disabled" });
  assert.ok(png.length > 10_000, `a picture of ${png.length} bytes`);
});

test("the page fetches nothing but itself and complains about nothing", async () => {
  for (const url of requests) {
    assert.ok(url === `http://${ECHO}/` || url.startsWith("data:"), url);
  }
  assert.deepEqual(complaints, []);
});

test("the page shows 1001 when the server is interrupted", async () => {
  process.kill(Number(PID), "SIGINT");
  await page.waitForSelector("#log .note[data-code='1001']");
  assert.match(await page.locator("#log .note").last().textContent(), /^Closed with 1001 going away/);
  assert.equal(await page.textContent("#state"), "closed");
  await browser.close();
});

await run("browser");
