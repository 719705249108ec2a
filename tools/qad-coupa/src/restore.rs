//! After a restore: which records are older than their audit trail, and letting them go on with it.

use crate::audit::{Other, others};
use crate::output::{Column, ListOptions, Listing, Output, Row};
use crate::place::{Place, PlaceArguments, unfinished};
use crate::{Failure, records};
use aws::dynamo::DynamoRegister;
use clap::Args;
use domain::ids::InvoiceId;
use domain::instruction::Instruction;
use domain::lifecycle::ChainEnd;
use domain::lookups::LookupValueRecord;
use domain::ownership::Ownership;
use domain::payments::{BillPayments, UnmatchedPayments};
use domain::plans::PlanRecord;
use domain::problem::Problem;
use domain::suppliers::SupplierRecord;
use domain::words;
use flows::opening::{self, Openings};
use flows::ports::{AuditEntry, Collection, RecordKey, Register};
use flows::restore::{self, Chain};
use flows::store::{Context, FlowError, invoice_audit_name};
use flows::{owner, pause};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Where the audit names of invoices begin.
const INVOICE: &str = "invoice/";

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("what").required(true).args(["check", "repair"]))]
pub(crate) struct RestoreOptions {
    /// Names every record that is older than its audit trail. Ends with 4 when there is one.
    #[arg(long)]
    check: bool,
    /// Lets each of them go on where its trail ends; none gets another state than the register says.
    #[arg(long, requires = "reason")]
    repair: bool,
    /// Why; goes into the audit trail.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Does it if they are exactly this many.
    #[arg(long, value_name = "COUNT")]
    confirm: Option<usize>,
    #[command(flatten)]
    list: ListOptions,
}

/// Which document it is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Which {
    Invoice(InvoiceId),
    Other(RecordKey),
    /// It has a trail and no record. What is no invoice goes on with its trail when it is made anew.
    Gone,
}

/// One document whose chain does not end where its trail ends.
struct Cut {
    which: Which,
    name: String,
    known: u64,
    trail: usize,
    /// Why it cannot be anchored; `None` when it can.
    unfit: Option<Problem>,
}

impl Cut {
    fn word(&self) -> &'static str {
        match (&self.unfit, self.known) {
            (Some(_), _) => "unfit",
            (None, 0) => "missing",
            (None, _) => "behind",
        }
    }

    /// Whether a repair anchors it.
    fn is_anchored(&self) -> bool {
        self.unfit.is_none() && self.which != Which::Gone
    }

    fn row(&self) -> Row {
        let fix = match (&self.unfit, &self.which) {
            (Some(problem), _) => problem.fix.as_str(),
            (None, Which::Gone) => "It goes on with its trail when it is made anew.",
            (None, _) => "`qad-coupa restore --repair` lets it go on with its trail.",
        };
        let shown = json!({ "document": self.name, "finding": self.word(), "entries_known": self.known,
            "entries": self.trail, "problem": self.unfit, "fix": fix });
        let cells = vec![
            self.word().into(),
            self.name.as_str().into(),
            self.known.to_string().as_str().into(),
            self.trail.to_string().as_str().into(),
            fix.into(),
        ];
        Row::new(shown, cells)
    }
}

async fn trail(register: &DynamoRegister, name: &str) -> Result<Vec<AuditEntry>, Failure> {
    let entries = register.audit(name).await;
    entries.map_err(|error| Failure::Unreachable(error.0))
}

fn cut(which: Which, name: &str, known: &ChainEnd, entries: &[AuditEntry]) -> Option<Cut> {
    let unfit = match restore::compare(name, known, entries) {
        Chain::Whole => return None,
        Chain::Behind(_) => None,
        Chain::Unfit(problem) => Some(problem),
    };
    Some(Cut {
        which,
        name: name.to_owned(),
        known: known.sequence,
        trail: entries.len(),
        unfit,
    })
}

