//! Where a line goes that no receiver takes: to the general ledger, coded as the document says, or to a person.
//!
//! A line whose order QAD has is matched to its receivers. A line without an order, a negative one (a discount, a returned
//! pallet, a deposit), one whose order only Coupa has and one that wants no receipt go to the general ledger where the
//! connection lets them; everything else is a person's.

use super::{AdditionalCost, Exception, ExceptionCode, MatchInput, exact, text};
use crate::coupa_orders::CoupaOrderLine;
use crate::documents::{Adjustment, Billed, Charge, CodedShare, Invoice, InvoiceLine, Share};
use crate::ids::{DocumentKind, fold};
use crate::policy::{ChargeAccount, Coding, OnLine, OnOrderOnlyInCoupa};
use rust_decimal::Decimal;

/// Where one line goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Destination {
    /// To the receivers of its order line.
    Receiver,
    /// To the general ledger.
    Ledger,
    /// To a person, for this reason.
    Person(ExceptionCode),
}

/// Where a line with something to post goes.
pub(super) fn of(input: &MatchInput<'_>, line: &InvoiceLine) -> Destination {
    let policy = &input.policy.lines;
    let unless = |on: OnLine, code| match on {
        OnLine::Park => Destination::Person(code),
        OnLine::Gl => Destination::Ledger,
    };
    if input.invoice.kind == DocumentKind::Invoice && line.total < Decimal::ZERO {
        return unless(policy.negative, ExceptionCode::LineNegative);
    }
    if line.order_line_unmapped.is_some() {
        return Destination::Person(ExceptionCode::OrderLineNotMapped);
    }
    if input.invoice.kind == DocumentKind::CreditNote
        && line.total <= Decimal::ZERO
        && purpose(line).is_some_and(|purpose| purpose != Adjustment::Quantity)
    {
        return Destination::Ledger;
    }
    if input.invoice.kind == DocumentKind::Invoice
        && line
            .adjustment
            .is_some_and(|purpose| purpose != Adjustment::Quantity)
    {
        return unless(policy.price_adjustment, ExceptionCode::PriceAdjustment);
    }
    let Some(key) = &line.order_line else {
        return unless(policy.without_order, ExceptionCode::LineWithoutOrder);
    };
    let in_qad = matches!(input.orders.get(&key.order), Some(Some(_)));
    let by_coupa = match (in_qad, policy.order_only_in_coupa, policy.without_receipt) {
        (false, OnOrderOnlyInCoupa::Gl, _) => coupa_matched(input, line),
        (true, _, OnLine::Gl) => wants_no_receipt(input, line) && !line.failed_tolerances,
        _ => false,
    };
    if by_coupa && input.invoice.kind == DocumentKind::Invoice {
        Destination::Ledger
    } else {
        Destination::Receiver
    }
}

/// What a line of a credit note corrects: what Coupa says, else goods on a quantity line and anything else on an amount line
/// of an order. `None` where nothing says it.
fn purpose(line: &InvoiceLine) -> Option<Adjustment> {
    line.adjustment.or_else(|| {
        line.order_line.as_ref().map(|_| match line.billed {
            Billed::Quantity { .. } => Adjustment::Quantity,
            Billed::Amount => Adjustment::Other,
        })
    })
}

fn in_coupa<'a>(input: &'a MatchInput<'_>, line: &InvoiceLine) -> Option<&'a CoupaOrderLine> {
    let reference = line.coupa_order.as_ref()?;
    input
        .coupa_orders
        .get(&fold(&reference.order))?
        .as_ref()?
        .line(reference)
}

fn wants_no_receipt(input: &MatchInput<'_>, line: &InvoiceLine) -> bool {
    in_coupa(input, line).is_some_and(|order_line| order_line.receipt_required == Some(false))
}

