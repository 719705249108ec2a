//! Suppliers: which one is which on both sides, and who is told what.
//!
//! A supplier is linked on evidence: its number, else a tax id that can be one and that nothing speaks against. What only
//! resembles, and a link that would write over a name or a number, is proposed to a person and never done. Once linked, each field has a master; what both sides changed differently waits for a person. What was
//! last agreed is remembered per side, so that our own writes do not come back as news. Bank data is in none of it.

use crate::effect::{Effect, EffectEvent};
use crate::ids::{CreditTermsCode, SupplierCode, fold};
use crate::index::Listed;
use crate::lifecycle::{ChainEnd, IllegalStep};
use crate::plans::ChangeShare;
use crate::problem::{Problem, clean};
use crate::time::{Date, Timestamp};
use crate::timing::Timing;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

mod evidence;
pub use evidence::{Candidate, Evidence, Likeness, Particulars, Replaced, TaxIdFillers, Verdict};

/// The layout of [`SupplierRecord`] that this version writes.
pub const RECORD_SCHEMA: u32 = 1;
/// Longest name Coupa takes, in characters (confirmed).
pub const NAME_CHARACTERS_MAX: usize = 100;
/// Between the parts of a write's identity; no value contains it, because control characters are taken out.
const IDENTITY_SEPARATOR: char = '\u{1f}';
/// Longest value of any other field that is kept, in characters.
pub const VALUE_CHARACTERS_MAX: usize = 255;

/// What both sides know of a supplier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SupplierField {
    /// Its name.
    Name,
    /// `true` or `false`: whether it may be used. Absent while Coupa has not approved it.
    Active,
    /// Credit terms, in QAD's codes.
    PaymentTerms,
    /// Tax id.
    TaxId,
    /// E-mail of the contact.
    Email,
    /// Street and number.
    Street,
    /// City.
    City,
    /// Postal code.
    PostalCode,
    /// State or region code.
    State,
    /// Country code.
    Country,
}

impl SupplierField {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Name,
        Self::Active,
        Self::PaymentTerms,
        Self::TaxId,
        Self::Email,
        Self::Street,
        Self::City,
        Self::PostalCode,
        Self::State,
        Self::Country,
    ];

    /// The field's name in settings and reports.
    pub fn word(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Active => "active",
            Self::PaymentTerms => "payment-terms",
            Self::TaxId => "tax-id",
            Self::Email => "email",
            Self::Street => "street",
            Self::City => "city",
            Self::PostalCode => "postal-code",
            Self::State => "state",
            Self::Country => "country",
        }
    }

    fn is_code(self) -> bool {
        matches!(
            self,
            Self::PaymentTerms | Self::State | Self::Country | Self::Active
        )
    }
}

/// The fields of one supplier that are filled, cleaned: blanks made one, lengths bounded, nothing blank kept.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SupplierData(BTreeMap<SupplierField, String>);

impl SupplierData {
    /// The value of a field, when it has one.
    pub fn get(&self, field: SupplierField) -> Option<&str> {
        self.0.get(&field).map(String::as_str)
    }

    /// Sets a field; a blank text takes it off.
    pub fn set(&mut self, field: SupplierField, text: &str) {
        let words: Vec<&str> = text.split_whitespace().collect();
        let most = if field == SupplierField::Name {
            NAME_CHARACTERS_MAX
        } else {
            VALUE_CHARACTERS_MAX
        };
        let value: String = clean(&words.join(" ")).chars().take(most).collect();
        let value = value.trim_end().to_owned();
        if value.is_empty() {
            self.0.remove(&field);
        } else {
            self.0.insert(field, value);
        }
    }

    /// The same with a field set.
    #[must_use]
    pub fn with(mut self, field: SupplierField, text: &str) -> Self {
        self.set(field, text);
        self
    }

    /// The fields that are filled.
    pub fn iter(&self) -> impl Iterator<Item = (SupplierField, &str)> {
        self.0.iter().map(|(field, value)| (*field, value.as_str()))
    }

    /// True when no field is filled.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The name, for people.
    pub fn name(&self) -> &str {
        self.get(SupplierField::Name).unwrap_or_default()
    }
}

/// Whether two values of a field are the same; codes are compared as QAD compares.
fn same(field: SupplierField, one: Option<&str>, other: Option<&str>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) if field.is_code() => fold(one) == fold(other),
        (one, other) => one == other,
    }
}

/// The form in which names are compared: letters and digits only.
pub fn name_key(name: &str) -> String {
    name.chars()
        .filter(|letter| letter.is_alphanumeric())
        .flat_map(char::to_uppercase)
        .collect()
}

/// A supplier as QAD holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QadSupplier {
    /// Its code.
    pub code: SupplierCode,
    /// Its fields.
    pub data: SupplierData,
    /// Its type, where QAD shows one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Its site, where QAD shows one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub site: Option<String>,
    /// QAD's last change of it, by day; never compared.
    pub last_modified: Date,
}

/// Which suppliers of QAD are taken up. One that is linked stays aligned, whatever becomes of it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SupplierFilter {
    /// Only those that are active in QAD.
    pub active: bool,
    /// Only those of these types, folded; none: of any.
    pub types: BTreeSet<String>,
    /// Only those of these sites, folded; none: of any.
    pub sites: BTreeSet<String>,
}

impl SupplierFilter {
    /// Why a supplier is left alone; `None` takes it up. One whose type or site QAD does not show is not taken for another.
    pub fn leaves_out(&self, supplier: &QadSupplier) -> Option<String> {
        if self.active && supplier.data.get(SupplierField::Active) != Some("true") {
            return Some("left alone: it is not active in QAD".to_owned());
        }
        [
            ("type", &self.types, &supplier.kind),
            ("site", &self.sites, &supplier.site),
        ]
        .into_iter()
        .filter(|(_, wanted, _)| !wanted.is_empty())
        .find_map(|(what, wanted, shown)| match shown {
            Some(shown) if wanted.contains(&fold(shown)) => None,
            Some(shown) => Some(format!("left alone: its {what} is {shown}")),
            None => Some(format!("left alone: QAD shows no {what} of it")),
        })
    }
}

impl QadSupplier {
    /// True when it says the same as another reading of it.
    pub fn says_the_same_as(&self, other: &Self) -> bool {
        (&self.data, &self.kind, &self.site) == (&other.data, &other.kind, &other.site)
    }

