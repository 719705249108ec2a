//! Where a line goes that no receiver takes: to the general ledger, coded as the document says, or to a person.
//!
//! A line whose order QAD has is matched to its receivers. A line without an order, a negative one (a discount, a returned
//! pallet, a deposit), one whose order only Coupa has and one that wants no receipt go to the general ledger where the
//! connection lets them; everything else is a person's.

use super::{AdditionalCost, Exception, ExceptionCode, MatchInput, QuantitiesInCoupa, exact, text};
use crate::coupa_orders::CoupaOrderLine;
use crate::documents::{Adjustment, Billed, Charge, CodedShare, Invoice, InvoiceLine, Share};
use crate::guards::{Guard, stands};
use crate::ids::{DocumentKind, fold};
use crate::policy::{ChargeAccount, CodedField, Coding, OnLine, OnOrderOnlyInCoupa};
use rust_decimal::Decimal;

/// Most orders that Coupa alone knows and receives of which one invoice may bill: what is billed of each is kept in the
/// transaction of the approval, which takes no more.
const ORDERS_RECEIVED_IN_COUPA_MAX: usize = 10;

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
        && line.purpose() != Adjustment::Quantity
        && stands(Guard::PriceTakesNoReturn)
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
    let received = match in_coupa(input, line).map(|order_line| order_line.receipt_required) {
        Some(Some(false)) => true,
        Some(Some(true)) => is_covered(input, line) == Some(true),
        Some(None) | None => false,
    };
    received && !line.failed_tolerances
}

/// Whether what Coupa has received of the line's order line covers all that is billed of it: by this invoice on all its lines,
/// and by our others. `None` when that cannot be told.
fn is_covered(input: &MatchInput<'_>, line: &InvoiceLine) -> Option<bool> {
    let received = in_coupa(input, line)?.received?;
    let key = waits_in_coupa(input, line)?;
    if received_in_coupa(input).len() > ORDERS_RECEIVED_IN_COUPA_MAX {
        return None;
    }
    let own = input
        .invoice
        .lines
        .iter()
        .filter(|line| waits_in_coupa(input, line).as_ref() == Some(&key))
        .map(|line| match line.billed {
            Billed::Quantity { quantity, .. } => Some(quantity),
            Billed::Amount => None,
        })
        .collect::<Option<Vec<_>>>()?;
    let (order, order_line) = &key;
    let others = input
        .billed_in_coupa
        .get(order)
        .and_then(|lines| lines.get(order_line));
    let billed = exact::sum(own.into_iter().chain(others.copied()))?;
    Some(billed <= received)
}

/// The order line in Coupa whose receipts say whether a line may be posted, because QAD does not have the order: Coupa's number
/// of the order, and its id or number of the line.
fn waits_in_coupa(input: &MatchInput<'_>, line: &InvoiceLine) -> Option<(String, String)> {
    let is_of_goods = input.invoice.kind == DocumentKind::Invoice
        && !super::lines::has_nothing_to_post(line)
        && line.total >= Decimal::ZERO
        && line
            .adjustment
            .is_none_or(|purpose| purpose == Adjustment::Quantity);
    let in_qad = matches!(input.orders.get(&line.order_line.as_ref()?.order), Some(Some(_)));
    let order_line = in_coupa(input, line)?;
    let is_asked = input.policy.lines.order_only_in_coupa == OnOrderOnlyInCoupa::Gl
        && order_line.receipt_required == Some(true);
    if !is_of_goods || in_qad || !is_asked {
        return None;
    }
    let order = fold(&line.coupa_order.as_ref()?.order);
    match (order_line.id, &order_line.number) {
        (Some(id), _) => Some((order, id.to_string())),
        (None, Some(number)) => Some((order, format!("line {}", number.trim()))),
        (None, None) => None,
    }
}

/// What the invoice bills of order lines that Coupa alone knows and receives. An amount bills no quantity.
pub fn received_in_coupa(input: &MatchInput<'_>) -> QuantitiesInCoupa {
    let mut billed = QuantitiesInCoupa::new();
    for line in &input.invoice.lines {
        if let (Some((order, order_line)), Billed::Quantity { quantity, .. }) =
            (waits_in_coupa(input, line), &line.billed)
        {
            let sum = billed.entry(order).or_default().entry(order_line).or_default();
            *sum = exact::add(*sum, *quantity).unwrap_or(Decimal::MAX);
        }
    }
    billed
}

