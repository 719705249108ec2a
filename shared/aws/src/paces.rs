//! The buckets from which all instances reserve their requests to a host, beside the tokens: one item per host.
//!
//! | attribute | meaning |
//! |---|---|
//! | `pk` | `-pace#<host>`; no connection's name begins with a hyphen |
//! | `full_at` | when the bucket is full again, in microseconds since 1970 |
//! | `rests_until` | there when the host has been silent: from then on one request tries it before there are more; as above |
//!
//! A reservation is one conditional update that adds to what lies there, so that contenders do not make each other repeat
//! themselves; only on a bucket that is full, where something must be set instead, does the second of two try again. Nothing is
//! sent twice: an update whose answer was lost may have reserved, and slots that nobody spends are only time that passes.

use crate::clients::failure::{Failure, judge};
use crate::dynamo::{Item, number, number_value, text_value};
use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use aws_sdk_dynamodb::types::{ReturnValue, ReturnValuesOnConditionCheckFailure};
use domain::problem::Problem;
use flows::pace::{Ask, PaceStore, Reserved};
use flows::ports::StoreError;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Most updates of one reservation: full, no longer full or at rest, and then either reserved or too far.
const UPDATES_MAX: u32 = 4;

/// The buckets in DynamoDB.
pub struct DynamoPaces {
    client: Client,
    table: String,
    /// When each bucket was last seen to be full again, which tells how it will be found.
    seen: Mutex<BTreeMap<String, i64>>,
}

/// What a conditional update came to.
enum Update {
    /// Done; the item is now so.
    Done(Option<Item>),
    /// The condition did not hold; the item is so.
    Not(Option<Item>),
}

impl DynamoPaces {
    /// The buckets in this table. Sends nothing yet.
    pub fn new(client: Client, table: String) -> Self {
        Self {
            client,
            table,
            seen: Mutex::default(),
        }
    }

    fn seen(&self, host: &str) -> i64 {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.get(host).copied().unwrap_or(0)
    }

    fn see(&self, host: &str, full_at: i64) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.insert(host.to_owned(), full_at);
    }

    fn update(&self, host: &str) -> UpdateItemFluentBuilder {
        self.client
            .update_item()
            .table_name(&self.table)
            .key("pk", text_value(format!("-pace#{host}")))
            .return_values(ReturnValue::AllNew)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
    }

    async fn send(&self, request: UpdateItemFluentBuilder) -> Result<Update, StoreError> {
        match request.send().await {
            Ok(answer) => Ok(Update::Done(answer.attributes)),
            Err(error) => match error.as_service_error() {
                Some(UpdateItemError::ConditionalCheckFailedException(failed)) => {
                    Ok(Update::Not(failed.item().cloned()))
                }
                _ => Err(match judge("DYNAMODB", "UpdateItem", &error) {
                    Failure::Refused(problem) | Failure::Throttled(problem) | Failure::Unknown(problem) => {
                        StoreError(problem)
                    }
                }),
            },
        }
    }
}

/// When the bucket is full again; one that was never written to is full.
fn full_at(item: Option<&Item>) -> Result<i64, StoreError> {
    item.map_or(Ok(0), |item| number(item, "full_at"))
        .map_err(StoreError)
}

/// Until when a silent host rests; `None` for one that is not.
fn rests_until(item: Option<&Item>) -> Result<Option<i64>, StoreError> {
    item.filter(|item| item.contains_key("rests_until"))
        .map(|item| number(item, "rests_until"))
        .transpose()
        .map_err(StoreError)
}

#[async_trait]
impl PaceStore for DynamoPaces {
    async fn reserve(&self, host: &str, ask: &Ask) -> Result<Reserved, StoreError> {
        let mut seen = self.seen(host);
        let mut rests = false;
        for _ in 0..UPDATES_MAX {
            let is_full = seen <= ask.now_micros;
            let request = if rests {
                self.update(host)
                    .update_expression("SET rests_until = :next")
                    .condition_expression("rests_until <= :now")
                    .expression_attribute_values(
                        ":next",
                        number_value(ask.now_micros.saturating_add(ask.trial_micros)),
                    )
            } else if is_full {
                self.update(host)
                    .update_expression("SET full_at = :next")
                    .condition_expression(
                        "attribute_not_exists(rests_until) AND (attribute_not_exists(full_at) OR full_at <= :now)",
                    )
                    .expression_attribute_values(
                        ":next",
                        number_value(ask.now_micros.saturating_add(ask.cost_micros)),
                    )
            } else {
                self.update(host)
                    .update_expression("SET full_at = full_at + :cost")
                    .condition_expression(
                        "attribute_not_exists(rests_until) AND full_at > :now AND full_at <= :latest",
                    )
                    .expression_attribute_values(":cost", number_value(ask.cost_micros))
                    .expression_attribute_values(":latest", number_value(ask.latest_micros))
            };
            let request = request.expression_attribute_values(":now", number_value(ask.now_micros));
            match self.send(request).await? {
                Update::Done(_) if rests => return Ok(Reserved::Trial),
                Update::Done(item) => {
                    let full_at = full_at(item.as_ref())?;
                    self.see(host, full_at);
                    return Ok(Reserved::From(full_at.saturating_sub(ask.cost_micros)));
                }
                Update::Not(item) => {
                    seen = full_at(item.as_ref())?;
                    self.see(host, seen);
                    let until = rests_until(item.as_ref())?;
                    if let Some(until) = until.filter(|until| *until > ask.now_micros) {
                        return Ok(Reserved::TooFar(until));
                    }
                    rests = until.is_some();
                }
            }
            if seen.max(ask.now_micros) > ask.latest_micros {
                return Ok(Reserved::TooFar(seen));
            }
        }
        Err(StoreError(
            Problem::new(
                "DYNAMODB_CONTENDED",
                "Nothing to do: the own share is kept for a while.",
            )
            .field(host),
        ))
    }

    async fn hold(&self, host: &str, full_at_micros: i64) -> Result<(), StoreError> {
        let request = self
            .update(host)
            .update_expression("SET full_at = :until")
            .condition_expression("attribute_not_exists(full_at) OR full_at < :until")
            .expression_attribute_values(":until", number_value(full_at_micros));
        // The condition fails for a longer pause, which stays.
        let (Update::Done(item) | Update::Not(item)) = self.send(request).await?;
        self.see(host, full_at(item.as_ref())?);
        Ok(())
    }

    async fn rest(&self, host: &str, until_micros: i64) -> Result<(), StoreError> {
        let request = self
            .update(host)
            .update_expression("SET rests_until = :until")
            .expression_attribute_values(":until", number_value(until_micros));
        self.send(request).await.map(|_| ())
    }

    async fn healed(&self, host: &str) -> Result<(), StoreError> {
        let request = self
            .update(host)
            .update_expression("REMOVE rests_until")
            .condition_expression("attribute_exists(rests_until)");
        // Where it was not at rest there is nothing to take away.
        self.send(request).await.map(|_| ())
    }
}
