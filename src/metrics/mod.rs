//! Prometheus: what a run leaves behind for node_exporter's textfile collector.

mod textfile;

pub use textfile::render;
