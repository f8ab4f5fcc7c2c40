// An echo server on Bun's own WebSockets. At /fanout each message goes to all who are connected
// there. Usage: bun bun_echo.js PORT
const LIMIT = 100 * 1024 * 1024;

const server = Bun.serve({
  hostname: "127.0.0.1",
  port: Number(process.argv[2]),
  fetch(request, server) {
    const fanout = new URL(request.url).pathname === "/fanout";
    if (!server.upgrade(request, { data: { fanout } })) {
      return new Response("this server echoes WebSocket messages", { status: 404 });
    }
  },
  websocket: {
    perMessageDeflate: false,
    maxPayloadLength: LIMIT,
    // What is sent faster than it is read is kept, as the other servers do.
    backpressureLimit: LIMIT,
    open(socket) {
      if (socket.data.fanout) socket.subscribe("room");
    },
    message(socket, message) {
      if (socket.data.fanout) server.publish("room", message, false);
      else socket.send(message, false);
    },
  },
});
