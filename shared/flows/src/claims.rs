//! Which of our invoices has a QAD identity, and which of our bills resemble one another. Both are written in the transaction
//! that approves an invoice or takes a document for it, so that of two that come at once one sees the other.

use crate::bills::claimed;
use crate::neighbours::{Elsewhere, Home};
use crate::ports::{RecordKey, RecordWrite, StoredRecord};
use crate::store::{FlowError, parse, render};
use domain::documents::Invoice;
use domain::ids::{EntityCode, InvoiceId, QadInvoiceIdentity, SupplierCode};
use domain::matching::alike::{BillAlike, near_texts};
use domain::time::Timestamp;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Most bills that are kept as resembling one another. A person has released every one after the first, so those that are
/// dated the earliest make way.
const ALIKE_KEPT_MAX: usize = 50;

/// Who owns a QAD identity: at most one of our invoices, ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdentityClaim {
    /// The invoice.
    pub owner: InvoiceId,
}

/// The register key that makes a QAD identity unique: codes compared as QAD compares, invoice numbers as
/// [`domain::reference`] does.
pub fn identity_key(identity: &QadInvoiceIdentity) -> RecordKey {
    key_of(identity, identity.reference.folded())
}

fn key_of(identity: &QadInvoiceIdentity, reference: String) -> RecordKey {
    RecordKey::Effect(text_of(identity, reference))
}

/// The text of [`identity_key`].
pub(crate) fn identity_text(identity: &QadInvoiceIdentity) -> String {
    text_of(identity, identity.reference.folded())
}

fn text_of(identity: &QadInvoiceIdentity, reference: String) -> String {
    let parts = [
        identity.entity.folded(),
        identity.supplier.folded(),
        reference,
        identity.kind.to_string(),
    ];
    // Lengths in front of the parts: no two identities can spell the same key.
    let text: Vec<String> = parts
        .iter()
        .map(|part| format!("{}:{part}", part.chars().count()))
        .collect();
    format!("supplier-invoice/{}", text.join("/"))
}

/// The keys under which an identity may be claimed: today's, and the one from when invoice numbers were compared as codes are,
/// where that is another.
pub(crate) fn claim_keys(identity: &QadInvoiceIdentity) -> Vec<RecordKey> {
    let folded = identity.reference.folded();
    let earlier = domain::ids::fold(identity.reference.as_str());
    let mut keys = vec![identity_key(identity)];
    if earlier != folded {
        keys.push(key_of(identity, earlier));
    }
    keys
}

/// The key that makes an identity unique within a posting year, for an invoice that a person has released beside another of the
/// same number.
pub(crate) fn year_key(identity: &QadInvoiceIdentity, year: u32) -> RecordKey {
    match identity_key(identity) {
        RecordKey::Effect(text) => RecordKey::Effect(format!("{text}/{year}")),
        other => other,
    }
}

/// Where a QAD identity is claimed, or is to be. What was claimed under the earlier key stays there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClaimPlace {
    /// The key.
    pub(crate) key: RecordKey,
    /// Its revision as it was read; 0 for none.
    pub(crate) revision: u64,
}

impl ClaimPlace {
    /// Takes the answer to [`claim_keys`] from what was read, with the claim when there is one.
    pub(crate) fn among(
        identity: &QadInvoiceIdentity,
        found: &mut impl Iterator<Item = Option<StoredRecord>>,
    ) -> (Self, Option<StoredRecord>) {
        let count = claim_keys(identity).len();
        let claims: Vec<StoredRecord> = found.take(count).flatten().collect();
        let place = claims.first().map_or_else(
            || Self {
                key: identity_key(identity),
                revision: 0,
            },
            |stored| Self {
                key: stored.key.clone(),
                revision: stored.revision,
            },
        );
        (place, claims.into_iter().next())
    }

