//! Any state of an invoice in one plain sentence and a line matrix.
//!
//! The same record always gives the same words: they are shown to the clerk, written onto the Coupa document and
//! compared by tests. They name the figures, who must act, and say of everything that heals that it does so by
//! itself.

use crate::coupa_orders::CoupaOrderStanding;
use crate::effect::{Effect, EffectStatus};
use crate::lifecycle::{InvoiceRecord, PaidState, ParkReason, PostedHow, State};
use crate::matching::text::{money, plain};
use crate::matching::{Exception, ExceptionCode, LineReport, MatchReport, Remedy};
use crate::ownership;
use crate::problem::Problem;
use crate::time::Timestamp;
use rust_decimal::Decimal;

mod buyer;
mod coupa;
mod supplier;

pub use buyer::{Question, to_buyer};
pub use coupa::{POSTED, Shown, Standing, shown_in_coupa};
pub use supplier::to_supplier;

/// The code of the problem that a record carries while its flow is paused: it waits, and nothing has failed.
pub const PAUSED: &str = "PAUSED";

/// Most reasons that a sentence tells; it says how many more there are.
pub const REASONS_TOLD_MAX: usize = 4;

/// What the invoice is, in one line: `Invoice INV-55812 of Example Castings, 795.00 USD (Coupa 918273)`.
pub fn title(record: &InvoiceRecord) -> String {
    let Some(summary) = &record.summary else {
        return format!("Coupa invoice {}", record.id);
    };
    let kind = match summary.kind {
        crate::ids::DocumentKind::Invoice => "Invoice",
        crate::ids::DocumentKind::CreditNote => "Credit note",
    };
    format!(
        "{kind} {} of {}, {} (Coupa {})",
        summary.reference,
        summary.supplier_name,
        money(summary.total, summary.currency),
        record.id
    )
}

/// Where the invoice stands, since when, why, and who must act.
pub fn sentence(record: &InvoiceRecord) -> String {
    let told = sentence_of_state(record);
    let told = match &record.paid {
        Some(paid) => format!("{told} {}", paid_words(paid)),
        None => told,
    };
    match &record.delay {
        Some(problem) if problem.code == PAUSED => {
            format!("{told} {}", paused(problem, record.report.is_some()))
        }
        Some(problem) if ownership::is_stop(&problem.code) => format!("{told} {}", not_ours(problem)),
        Some(problem) => format!("{told} {}", delayed(problem, record.look_again)),
        None => told,
    }
}

/// The state alone: without what is paid, and without what the last look at it met.
fn sentence_of_state(record: &InvoiceRecord) -> String {
    let since = instant(record.since);
    match &record.state {
        State::Received { coupa_status: None } => {
            format!("Received {since} and not decided yet; nobody needs to act.")
        }
        State::Received {
            coupa_status: Some(word),
        } => format!(
            "Waiting since {since}: Coupa says \"{word}\"; it goes on by itself when it is approved in Coupa."
        ),
        State::Held { exceptions, .. } => format!(
            "Held since {since}: {}; {}.",
            reasons(exceptions),
            what_heals(exceptions, record.report.as_ref())
        ),
        State::Approved => format!("Approved since {since}: {}", creation(record.creation.as_ref())),
        State::Posted { voucher, how } => format!(
            "Posted {since} as QAD voucher {voucher}, {}; it is being marked exported in Coupa.",
            origin(*how)
        ),
        State::Exported { voucher, how } => format!(
            "In QAD as voucher {voucher}, {}, and marked exported in Coupa since {since}{}.",
            origin(*how),
            if record.paid.is_none() {
                "; nothing is left to do"
            } else {
                ""
            }
        ),
        State::Parked { reason } => parked(reason, &since),
        State::Rejected { problem } if record.state.is_skipped() => format!(
            "Taken out {since} by {}; it stays out until a person takes it up again.",
            problem.actual
        ),
        State::Rejected { problem } => {
            format!(
                "Rejected {since}: {} Nothing more is done with it.",
                problem_words(problem)
            )
        }
        State::Voided { exported: false } => format!(
            "Voided in Coupa before anything was posted ({since}): nothing was sent to QAD, and it is being marked \
             exported in Coupa."
        ),
        State::Voided { exported: true } => format!(
            "Voided in Coupa before anything was posted ({since}): nothing was sent to QAD, and nothing is left to do."
        ),
    }
}

