//! The mail of a day: the figures of the first page for those who have not opened it, with links and nothing else. No name of a
//! supplier and no number of an invoice is in it: mail is read on other people's screens.

use crate::words::{amounts, code, date, invoices, sums};
use crate::{PlantClock, today};
use domain::index::View;
use domain::time::{Date, Timestamp};
use flows::daily_mail::Mail;
use flows::index::{self, Row, Sums};
use flows::pause;
use flows::ports::{Books, RowsAsked};
use flows::store::FlowError;
use std::fmt::Write as _;

/// Most causes that are told; the page shows all.
const CAUSES_MAX: usize = 20;
/// Milliseconds of a day.
const DAY_MILLIS: i64 = 86_400_000;

/// Of which connection, and where its page is.
#[derive(Debug, Clone, Copy)]
pub struct About<'a> {
    /// Its name.
    pub connection: &'a str,
    /// The address that everything on its page begins with, without a slash at its end.
    pub page: &'a str,
}

/// The mail that tells how things stand now, and what was posted on the day before (in UTC, as the sheets are kept). At most five
/// reads, whatever the register holds.
///
/// # Errors
/// No answer from the register, or something in it that this version cannot read.
pub async fn of_day(
    books: &dyn Books,
    about: About<'_>,
    clock: &PlantClock,
    now: Timestamp,
) -> Result<Mail, FlowError> {
    let yesterday = now.plus_millis(DAY_MILLIS.saturating_neg()).date_utc();
    let month = yesterday.strftime("%Y-%m").to_string();
    let (standing, entered) = index::figures(books, std::slice::from_ref(&month)).await?;
    let of = |view| standing.views.get(&view).cloned().unwrap_or_default();
    let causes = standing
        .codes
        .iter()
        .filter(|((view, _), _)| *view == View::NeedsYou);
    let told = Told {
        about,
        clock,
        now,
        needs: of(View::NeedsYou),
        causes: causes.map(|((_, code), sums)| (code.as_str(), sums)).collect(),
        waits: of(View::Waits),
        oldest_needs: oldest(books, View::NeedsYou).await?,
        oldest_waits: oldest(books, View::Waits).await?,
        yesterday,
        posted: entered
            .get(&(yesterday, View::Posted))
            .cloned()
            .unwrap_or_default(),
        unknown: standing.unknown.count,
        paused: pause::of(books, pause::Flow::Invoices).await?,
        whole: index::progress(books).await?.complete,
    };
    Ok(Mail {
        subject: told.subject(),
        text: told.text(),
    })
}

async fn oldest(books: &dyn Books, view: View) -> Result<Option<Row>, FlowError> {
    let asked = RowsAsked {
        beyond: None,
        newest_first: false,
        limit: 1,
    };
    let (rows, _) = index::page(books, &index::list_of(view, None), &asked).await?;
    Ok(rows.into_iter().next())
}

struct Told<'a> {
    about: About<'a>,
    clock: &'a PlantClock,
    now: Timestamp,
    needs: Sums,
    causes: Vec<(&'a str, &'a Sums)>,
    oldest_needs: Option<Row>,
    waits: Sums,
    oldest_waits: Option<Row>,
    yesterday: Date,
    posted: Sums,
    unknown: i64,
    paused: Option<pause::Pause>,
    whole: bool,
}

impl Told<'_> {
    fn subject(&self) -> String {
        let name = self.about.connection;
        match self.needs.count {
            0 => format!("Coupa to QAD, {name}: nothing needs you"),
            1 => format!("Coupa to QAD, {name}: 1 invoice needs you"),
            count => format!("Coupa to QAD, {name}: {count} invoices need you"),
        }
    }

    fn since(&self, oldest: Option<&Row>) -> String {
        oldest.map_or_else(String::new, |row| {
            let (at, age) = (self.clock.instant(row.since), today::age(row.since, self.now));
            format!(" The oldest since {at} ({age}).")
        })
    }

    fn text(&self) -> String {
        let page = self.about.page;
        let mut paragraphs: Vec<String> = Vec::new();
        if let Some(pause) = &self.paused {
            let since = self.clock.instant(pause.since);
            paragraphs.push(format!(
                "Posting is paused since {since}. Nothing is lost.\n{page}/"
            ));
        }
        if !self.whole {
            paragraphs.push(
                "The figures may not hold every older invoice yet: they are being taken in.".to_owned(),
            );
        }
        paragraphs.push(self.needing());
        if self.waits.count == 0 {
            paragraphs.push("No invoice waits for a receipt, an order or an approval.".to_owned());
        } else {
            let (word, since) = (
                if self.waits.count == 1 {
                    "waits by itself"
                } else {
                    "wait by themselves"
                },
                self.since(self.oldest_waits.as_ref()),
            );
            let what = (invoices(self.waits.count), amounts(&self.waits.amounts));
            paragraphs.push(format!(
                "{} {word}, {}.{since}\n{page}/invoices?view=waits",
                what.0, what.1
            ));
        }
        let day = date(self.yesterday);
        if self.posted.count == 0 {
            paragraphs.push(format!("Nothing was posted in QAD on {day}."));
        } else {
            let posted = sums(&self.posted);
            paragraphs.push(format!(
                "Posted in QAD on {day} (day in UTC): {posted}.\n{page}/invoices?view=posted"
            ));
        }
        if self.unknown > 0 {
            paragraphs.push(format!(
                "The answer of QAD or Coupa was lost for {}; it is looked up by itself.\n{page}/",
                invoices(self.unknown)
            ));
        }
        let at = (self.clock.instant(self.now), self.clock.name());
        paragraphs.push(format!(
            "As of {} {}. The links ask who you are; nothing is done by following one.",
            at.0, at.1
        ));
        let mut text = paragraphs.join("\n\n");
        text.push('\n');
        text
    }

    fn needing(&self) -> String {
        if self.needs.count == 0 {
            return "Nothing needs a person.".to_owned();
        }
        let page = self.about.page;
        let word = if self.needs.count == 1 { "needs" } else { "need" };
        let mut text = format!(
            "{} {word} a person, {}.{}\n{page}/invoices?view=needs-you",
            invoices(self.needs.count),
            amounts(&self.needs.amounts),
            self.since(self.oldest_needs.as_ref())
        );
        for (cause, group) in self.causes.iter().take(CAUSES_MAX) {
            let link = format!("{page}/invoices?view=needs-you&code={cause}");
            // Writing to a text cannot fail.
            let _ = write!(text, "\n\n  {}: {}\n  {link}", code(cause), sums(group));
        }
        let more = self.causes.len().saturating_sub(CAUSES_MAX);
        if more > 0 {
            let _ = write!(text, "\n\n  and {more} more causes");
        }
        text
    }
}
