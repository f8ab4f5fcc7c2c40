// npm's `ws` and Node's fetch, through nginx, against the example behind_nginx. The last case stops
// the server.

import assert from "node:assert/strict";
import { once } from "node:events";
import fs from "node:fs";
import https from "node:https";
import process from "node:process";
import { buffer } from "node:stream/consumers";
import WebSocket from "ws";
import { args, bytes, run, sameBytes, test } from "./cases.mjs";

const [HTTP, HTTPS, CERTIFICATE, PID, READ_TIMEOUT_MS] = args(
  "HTTP_HOST:PORT", "HTTPS_HOST:PORT", "CERTIFICATE", "SERVER_PID", "READ_TIMEOUT_MS",
);
const ca = fs.readFileSync(CERTIFICATE);
const MIB = 1 << 20;
const secure = `wss://${HTTPS}/ws`;
const plain = `ws://${HTTP}/ws`;

async function open(url, options = {}) {
  const ws = new WebSocket(url, { ca, maxPayload: 64 * MIB, ...options });
  ws.closed = new Promise((resolve) => {
    ws.on("close", (code, reason) => resolve({ code, reason: String(reason) }));
  });
  await once(ws, "open");
  return ws;
}

async function expectEcho(ws, data) {
  ws.send(data);
  const [answer, binary] = await once(ws, "message");
  assert.equal(binary, typeof data !== "string");
  sameBytes(answer, Buffer.from(data));
}

async function close(ws, code, reason) {
  ws.close(code, reason);
  return (await ws.closed).code;
}

/** A request over TLS; its status, headers and body. */
async function request(path, { method = "GET", headers = {}, body } = {}) {
  const sent = https.request(`https://${HTTPS}${path}`, { method, headers, ca });
  sent.end(body);
  const [response] = await once(sent, "response");
  return { status: response.statusCode, headers: response.headers, body: await buffer(response) };
}

for (const url of [plain, secure]) {
  for (const perMessageDeflate of [false, { threshold: 0 }]) {
    test(`${url.split(":")[0]}, compressed: ${!!perMessageDeflate}`, async () => {
      const ws = await open(url, { perMessageDeflate });
      assert.equal(ws.extensions, perMessageDeflate ? "permessage-deflate" : "");
      // Compressing keeps this client busy: not for as long as proxy_read_timeout.
      const largest = perMessageDeflate ? 4 * MIB : 16 * MIB;
      for (const length of [0, 1, 125, 126, 65_535, 65_536, MIB, largest]) {
        await expectEcho(ws, bytes(length));
        await expectEcho(ws, "grün wie der Wald, ".repeat(length / 20));
      }
      assert.equal(await close(ws, 1000), 1000);
    });
  }
}

test("many messages and fragments pass in order", async () => {
  const ws = await open(secure);
  const answers = [];
  ws.on("message", (data) => answers.push(data));
  const sent = Array.from({ length: 500 }, (_, i) => bytes(i * 37, i + 1));
  for (const data of sent) {
    ws.send(data.subarray(0, 100), { fin: false, binary: true });
    ws.ping();
    ws.send(data.subarray(100), { fin: true, binary: true });
  }
  while (answers.length < sent.length) await once(ws, "message");
  sent.forEach((data, i) => sameBytes(answers[i], data));
  assert.equal(await close(ws, 1000), 1000);
});

for (const code of [1000, 1001, 1003, 1008, 1011, 3000, 4999]) {
  test(`close ${code} passes both ways`, async () => {
    assert.equal(await close(await open(secure), code, "r".repeat(123)), code);
  });
}

test("close without a code stays without", async () => {
  assert.equal(await close(await open(secure)), 1005);
});

test("the server's close comes with code and reason", async () => {
  const ws = await open(`wss://${HTTPS}/elsewhere`);
  assert.deepEqual(await ws.closed, { code: 1008, reason: "the WebSocket is at /ws" });
});

