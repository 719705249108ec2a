//! What a person does with invoices: look again, accept what the match found, take one out, name the document that is its.
//!
//! Everything that changes the register goes through the invoice's own events and is audited with who and why; a look
//! again is a hint in the queue, which may be repeated at any time.

use crate::invoices::summed;
use crate::output::Output;
use crate::place::{Place, PlaceArguments, unfinished, unread};
use crate::records::{self, Filter, Totals};
use crate::status::depth;
use crate::{Failure, terminal, view};
use aws::clock::{SystemChance, SystemClock};
use aws::dynamo::DynamoRegister;
use clap::Args;
use domain::explain;
use domain::ids::{ConnectionId, InvoiceId};
use domain::instruction::Instruction;
use domain::lifecycle::{InvoiceRecord, State, Voucher};
use domain::matching::Exception;
use domain::money::{Currency, parse_decimal};
use domain::problem::Problem;
use flows::match_invoice::Entity;
use flows::operator::{self, AdoptDeps, Adoption, Done, HINTS_AT_ONCE, OperatorError};
use flows::ports::{Chance, Clock, RecordKey};
use flows::store::load;
use rust_decimal::Decimal;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

/// The queue of hints about invoices.
const INVOICES_QUEUE: &str = "invoices";
/// How often the register is looked at while a command waits, in milliseconds.
const LOOK_MILLIS: u64 = 300;
/// Looks in a row at an empty queue after which everything in it counts as worked on.
const QUIET_LOOKS: u32 = 3;
/// Longest a command waits for the functions unless told otherwise, in seconds.
const WAIT_SECONDS: u64 = 30;
/// Most invoices that are shown one by one before a bulk command.
const SHOWN_MAX: usize = 20;

/// Who asks, and why.
#[derive(Debug, Args)]
pub(crate) struct ReasonOption {
    /// Why; goes into the audit trail.
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: String,
    /// Says what would happen, and does nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// How a command about many invoices is let loose.
#[derive(Debug, Args)]
pub(crate) struct BulkOptions {
    /// Says what would happen, and does nothing.
    #[arg(long, conflicts_with_all = ["yes", "confirm"])]
    dry_run: bool,
    /// Does it, however many they are.
    #[arg(long)]
    yes: bool,
    /// Does it if they are exactly this many.
    #[arg(long, value_name = "COUNT", conflicts_with = "yes")]
    confirm: Option<usize>,
    /// Waits this long for the functions to have looked at all of them; 0 does not wait.
    #[arg(long, value_name = "SECONDS", default_value_t = WAIT_SECONDS)]
    wait: u64,
}

#[derive(Debug, Args)]
pub(crate) struct RecheckOptions {
    /// The invoice: any of its keys. An id that is not known yet is asked for in Coupa. Without it, give --all-parked or a filter.
    key: Option<String>,
    /// All that wait for a person.
    #[arg(long, conflicts_with = "key")]
    all_parked: bool,
    /// Why; needed to take up again what a person has skipped.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    filter: Filter,
    #[command(flatten)]
    bulk: BulkOptions,
}

#[derive(Debug, Args)]
pub(crate) struct ReplayOptions {
    #[command(flatten)]
    filter: Filter,
    /// All invoices there are; needed when no filter is given.
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    bulk: BulkOptions,
}

#[derive(Debug, Args)]
pub(crate) struct ReleaseOptions {
    /// The invoice: any of its keys.
    key: String,
    #[command(flatten)]
    why: ReasonOption,
}

#[derive(Debug, Args)]
pub(crate) struct AdoptOptions {
    /// The invoice: any of its keys.
    key: String,
    /// QAD's number of the document: year/daybook/number.
    #[arg(long)]
    voucher: Voucher,
    /// QAD's total, when it differs from Coupa's and that is accepted.
    #[arg(long, value_name = "AMOUNT", value_parser = amount, allow_negative_numbers = true)]
    accept_total: Option<Decimal>,
    #[command(flatten)]
    why: ReasonOption,
}

fn amount(text: &str) -> Result<Decimal, String> {
    parse_decimal(text.trim()).map_err(|error| error.to_string())
}

impl From<OperatorError> for Failure {
    fn from(error: OperatorError) -> Self {
        match error {
            OperatorError::Refused(problem) => Self::Refused(problem),
            OperatorError::NotFound(problem) => Self::NotFound(problem),
            OperatorError::Flow(error) => unfinished(error),
            OperatorError::Read(error) => unread(error),
        }
    }
}

/// An opened place with its one connection.
struct Desk {
    place: Place,
    connection: ConnectionId,
    register: DynamoRegister,
}

impl Desk {
    async fn open(place: &PlaceArguments) -> Result<Self, Failure> {
        let place = Place::open(place).await?;
        let connection = place.connection().await?;
        let register = place.register(&connection)?;
        Ok(Self {
            place,
            connection,
            register,
        })
    }

