//! What a verified body says: which kind of document, which id. Nothing else of it is used, because an event is a
//! hint: the record is read again before anything is done.

use crate::ports::Subject;
use domain::ids::InvoiceId;
use domain::problem::{Problem, clean};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use std::collections::BTreeMap;
use std::fmt;

/// Deepest nesting of a body.
pub const JSON_DEPTH_MAX: usize = 64;
/// Longest event type kept for the logs, in characters.
const EVENT_TYPE_CHARACTERS_MAX: usize = 60;
/// Most digits of a document id: what fits an unsigned 64-bit number.
const ID_DIGITS_MAX: usize = 20;

/// A kind of document that we act on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum DocumentType {
    Invoice,
    PurchaseOrder,
    Payment,
    Supplier,
}

/// What an event says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// This record deserves a look.
    Look(Subject),
    /// It is about a kind of document we do not act on; carries the event's own word.
    NotActedOn(String),
}

/// Where an event carries its type and its document's id, and which types mean what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventReading {
    pub(crate) type_pointer: Pointer,
    pub(crate) id_pointer: Pointer,
    pub(crate) types: BTreeMap<String, DocumentType>,
}

impl EventReading {
    /// Reads the body.
    pub(crate) fn read(&self, body: &[u8]) -> Result<Event, Problem> {
        if is_deeper_than(body, JSON_DEPTH_MAX) {
            return Err(not_json(format!("nested deeper than {JSON_DEPTH_MAX}")));
        }
        let root: Node = serde_json::from_slice(body).map_err(|error| not_json(reason(&error)))?;
        let word = match self.type_pointer.find(&root)? {
            Node::Text(word) => word,
            other => return Err(self.type_pointer.problem("a text", other.kind())),
        };
        let Some(document) = self.types.get(word.as_str()) else {
            let word = clean(word).chars().take(EVENT_TYPE_CHARACTERS_MAX).collect();
            return Ok(Event::NotActedOn(word));
        };
        let id = self.document_id(&root)?;
        Ok(Event::Look(match document {
            DocumentType::Invoice => Subject::Invoice(InvoiceId(id)),
            DocumentType::PurchaseOrder => Subject::PurchaseOrder(id),
            DocumentType::Payment => Subject::Payment(id),
            DocumentType::Supplier => Subject::Supplier(id),
        }))
    }

    /// Coupa writes ids as numbers in some places and as texts in others (seen), so both are read.
    fn document_id(&self, root: &Node) -> Result<u64, Problem> {
        const EXPECTED: &str = "a whole number above 0, or a text of its digits";
        let id = match self.id_pointer.find(root)? {
            Node::Unsigned(id) => Some(*id),
            Node::Text(text)
                if text.len() <= ID_DIGITS_MAX && text.bytes().all(|byte| byte.is_ascii_digit()) =>
            {
                text.parse().ok()
            }
            Node::Text(text) => return Err(self.id_pointer.problem(EXPECTED, text)),
            other => return Err(self.id_pointer.problem(EXPECTED, other.kind())),
        };
        id.filter(|id| *id > 0)
            .ok_or_else(|| self.id_pointer.problem(EXPECTED, "0 or too large"))
    }
}

fn not_json(actual: impl Into<String>) -> Problem {
    Problem::new(
        "WEBHOOK_BODY_NOT_JSON",
        "Send one JSON document in UTF-8 as the body.",
    )
    .field("body")
    .expected(format!("JSON, at most {JSON_DEPTH_MAX} levels deep"))
    .actual(actual)
}

/// Where the JSON broke, without any of its content.
fn reason(error: &serde_json::Error) -> String {
    let kind = match error.classify() {
        serde_json::error::Category::Eof => "it ends too early",
        _ => "it is not JSON",
    };
    format!("{kind} at line {} column {}", error.line(), error.column())
}

/// Tells whether the text nests deeper than `limit`, without recursion, before a parser sees it. A text that is not
/// JSON gets some answer; the parser refuses it.
fn is_deeper_than(body: &[u8], limit: usize) -> bool {
    let mut depth = 0_usize;
    let mut in_text = false;
    let mut escaped = false;
    for byte in body {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b'{' | b'[' if !in_text => {
                depth = depth.saturating_add(1);
                if depth > limit {
                    return true;
                }
            }
            b'}' | b']' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

/// A JSON pointer (RFC 6901).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Pointer {
    text: String,
    steps: Vec<String>,
}

impl Pointer {
    /// Longest pointer, in bytes.
    const BYTES_MAX: usize = 200;

    /// Reads a pointer to something inside the document; `None` when it is not one.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if text.len() > Self::BYTES_MAX {
            return None;
        }
        let steps = text
            .strip_prefix('/')?
            .split('/')
            .map(unescape)
            .collect::<Option<Vec<_>>>()?;
        Some(Self {
            text: text.to_owned(),
            steps,
        })
    }

    fn problem(&self, expected: &str, actual: &str) -> Problem {
        Problem::new(
            "WEBHOOK_EVENT_NOT_UNDERSTOOD",
            "Check the event's body against the pointers in the connection's webhook settings.",
        )
        .field(self.text.as_str())
        .expected(expected)
        .actual(actual)
    }

    /// Follows the pointer. A key on the way that is there twice could be read one way by the signer and another by
    /// us, so it is refused.
    fn find<'a>(&self, root: &'a Node) -> Result<&'a Node, Problem> {
        let mut node = root;
        for step in &self.steps {
            node = match node {
                Node::Object(entries) => {
                    let mut found = entries.iter().filter(|(key, _)| key == step);
                    match (found.next(), found.next()) {
                        (Some((_, value)), None) => value,
                        (Some(_), Some(_)) => {
                            return Err(self.problem("each key once", "a repeated key"));
                        }
                        (None, _) => return Err(self.problem("a value", "nothing")),
                    }
                }
                Node::List(items) => step
                    .parse::<usize>()
                    .ok()
                    .and_then(|index| items.get(index))
                    .ok_or_else(|| self.problem("a value", "nothing"))?,
                other => return Err(self.problem("an object on the way", other.kind())),
            };
        }
        Ok(node)
    }
}

