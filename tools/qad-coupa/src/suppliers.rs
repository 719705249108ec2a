//! `suppliers`: how the suppliers of both systems stand to each other, as `sync-suppliers` has recorded it.

use crate::output::{Column, ListOptions, Listing, Output, Row};
use crate::place::{Place, PlaceArguments, unfinished};
use crate::{Failure, records, terminal};
use async_trait::async_trait;
use clap::Subcommand;
use domain::ids::{SupplierCode, fold};
use domain::instruction::Instruction;
use domain::plans::{PlanRecord, PlanState};
use domain::problem::Problem;
use domain::suppliers::{
    Candidate, CoupaSupplier, QadSupplier, SupplierEvent, SupplierField, SupplierId, SupplierRecord,
    SupplierState,
};
use domain::words;
use flows::index::entries;
use flows::ports::{Books, Collection, Hint, Queue, RecordKey, StoreError, StoredRecord};
use flows::store::{Document, load, parse};
use flows::sync_suppliers::{self, QUARANTINE};
use flows::{operator, plans};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// The words of a supplier's state.
const STATES: [&str; 5] = ["linked", "alone", "creating", "parked", "quarantined"];

/// What can be asked about suppliers.
#[derive(Debug, Subcommand)]
pub(crate) enum SuppliersVerb {
    /// All suppliers: linked, alone, parked with both sides, or put aside because they cannot be read.
    #[command(after_help = "Example: qad-coupa suppliers list --state parked")]
    List {
        /// Only those in this state.
        #[arg(long, value_parser = STATES)]
        state: Option<String>,
        #[command(flatten)]
        list: ListOptions,
    },
    /// Who may be whom, with what speaks for it and against it: nothing is written about them before somebody decides.
    #[command(after_help = "Example: qad-coupa suppliers proposals --json")]
    Proposals,
    /// Accepts a proposal: the supplier of QAD is this one of Coupa. The next run links them, if both are still what they are now.
    #[command(
        after_help = "Example: qad-coupa suppliers accept S1009 5005 --reason \"same IBAN, asked purchasing\""
    )]
    Accept {
        /// QAD's code.
        code: SupplierCode,
        /// Coupa's id.
        coupa: u64,
        /// Why; it is kept in the audit trail.
        #[arg(long)]
        reason: String,
    },
    /// Allows the plan that waits because it would create or change many suppliers, exactly that one; the next run carries it
    /// out.
    #[command(
        after_help = "Example: qad-coupa suppliers allow --reason \"the first run, read by purchasing\""
    )]
    Allow {
        /// Why; it is kept in the audit trail.
        #[arg(long)]
        reason: String,
        /// Only if this is the hash of the plan that waits.
        #[arg(long, value_name = "SHA256")]
        plan_sha256: Option<String>,
    },
    /// What a run would link, create and update now, on each side, and why: reads both systems, writes nothing.
    #[command(after_help = "Example: qad-coupa suppliers plan --json")]
    Plan,
}

/// A plan wakes nobody.
struct NoQueue;

#[async_trait]
impl Queue for NoQueue {
    async fn send(&self, _: &[Hint]) -> Result<(), StoreError> {
        Err(StoreError(Problem::new(
            "ONLY_PLANNED",
            "Nothing was sent: this is a plan.",
        )))
    }
}

