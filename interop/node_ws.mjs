// npm's `ws` against the servers of the examples: echo (messages up to 1 MiB) and echo_bench (64 MiB).

import assert from "node:assert/strict";
import { once } from "node:events";
import WebSocket from "ws";
import { args, bytes, run, sameBytes, test } from "./cases.mjs";

const [ECHO, BENCH] = args("ECHO_HOST:PORT", "BENCH_HOST:PORT");
const echo = `ws://${ECHO}/echo`;
const bench = `ws://${BENCH}/`;

const MIB = 1 << 20;
const SIZES = [0, 1, 125, 126, 127, 65_535, 65_536, 65_537, MIB, 16 * MIB];

async function open(url, options = {}) {
  const ws = new WebSocket(url, { perMessageDeflate: false, maxPayload: 64 * MIB, ...options });
  await once(ws, "open");
  return new Client(ws);
}

/** A connection whose messages are waited for one by one. */
class Client {
  #messages = [];
  #waiting = [];

  constructor(ws) {
    this.ws = ws;
    this.closed = new Promise((resolve) => {
      ws.on("close", (code, reason) => {
        resolve({ code, reason: String(reason) });
        for (const { reject } of this.#waiting) reject(new Error(`closed with ${code}`));
      });
    });
    ws.on("error", () => {}); // "close" follows
    ws.on("message", (data, binary) => {
      const message = { data, binary };
      const first = this.#waiting.shift();
      if (first) first.resolve(message);
      else this.#messages.push(message);
    });
  }

  receive() {
    if (this.#messages.length > 0) return Promise.resolve(this.#messages.shift());
    return new Promise((resolve, reject) => this.#waiting.push({ resolve, reject }));
  }

  async expectEcho(data) {
    const binary = typeof data !== "string";
    this.ws.send(data);
    const message = await this.receive();
    assert.equal(message.binary, binary, "text or binary");
    sameBytes(message.data, Buffer.from(data));
  }

  /** Closes, and gives the code that the server answers with. */
  async close(code, reason) {
    this.ws.close(code, reason);
    return (await this.closed).code;
  }
}

test("text comes back as text", async () => {
  const client = await open(echo);
  for (const text of ["hello", "", "grün wie der Wald", "🌲".repeat(1000), "\u0000 \u{10ffff}"]) {
    await client.expectEcho(text);
  }
  assert.equal(await client.close(1000), 1000);
});

test("binary comes back as binary", async () => {
  const client = await open(echo);
  for (const length of [0, 1, 3, 4, 5, 8, 63, 1000]) await client.expectEcho(bytes(length));
  assert.equal(await client.close(1000), 1000);
});

for (const size of SIZES) {
  test(`${size} bytes, binary and text`, async () => {
    const client = await open(bench);
    await client.expectEcho(bytes(size));
    await client.expectEcho("x".repeat(size));
    assert.equal(await client.close(1000), 1000);
  });
}

for (const deflate of [
  true,
  { threshold: 0 },
  { threshold: 0, serverNoContextTakeover: true, clientNoContextTakeover: true },
  { threshold: 0, serverMaxWindowBits: 9, clientMaxWindowBits: 9 },
  { threshold: 0, serverMaxWindowBits: 8, clientMaxWindowBits: 10 },
]) {
  test(`messages are compressed: ${JSON.stringify(deflate)}`, async () => {
    const client = await open(echo, { perMessageDeflate: deflate });
    assert.equal(client.ws.extensions, "permessage-deflate");
    for (let round = 0; round < 3; round++) {
      for (const length of [0, 1, 125, 1_023, 1_024, 65_536, MIB]) {
        await client.expectEcho(bytes(length));
        await client.expectEcho("grün wie der Wald, ".repeat(length / 20));
      }
    }
    // In fragments, of which the first says so.
    const text = "fragments ".repeat(5_000);
    for (let at = 0; at < text.length; at += 7_000) {
      client.ws.send(text.slice(at, at + 7_000), { fin: at + 7_000 >= text.length });
      client.ws.ping();
    }
    assert.equal(String((await client.receive()).data), text);
    assert.equal(await client.close(1000), 1000);
  });
}

test("a compressed message over the limit ends with 1009", async () => {
  const client = await open(echo, { perMessageDeflate: true });
  client.ws.send(Buffer.alloc(8 * MIB));
  assert.equal((await client.closed).code, 1009);
});

test("fragments are put together, with pings between them", async () => {
  const client = await open(bench);
  for (const [pieces, length] of [[2, 1], [3, 0], [100, 1000], [17, 65_536]]) {
    const whole = bytes(pieces * length);
    for (let i = 0; i < pieces; i++) {
      const piece = whole.subarray(i * length, (i + 1) * length);
      client.ws.send(piece, { fin: i === pieces - 1, binary: true });
      if (i % 10 === 1) client.ws.ping();
    }
    const { data, binary } = await client.receive();
    assert.equal(binary, true);
    sameBytes(data, whole);
  }
  // Cut inside the bytes of one character.
  const tree = Buffer.from("🌲");
  client.ws.send(tree.subarray(0, 2), { fin: false, binary: false });
  client.ws.send(tree.subarray(2), { fin: true, binary: false });
  const { data, binary } = await client.receive();
  assert.equal(binary, false);
  assert.equal(String(data), "🌲");
  assert.equal(await client.close(1000), 1000);
});

test("pings are answered with the same payload, in order", async () => {
  const { ws } = await open(echo);
  for (const payload of [Buffer.alloc(0), Buffer.from("are you there"), bytes(125)]) {
    ws.ping(payload);
    const [answer] = await once(ws, "pong");
    sameBytes(answer, payload);
  }
  const answers = [];
  ws.on("pong", (payload) => answers.push(String(payload)));
  const sent = Array.from({ length: 100 }, (_, i) => String(i));
  for (const payload of sent) ws.ping(payload);
  while (answers.length < sent.length) await once(ws, "pong");
  assert.deepEqual(answers, sent);
  ws.terminate();
});

test("an unasked pong does no harm", async () => {
  const client = await open(echo);
  client.ws.pong("nobody asked");
  await client.expectEcho("still here");
  assert.equal(await client.close(1000), 1000);
});

for (const code of [1000, 1001, 1003, 1008, 1009, 1011, 1012, 1013, 1014, 3000, 4000, 4999]) {
  test(`close ${code} is answered with the same code`, async () => {
    const client = await open(echo);
    assert.equal(await client.close(code, "r".repeat(123)), code);
  });
}

test("close without a code is answered without one", async () => {
  const client = await open(echo);
  assert.equal(await client.close(), 1005);
});

test("messages sent before the close all come back", async () => {
  const client = await open(echo);
  for (let i = 0; i < 100; i++) client.ws.send(`${i}`);
  client.ws.close(1000);
  for (let i = 0; i < 100; i++) assert.equal(String((await client.receive()).data), `${i}`);
  assert.equal((await client.closed).code, 1000);
});

// Frames that `ws` itself would not send, written past it.
for (const [what, code, frame] of [
  ["a reserved opcode", 1002, [0x83, 0x80, 0, 0, 0, 0]],
  ["a reserved bit", 1002, [0xc1, 0x80, 0, 0, 0, 0]],
  ["an unmasked frame", 1002, [0x81, 0x01, 0x61]],
  ["a continuation of nothing", 1002, [0x80, 0x80, 0, 0, 0, 0]],
  ["a ping of 126 bytes", 1002, [0x89, 0xfe, 0, 126, 0, 0, 0, 0, ...bytes(126)]],
  ["a fragmented ping", 1002, [0x09, 0x80, 0, 0, 0, 0]],
  ["close code 1005", 1002, [0x88, 0x82, 0, 0, 0, 0, 0x03, 0xed]],
  ["a close of one byte", 1002, [0x88, 0x81, 0, 0, 0, 0, 0x03]],
  ["text that is not UTF-8", 1007, [0x81, 0x81, 0, 0, 0, 0, 0xff]],
]) {
  test(`${what} is answered with ${code}`, async () => {
    const client = await open(echo);
    client.ws._socket.write(Buffer.from(frame));
    assert.equal((await client.closed).code, code);
  });
}

test("a message over the limit is answered with 1009", async () => {
  const client = await open(echo);
  await client.expectEcho(bytes(MIB));
  client.ws.send(bytes(MIB + 1));
  assert.equal((await client.closed).code, 1009);
});

test("the server's own close comes with code and reason", async () => {
  const client = await open(`ws://${ECHO}/`);
  assert.deepEqual(await client.closed, { code: 1008, reason: "the WebSocket is at /echo" });
});

test("1,000 messages come back in order", async () => {
  const client = await open(echo);
  for (let i = 0; i < 1000; i++) client.ws.send(i % 2 ? `message ${i}` : bytes(i, i));
  for (let i = 0; i < 1000; i++) {
    const { data, binary } = await client.receive();
    assert.equal(binary, i % 2 === 0, `message ${i}`);
    sameBytes(data, i % 2 ? Buffer.from(`message ${i}`) : bytes(i, i));
  }
  assert.equal(await client.close(1000), 1000);
});

test("100 connections at once get their own messages", async () => {
  const clients = await Promise.all(Array.from({ length: 100 }, () => open(echo)));
  await Promise.all(clients.map(async (client, n) => {
    for (let i = 0; i < 20; i++) await client.expectEcho(`connection ${n}, message ${i}`);
  }));
  const codes = await Promise.all(clients.map((client) => client.close(1000)));
  assert.deepEqual(new Set(codes), new Set([1000]));
});

test("a client that reads late gets everything", async () => {
  const client = await open(bench);
  client.ws.pause();
  const sent = Array.from({ length: 32 }, (_, i) => bytes(MIB, i + 1));
  for (const data of sent) client.ws.send(data);
  await new Promise((resolve) => setTimeout(resolve, 500));
  client.ws.resume();
  for (const data of sent) sameBytes((await client.receive()).data, data);
  assert.equal(await client.close(1000), 1000);
});

test("connections that vanish do not disturb the others", async () => {
  const witness = await open(echo);
  for (let round = 0; round < 5; round++) {
    const clients = await Promise.all(Array.from({ length: 20 }, () => open(echo)));
    for (const [i, { ws }] of clients.entries()) {
      ws.send(bytes(10_000));
      if (i % 2) ws.terminate();
      else ws._socket.resetAndDestroy();
    }
    await Promise.all(clients.map((client) => client.closed));
    await witness.expectEcho(`round ${round}`);
  }
  assert.equal(await witness.close(1000), 1000);
});

test("permessage-deflate is declined when offered, and messages pass", async () => {
  const client = await open(bench, { perMessageDeflate: true });
  assert.equal(client.ws.extensions, "");
  await client.expectEcho("squeeze me ".repeat(10_000));
  await client.expectEcho(bytes(100_000));
  assert.equal(await client.close(1000), 1000);
});

test("no extension is agreed on when none is offered", async () => {
  const client = await open(echo);
  assert.equal(client.ws.extensions, "");
  assert.equal(client.ws.protocol, "");
  assert.equal(await client.close(1000), 1000);
});

test("an old protocol version is refused with 426", async () => {
  const ws = new WebSocket(echo, { protocolVersion: 8 });
  const [, response] = await once(ws, "unexpected-response");
  assert.equal(response.statusCode, 426);
  assert.equal(response.headers["sec-websocket-version"], "13");
  response.resume();
  await once(response, "end");
});

await run("ws");
