//! What a person does with invoices: form, confirmation, act. Nothing by GET, nothing that was not in sight.

use crate::invoice::{heading, is_releasable, lines, person_of, read};
use crate::invoices::Wanted;
use crate::layout::{Part, page, refused};
use crate::named::{self, Named};
use crate::reason::{self, Confirmation};
use crate::words::sums;
use crate::{Fields, Problems, Visit};
use axum::extract::{Form, Path};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use domain::ids::InvoiceId;
use domain::instruction::{Instruction, SecondPerson};
use domain::lifecycle::InvoiceRecord;
use flows::index::{self, Row, Sums};
use flows::operator::{self, OperatorError};
use flows::ports::RowsAsked;
use flows::published;
use flows::store::{Loaded, sha256_hex};
use maud::{Markup, html};

/// Most invoices that are looked at again at once: those that have stood there longest.
const RECHECK_MAX: usize = 500;

/// What may be done with one invoice, beside looking again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Release,
    Skip,
    Reopen,
    Adopt,
}

impl Act {
    fn of(word: &str) -> Option<Self> {
        match word {
            "release" => Some(Self::Release),
            "skip" => Some(Self::Skip),
            "reopen" => Some(Self::Reopen),
            "adopt" => Some(Self::Adopt),
            _ => None,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Release => "release",
            Self::Skip => "skip",
            Self::Reopen => "reopen",
            Self::Adopt => "adopt",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Release => "Accept and release",
            Self::Skip => "Take out",
            Self::Reopen => "Take up again",
            Self::Adopt => "It is in QAD already",
        }
    }

    /// The button that does it.
    fn yes(self) -> &'static str {
        match self {
            Self::Release => "Yes: accept and release",
            Self::Skip => "Yes: take out",
            Self::Reopen => "Yes: take up again",
            Self::Adopt => "Yes: it is in QAD already",
        }
    }

    fn means(self) -> &'static str {
        match self {
            Self::Release => {
                "It is decided again with exactly these differences accepted, for this content of the invoice alone. If \
                 nothing else is in the way, it is posted in QAD; that cannot be undone here."
            }
            Self::Skip => {
                "Nothing more is done with it, whatever happens in Coupa, until somebody takes it up again. Enter it in QAD \
                 by hand if it is owed."
            }
            Self::Reopen => "It is read from Coupa and QAD again and decided like any other.",
            Self::Adopt => {
                "The document with this number is looked up in QAD, before anything else is done with the invoice. It is taken \
                 as this invoice's if it is the only one of its supplier, number and type, in its currency, of its total (or of \
                 the total you give), and of no other invoice; Coupa is then told that it is in QAD, and that cannot be undone \
                 here. Otherwise nothing changes, and its history says why."
            }
        }
    }

    /// Whether the record is in a state in which it can be done.
    fn fits(self, record: &InvoiceRecord) -> bool {
        match self {
            Self::Release => is_releasable(record),
            Self::Skip => record.may_be_decided() && !record.state.is_skipped(),
            Self::Reopen => record.state.is_skipped(),
            Self::Adopt => record.may_be_adopted(),
        }
    }
}

/// What the invoice page says after an act, by the word in its address.
pub(crate) fn told(word: &str) -> Option<&'static str> {
    match word {
        "recheck" => Some("It is being looked at again: open this page in a moment."),
        "release" => Some("Released. It is decided again and posted if nothing else is in the way."),
        "asked" => {
            Some("Your word is noted. Above this amount another person must confirm it: ask an approver.")
        }
        "skip" => Some("Taken out. Nothing more is done with it until somebody takes it up again."),
        "reopen" => Some("Taken up again. It is being looked at."),
        "adopt" => Some(
            "Its document is being looked up in QAD: open this page in a moment. Its history says what came of it.",
        ),
        "already" => Some("It was so already: nothing was changed."),
        _ => None,
    }
}

pub(crate) fn forbidden(text: &str) -> Problems {
    Problems::new(StatusCode::FORBIDDEN, "Refused", text)
}

/// The form must be ours.
pub(crate) fn form_is_own(visit: &Visit, path: &str, form: &Fields) -> Result<(), Problems> {
    if visit.is_own(path, form) {
        Ok(())
    } else {
        Err(forbidden(
            "The form is not from your present session. Nothing was done: open the page again and repeat it.",
        ))
    }
}

/// The form must be ours, and the person must be one who works on invoices.
fn check(visit: &Visit, path: &str, form: &Fields) -> Result<(), Problems> {
    form_is_own(visit, path, form)?;
    if !visit.session.person.may_act() {
        return Err(forbidden("That is for a clerk or an approver. Nothing was done."));
    }
    Ok(())
}