/// True when Coupa itself has matched the line: within its tolerances, and received there where it wants receipts. What Coupa
/// does not say is no match.
fn coupa_matched(input: &MatchInput<'_>, line: &InvoiceLine) -> bool {
    let Some(order_line) = in_coupa(input, line) else {
        return false;
    };
    let received = match (order_line.receipt_required, order_line.received, &line.billed) {
        (Some(false), _, _) => true,
        (Some(true), Some(received), Billed::Quantity { quantity, .. }) => received >= *quantity,
        _ => false,
    };
    received && !line.failed_tolerances
}

/// The costs of a line that goes to the general ledger, on the accounts that it is coded to.
pub(super) fn costs_of_line(
    input: &MatchInput<'_>,
    line: &InvoiceLine,
) -> Result<Vec<AdditionalCost>, Exception> {
    let amount = input.invoice.rounded(line.total);
    let of_line = coded(input, &line.coding, amount, &line.description);
    if input.invoice.kind == DocumentKind::CreditNote
        && let Some(purpose) = purpose(line)
    {
        return costs_of_credit(input, line, purpose, amount, of_line);
    }
    let costs = of_line.map_err(|missing| Exception {
        line: Some(line.number),
        order_line: line.order_line.clone(),
        ..not_mapped(input.invoice, amount, &missing)
    })?;
    costs.ok_or_else(|| Exception {
        line: Some(line.number),
        order_line: line.order_line.clone(),
        ..not_mapped(input.invoice, amount, "no account on the line")
    })
}

/// The costs of a line that credits no goods: as the line is coded, else on the account that credits have.
fn costs_of_credit(
    input: &MatchInput<'_>,
    line: &InvoiceLine,
    purpose: Adjustment,
    amount: Decimal,
    of_line: Result<Option<Vec<AdditionalCost>>, String>,
) -> Result<Vec<AdditionalCost>, Exception> {
    let (configured, setting) = match purpose {
        Adjustment::Price => (&input.policy.credits.price_account, "price_account"),
        Adjustment::Quantity | Adjustment::Other => (&input.policy.credits.other_account, "other_account"),
    };
    match (of_line, configured) {
        (Ok(Some(costs)), _) => Ok(costs),
        (Ok(None) | Err(_), Some(account)) => Ok(vec![cost_on(account, amount, &line.description)]),
        (missing, None) => {
            let missing = missing
                .err()
                .unwrap_or_else(|| "no account on the line".to_owned());
            Err(Exception {
                line: Some(line.number),
                order_line: line.order_line.clone(),
                ..super::of_document(
                    ExceptionCode::CreditNotMapped,
                    format!("an account on the line, or credits.{setting}"),
                    format!("{missing} ({})", text::money(amount, input.invoice.currency)),
                )
            })
        }
    }
}

/// The costs of a charge: as the document codes it, else on the account of its kind.
pub(super) fn costs_of_charge(
    input: &MatchInput<'_>,
    charge: &Charge,
    name: &str,
) -> Result<Vec<AdditionalCost>, Exception> {
    let amount = input.invoice.rounded(charge.amount);
    let configured = input.policy.charge_accounts.get(&charge.kind);
    match (coded(input, &charge.coding, amount, name), configured) {
        (Ok(Some(costs)), _) => Ok(costs),
        (Ok(None) | Err(_), Some(account)) => Ok(vec![cost_on(account, amount, name)]),
        (Err(missing), None) => Err(not_mapped(input.invoice, amount, &missing)),
        (Ok(None), None) => Err(super::of_document(
            ExceptionCode::ChargeNotMapped,
            "a GL account for it",
            format!("{name} of {}", text::money(amount, input.invoice.currency)),
        )),
    }
}

fn cost_on(account: &ChargeAccount, amount: Decimal, description: &str) -> AdditionalCost {
    AdditionalCost {
        gl_account: account.gl_account.clone(),
        sub_account: account.sub_account.clone(),
        cost_center: account.cost_center.clone(),
        project: account.project.clone(),
        amount,
        description: description.to_owned(),
    }
}

fn not_mapped(invoice: &Invoice, amount: Decimal, missing: &str) -> Exception {
    super::of_document(
        ExceptionCode::AccountNotMapped,
        "an account that [coding] leads to QAD's",
        format!("{missing} ({})", text::money(amount, invoice.currency)),
    )
}

