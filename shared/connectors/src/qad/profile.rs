//! What a QAD tenant's API looks like, as data. The default is the contract both sides assume; a connection overrides the
//! parts that its tenant names differently (QAD tenants add browses, rename fields and document their own API).
//!
//! A reading resource is a *browse* (flat rows with dotted keys, paged; seen) or an *entity* (records below their plural;
//! seen). Which one, and every name in it, is data.

use super::sources::{ACTIVE, CODE};
use super::suppliers::{HASH, OPERATION};
use crate::http::address::BaseUrl;
use domain::ids::InvoiceId;
use domain::problem::Problem;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How a resource is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    /// `GET …/browses?browseId=…&page=…&filter=field,op,value,literal`.
    Browse,
    /// `GET …/<plural>?<keys>&viewUri=…`.
    Entity,
}

/// One resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resource {
    /// Browse or entity.
    pub family: Family,
    /// Path below the base URL.
    pub path: String,
    /// Browse id (a browse only).
    #[serde(default)]
    pub browse_id: String,
    /// View URI (an entity only).
    #[serde(default)]
    pub view: String,
    /// The name of the list in an entity's answer and in the body of its create.
    #[serde(default)]
    pub plural: String,
    /// Path of the business document that writes its records, `/api/bdoc/<namespace>/<app>/<Component>`; blank: they are written
    /// where they are read.
    #[serde(default)]
    pub bdoc_path: String,
    /// Rows asked for at once (a browse only).
    pub page_rows: u32,
    /// Our name of a criterion to the field or key that selects by it.
    pub filters: BTreeMap<String, String>,
    /// Our name of a field to the tenant's.
    pub fields: BTreeMap<String, String>,
    /// More query parameters, as they are.
    #[serde(default)]
    pub extra_query: BTreeMap<String, String>,
}

impl Resource {
    /// The tenant's name of one of our fields. Names are checked when a profile is made, so ours is never sent.
    pub fn field<'a>(&'a self, name: &'a str) -> &'a str {
        self.fields.get(name).map_or(name, String::as_str)
    }

    /// The tenant's name of one of our criteria.
    pub fn filter<'a>(&'a self, name: &'a str) -> &'a str {
        self.filters.get(name).map_or(name, String::as_str)
    }

    /// Whether its records are written as a business document.
    pub fn is_bdoc(&self) -> bool {
        !self.bdoc_path.is_empty()
    }
}

/// The words a tenant uses for the states of an order and of its lines; compared without case and blanks. A word that is
/// in no list is an unknown status and never taken for open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OrderStatusWords {
    /// Open.
    pub open: Vec<String>,
    /// Closed.
    pub closed: Vec<String>,
    /// Cancelled.
    pub cancelled: Vec<String>,
}

/// The words a tenant uses for evaluated receipts, of an order and of a line; compared without case and blanks. A word that is
/// in no list is unreadable, for on such an order QAD invoices itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvaluatedReceiptsWords {
    /// QAD does not invoice by itself (confirmed: 1).
    pub disallowed: Vec<String>,
    /// QAD invoices by itself (confirmed: 2 initial, 3 confirmed).
    pub allowed: Vec<String>,
}

/// A constant field that a tenant wants in every record we create.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Constant {
    /// A truth value.
    Flag(bool),
    /// A whole number.
    Whole(i64),
    /// A text.
    Text(String),
}

/// Where a supplier invoice of QAD's leads back to the page that shows it here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InvoiceLink {
    /// The tenant's field of a supplier invoice.
    pub field: String,
    /// The page's address of an invoice, with [`LINK_PLACE`] for Coupa's id.
    pub address: String,
}

/// What stands for Coupa's id of the invoice in an address.
const LINK_PLACE: &str = "{id}";
/// Longest address, in characters, before the id is put in.
const LINK_CHARACTERS_MAX: usize = 200;

impl InvoiceLink {
    /// The address of one invoice.
    pub(crate) fn of(&self, id: InvoiceId) -> String {
        self.address.trim().replace(LINK_PLACE, &id.to_string())
    }