/// `suppliers plan`.
async fn plan(place: &Place, out: &Output) -> Result<(), Failure> {
    let connection = place.connection().await?;
    let register = place.register(&connection)?;
    let systems = place.systems(&connection).await?;
    let settings = &systems.document.suppliers;
    if !settings.enabled {
        return Err(
            Problem::new("SUPPLIERS_OFF", "Turn suppliers.enabled of the connection on.")
                .field("suppliers.enabled")
                .expected("true")
                .actual("false")
                .into(),
        );
    }
    let deps = sync_suppliers::Deps {
        connection: &connection,
        context: place.context(&register),
        coupa: &systems.coupa,
        qad: &systems.qad,
        queue: &NoQueue,
        policy: &settings.policy,
        plan_only: true,
        trace: "plan",
    };
    let planned = sync_suppliers::run(&deps)
        .await
        .map_err(|error| Failure::from(error.problem()))?;
    out.value(
        || json!(planned),
        |out| {
            for change in &planned.changes {
                out.line(change);
            }
            for problem in planned.needs_a_person.iter().chain(&planned.unreadable) {
                out.line(&format!("! {problem}"));
            }
            let first = if planned.waits {
                ", to be allowed first"
            } else {
                ""
            };
            out.line(&format!(
                "{} changed in QAD, {} in Coupa since the last run; {}{first}, {} for a person. Nothing was written.",
                planned.read_qad,
                planned.read_coupa,
                words::count(planned.changes.len(), "change"),
                planned.needs_a_person.len()
            ));
        },
    );
    Ok(())
}

/// One line of the list.
pub(crate) enum Known {
    /// A supplier of QAD, with what it is linked to, or one that only Coupa has.
    Record(Box<SupplierRecord>),
    /// A record of either side that cannot be read.
    Unreadable {
        /// Side and id.
        id: String,
        /// Why.
        problem: Problem,
    },
}

impl Known {
    /// True when nothing more happens with it before a person has looked.
    pub(crate) fn waits_for_a_person(&self) -> bool {
        matches!(self.state(), "parked" | "quarantined")
    }

    fn state(&self) -> &'static str {
        match self {
            Self::Record(record) => record.state.word(),
            Self::Unreadable { .. } => "quarantined",
        }
    }

    fn id(&self) -> String {
        match self {
            Self::Record(record) => record.id.to_string(),
            Self::Unreadable { id, .. } => id.clone(),
        }
    }

    /// Why it stands where it stands.
    fn why(&self) -> String {
        match self {
            Self::Unreadable { problem, .. } => problem.to_string(),
            Self::Record(record) => match &record.state {
                SupplierState::Alone { why } => why.clone(),
                SupplierState::Creating => "being created on the other side".to_owned(),
                SupplierState::Linked { by, .. } => format!("by {}", word(by)),
                SupplierState::Parked { problem, .. } => problem.to_string(),
            },
        }
    }

    fn json(&self) -> Value {
        let (qad, coupa, since, problem) = match self {
            Self::Unreadable { problem, .. } => (None, None, None, Some(problem)),
            Self::Record(record) => (
                record.qad.as_ref().map(qad_json),
                record.coupa.as_ref().map(coupa_json),
                Some(record.since.to_string()),
                match &record.state {
                    SupplierState::Parked { problem, .. } => Some(problem),
                    _ => None,
                },
            ),
        };
        json!({
            "supplier": self.id(),
            "state": self.state(),
            "why": self.why(),
            "code": problem.map(|problem| problem.code.as_str()),
            "qad": qad,
            "coupa": coupa,
            "since": since,
        })
    }
}

fn word(value: &impl serde::Serialize) -> String {
    let value = serde_json::to_value(value).unwrap_or(Value::Null);
    value.as_str().unwrap_or_default().to_owned()
}

fn fields<'a>(fields: impl Iterator<Item = (SupplierField, &'a str)>) -> Value {
    let named = fields.map(|(field, value)| (field.word().to_owned(), Value::from(value)));
    Value::Object(named.collect())
}

fn qad_json(supplier: &QadSupplier) -> Value {
    json!({ "code": supplier.code, "fields": fields(supplier.data.iter()) })
}

fn coupa_json(supplier: &CoupaSupplier) -> Value {
    json!({
        "id": supplier.id,
        "number": supplier.number,
        "status": supplier.status,
        "fields": fields(supplier.data.iter()),
    })
}

/// Everything the register knows of suppliers. What a linked supplier of Coupa is stands in QAD's record.
pub(crate) async fn all(register: &dyn Books) -> Result<Vec<Known>, Failure> {
    known_of(&records::members(register, Collection::Supplier).await?)
}

