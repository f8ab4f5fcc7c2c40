//! Chat rooms with a page to try them: the page is at `/`, and each room's WebSocket at
//! `/rooms/ROOM`.
//!
//! ```text
//! cargo run --release --example chat [ADDRESS:PORT]
//! ```
//!
//! Then open <http://127.0.0.1:8000/> in two windows; <http://127.0.0.1:8000/#forest> is another
//! room. The address is 127.0.0.1:8000 unless given; port 0 takes a free one. Ctrl-C closes the open
//! WebSockets with 1001 and ends the server.
//!
//! What a client sends first is its name; everything after that is said to the room. The server
//! sends JSON, with an `event` and the `name` of whom it is about: `joined` (first of all one's own,
//! with the `names` of all who are there now), `left`, and `said` with a `text`.

mod common;

use std::{
    collections::{BTreeSet, HashMap},
    process::ExitCode,
    sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use greenwood::{
    Body, CloseCode, Environ, Result, StartResponse, Subscription, Topic, TopicPolicy, WebSocket,
    WebSocketConfig, WebSocketEnviron, WebSocketHandler,
};
use serde_json::{Value, json};

const PAGE: &str = include_str!("chat.html");

/// The longest message, and the longest name of a person or a room, in bytes.
const MAX_MESSAGE: usize = 4096;
const MAX_NAME: usize = 40;

/// The name is not one, or somebody in the room has it.
const BAD_NAME: u16 = 4000;

/// Who is somewhere: a room exists as long as somebody is in it.
static ROOMS: LazyLock<Mutex<HashMap<String, Arc<Room>>>> = LazyLock::new(Mutex::default);

struct Room {
    /// Who can't keep up is disconnected with 1013: a chat with gaps is no chat.
    topic: Topic,
    /// Locked while a change is told, so that all hear of changes in their order. That never takes
    /// long: publishing does not wait for anybody under this policy.
    names: Mutex<BTreeSet<String>>,
}

/// Called for each request, in a greenlet of the connection's own.
fn app(environ: &mut Environ, start_response: StartResponse<'_>) -> Result<Body> {
    let Some(ws) = environ.websocket() else {
        return common::answer(environ, start_response, PAGE);
    };
    let path = environ.path().into_owned();
    match path.strip_prefix("/rooms/") {
        Some(room) if is_name(room) => chat(&ws, room)?,
        _ => ws.close(CloseCode::POLICY_VIOLATION, "rooms are at /rooms/ROOM")?,
    }
    Ok(Body::empty())
}

fn chat(ws: &WebSocket, room: &str) -> Result<()> {
    let Some(name) = ws.receive()? else {
        return Ok(());
    };
    let name = name.into_text().unwrap_or_default().trim().to_owned();
    let Some(visit) = Visit::begin(ws, room, &name) else {
        ws.close(CloseCode::from(BAD_NAME), "that name is taken, or none")?;
        return Ok(());
    };
    while let Some(message) = ws.receive()? {
        if let Some(text) = message.into_text() {
            visit.say(&text);
        }
    }
    Ok(())
}

/// Somebody's presence in a room. However it ends, the others are told.
struct Visit {
    place: String,
    name: String,
    room: Arc<Room>,
    _subscription: Subscription,
}

impl Visit {
    /// None if it is no name, or taken.
    fn begin(ws: &WebSocket, place: &str, name: &str) -> Option<Visit> {
        if !is_name(name) {
            return None;
        }
        let mut rooms = lock(&ROOMS);
        let new_room = || {
            Arc::new(Room {
                topic: Topic::new(TopicPolicy::Disconnect),
                names: Mutex::default(),
            })
        };
        let room = Arc::clone(rooms.entry(place.to_owned()).or_insert_with(new_room));
        let mut names = lock(&room.names);
        drop(rooms);
        if !names.insert(name.to_owned()) {
            return None;
        }
        let subscription = room.topic.subscribe(ws);
        room.tell(json!({ "event": "joined", "name": name, "names": *names }));
        drop(names);
        Some(Visit {
            place: place.to_owned(),
            name: name.to_owned(),
            room,
            _subscription: subscription,
        })
    }

    fn say(&self, text: &str) {
        let said = json!({ "event": "said", "name": self.name, "text": text });
        self.room.tell(said);
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        let mut rooms = lock(&ROOMS);
        let mut names = lock(&self.room.names);
        names.remove(&self.name);
        if names.is_empty() {
            rooms.remove(&self.place);
        }
        drop(rooms);
        self.room
            .tell(json!({ "event": "left", "name": self.name }));
    }
}

impl Room {
    fn tell(&self, event: Value) {
        self.topic.publish(event.to_string());
    }
}

fn is_name(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.len()) && !name.contains(char::is_control)
}

/// A panic leaves no half of anything behind these locks.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn main() -> ExitCode {
    let config = WebSocketConfig::default()
        .max_message_size(MAX_MESSAGE)
        .ping(Duration::from_secs(30), Duration::from_secs(20));
    let handler = WebSocketHandler::new().config(config);
    common::main("chat", handler, app)
}
