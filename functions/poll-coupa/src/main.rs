//! Lambda function poll-coupa.
fn main() {}