    fn problems(&self, profile: &Profile, problems: &mut Vec<Problem>) {
        let mut refuse = |name: &str, expected: &str, actual: &str| {
            let fix = "Correct the setting; docs/examples/connection.toml lists all of them.";
            problems.push(
                Problem::new("CONNECTION_INVALID", fix)
                    .field(format!("qad.profile.invoice_link.{name}"))
                    .expected(expected)
                    .actual(actual),
            );
        };
        let field = self.field.trim();
        let is_taken = profile
            .supplier_invoices
            .fields
            .values()
            .any(|taken| taken == field)
            || profile.create_constants.contains_key(field)
            || [OPERATION, HASH].contains(&field);
        if field.is_empty() || is_taken {
            refuse(
                "field",
                "a field of the tenant's that nothing else is written to",
                field,
            );
        }
        let address = self.address.trim();
        let is_one = address.matches(LINK_PLACE).count() == 1 && !address.contains(char::is_whitespace);
        let base = address.split(['{', '?', '#']).next().unwrap_or_default();
        if !is_one || base.parse::<BaseUrl>().is_err() || address.chars().count() > LINK_CHARACTERS_MAX {
            let expected = format!(
                "an https address of at most {LINK_CHARACTERS_MAX} characters with {LINK_PLACE} once, behind the host"
            );
            refuse("address", &expected, address);
        }
    }
}

/// Everything about a tenant's API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Purchase order lines with their header's fields.
    pub order_lines: Resource,
    /// Goods receipts with what is already invoiced.
    pub receipts: Resource,
    /// Supplier invoices: find and create.
    pub supplier_invoices: Resource,
    /// Payment allocations by the day of their last change.
    pub payments: Resource,
    /// An entity's periods, to wait for closed books and to check settings against; optional too.
    pub periods: Resource,
    /// Supplier invoices by the day of their last change, with what is owed of them; a tenant need not show it.
    pub changed_invoices: Resource,
    /// Suppliers by the day of their last change.
    pub suppliers: Resource,
    /// One supplier, whole: read, create and update.
    pub supplier: Resource,
    /// Daybooks, to check settings and documents against; optional like the four after it.
    pub daybooks: Resource,
    /// Status codes of supplier invoices.
    pub invoice_statuses: Resource,
    /// Credit terms.
    pub credit_terms: Resource,
    /// Currencies.
    pub currencies: Resource,
    /// Words of `po_stat` and `pod_status`.
    pub order_status: OrderStatusWords,
    /// Words of `po_ers_opt` and `pod_ers_opt`.
    pub evaluated_receipts: EvaluatedReceiptsWords,
    /// Words of the receipt type that mean a return.
    pub return_types: Vec<String>,
    /// QAD's word for a supplier invoice.
    pub invoice_type: String,
    /// QAD's word for a supplier credit note.
    pub credit_note_type: String,
    /// Constant fields of every supplier invoice that is created.
    #[serde(default)]
    pub create_constants: BTreeMap<String, Constant>,
    /// Where a supplier invoice that is created leads back to its page; none: nowhere.
    #[serde(default)]
    pub invoice_link: Option<InvoiceLink>,
    /// Parts of messages, in lower case, that mean "somebody has this record open": not applied, worth repeating.
    pub locked_messages: Vec<String>,
    /// Parts of messages, in lower case, that mean "this exists already": it is looked up.
    pub duplicate_messages: Vec<String>,
    /// Parts of messages, in lower case, that mean "the books are closed on this day": the invoice waits.
    pub closed_period_messages: Vec<String>,
    /// Parts of messages, in lower case, that say no more than that nothing was saved; what they stand beside is the reason.
    pub not_saved_messages: Vec<String>,
}

/// Where business documents are.
const BDOC: &str = "/api/bdoc/";
/// Largest page that may be configured (in production use, seen).
pub const PAGE_ROWS_MAX: u32 = 999_999;
/// Rows of a page unless configured.
pub const PAGE_ROWS_DEFAULT: u32 = 500;

fn names<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, String> {
    pairs
        .into_iter()
        .map(|(ours, theirs)| (ours.to_owned(), theirs.to_owned()))
        .collect()
}

