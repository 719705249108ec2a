//! From Coupa's JSON to our documents. Coupa's words end here.
//!
//! Coupa writes decimals as strings (numbers are taken too), leaves out what is null or writes `null`, and may spell
//! keys with underscores. Dates are midnight in the company's time zone, so the calendar date is taken as written.

use super::amounts;
use super::orders::OrderContext;
use crate::connection::{NumberMaps, ORDER_FIELD};
use crate::json::{Json, Misread, Node};
use domain::documents::{
    Adjustment, Billed, CoupaStatus, Invoice, InvoiceLine, InvoiceSupplier, InvoiceTerms, SourceVersion,
};
use domain::entities::{EntityRule, FieldValues, Whose, whose};
use domain::ids::{DocumentKind, InvoiceId, OrderLineKey, PurchaseOrderNumber};
use domain::money::Currency;
use domain::money::negative;
use domain::problem::Problem;
use domain::time::Timestamp;
use flows::ports::InvoiceHead;
use rust_decimal::Decimal;
use sha2::{Digest, Sha256};

const UNREADABLE: &str = "COUPA_INVOICE_UNREADABLE";
const UNREADABLE_FIX: &str =
    "Correct the field in Coupa, or map it in the connection; the record is read again when it changes.";

/// Reads a whole invoice. `asked` is the id that was asked for: an answer about another one is no answer.
pub(crate) fn invoice(
    json: &Json,
    asked: InvoiceId,
    numbers: &NumberMaps,
    context: &OrderContext,
    entity_fields: &FieldValues,
) -> Result<Invoice, Problem> {
    let root = Node::root(json);
    let mut read = read_invoice(&root, asked, numbers, context)
        .map_err(|misread| misread.problem(UNREADABLE, UNREADABLE_FIX))?;
    read.entity_fields.clone_from(entity_fields);
    with_content_hash(read)
}

/// What stands at these paths. Where a path leads through a list, once for each element.
pub(crate) fn entity_fields(root: &Node<'_>, paths: &[String]) -> FieldValues {
    paths
        .iter()
        .map(|path| {
            let values = path
                .split('.')
                .fold(vec![root.clone()], |nodes, name| {
                    let below = nodes.iter().map(|node| node.get(name));
                    below.flat_map(elements).collect()
                })
                .iter()
                .map(|node| match node.text() {
                    Ok(text) => text,
                    Err(_) => node.flag().ok().flatten().map(|flag| flag.to_string()),
                })
                .collect();
            (path.clone(), values)
        })
        .collect()
}

/// The elements of a list; anything else is its own only element.
fn elements<'a>(node: Node<'a>) -> Vec<Node<'a>> {
    match node.items() {
        Ok(items) if !node.is_null() => items,
        _ => vec![node],
    }
}

/// What a listing tells of one invoice; the id alone when nothing else can be read.
///
/// A list that does not show a field which conditions ask for says nothing about whose the invoice is: it is then read.
pub(crate) fn head(
    node: &Node<'_>,
    rules: &[EntityRule],
    fields: &[String],
) -> Result<InvoiceHead, (Option<InvoiceId>, Problem)> {
    let id = node.get("id").whole().ok().flatten().map(InvoiceId);
    let shown = fields.iter().all(|path| shows(node, path));
    let out_of_scope =
        !rules.is_empty() && shown && whose(rules, &entity_fields(node, fields)) == Whose::OutOfScope;
    let read = || -> Result<InvoiceHead, Misread> {
        Ok(InvoiceHead {
            id: id.ok_or_else(|| node.get("id").misread("an invoice id"))?,
            status: status(node)?,
            updated_at: node.get("updated-at").required_instant()?,
            out_of_scope,
        })
    };
    read().map_err(|misread| (id, misread.problem(UNREADABLE, UNREADABLE_FIX)))
}

/// Whether what stands at a path, or that nothing does, is shown: each name to its end, in every element of a list. `null` on
/// the way says that nothing stands below it; an object without the name, or something else in its place, says nothing.
fn shows(node: &Node<'_>, path: &str) -> bool {
    if node.is_null() {
        return true;
    }
    let (name, below) = path.split_once('.').unwrap_or((path, ""));
    let Ok(value) = node.present(name) else {
        return false;
    };
    elements(value).iter().all(|element| match below {
        "" => element.text().is_ok() || element.flag().is_ok(),
        below => shows(element, below),
    })
}

fn status(node: &Node<'_>) -> Result<CoupaStatus, Misread> {
    node.get("status").required_text().map(|word| status_of(&word))
}

/// What a word of Coupa's means; an unknown one is never approved.
pub(crate) fn status_of(word: &str) -> CoupaStatus {
    match word {
        "approved" => CoupaStatus::Approved,
        "voided" => CoupaStatus::Voided,
        other => CoupaStatus::Other(other.to_owned()),
    }
}

