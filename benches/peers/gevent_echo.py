"""An echo server on gevent and gevent-websocket. Usage: gevent_echo.py PORT"""

import sys

from gevent.pywsgi import WSGIServer
from geventwebsocket.exceptions import WebSocketError
from geventwebsocket.handler import WebSocketHandler


def echo(environ, start_response):
    ws = environ["wsgi.websocket"]
    try:
        while (message := ws.receive()) is not None:
            # Text comes as str, everything else as bytearray.
            ws.send(message, binary=not isinstance(message, str))
    except WebSocketError:
        pass  # A client that goes away at once is no matter.
    return []


address = ("127.0.0.1", int(sys.argv[1]))
server = WSGIServer(address, echo, log=None, error_log=None, handler_class=WebSocketHandler)
server.serve_forever()
