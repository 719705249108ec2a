//! Month end: what came in and what is in QAD, what has to be accrued, and the signature.

use crate::invoices::{FILE_ROWS_MAX, Wanted, all, attachment, name_of, word_of};
use crate::layout::{Part, page, refused};
use crate::today::DAY_MILLIS;
use crate::words::{amounts, date, sums};
use crate::{Fields, Problems, Role, Visit, picture};
use axum::extract::{Form, Path};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use domain::csv::csv as comma_separated;
use domain::index::View;
use domain::instruction::{Instruction, REASON_CHARACTERS_MIN};
use domain::problem::TEXT_CHARACTERS_MAX;
use domain::time::Date;
use flows::index::{self, Row, Standing, Sums};
use flows::month_end::{self, MonthEnd};
use flows::store::Loaded;
use maud::{Markup, html};

/// A month as `2026-11`, and the first day of it.
fn month_of(text: &str) -> Result<(String, Date), Problems> {
    let first: Option<Date> = format!("{text}-01").parse().ok().filter(|_| text.len() == 7);
    first.map(|first| (text.to_owned(), first)).ok_or_else(|| {
        Problems::new(
            StatusCode::NOT_FOUND,
            "No such month",
            "There is no such month: it is written as 2026-11.",
        )
    })
}

/// `GET /month`.
pub(crate) async fn latest(visit: Visit) -> Response {
    let month = visit.now.date_utc().strftime("%Y-%m").to_string();
    Redirect::to(&visit.path(&format!("/month/{month}"))).into_response()
}

/// `GET /month/{month}`.
pub(crate) async fn show(visit: Visit, Path(month): Path<String>) -> Response {
    match read(&visit, &month).await {
        Ok(read) => page(&visit, Part::Month, "Month end", content(&visit, &read, None)).into_response(),
        Err(problems) => refused(&visit, &problems, "/month"),
    }
}

struct Read {
    month: String,
    first: Date,
    posted: Sums,
    standing: Standing,
    end: Loaded<MonthEnd>,
}

async fn read(visit: &Visit, month: &str) -> Result<Read, Problems> {
    let (month, first) = month_of(month)?;
    let (standing, entered) = index::figures(&*visit.books, std::slice::from_ref(&month)).await?;
    let mut posted = Sums::default();
    for ((_, view), sums) in entered {
        if view == View::Posted {
            posted.count = posted.count.saturating_add(sums.count);
            for (currency, amount) in sums.amounts {
                let sum = posted.amounts.entry(currency).or_default();
                *sum = sum.saturating_add(amount);
            }
        }
    }
    Ok(Read {
        end: month_end::of(&*visit.books, &month).await?,
        month,
        first,
        posted,
        standing,
    })
}

impl Read {
    fn of(&self, view: View) -> Sums {
        self.standing.views.get(&view).cloned().unwrap_or_default()
    }

    /// What nobody can account for yet: answers that were lost.
    fn unexplained(&self) -> i64 {
        self.standing.unknown.count
    }

    /// What is signed, in words.
    fn figures(&self) -> String {
        let open: Vec<String> = [View::NeedsYou, View::Waits, View::Working]
            .into_iter()
            .map(|view| format!("{}: {}", name_of(view).to_lowercase(), sums(&self.of(view))))
            .collect();
        format!(
            "posted in {}: {}; {}",
            self.month,
            sums(&self.posted),
            open.join("; ")
        )
    }

    fn path(&self) -> String {
        format!("/month/{}", self.month)
    }
}

