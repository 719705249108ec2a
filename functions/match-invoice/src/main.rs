//! Lambda function match-invoice.
fn main() {}
