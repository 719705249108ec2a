//! Payment allocations: one row per allocation, selected by the day of their last change.

use super::translate::{Row, UNREADABLE, UNREADABLE_FIX};
use super::wire::Criterion;
use super::{Profile, QadClient};
use crate::json::{Misread, Node};
use crate::negative;
use async_trait::async_trait;
use domain::ids::{DocumentKind, EntityCode, QadInvoiceIdentity, fold};
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
    row.same("entity", entity.as_str())?;
    let kind = match row.get("type").text()?.map(|word| fold(&word)) {
        Some(word) if word == fold(&profile.invoice_type) => DocumentKind::Invoice,
        Some(word) if word == fold(&profile.credit_note_type) => DocumentKind::CreditNote,
        _ => return Ok(None),
    };
    let Some(reference) = row.get("reference").text()? else {
        return Ok(None);
    };
    let number = row.get("number");
    let key = PaymentKey::new(
        entity,
        row.get("year").required_u32()?,
        &row.get("instrument").required_text()?,
        &plain(&number)?,
        &plain(&row.get("allocation"))?,
    )
    .ok_or_else(|| number.misread("a payment number that fits into a key"))?;
    let supplier = row.get("supplier");
    let invoice = Allocation::identity(entity.as_str(), &supplier.required_text()?, &reference, kind)
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
        allocated: signed(row.get("allocated").required_decimal()?),
        discount: signed(row.get("discount").decimal()?.unwrap_or_default()),
    }))
}

#[async_trait]
impl QadPayments for QadClient {
    async fn payments_since(&self, since: Date) -> Result<PaymentScan, ReadError> {
        let resource = &self.profile.payments;
        let criteria = [
            Criterion::equal("entity", self.entity.as_str()),
            Criterion::at_least("since", since.to_string()),
        ];
        let rows = self.rows("list_payments", resource, &criteria).await?;
        Ok(payments(
            &self.view(&rows, resource),
            &self.profile,
            &self.entity,
            since,
        ))
    }
}
