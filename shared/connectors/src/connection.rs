//! The settings of one connection (a Coupa instance with a QAD tenant): parsed once at the door, every error with the
//! setting it is about, and the clients made from them.

mod codes;
mod contradictions;
mod credits;
mod destinations;
mod entities;
mod lookups;
mod payable;
mod suppliers;
mod tolerances;

pub use destinations::NumberMap;
pub use entities::EntitySettings;
pub use lookups::LookupSettings;
pub use suppliers::{CoupaSupplierDefaults, QadSupplierDefaults, SupplierSettings};

use self::credits::CreditDocument;
use self::destinations::{CodingDocument, LineDocument};
use self::payable::{NotPayableDocument, RemitToDocument};
use self::tolerances::ToleranceDocument;
use crate::coupa::CoupaClient;
use crate::http::address::BaseUrl;
use crate::http::auth::{Authenticator, AuthenticatorParts, Login, Scheme, YOUNG_TOKEN_MILLIS};
use crate::http::outbound::{Destination, NETWORKS_MAX, Network};
use crate::http::pace::Paces;
use crate::http::route::{self, Route};
use crate::http::transport::Transport;
use crate::http::{Peer, System, USER_AGENT};
use crate::qad::QadClient;
use crate::qad::profile::Profile;
use domain::coupa_orders::{CoupaOrderPolicy, CoupaOrderStanding, OnCoupaOrder};
use domain::documents::ChargeKind;
use domain::entities::EntityRule;
use domain::ids::{
    ConnectionId, CreditTermsCode, DaybookCode, DomainCode, EntityCode, GlAccountCode, IdError, QadTenant,
    UnitCode, fold,
};
use domain::instruction::SecondPerson;
use domain::mark;
use domain::money::{Currency, MINOR_DIGITS_MAX, parse_decimal};
use domain::patience::Patience;
use domain::payments::{PaymentPolicy, StatusMeaning};
use domain::policy::{ChargeAccount, MatchPolicy, NotPayable, OnNotPayable, PostingDate, UnitConversion};
use domain::problem::Problem;
use domain::time::Zone;
use flows::match_invoice::InvoiceSettings;
use flows::neighbours::Home;
use flows::ports::{Chance, Clock, Outcomes, TokenSlot, TokenStore};
use flows::write_payment::PaymentSettings;
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;
use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Coupa's own limit, requests per second (confirmed).
pub const COUPA_REQUESTS_PER_SECOND_MAX: u32 = 25;
/// Most requests per second that may be configured for QAD.
pub const QAD_REQUESTS_PER_SECOND_MAX: u32 = 100;
/// Shortest and longest time after which a held invoice is looked at although nothing happened, in seconds.
pub const HOLD_RECHECK_SECONDS: (u64, u64) = (1, 30 * 86_400);
/// Shortest and longest time after which the orders of invoices that wait are read again, in seconds.
pub const ORDER_RECHECK_SECONDS: (u64, u64) = (60, 30 * 86_400);
/// Largest document that is read, in bytes (what a secret may hold is far less).
pub const DOCUMENT_BYTES_MAX: usize = 256 * 1024;

/// The sections of a connection's document.
pub const SECTIONS: &[&str] = &[
    "coupa",
    "qad",
    "entities",
    "invoices",
    "lines",
    "coding",
    "credits",
    "payments",
    "lookups",
    "suppliers",
];
/// The settings that stand in no section. `token_key` seals cached tokens; whoever keeps them reads it himself.
pub const SETTINGS: &[&str] = &[
    "hold_recheck_seconds",
    "order_recheck_seconds",
    "time_zone",
    "token_key",
];

const FIX: &str = "Correct the setting; docs/examples/connection.toml lists all of them.";

/// All settings of one connection, as they are kept in its secret (JSON).
#[derive(Debug, Clone)]
pub struct ConnectionDocument {
    /// Coupa.
    pub coupa: CoupaSettings,
    /// QAD.
    pub qad: QadSettings,
    /// The tenant's API: the built-in profile with the connection's overrides.
    pub profile: Profile,
    /// How invoices are matched and posted.
    pub policy: MatchPolicy,
    /// Takes a document that a person keyed in QAD with equal amount and currency as ours; otherwise it is parked.
    pub adopt_equal_documents: bool,
    /// Above which amounts a release needs a second person.
    pub second_person: SecondPerson,
    /// How often an invoice that waits is looked at although nothing happened, in seconds.
    pub hold_recheck_seconds: u64,
    /// How often the orders of invoices that wait are read again, in seconds.
    pub order_recheck_seconds: u64,
    /// How payments go back to Coupa.
    pub payments: PaymentSettings,
    /// Which lists of QAD are shown in which lookups of Coupa; `None`: none.
    pub lookups: Option<LookupSettings>,
    /// How suppliers are kept aligned.
    pub suppliers: SupplierSettings,
    /// The entities it serves; none in the short form, where everything is `qad.entity`'s.
    pub entities: Vec<EntitySettings>,
    /// Where the connection's days begin.
    pub zone: Zone,
}

/// The section `coupa`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CoupaSettings {
    /// `https://<instance>.coupahost.com`.
    pub base_url: BaseUrl,
    /// OAuth client id.
    pub client_id: String,
    /// OAuth client secret.
    pub client_secret: SecretString,
    /// Private ranges that its host may be in; none for a host on the internet.
    #[serde(default)]
    pub networks: Vec<Network>,
    /// How the company's own network lets us out to it.
    #[serde(default)]
    pub network: Route,
    /// Its name in QAD's descriptions, where an installation serves more than one instance; blank for none.
    #[serde(default)]
    pub instance: String,
    /// Scopes to ask for; none asks for all that are granted.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// Path of the token endpoint.
    #[serde(default = "coupa_token_path")]
    pub token_path: String,
    /// `X-Coupa-API-Version` of every request; blank sends none (the header is seen, not confirmed).
    #[serde(default = "coupa_api_version")]
    pub api_version: String,
    /// Most requests per second.
    #[serde(default = "coupa_requests_per_second")]
    pub requests_per_second: u32,
    /// Whether several of its documents are asked for in one request. Coupa's lists are taken to hold what the document holds
    /// (assumed).
    #[serde(default = "coupa_reads_together")]
    pub reads_together: bool,
    /// Which invoices are listed.
    #[serde(default)]
    pub invoices: CoupaInvoices,
    /// Where a line names its QAD order.
    #[serde(default = "order_number", deserialize_with = "read_order_number")]
    pub order_number: NumberMap,
    /// Where a line names its line of the QAD order.
    #[serde(default = "order_line", deserialize_with = "read_order_line")]
    pub order_line: NumberMap,
    /// Where the invoice names its QAD supplier.
    #[serde(default = "supplier_code", deserialize_with = "read_supplier_code")]
    pub supplier_code: NumberMap,
    /// How Coupa's orders are read, and how they count.
    #[serde(default)]
    pub orders: CoupaOrders,
    /// Whether and how outcomes are written onto the document.
    #[serde(default)]
    pub integration_history: IntegrationHistory,
    /// The custom field of an invoice that is to carry QAD's number of the document; none leaves it alone.
    #[serde(default)]
    pub voucher_field: Option<String>,
    /// The lookup that holds the mark of the installation that works with this instance; none leaves two of them unnoticed.
    #[serde(default)]
    pub owner_lookup: Option<String>,
}