/// What Coupa shows as paid.
pub fn paid_words(paid: &PaidState) -> String {
    match paid {
        PaidState::Partly {
            settled,
            total,
            currency,
        } => format!(
            "Partly paid: {} of {}.",
            plain(*settled),
            money(*total, *currency)
        ),
        PaidState::Closed {
            on,
            settled,
            total,
            currency,
        } => format!(
            "Closed in QAD on {on}: {} of {} paid, the rest without a payment (write-off, withholding, discount, \
             adjustment or prepayment).",
            plain(*settled),
            money(*total, *currency)
        ),
        PaidState::Fully { on, payment } => format!("Paid in full on {on}, payment {payment}."),
        PaidState::TakenBack { total, currency } => format!(
            "The payment was taken back: {} is open again.",
            money(*total, *currency)
        ),
        PaidState::Parked { problem } => {
            format!("Its payments wait for a person: {}", problem_words(problem))
        }
        PaidState::LeftAlone { problem } => {
            format!("Its payments are left alone: {}", problem_words(problem))
        }
    }
}

/// An instant to the minute: `2026-03-05 09:12 UTC`.
pub fn instant(when: Timestamp) -> String {
    jiff::Timestamp::from_millisecond(when.0).map_or_else(
        |_| when.to_string(),
        |instant| instant.strftime("%Y-%m-%d %H:%M UTC").to_string(),
    )
}

fn delayed(problem: &Problem, look_again: Option<Timestamp>) -> String {
    let when = look_again
        .map(|at| format!(" at {}", instant(at)))
        .unwrap_or_default();
    format!(
        "The last look at it failed and is repeated by itself{when}: {}",
        problem_words(problem)
    )
}

fn paused(problem: &Problem, has_figures: bool) -> String {
    let figures = if has_figures {
        "; the figures are those of the last look"
    } else {
        ""
    };
    format!(
        "Posting is paused (by {}); it is looked at again when posting is resumed{figures}.",
        problem.actual
    )
}

/// While another installation may be at work here.
fn not_ours(problem: &Problem) -> String {
    let why = match problem.code.as_str() {
        ownership::OWNED_BY_ANOTHER => "another installation works with this Coupa and QAD",
        ownership::MARK_NOT_RENEWED => {
            "nobody knows any more whether another installation works with this Coupa and QAD"
        }
        _ => "nobody knows yet whether another installation works with this Coupa and QAD",
    };
    format!(
        "Nothing is begun for it, because {why} ({}); it is looked at again by itself. {}",
        problem.actual, problem.fix
    )
}

fn problem_words(problem: &Problem) -> String {
    let words = problem.to_string();
    if words.ends_with('.') {
        words
    } else {
        format!("{words}.")
    }
}

fn origin(how: PostedHow) -> &'static str {
    match how {
        PostedHow::Created => "created by this connection",
        PostedHow::Recovered => "found there after the answer to its creation was lost",
        PostedHow::Adopted => "keyed there by hand and taken over",
        PostedHow::Restored => "found there with our mark although this register has never sent it",
    }
}

fn creation(effect: Option<&Effect>) -> String {
    let Some(effect) = effect else {
        return "it is about to be created in QAD; nobody needs to act.".to_owned();
    };
    let told = match effect.status {
        EffectStatus::Ready if effect.attempts == 0 => {
            "it is about to be created in QAD; nobody needs to act.".to_owned()
        }
        EffectStatus::Ready => format!(
            "QAD has not taken it yet; it is sent again by itself after {}.",
            instant(effect.not_before)
        ),
        EffectStatus::Intent => "it is being created in QAD; nobody needs to act.".to_owned(),
        EffectStatus::Unknown => format!(
            "nobody knows whether QAD created it; it is looked for there by itself from now on, and never sent again \
             before {}.",
            instant(effect.settle_until.max(effect.not_before))
        ),
        EffectStatus::Done => "QAD has it; its voucher is being recorded.".to_owned(),
        EffectStatus::Rejected | EffectStatus::Parked => {
            "QAD did not take it; it is about to be parked for a person.".to_owned()
        }
        EffectStatus::Withdrawn => {
            "its creation was withdrawn before anything was sent; it is decided again by itself.".to_owned()
        }
    };
    match &effect.problem {
        Some(problem) => format!("{told} Last answer: {}", problem_words(problem)),
        None => told,
    }
}