/// `POST /invoices/{id}/recheck`.
pub(crate) async fn recheck(visit: Visit, Path(id): Path<String>, Form(form): Form<Fields>) -> Response {
    let path = format!("/invoices/{id}/recheck");
    let done = async {
        check(&visit, &path, &form)?;
        let loaded = read(&visit, &id).await?;
        hint(&visit, &[loaded.document.id]).await?;
        Ok::<_, Problems>(loaded.document.id)
    };
    match done.await {
        Ok(id) => Redirect::to(&visit.path(&format!("/invoices/{id}?done=recheck"))).into_response(),
        Err(problems) => refused(&visit, &problems, "/invoices"),
    }
}

async fn hint(visit: &Visit, ids: &[InvoiceId]) -> Result<(), Problems> {
    let trace = format!("console-{}", visit.console.chance.token());
    operator::look_again(&*visit.console.hints, &visit.id, ids, &trace, |_| ()).await?;
    Ok(())
}

/// `POST /invoices/recheck`: first what it would be, then, with the same number confirmed, it.
pub(crate) async fn recheck_view(visit: Visit, Form(form): Form<Fields>) -> Response {
    match recheck_all(&visit, &form).await {
        Ok(response) => response,
        Err(problems) => refused(&visit, &problems, "/invoices"),
    }
}

/// What the sight of a list was: another invoice in it, or one less, is another sight.
fn sight_of(rows: &[Row]) -> String {
    let ids: Vec<String> = rows.iter().map(|row| row.id.to_string()).collect();
    sha256_hex(&ids.join(","))
}

async fn recheck_all(visit: &Visit, form: &Fields) -> Result<Response, Problems> {
    const PATH: &str = "/invoices/recheck";
    check(visit, PATH, form)?;
    let wanted = Wanted::of(form)?;
    let asked = RowsAsked {
        beyond: None,
        newest_first: false,
        limit: RECHECK_MAX,
    };
    let (rows, more) = index::page(&*visit.books, &wanted.list(), &asked).await?;
    let sight = sight_of(&rows);
    let confirmed = form.get("sight");
    if confirmed == Some(&sight) && !rows.is_empty() {
        let ids: Vec<InvoiceId> = rows.iter().map(|row| row.id).collect();
        hint(visit, &ids).await?;
        let at = format!("/invoices{}&done={}", wanted.query(), ids.len());
        return Ok(Redirect::to(&visit.path(&at)).into_response());
    }
    let mut total = Sums::default();
    for row in &rows {
        total.add_row(row);
    }
    let back = format!("{}/invoices{}", visit.base, wanted.query());
    let content = html! {
        h1 { "Look again at all of these?" }
        @if confirmed.is_some() {
            p.sentence.need { "The list has changed since you looked at it. Nothing was done: these are the figures now." }
        }
        @if rows.is_empty() { p.sentence { "The list is empty: there is nothing to look at again." } }
        @else {
            p.sentence {
                (sums(&total))
                @if more.is_some() { ", those that have stood there longest," }
                " are read from Coupa and QAD again and decided again. What fits by now is posted."
            }
            @if more.is_some() { p { "There are more than " (rows.len()) " in the list: the others are looked at when you repeat it." } }
        }
        form method="post" action=(visit.path(PATH)) {
            input type="hidden" name="t" value=(visit.token(PATH));
            input type="hidden" name="view" value=(wanted.view.word());
            input type="hidden" name="code" value=(wanted.code.clone().unwrap_or_default());
            input type="hidden" name="sight" value=(sight);
            div.actions {
                @if !rows.is_empty() { button.main { "Yes, look again at " (rows.len()) } }
                a.button href=(back) { "No" }
            }
        }
    };
    let status = if confirmed.is_some() {
        StatusCode::CONFLICT
    } else {
        StatusCode::OK
    };
    let page = page(visit, Part::Invoices, "Look again", content);
    Ok(crate::layout::with_status(status, page))
}

/// What an act is asked about.
struct Asked {
    act: Act,
    loaded: Loaded<InvoiceRecord>,
    rule: Option<SecondPerson>,
}

impl Asked {
    fn content_hash(&self) -> &str {
        self.loaded
            .document
            .source
            .as_ref()
            .map_or("", |source| source.content_sha256.as_str())
    }

    /// Whether the amount needs two.
    fn needs_two(&self) -> bool {
        let (Some(rule), Some(summary)) = (&self.rule, &self.loaded.document.summary) else {
            return false;
        };
        self.act == Act::Release && rule.is_needed(summary.total, summary.currency)
    }

    fn path(&self) -> String {
        format!("/invoices/{}/{}", self.loaded.document.id, self.act.word())
    }
}