/// Those in one state: by the lists of the index where it has one.
pub(crate) async fn in_state(register: &dyn Books, state: Option<&str>) -> Result<Vec<Known>, Failure> {
    let list = match state {
        Some("parked") => Some(entries::PARKED_SUPPLIERS),
        Some("quarantined") => Some(entries::QUARANTINED_LIST),
        _ => None,
    };
    let mut known = match list {
        Some(list) if records::is_whole(register).await? => listed(register, list).await?,
        _ => all(register).await?,
    };
    known.retain(|one| state.is_none_or(|state| one.state() == state));
    Ok(known)
}

/// Those in one list of the index.
async fn listed(register: &dyn Books, list: &str) -> Result<Vec<Known>, Failure> {
    let ids = entries::ids(register, list)
        .await
        .map_err(|error| Failure::Unreachable(error.0))?;
    let collection = Collection::Supplier;
    let keys: Vec<RecordKey> = ids
        .into_iter()
        .map(|id| RecordKey::Entry { collection, id })
        .collect();
    known_of(&records::of_keys(register, &keys).await?)
}

fn known_of(stored: &[StoredRecord]) -> Result<Vec<Known>, Failure> {
    let mut known = Vec::new();
    for one in stored {
        let RecordKey::Entry { id, .. } = &one.key else {
            continue;
        };
        if let Some(id) = id.strip_prefix(QUARANTINE) {
            known.push(Known::Unreadable {
                id: id.to_owned(),
                problem: parse(one).unwrap_or_else(|error| error.problem()),
            });
            continue;
        }
        let record: SupplierRecord = match parse(one) {
            Ok(record) => record,
            Err(error) => {
                known.push(Known::Unreadable {
                    id: id.clone(),
                    problem: error.problem(),
                });
                continue;
            }
        };
        let is_pointer =
            matches!(record.id, SupplierId::Coupa(_)) && matches!(record.state, SupplierState::Linked { .. });
        if !is_pointer {
            known.push(Known::Record(Box::new(record)));
        }
    }
    let linked: BTreeSet<u64> = known
        .iter()
        .filter_map(|one| match one {
            // One of Coupa's own names itself.
            Known::Record(record) => record.code().and(record.linked_coupa()),
            Known::Unreadable { .. } => None,
        })
        .collect();
    known.retain(|one| match one {
        Known::Record(record) => !matches!(record.id, SupplierId::Coupa(id) if linked.contains(&id)),
        Known::Unreadable { .. } => true,
    });
    Ok(known)
}

/// The state of QAD's supplier of this code.
pub(crate) fn state_of(known: &[Known], code: &str) -> &'static str {
    let id = format!("qad/{}", fold(code));
    known
        .iter()
        .find(|one| one.id() == id)
        .map_or("unknown", Known::state)
}

/// The record of QAD's supplier of this code.
pub(crate) fn record_of<'k>(known: &'k [Known], code: &str) -> Option<&'k SupplierRecord> {
    let id = format!("qad/{}", fold(code));
    known.iter().find_map(|one| match one {
        Known::Record(record) if one.id() == id => Some(record.as_ref()),
        Known::Record(_) | Known::Unreadable { .. } => None,
    })
}

/// What has happened to a supplier, in order.
pub(crate) async fn trail(
    register: &dyn Books,
    record: &SupplierRecord,
) -> Result<Vec<SupplierEvent>, Failure> {
    let entries = register
        .audit(&record.audit_name())
        .await
        .map_err(|error| Failure::Unreachable(error.0))?;
    let mut trail = Vec::new();
    for entry in &entries {
        let events: Vec<SupplierEvent> = serde_json::from_str(&entry.events).map_err(|error| {
            let fix = "Report this: an entry of the audit trail cannot be read.";
            Failure::from(
                Problem::new("AUDIT_ENTRY_UNREADABLE", fix)
                    .field(record.audit_name())
                    .actual(error.to_string()),
            )
        })?;
        trail.extend(events);
    }
    Ok(trail)
}

