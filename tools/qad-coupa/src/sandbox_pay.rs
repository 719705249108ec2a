//! `sandbox pay`: QAD pays an invoice of the demo, or thinks better of it.

use crate::Failure;
use crate::sandbox_client::{SandboxFile, control};
use aws::clock::SystemClock;
use clap::Args;
use connectors::http::transport::{HttpTransport, Method};
use domain::ids::fold;
use domain::money::parse_decimal;
use domain::problem::Problem;
use flows::ports::Clock;
use rust_decimal::Decimal;
use sandbox::world::qad::{Exact, PaymentAllocation};
use serde_json::Value;

/// Year and instrument of what is paid by hand.
const YEAR: u32 = 2026;
const INSTRUMENT: &str = "ACH";
/// First number of what is paid by hand.
const FIRST_NUMBER: u64 = 9_001;

/// What is paid.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  qad-coupa sandbox pay INV-92001                        the balance, paid\n  qad-coupa sandbox pay INV-92001 --amount 60            a part of it\n  qad-coupa sandbox pay INV-92001 --status Void          its last payment is voided"
)]
pub(crate) struct PayOptions {
    /// The voucher (2026/SI/100012), the supplier's invoice number, or Coupa's id.
    document: String,
    /// How much a new payment allocates; the balance when left out. Left out when the document has a payment, that one
    /// changes its status.
    #[arg(long)]
    amount: Option<String>,
    /// Discount taken with it.
    #[arg(long, default_value = "0")]
    discount: String,
    /// Initial, "For Collection", Paid, "Paid Conditionally", Void, Bounced.
    #[arg(long, default_value = "Paid")]
    status: String,
}

fn decimal(field: &str, text: &str) -> Result<Decimal, Failure> {
    parse_decimal(text).map_err(|error| {
        Problem::new("AMOUNT_INVALID", "Write it with digits and a point.")
            .field(field)
            .expected(error.expected)
            .actual(error.actual)
            .into()
    })
}

fn text<'v>(value: &'v Value, field: &str) -> &'v str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

/// The QAD document that is meant.
fn document_of<'v>(state: &'v Value, wanted: &str) -> Option<&'v Value> {
    let mark = format!("COUPA {}", fold(wanted));
    state.get("qad-documents")?.as_array()?.iter().find(|document| {
        fold(text(document, "voucher")) == fold(wanted)
            || fold(text(document, "reference")) == fold(wanted)
            || fold(text(document, "description")) == mark
    })
}

/// Pays it; the answer says what QAD now shows.
pub(crate) async fn pay(
    http: &HttpTransport,
    file: &SandboxFile,
    options: &PayOptions,
) -> Result<String, Failure> {
    let state = control(http, file, Method::Get, "state", None).await?;
    let unreadable = |error: serde_json::Error| {
        let fix = "Start the demo anew with this version: `cargo demo --keep`.";
        Failure::from(Problem::new("SANDBOX_UNREADABLE", fix).actual(error.to_string()))
    };
    let state: Value = serde_json::from_str(&state).map_err(unreadable)?;
    let Some(document) = document_of(&state, &options.document) else {
        return Err(Failure::NotFound(
            Problem::new("DOCUMENT_NOT_FOUND", "Look it up in `qad-coupa sandbox state`.")
                .expected("a supplier invoice in the simulated QAD")
                .actual(options.document.clone()),
        ));
    };
    let known = state.get("qad-payments").cloned().unwrap_or(Value::Null);
    let known: Vec<PaymentAllocation> = serde_json::from_value(known).map_err(unreadable)?;
    let of_document = known.iter().rev().find(|payment| {
        fold(&payment.supplier) == fold(text(document, "supplier"))
            && fold(&payment.invoice_reference) == fold(text(document, "reference"))
    });
    let today = SystemClock.now().date_utc();
    let mut payment = match (of_document, &options.amount) {
        (Some(payment), None) => payment.clone(),
        (_, amount) => {
            let amount = amount.as_deref().unwrap_or_else(|| text(document, "balance"));
            let last = known.iter().map(|payment| payment.number).max().unwrap_or(0);
            let number = last.saturating_add(1).max(FIRST_NUMBER);
            PaymentAllocation {
                year: YEAR,
                instrument: INSTRUMENT.to_owned(),
                reference: format!("{INSTRUMENT}-{number:05}"),
                currency: text(document, "currency").to_owned(),
                invoice_type: text(document, "type").to_owned(),
                discount: Exact(decimal("discount", &options.discount)?),
                ..PaymentAllocation::of(
                    number,
                    text(document, "supplier"),
                    text(document, "reference"),
                    decimal("amount", amount)?,
                    today,
                )
            }
        }
    };
    payment.status.clone_from(&options.status);
    payment.last_modified = today;
    let told = format!(
        "QAD shows payment {}/{}/{}#{} of {}: {} {} {}",
        payment.year,
        payment.instrument,
        payment.number,
        payment.allocation,
        payment.invoice_reference,
        payment.allocated.0,
        payment.currency,
        payment.status
    );
    let body = serde_json::to_value(&payment).map_err(unreadable)?;
    control(http, file, Method::Post, "payments", Some(body)).await?;
    Ok(told)
}