fn coupa_reads_together() -> bool {
    true
}
fn coupa_token_path() -> String {
    "/oauth2/token".to_owned()
}
fn coupa_api_version() -> String {
    "39".to_owned()
}
fn coupa_requests_per_second() -> u32 {
    20
}

impl CoupaSettings {
    /// The only place its requests may go to.
    pub fn destination(&self) -> Destination {
        Destination::of(&self.base_url, &self.networks).by(&self.network)
    }
}

/// Which invoices of the instance are listed.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct CoupaInvoices {
    /// Further parameters of the list, for example `account-type[name]`: what does not fit them is not even read.
    pub filter: BTreeMap<String, String>,
}

/// Coupa's own order number of a line.
pub const ORDER_FIELD: &str = "po-number";
/// Coupa's own number of the order line.
pub const ORDER_LINE_FIELD: &str = "order-line-num";
/// Coupa's number of the invoice's supplier.
pub const SUPPLIER_FIELD: &str = "supplier.number";

fn order_number() -> NumberMap {
    NumberMap::of(ORDER_FIELD)
}
fn order_line() -> NumberMap {
    NumberMap::of(ORDER_LINE_FIELD)
}
fn supplier_code() -> NumberMap {
    NumberMap::of(SUPPLIER_FIELD)
}

fn read_order_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<NumberMap, D::Error> {
    destinations::number_map(deserializer, ORDER_FIELD)
}
fn read_order_line<'de, D: Deserializer<'de>>(deserializer: D) -> Result<NumberMap, D::Error> {
    destinations::number_map(deserializer, ORDER_LINE_FIELD)
}
fn read_supplier_code<'de, D: Deserializer<'de>>(deserializer: D) -> Result<NumberMap, D::Error> {
    destinations::number_map(deserializer, SUPPLIER_FIELD)
}

/// How Coupa's numbers on an invoice become QAD's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NumberMaps {
    /// The order of a line.
    pub order: NumberMap,
    /// The order's line.
    pub line: NumberMap,
    /// The supplier.
    pub supplier: NumberMap,
}

impl Default for NumberMaps {
    fn default() -> Self {
        Self {
            order: order_number(),
            line: order_line(),
            supplier: supplier_code(),
        }
    }
}

/// How Coupa's orders are read, and how they count.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CoupaOrders {
    /// Whether they are read at all; needs the scope `core.purchase_order.read`.
    pub read: bool,
    /// What a cancelled order does.
    pub cancelled: OnCoupaOrder,
    /// What a closed order does.
    pub closed: OnCoupaOrder,
    /// What an order does that is closed and can be opened again.
    pub soft_closed: OnCoupaOrder,
    /// Further status words and their meaning; they come before the built-in ones.
    pub statuses: BTreeMap<String, CoupaOrderStanding>,
    /// Field of an order line that says whether it wants a receipt: a flag.
    pub receipt_required_field: String,
    /// Field of an order line that says how it is matched: a word.
    pub match_type_field: String,
    /// Words of that field which want no receipt.
    pub match_types_without_receipt: Vec<String>,
}

impl Default for CoupaOrders {
    fn default() -> Self {
        let policy = CoupaOrderPolicy::default();
        Self {
            read: policy.read,
            cancelled: policy.cancelled,
            closed: policy.closed,
            soft_closed: policy.soft_closed,
            statuses: BTreeMap::new(),
            receipt_required_field: "receipt-required".to_owned(),
            match_type_field: "match-type".to_owned(),
            match_types_without_receipt: vec!["2-way".to_owned(), "none".to_owned()],
        }
    }
}

impl CoupaOrders {
    /// The part that decisions depend on.
    pub fn policy(&self) -> CoupaOrderPolicy {
        CoupaOrderPolicy {
            read: self.read,
            cancelled: self.cancelled,
            closed: self.closed,
            soft_closed: self.soft_closed,
        }
    }
}

/// Outcomes as integration history records on the Coupa document.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IntegrationHistory {
    /// Off unless the integration was set up in Coupa: an unknown code is refused there.
    pub enabled: bool,
    /// Code of the integration in Coupa.
    pub integration_code: String,
    /// Which contact is alerted when accounts payable or the buyer must act.
    pub contact_alert_type: String,
    /// Which contact is alerted when the connection itself needs somebody.
    pub technical_contact_alert_type: String,
    /// The status of a record about an invoice that waits by itself. Coupa documents the field as free text.
    pub waiting_status: String,
}

impl Default for IntegrationHistory {
    fn default() -> Self {
        Self {
            enabled: false,
            integration_code: "QAD_INVOICES".to_owned(),
            contact_alert_type: "Functional".to_owned(),
            technical_contact_alert_type: "Technical".to_owned(),
            waiting_status: "Pending".to_owned(),
        }
    }
}

/// The section `qad`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QadSettings {
    /// The tenant's URL with its context root, for example `https://<tenant>.qad.com/clouderp`.
    pub base_url: BaseUrl,
    /// Private ranges that its host may be in; none for a host on the internet.
    #[serde(default)]
    pub networks: Vec<Network>,
    /// How the company's own network lets us out to it.
    #[serde(default)]
    pub network: Route,
    /// Domain of orders and receipts.
    pub domain: DomainCode,
    /// Entity that records the invoices.
    pub entity: EntityCode,
    /// Sends `x-qad-workspace-id: <domain>_<entity>` with every call.
    #[serde(default)]
    pub workspace_header: bool,
    /// How to log in.
    pub auth: QadAuth,
    /// More headers of every call; their values may be keys.
    #[serde(default)]
    pub extra_headers: BTreeMap<String, SecretString>,
    /// Most requests per second.
    #[serde(default = "qad_requests_per_second")]
    pub requests_per_second: u32,
    /// What the tenant names differently: parts of a [`Profile`].
    #[serde(default = "no_overrides")]
    pub profile: serde_json::Value,
}