fn parked(reason: &ParkReason, since: &str) -> String {
    match reason {
        ParkReason::Match { exceptions } => {
            format!(
                "Parked for a person since {since}: {}. {}",
                reasons(exceptions),
                fixes(exceptions)
            )
        }
        ParkReason::Problem { problem } => {
            format!("Parked for a person since {since}: {}", problem_words(problem))
        }
        ParkReason::InQad {
            problem,
            voucher: Some(voucher),
        } => format!(
            "Parked for a person since {since}, with voucher {voucher} in QAD: {}",
            problem_words(problem)
        ),
        ParkReason::InQad {
            problem,
            voucher: None,
        } => format!(
            "Parked for a person since {since}, and a document may be in QAD: {}",
            problem_words(problem)
        ),
    }
}

/// The reasons, first those that need a person.
fn reasons(exceptions: &[Exception]) -> String {
    let mut sorted: Vec<_> = exceptions.iter().collect();
    sorted.sort_by_key(|exception| std::cmp::Reverse(exception.code.remedy()));
    let told: Vec<_> = sorted
        .iter()
        .take(REASONS_TOLD_MAX)
        .map(|exception| reason(exception))
        .collect();
    let more = exceptions.len().saturating_sub(told.len());
    match more {
        0 => told.join("; "),
        1 => format!("{}; and 1 more reason", told.join("; ")),
        _ => format!("{}; and {more} more reasons", told.join("; ")),
    }
}

/// What a person has to do, each thing once.
fn fixes(exceptions: &[Exception]) -> String {
    let mut fixes: Vec<&str> = Vec::new();
    for exception in exceptions
        .iter()
        .filter(|exception| exception.code.remedy() == Remedy::APerson)
    {
        let fix = exception.code.fix();
        if !fixes.contains(&fix) && fixes.len() < REASONS_TOLD_MAX {
            fixes.push(fix);
        }
    }
    fixes.join(" ")
}

