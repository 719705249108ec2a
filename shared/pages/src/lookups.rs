//! Lookups of Coupa that follow QAD, and the plans that are larger than may happen by themselves: an approver allows exactly the
//! one that was shown.

use crate::acts::{forbidden, form_is_own, problems};
use crate::layout::{Part, left_out, page, refused, with_status};
use crate::reason::{self, Confirmation};
use crate::suppliers::tabs;
use crate::words::code;
use crate::{Fields, Problems, Role, Visit, login};
use axum::extract::{Form, Query};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use domain::instruction::Instruction;
use domain::plans::{PlanRecord, PlanState};
use domain::problem::Problem;
use flows::operator;
use flows::plans;
use flows::ports::{Collection, RecordGroup};
use flows::store::parse;
use maud::{Markup, html};

/// `GET /lookups`.
pub(crate) async fn show(visit: Visit, Query(fields): Query<Fields>) -> Response {
    match content(&visit, &fields).await {
        Ok(content) => page(&visit, Part::Suppliers, "Lookups", content).into_response(),
        Err(problems) => refused(&visit, &problems, "/"),
    }
}

/// One read: there are as many plans as lookups in the settings.
async fn content(visit: &Visit, fields: &Fields) -> Result<Markup, Problems> {
    let group = RecordGroup::Collection(Collection::LookupPlan);
    let (mut plans, mut unreadable) = (Vec::<PlanRecord>::new(), Vec::new());
    for stored in visit.books.list(&group).await? {
        match parse(&stored) {
            Ok(plan) => plans.push(plan),
            Err(error) => unreadable.push(error.problem()),
        }
    }
    Ok(html! {
        h1 { "Lookups" }
        (tabs(&visit.base, "/lookups"))
        @if fields.get("done").is_some_and(|word| word == "allowed") {
            p.sentence.done role="status" { "Allowed. The next run carries it out, as long as it is still the same plan." }
        }
        (left_out(&unreadable))
        @if plans.is_empty() && unreadable.is_empty() { p { "No lookup of Coupa follows QAD here, or none was compared yet." } }
        @else { (lookups(visit, &plans)) }
    })
}

fn lookups(visit: &Visit, plans: &[PlanRecord]) -> Markup {
    html! {
        div.wrap { table.cards {
            thead { tr { th scope="col" { "Lookup" } th scope="col" { "Stands" } th scope="col" { "What to do" } } }
            tbody { @for plan in plans {
                tr {
                    th scope="row" { bdi { (plan.name()) } }
                    td data-h="Stands" { @match &plan.state {
                        PlanState::Parked { .. } if plan.allowed_plan.is_some() => { span.tag.hold { "Allowed" } },
                        PlanState::Parked { .. } => { span.tag.need { "Needs a person" } },
                        PlanState::Applying => { span.tag.rest { "Being changed" } },
                        PlanState::Settled => { span.tag.done { "Follows QAD" } },
                    } }
                    td data-h="What to do" { @match &plan.state {
                        PlanState::Parked { problem, plan_sha256, .. } if plan.allowed_plan.is_none() => {
                            (why(problem)) " "
                            @if !plan_sha256.is_empty() {
                                a href={ (visit.base) "/plans/allow?lookup=" (login::encoded(plan.name())) } {
                                    "Show what would be changed in " bdi { (plan.name()) }
                                }
                            }
                        },
                        PlanState::Parked { .. } => { "Nothing: the next run carries it out." },
                        PlanState::Applying | PlanState::Settled => { "Nothing." },
                    } }
                }
            } }
        } }
    }
}

/// Why a plan waits, and what there is to do about any that waits.
fn why(problem: &Problem) -> String {
    const FIX: &str = "Read what would be changed; allow it, or have the list corrected.";
    format!("{}: {FIX}", code(&problem.code))
}

/// A plan that waits to be allowed.
struct Asked {
    /// The lookup; none: the suppliers'.
    lookup: Option<String>,
    plan: PlanRecord,
    problem: Problem,
    sha256: String,
    changes: Vec<String>,
}

const PATH: &str = "/plans/allow";

impl Asked {
    fn title(&self) -> String {
        match &self.lookup {
            Some(lookup) => format!("Allow the changes of {lookup}"),
            None => "Allow the changes of the suppliers".to_owned(),
        }
    }

    /// Where it is looked at afterwards.
    fn back(&self) -> &'static str {
        match self.lookup {
            Some(_) => "/lookups",
            None => "/suppliers",
        }
    }
}