    /// Whom it is known by.
    pub fn particulars(&self) -> Particulars {
        Particulars::new(Some(self.code.as_str()), &self.data)
    }

    /// Which one it is, for people.
    pub fn words(&self) -> String {
        format!("QAD {} \"{}\"", self.code, self.data.name())
    }
}

/// A supplier's status in Coupa.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CoupaSupplierStatus {
    /// May be used.
    Active,
    /// May not be used any more.
    Inactive,
    /// Not approved yet, or a word this version does not know: nothing is created from it.
    NotApproved(String),
}

/// A supplier as Coupa holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CoupaSupplier {
    /// Coupa's id.
    pub id: u64,
    /// Its number: QAD's code, when somebody has given it.
    pub number: Option<String>,
    /// Its status.
    pub status: CoupaSupplierStatus,
    /// Its fields; the payment terms are Coupa's code.
    pub data: SupplierData,
    /// Coupa's last change of it; never compared.
    pub updated_at: Timestamp,
}

impl CoupaSupplier {
    /// What is compared: the fields with the payment terms in QAD's codes.
    pub fn comparable(&self, policy: &SupplierPolicy) -> SupplierData {
        let mut data = self.data.clone();
        if let Some(terms) = self.data.get(SupplierField::PaymentTerms) {
            data.set(SupplierField::PaymentTerms, &policy.terms_in_qad(terms));
        }
        match &self.status {
            CoupaSupplierStatus::Active => data.set(SupplierField::Active, "true"),
            CoupaSupplierStatus::Inactive => data.set(SupplierField::Active, "false"),
            CoupaSupplierStatus::NotApproved(_) => data.set(SupplierField::Active, ""),
        }
        data
    }

    /// Whom it is known by.
    pub fn particulars(&self) -> Particulars {
        Particulars::new(self.number.as_deref(), &self.data)
    }

    /// Which one it is, for people.
    pub fn words(&self) -> String {
        let number = self.number.as_deref().unwrap_or("none");
        format!("Coupa {} \"{}\" number {number}", self.id, self.data.name())
    }

    /// True when its number is this code.
    pub fn is_numbered(&self, code: &SupplierCode) -> bool {
        self.number
            .as_deref()
            .is_some_and(|number| fold(number) == code.folded())
    }
}

/// Who says what a field's value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Master {
    /// QAD. A change in Coupa is written over.
    Qad,
    /// Coupa. A change in QAD is written over.
    Coupa,
    /// Whoever changed it last; before anything was agreed, QAD.
    Either,
    /// Nobody: the field is left alone on both sides.
    Nobody,
}

/// How suppliers that Coupa approved get their QAD code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "by")]
pub enum Numbering {
    /// The prefix and Coupa's id.
    CoupaId {
        /// Before the id.
        prefix: String,
    },
    /// The prefix and a number one higher than the highest of that form, filled with zeros to `digits`.
    Counter {
        /// Before the number.
        prefix: String,
        /// How many digits.
        digits: u32,
    },
}

impl Default for Numbering {
    fn default() -> Self {
        Self::CoupaId {
            prefix: "C".to_owned(),
        }
    }
}

impl Numbering {
    /// The code of a new supplier. The error says why there is none.
    pub fn code(&self, coupa_id: u64, codes: &BTreeSet<String>) -> Result<SupplierCode, Problem> {
        let text = match self {
            Self::CoupaId { prefix } => format!("{prefix}{coupa_id}"),
            Self::Counter { prefix, digits } => {
                let width = usize::try_from(*digits)
                    .unwrap_or(usize::MAX)
                    .min(SupplierCode::CHARACTERS_MAX);
                let folded = fold(prefix);
                let highest = codes
                    .iter()
                    .filter_map(|code| code.strip_prefix(folded.as_str()))
                    .filter(|rest| rest.len() == width || (rest.len() > width && !rest.starts_with('0')))
                    .filter(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()))
                    .filter_map(|rest| rest.parse::<u64>().ok())
                    .max()
                    .unwrap_or(0);
                format!("{prefix}{:0width$}", highest.saturating_add(1))
            }
        };
        let refuse = |actual: String| {
            let fix = "Change suppliers.numbering in the connection, or give the supplier its number in Coupa by hand.";
            Problem::new("SUPPLIER_CODE_NOT_AVAILABLE", fix)
                .field(format!("Coupa supplier {coupa_id}"))
                .expected(format!(
                    "a free code of at most {} characters",
                    SupplierCode::CHARACTERS_MAX
                ))
                .actual(actual)
        };
        let code: SupplierCode = text.parse().map_err(|_| refuse(text.clone()))?;
        if codes.contains(&code.folded()) {
            Err(refuse(format!("{code}, which exists")))
        } else {
            Ok(code)
        }
    }
}

/// How a connection wants its suppliers aligned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SupplierPolicy {
    /// Who is master of which field; a field that is not listed has QAD as its master.
    pub masters: BTreeMap<SupplierField, Master>,
    /// Coupa payment term to QAD credit terms; identity when a code is not in here.
    pub payment_terms: BTreeMap<String, CreditTermsCode>,
    /// Whether suppliers that only QAD has are created in Coupa.
    pub create_in_coupa: bool,
    /// Whether suppliers approved in Coupa without a number are created in QAD.
    pub create_in_qad: bool,
    /// How those get their code.
    pub numbering: Numbering,
    /// What is entered where there is no tax id.
    pub tax_id_fillers: TaxIdFillers,
    /// Which suppliers of QAD are taken up.
    pub filter: SupplierFilter,
    /// How many suppliers one run may create or change before a person must allow it.
    pub change_share: ChangeShare,
}

impl Default for SupplierPolicy {
    /// QAD is master of everything but the status, which goes both ways; only Coupa gets new suppliers.
    fn default() -> Self {
        Self {
            masters: BTreeMap::from([(SupplierField::Active, Master::Either)]),
            payment_terms: BTreeMap::new(),
            create_in_coupa: true,
            create_in_qad: false,
            numbering: Numbering::default(),
            tax_id_fillers: TaxIdFillers::default(),
            filter: SupplierFilter::default(),
            change_share: ChangeShare::default(),
        }
    }
}

