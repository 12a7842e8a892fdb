//! `edge replay`: a stage whose program is a recording.

use std::io;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::{Duration, Instant};

use nexusflow_stage::{Error, Output, Stage};

use super::{Trouble, broken, open};
use crate::recording::{Reader, Record};

/// Be a stage that sends what a recording holds: `command: ["${self}", edge, replay, FILE]`
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A file that `edge record` wrote
    file: PathBuf,
    /// The edge to send it over, if the stage writes several
    #[arg(long, value_name = "NAME")]
    edge: Option<String>,
    /// How many times as fast as it was recorded, or `max`
    #[arg(long, default_value = "1", value_name = "N|max")]
    speed: Speed,
    /// Take a recording that was cut off for a whole one
    #[arg(long)]
    partial: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Speed {
    Times(f64),
    Max,
}

impl FromStr for Speed {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.parse() {
            _ if text == "max" => Ok(Self::Max),
            Ok(times) if (1e-6..=1e6).contains(&times) => Ok(Self::Times(times)),
            _ => Err("a number above 0, such as 1 or 0.5, or `max`"),
        }
    }
}

pub fn run(args: &Args) -> Result<(), Trouble> {
    let mut recording = open(&args.file)?;
    let stage = Stage::from_env().map_err(told)?;
    let outputs = stage.outputs();
    let edge = match (&args.edge, outputs.as_slice()) {
        (Some(edge), _) => edge.as_str(),
        (None, [edge]) => edge,
        (None, []) => return Err(Trouble::Usage(format!("stage `{}` writes no edge by itself", stage.name()))),
        (None, several) => return Err(Trouble::Usage(format!("name one in --edge: {}", several.join(", ")))),
    };
    let mut output = stage.output(edge).map_err(told)?;
    match send(&mut recording, &mut output, args) {
        Ok(()) => {
            output.finish();
            Ok(())
        }
        // Whoever read it has had enough: as in a shell's pipe, that is no failure.
        Err(Trouble::Closed) => Ok(()),
        // It does not finish: what is read from a broken file must not be taken for all of it.
        Err(trouble) => Err(trouble),
    }
}

fn send(recording: &mut Reader<impl io::Read>, output: &mut Output, args: &Args) -> Result<(), Trouble> {
    let mut clock = Clock { speed: args.speed, begun: None };
    loop {
        match recording.next_record() {
            Ok(Some(Record::Message { at_ns, body, .. })) => {
                if let Some(wait) = clock.wait(at_ns, Instant::now()) {
                    std::thread::sleep(wait);
                }
                output.send(body).map_err(told)?;
            }
            Ok(Some(Record::Lost { .. } | Record::End(_))) => {}
            Ok(None) => return Ok(()),
            Err(e) if e.is_cut() && args.partial => return Ok(()),
            Err(e) => return Err(broken(&args.file, &e)),
        }
    }
}

/// When each message is due.
struct Clock {
    speed: Speed,
    /// When the first one was recorded, and when it was sent.
    begun: Option<(u64, Instant)>,
}

impl Clock {
    /// How long to wait before what was recorded at `at_ns`.
    fn wait(&mut self, at_ns: u64, now: Instant) -> Option<Duration> {
        let Speed::Times(times) = self.speed else { return None };
        let (first_ns, begun) = *self.begun.get_or_insert((at_ns, now));
        // A clock that was set back while it was recorded makes nothing due earlier than it is now.
        let after = Duration::try_from_secs_f64(at_ns.saturating_sub(first_ns) as f64 / 1e9 / times).ok()?;
        begun.checked_add(after)?.checked_duration_since(now).filter(|wait| !wait.is_zero())
    }
}

fn told(e: Error) -> Trouble {
    match e {
        e if e.is_closed() => Trouble::Closed,
        e @ (Error::NotAStage(_) | Error::UnknownEdge { .. }) => Trouble::Usage(e.to_string()),
        e => Trouble::Failed(e.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_due_as_they_were_recorded() {
        let now = Instant::now();
        let second = Duration::from_secs(1);
        let mut clock = Clock { speed: Speed::Times(2.0), begun: None };
        assert_eq!(clock.wait(5_000_000_000, now), None, "the first one at once");
        assert_eq!(clock.wait(9_000_000_000, now), Some(2 * second));
        assert_eq!(clock.wait(9_000_000_000, now + second), Some(second));
        assert_eq!(clock.wait(9_000_000_000, now + 3 * second), None, "late already");
        assert_eq!(clock.wait(1_000_000_000, now + second), None, "the clock was set back");
        assert_eq!(Clock { speed: Speed::Max, begun: None }.wait(u64::MAX, now), None);
        for (text, speed) in [("max", Some(Speed::Max)), ("0.5", Some(Speed::Times(0.5))), ("0", None), ("NaN", None)] {
            assert_eq!(text.parse().ok(), speed, "{text}");
        }
    }
}