fn words<const N: usize>(words: [&str; N]) -> Vec<String> {
    words.into_iter().map(str::to_owned).collect()
}

impl Default for Profile {
    /// The built-in contract. Browse ids and table columns are seen in real tenants; the names of supplier invoices are
    /// assumed after QAD's own component.
    fn default() -> Self {
        Self {
            order_lines: order_lines(),
            receipts: receipts(),
            supplier_invoices: supplier_invoices(),
            payments: payments(),
            periods: periods(),
            changed_invoices: changed_invoices(),
            suppliers: suppliers(),
            supplier: supplier(),
            daybooks: codes("daybooks", "daybook", "daybookCode"),
            invoice_statuses: codes("invoiceStatusCodes", "invoiceStatusCode", "invoiceStatusCode"),
            credit_terms: codes("creditTerms", "creditTerm", "creditTermsCode"),
            currencies: codes("currencies", "currency", "currencyCode"),
            order_status: OrderStatusWords {
                open: words(["", "o"]),
                closed: words(["c"]),
                cancelled: words(["x"]),
            },
            evaluated_receipts: EvaluatedReceiptsWords {
                disallowed: words(["", "0", "1", "no", "false"]),
                allowed: words(["2", "3", "yes", "true"]),
            },
            return_types: words(["R"]),
            invoice_type: "INVOICE".to_owned(),
            credit_note_type: "CREDITNOTE".to_owned(),
            create_constants: BTreeMap::new(),
            invoice_link: None,
            locked_messages: words([
                "record in use",
                "in use by",
                "being used by",
                "record is locked",
                "locked by",
                "record lock",
            ]),
            duplicate_messages: words(["already exist"]),
            closed_period_messages: words([
                "period is closed",
                "period is locked",
                "closed period",
                "locked period",
                "period closed",
                "period locked",
            ]),
            not_saved_messages: words([
                "not saved",
                "not been saved",
                "not be saved",
                "could not save",
                "save failed",
                "not created",
                "not been created",
                "not be created",
                "transaction was rolled back",
            ]),
        }
    }
}

fn browse(browse_id: &str, filters: BTreeMap<String, String>, fields: BTreeMap<String, String>) -> Resource {
    Resource {
        family: Family::Browse,
        path: "/api/qracore/browses".to_owned(),
        browse_id: browse_id.to_owned(),
        view: String::new(),
        plural: String::new(),
        bdoc_path: String::new(),
        page_rows: PAGE_ROWS_DEFAULT,
        filters,
        fields,
        extra_query: BTreeMap::new(),
    }
}

fn order_lines() -> Resource {
    browse(
        "urn:browse:mfg:po804",
        names([("domain", "pod_det.pod_domain"), ("order", "pod_det.pod_nbr")]),
        names([
            ("domain", "pod_det.pod_domain"),
            ("order", "pod_det.pod_nbr"),
            ("line", "pod_det.pod_line"),
            ("part", "pod_det.pod_part"),
            ("description", "pod_det.pod_desc"),
            ("unit", "pod_det.pod_um"),
            ("ordered", "pod_det.pod_qty_ord"),
            ("received", "pod_det.pod_qty_rcvd"),
            ("price", "pod_det.pod_pur_cost"),
            ("line-status", "pod_det.pod_status"),
            ("supplier", "po_mstr.po_vend"),
            ("currency", "po_mstr.po_curr"),
            ("order-status", "po_mstr.po_stat"),
            ("entity", "po_mstr.po_entity"),
            ("evaluated-receipts", "po_mstr.po_ers_opt"),
            ("line-evaluated-receipts", "pod_det.pod_ers_opt"),
            ("discount-percent", "pod_det.pod_disc_pct"),
            ("scheduled", "pod_det.pod_sched"),
            ("consignment", "pod_det.pod_consignment"),
        ]),
    )
}

