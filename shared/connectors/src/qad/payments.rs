//! Payment allocations: one row per allocation, selected by the day of their last change.

use super::translate::{Row, UNREADABLE, UNREADABLE_FIX, amount, required_amount};
use super::wire::Criterion;
use super::{Profile, QadClient};
use crate::json::{Json, Misread, Node};
use async_trait::async_trait;
use domain::ids::{DocumentKind, EntityCode, QadInvoiceIdentity, fold};
use domain::money::negative;
use domain::payments::{Allocation, InvoiceBalance, PaymentKey, PaymentStatus, QadVoucher};
use domain::time::Date;
use flows::ports::{BalanceScan, PaymentScan, QadPayments, ReadError};
use std::collections::{BTreeMap, BTreeSet};

/// Reads rows; an allocation that comes twice with different figures is told, not guessed.
fn payments(rows: &[Row<'_>], profile: &Profile, entity: &EntityCode, since: Date) -> PaymentScan {
    let mut known: BTreeMap<PaymentKey, Allocation> = BTreeMap::new();
    let mut ambiguous: BTreeSet<PaymentKey> = BTreeSet::new();
    let mut unread: Vec<Date> = Vec::new();
    let mut scan = PaymentScan::default();
    for row in rows {
        match payment(row, profile, entity) {
            Ok(None) => scan.others = scan.others.saturating_add(1),
            Err(misread) => {
                scan.unreadable.push(misread.problem(UNREADABLE, UNREADABLE_FIX));
                unread.push(row.get("last-modified").required_date().unwrap_or(since));
            }
            Ok(Some(allocation)) => match known.get(&allocation.key) {
                Some(same) if *same == allocation => {}
                Some(_) => {
                    let expected = format!("one row for {}", allocation.key);
                    let fix = "Two rows of one allocation differ: name the allocation's field in qad.profile.payments.";
                    let misread = row.get("allocation").misread(expected);
                    scan.unreadable
                        .push(misread.problem("QAD_PAYMENT_AMBIGUOUS", fix));
                    unread.push(allocation.last_modified);
                    ambiguous.insert(allocation.key);
                }
                None => {
                    known.insert(allocation.key.clone(), allocation);
                }
            },
        }
    }
    unread.extend(
        known
            .values()
            .filter(|one| ambiguous.contains(&one.key))
            .map(|one| one.last_modified),
    );
    known.retain(|key, _| !ambiguous.contains(key));
    scan.unread_since = unread.into_iter().min();
    scan.allocations = known.into_values().collect();
    scan
}

/// A number as people write it: `1207` also when QAD says `1207.0`. What is no number stays as it is.
fn plain(node: &Node<'_>) -> Result<String, Misread> {
    let text = node.required_text()?;
    Ok(match text.split_once('.') {
        Some((whole, zeros))
            if !whole.is_empty()
                && whole.bytes().all(|byte| byte.is_ascii_digit())
                && zeros.bytes().all(|byte| byte == b'0') =>
        {
            whole.to_owned()
        }
        _ => text,
    })
}

/// Reads one row; `None` for one that pays neither an invoice nor a credit note.
fn payment(row: &Row<'_>, profile: &Profile, entity: &EntityCode) -> Result<Option<Allocation>, Misread> {
    let payer = row.get("entity").required::<EntityCode>("an entity code")?;
    // Whose invoice it pays: a central payer pays those of other entities.
    let owner = row
        .get("invoice-entity")
        .parsed::<EntityCode>()?
        .unwrap_or_else(|| payer.clone());
    if payer.folded() != entity.folded() && owner.folded() != entity.folded() {
        let expected = format!("{entity}, which was asked for, as the payer or the owner of the invoice");
        return Err(row.get("entity").misread(expected));
    }
    let Some(kind) = kind_of(row, profile)? else {
        return Ok(None);
    };
    let Some(reference) = row.get("reference").text()? else {
        return Ok(None);
    };
    let number = row.get("number");
    let key = PaymentKey::new(
        &payer,
        row.get("year").required_u32()?,
        &row.get("instrument").required_text()?,
        &plain(&number)?,
        &plain(&row.get("allocation"))?,
    )
    .ok_or_else(|| number.misread("a payment number that fits into a key"))?;
    let supplier = row.get("supplier");
    let invoice = Allocation::identity(owner.as_str(), &supplier.required_text()?, &reference, kind)
        .ok_or_else(|| supplier.misread("a supplier code and an invoice reference"))?;
    // A credit note's amounts come with either sign; ours are negative, as its total is.
    let signed = |amount| match kind {
        DocumentKind::Invoice => amount,
        DocumentKind::CreditNote => negative(amount),
    };
    Ok(Some(Allocation {
        key,
        invoice,
        status: PaymentStatus::from(row.get("status").required_text()?),
        currency: row.get("currency").required("a currency")?,
        payment_date: row.get("date").required_date()?,
        last_modified: row.get("last-modified").required_date()?,
        reference: row.get("payment-reference").text()?.unwrap_or_default(),
        allocated: signed(required_amount(&row.get("allocated"))?),
        discount: signed(amount(&row.get("discount"))?.unwrap_or_default()),
        in_invoice_currency: amount(&row.get("invoice-allocated"))?.map(signed),
        voucher: voucher(row, "invoice-year", "invoice-voucher")?,
    }))
}

/// Invoice or credit note, in the tenant's words; `None` for anything else (a payment on account, a prepayment).
fn kind_of(row: &Row<'_>, profile: &Profile) -> Result<Option<DocumentKind>, Misread> {
    Ok(match row.get("type").text()?.map(|word| fold(&word)) {
        Some(word) if word == fold(&profile.invoice_type) => Some(DocumentKind::Invoice),
        Some(word) if word == fold(&profile.credit_note_type) => Some(DocumentKind::CreditNote),
        _ => None,
    })
}

/// Posting year and voucher number together, where the tenant shows them; 0 is QAD's "not assigned yet".
fn voucher<'a>(row: &Row<'a>, year: &'a str, number: &'a str) -> Result<Option<QadVoucher>, Misread> {
    let shown = (
        row.get(year).whole()?,
        row.get(number).whole()?.filter(|one| *one > 0),
    );
    let (Some(shown_year), Some(number)) = shown else {
        return Ok(None);
    };
    let year = u32::try_from(shown_year).map_err(|_| row.get(year).misread("a year"))?;
    Ok(Some(QadVoucher { year, number }))
}

