//! What must hold in every state of every run: the checker behind the gate.
//!
//! The letters are those of the safety list in the reliability document: S1 one document, S2 intent first, S3 no blind
//! re-send, S5 send inside the lease, S6 content binding, S7 order, S11 monotone truth, S13 no lost wake-up, S14 audit,
//! S16 nothing confidential in the trail.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test that overflows, or misses what it put there, must fail loudly"
)]

use crate::gate::{Sim, ready};
use domain::effect::EffectStatus;
use domain::ids::{DocumentKind, InvoiceId, QadInvoiceIdentity};
use domain::lifecycle::{ChainEnd, Event, InvoiceRecord, ParkReason, State, Voucher};
use domain::matching::SupplierInvoiceDraft;
use domain::payments::{BillPayments, InvoiceBalance, PaymentEntry};
use domain::time::Timestamp;
use flows::ports::{
    AuditEntry, Collection, Commit, QadDocument, RecordGroup, RecordKey, RecordWrite, Register, StoredRecord,
    WriteError,
};
use flows::store::{invoice_audit_name, next_entry, parse, sha256_hex, verify_chain};
use rust_decimal::Decimal;
use sandbox::scenario::{CHARTS, chart_of, company_of};
use sandbox::world::World;
use sandbox::world::coupa::CoupaInvoice;
use sandbox::world::qad::{PaymentAllocation, QadWorld, SupplierInvoice, SupplierInvoiceRecord};
use std::collections::{BTreeMap, BTreeSet};

/// A text that stands in every simulated invoice and must never reach the audit trail or a hint.
pub const CANARY: &str = "CANARY-7f3a";

/// One create that left for QAD.
#[derive(Debug, Clone)]
struct Sent {
    left_at: Timestamp,
    not_applied: bool,
    confirmed: bool,
}

/// What is known of a record from its last commit.
#[derive(Debug, Clone)]
struct Known {
    revision: u64,
    state: State,
    read_at: Option<Timestamp>,
    fence: u64,
    voucher: Option<Voucher>,
    end: ChainEnd,
    intents: u64,
}

/// The checker's memory.
#[derive(Debug, Clone, Default)]
pub struct Watch {
    /// What was broken.
    pub violations: Vec<String>,
    records: BTreeMap<InvoiceId, Known>,
    sent: BTreeMap<String, Vec<Sent>>,
    leaving: BTreeMap<usize, (String, usize)>,
    looked_up_empty_at: BTreeMap<String, Timestamp>,
    creates: BTreeMap<InvoiceId, u64>,
    documents_seen: usize,
    /// Whether invoices are posted no earlier than the latest receipt they are matched to, as the settings say.
    pub posts_after_receipts: bool,
    /// Every total that each invoice has had in Coupa.
    owed: BTreeMap<u64, BTreeSet<Decimal>>,
    bills_read_at: BTreeMap<InvoiceId, Timestamp>,
    closed_in_qad: BTreeSet<QadInvoiceIdentity>,
    entries_seen: usize,
    payments: u64,
    /// Suppliers and lookup values.
    pub syncs: crate::sync_watch::Syncs,
}

impl Watch {
    /// A complete look-up found nothing.
    pub fn looked_up_empty(&mut self, identity: &QadInvoiceIdentity, asked_at: Timestamp) {
        let at = self.looked_up_empty_at.entry(identity.to_string()).or_default();
        *at = asked_at.max(*at);
    }

    /// The word of an invoice's state, as last committed.
    pub fn state_word(&self, id: InvoiceId) -> Option<&'static str> {
        self.records.get(&id).map(|known| known.state.word())
    }

    /// All payments of an invoice in Coupa were read.
    pub fn bill_read(&mut self, id: InvoiceId, asked_at: Timestamp) {
        let at = self.bills_read_at.entry(id).or_default();
        *at = asked_at.max(*at);
    }

    /// QAD has said of a supplier invoice what is owed of it.
    pub fn owed(&mut self, balance: &InvoiceBalance) {
        if balance.is_closed() == Some(true) {
            self.closed_in_qad.insert(balance.invoice.clone());
        }
    }

    /// Payment entries that left for Coupa.
    pub fn payments(&self) -> u64 {
        self.payments
    }

    /// Creates that left for QAD.
    pub fn creates(&self) -> u64 {
        self.creates.values().sum()
    }
}

/// Reads an invoice's record behind the gate.
pub fn record_of(sim: &Sim, id: InvoiceId) -> Option<(StoredRecord, InvoiceRecord)> {
    let stored = ready(sim.register_of(id).read(&[RecordKey::Invoice(id)])).unwrap();
    let stored = stored.into_iter().next().flatten()?;
    let record = parse::<InvoiceRecord>(&stored).unwrap();
    Some((stored, record))
}

