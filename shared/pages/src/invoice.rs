//! One invoice: where it stands and why, line by line, what happened, what may be done.

use crate::invoices::{tag, word_of};
use crate::layout::{Part, left_out, page, refused};
use crate::words::{figure, money, price};
use crate::{Fields, Problems, Visit};
use axum::extract::{Path, Query};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use domain::documents::InvoiceParticulars;
use domain::explain;
use domain::ids::{DocumentKind, InvoiceId};
use domain::index::{View, folded};
use domain::lifecycle::{Event, InvoiceRecord, ParkReason, PostedHow, State};
use domain::matching::{ExceptionCode, LineReport};
use domain::problem::Problem;
use domain::suppliers::{SupplierId, SupplierRecord};
use flows::index;
use flows::index::entries;
use flows::ports::{AuditEntry, RecordKey};
use flows::store::{Loaded, invoice_audit_name, load, parse, verify_chain};
use flows::sync_suppliers;
use maud::{Markup, html};
use rust_decimal::Decimal;
use std::collections::BTreeSet;

fn unknown() -> Problems {
    Problems::new(
        StatusCode::NOT_FOUND,
        "Not known here",
        "No invoice of this id is known here. Coupa may not have approved it yet, or it belongs to another connection: search \
         for its number.",
    )
}

/// An invoice by the id in an address.
pub(crate) async fn read(visit: &Visit, id: &str) -> Result<Loaded<InvoiceRecord>, Problems> {
    let id: InvoiceId = id.parse().map_err(|_| unknown())?;
    let found = load::<InvoiceRecord>(&*visit.books, RecordKey::Invoice(id)).await?;
    found.ok_or_else(unknown)
}

/// The same, as it was read with the page.
fn read_beside(visit: &Visit, id: &str) -> Result<Loaded<InvoiceRecord>, Problems> {
    let id: InvoiceId = id.parse().map_err(|_| unknown())?;
    let stored = visit.beside(&RecordKey::Invoice(id))?.ok_or_else(unknown)?;
    Ok(Loaded {
        document: parse(stored)?,
        revision: stored.revision,
    })
}

/// What the page of one invoice shows.
struct Read {
    loaded: Loaded<InvoiceRecord>,
    trail: Vec<AuditEntry>,
    around: Around,
}

/// What stands around an invoice.
#[derive(Default)]
struct Around {
    /// The bills that it may be.
    others: Vec<InvoiceRecord>,
    /// Of a credit note: the invoices it corrects, by their number; `None` when they were not looked for.
    corrected: Option<Vec<InvoiceRecord>>,
    /// What stands around it and cannot be read.
    unreadable: Vec<Problem>,
    /// Its supplier with those that it may be, when that is what it waits for, and how many invoices wait for it.
    supplier: Option<(SupplierRecord, i64)>,
}

/// Most invoices that one number is looked for among.
const ORIGINALS_MAX: usize = 20;

/// Reads what stands around an invoice: two reads at most, so that a page has four.
async fn around(visit: &Visit, record: &InvoiceRecord) -> Result<Around, Problems> {
    let unlinked = ExceptionCode::SupplierNotLinked.as_str();
    let stranger = record
        .coupa_supplier
        .filter(|_| record.state.codes().iter().any(|code| code == unlinked));
    let original = original(record);
    // What a stranger's credit note corrects is a stranger's too: the page leads to the search.
    let numbered = match (original, stranger) {
        (Some(number), None) => index::numbered(&*visit.books, number, ORIGINALS_MAX).await?,
        _ => BTreeSet::new(),
    };
    let named = named_others(record);
    let of_invoices = named
        .iter()
        .chain(&numbered)
        .copied()
        .collect::<BTreeSet<InvoiceId>>();
    let mut keys: Vec<RecordKey> = of_invoices.into_iter().map(RecordKey::Invoice).collect();
    keys.extend(stranger.map(|id| sync_suppliers::key_of(&SupplierId::Coupa(id))));
    if keys.is_empty() {
        return Ok(Around {
            corrected: original.map(|_| Vec::new()),
            ..Around::default()
        });
    }
    let (mut bills, mut supplier, mut unreadable) = (Vec::new(), None, Vec::new());
    for stored in visit.books.read(&keys).await?.iter().flatten() {
        let read = match stored.key {
            RecordKey::Invoice(_) => parse::<InvoiceRecord>(stored).map(|bill| bills.push(bill)),
            _ => parse::<SupplierRecord>(stored).map(|read| supplier = Some(read)),
        };
        unreadable.extend(read.err().map(|error| error.problem()));
    }
    let corrected = original.filter(|_| stranger.is_none()).map(|number| {
        let all = bills.iter().filter(|bill| is_original(bill, record, number));
        all.cloned().collect()
    });
    bills.retain(|bill| named.contains(&bill.id));
    Ok(Around {
        others: bills,
        corrected,
        unreadable,
        supplier: match (supplier.filter(|one| !one.candidates().is_empty()), stranger) {
            (Some(supplier), Some(id)) => {
                let (_, waiting) = entries::counted(&*visit.books, &BTreeSet::from([id])).await?;
                Some((supplier, waiting.get(&id).map_or(0, |sums| sums.count)))
            }
            _ => None,
        },
    })
}

