//! The section `suppliers`: whether and how suppliers are kept aligned between QAD and Coupa.

use super::lookups::check_percent;
use super::{invalid, require};
use crate::qad::profile::Constant;
use domain::ids::{CreditTermsCode, SupplierCode, fold};
use domain::plans::ChangeShare;
use domain::problem::Problem;
use domain::suppliers::{Master, Numbering, SupplierField, SupplierFilter, SupplierPolicy, TaxIdFillers};
use serde::Deserialize;
use std::collections::BTreeMap;

/// Coupa's words for how an invoice of a supplier is matched (confirmed).
const MATCHING_LEVELS: [&str; 4] = ["2-way", "3-way", "3-way-direct", "none"];
/// Most fillers of tax ids.
const FILLERS_MAX: usize = 100;

/// How suppliers are kept aligned.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SupplierSettings {
    /// Whether they are at all.
    pub enabled: bool,
    /// What the decisions depend on.
    pub policy: SupplierPolicy,
    /// QAD's shared set of suppliers.
    pub shared_set: String,
    /// What a new supplier in Coupa gets that QAD does not tell.
    pub coupa_defaults: CoupaSupplierDefaults,
    /// What a new supplier in QAD gets that Coupa does not tell.
    pub qad_defaults: QadSupplierDefaults,
}

/// What Coupa demands of a new supplier and QAD may not tell.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CoupaSupplierDefaults {
    /// Coupa's payment method.
    pub payment_method: String,
    /// Coupa's invoice matching level: `2-way`, `3-way`, `3-way-direct` or `none`; blank leaves it to Coupa.
    pub matching_level: String,
    /// Names of Coupa's content groups that may use it; none leaves it to Coupa.
    pub content_groups: Vec<String>,
    /// E-mail of the contact; a supplier without one in QAD is parked while this is blank.
    pub contact_email: String,
    /// Given name of the contact; blank sends none.
    pub contact_given_name: String,
    /// Family name of the contact; blank sends none.
    pub contact_family_name: String,
    /// Street, for suppliers without an address in QAD.
    pub street: String,
    /// City, see [`CoupaSupplierDefaults::street`].
    pub city: String,
    /// Postal code, see [`CoupaSupplierDefaults::street`].
    pub postal_code: String,
    /// State, see [`CoupaSupplierDefaults::street`].
    pub state: String,
    /// Country, for suppliers without one in QAD.
    pub country: String,
}

impl Default for CoupaSupplierDefaults {
    fn default() -> Self {
        Self {
            payment_method: "invoice".to_owned(),
            matching_level: String::new(),
            content_groups: Vec::new(),
            contact_email: String::new(),
            contact_given_name: String::new(),
            contact_family_name: String::new(),
            street: String::new(),
            city: String::new(),
            postal_code: String::new(),
            state: String::new(),
            country: String::new(),
        }
    }
}

/// What QAD demands of a new supplier and Coupa does not tell.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct QadSupplierDefaults {
    /// Currency.
    pub currency: String,
    /// Credit terms, for suppliers without payment terms in Coupa.
    pub credit_terms: String,
    /// Invoice status code.
    pub invoice_status: String,
    /// Control GL profile of invoices.
    pub invoice_control_profile: String,
    /// Control GL profile of credit notes.
    pub credit_note_control_profile: String,
    /// Control GL profile of prepayments.
    pub prepayment_control_profile: String,
    /// GL profile of the purchase account.
    pub purchase_account_profile: String,
    /// Constant fields of every supplier that is created.
    pub constants: BTreeMap<String, Constant>,
}

impl Default for QadSupplierDefaults {
    fn default() -> Self {
        Self {
            currency: String::new(),
            credit_terms: String::new(),
            invoice_status: "AP-RMALLOC".to_owned(),
            invoice_control_profile: String::new(),
            credit_note_control_profile: String::new(),
            prepayment_control_profile: String::new(),
            purchase_account_profile: String::new(),
            constants: BTreeMap::new(),
        }
    }
}

/// The section as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct SupplierDocument {
    enabled: bool,
    shared_set: String,
    create_in_coupa: bool,
    create_in_qad: bool,
    masters: BTreeMap<SupplierField, Master>,
    numbering: NumberingDocument,
    payment_terms: BTreeMap<String, CreditTermsCode>,
    /// Instead of the built-in ones.
    tax_id_fillers: Option<Vec<String>>,
    change_share: ShareDocument,
    filter: FilterDocument,
    coupa_defaults: CoupaSupplierDefaults,
    qad_defaults: QadSupplierDefaults,
}

impl Default for SupplierDocument {
    fn default() -> Self {
        let standard = SupplierPolicy::default();
        Self {
            enabled: false,
            shared_set: String::new(),
            create_in_coupa: standard.create_in_coupa,
            create_in_qad: standard.create_in_qad,
            masters: BTreeMap::new(),
            numbering: NumberingDocument::default(),
            payment_terms: BTreeMap::new(),
            tax_id_fillers: None,
            change_share: ShareDocument::default(),
            filter: FilterDocument::default(),
            coupa_defaults: CoupaSupplierDefaults::default(),
            qad_defaults: QadSupplierDefaults::default(),
        }
    }
}

/// The section `suppliers.filter`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct FilterDocument {
    active: bool,
    types: Vec<String>,
    sites: Vec<String>,
}

impl FilterDocument {
    fn settings(&self, problems: &mut Vec<Problem>) -> SupplierFilter {
        let mut folded = |name: &str, words: &[String]| {
            if words.iter().any(|word| word.trim().is_empty()) {
                problems.push(invalid(
                    &format!("suppliers.filter.{name}"),
                    "codes",
                    "a blank one",
                ));
            }
            words.iter().map(|word| fold(word)).collect()
        };
        SupplierFilter {
            active: self.active,
            types: folded("types", &self.types),
            sites: folded("sites", &self.sites),
        }
    }
}

