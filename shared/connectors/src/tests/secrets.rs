//! What holds a secret has no way to be printed or written.

use super::*;
use crate::connection::{CoupaSettings, QadAuth, QadSettings};
use crate::http::auth::{Credential, Login, Scheme};
use serde::Serialize;
use static_assertions::{assert_impl_all, assert_not_impl_any};
use std::fmt::{Debug, Display};

assert_not_impl_any!(Credential: Debug, Display, Serialize, Clone);
assert_not_impl_any!(CoupaClient: Debug, Display, Serialize);
assert_not_impl_any!(QadClient: Debug, Display, Serialize);
assert_not_impl_any!(Request: Display, Serialize);
assert_not_impl_any!(Response: Display, Serialize);
assert_not_impl_any!(ConnectionDocument: Display, Serialize);
assert_not_impl_any!(CoupaSettings: Display, Serialize);
assert_not_impl_any!(QadSettings: Display, Serialize);
assert_not_impl_any!(QadAuth: Display, Serialize);
assert_not_impl_any!(Scheme: Display, Serialize);
assert_not_impl_any!(Login: Display, Serialize);
assert_impl_all!(secrecy::SecretString: zeroize::ZeroizeOnDrop);

#[test]
fn what_is_printed_of_a_connection_shows_none_of_its_secrets() {
    let auths = [
        serde_json::json!({"type": "password", "client_id": "c", "client_secret": "canary", "username": "u", "password": "canary"}),
        serde_json::json!({"type": "client-credentials", "client_id": "c", "client_secret": "canary"}),
        serde_json::json!({"type": "basic", "username": "u", "password": "canary"}),
        serde_json::json!({"type": "login", "path": "/x", "username": "u", "password": "canary"}),
    ];
    for auth in auths {
        let mut document = document();
        document["coupa"]["client_secret"] = "canary".into();
        document["qad"]["auth"] = auth;
        document["qad"]["extra_headers"] = serde_json::json!({"x-subscription-key": "canary"});
        let parsed = ConnectionDocument::parse(&document.to_string()).unwrap();
        assert!(!format!("{parsed:?}").contains("canary"), "{parsed:?}");
    }
}