/// Reads what is owed of one supplier invoice; `None` for what is neither invoice nor credit note.
fn balance(row: &Row<'_>, profile: &Profile, on: Date) -> Result<Option<InvoiceBalance>, Misread> {
    let Some(kind) = kind_of(row, profile)? else {
        return Ok(None);
    };
    let signed = |amount| match kind {
        DocumentKind::Invoice => amount,
        DocumentKind::CreditNote => negative(amount),
    };
    Ok(Some(InvoiceBalance {
        invoice: QadInvoiceIdentity {
            entity: row.get("entity").required("an entity code")?,
            supplier: row.get("supplier").required("a supplier code")?,
            reference: row.get("reference").required("an invoice reference")?,
            kind,
        },
        voucher: voucher(row, "posting-year", "voucher")?,
        currency: row.get("currency").required("a currency")?,
        is_open: row.get("is-open").flag()?,
        balance: amount(&row.get("balance"))?.map(signed),
        on,
    }))
}

/// Reads the list of changed invoices. What has no supplier's number of its own is none of ours.
fn balances(rows: &[Row<'_>], profile: &Profile, entity: &EntityCode) -> BalanceScan {
    let mut scan = BalanceScan::default();
    for row in rows {
        let read = || -> Result<Option<InvoiceBalance>, Misread> {
            row.same("entity", entity.as_str())?;
            if row.get("reference").text()?.is_none() {
                return Ok(None);
            }
            balance(row, profile, row.get("last-modified").required_date()?)
        };
        match read() {
            Ok(found) => scan.balances.extend(found),
            Err(misread) => scan.unreadable.push(misread.problem(UNREADABLE, UNREADABLE_FIX)),
        }
    }
    scan
}

impl QadClient {
    /// What other entities pay of our invoices (a central payer). Optional: a tenant whose browse cannot be asked for it
    /// shows no such payments, and that is said in the log.
    async fn central_payments(&self, since: Date) -> Result<Vec<Json>, ReadError> {
        let resource = &self.profile.payments;
        let criteria = [
            Criterion::equal("invoice-entity", self.entity.as_str()),
            Criterion::at_least("since", since.to_string()),
        ];
        let mut rows = match self.rows("list_central_payments", resource, &criteria).await {
            Ok(rows) => rows,
            Err(ReadError::Refused(problem)) if !problem.is_credential_refused() => {
                tracing::info!(code = %problem.code, %problem,
                    "payments by other entities are not shown: QAD cannot be asked for them");
                return Ok(Vec::new());
            }
            Err(error) => return Err(error),
        };
        // A browse that does not know the filter shows everybody's.
        let field = resource.field("invoice-entity");
        rows.retain(|row| {
            let shown = Node::root(row).get(field).text().ok().flatten();
            shown.is_some_and(|shown| fold(&shown) == self.entity.folded())
        });
        Ok(rows)
    }
}

#[async_trait]
impl QadPayments for QadClient {
    async fn payments_since(&self, since: Date) -> Result<PaymentScan, ReadError> {
        let resource = &self.profile.payments;
        let since_then = || Criterion::at_least("since", since.to_string());
        let criteria = [Criterion::equal("entity", self.entity.as_str()), since_then()];
        let mut rows = self.rows("list_payments", resource, &criteria).await?;
        rows.extend(self.central_payments(since).await?);
        Ok(payments(
            &self.view(&rows, resource),
            &self.profile,
            &self.entity,
            since,
        ))
    }

    async fn balances_since(&self, since: Date) -> Result<BalanceScan, ReadError> {
        let resource = &self.profile.changed_invoices;
        let criteria = [
            Criterion::equal("entity", self.entity.as_str()),
            Criterion::at_least("since", since.to_string()),
        ];
        let rows = self.rows("list_changed_invoices", resource, &criteria).await?;
        Ok(balances(&self.view(&rows, resource), &self.profile, &self.entity))
    }

    async fn balances_of(
        &self,
        invoice: &QadInvoiceIdentity,
        on: Date,
    ) -> Result<Vec<InvoiceBalance>, ReadError> {
        let resource = &self.profile.supplier_invoices;
        let rows = self.invoice_rows(invoice).await?;
        let mut found = Vec::new();
        for row in self.view(&rows, resource) {
            let read = balance(&row, &self.profile, on)
                .map_err(|misread| ReadError::Unreadable(misread.problem(UNREADABLE, UNREADABLE_FIX)))?;
            found.extend(read.filter(|read| read.invoice == *invoice));
        }
        Ok(found)
    }
}
