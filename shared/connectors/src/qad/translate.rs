//! From QAD's rows and records to our documents. QAD's words end here.

use super::profile::{EvaluatedReceiptsWords, OrderStatusWords, Profile, Resource};
use crate::json::{Misread, Node};
use domain::documents::{Order, OrderLine, OrderStatus, Pending, Receipt};
use domain::ids::{
    DocumentKind, DomainCode, EntityCode, InvoiceReference, OrderLineKey, PurchaseOrderNumber,
    QadInvoiceIdentity, ReceiptKey, fold,
};
use domain::master_data::Period;
use domain::matching::{AdditionalCost, ReceiverMatch};
use domain::money::Currency;
use domain::money::negative;
use domain::parallel::KeyedInvoice;
use domain::problem::Problem;
use flows::ports::{QadDocument, ReceiptScan, Voucher};
use rust_decimal::Decimal;
use std::collections::BTreeMap;

pub(crate) const UNREADABLE: &str = "QAD_ANSWER_UNREADABLE";
pub(crate) const UNREADABLE_FIX: &str =
    "Correct the record in QAD, or the field names in the connection's qad.profile.";

/// QAD's unknown value: the record has no figure, and no figure is not zero.
const UNKNOWN_VALUE: &str = "?";
const VALUE_UNKNOWN: &str = "QAD_VALUE_UNKNOWN";
const VALUE_UNKNOWN_FIX: &str =
    "QAD itself does not know this value: have the record completed there, then recheck.";

/// What could not be read, as a problem; a value that QAD itself does not know is told as that.
fn unreadable(misread: Misread) -> Problem {
    if misread.actual == format!("{UNKNOWN_VALUE:?}") {
        misread.problem(VALUE_UNKNOWN, VALUE_UNKNOWN_FIX)
    } else {
        misread.problem(UNREADABLE, UNREADABLE_FIX)
    }
}

/// A row or record, read by our names of its fields.
pub(crate) struct Row<'a> {
    node: Node<'a>,
    resource: &'a Resource,
}

impl<'a> Row<'a> {
    pub(crate) fn new(node: Node<'a>, resource: &'a Resource) -> Self {
        Self { node, resource }
    }

    pub(crate) fn get(&self, name: &'a str) -> Node<'a> {
        self.node.get(self.resource.field(name))
    }

    /// True when the resource knows a field by this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.resource.fields.contains_key(name)
    }

    /// A field whose absence would change what the row means: it has to be there, blank or not.
    pub(crate) fn present(&self, name: &'a str) -> Result<Node<'a>, Misread> {
        self.node.present(self.resource.field(name))
    }

    /// A field by the tenant's own name.
    pub(crate) fn raw(&self, field: &str) -> Node<'a> {
        self.node.get(field)
    }

    /// QAD must have honoured our filter: rows of something else mean that the answer cannot be trusted.
    pub(crate) fn same(&self, name: &'a str, asked: &str) -> Result<(), Misread> {
        let field = self.get(name);
        match field.text()? {
            Some(text) if fold(&text) == fold(asked) => Ok(()),
            _ => Err(field.misread(format!("{asked}, which was asked for"))),
        }
    }

    /// The domain is compared where the browse shows it.
    fn same_domain(&self, domain: &DomainCode) -> Result<(), Misread> {
        if self.get("domain").is_null() {
            Ok(())
        } else {
            self.same("domain", domain.as_str())
        }
    }
}

