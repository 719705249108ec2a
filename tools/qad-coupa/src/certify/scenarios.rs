//! Coupa's published scenarios for ERP adapters, and what must be true of a document for each. Pure.
//!
//! Source (confirmed): Coupa Compass, "ERP Integration Adapters", "Integration Scenarios", parts 2, 4 and 5. Where a scenario
//! says "validate that it is correct in the ERP", the criteria here say what correct means.

use domain::documents::{Billed, CoupaStatus, Invoice};
use domain::effect::EffectEvent;
use domain::ids::DocumentKind;
use domain::lifecycle::{InvoiceRecord, State};
use domain::mark::Mark;
use domain::payments::BillPayments;
use domain::suppliers::{SupplierEvent, SupplierField, SupplierRecord, SupplierState};
use flows::ports::{CoupaBill, QadDocument};
use rust_decimal::Decimal;
use serde::Serialize;

/// How many invoices "50 and more" is.
pub(crate) const MANY_INVOICES: usize = 50;

/// What a scenario is shown with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum About {
    /// Suppliers, by QAD's code.
    Suppliers,
    /// Invoices, by anything that finds them.
    Invoices,
}

/// One scenario.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scenario {
    /// Its number in Coupa's list.
    pub(crate) number: &'static str,
    /// What it shows.
    pub(crate) title: &'static str,
    /// What it is shown with.
    pub(crate) about: About,
    /// What to prepare in the test systems.
    pub(crate) prepare: &'static str,
}

/// All of them, in Coupa's order.
pub(crate) const SCENARIOS: [Scenario; 12] = [
    Scenario {
        number: "2.1",
        title: "Create a supplier",
        about: About::Suppliers,
        prepare: "A supplier that was keyed in QAD and that Coupa did not have.",
    },
    Scenario {
        number: "2.2",
        title: "Modify a supplier",
        about: About::Suppliers,
        prepare: "A supplier of both systems, changed in the system that is master of the field.",
    },
    Scenario {
        number: "4.1",
        title: "Single-line invoice on an order, approved and ready to pay",
        about: About::Invoices,
        prepare: "One line on a QAD order with a posted goods receipt, approved in Coupa.",
    },
    Scenario {
        number: "4.2",
        title: "Invoice without an order",
        about: About::Invoices,
        prepare: "Lines without an order, coded to accounts, approved in Coupa; lines.without_order = \"gl\".",
    },
    Scenario {
        number: "4.3",
        title: "Invoice on an order, with a custom field",
        about: About::Invoices,
        prepare: "An invoice on an order whose outcome is written to a custom field, or whose order stands in one.",
    },
    Scenario {
        number: "4.4",
        title: "Invoice with service lines",
        about: About::Invoices,
        prepare: "A line that bills an amount, no quantity, approved in Coupa.",
    },
    Scenario {
        number: "4.5",
        title: "Invoice on an order with several tax lines",
        about: About::Invoices,
        prepare: "More than one tax on it, approved in Coupa.",
    },
    Scenario {
        number: "4.6",
        title: "Invoice with attachments",
        about: About::Invoices,
        prepare: "A scan attached in Coupa; QAD's document leads back to the invoice that carries it.",
    },
    Scenario {
        number: "4.7",
        title: "Credit memo on an order",
        about: About::Invoices,
        prepare: "A credit note for a posted return, approved in Coupa.",
    },
    Scenario {
        number: "4.8",
        title: "Void an invoice",
        about: About::Invoices,
        prepare: "An invoice that was voided in Coupa.",
    },
    Scenario {
        number: "4.9",
        title: "Fifty and more approved invoices",
        about: About::Invoices,
        prepare: "At least fifty invoices, approved in Coupa.",
    },
    Scenario {
        number: "5.1",
        title: "Payment in the ERP, shown in Coupa",
        about: About::Invoices,
        prepare: "A posted invoice that QAD has paid.",
    },
];

/// Everything known of one invoice at the moment of the check.
#[derive(Debug, Clone)]
pub(crate) struct InvoiceEvidence {
    /// What was asked for.
    pub(crate) asked: String,
    /// The register's record.
    pub(crate) record: InvoiceRecord,
    /// As Coupa shows it now.
    pub(crate) invoice: Option<Invoice>,
    /// What QAD holds under its identity.
    pub(crate) documents: Vec<QadDocument>,
    /// As Coupa shows its payments now.
    pub(crate) shown: Option<CoupaBill>,
    /// QAD's payments of it, as the register has them.
    pub(crate) bill: Option<BillPayments>,
    /// Whether the connection reads the order number from a custom field.
    pub(crate) order_in_field: bool,
    /// What Coupa shows in the custom field for QAD's number.
    pub(crate) shown_voucher: Option<String>,
    /// Entries of its audit trail.
    pub(crate) trail: usize,
}

