//! Asking the buyer: a question that is ready to be sent. The page sends nothing, so that nobody is asked twice by a machine, and
//! nothing is written into Coupa for it.

use crate::acts::forbidden;
use crate::invoice::{heading, read};
use crate::layout::{Part, page, refused};
use crate::{Problems, Visit};
use axum::extract::Path;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use domain::explain::{Question, to_buyer};
use domain::lifecycle::InvoiceRecord;
use maud::{Markup, html};

/// Longest link to a mail, in bytes: mail programs cut longer ones, and half a question is none.
const LINK_BYTES_MAX: usize = 1_900;

/// `GET /invoices/{id}/ask-buyer`.
pub(crate) async fn ask(visit: Visit, Path(id): Path<String>) -> Response {
    match content(&visit, &id).await {
        Ok(content) => page(&visit, Part::Invoices, "Ask the buyer", content).into_response(),
        Err(problems) => refused(&visit, &problems, &format!("/invoices/{id}")),
    }
}

async fn content(visit: &Visit, id: &str) -> Result<Markup, Problems> {
    let record = read(visit, id).await?.document;
    if !visit.session.person.may_act() {
        return Err(forbidden("That is for a clerk or an approver."));
    }
    let Some(question) = to_buyer(&record) else {
        let text =
            "Nothing that this invoice waits for is the buyer's to settle: look at its page for who acts.";
        return Err(Problems::new(StatusCode::CONFLICT, "Nothing to ask", text));
    };
    let lines = lines(&question, &record);
    let link = mail_link(&question.subject, &lines);
    let particulars = record.summary.as_ref().map(|summary| &summary.particulars);
    Ok(html! {
        p { a href={ (visit.base) "/invoices/" (record.id) } { "Back to the invoice" } }
        h1 { "Ask the buyer: " bdi { (heading(&record)) } }
        p { "Nothing is sent from here. Open it as a mail, or copy it into a comment on the invoice in Coupa."
            @if let Some(requester) = particulars.and_then(|known| known.requester.as_ref()) {
                " The goods were asked for by " bdi { (requester) } "."
            }
        }
        div.actions {
            @if link.len() <= LINK_BYTES_MAX { a.button href=(link) { "Open as a mail" } }
            @if let Some(page) = particulars.and_then(|known| known.page.as_ref()) {
                a.button href=(page) rel="noreferrer" { "Open invoice " (record.id) " in Coupa" }
            }
        }
        @if link.len() > LINK_BYTES_MAX { p { "It is too long to be opened as a mail: copy it." } }
        h2 { "The text" }
        p { strong { bdi { (question.subject) } } }
        @for line in &lines { p { bdi { (visit.sentence(line)) } } }
    })
}

fn lines(question: &Question, record: &InvoiceRecord) -> Vec<String> {
    let page = record
        .summary
        .as_ref()
        .and_then(|summary| summary.particulars.page.as_ref());
    let page = page.map(|page| format!("In Coupa: {page}"));
    question.paragraphs.iter().cloned().chain(page).collect()
}

/// A link that opens a mail without an address: the register knows the name of who asked for the goods, and no address.
fn mail_link(subject: &str, lines: &[String]) -> String {
    // In such a link a plus is a plus, and a blank is written out.
    let encoded = |text: &str| crate::login::encoded(text).replace('+', "%20");
    format!(
        "mailto:?subject={}&body={}",
        encoded(subject),
        encoded(&lines.join("\r\n\r\n"))
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mail_begins_with_nothing_that_its_text_could_add() {
        let link = mail_link(
            "A & B?",
            &["1 + 1\r\nBcc: x@example.com".to_owned(), "ü".to_owned()],
        );
        assert_eq!(
            link,
            "mailto:?subject=A%20%26%20B%3F&body=1%20%2B%201%0D%0ABcc%3A%20x%40example.com%0D%0A%0D%0A%C3%BC"
        );
    }
}
