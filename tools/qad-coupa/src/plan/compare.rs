//! The parallel run: each approved invoice of a period, decided as if nobody had keyed it, against what was keyed.

use super::{INVOICES_MAX, Readers, too_large};
use crate::output::{Cell, Column, ListOptions, Listing, Output, Row};
use crate::place::{Systems, unfinished};
use crate::records::Totals;
use crate::{Failure, backfill};
use aws::clock::SystemClock;
use domain::documents::{CoupaStatus, Invoice};
use domain::entities::{self, OUT_OF_SCOPE, Whose};
use domain::explain;
use domain::ids::{InvoiceId, QadInvoiceIdentity, fold};
use domain::lifecycle::{Event, InvoiceRecord, PostedHow, State, Voucher};
use domain::mark::Mark;
use domain::matching::SupplierInvoiceDraft;
use domain::parallel::{self, Difference, KeyedInvoice, Outcome};
use domain::policy::PostingDate;
use domain::problem::Problem;
use domain::reference;
use domain::time::Date;
use domain::timing::Timing;
use domain::words;
use flows::match_invoice::Rest;
use flows::neighbours::Home;
use flows::ports::{Books, Clock, Coupa, QadPayments, ReadError, RecordKey, StoredRecord};
use flows::store::load;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// The outcome's word of a document in QAD that no approved invoice of the period explains.
const ONLY_IN_QAD: &str = "only-in-qad";

/// A period of invoice dates, both ends in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Period {
    from: Date,
    to: Date,
}

impl Period {
    pub(super) fn new(from: Date, to: Date) -> Result<Self, Failure> {
        backfill::in_order(from, Some(to), "--to")?;
        Ok(Self { from, to })
    }

    /// Whether a document is of it, by its invoice date; one that shows no date may be.
    fn has(self, document: &KeyedInvoice) -> bool {
        document
            .invoice_date
            .or(document.posting_date)
            .is_none_or(|day| self.from <= day && day <= self.to)
    }
}

/// One approved invoice.
#[derive(Debug)]
struct Compared {
    invoice: Invoice,
    outcome: Outcome,
    /// Why it would not be posted, in codes and in words.
    codes: Vec<String>,
    why: String,
    /// QAD's numbers of what was keyed.
    keyed: Vec<String>,
}

/// A document in QAD that no approved invoice of the period explains.
#[derive(Debug)]
struct OnlyInQad {
    document: KeyedInvoice,
    /// Invoices that nobody keyed and that have nearly its number.
    perhaps: Vec<InvoiceId>,
}

/// What a comparison found.
#[derive(Debug)]
struct Found {
    compared: Vec<Compared>,
    /// Why there is none, where QAD does not list its documents.
    only_in_qad: Result<Vec<OnlyInQad>, Problem>,
    /// What could not be told, and why.
    unanswered: Vec<(Option<InvoiceId>, Problem)>,
}

impl Found {
    fn only_in_qad(&self) -> &[OnlyInQad] {
        self.only_in_qad.as_deref().unwrap_or_default()
    }

    fn differences(&self) -> usize {
        let of_invoices = self.compared.iter().filter(|one| one.outcome.is_difference());
        of_invoices.count().saturating_add(self.only_in_qad().len())
    }
}

/// Why the comparison of one invoice ended early.
enum Stop {
    /// It could not be told; the others can.
    Unanswered(Problem),
    /// Nothing can.
    Failed(Failure),
}

impl From<ReadError> for Stop {
    fn from(error: ReadError) -> Self {
        Self::Unanswered(error.problem().clone())
    }
}

struct Comparing<'a> {
    systems: &'a Systems,
    register: &'a dyn Books,
    readers: Readers<'a>,
    timing: &'a Timing,
}

impl<'a> Comparing<'a> {
    fn of(systems: &'a Systems, home: Home, register: &'a dyn Books, timing: &'a Timing) -> Self {
        Self {
            systems,
            register,
            readers: Readers::of(systems, home, register, true),
            timing,
        }
    }