/// The costs by the document's own coding; `Ok(None)` when the document, or the connection, has none. `Err` says what is
/// missing.
fn coded(
    input: &MatchInput<'_>,
    shares: &[CodedShare],
    amount: Decimal,
    description: &str,
) -> Result<Option<Vec<AdditionalCost>>, String> {
    let Some(coding) = &input.policy.coding else {
        return Ok(None);
    };
    if shares.is_empty() {
        return Ok(None);
    }
    let amounts = split(input.invoice, shares, amount)?;
    let mut costs = Vec::with_capacity(shares.len());
    for (share, amount) in shares.iter().zip(amounts) {
        let account = account_of(coding, share)?;
        costs.push(cost_on(&account, amount, description));
    }
    Ok(Some(costs))
}

fn account_of(coding: &Coding, share: &CodedShare) -> Result<ChargeAccount, String> {
    let value = |part: &crate::policy::CodedField, name: &str| -> Result<String, String> {
        let Some(shown) = share.account.get(part.field.as_str()).map(|text| text.trim()) else {
            return Ok(String::new());
        };
        if part.map.is_empty() || shown.is_empty() {
            return Ok(shown.to_owned());
        }
        super::lines::find_folded(&part.map, shown)
            .cloned()
            .ok_or_else(|| format!("{name} {shown:?} is not in coding.{name}.map"))
    };
    let optional = |part: &Option<crate::policy::CodedField>, name: &str| match part {
        Some(part) => value(part, name),
        None => Ok(String::new()),
    };
    let account = value(&coding.gl_account, "gl_account")?;
    if account.is_empty() {
        return Err(format!("{} of the account is blank", coding.gl_account.field));
    }
    Ok(ChargeAccount {
        gl_account: account
            .parse()
            .map_err(|_| format!("{account:?} is no GL account of QAD"))?,
        sub_account: optional(&coding.sub_account, "sub_account")?,
        cost_center: optional(&coding.cost_center, "cost_center")?,
        project: optional(&coding.project, "project")?,
    })
}

/// What falls to each share, in the smallest unit; what rounding leaves goes to the largest. Shares that do not make up the
/// whole are told, never stretched.
fn split(invoice: &Invoice, shares: &[CodedShare], amount: Decimal) -> Result<Vec<Decimal>, String> {
    let out_of_range = || "shares out of range".to_owned();
    let exact_parts = shares
        .iter()
        .map(|share| match share.share {
            Share::Whole => Some(amount),
            Share::Percent(percent) => exact::multiply(exact::multiply(amount, percent)?, Decimal::new(1, 2)),
            // Amounts are written without the sign that a credit note has.
            Share::Amount(part) if amount < Decimal::ZERO => Some(crate::money::negative(part)),
            Share::Amount(part) => Some(part),
        })
        .collect::<Option<Vec<Decimal>>>()
        .ok_or_else(out_of_range)?;
    let mut parts: Vec<Decimal> = exact_parts
        .into_iter()
        .map(|part| invoice.rounded(part))
        .collect();
    let sum = exact::sum(parts.iter().copied()).ok_or_else(out_of_range)?;
    let rest = exact::subtract(amount, sum).ok_or_else(out_of_range)?;
    let most = exact::multiply(invoice.minor_unit(), Decimal::from(parts.len())).ok_or_else(out_of_range)?;
    if rest.abs() > most {
        return Err(format!(
            "shares of {} together",
            text::money(sum, invoice.currency)
        ));
    }
    let largest = parts
        .iter()
        .enumerate()
        .max_by(|(at, part), (other_at, other)| part.abs().cmp(&other.abs()).then(other_at.cmp(at)))
        .map(|(at, _)| at);
    if let Some(part) = largest.and_then(|at| parts.get_mut(at)) {
        *part = exact::add(*part, rest).ok_or_else(out_of_range)?;
    }
    Ok(parts)
}
