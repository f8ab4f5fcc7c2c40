//! Steps: commands that are run one after the other, up to the first that fails.

use std::{
    fmt, fs, io,
    path::Path,
    process::{Child, Command, ExitCode, ExitStatus},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

pub(crate) type Result<T> = std::result::Result<T, Failure>;

/// Why everything stops.
#[derive(Debug)]
pub(crate) struct Failure(String);

/// The steps so far.
#[derive(Debug, Default)]
pub(crate) struct Steps {
    done: Vec<(String, Duration)>,
}

impl Steps {
    /// Runs a command to its end. It fails unless the command exits with 0 within the limit.
    pub(crate) fn run(&mut self, name: &str, limit: Duration, command: &mut Command) -> Result<()> {
        self.call(name, || {
            let status = end_of(command, limit)?;
            if status.success() {
                Ok(())
            } else {
                Err(Failure::of(command, &status))
            }
        })
    }

    /// The same for a command whose exit code is not the answer: it has only to end in time.
    pub(crate) fn run_to_end(
        &mut self,
        name: &str,
        limit: Duration,
        command: &mut Command,
    ) -> Result<()> {
        self.call(name, || end_of(command, limit).map(drop))
    }

    /// A step that is no command.
    pub(crate) fn call<T>(&mut self, name: &str, step: impl FnOnce() -> Result<T>) -> Result<T> {
        println!("==> {name}");
        let began = Instant::now();
        let value = step().map_err(|Failure(why)| Failure(format!("{name}: {why}")))?;
        let taken = began.elapsed();
        println!("    {name}: ok, {:.1} s\n", taken.as_secs_f64());
        self.done.push((name.to_owned(), taken));
        Ok(value)
    }

    /// Says how it went, and gives the exit code.
    pub(crate) fn report(self, result: Result<()>) -> ExitCode {
        println!("==> summary");
        for (name, taken) in &self.done {
            println!("    {:>7.1} s  {name}", taken.as_secs_f64());
        }
        let all: Duration = self.done.iter().map(|(_, taken)| *taken).sum();
        println!("    {:>7.1} s  altogether", all.as_secs_f64());
        match result {
            Ok(()) => {
                println!("all {} steps passed", self.done.len());
                ExitCode::SUCCESS
            }
            Err(failure) => {
                eprintln!("\nFAILED: {failure}");
                ExitCode::FAILURE
            }
        }
    }
}

impl Failure {
    pub(crate) fn new(why: impl Into<String>) -> Failure {
        Failure(why.into())
    }

    fn of(command: &Command, why: &dyn fmt::Display) -> Failure {
        Failure(format!("{why}\n  the command was: {}", Shown(command)))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure(error.to_string())
    }
}

/// The output of a command, without white space around it; none if it can't be run or fails.
pub(crate) fn output_of(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|o| o.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(text.trim().to_owned())
}

fn end_of(command: &mut Command, limit: Duration) -> Result<ExitStatus> {
    println!("    $ {}", Shown(command));
    let child = command
        .spawn()
        .map_err(|error| Failure::of(command, &error))?;
    wait(child, limit).map_err(|error| Failure::of(command, &error))
}

/// Waits for a child; kills it, and all that it has started, when that takes too long.
pub(crate) fn wait(mut child: Child, limit: Duration) -> io::Result<ExitStatus> {
    let id = child.id();
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || sender.send(child.wait()).ok());
    match receiver.recv_timeout(limit) {
        Ok(status) => status,
        Err(_) => {
            kill(&with_descendants(id));
            Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("not done within {} s, and killed", limit.as_secs()),
            ))
        }
    }
}

/// Sends a signal, by the shell: std has only SIGKILL, and a program `kill` is not everywhere.
pub(crate) fn signal(name: &str, processes: &[u32]) -> io::Result<()> {
    let ids: Vec<String> = processes.iter().map(u32::to_string).collect();
    let status = Command::new("sh")
        .args(["-c", "kill -s \"$@\"", "kill", name])
        .args(ids)
        .status()?;
    if status.success() {
        Ok(())
    } else {
        Err(io::Error::other(format!("can't send SIG{name}: {status}")))
    }
}

/// Kills processes, some of which may have ended.
pub(crate) fn kill(processes: &[u32]) {
    if let Err(error) = signal("KILL", processes) {
        // Some may have ended in between.
        eprintln!("    {error}");
    }
}

/// A process and its children, and theirs, by `/proc`.
pub(crate) fn with_descendants(process: u32) -> Vec<u32> {
    let mut found = vec![process];
    let mut at = 0;
    while at < found.len() {
        let tasks = Path::new("/proc").join(found[at].to_string()).join("task");
        for task in fs::read_dir(tasks).into_iter().flatten().flatten() {
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            found.extend(
                children
                    .split_whitespace()
                    .filter_map(|id| id.parse::<u32>().ok()),
            );
        }
        at += 1;
    }
    found
}

/// A command as one would type it.
struct Shown<'a>(&'a Command);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in self.0.get_envs() {
            let value = value.unwrap_or_default().to_string_lossy();
            write!(f, "{}={} ", name.to_string_lossy(), quoted(&value))?;
        }
        write!(f, "{}", self.0.get_program().to_string_lossy())?;
        for argument in self.0.get_args() {
            write!(f, " {}", quoted(&argument.to_string_lossy()))?;
        }
        Ok(())
    }
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=./:,+@".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    fn sh(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_step_that_fails_says_what_the_command_was() {
        let mut steps = Steps::default();
        steps.run("fine", LONG, &mut sh("exit 0")).unwrap();
        let failure = steps.run("broken", LONG, &mut sh("exit 3")).unwrap_err();
        let text = failure.to_string();
        assert!(text.starts_with("broken: exit status: 3"), "{text}");
        assert!(text.ends_with("the command was: sh -c 'exit 3'"), "{text}");
        assert_eq!(steps.done.len(), 1);
        assert_ne!(
            format!("{:?}", steps.report(Err(failure))),
            format!("{:?}", ExitCode::SUCCESS)
        );
    }

    #[test]
    fn a_command_that_has_only_to_end_may_fail() {
        let mut steps = Steps::default();
        steps
            .run_to_end("judged otherwise", LONG, &mut sh("exit 3"))
            .unwrap();
        let limit = Duration::from_millis(300);
        let failure = steps
            .run_to_end("slow", limit, &mut sh("sleep 100"))
            .unwrap_err();
        assert!(failure.to_string().contains("not done within"), "{failure}");
    }

    #[test]
    fn a_command_that_takes_too_long_is_killed_with_its_children() {
        let began = Instant::now();
        let mut steps = Steps::default();
        // The pipe closes when the last of them is gone.
        let (mut read, write) = io::pipe().unwrap();
        let mut command = sh("sleep 100 & sleep 100");
        let failure = steps
            .run("slow", Duration::from_millis(300), command.stdout(write))
            .unwrap_err();
        assert!(failure.to_string().contains("not done within"), "{failure}");
        drop(command);
        io::Read::read_to_end(&mut read, &mut Vec::new()).unwrap();
        assert!(began.elapsed() < LONG);
    }

    #[test]
    fn commands_are_shown_as_typed() {
        let mut command = Command::new("cargo");
        command.args(["test", "--", "it's"]).env("HUBS", "1");
        assert_eq!(
            Shown(&command).to_string(),
            r"HUBS=1 cargo test -- 'it'\''s'"
        );
    }
}
