//! What a setting that is not as it comes does to an invoice, in one sentence with its value.

use serde_json::Value;

/// What the setting at this place does to an invoice; `None` for one that does nothing to any.
///
/// The place is the setting's name with dots; a setting of an entity is what it is in the section `invoices` or `coding`.
pub(super) fn does(setting: &str, value: &Value) -> Option<String> {
    let parts: Vec<&str> = setting.split('.').collect();
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items
            .iter()
            .map(|item| item.as_str().map_or_else(|| item.to_string(), str::to_owned))
            .collect::<Vec<_>>()
            .join(", "),
        other => other.to_string(),
    };
    if let Some(own) = parts.first().and_then(|first| first.strip_prefix("entities[")) {
        return of_entity(own.trim_end_matches(']'), &parts, value, &text);
    }
    match parts.as_slice() {
        ["coupa", rest @ ..] => of_coupa(rest, &text),
        ["invoices", "tolerance", rest @ ..] => Some(tolerance(rest, &text)),
        ["invoices", rest @ ..] => of_invoices(rest, &text),
        ["lines", name] => line(name, &text),
        ["coding", part, "field"] => Some(format!(
            "The {} of a line or charge is taken from Coupa's {text} of its account.",
            plain(part)
        )),
        ["coding", part, "map", coupa] => Some(format!(
            "Where Coupa's account says {coupa}, the {} is {text}.",
            plain(part)
        )),
        ["coding", part] => Some(format!(
            "The {} of a line or charge is taken from Coupa's {text} of its account.",
            plain(part)
        )),
        ["credits", "return_wait_days"] => Some(format!(
            "A credit note whose return has not come within {text} days is a person's; it still posts when it comes."
        )),
        ["credits", account, part] => Some(format!(
            "A credit of {} that is not coded goes to {} {text}; no return is used up by it.",
            if *account == "price_account" {
                "a price"
            } else {
                "anything but goods and prices"
            },
            plain(part)
        )),
        ["payments", rest @ ..] => of_payments(rest, &text),
        ["hold_recheck_seconds"] => Some(format!(
            "An invoice that waits is looked at every {text} seconds although nothing happened."
        )),
        ["order_recheck_seconds"] => Some(format!(
            "The orders of invoices that wait are read again in QAD every {text} seconds."
        )),
        ["time_zone"] => Some(format!(
            "Days begin in {text}: that decides the day of posting_date = \"matching-date\"."
        )),
        _ => None,
    }
}

/// A name of a setting in words.
fn plain(name: &str) -> String {
    name.replace("gl_account", "GL account").replace('_', " ")
}

fn of_entity(index: &str, parts: &[&str], value: &Value, text: &str) -> Option<String> {
    let rest = parts.get(1..)?;
    let own = match rest {
        ["code"] => format!("Invoices that are its are recorded in QAD entity {text}."),
        ["domain"] => format!("Orders and receipts of its invoices are looked for in domain {text}."),
        ["time_zone"] => format!("Its days begin in {text}."),
        ["workspace_header"] => "Each of its calls names its workspace, <domain>_<entity>.".to_owned(),
        ["shared_set"] => format!("Its suppliers are those of shared set {text}."),
        ["when", ..] => {
            "Only invoices on which all conditions hold are its; one that no entity takes is left alone."
                .to_owned()
        }
        ["coding", ..] => does(&rest.join("."), value)?,
        _ => does(&format!("invoices.{}", rest.join(".")), value)?,
    };
    Some(format!("Entity {index} (counted from 0): {own}"))
}

