//! The life of an invoice: its states, its events, and [`InvoiceRecord::after`], the only way it changes.
//!
//! ```text
//! Received ──► Held ◄─► (decided again) ──► Approved ──► Posted ──► Exported
//!     │          │                             │            │
//!     └──────────┴──► Parked ◄─────────────────┴────────────┘      Rejected, Voided
//! ```
//!
//! The audit trail is the list of events: replaying it through the same function gives the record's state again.

use crate::documents::{InvoiceParticulars, SourceVersion};
use crate::effect::{Effect, EffectEvent, EffectStatus, IllegalEffect};
use crate::guards::{Guard, stands};
use crate::ids::{DocumentKind, EntityCode, InvoiceId, InvoiceReference, OrderLineKey, PurchaseOrderNumber};
use crate::index::Indexed;
use crate::instruction::{Instruction, Release, SKIPPED};
use crate::matching::{Exception, ExceptionCode, LineCoding, MatchReport};
use crate::money::Currency;
use crate::patience::Since;
use crate::problem::Problem;
use crate::time::{Date, Timestamp};
use crate::timing::Timing;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

/// The layout of [`InvoiceRecord`] that this version writes. It reads this one and the one before.
pub const RECORD_SCHEMA: u32 = 1;

/// QAD's own number of a supplier invoice; with the entity it is the system identity (confirmed).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Voucher {
    /// Posting year.
    pub year: u32,
    /// Daybook, as QAD gave it.
    pub daybook: String,
    /// Voucher number.
    pub number: u64,
}

impl fmt::Display for Voucher {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}/{}", self.year, self.daybook, self.number)
    }
}

/// Longest daybook of a number that somebody types, in characters.
const DAYBOOK_CHARACTERS_MAX: usize = 20;

/// A text that is no number of a supplier invoice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("year/daybook/number, as 2026/SI/100012")]
pub struct NoVoucher;

impl FromStr for Voucher {
    type Err = NoVoucher;

    /// Reads a number as it is shown.
    fn from_str(text: &str) -> Result<Self, NoVoucher> {
        let mut parts = text.trim().split('/');
        let (Some(year), Some(daybook), Some(number), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(NoVoucher);
        };
        let is_daybook = (1..=DAYBOOK_CHARACTERS_MAX).contains(&daybook.chars().count())
            && daybook.chars().all(|letter| letter.is_ascii_graphic());
        Ok(Self {
            year: year.parse().map_err(|_| NoVoucher)?,
            daybook: is_daybook.then(|| daybook.to_owned()).ok_or(NoVoucher)?,
            number: number.parse().map_err(|_| NoVoucher)?,
        })
    }
}

/// A document in QAD that a person has named as an invoice's, and that nobody has looked up yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdoptionRequest {
    /// Its number there.
    pub voucher: Voucher,
    /// Its total there, when it differs from Coupa's and that is accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted_total: Option<Decimal>,
    /// Who, and why.
    pub instruction: Instruction,
}

/// How a supplier invoice came to be in QAD.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PostedHow {
    /// Our create was confirmed.
    Created,
    /// The answer to our create was lost; the look-up found our document.
    Recovered,
    /// Somebody had keyed the same document by hand; it was taken as ours.
    Adopted,
    /// It carries our mark, and this register has never sent it: what another one knew of it is lost.
    Restored,
}

impl PostedHow {
    /// How it was known that a document which was not just created is this invoice's: a stable word for programs.
    pub fn adopted(self) -> Option<&'static str> {
        match self {
            Self::Created => None,
            Self::Recovered => Some("ours-after-a-lost-answer"),
            Self::Adopted => Some("keyed-by-hand"),
            Self::Restored => Some("ours-after-a-lost-register"),
        }
    }
}

/// Why a person must act.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "why")]
pub enum ParkReason {
    /// The match found what only a person can resolve. Decided again when asked, or when the invoice changes.
    Match {
        /// All exceptions.
        exceptions: Vec<Exception>,
    },
    /// Anything else before a document of ours is in QAD. Decided again when asked, or when the invoice changes.
    Problem {
        /// What.
        problem: Problem,
    },
    /// Something is wrong with a document that is, or may be, in QAD. Never decided again by itself.
    InQad {
        /// What, and what to do.
        problem: Problem,
        /// The document's number, when known.
        voucher: Option<Voucher>,
    },
}

impl ParkReason {
    /// The stable code of the first reason.
    pub fn code(&self) -> String {
        match self {
            Self::Match { exceptions } => exceptions.first().map_or_else(
                || "MATCH".to_owned(),
                |exception| exception.code.as_str().to_owned(),
            ),
            Self::Problem { problem } | Self::InQad { problem, .. } => problem.code.clone(),
        }
    }
}

/// Where an invoice stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "is")]
pub enum State {
    /// Known, not decided: Coupa could not be asked yet, or has not approved it (any more).
    Received {
        /// Coupa's word for a status that is neither approved nor voided.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        coupa_status: Option<String>,
    },
    /// Waits for the other system and heals by itself.
    Held {
        /// Why.
        exceptions: Vec<Exception>,
        /// The order lines it waits for.
        awaits: Vec<OrderLineKey>,
    },
    /// Matched; being created in QAD.
    Approved,
    /// In QAD; being marked exported in Coupa.
    Posted {
        /// Its number there.
        voucher: Voucher,
        /// How it came there.
        how: PostedHow,
    },
    /// In QAD, and Coupa knows.
    Exported {
        /// Its number in QAD.
        voucher: Voucher,
        /// How it came there.
        how: PostedHow,
    },
    /// Waits for a person.
    Parked {
        /// Why.
        reason: ParkReason,
    },
    /// Nothing will be done with it, and why.
    Rejected {
        /// Why.
        problem: Problem,
    },
    /// Voided in Coupa before anything was posted; being marked exported there, or already marked.
    Voided {
        /// Whether Coupa's exported flag was set.
        exported: bool,
    },
}