/// The number of the invoice that a credit note names as the one it corrects.
fn original(record: &InvoiceRecord) -> Option<&str> {
    let summary = record.summary.as_ref()?;
    summary.particulars.original.as_deref()
}

/// Whether a bill is the one that a credit note corrects: of the same supplier, with that number.
fn is_original(bill: &InvoiceRecord, credit: &InvoiceRecord, number: &str) -> bool {
    bill.id != credit.id
        && bill.coupa_supplier == credit.coupa_supplier
        && bill.summary.as_ref().is_some_and(|other| {
            other.kind == DocumentKind::Invoice && folded(other.reference.as_str()) == folded(number)
        })
}

/// Who the supplier may be in QAD, and why.
fn perhaps(base: &str, read: &Read) -> Markup {
    let Some((supplier, waiting)) = &read.around.supplier else {
        return html! {};
    };
    html! {
        h2 { "Who the supplier may be" }
        ul { @for candidate in supplier.candidates() { li { bdi { (candidate) } } } }
        p {
            (crate::words::invoices(*waiting))
            @if *waiting == 1 { " waits" } @else { " wait" } " for it. "
            a href={ (base) "/suppliers" } { "Suppliers that may be the same" }
        }
    }
}

/// `GET /invoices/{id}`.
pub(crate) async fn show(visit: Visit, Path(id): Path<String>, Query(fields): Query<Fields>) -> Response {
    let read = async {
        let loaded = read_beside(&visit, &id)?;
        let trail = visit.books.audit(&invoice_audit_name(loaded.document.id)).await?;
        let around = around(&visit, &loaded.document).await?;
        Ok::<_, Problems>(Read {
            loaded,
            trail,
            around,
        })
    };
    match read.await {
        Ok(read) => {
            let title = heading(&read.loaded.document);
            page(&visit, Part::Invoices, &title, content(&visit, &read, &fields)).into_response()
        }
        Err(problems) => refused(&visit, &problems, "/invoices"),
    }
}

/// `INV-92014 of Example Fasteners, 1,296.00 USD`.
pub(crate) fn heading(record: &InvoiceRecord) -> String {
    record.summary.as_ref().map_or_else(
        || format!("Coupa invoice {}", record.id),
        |summary| {
            let kind = match summary.kind {
                DocumentKind::Invoice => "",
                DocumentKind::CreditNote => "Credit note ",
            };
            format!(
                "{kind}{} of {}, {}",
                summary.reference,
                summary.supplier_name,
                money(summary.total, summary.currency.as_str())
            )
        },
    )
}

fn mood(view: View) -> &'static str {
    match view {
        View::NeedsYou => "sentence need",
        View::Posted => "sentence done",
        View::Waits | View::Working | View::Closed => "sentence",
    }
}

