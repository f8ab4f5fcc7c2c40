// npm's `ws` and Node's https and tls against the example echo_tls.

import assert from "node:assert/strict";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import https from "node:https";
import tls from "node:tls";
import WebSocket from "ws";
import { args, bytes, run, sameBytes, test } from "./cases.mjs";

const [ECHO, CA] = args("ECHO_HOST:PORT", "CA_FILE");
const [, PORT] = ECHO.split(":");
const ca = readFileSync(CA);
const url = `wss://localhost:${PORT}/echo`;
const MIB = 1 << 20;

async function open(options = {}) {
  const ws = new WebSocket(url, { ca, perMessageDeflate: false, ...options });
  await once(ws, "open");
  return ws;
}

async function expectEcho(ws, data) {
  ws.send(data);
  const [message, binary] = await once(ws, "message");
  assert.equal(binary, typeof data !== "string", "text or binary");
  sameBytes(message, Buffer.from(data));
}

async function close(ws) {
  ws.close(1000, "done");
  const [code] = await once(ws, "close");
  assert.equal(code, 1000);
}

for (const perMessageDeflate of [false, true]) {
  for (const version of ["TLSv1.2", "TLSv1.3"]) {
    test(`ws echoes over ${version}, ${perMessageDeflate ? "" : "not "}compressed`, async () => {
      const ws = await open({ perMessageDeflate, minVersion: version, maxVersion: version });
      assert.equal(ws.extensions.startsWith("permessage-deflate"), perMessageDeflate);
      for (const size of [0, 1, 125, 126, 16_384, 65_536, MIB]) {
        await expectEcho(ws, bytes(size));
        await expectEcho(ws, "x".repeat(size));
      }
      await close(ws);
    });
  }
}

test("1,000 messages in one go come back in order", async () => {
  const ws = await open();
  const received = [];
  const done = new Promise((resolve) => {
    ws.on("message", (data) => received.push(String(data)) === 1000 && resolve());
  });
  for (let i = 0; i < 1000; i++) ws.send(`message ${i}`);
  await done;
  assert.deepEqual(received, Array.from({ length: 1000 }, (_, i) => `message ${i}`));
  await close(ws);
});

test("20 MiB in flight both ways at once arrive whole", async () => {
  const ws = await open();
  const sent = Array.from({ length: 20 }, (_, i) => bytes(MIB, i + 1));
  for (const message of sent) ws.send(message);
  let next = 0;
  await new Promise((resolve, reject) => {
    ws.on("close", () => reject(new Error("closed")));
    ws.on("message", (data) => {
      sameBytes(data, sent[next]);
      next += 1;
      if (next === sent.length) resolve();
    });
  });
  ws.removeAllListeners("close");
  await close(ws);
});

test("a certificate that nobody vouches for is not accepted", async () => {
  const ws = new WebSocket(url, { ca: undefined });
  const [error] = await once(ws, "error");
  assert.match(error.code, /SELF_SIGNED|UNABLE_TO_VERIFY/);
});

test("https keeps its connection", async () => {
  const agent = new https.Agent({ ca, keepAlive: true, maxSockets: 1 });
  const ports = new Set();
  for (let i = 0; i < 5; i++) {
    const request = https.get(`https://localhost:${PORT}/tls`, { agent });
    const [response] = await once(request, "response");
    let text = "";
    for await (const piece of response) text += piece;
    assert.match(text, /^TLSv1\.3 TLS_.*, name localhost, .*scheme https\n$/);
    ports.add(request.socket.localPort);
  }
  assert.equal(ports.size, 1);
  agent.destroy();
});

test("the server answers the end with its own", async () => {
  const socket = tls.connect({ host: "localhost", port: PORT, ca, servername: "localhost" });
  await once(socket, "secureConnect");
  socket.end();
  socket.resume();
  await once(socket, "end");
});

await run("node tls");