impl SupplierPolicy {
    /// Who is master of a field.
    pub fn master(&self, field: SupplierField) -> Master {
        self.masters.get(&field).copied().unwrap_or(Master::Qad)
    }

    /// Coupa's payment term as QAD's code.
    pub fn terms_in_qad(&self, coupa: &str) -> String {
        self.payment_terms
            .get(coupa)
            .map_or_else(|| coupa.to_owned(), ToString::to_string)
    }

    /// QAD's credit terms as Coupa's payment term; when several mean the same, the first in alphabetical order.
    pub fn terms_in_coupa(&self, qad: &str) -> String {
        let named = self
            .payment_terms
            .iter()
            .find(|(_, terms)| terms.folded() == fold(qad));
        named.map_or_else(|| qad.to_owned(), |(coupa, _)| coupa.clone())
    }
}

// ---------------------------------------------------------------------------------------------------------------
// Linking
// ---------------------------------------------------------------------------------------------------------------

/// How two suppliers were recognised as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LinkedBy {
    /// Coupa's number is QAD's code.
    Number,
    /// The tax id, which no other supplier has and nothing speaks against.
    TaxId,
    /// A person accepted what was proposed.
    Person,
    /// One was created from the other.
    Creation,
}

/// What is known of all suppliers, for linking.
#[derive(Debug, Clone, Default)]
pub struct Directory {
    coupa: BTreeMap<u64, Seat>,
    qad: BTreeMap<String, Seat>,
    coupa_by_number: BTreeMap<String, BTreeSet<u64>>,
    coupa_by_tax: BTreeMap<String, BTreeSet<u64>>,
    coupa_by_name: BTreeMap<String, BTreeSet<u64>>,
    qad_by_tax: BTreeMap<String, BTreeSet<String>>,
    qad_by_name: BTreeMap<String, BTreeSet<String>>,
}

#[derive(Debug, Clone)]
struct Seat {
    words: String,
    particulars: Particulars,
    /// The other side's, once linked: a folded code or an id.
    linked: Option<String>,
}

impl Seat {
    /// Tax id and name, as the directory finds by them; blank when it has none.
    fn keys(&self) -> (&str, &str) {
        (
            self.particulars.tax_id.as_deref().unwrap_or_default(),
            self.particulars.name.as_deref().unwrap_or_default(),
        )
    }
}

impl Directory {
    /// Notes, or notes anew, a supplier of QAD.
    pub fn note_qad(&mut self, supplier: &QadSupplier, linked: Option<u64>) {
        let key = supplier.code.folded();
        if let Some(old) = self.qad.remove(&key) {
            let (tax, name) = old.keys();
            drop_from(&mut self.qad_by_tax, tax, &key);
            drop_from(&mut self.qad_by_name, name, &key);
        }
        let seat = Seat {
            words: supplier.words(),
            particulars: supplier.particulars(),
            linked: linked.map(|id| id.to_string()),
        };
        let (tax, name) = seat.keys();
        add_to(&mut self.qad_by_tax, tax, key.clone());
        add_to(&mut self.qad_by_name, name, key.clone());
        self.qad.insert(key, seat);
    }

    /// Notes, or notes anew, a supplier of Coupa.
    pub fn note_coupa(&mut self, supplier: &CoupaSupplier, linked: Option<&SupplierCode>) {
        let key = supplier.id;
        if let Some(old) = self.coupa.remove(&key) {
            let (tax, name) = old.keys();
            drop_from(&mut self.coupa_by_tax, tax, &key);
            drop_from(&mut self.coupa_by_name, name, &key);
            let number = old.particulars.number.as_deref().unwrap_or_default();
            drop_from(&mut self.coupa_by_number, number, &key);
        }
        let seat = Seat {
            words: supplier.words(),
            particulars: supplier.particulars(),
            linked: linked.map(SupplierCode::folded),
        };
        let (tax, name) = seat.keys();
        add_to(&mut self.coupa_by_tax, tax, key);
        add_to(&mut self.coupa_by_name, name, key);
        let number = seat.particulars.number.as_deref().unwrap_or_default();
        add_to(&mut self.coupa_by_number, number, key);
        self.coupa.insert(key, seat);
    }

    /// The folded codes QAD has, as far as they are known.
    pub fn codes(&self) -> BTreeSet<String> {
        self.qad.keys().cloned().collect()
    }

    fn words(&self, ids: &BTreeSet<u64>) -> String {
        ids.iter()
            .filter_map(|id| self.coupa.get(id))
            .map(|seat| seat.words.as_str())
            .collect::<Vec<_>>()
            .join(", ")
    }

    /// What a supplier of Coupa has in common with one of QAD, as something to link to; `None` when they are strangers.
    fn candidate_in_coupa(&self, us: &Particulars, id: u64, policy: &SupplierPolicy) -> Option<Candidate> {
        let seat = self.coupa.get(&id)?;
        candidate(us, SupplierId::Coupa(id), seat, policy)
    }

    /// The same with a supplier of QAD.
    fn candidate_in_qad(&self, us: &Particulars, code: &str, policy: &SupplierPolicy) -> Option<Candidate> {
        let seat = self.qad.get(code)?;
        candidate(us, SupplierId::Qad(code.parse().ok()?), seat, policy)
    }

    /// True when nobody in QAD has this supplier of Coupa, by a link or by its number.
    fn is_free(&self, id: u64) -> bool {
        self.coupa.get(&id).is_some_and(|seat| {
            let number = seat.particulars.number.as_ref();
            seat.linked.is_none() && number.is_none_or(|number| !self.qad.contains_key(number))
        })
    }
}

fn candidate(us: &Particulars, id: SupplierId, seat: &Seat, policy: &SupplierPolicy) -> Option<Candidate> {
    let evidence = Evidence::between(us, &seat.particulars, &policy.tax_id_fillers);
    (evidence.verdict() != Verdict::Strangers).then(|| Candidate {
        id,
        words: seat.words.clone(),
        evidence,
        replaces: Replaced::by_link(&evidence, policy.master(SupplierField::Name)),
    })
}

fn add_to<K: Ord>(map: &mut BTreeMap<String, BTreeSet<K>>, key: &str, member: K) {
    if !key.is_empty() {
        map.entry(key.to_owned()).or_default().insert(member);
    }
}

