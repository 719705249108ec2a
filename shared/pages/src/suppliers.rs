//! Suppliers that wait for a person: the invoices that wait for them, and who may be whom.

use crate::invoices::table;
use crate::layout::{Part, page, refused};
use crate::words::sums;
use crate::{Fields, Problems, Visit, login};
use axum::extract::Query;
use axum::response::{IntoResponse, Response};
use domain::plans::PlanRecord;
use domain::suppliers::SupplierId;
use flows::index::entries::{self, Counted, SupplierRow};
use flows::index::{self, Row, Sums};
use flows::plans;
use flows::ports::RowsAsked;
use flows::store::parse;
use maud::{Markup, html};
use std::collections::BTreeSet;

/// Invoices and proposals of a page.
const AWAITED_ROWS: usize = 25;
const PROPOSED_ROWS: usize = 10;
/// Longest place in a list that an address may name, in bytes.
const PLACE_BYTES_MAX: usize = 200;

/// `GET /suppliers`.
pub(crate) async fn show(visit: Visit, Query(fields): Query<Fields>) -> Response {
    match read(&visit, &fields).await {
        Ok(read) => page(
            &visit,
            Part::Suppliers,
            "Suppliers and lists",
            content(&visit, &fields, &read),
        )
        .into_response(),
        Err(problems) => refused(&visit, &problems, "/"),
    }
}

struct Read {
    /// Invoices that wait for their supplier, by supplier, each with Coupa's id of it, and where the next page begins.
    awaited: (Vec<(u64, Row)>, Option<String>),
    proposed: (Vec<SupplierRow>, Option<String>),
    counted: Counted,
    plan: Option<PlanRecord>,
    whole: bool,
}

/// Where a page of a list begins, as the address says.
fn beyond<'f>(fields: &'f Fields, name: &str) -> Option<&'f str> {
    let text = fields.get(name).map(String::as_str);
    text.filter(|text| !text.is_empty() && text.len() <= PLACE_BYTES_MAX)
}

/// Four reads at most with that of every page, whatever the register holds.
async fn read(visit: &Visit, fields: &Fields) -> Result<Read, Problems> {
    let books = &*visit.books;
    let asked = RowsAsked {
        beyond: beyond(fields, "invoices-after"),
        newest_first: false,
        limit: AWAITED_ROWS,
    };
    let whole = index::progress_in(visit.beside(&index::progress_key())?)?.complete;
    Ok(Read {
        awaited: index::awaited(books, &asked).await?,
        proposed: entries::proposed(books, beyond(fields, "after"), PROPOSED_ROWS).await?,
        counted: visit.console.kept.counted(visit, whole).await?,
        plan: visit.beside(&plans::key(None))?.map(parse).transpose()?,
        whole,
    })
}

/// The suppliers of Coupa that a proposal is about.
fn of_coupa(row: &SupplierRow) -> BTreeSet<u64> {
    let perhaps = row.perhaps.iter().map(|(id, _)| id);
    let ids = perhaps.chain([&row.id]).filter_map(|id| match id {
        SupplierId::Coupa(id) => Some(*id),
        SupplierId::Qad(_) => None,
    });
    ids.collect()
}

/// The tabs of the two pages of this part.
pub(crate) fn tabs(base: &str, current: &str) -> Markup {
    html! {
        ul.tabs {
            @for (path, name) in [("/suppliers", "Suppliers"), ("/lookups", "Lookups")] {
                li { a href={ (base) (path) } aria-current=[(path == current).then_some("page")] { (name) } }
            }
        }
    }
}

fn content(visit: &Visit, fields: &Fields, read: &Read) -> Markup {
    html! {
        h1 { "Suppliers and lists" }
        (tabs(&visit.base, "/suppliers"))
        @if fields.get("done").is_some_and(|word| word == "allowed") {
            p.sentence.done role="status" { "Allowed. The next run carries it out, as long as it is still the same plan." }
        }
        @if !read.whole {
            p.sentence { "The lists below may not hold everything that is older yet: it is being taken in." }
        }
        (awaited(visit, fields, read))
        (proposals(visit, fields, read))
        @if read.plan.as_ref().is_some_and(PlanRecord::waits_for_a_person) {
            p { span.tag.need { "Needs a person" } " The suppliers' changes are larger than may happen by themselves. "
                a href={ (visit.base) "/plans/allow" } { "Show what would be changed" } }
        }
    }
}

