//! JSON as it came: numbers keep their digits (no float ever), and every value knows its path, so that whatever cannot
//! be read is named exactly.

use domain::money::{DecimalError, parse_decimal, parse_noisy, parse_price};
use domain::problem::Problem;
use domain::time::{Date, Timestamp, date_as_written};
use rust_decimal::Decimal;
use serde::de::{Deserialize, Deserializer, Visitor};
use serde::ser::{Serialize, Serializer};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// Deepest nesting that is read; real documents have less than ten levels.
pub(crate) const DEPTH_MAX: usize = 32;
/// Longest excerpt of a value in an error, in characters.
const EXCERPT_CHARACTERS_MAX: usize = 80;

/// A JSON value whose numbers are still text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Json {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number, digit for digit.
    Number(String),
    /// A string.
    Text(String),
    /// A string with what is no character (half of a surrogate pair, bytes that are no UTF-8), which U+FFFD stands for. It is
    /// shown, never taken for a value and never written back.
    Garbled(String),
    /// A list.
    List(Vec<Json>),
    /// An object.
    Object(BTreeMap<String, Json>),
}

impl Serialize for Json {
    /// Writes a value back as it came, numbers digit for digit.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(flag) => serializer.serialize_bool(*flag),
            Self::Number(digits) => RawValue::from_string(digits.clone())
                .map_err(serde::ser::Error::custom)?
                .serialize(serializer),
            Self::Text(text) => serializer.serialize_str(text),
            Self::Garbled(_) => Err(serde::ser::Error::custom("a text with broken characters")),
            Self::List(items) => serializer.collect_seq(items),
            Self::Object(members) => serializer.collect_map(members),
        }
    }
}

static NULL: Json = Json::Null;

/// Reads one JSON document. The error says where the text stops being JSON; it holds none of its content. A string with what
/// is no character does not make the others unreadable.
pub(crate) fn parse(body: &[u8]) -> Result<Json, String> {
    let text = String::from_utf8_lossy(body);
    let garbled = matches!(text, Cow::Owned(_));
    let raw: &RawValue =
        serde_json::from_str(text.trim_start_matches('\u{feff}')).map_err(|error| position(&error))?;
    grow(raw, DEPTH_MAX, garbled)
}

/// A string that may hold halves of surrogate pairs.
struct Lossy(String);

impl<'de> Deserialize<'de> for Lossy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = Lossy;
            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("a string")
            }
            fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Lossy, E> {
                Ok(Lossy(String::from_utf8_lossy(bytes).into_owned()))
            }
        }
        deserializer.deserialize_bytes(Bytes)
    }
}

/// Reads a string. `garbled` says that U+FFFD may stand for bytes that were none.
fn string(text: &str, garbled: bool) -> Result<Json, serde_json::Error> {
    match serde_json::from_str::<String>(text) {
        Ok(read) if garbled && read.contains(char::REPLACEMENT_CHARACTER) => Ok(Json::Garbled(read)),
        Ok(read) => Ok(Json::Text(read)),
        Err(_) => serde_json::from_str(text).map(|Lossy(read)| Json::Garbled(read)),
    }
}

fn position(error: &serde_json::Error) -> String {
    format!(
        "{:?} at line {} column {}",
        error.classify(),
        error.line(),
        error.column()
    )
}

fn grow(raw: &RawValue, depth: usize, garbled: bool) -> Result<Json, String> {
    let below = depth
        .checked_sub(1)
        .ok_or_else(|| format!("more than {DEPTH_MAX} levels"))?;
    let text = raw.get();
    let read = |error: serde_json::Error| position(&error);
    match text.as_bytes().first() {
        Some(b'{') => {
            let members: BTreeMap<String, &RawValue> = serde_json::from_str(text).map_err(read)?;
            let grown = members
                .into_iter()
                .map(|(key, value)| Ok((key, grow(value, below, garbled)?)))
                .collect::<Result<_, String>>()?;
            Ok(Json::Object(grown))
        }
        Some(b'[') => {
            let items: Vec<&RawValue> = serde_json::from_str(text).map_err(read)?;
            let grown = items
                .into_iter()
                .map(|item| grow(item, below, garbled))
                .collect::<Result<_, String>>()?;
            Ok(Json::List(grown))
        }
        Some(b'"') => string(text, garbled).map_err(read),
        Some(b't') => Ok(Json::Bool(true)),
        Some(b'f') => Ok(Json::Bool(false)),
        Some(b'n') => Ok(Json::Null),
        _ => Ok(Json::Number(text.to_owned())),
    }
}