impl State {
    /// True when a new look at Coupa and QAD may change where it stands.
    pub fn is_undecided(&self) -> bool {
        match self {
            Self::Received { .. }
            | Self::Held { .. }
            | Self::Parked {
                reason: ParkReason::Match { .. } | ParkReason::Problem { .. },
            } => true,
            Self::Rejected { .. } => !self.is_skipped(),
            _ => false,
        }
    }

    /// True when a person took it out.
    pub fn is_skipped(&self) -> bool {
        matches!(self, Self::Rejected { problem } if problem.code == SKIPPED)
    }

    /// The state's one name, as stored, listed and logged.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Received { .. } => "received",
            Self::Held { .. } => "held",
            Self::Approved => "approved",
            Self::Posted { .. } => "posted",
            Self::Exported { .. } => "exported",
            Self::Parked { .. } => "parked",
            Self::Rejected { .. } => "rejected",
            Self::Voided { .. } => "voided",
        }
    }

    /// The number of the document in QAD, when there is one.
    pub fn voucher(&self) -> Option<&Voucher> {
        match self {
            Self::Posted { voucher, .. } | Self::Exported { voucher, .. } => Some(voucher),
            Self::Parked {
                reason: ParkReason::InQad { voucher, .. },
            } => voucher.as_ref(),
            _ => None,
        }
    }

    /// Stable codes of why it is not further; empty when nothing is in the way.
    pub fn codes(&self) -> Vec<String> {
        let all = |exceptions: &[Exception]| {
            let mut codes: Vec<String> = Vec::new();
            for exception in exceptions {
                let code = exception.code.as_str().to_owned();
                if !codes.contains(&code) {
                    codes.push(code);
                }
            }
            codes
        };
        match self {
            Self::Held { exceptions, .. }
            | Self::Parked {
                reason: ParkReason::Match { exceptions },
            } => all(exceptions),
            Self::Parked { reason } => vec![reason.code()],
            Self::Rejected { problem } => vec![problem.code.clone()],
            _ => Vec::new(),
        }
    }
}

/// What people recognise an invoice by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// The supplier's number of it.
    pub reference: InvoiceReference,
    /// Invoice or credit note.
    pub kind: DocumentKind,
    /// Supplier's name in Coupa.
    pub supplier_name: String,
    /// Supplier's QAD number as Coupa holds it.
    pub supplier_number: Option<String>,
    /// Invoice date.
    pub invoice_date: Date,
    /// Total with taxes.
    pub total: Decimal,
    /// Its currency.
    pub currency: Currency,
    /// The purchase orders it names.
    pub orders: Vec<PurchaseOrderNumber>,
    /// What people ask of it beside; empty in records from before it was kept.
    #[serde(default, skip_serializing_if = "InvoiceParticulars::is_empty")]
    pub particulars: InvoiceParticulars,
}

/// What QAD has paid of an invoice, as far as Coupa shows it. Beside the state, not part of it: payments come after
/// everything else, partly, in full, and back again, and none of that changes what the invoice is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "is")]
pub enum PaidState {
    /// Some of it.
    Partly {
        /// What is settled, discounts included, signed.
        settled: Decimal,
        /// Of how much.
        total: Decimal,
        /// Currency of both.
        currency: Currency,
    },
    /// All of it.
    Fully {
        /// Date of the last payment.
        on: Date,
        /// The last payment's key.
        payment: String,
    },
    /// QAD has closed it, and not all of it by payments: written off, withheld, discounted, adjusted or prepaid.
    Closed {
        /// Since when, by QAD's day.
        on: Date,
        /// What payments and their discounts have settled, signed.
        settled: Decimal,
        /// Of how much.
        total: Decimal,
        /// Currency of both.
        currency: Currency,
    },
    /// What was paid was taken back.
    TakenBack {
        /// How much is open again.
        total: Decimal,
        /// Its currency.
        currency: Currency,
    },
    /// A person must look before anything more is written.
    Parked {
        /// Why.
        problem: Problem,
    },
    /// Its payments are none of ours.
    LeftAlone {
        /// Why.
        problem: Problem,
    },
}

/// The books were closed when it was sent to QAD. It is not sent again to the same period before something has changed there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClosedPeriod {
    /// The posting date that QAD refused.
    pub posting_date: Date,
    /// When.
    pub refused_at: Timestamp,
    /// As it is told, word for word, every time it is told.
    pub exception: Exception,
    /// QAD's list of periods has shown the books open once, and the invoice was sent on the strength of it. Should QAD refuse it
    /// all the same, the list is not asked again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub list_was_trusted: bool,
}

impl ClosedPeriod {
    /// A refusal of this posting date in an entity, in QAD's own words.
    pub fn new(posting_date: Date, refused_at: Timestamp, entity: &EntityCode, said: &str) -> Self {
        Self {
            posting_date,
            refused_at,
            exception: Exception {
                code: ExceptionCode::PeriodClosed,
                line: None,
                order_line: None,
                expected: format!("open books of {entity} on {posting_date}"),
                actual: crate::problem::clean(said),
                limit: String::new(),
            },
            list_was_trusted: false,
        }
    }

    /// Whether it is still in the way of this posting date: it is in the same month, and nobody has said since then from when on
    /// the books are open.
    pub fn still_stands(&self, posting_date: Date, opened_at: Option<Timestamp>) -> bool {
        let same_month = (self.posting_date.year(), self.posting_date.month())
            == (posting_date.year(), posting_date.month());
        same_month && opened_at.is_none_or(|at| at <= self.refused_at)
    }
}