/// Reads an order from its lines. No row is no order.
pub(crate) fn order(
    rows: &[Row<'_>],
    profile: &Profile,
    domain: &DomainCode,
    asked: &PurchaseOrderNumber,
) -> Result<Option<Order>, Problem> {
    read_order(rows, profile, domain, asked).map_err(unreadable)
}

fn read_order(
    rows: &[Row<'_>],
    profile: &Profile,
    domain: &DomainCode,
    asked: &PurchaseOrderNumber,
) -> Result<Option<Order>, Misread> {
    let Some(first) = rows.first() else {
        return Ok(None);
    };
    let mut order = header(first, asked, &profile.evaluated_receipts)?;
    let mut lines: BTreeMap<u32, OrderLine> = BTreeMap::new();
    for row in rows {
        row.same("order", asked.as_str())?;
        row.same_domain(domain)?;
        let again = header(row, asked, &profile.evaluated_receipts)?;
        if again != order {
            return Err(row
                .get("supplier")
                .misread("one header on all lines of the order"));
        }
        let line = order_line(row, profile)?;
        let number = row.get("line");
        match lines.get(&line.number) {
            Some(known) if *known != line => return Err(number.misread("each order line once")),
            Some(_) => {}
            None => {
                lines.insert(line.number, line);
            }
        }
    }
    order.lines = lines.into_values().collect();
    Ok(Some(order))
}

fn header(
    row: &Row<'_>,
    asked: &PurchaseOrderNumber,
    words: &EvaluatedReceiptsWords,
) -> Result<Order, Misread> {
    Ok(Order {
        number: asked.clone(),
        supplier: row.get("supplier").required_text()?,
        currency: row.get("currency").required("a currency")?,
        evaluated_receipts: evaluated_receipts(&row.present("evaluated-receipts")?, words)?,
        entity: entity(&row.get("entity"))?,
        lines: Vec::new(),
    })
}

/// Whose the order is, where the tenant shows it.
fn entity(field: &Node<'_>) -> Result<Option<EntityCode>, Misread> {
    if field.text()?.as_deref() == Some(UNKNOWN_VALUE) {
        return Err(field.misread("an entity"));
    }
    field.parsed()
}

/// On an evaluated-receipts order QAD invoices itself, so this is never guessed: an unknown word is unreadable.
fn evaluated_receipts(field: &Node<'_>, words: &EvaluatedReceiptsWords) -> Result<bool, Misread> {
    let word = match field.flag() {
        Ok(Some(flag)) => flag.to_string(),
        _ => field.text()?.unwrap_or_default(),
    };
    let is_in = |list: &[String]| list.iter().any(|known| fold(known) == fold(&word));
    if is_in(&words.allowed) {
        Ok(true)
    } else if is_in(&words.disallowed) {
        Ok(false)
    } else {
        let known: Vec<_> = words
            .disallowed
            .iter()
            .chain(&words.allowed)
            .map(String::as_str)
            .collect();
        Err(field.misread(format!("one of {known:?}")))
    }
}

/// An amount of money. What is rounded away is noise of somebody's binary arithmetic: it is said in the log.
pub(super) fn amount(field: &Node<'_>) -> Result<Option<Decimal>, Misread> {
    let Some((amount, is_rounded)) = field.noisy()? else {
        return Ok(None);
    };
    if is_rounded {
        let written = field.text()?.unwrap_or_default();
        tracing::info!(field = field.path(), %written, read = %amount, "an amount of QAD's is rounded");
    }
    Ok(Some(amount))
}

/// An amount of money that has to be there.
pub(super) fn required_amount(field: &Node<'_>) -> Result<Decimal, Misread> {
    amount(field)?.ok_or_else(|| field.misread("a decimal"))
}

/// A quantity, and in `rounded` how it was read when it has more places than are kept.
fn quantity(field: &Node<'_>, name: &str, rounded: &mut Vec<String>) -> Result<Option<Decimal>, Misread> {
    let Some((quantity, is_rounded)) = field.noisy()? else {
        return Ok(None);
    };
    if is_rounded {
        let written = field.text()?.unwrap_or_default();
        rounded.push(format!("{name} {written} read as {quantity}"));
    }
    Ok(Some(quantity))
}

/// A truth value; false where the tenant does not show it.
fn optional_flag(field: &Node<'_>) -> Result<bool, Misread> {
    Ok(flag(field)?.unwrap_or_default())
}

/// A truth value, also as yes and no, or 1 and 0.
fn flag(field: &Node<'_>) -> Result<Option<bool>, Misread> {
    match field
        .text()
        .ok()
        .flatten()
        .map(|word| word.to_ascii_lowercase())
        .as_deref()
    {
        Some("yes" | "1") => Ok(Some(true)),
        Some("no" | "0") => Ok(Some(false)),
        _ => field.flag(),
    }
}

fn order_line(row: &Row<'_>, profile: &Profile) -> Result<OrderLine, Misread> {
    let of_order = status(&row.present("order-status")?, &profile.order_status)?;
    let of_line = status(&row.present("line-status")?, &profile.order_status)?;
    let price = row.get("price");
    let mut rounded = Vec::new();
    let ordered = row.get("ordered");
    let own_word = row.get("line-evaluated-receipts");
    let says_nothing = own_word.text().is_ok_and(|text| text.is_none());
    let discount = row.get("discount-percent");
    Ok(OrderLine {
        number: row.get("line").required_u32()?,
        part: row.get("part").text()?.unwrap_or_default(),
        description: row.get("description").text()?.unwrap_or_default(),
        unit: row.get("unit").required("a unit of measure")?,
        ordered: quantity(&ordered, "ordered", &mut rounded)?.ok_or_else(|| ordered.misread("a decimal"))?,
        received: quantity(&row.get("received"), "received by the order", &mut rounded)?.unwrap_or_default(),
        unit_price: price.price()?.ok_or_else(|| price.misread("a decimal"))?,
        discount_percent: quantity(&discount, "discount percent", &mut rounded)?.unwrap_or_default(),
        scheduled: optional_flag(&row.get("scheduled"))?,
        consignment: optional_flag(&row.get("consignment"))?,
        evaluated_receipts: if says_nothing {
            None
        } else {
            Some(evaluated_receipts(&own_word, &profile.evaluated_receipts)?)
        },
        rounded,
        status: strictest(of_order, of_line),
    })
}

fn status(field: &Node<'_>, words: &OrderStatusWords) -> Result<OrderStatus, Misread> {
    let word = field.text()?.unwrap_or_default();
    let is_in = |list: &[String]| list.iter().any(|known| fold(known) == fold(&word));
    Ok(if is_in(&words.open) {
        OrderStatus::Open
    } else if is_in(&words.closed) {
        OrderStatus::Closed
    } else if is_in(&words.cancelled) {
        OrderStatus::Cancelled
    } else {
        OrderStatus::Unknown(word)
    })
}

/// A closed or cancelled order closes or cancels its lines; what is unknown of either is unknown of the line.
fn strictest(order: OrderStatus, line: OrderStatus) -> OrderStatus {
    match (order, line) {
        (OrderStatus::Unknown(word), _) | (_, OrderStatus::Unknown(word)) => OrderStatus::Unknown(word),
        (OrderStatus::Cancelled, _) | (_, OrderStatus::Cancelled) => OrderStatus::Cancelled,
        (OrderStatus::Closed, _) | (_, OrderStatus::Closed) => OrderStatus::Closed,
        (OrderStatus::Open, OrderStatus::Open) => OrderStatus::Open,
    }
}

/// Reads receipts. Rows of logistics charges are dropped before anything else; a receipt line that comes twice with
/// different figures is told, not guessed. `asked` is the order when one was asked for.
pub(crate) fn receipts(
    rows: &[Row<'_>],
    profile: &Profile,
    domain: &DomainCode,
    asked: Option<&PurchaseOrderNumber>,
) -> ReceiptScan {
    let mut known: BTreeMap<ReceiptKey, Receipt> = BTreeMap::new();
    let mut ambiguous: BTreeMap<ReceiptKey, Misread> = BTreeMap::new();
    let mut problems = Vec::new();
    for row in rows {
        match receipt(row, profile, domain, asked) {
            Ok(None) => {}
            Err(misread) => problems.push(unreadable(misread)),
            Ok(Some(receipt)) => match known.get(&receipt.key) {
                Some(same) if *same == receipt => {}
                Some(_) => {
                    let expected = format!(
                        "one row for receiver {} of {}",
                        receipt.key.receiver, receipt.key.order_line
                    );
                    ambiguous.insert(receipt.key, row.get("receiver").misread(expected));
                }
                None => {
                    known.insert(receipt.key.clone(), receipt);
                }
            },
        }
    }
    // A receipt without a pending voucher is on consignment where the tenant shows the field at all: blank in one row it is
    // shown, and a row that leaves out what is blank stands beside one that has it.
    let shows_pending = rows.iter().any(|row| row.present("pending").is_ok());
    if !shows_pending {
        for receipt in known.values_mut() {
            receipt.pending = Pending::NotShown;
        }
    }
    for (key, misread) in ambiguous {
        known.remove(&key);
        let fix = "Two rows of one receipt line differ: name the logistics charge or the receiver field in qad.profile.receipts.";
        problems.push(misread.problem("QAD_RECEIPT_AMBIGUOUS", fix));
    }
    ReceiptScan {
        receipts: known.into_values().collect(),
        unreadable: problems,
        more: false,
    }
}

fn receipt(
    row: &Row<'_>,
    profile: &Profile,
    domain: &DomainCode,
    asked: Option<&PurchaseOrderNumber>,
) -> Result<Option<Receipt>, Misread> {
    if let Some(asked) = asked {
        row.same("order", asked.as_str())?;
    }
    row.same_domain(domain)?;
    if row.present("logistics-charge")?.text()?.is_some() {
        return Ok(None);
    }
    let kind = row.get("type").text()?.unwrap_or_default();
    let mut rounded = Vec::new();
    let shown = row.get("received");
    let received = quantity(&shown, "received", &mut rounded)?.ok_or_else(|| shown.misread("a decimal"))?;
    // Blank before anything was invoiced; a field that is missing altogether would make everything look open.
    let vouchered = quantity(&row.present("vouchered")?, "invoiced", &mut rounded)?.unwrap_or_default();
    let cost = row.get("unit-cost").price()?.filter(|cost| !cost.is_zero());
    let is_return = received.is_sign_negative() && !received.is_zero()
        || profile.return_types.iter().any(|word| fold(word) == fold(&kind));
    let signed = |quantity: Decimal| if is_return { negative(quantity) } else { quantity };
    Ok(Some(Receipt {
        key: ReceiptKey {
            domain: domain.clone(),
            receiver: row.get("receiver").required("a receiver number")?,
            order_line: OrderLineKey {
                order: row.get("order").required("an order number")?,
                line: row.get("line").required_u32()?,
            },
        },
        received: signed(received),
        vouchered: signed(vouchered),
        unit: row.get("unit").required("a unit of measure")?,
        date: row.get("date").required_date()?,
        packing_slip: row.get("packing-slip").text()?.unwrap_or_default(),
        currency: row.get("currency").parsed::<Currency>()?,
        pending: match quantity(&row.get("pending"), "pending", &mut rounded)? {
            Some(pending) => Pending::Quantity(signed(pending)),
            None => Pending::Missing,
        },
        closed: is_closed(&row.get("last-voucher"))?,
        unit_cost: cost,
        rounded,
    }))
}

/// Whether a voucher was the last of the receipt: any word but blank says so, also `0` and `no`, which may be its number.
/// Where the tenant shows a truth value, that counts.
fn is_closed(field: &Node<'_>) -> Result<bool, Misread> {
    if let Ok(Some(flag)) = field.flag() {
        return Ok(flag);
    }
    match field.text()? {
        Some(word) if word == UNKNOWN_VALUE => Err(field.misread("the last voucher, or blank")),
        Some(_) => Ok(true),
        None => Ok(false),
    }
}

/// Reads one of an entity's periods; whether it is locked is never guessed.
pub(crate) fn period(row: &Row<'_>, entity: &EntityCode) -> Result<Period, Misread> {
    row.same("entity", entity.as_str())?;
    let locked = row.present("locked")?;
    Ok(Period {
        start: row.get("start").required_date()?,
        end: row.get("end").required_date()?,
        locked: flag(&locked)?.ok_or_else(|| locked.misread("true or false"))?,
    })
}

/// Reads one supplier invoice; `None` for a type that is neither invoice nor credit note (a prepayment, a correction).
pub(crate) fn document(row: &Row<'_>, profile: &Profile) -> Result<Option<QadDocument>, Misread> {
    let word = row.get("type").required_text()?;
    let kind = if fold(&word) == fold(&profile.invoice_type) {
        DocumentKind::Invoice
    } else if fold(&word) == fold(&profile.credit_note_type) {
        DocumentKind::CreditNote
    } else {
        return Ok(None);
    };
    let total = required_amount(&row.get("total"))?;
    Ok(Some(QadDocument {
        voucher: voucher(row)?,
        identity: QadInvoiceIdentity {
            entity: row.get("entity").required("an entity code")?,
            supplier: row.get("supplier").required("a supplier code")?,
            reference: row
                .get("reference")
                .required::<InvoiceReference>("an invoice reference")?,
            kind,
        },
        currency: row.get("currency").required("a currency")?,
        total: match kind {
            DocumentKind::Invoice => total,
            DocumentKind::CreditNote => negative(total),
        },
        description: row.get("description").text()?.unwrap_or_default(),
    }))
}

/// Reads one supplier invoice with all that QAD shows of it; `None` as in [`document`].
pub(crate) fn keyed(row: &Row<'_>, profile: &Profile) -> Result<Option<KeyedInvoice>, Misread> {
    let Some(document) = document(row, profile)? else {
        return Ok(None);
    };
    // A tenant that writes the total of a credit note without its sign writes all of it so.
    let is_unsigned = document.identity.kind == DocumentKind::CreditNote
        && row.get("total").required_decimal()?.is_sign_positive();
    let signed = |figure: Decimal| {
        if is_unsigned {
            Decimal::ZERO.saturating_sub(figure)
        } else {
            figure
        }
    };
    let day = |name: &'static str| match row.get(name).text()? {
        Some(_) => row.get(name).required_date().map(Some),
        None => Ok(None),
    };
    let parts = |name: &'static str| match row.get(name) {
        list if list.is_null() => Ok(None),
        list => list.items().map(Some),
    };
    let matches = parts("matches")?.map(|items| {
        let part = |item| receiver_match(&Row::new(item, row.resource), &signed);
        items.into_iter().map(part).collect::<Result<Vec<_>, _>>()
    });
    let costs = parts("costs")?.map(|items| {
        let part = |item| additional_cost(&Row::new(item, row.resource), &signed);
        items.into_iter().map(part).collect::<Result<Vec<_>, _>>()
    });
    let terms = row.present("credit-terms").ok();
    Ok(Some(KeyedInvoice {
        voucher: document.voucher,
        identity: document.identity,
        currency: document.currency,
        total: document.total,
        description: document.description,
        invoice_date: day("invoice-date")?,
        posting_date: day("posting-date")?,
        tax: row.get("tax").decimal()?.map(signed),
        credit_terms: terms
            .map(|terms| terms.text())
            .transpose()?
            .map(Option::unwrap_or_default),
        matches: matches.transpose()?,
        costs: costs.transpose()?,
    }))
}

fn receiver_match(row: &Row<'_>, signed: &impl Fn(Decimal) -> Decimal) -> Result<ReceiverMatch, Misread> {
    let price = row.get("match-price");
    Ok(ReceiverMatch {
        order_line: OrderLineKey {
            order: row.get("match-order").required("an order number")?,
            line: row.get("match-line").required_u32()?,
        },
        receiver: row.get("match-receiver").required("a receiver number")?,
        quantity: signed(row.get("match-quantity").required_decimal()?),
        unit_price: price.price()?.ok_or_else(|| price.misread("a decimal"))?,
        finished: optional_flag(&row.get("match-finished"))?,
    })
}

fn additional_cost(row: &Row<'_>, signed: &impl Fn(Decimal) -> Decimal) -> Result<AdditionalCost, Misread> {
    let code = |name: &'static str| row.get(name).text().map(Option::unwrap_or_default);
    Ok(AdditionalCost {
        gl_account: row.get("cost-account").required("a GL account")?,
        sub_account: code("cost-sub-account")?,
        cost_center: code("cost-center")?,
        project: code("cost-project")?,
        amount: signed(row.get("cost-amount").required_decimal()?),
        description: row.get("cost-description").shown()?.unwrap_or_default(),
    })
}

/// Posting year, daybook and number together; 0 is QAD's "not assigned yet".
fn voucher(row: &Row<'_>) -> Result<Option<Voucher>, Misread> {
    let year = row.get("posting-year").whole()?;
    let number = row.get("voucher").whole()?.filter(|number| *number > 0);
    let daybook = row.get("daybook").text()?;
    let (Some(year), Some(number), Some(daybook)) = (year, number, daybook) else {
        return Ok(None);
    };
    let year = u32::try_from(year).map_err(|_| row.get("posting-year").misread("a year"))?;
    Ok(Some(Voucher {
        year,
        daybook,
        number,
    }))
}