/// A value that is not what it must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Misread {
    /// JSON path.
    pub(crate) path: String,
    /// What would have been right.
    pub(crate) expected: String,
    /// What came.
    pub(crate) actual: String,
}

impl Misread {
    /// As a problem with its code and its fix.
    pub(crate) fn problem(self, code: impl Into<String>, fix: impl Into<String>) -> Problem {
        Problem::new(code, fix)
            .field(self.path)
            .expected(self.expected)
            .actual(self.actual)
    }
}

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(crate) struct Node<'a> {
    json: &'a Json,
    path: String,
}

impl<'a> Node<'a> {
    /// The whole document.
    pub(crate) fn root(json: &'a Json) -> Self {
        Self {
            json,
            path: String::new(),
        }
    }

    /// A value that stands at `path`.
    pub(crate) fn at(json: &'a Json, path: String) -> Self {
        Self { json, path }
    }

    /// Where the value stands.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// A copy of the value.
    pub(crate) fn to_json(&self) -> Json {
        self.json.clone()
    }

    /// A member by its exact name, or an item by its index.
    pub(crate) fn child(&self, key: &str) -> Node<'a> {
        match self.json {
            Json::List(items) => {
                let item = key.parse::<usize>().ok().and_then(|index| items.get(index));
                Node {
                    json: item.unwrap_or(&NULL),
                    path: format!("{}[{key}]", self.path),
                }
            }
            _ => self.get(key),
        }
    }

    fn member(&self, key: &str) -> Option<&'a Json> {
        let Json::Object(members) = self.json else {
            return None;
        };
        members.get(key).or_else(|| members.get(&key.replace('-', "_")))
    }

    /// The member of that name, also in its spelling with underscores; `null` when it is not there.
    pub(crate) fn get(&self, key: &str) -> Node<'a> {
        let path = if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        };
        Node {
            json: self.member(key).unwrap_or(&NULL),
            path,
        }
    }

    /// The member, which has to be there (it may be `null`).
    pub(crate) fn present(&self, key: &str) -> Result<Node<'a>, Misread> {
        match self.member(key) {
            Some(_) => Ok(self.get(key)),
            None => Err(self.get(key).misread("this field").with_actual("no such field")),
        }
    }

    /// Follows names separated by dots.
    pub(crate) fn walk(&self, dotted: &str) -> Node<'a> {
        dotted.split('.').fold(self.clone(), |node, key| node.get(key))
    }

    /// True for `null` and for what is not there.
    pub(crate) fn is_null(&self) -> bool {
        matches!(self.json, Json::Null)
    }

    /// True for an object.
    pub(crate) fn is_object(&self) -> bool {
        matches!(self.json, Json::Object(_))
    }

    /// The names of an object's members, with their nodes; empty for everything else.
    pub(crate) fn members(&self) -> Vec<(&'a str, Node<'a>)> {
        match self.json {
            Json::Object(members) => members.keys().map(|key| (key.as_str(), self.get(key))).collect(),
            _ => Vec::new(),
        }
    }

    /// This value is not what it must be.
    pub(crate) fn misread(&self, expected: impl Into<String>) -> Misread {
        let excerpt = |text: &str| text.chars().take(EXCERPT_CHARACTERS_MAX).collect::<String>();
        let actual = match self.json {
            Json::Null => "nothing".to_owned(),
            Json::Bool(flag) => flag.to_string(),
            Json::Number(digits) => excerpt(digits),
            Json::Text(text) => format!("{:?}", excerpt(text)),
            Json::Garbled(text) => format!("{:?}, with broken characters", excerpt(text)),
            Json::List(items) => format!("a list of {}", items.len()),
            Json::Object(_) => "an object".to_owned(),
        };
        Misread {
            path: self.path.clone(),
            expected: expected.into(),
            actual,
        }
    }

    /// A text without surrounding blanks; a number counts as its digits; `None` for null and blank.
    pub(crate) fn text(&self) -> Result<Option<String>, Misread> {
        match self.json {
            Json::Null => Ok(None),
            Json::Number(digits) => Ok(Some(digits.clone())),
            Json::Text(text) => Ok(Some(text.trim().to_owned()).filter(|trimmed| !trimmed.is_empty())),
            _ => Err(self.misread("a text")),
        }
    }

    /// A text that nothing but people's eyes depends on: broken characters are shown as such.
    pub(crate) fn shown(&self) -> Result<Option<String>, Misread> {
        match self.json {
            Json::Garbled(text) => Ok(Some(text.trim().to_owned())),
            _ => self.text(),
        }
    }

    /// A text that has to be there.
    pub(crate) fn required_text(&self) -> Result<String, Misread> {
        self.text()?.ok_or_else(|| self.misread("a text"))
    }

    /// A text that parses into `T`, when there is one.
    pub(crate) fn parsed<T>(&self) -> Result<Option<T>, Misread>
    where
        T: std::str::FromStr,
        T::Err: std::fmt::Display,
    {
        let Some(text) = self.text()? else {
            return Ok(None);
        };
        text.parse()
            .map(Some)
            .map_err(|error: T::Err| self.misread(error.to_string()))
    }

    /// A text that parses into `T` and has to be there.
    pub(crate) fn required<T>(&self, expected: &str) -> Result<T, Misread>
    where
        T: std::str::FromStr,
        T::Err: std::fmt::Display,
    {
        self.parsed()?.ok_or_else(|| self.misread(expected))
    }

    /// An exact decimal from a number or a text; `None` for null and blank.
    pub(crate) fn decimal(&self) -> Result<Option<Decimal>, Misread> {
        self.number(parse_decimal)
    }

    /// A price per unit, to the places that [`parse_price`] keeps.
    pub(crate) fn price(&self) -> Result<Option<Decimal>, Misread> {
        self.number(parse_price)
    }

    /// An amount of money. Coupa computes some to 20 places (confirmed): read to those that [`parse_price`] keeps, and rounded to
    /// the currency only where amounts are summed and sent.
    pub(crate) fn amount(&self) -> Result<Option<Decimal>, Misread> {
        self.number(parse_price)
    }

    /// An amount of money that has to be there.
    pub(crate) fn required_amount(&self) -> Result<Decimal, Misread> {
        self.amount()?.ok_or_else(|| self.misread("a decimal"))
    }

    /// A quantity or amount of a system that counts in binary, and whether its noise was rounded away.
    pub(crate) fn noisy(&self) -> Result<Option<(Decimal, bool)>, Misread> {
        let text = self.text()?;
        let parsed = text.map(|text| parse_noisy(&text)).transpose();
        parsed.map_err(|error| self.misread(error.expected))
    }

    fn number(&self, parse: fn(&str) -> Result<Decimal, DecimalError>) -> Result<Option<Decimal>, Misread> {
        let text = self.text()?;
        let parsed = text.map(|text| parse(&text)).transpose();
        parsed.map_err(|error| self.misread(error.expected))
    }

    /// An exact decimal that has to be there.
    pub(crate) fn required_decimal(&self) -> Result<Decimal, Misread> {
        self.decimal()?.ok_or_else(|| self.misread("a decimal"))
    }

    /// A whole number that is not negative, from a number or a text (`1`, `"1"`, `1.0`); `None` for null and blank.
    pub(crate) fn whole(&self) -> Result<Option<u64>, Misread> {
        let refuse = || self.misread("a whole number");
        match self.decimal() {
            Ok(None) => Ok(None),
            Ok(Some(decimal)) if decimal.is_integer() => {
                u64::try_from(decimal).map(Some).map_err(|_| refuse())
            }
            _ => Err(refuse()),
        }
    }

    /// A whole number of at most 32 bits that has to be there.
    pub(crate) fn required_u32(&self) -> Result<u32, Misread> {
        self.whole()?
            .and_then(|number| u32::try_from(number).ok())
            .ok_or_else(|| self.misread("a whole number"))
    }

    /// A truth value, also as a text; `None` for null and blank.
    pub(crate) fn flag(&self) -> Result<Option<bool>, Misread> {
        match self.json {
            Json::Bool(flag) => Ok(Some(*flag)),
            _ => match self.text()?.map(|text| text.to_ascii_lowercase()).as_deref() {
                None => Ok(None),
                Some("true") => Ok(Some(true)),
                Some("false") => Ok(Some(false)),
                Some(_) => Err(self.misread("true or false")),
            },
        }
    }

    /// A calendar date, taken as it is written, that has to be there.
    pub(crate) fn required_date(&self) -> Result<Date, Misread> {
        let refuse = || self.misread("a date (YYYY-MM-DD, with or without a time)");
        let text = self.text()?.ok_or_else(refuse)?;
        date_as_written(&text).ok_or_else(refuse)
    }

    /// An instant with its offset that has to be there.
    pub(crate) fn required_instant(&self) -> Result<Timestamp, Misread> {
        let refuse = || self.misread("a date and time with its offset (ISO 8601)");
        let text = self.text()?.ok_or_else(refuse)?;
        let instant: jiff::Timestamp = text.parse().map_err(|_| refuse())?;
        Ok(Timestamp(instant.as_millisecond()))
    }

    /// The items of a list; none for null.
    pub(crate) fn items(&self) -> Result<Vec<Node<'a>>, Misread> {
        match self.json {
            Json::Null => Ok(Vec::new()),
            Json::List(items) => Ok(items
                .iter()
                .enumerate()
                .map(|(index, json)| Node {
                    json,
                    path: format!("{}[{index}]", self.path),
                })
                .collect()),
            _ => Err(self.misread("a list")),
        }
    }

    /// The items of a list that has to be there.
    pub(crate) fn required_items(&self) -> Result<Vec<Node<'a>>, Misread> {
        if self.is_null() {
            Err(self.misread("a list"))
        } else {
            self.items()
        }
    }
}

