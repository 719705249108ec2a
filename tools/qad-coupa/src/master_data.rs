//! The connection's settings, and what a plan would send, against QAD's own lists: checked before it is needed.

use crate::place::Systems;
use aws::clock::SystemClock;
use domain::ids::EntityCode;
use domain::master_data::{CodeList, Codes, MasterData, Named, Periods, Said};
use domain::matching::SupplierInvoiceDraft;
use domain::problem::Problem;
use domain::time::Date;
use flows::ports::Clock;

/// What `doctor` calls the check of a list; `plan` shows the same.
pub(crate) fn code(list: CodeList) -> &'static str {
    match list {
        CodeList::Daybooks => "QAD_DAYBOOKS",
        CodeList::InvoiceStatuses => "QAD_INVOICE_STATUSES",
        CodeList::CreditTerms => "QAD_CREDIT_TERMS",
        CodeList::GlAccounts => "QAD_GL_ACCOUNTS",
        CodeList::CostCenters => "QAD_COST_CENTERS",
        CodeList::Projects => "QAD_PROJECTS",
        CodeList::Currencies => "QAD_CURRENCIES",
    }
}

/// What `doctor` calls the check of the periods.
pub(crate) const PERIODS: &str = "QAD_PERIODS";

/// The setting that names the tenant's browse of a list.
fn browse_of(list: CodeList) -> &'static str {
    match list {
        CodeList::Daybooks => "qad.profile.daybooks",
        CodeList::InvoiceStatuses => "qad.profile.invoice_statuses",
        CodeList::CreditTerms => "qad.profile.credit_terms",
        CodeList::GlAccounts => "lookups.sources.gl-accounts",
        CodeList::CostCenters => "lookups.sources.cost-centers",
        CodeList::Projects => "lookups.sources.projects",
        CodeList::Currencies => "qad.profile.currencies",
    }
}

/// What the check of one list found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// All that is named is there.
    Well(String),
    /// Nothing can be said, of the whole list or of a code; why, and what to do.
    Unchecked(String, String),
    /// QAD would refuse it.
    Refused(Problem),
    /// Nothing is wrong with the settings, and QAD takes nothing today.
    NotToday(Problem),
}

/// One check: its stable code, what it is about, what was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) code: &'static str,
    pub(crate) about: String,
    pub(crate) outcome: Outcome,
}

/// QAD's lists as one entity sees them, with what its settings name of them.
pub(crate) struct Examined {
    entity: EntityCode,
    data: MasterData,
    named: Vec<Named>,
    first_open_day: Option<Date>,
    today: Date,
}

/// Reads the lists of every entity.
pub(crate) async fn examine(systems: &Systems) -> Vec<Examined> {
    let document = &systems.document;
    let mut examined = Vec::new();
    for (index, (entity, named)) in document.named_codes().into_iter().enumerate() {
        let own = systems.entities.get(index);
        let qad = own.map_or(&systems.qad, |own| &own.qad);
        let (policy, zone) = own.map_or((&document.policy, &document.zone), |own| {
            (&own.settings.policy, &own.settings.zone)
        });
        examined.push(Examined {
            entity,
            data: qad.master_data().await,
            named,
            first_open_day: policy.first_open_day,
            today: zone.date_of(SystemClock.now()),
        });
    }
    examined
}

/// What QAD would refuse of a document, as far as its lists tell.
pub(crate) fn refusals(examined: &[Examined], draft: &SupplierInvoiceDraft) -> Vec<Problem> {
    let of_entity = examined.iter().find(|one| one.entity == draft.identity.entity);
    of_entity.map_or_else(Vec::new, |one| one.data.refusals(draft))
}

/// Every check of every list, in the lists' order.
pub(crate) fn findings(examined: &[Examined]) -> Vec<Finding> {
    let several = examined.len() > 1;
    examined
        .iter()
        .flat_map(|one| {
            let suffix = if several {
                format!(" of {}", one.entity)
            } else {
                String::new()
            };
            one.findings(&suffix)
        })
        .collect()
}

impl Examined {
    fn findings(&self, suffix: &str) -> Vec<Finding> {
        let mut found: Vec<Finding> = CodeList::ALL
            .into_iter()
            .flat_map(|list| {
                let about = format!("{}{suffix}", list.words());
                self.of_list(list).into_iter().map(move |outcome| Finding {
                    code: code(list),
                    about: about.clone(),
                    outcome,
                })
            })
            .collect();
        found.push(Finding {
            code: PERIODS,
            about: format!("periods{suffix}"),
            outcome: self.of_periods(),
        });
        found
    }

    fn of_list(&self, list: CodeList) -> Vec<Outcome> {
        let named: Vec<&Named> = self.named.iter().filter(|named| named.list == list).collect();
        let unchecked = |codes: &[&str], why: &str| {
            let by_hand = if codes.is_empty() {
                "What invoices name of it is not checked either.".to_owned()
            } else {
                format!("Look for {} in QAD by hand.", codes.join(", "))
            };
            let fix = format!(
                "{by_hand} To have it checked, name the tenant's browse in {}.",
                browse_of(list)
            );
            Outcome::Unchecked(format!("not checked: {why}"), fix)
        };
        let codes = |wanted: Option<Said>| -> Vec<&str> {
            let mut codes: Vec<&str> = named
                .iter()
                .filter(|named| wanted.is_none_or(|wanted| self.data.says(named) == wanted))
                .map(|named| named.code.as_str())
                .collect();
            codes.sort_unstable();
            codes.dedup();
            codes
        };
        if let Some(Codes::NotShown(why)) = self.data.codes.get(&list) {
            return vec![unchecked(&codes(None), why)];
        }
        let mut outcomes: Vec<Outcome> = named
            .iter()
            .filter_map(|named| self.data.refuses(named))
            .map(Outcome::Refused)
            .collect();
        let unknown = codes(Some(Said::Nothing));
        if !unknown.is_empty() {
            outcomes.push(unchecked(&unknown, "a row of the list cannot be read"));
        }
        if outcomes.is_empty() {
            outcomes.push(Outcome::Well(match codes(None).as_slice() {
                [] => "shown; no setting names one".to_owned(),
                codes => format!("{}: there and active", codes.join(", ")),
            }));
        }
        outcomes
    }

    fn of_periods(&self) -> Outcome {
        if let Periods::NotShown(why) = &self.data.periods {
            let fix = "Posting dates are not checked. To have them checked, name the tenant's browse in qad.profile.periods.";
            return Outcome::Unchecked(format!("not checked: {why}"), fix.to_owned());
        }
        let constant = self
            .first_open_day
            .and_then(|day| self.data.refuses_day(day, "invoices.first_open_day"));
        if let Some(problem) = constant {
            return Outcome::Refused(problem);
        }
        let next = self
            .first_open_day
            .map_or(self.today, |first| first.max(self.today));
        match (
            self.data.refuses_day(next, "posting date"),
            self.data.periods.says(next),
        ) {
            (Some(problem), _) => Outcome::NotToday(problem),
            (None, Said::Usable) => Outcome::Well(format!("{next} is in an open one")),
            (None, _) => Outcome::Unchecked(
                format!("not checked: a period cannot be read, and none that can be holds {next} open"),
                "Correct the record in QAD, or the field names in qad.profile.periods.".to_owned(),
            ),
        }
    }
}
