//! Takes in what was approved before this product was there. Each invoice goes the normal way: matched, and before
//! anything is created QAD is looked at, so that what is there already is adopted. Can be ended and started again at any
//! time: what is known is left alone.

use crate::output::Output;
use crate::place::{Place, PlaceArguments, unread};
use crate::records::{self, Filter};
use crate::{Failure, terminal};
use aws::clock::{SystemChance, SystemClock};
use clap::Args;
use domain::ids::InvoiceId;
use domain::instruction::Instruction;
use domain::problem::Problem;
use domain::time::Date;
use flows::match_invoice::EXPORTED_BY_OTHERS;
use flows::operator;
use flows::ports::{Chance, Clock, CoupaHistory, Hint, HintReason, Queue, Subject};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};

/// Invoices taken in before the progress is told.
const STEP: usize = 25;
/// Calls to Coupa and to QAD that one invoice costs at least: reading it, and marking it; order, receipts, look-up, create.
const COUPA_CALLS: u64 = 2;
const QAD_CALLS: u64 = 4;

#[derive(Debug, Args)]
pub(crate) struct BackfillOptions {
    /// Invoices dated this day or later.
    #[arg(long, value_name = "YYYY-MM-DD")]
    from: Date,
    /// Invoices dated this day or earlier.
    #[arg(long, value_name = "YYYY-MM-DD")]
    until: Option<Date>,
    /// Why; goes into the audit trail of each.
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Says how many there are and what they cost, and does nothing.
    #[arg(long, conflicts_with_all = ["yes", "confirm"])]
    dry_run: bool,
    /// Does it, however many they are.
    #[arg(long)]
    yes: bool,
    /// Does it if they are exactly this many.
    #[arg(long, value_name = "COUNT", conflicts_with = "yes")]
    confirm: Option<usize>,
}

/// A range that ends before it begins holds nothing, and nobody means that.
pub(crate) fn in_order(from: Date, until: Option<Date>, option: &str) -> Result<(), Failure> {
    match until {
        Some(until) if until < from => Err(Failure::Usage(
            Problem::new(
                "RANGE_REVERSED",
                format!("Give the earlier day to --from and the later one to {option}."),
            )
            .field(option)
            .expected(format!("{from} or later"))
            .actual(until.to_string()),
        )),
        _ => Ok(()),
    }
}

/// The approved invoices dated from a day on, exported or not, those that cannot be read among them; and what is wrong with
/// those of which not even the id can be told.
pub(crate) async fn approved(
    coupa: &dyn CoupaHistory,
    from: Date,
    until: Option<Date>,
) -> Result<(BTreeSet<InvoiceId>, Vec<Problem>), Failure> {
    let mut ids = BTreeSet::new();
    let mut nameless = Vec::new();
    let mut after = None;
    loop {
        let page = coupa
            .approved_invoices(from, until, after)
            .await
            .map_err(unread)?;
        let heads = page.heads.iter().filter(|head| !head.out_of_scope);
        ids.extend(heads.map(|head| head.id));
        for (id, problem) in page.unreadable {
            match id {
                Some(id) => {
                    ids.insert(id);
                }
                None => nameless.push(problem),
            }
        }
        match page.last {
            Some(last) if page.more && after.is_none_or(|before| last > before) => after = Some(last),
            _ => return Ok((ids, nameless)),
        }
    }
}

/// `backfill`.
pub(crate) async fn run(
    place: &PlaceArguments,
    options: BackfillOptions,
    out: &Output,
) -> Result<(), Failure> {
    in_order(options.from, options.until, "--until")?;
    let place = Place::open(place).await?;
    let connection = place.connection().await?;
    let register = place.register(&connection)?;
    let systems = place.systems(&connection).await?;
    let known: BTreeMap<InvoiceId, bool> = records::kept(&register, &Filter::default(), SystemClock.now())
        .await?
        .into_iter()
        .map(|record| (record.id, record.state.codes() == [EXPORTED_BY_OTHERS]))
        .collect();
    let (ids, nameless) = approved(&systems.coupa, options.from, options.until).await?;
    for problem in nameless {
        terminal::note(&problem.to_string());
    }
    let listed = ids.len();
    // Unknown, or known and left to others.
    let is_wanted = |id: &InvoiceId| known.get(id).copied().unwrap_or(true);
    let wanted: BTreeSet<InvoiceId> = ids.into_iter().filter(is_wanted).collect();
    let count = u64::try_from(wanted.len()).unwrap_or(u64::MAX);
    let seconds = |calls: u64, per_second: u32| {
        count
            .saturating_mul(calls)
            .checked_div(u64::from(per_second))
            .unwrap_or(0)
    };
    let coupa = seconds(COUPA_CALLS, systems.document.coupa.requests_per_second);
    let qad = seconds(QAD_CALLS, systems.document.qad.requests_per_second);
    let estimate = json!({ "listed": listed, "known": listed.saturating_sub(wanted.len()), "to_take_in": wanted.len(),
        "coupa_calls": count.saturating_mul(COUPA_CALLS), "qad_calls": count.saturating_mul(QAD_CALLS),
        "seconds_at_least": coupa.max(qad) });
    if !out.is_json() {
        out.line(&format!(
            "{listed} approved invoices since {}, {} of them known; {} to take in, about {} calls to Coupa and {} to QAD, at least {} s.",
            options.from,
            listed.saturating_sub(wanted.len()),
            wanted.len(),
            count.saturating_mul(COUPA_CALLS),
            count.saturating_mul(QAD_CALLS),
            coupa.max(qad)
        ));
    }
    if options.dry_run || wanted.is_empty() {
        out.value(|| estimate, |out| out.line("Nothing was done."));
        return Ok(());
    }
    if !options.yes && options.confirm != Some(wanted.len()) {
        return Err(Failure::Refused(
            Problem::new(
                "NOT_CONFIRMED",
                "Repeat it with --confirm and that number, or with --yes.",
            )
            .expected(format!("--confirm {}", wanted.len()))
            .actual(
                options
                    .confirm
                    .map_or_else(|| "no confirmation".to_owned(), |count| count.to_string()),
            ),
        ));
    }
    let instruction = Instruction::new(&place.actor().await?, &options.reason).map_err(Failure::Refused)?;
    let queue = place.hints("invoices")?;
    let trace = format!("command-{}", SystemChance.token());
    let mut taken = 0usize;
    let ids: Vec<InvoiceId> = wanted.into_iter().collect();
    for part in ids.chunks(STEP) {
        let mut hints = Vec::new();
        for id in part {
            let context = place.context(&register);
            operator::take_in(&context, *id, instruction.clone(), false).await?;
            hints.push(Hint::V1 {
                connection: connection.clone(),
                subject: Subject::Invoice(*id),
                reason: HintReason::Operator,
                trace: trace.clone(),
            });
        }
        // A hint that is lost is healed by the sweep: each record is due already.
        queue
            .send(&hints)
            .await
            .map_err(|error| Failure::Unreachable(error.0))?;
        taken = taken.saturating_add(part.len());
        terminal::note(&format!("{taken} of {} taken in", ids.len()));
    }
    out.value(
        || json!({ "taken_in": taken, "estimate": estimate }),
        |out| {
            out.line(&format!(
                "{taken} taken in; `qad-coupa status` shows what becomes of them. Repeating it takes in what is left."
            ));
        },
    );
    Ok(())
}
