//! The operator's command line, the demo and the local run.
fn main() {}