fn receipts() -> Resource {
    browse(
        "urn:browse:mfg:po041",
        names([
            ("domain", "prh_hist.prh_domain"),
            ("order", "prh_hist.prh_nbr"),
            ("since", "prh_hist.prh_rcp_date"),
        ]),
        names([
            ("domain", "prh_hist.prh_domain"),
            ("receiver", "prh_hist.prh_receiver"),
            ("order", "prh_hist.prh_nbr"),
            ("line", "prh_hist.prh_line"),
            ("received", "prh_hist.prh_rcvd"),
            ("type", "prh_hist.prh_rcp_type"),
            ("unit", "prh_hist.prh_um"),
            ("date", "prh_hist.prh_rcp_date"),
            ("packing-slip", "prh_hist.prh_ps_nbr"),
            ("currency", "prh_hist.prh_curr"),
            ("vouchered", "pvo_mstr.pvo_vouchered_qty"),
            ("pending", "pvo_mstr.pvo_trans_qty"),
            ("last-voucher", "pvo_mstr.pvo_last_voucher"),
            ("unit-cost", "prh_hist.prh_curr_amt"),
            ("logistics-charge", "pvo_mstr.pvo_lc_charge"),
        ]),
    )
}

fn supplier_invoices() -> Resource {
    Resource {
        family: Family::Entity,
        path: "/api/erp/supplierInvoices".to_owned(),
        browse_id: String::new(),
        view: "urn:be:com.qad.financials.purchaseledger.supplierinvoice.ISupplierInvoice".to_owned(),
        plural: "supplierInvoices".to_owned(),
        bdoc_path: String::new(),
        page_rows: PAGE_ROWS_DEFAULT,
        filters: names([
            ("entity", "entityCode"),
            ("supplier", "supplierCode"),
            ("reference", "supplierInvoiceReference"),
        ]),
        fields: names([
            ("entity", "entityCode"),
            ("domain", "domainCode"),
            ("supplier", "supplierCode"),
            ("reference", "supplierInvoiceReference"),
            ("type", "invoiceType"),
            ("daybook", "daybookCode"),
            ("matching-daybook", "matchingDaybookCode"),
            ("currency", "currencyCode"),
            ("invoice-date", "invoiceDate"),
            ("posting-date", "postingDate"),
            ("credit-terms", "creditTermsCode"),
            ("invoice-status", "invoiceStatusCode"),
            ("bank-number", "bankNumber"),
            ("paying-supplier", "payingSupplierCode"),
            ("total", "totalAmount"),
            ("tax", "taxAmount"),
            ("description", "description"),
            ("orders", "purchaseOrders"),
            ("order-domain", "purchaseOrderDomain"),
            ("order-number", "purchaseOrderNumber"),
            ("matches", "receiverMatchings"),
            ("match-order", "purchaseOrderNumber"),
            ("match-line", "purchaseOrderLine"),
            ("match-receiver", "receiverNumber"),
            ("match-quantity", "matchQuantity"),
            ("match-price", "matchUnitPrice"),
            ("match-finished", "isFinished"),
            ("costs", "additionalCosts"),
            ("cost-account", "glAccountCode"),
            ("cost-sub-account", "subAccountCode"),
            ("cost-center", "costCenterCode"),
            ("cost-project", "projectCode"),
            ("cost-amount", "amount"),
            ("cost-description", "description"),
            ("posting-year", "postingYear"),
            ("voucher", "voucher"),
            ("balance", "balance"),
            ("is-open", "isOpen"),
        ]),
        extra_query: BTreeMap::new(),
    }
}

/// Assumed throughout.
fn periods() -> Resource {
    browse(
        "urn:browse:bebrowse:com.qad.erp.financials.periods",
        names([("entity", "period.entityCode")]),
        names([
            ("entity", "period.entityCode"),
            ("start", "period.startDate"),
            ("end", "period.endDate"),
            ("locked", "period.isApLocked"),
        ]),
    )
}

