//! What a backdoor answers.

use std::fmt::Write as _;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use super::Inner;
use crate::task::lock;
use crate::{Hub, kill_greenlet, run_info};

/// What comes after an answer.
pub(super) enum Next {
    Line,
    End,
}

impl Inner {
    pub(super) fn answer(&self, line: &str) -> (String, Next) {
        let (name, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let rest = rest.trim();
        let answer = match name {
            "" => Ok(String::new()),
            "help" => Ok(self.help()),
            "info" => Ok(self.info()),
            "greenlets" => Ok(run_info().to_string()),
            "stats" => Ok(stats()),
            "kill" => kill(rest),
            "monitor" => monitor(rest),
            "quit" => return ("ok\n".to_owned(), Next::End),
            // A web page can have a browser send lines to a port of this machine: none of what
            // follows such a line is a command.
            _ if rest.contains("HTTP/") => {
                return ("error: this is no web server\n".to_owned(), Next::End);
            }
            _ => self.other(name, rest),
        };
        let answer = match answer {
            Ok(mut text) => {
                if !text.is_empty() && !text.ends_with('\n') {
                    text.push('\n');
                }
                text + "ok\n"
            }
            Err(why) => format!("error: {why}\n"),
        };
        (answer, Next::Line)
    }

    fn other(&self, name: &str, rest: &str) -> Result<String, String> {
        let command = {
            let settings = lock(&self.settings);
            let commands = settings.commands.iter();
            commands
                .rev()
                .find(|it| it.0 == name)
                .map(|it| Arc::clone(&it.2))
        };
        match command {
            Some(command) => Ok(command(rest)),
            None => Err(format!("no command {:?}: try help", name)),
        }
    }

    fn help(&self) -> String {
        let mut text = "\
info       the process, its hubs and its limits
greenlets  who runs and who waits, as a tree
stats      what each hub has counted
kill ID    kill a greenlet by its number
monitor MS report who holds a hub for longer, in ms; 0: nobody
help       this
quit       end the connection
"
        .to_owned();
        for (name, help, _) in &lock(&self.settings).commands {
            writeln!(text, "{name:10} {help}").ok();
        }
        text
    }

    fn info(&self) -> String {
        let limits = Hub::limits();
        let program = std::env::current_exe().unwrap_or_default();
        format!(
            "process {}: {}\nbackdoor open for {:.0?}\nhubs: {}\ngreenlets: {} of at most {}, with \
             stacks of {} bytes\ndescriptors: {} of at most {}\n",
            std::process::id(),
            program.display().to_string().escape_debug(),
            self.begun.elapsed(),
            Hub::count(),
            Hub::greenlets(),
            limits.greenlets,
            limits.stack_size,
            // The directory's own is one of them.
            fs::read_dir("/proc/self/fd").map_or(0, |fds| fds.count().saturating_sub(1)),
            limits.descriptors,
        )
    }
}

fn stats() -> String {
    Hub::stats().iter().fold(String::new(), |mut text, hub| {
        writeln!(text, "{hub}").ok();
        text
    })
}

fn kill(id: &str) -> Result<String, String> {
    let id: u64 = id
        .parse()
        .map_err(|_| format!("kill takes a greenlet's number, not {id:?}"))?;
    match kill_greenlet(id) {
        true => Ok(String::new()),
        false => Err(format!("there is no greenlet {id}, or its hub is blocked")),
    }
}

fn monitor(milliseconds: &str) -> Result<String, String> {
    let milliseconds: u64 = milliseconds
        .parse()
        .map_err(|_| format!("monitor takes a time in milliseconds, not {milliseconds:?}"))?;
    let limit = (milliseconds > 0).then(|| Duration::from_millis(milliseconds));
    Hub::monitor(limit)
        .map(|()| String::new())
        .map_err(|error| error.to_string())
}
