//! Lambda function receive-webhook.
fn main() {}