/// The columns are assumed: QAD documents the payment's own fields, and no browse of its allocations.
fn payments() -> Resource {
    browse(
        "urn:browse:bebrowse:com.qad.erp.financials.supplierPayments",
        names([
            ("entity", "supplierPayment.entityCode"),
            ("since", "supplierPayment.lastModifiedDate"),
            ("invoice-entity", "supplierPayment.invoiceEntityCode"),
        ]),
        names([
            ("entity", "supplierPayment.entityCode"),
            ("invoice-entity", "supplierPayment.invoiceEntityCode"),
            ("invoice-year", "supplierPayment.invoicePostingYear"),
            ("invoice-voucher", "supplierPayment.invoiceVoucher"),
            ("invoice-allocated", "supplierPayment.invoiceAllocatedAmount"),
            ("year", "supplierPayment.paymentYear"),
            ("instrument", "supplierPayment.paymentInstrument"),
            ("number", "supplierPayment.paymentNumber"),
            ("allocation", "supplierPayment.allocationNumber"),
            ("payment-reference", "supplierPayment.paymentReference"),
            ("supplier", "supplierPayment.supplierCode"),
            ("status", "supplierPayment.status"),
            ("currency", "supplierPayment.currencyCode"),
            ("date", "supplierPayment.paymentDate"),
            ("last-modified", "supplierPayment.lastModifiedDate"),
            ("reference", "supplierPayment.supplierInvoiceReference"),
            ("type", "supplierPayment.invoiceType"),
            ("allocated", "supplierPayment.allocatedAmount"),
            ("discount", "supplierPayment.discountAmount"),
        ]),
    )
}

/// What is owed of the supplier invoices that were changed (assumed, optional).
fn changed_invoices() -> Resource {
    browse(
        "urn:browse:bebrowse:com.qad.erp.financials.supplierInvoices",
        names([
            ("entity", "supplierInvoice.entityCode"),
            ("since", "supplierInvoice.lastModifiedDate"),
        ]),
        names([
            ("entity", "supplierInvoice.entityCode"),
            ("supplier", "supplierInvoice.supplierCode"),
            ("reference", "supplierInvoice.supplierInvoiceReference"),
            ("type", "supplierInvoice.invoiceType"),
            ("posting-year", "supplierInvoice.postingYear"),
            ("voucher", "supplierInvoice.voucher"),
            ("currency", "supplierInvoice.currencyCode"),
            ("is-open", "supplierInvoice.isOpen"),
            ("balance", "supplierInvoice.balance"),
            ("last-modified", "supplierInvoice.lastModifiedDate"),
        ]),
    )
}

/// The list of suppliers; the browse follows QAD's naming rule (assumed).
fn suppliers() -> Resource {
    browse(
        "urn:browse:bebrowse:com.qad.erp.base.supplierV2s",
        names([
            ("shared-set", "supplierV2.sharedSetCode"),
            ("since", "supplierV2.lastModifiedDate"),
        ]),
        names([
            ("shared-set", "supplierV2.sharedSetCode"),
            ("code", "supplierV2.supplierCode"),
            ("name", "supplierV2.businessRelationName"),
            ("active", "supplierV2.isActive"),
            ("credit-terms", "supplierV2.creditTermsCode"),
            ("tax-id", "supplierV2.taxIDFederal"),
            ("street", "supplierV2.street1"),
            ("city", "supplierV2.city"),
            ("postal-code", "supplierV2.zipCode"),
            ("state", "supplierV2.stateCode"),
            ("country", "supplierV2.countryCode"),
            ("email", "supplierV2.EMail"),
            ("type", "supplierV2.supplierTypeCode"),
            ("site", "supplierV2.siteCode"),
            ("last-modified", "supplierV2.lastModifiedDate"),
        ]),
    )
}

