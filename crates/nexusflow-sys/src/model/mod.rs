//! Under `--cfg loom`: memory that processes share, and sleeping on it, as loom can explore them. So that rings are
//! model-checked as they are: only what lies below them, [`map`](crate::map) and [`futex`](crate::futex), is another.

pub mod atomic;
pub mod futex;
pub mod map;