fn content(visit: &Visit, read: &Read, fields: &Fields) -> Markup {
    let record = &read.loaded.document;
    let view = View::of(record);
    let base = &visit.base;
    html! {
        p { a href={ (base) "/invoices?view=" (view.word()) } { "Invoices" } }
        h1 { bdi { (heading(record)) } }
        @if let Some(done) = fields.get("done").and_then(|word| crate::acts::told(word)) {
            p.sentence.done role="status" { (done) }
        }
        p { (tag(view)) " " span.soft {
            "Coupa " (record.id)
            @if let Some(summary) = &record.summary {
                ", invoice of " (crate::words::date(summary.invoice_date))
                @if let Some(due) = summary.particulars.due { ", due " (crate::words::date(due)) }
            }
        } }
        (left_out(&read.around.unreadable))
        p class=(mood(view)) { bdi { (visit.sentence(&explain::sentence(record))) } }
        @if let Some(request) = &record.release_request {
            @if matches!(record.state, State::Parked { .. }) {
                p.sentence {
                    bdi { (person_of(&request.instruction.by)) } " has asked for its release ("
                    bdi { (request.instruction.reason) } "). Another person must confirm it."
                }
            }
        }
        @if let Some(request) = &record.adoption {
            p.sentence {
                bdi { (person_of(&request.instruction.by)) } " has named QAD's " bdi { (request.voucher) } " as its document ("
                bdi { (request.instruction.reason) } "). It is looked up by itself before anything else is done with the invoice."
            }
        }
        (actions(visit, record))
        (beside(base, record, &read.around.others))
        (perhaps(base, read))
        (lines(record))
        (related(base, record, read.around.corrected.as_deref()))
        h2 { "What happened" }
        (history(visit, &read.trail))
        h2 { "To tell the supplier" }
        p { "“" bdi { (visit.sentence(&explain::to_supplier(record))) } "”" }
        (technical(record, read.loaded.revision, &read.trail))
    }
}

/// The person in what an audit entry says of who it was.
pub(crate) fn person_of(by: &str) -> &str {
    by.rsplit(['/', ':']).next().unwrap_or(by)
}

/// Whether every reason it is parked for is one that a person may accept.
pub(crate) fn is_releasable(record: &InvoiceRecord) -> bool {
    matches!(&record.state, State::Parked { reason: ParkReason::Match { exceptions } }
        if !exceptions.is_empty() && exceptions.iter().all(|exception| exception.code.is_releasable()))
}

fn actions(visit: &Visit, record: &InvoiceRecord) -> Markup {
    let at = format!("/invoices/{}", record.id);
    let path = |act: &str| format!("{at}/{act}");
    let may = visit.session.person.may_act();
    html! {
        @if may {
            div.actions {
                @if !record.state.is_skipped() {
                    form method="post" action=(visit.path(&path("recheck"))) {
                        input type="hidden" name="t" value=(visit.token(&path("recheck")));
                        button.main { "Look again now" }
                    }
                }
                @if is_releasable(record) { a.button href=(visit.path(&path("release"))) { "Accept and release…" } }
                @if record.state.is_skipped() { a.button href=(visit.path(&path("reopen"))) { "Take up again…" } }
                @else if record.may_be_decided() { a.button href=(visit.path(&path("skip"))) { "Take out…" } }
                @if explain::to_buyer(record).is_some() { a.button href=(visit.path(&path("ask-buyer"))) { "Ask the buyer…" } }
                @if record.may_be_adopted() { a.button href=(visit.path(&path("adopt"))) { "It is in QAD already…" } }
            }
        } @else {
            p.soft { "You can read this. What to do with it is decided by a clerk or an approver." }
        }
    }
}

/// Line by line, with the one thing that is wrong marked.
pub(crate) fn lines(record: &InvoiceRecord) -> Markup {
    let Some(report) = record.report.as_ref().filter(|report| !report.lines.is_empty()) else {
        return html! {};
    };
    let quantity = |value: Option<Decimal>, line: &LineReport| match (value, &line.unit) {
        (None, _) => "–".to_owned(),
        (Some(value), Some(unit)) => format!("{} {unit}", figure(value)),
        (Some(value), None) => figure(value),
    };
    let amount = |value: Option<Decimal>| value.map_or_else(|| "–".to_owned(), price);
    html! {
        h2 { "Line by line" }
        (crate::layout::scrolled("Line by line", &html! { table.cards {
            thead { tr {
                th scope="col" { "Order line" }
                @for name in ["Ordered", "Received", "Invoiced before", "This invoice", "Order price", "Invoice price", "Limit"] {
                    th.n scope="col" { (name) }
                }
                th scope="col" { "Result" }
            } }
            tbody { @for line in &report.lines {
                tr {
                    th scope="row" { @match &line.order_line {
                        Some(key) => { bdi { (key.order) } " line " (key.line) },
                        None => { "Invoice line " (line.line) }
                    } }
                    td.n data-h="Ordered" { (quantity(line.ordered, line)) }
                    td.n data-h="Received" { (quantity(line.received, line)) }
                    td.n data-h="Invoiced before" { (quantity(line.already_invoiced, line)) }
                    td.n data-h="This invoice" { (quantity(line.this_invoice, line)) }
                    td.n data-h="Order price" { (amount(line.order_price)) }
                    td.n data-h="Invoice price" { (amount(line.invoice_price)) }
                    td.n data-h="Limit" { (amount(line.price_limit)) }
                    td data-h="Result" { (result(line)) }
                }
            } }
        } }))
    }
}