    async fn instruction(&self, reason: &str) -> Result<Instruction, Failure> {
        Instruction::new(&self.place.actor().await?, reason).map_err(Failure::Refused)
    }

    async fn record(&self, id: InvoiceId) -> Result<Option<InvoiceRecord>, Failure> {
        let loaded = load::<InvoiceRecord>(&self.register, RecordKey::Invoice(id))
            .await
            .map_err(unfinished)?;
        Ok(loaded.map(|loaded| loaded.document))
    }

    async fn hint(&self, ids: &[InvoiceId]) -> Result<(), Failure> {
        let queue = self.place.hints(INVOICES_QUEUE)?;
        let trace = format!("command-{}", SystemChance.token());
        let told = |sent| {
            if ids.len() > HINTS_AT_ONCE {
                terminal::note(&format!("{sent} of {} queued", ids.len()));
            }
        };
        operator::look_again(&queue, &self.connection, ids, &trace, told)
            .await
            .map_err(|error| Failure::Unreachable(error.0))
    }

    /// Waits until all of them have changed, or the queue is empty and nobody works on it (a look need not change
    /// anything), or the time is over; how many may still be looked at.
    async fn wait(
        &self,
        before: &BTreeMap<InvoiceId, Option<InvoiceRecord>>,
        seconds: u64,
    ) -> Result<usize, Failure> {
        let queue = self.place.queue(INVOICES_QUEUE)?;
        let end = SystemClock
            .now()
            .plus_seconds(i64::try_from(seconds).unwrap_or(i64::MAX));
        let mut open: Vec<InvoiceId> = before.keys().copied().collect();
        let (mut told, mut quiet) = (open.len(), 0u32);
        while !open.is_empty() && SystemClock.now() < end {
            SystemClock.sleep(Duration::from_millis(LOOK_MILLIS)).await;
            quiet = if depth(&self.place, queue).await?.is_quiet() {
                quiet.saturating_add(1)
            } else {
                0
            };
            let mut still = Vec::new();
            for id in open {
                let now = self.record(id).await?;
                if now.as_ref() == before.get(&id).and_then(Option::as_ref) {
                    still.push(id);
                }
            }
            open = still;
            // What was worked on when the records were read may have changed since: hence more than one look.
            if quiet >= QUIET_LOOKS {
                return Ok(0);
            }
            if open.len() != told && before.len() > 1 {
                told = open.len();
                terminal::note(&format!(
                    "{} of {} have changed",
                    before.len().saturating_sub(told),
                    before.len()
                ));
            }
        }
        Ok(open.len())
    }
}

/// What a look at an invoice in this state means.
fn prospect(record: &InvoiceRecord) -> &'static str {
    match &record.state {
        state if state.is_skipped() => "left alone: a person has skipped it",
        State::Received { .. } | State::Held { .. } | State::Rejected { .. } => {
            "read from Coupa and QAD again and decided again"
        }
        State::Parked {
            reason: domain::lifecycle::ParkReason::InQad { .. },
        } => "left alone: a document of it is, or may be, in QAD and a person must clear it up",
        State::Parked { .. } => "read from Coupa and QAD again and decided again",
        State::Approved => {
            "taken on from where it stands; a lost answer is looked up before anything is sent"
        }
        State::Posted { .. } => "marked exported in Coupa",
        State::Exported { .. } => "asked for in Coupa; nothing is sent to QAD",
        State::Voided { .. } => "marked exported in Coupa, if it is not",
    }
}

