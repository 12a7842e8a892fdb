//! A stage's keys with `defaults` under them, and the rules between them.

use std::collections::HashSet;
use std::time::Duration;

use super::{Lower, spanned, time, word};
use crate::diag::codes;
use crate::spec::types::*;
use crate::spec::value::{Data, Fields, Val};

const DEFAULT_STOP_TIMEOUT: Duration = Duration::from_secs(10);
const DEFAULT_RESTARTS: u32 = 5;
const DEFAULT_WINDOW: Duration = Duration::from_secs(600);
const DEFAULT_BACKOFF: Duration = Duration::from_millis(100);
const DEFAULT_BACKOFF_MAX: Duration = Duration::from_secs(10);
const SIGTERM: Signal = Signal(15);
/// As on x86-64 and arm64.
const SIGNALS: [(&str, i32); 11] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ABRT", 6),
    ("KILL", 9),
    ("USR1", 10),
    ("USR2", 12),
    ("ALRM", 14),
    ("TERM", 15),
    ("WINCH", 28),
    ("PWR", 30),
];

impl Lower<'_> {
    pub(super) fn stage(
        &mut self,
        name: Spanned<String>,
        mut fields: Fields,
        defaults: Option<&Fields>,
    ) -> Option<Stage> {
        self.no_vars(&fields);
        if let Some(defaults) = defaults {
            fields.merge(defaults);
        }
        self.decides(&fields, &["depends_on", "replicas", "service", "bind"]);
        // Where it is wrong or missing, which was told, the stage still has its name and its edges.
        let nothing = || Spanned { value: Command::Argv(vec![]), span: name.span.clone() };
        let command = self.command(&name, &mut fields).unwrap_or_else(nothing);
        let stdin = fields.take("stdin").and_then(|v| self.stream(v, "stdin"));
        let stdout = fields.take("stdout").and_then(|v| self.stream(v, "stdout"));
        let bind = fields.take("bind").map(Val::map).unwrap_or_default();
        let bind: Vec<Bind> = bind.into_iter().map(|(edge, v)| Bind { edge, framing: framing(v.word()) }).collect();
        self.bound_once(&stdin, &stdout, &bind);
        let cwd = fields.take("cwd").and_then(Val::text);
        Some(Stage {
            depends_on: fields.take("depends_on").map(dependencies).unwrap_or_default(),
            env: Self::env(fields.take("env")),
            user: fields.take("user").and_then(Val::string),
            replicas: match fields.take("replicas").and_then(Val::int) {
                Some(replicas) => replicas,
                None => Spanned { value: 1, span: name.span.clone() },
            },
            service: fields.take("service").and_then(Val::bool),
            timeout: time(&mut fields, "timeout"),
            restart: fields.take("restart").and_then(Val::record).and_then(|f| self.restart(f)),
            stop_signal: word(&mut fields, "stop_signal").map_or(SIGTERM, signal),
            stop_timeout: time(&mut fields, "stop_timeout").unwrap_or(DEFAULT_STOP_TIMEOUT),
            placement: fields.take("placement").and_then(Val::record).map(placement),
            scheduling: fields.take("scheduling").and_then(Val::record).map(|f| self.scheduling(f)),
            command,
            cwd,
            stdin,
            stdout,
            bind,
            name,
        })
    }

    fn command(&mut self, name: &Spanned<String>, fields: &mut Fields) -> Option<Spanned<Command>> {
        let given = |key| fields.find(key).is_some() || fields.meant.contains(&key);
        if !given("command") && !given("shell") {
            let message = format!("`{}` has nothing to run", name.value);
            self.error(codes::MISSING_COMMAND, message, &name.span, "for instance `command: [sort, -u]`");
        }
        if let Some(val) = fields.take("command") {
            let span = val.span.clone();
            // An argument that is not known (yet) keeps its place.
            let unknown = |span| Spanned { value: Text { pieces: vec![Piece::Literal("…".into())] }, span };
            let argv = val.list().into_iter().map(|v| (v.span.clone(), v.text()));
            let argv: Vec<_> = argv.map(|(span, text)| text.unwrap_or_else(|| unknown(span))).collect();
            let program = argv.first()?;
            if program.value.pieces.is_empty() {
                let message = format!("the program of `{}` is empty", name.value);
                self.error(
                    codes::MISSING_COMMAND,
                    message,
                    &program.span,
                    "the first word of `command` is the program",
                );
            }
            return Some(Spanned { value: Command::Argv(argv), span });
        }
        let val = fields.take("shell")?;
        let (span, owner) = (val.span.clone(), val.span.clone());
        let (run, with) = match val.data {
            Data::Record(mut shell) => {
                let run = shell.take("run");
                if run.is_none() {
                    self.error(
                        codes::MISSING_COMMAND,
                        format!("the shell of `{}` has nothing to run", name.value),
                        &owner,
                        "add `run: …`",
                    );
                }
                (run?.string()?.value, shell.take("with"))
            }
            data => (Val { span: owner, data }.string()?.value, None),
        };
        if run.trim().is_empty() {
            let message = format!("the shell of `{}` has nothing to run", name.value);
            self.error(codes::MISSING_COMMAND, message, &span, "write the line that the shell is to run");
        }
        let with = match with {
            Some(with) => with.strings().into_iter().map(|s| s.value).collect(),
            None => vec!["/bin/sh".into(), "-ec".into()],
        };
        Some(Spanned { value: Command::Shell { run, with }, span })
    }

    fn stream(&mut self, val: Val, key: &str) -> Option<Spanned<Stream>> {
        let span = val.span.clone();
        let mut fields = val.record()?;
        self.decides(&fields, &["edge", "framing"]);
        if fields.list.iter().any(|f| f.value.is_unknown()) {
            return None;
        }
        let said = fields.find("framing").map(|f| f.key_span.clone());
        let value = match (fields.take("edge"), fields.take("file")) {
            (Some(edge), _) => Stream::Edge { edge: edge.string()?, framing: framing(word(&mut fields, "framing")) },
            (None, Some(file)) => {
                if let Some(at) = said {
                    let help = "leave it out: files are read and written as they are";
                    self.error(codes::CONTRADICTION, "`framing` has no meaning for a file", &at, help);
                }
                Stream::File(file.text()?)
            }
            (None, None) => {
                let help = "add `edge: NAME` or `file: PATH`";
                self.error(codes::MISSING_KEY, format!("`{key}` says neither `edge` nor `file`"), &fields.owner, help);
                return None;
            }
        };
        Some(Spanned { value, span })
    }

    fn bound_once(&mut self, stdin: &Option<Spanned<Stream>>, stdout: &Option<Spanned<Stream>>, bind: &[Bind]) {
        let mut seen: HashSet<&str> = bind.iter().map(|b| b.edge.value.as_str()).collect();
        for stream in [stdin, stdout].into_iter().flatten() {
            let Stream::Edge { edge, .. } = &stream.value else { continue };
            if !seen.insert(&edge.value) {
                let message = format!("the edge `{}` is given to this stage twice", edge.value);
                self.error(
                    codes::CONTRADICTION,
                    message,
                    &edge.span,
                    "keep one of `stdin`, `stdout` and `bind` for it",
                );
            }
        }
    }

    fn scheduling(&mut self, mut fields: Fields) -> Scheduling {
        let nice = fields.find("nice").map(|f| f.key_span.clone());
        let priority_at = fields.find("priority").map(|f| f.key_span.clone());
        let (class, at) = match fields.take("class") {
            Some(class) => (class.word(), class.span),
            None => (Some("other"), fields.owner.clone()),
        };
        let priority = fields.take("priority").and_then(Val::int::<u32>).map(|p| p.value);
        let real_time = matches!(class, Some("fifo" | "rr"));
        match (class, &priority_at) {
            (Some(class), None) if real_time => {
                self.error(
                    codes::CONTRADICTION,
                    format!("`class: {class}` needs a `priority`"),
                    &at,
                    "add one from 1 to 99, for instance `priority: 50`",
                );
            }
            (Some(class), Some(at)) if !real_time => {
                let message = format!("`priority` has no meaning for the class `{class}`");
                self.error(
                    codes::CONTRADICTION,
                    message,
                    at,
                    "it is for `class: fifo` and `class: rr`; the others have `nice`",
                );
            }
            _ => {}
        }
        if let (Some(class @ ("fifo" | "rr" | "idle")), Some(at)) = (class, nice) {
            let message = format!("`nice` has no meaning for the class `{class}`");
            self.error(codes::CONTRADICTION, message, &at, "leave it out");
        }
        let priority = priority.unwrap_or(1);
        Scheduling {
            class: match class {
                Some("batch") => SchedClass::Batch,
                Some("idle") => SchedClass::Idle,
                Some("fifo") => SchedClass::Fifo { priority },
                Some("rr") => SchedClass::RoundRobin { priority },
                _ => SchedClass::Other,
            },
            nice: fields.take("nice").and_then(Val::int).map(|n| n.value),
        }
    }
}