fn drop_from<K: Ord>(map: &mut BTreeMap<String, BTreeSet<K>>, key: &str, member: &K) {
    if let Some(members) = map.get_mut(key) {
        members.remove(member);
        if members.is_empty() {
            map.remove(key);
        }
    }
}

/// What becomes of a supplier of QAD that is not linked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QadLink {
    /// It is this one in Coupa.
    Link(u64, LinkedBy),
    /// Coupa does not have it.
    Create,
    /// It may be one of these, or is one and its name would be written over: a person decides.
    Propose(Problem, Vec<Candidate>),
    /// A person must correct something.
    Park(Problem),
}

/// What becomes of a supplier of Coupa that is not linked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CoupaLink {
    /// It shall be created in QAD under this code.
    Create(SupplierCode),
    /// Nothing yet: it is not approved, or suppliers of Coupa are not created in QAD. In words.
    Wait(&'static str),
    /// It may be one of these: a person decides.
    Propose(Problem, Vec<Candidate>),
    /// A person must correct something.
    Park(Problem),
}

/// Code of a proposal.
pub const PROPOSED: &str = "SUPPLIER_PROPOSED";
const CONFLICT_FIX: &str = "If both are the same supplier, give the one in Coupa the number of the one in QAD; else rename one of them.";
const PROPOSED_FIX: &str = "If they are one supplier, accept the proposal, or give the one in Coupa the number and the name of the one in QAD; else correct what they have in common: a name, or a tax id that is none.";

const SAME_NAME: &str = "the same name in both systems";

/// What is proposed to a person: nothing is written before it is decided.
fn proposal(us: String, expected: &str, mut candidates: Vec<Candidate>) -> (Problem, Vec<Candidate>) {
    let all = candidates.len();
    candidates.truncate(evidence::CANDIDATES_MAX);
    let told = candidates.iter().take(evidence::CANDIDATES_TOLD_MAX);
    let mut words: Vec<String> = told.map(Candidate::to_string).collect();
    if let Some(more) = all.checked_sub(words.len()).filter(|more| *more > 0) {
        words.push(format!("and {more} more"));
    }
    let problem = Problem::new(PROPOSED, PROPOSED_FIX)
        .field(us)
        .expected(expected)
        .actual(words.join(", "));
    (problem, candidates)
}

/// A supplier without a name can be recognised by nobody, and Coupa takes none.
fn without_name(whose: &str) -> Problem {
    Problem::new("SUPPLIER_WITHOUT_NAME", "Give the supplier its name.")
        .field(whose)
        .expected("a name")
        .actual("none")
}

/// Links a supplier of QAD to the one in Coupa that the evidence speaks for, unless that would write over a name or a number;
/// what only resembles is proposed. What a person accepted is linked as long as both are what they were.
pub fn link_qad(
    supplier: &QadSupplier,
    directory: &Directory,
    policy: &SupplierPolicy,
    accepted: Option<&Accepted>,
) -> QadLink {
    let code = supplier.code.folded();
    if supplier.data.name().is_empty() {
        return QadLink::Park(without_name(&format!("QAD {}", supplier.code)));
    }
    let us = supplier.particulars();
    let none = BTreeSet::new();
    let numbered = directory.coupa_by_number.get(&code).unwrap_or(&none);
    let park = |problem_code: &str, fix: &str, expected: &str, ids: &BTreeSet<u64>| {
        QadLink::Park(
            Problem::new(problem_code, fix)
                .field(supplier.words())
                .expected(expected)
                .actual(directory.words(ids)),
        )
    };
    let is_accepted = |candidate: &Candidate| {
        accepted.is_some_and(|one| one.words == supplier.words() && one.candidate == *candidate)
    };
    let propose = |expected: &str, candidates: Vec<Candidate>| {
        if let Some(SupplierId::Coupa(id)) = candidates.iter().find(|one| is_accepted(one)).map(|one| &one.id)
        {
            return QadLink::Link(*id, LinkedBy::Person);
        }
        let (problem, candidates) = proposal(supplier.words(), expected, candidates);
        QadLink::Propose(problem, candidates)
    };
    if numbered.len() > 1 {
        let fix = "Leave the number on one of them in Coupa.";
        return park(
            "SUPPLIER_NUMBER_TWICE",
            fix,
            "one supplier in Coupa with this number",
            numbered,
        );
    }
    if let Some(id) = numbered.first() {
        let linked = directory.coupa.get(id).and_then(|seat| seat.linked.as_ref());
        if linked.is_some_and(|other| *other != code) {
            return park(
                "SUPPLIER_NUMBER_CHANGED",
                CONFLICT_FIX,
                "a supplier in Coupa that is not linked to another code",
                numbered,
            );
        }
        let candidate = directory.candidate_in_coupa(&us, *id, policy);
        return match candidate.filter(|one| !one.replaces.is_empty()) {
            Some(candidate) => propose(SAME_NAME, vec![candidate]),
            None => QadLink::Link(*id, LinkedBy::Number),
        };
    }
    let with_tax = us.tax_id.as_ref().and_then(|tax| directory.coupa_by_tax.get(tax));
    let with_tax = with_tax.unwrap_or(&none);
    let namesakes = namesakes_of(&directory.coupa_by_name, supplier.data.name()).unwrap_or(&none);
    let is_unnumbered = |id: &&u64| {
        let seat = directory.coupa.get(id);
        seat.is_some_and(|seat| seat.linked.is_none() && seat.particulars.number.is_none())
    };
    let ids: BTreeSet<u64> = with_tax
        .iter()
        .filter(|id| directory.is_free(**id))
        .chain(namesakes.iter().filter(is_unnumbered))
        .copied()
        .collect();
    let candidates: Vec<Candidate> = ids
        .into_iter()
        .filter_map(|id| directory.candidate_in_coupa(&us, id, policy))
        .collect();
    let rivals = us.tax_id.as_ref().and_then(|tax| directory.qad_by_tax.get(tax));
    let has_rivals = rivals.is_some_and(|codes| codes.iter().any(|other| *other != code));
    // The tax id is one supplier's on each side, so that at most one candidate is linked by it.
    if with_tax.len() == 1 && !has_rivals {
        for candidate in candidates.iter().filter(|one| one.replaces.is_empty()) {
            if let (SupplierId::Coupa(id), Verdict::Link(by)) = (&candidate.id, candidate.evidence.verdict())
            {
                return QadLink::Link(*id, by);
            }
        }
    }
    if !candidates.is_empty() {
        return propose(
            "a number in common, or a tax id that one supplier on each side has, and nothing to write over",
            candidates,
        );
    }
    if !namesakes.is_empty() {
        return park(
            "SUPPLIER_NAME_TAKEN",
            CONFLICT_FIX,
            "no supplier in Coupa with the same name and another number",
            namesakes,
        );
    }
    QadLink::Create
}

