//! Month end: what came in and what is in QAD, what has to be accrued, and the signature.

use crate::acts::form_is_own;
use crate::compared::Compared;
use crate::invoices::{RECORDS_AT_ONCE, attachment, name_of, not_in_qad, total_of, word_of};
use crate::layout::{Part, page, refused};
use crate::reason::{self, Confirmation};
use crate::today::DAY_MILLIS;
use crate::words::{amounts, date, sums};
use crate::{Fields, Problems, Role, Visit, picture};
use axum::extract::{Form, Path};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use domain::csv::csv as comma_separated;
use domain::index::View;
use domain::instruction::Instruction;
use domain::lifecycle::InvoiceRecord;
use domain::matching::LineCoding;
use domain::policy::ChargeAccount;
use domain::time::{Date, Timestamp};
use flows::index::{self, Row, Standing, Sums};
use flows::month_end::{self, MonthEnd};
use flows::ports::RecordKey;
use flows::store::{Loaded, parse};
use maud::{Markup, html};

/// A month as `2026-11`, and the first day of it.
pub(crate) fn month_of(text: &str) -> Result<(String, Date), Problems> {
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
    compared: Compared,
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
        end: month_end::at(visit.beside(&month_end::key(&month))?, &month)?,
        compared: Compared::of(visit, &month)?,
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

    /// Answers that were lost.
    fn lost(&self) -> i64 {
        self.standing.unknown.count
    }

    /// Why it cannot be signed; `None` when it can.
    fn in_the_way(&self, now: Timestamp) -> Option<&'static str> {
        if self.lost() != 0 {
            Some("It can be signed when no answer is missing any more.")
        } else {
            self.compared.in_the_way(self.first.last_of_month(), now)
        }
    }

    /// What is signed, in words.
    fn figures(&self, visit: &Visit) -> String {
        let open: Vec<String> = [View::NeedsYou, View::Waits, View::Working]
            .into_iter()
            .map(|view| format!("{}: {}", name_of(view).to_lowercase(), sums(&self.of(view))))
            .collect();
        format!(
            "posted in {}: {}; {}; {}",
            self.month,
            sums(&self.posted),
            open.join("; "),
            self.compared.figures(visit)
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
    let sentence = if read.lost() == 0 {
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
            @if read.lost() == 0 { "No answer of QAD or Coupa is missing." }
            @else { "The answer is missing for " (read.lost()) ": it is looked up by itself, and must be found before the month is signed." }
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
        p.soft { "Amounts of different currencies are never added." }
        (read.compared.shown(visit))
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

const ACCRUAL_HEADER: [&str; 24] = [
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
    "line",
    "line_net",
    "gl_account",
    "sub_account",
    "cost_center",
    "project",
    "coupa_account",
    "link",
];

async fn accrual_file(visit: &Visit) -> Result<String, Problems> {
    let mut lines = Vec::new();
    for view in [View::NeedsYou, View::Waits, View::Working] {
        for some in not_in_qad(visit, view).await?.chunks_mut(RECORDS_AT_ONCE) {
            let keys: Vec<RecordKey> = some.iter().map(|row| RecordKey::Invoice(row.id)).collect();
            let stored = visit.books.read(&keys).await?;
            for (row, stored) in some.iter_mut().zip(&stored) {
                let coding = match stored.as_ref().map(parse::<InvoiceRecord>).transpose() {
                    Ok(record) => record.map(|record| record.coding).unwrap_or_default(),
                    // One that cannot be read is accrued all the same, with what its row knows.
                    Err(error) => {
                        let problem = error.problem();
                        tracing::warn!(code = %problem.code, %problem, "console");
                        row.code = problem.code;
                        Vec::new()
                    }
                };
                lines.extend(accrual_lines(visit, view, row, &coding));
            }
        }
    }
    Ok(comma_separated(&ACCRUAL_HEADER, &lines))
}

/// One line for each account, the total on the first alone, so that a column can be added up; one without an account of an invoice
/// whose coding is not known.
fn accrual_lines(visit: &Visit, view: View, row: &Row, coding: &[LineCoding]) -> Vec<Vec<String>> {
    let unknown = [None];
    let parts: Vec<Option<&LineCoding>> = match coding {
        [] => unknown.to_vec(),
        coding => coding.iter().map(Some).collect(),
    };
    let lines = parts.into_iter().enumerate().map(|(number, part)| {
        let mut line = accrual_line(visit, view, row, number == 0);
        line.extend(coding_cells(part));
        line.push(visit.link(&format!("/invoices/{}", row.id)));
        line
    });
    lines.collect()
}

fn coding_cells(part: Option<&LineCoding>) -> [String; 7] {
    let account = part.and_then(|part| part.account.as_ref());
    let of_account = |text: fn(&ChargeAccount) -> String| account.map(text).unwrap_or_default();
    [
        part.and_then(|part| part.line)
            .map(|line| line.to_string())
            .unwrap_or_default(),
        part.map(|part| part.amount.normalize().to_string())
            .unwrap_or_default(),
        of_account(|account| account.gl_account.to_string()),
        of_account(|account| account.sub_account.clone()),
        of_account(|account| account.cost_center.clone()),
        of_account(|account| account.project.clone()),
        part.map(|part| part.coupa.clone()).unwrap_or_default(),
    ]
}

fn accrual_line(visit: &Visit, view: View, row: &Row, is_first: bool) -> Vec<String> {
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
        if is_first { total_of(row) } else { String::new() },
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
    if let Some(why) = read.in_the_way(visit.now) {
        return html! { p { (why) } };
    }
    html! {
        form.noprint method="post" action=(visit.path(&read.path())) {
            (hidden(visit, read))
            (reason::field("Your note; it goes into the audit trail with your name and these figures", "", complaint))
            div.actions { button.main { "Sign " (date(read.first)) " to " (date(read.first.last_of_month())) " off" } }
        }
    }
}

/// What the form carries to the next step.
fn hidden(visit: &Visit, read: &Read) -> Markup {
    html! {
        input type="hidden" name="t" value=(visit.token(&read.path()));
        input type="hidden" name="revision" value=(read.end.revision);
        input type="hidden" name="figures" value=(read.figures(visit));
    }
}

fn confirm_page(visit: &Visit, read: &Read, instruction: &Instruction, has_changed: bool) -> Response {
    let content = html! {
        h1 { "Sign off " (date(read.first)) " to " (date(read.first.last_of_month())) "?" }
        p.sentence { "Your name goes into the audit trail under these figures. It cannot be taken back; signing again is told beside it." }
        @if has_changed { p.sentence.need { "The figures have changed since the page before: these are those of now." } }
        p { (read.figures(visit)) }
        (Confirmation {
            action: &visit.path(&read.path()),
            hidden: hidden(visit, read),
            heading: "Your note",
            yes: "Yes: sign it off",
            back: &visit.path(&read.path()),
        }.form(instruction))
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
    form_is_own(visit, &read.path(), form)?;
    if !visit.session.person.is_any(&[Role::Controller]) {
        return Err(refuse("A month is signed off by a controller. Nothing was done."));
    }
    if let Some(why) = read.in_the_way(visit.now) {
        return Err(refuse(&format!("{why} Nothing was done.")));
    }
    let is_sure = reason::is_sure(form);
    let has_changed = reason::text(form, "figures") != read.figures(visit)
        || reason::text(form, "revision") != read.end.revision.to_string();
    // Nobody signs figures that were not in sight; those of now are on the page that asks once more.
    if is_sure && has_changed {
        return Err(Problems::new(
            StatusCode::CONFLICT,
            "It has changed",
            "The figures have changed since you looked at them. Nothing was signed: look at them again.",
        ));
    }
    let instruction = match reason::instruction(visit, form) {
        Ok(instruction) => instruction,
        Err(complaint) => {
            let content = content(visit, &read, Some(&complaint));
            let page = page(visit, Part::Month, "Month end", content);
            return Ok(crate::layout::with_status(reason::status(Some(&complaint)), page));
        }
    };
    if !is_sure {
        return Ok(confirm_page(visit, &read, &instruction, has_changed));
    }
    month_end::sign(
        &visit.context(),
        &read.month,
        read.end.revision,
        instruction,
        read.figures(visit),
    )
    .await?;
    Ok(Redirect::to(&visit.path(&read.path())).into_response())
}
