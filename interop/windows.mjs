// Headless Chromium, and windows of it.

import { chromium } from "playwright-core";

/** Starts Chromium. */
export function launch(executablePath) {
  return chromium.launch({
    executablePath,
    timeout: 60_000,
    args: [
      // CI runs as root, where Chromium's sandbox does not work.
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      // Nothing but the page is to be fetched.
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
    ],
  });
}

/** Opens a page in a window of its own; what goes wrong in it is put with the complaints. */
export async function visit(browser, url, complaints) {
  const page = await browser.newPage({ viewport: { width: 900, height: 760 } });
  page.setDefaultTimeout(20_000);
  page.on("pageerror", (error) => complaints.push(error));
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) complaints.push(message.text());
  });
  await page.goto(url);
  return page;
}