/// Why a supplier that was found in Coupa under our code is not taken for the one that was to be created: its name would be
/// written over.
pub fn adoption_replaces(
    code: &SupplierCode,
    data: &SupplierData,
    found: &CoupaSupplier,
    policy: &SupplierPolicy,
) -> Option<Problem> {
    let us = Particulars::new(Some(code.as_str()), data);
    let evidence = Evidence::between(&us, &found.particulars(), &policy.tax_id_fillers);
    let candidate = Candidate {
        id: SupplierId::Coupa(found.id),
        words: found.words(),
        evidence,
        replaces: Replaced::by_link(&evidence, policy.master(SupplierField::Name)),
    };
    let words = format!("QAD {code} \"{}\"", data.name());
    (!candidate.replaces.is_empty()).then(|| proposal(words, SAME_NAME, vec![candidate]).0)
}

/// Who has the same name; nobody when the name has neither letters nor digits.
fn namesakes_of<'d, K>(by_name: &'d BTreeMap<String, BTreeSet<K>>, name: &str) -> Option<&'d BTreeSet<K>> {
    let key = name_key(name);
    by_name.get(&key).filter(|_| !key.is_empty())
}

/// What becomes of a supplier of Coupa that no supplier of QAD was linked to.
pub fn link_coupa(supplier: &CoupaSupplier, directory: &Directory, policy: &SupplierPolicy) -> CoupaLink {
    let us = supplier.particulars();
    let is_free = |number: &String| {
        directory
            .qad
            .get(&fold(number))
            .is_some_and(|seat| seat.linked.is_none())
    };
    if supplier.number.as_ref().is_some_and(is_free) {
        return CoupaLink::Wait("QAD's supplier of this number is being linked, parked, or left alone");
    }
    if let Some(number) = &supplier.number {
        let fix = "Correct the number in Coupa, or create the supplier in QAD under this code.";
        return CoupaLink::Park(
            Problem::new("SUPPLIER_NUMBER_UNKNOWN", fix)
                .field(supplier.words())
                .expected("the code of a supplier in QAD that is not linked to another one")
                .actual(number.as_str()),
        );
    }
    let with_tax = us.tax_id.as_ref().and_then(|tax| directory.qad_by_tax.get(tax));
    // A filler that it shares with one that is linked already says nothing at all.
    let plausible = us
        .tax_id
        .as_ref()
        .is_some_and(|tax| policy.tax_id_fillers.leave(tax));
    let is_unlinked = |code: &&String| directory.qad.get(*code).is_some_and(|seat| seat.linked.is_none());
    let codes: BTreeSet<&String> = with_tax
        .into_iter()
        .flatten()
        .filter(|code| plausible || is_unlinked(code))
        .chain(
            namesakes_of(&directory.qad_by_name, supplier.data.name())
                .into_iter()
                .flatten(),
        )
        .collect();
    let candidates: Vec<Candidate> = codes
        .into_iter()
        .filter_map(|code| directory.candidate_in_qad(&us, code, policy))
        .collect();
    if !candidates.is_empty() {
        let expected = "a number, or a supplier that QAD does not have";
        let (problem, candidates) = proposal(supplier.words(), expected, candidates);
        return CoupaLink::Propose(problem, candidates);
    }
    match supplier.status {
        CoupaSupplierStatus::Active => {}
        _ => return CoupaLink::Wait("not approved in Coupa"),
    }
    if supplier.data.name().is_empty() {
        return CoupaLink::Park(without_name(&supplier.words()));
    }
    if !policy.create_in_qad {
        return CoupaLink::Wait("creating suppliers in QAD is off");
    }
    match policy.numbering.code(supplier.id, &directory.codes()) {
        Ok(code) => CoupaLink::Create(code),
        Err(problem) => CoupaLink::Park(problem),
    }
}

// ---------------------------------------------------------------------------------------------------------------
// Aligning
// ---------------------------------------------------------------------------------------------------------------

/// What was last agreed, per side, in comparable form.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Agreed {
    /// QAD's fields.
    pub qad: SupplierData,
    /// Coupa's fields.
    pub coupa: SupplierData,
}

/// What two linked suppliers need.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Alignment {
    /// Fields to write in Coupa, in QAD's vocabulary.
    pub to_coupa: SupplierData,
    /// Fields to write in QAD.
    pub to_qad: SupplierData,
    /// Fields that both sides changed differently: name, QAD's value, Coupa's value.
    pub conflicts: Vec<(SupplierField, String, String)>,
}

/// Compares two linked suppliers. A blank never erases what the other side has. A field that differs although neither
/// side has changed it since it was agreed is left alone: the other system keeps it in its own form.
pub fn align(
    qad: &SupplierData,
    coupa: &SupplierData,
    agreed: Option<&Agreed>,
    policy: &SupplierPolicy,
) -> Alignment {
    let mut alignment = Alignment::default();
    for field in SupplierField::ALL {
        let (ours, theirs) = (qad.get(field), coupa.get(field));
        let unapproved = field == SupplierField::Active && (ours.is_none() || theirs.is_none());
        if same(field, ours, theirs) || unapproved {
            continue;
        }
        let changed = |now: Option<&str>, then: Option<&str>| !same(field, now, then);
        let qad_changed = agreed.is_some_and(|agreed| changed(ours, agreed.qad.get(field)));
        let coupa_changed = agreed.is_some_and(|agreed| changed(theirs, agreed.coupa.get(field)));
        let master = policy.master(field);
        if master == Master::Nobody || (agreed.is_some() && !qad_changed && !coupa_changed) {
            continue;
        }
        if let (true, true, Some(ours), Some(theirs)) = (qad_changed, coupa_changed, ours, theirs) {
            alignment
                .conflicts
                .push((field, ours.to_owned(), theirs.to_owned()));
            continue;
        }
        let from_qad = match master {
            Master::Qad => true,
            Master::Coupa => false,
            Master::Either | Master::Nobody if agreed.is_some() => qad_changed,
            Master::Either | Master::Nobody => ours.is_some(),
        };
        match (from_qad, ours, theirs) {
            (true, Some(ours), _) => alignment.to_coupa.set(field, ours),
            (false, _, Some(theirs)) => alignment.to_qad.set(field, theirs),
            // Blank on the side that decides: nothing is erased.
            _ => {}
        }
    }
    alignment
}