async fn asked(visit: &Visit, id: &str, act: &str) -> Result<Asked, Problems> {
    let Some(act) = Act::of(act) else {
        return Err(Problems::new(
            StatusCode::NOT_FOUND,
            "Not found",
            "Nothing of that name can be done with an invoice.",
        ));
    };
    let loaded = read(visit, id).await?;
    let rule = match act {
        Act::Release => published::of(&*visit.books)
            .await?
            .map(|told| told.second_person()),
        Act::Skip | Act::Reopen | Act::Adopt => None,
    };
    let asked = Asked { act, loaded, rule };
    if !asked.act.fits(&asked.loaded.document) {
        return Err(Problems::new(
            StatusCode::CONFLICT,
            "Not possible now",
            format!(
                "{} is not possible with this invoice as it stands: look at its page for what is. Nothing was done.",
                act.title()
            ),
        ));
    }
    if act == Act::Release && asked.rule.is_none() {
        return Err(Problems::new(
            StatusCode::CONFLICT,
            "Not possible yet",
            "The limits for releases are not known here yet: they are told with the next invoice that is looked at. Look \
             again at this one, then release it.",
        ));
    }
    if !visit.session.person.may_act() {
        return Err(forbidden("That is for a clerk or an approver."));
    }
    Ok(asked)
}

/// `GET /invoices/{id}/{act}`: what it means, and why it is done.
pub(crate) async fn ask(visit: Visit, Path((id, act)): Path<(String, String)>) -> Response {
    match asked(&visit, &id, &act).await {
        Ok(asked) => form_page(&visit, &asked, &Fields::new(), None),
        Err(problems) => refused(&visit, &problems, &format!("/invoices/{id}")),
    }
}

/// What is wrong with a form, and at which field it is said.
pub(crate) struct Wrong {
    pub(crate) at: &'static str,
    pub(crate) text: String,
}

fn form_page(visit: &Visit, asked: &Asked, form: &Fields, wrong: Option<&Wrong>) -> Response {
    let title = asked.act.title();
    let at = |field: &str| {
        wrong
            .filter(|wrong| wrong.at == field)
            .map(|wrong| wrong.text.as_str())
    };
    let content = html! {
        (about(visit, asked))
        form method="post" action=(visit.path(&asked.path())) {
            (hidden(visit, asked))
            @if asked.act == Act::Adopt { (named::fields(form, at("voucher"), at("total"))) }
            (reason::field(reason::WHY, reason::text(form, "reason"), at("reason")))
            div.actions {
                button.main { "Go on" }
                a.button href={ (visit.base) "/invoices/" (asked.loaded.document.id) } { "Leave it" }
            }
        }
    };
    let status = reason::status(wrong.map(|wrong| wrong.text.as_str()));
    crate::layout::with_status(status, page(visit, Part::Invoices, title, content))
}

fn about(visit: &Visit, asked: &Asked) -> Markup {
    let record = &asked.loaded.document;
    html! {
        p { a href={ (visit.base) "/invoices/" (record.id) } { "Back to the invoice" } }
        h1 { (asked.act.title()) ": " bdi { (heading(record)) } }
        p { bdi { (visit.sentence(&domain::explain::sentence(record))) } }
        @if asked.act == Act::Release { (lines(record)) }
        p.sentence { (asked.act.means())
            @if asked.needs_two() { " Above this amount two persons are needed: the first one's word is noted, another person's releases it." }
        }
    }
}

fn hidden(visit: &Visit, asked: &Asked) -> Markup {
    html! {
        input type="hidden" name="t" value=(visit.token(&asked.path()));
        input type="hidden" name="revision" value=(asked.loaded.revision);
        input type="hidden" name="content" value=(asked.content_hash());
    }
}

/// `POST /invoices/{id}/{act}`: with `sure`, it is done; without, it is confirmed first.
pub(crate) async fn answer(
    visit: Visit,
    Path((id, act)): Path<(String, String)>,
    Form(form): Form<Fields>,
) -> Response {
    match answered(&visit, &id, &act, &form).await {
        Ok(response) => response,
        Err(problems) => refused(&visit, &problems, &format!("/invoices/{id}")),
    }
}

async fn answered(visit: &Visit, id: &str, act: &str, form: &Fields) -> Result<Response, Problems> {
    check(visit, &format!("/invoices/{id}/{act}"), form)?;
    let asked = asked(visit, id, act).await?;
    let revision: u64 = reason::text(form, "revision").parse().unwrap_or(0);
    if revision != asked.loaded.revision || reason::text(form, "content") != asked.content_hash() {
        return Err(stale());
    }
    let order = match order(visit, &asked, form) {
        Ok(order) => order,
        Err(wrong) => return Ok(form_page(visit, &asked, form, Some(&wrong))),
    };
    second_person(visit, &asked)?;
    if !reason::is_sure(form) {
        return Ok(confirm_page(visit, &asked, &order));
    }
    carry_out(visit, &asked, order, revision).await
}

