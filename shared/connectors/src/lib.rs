//! How we speak to Coupa and QAD: the only crate that knows HTTP.
