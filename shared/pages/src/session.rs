//! Who looks at the page: the roles, the sealed cookie, and the tokens by which a form proves that it is ours.
//!
//! Nothing is kept on the server. The cookie holds who it is and until when, sealed with XChaCha20-Poly1305 under a key of
//! its own; the browser can neither read nor change it.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use domain::time::Timestamp;
use flows::ports::Chance;
use hmac::{Hmac, Mac};
use secrecy::{ExposeSecret, SecretBox};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use subtle::ConstantTimeEq;

/// How long a session lasts, in milliseconds.
pub(crate) const SESSION_MILLIS: i64 = 8 * 3_600_000;
/// How long it lasts without a page being asked for, in milliseconds.
pub(crate) const IDLE_MILLIS: i64 = 3_600_000;
/// Longest cookie that is looked at, in bytes.
const COOKIE_BYTES_MAX: usize = 4_000;
/// Length of a nonce, in bytes: long enough to be drawn by lot.
const NONCE_BYTES: usize = 24;

/// What a person may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Works the exceptions.
    Clerk,
    /// Works them too, and is the second person above a limit.
    Approver,
    /// Closes the month.
    Controller,
    /// Reads.
    Auditor,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Clerk, Self::Approver, Self::Controller, Self::Auditor];

    /// Its one name, in settings and on the page.
    pub fn word(self) -> &'static str {
        match self {
            Self::Clerk => "clerk",
            Self::Approver => "approver",
            Self::Controller => "controller",
            Self::Auditor => "auditor",
        }
    }
}

/// A person who has proved who it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Person {
    /// For the audit trail: `oidc:<issuer>/<e-mail>` or `local:<e-mail>`. What stands after the last `/` or `:` is the person,
    /// as on every other way in.
    pub by: String,
    /// Shown on the page.
    pub name: String,
    /// What the person may do.
    pub roles: BTreeSet<Role>,
}

impl Person {
    /// Whether one of these roles is among the person's.
    pub(crate) fn is_any(&self, roles: &[Role]) -> bool {
        roles.iter().any(|role| self.roles.contains(role))
    }

    /// May work on invoices.
    pub(crate) fn may_act(&self) -> bool {
        self.is_any(&[Role::Clerk, Role::Approver])
    }
}

/// What the cookie holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Session {
    pub(crate) person: Person,
    /// Ends then, whatever happens.
    pub(crate) until: Timestamp,
    /// Ends then unless a page is asked for before.
    pub(crate) idle_until: Timestamp,
    /// Binds forms to this session.
    pub(crate) form_key: String,
}

impl Session {
    pub(crate) fn begin(person: Person, now: Timestamp, chance: &dyn Chance) -> Self {
        Self {
            person,
            until: now.plus_millis(SESSION_MILLIS),
            idle_until: now.plus_millis(IDLE_MILLIS),
            form_key: chance.token(),
        }
    }

    pub(crate) fn is_live(&self, now: Timestamp) -> bool {
        now < self.until && now < self.idle_until
    }

    /// The token of the forms that go to this path.
    pub(crate) fn form_token(&self, path: &str) -> String {
        // Any length of key is right for HMAC, so this cannot fail; an empty token fits nothing.
        let Ok(mut mac) = <Hmac<Sha256> as KeyInit>::new_from_slice(self.form_key.as_bytes()) else {
            return String::new();
        };
        mac.update(path.as_bytes());
        hex::encode(mac.finalize().into_bytes())
    }

    pub(crate) fn is_form_of(&self, path: &str, token: &str) -> bool {
        let own = self.form_token(path);
        !own.is_empty() && bool::from(own.as_bytes().ct_eq(token.as_bytes()))
    }
}

/// Seals what the browser keeps for us.
pub struct Seal(SecretBox<[u8; 32]>);

impl Seal {
    /// From any secret text of at least 32 bytes of chance.
    pub fn new(secret: &str) -> Self {
        let mut digest = Sha256::new();
        digest.update(b"qad-coupa console session 1:");
        digest.update(secret.as_bytes());
        Self(SecretBox::new(Box::new(digest.finalize().into())))
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(self.0.expose_secret().into())
    }

