// An echo server on uWebSockets, one thread, without TLS and compression.
// Usage: uws_echo PORT
#include "App.h"

#include <cstdlib>
#include <iostream>
#include <string_view>

namespace {

constexpr unsigned kMaxMessage = 100 * 1024 * 1024;

struct Nothing {};

using Socket = uWS::WebSocket<false, true, Nothing>;

}  // namespace

int main(int argc, char **argv) {
    const int port = argc == 2 ? std::atoi(argv[1]) : 0;
    if (port <= 0 || port > 65535) {
        std::cerr << "usage: uws_echo PORT\n";
        return 2;
    }

    uWS::App::WebSocketBehavior<Nothing> echo;
    echo.compression = uWS::DISABLED;
    echo.maxPayloadLength = kMaxMessage;
    // What is sent faster than it is read is kept, as the other servers do.
    echo.maxBackpressure = kMaxMessage;
    echo.closeOnBackpressureLimit = false;
    echo.message = [](Socket *socket, std::string_view message, uWS::OpCode opcode) {
        socket->send(message, opcode, false);
    };

    bool listening = false;
    uWS::App app;
    app.ws<Nothing>("/*", std::move(echo));
    app.listen("127.0.0.1", port, [&](auto *socket) { listening = socket != nullptr; });
    if (!listening) {
        std::cerr << "uws_echo: can't listen on port " << port << "\n";
        return 1;
    }
    app.run();
    return 0;
}