/// One supplier (seen). The list calls the tax id otherwise than the entity is documented to: both names are known here.
fn supplier() -> Resource {
    Resource {
        family: Family::Entity,
        path: "/api/erp/supplierV2s".to_owned(),
        browse_id: String::new(),
        view: "urn:be:com.qad.base.supplier.ISupplierV2".to_owned(),
        plural: "supplierV2s".to_owned(),
        bdoc_path: String::new(),
        page_rows: PAGE_ROWS_DEFAULT,
        filters: names([("shared-set", "sharedSetCode"), ("code", "supplierCode")]),
        fields: names([
            ("shared-set", "sharedSetCode"),
            ("code", "supplierCode"),
            ("relation", "businessRelationCode"),
            ("creates-relation", "isCreateBusinessRelationRequired"),
            ("name", "businessRelationName"),
            ("active", "isActive"),
            ("currency", "currencyCode"),
            ("credit-terms", "creditTermsCode"),
            ("invoice-status", "invoiceStatusCode"),
            ("invoice-control-profile", "invoiceControlGLProfileCode"),
            ("credit-note-control-profile", "creditNoteControlGLProfileCode"),
            ("prepayment-control-profile", "prePaymentControlGLProfileCode"),
            ("purchase-account-profile", "purchaseAccountGLProfileCode"),
            ("tax-id", "taxIDFederal"),
            ("tax-id-too", "federalTax"),
            ("street", "street1"),
            ("city", "city"),
            ("postal-code", "zipCode"),
            ("state", "stateCode"),
            ("country", "countryCode"),
            ("email", "EMail"),
            ("type", "supplierTypeCode"),
            ("site", "siteCode"),
            ("last-modified", "lastModifiedDate"),
        ]),
        extra_query: BTreeMap::new(),
    }
}

/// A list of codes; the browse follows QAD's naming rule (assumed), and a tenant may not show it.
fn codes(plural: &str, singular: &str, code: &str) -> Resource {
    browse(
        &format!("urn:browse:bebrowse:com.qad.erp.financials.{plural}"),
        BTreeMap::new(),
        [
            (CODE.to_owned(), format!("{singular}.{code}")),
            (ACTIVE.to_owned(), format!("{singular}.isActive")),
        ]
        .into(),
    )
}

impl Profile {
    /// The default with a connection's parts laid over it, at any depth; what is not given stays. Lists are replaced.
    ///
    /// Errors name the setting: an unknown name, or a value that does not fit.
    pub fn with_overrides(overrides: &serde_json::Value) -> Result<Self, Vec<Problem>> {
        let fix = "Correct the setting; docs/examples/connection.toml lists all of them.";
        let refuse = |field: &str, error: String| {
            Problem::new("CONNECTION_INVALID", fix)
                .field(field)
                .expected(error)
        };
        let mut merged = serde_json::to_value(Self::default())
            .map_err(|error| vec![refuse("qad.profile", error.to_string())])?;
        merge(&mut merged, overrides);
        let profile: Self = serde_path_to_error::deserialize(merged).map_err(|error| {
            vec![refuse(
                &format!("qad.profile.{}", error.path()),
                error.inner().to_string(),
            )]
        })?;
        let problems = profile.problems();
        if problems.is_empty() {
            Ok(profile)
        } else {
            Err(problems)
        }
    }

    fn problems(&self) -> Vec<Problem> {
        let standard = Self::default();
        let mut problems = Vec::new();
        for (name, ours, known) in [
            ("order_lines", &self.order_lines, &standard.order_lines),
            ("receipts", &self.receipts, &standard.receipts),
            (
                "supplier_invoices",
                &self.supplier_invoices,
                &standard.supplier_invoices,
            ),
            ("payments", &self.payments, &standard.payments),
            ("periods", &self.periods, &standard.periods),
            (
                "changed_invoices",
                &self.changed_invoices,
                &standard.changed_invoices,
            ),
            ("suppliers", &self.suppliers, &standard.suppliers),
            ("supplier", &self.supplier, &standard.supplier),
            ("daybooks", &self.daybooks, &standard.daybooks),
            (
                "invoice_statuses",
                &self.invoice_statuses,
                &standard.invoice_statuses,
            ),
            ("credit_terms", &self.credit_terms, &standard.credit_terms),
            ("currencies", &self.currencies, &standard.currencies),
        ] {
            check_resource(&format!("qad.profile.{name}"), ours, known, &mut problems);
            let writes = ["supplier_invoices", "supplier"].contains(&name);
            if ours.is_bdoc() && !(writes && ours.bdoc_path.starts_with(BDOC)) {
                let fix = "Correct the setting; docs/examples/connection.toml lists all of them.";
                let expected = if writes {
                    format!("a path that begins with {BDOC}")
                } else {
                    "nothing: this resource is only read".to_owned()
                };
                problems.push(
                    Problem::new("CONNECTION_INVALID", fix)
                        .field(format!("qad.profile.{name}.bdoc_path"))
                        .expected(expected)
                        .actual(ours.bdoc_path.as_str()),
                );
            }
        }
        for (name, resource) in [
            ("receipts", &self.receipts),
            ("payments", &self.payments),
            ("changed_invoices", &self.changed_invoices),
            ("suppliers", &self.suppliers),
        ] {
            if resource.family == Family::Entity {
                problems.push(
                    Problem::new(
                        "CONNECTION_INVALID",
                        "Read it through a browse: only browses can be asked for 'since'.",
                    )
                    .field(format!("qad.profile.{name}.family"))
                    .expected("browse")
                    .actual("entity"),
                );
            }
        }
        if let Some(link) = &self.invoice_link {
            link.problems(self, &mut problems);
        }
        if self.supplier_invoices.family == Family::Browse {
            problems.push(
                Problem::new(
                    "CONNECTION_INVALID",
                    "Find supplier invoices through the entity that creates them.",
                )
                .field("qad.profile.supplier_invoices.family")
                .expected("entity")
                .actual("browse"),
            );
        }
        if self.supplier.family == Family::Browse {
            problems.push(
                Problem::new(
                    "CONNECTION_INVALID",
                    "Read one supplier through the entity that creates it.",
                )
                .field("qad.profile.supplier.family")
                .expected("entity")
                .actual("browse"),
            );
        }
        problems
    }
}

