//! Changes of a connection's documents: each has a reason and an entry in the audit trail, and can be taken back.

use super::{FileOptions, changes, names, read};
use crate::Failure;
use crate::act::ReasonOption;
use crate::output::{Column, ListOptions, Listing, Output, Row};
use crate::place::{Place, refused, unfinished};
use aws_sdk_secretsmanager::operation::get_secret_value::GetSecretValueError;
use connectors::connection::ConnectionDocument;
use domain::explain;
use domain::ids::ConnectionId;
use domain::instruction::Instruction;
use domain::problem::Problem;
use flows::connection_settings::{
    self, AUDIT_NAME, ConnectionSettings, DocumentChange, Event, Versions, Way,
};
use flows::ports::Register;
use flows::store::{FlowError, Loaded};
use flows::webhook::settings::WebhookSettings;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// The version that is used, and the one before it.
const CURRENT: &str = "AWSCURRENT";
const PREVIOUS: &str = "AWSPREVIOUS";

/// A version of a document.
pub(super) struct Version {
    pub(super) value: Value,
    id: String,
}

/// The version of a secret in this stage; `None` when there is none.
pub(super) async fn stored(place: &Place, name: &str, stage: &str) -> Result<Option<Version>, Failure> {
    let sent = place
        .clients()
        .secrets_manager()
        .get_secret_value()
        .secret_id(name)
        .version_stage(stage)
        .send()
        .await;
    match sent {
        Ok(answer) => {
            let text = answer.secret_string().unwrap_or_default();
            Ok(Some(Version {
                // What cannot be read is taken for a placeholder: it is replaced whole, and shown as nothing.
                value: serde_json::from_str(text).unwrap_or(Value::Null),
                id: answer.version_id().unwrap_or_default().to_owned(),
            }))
        }
        Err(error) => {
            let error = error.into_service_error();
            if matches!(error, GetSecretValueError::ResourceNotFoundException(_)) {
                Ok(None)
            } else {
                Err(refused("SECRETS_MANAGER", "GetSecretValue", &error))
            }
        }
    }
}

/// The version that is used, of a secret that must be there.
pub(super) async fn current(place: &Place, name: &str) -> Result<Version, Failure> {
    stored(place, name, CURRENT).await?.ok_or_else(|| {
        let fix = "Deploy the connection's stack (infra/connection.yaml) first; it makes the secret.";
        Failure::NotFound(
            Problem::new("SECRET_NOT_FOUND", fix)
                .field(name)
                .expected("a secret of this name"),
        )
    })
}

/// What would be stored under one name.
struct Planned {
    kind: &'static str,
    name: String,
    before: Version,
    after: Value,
    settings: BTreeSet<String>,
}

impl Planned {
    fn new(kind: &'static str, name: String, before: Version, after: Value) -> Self {
        let mut settings = BTreeSet::new();
        changes(&before.value, &after, "", &mut settings);
        Self {
            kind,
            name,
            before,
            after,
            settings,
        }
    }
}

/// What is known of earlier changes, read before the documents that a new one is planned on.
async fn known(place: &Place, id: &ConnectionId) -> Result<Loaded<ConnectionSettings>, Failure> {
    let known = connection_settings::known(&place.register(id)?).await;
    known.map_err(unfinished)
}

/// `connection put`.
pub(super) async fn put(
    place: &Place,
    options: &FileOptions,
    why: &ReasonOption,
    out: &Output,
) -> Result<(), Failure> {
    let file = read(options)?;
    let id = file.connection.id.parse::<ConnectionId>().map_err(|error| {
        Problem::new("CONNECTION_INVALID", "Correct the file.")
            .field("id")
            .expected(error.expected)
            .actual(error.actual)
    })?;
    // A dry run reads the secrets alone.
    let known = if why.dry_run {
        None
    } else {
        Some(known(place, &id).await?)
    };
    let (mut planned, mut now) = (Vec::new(), Versions::new());
    for (kind, name) in names(place, id.as_str())? {
        let text = if kind == "connection" {
            &file.connection.connection_secret
        } else {
            &file.connection.webhook_secret
        };
        let before = current(place, &name).await?;
        let mut after: Value = serde_json::from_str(text.expose_secret()).map_err(|error| {
            Failure::from(Problem::new("CONNECTION_INVALID", "").actual(error.to_string()))
        })?;
        // A key that was made up because the file names none would lock the cached tokens away.
        if !file.has_token_key
            && let (Some(key), Value::Object(fields)) = (before.value.get("token_key"), &mut after)
            && kind == "connection"
        {
            fields.insert("token_key".to_owned(), key.clone());
        }
        now.insert(kind.to_owned(), before.id.clone());
        planned.push(Planned::new(kind, name, before, after));
    }
    carry_out(place, &id, Way::Forward, (known, &now), &planned, why, out).await
}

/// `connection rollback`: what the last change replaced is used again. Taken back once more, it is the change again.
pub(super) async fn rollback(place: &Place, why: &ReasonOption, out: &Output) -> Result<(), Failure> {
    let id = place.connection().await?;
    let known = known(place, &id).await?;
    let (mut found, mut now) = (Vec::new(), Versions::new());
    for (kind, name) in names(place, id.as_str())? {
        let version = current(place, &name).await?;
        now.insert(kind.to_owned(), version.id.clone());
        found.push((kind, name, version));
    }
    let last = known.document.carried_out(&now);
    let mut planned = Vec::new();
    for (kind, name, now) in found {
        let Some(change) = last.iter().find(|change| change.document == kind) else {
            continue;
        };
        let before = stored(place, &name, PREVIOUS).await?;
        let Some(before) = before.filter(|version| version.id == change.before) else {
            return Err(changed_since(&name));
        };
        still_valid(kind, &before.value)?;
        planned.push(Planned::new(kind, name, now, before.value));
    }
    if planned.is_empty() {
        let fix = "Only a change made with `connection put` or `connection rollback` can be taken back.";
        return Err(Failure::NotFound(
            Problem::new("NOTHING_TO_TAKE_BACK", fix).field(id.as_str()),
        ));
    }
    carry_out(place, &id, Way::Back, (Some(known), &now), &planned, why, out).await
}

