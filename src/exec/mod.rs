//! Performs actions (being written).