fn check_resource(at: &str, ours: &Resource, known: &Resource, problems: &mut Vec<Problem>) {
    let mut refuse = |field: String, expected: String, actual: String| {
        let fix = "Correct the setting; docs/examples/connection.toml lists all of them.";
        problems.push(
            Problem::new("CONNECTION_INVALID", fix)
                .field(field)
                .expected(expected)
                .actual(actual),
        );
    };
    for (kind, names, standard) in [
        ("fields", &ours.fields, &known.fields),
        ("filters", &ours.filters, &known.filters),
    ] {
        for (name, theirs) in names {
            if !standard.contains_key(name) {
                let all: Vec<&str> = standard.keys().map(String::as_str).collect();
                refuse(
                    format!("{at}.{kind}.{name}"),
                    format!("one of {}", all.join(", ")),
                    name.clone(),
                );
            } else if theirs.trim().is_empty() {
                refuse(
                    format!("{at}.{kind}.{name}"),
                    "the tenant's name".to_owned(),
                    "nothing".to_owned(),
                );
            }
        }
    }
    if !ours.path.starts_with('/') {
        refuse(
            format!("{at}.path"),
            "a path that begins with /".to_owned(),
            ours.path.clone(),
        );
    }
    if !(1..=PAGE_ROWS_MAX).contains(&ours.page_rows) {
        refuse(
            format!("{at}.page_rows"),
            format!("1 to {PAGE_ROWS_MAX}"),
            ours.page_rows.to_string(),
        );
    }
    let needed = match ours.family {
        Family::Browse => vec![("browse_id", &ours.browse_id)],
        Family::Entity => vec![("view", &ours.view), ("plural", &ours.plural)],
    };
    for (name, value) in needed {
        if value.trim().is_empty() {
            refuse(format!("{at}.{name}"), "a value".to_owned(), "nothing".to_owned());
        }
    }
}