fn content(visit: &Visit, read: &Read, complaint: Option<&str>) -> Markup {
    let base = &visit.base;
    let earlier = read
        .first
        .yesterday()
        .map(|day| day.strftime("%Y-%m").to_string());
    let later = read
        .first
        .last_of_month()
        .tomorrow()
        .map(|day| day.strftime("%Y-%m").to_string());
    let sentence = if read.unexplained() == 0 {
        "sentence done"
    } else {
        "sentence need"
    };
    html! {
        h1 { "Month end: " (read.first.strftime("%B %Y").to_string()) }
        p.noprint {
            @if let Ok(month) = &earlier { a href={ (base) "/month/" (month) } { "The month before" } " " }
            @if let Ok(month) = &later { a href={ (base) "/month/" (month) } { "The month after" } }
        }
        p class=(sentence) {
            "Posted in QAD in this month (days in UTC): " (sums(&read.posted)) ". "
            @if read.unexplained() == 0 { "No answer of QAD or Coupa is missing." }
            @else { "The answer is missing for " (read.unexplained()) ": it is looked up by itself, and must be found before the month is signed." }
        }
        h2 { "Not in QAD at this moment: to be accrued" }
        div.wrap { table.cards {
            thead { tr { th scope="col" { "Where" } th.n scope="col" { "Invoices" } th.n scope="col" { "Amount" } th scope="col" { "File" } } }
            tbody { @for view in [View::NeedsYou, View::Waits, View::Working] {
                @let here = read.of(view);
                tr {
                    th scope="row" { a href={ (base) "/invoices?view=" (view.word()) } { (name_of(view)) } }
                    td.n data-h="Invoices" { (here.count) }
                    td.n data-h="Amount" { (amounts(&here.amounts)) }
                    td data-h="File" { a href={ (base) "/invoices.csv?view=" (view.word()) } { "CSV of " (name_of(view).to_lowercase()) } }
                }
            } }
        } }
        p { a href={ (base) "/accrual.csv" } { "All of it as one file, to be accrued: invoice by invoice, as of now" } }
        div.pics { (picture::money(&[
            (name_of(View::NeedsYou), "b1", read.of(View::NeedsYou)),
            (name_of(View::Waits), "b2", read.of(View::Waits)),
            (name_of(View::Working), "b4", read.of(View::Working)),
            ("Posted in this month", "b3", read.posted.clone()),
        ])) }
        p.soft { "Amounts of different currencies are never added. Coupa and QAD themselves are compared by the reconciliation,
            which whoever runs this product starts." }
        (signatures(visit, read))
        @if visit.session.person.is_any(&[Role::Controller]) { (signing(visit, read, complaint)) }
    }
}

/// `GET /accrual.csv`: what Coupa has approved and QAD does not have, invoice by invoice.
pub(crate) async fn accrual(visit: Visit) -> Response {
    match accrual_file(&visit).await {
        Ok(text) => attachment(&format!("accrual-{}.csv", visit.now.date_utc()), text),
        Err(problems) => refused(&visit, &problems, "/month"),
    }
}

const ACCRUAL_HEADER: [&str; 16] = [
    "as_of_utc",
    "stands",
    "coupa_id",
    "entity",
    "plant",
    "supplier_number",
    "supplier",
    "invoice",
    "invoice_date",
    "order",
    "total",
    "currency",
    "reason",
    "since_utc",
    "days",
    "due_date",
];

async fn accrual_file(visit: &Visit) -> Result<String, Problems> {
    let mut lines = Vec::new();
    for view in [View::NeedsYou, View::Waits, View::Working] {
        for row in all(visit, &Wanted::view(view), FILE_ROWS_MAX).await? {
            // Of what is in QAD already, only its payments wait for somebody.
            if row.voucher.is_empty() {
                lines.push(accrual_line(visit, view, &row));
            }
        }
    }
    Ok(comma_separated(&ACCRUAL_HEADER, &lines))
}

fn accrual_line(visit: &Visit, view: View, row: &Row) -> Vec<String> {
    let day = |day: Option<Date>| day.map(|day| day.to_string()).unwrap_or_default();
    let days = visit.now.millis_since(row.since).max(0).checked_div(DAY_MILLIS);
    vec![
        visit.now.to_string(),
        word_of(view).to_lowercase(),
        row.id.to_string(),
        row.entity.clone(),
        row.plant.clone(),
        row.supplier_number.clone(),
        row.supplier.clone(),
        row.reference.clone(),
        day(row.date),
        row.order.clone(),
        row.total.normalize().to_string(),
        row.currency.clone(),
        row.code.clone(),
        row.since.to_string(),
        days.unwrap_or(0).to_string(),
        day(row.due),
    ]
}

fn signatures(visit: &Visit, read: &Read) -> Markup {
    html! {
        h2 { "Signed off" }
        @if read.end.document.signatures.is_empty() { p { "Nobody has signed this month yet." } }
        ol.line { @for signature in read.end.document.signatures.iter().rev() {
            li {
                (visit.clock.instant(signature.at)) " by " bdi { (crate::invoice::person_of(&signature.instruction.by)) } ": "
                bdi { (signature.instruction.reason) } " " span.soft { (signature.figures) }
            }
        } }
    }
}

fn signing(visit: &Visit, read: &Read, complaint: Option<&str>) -> Markup {
    if read.unexplained() != 0 {
        return html! { p { "It can be signed when no answer is missing any more." } };
    }
    html! {
        form.noprint method="post" action=(visit.path(&read.path())) {
            (hidden(visit, read))
            label for="reason" { "Your note; it goes into the audit trail with your name and these figures" }
            @if let Some(complaint) = complaint { p.sentence.need id="complaint" { (complaint) } }
            textarea id="reason" name="reason" required minlength=(REASON_CHARACTERS_MIN) maxlength=(TEXT_CHARACTERS_MAX) {}
            div.actions { button.main { "Sign " (date(read.first)) " to " (date(read.first.last_of_month())) " off" } }
        }
    }
}

/// What the form carries to the next step.
fn hidden(visit: &Visit, read: &Read) -> Markup {
    html! {
        input type="hidden" name="t" value=(visit.token(&read.path()));
        input type="hidden" name="revision" value=(read.end.revision);
        input type="hidden" name="figures" value=(read.figures());
    }
}

fn confirm_page(visit: &Visit, read: &Read, instruction: &Instruction, has_changed: bool) -> Response {
    let content = html! {
        h1 { "Sign off " (date(read.first)) " to " (date(read.first.last_of_month())) "?" }
        p.sentence { "Your name goes into the audit trail under these figures. It cannot be taken back; signing again is told beside it." }
        @if has_changed { p.sentence.need { "The figures have changed since the page before: these are those of now." } }
        p { (read.figures()) }
        h2 { "Your note" }
        p { bdi { (instruction.reason) } }
        form method="post" action=(visit.path(&read.path())) {
            (hidden(visit, read))
            input type="hidden" name="reason" value=(instruction.reason);
            input type="hidden" name="sure" value="yes";
            div.actions {
                button.main { "Yes: sign it off" }
                a.button href=(visit.path(&read.path())) { "No" }
            }
        }
    };
    page(visit, Part::Month, "Sign off?", content).into_response()
}

/// `POST /month/{month}`: with `sure`, it is signed; without, it is confirmed first.
pub(crate) async fn sign(visit: Visit, Path(month): Path<String>, Form(form): Form<Fields>) -> Response {
    match signed(&visit, &month, &form).await {
        Ok(response) => response,
        Err(problems) => refused(&visit, &problems, "/month"),
    }
}

async fn signed(visit: &Visit, month: &str, form: &Fields) -> Result<Response, Problems> {
    let refuse = |text: &str| Problems::new(StatusCode::FORBIDDEN, "Refused", text);
    let read = read(visit, month).await?;
    if !visit.is_own(&read.path(), form) {
        return Err(refuse(
            "The form is not from your present session. Nothing was done: open the page again.",
        ));
    }
    if !visit.session.person.is_any(&[Role::Controller]) {
        return Err(refuse("A month is signed off by a controller. Nothing was done."));
    }
    if read.unexplained() != 0 {
        return Err(refuse(
            "An answer is missing: the month cannot be signed yet. Nothing was done.",
        ));
    }
    let text = |name: &str| form.get(name).map_or("", String::as_str);
    let is_sure = text("sure") == "yes";
    let has_changed = text("figures") != read.figures() || text("revision") != read.end.revision.to_string();
    // Nobody signs figures that were not in sight; those of now are on the page that asks once more.
    if is_sure && has_changed {
        return Err(Problems::new(
            StatusCode::CONFLICT,
            "It has changed",
            "The figures have changed since you looked at them. Nothing was signed: look at them again.",
        ));
    }
    let Ok(instruction) = Instruction::new(&visit.session.person.by, text("reason")) else {
        let complaint = format!("Write a note of at least {REASON_CHARACTERS_MIN} characters.");
        let content = content(visit, &read, Some(&complaint));
        let page = page(visit, Part::Month, "Month end", content);
        return Ok(crate::layout::with_status(StatusCode::UNPROCESSABLE_ENTITY, page));
    };
    if !is_sure {
        return Ok(confirm_page(visit, &read, &instruction, has_changed));
    }
    month_end::sign(
        &visit.context(),
        &read.month,
        read.end.revision,
        instruction,
        read.figures(),
    )
    .await?;
    Ok(Redirect::to(&visit.path(&read.path())).into_response())
}