fn result(line: &LineReport) -> Markup {
    if line.exceptions.is_empty() {
        let word = if line.nothing_to_post {
            "Nothing to post"
        } else {
            "Matches"
        };
        return html! { span.tag.done { (word) } };
    }
    html! {
        @for code in &line.exceptions {
            @let class = if code.remedy() == domain::matching::Remedy::APerson { "tag need" } else { "tag hold" };
            span class=(class) { (difference(*code, line).unwrap_or_else(|| crate::words::code(code.as_str()))) } " "
        }
    }
}

/// How far a line is off, in percent and in money, where figures say it.
fn difference(code: ExceptionCode, line: &LineReport) -> Option<String> {
    match code {
        ExceptionCode::PriceOverTolerance | ExceptionCode::PriceUnderTolerance => price_difference(line),
        ExceptionCode::BilledOverOrdered => {
            let billed = line.already_invoiced?.checked_add(line.this_invoice?)?;
            quantity_difference(
                "more than ordered",
                billed.checked_sub(line.ordered?)?,
                line.ordered?,
                line,
            )
        }
        ExceptionCode::ReceiptMissing => {
            let missing = line.this_invoice?.checked_sub(line.open?)?;
            quantity_difference("not received", missing, line.this_invoice?, line)
        }
        _ => None,
    }
}

/// `Price 8.0 % over, 96.00 in all`.
fn price_difference(line: &LineReport) -> Option<String> {
    let (order, invoice) = (line.order_price?, line.invoice_price?);
    let off = invoice.checked_sub(order)?;
    let word = if off.is_sign_negative() { "under" } else { "over" };
    let in_all = line.this_invoice.and_then(|quantity| off.checked_mul(quantity));
    let in_all = in_all.map(|sum| format!(", {} in all", price(sum.abs().round_dp(2))));
    Some(format!(
        "Price {} % {word}{}",
        percent(off.abs(), order)?,
        in_all.unwrap_or_default()
    ))
}

/// `10 EA more than ordered (8.3 %), 108.00 in all`.
fn quantity_difference(word: &str, off: Decimal, of: Decimal, line: &LineReport) -> Option<String> {
    if off <= Decimal::ZERO {
        return None;
    }
    let unit = line
        .unit
        .as_ref()
        .map(|unit| format!(" {unit}"))
        .unwrap_or_default();
    let in_all = line.invoice_price.and_then(|price| off.checked_mul(price));
    let in_all = in_all.map(|sum| format!(", {} in all", price(sum.round_dp(2))));
    Some(format!(
        "{}{unit} {word} ({} %){}",
        figure(off),
        percent(off, of)?,
        in_all.unwrap_or_default()
    ))
}

/// With one place, `8.0`.
fn percent(part: Decimal, whole: Decimal) -> Option<String> {
    let share = part.checked_mul(Decimal::ONE_HUNDRED)?.checked_div(whole)?;
    Some(format!("{:.1}", share.round_dp(1)))
}

/// Most bills that are shown beside the one that may be the same.
const OTHERS_MAX: usize = 5;