fn merge(base: &mut serde_json::Value, over: &serde_json::Value) {
    match (base, over) {
        (serde_json::Value::Object(base), serde_json::Value::Object(over)) => {
            for (key, value) in over {
                merge(base.entry(key.clone()).or_insert(serde_json::Value::Null), value);
            }
        }
        (base, over) => *base = over.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn nothing_overridden_is_the_default() {
        assert_eq!(Profile::with_overrides(&json!({})).unwrap(), Profile::default());
    }

    #[test]
    fn a_part_is_overridden_and_the_rest_stays() {
        let profile = Profile::with_overrides(&json!({
            "order_lines": {"browse_id": "urn:browse:custom:orders", "fields": {"price": "pod_det.pod_user1"}},
            "order_status": {"closed": ["c", "closed"]},
            "create_constants": {"isTaxable": true, "batchNumber": 7, "origin": "COUPA"},
        }))
        .unwrap();
        assert_eq!(profile.order_lines.browse_id, "urn:browse:custom:orders");
        assert_eq!(profile.order_lines.field("price"), "pod_det.pod_user1");
        assert_eq!(profile.order_lines.field("line"), "pod_det.pod_line");
        assert_eq!(profile.order_status.closed, ["c", "closed"]);
        assert_eq!(profile.order_status.open, ["", "o"]);
        assert_eq!(profile.receipts, Profile::default().receipts);
        assert_eq!(profile.create_constants.len(), 3);
    }

    fn link(address: &str) -> serde_json::Value {
        json!({"invoice_link": {"field": "note", "address": address}})
    }

    #[test]
    fn an_invoice_leads_to_its_page() {
        for (address, expected) in [
            (
                "https://p.example.com/invoices/{id}",
                "https://p.example.com/invoices/92010",
            ),
            (
                " https://p.example.com/?invoice={id} ",
                "https://p.example.com/?invoice=92010",
            ),
        ] {
            let profile = Profile::with_overrides(&link(address)).unwrap();
            assert_eq!(profile.invoice_link.unwrap().of(InvoiceId(92010)), expected);
        }
        let long = format!("https://p.example.com/{}/{{id}}", "a".repeat(LINK_CHARACTERS_MAX));
        assert!(Profile::with_overrides(&link(&long)).is_err());
    }

    #[test]
    fn what_does_not_fit_is_refused_by_name() {
        for (overrides, field) in [
            (
                json!({"order_lines": {"browseId": "x"}}),
                "qad.profile.order_lines",
            ),
            (
                json!({"order_lines": {"fields": {"prize": "x"}}}),
                "qad.profile.order_lines.fields.prize",
            ),
            (
                json!({"order_lines": {"fields": {"price": " "}}}),
                "qad.profile.order_lines.fields.price",
            ),
            (json!({"receipts": {"family": "entity"}}), "qad.profile.receipts"),
            (
                json!({"supplier_invoices": {"bdoc_path": "/api/erp/x"}}),
                "qad.profile.supplier_invoices.bdoc_path",
            ),
            (
                json!({"receipts": {"bdoc_path": "/api/bdoc/a/b/C"}}),
                "qad.profile.receipts.bdoc_path",
            ),
            (
                json!({"receipts": {"page_rows": 0}}),
                "qad.profile.receipts.page_rows",
            ),
            (
                json!({"supplier_invoices": {"path": "api"}}),
                "qad.profile.supplier_invoices.path",
            ),
            (
                json!({"invoice_link": {"field": "description", "address": "https://p.example.com/invoices/{id}"}}),
                "qad.profile.invoice_link.field",
            ),
            (
                json!({
                    "create_constants": {"note": 1},
                    "invoice_link": {"field": "note", "address": "https://p.example.com/invoices/{id}"},
                }),
                "qad.profile.invoice_link.field",
            ),
            (
                json!({"invoice_link": {"field": "note"}}),
                "qad.profile.invoice_link",
            ),
            (
                link("https://p.example.com/invoices/"),
                "qad.profile.invoice_link.address",
            ),
            (
                link("https://p.example.com/{id}/{id}"),
                "qad.profile.invoice_link.address",
            ),
            (
                link("http://p.example.com/{id}"),
                "qad.profile.invoice_link.address",
            ),
            (
                link("https://{id}.example.com/"),
                "qad.profile.invoice_link.address",
            ),
            (
                link("https://p.example.com/a b/{id}"),
                "qad.profile.invoice_link.address",
            ),
            (
                json!({"order_lines": {"fields": {"price": null}}}),
                "qad.profile.order_lines.fields.price",
            ),
            (json!("x"), "qad.profile."),
        ] {
            let problems = Profile::with_overrides(&overrides).unwrap_err();
            assert!(
                problems[0].field.starts_with(field),
                "{overrides}: {:?}",
                problems
            );
            assert_eq!(problems[0].code, "CONNECTION_INVALID");
        }
    }
}