/// Every document whose record and trail do not end together, and what cannot be read.
async fn cuts(register: &DynamoRegister, out: &Output) -> Result<(Vec<Cut>, Vec<Problem>), Failure> {
    let (mut found, mut seen) = (Vec::new(), BTreeSet::new());
    let (others, mut unreadable) = others(register).await?;
    for Other { key, name, end } in others {
        found.extend(cut(
            Which::Other(key),
            &name,
            &end,
            &trail(register, &name).await?,
        ));
        seen.insert(name);
    }
    out.progress("comparing invoices with their trails ...");
    let (records, broken) = records::everything(register).await?;
    unreadable.extend(broken);
    for record in records {
        let name = invoice_audit_name(record.id);
        found.extend(cut(
            Which::Invoice(record.id),
            &name,
            &record.chain,
            &trail(register, &name).await?,
        ));
        seen.insert(name);
    }
    out.progress("looking for trails without a record ...");
    let names = register
        .audit_names()
        .await
        .map_err(|error| Failure::Unreachable(error.0))?;
    for name in names.into_iter().filter(|name| !seen.contains(name)) {
        let id = name.strip_prefix(INVOICE).and_then(|id| id.parse().ok());
        let which = id.map_or(Which::Gone, |id| Which::Invoice(InvoiceId(id)));
        // What cannot be read as an invoice any more has its record, and is told already.
        if let Which::Invoice(id) = which
            && records::is_there(register, id).await?
        {
            continue;
        }
        found.extend(cut(
            which,
            &name,
            &ChainEnd::default(),
            &trail(register, &name).await?,
        ));
    }
    Ok((found, unreadable))
}

async fn anchor(context: &Context<'_>, cut: &Cut, why: &Instruction) -> Result<bool, FlowError> {
    match &cut.which {
        Which::Invoice(id) => restore::anchor_invoice(context, *id, why).await,
        Which::Gone => Ok(false),
        Which::Other(key) => anchor_other(context, key).await,
    }
}

async fn anchor_other(context: &Context<'_>, key: &RecordKey) -> Result<bool, FlowError> {
    if *key == owner::key() {
        return restore::anchor::<Ownership>(context, key.clone()).await;
    }
    if *key == opening::key() {
        return restore::anchor::<Openings>(context, key.clone()).await;
    }
    let RecordKey::Entry { collection, .. } = key else {
        return pause::anchor(context, key.clone()).await;
    };
    match collection {
        Collection::Bill => restore::anchor::<BillPayments>(context, key.clone()).await,
        Collection::UnmatchedPayment => restore::anchor::<UnmatchedPayments>(context, key.clone()).await,
        Collection::Supplier => restore::anchor::<SupplierRecord>(context, key.clone()).await,
        Collection::LookupValue => restore::anchor::<LookupValueRecord>(context, key.clone()).await,
        Collection::LookupPlan | Collection::SupplierPlan => {
            restore::anchor::<PlanRecord>(context, key.clone()).await
        }
        Collection::AwaitedSupplier => Ok(false),
    }
}

/// `restore`.
pub(crate) async fn run(
    place: &PlaceArguments,
    options: &RestoreOptions,
    out: &Output,
) -> Result<(), Failure> {
    let place = Place::open(place).await?;
    let connection = place.connection().await?;
    let register = place.register(&connection)?;
    let (found, unreadable) = cuts(&register, out).await?;
    let ready = found.iter().filter(|cut| cut.is_anchored()).count();
    let unfit = found.iter().filter(|cut| cut.unfit.is_some()).count();
    if options.repair {
        return repair(&place, &register, options, &found, out).await;
    }
    let columns = [
        Column::word("Finding"),
        Column::word("Document"),
        Column::word("Known"),
        Column::word("Trail"),
        Column::sentence("Fix"),
    ];
    let whole = move |rows| json!({ "to_anchor": ready, "unfit": unfit, "unreadable": unreadable, "documents": Value::Array(rows) });
    let below = format!(
        "{} older than their trail, {unfit} that fit no trail, {} in all",
        ready,
        words::count(found.len(), "difference")
    );
    let listing = Listing::new(&columns, found.iter().map(Cut::row).collect())
        .within(whole)
        .below([below]);
    out.list(listing, &options.list)?;
    if found.is_empty() {
        return Ok(());
    }
    Err(Failure::Differs(format!(
        "RESTORE_FOUND: {ready} to repair (`qad-coupa restore --repair --reason TEXT --confirm {ready}`), {unfit} that no command repairs"
    )))
}