    /// Makes sure that the claim is as it was read.
    pub(crate) fn check(&self) -> RecordWrite {
        RecordWrite::Check {
            key: self.key.clone(),
            seen: self.revision,
        }
    }
}

/// A QAD identity that may be claimed.
#[derive(Debug)]
pub(crate) struct FreeIdentity {
    /// The identity.
    pub(crate) identity: QadInvoiceIdentity,
    /// Where this connection claims it: what its payments are found by.
    pub(crate) place: ClaimPlace,
    /// Where all connections of the tenant do.
    pub(crate) elsewhere: Elsewhere,
    /// QAD's payments of it that wait for an owner.
    pub(crate) payments: Option<StoredRecord>,
}

/// Claims a QAD identity, among this connection's invoices and among those of all connections of the tenant. Payments of it
/// that wait for an owner become due in the same moment.
pub(crate) fn claim_writes(
    now: Timestamp,
    home: &Home,
    owner: InvoiceId,
    free: &FreeIdentity,
) -> Result<Vec<RecordWrite>, FlowError> {
    let FreeIdentity {
        identity,
        place,
        elsewhere,
        payments,
    } = free;
    let claim = put(
        place.key.clone(),
        place.revision,
        render(&IdentityClaim { owner })?,
    );
    Ok(vec![
        claim,
        elsewhere.claim(home, owner)?,
        claimed(identity, payments.as_ref(), now)?,
    ])
}

fn put(key: RecordKey, seen: u64, body: String) -> RecordWrite {
    RecordWrite::Put {
        key,
        seen,
        body,
        state: String::new(),
        due: None,
    }
}

/// Which credit note cancels an invoice: kept under that invoice, and written with the approval of the credit note, so that of
/// two that come at once one sees the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Cancellation {
    /// The credit note.
    pub(crate) by: InvoiceId,
}

/// Where it is kept that an invoice is cancelled.
pub(crate) fn cancellation_key(original: InvoiceId) -> RecordKey {
    RecordKey::Effect(format!("cancelled-invoice/{original}"))
}

/// Keeps that a credit note cancels an invoice; `seen` is the revision of what was kept before.
pub(crate) fn cancellation_write(
    original: InvoiceId,
    by: InvoiceId,
    seen: u64,
) -> Result<RecordWrite, FlowError> {
    Ok(put(
        cancellation_key(original),
        seen,
        render(&Cancellation { by })?,
    ))
}

/// What our invoices have billed of an order that Coupa alone knows and receives.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct BilledInCoupa {
    /// By those that are in QAD, by order line.
    pub(crate) settled: BTreeMap<String, Decimal>,
    /// The others that have been approved: their own requests say how much.
    pub(crate) open: BTreeSet<InvoiceId>,
}

/// Where that is kept.
pub(crate) fn billed_in_coupa_key(order: &str) -> RecordKey {
    RecordKey::Effect(format!("billed-in-coupa/{order}"))
}

/// Keeps what is billed of such an order, with one more invoice; `seen` is the revision of what was kept before.
pub(crate) fn billed_in_coupa_write(
    order: &str,
    seen: u64,
    mut billed: BilledInCoupa,
    by: InvoiceId,
) -> Result<RecordWrite, FlowError> {
    billed.open.insert(by);
    Ok(put(billed_in_coupa_key(order), seen, render(&billed)?))
}

/// What is kept under one text.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct BillsAlike {
    bills: Vec<BillAlike>,
}

/// The bills that may be the same as one invoice, as they were read.
#[derive(Debug, Clone, Default)]
pub(crate) struct Near {
    kept: Vec<(RecordKey, u64, BillsAlike)>,
}

impl Near {
    /// Where they are kept.
    pub(crate) fn keys(invoice: &Invoice, supplier: &SupplierCode) -> Vec<RecordKey> {
        near_texts(invoice, supplier)
            .into_iter()
            .map(|text| RecordKey::Effect(format!("near-bill/{text}")))
            .collect()
    }

