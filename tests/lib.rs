//! Tests that stand on several crates; there is nothing to link against.
