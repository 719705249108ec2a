//! Pictures as SVG in the page: attributes and classes alone, each with its figures as a table.

use domain::index::View;
use domain::time::Date;
use flows::index::Entered;
use maud::{Markup, html};

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

/// Class, top and height of the parts of a bar, from the ground up.
fn bars(counts: &[i64; 3], most: i64) -> Vec<(&'static str, i64, i64)> {
    let mut top = 120_i64;
    ["b3", "b2", "b1"]
        .into_iter()
        .zip(counts)
        .filter_map(|(class, count)| {
            let height = count.checked_mul(HEIGHT)?.checked_div(most)?;
            top = top.checked_sub(height)?;
            (height > 0).then_some((class, top, height))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::bars;

    #[test]
    fn bars_stand_on_each_other_and_stay_in_the_picture() {
        assert_eq!(bars(&[1, 0, 1], 2), [("b3", 65, 55), ("b1", 10, 55)]);
        assert!(bars(&[0, 0, 0], 1).is_empty());
        assert!(bars(&[i64::MAX, 1, 1], 1).iter().all(|(_, top, _)| *top >= 0));
    }
}