/// One step in the life of an invoice: what the audit trail holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "event")]
pub enum Event {
    /// Heard of, or back at the beginning because Coupa has taken its approval back.
    Received {
        /// Coupa's word for a status that is neither approved nor voided.
        coupa_status: Option<String>,
    },
    /// Could not be looked at now; will be.
    Delayed {
        /// Why.
        problem: Problem,
    },
    /// The match holds it.
    Held {
        /// Why.
        exceptions: Vec<Exception>,
        /// What it waits for.
        awaits: Vec<OrderLineKey>,
        /// Tolerances applied.
        tolerance_version: String,
    },
    /// The match approves it.
    Approved {
        /// QAD identity, in words.
        identity: String,
        /// Hash of the document to create.
        request_sha256: String,
        /// Tolerances applied.
        tolerance_version: String,
        /// What Coupa's orders said, each once, as `PO1 issued`.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        coupa_orders: Vec<String>,
    },
    /// A person must act.
    Parked {
        /// Why.
        reason: ParkReason,
    },
    /// Something happened to its creation in QAD.
    Creating {
        /// What.
        step: EffectEvent,
        /// The claim under which it happened.
        fence: u64,
    },
    /// It is in QAD.
    Posted {
        /// Its number there.
        voucher: Voucher,
        /// How it came there.
        how: PostedHow,
    },
    /// Something happened to marking it exported in Coupa.
    Exporting {
        /// What.
        step: EffectEvent,
        /// The claim under which it happened.
        fence: u64,
    },
    /// Something happened to writing its outcome onto the Coupa document.
    Noting {
        /// What.
        step: EffectEvent,
        /// The claim under which it happened.
        fence: u64,
    },
    /// Coupa knows that it is in QAD.
    Exported,
    /// What is paid of it has changed in Coupa.
    Paid {
        /// What is paid now.
        paid: PaidState,
    },
    /// Voided in Coupa before anything was posted.
    Voided,
    /// Nothing will be done with it.
    Rejected {
        /// Why.
        problem: Problem,
    },
    /// A person accepted what the match found, and a second one must confirm it.
    ReleaseRequested {
        /// Who, why, and what exactly.
        release: Release,
    },
    /// A person accepted what the match found; it is decided again.
    Released {
        /// Who, why, and what exactly.
        release: Release,
    },
    /// A person took it out: nothing is done with it until a person takes it up again.
    Skipped {
        /// Who, and why.
        instruction: Instruction,
    },
    /// A person took a skipped one up again; it is decided again.
    Reopened {
        /// Who, and why.
        instruction: Instruction,
    },
    /// A person had it taken in although somebody else may have exported it before this product knew it (back-fill).
    TakenIn {
        /// Who, and why.
        instruction: Instruction,
    },
    /// A person named the document in QAD that is this invoice's; a look-up proved it.
    Adopted {
        /// Its number there.
        voucher: Voucher,
        /// Who, and why.
        instruction: Instruction,
        /// What differs and was accepted; empty when nothing does.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        difference: String,
    },
    /// A person named the document in QAD that is this invoice's; it is looked up before anything else is done with the invoice.
    AdoptionRequested {
        /// Which, who, and why.
        request: AdoptionRequest,
    },
    /// The document that a person named was looked up, and is not taken as this invoice's.
    AdoptionRefused {
        /// Its number.
        voucher: Voucher,
        /// Why.
        problem: Problem,
    },
    /// A person had an older record go on with its trail, after a restore. It stands where the record stood; what it has done
    /// since is found again.
    Restored {
        /// Where the record stands.
        state: Box<State>,
        /// Who, and why.
        instruction: Instruction,
    },
}

impl Event {
    /// The event's stable name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Received { .. } => "received",
            Self::Delayed { .. } => "delayed",
            Self::Held { .. } => "held",
            Self::Approved { .. } => "approved",
            Self::Parked { .. } => "parked",
            Self::Creating { .. } => "creating",
            Self::Posted { .. } => "posted",
            Self::Exporting { .. } => "exporting",
            Self::Noting { .. } => "noting",
            Self::Exported => "exported",
            Self::Paid { .. } => "paid",
            Self::Voided => "voided",
            Self::Rejected { .. } => "rejected",
            Self::ReleaseRequested { .. } => "release-requested",
            Self::Released { .. } => "released",
            Self::Skipped { .. } => "skipped",
            Self::Reopened { .. } => "reopened",
            Self::TakenIn { .. } => "taken-in",
            Self::Adopted { .. } => "adopted",
            Self::AdoptionRequested { .. } => "adoption-requested",
            Self::AdoptionRefused { .. } => "adoption-refused",
            Self::Restored { .. } => "restored",
        }
    }
}

/// An event that cannot happen in this state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("event {event} cannot happen to an invoice that is {state}")]
pub struct Illegal {
    /// The state's word.
    pub state: &'static str,
    /// The event's name.
    pub event: &'static str,
}