fn read_invoice(
    root: &Node<'_>,
    asked: InvoiceId,
    numbers: &NumberMaps,
    context: &OrderContext,
) -> Result<Invoice, Misread> {
    let id = root.get("id");
    if id.whole()? != Some(asked.0) {
        return Err(id.misread(format!("the id that was asked for ({asked})")));
    }
    let kind = kind(root)?;
    let mut lines = root
        .get("invoice-lines")
        .required_items()?
        .iter()
        .zip(1..)
        .map(|(line, place)| read_line(line, place, numbers, context))
        .collect::<Result<Vec<_>, _>>()?;
    let total = match root.get("total-with-taxes").decimal()? {
        Some(total) => total,
        None => root.get("gross-total").required_decimal()?,
    };
    let mut invoice = Invoice {
        id: asked,
        source: SourceVersion {
            updated_at: Timestamp::default(),
            content_sha256: String::new(),
        },
        status: status(root)?,
        // Written by people and other integrations; null is what Coupa holds for a document never exported.
        exported: false,
        kind,
        reference: root
            .get("invoice-number")
            .required("the supplier's invoice number")?,
        original_reference: root.get("original-invoice-number").text()?,
        invoice_date: root.get("invoice-date").required_date()?,
        supplier: supplier(root, numbers)?,
        currency: root
            .get("currency")
            .get("code")
            .required::<Currency>("a currency")?,
        payment_term: root.get("payment-term").get("code").text()?,
        total,
        tax: amounts::tax(root, total)?,
        charges: amounts::charges(root)?,
        lines: Vec::new(),
        terms: InvoiceTerms::default(),
        entity_fields: FieldValues::new(),
        coupa_orders: Vec::new(),
        particulars: super::particulars::particulars(root, kind),
    };
    if kind == DocumentKind::CreditNote {
        invoice.total = negative(invoice.total);
        invoice.tax = negative(invoice.tax);
        for charge in &mut invoice.charges {
            charge.amount = negative(charge.amount);
        }
        sign_credit_lines(&mut lines);
    }
    invoice.lines = lines;
    invoice.terms = super::terms::terms(root, invoice.currency)?;
    amounts::reduce_to_owed(&mut invoice, root)?;
    // Last, because these two are no part of the content that is hashed.
    invoice.source.updated_at = root.get("updated-at").required_instant()?;
    invoice.exported = root.get("exported").flag()?.unwrap_or(false);
    Ok(invoice)
}

/// Adds the hash over what matching depends on: everything but the exported flag and the time of the last change, which
/// our own writes move.
fn with_content_hash(mut invoice: Invoice) -> Result<Invoice, Problem> {
    let updated_at = std::mem::take(&mut invoice.source.updated_at);
    let exported = std::mem::take(&mut invoice.exported);
    let canonical = serde_json::to_vec(&invoice)
        .map_err(|error| Problem::new(UNREADABLE, UNREADABLE_FIX).actual(error.to_string()))?;
    invoice.source = SourceVersion {
        updated_at,
        content_sha256: hex::encode(Sha256::digest(&canonical)),
    };
    invoice.exported = exported;
    Ok(invoice)
}

/// `document-type` decides; the flag `is-credit-note` counts too where Coupa sends it (seen). An unknown type is not
/// taken for an invoice.
fn kind(root: &Node<'_>) -> Result<DocumentKind, Misread> {
    let word = root.get("document-type");
    let flagged = root.get("is-credit-note").flag()?.unwrap_or(false);
    match word.text()?.map(|text| text.to_ascii_lowercase()).as_deref() {
        Some("credit note") => Ok(DocumentKind::CreditNote),
        Some("invoice") | None if flagged => Ok(DocumentKind::CreditNote),
        Some("invoice") | None => Ok(DocumentKind::Invoice),
        Some(_) => Err(word.misread("Invoice or Credit Note")),
    }
}

fn supplier(root: &Node<'_>, numbers: &NumberMaps) -> Result<InvoiceSupplier, Misread> {
    let node = root.get("supplier");
    let found = root.walk(&numbers.supplier.field).text()?;
    let number = found.as_deref().map(|found| numbers.supplier.apply(found));
    let mut also: Vec<String> = found.into_iter().chain(node.get("number").shown()?).collect();
    also.retain(|one| Some(one) != number.as_ref());
    also.dedup();
    Ok(InvoiceSupplier {
        coupa_id: node.get("id").whole()?,
        number,
        also,
        name: match node.get("name").shown()? {
            Some(name) => name,
            None => node.get("display-name").shown()?.unwrap_or_default(),
        },
    })
}

/// Reads a line; `place` is its place among the lines, which counts where Coupa gives it no number.
fn read_line(
    line: &Node<'_>,
    place: u32,
    numbers: &NumberMaps,
    context: &OrderContext,
) -> Result<InvoiceLine, Misread> {
    let word = line.get("type");
    let billed = match word.required_text()?.as_str() {
        "InvoiceQuantityLine" => {
            // A line without a quantity stays a line with a total and nothing billed: the match reports it.
            let quantity = line.get("quantity").decimal()?.unwrap_or(Decimal::ZERO);
            let price = line.get("price");
            let unit_price = match bulk_price(line)?.or(price.price()?) {
                Some(price) => price,
                None if quantity.is_zero() => Decimal::ZERO,
                None => return Err(price.misread("a decimal")),
            };
            Billed::Quantity {
                quantity,
                unit_price,
                unit: line.get("uom").get("code").parsed()?,
            }
        }
        "InvoiceAmountLine" => Billed::Amount,
        _ => return Err(word.misread("InvoiceQuantityLine or InvoiceAmountLine")),
    };
    let total = line.get("total").required_amount()?;
    let (order_line, order_line_unmapped) = match order_line(line, numbers, context)? {
        Named::Line(key) => (Some(key), None),
        Named::Nothing => (None, None),
        Named::Unmapped(text) => (None, Some(text)),
    };
    let number = line.get("line-num");
    Ok(InvoiceLine {
        number: if number.is_null() {
            place
        } else {
            number.required_u32()?
        },
        description: line.get("description").shown()?.unwrap_or_default(),
        billed,
        total,
        adjustment: adjustment(&line.get("adjustment-type"))?,
        order_line,
        order_line_unmapped,
        coding: super::coding::coding(line, total)?,
        failed_tolerances: !line.get("failed-tolerances").items()?.is_empty(),
        coupa_order: super::orders::reference(line)?,
    })
}

