//! The lists, their CSV, and the search.

use crate::layout::{Part, left_out, page, refused};
use crate::words::{self, code, money};
use crate::{Fields, Problems, Visit, login};
use axum::extract::Query;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use domain::csv::csv as comma_separated;
use domain::index::{FIND_CHARACTERS_MAX, View};
use domain::lifecycle::InvoiceRecord;
use flows::index::{self, Row, Standing, Sums};
use flows::ports::{ROWS_MAX, RecordKey, RowsAsked};
use flows::store::parse;
use maud::{Markup, html};

/// Rows of a page.
const PAGE_ROWS: usize = 50;
/// Most rows of a file; of a longer list none is made, so that none is taken for whole.
const FILE_ROWS_MAX: usize = 10_000;
/// Invoices of a file that are read at a time.
pub(crate) const RECORDS_AT_ONCE: usize = 500;

/// Which list.
pub(crate) struct Wanted {
    pub(crate) view: View,
    pub(crate) code: Option<String>,
    beyond: Option<String>,
}

impl Wanted {
    pub(crate) fn of(fields: &Fields) -> Result<Self, Problems> {
        let unknown = || {
            Problems::new(
                StatusCode::NOT_FOUND,
                "No such list",
                "There is no such list. Choose one of: need you, wait, on their way, in QAD, closed.",
            )
        };
        let view = match fields.get("view").map(String::as_str) {
            None | Some("") => View::NeedsYou,
            Some(word) => View::of_word(word).ok_or_else(unknown)?,
        };
        let short = |name: &str| {
            let text = fields.get(name).map(|text| text.trim().to_owned());
            text.filter(|text| !text.is_empty() && text.len() <= FIND_CHARACTERS_MAX)
        };
        Ok(Self {
            view,
            code: short("code"),
            beyond: short("after"),
        })
    }

    /// All of a view.
    pub(crate) fn view(view: View) -> Self {
        Self {
            view,
            code: None,
            beyond: None,
        }
    }

    pub(crate) fn list(&self) -> String {
        index::list_of(self.view, self.code.as_deref())
    }

    /// What stands in it, from the sums.
    pub(crate) fn sums(&self, standing: &Standing) -> Sums {
        match &self.code {
            None => standing.views.get(&self.view).cloned(),
            Some(code) => standing.codes.get(&(self.view, code.clone())).cloned(),
        }
        .unwrap_or_default()
    }

    pub(crate) fn query(&self) -> String {
        let code = self
            .code
            .as_ref()
            .map(|code| format!("&code={}", login::encoded(code)));
        format!("?view={}{}", self.view.word(), code.unwrap_or_default())
    }

    /// What is done and over is looked at from its end.
    fn newest_first(&self) -> bool {
        matches!(self.view, View::Posted | View::Closed)
    }
}

pub(crate) fn name_of(view: View) -> &'static str {
    match view {
        View::NeedsYou => "Need you",
        View::Waits => "Wait by themselves",
        View::Working => "On their way",
        View::Posted => "In QAD",
        View::Closed => "Closed",
    }
}

fn class_of(view: View) -> &'static str {
    match view {
        View::NeedsYou => "tag need",
        View::Waits => "tag hold",
        View::Posted => "tag done",
        View::Working | View::Closed => "tag rest",
    }
}

/// The state as a word with its colour.
pub(crate) fn tag(view: View) -> Markup {
    html! { span class=(class_of(view)) { (word_of(view)) } }
}

/// Where an invoice stands, in a word or two.
pub(crate) fn word_of(view: View) -> &'static str {
    match view {
        View::NeedsYou => "Needs you",
        View::Waits => "Waits",
        View::Working => "On its way",
        View::Posted => "In QAD",
        View::Closed => "Closed",
    }
}

/// `GET /invoices`.
pub(crate) async fn show(visit: Visit, Query(fields): Query<Fields>) -> Response {
    match list(&visit, &fields).await {
        Ok(content) => page(&visit, Part::Invoices, "Invoices", content).into_response(),
        Err(problems) => refused(&visit, &problems, "/invoices"),
    }
}

