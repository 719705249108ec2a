//! Month end: what the comparison of Coupa and QAD has found, of a month and by entity; every difference by its name.

use crate::invoices::{attachment, name_of, not_in_qad, total_of};
use crate::layout::refused;
use crate::words::{code, money};
use crate::{Problems, Visit};
use axum::extract::Path;
use axum::response::Response;
use domain::csv::csv as comma_separated;
use domain::ids::InvoiceId;
use domain::index::View;
use domain::reconcile::{Difference, Kind};
use domain::time::{Date, Timestamp};
use flows::index::Row;
use flows::reconcile::{self, Reconciliation, Report, Standing};
use maud::{Markup, html};
use std::collections::{BTreeMap, BTreeSet};

/// What the last run has found of a month. A difference of an invoice that nobody has read is of every month.
pub(crate) struct Compared {
    month: String,
    known: Reconciliation,
}

impl Compared {
    /// From what was read with the page.
    pub(crate) fn of(visit: &Visit, month: &str) -> Result<Self, Problems> {
        Ok(Self {
            month: month.to_owned(),
            known: reconcile::known_in(visit.beside(&reconcile::key())?)?,
        })
    }

    /// What nothing explains, of this month, by entity.
    fn unexplained(&self) -> BTreeMap<&str, Vec<&Standing>> {
        let mut found: BTreeMap<&str, Vec<&Standing>> = BTreeMap::new();
        let all = self.known.last.iter().flat_map(|last| &last.unexplained);
        for one in all.filter(|one| self.is_of_this(&one.difference)) {
            found.entry(&one.difference.entity).or_default().push(one);
        }
        found
    }

    fn is_of_this(&self, difference: &Difference) -> bool {
        difference.month.is_empty() || difference.month == self.month
    }

    /// How many of the month nothing explains; those that were not kept may be of any month.
    pub(crate) fn unexplained_count(&self) -> u64 {
        let beyond = self.known.last.as_ref().map_or(0, |last| last.beyond);
        let named: usize = self.unexplained().values().map(Vec::len).sum();
        u64::try_from(named).unwrap_or(u64::MAX).saturating_add(beyond)
    }

    /// Why nothing can be signed on what was found; `None` when it can, as without any comparison yet.
    pub(crate) fn in_the_way(&self, last_day: Date, now: Timestamp) -> Option<&'static str> {
        let last = self.known.last.as_ref()?;
        if self.unexplained_count() != 0 {
            Some(
                "It can be signed when nothing of it is unexplained any more: clear up what is named above; the next comparison sees it.",
            )
        } else if self.known.is_late(now) {
            Some(
                "It can be signed when Coupa and QAD were compared again within two days: tell whoever runs this product.",
            )
        } else if last.started.date_utc() <= last_day {
            Some(
                "It can be signed when Coupa and QAD were compared after the month was over (days in UTC): that is done once a day.",
            )
        } else {
            None
        }
    }

    /// Unexplained differences of other months.
    fn elsewhere(&self) -> BTreeMap<&str, usize> {
        let mut months: BTreeMap<&str, usize> = BTreeMap::new();
        let all = self.known.last.iter().flat_map(|last| &last.unexplained);
        for one in all.filter(|one| !self.is_of_this(&one.difference)) {
            let count = months.entry(&one.difference.month).or_default();
            *count = count.saturating_add(1);
        }
        months
    }

    /// What is signed of it, in words.
    pub(crate) fn figures(&self, visit: &Visit) -> String {
        match &self.known.last {
            None => "Coupa and QAD not compared yet".to_owned(),
            Some(last) => format!(
                "Coupa and QAD compared {}: {} unexplained",
                visit.clock.instant(last.ended),
                self.unexplained_count()
            ),
        }
    }

    /// The part of the page.
    pub(crate) fn shown(&self, visit: &Visit) -> Markup {
        let base = &visit.base;
        let Some(last) = &self.known.last else {
            return html! {
                h2 { "Coupa and QAD compared" }
                p { "They were not compared yet: that is done once a day. Whoever runs this product can begin it." }
            };
        };
        html! {
            h2 { "Coupa and QAD compared" }
            p {
                "Last on " (visit.clock.instant(last.ended)) ": " (last.looked_at) " invoices that came to stand where they stand since "
                (visit.clock.instant(last.from)) ", and whatever was unexplained before."
            }
            @if self.known.is_late(visit.now) {
                p.sentence.need { "That is more than two days ago: tell whoever runs this product." }
            }
            @let found = self.unexplained();
            @if found.is_empty() && last.beyond == 0 { p { "Nothing of this month is unexplained." } }
            @for (entity, differences) in &found { (unexplained(visit, entity, differences)) }
            @if last.beyond > 0 {
                p.sentence.need { (last.beyond) " more are unexplained than are named here: clear these up, and the next run names the others." }
            }
            @for (month, count) in self.elsewhere() {
                p { a href={ (base) "/month/" (month) } { "Unexplained in " (month) ": " (count) } }
            }
            (explained(visit, last))
            p { a href={ (base) "/month/" (self.month) "/differences.csv" } {
                "What is unexplained and what is open, of this month, as one file"
            } }
        }
    }
}