impl QadSettings {
    /// The only place its requests may go to.
    pub fn destination(&self) -> Destination {
        Destination::of(&self.base_url, &self.networks).by(&self.network)
    }
}

fn qad_requests_per_second() -> u32 {
    10
}

fn no_overrides() -> serde_json::Value {
    serde_json::Value::Object(serde_json::Map::new())
}

/// How QAD wants to be logged in to.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case", deny_unknown_fields)]
pub enum QadAuth {
    /// OAuth 2 resource owner password (seen).
    Password {
        /// Client id of the tenant.
        client_id: String,
        /// Client secret, when the tenant demands one.
        #[serde(default)]
        client_secret: Option<SecretString>,
        /// User.
        username: String,
        /// Password.
        password: SecretString,
        /// Path of the token endpoint.
        #[serde(default = "qad_token_path")]
        token_path: String,
    },
    /// OAuth 2 client credentials (assumed).
    ClientCredentials {
        /// Client id.
        client_id: String,
        /// Client secret.
        client_secret: SecretString,
        /// Scopes.
        #[serde(default)]
        scopes: Vec<String>,
        /// Path of the token endpoint.
        #[serde(default = "qad_token_path")]
        token_path: String,
    },
    /// HTTP Basic on each call (seen).
    Basic {
        /// User.
        username: String,
        /// Password.
        password: SecretString,
    },
    /// A login that answers a session token (assumed).
    Login(Login),
}

fn qad_token_path() -> String {
    "/oauth/token".to_owned()
}

impl QadAuth {
    fn scheme(&self) -> Scheme {
        match self.clone() {
            Self::Password {
                client_id,
                client_secret,
                username,
                password,
                token_path,
            } => Scheme::Password {
                token_path,
                client_id,
                client_secret,
                username,
                password,
            },
            Self::ClientCredentials {
                client_id,
                client_secret,
                scopes,
                token_path,
            } => Scheme::ClientCredentials {
                token_path,
                client_id,
                client_secret,
                scopes,
            },
            Self::Basic { username, password } => Scheme::Basic { username, password },
            Self::Login(login) => Scheme::Login(login),
        }
    }
}

/// The section `invoices`: tolerances and posting defaults.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct InvoiceDocument {
    invoice_daybook: String,
    credit_note_daybook: String,
    matching_daybook: String,
    invoice_status: String,
    posting_date: PostingDate,
    first_open_day: Option<domain::time::Date>,
    adopt_equal_documents: bool,
    tolerance: ToleranceDocument,
    credit_terms: BTreeMap<String, CreditTermsCode>,
    charge_accounts: BTreeMap<ChargeKind, ChargeAccountDocument>,
    units: BTreeMap<String, UnitDocument>,
    second_person: SecondPersonDocument,
    gl_status_code: String,
    when_canceled: OnNotPayable,
    when_paid: OnNotPayable,
    when_other_channel: OnNotPayable,
    when_prepaid: OnNotPayable,
    prepaid_words: Vec<String>,
    locked_status_code: String,
    remit_to: RemitToDocument,
    hold_days_max: Exact,
    minor_units: BTreeMap<Currency, u32>,
}

impl InvoiceDocument {
    /// What is done with an invoice that QAD is not to pay.
    fn not_payable(&self) -> NotPayableDocument {
        NotPayableDocument {
            when_canceled: self.when_canceled,
            when_paid: self.when_paid,
            when_other_channel: self.when_other_channel,
            when_prepaid: self.when_prepaid,
            prepaid_words: self.prepaid_words.clone(),
            locked_status_code: self.locked_status_code.clone(),
        }
    }
}

/// Which releases need two people.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct SecondPersonDocument {
    above: BTreeMap<Currency, Exact>,
    request_hours: i64,
}

impl Default for SecondPersonDocument {
    fn default() -> Self {
        Self {
            above: BTreeMap::new(),
            request_hours: 24,
        }
    }
}

/// Shortest and longest time that a request may wait for its second person, in hours.
const REQUEST_HOURS: (i64, i64) = (1, 720);
const HOUR_MILLIS: i64 = 3_600_000;

impl SecondPersonDocument {
    fn rule(&self, problems: &mut Vec<Problem>) -> SecondPerson {
        for (currency, limit) in self.above.iter().filter(|(_, limit)| limit.0 < Decimal::ZERO) {
            let field = format!("invoices.second_person.above.{currency}");
            problems.push(invalid(&field, "zero or more", limit.0.to_string()));
        }
        let (shortest, longest) = REQUEST_HOURS;
        if !(shortest..=longest).contains(&self.request_hours) {
            let (expected, actual) = (format!("{shortest} to {longest}"), self.request_hours.to_string());
            problems.push(invalid("invoices.second_person.request_hours", expected, actual));
        }
        SecondPerson {
            above: self
                .above
                .iter()
                .map(|(currency, limit)| (*currency, limit.0))
                .collect(),
            valid_millis: self.request_hours.saturating_mul(HOUR_MILLIS),
        }
    }
}

impl Default for InvoiceDocument {
    fn default() -> Self {
        Self {
            invoice_daybook: "SI".to_owned(),
            credit_note_daybook: "CN".to_owned(),
            matching_daybook: "RM".to_owned(),
            invoice_status: "AP-RMALLOC".to_owned(),
            posting_date: PostingDate::default(),
            first_open_day: None,
            adopt_equal_documents: true,
            tolerance: ToleranceDocument::default(),
            credit_terms: BTreeMap::new(),
            charge_accounts: BTreeMap::new(),
            units: BTreeMap::new(),
            second_person: SecondPersonDocument::default(),
            gl_status_code: "AP-GLALLOC".to_owned(),
            when_canceled: OnNotPayable::default(),
            when_paid: OnNotPayable::default(),
            when_other_channel: OnNotPayable::default(),
            when_prepaid: OnNotPayable::default(),
            prepaid_words: NotPayable::default().prepaid_words,
            locked_status_code: String::new(),
            remit_to: RemitToDocument::default(),
            hold_days_max: Exact(Decimal::from(45)),
            minor_units: BTreeMap::new(),
        }
    }
}

/// The section `payments`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct PaymentDocument {
    statuses: BTreeMap<String, StatusMeaning>,
    over_total: Exact,
    under_total: Exact,
    own_channels: Vec<String>,
    lookback_days: i64,
}

impl Default for PaymentDocument {
    fn default() -> Self {
        let standard = PaymentSettings::default();
        Self {
            statuses: BTreeMap::new(),
            over_total: Exact(standard.policy.over_total),
            under_total: Exact(standard.policy.under_total),
            own_channels: standard.own_channels,
            lookback_days: standard.lookback_days,
        }
    }
}

/// Fewest and most days that payments may be looked back for.
const LOOKBACK_DAYS: (i64, i64) = (2, 730);

