//! What a Coupa invoice adds up to: charges, taxes, what is withheld, and what of it is owed to the supplier.
//!
//! Taxes are read by one rule. Where a line, a charge or the header has tax rows, those of type `TaxLine` (or without a type)
//! count and the `tax-amount` beside them does not; `tax-amount` counts only where no row does. Rows of type
//! `WithholdingTaxLine` and `withholding-tax-lines` are never tax: what is withheld is part of what is owed, and QAD
//! withholds it when it pays.

use crate::json::{Misread, Node};
use domain::documents::{Charge, ChargeKind, Invoice, StatedTotal};
use domain::ids::DocumentKind;
use rust_decimal::Decimal;

use domain::money::negative;

/// Coupa's word for a row of tax, and for one that is withheld (confirmed).
const TAX_ROW: &str = "taxline";
const WITHHOLDING_ROW: &str = "withholdingtaxline";

/// Adds two amounts, or says where they leave the range.
pub(super) fn plus(
    sum: Option<Decimal>,
    amount: Option<Decimal>,
    at: &Node<'_>,
) -> Result<Option<Decimal>, Misread> {
    match (sum, amount) {
        (sum, None) => Ok(sum),
        (None, amount) => Ok(amount),
        (Some(sum), Some(amount)) => sum
            .checked_add(amount)
            .map(Some)
            .ok_or_else(|| at.misread("an amount within range")),
    }
}

/// The charges that are not zero. `invoice-charges` and the header's amounts are the same money: per kind the charges
/// when there are any, else the header's, which is coded to nothing. Charges of one kind and coding are one.
pub(super) fn charges(root: &Node<'_>) -> Result<Vec<Charge>, Misread> {
    const HEADER: [(ChargeKind, &str); 3] = [
        (ChargeKind::Shipping, "shipping-amount"),
        (ChargeKind::Handling, "handling-amount"),
        (ChargeKind::Misc, "misc-amount"),
    ];
    let mut listed: Vec<Charge> = Vec::new();
    for charge in root.get("invoice-charges").items()? {
        let word = charge.get("type");
        let kind = match word.required_text()?.as_str() {
            "InvoiceShippingCharge" => ChargeKind::Shipping,
            "InvoiceHandlingCharge" => ChargeKind::Handling,
            "InvoiceMiscCharge" => ChargeKind::Misc,
            _ => {
                return Err(word.misread("InvoiceShippingCharge, InvoiceHandlingCharge or InvoiceMiscCharge"));
            }
        };
        let amount = charge.get("total").required_amount()?;
        let coding = super::coding::coding(&charge, amount)?;
        let same = listed
            .iter_mut()
            .find(|known| known.kind == kind && known.coding == coding);
        match same {
            Some(known) => {
                known.amount = plus(Some(known.amount), Some(amount), &charge)?.unwrap_or_default();
            }
            None => listed.push(Charge { kind, amount, coding }),
        }
    }
    let mut charges = Vec::new();
    for (kind, field) in HEADER {
        let of_kind: Vec<Charge> = listed
            .iter()
            .filter(|charge| charge.kind == kind)
            .cloned()
            .collect();
        if of_kind.is_empty() {
            charges.extend(root.get(field).amount()?.map(|amount| Charge {
                kind,
                amount,
                coding: Vec::new(),
            }));
        }
        charges.extend(of_kind);
    }
    charges.retain(|charge| !charge.amount.is_zero());
    Ok(charges)
}

/// All taxes, in the signs they are written with. Taxed by line, the lines' and the charges' taxes count; so they do where the
/// header says nothing, for the flag may be missing where the rows are not. Where the header says something too, it is the same
/// money, never added to the lines': the header's tax with the charges' beside it, the header's alone, or the lines' and the
/// charges', in this order whichever Coupa's total bears out best. No tax anywhere is no tax: what is missing shows as a
/// difference to the total.
pub(super) fn tax(root: &Node<'_>, total: Decimal) -> Result<Decimal, Misread> {
    let header = tax_of(root)?;
    let of_charges = sum_of(root, "invoice-charges", tax_of)?;
    let of_lines = sum_of(root, "invoice-lines", tax_of)?;
    let by_line = plus(of_lines, of_charges, root)?;
    let Some(header) = header else {
        return Ok(by_line.unwrap_or_default());
    };
    if let (Some(true), Some(by_line)) = (root.get("line-level-taxation").flag()?, by_line) {
        return Ok(by_line);
    }
    let beside = plus(Some(header), of_charges, root)?.unwrap_or_default();
    let net = net(root)?;
    let misses = |tax: Decimal| -> Result<Decimal, Misread> {
        let sum = plus(Some(net.abs()), Some(tax.abs()), root)?.unwrap_or_default();
        let difference = sum.checked_sub(total.abs());
        difference
            .map(|difference| difference.abs())
            .ok_or_else(|| root.misread("amounts within range"))
    };
    let mut nearest = (misses(beside)?, beside);
    for tax in std::iter::once(header).chain(of_lines.and(by_line)) {
        let missed = misses(tax)?;
        if missed < nearest.0 {
            nearest = (missed, tax);
        }
    }
    Ok(nearest.1)
}

