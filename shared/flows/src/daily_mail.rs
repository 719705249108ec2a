//! One mail a day: never two for one day, and never none without a word.
//!
//! A mail cannot be looked up after its answer was lost, so the day is written down before the first byte of it leaves, and only a
//! refusal that proves that nothing was sent takes that back. What is not known counts as sent: a second mail would say nothing
//! that the page does not say.

use crate::ports::{Commit, CommitError, RecordKey, RecordWrite, Register, WriteError};
use crate::store::{Context, FlowError, parse, render};
use async_trait::async_trait;
use domain::time::Date;
use serde::{Deserialize, Serialize};

/// A mail, as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    /// Its subject.
    pub subject: String,
    /// Its text.
    pub text: String,
}

/// Who sends mails.
#[async_trait]
pub trait Mailer: Send + Sync {
    /// Sends it once.
    ///
    /// # Errors
    /// What became of it: provably nothing, or not known.
    async fn send(&self, mail: &Mail) -> Result<(), WriteError>;
}

/// How far the mail of a day has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Stage {
    /// It may be on its way.
    Begun,
    /// It was accepted.
    Sent,
    /// Provably none was sent: it may be tried again.
    NotSent,
    /// Its answer was lost: it is not tried again.
    Unknown,
}

/// The last mail of a connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Mark {
    day: Date,
    stage: Stage,
}

/// What became of the mail of a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mailed {
    /// It was accepted now.
    Now,
    /// It was sent earlier, or may have been: whoever began it has told what became of it.
    Before,
}

fn key() -> RecordKey {
    RecordKey::Watermark("daily-mail".to_owned())
}

async fn mark(register: &dyn Register) -> Result<(Option<Mark>, u64), FlowError> {
    let found = register.read(&[key()]).await?.into_iter().next().flatten();
    match found {
        Some(stored) => Ok((Some(parse(&stored)?), stored.revision)),
        None => Ok((None, 0)),
    }
}

/// Writes the mark, if it is still as it was seen; false when somebody else was faster.
async fn put(context: &Context<'_>, seen: u64, mark: &Mark) -> Result<bool, FlowError> {
    let commit = Commit {
        token: context.chance.token(),
        writes: vec![RecordWrite::Put {
            key: key(),
            seen,
            body: render(mark)?,
            state: String::new(),
            due: None,
        }],
        audit: vec![],
    };
    match context.register.commit(commit).await {
        Ok(()) => Ok(true),
        Err(CommitError::Conflict) => Ok(false),
        Err(CommitError::Store(error)) => Err(FlowError::Store(error)),
    }
}

/// Sends the mail of this day, unless it was sent or may have been.
///
/// # Errors
/// It was not sent, or it is not known whether it was; the register gave no answer; it cannot be sent before the deadline.
pub async fn run(
    context: &Context<'_>,
    mailer: &dyn Mailer,
    day: Date,
    compose: impl AsyncFnOnce() -> Result<Mail, FlowError>,
) -> Result<Mailed, FlowError> {
    let (before, seen) = mark(context.register).await?;
    if before.is_some_and(|mark| mark.day > day || (mark.day == day && mark.stage != Stage::NotSent)) {
        return Ok(Mailed::Before);
    }
    let mail = compose().await?;
    if !context.has_time_for_a_call() {
        return Err(FlowError::OutOfTime);
    }
    let begun = Mark {
        day,
        stage: Stage::Begun,
    };
    if !put(context, seen, &begun).await? {
        return Ok(Mailed::Before);
    }
    let answer = mailer.send(&mail).await;
    let stage = match &answer {
        Ok(()) => Stage::Sent,
        Err(WriteError::NotApplied { .. } | WriteError::Refused(_)) => Stage::NotSent,
        Err(WriteError::Unknown(_)) => Stage::Unknown,
    };
    // If this is lost, the day counts as begun, which is what is known.
    put(context, seen.saturating_add(1), &Mark { day, stage }).await?;
    match answer {
        Ok(()) => Ok(Mailed::Now),
        Err(error) => Err(FlowError::Unanswered(error.problem().clone())),
    }
}