    async fn find(&self, period: Period) -> Result<Found, Failure> {
        let (ids, nameless) = backfill::approved(&self.systems.coupa, period.from, Some(period.to)).await?;
        if ids.len() > INVOICES_MAX {
            return Err(too_large(ids.len(), "Choose a shorter period."));
        }
        let mut found = Found {
            compared: Vec::new(),
            only_in_qad: Ok(Vec::new()),
            unanswered: nameless.into_iter().map(|problem| (None, problem)).collect(),
        };
        for id in ids {
            match self.compare(id).await {
                Ok(one) => found.compared.extend(one),
                Err(Stop::Unanswered(problem)) => found.unanswered.push((Some(id), problem)),
                Err(Stop::Failed(failure)) => return Err(failure),
            }
        }
        self.only_in_qad(period, &mut found).await?;
        Ok(found)
    }

    fn whose(&self, invoice: &Invoice) -> Whose {
        let entities = &self.systems.entities;
        if entities.is_empty() {
            return Whose::Mine(self.systems.document.policy.entity.clone());
        }
        entities::whose(entities.iter().map(|one| &one.rule), &invoice.entity_fields)
    }

    /// What was keyed under the invoice's identity: in its own entity, else in whichever of the connection's it was put.
    async fn keyed(&self, invoice: &Invoice, whose: &Whose) -> Result<Vec<KeyedInvoice>, ReadError> {
        let number = invoice.supplier.number.as_deref().unwrap_or_default();
        // Without a supplier in QAD there can be nothing of it there.
        let Ok(supplier) = number.parse() else {
            return Ok(Vec::new());
        };
        let mut identity = QadInvoiceIdentity {
            entity: self.systems.document.policy.entity.clone(),
            supplier,
            reference: invoice.reference.clone(),
            kind: invoice.kind,
        };
        let (own, others): (Vec<_>, Vec<_>) = self
            .systems
            .books()
            .into_iter()
            .partition(|(entity, _)| *whose == Whose::Mine((*entity).clone()));
        for (entity, qad) in own.into_iter().chain(others) {
            identity.entity = entity.clone();
            let found = qad.keyed_invoices(&identity).await?;
            if !found.is_empty() {
                return Ok(found);
            }
        }
        Ok(Vec::new())
    }

    /// Whether the posting date of the invoice's entity is the day of the matching.
    fn posts_today(&self, whose: &Whose) -> bool {
        let mut entities = self.systems.entities.iter();
        let own = entities.find(|one| *whose == Whose::Mine(one.rule.code.clone()));
        let policy = own.map_or(&self.systems.document.policy, |one| &one.settings.policy);
        policy.posting_date == PostingDate::MatchingDate
    }

