//! Codes and numbers that cannot be wrong once they exist: private field, one door in, serde through the same door.
//!
//! QAD (a Progress database) compares codes without case and surrounding blanks (confirmed, QAD's own reference), so
//! these types do too: two codes are equal when [`folded`](SupplierCode::folded) forms are. The text is kept as
//! written, because leading zeros and case must go back over the wire as they came.

use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

/// Why a text is not the code it was taken for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} must be {expected}, got {actual:?}")]
pub struct IdError {
    /// The type that refused, in the field's words, for example `purchase order number`.
    pub kind: &'static str,
    /// The rule, in words.
    pub expected: String,
    /// What came, cut to a printable length.
    pub actual: String,
}

/// Longest excerpt of a refused text that an error carries, in characters.
const EXCERPT_CHARACTERS_MAX: usize = 60;

fn refuse(kind: &'static str, expected: String, text: &str) -> IdError {
    IdError {
        kind,
        expected,
        actual: text.chars().take(EXCERPT_CHARACTERS_MAX).collect(),
    }
}

/// Folds a code the way QAD compares: surrounding blanks off, case ignored.
pub fn fold(text: &str) -> String {
    text.trim().to_uppercase()
}

macro_rules! code {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $max:literal) => {
        code! { $(#[$doc])* $name, $kind, $max, fold }
    };
    ($(#[$doc:meta])* $name:ident, $kind:literal, $max:literal, $fold:path) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Longest form, in characters.
            pub const CHARACTERS_MAX: usize = $max;

            /// The code as it was written, without surrounding blanks.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The form in which two codes are compared and keys are built: blanks trimmed, case folded.
            pub fn folded(&self) -> String {
                $fold(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                text.parse()
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                let trimmed = text.trim();
                let length = trimmed.chars().count();
                if length == 0 || length > $max || trimmed.chars().any(char::is_control) {
                    let expected = format!("1 to {} characters without control characters", $max);
                    return Err(refuse($kind, expected, text));
                }
                Ok(Self(trimmed.to_owned()))
            }
        }

        impl From<$name> for String {
            fn from(code: $name) -> String {
                code.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }

        impl PartialEq for $name {
            fn eq(&self, other: &Self) -> bool {
                self.folded() == other.folded()
            }
        }
        impl Eq for $name {}
        impl PartialOrd for $name {
            fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
                Some(self.cmp(other))
            }
        }
        impl Ord for $name {
            fn cmp(&self, other: &Self) -> Ordering {
                self.folded().cmp(&other.folded())
            }
        }
        impl Hash for $name {
            fn hash<H: Hasher>(&self, state: &mut H) {
                self.folded().hash(state);
            }
        }
    };
}

code! {
    /// The supplier's own invoice number: QAD's supplier invoice reference, Coupa's `invoice-number`
    /// (at most 40 characters, confirmed by Coupa's swagger). Two are equal as [`crate::reference`] compares them.
    InvoiceReference, "invoice reference", 40, crate::reference::fold
}
code! {
    /// QAD supplier code (`CreditorCode`, at most 8 characters, confirmed).
    SupplierCode, "supplier code", 8
}
code! {
    /// QAD purchase order number (`po_nbr`); Coupa allows 20 characters, a mapped custom field may be longer.
    PurchaseOrderNumber, "purchase order number", 40
}
code! {
    /// QAD receiver number (`prh_receiver`).
    ReceiverNumber, "receiver number", 40
}
code! {
    /// QAD entity (company), where financial transactions are recorded.
    EntityCode, "entity code", 20
}
code! {
    /// QAD domain, which keys orders and receipts.
    DomainCode, "domain code", 20
}
code! {
    /// Unit of measure, for example `EA`.
    UnitCode, "unit of measure", 16
}
code! {
    /// QAD general ledger account.
    GlAccountCode, "GL account code", 20
}
code! {
    /// QAD credit terms code.
    CreditTermsCode, "credit terms code", 20
}
code! {
    /// QAD daybook code (`JournalCode`, at most 8 characters, confirmed; kept wider for a tenant's own names).
    DaybookCode, "daybook code", 20
}

/// One customer connection (a Coupa instance with a QAD tenant): lower-case letters, digits and hyphens, 1 to 40
/// characters. It begins every key in the register and stands in the webhook's address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ConnectionId(String);

impl ConnectionId {
    /// Longest name, in characters.
    pub const CHARACTERS_MAX: usize = 40;

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ConnectionId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let fits = !text.is_empty()
            && text.len() <= Self::CHARACTERS_MAX
            && text
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
            && !text.starts_with('-');
        if fits {
            Ok(Self(text.to_owned()))
        } else {
            let expected = "1 to 40 of a-z, 0-9 and '-', not starting with '-'".to_owned();
            Err(refuse("connection", expected, text))
        }
    }
}

impl TryFrom<String> for ConnectionId {
    type Error = IdError;
    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}

impl From<ConnectionId> for String {
    fn from(id: ConnectionId) -> String {
        id.0
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Coupa's id of an invoice: what a webhook names and what this product keys its records by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct InvoiceId(pub u64);

impl fmt::Display for InvoiceId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.0)
    }
}