test("what breaks the protocol is answered with 1002, not by nginx", async () => {
  const ws = await open(plain);
  ws.on("error", () => {});
  ws._socket.write(Buffer.from([0x83, 0x80, 0, 0, 0, 0]));
  assert.equal((await ws.closed).code, 1002);
});

test("100 connections at once get their own messages", async () => {
  const all = await Promise.all(Array.from({ length: 100 }, () => open(secure)));
  await Promise.all(all.map((ws, i) => expectEcho(ws, `connection ${i}`)));
  const codes = await Promise.all(all.map((ws) => close(ws, 1000)));
  assert.deepEqual(new Set(codes), new Set([1000]));
});

test("an idle connection outlives proxy_read_timeout by the server's pings", async () => {
  const ws = await open(secure);
  let pings = 0;
  ws.on("ping", () => pings++);
  await new Promise((resolve) => setTimeout(resolve, 3 * Number(READ_TIMEOUT_MS)));
  assert.ok(pings >= 3, `${pings} pings`);
  await expectEcho(ws, "still here");
  assert.equal(await close(ws, 1000), 1000);
});

test("refused handshakes come through, and harm nobody", async () => {
  for (const [options, status] of [
    [{ protocolVersion: 8 }, 426],
    [{ origin: "https://evil.example" }, 403],
  ]) {
    const ws = new WebSocket(secure, { ca, ...options });
    const [, response] = await once(ws, "unexpected-response");
    assert.equal(response.statusCode, status);
    response.resume();
    await once(response, "end");
    assert.equal((await request("/whoami")).status, 200);
  }
  const ws = await open(secure, { origin: `https://${HTTPS}` });
  assert.equal(await close(ws, 1000), 1000);
});

test("an upgrade to something else is a plain request", async () => {
  const headers = { Connection: "Upgrade, HTTP2-Settings", Upgrade: "h2c", "HTTP2-Settings": "" };
  assert.equal((await request("/whoami", { headers })).status, 200);
});

test("the client's address and scheme are nginx's word, not the client's", async () => {
  const headers = { "X-Forwarded-For": "6.6.6.6", "X-Forwarded-Proto": "gopher" };
  const { body } = await request("/whoami", { headers });
  assert.equal(String(body), `127.0.0.1 https ${HTTPS}\n`);
  const response = await fetch(`http://${HTTP}/whoami`, { headers });
  assert.equal(await response.text(), `127.0.0.1 http ${HTTP}\n`);
});

test("bodies pass both ways", async () => {
  for (const length of [0, 1, 65_536, 10 * MIB]) {
    const body = bytes(length);
    const response = await request("/body", { method: "POST", body });
    assert.equal(response.status, 200);
    sameBytes(response.body, body);
  }
  const response = await request("/body", { method: "POST", body: bytes(17 * MIB) });
  assert.equal(response.status, 413);
});

test("1,000 requests, and HEAD and 404 among them", async () => {
  for (let i = 0; i < 200; i++) {
    const statuses = await Promise.all([
      request("/whoami"), request("/whoami", { method: "HEAD" }), request("/nowhere"),
      request("/body", { method: "POST", body: "x" }), request("/whoami"),
    ]);
    assert.deepEqual(statuses.map(({ status }) => status), [200, 200, 404, 200, 200]);
  }
});

test("a server that stops closes its connections with 1001, and nginx says 502 then", async () => {
  const all = await Promise.all(Array.from({ length: 20 }, (_, i) => open(i % 2 ? plain : secure)));
  await Promise.all(all.map((ws) => expectEcho(ws, "hello")));
  process.kill(Number(PID), "SIGINT");
  for (const ws of all) assert.equal((await ws.closed).code, 1001);
  // It may still have been listening when the last connection ended.
  let status;
  do ({ status } = await request("/whoami"));
  while (status === 200);
  assert.equal(status, 502);
});

await run("nginx, ws and https");
