//! The only place with key texts. A record's key begins with its connection; the parts after it are joined by `#`, which
//! is escaped inside them, so that no two keys share a text.
//!
//! | record | pk | sk |
//! |---|---|---|
//! | invoice | `<connection>#invoice#<shard>` | id, 20 digits |
//! | effect | `<connection>#effect#<identity>` | `-` |
//! | order | `<connection>#order#<number>` | `-` |
//! | waiting | `<connection>#waiting#<number>#<line>` | invoice id, 20 digits |
//! | waiting for an order | `<connection>#waiting-order#<number>` | invoice id, 20 digits |
//! | receipt | `<connection>#receipt#<number>#<line>` | `<domain>#<receiver>` |
//! | watermark | `<connection>#watermark#<name>` | `-` |
//! | shared by the connections of a QAD tenant | `@qad#<tenant>#<name>` | `-` |
//! | member of a collection | `<connection>#<collection>` | its id, escaped |
//! | row of the index of questions | `<connection>#index#<list>` | its place, escaped |
//! | part of a sheet of tallies | `<connection>#tally#<sheet>#<part>` | `-` |
//! | audit entry (own table) | `<connection>#<document>` | sequence, 20 digits |
//!
//! Codes stand folded, as QAD compares them. Invoices lie in [`INVOICE_SHARDS`] partitions: a list of all of them is then
//! a handful of queries in the order of their ids, without an index to pay for on every write and without a scan.

use domain::ids::{
    ConnectionId, DomainCode, InvoiceId, OrderLineKey, PurchaseOrderNumber, QadTenant, ReceiptKey,
    ReceiverNumber,
};
use domain::problem::Problem;
use flows::ports::{Collection, RecordGroup, RecordKey};

/// Partitions the invoices of one connection are spread over. Never changed: it is part of every invoice's key.
pub const INVOICE_SHARDS: u64 = 16;
/// Partitions of the index of what is due, per connection. Never changed.
pub const DUE_SHARDS: u64 = 8;
/// Begins what no connection owns; no connection is called so.
const SHARED: &str = "@qad";
/// The sort key of a record that is alone in its partition.
const ALONE: &str = "-";
const SEPARATOR: char = '#';

/// Where an item lies.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ItemKey {
    /// Partition key.
    pub pk: String,
    /// Sort key.
    pub sk: String,
}

/// The key space of one connection.
#[derive(Debug, Clone)]
pub struct Keys {
    connection: ConnectionId,
}

impl Keys {
    /// The keys of one connection.
    pub fn new(connection: ConnectionId) -> Self {
        Self { connection }
    }

    /// Where a record lies. Total; different keys give different places.
    pub fn place(&self, key: &RecordKey) -> ItemKey {
        let (pk, sk) = match key {
            RecordKey::Invoice(id) => (
                self.invoices(id.0.checked_rem(INVOICE_SHARDS).unwrap_or(0)),
                sortable(id.0),
            ),
            RecordKey::Effect(identity) => (self.join("effect", &[identity]), ALONE.to_owned()),
            RecordKey::Order(number) => (self.join("order", &[&number.folded()]), ALONE.to_owned()),
            RecordKey::Waiting(line, invoice) => (self.of_line("waiting", line), sortable(invoice.0)),
            RecordKey::WaitingForOrder(number, invoice) => (
                self.join("waiting-order", &[&number.folded()]),
                sortable(invoice.0),
            ),
            RecordKey::Receipt(receipt) => {
                let sk = [
                    escape(&receipt.domain.folded()),
                    escape(&receipt.receiver.folded()),
                ]
                .join("#");
                (self.of_line("receipt", &receipt.order_line), sk)
            }
            RecordKey::Watermark(name) => (self.join("watermark", &[name]), ALONE.to_owned()),
            RecordKey::Entry { collection, id } => (self.join(collection.word(), &[]), escape(id)),
            RecordKey::Shared { tenant, name } => (
                format!(
                    "{SHARED}{SEPARATOR}{}{SEPARATOR}{}",
                    escape(tenant.as_str()),
                    escape(name)
                ),
                ALONE.to_owned(),
            ),
        };
        ItemKey { pk, sk }
    }