impl PaymentDocument {
    /// The settings: the connection's statuses are laid over the standard ones.
    fn settings(self, problems: &mut Vec<Problem>) -> PaymentSettings {
        for (field, amount) in [
            ("payments.over_total", self.over_total.0),
            ("payments.under_total", self.under_total.0),
        ] {
            if amount < Decimal::ZERO {
                problems.push(invalid(field, "zero or more", amount.to_string()));
            }
        }
        if self.own_channels.iter().any(|channel| channel.trim().is_empty()) {
            problems.push(invalid("payments.own_channels", "Coupa's words", "a blank"));
        }
        let (shortest, longest) = LOOKBACK_DAYS;
        if !(shortest..=longest).contains(&self.lookback_days) {
            let (expected, actual) = (format!("{shortest} to {longest}"), self.lookback_days.to_string());
            problems.push(invalid("payments.lookback_days", expected, actual));
        }
        let mut policy = PaymentPolicy {
            over_total: self.over_total.0,
            under_total: self.under_total.0,
            ..PaymentPolicy::default()
        };
        for (word, meaning) in self.statuses {
            policy.meaning.insert(word.trim().to_lowercase(), meaning);
        }
        PaymentSettings {
            policy,
            own_channels: self.own_channels,
            lookback_days: self.lookback_days,
            ..PaymentSettings::default()
        }
    }
}

/// Where a charge goes.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct ChargeAccountDocument {
    gl_account: GlAccountCode,
    #[serde(default)]
    sub_account: String,
    #[serde(default)]
    cost_center: String,
    #[serde(default)]
    project: String,
}

impl ChargeAccountDocument {
    fn account(self) -> ChargeAccount {
        ChargeAccount {
            gl_account: self.gl_account,
            sub_account: self.sub_account,
            cost_center: self.cost_center,
            project: self.project,
        }
    }
}

/// A unit of Coupa in QAD's units.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct UnitDocument {
    to: UnitCode,
    #[serde(default = "Exact::one")]
    factor: Exact,
    #[serde(default)]
    items: BTreeMap<String, Exact>,
}

/// An exact decimal, written as a number or as a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Exact(Decimal);

impl Exact {
    fn one() -> Self {
        Self(Decimal::ONE)
    }
}

impl<'de> Deserialize<'de> for Exact {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // The digits as they are written; a float would change them.
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        parse_decimal(raw.get().trim_matches('"'))
            .map(Self)
            .map_err(serde::de::Error::custom)
    }
}

impl ConnectionDocument {
    /// Reads a document. All problems that can be told at once are told at once; none of them shows a secret.
    pub fn parse(json: &str) -> Result<Self, Vec<Problem>> {
        if json.len() > DOCUMENT_BYTES_MAX {
            return Err(vec![invalid(
                "",
                format!("at most {DOCUMENT_BYTES_MAX} bytes"),
                json.len().to_string(),
            )]);
        }
        let mut sections: BTreeMap<String, Box<RawValue>> = serde_json::from_str(json).map_err(|error| {
            let actual = format!("line {} column {}", error.line(), error.column());
            vec![invalid("", "a JSON object with coupa, qad and invoices", actual)]
        })?;
        let mut problems = Vec::new();
        let known: Vec<&str> = SECTIONS.iter().chain(SETTINGS).copied().collect();
        for name in sections.keys().filter(|name| !known.contains(&name.as_str())) {
            problems.push(invalid(name, format!("one of {}", known.join(", ")), name));
        }
        let written = entities::written(&sections, &mut problems);
        let default_domain = sections
            .get("qad")
            .and_then(|qad| serde_json::from_str::<DefaultDomain>(qad.get()).ok())
            .and_then(|qad| qad.domain);
        entities::qad_of_first(
            &mut sections,
            written.as_deref().unwrap_or_default(),
            &mut problems,
        );
        let zone = section::<String>(&sections, "time_zone", Some("\"UTC\""), &mut problems).map(|name| {
            Zone::named(&name).unwrap_or_else(|| {
                problems.push(entities::no_zone("time_zone", Some(&name)));
                Zone::default()
            })
        });
        let zone = zone.unwrap_or_default();
        let coupa: Option<CoupaSettings> = section(&sections, "coupa", None, &mut problems);
        let qad: Option<QadSettings> = section(&sections, "qad", None, &mut problems);
        let invoices: Option<InvoiceDocument> = section(&sections, "invoices", Some("{}"), &mut problems);
        let payments: Option<PaymentDocument> = section(&sections, "payments", Some("{}"), &mut problems);
        let payments = payments.map(|payments| payments.settings(&mut problems));
        let lookups: Option<Option<lookups::LookupDocument>> =
            section(&sections, "lookups", Some("null"), &mut problems);
        let lookups = lookups.flatten().map(|document| document.settings(&mut problems));
        let invoice_terms = invoices.as_ref().map(|invoices| invoices.credit_terms.clone());
        let suppliers =
            section::<suppliers::SupplierDocument>(&sections, "suppliers", Some("{}"), &mut problems)
                .map(|section| section.settings(&invoice_terms.unwrap_or_default(), &mut problems));
        if let (Some(coupa), Some(suppliers)) = (&coupa, &suppliers)
            && suppliers.enabled
            && coupa.supplier_code.field != SUPPLIER_FIELD
        {
            problems.push(invalid(
                "coupa.supplier_code.field",
                format!("{SUPPLIER_FIELD}, because suppliers are aligned by their number in Coupa"),
                &coupa.supplier_code.field,
            ));
        }
        if let (Some(coupa), Some(lookups)) = (&coupa, &lookups)
            && let Some(owner) = &coupa.owner_lookup
            && lookups.syncs.iter().any(|sync| fold(&sync.lookup) == fold(owner))
        {
            let expected = "a lookup of its own: what follows a list of QAD would deactivate the mark";
            problems.push(invalid("coupa.owner_lookup", expected, owner));
        }
        let recheck: Option<u64> = section(&sections, "hold_recheck_seconds", Some("86400"), &mut problems);
        let order_recheck = order_recheck(&sections, &mut problems);
        if let Some(coupa) = &coupa {
            check_coupa(coupa, &mut problems);
        }
        if let Some(qad) = &qad {
            check_qad(qad, &mut problems);
        }
        let adopt_equal_documents = invoices
            .as_ref()
            .is_some_and(|invoices| invoices.adopt_equal_documents);
        let second_person = invoices
            .as_ref()
            .map(|invoices| invoices.second_person.rule(&mut problems))
            .unwrap_or_default();
        let mut entities = match &qad {
            Some(qad) => entities::settings(
                written.as_deref().unwrap_or_default(),
                qad,
                default_domain.as_ref(),
                &sections,
                suppliers
                    .as_ref()
                    .map_or("", |suppliers| suppliers.shared_set.as_str()),
                &zone,
                &mut problems,
            ),
            None => Vec::new(),
        };
        let policy = match (&qad, invoices) {
            (Some(qad), Some(invoices)) => match_policy(qad, invoices, &mut problems),
            _ => None,
        };
        let coding: Option<Option<CodingDocument>> =
            section(&sections, "coding", Some("null"), &mut problems);
        let coding = coding.flatten().map(|coding| coding.settings(&mut problems));
        let reads_orders = coupa.as_ref().is_none_or(|coupa| coupa.orders.read);
        let lines = section::<LineDocument>(&sections, "lines", Some("{}"), &mut problems)
            .map(|lines| {
                let all_have = |entities: &[EntitySettings]| {
                    !entities.is_empty() && entities.iter().all(|entity| entity.policy.coding.is_some())
                };
                let has_coding = coding.is_some() || all_have(&entities);
                lines.settings(has_coding, reads_orders, &mut problems)
            })
            .unwrap_or_default();
        let credits: Option<CreditDocument> = section(&sections, "credits", Some("{}"), &mut problems);
        let return_millis = credits
            .as_ref()
            .map(|credits| credits.return_millis(&mut problems));
        let patience = |of: Patience| Patience {
            return_millis: return_millis.unwrap_or(of.return_millis),
            ..of
        };
        let credits = credits.map(CreditDocument::settings).unwrap_or_default();
        for entity in &mut entities {
            entity.policy.patience = patience(entity.policy.patience);
            entity.policy.lines = lines.clone();
            entity.policy.credits = credits.clone();
            entity.policy.coding = entity.policy.coding.take().or_else(|| coding.clone());
        }
        let policy = policy.map(|policy| MatchPolicy {
            lines,
            coding,
            credits,
            patience: patience(policy.patience),
            ..policy
        });
        let profile = match qad.as_ref().map(|qad| Profile::with_overrides(&qad.profile)) {
            Some(Ok(profile)) => Some(profile),
            Some(Err(found)) => {
                problems.extend(found);
                None
            }
            None => None,
        };
        let (shortest, longest) = HOLD_RECHECK_SECONDS;
        if let Some(seconds) = recheck.filter(|seconds| !(shortest..=longest).contains(seconds)) {
            problems.push(invalid(
                "hold_recheck_seconds",
                format!("{shortest} to {longest}"),
                seconds.to_string(),
            ));
        }
        match (coupa, qad, profile, policy, recheck, payments, suppliers) {
            (
                Some(coupa),
                Some(qad),
                Some(profile),
                Some(policy),
                Some(hold_recheck_seconds),
                Some(payments),
                Some(suppliers),
            ) if problems.is_empty() => Ok(Self {
                coupa,
                qad,
                profile,
                policy,
                adopt_equal_documents,
                second_person,
                hold_recheck_seconds,
                order_recheck_seconds: order_recheck,
                payments,
                lookups,
                suppliers,
                entities,
                zone,
            }),
            _ => Err(problems),
        }
    }