impl Lower<'_> {
    /// `None`: never.
    fn restart(&mut self, mut fields: Fields) -> Option<Restart> {
        let Some(when) = fields.take("when") else {
            let help = "add `when: on_failure`, or leave `restart` out";
            self.error(codes::MISSING_KEY, "`restart` does not say `when`", &fields.owner, help);
            return None;
        };
        let at = when.span.clone();
        let when = match when.word() {
            Some("on_failure") => When::OnFailure,
            Some("always") => When::Always,
            _ => return None,
        };
        let backoff = time(&mut fields, "backoff").unwrap_or(DEFAULT_BACKOFF);
        let max_at = fields.find("backoff_max").map(|f| f.value.span.clone());
        let max = time(&mut fields, "backoff_max");
        if let (Some(max), Some(at)) = (max, max_at)
            && max < backoff
        {
            let message = "the longest wait is shorter than the first";
            self.error(codes::CONTRADICTION, message, &at, "raise `backoff_max`, or lower `backoff`");
        }
        let scope = fields.take("scope");
        let scope = scope.map(|v| (v.span.clone(), v.word() == Some("gang")));
        Some(Restart {
            when: Spanned { value: when, span: at },
            limit: fields.take("limit").and_then(Val::int).map_or(DEFAULT_RESTARTS, |n| n.value),
            window: time(&mut fields, "window").unwrap_or(DEFAULT_WINDOW),
            backoff,
            backoff_max: max.unwrap_or(DEFAULT_BACKOFF_MAX.max(backoff)),
            scope: scope.map(|(span, gang)| Spanned { value: if gang { Scope::Gang } else { Scope::Stage }, span }),
            span: fields.owner,
        })
    }
}