impl Misread {
    fn with_actual(mut self, actual: &str) -> Self {
        self.actual = actual.to_owned();
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_keep_every_digit() {
        let json =
            parse(br#"{"a":0.1,"b":"12.50000000000000000000","c":123456789012345.123456789012,"d":1e2}"#)
                .unwrap();
        let root = Node::root(&json);
        assert_eq!(root.get("a").required_decimal().unwrap().to_string(), "0.1");
        assert_eq!(root.get("b").required_decimal().unwrap().to_string(), "12.5");
        assert_eq!(
            root.get("c").required_decimal().unwrap().to_string(),
            "123456789012345.123456789012"
        );
        assert_eq!(root.get("d").whole().unwrap(), Some(100));
    }

    #[test]
    fn a_misread_names_its_path_and_what_came() {
        let json = parse(br#"{"invoice_lines":[{"price":"1,5"}]}"#).unwrap();
        let root = Node::root(&json);
        let lines = root.get("invoice-lines").items().unwrap();
        let misread = lines[0].get("price").required_decimal().unwrap_err();
        assert_eq!(misread.path, "invoice-lines[0].price");
        assert_eq!(misread.actual, "\"1,5\"");
        assert_eq!(root.present("id").unwrap_err().actual, "no such field");
    }

    #[test]
    fn broken_texts_are_errors_and_deep_ones_too() {
        for text in [
            "",
            "{",
            "[1,]",
            "<html>",
            "{\"a\":1}x",
            "nul",
            "\"\u{1}\"",
            "\"\\ud8\"",
        ] {
            assert!(parse(text.as_bytes()).is_err(), "{text:?}");
        }
        assert!(parse(&[0xff, 0xfe]).is_err());
        assert!(parse(&[b'[', 0xff, b']']).is_err());
        let deep = format!("{}{}", "[".repeat(DEPTH_MAX + 1), "]".repeat(DEPTH_MAX + 1));
        assert!(parse(deep.as_bytes()).is_err());
    }

    #[test]
    fn a_broken_character_breaks_its_own_text_alone() {
        let bytes = [
            br#"{"note":"half \ud83d of it","name":"M"#.as_slice(),
            &[0xfc],
            br#"ller","number":"INV-1","plain":"\ud83d\ude00"}"#,
        ]
        .concat();
        let json = parse(&bytes).unwrap();
        let root = Node::root(&json);
        assert_eq!(root.get("number").required_text().unwrap(), "INV-1");
        assert_eq!(root.get("plain").required_text().unwrap(), "\u{1f600}");
        for (key, start) in [("note", "half "), ("name", "M\u{fffd}ller")] {
            let misread = root.get(key).text().unwrap_err();
            assert!(misread.actual.ends_with("with broken characters"), "{misread:?}");
            assert!(root.get(key).shown().unwrap().unwrap().starts_with(start));
        }
        assert!(
            serde_json::to_vec(&json).is_err(),
            "what was not read is not written back"
        );
        // A text that came with the replacement character says just that.
        let replaced = parse("[\"M\u{fffd}ller\"]".as_bytes()).unwrap();
        let items = Node::root(&replaced).items().unwrap();
        assert_eq!(items[0].required_text().unwrap(), "M\u{fffd}ller");
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in "\\PC{0,60}") {
            if let Ok(json) = parse(text.as_bytes()) {
                let node = Node::root(&json);
                let _ = (node.text(), node.decimal(), node.whole(), node.flag(), node.required_date(), node.required_instant());
            }
        }

        #[test]
        fn decimals_survive_json_both_ways(units in -999_999_999_999_999i64..999_999_999_999_999, scale in 0u32..12) {
            let decimal = Decimal::new(units, scale);
            let json = parse(format!("[{decimal},\"{decimal}\"]").as_bytes()).unwrap();
            for item in Node::root(&json).items().unwrap() {
                prop_assert_eq!(item.required_decimal().unwrap(), decimal);
            }
        }
    }
}