/// A number that was named is meant exactly, of one invoice too; one alone needs none.
fn is_confirmed(bulk: &BulkOptions, count: usize) -> bool {
    match bulk.confirm {
        Some(named) => named == count,
        None => bulk.yes || count <= 1,
    }
}

/// Says what would happen to these invoices; true when it is to be done.
fn announced(records: &[InvoiceRecord], bulk: &BulkOptions, out: &Output) -> Result<bool, Failure> {
    let mut groups: BTreeMap<(&'static str, &'static str), Vec<InvoiceRecord>> = BTreeMap::new();
    for record in records {
        groups
            .entry((record.state.word(), prospect(record)))
            .or_default()
            .push(record.clone());
    }
    if out.is_json() && bulk.dry_run {
        let rows: Vec<Value> = groups
            .iter()
            .map(|((state, what), records)| {
                json!({ "state": state, "count": records.len(), "totals": Totals::of(records).json(), "would_be": what,
                        "invoices": records.iter().map(|record| record.id).collect::<Vec<_>>() })
            })
            .collect();
        out.json(&json!({ "count": records.len(), "totals": Totals::of(records).json(), "groups": rows }));
        return Ok(false);
    }
    let tell = |text: &str| out.tell(text);
    for ((state, what), records) in &groups {
        tell(&format!("{state}, {}: {what}", summed(records)));
    }
    if records.len() <= SHOWN_MAX && records.len() > 1 {
        for record in records {
            tell(&format!("  {}", explain::title(record)));
        }
    }
    if bulk.dry_run {
        tell("Nothing was done (--dry-run).");
        return Ok(false);
    }
    if is_confirmed(bulk, records.len()) {
        return Ok(true);
    }
    Err(Failure::Refused(
        Problem::new(
            "NOT_CONFIRMED",
            "Repeat it with --confirm and that number, or with --yes.",
        )
        .expected(format!("--confirm {}", records.len()))
        .actual(
            bulk.confirm
                .map_or_else(|| "no confirmation".to_owned(), |count| count.to_string()),
        ),
    ))
}

/// What became of those that were looked at.
fn tell_moves(out: &Output, rows: &[(InvoiceRecord, InvoiceRecord)]) {
    if let [(before, after)] = rows {
        out.line(&format!("{} -> {}", before.state.word(), after.state.word()));
        out.line(&view::in_words(after));
        return;
    }
    let mut moves: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for (before, after) in rows {
        let count = moves
            .entry((before.state.word(), after.state.word()))
            .or_default();
        *count = count.saturating_add(1);
    }
    out.line(&format!("{} looked at", rows.len()));
    for ((before, after), count) in moves {
        out.line(&if before == after {
            format!("{count}: {before}, as before")
        } else {
            format!("{count}: {before} -> {after}")
        });
    }
}

/// Has a frozen set looked at, waits, and tells what became of it.
async fn look_at(
    desk: &Desk,
    records: &[InvoiceRecord],
    bulk: &BulkOptions,
    out: &Output,
) -> Result<(), Failure> {
    let ids: Vec<InvoiceId> = records.iter().map(|record| record.id).collect();
    let before: BTreeMap<InvoiceId, Option<InvoiceRecord>> = records
        .iter()
        .map(|record| (record.id, Some(record.clone())))
        .collect();
    desk.hint(&ids).await?;
    let open = desk.wait(&before, bulk.wait).await?;
    let mut rows = Vec::new();
    for before in records {
        let after = desk.record(before.id).await?.unwrap_or_else(|| before.clone());
        rows.push((before.clone(), after));
    }
    let moved = |(before, after): &(InvoiceRecord, InvoiceRecord)| json!({ "invoice": after.id, "before": before.state.word(), "after": view::invoice_json(after) });
    out.value(
        || {
            let rows: Vec<Value> = rows.iter().map(moved).collect();
            json!({ "queued": ids.len(), "not_looked_at_yet": open, "invoices": rows })
        },
        |out| tell_moves(out, &rows),
    );
    if open > 0 && bulk.wait > 0 {
        terminal::note(&format!(
            "{open} were not looked at within {} s; they are queued, and nothing is lost.",
            bulk.wait
        ));
    }
    Ok(())
}