/// Every record behind the gate.
pub fn records(sim: &Sim) -> Vec<InvoiceRecord> {
    let mut all = records_in(sim.register.as_ref());
    all.extend(records_in(sim.twin.as_ref()));
    all
}

fn records_in(register: &dyn Register) -> Vec<InvoiceRecord> {
    let mut all = Vec::new();
    let mut after = None;
    loop {
        let page = ready(register.invoices(after, 100)).unwrap();
        let Some(last) = page.last() else { return all };
        let RecordKey::Invoice(id) = last.key else {
            panic!("the list of invoices holds something else")
        };
        after = Some(id);
        all.extend(page.iter().map(|stored| parse::<InvoiceRecord>(stored).unwrap()));
    }
}

/// S2, S5, S6: a create is about to leave.
pub fn send_is_allowed(sim: &Sim, task: usize, clock: Timestamp, draft: &SupplierInvoiceDraft) {
    let Some((_, record)) = record_of(sim, draft.coupa_id) else {
        sim.violate(|| format!("S2 invoice {} is sent without a record", draft.coupa_id));
        return;
    };
    let Some(effect) = &record.creation else {
        sim.violate(|| format!("S2 invoice {} is sent without an intent", draft.coupa_id));
        return;
    };
    if effect.status != EffectStatus::Intent || !effect.holder.ends_with(&format!("-{task}")) {
        sim.violate(|| {
            format!(
                "S2 invoice {} is sent by task {task} while its effect is {:?} of {:?}",
                draft.coupa_id, effect.status, effect.holder
            )
        });
    }
    if clock > effect.send_deadline(&sim.timing) {
        sim.violate(|| format!("S5 invoice {} is sent too late in its lease", draft.coupa_id));
    }
    if sha256_hex(&serde_json::to_string(draft).unwrap()) != effect.request_sha256 {
        sim.violate(|| format!("S6 invoice {} is sent with another content", draft.coupa_id));
    }
}

/// S2, S3: the bytes of a create leave now.
pub fn create_leaves(sim: &Sim, task: usize, draft: &SupplierInvoiceDraft) {
    let now = sim.now();
    // One that was released beside another year's is another document in QAD.
    let identity = draft.identity.to_string();
    let key = if draft.is_twin {
        format!("{identity} posted on {}", draft.posting_date)
    } else {
        identity.clone()
    };
    let lateness = sim.timing.commit_lateness_millis;
    let mut broken = Vec::new();
    {
        let mut shared = sim.shared();
        let watch = &mut shared.watch;
        let looked_up = watch.looked_up_empty_at.get(&identity).copied();
        let sent = watch.sent.entry(key.clone()).or_default();
        for earlier in sent.iter().filter(|sent| !sent.not_applied) {
            let settled = earlier.left_at.plus_millis(lateness);
            if looked_up.is_none_or(|at| at < settled) {
                broken.push(format!(
                    "S3 {key} is sent again at {} after an attempt at {} that may have happened; looked up at {looked_up:?}",
                    now.0, earlier.left_at.0
                ));
            }
        }
        sent.push(Sent {
            left_at: now,
            not_applied: false,
            confirmed: false,
        });
        let place = sent.len() - 1;
        watch.leaving.insert(task, (key, place));
        let creates = watch.creates.entry(draft.coupa_id).or_default();
        *creates += 1;
        let intents = watch
            .records
            .get(&draft.coupa_id)
            .map_or(0, |known| known.intents);
        if intents < *creates {
            broken.push(format!(
                "S14 invoice {} was sent {creates} times with {intents} intents in its trail",
                draft.coupa_id
            ));
        }
    }
    for what in broken {
        sim.violate(|| what);
    }
}

/// The caller of a create got its answer.
pub fn create_answered(sim: &Sim, task: usize, answer: &Result<QadDocument, WriteError>) {
    let mut shared = sim.shared();
    let watch = &mut shared.watch;
    let Some((key, place)) = watch.leaving.remove(&task) else {
        return;
    };
    let not_applied = matches!(
        answer,
        Err(WriteError::NotApplied { .. } | WriteError::Refused(_))
    );
    if let Some(sent) = watch.sent.get_mut(&key).and_then(|sent| sent.get_mut(place)) {
        sent.not_applied = not_applied;
    }
    let what = match answer {
        Ok(_) => "create confirmed",
        Err(WriteError::NotApplied { .. }) => "create declined by QAD",
        Err(WriteError::Refused(_)) => "create refused",
        Err(WriteError::Unknown(_)) => "create unknown",
    };
    *shared.coverage.entry(what).or_default() += 1;
}

/// The ledger of a bill behind the gate.
pub fn bill_of(sim: &Sim, id: InvoiceId) -> Option<BillPayments> {
    let stored = ready(sim.register.read(&[flows::bills::bill_key(id)])).unwrap();
    stored
        .into_iter()
        .next()
        .flatten()
        .map(|stored| parse(&stored).unwrap())
}