    /// Everything a match decision depends on besides the documents.
    pub fn match_policy(&self) -> MatchPolicy {
        self.whole(self.entities.first().map_or(&self.policy, |first| &first.policy))
    }

    /// A policy with what other sections say.
    fn whole(&self, policy: &MatchPolicy) -> MatchPolicy {
        MatchPolicy {
            coupa_instance: self.coupa.instance.trim().to_owned(),
            coupa_orders: self.coupa.orders.policy(),
            not_payable: NotPayable {
                own_channels: self.payments.own_channels.clone(),
                ..policy.not_payable.clone()
            },
            ..policy.clone()
        }
    }

    /// How often the orders of invoices that wait are read again, in milliseconds.
    pub fn order_recheck_millis(&self) -> i64 {
        let seconds = i64::try_from(self.order_recheck_seconds).unwrap_or(i64::MAX);
        seconds.saturating_mul(1_000)
    }

    /// Who this connection is, and which QAD it goes to.
    pub fn home(&self, connection: &ConnectionId) -> Home {
        Home {
            connection: connection.clone(),
            tenant: QadTenant::at(&self.qad.base_url.tenant()),
        }
    }

    /// The codes and conditions of the entities.
    pub fn entity_rules(&self) -> Vec<EntityRule> {
        self.entities.iter().map(|entity| entity.rule.clone()).collect()
    }

    /// What the invoice flow needs to know of one entity.
    pub fn entity_invoice_settings(&self, entity: &EntitySettings) -> InvoiceSettings {
        InvoiceSettings {
            policy: self.whole(&entity.policy),
            zone: entity.zone.clone(),
            ..self.invoice_settings()
        }
    }

    fn outcomes(&self) -> Outcomes {
        if self.coupa.integration_history.enabled {
            Outcomes::History
        } else if self.coupa.voucher_field.is_some() {
            Outcomes::Voucher
        } else {
            Outcomes::Nothing
        }
    }

    /// What the flows of payments need to know of this connection.
    pub fn payment_settings(&self) -> PaymentSettings {
        let seconds = i64::try_from(self.hold_recheck_seconds).unwrap_or(i64::MAX);
        PaymentSettings {
            recheck_millis: seconds.saturating_mul(1_000),
            outcomes: self.outcomes(),
            ..self.payments.clone()
        }
    }

    /// What the invoice flow needs to know of this connection.
    pub fn invoice_settings(&self) -> InvoiceSettings {
        let seconds = i64::try_from(self.hold_recheck_seconds).unwrap_or(i64::MAX);
        InvoiceSettings {
            policy: self.match_policy(),
            recheck_millis: seconds.saturating_mul(1_000),
            outcomes: self.outcomes(),
            adopt_equal_documents: self.adopt_equal_documents,
            second_person: self.second_person.clone(),
            zone: self
                .entities
                .first()
                .map_or(&self.zone, |first| &first.zone)
                .clone(),
        }
    }
}

/// How often the orders of invoices that wait are read again, in seconds.
fn order_recheck(sections: &BTreeMap<String, Box<RawValue>>, problems: &mut Vec<Problem>) -> u64 {
    let name = "order_recheck_seconds";
    let (shortest, longest) = ORDER_RECHECK_SECONDS;
    let seconds: u64 = section(sections, name, Some("3600"), problems).unwrap_or(longest);
    if !(shortest..=longest).contains(&seconds) {
        problems.push(invalid(
            name,
            format!("{shortest} to {longest}"),
            seconds.to_string(),
        ));
    }
    seconds
}