/// Why a run that would create or change so many suppliers waits for a person, where so many are linked.
pub fn too_many_changes(changed: usize, linked: usize, share: &ChangeShare) -> Option<Problem> {
    let fix = "Read the plan. If it is right, allow it; else correct the suppliers, or the settings of the connection.";
    (changed > share.most(linked)).then(|| {
        Problem::new("SUPPLIER_CHANGE_TOO_LARGE", fix)
            .field("suppliers")
            .expected(share.words(linked, "linked suppliers"))
            .actual(format!("{changed} suppliers to create or change"))
    })
}

/// The problem of a supplier that both sides changed.
pub fn conflict(code: &SupplierCode, conflicts: &[(SupplierField, String, String)]) -> Problem {
    let side = |pick: fn(&(SupplierField, String, String)) -> &String| {
        conflicts
            .iter()
            .map(|one| format!("{} \"{}\"", one.0.word(), pick(one)))
            .collect::<Vec<_>>()
            .join(", ")
    };
    let fix = "Make both sides equal; the supplier is aligned again as soon as they are.";
    Problem::new("SUPPLIER_CHANGED_ON_BOTH_SIDES", fix)
        .field(format!("supplier {code}"))
        .expected(format!(
            "one side to change a field; in QAD: {}",
            side(|one| &one.1)
        ))
        .actual(format!("in Coupa: {}", side(|one| &one.2)))
}

// ---------------------------------------------------------------------------------------------------------------
// Records
// ---------------------------------------------------------------------------------------------------------------

/// Whose record it is: one per supplier of QAD, and one per supplier of Coupa.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SupplierId {
    /// A supplier of QAD, with what it is linked to. Holds the effects.
    Qad(SupplierCode),
    /// A supplier of Coupa. Makes sure that it is linked once.
    Coupa(u64),
}

impl fmt::Display for SupplierId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Qad(code) => write!(formatter, "qad/{}", code.folded()),
            Self::Coupa(id) => write!(formatter, "coupa/{id}"),
        }
    }
}

/// Where a supplier stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "is")]
pub enum SupplierState {
    /// Known on one side only, and nothing to do: why, in words.
    Alone {
        /// Why.
        why: String,
    },
    /// Being created on the other side.
    Creating,
    /// Linked.
    Linked {
        /// Coupa's id, in the record of a QAD supplier.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        coupa: Option<u64>,
        /// QAD's code, in the record of a Coupa supplier.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        code: Option<SupplierCode>,
        /// How they were recognised.
        by: LinkedBy,
    },
    /// Waits for a person.
    Parked {
        /// Why.
        problem: Problem,
        /// The link it has, when it has one: Coupa's id.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        coupa: Option<u64>,
        /// How they were recognised.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<LinkedBy>,
        /// Who it may be on the other side, when it is proposed.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        candidates: Vec<Candidate>,
    },
}

impl SupplierState {
    /// The state's one name, as stored, listed and logged.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Alone { .. } => "alone",
            Self::Creating => "creating",
            Self::Linked { .. } => "linked",
            Self::Parked { .. } => "parked",
        }
    }
}

/// One write to either side. Its JSON is the effect's request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "write")]
pub enum SupplierWrite {
    /// A new supplier in Coupa.
    CreateInCoupa {
        /// Its number.
        code: SupplierCode,
        /// Its fields, in Coupa's vocabulary.
        data: SupplierData,
    },
    /// Fields of a supplier in Coupa.
    UpdateInCoupa {
        /// Coupa's id.
        id: u64,
        /// Its number.
        code: SupplierCode,
        /// The fields that change, in Coupa's vocabulary.
        data: SupplierData,
    },
    /// A new supplier in QAD.
    CreateInQad {
        /// Its code.
        code: SupplierCode,
        /// Coupa's id, which it was created from.
        id: u64,
        /// Its fields.
        data: SupplierData,
    },
    /// Fields of a supplier in QAD.
    UpdateInQad {
        /// Its code.
        code: SupplierCode,
        /// The fields that change.
        data: SupplierData,
    },
}

impl SupplierWrite {
    /// The effect's key: what must not happen twice.
    pub fn key(&self) -> String {
        match self {
            Self::CreateInCoupa { code, .. } => format!("coupa-supplier/{}", code.folded()),
            Self::UpdateInCoupa { id, .. } => format!("coupa-supplier-update/{id}"),
            Self::CreateInQad { code, .. } => format!("qad-supplier/{}", code.folded()),
            Self::UpdateInQad { code, .. } => format!("qad-supplier-update/{}", code.folded()),
        }
    }

    /// True for what would make a second supplier if it were repeated.
    pub fn creates(&self) -> bool {
        matches!(self, Self::CreateInCoupa { .. } | Self::CreateInQad { .. })
    }

    /// True for a write to Coupa.
    pub fn is_to_coupa(&self) -> bool {
        matches!(self, Self::CreateInCoupa { .. } | Self::UpdateInCoupa { .. })
    }

    /// What is written.
    pub fn data(&self) -> &SupplierData {
        match self {
            Self::CreateInCoupa { data, .. }
            | Self::UpdateInCoupa { data, .. }
            | Self::CreateInQad { data, .. }
            | Self::UpdateInQad { data, .. } => data,
        }
    }

    /// What it would do, as one text: two that are equal do the same. The code that a supplier of Coupa gets is chosen when it
    /// is created and is none of it.
    pub fn identity(&self) -> String {
        let what = match self {
            Self::CreateInQad { id, .. } => format!("qad-supplier-of/{id}"),
            _ => self.key(),
        };
        let fields = self.data().iter();
        fields.fold(what, |all, (field, value)| {
            format!("{all}{IDENTITY_SEPARATOR}{}={value}", field.word())
        })
    }