/// What a form orders.
struct Order {
    instruction: Instruction,
    /// The document in QAD, where one is named.
    named: Option<Named>,
}

fn order(visit: &Visit, asked: &Asked, form: &Fields) -> Result<Order, Wrong> {
    let named = match asked.act {
        Act::Adopt => Some(Named::of(form)?),
        Act::Release | Act::Skip | Act::Reopen => None,
    };
    let instruction = reason::instruction(visit, form).map_err(|text| Wrong { at: "reason", text })?;
    Ok(Order { instruction, named })
}

fn stale() -> Problems {
    Problems::new(
        StatusCode::CONFLICT,
        "It has changed",
        "The invoice has changed since you looked at it. Nothing was done: look at it again, then decide.",
    )
}

/// Above the limit, what one person asked for is released by an approver alone, and never by the one who asked.
fn second_person(visit: &Visit, asked: &Asked) -> Result<(), Problems> {
    let Some(request) = asked
        .loaded
        .document
        .release_request
        .as_ref()
        .filter(|_| asked.needs_two())
    else {
        return Ok(());
    };
    let valid = asked.rule.as_ref().map_or(0, |rule| rule.valid_millis);
    let is_open = visit.now < request.at.plus_millis(valid);
    if is_open && !visit.session.person.is_any(&[crate::Role::Approver]) {
        return Err(forbidden(&format!(
            "{} has asked for this release. Above this amount an approver confirms it. Nothing was done.",
            person_of(&request.instruction.by)
        )));
    }
    Ok(())
}

fn confirm_page(visit: &Visit, asked: &Asked, order: &Order) -> Response {
    let title = asked.act.title();
    let content = html! {
        (about(visit, asked))
        @if let Some(named) = &order.named { (named.shown(&asked.loaded.document)) }
        (Confirmation {
            action: &visit.path(&asked.path()),
            hidden: html! { (hidden(visit, asked)) @if let Some(named) = &order.named { (named.hidden()) } },
            heading: "Your reason",
            yes: asked.act.yes(),
            back: &visit.path(&format!("/invoices/{}", asked.loaded.document.id)),
        }.form(&order.instruction))
    };
    page(visit, Part::Invoices, &format!("{title}?"), content).into_response()
}

async fn carry_out(visit: &Visit, asked: &Asked, order: Order, revision: u64) -> Result<Response, Problems> {
    let id = asked.loaded.document.id;
    let context = visit.context();
    let seen = Some(revision);
    let rule = asked.rule.clone().unwrap_or_default();
    let Order { instruction, named } = order;
    let done = match (asked.act, named) {
        (Act::Adopt, None) => return Err(stale()),
        (Act::Adopt, Some(named)) => {
            let request = named.request(instruction);
            operator::request_adoption_as_seen(&context, id, request, seen).await
        }
        (Act::Release, _) => operator::release_as_seen(&context, id, instruction, &rule, seen, false).await,
        (Act::Skip, _) => operator::skip_as_seen(&context, id, instruction, seen, false).await,
        (Act::Reopen, _) => operator::reopen_as_seen(&context, id, instruction, seen, false).await,
    };
    let done = done.map_err(problems)?;
    let waits_for_second = asked.act == Act::Release && done.after.release_request.is_some();
    let word = match (done.changed, waits_for_second) {
        (false, _) => "already",
        (true, true) => "asked",
        (true, false) => asked.act.word(),
    };
    tracing::info!(connection = %visit.connection, invoice = %id, act = asked.act.word(), outcome = word, "console");
    if done.changed && !waits_for_second && asked.act != Act::Skip {
        // The sweep takes it up too, a little later: a hint that is lost costs time and nothing else.
        if let Err(problems) = hint(visit, &[id]).await {
            tracing::warn!(code = "CONSOLE_HINT_LOST", problem = %problems.text, "the sweep takes it up");
        }
    }
    Ok(Redirect::to(&visit.path(&format!("/invoices/{id}?done={word}"))).into_response())
}

pub(crate) fn problems(error: OperatorError) -> Problems {
    match error {
        OperatorError::Refused(problem) if problem.code == "SEEN_IS_STALE" => stale(),
        OperatorError::Refused(problem) if problem.code == "SECOND_PERSON_NEEDED" => forbidden(
            "You have asked for this release yourself. Another person must confirm it. Nothing was done.",
        ),
        OperatorError::Refused(problem) => Problems::new(
            StatusCode::CONFLICT,
            "Refused",
            format!("{problem} Nothing was done."),
        ),
        OperatorError::NotFound(problem) => {
            Problems::new(StatusCode::NOT_FOUND, "Not known here", problem.to_string())
        }
        OperatorError::Flow(error) => error.into(),
        OperatorError::Read(error) => Problems::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "No answer",
            error.problem().to_string(),
        ),
    }
}