/// The bills that this one may be, as the reasons it waits for name them.
fn named_others(record: &InvoiceRecord) -> Vec<InvoiceId> {
    let texts: Vec<&str> = match &record.state {
        State::Parked {
            reason: ParkReason::Match { exceptions },
        } => exceptions
            .iter()
            .filter(|exception| {
                matches!(
                    exception.code,
                    ExceptionCode::NearDuplicate
                        | ExceptionCode::DuplicateReference
                        | ExceptionCode::DuplicateReferenceOtherYear
                )
            })
            .map(|exception| exception.actual.as_str())
            .collect(),
        State::Parked {
            reason: ParkReason::Problem { problem } | ParkReason::InQad { problem, .. },
        } if problem.code == "DUPLICATE_REFERENCE" => vec![problem.actual.as_str()],
        _ => vec![],
    };
    let ids = texts.into_iter().filter_map(|text| {
        let rest = text.strip_prefix("Coupa invoice ")?;
        let end = rest
            .find(|letter: char| !letter.is_ascii_digit())
            .unwrap_or(rest.len());
        let (id, behind) = rest.split_at_checked(end)?;
        // Another connection's invoice, or another Coupa instance's, is none of this page, whatever its number.
        (!behind.starts_with(" of connection") && !behind.starts_with('/')).then(|| id.parse().ok())?
    });
    ids.filter(|id| *id != record.id).take(OTHERS_MAX).collect()
}

