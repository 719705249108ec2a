//! Pictures as SVG in the page: attributes and classes alone, each with its figures as a table.

use domain::index::View;
use domain::time::Date;
use flows::index::{Entered, Standing, Sums};
use maud::{Markup, html};
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;
use std::collections::BTreeSet;

/// Height of the bars, and room of one day, in units of the picture.
const HEIGHT: i64 = 110;
const STEP: usize = 30;

/// What entered QAD, began to wait and came to a person on each day.
pub(crate) fn days(days: &[Date], entered: &Entered) -> Markup {
    let count = |day: &Date, view: View| entered.get(&(*day, view)).map_or(0, |sums| sums.count);
    let rows: Vec<(Date, [i64; 3])> = days
        .iter()
        .map(|day| {
            (
                *day,
                [View::Posted, View::Waits, View::NeedsYou].map(|view| count(day, view)),
            )
        })
        .collect();
    let most = rows
        .iter()
        .map(|(_, counts)| counts.iter().sum::<i64>())
        .max()
        .unwrap_or(0)
        .max(1);
    let posted: i64 = rows.iter().map(|(_, [posted, ..])| *posted).sum();
    html! {
        figure {
            figcaption { "Last " (days.len()) " days" }
            svg viewBox="0 0 420 140" width="420" height="140" role="img"
                aria-label={ "Last " (days.len()) " days: " (posted) " posted, see table below" } {
                line.ax x1="0" y1="120" x2="420" y2="120" {}
                @for (number, (day, counts)) in rows.iter().enumerate() {
                    @let left = number.saturating_mul(STEP).saturating_add(4);
                    @for (class, top, height) in bars(counts, most) {
                        rect class=(class) x=(left) y=(top) width="24" height=(height) {}
                    }
                    @if number.checked_rem(2) == Some(0) { text x=(left) y="136" { (day.strftime("%-d").to_string()) } }
                }
            }
            p.soft { span.tag.done { "Posted" } " " span.tag.hold { "Began to wait" } " " span.tag.need { "Came to a person" } }
            details {
                summary { "As a table" }
                table {
                    thead { tr {
                        th scope="col" { "Day" } th.n scope="col" { "Posted" } th.n scope="col" { "Began to wait" }
                        th.n scope="col" { "Came to a person" }
                    } }
                    tbody { @for (day, counts) in &rows {
                        tr {
                            th scope="row" { (crate::words::date(*day)) }
                            @for count in counts { td.n { (count) } }
                        }
                    } }
                }
            }
        }
    }
}

/// The ages that are told apart: the name, and the first day that is older.
const AGES: [(&str, Option<i64>); 4] = [
    ("Up to 2 days", Some(3)),
    ("3 to 7 days", Some(8)),
    ("8 to 13 days", Some(14)),
    ("Two weeks and more", None),
];

