//! The shape of a stored item, asserted on every read.

use super::keys::{ItemKey, Keys};
use aws_sdk_dynamodb::types::AttributeValue;
use aws_smithy_types::Blob;
use domain::problem::Problem;
use domain::time::Timestamp;
use flows::ports::{AuditEntry, DueRecord, RecordKey, StoredRecord};
use miniz_oxide::deflate::compress_to_vec;
use miniz_oxide::inflate::decompress_to_vec_with_limit;
use std::collections::HashMap;
use std::str::FromStr;

/// An item as the SDK has it.
pub(crate) type Item = HashMap<String, AttributeValue>;

/// The shape of an item all of whose texts are texts.
pub(crate) const SCHEMA: u64 = 1;
/// The shape of a record whose body is deflated (RFC 1951, without a header); the newest that this program reads.
const SCHEMA_DEFLATED: u64 = 2;
/// DynamoDB's limit of an item is 400 KB, attribute names included; a body that is larger as it is stored is refused before it
/// is sent.
pub(crate) const BODY_BYTES_MAX: usize = 380 * 1024;
/// Largest body that is stored as it is: a write costs by the kilobyte, so that deflating less saves nothing.
const PLAIN_BYTES_MAX: usize = 1_024;
/// Largest body before it is deflated: far above what an invoice can hold, so that what lies there cannot fill the memory.
const TEXT_BYTES_MAX: usize = 8 * 1024 * 1024;
/// How hard is tried, of 10: what more takes is more than it saves.
const DEFLATE_LEVEL: u8 = 4;

/// A text attribute's value.
pub(crate) fn text_value(text: impl Into<String>) -> AttributeValue {
    AttributeValue::S(text.into())
}

/// A number attribute's value.
pub(crate) fn number_value(number: impl ToString) -> AttributeValue {
    AttributeValue::N(number.to_string())
}

/// Reads a text attribute.
pub(crate) fn text<'a>(item: &'a Item, name: &str) -> Result<&'a str, Problem> {
    match item.get(name) {
        Some(AttributeValue::S(text)) => Ok(text),
        Some(_) => Err(unreadable(item, name, "text", "another type")),
        None => Err(unreadable(item, name, "text", "nothing")),
    }
}

/// Reads a whole number attribute.
pub(crate) fn number<N: FromStr>(item: &Item, name: &str) -> Result<N, Problem> {
    match item.get(name) {
        Some(AttributeValue::N(number)) => number
            .parse()
            .map_err(|_| unreadable(item, name, "a whole number in its range", number)),
        Some(_) => Err(unreadable(item, name, "a number", "another type")),
        None => Err(unreadable(item, name, "a number", "nothing")),
    }
}

/// Where an item says it lies.
pub(crate) fn place(item: &Item) -> Result<ItemKey, Problem> {
    Ok(ItemKey {
        pk: text(item, "pk")?.to_owned(),
        sk: text(item, "sk")?.to_owned(),
    })
}

/// Who wrote an item, if it says so.
pub(crate) fn writer(item: &Item) -> Option<&str> {
    item.get("writer")
        .and_then(|value| value.as_s().ok())
        .map(String::as_str)
}

/// A body that no item can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooLong {
    /// Most bytes.
    pub(crate) most: usize,
    /// Its bytes.
    pub(crate) bytes: usize,
    /// Whether both are of the deflated body.
    pub(crate) deflated: bool,
}

/// A body as it is stored.
pub(crate) struct StoredBody {
    value: AttributeValue,
    schema: u64,
}

impl StoredBody {
    /// Deflates what is long.
    pub(crate) fn of(body: &str) -> Result<Self, TooLong> {
        if body.len() <= PLAIN_BYTES_MAX {
            return Ok(Self {
                value: text_value(body),
                schema: SCHEMA,
            });
        }
        if body.len() > TEXT_BYTES_MAX {
            return Err(TooLong {
                most: TEXT_BYTES_MAX,
                bytes: body.len(),
                deflated: false,
            });
        }
        let deflated = compress_to_vec(body.as_bytes(), DEFLATE_LEVEL);
        if deflated.len() > BODY_BYTES_MAX {
            return Err(TooLong {
                most: BODY_BYTES_MAX,
                bytes: deflated.len(),
                deflated: true,
            });
        }
        Ok(Self {
            value: AttributeValue::B(Blob::new(deflated)),
            schema: SCHEMA_DEFLATED,
        })
    }
}