fn unexplained(visit: &Visit, entity: &str, differences: &[&Standing]) -> Markup {
    html! {
        h3 { "Unexplained" @if !entity.is_empty() { " in entity " bdi { (entity) } } }
        div.wrap { table.cards {
            thead { tr {
                th scope="col" { "Invoice" } th scope="col" { "Difference" } th scope="col" { "What was found" }
                th.n scope="col" { "Amount" } th scope="col" { "Since" }
            } }
            tbody { @for Standing { difference, since } in differences {
                tr {
                    th scope="row" { a href={ (visit.base) "/invoices/" (difference.invoice) } {
                        @if difference.reference.is_empty() { "Coupa " (difference.invoice) } @else { bdi { (difference.reference) } }
                    } }
                    td data-h="Difference" { span.tag.need { (words_of(difference.kind)) } }
                    td data-h="What was found" { bdi { (visit.sentence(&difference.what)) } }
                    td.n data-h="Amount" { @match difference.money() {
                        Some((amount, currency)) => { (money(amount, currency.as_str())) },
                        None => { "–" },
                    } }
                    td data-h="Since" { (visit.clock.short(*since)) }
                }
            } }
        } }
    }
}

/// What explains the others: of all months, each with the list in which they are named.
fn explained(visit: &Visit, last: &Report) -> Markup {
    let of_a_list = |kind: &Kind| list_of(*kind).is_some();
    html! {
        @if last.counts.keys().any(of_a_list) {
            h3 { "Explained, of all months" }
            ul { @for (kind, count) in &last.counts {
                @if let Some(view) = list_of(*kind) {
                    li { a href={ (visit.base) "/invoices?view=" (view.word()) } { (words_of(*kind)) ": " (count) } }
                }
            } }
        }
    }
}

/// The list in which those of an explained kind stand; `None` for what is named one by one.
fn list_of(kind: Kind) -> Option<View> {
    match kind {
        Kind::OnItsWay => Some(View::Working),
        Kind::WaitsForQad => Some(View::Waits),
        Kind::WaitsForAPerson | Kind::PaymentWaitsForAPerson => Some(View::NeedsYou),
        Kind::TakenOut => Some(View::Closed),
        Kind::PaymentLeftAlone | Kind::PaymentOnItsWay => Some(View::Posted),
        Kind::TwoInQad
        | Kind::MissingInQad
        | Kind::VoucherDiffers
        | Kind::AmountDiffers
        | Kind::ExportedFlagMissing
        | Kind::InQadNotByUs
        | Kind::OnlyInCoupa
        | Kind::EntityNotConfigured
        | Kind::PaidInQadNotInCoupa
        | Kind::PaidTwice
        | Kind::NotLookedUp => None,
    }
}

