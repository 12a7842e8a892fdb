//! What a stage may say.

use super::pattern::{ANY, NAME, USER};
use super::pipeline::{EDGE_NAME, ENV, STAGE_NAME, STRING, TIME, TIME_OR_ZERO};
use super::placement::{LIMITS, PLACEMENT, SCHEDULING};
use super::{Key, Record, Shape, Word};

pub const MAX_REPLICAS: i64 = 1024;
pub const MAX_ARGS: usize = 65_536;
pub const MAX_DEPENDENCIES: usize = 100_000;
pub const MAX_BINDS: usize = 256;
pub const MAX_GLOBS: usize = 4096;

static ARGV: Shape = Shape::List { of: &Shape::Text, min: 1, max: MAX_ARGS };
static SCRIPT: Shape = Shape::Str { what: "a shell text", pattern: &ANY, verbatim: true };
static GLOBS: Shape = Shape::List { of: &Shape::Path, min: 1, max: MAX_GLOBS };

pub static STAGE: Record = Record {
    name: "stage",
    doc: "A process, or `replicas` of one. It has either `command` or `shell`.",
    rivals: &[&["command", "shell"], &["retry", "restart"]],
    open: false,
    keys: &[
        Key::new(
            "command",
            &ARGV,
            "The program and its arguments; no shell is involved. A program without a slash is looked up in the stage's PATH, one with a slash starts at the pipeline file's folder. `${replica}` is the replica's number, `${edge.NAME}` the path of an edge in `bind`, `${self}` this program.",
        )
        .hint("a list with the program first: `command: [sort, -u]`; for a line that a shell should read there is `shell`")
        .also(&["cmd", "args", "argv", "exec", "run", "entrypoint"])
        .example("[./ingest, --port, \"${port}\"]"),
        Key::new(
            "shell",
            &Shape::OneOf(&[&SCRIPT, &Shape::Record(&SHELL)]),
            "A text for a shell, run with `/bin/sh -ec`. Every `$` in it is the shell's: `vars` arrive as environment variables of their own names.",
        )
        .also(&["script", "bash", "sh"])
        .example("sort | uniq -c > \"$work/counts\""),
        Key::new(
            "depends_on",
            &Shape::OneOf(&[
                &Shape::List { of: &STAGE_NAME, min: 0, max: MAX_DEPENDENCIES },
                &Shape::Map { what: "stage", key: &NAME, of: &CONDITION, min: 0, max: MAX_DEPENDENCIES },
            ]),
            "What must have happened before it starts. A list waits for each stage to have completed.",
        )
        .hint("a list, also of one: `depends_on: [fetch]`")
        .also(&["needs", "after", "requires", "dependencies"])
        .example("{ migrate: completed, db: started }"),
        Key::new("env", &ENV, "Environment variables, on top of the pipeline's `env`.").also(&["environment"]).example("{ MODEL: \"${work}/model\" }"),
        Key::new("cwd", &Shape::Path, "The folder it starts in; a relative one starts at the pipeline file's folder.")
            .default_says("the pipeline file's folder")
            .also(&["working_dir", "workdir", "working_directory", "chdir", "dir"])
            .example("./python"),
        Key::new(
            "user",
            &Shape::OneOf(&[
                &Shape::Str { what: "a user's name", pattern: &USER, verbatim: false },
                &Shape::Int { min: 0, max: u32::MAX as i64 - 1 },
            ]),
            "The user it runs as, by name or number; sets all groups, HOME, USER and LOGNAME. Needs the right to.",
        )
        .default_says("who started the run")
        .also(&["uid", "run_as"])
        .example("postgres"),
        Key::new(
            "replicas",
            &Shape::Int { min: 1, max: MAX_REPLICAS },
            "How many processes of it. Each knows its number from NEXUSFLOW_REPLICA and `${replica}`, from 0.",
        )
        .default("1")
        .also(&["instances", "count", "scale"])
        .example("4"),
        Key::new("service", &Shape::Bool, "It does not end by itself: it is stopped, dependants first, when all that is not a service has ended.")
            .default("false")
            .also(&["daemon"])
            .example("true"),
        Key::new("timeout", &TIME, "How long each attempt may run; then it is stopped and has failed.").default_says("no limit").example("5m"),
        Key::new("stop_signal", &SIGNAL, "The signal that asks it to stop, by name.").default("TERM").also(&["kill_signal"]).example("INT"),
        Key::new("stop_timeout", &TIME_OR_ZERO, "How long it has to stop before it is killed.")
            .default("10s")
            .also(&["stop_grace_period", "grace_period", "kill_timeout"])
            .example("20s"),
        Key::new("placement", &Shape::Record(&PLACEMENT), "Where it runs.").also(&["affinity", "resources"]).example("{ cpus: 2, numa: 0, memory: bind }"),
        Key::new("scheduling", &Shape::Record(&SCHEDULING), "How the kernel shares CPUs with it.").example("{ nice: -5 }"),
        Key::new("stdin", &Shape::Record(&STDIN), "What its standard input reads.").default_says("/dev/null").example("{ edge: enriched, framing: lines }"),
        Key::new("stdout", &Shape::Record(&STDOUT), "Where its standard output goes.").default_says("the stage's log").example("{ file: out/report.txt }"),
        Key::new(
            "bind",
            &Shape::Map { what: "edge", key: &NAME, of: &FRAMING, min: 0, max: MAX_BINDS },
            "Edges that an unmodified program opens as files, with their framing: `${edge.NAME}` in its command is the path. Whether it reads or writes is the edge's to say.",
        )
        .example("{ left: lines, right: lines }"),
        Key::new(
            "log",
            &Shape::Enum(&[
                Word::new("direct", "the log file is its own stdout and stderr"),
                Word::new("piped", "drained by the runner, with times and rotation").later("`log: piped` comes in a later release"),
            ]),
            "How its output reaches the log.",
        )
        .default("direct")
        .example("direct"),
        Key::new("retry", &Shape::Record(&RETRY), "Further attempts of a stage without edges.").later("retries come in a later release"),
        Key::new("restart", &Shape::Record(&RESTART), "Starts its process again when that ends. Each attempt is given anew what its ring edges had not been told was done with; see `scope`.")
            .default_says("never")
            .also(&["restart_policy"])
            .example("{ when: on_failure, limit: 5, window: 10m }"),
        Key::new("health", &Shape::Record(&HEALTH), "How to see that it is ready and well.").later("health checks come in a later release").also(&["healthcheck"]),
        Key::new("limits", &Shape::Record(&LIMITS), "Limits of each replica's whole tree.").later("limits come in a later release").also(&["ulimits"]),
        Key::new("inputs", &GLOBS, "Files it reads: with `outputs` it is skipped when nothing changed.").later("skipping what is up to date comes in a later release"),
        Key::new("outputs", &GLOBS, "Files it writes.").later("skipping what is up to date comes in a later release"),
    ],
};