fn of_coupa(rest: &[&str], text: &str) -> Option<String> {
    let number = |name: &str| match name {
        "order_number" => "order",
        "order_line" => "order line",
        _ => "supplier",
    };
    match rest {
        [name @ ("order_number" | "order_line" | "supplier_code"), part] => {
            let number = number(name);
            Some(match *part {
                "field" => format!("The QAD {number} of an invoice is read from its field {text}."),
                "strip_prefix" => {
                    format!("{text} in front of the {number} is taken off before QAD is asked.")
                }
                "pad_to" => {
                    format!("The {number} is filled up with zeros to {text} characters before QAD is asked.")
                }
                _ => format!("{text} is put in front of the {number} before QAD is asked."),
            })
        }
        [
            name @ ("order_number" | "order_line" | "supplier_code"),
            "map",
            value,
        ] => Some(format!(
            "Where Coupa says {value}, the QAD {} is {text}, whatever the other rules say.",
            number(name)
        )),
        ["orders", "read"] => Some(
            "Orders are not read in Coupa: one that is cancelled or closed there is in no invoice's way."
                .to_owned(),
        ),
        ["orders", name @ ("cancelled" | "closed" | "soft_closed")] => Some(format!(
            "An invoice on an order that is {} in Coupa {}.",
            plain(name),
            if text == "park" {
                "waits for a person"
            } else {
                "posts when QAD's order and receipts allow it"
            }
        )),
        ["orders", "statuses", word] => {
            Some(format!("An order with Coupa's status {word} counts as {text}."))
        }
        ["orders", "receipt_required_field"] => Some(format!(
            "Whether a line wants a receipt is read from {text} of Coupa's order line."
        )),
        ["orders", "match_type_field"] => Some(format!(
            "How a line is matched is read from {text} of Coupa's order line."
        )),
        ["orders", "match_types_without_receipt"] => Some(format!(
            "A line with one of these words wants no receipt: {text}. What then happens says lines.without_receipt."
        )),
        ["invoices", "filter", parameter] => Some(format!(
            "An invoice that does not fit {parameter} = {text} is not even listed, and never looked at."
        )),
        ["instance"] => Some(format!(
            "QAD's description of an invoice reads Coupa {text}/ and Coupa's id; documents marked without the name stay ours."
        )),
        ["reads_together"] => Some(
            "Each invoice and each order is asked for alone, also where one request could bring all of a delivery."
                .to_owned(),
        ),
        ["voucher_field"] => Some(format!(
            "QAD's number of its document is written into the custom field {text} of an invoice in Coupa."
        )),
        ["owner_lookup"] => Some(format!(
            "A mark in the lookup {text} says which installation works with this Coupa and QAD: any other one begins nothing."
        )),
        ["integration_history", "enabled"] => {
            Some("What becomes of an invoice is written onto it in Coupa as integration history.".to_owned())
        }
        _ => None,
    }
}

/// What happens to an invoice that QAD is not to pay.
fn not_payable(name: &str, text: &str) -> String {
    let which = match name {
        "when_canceled" => "that is canceled in Coupa",
        "when_paid" => "that Coupa says is paid",
        "when_other_channel" => "that is paid through a channel not in payments.own_channels",
        _ => "that was paid in advance",
    };
    let what = match text {
        "post-locked" => {
            "posts with invoices.locked_status_code, so that no payment run takes it; its payments are not waited for"
        }
        "post" => "posts like any other, and QAD pays it",
        _ => "waits for a person",
    };
    format!("An invoice {which} {what}.")
}

fn of_invoices(rest: &[&str], text: &str) -> Option<String> {
    Some(match rest {
        ["invoice_daybook"] => format!("An invoice is entered in daybook {text}."),
        ["credit_note_daybook"] => format!("A credit note is entered in daybook {text}."),
        ["matching_daybook"] => format!("The matching with receivers is entered in daybook {text}."),
        ["invoice_status"] => format!("What is matched to receivers is created with status {text}."),
        ["gl_status_code"] => {
            format!("What goes to the general ledger alone is created with status {text}.")
        }
        ["locked_status_code"] => format!("What is posted locked is created with status {text}."),
        ["posting_date"] => match text {
            "invoice-date" => {
                "An invoice is posted on its own date, also when the goods came later; never before first_open_day."
            }
            "matching-date" => {
                "An invoice is posted on the day on which it was matched; never before first_open_day."
            }
            _ => "An invoice is posted on the later of its own date and its latest receipt's; never before first_open_day.",
        }
        .to_owned(),
        ["first_open_day"] => format!("Nothing is posted before {text}, whatever date it would have."),
        ["minor_units", currency] => format!(
            "Amounts in {currency} have {text} digits after the point, whatever Coupa and ISO 4217 say."
        ),
        ["hold_days_max"] => {
            format!("An invoice that has waited {text} days for one reason is a person's; it still goes on by itself.")
        }
        ["adopt_equal_documents"] => {
            "A document keyed by hand in QAD, equal in amount and currency, is not taken for the invoice: a person decides."
                .to_owned()
        }
        ["credit_terms", term] => format!("An invoice with Coupa's payment term {term} gets QAD's terms {text}."),
        ["charge_accounts", kind, part] => {
            format!("A {kind} charge that is not coded itself goes to {} {text}.", plain(part))
        }
        ["units", unit, "to"] => format!("A line billed in {unit} is matched to an order in {text}."),
        ["units", unit, "factor"] => format!("One {unit} on an invoice is {text} of the order's unit."),
        ["units", unit, "items", item] => {
            format!("One {unit} of item {item} on an invoice is {text} of the order's unit.")
        }
        [name @ ("when_canceled" | "when_paid" | "when_other_channel" | "when_prepaid")] => not_payable(name, text),
        ["prepaid_words"] => format!(
            "An invoice whose payment agreement says one of these words counts as paid in advance: {text}."
        ),
        ["remit_to", "codes", reference, "bank_number"] => {
            format!("An invoice to be paid at {reference} is paid to the supplier's bank account {text}.")
        }
        ["remit_to", "codes", reference, _] => {
            format!("An invoice to be paid at {reference} is paid to supplier {text}.")
        }
        ["remit_to", "unknown"] => match text {
            "ignore" => "An address to be paid at that leads to nobody is passed over: QAD pays the supplier.",
            _ => "An invoice to be paid at an address that leads to nobody waits for a person.",
        }
        .to_owned(),
        ["second_person", "above", currency] => {
            format!("Releasing an invoice above {text} {currency} needs a second person.")
        }
        ["second_person", "request_hours"] => {
            format!("A release waits {text} hours for its second person, then it has to be asked for anew.")
        }
        _ => return None,
    })
}