    /// Takes the answer to these keys from what was read.
    pub(crate) fn among(
        keys: Vec<RecordKey>,
        found: &mut impl Iterator<Item = Option<StoredRecord>>,
    ) -> Result<Self, FlowError> {
        let kept = keys.into_iter().map(|key| match found.next().flatten() {
            Some(stored) => Ok((key, stored.revision, parse::<BillsAlike>(&stored)?)),
            None => Ok((key, 0, BillsAlike::default())),
        });
        Ok(Self {
            kept: kept.collect::<Result<_, FlowError>>()?,
        })
    }

    /// All of them, each once.
    pub(crate) fn bills(&self) -> Vec<&BillAlike> {
        let mut bills: Vec<&BillAlike> = self.kept.iter().flat_map(|(_, _, kept)| &kept.bills).collect();
        bills.sort_by_key(|bill| bill.invoice);
        bills.dedup();
        bills
    }

    /// Adds the invoice to them.
    pub(crate) fn writes(
        &self,
        invoice: &Invoice,
        entity: &EntityCode,
    ) -> Result<Vec<RecordWrite>, FlowError> {
        let own = BillAlike {
            invoice: invoice.id,
            entity: entity.clone(),
            reference: invoice.reference.clone(),
            invoice_date: invoice.invoice_date,
        };
        self.kept
            .iter()
            .map(|(key, revision, kept)| {
                let mut kept = kept.clone();
                kept.bills.retain(|bill| bill.invoice != invoice.id);
                kept.bills.push(own.clone());
                kept.bills
                    .sort_by_key(|bill| std::cmp::Reverse(bill.invoice_date));
                kept.bills.truncate(ALIKE_KEPT_MAX);
                Ok(put(key.clone(), *revision, render(&kept)?))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::ids::DocumentKind;

    fn identity(reference: &str) -> QadInvoiceIdentity {
        QadInvoiceIdentity {
            entity: "10USACO".parse().unwrap(),
            supplier: "10S1007".parse().unwrap(),
            reference: reference.parse().unwrap(),
            kind: DocumentKind::Invoice,
        }
    }

    fn claim(key: RecordKey) -> StoredRecord {
        StoredRecord {
            key,
            revision: 7,
            body: Ok(r#"{"owner":90417}"#.to_owned()),
        }
    }

    #[test]
    fn a_number_that_the_eye_takes_for_another_ones_has_its_key() {
        let key = identity_key(&identity("ZW-7001"));
        assert_eq!(identity_key(&identity(" zw-7001\u{200b}")), key);
        assert_ne!(
            identity_key(&identity("MA\u{df}E")),
            identity_key(&identity("MASSE"))
        );
    }

    #[test]
    fn the_key_of_a_claim_never_changes() {
        let expected = "supplier-invoice/7:10USACO/7:10S1007/6:INV-1A/7:invoice";
        assert_eq!(
            identity_key(&identity("inv-1a")),
            RecordKey::Effect(expected.to_owned())
        );
        assert_eq!(claim_keys(&identity("inv-1a")).len(), 1);
    }

    #[test]
    fn what_was_claimed_under_the_earlier_key_is_found_and_stays_there() {
        let identity = identity("ma\u{df}e");
        let [today, earlier] = claim_keys(&identity).try_into().unwrap();
        assert_eq!(
            earlier,
            RecordKey::Effect("supplier-invoice/7:10USACO/7:10S1007/5:MASSE/7:invoice".to_owned())
        );
        let (place, found) =
            ClaimPlace::among(&identity, &mut [None, Some(claim(earlier.clone()))].into_iter());
        assert_eq!((place.key, place.revision), (earlier.clone(), 7));
        assert_eq!(found.unwrap().key, earlier);
        let (place, found) = ClaimPlace::among(&identity, &mut [None, None].into_iter());
        assert_eq!((place.key, place.revision, found.is_some()), (today, 0, false));
    }
}