/// The setting `suppliers.change_share`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ShareDocument {
    percent: u32,
    at_least: u32,
}

impl Default for ShareDocument {
    fn default() -> Self {
        let standard = ChangeShare::default();
        Self {
            percent: standard.change_percent_max,
            at_least: standard.change_count_min,
        }
    }
}

/// The section `suppliers.numbering`: all of it has a default.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct NumberingDocument {
    by: NumberedBy,
    prefix: String,
    digits: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum NumberedBy {
    CoupaId,
    Counter,
}

impl Default for NumberingDocument {
    fn default() -> Self {
        Self {
            by: NumberedBy::CoupaId,
            prefix: "C".to_owned(),
            digits: 5,
        }
    }
}

impl NumberingDocument {
    fn rule(&self) -> Numbering {
        let prefix = self.prefix.clone();
        match self.by {
            NumberedBy::CoupaId => Numbering::CoupaId { prefix },
            NumberedBy::Counter => Numbering::Counter {
                prefix,
                digits: self.digits,
            },
        }
    }
}

impl SupplierDocument {
    /// The settings. The masters are laid over the standard ones; without a map of its own the credit terms of invoices
    /// serve for suppliers too.
    pub(super) fn settings(
        self,
        invoice_terms: &BTreeMap<String, CreditTermsCode>,
        problems: &mut Vec<Problem>,
    ) -> SupplierSettings {
        let numbering = self.numbering.rule();
        check_numbering(&numbering, problems);
        if self.enabled {
            self.check(problems);
        }
        check_percent(
            "suppliers.change_share.percent",
            self.change_share.percent,
            problems,
        );
        let fillers = self.tax_id_fillers.as_deref();
        if let Some(fillers) = fillers.filter(|fillers| fillers.len() > FILLERS_MAX) {
            problems.push(invalid(
                "suppliers.tax_id_fillers",
                format!("at most {FILLERS_MAX}"),
                fillers.len().to_string(),
            ));
        }
        let mut policy = SupplierPolicy {
            payment_terms: if self.payment_terms.is_empty() {
                invoice_terms.clone()
            } else {
                self.payment_terms
            },
            create_in_coupa: self.create_in_coupa,
            create_in_qad: self.create_in_qad,
            numbering,
            tax_id_fillers: fillers.map_or_else(TaxIdFillers::default, TaxIdFillers::new),
            filter: self.filter.settings(problems),
            change_share: ChangeShare {
                change_percent_max: self.change_share.percent,
                change_count_min: self.change_share.at_least,
            },
            ..SupplierPolicy::default()
        };
        policy.masters.extend(self.masters);
        SupplierSettings {
            enabled: self.enabled,
            policy,
            shared_set: self.shared_set.trim().to_owned(),
            coupa_defaults: self.coupa_defaults,
            qad_defaults: self.qad_defaults,
        }
    }

    fn check(&self, problems: &mut Vec<Problem>) {
        require("suppliers.shared_set", &self.shared_set, problems);
        if self.shared_set.contains(',') {
            problems.push(invalid(
                "suppliers.shared_set",
                "a code without commas",
                self.shared_set.as_str(),
            ));
        }
        require(
            "suppliers.coupa_defaults.payment_method",
            &self.coupa_defaults.payment_method,
            problems,
        );
        let level = self.coupa_defaults.matching_level.as_str();
        if !level.is_empty() && !MATCHING_LEVELS.contains(&level) {
            problems.push(invalid(
                "suppliers.coupa_defaults.matching_level",
                format!("one of {}", MATCHING_LEVELS.join(", ")),
                level,
            ));
        }
        let groups = &self.coupa_defaults.content_groups;
        if groups.iter().any(|group| group.trim().is_empty()) {
            problems.push(invalid(
                "suppliers.coupa_defaults.content_groups",
                "names",
                "a blank one",
            ));
        }
        if !self.create_in_qad {
            return;
        }
        let defaults = &self.qad_defaults;
        for (name, value) in [
            ("currency", &defaults.currency),
            ("credit_terms", &defaults.credit_terms),
            ("invoice_status", &defaults.invoice_status),
            ("invoice_control_profile", &defaults.invoice_control_profile),
            (
                "credit_note_control_profile",
                &defaults.credit_note_control_profile,
            ),
            ("prepayment_control_profile", &defaults.prepayment_control_profile),
            ("purchase_account_profile", &defaults.purchase_account_profile),
        ] {
            require(&format!("suppliers.qad_defaults.{name}"), value, problems);
        }
    }
}

fn check_numbering(numbering: &Numbering, problems: &mut Vec<Problem>) {
    let (prefix, room) = match numbering {
        Numbering::CoupaId { prefix } => (prefix, 1),
        Numbering::Counter { prefix, digits } => {
            if *digits == 0 {
                problems.push(invalid("suppliers.numbering.digits", "at least 1", "0"));
            }
            (prefix, usize::try_from(*digits).unwrap_or(usize::MAX))
        }
    };
    let longest = SupplierCode::CHARACTERS_MAX.saturating_sub(room.min(SupplierCode::CHARACTERS_MAX));
    let fits = prefix
        .chars()
        .all(|letter| letter.is_alphanumeric() || letter == '-');
    if prefix.chars().count() > longest || !fits {
        problems.push(invalid(
            "suppliers.numbering.prefix",
            format!(
                "letters, digits and '-' that leave room for the number in {} characters",
                SupplierCode::CHARACTERS_MAX
            ),
            prefix.as_str(),
        ));
    }
}
