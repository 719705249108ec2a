//! The local AWS and the local runner, seen from outside: through the AWS SDK, HTTP and a function's process.
#![allow(missing_docs, reason = "tests say what they test by their names")]

mod run;
mod services;
mod support;
mod templates;
