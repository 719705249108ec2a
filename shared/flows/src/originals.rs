//! The invoice that a credit note names as the one it corrects: which it is, and what has become of it.

use crate::claims::{Cancellation, cancellation_key};
use crate::credits::Credits;
use crate::index;
use crate::invoice_effects::draft_of;
use crate::match_invoice::{Deps, EXPORTED_BY_OTHERS, may_be_in_qad, read_invoices};
use crate::ports::ROWS_MAX;
use crate::store::{FlowError, parse};
use crate::waiting;
use domain::documents::Invoice;
use domain::entities::OUT_OF_SCOPE;
use domain::ids::{DocumentKind, InvoiceId, OrderLineKey, QadInvoiceIdentity, SupplierCode};
use domain::lifecycle::{InvoiceRecord, PostedHow, State};
use domain::matching::{Credited, Original};
use domain::money::Currency;
use rust_decimal::Decimal;
use std::collections::{BTreeMap, BTreeSet};

/// The identity of the invoice that a credit note names as the one it corrects.
pub(crate) fn corrected(invoice: &Invoice, identity: &QadInvoiceIdentity) -> Option<QadInvoiceIdentity> {
    let reference = invoice.original_reference.as_ref()?.parse().ok()?;
    (invoice.kind == DocumentKind::CreditNote).then(|| QadInvoiceIdentity {
        reference,
        kind: DocumentKind::Invoice,
        ..identity.clone()
    })
}

/// What is known of the invoice that a credit note corrects.
#[derive(Debug, Default)]
pub(crate) struct Corrected {
    /// What has become of it.
    pub(crate) original: Option<Original>,
    /// The revision of what is kept of its cancellation; 0 for nothing.
    pub(crate) cancellation: u64,
    /// What it bills, and what others credit of it.
    pub(crate) credited: Option<Credited>,
}

/// The invoice that a credit note corrects: the one that has claimed the identity, else one that is known by this number,
/// whatever has become of it. One of another connection (`elsewhere`) only says what it bills: its cancellation is kept there.
pub(crate) async fn original(
    deps: &Deps<'_>,
    invoice: &Invoice,
    corrected: &QadInvoiceIdentity,
    claimed: Option<&InvoiceRecord>,
    elsewhere: Option<&InvoiceRecord>,
    credits: Option<&Credits>,
) -> Result<Corrected, FlowError> {
    let of_claim = claimed.map(original_of).transpose()?.flatten();
    let is_posted = |original: &Original| matches!(original, Original::Posted { .. });
    let owners = || claimed.into_iter().chain(elsewhere);
    let mut found = of_claim.filter(is_posted);
    let mut credited = credited(invoice, owners(), credits)?;
    // Of two years' invoices of one number only one has the claim.
    let is_too_much = credited
        .as_ref()
        .is_some_and(|credited| credited.by_others.saturating_sub(invoice.total) > credited.billed);
    if found.is_none() || is_too_much {
        let known = known_originals(deps, invoice, corrected).await?;
        let others = known
            .values()
            .filter(|record| claimed.is_none_or(|claimed| claimed.id != record.id));
        credited = self::credited(invoice, owners().chain(others), credits)?;
        let all = claimed.into_iter().chain(known.values()).map(original_of);
        let all = all.collect::<Result<Vec<_>, FlowError>>()?;
        // One that can still be posted counts before one that is gone: it was entered again.
        found = all.into_iter().flatten().min_by_key(|original| match original {
            Original::Posted { .. } => 0,
            Original::NotPosted { .. } => 1,
            Original::Gone { .. } => 2,
        });
    }
    let Some(Original::Posted { draft, cancelled_by }) = &mut found else {
        return Ok(Corrected {
            original: found,
            cancellation: 0,
            credited,
        });
    };
    let kept = deps
        .context
        .register
        .read(&[cancellation_key(draft.coupa_id)])
        .await?;
    let Some(kept) = kept.into_iter().next().flatten() else {
        return Ok(Corrected {
            original: found,
            cancellation: 0,
            credited,
        });
    };
    let Cancellation { by } = parse(&kept)?;
    let others = read_invoices(deps, BTreeSet::from([by])).await?;
    if let Some(other) = others.get(&by).filter(|other| other.id != invoice.id) {
        let request = other
            .creation
            .as_ref()
            .map(draft_of)
            .transpose()
            .map_err(FlowError::Broken)?;
        let cancels = request.is_some_and(|request| request.cancels == Some(draft.coupa_id));
        *cancelled_by = (cancels && may_be_in_qad(other)).then_some(by);
    }
    Ok(Corrected {
        original: found,
        cancellation: kept.revision,
        credited,
    })
}