fn signal(name: &str) -> Signal {
    SIGNALS.iter().find(|(known, _)| *known == name).map_or(SIGTERM, |(_, number)| Signal(*number))
}

pub(super) fn framing(word: Option<&str>) -> Framing {
    match word {
        Some("raw") => Framing::Raw,
        Some("u32le") => Framing::U32le,
        _ => Framing::Lines,
    }
}

fn dependencies(val: Val) -> Vec<Dependency> {
    if let Data::Map(map) = val.data {
        let conditions = map.into_iter().map(|(stage, v)| Dependency {
            condition: match v.word() {
                Some("exited") => Condition::Exited,
                Some("started") => Condition::Started,
                _ => Condition::Completed,
            },
            span: v.span,
            stage,
        });
        return conditions.collect();
    }
    let list = val.strings().into_iter();
    list.map(|stage| Dependency { condition: Condition::Completed, span: stage.span.clone(), stage }).collect()
}

fn placement(mut fields: Fields) -> Placement {
    let mut cpus =
        fields.take("cpus").and_then(Val::int).map(|n| Spanned { value: Cpus::Logical(n.value), span: n.span });
    if let Some(n) = fields.take("cores").and_then(Val::int) {
        cpus = Some(Spanned { value: Cpus::Cores(n.value), span: n.span });
    }
    if let Some(Val { span, data: Data::Ids(ids) }) = fields.take("cpuset") {
        cpus = Some(Spanned { value: Cpus::Set(ids), span });
    }
    Placement {
        cpus,
        numa: fields.take("numa").and_then(nodes),
        memory: spanned(&mut fields, "memory", |w| match w {
            "local" => Memory::Local,
            "bind" => Memory::Bind,
            "preferred" => Memory::Preferred,
            "interleave" => Memory::Interleave,
            _ => Memory::Default,
        }),
        smt: spanned(&mut fields, "smt", |w| match w {
            "avoid" => Smt::Avoid,
            "exclusive" => Smt::Exclusive,
            _ => Smt::Share,
        }),
        exclusive: match fields.take("exclusive").and_then(Val::bool) {
            Some(exclusive) => exclusive,
            None => Spanned { value: false, span: fields.owner.clone() },
        },
        near: fields.take("near").map(Val::strings).unwrap_or_default(),
        apart: fields.take("apart").map(Val::strings).unwrap_or_default(),
        load: fields.take("load").and_then(|v| v.number()).unwrap_or(1.0),
        memory_size: fields.take("memory_size").and_then(Val::bytes).map(|b| b.value),
        memory_bandwidth: fields.take("memory_bandwidth").and_then(|v| v.number()),
        policy: match word(&mut fields, "policy") {
            Some("prefer") => Policy::Prefer,
            _ => Policy::Strict,
        },
        span: fields.owner,
    }
}

/// `None` is `auto`; sorted, without duplicates.
fn nodes(val: Val) -> Option<Spanned<Vec<u32>>> {
    let span = val.span.clone();
    let mut list: Vec<u32> = match val.data {
        Data::List(list) => list.into_iter().filter_map(Val::int).map(|n| n.value).collect(),
        Data::Int(_) => val.int().into_iter().map(|n| n.value).collect(),
        _ => return None,
    };
    list.sort_unstable();
    list.dedup();
    (!list.is_empty()).then_some(Spanned { value: list, span })
}