    /// Compares one invoice; `None` when it is not approved any more, or another ERP's.
    async fn compare(&self, id: InvoiceId) -> Result<Option<Compared>, Stop> {
        let invoice = match self.systems.coupa.invoice(id).await {
            Ok(Some(invoice)) if invoice.status == CoupaStatus::Approved => invoice,
            Ok(_) => return Ok(None),
            Err(ReadError::Refused(problem)) if problem.code == OUT_OF_SCOPE => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let whose = self.whose(&invoice);
        if whose == Whose::OutOfScope {
            return Ok(None);
        }
        let keyed = self.keyed(&invoice, &whose).await?;
        let mut compared = Compared {
            invoice,
            outcome: Outcome::PostedByUs,
            codes: Vec::new(),
            why: String::new(),
            keyed: keyed.iter().map(KeyedInvoice::number).collect(),
        };
        let known = load::<InvoiceRecord>(self.register, RecordKey::Invoice(id)).await;
        let known = known.map_err(|error| Stop::Failed(unfinished(error)))?;
        match known.map(|known| known.document.state) {
            Some(State::Approved) => return Ok(Some(compared)),
            Some(State::Posted { how, .. } | State::Exported { how, .. }) if how != PostedHow::Adopted => {
                return Ok(Some(compared));
            }
            // Keyed by hand and taken over: decided as if it were new.
            Some(State::Posted { .. } | State::Exported { .. }) => self.readers.shadow.forget(id),
            _ => {}
        }
        let instance = self.systems.document.coupa.instance.trim();
        if parallel::is_posted_by_us(&keyed, instance, id) {
            return Ok(Some(compared));
        }
        let Some((record, draft)) = self.decide(id, &keyed).await? else {
            return Ok(None);
        };
        compared.outcome = parallel::judge(draft.as_ref(), &keyed, self.posts_today(&whose));
        if draft.is_none() {
            compared.codes = record.state.codes();
            compared.why = explain::sentence(&record);
            if keyed.iter().any(|document| document.matches.is_none()) {
                compared.why.push_str(
                    " QAD does not show which receivers the document took: they count as invoiced here.",
                );
            }
        }
        Ok(Some(compared))
    }

    /// The invoice decided as if these documents were not there, and what would have been sent.
    async fn decide(
        &self,
        id: InvoiceId,
        keyed: &[KeyedInvoice],
    ) -> Result<Option<(InvoiceRecord, Option<SupplierInvoiceDraft>)>, Stop> {
        for view in self.readers.views() {
            *view.keyed() = Some(keyed.to_vec());
        }
        match self.readers.decide(self.timing, id).await {
            Ok(Rest::In { record, .. }) => {
                if let Some(problem) = record.delay.clone() {
                    return Err(Stop::Unanswered(problem));
                }
                let draft = self.readers.draft(id);
                if let Some(draft) = &draft {
                    self.settle(&record, draft, keyed).map_err(Stop::Failed)?;
                }
                Ok(Some((*record, draft)))
            }
            Ok(Rest::NotApproved { .. } | Rest::OutOfScope { .. } | Rest::Busy) => Ok(None),
            Err(error) => Err(Stop::Failed(unfinished(error))),
        }
    }

    /// As if it had been posted, so that whoever comes after it finds nothing in flight: what was keyed QAD shows as invoiced, what
    /// nobody keyed counts as invoiced from here on.
    fn settle(
        &self,
        record: &InvoiceRecord,
        draft: &SupplierInvoiceDraft,
        keyed: &[KeyedInvoice],
    ) -> Result<(), Failure> {
        let number = keyed.iter().find_map(|document| document.voucher.clone());
        let posted = Event::Posted {
            voucher: number.unwrap_or_else(|| not_posted(draft)),
            how: PostedHow::Created,
        };
        // What is not approved has reserved nothing.
        let Ok(posted) = record.after(&posted, SystemClock.now()) else {
            return Ok(());
        };
        if keyed.is_empty() {
            for view in self.readers.views() {
                view.posted().push(draft.clone());
            }
        }
        let body = serde_json::to_string(&posted)
            .map_err(|error| Problem::new("RECORD_UNWRITABLE", "Report this.").actual(error.to_string()))?;
        let key = RecordKey::Invoice(record.id);
        let mut changes = self.readers.shadow.changes();
        let seen = changes.get(&key).and_then(Option::as_ref);
        let revision = seen.map_or(1, |stored| stored.revision.saturating_add(1));
        changes.insert(
            key.clone(),
            Some(StoredRecord {
                key,
                revision,
                body: Ok(body),
            }),
        );
        Ok(())
    }

    /// The documents of the period that are under no identity of its approved invoices, where QAD lists them.
    async fn only_in_qad(&self, period: Period, found: &mut Found) -> Result<(), Failure> {
        let mut listed = BTreeSet::new();
        for (_, qad) in self.systems.books() {
            match qad.balances_since(period.from).await {
                Ok(scan) => {
                    let unreadable = scan.unreadable.into_iter();
                    found.unanswered.extend(unreadable.map(|problem| (None, problem)));
                    listed.extend(scan.balances.into_iter().map(|one| one.invoice));
                }
                Err(ReadError::Refused(problem)) => {
                    found.only_in_qad = Err(problem);
                    return Ok(());
                }
                Err(error) => found.unanswered.push((None, error.problem().clone())),
            }
        }
        if listed.is_empty() {
            found.only_in_qad = Err(Problem::new(
                "QAD_LISTS_NO_INVOICES",
                "Nothing, if nothing was keyed; else name the tenant's browse in qad.profile.changed_invoices.",
            )
            .field("qad.profile.changed_invoices")
            .actual("no document; QAD answers so about a browse that it does not have, too"));
            return Ok(());
        }
        let explained: BTreeSet<Bill> = found.compared.iter().map(|one| bill(&one.invoice)).collect();
        listed.retain(|identity| !explained.contains(&bill_of(identity)));
        if listed.len() > INVOICES_MAX {
            return Err(too_large(listed.len(), "Choose a shorter period."));
        }
        let mut others = Vec::new();
        for identity in listed {
            let mut books = self.systems.books().into_iter();
            let Some((_, qad)) = books.find(|(entity, _)| **entity == identity.entity) else {
                continue;
            };
            match qad.keyed_invoices(&identity).await {
                Ok(documents) => others.extend(documents),
                Err(error) => found.unanswered.push((None, error.problem().clone())),
            }
        }
        others.retain(|one| period.has(one) && Mark::read(&one.description).is_none());
        let named = others.into_iter().map(|document| OnlyInQad {
            perhaps: perhaps(&document, &found.compared),
            document,
        });
        found.only_in_qad = Ok(named.collect());
        Ok(())
    }
}

/// The number of a document that was never posted: QAD gives none that is 0.
fn not_posted(draft: &SupplierInvoiceDraft) -> Voucher {
    Voucher {
        year: 0,
        daybook: draft.daybook.to_string(),
        number: 0,
    }
}

/// Supplier, number and kind: what a bill is known by to whoever wrote it.
type Bill = (String, String, String);

fn bill(invoice: &Invoice) -> Bill {
    let supplier = invoice.supplier.number.as_deref().unwrap_or_default();
    (
        fold(supplier),
        invoice.reference.folded(),
        invoice.kind.to_string(),
    )
}

fn bill_of(identity: &QadInvoiceIdentity) -> Bill {
    (
        identity.supplier.folded(),
        identity.reference.folded(),
        identity.kind.to_string(),
    )
}

/// The invoices that nobody keyed and that this document may be, for its number is nearly theirs.
fn perhaps(document: &KeyedInvoice, compared: &[Compared]) -> Vec<InvoiceId> {
    let (supplier, number, kind) = bill_of(&document.identity);
    let near = reference::near(&number);
    let is_near = |one: &&Compared| {
        let its = bill(&one.invoice);
        one.keyed.is_empty() && its.0 == supplier && its.2 == kind && reference::near(&its.1) == near
    };
    compared
        .iter()
        .filter(is_near)
        .map(|one| one.invoice.id)
        .collect()
}

/// `plan --compare`.
pub(super) async fn run(
    systems: &Systems,
    home: Home,
    register: &dyn Books,
    timing: &Timing,
    period: Period,
    options: &ListOptions,
    out: &Output,
) -> Result<(), Failure> {
    let found = Comparing::of(systems, home, register, timing)
        .find(period)
        .await?;
    if out.is_json() {
        out.json(&as_json(period, &found));
    } else if options.is_csv() {
        out.list(by_difference(&found), options)?;
    } else {
        out.list(by_invoice(period, &found), options)?;
    }
    let mut told = Vec::new();
    if found.differences() > 0 {
        told.push(format!("PARALLEL_RUN_DIFFERS: {}", found.differences()));
    }
    told.extend(found.unanswered.iter().map(|(id, problem)| match id {
        Some(id) => format!("invoice {id}: {problem}"),
        None => problem.to_string(),
    }));
    if told.is_empty() {
        Ok(())
    } else {
        Err(Failure::Differs(told.join("\n")))
    }
}

/// How many of each outcome, and what they come to.
fn totals(found: &Found) -> BTreeMap<&'static str, (usize, Totals)> {
    let mut totals: BTreeMap<&'static str, (usize, Totals)> = BTreeMap::new();
    let of_invoices = found
        .compared
        .iter()
        .map(|one| (one.outcome.word(), one.invoice.currency, one.invoice.total));
    let of_others = found
        .only_in_qad()
        .iter()
        .map(|one| (ONLY_IN_QAD, one.document.currency, one.document.total));
    for (word, currency, total) in of_invoices.chain(of_others) {
        let (count, sum) = totals.entry(word).or_default();
        *count = count.saturating_add(1);
        sum.add(currency, total);
    }
    totals
}

