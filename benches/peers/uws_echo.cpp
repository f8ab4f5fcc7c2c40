// An echo server on uWebSockets, one thread, without TLS and compression. At /fanout each message
// goes to all who are connected there.
// Usage: uws_echo PORT
#include "App.h"

#include <cstdlib>
#include <iostream>
#include <string_view>

namespace {

constexpr unsigned kMaxMessage = 100 * 1024 * 1024;

struct Nothing {};

using Socket = uWS::WebSocket<false, true, Nothing>;

uWS::App::WebSocketBehavior<Nothing> behavior() {
    uWS::App::WebSocketBehavior<Nothing> behavior;
    behavior.compression = uWS::DISABLED;
    behavior.maxPayloadLength = kMaxMessage;
    // What is sent faster than it is read is kept, as the other servers do.
    behavior.maxBackpressure = kMaxMessage;
    behavior.closeOnBackpressureLimit = false;
    return behavior;
}

}  // namespace

int main(int argc, char **argv) {
    const int port = argc == 2 ? std::atoi(argv[1]) : 0;
    if (port <= 0 || port > 65535) {
        std::cerr << "usage: uws_echo PORT\n";
        return 2;
    }

    uWS::App::WebSocketBehavior<Nothing> echo = behavior();
    echo.message = [](Socket *socket, std::string_view message, uWS::OpCode opcode) {
        socket->send(message, opcode, false);
    };

    uWS::App app;
    uWS::App::WebSocketBehavior<Nothing> fanout = behavior();
    fanout.open = [](Socket *socket) { socket->subscribe("room"); };
    fanout.message = [&app](Socket *, std::string_view message, uWS::OpCode opcode) {
        app.publish("room", message, opcode, false);
    };

    bool listening = false;
    app.ws<Nothing>("/fanout", std::move(fanout));
    app.ws<Nothing>("/*", std::move(echo));
    app.listen("127.0.0.1", port, [&](auto *socket) { listening = socket != nullptr; });
    if (!listening) {
        std::cerr << "uws_echo: can't listen on port " << port << "\n";
        return 1;
    }
    app.run();
    return 0;
}