/// The price of one unit where Coupa prices in bulk (per 100 or 1000), to the places that a price keeps: the line's own price
/// is rounded there. `None` without one, and where the bulk is counted in another unit.
fn bulk_price(line: &Node<'_>) -> Result<Option<Decimal>, Misread> {
    /// Digits after the point that a price keeps.
    const PLACES: u32 = 12;
    let bulk = line.get("bulk-price");
    if !bulk.is_object() {
        return Ok(None);
    }
    let (Some(price), Some(quantity)) = (bulk.get("price").price()?, bulk.get("qty").decimal()?) else {
        return Ok(None);
    };
    if bulk.get("conversion-numerator").decimal()? != bulk.get("conversion-denominator").decimal()? {
        return Ok(None);
    }
    let each = price.checked_div(quantity);
    let each = each.ok_or_else(|| bulk.get("qty").misread("a quantity that is not zero"))?;
    Ok(Some(each.round_dp(PLACES).normalize()))
}

/// What a line of a credit note corrects. A word that is not known is not guessed.
fn adjustment(field: &Node<'_>) -> Result<Option<Adjustment>, Misread> {
    match field.text()?.map(|word| word.to_ascii_lowercase()).as_deref() {
        None => Ok(None),
        Some("price") => Ok(Some(Adjustment::Price)),
        Some("quantity") => Ok(Some(Adjustment::Quantity)),
        Some("other") => Ok(Some(Adjustment::Other)),
        Some(_) => Err(field.misread("price, quantity or other")),
    }
}

/// What a line says about the order line it bills.
enum Named {
    /// This one.
    Line(OrderLineKey),
    /// An order, and an order line that leads to none of QAD's: what it names.
    Unmapped(String),
    /// No order.
    Nothing,
}

/// The order line a line bills. The order is named on lines only; an order without a line number cannot be matched and
/// is not the same as no order. What the line leaves open, the order in Coupa may say.
fn order_line(line: &Node<'_>, numbers: &NumberMaps, context: &OrderContext) -> Result<Named, Misread> {
    let mut field = line.walk(&numbers.order.field);
    if field.is_null() && numbers.order.field == ORDER_FIELD {
        field = line.get("order-header-num");
    }
    let text = match field.text()? {
        Some(text) => Some(text),
        None => context.mapped_number(line, &numbers.order)?,
    };
    let Some(text) = text else {
        return Ok(Named::Nothing);
    };
    let order: PurchaseOrderNumber = numbers
        .order
        .apply(&text)
        .parse()
        .map_err(|error: domain::ids::IdError| field.misread(error.expected))?;
    let own = line.walk(&numbers.line.field).text()?;
    let found = match &own {
        None => context.line_number(line)?,
        Some(text) => numbers.line.apply(text).parse::<u32>().ok(),
    };
    Ok(match (found, own) {
        (Some(line), _) => Named::Line(OrderLineKey { order, line }),
        (None, Some(named)) => Named::Unmapped(format!("line {named} of order {order}")),
        (None, None) => Named::Unmapped(format!("no line of order {order}")),
    })
}

/// Makes the lines of a credit note negative. Coupa tenants write credit notes with either sign, but one document has
/// one sign: when lines contradict each other, those that are positive stay positive, so that the match reports them.
fn sign_credit_lines(lines: &mut [InvoiceLine]) {
    let is_positive = |line: &InvoiceLine| sign(line) > 0;
    let mixed = lines.iter().any(is_positive) && lines.iter().any(|line| sign(line) < 0);
    for line in lines {
        let keep_positive = mixed && is_positive(line);
        let signed = |amount: Decimal| {
            if keep_positive {
                amount.abs()
            } else {
                negative(amount)
            }
        };
        line.total = signed(line.total);
        if let Billed::Quantity {
            quantity, unit_price, ..
        } = &mut line.billed
        {
            *quantity = signed(*quantity);
            *unit_price = unit_price.abs();
        }
    }
}