/// The body of a record, however it is stored.
fn body(item: &Item) -> Result<String, Problem> {
    let Some(AttributeValue::B(deflated)) = item.get("body") else {
        return text(item, "body").map(str::to_owned);
    };
    let bent = |actual: &str| unreadable(item, "body", "a deflated text", actual);
    let bytes = decompress_to_vec_with_limit(deflated.as_ref(), TEXT_BYTES_MAX)
        .map_err(|_| bent("something else, or one that is too long"))?;
    String::from_utf8(bytes).map_err(|_| bent("bytes that are no text"))
}

/// A record to be written.
pub(crate) struct NewRecord<'a> {
    pub(crate) place: ItemKey,
    pub(crate) revision: u64,
    pub(crate) body: StoredBody,
    pub(crate) state: &'a str,
    pub(crate) writer: &'a str,
    pub(crate) due: Option<(String, Timestamp)>,
}

/// The item of a record.
pub(crate) fn from_record(record: NewRecord<'_>) -> Item {
    let mut item = keyed(record.place);
    item.insert("rev".to_owned(), number_value(record.revision));
    item.insert("body".to_owned(), record.body.value);
    item.insert("state".to_owned(), text_value(record.state));
    item.insert("writer".to_owned(), text_value(record.writer));
    item.insert("schema".to_owned(), number_value(record.body.schema));
    if let Some((due_pk, due)) = record.due {
        item.insert("due_pk".to_owned(), text_value(due_pk));
        item.insert("due_at".to_owned(), number_value(due.0));
    }
    item
}

/// The primary key of an item.
pub(crate) fn keyed(place: ItemKey) -> Item {
    HashMap::from([
        ("pk".to_owned(), text_value(place.pk)),
        ("sk".to_owned(), text_value(place.sk)),
    ])
}

/// The record of an item; of one that cannot be taken apart, why not.
pub(crate) fn to_record(item: &Item, key: RecordKey) -> StoredRecord {
    match taken_apart(item) {
        Ok((revision, body)) => StoredRecord {
            key,
            revision,
            body: Ok(body),
        },
        Err(problem) => StoredRecord {
            key,
            revision: 0,
            body: Err(problem),
        },
    }
}

fn taken_apart(item: &Item) -> Result<(u64, String), Problem> {
    check_schema(item)?;
    let revision: u64 = number(item, "rev")?;
    if revision == 0 {
        return Err(unreadable(item, "rev", "1 or more", "0"));
    }
    text(item, "state")?;
    text(item, "writer")?;
    Ok((revision, body(item)?))
}

/// What the due index tells of an item.
pub(crate) fn to_due(item: &Item, keys: &Keys) -> Result<DueRecord, Problem> {
    match keys.record(&place(item)?)? {
        key @ (RecordKey::Invoice(_) | RecordKey::Entry { .. }) => Ok(DueRecord {
            key,
            due: Timestamp(number(item, "due_at")?),
        }),
        _ => Err(unreadable(
            item,
            "pk",
            "an invoice or a member of a collection in the due index",
            "another kind of record",
        )),
    }
}

/// The item of an audit entry.
pub(crate) fn from_audit(entry: &AuditEntry, place: ItemKey, writer: &str) -> Item {
    let mut item = keyed(place);
    item.insert("at".to_owned(), number_value(entry.at.0));
    item.insert("events".to_owned(), text_value(&entry.events));
    item.insert("previous_hash".to_owned(), text_value(&entry.previous_hash));
    item.insert("hash".to_owned(), text_value(&entry.hash));
    item.insert("writer".to_owned(), text_value(writer));
    item.insert("schema".to_owned(), number_value(SCHEMA));
    item
}

/// The audit entry of an item.
pub(crate) fn to_audit(item: &Item, document: &str) -> Result<AuditEntry, Problem> {
    check_schema(item)?;
    let sequence = text(item, "sk")?;
    Ok(AuditEntry {
        document: document.to_owned(),
        sequence: sequence
            .parse()
            .map_err(|_| unreadable(item, "sk", "a sequence number", sequence))?,
        at: Timestamp(number(item, "at")?),
        events: text(item, "events")?.to_owned(),
        previous_hash: text(item, "previous_hash")?.to_owned(),
        hash: text(item, "hash")?.to_owned(),
    })
}

fn check_schema(item: &Item) -> Result<(), Problem> {
    let schema: u64 = number(item, "schema")?;
    if (SCHEMA..=SCHEMA_DEFLATED).contains(&schema) {
        return Ok(());
    }
    Err(unreadable(
        item,
        "schema",
        &format!("{SCHEMA} to {SCHEMA_DEFLATED}; a newer version of the functions wrote this"),
        &schema.to_string(),
    ))
}