/// `missing-in-qad` as people read it.
fn words_of(kind: Kind) -> String {
    code(&kind.word().replace('-', "_").to_uppercase())
}

const HEADER: [&str; 11] = [
    "month",
    "entity",
    "difference",
    "explained",
    "coupa_id",
    "invoice",
    "amount",
    "currency",
    "since_utc",
    "what",
    "link",
];

/// `GET /month/{month}/differences.csv`: what is unexplained, and what is open.
pub(crate) async fn differences(visit: Visit, Path(month): Path<String>) -> Response {
    match file(&visit, &month).await {
        Ok(text) => attachment(&format!("unexplained-and-open-{month}.csv"), text),
        Err(problems) => refused(&visit, &problems, "/month"),
    }
}

async fn file(visit: &Visit, month: &str) -> Result<String, Problems> {
    let (month, _) = crate::month::month_of(month)?;
    let compared = Compared::of(visit, &month)?;
    let mut lines: Vec<Vec<String>> = compared
        .unexplained()
        .into_values()
        .flatten()
        .map(|one| line_of(visit, one))
        .collect();
    let last = compared.known.last.as_ref();
    lines.extend(last.and_then(|last| line_of_those_beyond(visit, &month, last)));
    // Each stands there once, and what nothing explains is not called explained.
    let named = compared.unexplained();
    let named: BTreeSet<InvoiceId> = named
        .into_values()
        .flatten()
        .map(|one| one.difference.invoice)
        .collect();
    for view in [View::NeedsYou, View::Waits, View::Working] {
        for row in not_in_qad(visit, view).await? {
            let is_of_this = row
                .date
                .is_none_or(|date| date.strftime("%Y-%m").to_string() == month);
            if is_of_this && !named.contains(&row.id) {
                lines.push(line_of_row(visit, view, &row, last));
            }
        }
    }
    Ok(comma_separated(&HEADER, &lines))
}

/// Those that were counted and not kept; they may be of any month.
fn line_of_those_beyond(visit: &Visit, month: &str, last: &Report) -> Option<Vec<String>> {
    let empty = String::new;
    (last.beyond > 0).then(|| {
        vec![
            empty(),
            empty(),
            "not-named-here".to_owned(),
            "no".to_owned(),
            empty(),
            empty(),
            empty(),
            empty(),
            empty(),
            format!(
                "{} more are unexplained than are named here: clear these up and the next run names the others",
                last.beyond
            ),
            visit.link(&format!("/month/{month}")),
        ]
    })
}

fn line_of(visit: &Visit, Standing { difference, since }: &Standing) -> Vec<String> {
    vec![
        difference.month.clone(),
        difference.entity.clone(),
        difference.kind.word().to_owned(),
        "no".to_owned(),
        difference.invoice.to_string(),
        difference.reference.clone(),
        difference.amount.clone(),
        difference.currency.clone(),
        since.to_string(),
        difference.what.clone(),
        visit.link(&format!("/invoices/{}", difference.invoice)),
    ]
}

/// What is open is explained when a comparison has seen it where it stands.
fn line_of_row(visit: &Visit, view: View, row: &Row, last: Option<&Report>) -> Vec<String> {
    let is_explained = last.is_some_and(|last| (last.from..=last.started).contains(&row.since));
    let month = row.date.map(|date| date.strftime("%Y-%m").to_string());
    vec![
        month.unwrap_or_default(),
        row.entity.clone(),
        name_of(view).to_lowercase(),
        if is_explained { "yes" } else { "" }.to_owned(),
        row.id.to_string(),
        row.reference.clone(),
        total_of(row),
        row.currency.clone(),
        row.since.to_string(),
        row.code.clone(),
        visit.link(&format!("/invoices/{}", row.id)),
    ]
}