/// What a person wants to read about QAD's supplier of this code.
pub(crate) fn lines_about(known: &[Known], code: &str) -> Vec<String> {
    let id = format!("qad/{}", fold(code));
    let told = |one: &Known| {
        let (ours, theirs) = sides(one);
        vec![
            format!("Supplier {code}: {}. {}", one.state(), one.why()),
            format!("  in QAD {ours}; in Coupa {theirs}"),
        ]
    };
    known
        .iter()
        .find(|one| one.id() == id)
        .map(told)
        .unwrap_or_default()
}

fn sides(one: &Known) -> (String, String) {
    let Known::Record(record) = one else {
        return (String::new(), String::new());
    };
    let ours = record.qad.as_ref().map_or_else(
        || "none".to_owned(),
        |qad| format!("{} \"{}\"", qad.code, qad.data.name()),
    );
    let theirs = record.coupa.as_ref().map_or_else(
        || "none".to_owned(),
        |coupa| {
            let number = coupa.number.as_deref().unwrap_or("none");
            format!("{} \"{}\", number {number}", coupa.id, coupa.data.name())
        },
    );
    (ours, theirs)
}

/// The plan of the suppliers; `None` when none ever had to wait.
pub(crate) async fn waiting_plan(register: &dyn Books) -> Result<Option<PlanRecord>, Failure> {
    let found = load::<PlanRecord>(register, plans::key(None)).await;
    Ok(found.map_err(unfinished)?.map(|loaded| loaded.document))
}

/// What somebody who looks at the suppliers must know of the plan.
fn about_plan(plan: &PlanRecord) -> Vec<String> {
    let PlanState::Parked { problem, changes, .. } = &plan.state else {
        return Vec::new();
    };
    if plan.allowed_plan.is_some() {
        return vec!["The plan is allowed; the next run carries it out.".to_owned()];
    }
    let mut lines = vec![problem.to_string()];
    lines.extend(changes.iter().map(|change| format!("- {change}")));
    lines.push(
        "All of it: qad-coupa suppliers plan. Allow it: qad-coupa suppliers allow --reason …".to_owned(),
    );
    lines
}

/// `suppliers allow`.
async fn allow(place: &Place, reason: &str, plan_sha256: Option<&str>) -> Result<(), Failure> {
    let register = &place.register(&place.connection().await?)?;
    let why = Instruction::new(&place.actor().await?, reason).map_err(Failure::Refused)?;
    let plan = waiting_plan(register).await?;
    let parked = match plan.as_ref().map(|plan| &plan.state) {
        Some(PlanState::Parked { plan_sha256, .. }) => plan_sha256.as_str(),
        _ => "",
    };
    if parked.is_empty() && plan_sha256.is_none() {
        let fix = "Nothing to do: `qad-coupa suppliers list` shows where each stands.";
        let problem = Problem::new("SUPPLIER_PLAN_NOT_PARKED", fix).field("suppliers");
        return Err(Failure::Refused(
            problem.expected("a plan that waits").actual("none"),
        ));
    }
    let wanted = plan_sha256.unwrap_or(parked);
    operator::allow_plan(&place.context(register), None, wanted, &why).await?;
    terminal::say(&format!(
        "Allowed: the plan {wanted} of the suppliers; the next run carries it out."
    ));
    Ok(())
}

/// `suppliers accept`.
async fn accept(place: &Place, code: &SupplierCode, coupa: u64, reason: &str) -> Result<(), Failure> {
    let register = &place.register(&place.connection().await?)?;
    let why = Instruction::new(&place.actor().await?, reason).map_err(Failure::Refused)?;
    sync_suppliers::accept(&place.context(register), code, coupa, &why)
        .await
        .map_err(unfinished)?;
    terminal::say(&format!(
        "Accepted: QAD's {code} is Coupa's {coupa}; the next run links them."
    ));
    Ok(())
}