static SHELL: Record = Record {
    name: "shell",
    doc: "A text for a shell of your choice.",
    rivals: &[],
    open: false,
    keys: &[
        Key::new("run", &SCRIPT, "The text. It is always needed, here or in `defaults`.").example("sort | uniq -c"),
        Key::new(
            "with",
            &Shape::List { of: &STRING, min: 1, max: 64 },
            "The shell and its arguments; the text follows as the last one.",
        )
        .default("[/bin/sh, -ec]")
        .example("[bash, -euo, pipefail, -c]"),
    ],
};

static CONDITION: Shape = Shape::Enum(&[
    Word::new("completed", "it has ended, and well").also(&[
        "service_completed_successfully",
        "success",
        "succeeded",
        "done",
        "finished",
    ]),
    Word::new("exited", "it has ended, well or not"),
    Word::new("started", "its process runs").also(&["service_started", "running"]),
    Word::new("healthy", "its health check has succeeded")
        .also(&["service_healthy", "ready"])
        .later("health checks come in a later release"),
]);

static FRAMING: Shape = Shape::Enum(&[
    Word::new("lines", "a message is a line without its newline"),
    Word::new("raw", "a message is any piece of a stream of bytes; for one producer, not with `distribute`"),
    Word::new("u32le", "a message stands behind its length, a little-endian 32-bit number"),
]);

/// Numbers as on x86-64 and arm64; `spec::lower` knows them.
static SIGNAL: Shape = Shape::Enum(&[
    Word::new("TERM", "please end"),
    Word::new("INT", "as Ctrl-C does").also(&["INTERRUPT"]),
    Word::new("QUIT", "as Ctrl-\\ does"),
    Word::new("HUP", "the terminal went away"),
    Word::new("ABRT", "end with a core dump"),
    Word::new("KILL", "end at once"),
    Word::new("USR1", "as the program defines"),
    Word::new("USR2", "as the program defines"),
    Word::new("ALRM", "a timer has run out"),
    Word::new("WINCH", "the window changed: a gentle stop for some servers"),
    Word::new("PWR", "the power fails: some init programs stop for it"),
]);

