//! What a verified body says: which kind of document, which id. Nothing else of it is used, because an event is a
//! hint: the record is read again before anything is done.

use crate::ports::Subject;
use domain::ids::InvoiceId;
use domain::problem::{Problem, clean};
use serde::de::{Deserialize, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
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
    /// Reads the body, once: it is checked to its end, and only what the pointers point at is kept.
    pub(crate) fn read(&self, body: &[u8]) -> Result<Event, Problem> {
        if is_deeper_than(body, JSON_DEPTH_MAX) {
            return Err(not_json(format!("nested deeper than {JSON_DEPTH_MAX}")));
        }
        let [kind, id] =
            find([&self.type_pointer, &self.id_pointer], body).map_err(|error| not_json(reason(&error)))?;
        self.understand(kind, id)
    }

    /// What was found at the pointers, as an event.
    fn understand(&self, kind: Found, id: Found) -> Result<Event, Problem> {
        let word = match kind.value(&self.type_pointer)? {
            Value::Text(word) => word,
            other => return Err(self.type_pointer.problem("a text", other.kind())),
        };
        let Some(document) = self.types.get(word.as_str()) else {
            let word = clean(&word).chars().take(EVENT_TYPE_CHARACTERS_MAX).collect();
            return Ok(Event::NotActedOn(word));
        };
        let id = self.document_id(id)?;
        Ok(Event::Look(match document {
            DocumentType::Invoice => Subject::Invoice(InvoiceId(id)),
            DocumentType::PurchaseOrder => Subject::PurchaseOrder(id),
            DocumentType::Payment => Subject::Payment(id),
            DocumentType::Supplier => Subject::Supplier(id),
        }))
    }

    /// Coupa writes ids as numbers in some places and as texts in others (seen), so both are read.
    fn document_id(&self, found: Found) -> Result<u64, Problem> {
        const EXPECTED: &str = "a whole number above 0, or a text of its digits";
        let id = match found.value(&self.id_pointer)? {
            Value::Unsigned(id) => Some(id),
            Value::Text(text)
                if text.len() <= ID_DIGITS_MAX && text.bytes().all(|byte| byte.is_ascii_digit()) =>
            {
                text.parse().ok()
            }
            Value::Text(text) => return Err(self.id_pointer.problem(EXPECTED, &text)),
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

/// What stands where a pointer points.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Value {
    Text(String),
    Unsigned(u64),
    OtherNumber,
    Object,
    List,
    Bool,
    Null,
}

impl Value {
    fn kind(&self) -> &'static str {
        match self {
            Self::Object => "an object",
            Self::List => "a list",
            Self::Text(_) => "a text",
            Self::Unsigned(_) => "a whole number",
            Self::OtherNumber => "a negative, fractional or too large number",
            Self::Bool => "true or false",
            Self::Null => "null",
        }
    }
}

/// How a pointer's way ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
enum Found {
    /// Its next key, or its next item, is not there.
    #[default]
    Nothing,
    /// A key on the way is there twice: it could be read one way by the signer and another by us.
    Repeated,
    /// There is a way left, and something that has no parts.
    NoWay(Value),
    Value(Value),
}

impl Found {
    fn value(self, pointer: &Pointer) -> Result<Value, Problem> {
        match self {
            Self::Value(value) => Ok(value),
            Self::Nothing => Err(pointer.problem("a value", "nothing")),
            Self::Repeated => Err(pointer.problem("each key once", "a repeated key")),
            Self::NoWay(value) => Err(pointer.problem("an object on the way", value.kind())),
        }
    }
}

/// How many pointers are followed through one body.
const POINTERS: usize = 2;

/// Follows the pointers through a body in one pass. Everything is checked as JSON, and nothing is kept but the ends of the
/// ways: a body of 256 KiB costs no memory of its own.
fn find(pointers: [&Pointer; POINTERS], body: &[u8]) -> Result<[Found; POINTERS], serde_json::Error> {
    let mut found = [Found::Nothing, Found::Nothing];
    let walk = Walk {
        ways: pointers.map(|pointer| Some(pointer.steps.as_slice())),
        found: &mut found,
    };
    let mut json = serde_json::Deserializer::from_slice(body);
    walk.deserialize(&mut json)?;
    json.end()?;
    Ok(found)
}

/// One value of the body: what each pointer has still to go from here, or `None` when it leads elsewhere.
struct Walk<'a> {
    ways: [Option<&'a [String]>; POINTERS],
    found: &'a mut [Found; POINTERS],
}

impl Walk<'_> {
    /// Nothing inside this value can be pointed at any more.
    fn ends(self, value: &Value) {
        for (way, found) in self.ways.iter().zip(self.found) {
            match way {
                None => {}
                Some([]) => *found = Found::Value(value.clone()),
                Some(_) => *found = Found::NoWay(value.clone()),
            }
        }
    }

    /// Notes the value for the pointers that end here; those that go on find their part, or nothing.
    fn opens(&mut self, value: &Value) {
        for (way, found) in self.ways.iter_mut().zip(self.found.iter_mut()) {
            if let Some([]) = way {
                *found = Found::Value(value.clone());
                *way = None;
            }
        }
    }
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        if self.ways == [None; POINTERS] {
            return Passed::deserialize(json).map(|Passed| ());
        }
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        self.opens(&Value::Object);
        let mut seen = [false; POINTERS];
        while let Some(fits) = map.next_key_seed(Key(self.ways))? {
            let mut ways = [None; POINTERS];
            for ((fits, seen), (way, (rest, found))) in fits
                .into_iter()
                .zip(&mut seen)
                .zip(ways.iter_mut().zip(self.ways.iter().zip(self.found.iter_mut())))
            {
                match (fits, *seen) {
                    (false, _) => {}
                    (true, false) => *way = rest.and_then(<[String]>::split_first).map(|(_, rest)| rest),
                    (true, true) => *found = Found::Repeated,
                }
                *seen |= fits;
            }
            map.next_value_seed(Walk {
                ways,
                found: self.found,
            })?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<(), A::Error> {
        self.opens(&Value::List);
        let places = self.ways.map(|way| {
            let (step, rest) = way?.split_first()?;
            Some((step.parse::<usize>().ok()?, rest))
        });
        let mut index = 0_usize;
        loop {
            let ways = places.map(|place| place.filter(|(at, _)| *at == index).map(|(_, rest)| rest));
            let walk = Walk {
                ways,
                found: self.found,
            };
            if list.next_element_seed(walk)?.is_none() {
                return Ok(());
            }
            index = index.saturating_add(1);
        }
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        self.ends(&Value::Text(text.to_owned()));
        Ok(())
    }

    fn visit_u64<E>(self, number: u64) -> Result<(), E> {
        self.ends(&Value::Unsigned(number));
        Ok(())
    }

    fn visit_i64<E>(self, number: i64) -> Result<(), E> {
        self.ends(&u64::try_from(number).map_or(Value::OtherNumber, Value::Unsigned));
        Ok(())
    }

    // Serde hands a number with a point over as a float, before anybody asked; its value is never looked at.
    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        self.ends(&Value::OtherNumber);
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        self.ends(&Value::Bool);
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.ends(&Value::Null);
        Ok(())
    }
}

