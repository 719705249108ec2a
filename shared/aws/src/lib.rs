//! How we live on AWS: the only crate that knows it.
