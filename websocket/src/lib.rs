//! greenwood-websocket.