impl State {
    /// The state after `event`: total, and the same for living and for replaying.
    pub fn after(&self, event: &Event) -> Result<Self, Illegal> {
        use State::{Approved, Exported, Held, Parked, Posted, Received, Rejected, Voided};
        let undecided = self.is_undecided();
        let next = match (event, self) {
            (Event::Received { coupa_status }, _) if undecided => Received {
                coupa_status: coupa_status.clone(),
            },
            // Only while nothing of it can be in QAD; the record, which knows the effect, checks that.
            (Event::Received { coupa_status }, Approved) => Received {
                coupa_status: coupa_status.clone(),
            },
            // Approved in Coupa again after it was voided there: nothing of it was ever sent.
            (Event::Received { coupa_status }, Voided { .. }) => Received {
                coupa_status: coupa_status.clone(),
            },
            (Event::Delayed { .. } | Event::Noting { .. } | Event::AdoptionRefused { .. }, _) => self.clone(),
            (Event::AdoptionRequested { .. }, Received { .. } | Held { .. } | Parked { .. }) => self.clone(),
            (
                Event::Held {
                    exceptions, awaits, ..
                },
                _,
            ) if undecided => Held {
                exceptions: exceptions.clone(),
                awaits: awaits.clone(),
            },
            // Only when QAD has refused it because its books are closed; the record, which knows the effect, checks that.
            (
                Event::Held {
                    exceptions, awaits, ..
                },
                Approved,
            ) => Held {
                exceptions: exceptions.clone(),
                awaits: awaits.clone(),
            },
            (Event::Approved { .. }, _) if undecided => Approved,
            (Event::Creating { .. }, Approved) => Approved,
            // What was given up is looked for again wherever the invoice stands by then.
            (Event::Creating { step, .. }, _) if step.verifies().is_some() => self.clone(),
            (Event::Posted { voucher, how }, Approved) => Posted {
                voucher: voucher.clone(),
                how: *how,
            },
            (Event::Exporting { .. }, Posted { .. } | Voided { exported: false } | Exported { .. }) => {
                self.clone()
            }
            // Payments belong to a document that is in QAD, and change nothing but what is paid of it.
            (
                Event::Paid { .. },
                Posted { .. }
                | Exported { .. }
                | Parked {
                    reason: ParkReason::InQad { .. },
                },
            ) => self.clone(),
            (Event::Exported, Posted { voucher, how } | Exported { voucher, how }) => Exported {
                voucher: voucher.clone(),
                how: *how,
            },
            (Event::Exported, Voided { .. }) => Voided { exported: true },
            (Event::Parked { reason }, Approved | Posted { .. } | Exported { .. } | Voided { .. }) => {
                Parked {
                    reason: reason.clone(),
                }
            }
            // A document of what was given up, whatever else a person has to do with the invoice.
            (
                Event::Parked {
                    reason: reason @ ParkReason::InQad { .. },
                },
                Rejected { .. }
                | Parked {
                    reason: ParkReason::InQad { .. },
                },
            ) => Parked {
                reason: reason.clone(),
            },
            (Event::Parked { reason }, _) if undecided => Parked {
                reason: reason.clone(),
            },
            (Event::Voided, _) if undecided => Voided { exported: false },
            (Event::Voided, Approved) => Voided { exported: false },
            (Event::Rejected { problem }, _) if undecided => Rejected {
                problem: problem.clone(),
            },
            (
                Event::ReleaseRequested { .. },
                Parked {
                    reason: ParkReason::Match { .. },
                },
            ) => self.clone(),
            (
                Event::Released { .. },
                Parked {
                    reason: ParkReason::Match { .. },
                },
            ) => Received { coupa_status: None },
            (Event::Skipped { instruction }, _) if undecided => Rejected {
                problem: instruction.skipped(),
            },
            (Event::TakenIn { .. }, Received { .. } | Rejected { .. }) if undecided => {
                Received { coupa_status: None }
            }
            (Event::Reopened { .. }, _) if self.is_skipped() => Received { coupa_status: None },
            (Event::Restored { state, .. }, _) => (**state).clone(),
            // Of a document that is, or may be, in QAD the record, which knows the effect, checks that it is settled.
            (Event::Adopted { voucher, .. }, Received { .. } | Held { .. } | Parked { .. }) => Posted {
                voucher: voucher.clone(),
                how: PostedHow::Adopted,
            },
            _ => {
                return Err(Illegal {
                    state: self.word(),
                    event: event.name(),
                });
            }
        };
        Ok(next)
    }

    /// Replays an audit trail.
    pub fn replay<'a>(events: impl IntoIterator<Item = &'a Event>) -> Result<Self, Illegal> {
        let beginning = Self::Received { coupa_status: None };
        events
            .into_iter()
            .try_fold(beginning, |state, event| state.after(event))
    }
}

/// Where a document's audit chain ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainEnd {
    /// Entries so far.
    pub sequence: u64,
    /// Hash of the last one; 64 zeros when there is none.
    pub hash: String,
}

impl Default for ChainEnd {
    fn default() -> Self {
        Self {
            sequence: 0,
            hash: "0".repeat(64),
        }
    }
}