/// Everything known of one supplier.
#[derive(Debug, Clone)]
pub(crate) struct SupplierEvidence {
    /// What was asked for.
    pub(crate) asked: String,
    /// The register's record.
    pub(crate) record: SupplierRecord,
    /// What has happened to it, in order.
    pub(crate) trail: Vec<SupplierEvent>,
}

impl SupplierEvidence {
    /// Writes to either system that are proven, after the two were linked.
    fn changes(&self) -> usize {
        let since = self
            .trail
            .iter()
            .skip_while(|event| !matches!(event, SupplierEvent::Linked { .. }));
        let is_done = |event: &&SupplierEvent| {
            matches!(
                event,
                SupplierEvent::Writing {
                    step: EffectEvent::Confirmed,
                    ..
                }
            )
        };
        since.filter(is_done).count()
    }
}

/// One criterion, and how it was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Criterion {
    /// The document it is about.
    pub(crate) document: String,
    /// What must be true.
    pub(crate) expected: String,
    /// What was found.
    pub(crate) actual: String,
    /// Whether it is so.
    pub(crate) met: bool,
}

/// Collects criteria about one document.
struct Sheet<'a> {
    document: &'a str,
    rows: Vec<Criterion>,
}

impl<'a> Sheet<'a> {
    fn of(document: &'a str) -> Self {
        Self {
            document,
            rows: Vec::new(),
        }
    }

    fn row(&mut self, met: bool, expected: impl Into<String>, actual: impl Into<String>) {
        self.rows.push(Criterion {
            document: self.document.to_owned(),
            expected: expected.into(),
            actual: actual.into(),
            met,
        });
    }
}

/// What must be true of an invoice that a scenario was shown with.
pub(crate) fn judge_invoice(scenario: &Scenario, evidence: &InvoiceEvidence) -> Vec<Criterion> {
    let mut sheet = Sheet::of(&evidence.asked);
    if scenario.number == "4.8" {
        voided(&mut sheet, evidence);
    } else {
        posted_once(&mut sheet, evidence);
    }
    match scenario.number {
        "4.1" => {
            one_line_on_an_order(&mut sheet, evidence);
        }
        "4.2" => lines_without_order(&mut sheet, evidence),
        "4.3" => in_custom_field(&mut sheet, evidence),
        "4.4" => service_lines(&mut sheet, evidence),
        "4.5" => taxed(&mut sheet, evidence),
        "4.6" => leads_back(&mut sheet, evidence),
        "4.7" => credit(&mut sheet, evidence),
        "5.1" => paid(&mut sheet, evidence),
        _ => {}
    }
    audited(&mut sheet, evidence);
    sheet.rows
}

/// What must be true of the invoices of a scenario together.
pub(crate) fn judge_all(scenario: &Scenario, documents: usize) -> Vec<Criterion> {
    let mut sheet = Sheet::of("all of them");
    if scenario.number == "4.9" {
        sheet.row(
            documents >= MANY_INVOICES,
            format!("at least {MANY_INVOICES} invoices"),
            documents.to_string(),
        );
    }
    sheet.rows
}

/// What must be true of a supplier that a scenario was shown with.
pub(crate) fn judge_supplier(scenario: &Scenario, evidence: &SupplierEvidence) -> Vec<Criterion> {
    let mut sheet = Sheet::of(&evidence.asked);
    let record = &evidence.record;
    let linked = matches!(record.state, SupplierState::Linked { .. });
    sheet.row(linked, "linked with Coupa's supplier", state_of(record));
    let code = record.qad.as_ref().map(|qad| qad.code.to_string());
    let number = record.coupa.as_ref().and_then(|coupa| coupa.number.clone());
    sheet.row(
        code.is_some() && code == number,
        format!(
            "Coupa's number is QAD's code {}",
            code.clone().unwrap_or_default()
        ),
        number.unwrap_or_else(|| "none".to_owned()),
    );
    let name = |data: Option<&domain::suppliers::SupplierData>| {
        data.and_then(|data| data.get(SupplierField::Name))
            .unwrap_or_default()
            .to_owned()
    };
    let ours = name(record.qad.as_ref().map(|qad| &qad.data));
    let theirs = name(record.coupa.as_ref().map(|coupa| &coupa.data));
    sheet.row(
        !ours.is_empty() && ours == theirs,
        format!("the name {ours} on both sides"),
        theirs,
    );
    if scenario.number == "2.2" {
        let changes = evidence.changes();
        sheet.row(
            changes > 0,
            "a change that was written to the other system after both had it",
            format!("{changes} such changes"),
        );
    }
    sheet.rows
}