const EDGE_KEY: Key = Key::new("edge", &EDGE_NAME, "An edge.").example("enriched");
const FRAMING_KEY: Key = Key::new(
    "framing",
    &FRAMING,
    "What a message is in the program's stream; without meaning for a pipe or an object edge.",
)
.default("lines")
.example("lines");

static STDIN: Record = Record {
    name: "stdin",
    doc: "What standard input reads: an edge or a file.",
    rivals: &[&["edge", "file"]],
    open: false,
    keys: &[
        EDGE_KEY,
        FRAMING_KEY,
        Key::new("file", &Shape::Path, "A file, opened as the stage's user.").example("words.txt"),
    ],
};

static STDOUT: Record = Record {
    name: "stdout",
    doc: "Where standard output goes: an edge or a file.",
    rivals: &[&["edge", "file"]],
    open: false,
    keys: &[
        EDGE_KEY,
        FRAMING_KEY,
        Key::new("file", &Shape::Path, "A file, emptied at each attempt and opened as the stage's user.")
            .example("out/report.txt"),
    ],
};

static RETRY: Record = Record {
    name: "retry",
    doc: "Further attempts after a failure.",
    rivals: &[],
    open: false,
    keys: &[
        Key::new("limit", &Shape::Int { min: 1, max: 1000 }, "How many further attempts.").required().example("3"),
        Key::new("backoff", &TIME_OR_ZERO, "The wait before the first; doubled for each.").default("1s"),
        Key::new("backoff_max", &TIME_OR_ZERO, "The longest wait.").default("30s"),
        Key::new(
            "on_exit",
            &Shape::List { of: &Shape::Int { min: 1, max: 255 }, min: 1, max: 255 },
            "Only after these exit codes.",
        )
        .example("[75]"),
    ],
};

static RESTART: Record = Record {
    name: "restart",
    doc: "Whether its process is started again when it ends. What uses up `limit` within `window` fails, and fails the run. Nothing is restarted once the run is being stopped; at its natural end only what still has edges to read is.",
    rivals: &[],
    open: false,
    keys: &[
        Key::new(
            "when",
            &Shape::Enum(&[
                Word::new("never", "it stays ended"),
                Word::new("on_failure", "after a failure: an exit code other than 0, a signal, its `timeout`").also(&["on-failure"]),
                Word::new("always", "for a service: also when it ends well by itself"),
            ]),
            "After which ends it is started again. It is always needed, here or in `defaults`.",
        )
        .also(&["policy", "condition"])
        .example("on_failure"),
        Key::new("limit", &Shape::Int { min: 1, max: 1_000_000 }, "How many times within `window`; the next failure is its last.")
            .default("5")
            .also(&["max_restarts", "attempts", "burst"])
            .example("5"),
        Key::new("window", &TIME, "The time in which restarts count, for `limit` and for `backoff`.").default("10m").example("10m"),
        Key::new("backoff", &TIME_OR_ZERO, "The wait before the first; doubled for each that lies within `window`.").default("100ms").also(&["delay"]).example("100ms"),
        Key::new("backoff_max", &TIME_OR_ZERO, "The longest wait.").default("10s").default_says("`10s`, or `backoff` if that is longer").also(&["max_delay"]).example("10s"),
        Key::new(
            "scope",
            &Shape::Enum(&[
                Word::new("stage", "the process alone: its edges wait for it, with all that is in them"),
                Word::new("gang", "all that edges tie to it: everyone is stopped, edges are emptied, and all start from the beginning, which counts once"),
            ]),
            "What is started again. An unmodified program on an edge has to say it, since neither is right for all: alone, `zcat` would send everything again and `sort` would have forgotten what it read. With pipe edges it is `gang`.",
        )
        .default_says("`stage` for what uses its edges itself, and without edges")
        .example("gang"),
    ],
};

static HEALTH: Record = Record {
    name: "health",
    doc: "How to see that a stage is ready and well.",
    rivals: &[&["exec", "http", "tcp"]],
    open: false,
    keys: &[
        Key::new("exec", &ARGV, "A program that exits 0.").example("[./ready]"),
        Key::new("http", &STRING, "A URL that answers 2xx or 3xx.").example("http://127.0.0.1:8080/ready"),
        Key::new("tcp", &STRING, "HOST:PORT that accepts a connection.").example("127.0.0.1:5432"),
        Key::new("period", &TIME, "How often.").default("2s"),
        Key::new("timeout", &TIME, "How long one check may take.").default("1s"),
        Key::new("failures", &Shape::Int { min: 1, max: 1000 }, "After how many in a row it is not well.").default("3"),
        Key::new("start_timeout", &TIME, "How long it may take to be ready.").default("30s"),
    ],
};
