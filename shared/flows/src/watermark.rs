//! How far a poller has come: read, compared by digest, moved by compare-and-set.
//!
//! QAD's cursors are days, so a window of days is read again each time and known rows are recognised by their digest.

use crate::ports::{Chance, Commit, CommitError, RecordKey, RecordWrite, Register};
use crate::store::{FlowError, parse, render};
use domain::time::Date;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

/// Most digests that are remembered (16 characters each, so that the watermark stays far below the item limit); rows
/// beyond it are looked at again each cycle, which is harmless.
pub const DIGESTS_MAX: usize = 15_000;
/// Bytes of a row's hash that are kept.
const DIGEST_BYTES: usize = 8;

/// A poller's watermark as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored<W> {
    /// Where.
    pub key: RecordKey,
    /// Its revision; 0 when there is none yet.
    pub revision: u64,
    /// What it says; `None` when there is none yet.
    pub watermark: Option<W>,
}

/// Of what a poller reads: all of a connection, or one of its entities or domains.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Scope {
    /// The connection's only one.
    #[default]
    Whole,
    /// One of several.
    Part {
        /// Its code, folded.
        code: String,
        /// It stands first in the settings: what the connection's only one has come to is continued here.
        first: bool,
    },
}

impl Scope {
    /// Its code; nothing for the whole.
    pub fn word(&self) -> &str {
        match self {
            Self::Whole => "",
            Self::Part { code, .. } => code,
        }
    }
}

/// Reads the watermark of a poller in a scope. The first of several begins where the connection's only one had come to;
/// the others begin anew.
pub async fn load_within<W: DeserializeOwned>(
    register: &dyn Register,
    name: &str,
    scope: &Scope,
) -> Result<Stored<W>, FlowError> {
    let Scope::Part { code, first } = scope else {
        return load(register, name).await;
    };
    let stored = load::<W>(register, &format!("{name}/{code}")).await?;
    if stored.revision > 0 || !first {
        return Ok(stored);
    }
    let before = load::<W>(register, name).await?;
    Ok(Stored {
        watermark: before.watermark,
        ..stored
    })
}

/// Reads the watermark of a poller.
pub async fn load<W: DeserializeOwned>(register: &dyn Register, name: &str) -> Result<Stored<W>, FlowError> {
    let key = RecordKey::Watermark(name.to_owned());
    let found = register
        .read(std::slice::from_ref(&key))
        .await?
        .into_iter()
        .next()
        .flatten();
    Ok(Stored {
        key,
        revision: found.as_ref().map_or(0, |stored| stored.revision),
        watermark: found.as_ref().map(parse).transpose()?,
    })
}

/// Moves a watermark by compare-and-set; false when another run was faster, and then nothing has changed.
pub async fn advance<W: Serialize>(
    register: &dyn Register,
    chance: &dyn Chance,
    key: &RecordKey,
    seen: u64,
    after: &W,
) -> Result<bool, FlowError> {
    let put = RecordWrite::Put {
        key: key.clone(),
        seen,
        body: render(after)?,
        state: String::new(),
        due: None,
    };
    let commit = Commit {
        token: chance.token(),
        writes: vec![put],
        audit: vec![],
    };
    match register.commit(commit).await {
        Ok(()) => Ok(true),
        Err(CommitError::Conflict) => Ok(false),
        Err(CommitError::Store(error)) => Err(error.into()),
    }
}

/// What makes a row the same row, from those of its parts that matter.
pub fn digest(parts: &[String]) -> String {
    let hash = Sha256::digest(parts.join("\u{1f}").as_bytes());
    hex::encode(hash.iter().take(DIGEST_BYTES).copied().collect::<Vec<u8>>())
}

/// The same as a number.
pub fn mark(parts: &[String]) -> u64 {
    let hash = Sha256::digest(parts.join("\u{1f}").as_bytes());
    hash.iter()
        .take(DIGEST_BYTES)
        .fold(0, |mark, byte| (mark << 8) | u64::from(*byte))
}

/// A mark as [`digest`] writes it.
pub fn text_of(mark: u64) -> String {
    format!("{mark:016x}")
}

/// So many days earlier.
pub fn days_before(date: Date, days: i64) -> Date {
    date.checked_sub(jiff::Span::new().days(days))
        .unwrap_or(Date::MIN)
}

/// A length as a count.
pub fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