/// This bill and those that it may be, field by field, with what differs marked.
fn beside(base: &str, record: &InvoiceRecord, others: &[InvoiceRecord]) -> Markup {
    if others.is_empty() {
        return html! {};
    }
    type Row = (&'static str, fn(&InvoiceRecord) -> String);
    let rows: [Row; 7] = [
        ("Number", |bill| {
            of_summary(bill, |summary| summary.reference.to_string())
        }),
        ("Supplier", |bill| {
            of_summary(bill, |summary| summary.supplier_name.clone())
        }),
        ("Date", |bill| {
            of_summary(bill, |summary| crate::words::date(summary.invoice_date))
        }),
        ("Total", |bill| {
            of_summary(bill, |summary| money(summary.total, summary.currency.as_str()))
        }),
        ("Orders", |bill| {
            of_summary(bill, |summary| {
                summary
                    .orders
                    .iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>()
                    .join(", ")
            })
        }),
        ("Stands at", |bill| word_of(View::of(bill)).to_owned()),
        ("QAD voucher", |bill| {
            bill.state
                .voucher()
                .map_or_else(|| "–".to_owned(), ToString::to_string)
        }),
    ];
    html! {
        h2 { "Side by side" }
        div.wrap { table {
            thead { tr {
                td {}
                th scope="col" { "This one, Coupa " (record.id) }
                @for other in others { th scope="col" { a href={ (base) "/invoices/" (other.id) } { "Coupa " (other.id) } } }
            } }
            tbody { @for (name, of) in &rows {
                @let own = of(record);
                tr {
                    th scope="row" { (name) }
                    td { bdi { (own) } }
                    @for other in others {
                        @let text = of(other);
                        td { bdi { (text) } @if text != own { " " span.tag { "differs" } } }
                    }
                }
            } }
        } }
    }
}

fn of_summary(bill: &InvoiceRecord, of: impl Fn(&domain::lifecycle::Summary) -> String) -> String {
    bill.summary.as_ref().map_or_else(|| "–".to_owned(), of)
}

/// What it belongs to, and what people ask beside.
fn related(base: &str, record: &InvoiceRecord, corrected: Option<&[InvoiceRecord]>) -> Markup {
    let summary = record.summary.as_ref();
    let orders = summary
        .map(|summary| summary.orders.as_slice())
        .unwrap_or_default();
    let supplier = summary.and_then(|summary| summary.supplier_number.as_deref());
    let unknown = InvoiceParticulars::default();
    let particulars = summary.map_or(&unknown, |summary| &summary.particulars);
    if orders.is_empty() && supplier.is_none() && record.state.voucher().is_none() && particulars.is_empty() {
        return html! {};
    }
    let find = |text: &str| format!("{base}/find?q={}", crate::login::encoded(text));
    html! {
        h2 { "Belongs to" }
        dl.facts {
            @if let Some(voucher) = record.state.voucher() { dt { "QAD voucher" } dd { (voucher) } }
            @if let (Some(total), Some(summary)) = (record.posted_total, summary) {
                @if total != summary.total {
                    dt { "Total in QAD" } dd {
                        (money(total, summary.currency.as_str())) ", "
                        (money(total.saturating_sub(summary.total).abs(), summary.currency.as_str()))
                        @if total.abs() > summary.total.abs() { " more" } @else { " less" } " than in Coupa"
                    }
                }
            }
            @if !orders.is_empty() {
                dt { "Orders" }
                dd { @for order in orders { a href=(find(order.as_str())) { bdi { (order) } } " " } }
            }
            @if let Some(supplier) = supplier {
                dt { "Supplier in QAD" } dd { a href=(find(supplier)) { bdi { (supplier) } } }
            }
            @if let Some(original) = &particulars.original { dt { "Corrects" } dd { (original_of(base, original, corrected)) } }
            @if let Some(paid) = &record.paid { dt { "Payments" } dd { (explain::paid_words(paid)) } }
            @if let Some(due) = particulars.due { dt { "Due" } dd { (crate::words::date(due)) } }
            @if let Some((percent, until)) = particulars.discount() {
                dt { "Discount" } dd { (figure(percent)) " % until " (crate::words::date(until)) }
            }
            @if let Some(term) = &particulars.payment_term { dt { "Payment term" } dd { bdi { (term) } } }
            @if let Some(requester) = &particulars.requester { dt { "Asked for by" } dd { bdi { (requester) } } }
            @if let Some(plant) = &particulars.plant { dt { "Delivered to" } dd { bdi { (plant) } } }
            @if let Some(page) = &particulars.page {
                dt { "In Coupa" } dd { a href=(page) rel="noreferrer" { "Open invoice " (record.id) " in Coupa" } }
            }
        }
    }
}

/// The invoice that a credit note corrects: with where it stands, when it is known here.
fn original_of(base: &str, number: &str, corrected: Option<&[InvoiceRecord]>) -> Markup {
    html! { @match corrected {
        None => { a href={ (base) "/find?q=" (crate::login::encoded(number)) } { "Look for " bdi { (number) } } },
        Some([]) => { bdi { (number) } ", which is not known here" },
        Some(known) => { @for original in known {
            a href={ (base) "/invoices/" (original.id) } { bdi { (heading(original)) } } " " (tag(View::of(original))) " "
        } },
    } }
}

fn history(visit: &Visit, trail: &[AuditEntry]) -> Markup {
    html! {
        @if trail.is_empty() { p { "Nothing is written in its audit trail yet." } }
        ol.line { @for entry in trail.iter().rev() {
            li {
                time datetime=(entry.at.to_string()) { (visit.clock.short(entry.at)) } " "
                @match serde_json::from_str::<Vec<Event>>(&entry.events) {
                    Ok(events) => bdi { (visit.sentence(&events.iter().map(told).collect::<Vec<_>>().join(" "))) },
                    Err(_) => { "An entry of another version of this product, which this page cannot read." }
                }
            }
        } }
    }
}

/// One event, for people.
fn told(event: &Event) -> String {
    let codes = |codes: Vec<&str>| {
        codes
            .iter()
            .map(|code| crate::words::code(code).to_lowercase())
            .collect::<Vec<_>>()
            .join(", ")
    };
    match event {
        Event::Received { coupa_status: None } => "Taken in.".to_owned(),
        Event::Received {
            coupa_status: Some(status),
        } => format!("Coupa says it is {status}."),
        Event::Delayed { problem } => format!("Could not be looked at, and is again by itself: {problem}"),
        Event::Held { exceptions, .. } => format!(
            "Compared with order and receipts: waits ({}).",
            codes(
                exceptions
                    .iter()
                    .map(|exception| exception.code.as_str())
                    .collect()
            )
        ),
        Event::Approved { .. } => "Compared with order and receipts: everything fits.".to_owned(),
        Event::Parked { reason } => format!("Needs a person: {}.", codes(vec![reason.code().as_str()])),
        Event::Creating { step, .. } => format!("Creation in QAD: {}.", step.name()),
        Event::Posted { voucher, how } => format!(
            "In QAD as voucher {voucher}{}.",
            match how {
                PostedHow::Created => "",
                PostedHow::Recovered => ", found there after the answer was lost",
                PostedHow::Adopted => ", which was keyed by hand",
                PostedHow::Restored => ", found there with our mark",
            }
        ),
        Event::Exporting { step, .. } => format!("Mark in Coupa: {}.", step.name()),
        Event::Noting { step, .. } => format!("Note in Coupa: {}.", step.name()),
        Event::Exported => "Coupa knows that it is in QAD.".to_owned(),
        Event::Paid { paid } => explain::paid_words(paid),
        Event::Voided => "Voided in Coupa before it was posted.".to_owned(),
        Event::Rejected { problem } => format!("Nothing will be done with it: {problem}"),
        Event::ReleaseRequested { release } => format!(
            "{} asked for its release: {}.",
            person_of(&release.instruction.by),
            release.instruction.reason
        ),
        Event::Released { release } => {
            let first = release
                .requested
                .as_ref()
                .map(|first| format!("; asked for by {}", person_of(&first.by)));
            format!(
                "{} released it: {}{}.",
                person_of(&release.instruction.by),
                release.instruction.reason,
                first.unwrap_or_default()
            )
        }
        Event::Restored { state, instruction } => by(
            &format!("had it go on as {} after a restore", state.word()),
            instruction,
        ),
        Event::Skipped { instruction } => by("took it out", instruction),
        Event::Reopened { instruction } => by("took it up again", instruction),
        Event::TakenIn { instruction } => by("had it taken in", instruction),
        Event::AdoptionRequested { request } => by(
            &format!("named QAD's {} as its document, to be looked up", request.voucher),
            &request.instruction,
        ),
        Event::AdoptionRefused { voucher, problem } => {
            format!("QAD's {voucher} was not taken as its document: {problem}")
        }
        Event::Adopted {
            voucher, instruction, ..
        } => by(&format!("had QAD's {voucher} taken as its document"), instruction),
    }
}

fn by(did: &str, instruction: &domain::instruction::Instruction) -> String {
    format!("{} {did}: {}.", person_of(&instruction.by), instruction.reason)
}

fn technical(record: &InvoiceRecord, revision: u64, trail: &[AuditEntry]) -> Markup {
    let chain = match verify_chain(trail) {
        Ok(end) if end == record.chain => format!("{} entries, chain verified", trail.len()),
        Ok(_) | Err(_) => "the chain does not fit: tell the one who runs this product".to_owned(),
    };
    let codes = record.state.codes();
    html! {
        details {
            summary { "Technical details" }
            dl.facts {
                dt { "State" } dd { (record.state.word()) }
                @if !codes.is_empty() {
                    dt { "Codes" } dd { @for code in &codes { a href={ "/help/" (code) } { (code) } " " } }
                }
                @if let Some(report) = &record.report { dt { "Tolerances" } dd { (report.tolerance_version) } }
                dt { "Revision" } dd { (revision) }
                dt { "Audit entries" } dd { (chain) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(figures: &str) -> LineReport {
        let mut line = serde_json::json!({
            "line": 1, "order_line": null, "unit": "EA", "ordered": "120", "received": "120", "already_invoiced": "0",
            "reserved": "0", "open": "120", "this_invoice": "120", "order_price": "10.00", "invoice_price": "10.80",
            "price_limit": "10.20", "exceptions": [], "nothing_to_post": false,
        });
        let figures: serde_json::Map<String, serde_json::Value> = serde_json::from_str(figures).unwrap();
        line.as_object_mut().unwrap().extend(figures);
        serde_json::from_value(line).unwrap()
    }

    #[test]
    fn what_is_off_is_told_in_percent_and_in_money() {
        use ExceptionCode::{
            BilledOverOrdered, NearDuplicate, PriceOverTolerance, PriceUnderTolerance, ReceiptMissing,
        };
        for (code, figures, told) in [
            (PriceOverTolerance, "{}", Some("Price 8.0 % over, 96.00 in all")),
            (
                PriceUnderTolerance,
                r#"{"invoice_price":"9.00"}"#,
                Some("Price 10.0 % under, 120.00 in all"),
            ),
            (
                PriceOverTolerance,
                r#"{"this_invoice":null}"#,
                Some("Price 8.0 % over"),
            ),
            (PriceOverTolerance, r#"{"order_price":"0"}"#, None),
            (PriceOverTolerance, r#"{"order_price":null}"#, None),
            (
                BilledOverOrdered,
                r#"{"already_invoiced":"10"}"#,
                Some("10 EA more than ordered (8.3 %), 108.00 in all"),
            ),
            (BilledOverOrdered, "{}", None),
            (
                ReceiptMissing,
                r#"{"open":"90","invoice_price":null}"#,
                Some("30 EA not received (25.0 %)"),
            ),
            (ReceiptMissing, r#"{"open":null}"#, None),
            (NearDuplicate, "{}", None),
        ] {
            assert_eq!(
                difference(code, &line(figures)).as_deref(),
                told,
                "{code:?} {figures}"
            );
        }
    }
}
