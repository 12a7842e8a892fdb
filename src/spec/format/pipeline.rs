//! The top level of a pipeline file, with `vars` and `schedule`.

use super::edge::EDGE;
use super::pattern::{ANY, ENV_NAME, NAME, VAR_NAME};
use super::stage::STAGE;
use super::{Key, Record, Shape, Word};

pub const MAX_STAGES: usize = 100_000;
pub const MAX_EDGES: usize = 100_000;
pub const MAX_VARS: usize = 4096;
pub const MAX_ENV: usize = 4096;
pub const MAX_PARALLEL: i64 = 65_536;

pub(super) static STRING: Shape = Shape::Str { what: "a string", pattern: &ANY, verbatim: false };
pub(super) static STAGE_NAME: Shape = Shape::Str { what: "a stage's name", pattern: &NAME, verbatim: false };
pub(super) static EDGE_NAME: Shape = Shape::Str { what: "an edge's name", pattern: &NAME, verbatim: false };
pub(super) static TIME: Shape = Shape::Duration { zero: false };
pub(super) static TIME_OR_ZERO: Shape = Shape::Duration { zero: true };
pub(super) static ENV: Shape =
    Shape::Map { what: "environment variable", key: &ENV_NAME, of: &Shape::Text, min: 0, max: MAX_ENV };

static ENV_VARIABLE: Shape = Shape::Str { what: "an environment variable's name", pattern: &ENV_NAME, verbatim: true };

pub static PIPELINE: Record = Record {
    name: "pipeline",
    doc: "`version`, `name` and `stages` are always needed. Keys that begin with `x-` are yours: they are not looked at, and are a place for anchors.",
    rivals: &[],
    open: true,
    keys: &[
        Key::new("version", &Shape::Version, "The version of the file format.").required().example("1"),
        Key::new(
            "name",
            &Shape::Str { what: "a pipeline's name", pattern: &NAME, verbatim: false },
            "The pipeline's name: in metrics, logs and the run history. Two files with one name are one pipeline.",
        )
        .required()
        .example("clickstream"),
        Key::new("description", &STRING, "What it is for, in a sentence.").example("Parse, enrich and count click events."),
        Key::new(
            "vars",
            &Shape::Map {
                what: "var",
                key: &VAR_NAME,
                of: &Shape::OneOf(&[&Shape::Scalar, &Shape::Record(&VAR)]),
                min: 0,
                max: MAX_VARS,
            },
            "Values that are filled in where the file says `${name}`. A plain value is the default; `--set name=value` beats `env` beats the default. Defaults do not refer to other vars. The text of `shell` is left alone: there vars arrive as environment variables of their own names.",
        )
        .also(&["variables", "params", "parameters"])
        .example("{ work: /var/lib/clicks, port: { default: 9000, env: CLICK_PORT, help: where to listen } }"),
        Key::new("env", &ENV, "Environment variables of every stage.").also(&["environment"]).example("{ LOG_LEVEL: info }"),
        Key::new(
            "env_inherit",
            &Shape::OneOf(&[
                &Shape::Enum(&[
                    Word::new("all", "everything"),
                    Word::new("none", "nothing: stages get what `env` says and no more"),
                ]),
                &Shape::List { of: &ENV_VARIABLE, min: 0, max: MAX_ENV },
            ]),
            "What stages inherit of the environment that `nexusflow` was started in: everything, nothing, or the listed variables.",
        )
        .default("all")
        .example("[PATH, HOME]"),
        Key::new("timeout", &TIME, "How long the whole run may take; then it is stopped and ends with exit code 124.")
            .default_says("no limit")
            .example("2h"),
        Key::new(
            "parallel",
            &Shape::Int { min: 1, max: MAX_PARALLEL },
            "How many batch stages may run at once. Stages joined by edges start together and take one slot.",
        )
        .default_says("as many as there are CPUs this process may use")
        .also(&["jobs", "max_parallel", "concurrency_limit"])
        .example("8"),
        Key::new(
            "concurrency",
            &Shape::Enum(&[
                Word::new("refuse", "the second run does not start"),
                Word::new("queue", "it waits for the first").later("runs that wait for each other come with schedules"),
                Word::new("replace", "it stops the first").later("runs that replace each other come with schedules"),
                Word::new("allow", "both run").later("runs side by side come with schedules"),
            ]),
            "What happens to a second run of this pipeline while one is running.",
        )
        .default("refuse")
        .example("refuse"),
        Key::new(
            "on_failure",
            &Shape::Enum(&[
                Word::new("continue", "what the failed stage does not touch goes on"),
                Word::new("stop", "the whole run is stopped").also(&["abort", "fail_fast"]),
            ]),
            "What a failed stage means for the others. What depends on it is skipped in any case, and the run has failed.",
        )
        .default("continue")
        .example("stop"),
        Key::new("schedule", &Shape::Record(&SCHEDULE), "When it runs by the clock.").later("`dag schedule` comes in a later release"),
        Key::new(
            "defaults",
            &Shape::Record(&STAGE),
            "Keys of a stage, merged deeply under every stage: mappings are joined, everything else a stage says replaces what stands here.",
        )
        .example("{ placement: { smt: avoid } }"),
        Key::new(
            "include",
            &Shape::List { of: &Shape::Path, min: 1, max: 64 },
            "Files that are merged deeply under this one.",
        )
        .later("including files comes in a later release"),
        Key::new("env_file", &Shape::Path, "A file of `NAME=value` lines for every stage's environment.")
            .later("`env_file` comes in a later release; `env` works"),
        Key::new(
            "stages",
            &Shape::Map { what: "stage", key: &NAME, of: &Shape::Record(&STAGE), min: 1, max: MAX_STAGES },
            "The stages by name: letters, digits, `_`, `.` and `-`, at most 64.",
        )
        .required()
        .also(&["steps", "tasks", "jobs", "services", "nodes"])
        .example("{ hello: { command: [echo, hello] } }"),
        Key::new(
            "edges",
            &Shape::Map { what: "edge", key: &NAME, of: &Shape::Record(&EDGE), min: 0, max: MAX_EDGES },
            "The edges by name: what flows from stage to stage.",
        )
        .also(&["links", "connections", "channels"])
        .example("{ events: { from: ingest, to: enrich, capacity: 64MiB } }"),
    ],
};

