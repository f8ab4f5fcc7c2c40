// Node's fetch and http module against the example echo.

import assert from "node:assert/strict";
import { once } from "node:events";
import http from "node:http";
import net from "node:net";
import { text } from "node:stream/consumers";
import { args, bytes, run, sameBytes, test } from "./cases.mjs";

const [ECHO] = args("ECHO_HOST:PORT");
const [host, port] = ECHO.split(/:(?=\d+$)/);
const url = `http://${ECHO}`;

test("fetch gets the page", async () => {
  const response = await fetch(`${url}/`);
  assert.equal(response.status, 200);
  assert.equal(response.headers.get("content-type"), "text/html; charset=utf-8");
  const page = await response.text();
  assert.match(page, /^<!doctype html>/);
  assert.equal(Number(response.headers.get("content-length")), Buffer.byteLength(page));
  assert.match(response.headers.get("date"), / GMT$/);
});

test("fetch HEAD has the headers of GET and no body", async () => {
  const [get, head] = [await fetch(`${url}/`), await fetch(`${url}/`, { method: "HEAD" })];
  await get.arrayBuffer();
  assert.equal(head.status, 200);
  assert.equal(await head.text(), "");
  for (const name of ["content-type", "content-length", "cache-control"]) {
    assert.equal(head.headers.get(name), get.headers.get(name), name);
  }
});

for (const [method, path, status] of [
  ["GET", "/nowhere", 404], ["POST", "/", 405], ["DELETE", "/echo", 405], ["GET", "/echo", 426],
]) {
  test(`fetch ${method} ${path} gets ${status}`, async () => {
    const response = await fetch(url + path, { method });
    assert.equal(response.status, status);
    assert.notEqual(await response.text(), "");
  });
}

test("fetch gets posted bodies back", async () => {
  for (const length of [0, 1, 65_536, 5_000_000]) {
    const body = bytes(length);
    const response = await fetch(`${url}/echo`, { method: "POST", body });
    assert.equal(response.status, 200);
    sameBytes(Buffer.from(await response.arrayBuffer()), body);
  }
});

test("fetch gets a chunked body back", async () => {
  const body = bytes(300_000);
  const stream = new ReadableStream({
    start(controller) {
      for (let at = 0; at < body.length; at += 7001) controller.enqueue(body.subarray(at, at + 7001));
      controller.close();
    },
  });
  const response = await fetch(`${url}/echo`, { method: "POST", body: stream, duplex: "half" });
  assert.equal(response.status, 200);
  sameBytes(Buffer.from(await response.arrayBuffer()), body);
});

test("200 fetches at once", async () => {
  const statuses = await Promise.all(Array.from({ length: 200 }, async () => {
    const response = await fetch(`${url}/`);
    await response.arrayBuffer();
    return response.status;
  }));
  assert.deepEqual(new Set(statuses), new Set([200]));
});

test("100 requests go over one connection", async () => {
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
  for (let i = 0; i < 100; i++) {
    const request = http.get(`${url}/nowhere`, { agent });
    const [response] = await once(request, "response");
    await text(response);
    assert.equal(request.reusedSocket, i > 0, `request ${i}`);
  }
  agent.destroy();
});

test("100-continue comes before the body is sent", async () => {
  const request = http.request(`${url}/echo`, {
    method: "POST",
    headers: { Expect: "100-continue", "Content-Length": 5 },
  });
  request.flushHeaders();
  await once(request, "continue");
  request.end("later");
  const [response] = await once(request, "response");
  assert.equal(response.statusCode, 200);
  assert.equal(await text(response), "later");
});

test("100-continue is left out when the answer needs no body", async () => {
  const request = http.request(`${url}/`, {
    method: "POST",
    headers: { Expect: "100-continue", "Content-Length": 5 },
  });
  request.on("continue", () => assert.fail("100 for a body that nobody reads"));
  request.on("error", () => {}); // the server may close on what is left unsent
  request.flushHeaders();
  const [response] = await once(request, "response");
  assert.equal(response.statusCode, 405);
  request.destroy();
});

test("pipelined requests are answered in order", async () => {
  const socket = net.connect(Number(port), host);
  const paths = ["/", "/nowhere", "/echo", "/", "/nowhere"];
  socket.end(paths.map((path, i) =>
    `GET ${path} HTTP/1.1\r\nHost: ${ECHO}\r\n${i === paths.length - 1 ? "Connection: close\r\n" : ""}\r\n`,
  ).join(""));
  const answer = await text(socket);
  const statuses = [...answer.matchAll(/^HTTP\/1\.1 (\d+)/gm)].map(([, status]) => Number(status));
  assert.deepEqual(statuses, [200, 404, 426, 200, 404]);
});

await run("node http");
