//! What everybody must know before anything else on a page: that something is paused, or that another installation may be at
//! work on the same Coupa and QAD.

use crate::Visit;
use crate::invoice::person_of;
use domain::ownership;
use domain::problem::Problem;
use flows::pause::{Flow, Pause};
use maud::{Markup, html};

/// The notices of a page; `None` when the register gave no answer.
pub(crate) fn shown(visit: &Visit) -> Markup {
    let Some(stops) = &visit.stops else {
        return html! {
            p.sentence.need {
                strong { "The register gave no answer." } " Whether anything is paused is not known at this moment: open the page again. If it
                stays, tell whoever runs this product."
            }
        };
    };
    html! {
        @if let Some(problem) = &stops.not_owner { (not_owner(visit, problem)) }
        @if let Some(problem) = &stops.owner_unread {
            (unread("another installation works with this Coupa and QAD", problem))
        }
        @for (flow, pause) in &stops.paused { (paused(visit, *flow, pause)) }
        @for (flow, problem) in &stops.unread {
            (unread(match flow {
                Flow::Invoices => "posting is paused",
                Flow::Payments => "the payments are paused",
                Flow::Suppliers => "the suppliers are paused",
                Flow::Lookups => "the lookups are paused",
            }, problem))
        }
    }
}

/// A record that cannot be read is named beside what is known.
fn unread(what: &str, problem: &Problem) -> Markup {
    html! {
        p.sentence.need {
            strong { "Whether " (what) " cannot be read" } " (" bdi { (problem.code) } "): nothing of it is begun meanwhile. Tell whoever runs
            this product."
        }
    }
}

fn not_owner(visit: &Visit, problem: &Problem) -> Markup {
    let (what, why, next) = match problem.code.as_str() {
        ownership::OWNED_BY_ANOTHER => (
            "Nothing is begun from here",
            "another installation works with this Coupa and QAD",
            "Whoever runs this product decides which of the two it is",
        ),
        ownership::MARK_NOT_RENEWED => (
            "Nothing new is begun",
            "nobody knows any more whether another installation works with this Coupa and QAD",
            "It goes on by itself when that is known again; if it stays, tell whoever runs this product",
        ),
        _ => (
            "Nothing is begun yet",
            "nobody knows yet whether another installation works with this Coupa and QAD",
            "It goes on by itself when that is known; if it stays, tell whoever runs this product",
        ),
    };
    html! {
        p.sentence.need {
            strong { (what) } ": " (why) " (" bdi { (visit.sentence(&problem.actual)) } "). Nothing is lost: what waits is looked at again by
            itself. " (next) "."
        }
    }
}

fn paused(visit: &Visit, flow: Flow, pause: &Pause) -> Markup {
    let what = match flow {
        Flow::Invoices => "Posting is paused",
        Flow::Payments => "Payments are paused: what QAD pays is not shown in Coupa",
        Flow::Suppliers => "The suppliers are paused: Coupa and QAD are not aligned",
        Flow::Lookups => "The lookups are paused: they do not follow QAD",
    };
    html! {
        p.sentence {
            strong { (what) } " since " (visit.clock.instant(pause.since)) ", by "
            bdi { (person_of(&pause.instruction.by)) } ": " bdi { (pause.instruction.reason) }
            ". Nothing is lost; what waits goes on when the pause ends. Whoever runs this product ends it."
        }
    }
}