/// All ledgers behind the gate.
pub fn bills(sim: &Sim) -> Vec<BillPayments> {
    let all = ready(sim.register.list(&RecordGroup::Collection(Collection::Bill))).unwrap();
    all.iter().map(|stored| parse(stored).unwrap()).collect()
}

fn is_in_qad(sim: &Sim, id: InvoiceId) -> bool {
    record_of(sim, id).is_some_and(|(_, record)| {
        matches!(
            record.state,
            State::Posted { .. }
                | State::Exported { .. }
                | State::Parked {
                    reason: ParkReason::InQad { .. }
                }
        )
    })
}

/// S2, S5, S7: a payment entry is about to leave.
pub fn payment_is_allowed(sim: &Sim, task: usize, clock: Timestamp, entry: &PaymentEntry) {
    let Some(effect) = bill_of(sim, entry.invoice).and_then(|bill| bill.entry) else {
        sim.violate(|| format!("S2 {} is sent without an intent", entry.key));
        return;
    };
    if effect.status != EffectStatus::Intent || !effect.holder.ends_with(&format!("-{task}")) {
        sim.violate(|| {
            format!(
                "S2 {} is sent by task {task} while its effect is {:?} of {:?}",
                entry.key, effect.status, effect.holder
            )
        });
    }
    if clock > effect.send_deadline(&sim.timing) {
        sim.violate(|| format!("S5 {} is sent too late in its lease", entry.key));
    }
    if sha256_hex(&serde_json::to_string(entry).unwrap()) != effect.request_sha256 {
        sim.violate(|| format!("S6 {} is sent with another content", entry.key));
    }
    if !is_in_qad(sim, entry.invoice) {
        sim.violate(|| format!("S7 {} is paid in Coupa and its invoice is not in QAD", entry.key));
    }
    if entry.paid && document_of(sim, entry.invoice).is_some_and(|of| !of.is_closed && !of.was_closed) {
        sim.violate(|| {
            format!(
                "S8 invoice {} is marked paid by {}, and QAD has never closed it",
                entry.invoice, entry.key
            )
        });
    }
}

/// S3: the bytes of a payment entry leave now.
pub fn payment_leaves(sim: &Sim, task: usize, entry: &PaymentEntry) {
    let now = sim.now();
    // The paid flag alone is no entry: it is set to what it is to be, and may be set again once the last time is confirmed.
    let key = if entry.is_flag_only() {
        format!("paid flag of {}", entry.invoice)
    } else {
        format!(
            "payment {} {} of {}",
            entry.key,
            entry.amount.is_sign_negative(),
            entry.invoice
        )
    };
    let is_over = |sent: &Sent| sent.not_applied || (entry.is_flag_only() && sent.confirmed);
    let lateness = sim.timing.coupa_commit_lateness_millis;
    let mut blind = None;
    {
        let mut shared = sim.shared();
        let watch = &mut shared.watch;
        watch.payments += 1;
        let read_at = watch.bills_read_at.get(&entry.invoice).copied();
        let sent = watch.sent.entry(key.clone()).or_default();
        for earlier in sent.iter().filter(|sent| !is_over(sent)) {
            let settled = earlier.left_at.plus_millis(lateness);
            if read_at.is_none_or(|at| at < settled) {
                blind = Some(format!(
                    "S3 {key} is sent again at {} after an attempt at {} that may have happened; read at {read_at:?}",
                    now.0, earlier.left_at.0
                ));
            }
        }
        sent.push(Sent {
            left_at: now,
            not_applied: false,
            confirmed: false,
        });
        let place = sent.len() - 1;
        watch.leaving.insert(task, (key, place));
    }
    if let Some(blind) = blind {
        sim.violate(|| blind);
    }
}

/// The caller of a payment entry got its answer.
pub fn payment_answered(sim: &Sim, task: usize, error: Option<&WriteError>) {
    let mut shared = sim.shared();
    let watch = &mut shared.watch;
    let Some((key, place)) = watch.leaving.remove(&task) else {
        return;
    };
    let not_applied = matches!(
        error,
        Some(WriteError::NotApplied { .. } | WriteError::Refused(_))
    );
    if let Some(sent) = watch.sent.get_mut(&key).and_then(|sent| sent.get_mut(place)) {
        sent.not_applied = not_applied;
        sent.confirmed = error.is_none();
    }
    let what = match error {
        None => "payment confirmed",
        Some(WriteError::NotApplied { .. }) => "payment declined by Coupa",
        Some(WriteError::Refused(_)) => "payment refused",
        Some(WriteError::Unknown(_)) => "payment unknown",
    };
    *shared.coverage.entry(what).or_default() += 1;
}