pub static VAR: Record = Record {
    name: "var",
    doc: "A value that `${name}` fills in, with more to say than its default. Names are lower-case letters, digits and `_`, not `self` or `replica`, and not also a key of `env`.",
    rivals: &[],
    open: false,
    keys: &[
        Key::new(
            "default",
            &Shape::Scalar,
            "The value where neither `--set` nor `env` gives one. Without it a value must be given.",
        )
        .example("9000"),
        Key::new("env", &ENV_VARIABLE, "The environment variable (of `nexusflow`) that gives the value.")
            .example("CLICK_PORT"),
        Key::new("help", &Shape::Str { what: "a string", pattern: &ANY, verbatim: true }, "What it is for.")
            .example("where to listen"),
    ],
};

static OVERLAP: Shape = Shape::Enum(&[
    Word::new("skip", "what falls due while a run goes on is left out"),
    Word::new("queue", "it waits"),
    Word::new("replace", "it stops the run that goes on"),
    Word::new("allow", "both run"),
]);

static SCHEDULE: Record = Record {
    name: "schedule",
    doc: "When a pipeline runs by the clock.",
    rivals: &[],
    open: false,
    keys: &[
        Key::new("cron", &STRING, "Five fields, or six with seconds first; names and `@daily` work.")
            .required()
            .example("\"30 2 * * *\""),
        Key::new("timezone", &STRING, "A zone's name.").default_says("the machine's").example("Europe/Zurich"),
        Key::new("overlap", &OVERLAP, "What falls due while a run goes on.").default("skip"),
        Key::new(
            "catchup",
            &Shape::Enum(&[
                Word::new("none", "it is counted as missed"),
                Word::new("latest", "one run makes up for all"),
                Word::new("all", "each is made up for"),
            ]),
            "What fell due while nobody looked.",
        )
        .default("none"),
        Key::new("catchup_window", &TIME, "How far back `catchup` looks.").example("24h"),
        Key::new("jitter", &TIME_OR_ZERO, "A random delay up to this.").default("0s").example("30s"),
    ],
};
