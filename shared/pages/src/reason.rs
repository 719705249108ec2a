//! Why something is done: asked for, checked, and shown once more before it is done. The same for every act.

use crate::{Fields, Visit};
use axum::http::StatusCode;
use domain::instruction::{Instruction, REASON_CHARACTERS_MIN};
use domain::problem::TEXT_CHARACTERS_MAX;
use maud::{Markup, html};

/// What the field of a reason is called.
pub(crate) const WHY: &str = "Why? It goes into the audit trail with your name.";

/// The field of a reason, with what is wrong with the one that was given.
pub(crate) fn field(label: &str, reason: &str, complaint: Option<&str>) -> Markup {
    html! {
        label for="reason" { (label) }
        @if let Some(complaint) = complaint { p.sentence.need id="complaint" { (complaint) } }
        textarea id="reason" name="reason" required maxlength=(TEXT_CHARACTERS_MAX) minlength=(REASON_CHARACTERS_MIN)
            aria-describedby=[complaint.map(|_| "complaint")] { (reason) }
    }
}

/// The status of a form, shown for the first time or again with a complaint.
pub(crate) fn status(complaint: Option<&str>) -> StatusCode {
    match complaint {
        Some(_) => StatusCode::UNPROCESSABLE_ENTITY,
        None => StatusCode::OK,
    }
}

/// A field of a form as it was sent.
pub(crate) fn text<'f>(form: &'f Fields, name: &str) -> &'f str {
    form.get(name).map_or("", String::as_str)
}

/// Who, and why; else what is wrong with the reason.
pub(crate) fn instruction(visit: &Visit, form: &Fields) -> Result<Instruction, String> {
    Instruction::new(&visit.session.person.by, text(form, "reason")).map_err(|_| {
        format!("Say why in at least {REASON_CHARACTERS_MIN} characters, for the one who audits it.")
    })
}

/// Whether a form is the one of the confirmation.
pub(crate) fn is_sure(form: &Fields) -> bool {
    text(form, "sure") == "yes"
}

/// What is asked once more before it is done.
pub(crate) struct Confirmation<'a> {
    /// Where the form goes.
    pub(crate) action: &'a str,
    /// What it carries from the step before.
    pub(crate) hidden: Markup,
    /// What the reason is called.
    pub(crate) heading: &'a str,
    /// The button that does it.
    pub(crate) yes: &'a str,
    /// Where one goes who does not.
    pub(crate) back: &'a str,
}

impl Confirmation<'_> {
    /// The reason as it was given, and the form that does it.
    pub(crate) fn form(self, instruction: &Instruction) -> Markup {
        html! {
            h2 { (self.heading) }
            p { bdi { (instruction.reason) } }
            form method="post" action=(self.action) {
                (self.hidden)
                input type="hidden" name="reason" value=(instruction.reason);
                input type="hidden" name="sure" value="yes";
                div.actions {
                    button.main { (self.yes) }
                    a.button href=(self.back) { "No" }
                }
            }
        }
    }
}
