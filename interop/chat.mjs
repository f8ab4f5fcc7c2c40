// Two windows of headless Chromium in a room of the example chat, as two people would use it, and one in
// the room beside it. The last case interrupts the server, whose process id is an argument.

import assert from "node:assert/strict";
import process from "node:process";
import { args, run, test } from "./cases.mjs";
import { launch, visit } from "./windows.mjs";

const [CHAT, PID, CHROMIUM] = args("CHAT_HOST:PORT", "CHAT_PID", "CHROMIUM");

const browser = await launch(CHROMIUM);
const complaints = [];
const [ann, bob, eve] = await Promise.all(["", "", "#elsewhere"].map((room) => open(room)));

async function open(room) {
  const page = await visit(browser, `http://${CHAT}/${room}`, complaints);
  await page.waitForSelector("#enter:not([hidden])");
  return page;
}

async function enter(page, name) {
  await page.fill("#name", name);
  await page.keyboard.press("Enter");
  await page.waitForSelector(`#people .me:text-is("${name}")`);
}

async function say(page, text) {
  await page.fill("#text", text);
  await page.keyboard.press("Enter");
}

const people = (page) => page.locator("#people li").allTextContents();
const said = (page) => page.locator("#log .said .bubble").allTextContents();
const last = (page, text) => page.locator("#log .said .bubble").last().filter({ hasText: text }).waitFor();
const note = (page, text) => page.locator("#log .note").filter({ hasText: text }).last().waitFor();

test("who comes is seen by those who are there", async () => {
  await enter(ann, "Ann");
  assert.deepEqual(await people(ann), ["Ann"]);
  await enter(bob, "Bob");
  await note(ann, "Bob has come");
  for (const page of [ann, bob]) assert.deepEqual(await people(page), ["Ann", "Bob"]);
});

test("both windows see what either says, in order", async () => {
  await say(ann, "hello, Bob");
  await last(bob, "hello, Bob");
  await say(bob, "hello, Ann");
  await last(ann, "hello, Ann");
  for (let i = 0; i < 20; i++) await say(i % 3 ? ann : bob, `number ${i}`);
  for (const page of [ann, bob]) {
    await page.waitForFunction(() => document.querySelectorAll("#log .said").length === 22);
  }
  assert.deepEqual(await said(bob), await said(ann));
  assert.equal(await bob.locator("#log .mine").count(), 8);
  assert.equal(await ann.locator("#log .mine").count(), 14);
});

test("another room hears nothing of it", async () => {
  assert.equal(await eve.textContent("#room"), "room elsewhere");
  await enter(eve, "Ann"); // free in this room
  await say(eve, "anybody here?");
  await last(eve, "anybody here?");
  assert.deepEqual(await said(eve), ["anybody here?"]);
  assert.deepEqual(await people(eve), ["Ann"]);
});

test("markup is shown as text", async () => {
  await say(ann, "<img src=x onerror=alert(1)>");
  await last(bob, "<img src=x onerror=alert(1)>");
  assert.equal(await bob.locator("#log img").count(), 0);
});

test("a name that is taken is refused", async () => {
  const third = await open("");
  await third.fill("#name", "Bob");
  await third.keyboard.press("Enter");
  await third.waitForSelector("#log .note[data-code='4000']");
  await enter(third, "Eve");
  await note(ann, "Eve has come");
  assert.deepEqual(await people(third), ["Ann", "Bob", "Eve"]);
  await third.close();
  await note(bob, "Eve has left");
  assert.deepEqual(await people(bob), ["Ann", "Bob"]);
});

test("who was interrupted can come back", async () => {
  await bob.reload();
  await note(ann, "Bob has left");
  await enter(bob, "Bob");
  assert.deepEqual(await people(ann), ["Ann", "Bob"]);
  await say(bob, "back again");
  await last(ann, "back again");
});

test("the page complains about nothing, and shows 1001 when the server is interrupted", async () => {
  assert.deepEqual(complaints, []);
  process.kill(Number(PID), "SIGINT");
  for (const page of [ann, bob, eve]) await page.waitForSelector("#log .note[data-code='1001']");
  await browser.close();
});

await run("chat");
