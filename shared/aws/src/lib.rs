//! How we live on AWS: the only crate that knows it. The ports of `flows` over DynamoDB, SQS and Secrets Manager, and
//! what every function does around its flow: configuration, telemetry, the runtime loop.
//!
//! | module | what it holds |
//! |---|---|
//! | [`config`] | every environment variable, read once and typed |
//! | [`clients`] | the SDK clients: unmodified, built when first used, one TLS stack |
//! | [`dynamo`] | the register and its audit trail |
//! | [`tokens`] | the shared cache of bearer tokens, sealed |
//! | [`paces`] | how fast all instances together talk to a host |
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
pub mod paces;
pub mod secrets;
pub mod server_time;
pub mod ses;
pub mod sqs;
pub mod telemetry;
pub mod tokens;

#[cfg(test)]
mod secret_types {
    //! What holds a secret has no way to be printed or written.
    use serde::Serialize;
    use static_assertions::{assert_impl_all, assert_not_impl_any};
    use std::fmt::{Debug, Display};
    use zeroize::ZeroizeOnDrop;

    assert_not_impl_any!(crate::clients::AwsSettings: Debug, Display, Serialize);
    assert_not_impl_any!(crate::clients::Clients: Debug, Display, Serialize);
    assert_not_impl_any!(crate::config::Config: Debug, Display, Serialize);
    assert_not_impl_any!(crate::secrets::Document: Debug, Display, Serialize);
    assert_not_impl_any!(crate::secrets::SecretReader: Debug, Display, Serialize);
    assert_not_impl_any!(crate::tokens::SealKey: Debug, Display, Serialize, Clone);
    assert_not_impl_any!(crate::tokens::DynamoTokenStore: Debug, Display, Serialize);
    assert_not_impl_any!(secrecy::SecretString: Display, Serialize);
    assert_impl_all!(secrecy::SecretString: ZeroizeOnDrop);
    assert_impl_all!(chacha20poly1305::XChaCha20Poly1305: ZeroizeOnDrop);
}
