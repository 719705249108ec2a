//! QAD's own lists of codes and periods, and what they say of a connection's settings and of a document.
//!
//! A list says of a code that it may be used, that it may not, or nothing. It says nothing where the tenant does not show it,
//! where it was not read to its end, or where the code's own row cannot be read: what is not known is never taken for absent.

use crate::documents::ChargeKind;
use crate::ids::fold;
use crate::matching::SupplierInvoiceDraft;
use crate::policy::{ChargeAccount, CodedField, MatchPolicy};
use crate::problem::{PERIOD_CLOSED, Problem};
use crate::time::Date;
use std::collections::BTreeMap;

/// A code that QAD's list does not have, or a day in no period of QAD's.
pub const NOT_IN_QAD: &str = "NOT_IN_QAD";
/// A code that QAD has, and that may not be used any more.
pub const INACTIVE_IN_QAD: &str = "INACTIVE_IN_QAD";

/// One of QAD's lists of codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum CodeList {
    /// Daybooks.
    Daybooks,
    /// Status codes of supplier invoices.
    InvoiceStatuses,
    /// Credit terms.
    CreditTerms,
    /// GL accounts.
    GlAccounts,
    /// Cost centers.
    CostCenters,
    /// Projects.
    Projects,
    /// Currencies.
    Currencies,
}

impl CodeList {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Daybooks,
        Self::InvoiceStatuses,
        Self::CreditTerms,
        Self::GlAccounts,
        Self::CostCenters,
        Self::Projects,
        Self::Currencies,
    ];

    /// The list in words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Daybooks => "daybooks",
            Self::InvoiceStatuses => "invoice status codes",
            Self::CreditTerms => "credit terms",
            Self::GlAccounts => "GL accounts",
            Self::CostCenters => "cost centers",
            Self::Projects => "projects",
            Self::Currencies => "currencies",
        }
    }
}

/// What a list, or the list of periods, says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// It may be used.
    Usable,
    /// It is there, and may not be used.
    Closed,
    /// It is not there.
    Absent,
    /// Nothing.
    Nothing,
}

/// A list as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Codes {
    /// The tenant does not show it; why.
    NotShown(String),
    /// What it shows.
    Shown {
        /// Whether a code may be used, by its folded form; `None` where its row does not tell.
        usable: BTreeMap<String, Option<bool>>,
        /// False when a row was there whose code could not be read: it could be any.
        whole: bool,
    },
}

impl Codes {
    /// A list of these rows. QAD answers an unknown browse with an empty list, so no row at all is no list.
    pub fn of<'a>(rows: impl IntoIterator<Item = (&'a str, Option<bool>)>, whole: bool) -> Self {
        let mut usable: BTreeMap<String, Option<bool>> = BTreeMap::new();
        for (code, active) in rows {
            let known = usable.entry(fold(code)).or_insert(active);
            // The same code twice, for two shared sets: one that may be used is enough.
            *known = match (*known, active) {
                (Some(true), _) | (_, Some(true)) => Some(true),
                (Some(false), Some(false)) => Some(false),
                _ => None,
            };
        }
        if usable.is_empty() {
            Self::NotShown(
                "no row that can be read; QAD answers so about a browse that it does not have, too"
                    .to_owned(),
            )
        } else {
            Self::Shown { usable, whole }
        }
    }

    /// What it says of a code.
    pub fn says(&self, code: &str) -> Said {
        let Self::Shown { usable, whole } = self else {
            return Said::Nothing;
        };
        match (usable.get(&fold(code)), whole) {
            (Some(Some(true)), _) => Said::Usable,
            (Some(Some(false)), _) => Said::Closed,
            (Some(None), _) | (None, false) => Said::Nothing,
            (None, true) => Said::Absent,
        }
    }
}

/// One period of an entity, for the purchase ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Period {
    /// First day.
    pub start: Date,
    /// Last day.
    pub end: Date,
    /// Whether supplier invoices are shut out of it.
    pub locked: bool,
}

/// Whether a day is open for the purchase ledger: one open period over it is enough, for a year-end period that is locked may
/// lie over an ordinary one, and QAD posts into the one that is open. `None` without any.
pub fn is_open_on(periods: &[Period], day: Date) -> Option<bool> {
    let mut around = periods
        .iter()
        .filter(|period| (period.start..=period.end).contains(&day))
        .peekable();
    around.peek()?;
    Some(around.any(|period| !period.locked))
}