/// S1 and S8 in Coupa: after every step in which an entry has appeared.
fn check_payments(sim: &Sim) {
    let seen = sim.shared().watch.entries_seen;
    let mut broken = Vec::new();
    let entries = {
        let world = sim.world();
        let count = world
            .coupa
            .invoices
            .values()
            .map(|invoice| invoice.payments.len())
            .sum();
        if count != seen {
            for invoice in world.coupa.invoices.values() {
                let mut keys = BTreeSet::new();
                for payment in &invoice.payments {
                    let notes = payment.notes.clone().unwrap_or_default();
                    broken.extend(wrong_entry(&world.qad, invoice, &notes, payment.amount_paid));
                    let key: Vec<&str> = notes.split(' ').take(3).collect();
                    if !payment.amount_paid.is_zero()
                        && !keys.insert((key.join(" "), payment.amount_paid.is_sign_negative()))
                    {
                        broken.push(format!(
                            "S1 Coupa invoice {} shows {} twice",
                            invoice.id,
                            key.join(" ")
                        ));
                    }
                }
                let sum: Decimal = invoice
                    .payments
                    .iter()
                    .map(|payment| {
                        payment.amount_paid.abs()
                            * if payment.amount_paid.is_sign_negative()
                                == invoice.total_with_taxes().is_sign_negative()
                            {
                                Decimal::ONE
                            } else {
                                Decimal::NEGATIVE_ONE
                            }
                    })
                    .sum();
                let limit = invoice.total_with_taxes().abs() + Decimal::new(5, 2);
                if sum > limit && invoice.kind == domain::ids::DocumentKind::Invoice {
                    broken.push(format!(
                        "S8 Coupa invoice {} shows {sum} paid, more than {limit}",
                        invoice.id
                    ));
                }
            }
        }
        count
    };
    for what in broken {
        sim.violate(|| what);
    }
    sim.shared().watch.entries_seen = entries;
}

/// What QAD has of an invoice.
struct InQad {
    /// What its payments that count pay of it, in its own currency.
    paid: Decimal,
    /// Nothing is owed of it now.
    is_closed: bool,
    /// QAD has once said so when it was asked.
    was_closed: bool,
}

/// The one document that QAD has of an invoice; `None` when there is none, or when QAD has a second one of its number: whose
/// payments are whose is a person's then.
fn document_of(sim: &Sim, id: InvoiceId) -> Option<InQad> {
    let summary = record_of(sim, id)?.1.summary?;
    let closed = sim.shared().watch.closed_in_qad.clone();
    let world = sim.world();
    let (entity, _) = company_of(world.coupa.invoices.get(&id.0)?);
    let mut of_it = world.qad.invoices.iter().filter(|one| {
        one.record.entity_code.eq_ignore_ascii_case(entity)
            && one
                .record
                .supplier_invoice_reference
                .eq_ignore_ascii_case(summary.reference.as_str())
    });
    let (document, None) = (of_it.next()?, of_it.next()) else {
        return None;
    };
    let paid = world
        .qad
        .payments
        .iter()
        .filter(|one| one.status == "Paid" && one.pays(document))
        .map(sandbox::world::qad::PaymentAllocation::paid)
        .sum();
    Some(InQad {
        paid,
        is_closed: world.qad.owed(document).is_zero(),
        was_closed: closed
            .iter()
            .any(|one| one.entity.as_str() == entity && one.reference.folded() == summary.reference.folded()),
    })
}

/// What is wrong with an entry that Coupa shows: each is a payment that QAD has, with the amount that it settles of the
/// invoice in the invoice's currency. One may be taken back a moment after QAD has it again: that is compared at rest.
fn wrong_entry(qad: &QadWorld, invoice: &CoupaInvoice, notes: &str, amount: Decimal) -> Option<String> {
    let key_of = |one: &PaymentAllocation| {
        format!(
            "QAD {} {}/{}/{}#{}",
            one.payer(),
            one.year,
            one.instrument,
            one.number,
            one.allocation
        )
    };
    let key: Vec<&str> = notes.split(' ').take(3).collect();
    let key = key.join(" ");
    // Somebody keyed it by hand.
    if !key.starts_with("QAD ") || amount.is_zero() {
        return None;
    }
    let Some(payment) = qad.payments.iter().find(|one| key_of(one) == key) else {
        return Some(format!("S8 Coupa shows {key}, which QAD does not have"));
    };
    let (entity, _) = company_of(invoice);
    if payment.owner() != entity {
        return Some(format!(
            "S21 Coupa invoice {} of {entity} shows {key}, which pays one of {}",
            invoice.id,
            payment.owner()
        ));
    }
    if amount.abs() != payment.paid().abs() {
        return Some(format!(
            "S8 Coupa shows {amount} for {key}, which pays {}",
            payment.paid()
        ));
    }
    None
}