/// `recheck`.
pub(crate) async fn recheck(
    place: &PlaceArguments,
    options: RecheckOptions,
    out: &Output,
) -> Result<(), Failure> {
    if options.key.is_none() && !options.all_parked && options.filter.is_empty() {
        return Err(Failure::Usage(
            Problem::new("FILTER_MISSING", "Say which invoices are to be looked at again.")
                .expected("KEY, `--all-parked` or a filter")
                .actual("none of them"),
        ));
    }
    let filter = if options.all_parked {
        options.filter.only("parked")?
    } else {
        options.filter
    };
    let desk = Desk::open(place).await?;
    if let Some(key) = &options.key {
        let record = match (
            records::one(&desk.register, key).await,
            key.trim().parse::<InvoiceId>(),
        ) {
            (Err(Failure::NotFound(_)), Ok(id)) => {
                return recheck_unknown(&desk, id, &options.bulk, out).await;
            }
            (found, _) => found?,
        };
        let record = taken_up(&desk, record, options.reason.as_deref(), options.bulk.dry_run).await?;
        let records = [record];
        if announced(&records, &options.bulk, out)? {
            look_at(&desk, &records, &options.bulk, out).await?;
        }
        return Ok(());
    }
    let records = records::kept(&desk.register, &filter, SystemClock.now()).await?;
    if announced(&records, &options.bulk, out)? {
        look_at(&desk, &records, &options.bulk, out).await?;
    }
    Ok(())
}

/// An invoice of which nothing is known yet: whatever Coupa says of it is found out by the functions.
async fn recheck_unknown(
    desk: &Desk,
    id: InvoiceId,
    bulk: &BulkOptions,
    out: &Output,
) -> Result<(), Failure> {
    if bulk.dry_run {
        out.line(&format!(
            "Coupa invoice {id} is not known yet; it would be asked for in Coupa."
        ));
        return Ok(());
    }
    desk.hint(&[id]).await?;
    let before = BTreeMap::from([(id, None)]);
    desk.wait(&before, bulk.wait).await?;
    match desk.record(id).await? {
        Some(record) => {
            if let State::Rejected { problem } = &record.state
                && problem.code == "COUPA_INVOICE_NOT_FOUND"
            {
                return Err(Failure::NotFound(problem.clone()));
            }
            out.line(&explain::title(&record));
            out.line(&view::in_words(&record));
            Ok(())
        }
        None => Err(Failure::NotFound(
            Problem::new(
                "INVOICE_NOT_KNOWN",
                "Nothing is kept of an invoice that Coupa has not approved; if it is approved, look at `qad-coupa status`.",
            )
            .field("invoice")
            .actual(id.to_string()),
        )),
    }
}

/// A skipped invoice is taken up again, with a reason; any other is as it was.
async fn taken_up(
    desk: &Desk,
    record: InvoiceRecord,
    reason: Option<&str>,
    dry_run: bool,
) -> Result<InvoiceRecord, Failure> {
    if !record.state.is_skipped() {
        return Ok(record);
    }
    let reason = reason.ok_or_else(|| {
        Failure::Usage(
            Problem::new("REASON_MISSING", "Give --reason: a person has skipped it.")
                .field(format!("invoice {}", record.id)),
        )
    })?;
    let instruction = desk.instruction(reason).await?;
    let context = desk.place.context(&desk.register);
    let done = operator::reopen(&context, record.id, instruction, dry_run).await?;
    Ok(done.after)
}