fn unreadable(item: &Item, attribute: &str, expected: &str, actual: &str) -> Problem {
    let part = |name: &str| {
        item.get(name)
            .and_then(|value| value.as_s().ok())
            .map_or("?", String::as_str)
    };
    Problem::new(
        flows::ports::ITEM_UNREADABLE,
        "Do not edit items by hand; restore this one, or deploy the version that wrote it.",
    )
    .field(format!("{} / {} / {attribute}", part("pk"), part("sk")))
    .expected(expected)
    .actual(actual)
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::ids::InvoiceId;

    fn item() -> Item {
        with_body("{}")
    }

    fn with_body(body: &str) -> Item {
        from_record(NewRecord {
            place: ItemKey {
                pk: "acme#invoice#07".to_owned(),
                sk: "00000000000000000007".to_owned(),
            },
            revision: 3,
            body: StoredBody::of(body).unwrap(),
            state: "held",
            writer: "t",
            due: Some(("acme#7".to_owned(), Timestamp(5))),
        })
    }

    #[test]
    fn a_record_reads_back() {
        let key = RecordKey::Invoice(InvoiceId(7));
        let record = to_record(&item(), key.clone());
        assert_eq!(
            record,
            StoredRecord {
                key,
                revision: 3,
                body: Ok("{}".to_owned())
            }
        );
        let due = to_due(&item(), &Keys::new("acme".parse().unwrap())).unwrap();
        assert_eq!(
            (due.key, due.due),
            (RecordKey::Invoice(InvoiceId(7)), Timestamp(5))
        );
    }

    #[test]
    fn a_long_body_is_stored_deflated_and_reads_back_as_it_was() {
        let line = r#"{"line":1,"quantity":"12.00","price":"17.25","text":"Stahl, 4 mm — geölt"},"#;
        for body in [line.repeat(20), line.repeat(20_000)] {
            let item = with_body(&body);
            let Some(AttributeValue::B(stored)) = item.get("body") else {
                panic!("{:?}", item.get("body"));
            };
            let bytes = stored.as_ref().len();
            assert!(bytes < body.len() / 2 && bytes < BODY_BYTES_MAX, "{bytes}");
            let key = RecordKey::Invoice(InvoiceId(7));
            assert_eq!(to_record(&item, key.clone()).body.as_ref(), Ok(&body));
            // What an earlier version wrote, however long, stays readable.
            let mut plain = item;
            plain.insert("body".to_owned(), text_value(&body));
            plain.insert("schema".to_owned(), number_value(SCHEMA));
            assert_eq!(to_record(&plain, key).body, Ok(body));
        }
    }

    #[test]
    fn what_would_fill_the_memory_is_neither_stored_nor_read() {
        let too_long = "x".repeat(TEXT_BYTES_MAX + 1);
        assert!(StoredBody::of(&too_long).is_err_and(|error| !error.deflated));
        let mut item = item();
        let bomb = compress_to_vec(too_long.as_bytes(), 4);
        item.insert("body".to_owned(), AttributeValue::B(Blob::new(bomb)));
        let problem = to_record(&item, RecordKey::Invoice(InvoiceId(7)))
            .body
            .unwrap_err();
        assert_eq!(problem.code, "REGISTER_ITEM_UNREADABLE");
    }

    #[test]
    fn every_bent_item_is_refused_with_the_attribute_that_is_wrong() {
        let bytes = |bytes: &[u8]| Some(AttributeValue::B(Blob::new(bytes)));
        let bends: [(&str, Option<AttributeValue>); 9] = [
            ("body", bytes(b"no deflated text")),
            ("body", bytes(&compress_to_vec(&[0xff; 2_000], 4))),
            ("rev", None),
            ("rev", Some(number_value(0))),
            ("rev", Some(number_value("1.5"))),
            ("body", Some(number_value(1))),
            ("schema", Some(number_value(SCHEMA_DEFLATED + 1))),
            ("schema", None),
            ("writer", None),
        ];
        for (name, value) in bends {
            let mut bent = item();
            match value {
                Some(value) => bent.insert(name.to_owned(), value),
                None => bent.remove(name),
            };
            let record = to_record(&bent, RecordKey::Invoice(InvoiceId(7)));
            // A write that names this revision is one of what is not there, and conflicts.
            assert_eq!(record.revision, 0);
            let problem = record.body.unwrap_err();
            assert_eq!(problem.code, "REGISTER_ITEM_UNREADABLE");
            assert!(problem.field.ends_with(name), "{problem}");
        }
    }
}