/// S8 and S14 for the ledgers, when nothing moves any more.
fn check_bills_at_rest(sim: &Sim) {
    let mut broken = Vec::new();
    for bill in bills(sim) {
        let id = bill.invoice;
        let trail = ready(sim.register.audit(&format!("payments/{id}"))).unwrap();
        match verify_chain(&trail) {
            Ok(end) if end == bill.chain => {}
            Ok(_) => broken.push(format!("S14 the chain of the payments of {id} ends elsewhere")),
            Err(problem) => broken.push(format!("S14 {problem}")),
        }
        let paying = record_of(sim, id)
            .is_some_and(|(_, record)| matches!(record.state, State::Posted { .. } | State::Exported { .. }));
        if !paying || bill.parked.is_some() || bill.left_alone.is_some() {
            continue;
        }
        let Some(in_qad) = document_of(sim, id) else {
            continue;
        };
        let (shown, paid): (Decimal, bool) = sim
            .world()
            .coupa
            .invoices
            .get(&id.0)
            .map(|invoice| {
                let amounts = invoice.payments.iter().map(|payment| payment.amount_paid);
                (amounts.sum(), invoice.paid)
            })
            .unwrap_or_default();
        if in_qad.paid != shown {
            broken.push(format!(
                "S8 QAD has paid {} of invoice {id} and Coupa shows {shown}",
                in_qad.paid
            ));
        }
        if in_qad.is_closed != paid {
            broken.push(format!(
                "S8 QAD has closed invoice {id}: {}; paid in Coupa: {paid}",
                in_qad.is_closed
            ));
        }
    }
    for what in broken {
        sim.violate(|| what);
    }
}

/// S7: the exported flag is about to be set.
pub fn before_export(sim: &Sim, id: InvoiceId) {
    let Some((_, record)) = record_of(sim, id) else {
        sim.violate(|| format!("S7 invoice {id} is exported without a record"));
        return;
    };
    match &record.state {
        State::Posted { voucher, .. } | State::Exported { voucher, .. } => {
            let there = sim.world().qad.invoices.iter().any(|document| {
                document.voucher == voucher.number
                    && document.posting_year == voucher.year
                    && document.record.daybook_code == voucher.daybook
            });
            if !there {
                sim.violate(|| format!("S7 invoice {id} is exported and QAD has no {voucher}"));
            }
        }
        State::Voided { .. } => {}
        // A worker that was overtaken while its request was on the way: the document is in QAD all the same.
        State::Parked {
            reason: ParkReason::InQad { .. },
        } => {}
        other => {
            let word = other.word();
            sim.violate(|| format!("S7 invoice {id} is exported while {word}"));
        }
    }
}

/// S11, S14 and the rule that what is not at its end is due or waits: after each commit that went through.
pub fn after_commit(sim: &Sim, commit: &Commit) {
    crate::sync_watch::after_commit(sim, commit);
    for write in &commit.writes {
        let RecordWrite::Put { key, .. } = write else {
            continue;
        };
        let RecordKey::Invoice(id) = key else { continue };
        let Some((stored, record)) = record_of(sim, *id) else {
            sim.violate(|| format!("S14 invoice {id} was written and is not there"));
            continue;
        };
        let before = sim.shared().watch.records.get(id).cloned();
        if before
            .as_ref()
            .is_some_and(|known| known.revision == stored.revision)
        {
            continue;
        }
        // A person at the command line writes beside the tasks: what that was is read from the trail.
        let seen_all = before.as_ref().map_or(0, |known| known.revision) + 1 == stored.revision;
        let trail = if seen_all {
            Vec::new()
        } else {
            ready(sim.register_of(*id).audit(&invoice_audit_name(*id))).unwrap()
        };
        let before = before.filter(|_| seen_all);
        let entries: Vec<&AuditEntry> = if seen_all {
            commit.audit.iter()
        } else {
            trail.iter()
        }
        .filter(|entry| entry.document == invoice_audit_name(*id))
        .collect();
        for what in compare(before.as_ref(), &record, &entries) {
            sim.violate(|| what);
        }
        if !is_at_its_end(&record) && record.due(&sim.timing).is_none() {
            sim.violate(|| format!("L1 invoice {id} is {} and never due", record.state.word()));
        }
        let intents = entries.iter().map(|entry| intents_in(entry)).sum::<u64>();
        let known = Known {
            revision: stored.revision,
            read_at: record.source.as_ref().map(|source| source.updated_at),
            fence: record.creation.as_ref().map_or(0, |effect| effect.fence),
            voucher: record.state.voucher().cloned(),
            end: record.chain.clone(),
            intents: before.map_or(0, |known| known.intents) + intents,
            state: record.state,
        };
        sim.shared().watch.records.insert(*id, known);
    }
}