/// The domain that entities fall back to.
#[derive(Deserialize)]
struct DefaultDomain {
    domain: Option<DomainCode>,
}

fn invalid(field: &str, expected: impl Into<String>, actual: impl Into<String>) -> Problem {
    Problem::new("CONNECTION_INVALID", FIX)
        .field(field)
        .expected(expected)
        .actual(actual)
}

/// Reads one section; what is wrong with it goes to `problems`.
fn section<T: DeserializeOwned>(
    sections: &BTreeMap<String, Box<RawValue>>,
    name: &str,
    absent: Option<&str>,
    problems: &mut Vec<Problem>,
) -> Option<T> {
    let Some(text) = sections.get(name).map(|raw| raw.get()).or(absent) else {
        problems.push(invalid(name, "this section", "nothing"));
        return None;
    };
    let mut deserializer = serde_json::Deserializer::from_str(text);
    match serde_path_to_error::deserialize(&mut deserializer) {
        Ok(value) => Some(value),
        Err(error) => {
            let path = error.path().to_string();
            let field = if path == "." {
                name.to_owned()
            } else {
                format!("{name}.{path}")
            };
            let message = harmless(&path, &error.inner().to_string());
            problems.push(invalid(&field, "a setting as documented", message));
            None
        }
    }
}

/// Serde's message may repeat the value, which may be a secret: near one, only messages about names are passed on.
fn harmless(path: &str, message: &str) -> String {
    let near_secret = ["secret", "password", "auth", "header"]
        .iter()
        .any(|word| path.contains(word))
        || path.split('.').any(|part| part == "network");
    let about_names = ["missing field", "unknown field", "unknown variant"]
        .iter()
        .chain(&route::SENTENCES)
        .any(|start| message.starts_with(start));
    if near_secret && !about_names {
        "a value of another type".to_owned()
    } else {
        message.to_owned()
    }
}

fn check_coupa(coupa: &CoupaSettings, problems: &mut Vec<Problem>) {
    let instance = coupa.instance.trim();
    if !instance.is_empty() && !mark::is_instance(instance) {
        problems.push(invalid(
            "coupa.instance",
            format!(
                "a letter, then letters, digits, '-' and '_', at most {} in all",
                mark::INSTANCE_CHARACTERS_MAX
            ),
            instance,
        ));
    }
    require("coupa.client_id", &coupa.client_id, problems);
    require(
        "coupa.client_secret",
        coupa.client_secret.expose_secret(),
        problems,
    );
    coupa.order_number.check("coupa.order_number", problems);
    coupa.order_line.check("coupa.order_line", problems);
    coupa.supplier_code.check("coupa.supplier_code", problems);
    require(
        "coupa.orders.receipt_required_field",
        &coupa.orders.receipt_required_field,
        problems,
    );
    require(
        "coupa.orders.match_type_field",
        &coupa.orders.match_type_field,
        problems,
    );
    check_path("coupa.token_path", &coupa.token_path, problems);
    check_networks("coupa.networks", &coupa.networks, problems);
    check_header("coupa.api_version", &coupa.api_version, problems);
    if coupa
        .scopes
        .iter()
        .any(|scope| scope.is_empty() || scope.contains(char::is_whitespace))
    {
        problems.push(invalid(
            "coupa.scopes",
            "one scope per element",
            "a blank in a scope",
        ));
    }
    if coupa.integration_history.enabled {
        let history = &coupa.integration_history;
        for (field, value) in [
            ("integration_code", &history.integration_code),
            ("contact_alert_type", &history.contact_alert_type),
            (
                "technical_contact_alert_type",
                &history.technical_contact_alert_type,
            ),
            ("waiting_status", &history.waiting_status),
        ] {
            require(&format!("coupa.integration_history.{field}"), value, problems);
        }
    }
    if let Some(field) = &coupa.voucher_field {
        require("coupa.voucher_field", field, problems);
    }
    if let Some(lookup) = &coupa.owner_lookup {
        require("coupa.owner_lookup", lookup, problems);
    }
    let field = "coupa.requests_per_second";
    check_rate(
        field,
        coupa.requests_per_second,
        COUPA_REQUESTS_PER_SECOND_MAX,
        problems,
    );
}

fn check_qad(qad: &QadSettings, problems: &mut Vec<Problem>) {
    check_networks("qad.networks", &qad.networks, problems);
    match &qad.auth {
        QadAuth::Password {
            client_id,
            username,
            password,
            token_path,
            ..
        } => {
            require("qad.auth.client_id", client_id, problems);
            require("qad.auth.username", username, problems);
            require("qad.auth.password", password.expose_secret(), problems);
            check_path("qad.auth.token_path", token_path, problems);
        }
        QadAuth::ClientCredentials {
            client_id,
            client_secret,
            token_path,
            ..
        } => {
            require("qad.auth.client_id", client_id, problems);
            require("qad.auth.client_secret", client_secret.expose_secret(), problems);
            check_path("qad.auth.token_path", token_path, problems);
        }
        QadAuth::Basic { username, password } => {
            require("qad.auth.username", username, problems);
            require("qad.auth.password", password.expose_secret(), problems);
            if username.contains(':') {
                problems.push(invalid(
                    "qad.auth.username",
                    "a name without ':' (HTTP Basic cannot carry one)",
                    "a ':'",
                ));
            }
        }
        QadAuth::Login(login) => {
            require("qad.auth.username", &login.username, problems);
            require("qad.auth.password", login.password.expose_secret(), problems);
            check_path("qad.auth.path", &login.path, problems);
            check_header_name("qad.auth.header", &login.header, problems);
            if !login.token_pointer.starts_with('/') {
                problems.push(invalid(
                    "qad.auth.token_pointer",
                    "a JSON pointer that begins with /",
                    &login.token_pointer,
                ));
            }
            if login.ttl_seconds == 0 {
                problems.push(invalid("qad.auth.ttl_seconds", "at least 1", "0"));
            }
        }
    }
    for (name, value) in &qad.extra_headers {
        let field = format!("qad.extra_headers.{name}");
        check_header_name(&field, name, problems);
        check_header(&field, value.expose_secret(), problems);
        let ours = [
            "authorization",
            "host",
            "content-length",
            "content-type",
            "accept",
            "user-agent",
            "transfer-encoding",
        ];
        if ours.contains(&name.to_ascii_lowercase().as_str()) {
            problems.push(invalid(
                &field,
                "a header that the connection does not set itself",
                name,
            ));
        }
    }
    check_rate(
        "qad.requests_per_second",
        qad.requests_per_second,
        QAD_REQUESTS_PER_SECOND_MAX,
        problems,
    );
}