/// `replay`.
pub(crate) async fn replay(
    place: &PlaceArguments,
    options: ReplayOptions,
    out: &Output,
) -> Result<(), Failure> {
    if options.filter.is_empty() && !options.all {
        return Err(Failure::Usage(
            Problem::new("FILTER_MISSING", "Say which, or give --all.").expected("a filter, or --all"),
        ));
    }
    let desk = Desk::open(place).await?;
    // Frozen here: what joins later is not part of it.
    let records = records::kept(&desk.register, &options.filter, SystemClock.now()).await?;
    if !out.is_json() {
        out.line(&format!("{} to be looked at again", summed(&records)));
    }
    if announced(&records, &options.bulk, out)? {
        look_at(&desk, &records, &options.bulk, out).await?;
    }
    Ok(())
}

fn tell_done(done: &Done, dry_run: bool, out: &Output) {
    out.value(
        || {
            json!({ "changed": done.changed, "dry_run": dry_run, "before": done.before.state.word(),
                    "after": view::invoice_json(&done.after) })
        },
        |out| {
            let (before, after) = (done.before.state.word(), done.after.state.word());
            out.line(&explain::title(&done.after));
            out.line(&match (done.changed, dry_run) {
                (false, _) => "It was so already; nothing was written.".to_owned(),
                (true, true) => {
                    format!("Would go from {before} to {after}. Nothing was done (--dry-run).")
                }
                (true, false) => format!("{before} -> {after}"),
            });
            out.line(&if done.changed && dry_run {
                format!("Then it would be {}.", prospect(&done.after))
            } else {
                view::in_words(&done.after)
            });
        },
    );
}

/// What a release accepts, in one line.
fn accepted(exception: &Exception) -> String {
    let line = exception
        .line
        .map_or_else(|| "-".to_owned(), |line| line.to_string());
    let limit = match exception.limit.as_str() {
        "" => String::new(),
        limit => format!(" (limit {limit})"),
    };
    format!(
        "Accepted: {} on line {line}: {} instead of {}{limit}",
        exception.code.as_str(),
        exception.actual,
        exception.expected
    )
}

/// `release`.
pub(crate) async fn release(
    place: &PlaceArguments,
    options: ReleaseOptions,
    out: &Output,
) -> Result<(), Failure> {
    let desk = Desk::open(place).await?;
    let record = records::one(&desk.register, &options.key).await?;
    let instruction = desk.instruction(&options.why.reason).await?;
    let context = desk.place.context(&desk.register);
    let document = desk.place.document(&desk.connection).await?;
    let rule = &document.second_person;
    let done = operator::release(&context, record.id, instruction, rule, options.why.dry_run).await?;
    if let (true, State::Parked { .. }, Some(request)) =
        (done.changed, &done.after.state, &done.after.release_request)
    {
        tell_done(&done, options.why.dry_run, out);
        return Err(Failure::Differs(format!(
            "SECOND_PERSON_NEEDED: a release above the limit is recorded as a request and needs another person's, with a \
             reason of their own, before {}.",
            explain::instant(request.at.plus_millis(rule.valid_millis))
        )));
    }
    if !out.is_json()
        && done.changed
        && let State::Parked {
            reason: domain::lifecycle::ParkReason::Match { exceptions },
        } = &done.before.state
    {
        for exception in exceptions {
            out.line(&accepted(exception));
        }
    }
    if done.changed && !options.why.dry_run {
        desk.hint(&[record.id]).await?;
        let before = BTreeMap::from([(record.id, Some(done.after.clone()))]);
        desk.wait(&before, WAIT_SECONDS).await?;
        let after = desk.record(record.id).await?.unwrap_or(done.after);
        tell_done(&Done { after, ..done }, false, out);
    } else {
        tell_done(&done, options.why.dry_run, out);
    }
    Ok(())
}