fn intents_in(entry: &AuditEntry) -> u64 {
    let events: Vec<Event> = serde_json::from_str(&entry.events).unwrap();
    let is_intent = |event: &&Event| {
        use domain::effect::EffectEvent::{Intended, IntendedAgain};
        matches!(
            event,
            Event::Creating {
                step: Intended { .. } | IntendedAgain,
                ..
            }
        )
    };
    events.iter().filter(is_intent).count() as u64
}

fn compare(before: Option<&Known>, record: &InvoiceRecord, entries: &[&AuditEntry]) -> Vec<String> {
    let id = record.id;
    let mut broken = Vec::new();
    let mut state = before.map_or(State::Received { coupa_status: None }, |known| {
        known.state.clone()
    });
    let mut end = before.map_or_else(ChainEnd::default, |known| known.end.clone());
    for entry in entries {
        if entry.events.contains(CANARY) || entry.events.contains("exampletown") {
            broken.push(format!(
                "S16 the trail of invoice {id} holds what it must not: {}",
                entry.events
            ));
        }
        let expected = next_entry(&entry.document, &end, entry.at, entry.events.clone());
        if expected != **entry {
            broken.push(format!(
                "S14 the chain of invoice {id} breaks at entry {}",
                entry.sequence
            ));
        }
        end = entry.end();
        let events: Vec<Event> = serde_json::from_str(&entry.events).unwrap();
        for event in &events {
            match state.after(event) {
                Ok(next) => state = next,
                Err(illegal) => broken.push(format!(
                    "S14 the trail of invoice {id} cannot be replayed: {illegal}"
                )),
            }
        }
    }
    if state != record.state {
        broken.push(format!(
            "S14 invoice {id} is {:?} and its trail says {state:?}",
            record.state
        ));
    }
    if end != record.chain {
        broken.push(format!("S14 invoice {id} forgot where its chain ends"));
    }
    let Some(before) = before else { return broken };
    if record.source.as_ref().map(|source| source.updated_at) < before.read_at {
        broken.push(format!("S11 invoice {id} went back to an older reading"));
    }
    if record.creation.as_ref().map_or(0, |effect| effect.fence) < before.fence {
        broken.push(format!("S11 the fence of invoice {id} fell"));
    }
    if before.voucher.is_some() && record.state.voucher() != before.voucher.as_ref() {
        broken.push(format!(
            "S11 invoice {id} lost or changed its voucher {:?}",
            before.voucher
        ));
    }
    broken
}

/// True when nobody needs to come back to it by itself.
pub fn is_at_its_end(record: &InvoiceRecord) -> bool {
    matches!(
        &record.state,
        State::Exported { .. }
            | State::Voided { exported: true }
            | State::Rejected { .. }
            | State::Parked {
                reason: ParkReason::InQad { .. }
            }
            | State::Received {
                coupa_status: Some(_)
            }
    )
}

/// S21: what is wrong with a document of ours that is not in the books of its invoice's own company, on QAD's side: by its
/// entity, its domain, and the domain of every order that it names.
fn in_other_books(world: &World, record: &SupplierInvoiceRecord) -> Option<String> {
    let invoice = world.coupa.invoices.get(&of_coupa(&record.description)?)?;
    let (entity, domain) = company_of(invoice);
    let orders = record.purchase_orders.iter();
    let is_of_it = record.entity_code.eq_ignore_ascii_case(entity)
        && record.domain_code.eq_ignore_ascii_case(domain)
        && orders
            .map(|order| &order.purchase_order_domain)
            .all(|one| one.eq_ignore_ascii_case(domain));
    (!is_of_it).then(|| {
        format!(
            "S21 invoice {} of {entity} in {domain} is in QAD in {} of {}: {:?}",
            invoice.id, record.entity_code, record.domain_code, record.purchase_orders
        )
    })
}

/// S21: what is wrong with a stranger's bill, of which nothing is to be written anywhere.
fn not_left_alone(world: &World, invoice: &CoupaInvoice) -> Option<String> {
    let chart = chart_of(invoice).filter(|chart| !CHARTS.contains(chart))?;
    let of_it = |one: &SupplierInvoice| of_coupa(&one.record.description) == Some(invoice.id);
    let written = if invoice.exported || invoice.was_exported {
        "is marked exported"
    } else if invoice.paid || !invoice.payments.is_empty() {
        "is paid in Coupa"
    } else if world.qad.invoices.iter().any(of_it) {
        "is in QAD"
    } else {
        return None;
    };
    Some(format!("S21 invoice {} of {chart} {written}", invoice.id))
}