/// One exception in words.
pub fn reason(exception: &Exception) -> String {
    use ExceptionCode as Code;
    let Exception {
        code,
        expected,
        actual,
        ..
    } = exception;
    let place = match (&exception.order_line, exception.line) {
        (Some(order_line), _) => format!("PO {order_line}"),
        (None, Some(line)) => format!("invoice line {line}"),
        (None, None) => "the invoice".to_owned(),
    };
    let line = exception
        .line
        .map_or_else(|| "the invoice".to_owned(), |line| format!("invoice line {line}"));
    let limit = match exception.limit.as_str() {
        "" => String::new(),
        limit => format!(" (limit {limit})"),
    };
    match code {
        Code::ReceiptMissing => format!("nothing of {expected} received on {place}"),
        Code::ReceiptShort => format!("{actual} received and not yet invoiced on {place}"),
        Code::ReturnMissing => format!("{actual} returned and not yet credited on {place}"),
        Code::OrderNotFound | Code::OrderLineNotFound => format!("{expected} is missing"),
        Code::AnotherInvoiceInFlight => format!("{place} has {actual}"),
        Code::ReceiverLineInFlight => {
            format!(
                "it takes the rest of a receiver line of {place} that is being posted with another invoice ({actual})"
            )
        }
        Code::PeriodClosed => format!("QAD does not take it without {expected} (\"{actual}\")"),
        Code::SupplierNotLinked => actual.clone(),
        Code::SupplierCodeInvalid => format!("supplier number {actual} is not {expected}"),
        Code::SupplierDiffers => format!("{actual} on the invoice, expected {expected}"),
        Code::OrderOfAnotherEntity => format!("{actual}, expected {expected}"),
        Code::CurrencyDiffers => format!("currency {actual}, expected {expected}"),
        Code::UnitDiffers => format!("unit {actual} on {line}, expected {expected}"),
        Code::PriceOverTolerance => {
            format!(
                "unit price {actual} on {place} is over {}{limit}",
                agreed(expected)
            )
        }
        Code::PriceUnderTolerance => {
            format!(
                "unit price {actual} on {place} is below {}{limit}",
                agreed(expected)
            )
        }
        Code::HeldTooLong | Code::ReturnNotComing => {
            format!(
                "it has waited since {actual} ({expected}), longer than {}",
                exception.limit
            )
        }
        Code::OriginalNotPosted | Code::OriginalNotInQad | Code::OriginalAlreadyCancelled => {
            format!("it cancels an invoice, and {actual}, expected {expected}")
        }
        Code::CreditedOverBilled => format!("{actual}, expected {expected}"),
        Code::PriceAdjustment => format!("{line} corrects a price ({actual}), expected {expected}"),
        Code::CreditNoteMissing => {
            format!("{actual} on {place}, so the credit note for the return is awaited")
        }
        Code::ConsignedNotUsed => format!("{actual} used of the consigned goods on {place}"),
        Code::NothingLeftToBill => format!("nothing more is left to bill on {place} ({actual} open)"),
        Code::BilledOverOrdered => format!("{actual} on {place}, {expected}{limit}"),
        Code::TotalsDisagree => format!("{expected} against {actual}{limit}"),
        Code::LineWithoutOrder => format!("{line} names no order ({actual})"),
        Code::OrderLineClosed => format!("{place} is closed with {actual} open to match"),
        Code::OrderLineCancelled => format!("{place} is cancelled"),
        Code::OrderStatusUnknown => format!("{place} has {actual}, expected {expected}"),
        Code::CoupaOrderCancelled | Code::CoupaOrderClosed | Code::CoupaOrderNotIssued => {
            format!("{actual} in Coupa ({place})")
        }
        Code::CoupaOrderStatusUnknown => {
            format!("{actual} in Coupa ({place}), which is no status that is known")
        }
        Code::TwoWayLine => {
            format!(
                "Coupa asks no receipt for {place} (two-way), but nothing is posted ahead of its receipt in QAD"
            )
        }
        Code::OrderIsEvaluatedReceipts => format!("{actual} is invoiced by QAD itself"),
        Code::CreditNotMapped => format!("{line} credits no goods and has {actual}, expected {expected}"),
        Code::ChargeNotMapped => format!("{actual} has no GL account"),
        Code::AmountLineUnresolved => format!("{line} bills {actual}, expected {expected} on {place}"),
        Code::SignContradicts => format!("{line} has {actual}, expected {expected}"),
        Code::LineContradictsItself => format!("{line} has {actual}, expected {expected}{limit}"),
        Code::NothingToPost => "no line bills a quantity or an amount".to_owned(),
        Code::TooLarge => format!("it has {actual}, {expected} are possible"),
        Code::CanceledInCoupa => format!("it is {actual}"),
        Code::PaidElsewhere | Code::Prepaid => format!("Coupa says it is not for QAD to pay: {actual}"),
        Code::LineNegative => format!("{line} is negative ({actual})"),
        Code::OrderLineNotMapped => format!("{line} names {actual} as its order line, expected {expected}"),
        Code::AccountNotMapped => format!("{line} has no account of QAD's: {actual}"),
        Code::CreditTermsNotMapped => format!("{actual} fits no {expected}"),
        Code::RemitToNotMapped => format!("it is to be paid at {actual}, which leads to nobody known"),
        Code::NearDuplicate => format!("it may be the bill that was entered as {actual}"),
        Code::DuplicateReference | Code::DuplicateReferenceOtherYear => {
            format!("its number is taken: {actual}, expected {expected}")
        }
        Code::OutOfRange => format!("{line} has {actual}, expected {expected}"),
    }
}

/// Whose price was agreed: the order's, unless the text names its receiver.
fn agreed(expected: &str) -> String {
    if expected.contains(" on receiver ") {
        format!("the {expected}")
    } else {
        format!("the order's {expected}")
    }
}

