//! Lambda function sweep.
fn main() {}