/// S7: what is wrong with the credits of an invoice's goods, as QAD has them of this product: together they are over more than
/// was billed.
fn credited_over_billed(world: &World, credit: &CoupaInvoice) -> Option<String> {
    let number = credit.original_number.as_ref()?;
    let is_of_it = |one: &CoupaInvoice, number: &str, kind| {
        one.kind == kind
            && one.number.eq_ignore_ascii_case(number)
            && one.supplier == credit.supplier
            && company_of(one) == company_of(credit)
    };
    let all = || world.coupa.invoices.values();
    let billed = all().find(|one| is_of_it(one, number, DocumentKind::Invoice))?;
    let in_qad = |one: &CoupaInvoice| -> Decimal {
        let of_it = |document: &&SupplierInvoice| of_coupa(&document.record.description) == Some(one.id);
        let documents = world.qad.invoices.iter().filter(of_it);
        documents
            .map(|document| document.record.total_amount.0.abs())
            .sum()
    };
    let names_it = |one: &&CoupaInvoice| {
        let original = one.original_number.as_ref();
        original.is_some_and(|original| original.eq_ignore_ascii_case(number))
            && one.kind == DocumentKind::CreditNote
            && one.supplier == credit.supplier
            && company_of(one) == company_of(credit)
            && one.lines.iter().any(is_of_goods)
    };
    let credited: Decimal = all().filter(names_it).map(in_qad).sum();
    let owed = billed.total_with_taxes().abs().max(in_qad(billed));
    (credited > owed).then(|| format!("S7 {credited} is credited of invoice {number}, which bills {owed}"))
}

fn is_of_goods(line: &sandbox::world::coupa::CoupaLine) -> bool {
    match line.overrides.get("adjustment-type") {
        Some(purpose) => purpose == "Quantity",
        None => line.quantity.is_some(),
    }
}

/// S7: a credit of prices alone that takes goods back.
fn price_takes_goods(credit: &CoupaInvoice, document: &SupplierInvoiceRecord) -> Option<String> {
    let is_of_price = |line: &sandbox::world::coupa::CoupaLine| {
        let purpose = line.overrides.get("adjustment-type");
        purpose.is_some_and(|purpose| purpose != "Quantity")
    };
    let takes = credit.kind == DocumentKind::CreditNote
        && credit.lines.iter().all(is_of_price)
        && !document.receiver_matchings.is_empty();
    takes.then(|| {
        format!(
            "S7 Coupa invoice {} credits a price, and takes a return",
            credit.id
        )
    })
}

/// S1 and the receipts: after every step.
pub fn check_world(sim: &Sim) {
    let seen = sim.shared().watch.documents_seen;
    let mut broken = Vec::new();
    let documents = {
        let world = sim.world();
        let documents = world.qad.invoices.len();
        let invoices = world.coupa.invoices.values();
        broken.extend(invoices.filter_map(|invoice| not_left_alone(&world, invoice)));
        if documents != seen {
            if world.qad.duplicates() > 0 {
                let newest = world
                    .qad
                    .invoices
                    .last()
                    .map(|one| one.record.supplier_invoice_reference.clone());
                broken.push(format!(
                    "S1 QAD has a second document of {}",
                    newest.unwrap_or_default()
                ));
            }
            broken.extend(
                world
                    .qad
                    .invoices
                    .iter()
                    .filter_map(|one| in_other_books(&world, &one.record)),
            );
            broken.extend(
                world
                    .coupa
                    .invoices
                    .values()
                    .filter_map(|credit| credited_over_billed(&world, credit)),
            );
            for receipt in &world.qad.receipts {
                let (received, matched) = (receipt.signed_quantity(), receipt.signed_vouchered());
                if matched.abs() > received.abs()
                    || !(matched * received).is_sign_positive() && !matched.is_zero()
                {
                    broken.push(format!(
                        "S7 receiver {} received {received} and {matched} is invoiced",
                        receipt.receiver
                    ));
                }
            }
        }
        documents
    };
    broken.extend(wrong_documents(sim, seen));
    for what in broken {
        sim.violate(|| what);
    }
    sim.shared().watch.documents_seen = documents;
    check_payments(sim);
    crate::sync_watch::check_world(sim);
}

/// What may be written over in an invoice of Coupa without another sum: whose it is, and what nothing is decided by.
const BESIDE_SUMS: [&str; 5] = [
    "account-type",
    "discount-due-date",
    "net-due-date",
    "requested-by",
    "ship-to-address",
];

