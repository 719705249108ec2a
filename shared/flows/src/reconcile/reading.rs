//! What is read of QAD to compare it, and the comparison of one invoice: the same for the daily run and for a person's.

use crate::bills::bill_key;
use crate::poll_coupa::PollError;
use crate::poll_payments;
use crate::ports::{
    ITEM_UNREADABLE, Qad, QadDocument, QadPayments, ReadError, RecordKey, Register, StoreError,
};
use crate::store::{FlowError, invoice_audit_name, load};
use crate::watermark::{self, Scope};
use domain::documents::CoupaStatus;
use domain::ids::{EntityCode, QadInvoiceIdentity};
use domain::lifecycle::{Event, InvoiceRecord};
use domain::payments::{Allocation, BillPayments, PaymentPolicy, StatusMeaning};
use domain::problem::Problem;
use domain::reconcile::{Difference, Kind, identity_of, judge, with_people};
use domain::time::Date;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// The books of one entity.
#[derive(Clone, Copy)]
pub struct Books<'a> {
    /// Whose.
    pub entity: &'a EntityCode,
    /// QAD, as this entity sees it: find supplier invoices.
    pub qad: &'a dyn Qad,
    /// The same: read payments.
    pub payments: &'a dyn QadPayments,
}

impl<'a> Books<'a> {
    /// An entity's, and QAD as it sees it.
    pub fn of<Q: Qad + QadPayments>((entity, qad): (&'a EntityCode, &'a Q)) -> Self {
        Self {
            entity,
            qad,
            payments: qad,
        }
    }
}

/// The books in which the documents of an invoice are: its own entity's, or the first one's where it was decided before there
/// were several. `None` where its entity is none of the connection's any more.
pub fn books_of<'b, 'a>(books: &'b [Books<'a>], record: &InvoiceRecord) -> Option<&'b Books<'a>> {
    match &record.entity {
        Some(own) => books.iter().find(|books| books.entity == own),
        None => books.first(),
    }
}

