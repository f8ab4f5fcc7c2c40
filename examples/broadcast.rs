//! A live ticker: ten prices a second go to everybody who watches, at `/ticker`. The page at `/` is one
//! of them.
//!
//! ```text
//! cargo run --release --example broadcast [ADDRESS:PORT]
//! ```
//!
//! Then open <http://127.0.0.1:8000/>, in as many windows as you like. The address is 127.0.0.1:8000
//! unless given; port 0 takes a free one. Ctrl-C closes the open WebSockets with 1001 and ends the
//! server.
//!
//! Each message is JSON: `{"number": 17, "symbol": "OAK", "price": 101.25, "watching": 3}`. Only the
//! newest are of interest, so who reads too slowly misses some, and sees it by the numbers.

mod common;

use std::{
    process::ExitCode,
    sync::LazyLock,
    time::{Duration, SystemTime},
};

use greenwood::{
    Body, CloseCode, Environ, Result, StartResponse, Topic, TopicPolicy, WebSocketConfig,
    WebSocketEnviron, WebSocketHandler, sleep,
};
use serde_json::json;

const PAGE: &str = include_str!("broadcast.html");

/// The pause between two prices.
const TICK: Duration = Duration::from_millis(100);

const SYMBOLS: [&str; 6] = ["OAK", "ELM", "ASH", "FIR", "YEW", "BOX"];

/// What waits for a slow one: a price of each is enough.
static TICKER: LazyLock<Topic> = LazyLock::new(|| {
    Topic::new(TopicPolicy::DropOldest {
        keep: SYMBOLS.len(),
    })
});

/// Called for each request, in a greenlet of the connection's own.
fn app(environ: &mut Environ, start_response: StartResponse<'_>) -> Result<Body> {
    let Some(ws) = environ.websocket() else {
        return common::answer(environ, start_response, PAGE);
    };
    if environ.path() == "/ticker" {
        let _subscription = TICKER.subscribe(&ws);
        // There is nothing to be said here; this waits for the end.
        while ws.receive()?.is_some() {}
    } else {
        ws.close(CloseCode::POLICY_VIOLATION, "the ticker is at /ticker")?;
    }
    Ok(Body::empty())
}

/// Has each price wander about, one after the other, for ever.
fn tick() {
    let mut prices = [100.0; SYMBOLS.len()];
    let mut chance = Chance::new();
    for number in 0_u64.. {
        let i = number as usize % SYMBOLS.len();
        let change = chance.next() - 0.5;
        let price = f64::clamp(prices[i] + change, 1.0, 1_000.0);
        prices[i] = (price * 100.0).round() / 100.0;
        let message = json!({
            "number": number,
            "symbol": SYMBOLS[i],
            "price": prices[i],
            "watching": TICKER.len(),
        });
        TICKER.publish(message.to_string());
        sleep(TICK);
    }
}

/// Numbers that look random (xorshift).
struct Chance(u64);

impl Chance {
    fn new() -> Chance {
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        Chance(now.as_nanos() as u64 | 1)
    }

    /// The next one, from 0 to 1.
    fn next(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }
}

fn main() -> ExitCode {
    greenwood::spawn(tick);
    let config = WebSocketConfig::default()
        // Nobody has anything to say.
        .max_message_size(128)
        .ping(Duration::from_secs(30), Duration::from_secs(20));
    let handler = WebSocketHandler::new().config(config);
    common::main("broadcast", handler, app)
}