    /// In words, for people.
    pub fn sentence(&self) -> String {
        let fields: Vec<&str> = self.data().iter().map(|(field, _)| field.word()).collect();
        match self {
            Self::CreateInCoupa { code, data } => format!("create {code} \"{}\" in Coupa", data.name()),
            Self::CreateInQad { code, data, id } => {
                format!("create {code} \"{}\" in QAD from Coupa {id}", data.name())
            }
            Self::UpdateInCoupa { id, code, .. } => {
                format!("write {} of {code} to Coupa {id}", number_and(&fields))
            }
            Self::UpdateInQad { code, .. } => format!("write {} of {code} to QAD", fields.join(", ")),
        }
    }
}

fn number_and(fields: &[&str]) -> String {
    if fields.is_empty() {
        "the number".to_owned()
    } else {
        fields.join(", ")
    }
}

/// One step in the life of a supplier's link: what the audit trail holds. No field's value stands in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "event")]
pub enum SupplierEvent {
    /// Known on one side only.
    Alone {
        /// Why nothing is done.
        why: String,
    },
    /// Recognised on the other side.
    Linked {
        /// The other one: `qad/<code>` or `coupa/<id>`.
        with: String,
        /// How.
        by: LinkedBy,
    },
    /// Something happened to a write.
    Writing {
        /// Which write, in words without values.
        what: String,
        /// The names of the fields it writes.
        fields: Vec<SupplierField>,
        /// What.
        step: EffectEvent,
        /// The claim under which it happened.
        fence: u64,
    },
    /// A person must look.
    Parked {
        /// Why.
        problem: Problem,
    },
    /// What kept it parked is gone.
    Unparked,
    /// A person accepted what was proposed.
    Accepted {
        /// The other one: `coupa/<id>`.
        with: String,
        /// Who, as they call themselves.
        by: String,
        /// Why.
        reason: String,
    },
}

/// A proposal that a person accepted: it counts as long as both are what they were then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// Whose proposal it was, in words.
    pub words: String,
    /// What was accepted.
    pub candidate: Candidate,
}

/// Everything this product knows about one supplier of one side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SupplierRecord {
    /// Layout, see [`RECORD_SCHEMA`].
    pub schema: u32,
    /// Whose.
    pub id: SupplierId,
    /// Where it stands.
    pub state: SupplierState,
    /// Since when it stands there.
    pub since: Timestamp,
    /// QAD's side, as last read or written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub qad: Option<QadSupplier>,
    /// Coupa's side, as last read or written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coupa: Option<CoupaSupplier>,
    /// What both sides last agreed on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agreed: Option<Agreed>,
    /// The write under way, or the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<Effect>,
    /// The proposal that a person accepted, until it is linked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted: Option<Accepted>,
    /// When the last write ended.
    #[serde(default)]
    pub written_at: Timestamp,
    /// When the reading began that the sides shown here come from.
    #[serde(default)]
    pub read_at: Timestamp,
    /// Where it stands in the index of questions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listed: Option<Listed>,
    /// Where its audit chain ends.
    pub chain: ChainEnd,
}

impl SupplierRecord {
    /// A record of a supplier just heard of.
    pub fn new(id: SupplierId, now: Timestamp) -> Self {
        Self {
            schema: RECORD_SCHEMA,
            id,
            state: SupplierState::Alone {
                why: "just heard of".to_owned(),
            },
            since: now,
            qad: None,
            coupa: None,
            agreed: None,
            effect: None,
            accepted: None,
            written_at: Timestamp::default(),
            read_at: Timestamp::default(),
            listed: None,
            chain: ChainEnd::default(),
        }
    }

    /// The Coupa supplier a QAD supplier is linked to.
    pub fn linked_coupa(&self) -> Option<u64> {
        match &self.state {
            SupplierState::Linked { coupa, .. }
            | SupplierState::Parked {
                coupa: coupa @ Some(_),
                ..
            } => *coupa,
            // One that is, or could not be, created in QAD knows what it is created from.
            SupplierState::Creating | SupplierState::Parked { coupa: None, .. } => {
                self.coupa.as_ref().map(|coupa| coupa.id)
            }
            SupplierState::Alone { .. } => None,
        }
    }

    /// What a person accepts by saying that it is this supplier of Coupa. The error says why that cannot be accepted.
    pub fn acceptance(&self, coupa: u64) -> Result<Accepted, Problem> {
        let wanted = SupplierId::Coupa(coupa);
        let refuse = |code: &str, fix: &str, expected: &str, actual: String| {
            Err(Problem::new(code, fix)
                .field(format!("{} and {wanted}", self.id))
                .expected(expected)
                .actual(actual))
        };
        let candidates: &[Candidate] = match &self.state {
            SupplierState::Parked { candidates, .. } => candidates,
            _ => &[],
        };
        let found = candidates.iter().find(|candidate| candidate.id == wanted);
        match (found, &self.qad) {
            (Some(candidate), Some(_)) if candidate.replaces.contains(&Replaced::NumberInCoupa) => refuse(
                "SUPPLIER_HAS_A_NUMBER",
                "Take the number off the one in Coupa, or give it QAD's code there, if they are one supplier.",
                "a supplier in Coupa without another number",
                candidate.words.clone(),
            ),
            (Some(candidate), Some(qad)) => Ok(Accepted {
                words: qad.words(),
                candidate: candidate.clone(),
            }),
            _ => {
                let proposed: Vec<String> = candidates.iter().map(|one| one.id.to_string()).collect();
                refuse(
                    "SUPPLIER_NOT_PROPOSED",
                    "Look at the proposals; only what is proposed can be accepted.",
                    "a supplier of QAD and one that it is proposed for",
                    if proposed.is_empty() {
                        "no proposal".to_owned()
                    } else {
                        format!("proposed: {}", proposed.join(", "))
                    },
                )
            }
        }
    }

    /// Who it may be on the other side, when somebody has to say so.
    pub fn candidates(&self) -> &[Candidate] {
        match &self.state {
            SupplierState::Parked { candidates, .. } => candidates,
            _ => &[],
        }
    }

    /// Whom it is about, for people: QAD's side where there is one.
    pub fn words(&self) -> String {
        match (&self.qad, &self.coupa) {
            (Some(qad), _) => qad.words(),
            (None, Some(coupa)) => coupa.words(),
            (None, None) => self.id.to_string(),
        }
    }