/// The costs of a line that goes to the general ledger, on the accounts that it is coded to.
pub(super) fn costs_of_line(
    input: &MatchInput<'_>,
    line: &InvoiceLine,
) -> Result<Vec<AdditionalCost>, Exception> {
    let amount = input.invoice.rounded(line.total);
    let of_line = coded(input, &line.coding, amount, &line.description);
    if input.invoice.kind == DocumentKind::CreditNote
        && (line.order_line.is_some() || line.purpose() != Adjustment::Quantity)
    {
        return costs_of_credit(input, line, line.purpose(), amount, of_line);
    }
    let costs = of_line.map_err(|missing| Exception {
        line: Some(line.number),
        order_line: line.order_line.clone(),
        ..not_mapped(input.invoice, amount, missing.words())
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
    of_line: Result<Option<Vec<AdditionalCost>>, Missing>,
) -> Result<Vec<AdditionalCost>, Exception> {
    let (configured, setting) = match purpose {
        Adjustment::Price => (&input.policy.credits.price_account, "price_account"),
        Adjustment::Quantity | Adjustment::Other => (&input.policy.credits.other_account, "other_account"),
    };
    match (of_line, configured) {
        (Ok(Some(costs)), _) => Ok(costs),
        (Ok(None) | Err(Missing::Blank(_)), Some(account)) => {
            Ok(vec![cost_on(account, amount, &line.description)])
        }
        (missing, _) => {
            let missing = missing.err();
            let missing = missing.as_ref().map_or("no account on the line", Missing::words);
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
        (Ok(None) | Err(Missing::Blank(_)), Some(account)) => Ok(vec![cost_on(account, amount, name)]),
        (Err(missing), _) => Err(not_mapped(input.invoice, amount, missing.words())),
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

/// Why a document's coding leads to no account of QAD's.
enum Missing {
    /// It says nothing: the account of the kind may be taken, where there is one.
    Blank(String),
    /// It says something that leads nowhere: no other account is taken in its place.
    Nowhere(String),
}

impl Missing {
    fn words(&self) -> &str {
        match self {
            Self::Blank(words) | Self::Nowhere(words) => words,
        }
    }
}

/// The costs by the document's own coding; `Ok(None)` when the document, or the connection, has none. `Err` says what is
/// missing.
fn coded(
    input: &MatchInput<'_>,
    shares: &[CodedShare],
    amount: Decimal,
    description: &str,
) -> Result<Option<Vec<AdditionalCost>>, Missing> {
    let Some(coding) = &input.policy.coding else {
        return Ok(None);
    };
    if shares.is_empty() {
        return Ok(None);
    }
    let is_blank = |share: &CodedShare| value_at(&coding.gl_account, share).is_empty();
    let blank = format!("{} of the account is blank", coding.gl_account.field);
    if shares.iter().all(is_blank) {
        return Err(Missing::Blank(blank));
    }
    if shares.iter().any(is_blank) {
        return Err(Missing::Nowhere(blank));
    }
    let costs = split(input.invoice, shares, amount).and_then(|amounts| {
        let costs = shares.iter().zip(amounts).map(|(share, amount)| {
            let account = account_of(coding, share)?;
            Ok(cost_on(&account, amount, description))
        });
        costs.collect::<Result<Vec<_>, String>>()
    });
    costs.map(Some).map_err(Missing::Nowhere)
}

/// What the account of a share says at a field.
pub(super) fn value_at<'a>(part: &CodedField, share: &'a CodedShare) -> &'a str {
    let shown = share.account.get(part.field.as_str());
    shown.map_or("", |text| text.trim())
}

pub(super) fn account_of(coding: &Coding, share: &CodedShare) -> Result<ChargeAccount, String> {
    let value = |part: &CodedField, name: &str| -> Result<String, String> {
        let shown = value_at(part, share);
        if part.map.is_empty() || shown.is_empty() {
            return Ok(shown.to_owned());
        }
        super::lines::find_folded(&part.map, shown)
            .cloned()
            .ok_or_else(|| format!("{name} {shown:?} is not in coding.{name}.map"))
    };
    let optional = |part: &Option<CodedField>, name: &str| match part {
        Some(part) => value(part, name),
        None => Ok(String::new()),
    };
    let account = value(&coding.gl_account, "gl_account")?;
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
pub(super) fn split(
    invoice: &Invoice,
    shares: &[CodedShare],
    amount: Decimal,
) -> Result<Vec<Decimal>, String> {
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
