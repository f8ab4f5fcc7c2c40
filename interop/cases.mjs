// Runs cases one after the other, each with a time limit, and prints a line for each.

import assert from "node:assert/strict";
import process from "node:process";

const LIMIT_MS = 60_000;
const cases = [];

/** Notes a case, to be run by `run`. */
export function test(name, body) {
  cases.push({ name, body });
}

/** Runs all cases; the process ends with 1 if one has failed. */
export async function run(suite) {
  let failed = 0;
  for (const { name, body } of cases) {
    const began = performance.now();
    try {
      await within(LIMIT_MS, body());
      console.log(`ok      ${suite}: ${name} (${Math.round(performance.now() - began)} ms)`);
    } catch (error) {
      failed += 1;
      console.log(`FAILED  ${suite}: ${name}`);
      console.log(String(error?.stack ?? error).replace(/^/gm, "        "));
    }
  }
  console.log(`${cases.length - failed} passed, ${failed} failed`);
  // Not by falling off the end: a connection that a failed case left open would hold that up.
  process.exit(failed === 0 ? 0 : 1);
}

/** The value of `promise`; an error if it takes longer than `ms`. */
export function within(ms, promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not done within ${ms} ms`)), ms);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** Bytes that look random and are the same every time (xorshift32). */
export function bytes(length, seed = 1) {
  const buffer = Buffer.alloc(length);
  let x = seed * 2654435761 | 1;
  for (let i = 0; i < length; i++) {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    buffer[i] = x;
  }
  return buffer;
}

/** As `assert.equal` for buffers, without printing megabytes. */
export function sameBytes(actual, expected) {
  assert.equal(actual.length, expected.length, "length");
  if (!expected.equals(actual)) {
    const at = expected.findIndex((byte, i) => byte !== actual[i]);
    assert.fail(`byte ${at} of ${expected.length} is ${actual[at]} instead of ${expected[at]}`);
  }
}

/** The arguments, by the names the script gives them. */
export function args(...names) {
  const values = process.argv.slice(2);
  if (values.length < names.filter((name) => !name.startsWith("[")).length) {
    console.error(`usage: node ${process.argv[1]} ${names.join(" ")}`);
    process.exit(2);
  }
  return values;
}
