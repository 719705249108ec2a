//! Lambda function poll-receipts.
fn main() {}
