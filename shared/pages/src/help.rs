//! What the codes mean, who may do what, and the other connections.

use crate::layout::{Part, page, refused};
use crate::words::code;
use crate::{Problems, Visit};
use axum::extract::Path;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use domain::matching::ExceptionCode;
use maud::html;
use std::collections::BTreeSet;

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

/// Every code that the manual explains, in the order of its letters.
fn all_codes() -> BTreeSet<&'static str> {
    let cells = MANUAL
        .iter()
        .flat_map(|text| text.lines())
        .filter_map(|line| line.strip_prefix('|')?.split(" | ").next());
    let quoted = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2));
    quoted.filter(|word| is_code(word)).collect()
}

fn is_code(word: &str) -> bool {
    word.contains('_')
        && word
            .bytes()
            .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
}

/// What to do about a code, in one sentence for people without a terminal.
pub(crate) fn fix_of(code: &str) -> String {
    if let Some(exception) = ExceptionCode::ALL
        .iter()
        .find(|exception| exception.as_str() == code)
    {
        return without_a_terminal(exception.fix());
    }
    known(code)
        .and_then(|known| known.cells.last().cloned())
        .filter(|text| !text.contains("qad-coupa") && !text.is_empty())
        .map_or_else(
            || "Open the invoice: it says what to do.".to_owned(),
            |text| capital(&plain(&text)),
        )
}

/// What is left of an advice for those who have no terminal: the ways that name no verb of the command line.
fn without_a_terminal(text: &str) -> String {
    let ways: Vec<&str> = text
        .split(", or ")
        .filter(|way| !way.contains("qad-coupa"))
        .collect();
    format!("{}.", ways.join(", or ").trim_end_matches('.'))
}

/// With a capital letter in front, as a sentence begins.
fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters
        .next()
        .map(|first| first.to_uppercase().chain(letters).collect())
        .unwrap_or_default()
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
            li { "An approver does the same, is the second person above the limit, and allows plans that wait." }
            li { "A controller signs the month off." }
            li { "An auditor reads." }
        }
        h2 { "Reasons" }
        ul { @for exception in ExceptionCode::ALL {
            li { a href={ (base) "/help/" (exception.as_str()) } { (code(exception.as_str())) } }
        } }
        h2 { "Other codes" }
        p { "What the technical details of an invoice, or a page that could not be shown, may name." }
        details {
            summary { "All of them" }
            ul { @for other in all_codes().iter().filter(|other| !is_reason(other)) {
                li { a href={ (base) "/help/" (other) } { (other) } }
            } }
        }
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

fn is_reason(code: &str) -> bool {
    ExceptionCode::ALL.iter().any(|reason| reason.as_str() == code)
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
        let all = all_codes();
        for code in ["PAUSED", "SEEN_IS_STALE", "QAD_DOCUMENT_LATE"] {
            assert!(all.contains(code) || !code.contains('_'), "{code}");
        }
        assert!(all.len() > ExceptionCode::ALL.len());
        for code in all {
            let told = known(code).is_some_and(|known| known.cells.len() >= 2 && !known.cells[1].is_empty());
            assert!(told && !fix_of(code).contains("qad-coupa"), "{code}");
        }
    }

    #[test]
    fn marks_of_the_manual_do_not_show() {
        assert_eq!(plain("see `a` in [the page](x.md) now"), "see a in the page now");
        assert_eq!(plain("odd ]( text"), "odd ]( text");
    }
}