fn as_json(period: Period, found: &Found) -> Value {
    let invoices: Vec<Value> = found
        .compared
        .iter()
        .map(|one| {
            json!({ "invoice": one.invoice.id, "reference": one.invoice.reference, "supplier": one.invoice.supplier.number,
                    "total": one.invoice.total.normalize().to_string(), "currency": one.invoice.currency,
                    "outcome": one.outcome.word(), "comparison": one.outcome.comparison(), "codes": one.codes,
                    "why": one.why, "keyed": one.keyed })
        })
        .collect();
    let others: Vec<Value> = found
        .only_in_qad()
        .iter()
        .map(|one| {
            json!({ "voucher": one.document.number(), "entity": one.document.identity.entity,
                    "supplier": one.document.identity.supplier, "reference": one.document.identity.reference,
                    "total": one.document.total.normalize().to_string(), "currency": one.document.currency,
                    "perhaps": one.perhaps })
        })
        .collect();
    let totals: BTreeMap<&str, Value> = totals(found)
        .into_iter()
        .map(|(word, (count, sum))| (word, json!({ "count": count, "totals": sum.json() })))
        .collect();
    let unanswered: Vec<Value> = found
        .unanswered
        .iter()
        .map(|(id, problem)| json!({ "invoice": id, "problem": problem }))
        .collect();
    json!({ "from": period.from, "to": period.to, "invoices": invoices, "only_in_qad": others,
            "only_in_qad_not_shown": found.only_in_qad.as_ref().err(), "totals": totals,
            "differences": found.differences(), "unanswered": unanswered })
}

