//! The state of the simulated Coupa and QAD and the rules both keep: no HTTP, no clock, no chance.
//!
//! Every writing door hands its [`Write`] to [`World::submit`]; every access first calls [`World::advance`], which
//! lets writes appear whose answer was lost and which the other system committed late.

pub mod coupa;
pub mod qad;

use crate::faults::System;
use crate::scenario::Scenario;
use coupa::{CoupaError, CoupaWorld, InvoiceChange};
use domain::time::Timestamp;
use qad::{QadRefusal, QadWorld, SupplierInvoice, SupplierInvoiceRecord};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// One write to either system, as its rules understand it.
#[derive(Debug, Clone)]
pub enum Write {
    /// Coupa: sets the exported flag.
    MarkExported(u64),
    /// Coupa: changes payments, paid, custom fields of an invoice.
    ChangeInvoice(u64, InvoiceChange),
    /// Coupa: an integration history record; with an alert to the contact when true.
    RecordHistory(Map<String, Value>, bool),
    /// Coupa: marks a history record as resolved.
    ResolveHistory(u64),
    /// Coupa: a new supplier.
    CreateSupplier(Map<String, Value>),
    /// Coupa: changes a supplier.
    UpdateSupplier(u64, Map<String, Value>),
    /// Coupa: a new lookup value.
    CreateLookupValue(Map<String, Value>),
    /// Coupa: changes a lookup value.
    UpdateLookupValue(u64, Map<String, Value>),
    /// QAD: a supplier invoice with its receiver matching.
    CreateSupplierInvoice(Box<SupplierInvoiceRecord>),
    /// QAD: creates (`C`) or updates (`U`) a supplier.
    SaveQadSupplier(Map<String, Value>),
    /// QAD: business documents, by component.
    CreateBusinessDocuments(String, Vec<Value>),
}

/// What a write did.
#[derive(Debug, Clone)]
pub enum Written {
    /// Coupa's record after the write.
    Coupa(Value),
    /// The supplier invoice as QAD recorded it.
    SupplierInvoice(Box<SupplierInvoice>),
    /// The QAD supplier after the write.
    QadSupplier(Map<String, Value>),
    /// Business documents were stored.
    Documents,
    /// Nothing yet: it commits later, and its answer is lost.
    Later,
}

/// Why a write was refused, in the refusing system's own terms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WriteRefusal {
    /// By Coupa.
    Coupa(CoupaError),
    /// By QAD; never empty.
    Qad(Vec<QadRefusal>),
}

#[derive(Debug, Clone)]
struct Pending {
    due: Timestamp,
    write: Write,
}

/// Both systems.
#[derive(Debug, Clone, Default)]
pub struct World {
    /// The simulated Coupa.
    pub coupa: CoupaWorld,
    /// The simulated QAD.
    pub qad: QadWorld,
    coupa_tokens: Tokens,
    qad_tokens: Tokens,
    pending: Vec<Pending>,
    late_refusals: u64,
    /// Whether both systems answer an idempotency key they know with what they answered before, refusals too. Neither
    /// documents such keys; a gateway in front of them may honour them.
    pub honours_keys: bool,
    answers: BTreeMap<String, Result<Written, WriteRefusal>>,
}

/// The bearer tokens a system has given out and until when they are good.
#[derive(Debug, Clone, Default)]
struct Tokens {
    good_until: BTreeMap<String, Timestamp>,
    issued: u64,
}

impl World {
    /// The world at the start of a day: the documents of all scenarios.
    pub fn seed(scenarios: &[Scenario], now: Timestamp) -> Self {
        let mut world = Self::default();
        world.qad.seed_master_data();
        world.coupa.seed_lookups();
        for scenario in scenarios {
            for supplier in &scenario.suppliers {
                world.qad.add_supplier(supplier, now);
                world.coupa.add_supplier(supplier, now);
            }
            for order in &scenario.orders {
                world.qad.add_order(order.clone());
                world.coupa.add_order(order, now);
            }
            for change in &scenario.coupa_orders {
                change.apply(&mut world, now);
            }
            for receipt in &scenario.receipts {
                world.qad.receipts.push(receipt.clone());
            }
            for record in &scenario.qad_invoices {
                world.qad.keyed_by_hand(record.clone(), now);
            }
            for invoice in &scenario.invoices {
                world.coupa.add_invoice(invoice.clone(), now);
            }
        }
        world
    }

    fn tokens(&mut self, system: System) -> &mut Tokens {
        match system {
            System::Coupa => &mut self.coupa_tokens,
            System::Qad => &mut self.qad_tokens,
        }
    }