fn line(name: &str, text: &str) -> Option<String> {
    Some(match (name, text) {
        ("without_order", "gl") => {
            "A line without an order posts to the account that it is coded to; not coded, it waits for a person."
        }
        ("without_order", _) => "An invoice with a line without an order waits for a person.",
        ("negative", "gl") => {
            "A negative line of an invoice posts as a negative cost on the account that it is coded to."
        }
        ("negative", _) => "An invoice with a negative line waits for a person.",
        ("without_receipt", "gl") => {
            "A line that wants no receipt in Coupa posts to the account that it is coded to, without a receipt in QAD."
        }
        ("without_receipt", _) => "A line that wants no receipt in Coupa is matched to receipts like any other.",
        ("price_adjustment", "gl") => {
            "A line that adjusts a price posts to the account that it is coded to; it takes no receipt."
        }
        ("price_adjustment", _) => "An invoice with a line that adjusts a price waits for a person.",
        ("order_only_in_coupa", "gl") => {
            "A line whose order QAD does not have posts to the account that it is coded to, once Coupa itself has matched it."
        }
        ("order_only_in_coupa", _) => "A line whose order QAD does not have waits for the order.",
        _ => return None,
    }
    .to_owned())
}

fn tolerance(rest: &[&str], text: &str) -> String {
    let (of, rest) = match rest {
        ["by_currency", currency, rest @ ..] => (format!(" on invoices in {currency}"), rest),
        ["by_supplier", supplier, rest @ ..] => (format!(" on invoices of supplier {supplier}"), rest),
        rest => (String::new(), rest),
    };
    let about = match rest {
        ["price", "over", ..] | ["unit_price_percent_over"] => "A price above what was agreed",
        ["price", "under", ..] => "A price below what was agreed",
        ["received", ..] => "A quantity above what was received",
        ["ordered", ..] | ["quantity_percent_over"] => "A quantity above what was ordered",
        ["echo", ..] => "A total of QAD's that differs from what was sent, as QAD computes the tax itself",
        ["total", ..] | ["total_amount"] => "A total that differs from its lines, charges and tax",
        ["currency"] if of.is_empty() => {
            return format!(
                "The amounts of the limits are in {text}; in other currencies percentages alone count, and rounding is free."
            );
        }
        ["currency"] => return format!("The amounts of the limits{of} are in {text}."),
        ["version"] => return format!("Each decision names its limits as {text}."),
        _ => "A difference",
    };
    let limit = match rest.last() {
        Some(&"percent") | Some(&"unit_price_percent_over") | Some(&"quantity_percent_over") => {
            format!("up to {text} percent, as far as the other limit allows it")
        }
        Some(&"amount") if matches!(rest.first(), Some(&"total" | &"echo")) => {
            format!("up to {text} in all, as far as the other limit allows it")
        }
        Some(&"amount") => format!("up to {text} on the line, as far as the other limit allows it"),
        _ => format!("up to {text}, whatever the percentage"),
    };
    format!("{about}{of} is in no invoice's way {limit}; above, it waits for a person.")
}

fn of_payments(rest: &[&str], text: &str) -> Option<String> {
    Some(match rest {
        ["over_total"] => {
            format!(
                "Payments of an invoice may exceed its total by {text}; what exceeds it more waits for a person."
            )
        }
        ["under_total"] => format!(
            "Where QAD does not say whether an invoice is open, payments that fall short of its total by {text} pay it."
        ),
        ["lookback_days"] => {
            format!("Payments older than {text} days are not found at the first look.")
        }
        ["own_channels"] => format!(
            "QAD pays invoices of these payment channels: {text}. What happens to others says invoices.when_other_channel."
        ),
        ["statuses", word] => format!(
            "A payment with QAD's status {word} {}.",
            match text {
                "counts" => "counts as paid in Coupa",
                "takes-back" => "takes back what Coupa shows of it",
                _ => "is not shown in Coupa yet",
            }
        ),
        _ => return None,
    })
}
