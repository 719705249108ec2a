//! The order in Coupa that stands behind an invoice line: context of a decision, never a ground to post.
//!
//! QAD's order and QAD's receipts say what can be matched, whatever Coupa says. Coupa's order can only be in the way: a
//! cancelled one is a reason for a person to look, one that is not issued a reason to wait. One that is closed is told, and
//! in the way only where the connection wants it so: Coupa closes orders by itself once they are billed in full. That Coupa asks no
//! receipt for a line (two-way) is told and changes nothing: nothing is posted ahead of its receipt.

use serde::{Deserialize, Serialize};

/// The order line in Coupa that an invoice line bills, in Coupa's own terms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CoupaOrderReference {
    /// Coupa's number of the order, as written on the invoice line.
    pub order: String,
    /// Coupa's id of the order line, when the invoice line names it.
    pub line_id: Option<u64>,
    /// Number of the order line as text, when the invoice line names it.
    pub line: Option<String>,
}

/// Where an order, or a line of one, stands in Coupa. Of an order and its line the later in this list counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CoupaOrderStanding {
    /// Coupa does not say.
    NotTold,
    /// Issued: goods are received and billed on it.
    Open,
    /// Closed for now; it can be opened again.
    SoftClosed,
    /// Closed.
    Closed,
    /// Not issued, or taken back for a change or a check.
    NotIssued,
    /// A word that the connection does not know; never taken for open.
    Unknown,
    /// Cancelled.
    Cancelled,
}

/// A status with Coupa's own word for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CoupaOrderStatus {
    /// What it means.
    pub standing: CoupaOrderStanding,
    /// Coupa's word; empty when it does not say.
    pub word: String,
}

impl CoupaOrderStatus {
    /// A status that Coupa does not tell.
    pub fn not_told() -> Self {
        Self {
            standing: CoupaOrderStanding::NotTold,
            word: String::new(),
        }
    }
}

/// A line of a purchase order in Coupa.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CoupaOrderLine {
    /// Coupa's id.
    pub id: Option<u64>,
    /// Its number, as text.
    pub number: Option<String>,
    /// Where it stands. A line's own word counts only where it means closed, cancelled or not issued: how far it is
    /// received or billed QAD knows better.
    pub status: CoupaOrderStatus,
    /// Whether Coupa wants a receipt before it pays (three-way); `None` when it does not say.
    pub receipt_required: Option<bool>,
    /// How much of it Coupa has received; `None` when it does not say.
    pub received: Option<rust_decimal::Decimal>,
}

/// A purchase order, read from Coupa.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CoupaOrder {
    /// Coupa's number of it.
    pub number: String,
    /// Where it stands.
    pub status: CoupaOrderStatus,
    /// Its lines.
    pub lines: Vec<CoupaOrderLine>,
}

impl CoupaOrder {
    /// The line that a reference means: by Coupa's id, else by its number.
    pub fn line(&self, reference: &CoupaOrderReference) -> Option<&CoupaOrderLine> {
        let by_id = reference
            .line_id
            .and_then(|id| self.lines.iter().find(|line| line.id == Some(id)));
        by_id.or_else(|| {
            let number = reference.line.as_deref()?.trim();
            self.lines
                .iter()
                .find(|line| line.number.as_deref().map(str::trim) == Some(number))
        })
    }

    /// What it says about the line of a reference.
    pub fn facts(&self, reference: &CoupaOrderReference) -> CoupaOrderFacts {
        let line = self.line(reference);
        let status = match line {
            Some(line) if line.status.standing > self.status.standing => &line.status,
            _ => &self.status,
        };
        CoupaOrderFacts {
            order: self.number.clone(),
            standing: status.standing,
            word: crate::problem::clean(&status.word),
            receipt_required: line.and_then(|line| line.receipt_required),
        }
    }
}

/// What Coupa's order said about one invoice line when it was decided: part of the report, and of the audit trail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CoupaOrderFacts {
    /// Coupa's number of the order.
    pub order: String,
    /// Where it stands, order and line together.
    pub standing: CoupaOrderStanding,
    /// Coupa's word for that; empty when it does not say.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub word: String,
    /// Whether Coupa wants a receipt for the line; `None` when it does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt_required: Option<bool>,
}

/// What an order's standing in Coupa does to an invoice that matches in QAD.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnCoupaOrder {
    /// A person looks.
    Park,
    /// QAD's order and receipts decide alone; the report tells Coupa's word all the same.
    LetQadDecide,
}

/// How a connection wants Coupa's orders to count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CoupaOrderPolicy {
    /// Whether they are read at all.
    pub read: bool,
    /// An order, or its line, that is cancelled.
    pub cancelled: OnCoupaOrder,
    /// One that is closed.
    pub closed: OnCoupaOrder,
    /// One that is closed and can be opened again.
    pub soft_closed: OnCoupaOrder,
}

impl Default for CoupaOrderPolicy {
    fn default() -> Self {
        Self {
            read: true,
            cancelled: OnCoupaOrder::Park,
            // Coupa closes an order by itself once it is billed in full, which may be by the very invoice at hand.
            closed: OnCoupaOrder::LetQadDecide,
            soft_closed: OnCoupaOrder::LetQadDecide,
        }
    }
}
