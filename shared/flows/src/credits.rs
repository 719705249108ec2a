//! What is credited of each invoice: by every credit note that names it, of whatever connection of the tenant, sent by us or keyed
//! by hand and taken over. It is kept under the identity that the named invoice has in QAD, and written with the approval of the
//! credit note, so that of two that come at once one sees the other.

use crate::match_invoice::may_be_in_qad;
use crate::neighbours::{self, Home};
use crate::ports::{RecordKey, RecordWrite, Register, StoredRecord};
use crate::store::{FlowError, parse, render};
use domain::ids::{ConnectionId, Holder, InvoiceId, QadInvoiceIdentity};
use domain::lifecycle::InvoiceRecord;
use domain::money::Currency;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What one credit note credits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Share {
    connection: ConnectionId,
    credit_note: InvoiceId,
    currency: Currency,
    /// With taxes; not negative.
    amount: Decimal,
}

/// What is kept of one invoice.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    /// By those that are in QAD.
    settled: BTreeMap<Currency, Decimal>,
    /// By the others that have been approved.
    open: Vec<Share>,
}

/// What others credit of one invoice, as it was read.
#[derive(Debug, Clone)]
pub(crate) struct Credits {
    key: RecordKey,
    name: String,
    revision: u64,
    kept: Kept,
    /// Whether the one that asks is among those that have been approved.
    is_own_open: bool,
}

impl Credits {
    /// Takes what is kept of an invoice from what was read at [`Home::credits_key`], without those credit notes that came to
    /// nothing, and without `own`.
    pub(crate) async fn of(
        register: &dyn Register,
        home: &Home,
        credited: &QadInvoiceIdentity,
        stored: Option<&StoredRecord>,
        own: InvoiceId,
    ) -> Result<Self, FlowError> {
        let name = Home::credits_name(credited);
        let mut kept = stored.map(parse::<Kept>).transpose()?.unwrap_or_default();
        let mut open = std::mem::take(&mut kept.open);
        let all = open.len();
        open.retain(|share| home.holder(&share.connection, share.credit_note) != Holder::own(own));
        let is_own_open = open.len() < all;
        let holder_of = |share: &Share| home.holder(&share.connection, share.credit_note);
        let holders: BTreeSet<Holder> = open.iter().map(holder_of).collect();
        let records = neighbours::invoices(register, &holders).await?;
        for share in open {
            // One that is not there is no proof that it came to nothing.
            let Some(record) = records.get(&holder_of(&share)) else {
                kept.open.push(share);
                continue;
            };
            if record.credits.as_ref() != Some(&name) || !may_be_in_qad(record) {
                continue;
            }
            if record.state.voucher().is_some() {
                let sum = kept.settled.entry(share.currency).or_default();
                *sum = sum.saturating_add(share.amount);
            } else {
                kept.open.push(share);
            }
        }
        Ok(Self {
            key: home.credits_key(credited),
            name,
            revision: stored.map_or(0, |stored| stored.revision),
            kept,
            is_own_open,
        })
    }

    /// True for a credit note in QAD that is counted with the settled ones already: another one that was written since has moved
    /// it there, where nothing is taken out again. What it credits then stands as it was first kept.
    pub(crate) fn has_settled(&self, record: &InvoiceRecord) -> bool {
        record.credits.as_ref() == Some(&self.name) && record.state.voucher().is_some() && !self.is_own_open
    }

    /// How much others credit in a currency.
    pub(crate) fn by_others(&self, currency: Currency) -> Decimal {
        let settled = self.kept.settled.get(&currency).copied().unwrap_or_default();
        let open = self.kept.open.iter().filter(|share| share.currency == currency);
        open.fold(settled, |sum, share| sum.saturating_add(share.amount))
    }

    /// Keeps what a credit note of the connection that asks credits, and in its record that it is kept here.
    pub(crate) fn write(
        &self,
        home: &Home,
        record: &mut InvoiceRecord,
        currency: Currency,
        total: Decimal,
    ) -> Result<RecordWrite, FlowError> {
        let mut kept = self.kept.clone();
        kept.open.push(Share {
            connection: home.connection.clone(),
            credit_note: record.id,
            currency,
            amount: total.abs(),
        });
        record.credits = Some(self.name.clone());
        Ok(RecordWrite::Put {
            key: self.key.clone(),
            seen: self.revision,
            body: render(&kept)?,
            state: String::new(),
            due: None,
        })
    }
}
