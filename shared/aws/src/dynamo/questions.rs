//! The index of questions over DynamoDB: lists are partitions, a sheet of tallies is a few items of counters.
//!
//! Rows and tallies are written inside the transaction of the invoice they follow. They are read eventually consistent: a
//! page may lag by a moment, and costs half.

use super::item::{Item, SCHEMA, keyed, number_value, text, text_value};
use super::keys::{ItemKey, Keys};
use super::register::{
    Action, DynamoRegister, Freshness, PartitionQuery, Range, invalid_commit, unbuildable,
};
use crate::clients::failure::{Failure, judge};
use async_trait::async_trait;
use aws_sdk_dynamodb::types::{AttributeValue, Delete, KeysAndAttributes, Put, TransactWriteItem, Update};
use domain::problem::Problem;
use flows::ports::{
    Collection, Index, IndexRow, IndexWrite, ROWS_MAX, RecordGroup, RecordKey, RowsAsked, StoreError,
    StoredRecord, TALLY_PARTS, Tally,
};
use rust_decimal::Decimal;
use std::collections::{BTreeMap, HashMap};

/// Begins the attribute that counts; the tally's name follows.
const COUNT: &str = "n ";
/// Begins the attribute that sums; the tally's name follows.
const SUM: &str = "a ";
/// Most sheets of one answer: with their parts they fit into one `BatchGetItem`.
const SHEETS_MAX: usize = 20;

/// Where an index write goes.
pub(super) fn place(keys: &Keys, write: &IndexWrite) -> Result<ItemKey, Problem> {
    Ok(match write {
        IndexWrite::Put { list, id, .. } | IndexWrite::Remove { list, id } => keys.row(list, id),
        IndexWrite::Count { sheet, part, changes } => {
            if *part >= TALLY_PARTS || changes.is_empty() {
                let expected = format!("a part below {TALLY_PARTS}, and something to add");
                return Err(invalid_commit("index", &expected, format!("{write:?}")));
            }
            keys.tally(sheet, *part)
        }
    })
}

/// The action of an index write. None is signed: the invoice of the same commit is.
pub(super) fn action(table: &str, keys: &Keys, write: &IndexWrite) -> Result<Action, Problem> {
    let place = place(keys, write)?;
    let built = match write {
        IndexWrite::Put { body, .. } => {
            let mut item = keyed(place);
            item.insert("body".to_owned(), text_value(body));
            item.insert("schema".to_owned(), number_value(SCHEMA));
            Put::builder()
                .table_name(table)
                .set_item(Some(item))
                .build()
                .map(|put| TransactWriteItem::builder().put(put).build())
        }
        IndexWrite::Remove { .. } => Delete::builder()
            .table_name(table)
            .set_key(Some(keyed(place)))
            .build()
            .map(|delete| TransactWriteItem::builder().delete(delete).build()),
        IndexWrite::Count { changes, .. } => count(table, place, changes),
    };
    Ok(Action {
        action: built.map_err(|error| unbuildable(error).into_problem())?,
        signed: false,
    })
}

fn count(
    table: &str,
    place: ItemKey,
    changes: &BTreeMap<String, Tally>,
) -> Result<TransactWriteItem, aws_sdk_dynamodb::error::BuildError> {
    let mut names = HashMap::from([("#schema".to_owned(), "schema".to_owned())]);
    let mut values = HashMap::from([(":schema".to_owned(), number_value(SCHEMA))]);
    let mut parts = Vec::new();
    let mut add = |kind: &str, name: &str, value: AttributeValue| {
        let number = parts.len();
        names.insert(format!("#t{number}"), format!("{kind}{name}"));
        values.insert(format!(":t{number}"), value);
        parts.push(format!("#t{number} :t{number}"));
    };
    for (name, tally) in changes {
        add(COUNT, name, number_value(tally.count));
        add(SUM, name, number_value(tally.amount));
    }
    let update = Update::builder()
        .table_name(table)
        .set_key(Some(keyed(place)))
        .update_expression(format!("SET #schema = :schema ADD {}", parts.join(", ")))
        .set_expression_attribute_names(Some(names))
        .set_expression_attribute_values(Some(values))
        .build()?;
    Ok(TransactWriteItem::builder().update(update).build())
}

#[async_trait]
impl Index for DynamoRegister {
    async fn rows(&self, list: &str, asked: &RowsAsked<'_>) -> Result<Vec<IndexRow>, StoreError> {
        let limit = asked.limit.min(ROWS_MAX);
        if limit == 0 {
            return Ok(Vec::new());
        }
        let partition = self.keys.rows(list);
        let request = || async {
            let mut request = self
                .client
                .query()
                .table_name(&self.tables.register)
                .scan_index_forward(!asked.newest_first)
                .limit(i32::try_from(limit).unwrap_or(i32::MAX))
                .expression_attribute_values(":pk", text_value(&partition));
            request = match asked.beyond {
                None => request.key_condition_expression("pk = :pk"),
                Some(id) => {
                    let condition = if asked.newest_first {
                        "pk = :pk AND sk < :sk"
                    } else {
                        "pk = :pk AND sk > :sk"
                    };
                    let end = self.keys.row(list, id).sk;
                    request
                        .key_condition_expression(condition)
                        .expression_attribute_values(":sk", text_value(end))
                }
            };
            let answer = request.send().await;
            answer
                .map(|answer| answer.items.unwrap_or_default())
                .map_err(|error| judge("DYNAMODB", "Query", &error))
        };
        let items = self.tries.repeat(request).await.map_err(StoreError)?;
        items
            .iter()
            .map(row)
            .collect::<Result<_, _>>()
            .map_err(StoreError)
    }

