//! `suppliers`: how the suppliers of both systems stand to each other, as `sync-suppliers` has recorded it.

use crate::place::{Place, PlaceArguments};
use crate::{Failure, terminal};
use async_trait::async_trait;
use aws::dynamo::DynamoRegister;
use clap::Subcommand;
use comfy_table::{ContentArrangement, Table};
use domain::ids::fold;
use domain::problem::Problem;
use domain::suppliers::{
    CoupaSupplier, QadSupplier, SupplierField, SupplierId, SupplierRecord, SupplierState,
};
use flows::ports::{Collection, Hint, Queue, RecordGroup, RecordKey, Register, StoreError};
use flows::store::parse;
use flows::sync_suppliers::{self, QUARANTINE};
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
async fn plan(place: &Place, as_json: bool) -> Result<(), Failure> {
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
    if as_json {
        terminal::say(&json!(planned).to_string());
        return Ok(());
    }
    for change in &planned.changes {
        terminal::say(change);
    }
    for problem in planned.needs_a_person.iter().chain(&planned.unreadable) {
        terminal::say(&format!("! {problem}"));
    }
    terminal::say(&format!(
        "{} news in QAD, {} in Coupa; {} changes, {} for a person. Nothing was written.",
        planned.read_qad,
        planned.read_coupa,
        planned.changes.len(),
        planned.needs_a_person.len()
    ));
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
pub(crate) async fn all(register: &DynamoRegister) -> Result<Vec<Known>, Failure> {
    let stored = register
        .list(&RecordGroup::Collection(Collection::Supplier))
        .await
        .map_err(|error| Failure::Unreachable(error.0))?;
    let mut known = Vec::new();
    for one in &stored {
        let RecordKey::Entry { id, .. } = &one.key else {
            continue;
        };
        if let Some(id) = id.strip_prefix(QUARANTINE) {
            known.push(Known::Unreadable {
                id: id.to_owned(),
                problem: parse(one).map_err(|error| Failure::from(error.problem()))?,
            });
            continue;
        }
        let record: SupplierRecord = parse(one).map_err(|error| Failure::from(error.problem()))?;
        let is_pointer =
            matches!(record.id, SupplierId::Coupa(_)) && matches!(record.state, SupplierState::Linked { .. });
        if !is_pointer {
            known.push(Known::Record(Box::new(record)));
        }
    }
    let linked: BTreeSet<u64> = known
        .iter()
        .filter_map(|one| match one {
            Known::Record(record) => record.linked_coupa(),
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

/// `suppliers`.
pub(crate) async fn run(place: &PlaceArguments, verb: &SuppliersVerb, json: bool) -> Result<(), Failure> {
    let place = Place::open(place).await?;
    let SuppliersVerb::List { state } = verb else {
        return plan(&place, json).await;
    };
    let register = &place.register(&place.connection().await?)?;
    let mut known = all(register).await?;
    known.retain(|one| state.as_ref().is_none_or(|state| one.state() == state));
    if json {
        let rows: Vec<Value> = known.iter().map(Known::json).collect();
        terminal::say(&Value::Array(rows).to_string());
        return Ok(());
    }
    let mut table = Table::new();
    table.set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(["Supplier", "QAD", "Coupa", "State", "Why"]);
    for one in &known {
        let (ours, theirs) = sides(one);
        table.add_row([one.id(), ours, theirs, one.state().to_owned(), one.why()]);
    }
    terminal::say(&table.to_string());
    terminal::say(&format!("{} suppliers", known.len()));
    Ok(())
}