/// The policy, or `None` with what is wrong in `problems`.
/// Longest that anything is waited for, in days.
const WAIT_DAYS_MAX: Decimal = Decimal::from_parts(3_650, 0, 0, false, 0);
const DAY_MILLIS: Decimal = Decimal::from_parts(86_400_000, 0, 0, false, 0);

/// A time in days, also a part of one, in milliseconds.
fn days(field: &str, given: Exact, problems: &mut Vec<Problem>) -> i64 {
    let millis = given
        .0
        .checked_mul(DAY_MILLIS)
        .and_then(|millis| millis.round().to_i64());
    match millis.filter(|millis| *millis > 0 && given.0 <= WAIT_DAYS_MAX) {
        Some(millis) => millis,
        None => {
            let expected = format!("more than 0 and at most {WAIT_DAYS_MAX} days");
            problems.push(invalid(field, expected, given.0.to_string()));
            0
        }
    }
}

fn match_policy(
    qad: &QadSettings,
    invoices: InvoiceDocument,
    problems: &mut Vec<Problem>,
) -> Option<MatchPolicy> {
    check_limits(&invoices, problems);
    let not_payable = invoices.not_payable().settings(problems);
    let remit_to = invoices.remit_to.clone().settings(problems);
    let hold_millis = days("invoices.hold_days_max", invoices.hold_days_max, problems);
    let invoice_daybook = daybook("invoices.invoice_daybook", &invoices.invoice_daybook, problems);
    let credit_note_daybook = daybook(
        "invoices.credit_note_daybook",
        &invoices.credit_note_daybook,
        problems,
    );
    let matching_daybook = daybook("invoices.matching_daybook", &invoices.matching_daybook, problems);
    let charge_accounts = invoices
        .charge_accounts
        .into_iter()
        .map(|(kind, account)| (kind, account.account()));
    let units = invoices.units.into_iter().map(|(code, unit)| {
        (
            code,
            UnitConversion {
                to: unit.to,
                factor: unit.factor.0,
                items: unit
                    .items
                    .into_iter()
                    .map(|(item, factor)| (item, factor.0))
                    .collect(),
            },
        )
    });
    Some(MatchPolicy {
        tolerance: invoices.tolerance.tolerance(problems),
        first_open_day: invoices.first_open_day,
        domain: qad.domain.clone(),
        entity: qad.entity.clone(),
        invoice_daybook: invoice_daybook?,
        credit_note_daybook: credit_note_daybook?,
        matching_daybook: matching_daybook?,
        invoice_status: invoices.invoice_status,
        posting_date: invoices.posting_date,
        credit_terms: invoices.credit_terms,
        charge_accounts: charge_accounts.collect(),
        units: units.collect(),
        coupa_instance: String::new(),
        coupa_orders: Default::default(),
        gl_status: invoices.gl_status_code.trim().to_owned(),
        lines: Default::default(),
        credits: Default::default(),
        coding: None,
        not_payable,
        remit_to,
        patience: Patience {
            hold_millis,
            ..Patience::default()
        },
        minor_units: invoices.minor_units,
    })
}

fn daybook(field: &str, text: &str, problems: &mut Vec<Problem>) -> Option<DaybookCode> {
    text.parse()
        .map_err(|error: IdError| problems.push(invalid(field, error.expected, error.actual)))
        .ok()
}

fn check_limits(invoices: &InvoiceDocument, problems: &mut Vec<Problem>) {
    for (currency, digits) in invoices
        .minor_units
        .iter()
        .filter(|(_, digits)| **digits > MINOR_DIGITS_MAX)
    {
        let expected = format!("at most {MINOR_DIGITS_MAX} digits after the point");
        let field = format!("invoices.minor_units.{currency}");
        problems.push(invalid(&field, expected, digits.to_string()));
    }
    let locked = fold(&invoices.locked_status_code);
    for (status, name) in [
        (&invoices.invoice_status, "invoice_status"),
        (&invoices.gl_status_code, "gl_status_code"),
    ] {
        if !locked.is_empty() && locked == fold(status) {
            problems.push(invalid(
                "invoices.locked_status_code",
                format!("another status than invoices.{name}: a payment run takes what is posted with that"),
                invoices.locked_status_code.as_str(),
            ));
        }
    }
    require("invoices.invoice_status", &invoices.invoice_status, problems);
    require("invoices.gl_status_code", &invoices.gl_status_code, problems);
    for (code, unit) in &invoices.units {
        if unit.factor.0 <= Decimal::ZERO {
            let field = format!("invoices.units.{code}.factor");
            problems.push(invalid(&field, "more than zero", unit.factor.0.to_string()));
        }
        for (item, factor) in unit.items.iter().filter(|(_, factor)| factor.0 <= Decimal::ZERO) {
            let field = format!("invoices.units.{code}.items.{item}");
            problems.push(invalid(&field, "more than zero", factor.0.to_string()));
        }
    }
}

fn require(field: &str, value: &str, problems: &mut Vec<Problem>) {
    if value.trim().is_empty() {
        problems.push(invalid(field, "a value", "nothing"));
    }
}

fn check_path(field: &str, path: &str, problems: &mut Vec<Problem>) {
    if !path.starts_with('/') || path.contains(char::is_whitespace) {
        problems.push(invalid(field, "a path that begins with /", path));
    }
}

fn check_rate(field: &str, rate: u32, most: u32, problems: &mut Vec<Problem>) {
    if !(1..=most).contains(&rate) {
        problems.push(invalid(field, format!("1 to {most}"), rate.to_string()));
    }
}

fn check_networks(field: &str, networks: &[Network], problems: &mut Vec<Problem>) {
    if networks.len() > NETWORKS_MAX {
        let expected = format!("at most {NETWORKS_MAX} ranges");
        problems.push(invalid(field, expected, networks.len().to_string()));
    }
}

fn check_header_name(field: &str, name: &str, problems: &mut Vec<Problem>) {
    let fits = !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
    if !fits {
        problems.push(invalid(
            field,
            "a header name of letters, digits, '-' and '_'",
            name,
        ));
    }
}

fn check_header(field: &str, value: &str, problems: &mut Vec<Problem>) {
    if !value.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
        problems.push(invalid(field, "printable ASCII", "something else"));
    }
}

/// What the clients stand on. Cheap to clone; shared by all connections of a process.
#[derive(Clone)]
pub struct World {
    /// The way out.
    pub transport: Arc<dyn Transport>,
    /// The shared token cache.
    pub tokens: Arc<dyn TokenStore>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Chance.
    pub chance: Arc<dyn Chance>,
    /// One pace per host.
    pub paces: Arc<Paces>,
}

