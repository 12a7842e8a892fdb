//! What the file says: the tree lowered to typed values, each with its place. Nothing is resolved
//! across keys here; that is [`crate::pipeline`].

mod types;
pub use types::*;
