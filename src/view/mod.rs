//! Pictures: what a pipeline means, drawn. One renderer draws all SVG: [`picture`] says what is shown, [`layout`] where,
//! [`mod@svg`] how it looks.

mod dot;
mod layers;
pub mod layout;
mod mermaid;
pub mod picture;
pub mod svg;
#[cfg(test)]
mod tests;
mod words;

pub use dot::dot;
pub use mermaid::mermaid;

use crate::pipeline::Pipeline;

/// The graph of a pipeline.
pub fn svg(pipeline: &Pipeline) -> String {
    svg::draw(&picture::graph(pipeline))
}