/// `skip`.
pub(crate) async fn skip(
    place: &PlaceArguments,
    options: ReleaseOptions,
    out: &Output,
) -> Result<(), Failure> {
    let desk = Desk::open(place).await?;
    let record = records::one(&desk.register, &options.key).await?;
    let instruction = desk.instruction(&options.why.reason).await?;
    let context = desk.place.context(&desk.register);
    let done = operator::skip(&context, record.id, instruction, options.why.dry_run).await?;
    tell_done(&done, options.why.dry_run, out);
    Ok(())
}

/// A document that was refused for its total alone, with the option that accepts that total.
fn with_the_flag(mut problem: Problem) -> Problem {
    let total = problem.actual.split_once(' ').filter(|(amount, currency)| {
        problem.code == "ADOPT_REFUSED"
            && parse_decimal(amount).is_ok()
            && currency.parse::<Currency>().is_ok()
    });
    if let Some((total, _)) = total {
        problem.fix = format!("Correct the wrong one, or accept QAD's total with `--accept-total {total}`.");
    }
    problem
}

/// `adopt`.
pub(crate) async fn adopt(
    place: &PlaceArguments,
    options: AdoptOptions,
    out: &Output,
) -> Result<(), Failure> {
    let desk = Desk::open(place).await?;
    let record = records::one(&desk.register, &options.key).await?;
    let instruction = desk.instruction(&options.why.reason).await?;
    let systems = desk.place.systems(&desk.connection).await?;
    let settings = systems.document.invoice_settings();
    let entities: Vec<Entity<'_>> = systems
        .entities
        .iter()
        .map(|entity| Entity {
            rule: &entity.rule,
            qad: &entity.qad,
            settings: &entity.settings,
        })
        .collect();
    let deps = AdoptDeps {
        home: &systems.document.home(&desk.connection),
        context: desk.place.context(&desk.register),
        coupa: &systems.coupa,
        qad: &systems.qad,
        settings: &settings,
        entities: &entities,
    };
    let adoption = Adoption {
        voucher: options.voucher,
        accepted_total: options.accept_total,
        instruction,
    };
    let done = operator::adopt(&deps, record.id, adoption, options.why.dry_run)
        .await
        .map_err(|error| match Failure::from(error) {
            Failure::Refused(problem) => Failure::Refused(with_the_flag(problem)),
            other => other,
        })?;
    if done.changed && !options.why.dry_run {
        desk.hint(&[record.id]).await?;
    }
    tell_done(&done, options.why.dry_run, out);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_was_named_is_meant_exactly() {
        let bulk = |yes, confirm| BulkOptions {
            dry_run: false,
            yes,
            confirm,
            wait: 0,
        };
        for (count, named, done) in [(1, 37, false), (0, 37, false), (37, 37, true), (38, 37, false)] {
            assert_eq!(
                is_confirmed(&bulk(false, Some(named)), count),
                done,
                "{count} of {named}"
            );
        }
        assert!(is_confirmed(&bulk(false, None), 1));
        assert!(!is_confirmed(&bulk(false, None), 2));
        assert!(is_confirmed(&bulk(true, None), 2));
    }

    #[test]
    fn what_is_accepted_is_told_without_an_empty_limit() {
        let exception = Exception {
            code: domain::matching::ExceptionCode::PriceOverTolerance,
            line: Some(1),
            order_line: None,
            expected: "10".to_owned(),
            actual: "11".to_owned(),
            limit: String::new(),
        };
        assert_eq!(
            accepted(&exception),
            "Accepted: PRICE_OVER_TOLERANCE on line 1: 11 instead of 10"
        );
        let limited = Exception {
            limit: "10.50".to_owned(),
            ..exception
        };
        assert!(accepted(&limited).ends_with("11 instead of 10 (limit 10.50)"));
    }

    #[test]
    fn another_total_is_refused_with_the_option_that_accepts_it() {
        let refused =
            |actual: &str| with_the_flag(Problem::new("ADOPT_REFUSED", "As it was.").actual(actual)).fix;
        assert!(refused("-795.5 USD").ends_with("`--accept-total -795.5`."));
        for other in ["USD", "Coupa 7", "Coupa 7, INV-7"] {
            assert_eq!(refused(other), "As it was.");
        }
    }
}
