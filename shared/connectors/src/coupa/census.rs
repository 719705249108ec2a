//! Whose the invoices of the last days are: counted for people, by what stands at the fields that say it.

use super::{CoupaClient, PAGE_RECORDS_MAX, not_found, translate, wire};
use crate::http::Call;
use crate::json::Node;
use domain::entities::{Census, FieldValues};
use domain::ids::InvoiceId;
use domain::problem::Problem;
use domain::time::Date;
use flows::ports::ReadError;

/// Coupa's name of an invoice's chart of accounts, where no condition names another field.
const CHART_OF_ACCOUNTS: &str = "account-type.name";
/// Most pages that are counted; what is on others is said to be uncounted.
const PAGES_MAX: usize = 100;

impl CoupaClient {
    /// Counts the approved invoices dated `from` or later, exported or not, that this connection lists.
    pub async fn census(&self, from: Date) -> Result<Census, ReadError> {
        let chart = [CHART_OF_ACCOUNTS.to_owned()];
        let fields = if self.entity_fields.is_empty() {
            &chart[..]
        } else {
            &self.entity_fields
        };
        let listing = wire::Listing {
            filter: &self.filter,
            fields,
        };
        let mut after = InvoiceId(0);
        let mut all: Vec<FieldValues> = Vec::new();
        for _ in 0..PAGES_MAX {
            let url = wire::approved_invoices(&self.base, listing, from, None, after);
            let answer = self.peer.read(&Call::get("count_invoices", url)).await?;
            let json = answer.ok_or_else(|| ReadError::Refused(not_found("invoices")))?;
            let fix = "Check the base URL and the client's scopes: a list of invoices was asked for.";
            let unreadable = |misread: crate::json::Misread| -> Problem {
                misread.problem("COUPA_ANSWER_UNREADABLE", fix)
            };
            let items = Node::root(&json)
                .required_items()
                .map_err(|misread| Self::unreadable(unreadable(misread)))?;
            if items.len() > PAGE_RECORDS_MAX {
                let actual = format!("{} records", items.len());
                return Err(Self::broken_page("at most 50 records", &actual));
            }
            let mut last = after;
            for item in &items {
                let number = item.get("id");
                let id = number.whole().ok().flatten();
                let id = id.ok_or_else(|| Self::unreadable(unreadable(number.misread("an invoice id"))))?;
                last = last.max(InvoiceId(id));
                all.push(translate::entity_fields(item, fields));
            }
            if items.len() < wire::PAGE_RECORDS {
                return Ok(Census::of(&self.entities, &all, true));
            }
            if last <= after {
                return Err(Self::broken_page(
                    &format!("ids above {after}"),
                    &last.to_string(),
                ));
            }
            after = last;
        }
        Ok(Census::of(&self.entities, &all, false))
    }
}