    /// QAD's code, in the record of a QAD supplier.
    pub fn code(&self) -> Option<&SupplierCode> {
        match &self.id {
            SupplierId::Qad(code) => Some(code),
            SupplierId::Coupa(_) => None,
        }
    }

    /// True when what it shows may be newer than a reading that began at `began`, by clocks that differ at most by
    /// `skew_millis`: such a reading says nothing about it.
    pub fn is_newer_than(&self, began: Timestamp, skew_millis: i64) -> bool {
        let written = self.written_at != Timestamp::default();
        self.read_at > began || (written && self.written_at.plus_millis(skew_millis) >= began)
    }

    /// True while a write of it is not finished.
    pub fn is_open(&self) -> bool {
        self.effect.as_ref().is_some_and(|effect| !effect.is_finished())
    }

    /// Moves the effect and tells it: the record after, and the event for the audit trail.
    pub fn advance(
        &self,
        write: &SupplierWrite,
        event: EffectEvent,
        now: Timestamp,
        timing: &Timing,
    ) -> Result<(Self, SupplierEvent), IllegalStep> {
        let effect = self.effect.as_ref().ok_or(IllegalStep::NoEffect)?;
        let moved = effect.after(&event, now, timing)?;
        let told = SupplierEvent::Writing {
            what: write.key(),
            fields: write.data().iter().map(|(field, _)| field).collect(),
            step: event,
            fence: moved.fence,
        };
        let mut next = self.clone();
        if moved.is_finished() {
            next.written_at = now;
        }
        next.effect = Some(moved);
        Ok((next, told))
    }

    /// What a linked supplier needs now, in the order in which it is done.
    pub fn next_step(&self, policy: &SupplierPolicy) -> NextStep {
        let (Some(qad), Some(coupa)) = (&self.qad, &self.coupa) else {
            return NextStep::Settled;
        };
        if let Some(number) = coupa.number.as_ref().filter(|_| !coupa.is_numbered(&qad.code)) {
            let fix = "Give the supplier in Coupa its old number back; another supplier of QAD needs one of its own in Coupa.";
            return NextStep::Park(
                Problem::new("SUPPLIER_NUMBER_CHANGED", fix)
                    .field(format!("Coupa {} \"{}\"", coupa.id, coupa.data.name()))
                    .expected(format!("number {}", qad.code))
                    .actual(number.as_str()),
            );
        }
        let comparable = coupa.comparable(policy);
        let alignment = align(&qad.data, &comparable, self.agreed.as_ref(), policy);
        if !alignment.conflicts.is_empty() {
            return NextStep::Park(conflict(&qad.code, &alignment.conflicts));
        }
        if !alignment.to_coupa.is_empty() || coupa.number.is_none() {
            let data = in_coupa_words(alignment.to_coupa, policy);
            return NextStep::Write(SupplierWrite::UpdateInCoupa {
                id: coupa.id,
                code: qad.code.clone(),
                data,
            });
        }
        if !alignment.to_qad.is_empty() {
            return NextStep::Write(SupplierWrite::UpdateInQad {
                code: qad.code.clone(),
                data: alignment.to_qad,
            });
        }
        let now_agreed = Agreed {
            qad: qad.data.clone(),
            coupa: comparable,
        };
        if self.agreed.as_ref() == Some(&now_agreed) {
            NextStep::Settled
        } else {
            NextStep::Agree(now_agreed)
        }
    }

    /// The agreement after a write was confirmed. The side that was told holds what it shows now; the side that told held
    /// what was sent: what it has become since is news, and not agreed by a write that did not know of it.
    #[must_use]
    pub fn agreed_after(&self, write: &SupplierWrite, policy: &SupplierPolicy) -> Option<Agreed> {
        let (Some(qad), Some(coupa)) = (&self.qad, &self.coupa) else {
            return self.agreed.clone();
        };
        let comparable = coupa.comparable(policy);
        let mut sent = write.data().clone();
        if write.is_to_coupa()
            && let Some(terms) = write.data().get(SupplierField::PaymentTerms)
        {
            sent.set(SupplierField::PaymentTerms, &policy.terms_in_qad(terms));
        }
        let besides = SupplierField::ALL
            .into_iter()
            .filter(|field| sent.get(*field).is_none());
        let mut agreed = match (write, self.agreed.clone()) {
            // What Coupa holds besides was filled in by us.
            (SupplierWrite::CreateInCoupa { .. }, _) => Agreed {
                qad: sent.clone(),
                coupa: comparable.clone(),
            },
            // What QAD holds besides, from the connection's defaults, is news for Coupa.
            (SupplierWrite::CreateInQad { .. }, _) => {
                let mut agreed = Agreed {
                    qad: qad.data.clone(),
                    coupa: sent.clone(),
                };
                besides.for_each(|field| agreed.qad.set(field, ""));
                agreed
            }
            (_, Some(agreed)) => agreed,
            // The first agreement. What one side must still tell the other is left open by forgetting its value.
            (_, None) => {
                let open = align(&qad.data, &comparable, None, policy);
                let mut agreed = Agreed {
                    qad: qad.data.clone(),
                    coupa: comparable.clone(),
                };
                for field in besides {
                    if open.to_coupa.get(field).is_some() {
                        agreed.qad.set(field, "");
                    }
                    if open.to_qad.get(field).is_some() {
                        agreed.coupa.set(field, "");
                    }
                }
                agreed
            }
        };
        for (field, text) in sent.iter() {
            let (ours, theirs) = if write.is_to_coupa() {
                (Some(text), comparable.get(field))
            } else {
                (qad.data.get(field), Some(text))
            };
            agreed.qad.set(field, ours.unwrap_or_default());
            agreed.coupa.set(field, theirs.unwrap_or_default());
        }
        Some(agreed)
    }
}

/// What a linked supplier needs now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NextStep {
    /// Nothing.
    Settled,
    /// To remember what both sides hold.
    Agree(Agreed),
    /// A write.
    Write(SupplierWrite),
    /// A person.
    Park(Problem),
}

/// The fields with Coupa's payment terms.
pub fn in_coupa_words(mut data: SupplierData, policy: &SupplierPolicy) -> SupplierData {
    if let Some(terms) = data
        .get(SupplierField::PaymentTerms)
        .map(|terms| policy.terms_in_coupa(terms))
    {
        data.set(SupplierField::PaymentTerms, &terms);
    }
    data
}

#[cfg(test)]
mod tests;