/// Undoes the pointer's own escapes: `~1` is a slash, `~0` a tilde, any other use of a tilde is an error.
fn unescape(step: &str) -> Option<String> {
    let mut text = String::new();
    let mut letters = step.chars();
    while let Some(letter) = letters.next() {
        text.push(match letter {
            '~' => match letters.next()? {
                '0' => '~',
                '1' => '/',
                _ => return None,
            },
            other => other,
        });
    }
    Some(text)
}

/// JSON with its repeated keys still in it.
#[derive(Debug)]
enum Node {
    Object(Vec<(String, Node)>),
    List(Vec<Node>),
    Text(String),
    Unsigned(u64),
    OtherNumber,
    Bool,
    Null,
}

impl Node {
    fn kind(&self) -> &'static str {
        match self {
            Self::Object(_) => "an object",
            Self::List(_) => "a list",
            Self::Text(_) => "a text",
            Self::Unsigned(_) => "a whole number",
            Self::OtherNumber => "a negative, fractional or too large number",
            Self::Bool => "true or false",
            Self::Null => "null",
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Node::Object(entries))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Node, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        Ok(Node::List(items))
    }

    fn visit_str<E>(self, text: &str) -> Result<Node, E> {
        Ok(Node::Text(text.to_owned()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Node, E> {
        Ok(Node::Unsigned(number))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Node, E> {
        Ok(u64::try_from(number).map_or(Node::OtherNumber, Node::Unsigned))
    }

    // Serde hands a number with a point over as a float, before anybody asked; its value is never looked at.
    fn visit_f64<E>(self, _: f64) -> Result<Node, E> {
        Ok(Node::OtherNumber)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Node, E> {
        Ok(Node::Bool)
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(type_pointer: &str, id_pointer: &str, body: &str) -> Result<Event, Problem> {
        EventReading {
            type_pointer: Pointer::parse(type_pointer).unwrap(),
            id_pointer: Pointer::parse(id_pointer).unwrap(),
            types: BTreeMap::from([("i".to_owned(), DocumentType::Invoice)]),
        }
        .read(body.as_bytes())
    }

    #[test]
    fn pointers_follow_rfc_6901() {
        let body = r#"{"a/b":{"m~n":["x",{"":"i"}]},"~1":"7","01":{"id":7}}"#;
        let seven = Ok(Event::Look(Subject::Invoice(InvoiceId(7))));
        assert_eq!(read("/a~1b/m~0n/1/", "/~01", body), seven);
        assert_eq!(read("/a~1b/m~0n/1/", "/01/id", body), seven);
        assert_eq!(read("/a~1b/m~0n/1/", "/01/no", body).unwrap_err().field, "/01/no");
        for text in ["", "a", "a/b", "/~", "/~2", &"/x".repeat(101)] {
            assert_eq!(Pointer::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn depth_is_counted_outside_of_texts_only() {
        assert!(!is_deeper_than(br#"{"a":"[[[[\"[[[["}"#, 1));
        assert!(is_deeper_than(br#"{"a":"\\",[""#, 1));
        assert!(!is_deeper_than(b"[][][]", 1));
        assert!(!is_deeper_than(b"]]]]", 1));
    }

    #[test]
    fn a_foreign_type_is_kept_short_and_on_one_line() {
        let body = format!(r#"{{"t":"line\n{}"}}"#, "x".repeat(500));
        let Ok(Event::NotActedOn(word)) = read("/t", "/id", &body) else {
            panic!("it is not acted on");
        };
        assert_eq!(word.chars().count(), EVENT_TYPE_CHARACTERS_MAX);
        assert!(!word.contains('\n'));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let reading = EventReading {
                type_pointer: Pointer::parse("/t").unwrap(),
                id_pointer: Pointer::parse("/id").unwrap(),
                types: BTreeMap::new(),
            };
            if let Err(problem) = reading.read(&bytes) {
                prop_assert!(problem.code.starts_with("WEBHOOK_"));
            }
        }

        #[test]
        fn every_id_is_read_as_number_and_as_text(id in 1_u64..) {
            let expected = Ok(Event::Look(Subject::Invoice(InvoiceId(id))));
            prop_assert_eq!(read("/t", "/id", &format!(r#"{{"t":"i","id":{id}}}"#)), expected.clone());
            prop_assert_eq!(read("/t", "/id", &format!(r#"{{"t":"i","id":"{id}"}}"#)), expected);
        }
    }
}