/// The rows of one supplier, which follow each other.
fn groups(rows: &[(u64, Row)]) -> Vec<Vec<Row>> {
    let groups = rows.chunk_by(|(_, one), (_, two)| one.supplier == two.supplier);
    groups
        .map(|group| group.iter().map(|(_, row)| row.clone()).collect())
        .collect()
}

fn awaited(visit: &Visit, fields: &Fields, read: &Read) -> Markup {
    let (rows, next) = &read.awaited;
    html! {
        h2 { "Suppliers that invoices wait for" }
        @if rows.is_empty() {
            p { @if beyond(fields, "invoices-after").is_some() { "That was the last page of them." }
                @else { "No invoice waits for its supplier." } }
        } @else {
            p { "Give the supplier its QAD number in Coupa, or have it corrected by whoever keeps the suppliers. The invoices
                go on by themselves." }
        }
        @let groups = groups(rows);
        @for (place, group) in groups.iter().enumerate() {
            @let goes_on = next.is_some() && place.saturating_add(1) == groups.len();
            @let supplier = group.first().map_or("", |row| row.supplier.as_str());
            h3 { @if supplier.is_empty() { "Without a name" } @else { bdi { (supplier) } } ": " (sums(&total(group))) @if goes_on { " so far" } }
            (table(&visit.base, visit, group))
        }
        @if let Some(next) = next {
            p { a href={ (visit.base) "/suppliers?invoices-after=" (login::encoded(next)) } { "Next " (AWAITED_ROWS) " of these invoices" } }
        }
    }
}

fn total(rows: &[Row]) -> Sums {
    let mut total = Sums::default();
    for row in rows {
        total.add_row(row);
    }
    total
}

/// How many invoices wait for a supplier, or for one that it may be: counted where all that wait are on the page, else they are led
/// to, because a count of each would cost more than the page.
fn waits(visit: &Visit, fields: &Fields, row: &SupplierRow, read: &Read) -> Markup {
    let ids = of_coupa(row);
    let (rows, next) = &read.awaited;
    if next.is_none() && beyond(fields, "invoices-after").is_none() {
        return html! { (rows.iter().filter(|(supplier, _)| ids.contains(supplier)).count()) };
    }
    html! {
        @if ids.is_empty() { "0" }
        @for id in &ids {
            a href={ (visit.base) "/suppliers?invoices-after=" (index::awaited_before(*id)) } { "Those of Coupa " (id) " and after" } " "
        }
    }
}

fn proposals(visit: &Visit, fields: &Fields, read: &Read) -> Markup {
    let (rows, next) = &read.proposed;
    // A pair that is told from QAD's side is not told again from Coupa's.
    let told: BTreeSet<&SupplierId> = rows
        .iter()
        .filter(|row| matches!(row.id, SupplierId::Qad(_)))
        .flat_map(|row| row.perhaps.iter().map(|(id, _)| id))
        .collect();
    let shown: Vec<&SupplierRow> = rows.iter().filter(|row| !told.contains(&row.id)).collect();
    html! {
        h2 { "Suppliers that may be the same" }
        @if shown.is_empty() {
            p { @if beyond(fields, "after").is_some() { "That was the last page of them." }
                @else { "No supplier waits for somebody to say who it is." } }
        } @else {
            p { "Nothing is written about them before somebody decides. If two are one, give the one in Coupa the number and the
                name of the one in QAD, or have whoever runs this product accept it; else correct what they have in common." }
            (crate::layout::scrolled("Suppliers that may be the same", &html! { table.cards {
                thead { tr { th scope="col" { "Supplier" } th scope="col" { "Perhaps" } th scope="col" { "Invoices that wait" } } }
                tbody { @for row in shown {
                    tr {
                        th scope="row" { bdi { (row.words) } }
                        td data-h="Perhaps" { ul { @for (_, words) in &row.perhaps { li { bdi { (words) } } } } }
                        td data-h="Invoices that wait" { (waits(visit, fields, row, read)) }
                    }
                } }
            } }))
        }
        @if let Some(next) = next {
            p { a href={ (visit.base) "/suppliers?after=" (login::encoded(next)) } { "Next " (PROPOSED_ROWS) " of these suppliers" } }
        }
        @let others = read.counted.parked_suppliers.saturating_sub(read.counted.proposed_suppliers);
        @if others > 0 {
            p { (others) @if others == 1 { " more supplier waits" } @else { " more suppliers wait" } " for whoever keeps the suppliers, because
                something of it must be corrected first: have whoever runs this product show the list." }
        }
    }
}