    /// Seals a value for one kind of cookie. `None` only when it cannot be written, which is a defect.
    pub(crate) fn close<T: Serialize>(&self, kind: &str, value: &T, chance: &dyn Chance) -> Option<String> {
        let text = serde_json::to_vec(value).ok()?;
        let mut digest = Sha256::new();
        digest.update(chance.token().as_bytes());
        digest.update(chance.token().as_bytes());
        let nonce: [u8; 32] = digest.finalize().into();
        let nonce: &[u8; NONCE_BYTES] = nonce.first_chunk()?;
        let payload = Payload {
            msg: &text,
            aad: kind.as_bytes(),
        };
        let sealed = self.cipher().encrypt(&XNonce::from(*nonce), payload).ok()?;
        Some(URL_SAFE_NO_PAD.encode([nonce.as_slice(), &sealed].concat()))
    }

    /// What was sealed for this kind of cookie; `None` for everything else.
    pub(crate) fn open<T: DeserializeOwned>(&self, kind: &str, text: &str) -> Option<T> {
        if text.len() > COOKIE_BYTES_MAX {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (nonce, sealed) = bytes.split_first_chunk::<NONCE_BYTES>()?;
        let payload = Payload {
            msg: sealed,
            aad: kind.as_bytes(),
        };
        let opened = self.cipher().decrypt(&XNonce::from(*nonce), payload).ok()?;
        serde_json::from_slice(&opened).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    struct Counting(AtomicU64);
    impl Chance for Counting {
        fn token(&self) -> String {
            self.0.fetch_add(1, Ordering::Relaxed).to_string()
        }
        fn up_to(&self, _: u64) -> u64 {
            0
        }
    }

    fn session() -> Session {
        let person = Person {
            by: "local:dana@example.com".into(),
            name: "Dana".into(),
            roles: BTreeSet::from([Role::Clerk]),
        };
        Session::begin(person, Timestamp(0), &Counting(AtomicU64::new(7)))
    }

    #[test]
    fn a_sealed_session_opens_with_its_key_and_kind_alone_and_not_when_it_was_touched() {
        let (seal, chance) = (Seal::new("one"), Counting(AtomicU64::new(0)));
        let text = seal.close("session", &session(), &chance).unwrap();
        assert_eq!(seal.open::<Session>("session", &text), Some(session()));
        assert_eq!(
            seal.open::<Session>("flow", &text),
            None,
            "another kind of cookie"
        );
        assert_eq!(
            Seal::new("two").open::<Session>("session", &text),
            None,
            "another key"
        );
        for place in 0..text.len() {
            let mut touched = text.clone().into_bytes();
            touched[place] = if touched[place] == b'A' { b'B' } else { b'A' };
            let touched = String::from_utf8(touched).unwrap();
            assert!(
                touched == text
                    || seal.open::<Session>("session", &touched) != Some(session())
                    || place + 1 == text.len(),
                "{place}"
            );
        }
        assert_ne!(
            text,
            seal.close("session", &session(), &chance).unwrap(),
            "every seal has its own nonce"
        );
        assert!(!text.contains("dana"));
        assert_eq!(seal.open::<Session>("session", &"A".repeat(5_000)), None);
    }

    #[test]
    fn a_session_ends_by_age_and_by_idleness() {
        let session = session();
        assert!(session.is_live(Timestamp(IDLE_MILLIS - 1)));
        assert!(!session.is_live(Timestamp(IDLE_MILLIS)));
        let busy = Session {
            idle_until: Timestamp(i64::MAX),
            ..session
        };
        assert!(!busy.is_live(Timestamp(SESSION_MILLIS)));
    }

    #[test]
    fn a_form_belongs_to_its_path_and_its_session() {
        let one = session();
        let token = one.form_token("/invoices/7/release");
        assert!(one.is_form_of("/invoices/7/release", &token));
        assert!(!one.is_form_of("/invoices/8/release", &token));
        assert!(!one.is_form_of("/invoices/7/release", ""));
        let other = Session {
            form_key: "other".into(),
            ..session()
        };
        assert!(!other.is_form_of("/invoices/7/release", &token));
    }

    #[test]
    fn a_person_on_the_page_is_the_same_as_on_the_command_line() {
        use domain::instruction::Instruction;
        let by = |by: &str| Instruction::new(by, "agreed with the buyer").unwrap();
        let page = by("oidc:login.example.com/dana@example.com");
        assert!(page.is_by_the_same_as(&by(
            "arn:aws:sts::111122223333:assumed-role/Clerk/Dana@example.com"
        )));
        assert!(page.is_by_the_same_as(&by("local:dana@example.com")));
        assert!(!page.is_by_the_same_as(&by("oidc:login.example.com/sam@example.com")));
    }
}