/// Lines and charges as written.
fn net(root: &Node<'_>) -> Result<Decimal, Misread> {
    let mut sum = None;
    for line in root.get("invoice-lines").items()? {
        sum = plus(sum, line.get("total").amount()?, &line)?;
    }
    for charge in charges(root)? {
        sum = plus(sum, Some(charge.amount), root)?;
    }
    Ok(sum.unwrap_or_default())
}

fn sum_of(
    root: &Node<'_>,
    list: &str,
    read: fn(&Node<'_>) -> Result<Option<Decimal>, Misread>,
) -> Result<Option<Decimal>, Misread> {
    let mut sum = None;
    for item in root.get(list).items()? {
        sum = plus(sum, read(&item)?, &item)?;
    }
    Ok(sum)
}

/// The tax of one line, one charge or the header itself.
fn tax_of(node: &Node<'_>) -> Result<Option<Decimal>, Misread> {
    let mut rows = None;
    for row in node.get("tax-lines").items()? {
        if row_is_tax(&row)? {
            rows = plus(rows, row.get("amount").amount()?, &row)?;
        }
    }
    match rows {
        Some(sum) => Ok(Some(sum)),
        None => node.get("tax-amount").amount(),
    }
}

/// Rows of tax on the document: of its lines, its charges, its header. An amount without rows is one.
pub(super) fn tax_rows(root: &Node<'_>) -> Result<u32, Misread> {
    let mut nodes = vec![root.clone()];
    for list in ["invoice-lines", "invoice-charges"] {
        nodes.extend(root.get(list).items()?);
    }
    let mut count = 0_u32;
    for node in nodes {
        let mut rows = 0_u32;
        for row in node.get("tax-lines").items()? {
            rows = rows.saturating_add(u32::from(row_is_tax(&row)?));
        }
        let has_amount = node
            .get("tax-amount")
            .amount()?
            .is_some_and(|amount| !amount.is_zero());
        count = count.saturating_add(rows.max(u32::from(has_amount)));
    }
    Ok(count)
}

/// Whether a row is tax, or withheld. A row of another type is neither guessed nor dropped.
fn row_is_tax(row: &Node<'_>) -> Result<bool, Misread> {
    let word = row.get("type");
    match word.text()?.map(|text| text.to_ascii_lowercase()).as_deref() {
        None | Some(TAX_ROW) => Ok(true),
        Some(WITHHOLDING_ROW) => Ok(false),
        Some(_) => Err(word.misread("TaxLine or WithholdingTaxLine")),
    }
}

/// What is withheld, without a sign: by line and charge, else at the header.
pub(super) fn withheld(root: &Node<'_>) -> Result<Decimal, Misread> {
    let by_line = plus(
        sum_of(root, "invoice-lines", withheld_of)?,
        sum_of(root, "invoice-charges", withheld_of)?,
        root,
    )?;
    Ok(match by_line {
        Some(sum) => sum,
        None => withheld_of(root)?.unwrap_or_default(),
    })
}

fn withheld_of(node: &Node<'_>) -> Result<Option<Decimal>, Misread> {
    let mut sum = None;
    for row in node.get("tax-lines").items()? {
        if !row_is_tax(&row)? {
            sum = plus(sum, row.get("amount").amount()?.map(|amount| amount.abs()), &row)?;
        }
    }
    for row in node.get("withholding-tax-lines").items()? {
        sum = plus(sum, row.get("amount").amount()?.map(|amount| amount.abs()), &row)?;
    }
    Ok(sum)
}

/// Reduces the invoice to what is owed to the supplier: tax that the customer accounts for itself (reverse charge) is not.
/// Coupa's total may hold all tax or the supplier's alone; the nearer of the two is meant, and the match checks the rest.
pub(super) fn reduce_to_owed(invoice: &mut Invoice, root: &Node<'_>) -> Result<(), Misread> {
    let field = root.get("tax-due-to-supplier");
    let Some(due) = field.amount()? else {
        return Ok(());
    };
    let due = match invoice.kind {
        DocumentKind::Invoice => due,
        DocumentKind::CreditNote => negative(due),
    };
    if due == invoice.tax {
        return Ok(());
    }
    let out_of_range = || field.misread("an amount within range");
    let net = invoice
        .lines
        .iter()
        .map(|line| line.total)
        .chain(invoice.charges.iter().map(|charge| charge.amount))
        .try_fold(Decimal::ZERO, Decimal::checked_add)
        .ok_or_else(out_of_range)?;
    let misses = |tax: Decimal| {
        let difference = net.checked_add(tax)?.checked_sub(invoice.total)?;
        Some(difference.abs())
    };
    let of_all = misses(invoice.tax).ok_or_else(out_of_range)?;
    let of_due = misses(due).ok_or_else(out_of_range)?;
    let not_due = invoice.tax.checked_sub(due).ok_or_else(out_of_range)?;
    invoice.terms.stated = Some(StatedTotal {
        total: invoice.total,
        tax: invoice.tax,
    });
    invoice.tax = due;
    if of_all <= of_due {
        invoice.total = invoice.total.checked_sub(not_due).ok_or_else(out_of_range)?;
    }
    Ok(())
}
