//! What Coupa is to show of an invoice: its integration history, as a total function of the state.
//!
//! It is read by buyers and approvers, who have neither a terminal nor a page of this system. It names no command and no
//! person: who paused the posting or took an invoice out stands in the audit trail.

use super::{instant, paid_words, sentence_of_state};
use crate::lifecycle::{InvoiceRecord, PaidState, ParkReason, State};
use crate::problem::WhoActs;
use serde::{Deserialize, Serialize};

/// The code that an invoice in QAD is shown with.
pub const POSTED: &str = "POSTED";

/// How a record of the integration history stands. Exactly one stands open while a person must act, and it alone alerts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// Open, with an alert to the contact for questions of the business.
    ForAccountsPayable,
    /// Open, with an alert to the contact for questions of the connection.
    ForTheEngineer,
    /// Open, without an alert: nobody needs to act.
    Waiting,
    /// Told and closed.
    Finished,
    /// What was told before holds no more, and nothing is told in its place.
    Withdrawn,
}

/// What is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// How it stands.
    pub standing: Standing,
    /// Stable code: `POSTED`, or the first reason's.
    pub code: String,
    /// One plain sentence; empty when something is withdrawn.
    pub message: String,
}

/// What Coupa is to show; `None` while it is being decided or on its way to QAD, when what was told last stands until it is
/// known how that ended, so that nobody is alerted twice for one thing. Every state is named: none that lasts leaves an older
/// record open that contradicts it.
pub fn shown_in_coupa(record: &InvoiceRecord) -> Option<Shown> {
    let told = |standing, code: String, message: String| {
        Some(Shown {
            standing,
            code,
            message,
        })
    };
    let first_code = || {
        let codes = record.state.codes().into_iter().next();
        codes.unwrap_or_else(|| record.state.word().to_uppercase())
    };
    match &record.state {
        State::Held { .. } => told(Standing::Waiting, first_code(), undated(record)),
        State::Parked { reason } => {
            let who = match reason {
                ParkReason::Match { .. } => WhoActs::AccountsPayable,
                ParkReason::Problem { problem } | ParkReason::InQad { problem, .. } => problem.who_acts(),
            };
            told(standing(who), first_code(), undated(record))
        }
        State::Exported { .. } => match &record.paid {
            Some(paid @ PaidState::Parked { problem }) => told(
                standing(problem.who_acts()),
                problem.code.clone(),
                paid_words(paid),
            ),
            _ => told(Standing::Finished, POSTED.to_owned(), undated(record)),
        },
        State::Rejected { problem } if record.state.is_skipped() => told(
            Standing::Finished,
            problem.code.clone(),
            "Accounts payable has taken it out: it is not posted to QAD by itself.".to_owned(),
        ),
        State::Received { coupa_status: None } | State::Approved | State::Posted { .. } => None,
        // Coupa shows these itself.
        State::Received {
            coupa_status: Some(_),
        }
        | State::Rejected { .. }
        | State::Voided { .. } => told(Standing::Withdrawn, first_code(), String::new()),
    }
}

/// The sentence without since when it is so: Coupa dates its records itself, and what is found again is not told again.
fn undated(record: &InvoiceRecord) -> String {
    let since = instant(record.since);
    sentence_of_state(record)
        .replace(&format!(" since {since}"), "")
        .replace(&format!(" {since}"), "")
}

fn standing(who: WhoActs) -> Standing {
    match who {
        WhoActs::AccountsPayable => Standing::ForAccountsPayable,
        WhoActs::Engineer => Standing::ForTheEngineer,
    }
}

impl Standing {
    /// Whether a record of this standing stays open, so that a later one must close it.
    pub fn stays_open(self) -> bool {
        match self {
            Self::ForAccountsPayable | Self::ForTheEngineer | Self::Waiting => true,
            Self::Finished | Self::Withdrawn => false,
        }
    }

    /// Whether somebody is alerted.
    pub fn alerts(self) -> bool {
        match self {
            Self::ForAccountsPayable | Self::ForTheEngineer => true,
            Self::Waiting | Self::Finished | Self::Withdrawn => false,
        }
    }
}