fn state_of(record: &SupplierRecord) -> String {
    match &record.state {
        SupplierState::Alone { why } => format!("alone: {why}"),
        SupplierState::Creating => "being created".to_owned(),
        SupplierState::Linked { .. } => "linked".to_owned(),
        SupplierState::Parked { problem, .. } => format!("parked: {problem}"),
    }
}

/// In QAD exactly once, with Coupa's total, and Coupa knows.
fn posted_once(sheet: &mut Sheet<'_>, evidence: &InvoiceEvidence) {
    let record = &evidence.record;
    let exported = matches!(record.state, State::Exported { .. });
    sheet.row(exported, "posted in QAD and told to Coupa", record.state.word());
    sheet.row(
        evidence.documents.len() == 1,
        "one document in QAD, not two",
        evidence.documents.len().to_string(),
    );
    if let ([document], Some(voucher)) = (evidence.documents.as_slice(), record.state.voucher()) {
        sheet.row(
            document.voucher.as_ref() == Some(voucher),
            format!("its number is {voucher}"),
            document
                .voucher
                .as_ref()
                .map_or_else(|| "no number".to_owned(), ToString::to_string),
        );
    }
    if let ([document], Some(invoice)) = (evidence.documents.as_slice(), &evidence.invoice) {
        sheet.row(
            document.currency == invoice.currency && document.identity.kind == invoice.kind,
            format!("{} in {}", invoice.kind, invoice.currency),
            format!("{} in {}", document.identity.kind, document.currency),
        );
    }
    let flag = evidence.invoice.as_ref().is_some_and(|invoice| invoice.exported);
    sheet.row(
        flag,
        "marked exported in Coupa",
        if flag { "marked" } else { "not marked" },
    );
}

fn one_line_on_an_order(sheet: &mut Sheet<'_>, evidence: &InvoiceEvidence) {
    let lines = evidence
        .invoice
        .as_ref()
        .map_or(&[][..], |invoice| &invoice.lines);
    sheet.row(lines.len() == 1, "one line", lines.len().to_string());
    let on_order = lines.iter().all(|line| line.order_line.is_some());
    sheet.row(
        !lines.is_empty() && on_order,
        "it bills an order",
        if on_order { "it does" } else { "it names none" },
    );
}

fn lines_without_order(sheet: &mut Sheet<'_>, evidence: &InvoiceEvidence) {
    let lines = evidence
        .invoice
        .as_ref()
        .map_or(&[][..], |invoice| &invoice.lines);
    let without = lines.iter().filter(|line| line.order_line.is_none()).count();
    sheet.row(
        without > 0 && without == lines.len(),
        "no line names an order",
        format!("{without} of {} lines name none", lines.len()),
    );
}

/// A custom field carries the order to us, or QAD's number to Coupa: the very number, not only the setting.
fn in_custom_field(sheet: &mut Sheet<'_>, evidence: &InvoiceEvidence) {
    let voucher = evidence.record.state.voucher().map(ToString::to_string);
    let shown = evidence.shown_voucher.as_deref();
    let is_shown = shown.is_some() && shown == voucher.as_deref();
    sheet.row(
        evidence.order_in_field || is_shown,
        format!(
            "a custom field carries the order number, or QAD's number {}",
            voucher.unwrap_or_default()
        ),
        match (evidence.order_in_field, shown) {
            (true, _) => "the order number".to_owned(),
            (false, Some(number)) => number.to_owned(),
            (false, None) => "neither".to_owned(),
        },
    );
}

fn service_lines(sheet: &mut Sheet<'_>, evidence: &InvoiceEvidence) {
    let lines = evidence
        .invoice
        .as_ref()
        .map_or(&[][..], |invoice| &invoice.lines);
    let amounts = lines
        .iter()
        .filter(|line| matches!(line.billed, Billed::Amount))
        .count();
    sheet.row(
        amounts > 0,
        "a line that bills an amount",
        format!("{amounts} lines"),
    );
}

fn taxed(sheet: &mut Sheet<'_>, evidence: &InvoiceEvidence) {
    let tax = evidence
        .invoice
        .as_ref()
        .map_or(Decimal::ZERO, |invoice| invoice.tax);
    sheet.row(
        !tax.is_zero(),
        "the taxes add up to an amount",
        tax.normalize().to_string(),
    );
    if let ([document], Some(invoice)) = (evidence.documents.as_slice(), &evidence.invoice) {
        sheet.row(
            document.total == invoice.total,
            format!("QAD's total with taxes is {}", invoice.total.normalize()),
            document.total.normalize().to_string(),
        );
    }
}