    /// The partition a group lies in.
    pub fn group(&self, group: &RecordGroup) -> String {
        match group {
            RecordGroup::WaitingFor(line) => self.of_line("waiting", line),
            RecordGroup::WaitingForOrder(number) => self.join("waiting-order", &[&number.folded()]),
            RecordGroup::ReceiptsOf(line) => self.of_line("receipt", line),
            RecordGroup::Collection(collection) => self.join(collection.word(), &[]),
        }
    }

    /// Where a row of the index of questions lies.
    pub fn row(&self, list: &str, id: &str) -> ItemKey {
        ItemKey {
            pk: self.rows(list),
            sk: escape(id),
        }
    }

    /// The partition of a list of the index.
    pub fn rows(&self, list: &str) -> String {
        self.join("index", &[list])
    }

    /// Where a part of a sheet of tallies lies.
    pub fn tally(&self, sheet: &str, part: u8) -> ItemKey {
        ItemKey {
            pk: self.join("tally", &[sheet, &part.to_string()]),
            sk: ALONE.to_owned(),
        }
    }

    /// One partition of the invoices.
    pub fn invoices(&self, shard: u64) -> String {
        format!("{}#invoice#{shard:02}", self.connection)
    }

    /// The partition of the due index in which a record shows up; `None` for a kind of record that is never due.
    pub fn due_of(&self, key: &RecordKey) -> Option<String> {
        let number = match key {
            RecordKey::Invoice(id) => id.0,
            RecordKey::Entry { id, .. } => id.bytes().fold(0, |sum: u64, byte| {
                sum.wrapping_mul(31).wrapping_add(u64::from(byte))
            }),
            _ => return None,
        };
        Some(self.due(number.checked_rem(DUE_SHARDS).unwrap_or(0)))
    }

    /// One partition of the due index.
    pub fn due(&self, shard: u64) -> String {
        format!("{}#{shard}", self.connection)
    }

    /// The partition of a document's audit trail. A connection's name holds no `#`, so the first one divides.
    pub fn audit(&self, document: &str) -> String {
        format!("{}#{document}", self.connection)
    }

    /// Which record lies there.
    ///
    /// # Errors
    /// `REGISTER_KEY_UNREADABLE` for a text that [`Keys::place`] of this connection never makes.
    pub fn record(&self, place: &ItemKey) -> Result<RecordKey, Problem> {
        let key = self.parse(place).ok_or_else(|| unreadable(place))?;
        // What reads back to another place was not written by us.
        if self.place(&key) == *place {
            Ok(key)
        } else {
            Err(unreadable(place))
        }
    }