impl FromStr for InvoiceId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        text.trim()
            .parse()
            .map(Self)
            .map_err(|_| refuse("Coupa invoice id", "a whole number".to_owned(), text))
    }
}

/// One of our invoices, of whichever connection of this installation: two Coupa instances number theirs alike.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Holder {
    /// Another connection; `None` for the one that asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<ConnectionId>,
    /// The invoice.
    pub invoice: InvoiceId,
}

impl Holder {
    /// An invoice of the connection that asks.
    pub fn own(invoice: InvoiceId) -> Self {
        Self {
            connection: None,
            invoice,
        }
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.connection {
            Some(connection) => write!(formatter, "{} of connection {connection}", self.invoice),
            None => write!(formatter, "{}", self.invoice),
        }
    }
}

/// One QAD tenant, by its address: what connections to one QAD have in common.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QadTenant(String);

impl QadTenant {
    /// The tenant at a normalised address.
    pub fn at(address: &str) -> Self {
        Self(address.to_owned())
    }

    /// Its address.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// One line of a QAD purchase order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct OrderLineKey {
    /// The order.
    pub order: PurchaseOrderNumber,
    /// Its line number in QAD (`pod_line`).
    pub line: u32,
}

impl fmt::Display for OrderLineKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} line {}", self.order, self.line)
    }
}

/// One line of one goods receipt: (domain, receiver, order, line), the only key QAD's receipts have.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ReceiptKey {
    /// The QAD domain.
    pub domain: DomainCode,
    /// The receiver.
    pub receiver: ReceiverNumber,
    /// The order line that was received.
    pub order_line: OrderLineKey,
}

/// What kind of document an invoice is. It decides the sign of everything in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DocumentKind {
    /// The supplier asks for money.
    Invoice,
    /// The supplier gives money back.
    CreditNote,
}

impl fmt::Display for DocumentKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Invoice => "invoice",
            Self::CreditNote => "credit note",
        })
    }
}

/// What makes a supplier invoice one document in QAD: (entity, supplier, reference, type). QAD only warns about a
/// repeated one and creates it again (confirmed), so this identity is the key of our effect.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct QadInvoiceIdentity {
    /// The entity that records it.
    pub entity: EntityCode,
    /// The supplier.
    pub supplier: SupplierCode,
    /// The supplier's reference.
    pub reference: InvoiceReference,
    /// Invoice or credit note.
    pub kind: DocumentKind,
}

impl fmt::Display for QadInvoiceIdentity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{} {} of supplier {} in entity {}",
            self.kind, self.reference, self.supplier, self.entity
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn codes_keep_their_text_and_compare_as_qad_does() {
        let written: PurchaseOrderNumber = "  po0042 ".parse().unwrap();
        assert_eq!(written.as_str(), "po0042");
        assert_eq!(written, "PO0042".parse().unwrap());
        assert_ne!(written, "PO42".parse().unwrap(), "leading zeros mean something");
    }

    #[test]
    fn a_supplier_code_of_nine_characters_is_refused_with_the_rule() {
        let error = "123456789".parse::<SupplierCode>().unwrap_err();
        assert_eq!(error.kind, "supplier code");
        assert!(error.expected.contains("1 to 8"));
    }

    proptest! {
        #[test]
        fn folding_twice_changes_nothing(text in "\\PC{0,40}") {
            let once = fold(&text);
            prop_assert_eq!(fold(&once), once);
        }

        #[test]
        fn a_code_survives_the_door_it_came_through(text in "[ -~äÄßé]{1,40}") {
            if let Ok(code) = text.parse::<InvoiceReference>() {
                let again: InvoiceReference = serde_json::from_str(&serde_json::to_string(&code).unwrap()).unwrap();
                prop_assert_eq!(again.as_str(), code.as_str());
            }
        }
    }
}
