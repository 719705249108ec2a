//! The document in QAD that a person names as an invoice's: its fields, and what they say.

use crate::Fields;
use crate::acts::Wrong;
use crate::reason::text;
use crate::words::{money, price};
use domain::instruction::Instruction;
use domain::lifecycle::{AdoptionRequest, InvoiceRecord, Voucher};
use domain::money::parse_decimal;
use maud::{Markup, html};
use rust_decimal::Decimal;

/// Longest number and total that are taken, in characters.
const FIELD_CHARACTERS_MAX: usize = 60;

/// Which document, and what may differ.
pub(crate) struct Named {
    voucher: Voucher,
    accepted_total: Option<Decimal>,
}

impl Named {
    /// Reads a form.
    pub(crate) fn of(form: &Fields) -> Result<Self, Wrong> {
        let voucher = text(form, "voucher").parse().map_err(|_| Wrong {
            at: "voucher",
            text: "Write the number as QAD shows it: year/daybook/number, as 2026/SI/100012.".to_owned(),
        })?;
        let total = text(form, "total").trim();
        let accepted_total = match total {
            "" => None,
            total => Some(parse_decimal(total).map_err(|_| Wrong {
                at: "total",
                text: "Write the total in digits with a point, as 1296.00, or leave it out.".to_owned(),
            })?),
        };
        Ok(Self {
            voucher,
            accepted_total,
        })
    }

    pub(crate) fn request(self, instruction: Instruction) -> AdoptionRequest {
        AdoptionRequest {
            voucher: self.voucher,
            accepted_total: self.accepted_total,
            instruction,
        }
    }

    /// What is about to be looked up.
    pub(crate) fn shown(&self, record: &InvoiceRecord) -> Markup {
        html! {
            dl.facts {
                dt { "Document in QAD" } dd { bdi { (self.voucher) } }
                dt { "Its total" } dd { @match (self.accepted_total, &record.summary) {
                    (Some(total), Some(summary)) => { (money(total, summary.currency.as_str())) " is accepted beside the invoice's" },
                    (Some(total), None) => { (price(total)) " is accepted beside the invoice's" },
                    (None, _) => { "must be the invoice's" },
                } }
            }
        }
    }

    pub(crate) fn hidden(&self) -> Markup {
        html! {
            input type="hidden" name="voucher" value=(self.voucher);
            input type="hidden" name="total" value=(self.accepted_total.map(|total| total.to_string()).unwrap_or_default());
        }
    }
}

/// The fields that name it, with what is wrong with what was given.
pub(crate) fn fields(form: &Fields, of_number: Option<&str>, of_total: Option<&str>) -> Markup {
    let field = |name: &str, label: &str, wrong: Option<&str>, required: bool| {
        html! {
            label for=(name) { (label) }
            @if let Some(wrong) = wrong { p.sentence.need id="complaint" { (wrong) } }
            input id=(name) name=(name) value=(text(form, name)) maxlength=(FIELD_CHARACTERS_MAX) autocomplete="off"
                required[required] aria-describedby=[wrong.map(|_| "complaint")];
        }
    };
    html! {
        (field("voucher", "Its number in QAD: year/daybook/number", of_number, true))
        (field("total", "Its total in QAD, only if it differs from the invoice's and is right", of_total, false))
    }
}