/// When a held invoice goes on.
fn what_heals(exceptions: &[Exception], report: Option<&MatchReport>) -> String {
    // That a line is two-way in Coupa is no reason of its own.
    let mut own = exceptions
        .iter()
        .filter(|exception| exception.code != ExceptionCode::TwoWayLine);
    let (Some(exception), None) = (own.next(), own.next()) else {
        return "it posts by itself when all of that is settled".to_owned();
    };
    let missing = report.and_then(|report| missing_quantity(exception, report));
    let rest = missing.map_or_else(
        || "the rest is".to_owned(),
        |quantity| format!("{} more are", plain(quantity)),
    );
    match exception.code {
        ExceptionCode::ReceiptMissing => "it posts by itself when they are received".to_owned(),
        ExceptionCode::ReceiptShort => format!("it posts by itself when {rest} received"),
        ExceptionCode::OriginalNotPosted => {
            "it posts by itself when the invoice it cancels has posted".to_owned()
        }
        ExceptionCode::CreditNoteMissing => {
            "it posts by itself when the credit note for the return has posted".to_owned()
        }
        ExceptionCode::PeriodClosed => {
            "it is sent again when somebody rechecks it or says from when on the books are open".to_owned()
        }
        ExceptionCode::ConsignedNotUsed => "it posts by itself when they are used in QAD".to_owned(),
        ExceptionCode::ReturnMissing => format!("it posts by itself when {rest} returned"),
        ExceptionCode::OrderNotFound | ExceptionCode::OrderLineNotFound => {
            "it posts by itself when QAD has it; if the number is wrong, correct it on the Coupa line"
                .to_owned()
        }
        ExceptionCode::CoupaOrderNotIssued => {
            "it goes on by itself when the order is issued in Coupa".to_owned()
        }
        _ => "it is decided again by itself when that has settled".to_owned(),
    }
}

fn missing_quantity(exception: &Exception, report: &MatchReport) -> Option<Decimal> {
    let row = report.lines.iter().find(|row| Some(row.line) == exception.line)?;
    let missing = row.this_invoice?.abs().checked_sub(row.open?.abs())?;
    (missing > Decimal::ZERO).then_some(missing)
}

/// Number of columns of the line matrix.
pub const MATRIX_COLUMNS: usize = 13;

/// Headings of the line matrix.
pub const MATRIX_HEADINGS: [&str; MATRIX_COLUMNS] = [
    "line",
    "order line",
    "unit",
    "ordered",
    "received",
    "invoiced",
    "reserved",
    "open",
    "this invoice",
    "order price",
    "invoice price",
    "price limit",
    "result",
];

/// The line matrix, one row per invoice line, its cells in the order of [`MATRIX_HEADINGS`]; unknown figures are `-`.
pub fn matrix(report: &MatchReport) -> Vec<[String; MATRIX_COLUMNS]> {
    report.lines.iter().map(matrix_row).collect()
}

fn matrix_row(row: &LineReport) -> [String; MATRIX_COLUMNS] {
    let unknown = || "-".to_owned();
    let figure = |figure: Option<Decimal>| figure.map_or_else(unknown, plain);
    [
        row.line.to_string(),
        row.order_line
            .as_ref()
            .map_or_else(unknown, |key| format!("{}/{}", key.order, key.line)),
        row.unit.as_ref().map_or_else(unknown, |unit| unit.to_string()),
        figure(row.ordered),
        figure(row.received),
        figure(row.already_invoiced),
        figure(row.reserved),
        figure(row.open),
        figure(row.this_invoice),
        figure(row.order_price),
        figure(row.invoice_price),
        figure(row.price_limit),
        line_result(row),
    ]
}

fn line_result(row: &LineReport) -> String {
    if row.nothing_to_post {
        return "nothing to post".to_owned();
    }
    let codes: Vec<_> = row.exceptions.iter().map(|code| code.as_str()).collect();
    let result = if codes.is_empty() {
        "matches".to_owned()
    } else {
        codes.join(" ")
    };
    let aside = row.coupa_order.as_ref().filter(|facts| {
        let is_usual = matches!(
            facts.standing,
            CoupaOrderStanding::NotTold | CoupaOrderStanding::Open
        );
        !is_usual && !row.exceptions.iter().any(|code| code.is_about_a_coupa_order())
    });
    match aside {
        Some(facts) => format!("{result}; in Coupa {}", facts.word),
        None => result,
    }
}

#[cfg(test)]
mod tests;
