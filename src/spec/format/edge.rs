//! What an edge may say.

use super::pipeline::STAGE_NAME;
use super::placement::MAX_ID;
use super::{Key, Record, Shape, Word};

pub const MIN_CAPACITY_BYTES: u64 = 1 << 10;
/// What a ring can be made for.
pub const MAX_CAPACITY_BYTES: u64 = 1 << 36;
pub const MAX_ENDS: usize = 4096;

static ENDS: Shape = Shape::OneOf(&[&STAGE_NAME, &Shape::List { of: &STAGE_NAME, min: 1, max: MAX_ENDS }]);

pub static EDGE: Record = Record {
    name: "edge",
    doc: "What flows from stage to stage. Nothing is lost by default: a full edge holds its producer back. A producer's clean exit closes its edges: consumers read what is left, then the end.",
    rivals: &[],
    open: false,
    keys: &[
        Key::new("from", &ENDS, "The stage that writes, or a list: each of them, and each replica, has a ring of its own; the reader merges them fairly, in order per producer.")
            .required()
            .also(&["source", "producer"])
            .example("ingest"),
        Key::new("to", &ENDS, "The stage that reads, or a list.").required().also(&["target", "destination", "consumer"]).example("[enrich, archive]"),
        Key::new(
            "kind",
            &Shape::Enum(&[
                Word::new("ring", "shared memory between the processes; unmodified programs reach it with `stdin`, `stdout` or `bind`"),
                Word::new("pipe", "a kernel pipe from the `stdout` of one unmodified program to the `stdin` of another"),
                Word::new("object", "whole pictures, tables or models, each kept until all consumers have released it; of an unmodified program the whole stream is one object"),
            ]),
            "How it is carried.",
        )
        .default("ring")
        .also(&["type"])
        .example("pipe"),
        Key::new("capacity", &Shape::Size { min: MIN_CAPACITY_BYTES, max: MAX_CAPACITY_BYTES }, "How much it holds, per ring, or per producer of objects; rounded up to whole pages. What does not fit holds the producer back.")
            .default("16MiB")
            .default_says("`16MiB`; `1MiB` for a pipe")
            .also(&["size", "buffer"])
            .example("64MiB"),
        Key::new("max_message", &Shape::Size { min: 1, max: MAX_CAPACITY_BYTES }, "The longest message, or object. A longer one fails the stage that wrote it.")
            .default_says("a quarter of `capacity`; for objects all of it")
            .example("1MiB"),
        Key::new(
            "delivery",
            &Shape::Enum(&[
                Word::new("broadcast", "every consumer sees every message; the slowest holds the producer back"),
                Word::new("distribute", "each message goes to one replica of the stages in `to`; what one that ends early left unread, to those that stay"),
            ]),
            "Who gets a message.",
        )
        .default("broadcast")
        .example("distribute"),
        Key::new(
            "by",
            &Shape::Enum(&[
                Word::new("round_robin", "in strict turn"),
                Word::new("least_backlog", "to the one that has the fewest unreleased bytes"),
                Word::new("key", "by a key that the producer gives with each message: the same key, the same consumer"),
            ]),
            "How `distribute` chooses.",
        )
        .default("round_robin")
        .example("round_robin"),
        Key::new(
            "on_full",
            &Shape::Enum(&[
                Word::new("block", "the producer waits: nothing is lost"),
                Word::new("drop_newest", "the message that finds no room is dropped; each consumer's drops are counted"),
                Word::new("drop_oldest", "the oldest unread messages make room; of a consumer that is reading the oldest, the newest is dropped instead"),
            ]),
            "What happens when it is full.",
        )
        .default("block")
        .example("block"),
        Key::new(
            "wait",
            &Shape::Enum(&[
                Word::new("adaptive", "spins for a short while, then sleeps"),
                Word::new("spin", "never sleeps: the lowest latency, at the price of a busy CPU on each side"),
                Word::new("block", "sleeps at once"),
            ]),
            "How the two sides wait for each other.",
        )
        .default("adaptive")
        .example("spin"),
        Key::new("rate", &Shape::Rate, "The expected flow: a hint to placement.").example("400MB/s"),
        Key::new("messages", &Shape::Number { above: 0.0, max: f64::INFINITY }, "Expected messages per second: a hint to placement.").example("10000"),
        Key::new("memory", &Shape::Record(&EDGE_MEMORY), "Where its memory lies."),
        Key::new("redeliver", &Shape::Size { min: 0, max: MAX_CAPACITY_BYTES }, "How many bytes an unmodified program that reads this edge must have been given after a message before that counts as read: when it is restarted alone it is given again what did not. At least what the pipe to it and its read-ahead hold; under half of `capacity`.")
            .default_says("`128KiB`, or a quarter of `capacity` if that is less")
            .example("128KiB"),
        Key::new("sealed", &Shape::Bool, "Each object in a memory of its own that nobody can change once it is there, not even its creator; making one costs more.")
            .default("false")
            .example("true"),
    ],
};

static EDGE_MEMORY: Record = Record {
    name: "edge_memory",
    doc: "Where an edge's memory lies.",
    rivals: &[],
    open: false,
    keys: &[
        Key::new(
            "numa",
            &Shape::OneOf(&[
                &Shape::Int { min: 0, max: MAX_ID },
                &Shape::Enum(&[
                    Word::new("consumer", "the node of the consumer's CPUs, and no other"),
                    Word::new("producer", "the node of the producer's CPUs, and no other"),
                    Word::new("auto", "the consumers' node if they share one, else the producer's; elsewhere if there is no room"),
                ]),
            ]),
            "The NUMA node it comes from: a number is that node and no other.",
        )
        .default("auto"),
        Key::new(
            "hugepages",
            &Shape::Enum(&[
                Word::new("none", "ordinary pages"),
                Word::new("2MiB", "huge pages"),
                Word::new("1GiB", "the largest pages"),
            ]),
            "The size of its pages. Huge ones must be there: `/proc/sys/vm/nr_hugepages` reserves them. `capacity` is rounded up to them.",
        )
        .default("none"),
    ],
};