    fn parse(&self, place: &ItemKey) -> Option<RecordKey> {
        if let Some(rest) = place.pk.strip_prefix(SHARED) {
            let (tenant, name) = rest.strip_prefix(SEPARATOR)?.split_once(SEPARATOR)?;
            return Some(RecordKey::Shared {
                tenant: QadTenant::at(&unescape(tenant)?),
                name: unescape(name)?,
            });
        }
        let rest = place
            .pk
            .strip_prefix(self.connection.as_str())?
            .strip_prefix(SEPARATOR)?;
        let mut parts = rest.split(SEPARATOR);
        let kind = parts.next()?;
        let Some(first) = parts.next() else {
            let collection = Collection::ALL
                .into_iter()
                .find(|collection| collection.word() == kind)?;
            let id = unescape(&place.sk)?;
            return Some(RecordKey::Entry { collection, id });
        };
        let first = unescape(first)?;
        let second = parts.next();
        match (kind, second) {
            ("invoice", None) => Some(RecordKey::Invoice(InvoiceId(place.sk.parse().ok()?))),
            ("effect", None) => Some(RecordKey::Effect(first)),
            ("waiting-order", None) => Some(RecordKey::WaitingForOrder(
                first.parse().ok()?,
                InvoiceId(place.sk.parse().ok()?),
            )),
            ("order", None) => Some(RecordKey::Order(first.parse().ok()?)),
            ("watermark", None) => Some(RecordKey::Watermark(first)),
            ("waiting", Some(line)) => Some(RecordKey::Waiting(
                order_line(&first, line)?,
                InvoiceId(place.sk.parse().ok()?),
            )),
            ("receipt", Some(line)) => {
                let (domain, receiver) = place.sk.split_once(SEPARATOR)?;
                let domain: DomainCode = unescape(domain)?.parse().ok()?;
                let receiver: ReceiverNumber = unescape(receiver)?.parse().ok()?;
                Some(RecordKey::Receipt(ReceiptKey {
                    domain,
                    receiver,
                    order_line: order_line(&first, line)?,
                }))
            }
            _ => None,
        }
    }

    fn of_line(&self, kind: &str, line: &OrderLineKey) -> String {
        self.join(kind, &[&line.order.folded(), &line.line.to_string()])
    }

    fn join(&self, kind: &str, parts: &[&str]) -> String {
        let mut text = format!("{}#{kind}", self.connection);
        for part in parts {
            text.push(SEPARATOR);
            text.push_str(&escape(part));
        }
        text
    }
}

/// A number as text that sorts like the number.
pub fn sortable(number: u64) -> String {
    format!("{number:020}")
}

fn order_line(order: &str, line: &str) -> Option<OrderLineKey> {
    let order: PurchaseOrderNumber = order.parse().ok()?;
    Some(OrderLineKey {
        order,
        line: line.parse().ok()?,
    })
}

fn escape(part: &str) -> String {
    part.replace('%', "%25").replace(SEPARATOR, "%23")
}

pub(super) fn unescape(part: &str) -> Option<String> {
    let mut text = String::with_capacity(part.len());
    let mut rest = part;
    while let Some((before, after)) = rest.split_once('%') {
        text.push_str(before);
        let (letter, remainder) = if let Some(remainder) = after.strip_prefix("25") {
            ('%', remainder)
        } else {
            (SEPARATOR, after.strip_prefix("23")?)
        };
        text.push(letter);
        rest = remainder;
    }
    text.push_str(rest);
    Some(text)
}