/// What QAD holds under the identity of an invoice; `None` where its books cannot be asked.
///
/// # Errors
/// QAD gave no answer.
pub async fn documents_of(
    books: &[Books<'_>],
    record: &InvoiceRecord,
) -> Result<Option<Vec<QadDocument>>, ReadError> {
    let Some(books) = books_of(books, record) else {
        return Ok(None);
    };
    match identity_of(books.entity, record) {
        Some(identity) => books.qad.find_invoices(&identity).await.map(Some),
        // Without a supplier in QAD there can be nothing of it there.
        None => Ok(Some(Vec::new())),
    }
}

/// What one invoice differs in. What nothing explains is looked up once more, for it may have moved on between the two
/// readings: only what stays is told.
///
/// # Errors
/// QAD or the register gave no answer.
pub async fn judge_invoice(
    register: &dyn Register,
    books: &[Books<'_>],
    record: &InvoiceRecord,
    documents: &[QadDocument],
    listed: Option<&CoupaStatus>,
) -> Result<Vec<Difference>, PollError> {
    let found = judge_with_people(register, record, documents, listed).await?;
    if found.iter().all(|difference| difference.explained) {
        return Ok(found);
    }
    let Some(again) = load::<InvoiceRecord>(register, RecordKey::Invoice(record.id)).await? else {
        return Ok(found);
    };
    let Some(documents) = documents_of(books, &again.document).await? else {
        return Ok(found);
    };
    let listed = listed.filter(|_| again.document == *record);
    Ok(judge_with_people(register, &again.document, &documents, listed).await?)
}

async fn judge_with_people(
    register: &dyn Register,
    record: &InvoiceRecord,
    documents: &[QadDocument],
    listed: Option<&CoupaStatus>,
) -> Result<Vec<Difference>, FlowError> {
    let found = judge(record, documents, listed);
    let differs = |found: &Difference| found.kind == Kind::AmountDiffers;
    if !found.iter().any(differs) {
        return Ok(found);
    }
    let entries = register.audit(&invoice_audit_name(record.id)).await?;
    let events: Vec<Event> = entries
        .iter()
        .filter_map(|entry| serde_json::from_str::<Vec<Event>>(&entry.events).ok())
        .flatten()
        .collect();
    Ok(with_people(found, documents, &events))
}

/// What of an invoice's payments Coupa does not show.
///
/// # Errors
/// The register gave no answer.
pub async fn judge_payment(
    register: &dyn Register,
    record: &InvoiceRecord,
    paid: &[Allocation],
) -> Result<Option<Difference>, FlowError> {
    let bill = load::<BillPayments>(register, bill_key(record.id)).await?;
    let bill = bill.as_ref().map(|bill| &bill.document);
    Ok(domain::reconcile::judge_payment(record, bill, paid))
}

/// What is wrong with a record, a bill or an audit entry that cannot be read; `None` where the register or another system gave no
/// answer. What cannot be read today cannot be read tomorrow either: it is one invoice's difference, and keeps no other from
/// being compared.
pub fn unreadable(error: &PollError) -> Option<&Problem> {
    match error {
        PollError::Flow(FlowError::Broken(problem)) => Some(problem),
        PollError::Flow(FlowError::Store(StoreError(problem))) if problem.code == ITEM_UNREADABLE => {
            Some(problem)
        }
        PollError::Flow(_) | PollError::Read(_) => None,
    }
}

/// What makes an invoice one in QAD, however its codes are written.
type Folded = (String, String, String, String);

fn folded(identity: &QadInvoiceIdentity) -> Folded {
    (
        identity.entity.folded(),
        identity.supplier.folded(),
        identity.reference.folded(),
        identity.kind.to_string(),
    )
}

/// What QAD has paid, by invoice.
#[derive(Debug, Default)]
pub struct Paid(BTreeMap<Folded, Vec<Allocation>>);

impl Paid {
    /// What was paid of an invoice; `None` for nothing.
    pub fn of(&self, books: &[Books<'_>], record: &InvoiceRecord) -> Option<&[Allocation]> {
        let identity = identity_of(books_of(books, record)?.entity, record)?;
        self.0.get(&folded(&identity)).map(Vec::as_slice)
    }
}

/// What QAD has paid of our invoices, by the days on which the payments last changed.
///
/// # Errors
/// QAD gave no answer.
pub async fn paid_between(
    books: &[&dyn QadPayments],
    policy: &PaymentPolicy,
    since: Date,
    until: Option<Date>,
) -> Result<Paid, ReadError> {
    let mut paid = Paid::default();
    // One entity may pay for another: both may show the payment.
    let mut seen = BTreeSet::new();
    for qad in books {
        for allocation in qad.payments_since(since).await?.allocations {
            let counts = policy.meaning_of(&allocation.status) == StatusMeaning::Counts
                && until.is_none_or(|until| allocation.last_modified <= until);
            if counts && seen.insert(allocation.key.clone()) {
                let of_invoice = paid.0.entry(folded(&allocation.invoice)).or_default();
                of_invoice.push(allocation);
            }
        }
    }
    Ok(paid)
}

/// Whether the payments of these books have ever been polled: who does not want them in Coupa is not told that they are missing.
pub(super) async fn is_followed(
    register: &dyn Register,
    all: &[Books<'_>],
    books: &Books<'_>,
) -> Result<bool, FlowError> {
    let scope = if all.len() < 2 {
        Scope::Whole
    } else {
        Scope::Part {
            code: books.entity.folded(),
            first: all.first().is_some_and(|first| first.entity == books.entity),
        }
    };
    let stored = watermark::load_within::<Value>(register, poll_payments::WATERMARK, &scope).await?;
    Ok(stored.watermark.is_some())
}

#[cfg(test)]
mod tests {
    use super::super::{Deps, Run, Work};
    use super::*;
    use crate::feed::tests::ready;
    use crate::match_invoice::tests::settings;
    use crate::memory_register::MemoryRegister;
    use crate::poll_coupa::tests::Shop;
    use crate::ports::{BalanceScan, Chance, Commit, PaymentScan, ReceiptScan, RecordWrite, WriteError};
    use crate::store::{Context, render};
    use async_trait::async_trait;
    use domain::documents::{InvoiceParticulars, Order, Receipt};
    use domain::ids::{DocumentKind, InvoiceId, PurchaseOrderNumber};
    use domain::lifecycle::Summary;
    use domain::matching::SupplierInvoiceDraft;
    use domain::payments::{InvoiceBalance, PaymentKey, PaymentStatus};
    use domain::time::Timestamp;
    use domain::timing::Timing;
    use rust_decimal::Decimal;

    /// Books in which there is no document.
    struct Empty;

    #[async_trait]
    impl Qad for Empty {
        async fn order(&self, _: &PurchaseOrderNumber) -> Result<Option<Order>, ReadError> {
            panic!("a comparison reads no order")
        }
        async fn receipts_of_order(&self, _: &PurchaseOrderNumber) -> Result<Vec<Receipt>, ReadError> {
            panic!("a comparison reads no receipt")
        }
        async fn receipts_since(&self, _: Date, _: u32) -> Result<ReceiptScan, ReadError> {
            panic!("a comparison reads no receipt")
        }
        async fn books_are_open(&self, _: Date) -> Result<Option<bool>, ReadError> {
            panic!("a comparison reads no period")
        }
        async fn find_invoices(&self, _: &QadInvoiceIdentity) -> Result<Vec<QadDocument>, ReadError> {
            Ok(Vec::new())
        }
        async fn create_invoice(&self, _: &SupplierInvoiceDraft, _: &str) -> Result<QadDocument, WriteError> {
            panic!("a comparison writes nothing")
        }
    }

    #[async_trait]
    impl QadPayments for Empty {
        async fn balances_since(&self, _: Date) -> Result<BalanceScan, ReadError> {
            panic!("a comparison reads no balance")
        }
        async fn balances_of(
            &self,
            _: &QadInvoiceIdentity,
            _: Date,
        ) -> Result<Vec<InvoiceBalance>, ReadError> {
            panic!("a comparison reads no balance")
        }
        async fn payments_since(&self, _: Date) -> Result<PaymentScan, ReadError> {
            panic!("what was paid is given")
        }
    }

    fn invoice(id: u64) -> InvoiceRecord {
        let mut record = InvoiceRecord::new(InvoiceId(id), Timestamp(0));
        record.summary = Some(Summary {
            reference: format!("INV-{id}").parse().unwrap(),
            kind: DocumentKind::Invoice,
            supplier_name: "Example Castings".into(),
            supplier_number: Some("10S1001".into()),
            invoice_date: "2026-03-05".parse().unwrap(),
            total: Decimal::from(100),
            currency: "USD".parse().unwrap(),
            orders: vec![],
            particulars: InvoiceParticulars::default(),
        });
        record
    }

    fn payment(of: &QadInvoiceIdentity) -> Allocation {
        Allocation {
            key: PaymentKey::new(&of.entity, 2026, "ACH", of.reference.as_str(), "1").unwrap(),
            invoice: of.clone(),
            status: PaymentStatus::Paid,
            currency: "USD".parse().unwrap(),
            payment_date: "2026-03-20".parse().unwrap(),
            last_modified: "2026-03-20".parse().unwrap(),
            reference: "ACH-1".to_owned(),
            allocated: Decimal::from(100),
            discount: Decimal::ZERO,
            in_invoice_currency: None,
            voucher: None,
        }
    }

    /// The daily run would end at this invoice on every day, and compare nothing behind it.
    #[test]
    fn a_bill_that_cannot_be_read_is_one_difference_and_hides_no_other() {
        let (register, shop, timing) = (MemoryRegister::new(), Shop::new(0), Timing::default());
        let records = [1, 2].map(invoice);
        let mut writes: Vec<(RecordKey, String)> = records
            .iter()
            .map(|record| (RecordKey::Invoice(record.id), render(record).unwrap()))
            .collect();
        writes.push((bill_key(InvoiceId(1)), r#"{"layout":9}"#.to_owned()));
        let commit = Commit {
            token: shop.model.token(),
            writes: writes
                .into_iter()
                .map(|(key, body)| RecordWrite::Put {
                    key,
                    seen: 0,
                    body,
                    state: String::new(),
                    due: None,
                })
                .collect(),
            audit: vec![],
        };
        ready(register.commit(commit)).unwrap();

        let (settings, policy) = (settings(), PaymentPolicy::default());
        let books = [Books::of((&settings.policy.entity, &Empty))];
        let deps = Deps {
            context: Context {
                register: &register,
                clock: &shop.model,
                chance: &shop.model,
                timing: &timing,
                deadline: Timestamp(i64::MAX),
            },
            index: &register,
            coupa: &shop,
            books: &books,
            settings: &settings,
            payments: &policy,
            anew: true,
            tell: &|_| (),
        };
        let paid = records.iter().map(|record| {
            let identity = identity_of(&settings.policy.entity, record).unwrap();
            (folded(&identity), vec![payment(&identity)])
        });
        let mut work = Work {
            deps: &deps,
            known: BTreeMap::new(),
            paid: Some(Paid(paid.collect())),
        };
        let mut run = Run::new(Timestamp(0));
        let ids = records.map(|record| record.id);
        ready(work.look_up(&mut run, &ids, false)).unwrap();
        let found: Vec<(InvoiceId, Kind)> = run
            .unexplained
            .iter()
            .map(|one| (one.invoice, one.kind))
            .collect();
        let expected = [(1, Kind::NotLookedUp), (2, Kind::PaidInQadNotInCoupa)];
        assert_eq!(found, expected.map(|(id, kind)| (InvoiceId(id), kind)));
        assert!(
            run.unexplained[0].what.contains("REGISTER_RECORD_UNREADABLE"),
            "{:?}",
            run.unexplained
        );
    }

    #[test]
    fn an_item_that_cannot_be_taken_apart_is_one_difference_and_a_register_that_does_not_answer_is_none() {
        let store = |code: &str| PollError::from(StoreError(Problem::new(code, "")));
        assert!(unreadable(&store(ITEM_UNREADABLE)).is_some());
        assert!(unreadable(&store("DYNAMODB_UNAVAILABLE")).is_none());
        assert!(unreadable(&FlowError::Contended.into()).is_none());
        assert!(
            unreadable(&ReadError::Unreadable(Problem::new("QAD_ANSWER_UNREADABLE", "")).into()).is_none()
        );
    }
}
