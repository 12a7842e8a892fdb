//! Where a stage runs: `placement`, `scheduling`, `limits`.

use super::pattern::ANY;
use super::pipeline::STAGE_NAME;
use super::{Key, Record, Shape, Word};

/// The largest CPU or node number.
pub const MAX_ID: i64 = 65_535;
const MAX_CPUS: i64 = 65_536;
const MAX_NEIGHBOURS: usize = 1024;

static NODE: Shape = Shape::Int { min: 0, max: MAX_ID };
static NEIGHBOURS: Shape = Shape::List { of: &STAGE_NAME, min: 1, max: MAX_NEIGHBOURS };

pub static PLACEMENT: Record = Record {
    name: "placement",
    doc: "What is asked of the machine. It is a contract: with `policy: strict` a stage whose placement cannot be honoured does not start. `replicas` each get their own. A stage without `placement` floats over the CPUs that nothing holds exclusively.",
    rivals: &[&["cpus", "cores", "cpuset"]],
    open: false,
    keys: &[
        Key::new("cpus", &Shape::Int { min: 1, max: MAX_CPUS }, "So many logical CPUs.").also(&["cpu"]).example("2"),
        Key::new("cores", &Shape::Int { min: 1, max: MAX_CPUS }, "So many whole cores, with all their logical CPUs.")
            .also(&["core"])
            .example("2"),
        Key::new("cpuset", &Shape::CpuList, "Exactly these logical CPUs.")
            .also(&["cpulist", "affinity"])
            .example("\"0-3,8\""),
        Key::new(
            "numa",
            &Shape::OneOf(&[
                &NODE,
                &Shape::List { of: &NODE, min: 1, max: MAX_NEIGHBOURS },
                &Shape::Enum(&[Word::new("auto", "the planner decides")]),
            ]),
            "The NUMA node, or the nodes, whose CPUs it runs on.",
        )
        .default("auto")
        .also(&["node", "nodes", "numa_node"])
        .example("0"),
        Key::new(
            "memory",
            &Shape::Enum(&[
                Word::new("default", "nothing is set"),
                Word::new("local", "of the node where it runs at the moment"),
                Word::new("bind", "of its nodes, and of no other"),
                Word::new("preferred", "of its node while there is any"),
                Word::new("interleave", "page by page over its nodes"),
            ]),
            "Where its memory comes from; the nodes are those it is placed on.",
        )
        .default("default")
        .also(&["membind", "mempolicy"])
        .example("bind"),
        Key::new(
            "smt",
            &Shape::Enum(&[
                Word::new("share", "siblings are CPUs like others"),
                Word::new("avoid", "not two of its CPUs on one core, nor beside another stage, where that can be had"),
                Word::new("exclusive", "siblings are left idle"),
            ]),
            "What becomes of the other hyper-threads of its cores.",
        )
        .default("share")
        .example("avoid"),
        Key::new("exclusive", &Shape::Bool, "No other stage of any run on these CPUs.")
            .default("false")
            .example("true"),
        Key::new(
            "near",
            &Shape::OneOf(&[
                &NEIGHBOURS,
                &Shape::Later(
                    "being near a device comes in a later release; stages work: `near: [ingest]`",
                    &Shape::Record(&NEAR),
                ),
            ]),
            "Stages to be close to: under the same L3 cache if they fit, else on the same node.",
        )
        .hint("a list, also of one: `near: [ingest]`")
        .example("[enrich]"),
        Key::new(
            "apart",
            &NEIGHBOURS,
            "Stages to be far from: not under the same L3 cache, better not on the same node.",
        )
        .hint("a list, also of one: `apart: [ingest]`")
        .example("[other]"),
        Key::new(
            "load",
            &Shape::Number { above: 0.0, max: 1.0 },
            "How busy it keeps each of its CPUs, for the planner.",
        )
        .default("1.0")
        .example("0.8"),
        Key::new(
            "memory_size",
            &Shape::Size { min: 1, max: u64::MAX },
            "How much memory it will use, for the planner.",
        )
        .example("4GiB"),
        Key::new("memory_bandwidth", &Shape::Rate, "How much memory traffic it makes, for the planner.")
            .example("10GB/s"),
        Key::new(
            "policy",
            &Shape::Enum(&[
                Word::new("strict", "it does not start, and the run ends 4 before anything has started")
                    .also(&["hard", "required"]),
                Word::new("prefer", "the plan says what was given up").also(&["soft", "best_effort"]),
            ]),
            "What happens where this cannot be honoured.",
        )
        .default("strict")
        .example("prefer"),
    ],
};

static NEAR: Record = Record {
    name: "near",
    doc: "A device to be close to.",
    rivals: &[],
    open: false,
    keys: &[Key::new(
        "device",
        &Shape::Str { what: "a device's name", pattern: &ANY, verbatim: false },
        "A network card, a disk, a GPU.",
    )
    .required()
    .example("eth0")],
};

pub static SCHEDULING: Record = Record {
    name: "scheduling",
    doc: "How the kernel shares CPUs with it; see sched(7).",
    rivals: &[],
    open: false,
    keys: &[
        Key::new(
            "class",
            &Shape::Enum(&[
                Word::new("other", "the ordinary class"),
                Word::new("batch", "as `other`, but never woken in a hurry"),
                Word::new("idle", "only when nothing else wants the CPU"),
                Word::new("fifo", "real time, until it waits of itself; needs `priority`").also(&["realtime", "rt"]),
                Word::new("rr", "real time, in turn with others of its priority; needs `priority`")
                    .also(&["round_robin"]),
            ]),
            "The scheduling class.",
        )
        .default("other")
        .also(&["policy"])
        .example("fifo"),
        Key::new("priority", &Shape::Int { min: 1, max: 99 }, "Of `fifo` and `rr`; 99 is the most urgent.")
            .example("50"),
        Key::new("nice", &Shape::Int { min: -20, max: 19 }, "Of `other` and `batch`; -20 is the greediest.")
            .default_says("inherited")
            .example("-5"),
    ],
};

pub static LIMITS: Record = Record {
    name: "limits",
    doc: "Limits of each replica's whole tree of processes.",
    rivals: &[],
    open: false,
    keys: &[
        Key::new("memory", &Shape::Size { min: 1, max: u64::MAX }, "Memory.").example("2GiB"),
        Key::new("open_files", &Shape::Int { min: 1, max: i64::MAX }, "Open files.").example("4096"),
    ],
};
