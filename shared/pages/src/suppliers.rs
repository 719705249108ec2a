//! Suppliers and lookups that wait for a person, the other connections, and what the codes mean.

use crate::invoices::{Wanted, table};
use crate::layout::{Part, page, refused};
use crate::words::{code, sums};
use crate::{Fields, Problems, Visit};
use axum::extract::Path;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use domain::index::View;
use domain::matching::ExceptionCode;
use domain::plans::{PlanRecord, PlanState};
use domain::suppliers::{Candidate, SupplierId, SupplierRecord, SupplierState};
use flows::index::{self, Row, Sums};
use flows::ports::{Collection, RecordGroup, RecordKey, Tally};
use flows::store::parse;
use flows::supplier_event;
use flows::sync_suppliers::QUARANTINE;
use maud::{Markup, html};
use std::collections::{BTreeMap, BTreeSet};

/// Invoices of one reason that the page groups by supplier.
const GROUPED_MAX: usize = 500;

/// `GET /suppliers`.
pub(crate) async fn show(visit: Visit) -> Response {
    match content(&visit).await {
        Ok(content) => page(&visit, Part::Suppliers, "Suppliers and lists", content).into_response(),
        Err(problems) => refused(&visit, &problems, "/"),
    }
}

async fn content(visit: &Visit) -> Result<Markup, Problems> {
    let mut groups: BTreeMap<String, (Sums, Vec<Row>)> = BTreeMap::new();
    for cause in [
        ExceptionCode::SupplierNotLinked,
        ExceptionCode::SupplierCodeInvalid,
        ExceptionCode::SupplierDiffers,
    ] {
        let fields = Fields::from([
            ("view".to_owned(), View::NeedsYou.word().to_owned()),
            ("code".to_owned(), cause.as_str().to_owned()),
        ]);
        for row in crate::invoices::all(visit, &Wanted::of(&fields)?, GROUPED_MAX).await? {
            let group = groups.entry(row.supplier.clone()).or_default();
            let currency = if row.currency.is_empty() {
                index::NO_CURRENCY
            } else {
                &row.currency
            };
            group.0.add(
                currency,
                Tally {
                    count: 1,
                    amount: row.total,
                },
            );
            group.1.push(row);
        }
    }
    let proposed = proposed(visit).await?;
    let waiting = supplier_event::waiting(&*visit.books).await?;
    let found = visit.books.read(&[flows::plans::key(None)]).await?;
    let supplier_plan: Option<PlanRecord> = match found.into_iter().next().flatten() {
        Some(stored) => Some(parse(&stored)?),
        None => None,
    };
    let mut plans: Vec<PlanRecord> = Vec::new();
    for stored in visit
        .books
        .list(&RecordGroup::Collection(Collection::LookupPlan))
        .await?
    {
        plans.push(parse(&stored)?);
    }
    Ok(html! {
        h1 { "Suppliers and lists" }
        h2 { "Suppliers that invoices wait for" }
        @if groups.is_empty() { p { "No invoice waits for its supplier." } }
        @for (supplier, (total, rows)) in &groups {
            h3 { @if supplier.is_empty() { "Without a name" } @else { bdi { (supplier) } } ": " (sums(total)) }
            p { "Give the supplier its QAD number in Coupa, or have it corrected by whoever keeps the suppliers. The invoices
                go on by themselves." }
            (table(&visit.base, visit, rows))
        }
        (proposals(&proposed, &waiting))
        @if supplier_plan.is_some_and(|plan| plan.waits_for_a_person()) {
            p { span.tag.need { "Needs a person" } " The suppliers' changes are larger than may happen by themselves: have whoever
                runs this product show and allow them." }
        }
        h2 { "Lookups" }
        @if plans.is_empty() { p { "No lookup of Coupa follows QAD here, or none was compared yet." } }
        @else { (lookups(&plans)) }
    })
}

/// Suppliers that may be one on the other side: those of QAD, and of Coupa those that no supplier of QAD is proposed for.
async fn proposed(visit: &Visit) -> Result<Vec<SupplierRecord>, Problems> {
    let mut found: Vec<SupplierRecord> = Vec::new();
    for stored in visit
        .books
        .list(&RecordGroup::Collection(Collection::Supplier))
        .await?
    {
        let aside = matches!(&stored.key, RecordKey::Entry { id, .. } if id.starts_with(QUARANTINE));
        if !aside {
            found.push(parse(&stored)?);
        }
    }
    found.retain(|record| !candidates(record).is_empty());
    let told: BTreeSet<SupplierId> = found
        .iter()
        .filter(|record| record.code().is_some())
        .flat_map(|record| candidates(record).iter().map(|candidate| candidate.id.clone()))
        .collect();
    found.retain(|record| record.code().is_some() || !told.contains(&record.id));
    Ok(found)
}

/// Who a supplier may be on the other side.
pub(crate) fn candidates(record: &SupplierRecord) -> &[Candidate] {
    match &record.state {
        SupplierState::Parked { candidates, .. } => candidates,
        _ => &[],
    }
}

/// How many invoices wait for a supplier, or for one that it may be.
fn waits(record: &SupplierRecord, waiting: &BTreeMap<u64, u64>) -> u64 {
    let ids = candidates(record).iter().map(|candidate| &candidate.id);
    let in_coupa = ids.chain([&record.id]).filter_map(|id| match id {
        SupplierId::Coupa(id) => waiting.get(id),
        SupplierId::Qad(_) => None,
    });
    in_coupa.fold(0, |sum, count| sum.saturating_add(*count))
}

fn proposals(proposed: &[SupplierRecord], waiting: &BTreeMap<u64, u64>) -> Markup {
    html! {
        h2 { "Suppliers that may be the same" }
        @if proposed.is_empty() { p { "No supplier waits for somebody to say who it is." } }
        @else {
            p { "Nothing is written about them before somebody decides. If two are one, give the one in Coupa the number and the
                name of the one in QAD, or have whoever runs this product accept it; else correct what they have in common." }
            (crate::layout::scrolled("Suppliers that may be the same", &html! { table.cards {
                thead { tr { th scope="col" { "Supplier" } th scope="col" { "Perhaps" } th scope="col" { "Invoices that wait" } } }
                tbody { @for record in proposed {
                    tr {
                        th scope="row" { bdi { @match (&record.qad, &record.coupa) {
                            (Some(qad), _) => (qad.words()),
                            (None, Some(coupa)) => (coupa.words()),
                            (None, None) => (record.id),
                        } } }
                        td data-h="Perhaps" { ul { @for candidate in candidates(record) { li { bdi { (candidate) } } } } }
                        td data-h="Invoices that wait" { (waits(record, waiting)) }
                    }
                } }
            } }))
        }
    }
}

fn lookups(plans: &[PlanRecord]) -> Markup {
    html! {
        (crate::layout::scrolled("Lookups", &html! { table.cards {
            thead { tr { th scope="col" { "Lookup" } th scope="col" { "Stands" } th scope="col" { "What to do" } } }
            tbody { @for plan in plans {
                tr {
                    th scope="row" { bdi { (plan.name()) } }
                    td data-h="Stands" { @match &plan.state {
                        PlanState::Parked { .. } if plan.allowed_plan.is_some() => { span.tag.hold { "Allowed" } },
                        PlanState::Parked { .. } => { span.tag.need { "Needs a person" } },
                        _ => { span.tag.done { "Follows QAD" } },
                    } }
                    td data-h="What to do" { @match &plan.state {
                        PlanState::Parked { .. } if plan.allowed_plan.is_none() =>
                            "Its changes are larger than may happen by themselves: have whoever runs this product show and allow them.",
                        _ => "Nothing.",
                    } }
                }
            } }
        } }))
    }
}

/// `GET /connections`.
pub(crate) async fn connections(visit: Visit) -> Response {
    let content = html! {
        h1 { "Connections" }
        p { "Each is one Coupa with one QAD. Choose which one to look at." }
        ul { @for name in &visit.connections { li { a href={ "/c/" (name) "/" } { (name) } } } }
    };
    page(&visit, Part::Other, "Connections", content).into_response()
}

/// What is known of a code: from the tables of the manual, so that it is said once.
struct Known {
    cells: Vec<String>,
}

/// The manual's pages that hold tables of codes.
const MANUAL: [&str; 2] = [
    include_str!("../../../docs/operate.md"),
    include_str!("../../../docs/codes.md"),
];

fn known(code: &str) -> Option<Known> {
    let quoted = format!("`{code}`");
    MANUAL.iter().flat_map(|text| text.lines()).find_map(|line| {
        let cells: Vec<String> = line
            .strip_prefix('|')?
            .trim_end_matches('|')
            .split(" | ")
            .map(|cell| cell.trim().to_owned())
            .collect();
        cells.first()?.contains(&quoted).then_some(Known { cells })
    })
}

/// What to do about a code, in one sentence for people without a terminal.
pub(crate) fn fix_of(code: &str) -> String {
    if let Some(exception) = ExceptionCode::ALL
        .iter()
        .find(|exception| exception.as_str() == code)
    {
        return exception.fix().to_owned();
    }
    known(code)
        .and_then(|known| known.cells.last().cloned())
        .filter(|text| !text.contains("qad-coupa") && !text.is_empty())
        .map_or_else(
            || "Open the invoice: it says what to do.".to_owned(),
            |text| plain(&text),
        )
}

/// A cell of the manual without its marks.
fn plain(text: &str) -> String {
    let mut out = text.replace('`', "");
    // A link is its words.
    while let (Some(open), Some(middle)) = (out.find('['), out.find("](")) {
        let Some(close) = out
            .get(middle..)
            .and_then(|rest| rest.find(')'))
            .and_then(|at| middle.checked_add(at))
        else {
            break;
        };
        let (Some(before), Some(words), Some(after)) = (
            out.get(..open),
            open.checked_add(1).and_then(|start| out.get(start..middle)),
            close.checked_add(1).and_then(|start| out.get(start..)),
        ) else {
            break;
        };
        out = format!("{before}{words}{after}");
    }
    out
}

/// `GET /help`.
pub(crate) async fn help(visit: Visit) -> Response {
    let base = &visit.base;
    let content = html! {
        h1 { "Help" }
        p { "This page shows every invoice that Coupa has approved, on its way into QAD. An invoice is posted when order, receipt
            and invoice fit; what does not fit waits by itself for a receipt, or for a person." }
        h2 { "Who may do what" }
        ul {
            li { "A clerk looks again, takes out, takes up again, and releases up to the limit." }
            li { "An approver does the same, and is the second person above the limit." }
            li { "A controller signs the month off." }
            li { "An auditor reads." }
        }
        h2 { "Reasons" }
        ul { @for exception in ExceptionCode::ALL {
            li { a href={ (base) "/help/" (exception.as_str()) } { (code(exception.as_str())) } }
        } }
    };
    page(&visit, Part::Other, "Help", content).into_response()
}

/// `GET /help/{code}`.
pub(crate) async fn help_code(visit: Visit, Path(name): Path<String>) -> Response {
    let Some(known) = known(&name) else {
        let text = "There is no such reason. Look at the list on the help page.";
        return refused(
            &visit,
            &Problems::new(StatusCode::NOT_FOUND, "Not found", text),
            "/help",
        );
    };
    let meaning = known.cells.get(1).map(|text| plain(text)).unwrap_or_default();
    let content = html! {
        h1 { (code(&name)) }
        dl.facts {
            dt { "What it means" } dd { (meaning) }
            dt { "What to do" } dd { (fix_of(&name)) }
            dt { "Code" } dd { (name) }
        }
        p { a href={ (visit.base) "/invoices?view=needs-you&code=" (name) } { "Invoices that need a person for it" } }
        p { a href={ (visit.base) "/help" } { "All reasons" } }
    };
    page(&visit, Part::Other, &code(&name), content).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_of_the_match_has_its_help() {
        for exception in ExceptionCode::ALL {
            let known = known(exception.as_str());
            assert!(
                known.is_some_and(|known| known.cells.len() >= 3),
                "{}",
                exception.as_str()
            );
            assert!(!fix_of(exception.as_str()).is_empty());
        }
        assert!(known("NOT_A_CODE").is_none());
    }

    #[test]
    fn marks_of_the_manual_do_not_show() {
        assert_eq!(plain("see `a` in [the page](x.md) now"), "see a in the page now");
        assert_eq!(plain("odd ]( text"), "odd ]( text");
    }
}