/// What these invoices of one number bill, and what others than this credit note credit of them. Those that are in QAD, or
/// perhaps there, count together; of those that only may come to be, such as a bill that was entered twice, the largest does.
/// `None` for a credit note that credits no goods: what it credits is not counted.
fn credited<'a>(
    invoice: &Invoice,
    records: impl Iterator<Item = &'a InvoiceRecord>,
    credits: Option<&Credits>,
) -> Result<Option<Credited>, FlowError> {
    let Some(credits) = credits else {
        return Ok(None);
    };
    let mut in_qad = BTreeMap::<Currency, Decimal>::new();
    let mut to_come = BTreeMap::<Currency, Decimal>::new();
    for record in records {
        let Some((billed, currency)) = billed_by(record)? else {
            continue;
        };
        if may_be_in_qad(record) {
            let sum = in_qad.entry(currency).or_default();
            *sum = sum.saturating_add(billed);
        } else {
            let most = to_come.entry(currency).or_default();
            *most = billed.max(*most);
        }
    }
    let billed = if in_qad.is_empty() { to_come } else { in_qad };
    let of_its_own = billed.get_key_value(&invoice.currency);
    let of_any = of_its_own.or_else(|| billed.first_key_value());
    Ok(of_any.map(|(currency, billed)| Credited {
        billed: *billed,
        currency: *currency,
        by_others: credits.by_others(*currency),
    }))
}

/// What an invoice bills with taxes: as it was sent, else as QAD has it, else as Coupa shows it. `None` for one that was voided or
/// taken out before it was posted, and for what is none of ours.
fn billed_by(record: &InvoiceRecord) -> Result<Option<(Decimal, Currency)>, FlowError> {
    let Some(summary) = &record.summary else {
        return Ok(None);
    };
    let is_gone = matches!(record.state, State::Voided { .. } | State::Rejected { .. });
    if is_gone && !may_be_in_qad(record) {
        return Ok(None);
    }
    let sent = record.creation.as_ref().filter(|_| may_be_in_qad(record));
    let draft = sent.map(draft_of).transpose().map_err(FlowError::Broken)?;
    Ok(Some(match (draft, record.posted_total) {
        (Some(draft), _) if !was_matched_by_others(&record.state) => (draft.total, draft.currency),
        (_, Some(total)) => (total, summary.currency),
        (_, None) => (summary.total, summary.currency),
    }))
}

/// True for a document in QAD that this register has not sent.
fn was_matched_by_others(state: &State) -> bool {
    matches!(state, State::Posted { how, .. } | State::Exported { how, .. }
        if matches!(how, PostedHow::Adopted | PostedHow::Restored))
}

/// The invoices of the number and supplier that a credit note names: those that wait for its order lines, and those that the
/// index knows by the number.
async fn known_originals(
    deps: &Deps<'_>,
    invoice: &Invoice,
    corrected: &QadInvoiceIdentity,
) -> Result<BTreeMap<InvoiceId, InvoiceRecord>, FlowError> {
    let lines: BTreeSet<OrderLineKey> = invoice
        .lines
        .iter()
        .filter_map(|line| line.order_line.clone())
        .take(waiting::AWAITED_LINES_MAX)
        .collect();
    let mut ids = waiting::invoices(deps.context.register, lines).await?;
    ids.extend(index::numbered(deps.index, corrected.reference.as_str(), ROWS_MAX).await?);
    ids.remove(&invoice.id);
    let mut known = read_invoices(deps, ids).await?;
    let is_of_supplier = |record: &InvoiceRecord, number: &str| {
        let by_code = number
            .parse::<SupplierCode>()
            .is_ok_and(|number| number == corrected.supplier);
        by_code || (record.coupa_supplier.is_some() && record.coupa_supplier == invoice.supplier.coupa_id)
    };
    known.retain(|_, record| {
        let entity = record.entity.as_ref();
        entity.is_none_or(|entity| *entity == corrected.entity)
            && record.summary.as_ref().is_some_and(|summary| {
                summary.kind == DocumentKind::Invoice
                    && summary.reference == corrected.reference
                    && is_of_supplier(record, summary.supplier_number.as_deref().unwrap_or_default())
            })
    });
    Ok(known)
}

/// What has become of the invoice that a credit note corrects. One that this register has not sent was matched by somebody
/// else: what to take back is not known here.
///
/// # Errors
/// A stored request that is not what was approved: what to take back cannot be told from it.
fn original_of(record: &InvoiceRecord) -> Result<Option<Original>, FlowError> {
    let Some(summary) = &record.summary else {
        return Ok(None);
    };
    let (invoice, total, state) = (record.id, summary.total, record.state.word());
    Ok(match &record.state {
        state if was_matched_by_others(state) => None,
        state if state.voucher().is_some() => {
            let draft = record
                .creation
                .as_ref()
                .map(draft_of)
                .transpose()
                .map_err(FlowError::Broken)?;
            draft.map(|draft| Original::Posted {
                draft: Box::new(draft),
                cancelled_by: None,
            })
        }
        // None of ours.
        State::Rejected { problem }
            if [EXPORTED_BY_OTHERS, OUT_OF_SCOPE].contains(&problem.code.as_str()) =>
        {
            None
        }
        State::Voided { .. } | State::Rejected { .. } => Some(Original::Gone {
            invoice,
            total,
            state,
        }),
        _ => Some(Original::NotPosted {
            invoice,
            total,
            state,
        }),
    })
}