async fn list(visit: &Visit, fields: &Fields) -> Result<Markup, Problems> {
    let wanted = Wanted::of(fields)?;
    let (standing, _) = index::figures(&*visit.books, &[]).await?;
    let asked = RowsAsked {
        beyond: wanted.beyond.as_deref(),
        newest_first: wanted.newest_first(),
        limit: PAGE_ROWS,
    };
    let (rows, next) = index::page(&*visit.books, &wanted.list(), &asked).await?;
    let sums = wanted.sums(&standing);
    let query = wanted.query();
    let base = &visit.base;
    Ok(html! {
        h1 { "Invoices" }
        @if let Some(looked_at) = fields.get("done").and_then(|count| count.parse::<i64>().ok()) {
            p.sentence.done role="status" {
                (words::invoices(looked_at)) @if looked_at == 1 { " is" } @else { " are" }
                " being looked at again. What has changed leaves the list by itself: open it again in a moment."
            }
        }
        (tabs(base, wanted.view, &standing))
        @if let Some(cause) = &wanted.code {
            p { "Only: " strong { (code(cause)) } ". " (crate::help::fix_of(cause)) " "
                a href={ (base) "/invoices?view=" (wanted.view.word()) } { "Show all of the list" } }
        }
        p { (words::sums(&sums)) ". "
            a.noprint href={ (base) "/invoices.csv" (query) } { "This list as CSV" } }
        @if wanted.view == View::NeedsYou && visit.session.person.may_act() && sums.count > 0 {
            form.noprint method="post" action={ (base) "/invoices/recheck" } {
                input type="hidden" name="t" value=(visit.token("/invoices/recheck"));
                input type="hidden" name="view" value=(wanted.view.word());
                input type="hidden" name="code" value=(wanted.code.clone().unwrap_or_default());
                button { "Look again at all of these…" }
            }
        }
        @if rows.is_empty() { p { (why_empty(&wanted, &sums)) } } @else { (table(base, visit, &rows)) }
        @if let Some(next) = next {
            p { a href={ (base) "/invoices" (query) "&after=" (login::encoded(&next)) } { "Next " (PAGE_ROWS) } }
        }
    })
}

fn tabs(base: &str, current: View, standing: &Standing) -> Markup {
    html! {
        ul.tabs {
            @for view in View::ALL {
                li { a href={ (base) "/invoices?view=" (view.word()) } aria-current=[(view == current).then_some("page")] {
                    (name_of(view)) " (" (standing.views.get(&view).map_or(0, |sums| sums.count)) ")"
                } }
            }
        }
    }
}

fn why_empty(wanted: &Wanted, sums: &Sums) -> &'static str {
    match wanted.view {
        _ if wanted.beyond.is_some() => "That was the last page of this list.",
        _ if sums.count > 0 => "The list is just changing: open it again in a moment.",
        _ if wanted.code.is_some() => "No invoice stands here for this reason any more.",
        View::NeedsYou => "No invoice needs a person.",
        View::Waits => "No invoice waits for a receipt, an order or an approval.",
        View::Working => "Nothing is being read, matched or posted at this moment.",
        View::Posted => "Nothing is in QAD through this product yet.",
        View::Closed => "Nothing was taken out, rejected or voided.",
    }
}

/// Rows as a table.
pub(crate) fn table(base: &str, visit: &Visit, rows: &[Row]) -> Markup {
    html! {
        div.wrap { table.cards {
            thead { tr {
                th scope="col" { "Invoice" } th scope="col" { "Supplier" } th scope="col" { "Order" }
                th.n scope="col" { "Total" } th scope="col" { "Due" } th scope="col" { "Why" } th scope="col" { "Since" }
            } }
            tbody { @for row in rows {
                tr {
                    th scope="row" { a href={ (base) "/invoices/" (row.id) } {
                        @if row.reference.is_empty() { "Coupa " (row.id) } @else { bdi { (row.reference) } }
                    } }
                    td data-h="Supplier" { @if row.supplier.is_empty() { "not read yet" } @else { bdi { (row.supplier) } } }
                    td data-h="Order" { @if row.order.is_empty() { "–" } @else { bdi { (row.order) } } }
                    td.n data-h="Total" { @if row.currency.is_empty() { "–" } @else { (money(row.total, &row.currency)) } }
                    td data-h="Due" { (row.due.map_or_else(|| "–".to_owned(), words::date)) }
                    td data-h="Why" { (why(row)) }
                    td data-h="Since" { (visit.clock.short(row.since)) " (" (crate::today::age(row.since, visit.now)) ")" }
                }
            } }
        } }
    }
}

fn why(row: &Row) -> String {
    match (row.code.is_empty(), row.voucher.is_empty()) {
        (false, true) => code(&row.code),
        (false, false) => format!("{}, QAD {}", code(&row.code), row.voucher),
        (true, false) => format!("QAD {}", row.voucher),
        (true, true) => row.state.clone(),
    }
}

/// `GET /invoices.csv`: the whole of a list.
pub(crate) async fn csv(visit: Visit, Query(fields): Query<Fields>) -> Response {
    match file(&visit, &fields).await {
        Ok((name, text)) => attachment(&name, text),
        Err(problems) => refused(&visit, &problems, "/invoices"),
    }
}

/// A file of comma-separated values.
pub(crate) fn attachment(name: &str, text: String) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/csv; charset=utf-8".to_owned()),
        (
            header::CONTENT_DISPOSITION,
            format!("attachment; filename=\"{name}\""),
        ),
    ];
    (headers, text).into_response()
}