    async fn tallies(&self, sheets: &[&str]) -> Result<Vec<BTreeMap<String, Tally>>, StoreError> {
        if sheets.len() > SHEETS_MAX {
            let problem = Problem::new(
                "REGISTER_READ_TOO_LARGE",
                "This is a fault in the program: report it with this line.",
            );
            return Err(StoreError(
                problem
                    .expected(format!("at most {SHEETS_MAX} sheets"))
                    .actual(sheets.len().to_string()),
            ));
        }
        let mut read = vec![BTreeMap::new(); sheets.len()];
        let places: HashMap<String, usize> = sheets
            .iter()
            .enumerate()
            .flat_map(|(number, sheet)| {
                (0..TALLY_PARTS).map(move |part| (self.keys.tally(sheet, part).pk, number))
            })
            .collect();
        if places.is_empty() {
            return Ok(read);
        }
        let mut open: Vec<Item> = sheets
            .iter()
            .flat_map(|sheet| (0..TALLY_PARTS).map(|part| keyed(self.keys.tally(sheet, part))))
            .collect();
        let mut attempt = 0u32;
        while !open.is_empty() {
            attempt = attempt.saturating_add(1);
            let (items, left) = self
                .tries
                .repeat(|| self.parts(open.clone()))
                .await
                .map_err(StoreError)?;
            for item in &items {
                let sheet = text(item, "pk").map_err(StoreError)?;
                if let Some(sheet) = places.get(sheet).and_then(|number| read.get_mut(*number)) {
                    add_part(sheet, item).map_err(StoreError)?;
                }
            }
            open = left;
            if !open.is_empty() && !self.tries.again(attempt).await {
                let fix = "Nothing to do: ask again. Look at the table's throttles if it lasts.";
                return Err(StoreError(
                    Problem::new("DYNAMODB_THROTTLED", fix).field("BatchGetItem"),
                ));
            }
        }
        Ok(read)
    }

    async fn glance(&self, keys: &[RecordKey]) -> Result<Vec<Option<StoredRecord>>, StoreError> {
        self.read_records(keys, Freshness::Eventual).await
    }

    async fn members(
        &self,
        collection: Collection,
        beyond: Option<&str>,
        limit: usize,
    ) -> Result<Vec<StoredRecord>, StoreError> {
        let limit = limit.min(ROWS_MAX);
        if limit == 0 {
            return Ok(Vec::new());
        }
        self.members_beyond(collection, beyond, limit).await
    }
}

impl DynamoRegister {
    /// Members of a collection beyond an id, at most `limit`.
    async fn members_beyond(
        &self,
        collection: Collection,
        beyond: Option<&str>,
        limit: usize,
    ) -> Result<Vec<StoredRecord>, StoreError> {
        let group = RecordGroup::Collection(collection);
        let range = match beyond {
            None => Range::All,
            Some(id) => {
                let id = id.to_owned();
                Range::After(self.keys.place(&RecordKey::Entry { collection, id }).sk)
            }
        };
        let mut items = self
            .query(PartitionQuery {
                table: &self.tables.register,
                pk: self.keys.group(&group),
                range,
                limit: Some(limit),
            })
            .await?;
        items.truncate(limit);
        self.records(&items)
    }

    async fn parts(&self, keys: Vec<Item>) -> Result<(Vec<Item>, Vec<Item>), Failure> {
        let wanted = KeysAndAttributes::builder()
            .set_keys(Some(keys))
            .build()
            .map_err(unbuildable)?;
        let answer = self
            .client
            .batch_get_item()
            .request_items(&self.tables.register, wanted)
            .send()
            .await
            .map_err(|error| judge("DYNAMODB", "BatchGetItem", &error))?;
        let items = answer
            .responses
            .and_then(|mut tables| tables.remove(&self.tables.register))
            .unwrap_or_default();
        let left = answer
            .unprocessed_keys
            .and_then(|mut tables| tables.remove(&self.tables.register));
        Ok((items, left.map(|left| left.keys).unwrap_or_default()))
    }
}

fn row(item: &Item) -> Result<IndexRow, Problem> {
    let place = text(item, "sk")?;
    Ok(IndexRow {
        id: super::keys::unescape(place).ok_or_else(|| unreadable(place))?,
        // Whoever reads the row says of an empty text that it cannot be read.
        body: text(item, "body").unwrap_or_default().to_owned(),
    })
}

fn add_part(sheet: &mut BTreeMap<String, Tally>, item: &Item) -> Result<(), Problem> {
    for (attribute, value) in item {
        let AttributeValue::N(number) = value else {
            continue;
        };
        let parsed = || {
            number
                .parse::<Decimal>()
                .or_else(|_| Decimal::from_scientific(number))
        };
        if let Some(name) = attribute.strip_prefix(COUNT) {
            let count: i64 = number.parse().map_err(|_| unreadable(attribute))?;
            let tally = sheet.entry(name.to_owned()).or_default();
            tally.count = tally.count.saturating_add(count);
        } else if let Some(name) = attribute.strip_prefix(SUM) {
            let amount = parsed().map_err(|_| unreadable(attribute))?;
            let tally = sheet.entry(name.to_owned()).or_default();
            tally.amount = tally.amount.saturating_add(amount);
        }
    }
    Ok(())
}

fn unreadable(what: &str) -> Problem {
    Problem::new(
        flows::ports::ITEM_UNREADABLE,
        "Do not edit items by hand; restore this one, or deploy the version that wrote it.",
    )
    .field(format!("index of questions / {what}"))
}