/// A key: for which of the ways it is the next step.
struct Key<'a>([Option<&'a [String]>; POINTERS]);

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = [bool; POINTERS];

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = [bool; POINTERS];

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        Ok(self
            .0
            .map(|way| way.and_then(<[String]>::first).is_some_and(|step| step == key)))
    }
}

/// What nobody points at: read as JSON, because a body that is half broken is refused as a whole (serde's `IgnoredAny` lets
/// broken characters and endless numbers pass), and kept nowhere.
struct Passed;

impl<'de> Deserialize<'de> for Passed {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        json.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for Passed {
    type Value = Self;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self, A::Error> {
        while map.next_entry::<Self, Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self, A::Error> {
        while list.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    // As above: serde's way of saying "a number with a point"; nobody looks at it.
    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
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

    /// The plain way to read the same: the whole document in memory, then each pointer by itself.
    #[derive(Debug)]
    enum Node {
        Object(Vec<(String, Node)>),
        List(Vec<Node>),
        Leaf(Value),
    }

    impl Node {
        fn at(&self, steps: &[String]) -> Found {
            let Some((step, rest)) = steps.split_first() else {
                return Found::Value(match self {
                    Self::Object(_) => Value::Object,
                    Self::List(_) => Value::List,
                    Self::Leaf(leaf) => leaf.clone(),
                });
            };
            match self {
                Self::Object(entries) => {
                    let values: Vec<&Self> = entries
                        .iter()
                        .filter(|(key, _)| key == step)
                        .map(|(_, value)| value)
                        .collect();
                    match values.as_slice() {
                        [] => Found::Nothing,
                        [value] => value.at(rest),
                        _ => Found::Repeated,
                    }
                }
                Self::List(items) => {
                    let item = step.parse::<usize>().ok().and_then(|index| items.get(index));
                    item.map_or(Found::Nothing, |item| item.at(rest))
                }
                Self::Leaf(leaf) => Found::NoWay(leaf.clone()),
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
            Ok(Node::Leaf(Value::Text(text.to_owned())))
        }

        fn visit_u64<E>(self, number: u64) -> Result<Node, E> {
            Ok(Node::Leaf(Value::Unsigned(number)))
        }

        fn visit_i64<E>(self, _: i64) -> Result<Node, E> {
            Ok(Node::Leaf(Value::OtherNumber))
        }

        // As in the reader itself: its value is never looked at.
        fn visit_f64<E>(self, _: f64) -> Result<Node, E> {
            Ok(Node::Leaf(Value::OtherNumber))
        }

        fn visit_bool<E>(self, _: bool) -> Result<Node, E> {
            Ok(Node::Leaf(Value::Bool))
        }

        fn visit_unit<E>(self) -> Result<Node, E> {
            Ok(Node::Leaf(Value::Null))
        }
    }

    /// Documents of few keys, so that keys repeat and pointers hit, with all that JSON can be broken by.
    fn documents() -> impl Strategy<Value = String> {
        let leaf = prop_oneof![
            Just(r#""i""#),
            Just(r#""92010""#),
            Just(r#""\u0069""#),
            Just(r#""half a character \ud800""#),
            Just("7"),
            Just("-7"),
            Just("-0"),
            Just("7.0"),
            Just("1e999"),
            Just("18446744073709551615"),
            Just("18446744073709551616"),
            Just("true"),
            Just("null"),
            Just("nul"),
        ]
        .prop_map(str::to_owned);
        let key = prop_oneof![
            Just("a"),
            Just("b"),
            Just("0"),
            Just("1"),
            Just(r"\u0061"),
            Just("")
        ];
        leaf.prop_recursive(5, 40, 5, move |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4)
                    .prop_map(|items| format!("[{}]", items.join(","))),
                proptest::collection::vec((key.clone(), inner), 0..5).prop_map(|entries| {
                    let entries: Vec<String> = entries
                        .iter()
                        .map(|(key, value)| format!("\"{key}\":{value}"))
                        .collect();
                    format!("{{{}}}", entries.join(","))
                }),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn one_pass_finds_what_the_whole_document_says(
            document in documents(),
            kind in "(/[ab01]){1,4}|/",
            id in "(/[ab01]){1,4}|/\\+1|/a/",
            cut in prop_oneof![9 => Just(usize::MAX), 1 => 0_usize..60],
            rest in prop_oneof![9 => Just(""), 1 => Just(" {}")],
        ) {
            let pointers = [&kind, &id].map(|text| Pointer::parse(text).unwrap());
            let whole = format!("{document}{rest}");
            let text = whole.get(..cut).unwrap_or(&whole);
            let plain = serde_json::from_str::<Node>(text)
                .map(|root| pointers.each_ref().map(|pointer| root.at(&pointer.steps)));
            let found = find(pointers.each_ref(), text.as_bytes());
            prop_assert_eq!(found.map_err(|error| reason(&error)), plain.map_err(|error| reason(&error)), "{}", text);
        }
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
