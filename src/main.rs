//! The `haypile` command.
fn main() {}