/// S7, read from QAD alone: what is wrong with the documents that are new there since so many were seen. Each of ours is the only
/// one of its invoice, is worth what that invoice was worth in Coupa at some time, and is dated no earlier than what it is
/// matched to was received.
fn wrong_documents(sim: &Sim, seen: usize) -> Vec<String> {
    let mut shared = sim.shared();
    let watch = &mut shared.watch;
    let world = sim.world();
    for invoice in world.coupa.invoices.values() {
        let totals = watch.owed.entry(invoice.id).or_default();
        totals.insert(invoice.total_with_taxes().abs());
    }
    let mut broken = Vec::new();
    for document in world.qad.invoices.iter().skip(seen) {
        let Some(id) = of_coupa(&document.record.description) else {
            continue;
        };
        let of_it =
            |other: &&sandbox::world::qad::SupplierInvoice| of_coupa(&other.record.description) == Some(id);
        if world.qad.invoices.iter().filter(of_it).count() > 1 {
            broken.push(format!("S1 QAD has a second document of Coupa invoice {id}"));
        }
        let of_coupa = world.coupa.invoices.get(&id);
        broken.extend(of_coupa.and_then(|credit| price_takes_goods(credit, &document.record)));
        let total = document.record.total_amount.0;
        let is_plain = world.coupa.invoices.get(&id).is_some_and(|one| {
            one.overrides
                .keys()
                .all(|field| BESIDE_SUMS.contains(&field.as_str()))
        });
        let was_owed = watch
            .owed
            .get(&id)
            .is_some_and(|totals| totals.contains(&total.abs()));
        if is_plain && !was_owed {
            broken.push(format!(
                "S7 QAD has {total} of Coupa invoice {id}, which was never owed"
            ));
        }
        for matching in &document.record.receiver_matchings {
            let is_later = |receipt: &&sandbox::world::qad::QadReceipt| {
                receipt.receiver.eq_ignore_ascii_case(&matching.receiver_number)
                    && receipt.domain.eq_ignore_ascii_case(&document.record.domain_code)
                    && receipt
                        .order
                        .eq_ignore_ascii_case(&matching.purchase_order_number)
                    && receipt.line == matching.purchase_order_line
                    && receipt.date.to_string().as_str()
                        > document.record.posting_date.get(..10).unwrap_or_default()
            };
            if watch.posts_after_receipts
                && let Some(receipt) = world.qad.receipts.iter().find(is_later)
            {
                broken.push(format!(
                    "S7 Coupa invoice {id} is posted on {}, and receiver {} came on {}",
                    document.record.posting_date, receipt.receiver, receipt.date
                ));
            }
        }
    }
    broken
}

/// Which invoice of Coupa's a document in QAD says it is of.
fn of_coupa(description: &str) -> Option<u64> {
    let rest = description.trim().strip_prefix("Coupa ")?;
    rest.split(|letter: char| !letter.is_ascii_digit())
        .next()?
        .parse()
        .ok()
}

/// Everything that must hold when nothing moves any more: whole trails, the waiting index, what is due.
pub fn check_at_rest(sim: &Sim) {
    check_world(sim);
    check_bills_at_rest(sim);
    crate::sync_watch::check_at_rest(sim);
    let mut broken = Vec::new();
    let far = Timestamp(i64::MAX);
    let mut of_both = ready(sim.register.due(far, 10_000)).unwrap();
    of_both.extend(ready(sim.twin.due(far, 10_000)).unwrap());
    let due: BTreeSet<InvoiceId> = of_both
        .into_iter()
        .filter_map(|due| match due.key {
            RecordKey::Invoice(id) => Some(id),
            _ => None,
        })
        .collect();
    for record in records(sim) {
        let id = record.id;
        let trail = ready(sim.register_of(id).audit(&invoice_audit_name(id))).unwrap();
        match verify_chain(&trail) {
            Ok(end) if end == record.chain => {}
            Ok(_) => broken.push(format!(
                "S14 the chain of invoice {id} ends elsewhere than its record says"
            )),
            Err(problem) => broken.push(format!("S14 {problem}")),
        }
        let events: Vec<Event> = trail
            .iter()
            .flat_map(|entry| serde_json::from_str::<Vec<Event>>(&entry.events).unwrap())
            .collect();
        match State::replay(&events) {
            Ok(state) if state == record.state => {}
            Ok(state) => broken.push(format!(
                "S14 invoice {id} is {:?} and replays to {state:?}",
                record.state
            )),
            Err(illegal) => broken.push(format!("S14 invoice {id} cannot be replayed: {illegal}")),
        }
        let posted = events
            .iter()
            .filter(|event| matches!(event, Event::Posted { .. }))
            .count();
        if posted > 1 {
            broken.push(format!("S14 invoice {id} was posted {posted} times by its trail"));
        }
        if record.due(&sim.timing).is_some() != due.contains(&id) {
            broken.push(format!(
                "L1 the register and the record of invoice {id} disagree on whether it is due"
            ));
        }
        for line in record.rests_on() {
            let waiting = ready(sim.register_of(id).list(&RecordGroup::WaitingFor(line.clone()))).unwrap();
            if !waiting
                .iter()
                .any(|one| one.key == RecordKey::Waiting(line.clone(), id))
            {
                broken.push(format!(
                    "S13 invoice {id} waits for {line} and is not in the index"
                ));
            }
        }
    }
    for what in broken {
        sim.violate(|| what);
    }
}