async fn asked(visit: &Visit, fields: &Fields) -> Result<Asked, Problems> {
    let lookup = fields.get("lookup").filter(|name| !name.is_empty()).cloned();
    let found = visit.books.read(&[plans::key(lookup.as_deref())]).await?;
    let Some(stored) = found.into_iter().next().flatten() else {
        let text = "No plan of this name is known here: look at the lookups again.";
        return Err(Problems::new(StatusCode::NOT_FOUND, "Not found", text));
    };
    let plan: PlanRecord = parse(&stored)?;
    let PlanState::Parked {
        problem,
        plan_sha256,
        changes,
    } = plan.state.clone()
    else {
        return Err(not_waiting());
    };
    if plan.allowed_plan.is_some() || plan_sha256.is_empty() {
        return Err(not_waiting());
    }
    Ok(Asked {
        lookup,
        plan,
        problem,
        sha256: plan_sha256,
        changes,
    })
}

fn not_waiting() -> Problems {
    let text = "No plan of it waits to be allowed any more. Nothing was done.";
    Problems::new(StatusCode::CONFLICT, "Nothing to allow", text)
}

fn may(visit: &Visit) -> bool {
    visit.session.person.is_any(&[Role::Approver])
}

/// `GET /plans/allow`: what would be changed, and, for an approver, the form.
pub(crate) async fn ask(visit: Visit, Query(fields): Query<Fields>) -> Response {
    match asked(&visit, &fields).await {
        Ok(asked) => form_page(&visit, &asked, "", None),
        Err(problems) => refused(&visit, &problems, "/lookups"),
    }
}

fn about(asked: &Asked) -> Markup {
    html! {
        h1 { bdi { (asked.title()) } }
        p.sentence { (why(&asked.problem)) }
        @if asked.changes.is_empty() { p { "Which changes they are was not kept: have whoever runs this product show the plan." } }
        @else {
            h2 { "What would be changed" }
            ul { @for change in &asked.changes { li { bdi { (change) } } } }
        }
        dl.facts { dt { "Plan" } dd { code { (asked.sha256) } } @if asked.plan.filling { dt { "First fill" } dd { "yes" } } }
    }
}

fn hidden(visit: &Visit, asked: &Asked) -> Markup {
    html! {
        input type="hidden" name="t" value=(visit.token(PATH));
        input type="hidden" name="lookup" value=(asked.lookup.clone().unwrap_or_default());
        input type="hidden" name="plan" value=(asked.sha256);
    }
}

fn form_page(visit: &Visit, asked: &Asked, given: &str, complaint: Option<&str>) -> Response {
    let content = html! {
        (about(asked))
        @if may(visit) {
            form method="post" action=(visit.path(PATH)) {
                (hidden(visit, asked))
                (reason::field(reason::WHY, given, complaint))
                div.actions { button.main { "Go on" } a.button href={ (visit.base) (asked.back()) } { "Leave it" } }
            }
        } @else {
            p.soft { "You can read this. A plan is allowed by an approver." }
            p { a href={ (visit.base) (asked.back()) } { "Back" } }
        }
    };
    let page = page(visit, Part::Suppliers, &asked.title(), content);
    with_status(reason::status(complaint), page)
}

/// `POST /plans/allow`: with `sure`, it is allowed; without, it is confirmed first.
pub(crate) async fn answer(visit: Visit, Form(form): Form<Fields>) -> Response {
    match answered(&visit, &form).await {
        Ok(response) => response,
        Err(problems) => refused(&visit, &problems, "/lookups"),
    }
}

async fn answered(visit: &Visit, form: &Fields) -> Result<Response, Problems> {
    form_is_own(visit, PATH, form)?;
    if !may(visit) {
        return Err(forbidden("A plan is allowed by an approver. Nothing was done."));
    }
    let asked = asked(visit, form).await?;
    if reason::text(form, "plan") != asked.sha256 {
        let text =
            "The plan has changed since you looked at it. Nothing was done: look at it again, then decide.";
        return Err(Problems::new(StatusCode::CONFLICT, "It has changed", text));
    }
    let instruction = match reason::instruction(visit, form) {
        Ok(instruction) => instruction,
        Err(complaint) => {
            let given = reason::text(form, "reason");
            return Ok(form_page(visit, &asked, given, Some(&complaint)));
        }
    };
    if !reason::is_sure(form) {
        return Ok(confirm_page(visit, &asked, &instruction));
    }
    operator::allow_plan(
        &visit.context(),
        asked.lookup.as_deref(),
        &asked.sha256,
        &instruction,
    )
    .await
    .map_err(problems)?;
    tracing::info!(connection = %visit.connection, plan = asked.plan.name(), act = "allow", "console");
    Ok(Redirect::to(&visit.path(&format!("{}?done=allowed", asked.back()))).into_response())
}

fn confirm_page(visit: &Visit, asked: &Asked, instruction: &Instruction) -> Response {
    let content = html! {
        (about(asked))
        (Confirmation {
            action: &visit.path(PATH),
            hidden: hidden(visit, asked),
            heading: "Your reason",
            yes: "Yes: allow exactly this plan",
            back: &visit.path(asked.back()),
        }.form(instruction))
    };
    page(visit, Part::Suppliers, &asked.title(), content).into_response()
}