/// What else there is to say of an invoice.
fn remark(one: &Compared) -> String {
    let not_compared = one.outcome.comparison().map(|comparison| {
        let names: Vec<&str> = comparison
            .not_compared
            .iter()
            .map(|field| field.words())
            .collect();
        names.join(", ")
    });
    match not_compared {
        Some(names) if !names.is_empty() => format!("not compared: {names}"),
        Some(_) => String::new(),
        None if one.codes.is_empty() => one.why.clone(),
        None => format!("{}: {}", one.codes.join(", "), one.why),
    }
}

fn remark_of_other(one: &OnlyInQad) -> String {
    let ids: Vec<String> = one.perhaps.iter().map(ToString::to_string).collect();
    if ids.is_empty() {
        "no approved invoice of the period has this number".to_owned()
    } else {
        format!("perhaps invoice {}, under another number", ids.join(", "))
    }
}

fn name_of(difference: &Difference) -> String {
    let name = difference.field.words();
    if difference.of.is_empty() {
        name.to_owned()
    } else {
        format!("{name} {}", difference.of)
    }
}

/// One row per difference, and one for what has none: for a spreadsheet.
fn by_difference(found: &Found) -> Listing {
    let columns = [
        Column::word("Outcome"),
        Column::word("Invoice"),
        Column::word("Reference"),
        Column::word("Supplier"),
        Column::figure("Total"),
        Column::word("In QAD"),
        Column::sentence("Field"),
        Column::sentence("Ours"),
        Column::sentence("Theirs"),
        Column::sentence("Remark"),
    ];
    let mut rows = Vec::new();
    for one in &found.compared {
        let invoice = &one.invoice;
        let row = |field: String, ours: &str, theirs: &str| {
            Row::new(
                Value::Null,
                vec![
                    one.outcome.word().into(),
                    invoice.id.to_string().into(),
                    invoice.reference.to_string().into(),
                    invoice.supplier.number.clone().unwrap_or_default().into(),
                    Cell::Money(Some((invoice.total, invoice.currency))),
                    one.keyed.join(", ").into(),
                    field.into(),
                    ours.into(),
                    theirs.into(),
                    remark(one).into(),
                ],
            )
        };
        let differences = one.outcome.comparison().map(|found| found.differences.as_slice());
        match differences {
            Some(differences) if !differences.is_empty() => rows.extend(
                differences
                    .iter()
                    .map(|found| row(name_of(found), &found.ours, &found.theirs)),
            ),
            _ => rows.push(row(String::new(), "", "")),
        }
    }
    rows.extend(found.only_in_qad().iter().map(|one| {
        let document = &one.document;
        Row::new(
            Value::Null,
            vec![
                ONLY_IN_QAD.into(),
                "".into(),
                document.identity.reference.to_string().into(),
                document.identity.supplier.to_string().into(),
                Cell::Money(Some((document.total, document.currency))),
                document.number().into(),
                "".into(),
                "".into(),
                "".into(),
                remark_of_other(one).into(),
            ],
        )
    }));
    Listing::new(&columns, rows)
}