/// `suppliers proposals`.
async fn proposals(place: &Place, out: &Output) -> Result<(), Failure> {
    let register = &place.register(&place.connection().await?)?;
    let known = if records::is_whole(register).await? {
        listed(register, entries::PROPOSED_SUPPLIERS).await?
    } else {
        all(register).await?
    };
    let mut proposed: Vec<(&SupplierRecord, &[Candidate])> = known
        .iter()
        .filter_map(|one| match one {
            Known::Record(record) => Some((record.as_ref(), record.candidates())),
            Known::Unreadable { .. } => None,
        })
        .filter(|(_, candidates)| !candidates.is_empty())
        .collect();
    // A pair that is told from QAD's side is not told again from Coupa's.
    let of_qad = proposed.iter().filter(|(record, _)| record.code().is_some());
    let told: BTreeSet<&SupplierId> = of_qad
        .flat_map(|&(_, candidates)| candidates.iter().map(|one| &one.id))
        .collect();
    proposed.retain(|(record, _)| !told.contains(&record.id));
    out.value(
        || proposed.iter().map(proposal_json).collect(),
        |out| {
            for proposal in &proposed {
                tell_proposal(out, proposal);
            }
            out.line(&format!(
                "{}. They are one: qad-coupa suppliers accept CODE COUPA-ID --reason …",
                words::count(proposed.len(), "proposal")
            ));
        },
    );
    Ok(())
}

fn proposal_json((record, candidates): &(&SupplierRecord, &[Candidate])) -> Value {
    json!({
        "supplier": record.id.to_string(),
        "qad": record.qad.as_ref().map(qad_json),
        "coupa": record.coupa.as_ref().map(coupa_json),
        "accepted": record.accepted.is_some(),
        "candidates": candidates.iter().map(candidate_json).collect::<Vec<_>>(),
    })
}

fn tell_proposal(out: &Output, (record, candidates): &(&SupplierRecord, &[Candidate])) {
    out.line(&match (&record.qad, &record.coupa) {
        (Some(qad), _) => qad.words(),
        (None, Some(coupa)) => coupa.words(),
        (None, None) => record.id.to_string(),
    });
    for candidate in *candidates {
        out.line(&format!("  perhaps {candidate}"));
    }
    if record.accepted.is_some() {
        out.line("  accepted: the next run links them if they are still the same");
    }
}

fn candidate_json(candidate: &Candidate) -> Value {
    let id = candidate.id.to_string();
    json!({
        "supplier": id,
        "evidence": candidate.evidence,
        "replaces": candidate.replaces,
        "words": candidate.to_string(),
    })
}

/// `suppliers`.
pub(crate) async fn run(place: &PlaceArguments, verb: &SuppliersVerb, out: &Output) -> Result<(), Failure> {
    let place = Place::open(place).await?;
    let (state, options) = match verb {
        SuppliersVerb::List { state, list } => (state, list),
        SuppliersVerb::Plan => return plan(&place, out).await,
        SuppliersVerb::Proposals => return proposals(&place, out).await,
        SuppliersVerb::Accept { code, coupa, reason } => return accept(&place, code, *coupa, reason).await,
        SuppliersVerb::Allow { reason, plan_sha256 } => {
            return allow(&place, reason, plan_sha256.as_deref()).await;
        }
    };
    let register = &place.register(&place.connection().await?)?;
    let known = in_state(register, state.as_deref()).await?;
    let row = |one: &Known| {
        let (ours, theirs) = sides(one);
        let cells = vec![
            one.id().into(),
            ours.into(),
            theirs.into(),
            one.state().into(),
            one.why().into(),
        ];
        Row::new(one.json(), cells)
    };
    let columns = [
        Column::word("Supplier"),
        Column::sentence("QAD"),
        Column::sentence("Coupa"),
        Column::word("State"),
        Column::sentence("Why"),
    ];
    let count = words::count(known.len(), "supplier");
    let plan = waiting_plan(register).await?;
    let below = [count].into_iter().chain(plan.iter().flat_map(about_plan));
    out.list(
        Listing::new(&columns, known.iter().map(row).collect()).below(below),
        options,
    )
}
