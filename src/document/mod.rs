//! File text → one spanned tree, whatever the format. Pure: the text is handed in.

mod node;
pub use node::{Entry, Mapping, Node, Value};