/// Makes the clients of one connection. Sends nothing and computes next to nothing.
///
/// `http_timeout` is the longest a whole call may take: waiting for its turn, the credential, all attempts of a read, or
/// the one exchange of a write. A write that has less than half of it left is not begun.
pub fn clients(
    connection: &ConnectionId,
    document: &ConnectionDocument,
    world: &World,
    http_timeout: Duration,
) -> (CoupaClient, QadClient) {
    (
        coupa_client(connection, document, world, http_timeout),
        qad_client(connection, document, &View::of(document), world, http_timeout),
    )
}

fn coupa_client(
    connection: &ConnectionId,
    document: &ConnectionDocument,
    world: &World,
    http_timeout: Duration,
) -> CoupaClient {
    let settings = &document.coupa;
    let mut headers = vec![("user-agent".to_owned(), USER_AGENT.to_owned())];
    if !settings.api_version.is_empty() {
        headers.push(("x-coupa-api-version".to_owned(), settings.api_version.clone()));
    }
    let peer = peer(PeerSettings {
        system: System::Coupa,
        connection,
        base: &settings.base_url,
        destination: settings.destination(),
        scheme: Scheme::ClientCredentials {
            token_path: settings.token_path.clone(),
            client_id: settings.client_id.clone(),
            client_secret: settings.client_secret.clone(),
            scopes: settings.scopes.clone(),
        },
        headers,
        hidden: Vec::new(),
        requests_per_second: settings.requests_per_second,
        young_millis: YOUNG_TOKEN_MILLIS,
        world,
        call: http_timeout,
    });
    CoupaClient {
        peer,
        base: settings.base_url.clone(),
        numbers: NumberMaps {
            order: settings.order_number.clone(),
            line: settings.order_line.clone(),
            supplier: settings.supplier_code.clone(),
        },
        order_words: settings.orders.clone(),
        orders_left_out: !settings.scopes.is_empty()
            && !settings
                .scopes
                .iter()
                .any(|scope| scope.starts_with("core.purchase_order")),
        history: settings.integration_history.clone(),
        voucher_field: settings.voucher_field.clone(),
        supplier_defaults: document.suppliers.coupa_defaults.clone(),
        filter: settings.invoices.filter.clone(),
        entity_fields: domain::entities::fields(document.entities.iter().map(|entity| &entity.rule)),
        entities: document.entity_rules(),
    }
}

/// QAD as one entity sees it.
struct View<'a> {
    domain: &'a DomainCode,
    entity: &'a EntityCode,
    workspace_header: bool,
    shared_set: &'a str,
}

impl<'a> View<'a> {
    /// The connection's: its first entity's.
    fn of(document: &'a ConnectionDocument) -> Self {
        let first = document.entities.first().map(Self::within);
        first.unwrap_or(Self {
            domain: &document.qad.domain,
            entity: &document.qad.entity,
            workspace_header: document.qad.workspace_header,
            shared_set: &document.suppliers.shared_set,
        })
    }

    fn within(entity: &'a EntitySettings) -> Self {
        Self {
            domain: &entity.domain,
            entity: &entity.rule.code,
            workspace_header: entity.workspace_header,
            shared_set: &entity.shared_set,
        }
    }
}

/// One client for each entity, in the order of the settings; none in the short form. All of them share the way out, the
/// token and the pace.
pub fn entity_clients(
    connection: &ConnectionId,
    document: &ConnectionDocument,
    world: &World,
    http_timeout: Duration,
) -> Vec<QadClient> {
    let views = document.entities.iter().map(View::within);
    views
        .map(|view| qad_client(connection, document, &view, world, http_timeout))
        .collect()
}

fn qad_client(
    connection: &ConnectionId,
    document: &ConnectionDocument,
    view: &View<'_>,
    world: &World,
    http_timeout: Duration,
) -> QadClient {
    let settings = &document.qad;
    let mut headers = vec![("user-agent".to_owned(), USER_AGENT.to_owned())];
    if view.workspace_header {
        headers.push((
            "x-qad-workspace-id".to_owned(),
            format!("{}_{}", view.domain, view.entity),
        ));
    }
    headers.extend(
        settings
            .extra_headers
            .iter()
            .map(|(name, value)| (name.to_ascii_lowercase(), value.expose_secret().to_owned())),
    );
    let peer = peer(PeerSettings {
        system: System::Qad,
        connection,
        base: &settings.base_url,
        destination: settings.destination(),
        scheme: settings.auth.scheme(),
        headers,
        hidden: settings.extra_headers.values().cloned().collect(),
        requests_per_second: settings.requests_per_second,
        young_millis: 0,
        world,
        call: http_timeout,
    });
    QadClient {
        peer,
        base: settings.base_url.clone(),
        domain: view.domain.clone(),
        entity: view.entity.clone(),
        profile: document.profile.clone(),
        sources: document
            .lookups
            .as_ref()
            .map_or_else(lookups::built_in_sources, |lookups| lookups.sources.clone()),
        supplier_set: view.shared_set.to_owned(),
        supplier_defaults: document.suppliers.qad_defaults.clone(),
    }
}

struct PeerSettings<'a> {
    system: System,
    connection: &'a ConnectionId,
    base: &'a BaseUrl,
    destination: Destination,
    scheme: Scheme,
    headers: Vec<(String, String)>,
    /// Values of headers that nobody may see.
    hidden: Vec<SecretString>,
    requests_per_second: u32,
    young_millis: i64,
    world: &'a World,
    call: Duration,
}

fn peer(settings: PeerSettings<'_>) -> Peer {
    let world = settings.world;
    let identity = format!("{}\n{}", settings.base.as_str(), settings.scheme.identity());
    let destination = settings.destination;
    let auth = Authenticator::new(AuthenticatorParts {
        system: settings.system,
        destination: destination.clone(),
        scheme: settings.scheme,
        base: settings.base.clone(),
        slot: TokenSlot {
            connection: settings.connection.clone(),
            system: settings.system.name(),
            client: hex::encode(Sha256::digest(identity.as_bytes())),
        },
        headers: settings.headers.clone(),
        hidden: settings.hidden,
        transport: Arc::clone(&world.transport),
        tokens: Arc::clone(&world.tokens),
        clock: Arc::clone(&world.clock),
        chance: Arc::clone(&world.chance),
        call: settings.call,
        young_millis: settings.young_millis,
    });
    Peer {
        system: settings.system,
        destination,
        host: settings.base.host().to_owned(),
        transport: Arc::clone(&world.transport),
        auth,
        pace: world
            .paces
            .of(settings.base.host(), settings.requests_per_second, settings.call),
        clock: Arc::clone(&world.clock),
        chance: Arc::clone(&world.chance),
        headers: settings.headers,
        call: settings.call,
    }
}