fn changed_since(name: &str) -> Failure {
    let fix = "Somebody has stored another document by other means: compare it (`connection show`), then `connection put` the right file.";
    Failure::Refused(
        Problem::new("CONNECTION_CHANGED_SINCE", fix)
            .field(name)
            .expected("the version that the last change replaced, as the one before"),
    )
}

fn overtaken(id: &ConnectionId) -> Failure {
    let fix = "Nothing was stored. Look at `connection history`, then repeat it if it is still wanted.";
    Failure::Refused(
        Problem::new("REGISTER_CONTENDED", fix)
            .field(id.as_str())
            .expected("the documents as they were when the change was planned")
            .actual("somebody else has changed them since"),
    )
}

/// A document of then must be one that this version takes.
fn still_valid(kind: &str, document: &Value) -> Result<(), Failure> {
    let text = document.to_string();
    let found = if kind == "connection" {
        ConnectionDocument::parse(&text).err()
    } else {
        WebhookSettings::parse(&SecretString::from(text)).err()
    };
    found.map_or(Ok(()), |problems| Err(Failure::Failed(problems)))
}

async fn carry_out(
    place: &Place,
    id: &ConnectionId,
    way: Way,
    (known, now): (Option<Loaded<ConnectionSettings>>, &Versions),
    planned: &[Planned],
    why: &ReasonOption,
    out: &Output,
) -> Result<(), Failure> {
    let to_do = || planned.iter().filter(|one| !one.settings.is_empty());
    if let Some(known) = known
        && !why.dry_run
        && to_do().next().is_some()
    {
        let instruction = Instruction::new(&place.actor().await?, &why.reason).map_err(Failure::Refused)?;
        let documents = to_do().map(|one| DocumentChange {
            document: one.kind.to_owned(),
            before: one.before.id.clone(),
            settings: one.settings.clone(),
        });
        let register = place.register(id)?;
        let context = place.context(&register);
        let documents = documents.collect();
        let said = connection_settings::say(&context, (known, now), way, documents, instruction).await;
        said.map_err(|error| match error {
            FlowError::Contended => overtaken(id),
            error => unfinished(error),
        })?;
        for one in to_do() {
            let sent = place.clients().secrets_manager().put_secret_value();
            sent.secret_id(&one.name)
                .secret_string(one.after.to_string())
                .send()
                .await
                .map_err(|error| refused("SECRETS_MANAGER", "PutSecretValue", &error.into_service_error()))?;
        }
    }
    let dry_run = why.dry_run;
    out.value(
        || {
            let secret = |one: &Planned| json!({ "secret": one.name, "changed": one.settings });
            let secrets: Vec<Value> = planned.iter().map(secret).collect();
            json!({ "connection": id, "dry_run": dry_run, "secrets": secrets })
        },
        |out| {
            let done = if dry_run { "would change" } else { "changed" };
            for Planned { name, settings, .. } in planned {
                out.line(&if settings.is_empty() {
                    format!("{name}: unchanged")
                } else {
                    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
                    format!("{name}: {done} {}", settings.join(" "))
                });
            }
            out.line(if dry_run {
                "Nothing was stored (--dry-run)."
            } else {
                "Functions take a new document within five minutes, and at once after a refused credential. \
                 `connection rollback` takes this change back."
            });
        },
    );
    Ok(())
}

/// `connection history`.
pub(super) async fn history(place: &Place, options: &ListOptions, out: &Output) -> Result<(), Failure> {
    let register = place.register(&place.connection().await?)?;
    let entries = register.audit(AUDIT_NAME).await;
    let entries = entries.map_err(crate::records::unanswered)?;
    let mut rows = Vec::new();
    for entry in &entries {
        let events: Vec<Event> = serde_json::from_str(&entry.events).map_err(|error| {
            let fix = "Read it with the version that wrote it.";
            Problem::new("AUDIT_ENTRY_UNREADABLE", fix)
                .field(format!("{AUDIT_NAME} entry {}", entry.sequence))
                .actual(error.to_string())
        })?;
        for event in events {
            let (what, documents, instruction) = match event {
                Event::Changing {
                    documents,
                    instruction,
                } => ("changed", documents, instruction),
                Event::TakingBack {
                    documents,
                    instruction,
                } => ("taken back", documents, instruction),
            };
            let settings = documents.iter().flat_map(|one| {
                let kind = one.document.as_str();
                one.settings.iter().map(move |setting| format!("{kind}{setting}"))
            });
            let settings: Vec<String> = settings.collect();
            rows.push(Row::new(
                json!({ "at": entry.at, "what": what, "by": instruction.by, "reason": instruction.reason,
                        "documents": documents }),
                vec![
                    explain::instant(entry.at).into(),
                    what.into(),
                    instruction.by.as_str().into(),
                    settings.join(" ").into(),
                    instruction.reason.as_str().into(),
                ],
            ));
        }
    }
    let columns = [
        Column::word("When"),
        Column::word("What"),
        Column::word("By"),
        Column::sentence("Settings"),
        Column::sentence("Why"),
    ];
    out.list(Listing::new(&columns, rows), options)
}