/// The entity's periods as they were read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Periods {
    /// The tenant does not show them; why.
    NotShown(String),
    /// What it shows.
    Shown {
        /// Those that could be read.
        periods: Vec<Period>,
        /// False when one could not.
        whole: bool,
    },
}

impl Periods {
    /// Periods of these rows; no row at all is no list, as with [`Codes::of`].
    pub fn of(periods: Vec<Period>, whole: bool) -> Self {
        if periods.is_empty() {
            Self::NotShown(
                "no row that can be read; QAD answers so about a browse that it does not have, too"
                    .to_owned(),
            )
        } else {
            Self::Shown { periods, whole }
        }
    }

    /// What they say of a day.
    pub fn says(&self, day: Date) -> Said {
        let Self::Shown { periods, whole } = self else {
            return Said::Nothing;
        };
        match (is_open_on(periods, day), whole) {
            (Some(true), _) => Said::Usable,
            (_, false) => Said::Nothing,
            (Some(false), true) => Said::Closed,
            (None, true) => Said::Absent,
        }
    }
}

/// A code of QAD's that a setting or a document names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// In which list it has to be.
    pub list: CodeList,
    /// The code.
    pub code: String,
    /// Who names it: a setting, or a part of a document.
    pub by: String,
}

impl Named {
    /// A code, and who names it.
    pub fn new(list: CodeList, code: impl Into<String>, by: impl Into<String>) -> Self {
        Self {
            list,
            code: code.into(),
            by: by.into(),
        }
    }
}

/// Everything of QAD's that was read for one entity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MasterData {
    /// The lists of codes; one that is not in here was not read, and says nothing.
    pub codes: BTreeMap<CodeList, Codes>,
    /// The periods.
    pub periods: Periods,
}

impl MasterData {
    /// What the lists say of a code.
    pub fn says(&self, named: &Named) -> Said {
        self.codes
            .get(&named.list)
            .map_or(Said::Nothing, |codes| codes.says(&named.code))
    }

    /// Why a code is refused; `None` when it is not, or nothing is known.
    pub fn refuses(&self, named: &Named) -> Option<Problem> {
        let words = named.list.words();
        let problem = |code: &str, actual: String| {
            Problem::new(
                code,
                format!("Correct what names it, or have {} put right in QAD.", named.code),
            )
            .field(named.by.as_str())
            .expected(format!("a code of QAD's {words} that may be used"))
            .actual(actual)
        };
        match self.says(named) {
            Said::Usable | Said::Nothing => None,
            Said::Absent => Some(problem(
                NOT_IN_QAD,
                format!("{}, which is not among QAD's {words}", named.code),
            )),
            Said::Closed => Some(problem(
                INACTIVE_IN_QAD,
                format!("{}, which is not active among QAD's {words}", named.code),
            )),
        }
    }

    /// Why nothing can be posted on a day; `None` when it can, or nothing is known.
    pub fn refuses_day(&self, day: Date, by: &str) -> Option<Problem> {
        let fix = "Have the period opened in QAD, or have another posting date taken (first_open_day, posting_date).";
        let problem = |code: &str, actual: String| {
            Problem::new(code, fix)
                .field(by)
                .expected("a day in an open period of QAD's")
                .actual(actual)
        };
        match self.periods.says(day) {
            Said::Usable | Said::Nothing => None,
            Said::Absent => Some(problem(NOT_IN_QAD, format!("{day}, which is in no period"))),
            Said::Closed => Some(problem(
                PERIOD_CLOSED,
                format!("{day}, in a period that is locked for supplier invoices"),
            )),
        }
    }

    /// Everything for which QAD would refuse a document, as far as the lists tell.
    pub fn refusals(&self, draft: &SupplierInvoiceDraft) -> Vec<Problem> {
        let codes = of_draft(draft);
        let codes = codes.iter().filter_map(|named| self.refuses(named));
        codes
            .chain(self.refuses_day(draft.posting_date, "posting date"))
            .collect()
    }
}

