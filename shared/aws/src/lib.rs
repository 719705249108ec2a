//! How we live on AWS: the only crate that knows it. The ports of `flows` over DynamoDB, SQS and Secrets Manager, and
//! what every function does around its flow: configuration, telemetry, the runtime loop.
//!
//! | module | what it holds |
//! |---|---|
//! | [`config`] | every environment variable, read once and typed |
//! | [`clients`] | the SDK clients: unmodified, built when first used, one TLS stack |
//! | [`dynamo`] | the register and its audit trail |
//! | [`tokens`] | the shared cache of bearer tokens, sealed |
//! | [`secrets`] | the connection's and the webhook's documents in Secrets Manager |
//! | [`sqs`] | sending hints, and serving a batch of them with a partial answer |
//! | [`telemetry`] | JSON logs and metrics, one line per event |
//! | [`clock`] | the owners of time and chance |
//! | [`lambda`] | what a `main` needs |

pub mod clients;
pub mod clock;
pub mod config;
pub mod dynamo;
pub mod lambda;
pub mod secrets;
pub mod sqs;
pub mod telemetry;
pub mod tokens;