/// One row per invoice, and one per document that only QAD has.
fn by_invoice(period: Period, found: &Found) -> Listing {
    let columns = [
        Column::word("Invoice"),
        Column::word("Reference"),
        Column::sentence("Supplier").spare(),
        Column::figure("Total"),
        Column::word("Outcome"),
        Column::word("In QAD"),
        Column::sentence("What"),
    ];
    let of_invoices = found.compared.iter().map(|one| {
        Row::new(
            Value::Null,
            vec![
                one.invoice.id.to_string().into(),
                one.invoice.reference.to_string().into(),
                one.invoice.supplier.name.clone().into(),
                Cell::Money(Some((one.invoice.total, one.invoice.currency))),
                one.outcome.word().into(),
                one.keyed.join(", ").into(),
                what_of(one).into(),
            ],
        )
    });
    let of_others = found.only_in_qad().iter().map(|one| {
        let document = &one.document;
        Row::new(
            Value::Null,
            vec![
                "".into(),
                document.identity.reference.to_string().into(),
                document.identity.supplier.to_string().into(),
                Cell::Money(Some((document.total, document.currency))),
                ONLY_IN_QAD.into(),
                document.number().into(),
                remark_of_other(one).into(),
            ],
        )
    });
    let not_shown = found.only_in_qad.as_ref().err();
    let not_shown = not_shown.map(|problem| format!("What is in QAD alone is not known: {problem}"));
    let sums = totals(found)
        .into_iter()
        .map(|(word, (count, sum))| format!("{word}: {count}, {sum}"));
    let end = format!(
        "{} dated {} to {}, {}. Nothing was sent or stored, {}.",
        words::count(found.compared.len(), "approved invoice"),
        period.from,
        period.to,
        words::count(found.differences(), "difference"),
        explain::instant(SystemClock.now())
    );
    let below = not_shown.into_iter().chain(sums).chain([end]);
    Listing::new(&columns, of_invoices.chain(of_others).collect()).below(below)
}

/// Everything that differs, one line each, and what else there is to say.
fn what_of(one: &Compared) -> String {
    let nothing = |text: &str| if text.is_empty() { "nothing" } else { text }.to_owned();
    let differences = one
        .outcome
        .comparison()
        .into_iter()
        .flat_map(|found| &found.differences);
    let told = differences.map(|found| {
        let (ours, theirs) = (nothing(&found.ours), nothing(&found.theirs));
        format!("{}: {ours}, keyed {theirs}", name_of(found))
    });
    let remark = Some(remark(one)).filter(|remark| !remark.is_empty());
    let what: Vec<String> = told.chain(remark).collect();
    what.join("\n")
}

#[cfg(test)]
mod tests;