fn leads_back(sheet: &mut Sheet<'_>, evidence: &InvoiceEvidence) {
    let shown = evidence
        .documents
        .first()
        .map(|document| document.description.clone())
        .unwrap_or_default();
    sheet.row(
        Mark::read(&shown).is_some_and(|mark| mark.id == evidence.record.id),
        format!(
            "QAD's document names the Coupa invoice that carries the scan, Coupa {}",
            evidence.record.id
        ),
        shown,
    );
}

fn credit(sheet: &mut Sheet<'_>, evidence: &InvoiceEvidence) {
    let invoice = evidence.invoice.as_ref();
    let kind = invoice.map(|invoice| invoice.kind);
    sheet.row(
        kind == Some(DocumentKind::CreditNote),
        "a credit note",
        kind.map_or_else(|| "not readable".to_owned(), |kind| kind.to_string()),
    );
    let total = invoice.map_or(Decimal::ZERO, |invoice| invoice.total);
    sheet.row(
        total < Decimal::ZERO,
        "its total lowers what is owed",
        total.normalize().to_string(),
    );
}

/// Voided before it was posted: nothing in QAD. Afterwards: a person has it.
fn voided(sheet: &mut Sheet<'_>, evidence: &InvoiceEvidence) {
    let status = evidence.invoice.as_ref().map(|invoice| &invoice.status);
    sheet.row(
        status == Some(&CoupaStatus::Voided),
        "voided in Coupa",
        status.map_or_else(
            || "not readable".to_owned(),
            |status| format!("{status:?}").to_lowercase(),
        ),
    );
    match &evidence.record.state {
        State::Voided { exported } => {
            sheet.row(
                *exported,
                "taken note of, and told to Coupa",
                if *exported { "told" } else { "not told yet" },
            );
            sheet.row(
                evidence.documents.is_empty(),
                "nothing in QAD",
                format!("{} documents", evidence.documents.len()),
            );
        }
        State::Parked { .. } => {
            let codes = evidence.record.state.codes();
            sheet.row(
                codes.iter().any(|code| code == "VOIDED_AFTER_POSTING"),
                "posted before it was voided: a person is told to reverse it",
                codes.join(", "),
            );
        }
        other => sheet.row(false, "voided, or with a person", other.word()),
    }
}

fn paid(sheet: &mut Sheet<'_>, evidence: &InvoiceEvidence) {
    let settled = evidence.bill.as_ref().and_then(BillPayments::settled_amount);
    sheet.row(
        settled.is_some_and(|amount| !amount.is_zero()),
        "QAD has paid it",
        settled.map_or_else(
            || "no payment is known".to_owned(),
            |amount| amount.normalize().to_string(),
        ),
    );
    let entries = evidence.shown.as_ref().map_or(&[][..], |shown| &shown.entries);
    let sum = entries
        .iter()
        .map(|entry| entry.amount)
        .fold(Decimal::ZERO, Decimal::saturating_add);
    sheet.row(
        settled == Some(sum),
        "Coupa's payment entries add up to the same",
        sum.normalize().to_string(),
    );
    let flag = evidence.shown.as_ref().is_some_and(|shown| shown.paid);
    sheet.row(
        flag,
        "Coupa shows it as paid",
        if flag { "paid" } else { "not paid" },
    );
}

fn audited(sheet: &mut Sheet<'_>, evidence: &InvoiceEvidence) {
    sheet.row(
        evidence.trail > 0,
        "every step is in the audit trail",
        format!("{} entries", evidence.trail),
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::tests::record;

    /// Scenario 4.3 is shown by the number that stands in Coupa, not by the setting that wants it there.
    #[test]
    fn a_custom_field_has_to_show_the_very_number() {
        let field_is_met = |order_in_field: bool, shown: Option<&str>| {
            let evidence = InvoiceEvidence {
                asked: "7".to_owned(),
                record: record(7, "A", 100),
                invoice: None,
                documents: Vec::new(),
                shown: None,
                bill: None,
                order_in_field,
                shown_voucher: shown.map(str::to_owned),
                trail: 1,
            };
            let mut sheet = Sheet::of("7");
            in_custom_field(&mut sheet, &evidence);
            sheet.rows.iter().all(|row| row.met)
        };
        assert!(field_is_met(false, Some("2026/SI/100007")));
        assert!(!field_is_met(false, Some("2026/SI/100008")));
        assert!(!field_is_met(false, None));
        assert!(field_is_met(true, None));
    }
}