async fn file(visit: &Visit, fields: &Fields) -> Result<(String, String), Problems> {
    let wanted = Wanted::of(fields)?;
    let rows = all(visit, &wanted, FILE_ROWS_MAX).await?;
    let header = [
        "coupa_id",
        "invoice",
        "supplier",
        "order",
        "invoice_date",
        "total",
        "currency",
        "state",
        "reason",
        "since_utc",
        "qad_voucher",
        "due_date",
        "plant",
        "requester",
        "supplier_number",
        "entity",
    ];
    let lines: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            vec![
                row.id.to_string(),
                row.reference.clone(),
                row.supplier.clone(),
                row.order.clone(),
                row.date.map(|date| date.to_string()).unwrap_or_default(),
                total_of(row),
                row.currency.clone(),
                row.state.clone(),
                row.code.clone(),
                row.since.to_string(),
                row.voucher.clone(),
                row.due.map(|date| date.to_string()).unwrap_or_default(),
                row.plant.clone(),
                row.requester.clone(),
                row.supplier_number.clone(),
                row.entity.clone(),
            ]
        })
        .collect();
    let name = format!("{}-{}.csv", wanted.view.word(), visit.now.date_utc());
    Ok((name, comma_separated(&header, &lines)))
}

/// All rows of a list, if they are no more than `most`.
async fn all(visit: &Visit, wanted: &Wanted, most: usize) -> Result<Vec<Row>, Problems> {
    let mut rows = Vec::new();
    let mut beyond: Option<String> = None;
    loop {
        let asked = RowsAsked {
            beyond: beyond.as_deref(),
            newest_first: wanted.newest_first(),
            limit: ROWS_MAX,
        };
        let (page, next) = index::page(&*visit.books, &wanted.list(), &asked).await?;
        rows.extend(page);
        if rows.len() > most {
            return Err(Problems::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "Too many",
                format!(
                    "The list has more than {most} invoices: nothing was cut off, and nothing was done. Take one reason at a time."
                ),
            ));
        }
        match next {
            Some(next) => beyond = Some(next),
            None => return shown_from_records(visit, rows).await,
        }
    }
}

/// The rows of a list, each that cannot be read as its record has it, where that can be read.
async fn shown_from_records(visit: &Visit, mut rows: Vec<Row>) -> Result<Vec<Row>, Problems> {
    let mut unread: Vec<&mut Row> = rows.iter_mut().filter(|row| row.is_unread()).collect();
    for some in unread.chunks_mut(RECORDS_AT_ONCE) {
        let keys: Vec<RecordKey> = some.iter().map(|row| RecordKey::Invoice(row.id)).collect();
        for (row, stored) in some.iter_mut().zip(visit.books.read(&keys).await?) {
            if let Some(Ok(record)) = stored.as_ref().map(parse::<InvoiceRecord>) {
                **row = Row::of(&record);
            }
        }
    }
    Ok(rows)
}

/// What stands in a view and is not in QAD; of what is in QAD already, only its payments wait for somebody.
pub(crate) async fn not_in_qad(visit: &Visit, view: View) -> Result<Vec<Row>, Problems> {
    let mut rows = all(visit, &Wanted::view(view), FILE_ROWS_MAX).await?;
    rows.retain(|row| row.voucher.is_empty());
    Ok(rows)
}

/// The total as a file has it: none, and not 0, of what could not be read.
pub(crate) fn total_of(row: &Row) -> String {
    if row.currency.is_empty() {
        String::new()
    } else {
        row.total.normalize().to_string()
    }
}

/// `GET /find`: one invoice is shown at once, several are listed.
pub(crate) async fn find(visit: Visit, Query(fields): Query<Fields>) -> Response {
    let text = fields.get("q").map_or("", |text| text.trim());
    match index::find(&*visit.books, text).await {
        Err(error) => refused(&visit, &error.into(), "/"),
        Ok(found) => match found.records.as_slice() {
            [one] if found.unreadable.is_empty() => {
                Redirect::to(&visit.path(&format!("/invoices/{}", one.id))).into_response()
            }
            records => {
                let rows: Vec<Row> = records.iter().map(Row::of).collect();
                let content = html! {
                    h1 { "Search" }
                    (left_out(&found.unreadable))
                    @if text.is_empty() {
                        p { "Type the supplier's invoice number, an order, a QAD voucher, a supplier, an amount or Coupa's id." }
                    } @else if rows.is_empty() && found.unreadable.is_empty() {
                        p { "Nothing is found by “" bdi { (short(text)) } "”. Blanks, zeros, case and punctuation do not matter. An invoice that
                            Coupa has not approved yet is not known here." }
                    } @else if !rows.is_empty() {
                        p { (words::invoices(i64::try_from(rows.len()).unwrap_or(i64::MAX))) " found by “" bdi { (short(text)) } "”"
                            @if found.more { "; there are more, search for something that fewer have" } "." }
                        (table(&visit.base, &visit, &rows))
                    }
                };
                page(&visit, Part::Other, "Search", content).into_response()
            }
        },
    }
}

fn short(text: &str) -> String {
    text.chars().take(FIND_CHARACTERS_MAX).collect()
}