/// How long those that wait have stood there: per age, how many need a person and how many wait by themselves. What is older
/// than the days that were read is what is left of all.
pub(crate) fn by_age(today: Date, began: &Entered, standing: &Standing) -> [(&'static str, [i64; 2]); 4] {
    let views = [View::NeedsYou, View::Waits];
    let mut younger = [0i64; 2];
    AGES.map(|(name, end)| {
        let counts = [0usize, 1].map(|place| {
            let view = views.get(place).copied().unwrap_or(View::Waits);
            let all = standing.views.get(&view).map_or(0, |sums| sums.count);
            let of_days = |end: i64| -> i64 {
                let young = began
                    .iter()
                    .filter(|((day, of), _)| *of == view && days_old(*day, today) < end);
                young.map(|(_, sums)| sums.count).sum()
            };
            let until = end.map_or(all, of_days);
            let before = younger.get(place).copied().unwrap_or(0);
            if let Some(known) = younger.get_mut(place) {
                *known = until;
            }
            until.saturating_sub(before).max(0)
        });
        (name, counts)
    })
}

fn days_old(day: Date, today: Date) -> i64 {
    day.until(today).map_or(0, |span| i64::from(span.get_days()))
}

/// Width of the bars that lie, and room of one of them, in units of the picture.
const WIDTH: i64 = 272;
/// Where they begin, behind their names.
const LEFT: i64 = 144;
const LYING: usize = 34;

/// How old what waits is.
pub(crate) fn ages(rows: &[(&'static str, [i64; 2])]) -> Markup {
    let most = rows
        .iter()
        .map(|(_, counts)| counts.iter().sum::<i64>())
        .max()
        .unwrap_or(0);
    let height = rows.len().saturating_mul(LYING).saturating_add(6);
    html! {
        figure {
            figcaption { "How long they have waited" }
            @if most == 0 { p { "Nothing waits." } }
            @else {
                svg viewBox={ "0 0 420 " (height) } width="420" height=(height) role="img"
                    aria-label="How long invoices have waited, see table below" {
                    @for (number, (name, counts)) in rows.iter().enumerate() {
                        @let top = number.saturating_mul(LYING).saturating_add(4);
                        text x="0" y=(top.saturating_add(17)) { (name) }
                        @for (class, left, width) in shares(&lying(counts), Decimal::from(most)) {
                            rect class=(class) x=(left) y=(top) width=(width) height="24" {}
                        }
                    }
                }
            }
            p.soft { span.tag.need { "Need you" } " " span.tag.hold { "Wait by themselves" } }
            details {
                summary { "As a table" }
                table {
                    thead { tr {
                        th scope="col" { "For" } th.n scope="col" { "Need you" } th.n scope="col" { "Wait by themselves" }
                    } }
                    tbody { @for (name, counts) in rows {
                        tr { th scope="row" { (name) } @for count in counts { td.n { (count) } } }
                    } }
                }
            }
        }
    }
}

/// Where the money stands: one bar per currency, which is never added to another.
pub(crate) fn money(groups: &[(&'static str, &'static str, Sums)]) -> Markup {
    let currencies: BTreeSet<&String> = groups
        .iter()
        .flat_map(|(_, _, sums)| sums.amounts.keys())
        .collect();
    let of = |sums: &Sums, currency: &String| sums.amounts.get(currency).copied().unwrap_or_default();
    let height = currencies.len().saturating_mul(LYING).saturating_add(6);
    html! {
        figure {
            figcaption { "Where the money stands, each currency by itself" }
            @if currencies.is_empty() { p { "No amount is known yet." } }
            @else {
                svg viewBox={ "0 0 420 " (height) } width="420" height=(height) role="img"
                    aria-label="Amounts per currency and where they stand, see table below" {
                    @for (number, currency) in currencies.iter().enumerate() {
                        @let top = number.saturating_mul(LYING).saturating_add(4);
                        text x="0" y=(top.saturating_add(17)) { (currency) }
                        @let parts: Vec<(&str, Decimal)> = groups.iter().map(|(_, class, sums)| (*class, of(sums, currency))).collect();
                        @for (class, left, width) in shares(&parts, whole(&parts)) {
                            rect class=(class) x=(left) y=(top) width=(width) height="24" {}
                        }
                    }
                }
            }
            p.soft { @for (name, class, _) in groups { span class={ "tag " (tag_of(class)) } { (name) } " " } }
            details {
                summary { "As a table" }
                table {
                    thead { tr { th scope="col" { "Currency" } @for (name, ..) in groups { th.n scope="col" { (name) } } } }
                    tbody { @for currency in &currencies {
                        tr {
                            th scope="row" { (currency) }
                            @for (_, _, sums) in groups { td.n { (crate::words::money(of(sums, currency), currency)) } }
                        }
                    } }
                }
            }
        }
    }
}

fn tag_of(class: &str) -> &'static str {
    match class {
        "b1" => "need",
        "b2" => "hold",
        "b3" => "done",
        _ => "rest",
    }
}

/// The parts of a bar of counts.
fn lying(counts: &[i64; 2]) -> Vec<(&'static str, Decimal)> {
    ["b1", "b2"].into_iter().zip(counts.map(Decimal::from)).collect()
}

/// What all parts are together.
fn whole(parts: &[(&'static str, Decimal)]) -> Decimal {
    parts
        .iter()
        .fold(Decimal::ZERO, |sum, (_, amount)| sum.saturating_add(owed(amount)))
}

/// What is owed to us is no width of what we owe.
fn owed(amount: &Decimal) -> Decimal {
    (*amount).max(Decimal::ZERO)
}

/// Class, left end and width of each share of a bar that lies and is as wide as the whole.
fn shares(parts: &[(&'static str, Decimal)], whole: Decimal) -> Vec<(&'static str, i64, i64)> {
    let mut left = LEFT;
    let share = |amount: &Decimal| {
        let share = owed(amount)
            .checked_div(whole)?
            .checked_mul(Decimal::from(WIDTH))?;
        share.trunc().to_i64()
    };
    parts
        .iter()
        .filter_map(|(class, amount)| {
            let width = share(amount)?;
            let here = left;
            // What would stand out of the picture is left out of it.
            left = left.checked_add(width).filter(|end| *end <= 420)?;
            (width > 0).then_some((*class, here, width))
        })
        .collect()
}

/// Class, top and height of the parts of a bar, from the ground up.
fn bars(counts: &[i64; 3], most: i64) -> Vec<(&'static str, i64, i64)> {
    let mut top = 120_i64;
    ["b3", "b2", "b1"]
        .into_iter()
        .zip(counts)
        .filter_map(|(class, count)| {
            let height = count.checked_mul(HEIGHT)?.checked_div(most)?;
            // What would stand out of the picture is left out of it.
            top = top.checked_sub(height).filter(|top| *top >= 0)?;
            (height > 0).then_some((class, top, height))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(count: i64) -> Sums {
        Sums {
            count,
            ..Sums::default()
        }
    }

    #[test]
    fn ages_add_up_to_all_that_stand_there() {
        let day = |text: &str| -> Date { text.parse().unwrap() };
        let mut standing = Standing::default();
        standing.views.insert(View::NeedsYou, count(10));
        let began = Entered::from([
            ((day("2026-03-20"), View::NeedsYou), count(1)),
            ((day("2026-03-18"), View::NeedsYou), count(1)),
            ((day("2026-03-17"), View::NeedsYou), count(2)),
            ((day("2026-03-07"), View::NeedsYou), count(1)),
            ((day("2026-03-06"), View::NeedsYou), count(3)),
            ((day("2026-03-20"), View::Waits), count(0)),
        ]);
        let counts = by_age(day("2026-03-20"), &began, &standing).map(|(_, [needs, waits])| (needs, waits));
        assert_eq!(counts, [(2, 0), (2, 0), (1, 0), (5, 0)]);
        assert!(
            ages(&by_age(day("2026-03-20"), &began, &Standing::default()))
                .into_string()
                .contains("<svg")
        );
        assert!(ages(&[("x", [0, 0])]).into_string().contains("Nothing waits."));
    }

    #[test]
    fn bars_that_lie_stay_in_the_picture_and_credits_take_no_room() {
        assert_eq!(
            shares(&lying(&[1, 1]), Decimal::TWO),
            [("b1", 144, 136), ("b2", 280, 136)]
        );
        assert_eq!(shares(&lying(&[i64::MAX, 1]), Decimal::ONE), [("b2", 144, 272)]);
        let parts = [
            ("b1", Decimal::from(30)),
            ("b2", Decimal::from(-5)),
            ("b3", Decimal::from(10)),
        ];
        assert_eq!(shares(&parts, whole(&parts)), [("b1", 144, 204), ("b3", 348, 68)]);
        assert!(shares(&[("b1", Decimal::ZERO)], Decimal::ZERO).is_empty());
        let most = [("b1", Decimal::MAX), ("b2", Decimal::MAX)];
        assert!(shares(&most, whole(&most)).len() <= 2);
    }

    #[test]
    fn bars_stand_on_each_other_and_stay_in_the_picture() {
        assert_eq!(bars(&[1, 0, 1], 2), [("b3", 65, 55), ("b1", 10, 55)]);
        assert!(bars(&[0, 0, 0], 1).is_empty());
        assert!(bars(&[i64::MAX, 1, 1], 1).iter().all(|(_, top, _)| *top >= 0));
    }
}