/// The codes of QAD's that a document names.
pub fn of_draft(draft: &SupplierInvoiceDraft) -> Vec<Named> {
    let mut named = vec![
        Named::new(CodeList::Daybooks, draft.daybook.as_str(), "daybook"),
        Named::new(
            CodeList::Daybooks,
            draft.matching_daybook.as_str(),
            "matching daybook",
        ),
        Named::new(
            CodeList::InvoiceStatuses,
            draft.invoice_status.as_str(),
            "invoice status",
        ),
        Named::new(CodeList::Currencies, draft.currency.as_str(), "currency"),
    ];
    if let Some(terms) = &draft.credit_terms {
        named.push(Named::new(CodeList::CreditTerms, terms.as_str(), "credit terms"));
    }
    for cost in &draft.costs {
        let account = ChargeAccount {
            gl_account: cost.gl_account.clone(),
            sub_account: cost.sub_account.clone(),
            cost_center: cost.cost_center.clone(),
            project: cost.project.clone(),
        };
        of_account(&account, &format!("cost {:?}", cost.description), &mut named);
    }
    named
}

fn of_account(account: &ChargeAccount, by: &str, named: &mut Vec<Named>) {
    let parts = [
        (CodeList::GlAccounts, account.gl_account.as_str(), "gl_account"),
        (CodeList::CostCenters, account.cost_center.as_str(), "cost_center"),
        (CodeList::Projects, account.project.as_str(), "project"),
    ];
    for (list, code, part) in parts.into_iter().filter(|(_, code, _)| !code.trim().is_empty()) {
        named.push(Named::new(list, code.trim(), format!("{by}.{part}")));
    }
}

/// The codes of QAD's that the invoice settings of one entity name, each by its setting.
pub fn of_policy(policy: &MatchPolicy) -> Vec<Named> {
    let mut named = vec![
        Named::new(
            CodeList::Daybooks,
            policy.invoice_daybook.as_str(),
            "invoices.invoice_daybook",
        ),
        Named::new(
            CodeList::Daybooks,
            policy.credit_note_daybook.as_str(),
            "invoices.credit_note_daybook",
        ),
        Named::new(
            CodeList::Daybooks,
            policy.matching_daybook.as_str(),
            "invoices.matching_daybook",
        ),
    ];
    for (status, setting) in [
        (&policy.invoice_status, "invoices.invoice_status"),
        (&policy.gl_status, "invoices.gl_status_code"),
        (&policy.not_payable.locked_status, "invoices.locked_status_code"),
    ] {
        if !status.trim().is_empty() {
            named.push(Named::new(CodeList::InvoiceStatuses, status.trim(), setting));
        }
    }
    for (term, code) in &policy.credit_terms {
        named.push(Named::new(
            CodeList::CreditTerms,
            code.as_str(),
            format!("invoices.credit_terms.{term}"),
        ));
    }
    for (kind, account) in &policy.charge_accounts {
        let kind = match kind {
            ChargeKind::Shipping => "shipping",
            ChargeKind::Handling => "handling",
            ChargeKind::Misc => "misc",
        };
        of_account(account, &format!("invoices.charge_accounts.{kind}"), &mut named);
    }
    for (account, setting) in [
        (&policy.credits.price_account, "credits.price_account"),
        (&policy.credits.other_account, "credits.other_account"),
    ] {
        if let Some(account) = account {
            of_account(account, setting, &mut named);
        }
    }
    if let Some(coding) = &policy.coding {
        of_map(
            CodeList::GlAccounts,
            Some(&coding.gl_account),
            "gl_account",
            &mut named,
        );
        of_map(
            CodeList::CostCenters,
            coding.cost_center.as_ref(),
            "cost_center",
            &mut named,
        );
        of_map(CodeList::Projects, coding.project.as_ref(), "project", &mut named);
    }
    for currency in policy.tolerance.by_currency.keys() {
        named.push(Named::new(
            CodeList::Currencies,
            currency.as_str(),
            format!("invoices.tolerance.by_currency.{currency}"),
        ));
    }
    named
}

fn of_map(list: CodeList, field: Option<&CodedField>, name: &str, named: &mut Vec<Named>) {
    let entries = field.into_iter().flat_map(|field| &field.map);
    for (value, code) in entries.filter(|(_, code)| !code.trim().is_empty()) {
        named.push(Named::new(
            list,
            code.trim(),
            format!("coding.{name}.map.{value}"),
        ));
    }
}

#[cfg(test)]
mod tests;
