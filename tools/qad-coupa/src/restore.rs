//! After a restore: which records are older than their audit trail, and letting them go on with it.

use crate::audit::{Other, others, told_apart};
use crate::output::{Column, ListOptions, Listing, Output, Row};
use crate::place::{Place, PlaceArguments, unfinished};
use crate::{Failure, records};
use aws::dynamo::DynamoRegister;
use clap::Args;
use domain::ids::InvoiceId;
use domain::instruction::Instruction;
use domain::lifecycle::ChainEnd;
use domain::problem::Problem;
use domain::words;
use flows::ports::{AuditEntry, RecordKey, Register};
use flows::restore::{self, Chain};
use flows::store::{Context, FlowError, invoice_audit_name};
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
    entries.map_err(records::unanswered)
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
        if let Some(entries) = told_apart(trail(register, &name).await, &mut unreadable)? {
            found.extend(cut(Which::Other(key), &name, &end, &entries));
        }
        seen.insert(name);
    }
    out.progress("comparing invoices with their trails ...");
    let (records, broken) = records::everything(register).await?;
    unreadable.extend(broken);
    for record in records {
        let name = invoice_audit_name(record.id);
        if let Some(entries) = told_apart(trail(register, &name).await, &mut unreadable)? {
            found.extend(cut(Which::Invoice(record.id), &name, &record.chain, &entries));
        }
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
        if let Some(entries) = told_apart(trail(register, &name).await, &mut unreadable)? {
            found.extend(cut(which, &name, &ChainEnd::default(), &entries));
        }
    }
    Ok((found, unreadable))
}

async fn anchor(context: &Context<'_>, cut: &Cut, why: &Instruction) -> Result<bool, FlowError> {
    match &cut.which {
        Which::Invoice(id) => restore::anchor_invoice(context, *id, why).await,
        Which::Gone => Ok(false),
        Which::Other(key) => restore::anchor_other(context, key).await,
    }
}

/// What a document is left with after its anchoring; `None` when it goes on. What could not be anchored although it was older has
/// been moved by whoever was faster: the next `--check` says.
fn left(name: &str, anchored: Result<bool, FlowError>) -> Option<Problem> {
    let error = match anchored {
        Ok(true) => return None,
        Ok(false) => FlowError::Contended,
        Err(error) => error,
    };
    Some(error.problem().field(name))
}

/// Why a check does not end well; `None` when every record ends with its trail and all of them could be read.
fn verdict(found: &[Cut], unreadable: &[Problem]) -> Option<String> {
    if found.is_empty() && unreadable.is_empty() {
        return None;
    }
    let ready = found.iter().filter(|cut| cut.is_anchored()).count();
    let unfit = found.iter().filter(|cut| cut.unfit.is_some()).count();
    let told = format!(
        "RESTORE_FOUND: {ready} to repair (`qad-coupa restore --repair --reason TEXT --confirm {ready}`), {unfit} that no command repairs, {} that cannot be read",
        unreadable.len()
    );
    let told = std::iter::once(told).chain(unreadable.iter().map(ToString::to_string));
    Some(told.collect::<Vec<_>>().join("\n"))
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
        return repair(&place, &register, options, (&found, unreadable), out).await;
    }
    let columns = [
        Column::word("Finding"),
        Column::word("Document"),
        Column::word("Known"),
        Column::word("Trail"),
        Column::sentence("Fix"),
    ];
    let below = format!(
        "{ready} older than their trail, {unfit} that fit no trail, {} in all; {} that cannot be read",
        words::count(found.len(), "difference"),
        unreadable.len()
    );
    let ended = verdict(&found, &unreadable);
    let whole = move |rows| json!({ "to_anchor": ready, "unfit": unfit, "unreadable": unreadable, "documents": Value::Array(rows) });
    let listing = Listing::new(&columns, found.iter().map(Cut::row).collect())
        .within(whole)
        .below([below]);
    out.list(listing, &options.list)?;
    ended.map_or(Ok(()), |told| Err(Failure::Differs(told)))
}

async fn repair(
    place: &Place,
    register: &DynamoRegister,
    options: &RestoreOptions,
    (found, unreadable): (&[Cut], Vec<Problem>),
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
    // Whatever cannot be read is not known to go on.
    let (mut anchored, mut remaining) = (0usize, unreadable);
    for cut in ready {
        match left(&cut.name, anchor(&context, cut, &why).await) {
            Some(problem) => remaining.push(problem),
            None => anchored = anchored.saturating_add(1),
        }
    }
    out.value(
        || json!({ "anchored": anchored, "left": remaining }),
        |out| {
            out.line(&format!(
                "{} anchored: each goes on as the register says, and what it has done since is looked up before anything is sent.",
                words::count(anchored, "document")
            ));
        },
    );
    if remaining.is_empty() {
        return Ok(());
    }
    Err(Failure::Failed(remaining))
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

    #[test]
    fn what_cannot_be_read_and_what_did_not_go_on_is_never_all_well() {
        assert_eq!(verdict(&[], &[]), None);
        let broken = Problem::new("RECORD_UNREADABLE", "").field("bill/7");
        let told = verdict(&[], std::slice::from_ref(&broken)).unwrap();
        assert!(
            told.contains("1 that cannot be read") && told.contains("bill/7"),
            "{told}"
        );
        let gone = cut(
            Which::Gone,
            "bill/8",
            &ChainEnd::default(),
            &trail_of("bill/8", 1),
        )
        .unwrap();
        assert!(verdict(&[gone], &[]).is_some());
        assert_eq!(left("bill/7", Ok(true)), None);
        let moved = left("bill/7", Ok(false)).unwrap();
        assert_eq!(
            (moved.code.as_str(), moved.field.as_str()),
            ("REGISTER_CONTENDED", "bill/7")
        );
        assert_eq!(left("bill/7", Err(FlowError::OutOfTime)).unwrap().field, "bill/7");
    }
}
