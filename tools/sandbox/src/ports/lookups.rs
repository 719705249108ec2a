//! QAD's lists and Coupa's lookup values as ports.

use super::{WorldPorts, code, unreadable};
use crate::faults::System;
use crate::world::qad::CodedValue;
use crate::world::{World, Write, Written};
use async_trait::async_trait;
use domain::lookups::{
    Action, CoupaValue, LOOKUP_MISSING, LookupCode, ParentReference, QadValue, VALUE_TAKEN,
};
use domain::problem::Problem;
use flows::ports::{CoupaLookups, LookupScan, QadSources, ReadError, SourceScan, WriteError};
use serde_json::{Map, Value, json};

fn text(value: &Map<String, Value>, key: &str) -> Option<String> {
    value
        .get(key)
        .and_then(Value::as_str)
        .filter(|text| !text.is_empty())
        .map(str::to_owned)
}

fn value_of(value: &Map<String, Value>) -> Result<CoupaValue, ReadError> {
    let id = value.get("id").and_then(Value::as_u64);
    let parent = value.get("parent").and_then(Value::as_object);
    Ok(CoupaValue {
        id: id.ok_or_else(|| unreadable("id", "an id", "something else"))?,
        name: text(value, "name").unwrap_or_default(),
        active: value.get("active") == Some(&Value::Bool(true)),
        code: text(value, "external-ref-num"),
        external_ref_code: text(value, "external-ref-code"),
        parent: parent.map(|parent| ParentReference {
            id: parent.get("id").and_then(Value::as_u64),
            external_ref_code: text(parent, "external-ref-code"),
        }),
    })
}

fn values_of(world: &World, lookup: &str) -> Result<Vec<CoupaValue>, ReadError> {
    let is_of = |value: &&Map<String, Value>| {
        value.get("lookup").and_then(|one| one.get("name")) == Some(&Value::from(lookup))
    };
    world
        .coupa
        .lookup_values
        .values()
        .filter(is_of)
        .map(value_of)
        .collect()
}

fn shown(written: &Written) -> Result<CoupaValue, WriteError> {
    let Written::Coupa(Value::Object(value)) = written else {
        return Err(WriteError::Unknown(Problem::new("SIMULATED_UNKNOWN", "")));
    };
    value_of(value).map_err(|error| WriteError::Unknown(error.problem().clone()))
}

/// The two refusals that mean something to whoever asked.
fn refusal(error: WriteError, creates: bool) -> WriteError {
    match error {
        WriteError::Refused(mut problem) if problem.actual.contains("already been taken") => {
            VALUE_TAKEN.clone_into(&mut problem.code);
            WriteError::Refused(problem)
        }
        WriteError::Refused(mut problem) if creates && problem.field == "lookup" => {
            LOOKUP_MISSING.clone_into(&mut problem.code);
            WriteError::Refused(problem)
        }
        other => other,
    }
}

#[async_trait]
impl CoupaLookups for WorldPorts {
    async fn lookup_values(&self, lookup: &str) -> Result<LookupScan, ReadError> {
        self.read(
            System::Coupa,
            "lookup-values.list",
            &[lookup.to_owned()],
            |world| {
                Ok(LookupScan {
                    values: values_of(world, lookup)?,
                    unreadable: Vec::new(),
                })
            },
        )
    }

    async fn has_lookup(&self, lookup: &str) -> Result<Option<bool>, ReadError> {
        self.read(System::Coupa, "lookups.list", &[lookup.to_owned()], |world| {
            Ok(Some(world.coupa.lookups.contains(lookup)))
        })
    }

    async fn find_lookup_values(
        &self,
        lookup: &str,
        code: &LookupCode,
    ) -> Result<Vec<CoupaValue>, ReadError> {
        let keys = [lookup.to_owned(), code.to_string()];
        self.read(System::Coupa, "lookup-values.list", &keys, |world| {
            let is_it = |value: &CoupaValue| {
                value
                    .code
                    .as_deref()
                    .and_then(|one| one.parse::<LookupCode>().ok())
                    .as_ref()
                    == Some(code)
            };
            Ok(values_of(world, lookup)?.into_iter().filter(is_it).collect())
        })
    }

    async fn create_lookup_value(
        &self,
        lookup: &str,
        action: &Action,
        idempotency_key: &str,
    ) -> Result<CoupaValue, WriteError> {
        let number = action.code().map(LookupCode::as_str).unwrap_or_default();
        let mut body = Map::from_iter([
            ("name".to_owned(), Value::from(action.name.as_str())),
            ("external-ref-num".to_owned(), Value::from(number)),
            ("active".to_owned(), Value::Bool(action.active)),
            ("lookup".to_owned(), json!({"name": lookup})),
        ]);
        if let Some(parent) = &action.parent_ref_code {
            body.insert("parent".to_owned(), json!({"external-ref-code": parent}));
        }
        let keys = [lookup.to_owned(), number.to_owned()];
        let write = Write::CreateLookupValue(body);
        let written = self.write(
            System::Coupa,
            "lookup-values.create",
            &keys,
            idempotency_key,
            write,
        );
        shown(&written.map_err(|error| refusal(error, true))?)
    }

    async fn update_lookup_value(
        &self,
        lookup: &str,
        id: u64,
        action: &Action,
        idempotency_key: &str,
    ) -> Result<CoupaValue, WriteError> {
        let body = Map::from_iter([
            ("name".to_owned(), Value::from(action.name.as_str())),
            ("active".to_owned(), Value::Bool(action.active)),
        ]);
        let keys = [lookup.to_owned(), id.to_string()];
        let write = Write::UpdateLookupValue(id, body);
        let written = self.write(
            System::Coupa,
            "lookup-values.update",
            &keys,
            idempotency_key,
            write,
        );
        shown(&written.map_err(|error| refusal(error, false))?)
    }
}

fn row(value: &CodedValue, parent: &str) -> Result<QadValue, ReadError> {
    Ok(QadValue {
        code: code("code", &value.code)?,
        description: value.description.clone(),
        active: value.active,
        parent: if parent.is_empty() {
            None
        } else {
            Some(code("parent", parent)?)
        },
    })
}

/// The four lists of the simulated tenant, by the names a connection would give them.
#[async_trait]
impl QadSources for WorldPorts {
    async fn source_values(&self, source: &str) -> Result<SourceScan, ReadError> {
        self.read(System::Qad, &format!("browse.{source}"), &[], |world| {
            let flat = |values: &[CodedValue]| values.iter().map(|value| row(value, "")).collect();
            let values: Result<Vec<QadValue>, ReadError> = match source {
                "cost-centers" => flat(&world.qad.cost_centers),
                "projects" => flat(&world.qad.projects),
                "gl-accounts" => flat(&world.qad.gl_accounts),
                "sub-accounts" => {
                    let values = world.qad.sub_accounts.iter();
                    values.map(|(value, parent)| row(value, parent)).collect()
                }
                other => Err(unreadable("source", "one of the four lists", other)),
            };
            Ok(SourceScan {
                values: values?,
                unreadable: Vec::new(),
            })
        })
    }
}