fn unreadable(place: &ItemKey) -> Problem {
    Problem::new(
        "REGISTER_KEY_UNREADABLE",
        "Find out who wrote this item; the functions write no such key.",
    )
    .field(format!("{} / {}", place.pk, place.sk))
    .expected("a key of this connection as the functions write it")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn keys() -> Keys {
        Keys::new("acme".parse().unwrap())
    }

    fn line() -> impl Strategy<Value = OrderLineKey> {
        ("[!-~]{1,20}", any::<u32>()).prop_map(|(order, line)| OrderLineKey {
            order: order.parse().unwrap(),
            line,
        })
    }

    fn record() -> impl Strategy<Value = RecordKey> {
        prop_oneof![
            any::<u64>().prop_map(|id| RecordKey::Invoice(InvoiceId(id))),
            "\\PC{0,60}".prop_map(RecordKey::Effect),
            "[#%a-zA-Z0-9 -]{0,30}[a-z]".prop_map(|number| RecordKey::Order(number.parse().unwrap())),
            (line(), any::<u64>()).prop_map(|(line, id)| RecordKey::Waiting(line, InvoiceId(id))),
            (line(), any::<u64>())
                .prop_map(|(line, id)| RecordKey::WaitingForOrder(line.order, InvoiceId(id))),
            ("[!-~]{1,20}", "[!-~äé]{1,20}", line()).prop_map(|(domain, receiver, order_line)| {
                RecordKey::Receipt(ReceiptKey {
                    domain: domain.parse().unwrap(),
                    receiver: receiver.parse().unwrap(),
                    order_line,
                })
            }),
            "[#%a-z-]{0,30}".prop_map(RecordKey::Watermark),
            ("[#%a-z/:.-]{1,30}", "[#%a-z/0-9-]{1,30}").prop_map(|(tenant, name)| RecordKey::Shared {
                tenant: QadTenant::at(&tenant),
                name
            }),
            (0..Collection::ALL.len(), "[#%a-z/0-9-]{1,30}").prop_map(|(which, id)| RecordKey::Entry {
                collection: Collection::ALL[which],
                id
            }),
        ]
    }

    proptest! {
        #[test]
        fn every_key_reads_back(key in record()) {
            prop_assert_eq!(keys().record(&keys().place(&key)).unwrap(), key);
        }

        #[test]
        fn different_keys_lie_in_different_places(one in record(), two in record()) {
            prop_assert_eq!(one == two, keys().place(&one) == keys().place(&two));
        }

        #[test]
        fn no_text_makes_it_panic(pk in "(acme#)?(invoice|waiting|receipt|order)?[#%a-z0-9]{0,20}", sk in "[#%0-9]{0,20}") {
            let _ = keys().record(&ItemKey { pk, sk });
        }
    }

    #[test]
    fn order_numbers_are_found_however_they_are_written() {
        let order = |text: &str| RecordKey::Order(text.parse().unwrap());
        assert_eq!(keys().place(&order("po42")), keys().place(&order(" PO42 ")));
    }

    #[test]
    fn what_is_shared_lies_in_one_place_for_all_connections() {
        let shared = RecordKey::Shared {
            tenant: QadTenant::at("https://qad.example.com"),
            name: "members".to_owned(),
        };
        let other = Keys::new("acme-2".parse().unwrap());
        assert_eq!(keys().place(&shared), other.place(&shared));
    }

    #[test]
    fn a_key_of_another_connection_is_refused() {
        let other = Keys::new("acme-2".parse().unwrap());
        let place = other.place(&RecordKey::Invoice(InvoiceId(7)));
        assert_eq!(keys().record(&place).unwrap_err().code, "REGISTER_KEY_UNREADABLE");
    }

    #[test]
    fn the_stored_texts_do_not_change() {
        let line = OrderLineKey {
            order: "po#1".parse().unwrap(),
            line: 2,
        };
        let receipt = ReceiptKey {
            domain: "10".parse().unwrap(),
            receiver: "r%1".parse().unwrap(),
            order_line: line.clone(),
        };
        for (key, pk, sk) in [
            (
                RecordKey::Invoice(InvoiceId(92_010)),
                "acme#invoice#10",
                "00000000000000092010",
            ),
            (RecordKey::Effect("a#b".to_owned()), "acme#effect#a%23b", "-"),
            (RecordKey::Order("po7".parse().unwrap()), "acme#order#PO7", "-"),
            (
                RecordKey::Waiting(line, InvoiceId(5)),
                "acme#waiting#PO%231#2",
                "00000000000000000005",
            ),
            (RecordKey::Receipt(receipt), "acme#receipt#PO%231#2", "10#R%251"),
            (
                RecordKey::Shared {
                    tenant: QadTenant::at("https://qad.example.com/erp"),
                    name: "order/10USA/PO#7".to_owned(),
                },
                "@qad#https://qad.example.com/erp#order/10USA/PO%237",
                "-",
            ),
            (
                RecordKey::Watermark("poll-coupa".to_owned()),
                "acme#watermark#poll-coupa",
                "-",
            ),
        ] {
            let place = keys().place(&key);
            assert_eq!((place.pk.as_str(), place.sk.as_str()), (pk, sk));
        }
    }
}