async fn repair(
    place: &Place,
    register: &DynamoRegister,
    options: &RestoreOptions,
    found: &[Cut],
    out: &Output,
) -> Result<(), Failure> {
    let reason = options.reason.as_deref().unwrap_or_default();
    let why = Instruction::new(&place.actor().await?, reason).map_err(Failure::Refused)?;
    let ready: Vec<&Cut> = found.iter().filter(|cut| cut.is_anchored()).collect();
    if options.confirm != Some(ready.len()) {
        let told = options
            .confirm
            .map_or_else(|| "no confirmation".to_owned(), |count| count.to_string());
        return Err(Failure::Refused(
            Problem::new(
                "NOT_CONFIRMED",
                "Look at them with --check, then repeat it with --confirm and that number.",
            )
            .expected(format!("--confirm {}", ready.len()))
            .actual(told),
        ));
    }
    let context = place.context(register);
    let count = u64::try_from(ready.len()).unwrap_or(u64::MAX);
    restore::begin(&context, count, &why).await.map_err(unfinished)?;
    let (mut anchored, mut left) = (0usize, Vec::new());
    for cut in ready {
        match anchor(&context, cut, &why).await {
            Ok(done) => anchored = anchored.saturating_add(usize::from(done)),
            Err(error) => left.push(error.problem().field(cut.name.as_str())),
        }
    }
    out.value(
        || json!({ "anchored": anchored, "left": left }),
        |out| {
            out.line(&format!(
                "{} anchored: each goes on as the register says, and what it has done since is looked up before anything is sent.",
                words::count(anchored, "document")
            ));
        },
    );
    if left.is_empty() {
        return Ok(());
    }
    // Whoever was faster has moved it; what is left is found by the next --check.
    Err(Failure::Failed(left))
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::time::Timestamp;
    use flows::store::{next_entry, verify_chain};

    fn trail_of(name: &str, entries: u64) -> Vec<AuditEntry> {
        let mut end = ChainEnd::default();
        (0..entries)
            .map(|_| {
                let entry = next_entry(name, &end, Timestamp(0), "[]".to_owned());
                end = entry.end();
                entry
            })
            .collect()
    }

    #[test]
    fn what_is_older_what_is_missing_and_what_fits_no_trail_are_told_apart() {
        let name = "invoice/7";
        let entries = trail_of(name, 3);
        let at = |number: usize| verify_chain(&entries[..number]).unwrap();
        let told = |end: &ChainEnd, entries: &[AuditEntry]| {
            cut(Which::Invoice(InvoiceId(7)), name, end, entries).map(|cut| (cut.word(), cut.is_anchored()))
        };
        assert_eq!(told(&at(3), &entries), None);
        assert_eq!(told(&at(1), &entries), Some(("behind", true)));
        assert_eq!(told(&at(0), &entries), Some(("missing", true)));
        assert_eq!(
            told(&at(3), &entries[..2]),
            Some(("unfit", false)),
            "the trail is the older one"
        );
        let foreign = ChainEnd {
            sequence: 2,
            hash: "f".repeat(64),
        };
        assert_eq!(told(&foreign, &entries), Some(("unfit", false)));
        let mut broken = entries.clone();
        broken[1].events = "[1]".to_owned();
        assert_eq!(told(&at(1), &broken), Some(("unfit", false)));
        let gone = cut(Which::Gone, "bill/7", &ChainEnd::default(), &entries).unwrap();
        assert!(!gone.is_anchored(), "it goes on by itself");
    }
}