/// Everything this product knows about one Coupa invoice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InvoiceRecord {
    /// Layout, see [`RECORD_SCHEMA`].
    pub schema: u32,
    /// Coupa's id.
    pub id: InvoiceId,
    /// Where it stands.
    pub state: State,
    /// Since when it stands there.
    pub since: Timestamp,
    /// When it was first heard of.
    pub first_seen: Timestamp,
    /// Which reading of the Coupa invoice this rests on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<SourceVersion>,
    /// What people recognise it by; `None` until it could be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<Summary>,
    /// Which of the connection's entities it is decided for; `None` where the connection has only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entity: Option<EntityCode>,
    /// Line by line, what the last decision rested on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<MatchReport>,
    /// How it is coded, for whoever accrues it; only while it waits.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub coding: Vec<LineCoding>,
    /// Its creation in QAD.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub creation: Option<Effect>,
    /// Marking it exported in Coupa.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub export: Option<Effect>,
    /// Writing the latest outcome onto the Coupa document, when the connection asks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<Effect>,
    /// What its document in QAD is over, as it was accepted: QAD computes the tax itself, and may round it otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub posted_total: Option<Decimal>,
    /// Under what a credit note's share is kept of what is credited of the invoice that it names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credits: Option<String>,
    /// What Coupa shows as paid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paid: Option<PaidState>,
    /// A person had it taken in: Coupa's exported flag, whoever set it, keeps it out no more.
    #[serde(default)]
    pub taken_in: bool,
    /// What a person has accepted of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<Release>,
    /// What one person has accepted of it and a second one has not confirmed yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release_request: Option<Release>,
    /// The document in QAD that a person has named as its own, until it was looked up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adoption: Option<AdoptionRequest>,
    /// The orders under which it stands in the index of those that an event about an order wakes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub order_index: Vec<PurchaseOrderNumber>,
    /// The orders it names as QAD showed them when it was decided; only while it waits.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub orders_seen: Vec<OrderSeen>,
    /// Coupa's id of its supplier, when Coupa tells it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coupa_supplier: Option<u64>,
    /// The entry under which it stands in the index of those that wait for their supplier to get a QAD number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub supplier_index: Option<String>,
    /// Since when each reason it waits for has stood.
    #[serde(default, skip_serializing_if = "Since::is_empty")]
    pub waiting_since: Since,
    /// QAD's books were closed when it was last sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed_period: Option<ClosedPeriod>,
    /// What is in the way at the moment, when an attempt could not be made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay: Option<Problem>,
    /// Attempts in a row that could not be made; drives the backoff.
    #[serde(default)]
    pub setbacks: u32,
    /// When it is looked at again although nobody asks (backoff, or the slow recheck of what waits).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub look_again: Option<Timestamp>,
    /// Coupa has said something about it while it was on its way: once it is in QAD, Coupa is asked what.
    #[serde(default)]
    pub look_pending: bool,
    /// When Coupa or QAD was last asked about it and gave an answer that only a person can clear up: until Coupa has
    /// changed it after that, a list that shows it is no news.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked_in_vain: Option<Timestamp>,
    /// Where it stands in the index of questions; `None` until a version that keeps one has written it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub indexed: Option<Indexed>,
    /// Where its audit chain ends.
    pub chain: ChainEnd,
}

impl InvoiceRecord {
    /// A record of an invoice just heard of.
    pub fn new(id: InvoiceId, now: Timestamp) -> Self {
        Self {
            schema: RECORD_SCHEMA,
            id,
            state: State::Received { coupa_status: None },
            since: now,
            first_seen: now,
            source: None,
            summary: None,
            entity: None,
            report: None,
            coding: Vec::new(),
            creation: None,
            export: None,
            note: None,
            posted_total: None,
            credits: None,
            paid: None,
            taken_in: false,
            release: None,
            release_request: None,
            adoption: None,
            order_index: Vec::new(),
            orders_seen: Vec::new(),
            coupa_supplier: None,
            supplier_index: None,
            waiting_since: Since::new(),
            closed_period: None,
            delay: None,
            setbacks: 0,
            look_again: None,
            look_pending: false,
            asked_in_vain: None,
            indexed: None,
            chain: ChainEnd::default(),
        }
    }

    /// The record after `event`: the state moves, the clock of the state starts anew when it changes.
    pub fn after(&self, event: &Event, now: Timestamp) -> Result<Self, Illegal> {
        let takes_back = matches!(event, Event::Received { .. } | Event::Voided | Event::Held { .. })
            && matches!(self.state, State::Approved | State::Voided { .. });
        if takes_back
            && stands(Guard::NotWhileInFlight)
            && !self
                .creation
                .as_ref()
                .is_none_or(Effect::is_certainly_not_applied)
        {
            return Err(Illegal {
                state: self.state.word(),
                event: event.name(),
            });
        }
        let names_a_document = matches!(event, Event::Adopted { .. } | Event::AdoptionRequested { .. });
        if names_a_document && !self.is_creation_settled() {
            return Err(Illegal {
                state: self.state.word(),
                event: event.name(),
            });
        }
        let mut next = self.clone();
        next.state = self.state.after(event)?;
        if std::mem::discriminant(&next.state) != std::mem::discriminant(&self.state) {
            next.since = now;
        }
        match event {
            Event::Delayed { problem } => {
                next.delay = Some(problem.clone());
                next.setbacks = problem.setbacks(self.delay.as_ref(), self.setbacks);
            }
            Event::Creating { .. } | Event::Exporting { .. } | Event::Noting { .. } => {}
            Event::Paid { paid } => next.paid = Some(paid.clone()),
            Event::ReleaseRequested { release } => next.release_request = Some(release.clone()),
            Event::Released { release } => {
                next.release_request = None;
                next.release = Some(release.clone());
                next.look_again = Some(now);
            }
            Event::Reopened { .. } | Event::Restored { .. } => next.look_again = Some(now),
            Event::AdoptionRequested { request } => {
                next.adoption = Some(request.clone());
                next.look_again = Some(now);
            }
            Event::TakenIn { .. } => {
                next.taken_in = true;
                next.look_again = Some(now);
            }
            _ => {
                next.delay = None;
                next.setbacks = 0;
            }
        }
        match event {
            // What was named is taken, or it is not, or nothing is done with the invoice at all.
            Event::Adopted { .. } | Event::Skipped { .. } => next.adoption = None,
            Event::AdoptionRefused { .. } => {
                next.adoption = None;
                next.look_again = next.may_be_decided().then_some(now);
            }
            _ => {}
        }
        let waits = matches!(
            next.state,
            State::Received { .. } | State::Held { .. } | State::Parked { .. }
        );
        if !waits {
            // What is in QAD has its accounts there.
            next.coding.clear();
        }
        Ok(next)
    }

