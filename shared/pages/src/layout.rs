//! The frame of every page, and the pages that say why there is no other.

use crate::{Problems, Visit};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use domain::problem::Problem;
use maud::{DOCTYPE, Markup, html};

/// Records that cannot be read are told where they would stand.
pub(crate) fn left_out(unreadable: &[Problem]) -> Markup {
    html! {
        @for problem in unreadable { p.sentence.need { "Not shown, for it cannot be read: " (problem) } }
    }
}

/// The parts of the page that the navigation names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Today,
    Invoices,
    Suppliers,
    Month,
    Other,
}

/// A table without a link in it that may be wider than the page: it can be scrolled by keyboard.
pub(crate) fn scrolled(about: &str, table: &Markup) -> Markup {
    html! { div.wrap tabindex="0" role="region" aria-label=(about) { (table) } }
}

/// A whole page.
pub(crate) fn page(visit: &Visit, part: Part, title: &str, content: Markup) -> Markup {
    let base = &visit.base;
    let parts = [
        (Part::Today, "/", "Today"),
        (Part::Invoices, "/invoices", "Invoices"),
        (Part::Suppliers, "/suppliers", "Suppliers and lists"),
        (Part::Month, "/month", "Month end"),
    ];
    let nav = html! {
        nav aria-label="Main" { ul {
            @for (of, path, name) in parts {
                li { a href={ (base) (path) } aria-current=[(of == part).then_some("page")] { (name) } }
            }
        } }
        form.find role="search" action={ (base) "/find" } {
            label.skip for="q" { "Invoice number, order, voucher or amount" }
            input id="q" name="q" placeholder="Invoice, order, voucher" autocomplete="off" maxlength="200";
            button { "Find" }
        }
    };
    let roles: Vec<&str> = visit
        .session
        .person
        .roles
        .iter()
        .map(|role| role.word())
        .collect();
    let foot = html! {
        p.soft {
            "As of " (visit.clock.instant(visit.now)) " " (visit.clock.name()) ". Signed in as "
            (visit.session.person.name) " (" (roles.join(", ")) "). "
            a href={ (base) "/help" } { "Help" } " "
            @if visit.connections.len() > 1 { a href="/connections" { "Another connection" } " " }
        }
        form.out method="post" action="/out" {
            input type="hidden" name="t" value=(visit.session.form_token("/out"));
            button { "Sign out" }
        }
    };
    let content = html! { (crate::notices::shown(visit)) (content) };
    shell(title, &visit.connection, nav, content, foot)
}

/// A page before anybody has signed in, or about why there is nothing to see.
pub(crate) fn bare(title: &str, content: Markup) -> Markup {
    shell(title, "", html! {}, content, html! {})
}

fn shell(title: &str, connection: &str, nav: Markup, content: Markup, foot: Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width,initial-scale=1";
                title { (title) " - Coupa to QAD" }
                link rel="stylesheet" href="/console.css";
                link rel="icon" href="/icon.svg" type="image/svg+xml";
            }
            body {
                a.skip href="#main" { "Skip to content" }
                header {
                    span.name { "Coupa to QAD" @if !connection.is_empty() { ": " (connection) } }
                    (nav)
                }
                main id="main" tabindex="-1" { (content) }
                footer { (foot) }
            }
        }
    }
}

/// A page with its status.
pub(crate) fn with_status(status: StatusCode, page: Markup) -> Response {
    (status, page).into_response()
}

/// A refusal in the frame of the page: what, why, and what to do.
pub(crate) fn refused(visit: &Visit, problems: &Problems, back: &str) -> Response {
    let content = html! {
        h1 { (problems.title) }
        p.sentence.need { (visit.sentence(&problems.text)) }
        p { a href={ (visit.base) (back) } { "Back" } }
    };
    with_status(
        problems.status,
        page(visit, Part::Other, &problems.title, content),
    )
}
