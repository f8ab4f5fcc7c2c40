// Servers by npm's `ws` for the example `interop_client`, which says what they have to do. The first
// line tells where they are.

import { readFileSync } from "node:fs";
import http from "node:http";
import https from "node:https";
import process from "node:process";
import WebSocket, { WebSocketServer } from "ws";

const [certfile, keyfile] = process.argv.slice(2);
const MIB = 1 << 20;
const PERIOD = 251;

const closed = { last: "" };

/** What the client makes and expects. */
function pattern(length) {
  return Buffer.alloc(length).map((_, i) => i % PERIOD);
}

function isPattern(data) {
  const expected = pattern(PERIOD * 4096);
  for (let at = 0; at < data.length; at += expected.length) {
    const piece = data.subarray(at, at + expected.length);
    if (!piece.equals(expected.subarray(0, piece.length))) return false;
  }
  return true;
}

/** Sends a fragment, and waits until the socket has taken it. */
function fragment(ws, data, options) {
  return new Promise((resolve, reject) => {
    ws.send(data, options, (error) => (error ? reject(error) : resolve()));
  });
}

const paths = {
  "/echo"(ws) {
    ws.on("message", (data, binary) => ws.send(data, { binary }));
  },
  "/greet"(ws) {
    ws.send("first");
    ws.send("second");
    ws.close(1000);
  },
  "/ping"(ws) {
    ws.on("pong", (data) => ws.send(`pong: ${data}`));
    ws.ping("are you there");
  },
  "/close"(ws, request) {
    const [, code, reason] = /\?(\d+),(.*)$/.exec(request.url);
    ws.close(Number(code), decodeURIComponent(reason));
  },
  "/closed"(ws) {
    ws.on("close", (code, reason) => {
      closed.last = `${code} ${reason}`;
    });
  },
  "/last"(ws) {
    ws.send(closed.last);
    ws.close(1000);
  },
  "/headers"(ws, request) {
    const lines = Object.entries(request.headers).map(([name, value]) => `${name}: ${value}`);
    ws.send([`target: ${request.url}`, ...lines].join("\n"));
  },
  "/auth"(ws) {
    ws.send("welcome");
  },
  async "/fragments"(ws) {
    for (const word of ["one ", "", "two "]) await fragment(ws, word, { fin: false });
    ws.ping("in between");
    await fragment(ws, "three", { fin: true });
    const data = pattern(300_000);
    for (let at = 0; at < data.length; at += 70_000) {
      const fin = at + 70_000 >= data.length;
      await fragment(ws, data.subarray(at, at + 70_000), { fin, binary: true });
    }
    ws.send("whole");
  },
  "/count"(ws) {
    ws.on("message", (data) => ws.send(`${data.length} ${isPattern(data)}`));
  },
  async "/stream"(ws, request) {
    const length = Number(/\?(\d+)$/.exec(request.url)[1]);
    const piece = pattern(PERIOD * 1024);
    for (let at = 0; at < length; at += piece.length) {
      const fin = at + piece.length >= length;
      await fragment(ws, piece.subarray(0, length - at), { fin, binary: true });
    }
  },
};

function refusal(status, body, headers = {}) {
  const reason = http.STATUS_CODES[status];
  const lines = Object.entries({ "Content-Length": body.length, ...headers });
  const head = lines.map(([name, value]) => `${name}: ${value}\r\n`).join("");
  // Not closed: HTTP/1.1 keeps connections open.
  return `HTTP/1.1 ${status} ${reason}\r\n${head}\r\n${body}`;
}

function refused(request) {
  switch (request.url.split("?")[0]) {
    case "/auth": {
      const basic = `Basic ${Buffer.from("me:5ec ret").toString("base64")}`;
      if (request.headers.authorization === basic) return null;
      return refusal(401, "who are you", { "WWW-Authenticate": "Basic realm=x" });
    }
    case "/forbidden":
      return refusal(403, "not you");
    case "/moved":
      return refusal(302, "", { Location: "/echo" });
    case "/chunked": {
      const head = "HTTP/1.1 503 Service Unavailable\r\nTransfer-Encoding: chunked\r\n\r\n";
      return `${head}5\r\ncome \r\na\r\nback later\r\n0\r\n\r\n`;
    }
    default:
      return request.url.split("?")[0] in paths ? null : refusal(404, "nothing here");
  }
}

/** Listens at a free port; gives its number. */
async function serve(server, perMessageDeflate) {
  const websockets = new WebSocketServer({
    noServer: true,
    maxPayload: 512 * MIB,
    perMessageDeflate,
    handleProtocols: (offered) => ["chat.v1", "chat.v2"].reverse().find((p) => offered.has(p)) ?? false,
  });
  server.on("upgrade", (request, socket, head) => {
    socket.on("error", () => {});
    const answer = refused(request);
    if (answer !== null) {
      socket.write(answer);
      return;
    }
    // The handshake and what is sent at once leave together.
    socket.cork();
    websockets.handleUpgrade(request, socket, head, (ws) => {
      ws.on("error", () => {});
      paths[request.url.split("?")[0]](ws, request);
    });
    process.nextTick(() => socket.uncork());
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return server.address().port;
}

const small = { serverMaxWindowBits: 9, clientMaxWindowBits: 9, threshold: 0 };
const secure = { cert: readFileSync(certfile), key: readFileSync(keyfile) };
const urls = {
  plain: `ws://127.0.0.1:${await serve(http.createServer(), false)}`,
  deflate: `ws://127.0.0.1:${await serve(http.createServer(), { threshold: 0 })}`,
  small: `ws://127.0.0.1:${await serve(http.createServer(), small)}`,
  secure: `wss://localhost:${await serve(https.createServer(secure), { threshold: 0 })}`,
};
console.log(Object.entries(urls).map((entry) => entry.join("=")).join(" "));