    /// Gives out a new token.
    pub fn issue_token(&mut self, system: System, now: Timestamp, lifetime_seconds: i64) -> String {
        let tokens = self.tokens(system);
        tokens.issued = tokens.issued.saturating_add(1);
        let token = format!("{}-token-{}", system.as_str(), tokens.issued);
        tokens
            .good_until
            .insert(token.clone(), now.plus_seconds(lifetime_seconds));
        token
    }

    /// Whether a token is good.
    pub fn accepts_token(&mut self, system: System, token: &str, now: Timestamp) -> bool {
        self.tokens(system)
            .good_until
            .get(token)
            .is_some_and(|until| *until > now)
    }

    /// All tokens of a system stop being good.
    pub fn expire_tokens(&mut self, system: System) {
        self.tokens(system).good_until.clear();
    }

    /// How many tokens a system has given out.
    pub fn tokens_issued(&mut self, system: System) -> u64 {
        self.tokens(system).issued
    }

    /// Lets the late writes appear that are due at `now`. A write that the rules refuse by then never appears, as in
    /// the real systems; it is counted in [`World::late_refusals`].
    pub fn advance(&mut self, now: Timestamp) {
        let (due, later): (Vec<_>, Vec<_>) = self.pending.drain(..).partition(|pending| pending.due <= now);
        self.pending = later;
        for pending in due {
            if self.apply(pending.write, pending.due).is_err() {
                self.late_refusals = self.late_refusals.saturating_add(1);
            }
        }
    }

    /// Applies a write now, or books it for `late` and says [`Written::Later`].
    pub fn submit(
        &mut self,
        write: Write,
        now: Timestamp,
        late: Option<Timestamp>,
    ) -> Result<Written, WriteRefusal> {
        match late {
            None => self.apply(write, now),
            Some(due) => {
                self.pending.push(Pending { due, write });
                Ok(Written::Later)
            }
        }
    }

    /// The same under an idempotency key, for systems that honour it. What commits late has no answer yet.
    pub fn submit_keyed(
        &mut self,
        key: &str,
        write: Write,
        now: Timestamp,
        late: Option<Timestamp>,
    ) -> Result<Written, WriteRefusal> {
        if !self.honours_keys || late.is_some() {
            return self.submit(write, now, late);
        }
        if let Some(known) = self.answers.get(key) {
            return known.clone();
        }
        let answer = self.submit(write, now, None);
        self.answers.insert(key.to_owned(), answer.clone());
        answer
    }

    /// Writes that still have to appear.
    pub fn late_writes(&self) -> usize {
        self.pending.len()
    }

    /// Late writes that were refused when their time came.
    pub fn late_refusals(&self) -> u64 {
        self.late_refusals
    }

    fn apply(&mut self, write: Write, now: Timestamp) -> Result<Written, WriteRefusal> {
        let coupa =
            |result: Result<Value, CoupaError>| result.map(Written::Coupa).map_err(WriteRefusal::Coupa);
        match write {
            Write::MarkExported(id) => coupa(self.coupa.mark_exported(id, now)),
            Write::ChangeInvoice(id, change) => coupa(self.coupa.change_invoice(id, change, now)),
            Write::RecordHistory(body, alert) => coupa(self.coupa.record_history(body, alert, now)),
            Write::ResolveHistory(id) => coupa(self.coupa.resolve_history(id, now)),
            Write::CreateSupplier(body) => coupa(self.coupa.create_supplier(body, now)),
            Write::UpdateSupplier(id, body) => coupa(self.coupa.update_supplier(id, body, now)),
            Write::CreateLookupValue(body) => coupa(self.coupa.create_lookup_value(body, now)),
            Write::UpdateLookupValue(id, body) => coupa(self.coupa.update_lookup_value(id, body, now)),
            Write::CreateSupplierInvoice(record) => self
                .qad
                .create_supplier_invoice(*record, now)
                .map(|created| Written::SupplierInvoice(Box::new(created)))
                .map_err(WriteRefusal::Qad),
            Write::SaveQadSupplier(record) => self
                .qad
                .save_supplier(record, now)
                .map(Written::QadSupplier)
                .map_err(|refusal| WriteRefusal::Qad(vec![refusal])),
            Write::CreateBusinessDocuments(component, documents) => {
                self.qad
                    .business_documents
                    .entry(component)
                    .or_default()
                    .extend(documents);
                Ok(Written::Documents)
            }
        }
    }
}