/// The sign of a line: its total's, or that of quantity times price when the total is zero.
fn sign(line: &InvoiceLine) -> i8 {
    let of = |amount: Decimal| match amount {
        zero if zero.is_zero() => 0i8,
        negative if negative.is_sign_negative() => -1,
        _ => 1,
    };
    match (of(line.total), &line.billed) {
        (
            0,
            Billed::Quantity {
                quantity, unit_price, ..
            },
        ) => of(*quantity).saturating_mul(of(*unit_price)),
        (total, _) => total,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::NumberMap;
    use crate::json::parse;
    use domain::documents::{Charge, ChargeKind, Share};

    const REALISTIC: &str = include_str!("../../tests/data/coupa-invoice.json");

    fn read(text: &str) -> Result<Invoice, Problem> {
        invoice(
            &parse(text.as_bytes()).unwrap(),
            InvoiceId(92010),
            &NumberMaps::default(),
            &OrderContext::default(),
            &FieldValues::new(),
        )
    }

    fn changed(from: &str, to: &str) -> String {
        assert!(REALISTIC.contains(from), "the sample has no {from}");
        REALISTIC.replace(from, to)
    }

    fn decimal(text: &str) -> Decimal {
        domain::money::parse_decimal(text).unwrap()
    }

    #[test]
    fn a_realistic_invoice_is_read_whole() {
        let invoice = read(REALISTIC).unwrap();
        assert_eq!(invoice.reference.as_str(), "INV-20260928-17");
        assert_eq!(invoice.invoice_date.to_string(), "2026-09-28");
        assert_eq!(invoice.source.updated_at.to_string(), "2026-09-30T07:12:44.000Z");
        assert_eq!(
            (invoice.total, invoice.tax),
            (decimal("1391.5"), decimal("241.5"))
        );
        assert_eq!(invoice.supplier.number.as_deref(), Some("S00123"));
        assert_eq!(
            invoice.charges,
            [Charge {
                kind: ChargeKind::Shipping,
                amount: decimal("50"),
                coding: Vec::new()
            }]
        );
        assert_eq!(invoice.lines.len(), 2);
        assert_eq!(
            invoice.lines[0].order_line.as_ref().unwrap().to_string(),
            "4711 line 1"
        );
        assert_eq!(invoice.lines[1].billed, Billed::Amount);
        assert_eq!(invoice.lines[1].order_line, None);
        assert!(!invoice.exported);
        assert_eq!(invoice.source.content_sha256.len(), 64);
    }

    #[test]
    fn underscores_numbers_and_absent_nulls_are_the_same_invoice() {
        let other = REALISTIC
            .replace("\"invoice-number\"", "\"invoice_number\"")
            .replace("\"invoice-lines\"", "\"invoice_lines\"")
            .replace("\"order-line-num\": \"1\"", "\"order_line_num\": 1")
            .replace(
                "\"total-with-taxes\": \"1391.50\"",
                "\"total_with_taxes\": 1391.5",
            )
            .replace("\"original-invoice-number\": null,", "");
        assert_eq!(read(&other).unwrap(), read(REALISTIC).unwrap());
    }

    #[test]
    fn our_own_writes_do_not_change_the_content_and_everything_else_does() {
        let before = read(REALISTIC).unwrap().source;
        for (from, to) in [
            ("\"exported\": false", "\"exported\": true"),
            (
                "\"updated-at\": \"2026-09-30T09:12:44+02:00\"",
                "\"updated-at\": \"2026-10-01T09:12:44+02:00\"",
            ),
            ("\"payments\": []", "\"payments\": [{\"amount-paid\": \"1.00\"}]"),
            ("\"quantity\": \"10.0\"", "\"quantity\": \"10.00\""),
            (
                "\"net-due-date\": \"2026-10-28T00:00:00+02:00\"",
                "\"net-due-date\": \"2026-11-28T00:00:00+02:00\", \"requested-by\": {\"fullname\": \"Robin Sample\"}",
            ),
        ] {
            assert_eq!(
                read(&changed(from, to)).unwrap().source.content_sha256,
                before.content_sha256,
                "{to}"
            );
        }
        for (from, to) in [
            ("\"quantity\": \"10.0\"", "\"quantity\": \"11\""),
            ("\"status\": \"approved\"", "\"status\": \"voided\""),
            ("\"code\": \"EUR\"", "\"code\": \"USD\""),
        ] {
            assert_ne!(
                read(&changed(from, to)).unwrap().source.content_sha256,
                before.content_sha256,
                "{to}"
            );
        }
    }

    #[test]
    fn a_broken_character_parks_the_invoice_only_where_the_text_is_needed() {
        let half = r"\ud83d";
        let name = changed("Acme GmbH", &format!("Acme {half}"));
        assert!(read(&name).unwrap().supplier.name.starts_with("Acme \u{fffd}"));
        let note = changed(
            "\"payments\": []",
            &format!("\"payments\": [], \"internal-note\": \"{half}\""),
        );
        assert_eq!(read(&note).unwrap(), read(REALISTIC).unwrap());
        let number = changed("INV-20260928-17", &format!("INV-{half}"));
        let problem = read(&number).unwrap_err();
        assert_eq!(
            (problem.code.as_str(), problem.field.as_str()),
            (UNREADABLE, "invoice-number")
        );
    }

    #[test]
    fn what_cannot_be_read_names_its_path() {
        for (from, to, field) in [
            ("\"id\": 92010", "\"id\": 92011", "id"),
            (
                "\"price\": \"100.00\", \"uom\"",
                "\"price\": \"1OO\", \"uom\"",
                "invoice-lines[0].price",
            ),
            (
                "\"document-type\": \"Invoice\"",
                "\"document-type\": \"Prepayment\"",
                "document-type",
            ),
            (
                "\"type\": \"InvoiceAmountLine\"",
                "\"type\": \"InvoiceOtherLine\"",
                "invoice-lines[1].type",
            ),
            (
                "\"type\": \"InvoiceShippingCharge\"",
                "\"type\": \"InvoiceTip\"",
                "invoice-charges[0].type",
            ),
            (
                "\"invoice-date\": \"2026-09-28",
                "\"invoice-date\": \"28.09.2026",
                "invoice-date",
            ),
            (
                "\"updated-at\": \"2026-09-30T09:12:44+02:00\"",
                "\"updated-at\": \"2026-09-30\"",
                "updated-at",
            ),
            ("\"status\": \"approved\"", "\"status\": \"\"", "status"),
            (
                "\"total-with-taxes\": \"1391.50\"",
                "\"total-with-taxes\": \"1e99\"",
                "total-with-taxes",
            ),
        ] {
            let problem = read(&changed(from, to)).unwrap_err();
            assert_eq!(
                (problem.code.as_str(), problem.field.as_str()),
                (UNREADABLE, field),
                "{problem}"
            );
        }
    }

    #[test]
    fn an_unknown_status_is_kept_and_is_not_approved() {
        let invoice = read(&changed(
            "\"status\": \"approved\"",
            "\"status\": \"pending_receipt\"",
        ))
        .unwrap();
        assert_eq!(invoice.status, CoupaStatus::Other("pending_receipt".to_owned()));
    }

    fn credit(lines: &[(&str, &str, &str)], total: &str, tax: &str) -> Invoice {
        let lines: Vec<String> = lines
            .iter()
            .enumerate()
            .map(|(index, (quantity, price, total))| {
                format!(
                    r#"{{"line-num":{index},"type":"InvoiceQuantityLine","quantity":"{quantity}","price":"{price}","total":"{total}","po-number":"PO7","order-line-num":"1"}}"#
                )
            })
            .collect();
        read(&format!(
            r#"{{"id":92010,"updated-at":"2026-09-30T09:12:44Z","status":"approved","invoice-number":"CN-1","invoice-date":"2026-09-28",
                "document-type":"Credit Note","original-invoice-number":"INV-9","currency":{{"code":"JPY"}},"total-with-taxes":"{total}",
                "tax-amount":"{tax}","shipping-amount":"5","invoice-lines":[{}]}}"#,
            lines.join(",")
        ))
        .unwrap()
    }

    #[test]
    fn a_credit_note_is_negative_throughout_whichever_sign_coupa_writes() {
        let written_positive = credit(&[("2", "100", "200")], "225", "20");
        for other in [
            credit(&[("-2", "100", "-200")], "-225", "-20"),
            credit(&[("2", "-100", "-200")], "-225", "20"),
        ] {
            assert_eq!(other.lines, written_positive.lines);
            assert_eq!(
                (other.total, other.tax),
                (written_positive.total, written_positive.tax)
            );
        }
        assert_eq!(
            (written_positive.total, written_positive.tax),
            (decimal("-225"), decimal("-20"))
        );
        assert_eq!(written_positive.charges[0].amount, decimal("-5"));
        assert_eq!(written_positive.lines[0].total, decimal("-200"));
        let Billed::Quantity {
            quantity, unit_price, ..
        } = &written_positive.lines[0].billed
        else {
            panic!("a quantity line");
        };
        assert_eq!((*quantity, *unit_price), (decimal("-2"), decimal("100")));
        assert_eq!(written_positive.original_reference.as_deref(), Some("INV-9"));
    }

    #[test]
    fn lines_of_a_credit_note_that_contradict_each_other_still_do() {
        let mixed = credit(&[("-2", "100", "-200"), ("1", "50", "50")], "-150", "0");
        assert_eq!(mixed.lines[0].total, decimal("-200"));
        assert_eq!(mixed.lines[1].total, decimal("50"));
    }

    #[test]
    fn a_negative_line_on_an_invoice_stays_negative() {
        let invoice = read(&changed("\"total\": \"100.00\"", "\"total\": \"-100.00\"")).unwrap();
        assert_eq!(invoice.lines[1].total, decimal("-100"));
    }

    #[test]
    fn is_credit_note_alone_makes_one() {
        let invoice = read(&changed("\"is-credit-note\": false", "\"is-credit-note\": true")).unwrap();
        assert_eq!(
            (invoice.kind, invoice.total),
            (DocumentKind::CreditNote, decimal("-1391.5"))
        );
    }

    #[test]
    fn taxes_are_taken_once() {
        let header = changed("\"line-level-taxation\": true", "\"line-level-taxation\": false");
        assert_eq!(read(&header).unwrap().tax, decimal("241.5"));
        let from_tax_lines = REALISTIC
            .replace("\"tax-amount\": \"210.00\",", "")
            .replace("\"tax-amount\": \"241.50\",", "\"tax-amount\": \"999.00\",");
        assert_eq!(read(&from_tax_lines).unwrap().tax, decimal("241.5"));
        let header_tax_lines = header.replace("\"tax-amount\": \"241.50\",", "").replace(
            "\"tax-lines\": [],",
            "\"tax-lines\": [{\"amount\": \"200.00\"}, {\"amount\": \"41.50\"}],",
        );
        assert_eq!(read(&header_tax_lines).unwrap().tax, decimal("241.5"));
    }

    /// An invoice of the given header fields, lines and charges.
    fn owed(header: &str, lines: &str, charges: &str) -> Invoice {
        read(&format!(
            r#"{{"id":92010,"updated-at":"2026-09-30T09:12:44Z","status":"approved","invoice-number":"X","invoice-date":"2026-09-28",
                "currency":{{"code":"USD","decimals":2}},{header},"invoice-lines":[{lines}],"invoice-charges":[{charges}]}}"#
        ))
        .unwrap()
    }

    const GOODS: &str = r#"{"line-num":1,"type":"InvoiceAmountLine","total":"100.00"}"#;

    #[test]
    fn tax_that_is_not_paid_to_the_supplier_is_not_owed() {
        let thousand = r#"{"line-num":1,"type":"InvoiceAmountLine","total":"1000.00"}"#;
        let reverse_charge =
            r#""total-with-taxes":"1210.00","tax-amount":"210.00","tax-due-to-supplier":"0.00""#;
        let invoice = owed(reverse_charge, thousand, "");
        assert_eq!((invoice.total, invoice.tax), (decimal("1000"), decimal("0")));
        let stated = invoice.terms.stated.unwrap();
        assert_eq!((stated.total, stated.tax), (decimal("1210"), decimal("210")));
        // Some tenants' totals leave out what is not due.
        let without = r#""total-with-taxes":"1000.00","tax-amount":"210.00","tax-due-to-supplier":"0.00""#;
        assert_eq!(owed(without, thousand, "").total, decimal("1000"));
        // Part of it due; and all of it, which is the usual bill.
        let part = r#""total-with-taxes":"1210.00","tax-amount":"210.00","tax-due-to-supplier":"60.00""#;
        assert_eq!(
            (owed(part, thousand, "").total, owed(part, thousand, "").tax),
            (decimal("1060"), decimal("60"))
        );
        let all = r#""total-with-taxes":"1210.00","tax-amount":"210.00","tax-due-to-supplier":"210.00""#;
        let usual = owed(all, thousand, "");
        assert_eq!((usual.total, usual.terms.stated), (decimal("1210"), None));
        // A total that is off stays off by as much.
        let off = r#""total-with-taxes":"1215.00","tax-amount":"210.00","tax-due-to-supplier":"0.00""#;
        assert_eq!(owed(off, thousand, "").total, decimal("1005"));
        let credit = r#""document-type":"Credit Note","total-with-taxes":"1210.00","tax-amount":"210.00","tax-due-to-supplier":"0""#;
        assert_eq!(owed(credit, thousand, "").total, decimal("-1000"));
    }

    #[test]
    fn a_tax_on_freight_alone_counts_wherever_the_goods_are_taxed() {
        let freight = r#"{"type":"InvoiceShippingCharge","total":"20.00","tax-lines":[{"amount":"4.20","type":"TaxLine"}]}"#;
        for header in [
            r#""total-with-taxes":"124.20","tax-amount":null"#,
            r#""total-with-taxes":"124.20","tax-amount":null,"line-level-taxation":true"#,
            r#""total-with-taxes":"124.20","tax-amount":"0.00""#,
            r#""total-with-taxes":"124.20","tax-amount":"4.20""#,
            r#""total-with-taxes":"124.20","tax-amount":"4.20","line-level-taxation":true"#,
        ] {
            assert_eq!(owed(header, GOODS, freight).tax, decimal("4.2"), "{header}");
        }
        // The goods' tax at the header, the freight's beside it.
        let beside = r#""total-with-taxes":"145.20","tax-amount":"21.00""#;
        assert_eq!(owed(beside, GOODS, freight).tax, decimal("25.2"));
    }

    #[test]
    fn where_there_are_rows_of_tax_the_amount_beside_them_does_not_count() {
        let line = r#"{"line-num":1,"type":"InvoiceAmountLine","total":"100.00","tax-amount":"0.00","tax-lines":[{"amount":"5.00"},{"amount":"7.00","type":"TaxLine"}]}"#;
        let header = r#""total-with-taxes":"112.00","line-level-taxation":true"#;
        assert_eq!(owed(header, line, "").tax, decimal("12"));
    }

    #[test]
    fn rows_of_tax_on_the_lines_count_whatever_the_flag_says_and_never_twice() {
        let line = r#"{"line-num":1,"type":"InvoiceAmountLine","total":"100.00","tax-lines":[{"amount":"5.00"},{"amount":"7.00"}]}"#;
        let amount = r#"{"line-num":1,"type":"InvoiceAmountLine","total":"100.00","tax-amount":"12.00"}"#;
        let freight = r#"{"type":"InvoiceShippingCharge","total":"20.00","tax-lines":[{"amount":"4.20"}]}"#;
        for flag in [
            "",
            r#","line-level-taxation":false"#,
            r#","line-level-taxation":null"#,
        ] {
            let tax =
                |header: &str, line: &str, charges: &str| owed(&format!("{header}{flag}"), line, charges).tax;
            for (total, header, charges, expected) in [
                ("112.00", "null", "", "12"),
                ("112.00", "\"0.00\"", "", "12"),
                ("112.00", "\"12.00\"", "", "12"),
                ("136.20", "null", freight, "16.2"),
                ("136.20", "\"0.00\"", freight, "16.2"),
                ("136.20", "\"12.00\"", freight, "16.2"),
                ("136.20", "\"16.20\"", freight, "16.2"),
                // The header's own tax, which no line's adds to; what is off stays off.
                ("121.00", "\"21.00\"", "", "21"),
                ("133.00", "\"21.00\"", "", "21"),
            ] {
                let header = format!(r#""total-with-taxes":"{total}","tax-amount":{header}"#);
                for line in [line, amount] {
                    assert_eq!(
                        tax(&header, line, charges),
                        decimal(expected),
                        "{header}{flag} {line} {charges}"
                    );
                }
            }
            // The header's own rows are its tax.
            let rows = r#""total-with-taxes":"112.00","tax-lines":[{"amount":"12.00"}]"#;
            assert_eq!(tax(rows, line, ""), decimal("12"));
        }
    }

    #[test]
    fn what_is_withheld_is_no_tax_and_part_of_what_is_owed() {
        for (header, line) in [
            (
                r#""total-with-taxes":"118.00","tax-lines":[{"amount":"18.00","type":"TaxLine"},{"amount":"10.00","type":"WithholdingTaxLine"}]"#,
                GOODS,
            ),
            (
                r#""total-with-taxes":"118.00","tax-amount":"18.00","withholding-tax-lines":[{"amount":"-10.00"}]"#,
                GOODS,
            ),
            (
                r#""total-with-taxes":"118.00","line-level-taxation":true"#,
                r#"{"line-num":1,"type":"InvoiceAmountLine","total":"100.00","tax-amount":"18.00","tax-lines":[{"amount":"10.00","type":"WithholdingTaxLine"}]}"#,
            ),
        ] {
            let invoice = owed(header, line, "");
            assert_eq!(
                (invoice.total, invoice.tax, invoice.terms.withheld),
                (decimal("118"), decimal("18"), decimal("10")),
                "{header}"
            );
        }
        let unknown = r#"{"id":92010,"updated-at":"2026-09-30T09:12:44Z","status":"approved","invoice-number":"X","invoice-date":"2026-09-28",
            "currency":{"code":"USD"},"total-with-taxes":"1","invoice-lines":[],"tax-lines":[{"amount":"1","type":"OtherLine"}]}"#;
        assert_eq!(read(unknown).unwrap_err().field, "tax-lines[0].type");
    }

    #[test]
    fn totals_of_twenty_places_and_coupas_digits_are_read() {
        let line = r#"{"line-num":1,"type":"InvoiceQuantityLine","quantity":"3","price":"0.33333333333333333333","total":"0.99999999999999999999"}"#;
        let invoice = owed(r#""total-with-taxes":"1.00""#, line, "");
        assert_eq!(
            (invoice.total, invoice.lines[0].total),
            (decimal("1"), decimal("1"))
        );
        let forint =
            changed("\"code\": \"EUR\"", "\"code\": \"HUF\"").replace("\"decimals\": 2", "\"decimals\": 0");
        let read_whole = read(&forint).unwrap();
        assert_eq!(
            (read_whole.terms.minor_digits, read_whole.minor_unit()),
            (Some(0), decimal("1"))
        );
        assert_eq!(read(REALISTIC).unwrap().terms.minor_digits, None);
    }

    #[test]
    fn who_pays_is_read_and_our_own_payment_changes_no_content() {
        let usual = owed(r#""total-with-taxes":"100.00""#, GOODS, "");
        let paid = owed(
            r#""total-with-taxes":"100.00","paid":true,"payment-channel":"ERP""#,
            GOODS,
            "",
        );
        assert!(paid.terms.paid);
        assert_eq!(paid.source.content_sha256, usual.source.content_sha256);
        let elsewhere = owed(
            r#""total-with-taxes":"100.00","canceled":true,"payment-channel":"Coupa Pay Virtual Card","advance-payment-received-amount":"0.00",
               "payment-agreement-notes":" ","remit-to-address":{"remit-to-code":"B-2","external-src-ref":null}"#,
            GOODS,
            "",
        );
        assert!(elsewhere.terms.canceled && elsewhere.terms.advance_received.is_none());
        assert_eq!(elsewhere.terms.agreement_notes, None);
        assert_eq!(elsewhere.terms.remit_to.unwrap().code.as_deref(), Some("B-2"));
        assert_ne!(elsewhere.source.content_sha256, usual.source.content_sha256);
    }

    #[test]
    fn an_order_line_that_leads_to_none_is_told_and_a_line_without_a_number_has_its_place() {
        let unmapped = |to: &str| {
            let invoice = read(&changed("\"order-line-num\": \"1\"", to)).unwrap();
            (
                invoice.lines[0].order_line.clone(),
                invoice.lines[0].order_line_unmapped.clone(),
            )
        };
        assert_eq!(
            unmapped("\"order-line-num\": \"1.1\""),
            (None, Some("line 1.1 of order 4711".to_owned()))
        );
        assert_eq!(
            unmapped("\"order-line-num\": null"),
            (None, Some("no line of order 4711".to_owned()))
        );
        let numbers: Vec<u32> = owed(
            r#""total-with-taxes":"2""#,
            r#"{"line-num":null,"type":"InvoiceAmountLine","total":"1"},{"type":"InvoiceAmountLine","total":"1"}"#,
            "",
        )
        .lines
        .iter()
        .map(|line| line.number)
        .collect();
        assert_eq!(numbers, [1, 2]);
    }

    #[test]
    fn what_a_line_is_coded_to_is_read_by_account_by_amounts_that_add_up_or_by_percent() {
        let coded = |coding: &str| {
            let line = format!(r#"{{"line-num":1,"type":"InvoiceAmountLine","total":"100.00",{coding}}}"#);
            let lines = owed(r#""total-with-taxes":"100.00""#, &line, "").lines;
            let shown = |share: &domain::documents::CodedShare| {
                let account = share.account.get("segment-2").cloned().unwrap_or_default();
                match share.share {
                    Share::Whole => format!("{account} whole"),
                    Share::Percent(percent) => format!("{account} {percent} %"),
                    Share::Amount(amount) => format!("{account} {amount}"),
                }
            };
            lines[0].coding.iter().map(shown).collect::<Vec<_>>()
        };
        let account = |segment: &str| {
            format!(r#"{{"id":1,"code":"10USA-{segment}","segment-1":"10USA","segment-2":"{segment}"}}"#)
        };
        assert_eq!(
            coded(&format!(
                r#""account":{},"account-allocations":[]"#,
                account("6150")
            )),
            ["6150 whole"]
        );
        let split = |one: &str, two: &str| {
            coded(&format!(
                r#""account":null,"account-allocations":[{{"pct":"60.0","amount":"{one}","account":{}}},{{"pct":"40.0","amount":"{two}","account":{}}}]"#,
                account("6150"),
                account("6160")
            ))
        };
        assert_eq!(split("60.00", "40.00"), ["6150 60", "6160 40"]);
        assert_eq!(split("72.60", "48.40"), ["6150 60 %", "6160 40 %"]);
        assert!(coded(r#""account":null"#).is_empty());
    }

    #[test]
    fn taxed_by_line_without_any_tax_on_a_line_takes_the_header() {
        let text = r#"{"id":92010,"updated-at":"2026-09-30T09:12:44Z","status":"approved","invoice-number":"X","invoice-date":"2026-09-28",
            "currency":{"code":"KWD"},"total-with-taxes":"11.0025","tax-amount":"1.0025","line-level-taxation":true,
            "invoice-lines":[{"line-num":1,"type":"InvoiceAmountLine","total":"10"}]}"#;
        assert_eq!(read(text).unwrap().tax, decimal("1.0025"));
    }

    #[test]
    fn charges_and_header_amounts_are_the_same_money() {
        let header_only = changed(
            "\"type\": \"InvoiceShippingCharge\"",
            "\"type\": \"InvoiceMiscCharge\"",
        );
        let invoice = read(&header_only).unwrap();
        assert_eq!(
            invoice.charges,
            [
                Charge {
                    kind: ChargeKind::Shipping,
                    amount: decimal("50"),
                    coding: Vec::new()
                },
                Charge {
                    kind: ChargeKind::Misc,
                    amount: decimal("50"),
                    coding: Vec::new()
                },
            ]
        );
    }

    #[test]
    fn rows_of_tax_are_counted_and_what_is_withheld_is_none() {
        let text = r#"{"id":92010,"updated-at":"2026-09-30T09:12:44Z","status":"approved","invoice-number":"I-1","invoice-date":"2026-09-28",
            "document-type":"Invoice","currency":{"code":"USD"},"total-with-taxes":"100.00","tax-amount":"0",
            "invoice-charges":[{"type":"InvoiceMiscCharge","total":"1","tax-amount":"0.10","tax-lines":[]}],
            "invoice-lines":[{"line-num":1,"type":"InvoiceAmountLine","total":"80.00","tax-amount":"12.00",
            "tax-lines":[{"amount":"5.00"},{"amount":"7.00","type":"TaxLine"},{"amount":"3","type":"WithholdingTaxLine"}]}]}"#;
        assert_eq!(read(text).unwrap().terms.tax_rows, 3);
    }

    #[test]
    fn a_bulk_price_is_read_to_its_places_and_an_adjustment_by_its_word() {
        let text = |more: &str| {
            format!(
                r#"{{"id":92010,"updated-at":"2026-09-30T09:12:44Z","status":"approved","invoice-number":"CN-1","invoice-date":"2026-09-28",
                "document-type":"Invoice","currency":{{"code":"USD"}},"total-with-taxes":"100.00",
                "invoice-lines":[{{"line-num":1,"type":"InvoiceQuantityLine","quantity":"3000","price":"0.0333","total":"100.00",
                "po-number":"PO7","order-line-num":"1"{more}}}]}}"#
            )
        };
        let price = |more: &str| match &read(&text(more)).unwrap().lines[0].billed {
            Billed::Quantity { unit_price, .. } => *unit_price,
            Billed::Amount => panic!("a quantity line"),
        };
        assert_eq!(price(""), decimal("0.0333"));
        let bulk = r#","bulk-price":{"price":"33.333333","qty":"1000.0","conversion-numerator":"1.0","conversion-denominator":"1.0"}"#;
        assert_eq!(price(bulk), decimal("0.033333333"));
        assert_eq!(
            price(&bulk.replace(r#"denominator":"1.0"#, r#"denominator":"12"#)),
            decimal("0.0333")
        );
        assert!(read(&text(&bulk.replace("1000.0", "0"))).is_err());
        for (word, expected) in [
            ("Price", Some(Adjustment::Price)),
            ("quantity", Some(Adjustment::Quantity)),
            ("other", Some(Adjustment::Other)),
            ("", None),
        ] {
            let line = read(&text(&format!(r#","adjustment-type":"{word}""#)))
                .unwrap()
                .lines[0]
                .clone();
            assert_eq!(line.adjustment, expected, "{word}");
        }
        let problem = read(&text(r#","adjustment-type":"bonus""#)).unwrap_err();
        assert_eq!(problem.field, "invoice-lines[0].adjustment-type");
    }

    #[test]
    fn the_order_number_can_be_mapped() {
        let numbers = NumberMaps {
            order: NumberMap {
                strip_prefix: "QAD-".to_owned(),
                ..NumberMap::of("order-line-custom-fields.cf-qad-order")
            },
            ..NumberMaps::default()
        };
        let text = changed(
            "\"order-line-num\": \"1\"",
            "\"order-line-num\": \"1\", \"order-line-custom-fields\": {\"cf-qad-order\": \"QAD-PO100234\"}",
        );
        let read = |text: &str| {
            let json = parse(text.as_bytes()).unwrap();
            invoice(
                &json,
                InvoiceId(92010),
                &numbers,
                &OrderContext::default(),
                &FieldValues::new(),
            )
            .unwrap()
        };
        let invoice = read(&text);
        assert_eq!(
            invoice.lines[0].order_line.as_ref().unwrap().order.as_str(),
            "PO100234"
        );
        assert_eq!(invoice.lines[1].order_line, None);
    }

    #[test]
    fn the_suppliers_number_in_coupa_stays_known_beside_the_mapped_one() {
        let read = |supplier: NumberMap| {
            let numbers = NumberMaps {
                supplier,
                ..NumberMaps::default()
            };
            let text = changed(
                "\"number\": \"S00123\"",
                "\"number\": \"S00123\", \"qad\": \"Q-7\"",
            );
            let json = parse(text.as_bytes()).unwrap();
            let context = OrderContext::default();
            invoice(&json, InvoiceId(92010), &numbers, &context, &FieldValues::new())
                .unwrap()
                .supplier
        };
        let field = NumberMaps::default().supplier.field;
        let plain = read(NumberMap::of(&field));
        assert_eq!((plain.number.as_deref(), plain.also), (Some("S00123"), vec![]));
        let mapped = read(NumberMap {
            map: [("S00123".to_owned(), "10S1001".to_owned())].into(),
            ..NumberMap::of(&field)
        });
        assert_eq!(
            (mapped.number.as_deref(), mapped.also),
            (Some("10S1001"), vec!["S00123".to_owned()])
        );
        let elsewhere = read(NumberMap {
            strip_prefix: "Q-".to_owned(),
            ..NumberMap::of("supplier.qad")
        });
        assert_eq!(
            (elsewhere.number.as_deref(), elsewhere.also),
            (Some("7"), vec!["Q-7".to_owned(), "S00123".to_owned()])
        );
    }

    #[test]
    fn prices_of_many_places_and_foreign_letters_come_through() {
        let text = changed(
            "\"price\": \"100.00\", \"uom\"",
            "\"price\": \"0.12345600000000000000\", \"uom\"",
        )
        .replace("Acme GmbH", "Köln 株式会社 ✓");
        let invoice = read(&text).unwrap();
        assert_eq!(invoice.supplier.name, "Köln 株式会社 ✓");
        let Billed::Quantity { unit_price, .. } = &invoice.lines[0].billed else {
            panic!("a quantity line")
        };
        assert_eq!(*unit_price, decimal("0.123456"));
    }
}