    /// True while no create of ours may still land in QAD.
    fn is_creation_settled(&self) -> bool {
        let settled = |effect: &Effect| effect.is_finished() || effect.is_certainly_not_applied();
        self.creation.as_ref().is_none_or(settled)
    }

    /// True when a person may name the document in QAD that is this invoice's.
    pub fn may_be_adopted(&self) -> bool {
        let waits = matches!(
            self.state,
            State::Received { .. } | State::Held { .. } | State::Parked { .. }
        );
        waits && self.is_creation_settled()
    }

    /// When the sweep must look at it if nobody else does; `None` when it rests for good.
    pub fn due(&self, timing: &Timing) -> Option<Timestamp> {
        let effect = |effect: &Option<Effect>| effect.as_ref().and_then(|effect| effect.due(timing));
        let main = match &self.state {
            State::Received { .. } | State::Held { .. } | State::Parked { .. } => self.look_again,
            State::Approved => effect(&self.creation).or(Some(self.since)),
            State::Posted { .. } | State::Voided { exported: false } => {
                effect(&self.export).or(Some(self.since))
            }
            State::Exported { .. } | State::Voided { exported: true } if self.look_pending => {
                Some(self.since)
            }
            State::Exported { .. } => effect(&self.export),
            State::Voided { exported: true } | State::Rejected { .. } => None,
        };
        [main, effect(&self.note), self.verification_due()]
            .into_iter()
            .flatten()
            .min()
    }

    /// When what was given up must be looked for again; not while the invoice is on its way.
    pub fn verification_due(&self) -> Option<Timestamp> {
        let on_its_way = matches!(
            self.state,
            State::Approved | State::Posted { .. } | State::Voided { exported: false }
        );
        let creation = self.creation.as_ref().filter(|_| !on_its_way);
        creation.and_then(Effect::verification_due)
    }

    /// True when a new look at Coupa and QAD may change where it stands.
    pub fn may_be_decided(&self) -> bool {
        self.state.is_undecided()
    }

    /// The orders an event about which is a reason to look at it again: all of a held invoice, and of a parked one that
    /// is not in QAD.
    pub fn awaits_orders(&self) -> &[PurchaseOrderNumber] {
        let waits = matches!(
            self.state,
            State::Held { .. }
                | State::Parked {
                    reason: ParkReason::Match { .. } | ParkReason::Problem { .. }
                }
        );
        match &self.summary {
            Some(summary) if waits => &summary.orders,
            _ => &[],
        }
    }

    /// True while it is parked because its supplier has no QAD number, or one that is none.
    pub fn awaits_supplier(&self) -> bool {
        match &self.state {
            State::Parked {
                reason: ParkReason::Match { exceptions },
            } => exceptions.iter().any(|exception| {
                matches!(
                    exception.code,
                    ExceptionCode::SupplierNotLinked | ExceptionCode::SupplierCodeInvalid
                )
            }),
            _ => false,
        }
    }

    /// The order lines whose receipts it waits for.
    pub fn awaits(&self) -> &[OrderLineKey] {
        match &self.state {
            State::Held { awaits, .. } => awaits,
            _ => &[],
        }
    }

    /// The order lines on whose figures its verdict rests: of one that waits, and of one that the match has parked. What happens
    /// there is a reason to decide it again.
    pub fn rests_on(&self) -> BTreeSet<OrderLineKey> {
        match &self.state {
            State::Held { awaits, .. } => awaits.iter().cloned().collect(),
            State::Parked {
                reason: ParkReason::Match { exceptions },
            } => exceptions
                .iter()
                .filter_map(|exception| exception.order_line.clone())
                .collect(),
            _ => BTreeSet::new(),
        }
    }

    /// True while it waits, or is parked by the match, so that a change of its orders is a reason to decide it again.
    pub fn rests_on_orders(&self) -> bool {
        matches!(
            self.state,
            State::Held { .. }
                | State::Parked {
                    reason: ParkReason::Match { .. }
                }
        )
    }

    /// True while what it has reserved on its orders may not show in QAD yet.
    pub fn holds_reservations(&self) -> bool {
        matches!(self.state, State::Approved)
    }
}

/// What an order was like when an invoice was decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderSeen {
    /// The order.
    pub order: PurchaseOrderNumber,
    /// What of it a verdict may rest on, as a digest; empty for an order that QAD did not have.
    pub mark: String,
}

/// Which of the effects of an invoice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InvoiceEffect {
    /// Its creation in QAD.
    Creation,
    /// Marking it exported in Coupa.
    Export,
    /// Writing its outcome onto the Coupa document.
    Note,
}

impl InvoiceEffect {
    /// The effect in the record.
    pub fn of(self, record: &InvoiceRecord) -> Option<&Effect> {
        match self {
            Self::Creation => record.creation.as_ref(),
            Self::Export => record.export.as_ref(),
            Self::Note => record.note.as_ref(),
        }
    }

    fn slot(self, record: &mut InvoiceRecord) -> &mut Option<Effect> {
        match self {
            Self::Creation => &mut record.creation,
            Self::Export => &mut record.export,
            Self::Note => &mut record.note,
        }
    }

    /// The audit event that tells what happened to it.
    pub fn event(self, event: EffectEvent, fence: u64) -> Event {
        match self {
            Self::Creation => Event::Creating { step: event, fence },
            Self::Export => Event::Exporting { step: event, fence },
            Self::Note => Event::Noting { step: event, fence },
        }
    }

    /// Puts the effect into the record.
    pub fn put(self, record: &InvoiceRecord, effect: Effect) -> InvoiceRecord {
        let mut next = record.clone();
        *self.slot(&mut next) = Some(effect);
        next
    }

