//! The machine as a value: packages, dies, L3 caches, cores, PUs, NUMA nodes and their distances. Pure.

mod idset;
pub use idset::{CpuSet, IdSet, NodeSet};
