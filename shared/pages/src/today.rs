//! The first page: one sentence, four figures, the causes, what the last days were like.

use crate::kept::Days;
use crate::layout::{Part, page, refused};
use crate::words::{amounts, code, invoices, money};
use crate::{Problems, Visit, picture};
use axum::response::{IntoResponse, Response};
use domain::index::View;
use domain::time::{Date, Timestamp};
use flows::index::{self, Row, Standing, Sums};
use flows::ports::RowsAsked;
use maud::{Markup, html};
use std::sync::Arc;

/// Days of the picture.
const PICTURE_DAYS: usize = 14;
/// Milliseconds of a day.
pub(crate) const DAY_MILLIS: i64 = 86_400_000;

/// `GET /`.
pub(crate) async fn show(visit: Visit) -> Response {
    match read(&visit).await {
        Ok(today) => page(&visit, Part::Today, "Today", content(&visit, &today)).into_response(),
        Err(problems) => refused(&visit, &problems, "/"),
    }
}

struct Today {
    standing: Standing,
    days: Arc<Days>,
    oldest: Option<Row>,
    whole: bool,
}

async fn read(visit: &Visit) -> Result<Today, Problems> {
    let days: Vec<Date> = (0..PICTURE_DAYS)
        .rev()
        .map(|ago| {
            let ago = i64::try_from(ago).unwrap_or(0).saturating_mul(DAY_MILLIS);
            visit.now.plus_millis(ago.saturating_neg()).date_utc()
        })
        .collect();
    let whole = index::progress_in(visit.beside(&index::progress_key())?)?.complete;
    let (standing, days) = visit.console.kept.days(visit, days, whole).await?;
    let asked = RowsAsked {
        beyond: None,
        newest_first: false,
        limit: 1,
    };
    let (oldest, _) = index::page(&*visit.books, &index::list_of(View::NeedsYou, None), &asked).await?;
    Ok(Today {
        standing,
        days,
        oldest: oldest.into_iter().next(),
        whole,
    })
}

fn of(standing: &Standing, view: View) -> Sums {
    standing.views.get(&view).cloned().unwrap_or_default()
}

/// How long ago, in whole days: `today`, `3 days`.
pub(crate) fn age(since: Timestamp, now: Timestamp) -> String {
    match now
        .millis_since(since)
        .max(0)
        .checked_div(DAY_MILLIS)
        .unwrap_or(0)
    {
        0 => "today".to_owned(),
        1 => "1 day".to_owned(),
        days => format!("{days} days"),
    }
}

fn content(visit: &Visit, today: &Today) -> Markup {
    let of = |view| of(&today.standing, view);
    let (needs, waits, working, posted) = (
        of(View::NeedsYou),
        of(View::Waits),
        of(View::Working),
        of(View::Posted),
    );
    let base = &visit.base;
    let nothing_known = [&needs, &waits, &working, &posted]
        .iter()
        .all(|sums| sums.count == 0);
    let mood = if needs.count > 0 { "need" } else { "done" };
    html! {
        h1 { "Today" }
        // What waits for a pause or an owner is counted there too, and was not to be finished: each page says so already.
        @if today.standing.delayed.count > 0 && !visit.are_invoices_stopped() {
            p.sentence {
                strong { "The last look at " (invoices(today.standing.delayed.count)) " could not be finished" }
                ": that is repeated by itself, and each says why. If it stays, tell whoever runs this product."
            }
        }
        @if !today.whole {
            p.sentence { "The lists below may not hold every older invoice yet: they are being taken in. A search finds what is in them." }
        }
        p class={ "sentence " (mood) } {
            @if nothing_known { "No invoice is known yet. The first one shows up here when Coupa has approved it." }
            @else {
                (invoices(needs.count)) @if needs.count == 1 { " needs" } @else { " need" } " a person, "
                (waits.count) @if waits.count == 1 { " waits by itself, " } @else { " wait by themselves, " }
                (posted.count) @if posted.count == 1 { " is" } @else { " are" } " in QAD."
                @if working.count > 0 { " " (working.count) " being worked on." }
                @if today.standing.unknown.count > 0 {
                    " The answer of QAD or Coupa was lost for " (today.standing.unknown.count) "; it is looked up by itself."
                }
            }
        }
        ul.tiles {
            (tile(base, "needs-you", "Need you", &needs, today.oldest.as_ref().map(|row| age(row.since, visit.now))))
            (tile(base, "waits", "Wait by themselves", &waits, None))
            (tile(base, "working", "On their way", &working, None))
            (tile(base, "posted", "In QAD", &posted, None))
        }
        (causes(base, &today.standing))
        div.pics {
            (picture::days(&today.days.days, &today.days.entered))
            (picture::ages(&picture::by_age(today.days.at.date_utc(), &today.days.began, &today.days.standing)))
        }
        p.soft { "The pictures are as of " (visit.clock.instant(today.days.at)) "." }
    }
}

fn tile(base: &str, view: &str, name: &str, sums: &Sums, oldest: Option<String>) -> Markup {
    html! {
        li {
            strong { (sums.count) }
            a href={ (base) "/invoices?view=" (view) } { (name) } br;
            span.soft {
                @if sums.count == 0 { "nothing" } @else { (amounts(&sums.amounts)) }
                @if let Some(oldest) = oldest { "; oldest " (oldest) }
            }
        }
    }
}

fn causes(base: &str, standing: &Standing) -> Markup {
    let causes: Vec<(&String, &Sums)> = standing
        .codes
        .iter()
        .filter(|((view, _), _)| *view == View::NeedsYou)
        .map(|((_, code), sums)| (code, sums))
        .collect();
    html! {
        h2 { "What needs you, by cause" }
        @if causes.is_empty() { p { "Nothing needs a person." } }
        @else {
            div.wrap { table.cards {
                thead { tr {
                    th scope="col" { "Cause" } th scope="col" { "What to do" }
                    th.n scope="col" { "Invoices" } th.n scope="col" { "Amount" }
                } }
                tbody { @for (cause, sums) in causes {
                    tr {
                        th scope="row" { a href={ (base) "/invoices?view=needs-you&code=" (cause) } { (code(cause)) } }
                        td data-h="What to do" { (crate::help::fix_of(cause)) }
                        td.n data-h="Invoices" { (sums.count) }
                        td.n data-h="Amount" {
                            @for (currency, sum) in &sums.amounts { (money(*sum, currency)) " " }
                            @if sums.amounts.is_empty() { "–" }
                        }
                    }
                } }
            } }
        }
    }
}