    /// Moves the effect and tells it: the record after, and the event for the audit trail.
    pub fn advance(
        self,
        record: &InvoiceRecord,
        event: EffectEvent,
        now: Timestamp,
        timing: &Timing,
    ) -> Result<(InvoiceRecord, Event), IllegalStep> {
        let effect = self.of(record).ok_or(IllegalStep::NoEffect)?;
        let moved = effect.after(&event, now, timing)?;
        let told = self.event(event, moved.fence);
        let next = self.put(record, moved).after(&told, now)?;
        Ok((next, told))
    }
}

/// A step that cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IllegalStep {
    /// The record has no such effect.
    #[error("the record has no such effect")]
    NoEffect,
    /// The effect does not allow it.
    #[error(transparent)]
    Effect(#[from] IllegalEffect),
    /// The invoice does not allow it.
    #[error(transparent)]
    Invoice(#[from] Illegal),
}

/// True when the status says that the other system has it.
pub fn is_done(effect: Option<&Effect>) -> bool {
    effect.is_some_and(|effect| effect.status == EffectStatus::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem() -> Problem {
        Problem::new("X", "Fix it.")
    }

    fn voucher() -> Voucher {
        Voucher {
            year: 2026,
            daybook: "SI".into(),
            number: 7,
        }
    }

    fn approved() -> Event {
        Event::Approved {
            identity: "i".into(),
            request_sha256: "h".into(),
            tolerance_version: "t".into(),
            coupa_orders: vec![],
        }
    }

    fn posted() -> Event {
        Event::Posted {
            voucher: voucher(),
            how: PostedHow::Created,
        }
    }

    #[test]
    fn a_straight_life_ends_exported() {
        let end = State::replay(&[
            Event::Received { coupa_status: None },
            approved(),
            posted(),
            Event::Exported,
        ])
        .unwrap();
        assert_eq!(
            end,
            State::Exported {
                voucher: voucher(),
                how: PostedHow::Created
            }
        );
    }

    #[test]
    fn nothing_is_exported_before_it_is_posted() {
        for events in [
            vec![Event::Exported],
            vec![approved(), Event::Exported],
            vec![posted()],
        ] {
            assert!(State::replay(&events).is_err());
        }
    }

    #[test]
    fn what_was_voided_before_it_was_posted_is_decided_anew_when_it_is_received_again() {
        let received = Event::Received { coupa_status: None };
        let voided = State::replay(&[Event::Voided, received.clone(), approved()]).unwrap();
        assert_eq!(voided, State::Approved);
        let exported = State::replay(&[Event::Voided, Event::Exported]).unwrap();
        assert_eq!(
            exported.after(&received).unwrap(),
            State::Received { coupa_status: None }
        );
        // Nothing else takes it up.
        assert!(exported.after(&approved()).is_err());
        assert!(exported.after(&posted()).is_err());
    }

    #[test]
    fn a_closed_period_is_in_the_way_of_its_month_until_somebody_says_something_new() {
        let day = |text: &str| text.parse::<Date>().unwrap();
        let entity = "10USACO".parse().unwrap();
        let closed = ClosedPeriod::new(day("2026-10-28"), Timestamp(50), &entity, "period is closed");
        assert!(closed.still_stands(day("2026-10-28"), None));
        assert!(closed.still_stands(day("2026-10-01"), Some(Timestamp(50))));
        assert!(!closed.still_stands(day("2026-10-28"), Some(Timestamp(51))));
        assert!(!closed.still_stands(day("2026-11-01"), None));
        assert!(!closed.still_stands(day("2025-10-28"), None));
    }

    #[test]
    fn nothing_that_may_be_in_qad_is_held_for_a_closed_period() {
        let held = Event::Held {
            exceptions: vec![],
            awaits: vec![],
            tolerance_version: String::new(),
        };
        let mut record = InvoiceRecord::new(InvoiceId(7), Timestamp(0))
            .after(&approved(), Timestamp(0))
            .unwrap();
        let mut effect = Effect::ready(
            "k".into(),
            crate::effect::Repetition::OnlyAfterLookUp,
            "r".into(),
            "h".into(),
            "i".into(),
            Timestamp(0),
        );
        effect.attempts = 1;
        for (status, is_legal) in [
            (EffectStatus::Intent, false),
            (EffectStatus::Unknown, false),
            (EffectStatus::Rejected, true),
        ] {
            effect.status = status;
            record.creation = Some(effect.clone());
            assert_eq!(record.after(&held, Timestamp(1)).is_ok(), is_legal, "{status:?}");
        }
    }

    #[test]
    fn what_is_in_qad_is_never_decided_again() {
        for event in [
            approved(),
            Event::Received { coupa_status: None },
            Event::Voided,
            Event::Rejected { problem: problem() },
        ] {
            assert!(
                State::replay(&[approved(), posted(), event.clone()]).is_err(),
                "{}",
                event.name()
            );
            let parked = Event::Parked {
                reason: ParkReason::InQad {
                    problem: problem(),
                    voucher: None,
                },
            };
            assert!(State::replay(&[approved(), parked, event]).is_err());
        }
    }

    #[test]
    fn what_waits_for_a_person_can_be_decided_again() {
        let parked = Event::Parked {
            reason: ParkReason::Problem { problem: problem() },
        };
        assert_eq!(State::replay(&[parked, approved()]).unwrap(), State::Approved);
    }

    #[test]
    fn a_record_reads_back_as_it_was_written() {
        let record = InvoiceRecord::new(InvoiceId(7), Timestamp(5))
            .after(&approved(), Timestamp(9))
            .unwrap();
        let text = serde_json::to_string(&record).unwrap();
        assert_eq!(serde_json::from_str::<InvoiceRecord>(&text).unwrap(), record);
        assert_eq!(record.since, Timestamp(9));
    }

    fn instruction() -> Instruction {
        Instruction::new("somebody", "agreed with the buyer").unwrap()
    }

    #[test]
    fn what_a_person_took_out_stays_out_until_a_person_takes_it_up() {
        let skipped = Event::Skipped {
            instruction: instruction(),
        };
        let state = State::replay([&skipped]).unwrap();
        assert!(state.is_skipped());
        for event in [
            approved(),
            Event::Received { coupa_status: None },
            Event::Voided,
            Event::Rejected { problem: problem() },
            skipped.clone(),
        ] {
            assert!(state.after(&event).is_err(), "{}", event.name());
        }
        let reopened = state
            .after(&Event::Reopened {
                instruction: instruction(),
            })
            .unwrap();
        assert_eq!(reopened, State::Received { coupa_status: None });
        assert!(
            State::replay(&[approved(), skipped]).is_err(),
            "what is being posted cannot be taken out"
        );
    }

    #[test]
    fn only_what_the_match_parked_can_be_released() {
        let release = Release {
            instruction: instruction(),
            at: Timestamp(1),
            content_sha256: "c".into(),
            accepted: vec![],
            requested: None,
        };
        let released = Event::Released { release };
        let by_match = Event::Parked {
            reason: ParkReason::Match { exceptions: vec![] },
        };
        let by_problem = Event::Parked {
            reason: ParkReason::Problem { problem: problem() },
        };
        let held = Event::Held {
            exceptions: vec![],
            awaits: vec![],
            tolerance_version: String::new(),
        };
        assert!(State::replay(&[by_match, released.clone()]).is_ok());
        for before in [by_problem, held, approved()] {
            assert!(
                State::replay(&[before.clone(), released.clone()]).is_err(),
                "{}",
                before.name()
            );
        }
    }

    #[test]
    fn nothing_is_adopted_while_our_own_create_may_still_land() {
        let adopted = Event::Adopted {
            voucher: voucher(),
            instruction: instruction(),
            difference: String::new(),
        };
        let reason = ParkReason::InQad {
            problem: problem(),
            voucher: None,
        };
        let mut record = InvoiceRecord::new(InvoiceId(7), Timestamp(0))
            .after(&approved(), Timestamp(0))
            .unwrap()
            .after(&Event::Parked { reason }, Timestamp(0))
            .unwrap();
        let effect = |status| {
            let repetition = crate::effect::Repetition::OnlyAfterLookUp;
            let mut effect = Effect::ready(
                "k".into(),
                repetition,
                "r".into(),
                "h".into(),
                "i".into(),
                Timestamp(0),
            );
            effect.status = status;
            effect.attempts = 1;
            Some(effect)
        };
        for status in [EffectStatus::Intent, EffectStatus::Unknown] {
            record.creation = effect(status);
            assert!(record.after(&adopted, Timestamp(1)).is_err(), "{status:?}");
        }
        record.creation = effect(EffectStatus::Parked);
        assert!(record.after(&adopted, Timestamp(1)).is_ok());
    }

    /// What a person names is due at once wherever the invoice waits, and gone with the answer, with the document and with a word
    /// that takes the invoice out.
    #[test]
    fn a_document_that_is_named_is_due_at_once_and_looked_up_once() {
        let requested = Event::AdoptionRequested {
            request: AdoptionRequest {
                voucher: voucher(),
                accepted_total: None,
                instruction: instruction(),
            },
        };
        let refused = Event::AdoptionRefused {
            voucher: voucher(),
            problem: problem(),
        };
        let in_qad = Event::Parked {
            reason: ParkReason::InQad {
                problem: problem(),
                voucher: None,
            },
        };
        let by_problem = Event::Parked {
            reason: ParkReason::Problem { problem: problem() },
        };
        let new = InvoiceRecord::new(InvoiceId(7), Timestamp(0));
        let timing = Timing::default();
        for (events, is_decided_again) in [
            (vec![], true),
            (vec![by_problem], true),
            (vec![approved(), in_qad], false),
        ] {
            let waits = events
                .iter()
                .try_fold(new.clone(), |record, event| record.after(event, Timestamp(1)));
            let named = waits.unwrap().after(&requested, Timestamp(5)).unwrap();
            assert!(named.adoption.is_some());
            assert_eq!(named.due(&timing), Some(Timestamp(5)));
            let told = named.after(&refused, Timestamp(6)).unwrap();
            assert_eq!((&told.adoption, &told.state), (&None, &named.state));
            assert_eq!(told.due(&timing), is_decided_again.then_some(Timestamp(6)));
        }
        let named = new.after(&requested, Timestamp(5)).unwrap();
        for event in [
            Event::Skipped {
                instruction: instruction(),
            },
            Event::Adopted {
                voucher: voucher(),
                instruction: instruction(),
                difference: String::new(),
            },
        ] {
            assert_eq!(named.after(&event, Timestamp(6)).unwrap().adoption, None);
        }
        for elsewhere in [approved(), Event::Voided] {
            let elsewhere = new.after(&elsewhere, Timestamp(1)).unwrap();
            assert!(elsewhere.after(&requested, Timestamp(5)).is_err());
        }
    }

    #[test]
    fn a_voucher_is_read_as_it_is_shown() {
        let read: Voucher = " 2026/SI/100012 ".parse().unwrap();
        assert_eq!(read.to_string(), "2026/SI/100012");
        let long = format!("2026/{}/7", "x".repeat(21));
        for text in [
            "",
            "100012",
            "2026/SI",
            "2026/SI/x",
            "2026/SI/1/2",
            "2026//7",
            "2026/S I/7",
            &long,
        ] {
            assert_eq!(text.parse::<Voucher>(), Err(NoVoucher), "{text}");
        }
    }
}
