//! Logs and metrics: one JSON object per line on standard output, where Lambda takes them.
//!
//! Only fields of [`FIELDS`] are written: a name that is not there shows up in `dropped_fields` without its value, so
//! that nothing is logged that nobody decided to log. Other crates' events appear from `WARN` on, with their message alone. An
//! event with a field `metric` (a name of [`METRICS`]) and a field `value` is a metric too, in CloudWatch's embedded metric
//! format, so that flows count without knowing CloudWatch.

use crate::clock::SystemClock;
use domain::problem::{Problem, clean};
use flows::ports::Clock;
use serde_json::{Map, Value, json};
use std::fmt;
use std::io::Write;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::{LookupSpan, Registry};

/// Every field that may stand in a log line, with its meaning. `timestamp`, `level`, `function`, `message` and `target`
/// stand in every line.
pub const FIELDS: &[(&str, &str)] = &[
    ("attempt", "which try of the same call this is, from 1"),
    (
        "bill",
        "the Coupa invoice, or the QAD identity, whose payments it is about",
    ),
    ("by", "who asked, for what a person does"),
    ("code", "stable code of a problem"),
    ("cold_start", "true for the first event of a process"),
    ("connection", "whose record it is"),
    ("count", "how many"),
    (
        "dropped",
        "true when a token was dropped, false when a newer one had taken its place",
    ),
    ("duration_ms", "how long it took, in milliseconds"),
    ("effect", "which effect"),
    ("event_type", "what kind of event Coupa sent"),
    ("failed", "how many failed"),
    ("found", "how many were found"),
    ("generation", "which token of its slot, from 1"),
    ("host", "the other system's host"),
    ("in_coupa", "how many values Coupa holds"),
    ("in_qad", "how many values QAD lists"),
    ("invoice", "Coupa's id of the invoice"),
    ("key_id", "which key seals tokens now"),
    ("linked", "how many suppliers were newly linked"),
    ("location", "source file and line"),
    ("lookup", "which lookup of Coupa"),
    ("made_by", "which key sealed this token"),
    ("message_id", "SQS's id of a message"),
    ("method", "HTTP method"),
    ("metric", "name of a metric of METRICS"),
    ("open", "how many writes are not settled yet"),
    ("operation", "what was asked of the other system"),
    ("order", "which purchase order"),
    ("others", "how many rows were none of our business"),
    ("outcome", "stable word for how it ended"),
    ("pages", "how many pages were read"),
    ("parked", "how many stand parked for a person"),
    ("planned", "how many changes were planned"),
    ("problem", "what is wrong, in one line"),
    ("queued", "how many were queued"),
    ("reason", "stable word for why"),
    ("received", "how many came"),
    ("request_id", "Lambda's id of the invocation"),
    ("state", "where the record stands"),
    ("status", "HTTP status"),
    ("step", "what was done with the record"),
    ("subject", "what a hint points to"),
    ("supplier", "Coupa's id of the supplier"),
    ("system", "coupa or qad"),
    ("trace", "follows one hint through all logs"),
    ("unreadable", "how many could not be read"),
    ("value", "how much the metric counts"),
    ("voucher", "QAD's number of the document"),
    ("watermark", "how far a poll has come"),
    ("written", "how many writes were confirmed"),
];

/// Metrics of which each connection has its own, in the dimension `connection`: when one says nothing, no other speaks for it.
const OF_EACH_CONNECTION: [&str; 1] = ["reconcile_unexplained"];

/// What needs somebody at one connection, by kind: each counts some of [`METRICS`] once more, in the dimension `connection`, so that
/// one connection's trouble neither rings nor hides another one's. Never what a caller from outside may name a connection in.
pub const ATTENTION: [(&str, &[&str]); 3] = [
    (
        "attention_at_once",
        &["connection_refused", "duplicate_found", "owner_mark_stops"],
    ),
    (
        "attention_person",
        &["lookup_parked", "payment_parked", "supplier_parked"],
    ),
    (
        "attention_reading",
        &[
            "lookup_failed",
            "payment_status_unknown",
            "poll_incomplete",
            "record_unreadable",
        ],
    ),
];

/// Every metric: its name, CloudWatch's unit and its meaning. But for [`OF_EACH_CONNECTION`] and [`ATTENTION`] they have no dimensions, so that
/// alarms find them by name.
pub const METRICS: &[(&str, &str, &str)] = &[
    (
        "connection_refused",
        "Count",
        "a system refuses a connection (credentials, a right, an address, a page), and its secret holds nothing newer",
    ),
    (
        "duplicate_found",
        "Count",
        "two documents of one identity in QAD: a person must look at once",
    ),
    (
        "effect_unknown",
        "Count",
        "the answer to a write was lost; it is looked up before anything is sent again",
    ),
    ("hint_unreadable", "Count", "a queue message that cannot be read"),
    ("invoice_exported", "Count", "an invoice marked exported in Coupa"),
    ("invoice_held", "Count", "an invoice that waits for QAD"),
    ("invoice_parked", "Count", "an invoice that waits for a person"),
    ("invoice_posted", "Count", "an invoice created in QAD"),
    (
        "lookup_failed",
        "Count",
        "a lookup that could not be compared: no usable answer",
    ),
    (
        "lookup_parked",
        "Count",
        "changes of a lookup that wait for a person",
    ),
    (
        "needs_person_age_seconds",
        "Seconds",
        "how long the invoice that has needed a person the longest has needed one",
    ),
    (
        "oldest_hold_seconds",
        "Seconds",
        "how long the oldest held invoice waits",
    ),
    (
        "owner_mark_stops",
        "Count",
        "a look at the owner mark after which nothing may be begun",
    ),
    (
        "pause_age_seconds",
        "Seconds",
        "how long a flow is paused, told whenever something waits for its end",
    ),
    (
        "payment_parked",
        "Count",
        "a bill whose payments wait for a person",
    ),
    (
        "payment_status_unknown",
        "Count",
        "a payment with a status that nobody knows; it counts as not paid",
    ),
    (
        "payment_unmatched",
        "Count",
        "payments of a supplier invoice that none of our invoices owns",
    ),
    ("payment_written", "Count", "an entry written to a Coupa invoice"),
    (
        "payments_cursor_age_seconds",
        "Seconds",
        "age, in whole days, of the latest change of a payment that QAD has shown",
    ),
    (
        "poll_incomplete",
        "Count",
        "a poll that ended before the end of the other system's list",
    ),
    (
        "receipts_cursor_age_seconds",
        "Seconds",
        "age, in whole days, of the latest goods receipt that QAD has shown",
    ),
    (
        "reconcile_unexplained",
        "Count",
        "differences between both sides that nothing explains and the run of the day before did not know, told by each complete run, none too",
    ),
    ("record_failed", "Count", "a record of a batch that comes again"),
    (
        "record_panicked",
        "Count",
        "a record of a batch whose work panicked",
    ),
    (
        "record_unreadable",
        "Count",
        "a record on a list of the other system that cannot be read: it is left out, the rest goes on",
    ),
    (
        "records_cut_off",
        "Count",
        "records not finished when the answer was due",
    ),
    ("supplier_parked", "Count", "a supplier that waits for a person"),
    (
        "token_unopenable",
        "Count",
        "a cached token that cannot be opened",
    ),
    ("webhook_rejected", "Count", "a webhook that is not believed"),
];

/// The crates whose fields are written.
const OUR_CRATES: [&str; 5] = ["aws", "connectors", "domain", "flows", "wiring"];

/// The layer that writes the lines.
pub struct JsonLogs<Sink> {
    function: String,
    namespace: String,
    level: Level,
    clock: Box<dyn Clock>,
    sink: Sink,
}

impl<Sink: Fn(&str) + Send + Sync + 'static> JsonLogs<Sink> {
    /// Lines of `function` go to `sink`, each without its line break.
    pub fn new(function: &str, namespace: &str, level: Level, clock: Box<dyn Clock>, sink: Sink) -> Self {
        Self {
            function: function.to_owned(),
            namespace: namespace.to_owned(),
            level,
            clock,
            sink,
        }
    }

    fn is_ours(&self, metadata: &Metadata<'_>) -> bool {
        let krate = metadata.target().split("::").next().unwrap_or("");
        OUR_CRATES.contains(&krate) || krate.replace('_', "-") == self.function
    }
}

/// What an event or a span carries.
#[derive(Default)]
struct Fields {
    allowed: Map<String, Value>,
    dropped: Vec<&'static str>,
    message: Option<String>,
}

impl Fields {
    fn put(&mut self, field: &Field, value: Value) {
        if field.name() == "message" {
            self.message = value.as_str().map(str::to_owned);
        } else if FIELDS.iter().any(|(name, _)| *name == field.name()) {
            self.allowed.insert(field.name().to_owned(), value);
        } else {
            self.dropped.push(field.name());
        }
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, Value::String(clean(value)));
    }
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, Value::String(clean(&format!("{value:?}"))));
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }
}

impl<S, Sink> Layer<S> for JsonLogs<Sink>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    Sink: Fn(&str) + Send + Sync + 'static,
{
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        let least = if self.is_ours(metadata) {
            self.level
        } else {
            self.level.min(Level::WARN)
        };
        *metadata.level() <= least
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let metadata = event.metadata();
        let mut fields = Fields::default();
        event.record(&mut fields);
        let mut line = Map::new();
        let now = self.clock.now();
        line.insert("timestamp".to_owned(), now.to_string().into());
        line.insert("level".to_owned(), metadata.level().as_str().into());
        line.insert("function".to_owned(), self.function.as_str().into());
        line.insert("message".to_owned(), fields.message.unwrap_or_default().into());
        line.insert("target".to_owned(), metadata.target().into());
        if self.is_ours(metadata) {
            let mut dropped = fields.dropped;
            for span in context
                .event_scope(event)
                .into_iter()
                .flatten()
                .map(|span| span.id())
            {
                let Some(span) = context.span(&span) else { continue };
                let extensions = span.extensions();
                let Some(of_span) = extensions.get::<Fields>() else {
                    continue;
                };
                // The event's own word and the inner span's go before those further out.
                for (name, value) in &of_span.allowed {
                    if !fields.allowed.contains_key(name) {
                        fields.allowed.insert(name.clone(), value.clone());
                    }
                }
                dropped.extend(&of_span.dropped);
            }
            if let Some(metric) = self.metric(&fields.allowed, now.0) {
                line.extend(metric);
            }
            line.extend(fields.allowed);
            if !dropped.is_empty() {
                line.insert("dropped_fields".to_owned(), dropped.into());
            }
        }
        (self.sink)(&Value::Object(line).to_string());
    }
}

impl<Sink> JsonLogs<Sink> {
    /// The block that makes CloudWatch take a number from the line.
    fn metric(&self, fields: &Map<String, Value>, now_millis: i64) -> Option<Map<String, Value>> {
        let wanted = fields.get("metric")?.as_str()?;
        let (name, unit, _) = METRICS.iter().find(|(name, _, _)| *name == wanted)?;
        let own = OF_EACH_CONNECTION.contains(name) && fields.contains_key("connection");
        let dimensions: &[&str] = if own { &["connection"] } else { &[] };
        let directive = |dimensions: &[&str], name: &str, unit: &str| {
            json!({
                "Namespace": self.namespace,
                "Dimensions": [dimensions],
                "Metrics": [{ "Name": name, "Unit": unit }],
            })
        };
        let mut directives = vec![directive(dimensions, name, unit)];
        let value = fields.get("value").cloned().unwrap_or_else(|| 1.into());
        let mut metric = Map::from_iter([((*name).to_owned(), value.clone())]);
        let kind = ATTENTION.iter().find(|(_, names)| names.contains(name));
        if let Some((kind, _)) = kind.filter(|_| fields.contains_key("connection")) {
            directives.push(directive(&["connection"], kind, "Count"));
            metric.insert((*kind).to_owned(), value);
        }
        let block = json!({ "Timestamp": now_millis, "CloudWatchMetrics": directives });
        metric.insert("_aws".to_owned(), block);
        Some(metric)
    }
}

/// Starts logging for the whole process and makes panics log where they were, never what they said.
///
/// # Errors
/// `TELEMETRY_STARTED_TWICE`.
pub fn start(function: &str, namespace: &str, level: Level) -> Result<(), Problem> {
    let logs = JsonLogs::new(function, namespace, level, Box::new(SystemClock), write_line);
    tracing::subscriber::set_global_default(Registry::default().with(logs)).map_err(|_| {
        Problem::new(
            "TELEMETRY_STARTED_TWICE",
            "This is a fault in the program: report it with this line.",
        )
    })?;
    std::panic::set_hook(Box::new(|panic| {
        let location = panic
            .location()
            .map_or_else(|| "unknown".to_owned(), ToString::to_string);
        tracing::error!(code = "PANIC", location, "panic");
    }));
    Ok(())
}

fn write_line(line: &str) {
    let mut output = std::io::stdout().lock();
    // Nobody can be told that telling does not work.
    let _ = output
        .write_all(line.as_bytes())
        .and_then(|()| output.write_all(b"\n"))
        .and_then(|()| output.flush());
}

#[cfg(test)]
mod tests {
    use super::*;
    use async_trait::async_trait;
    use domain::time::Timestamp;
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    struct Still;

    #[async_trait]
    impl Clock for Still {
        fn now(&self) -> Timestamp {
            Timestamp(1_000)
        }
        async fn sleep(&self, _: Duration) {}
    }

    fn logged(level: Level, work: impl FnOnce()) -> Vec<Value> {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let sink = lines.clone();
        let logs = JsonLogs::new(
            "match-invoice",
            "stack",
            level,
            Box::new(Still),
            move |line: &str| {
                sink.lock().unwrap().push(serde_json::from_str(line).unwrap());
            },
        );
        tracing::subscriber::with_default(Registry::default().with(logs), work);
        let lines = lines.lock().unwrap();
        lines.clone()
    }

    #[test]
    fn a_line_has_the_events_fields_and_those_of_its_spans() {
        let lines = logged(Level::INFO, || {
            let span = tracing::info_span!("outer", connection = "acme", trace = "outer");
            let _entered = span.enter();
            let span = tracing::info_span!("inner", trace = "inner");
            let _entered = span.enter();
            tracing::info!(status = 201u64, code = "a\r\nb", "sent");
            tracing::debug!("not at this level");
        });
        assert_eq!(
            lines,
            [json!({
                "timestamp": "1970-01-01T00:00:01.000Z", "level": "INFO", "function": "match-invoice", "message": "sent",
                "target": "aws::telemetry::tests", "status": 201, "code": "a  b", "connection": "acme", "trace": "inner"
            })]
        );
    }

    #[test]
    fn a_field_nobody_decided_to_log_shows_only_its_name() {
        let lines = logged(Level::INFO, || tracing::info!(bank_account = "canary", "paid"));
        assert_eq!(lines[0]["dropped_fields"], json!(["bank_account"]));
        assert!(!lines[0].to_string().contains("canary"));
    }

    #[test]
    fn others_are_heard_from_warnings_on_and_without_their_fields() {
        let lines = logged(Level::TRACE, || {
            tracing::info!(target: "hyper::client", "chatter");
            tracing::warn!(target: "hyper::client", status = "canary", "trouble");
            tracing::debug!(target: "match_invoice", "ours");
        });
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0]["message"], "trouble");
        assert!(!lines[0].to_string().contains("canary"));
        assert_eq!(lines[1]["message"], "ours");
    }

    #[test]
    fn a_metric_is_a_line_that_cloudwatch_counts() {
        let lines = logged(Level::INFO, || {
            tracing::info!(metric = "oldest_hold_seconds", value = 7u64, "held");
            tracing::info!(metric = "invented", "not in the table");
        });
        let directive = &lines[0]["_aws"]["CloudWatchMetrics"][0];
        assert_eq!(directive["Namespace"], "stack");
        assert_eq!(
            directive["Metrics"],
            json!([{ "Name": "oldest_hold_seconds", "Unit": "Seconds" }])
        );
        assert_eq!(lines[0]["_aws"]["Timestamp"], 1_000);
        assert_eq!(lines[0]["oldest_hold_seconds"], 7);
        assert!(lines[1].get("_aws").is_none());
    }

    #[test]
    fn what_each_connection_has_of_its_own_is_told_by_connection() {
        let lines = logged(Level::INFO, || {
            tracing::info!(
                metric = "reconcile_unexplained",
                value = 0u64,
                connection = "acme",
                "a"
            );
            tracing::info!(metric = "invoice_held", value = 1u64, connection = "acme", "b");
        });
        let dimensions = |line: usize| lines[line]["_aws"]["CloudWatchMetrics"][0]["Dimensions"].clone();
        assert_eq!(
            (dimensions(0), lines[0]["connection"].as_str()),
            (json!([["connection"]]), Some("acme"))
        );
        assert_eq!(dimensions(1), json!([[]]));
        let is_a_metric = |name: &&str| METRICS.iter().any(|(metric, _, _)| metric == name);
        assert!(OF_EACH_CONNECTION.iter().all(is_a_metric));
    }

    #[test]
    fn trouble_is_counted_for_its_connection_too_by_kind() {
        let lines = logged(Level::INFO, || {
            let span = tracing::info_span!("record", connection = "acme");
            let _entered = span.enter();
            tracing::error!(metric = "duplicate_found", value = 2u64, "two");
            tracing::info!(metric = "invoice_posted", value = 1u64, "no trouble");
        });
        let directives = lines[0]["_aws"]["CloudWatchMetrics"].as_array().unwrap();
        let told: Vec<Value> = directives
            .iter()
            .map(|one| json!([one["Dimensions"][0], one["Metrics"][0]["Name"]]))
            .collect();
        assert_eq!(
            told,
            [
                json!([[], "duplicate_found"]),
                json!([["connection"], "attention_at_once"])
            ]
        );
        assert_eq!(
            (
                lines[0]["attention_at_once"].clone(),
                lines[0]["connection"].clone()
            ),
            (json!(2), json!("acme"))
        );
        assert_eq!(lines[1]["_aws"]["CloudWatchMetrics"].as_array().unwrap().len(), 1);
        // Without a connection it is the installation's alone.
        let lines = logged(Level::INFO, || {
            tracing::error!(metric = "duplicate_found", value = 1u64, "whose?");
        });
        assert!(lines[0].get("attention_at_once").is_none());
    }

    #[test]
    fn a_kind_of_trouble_counts_known_metrics_each_once_and_none_that_a_stranger_can_cause() {
        let counted: Vec<&str> = ATTENTION.iter().flat_map(|(_, names)| *names).copied().collect();
        let is_a_metric = |name: &&str| METRICS.iter().any(|(metric, _, _)| metric == name);
        assert!(counted.iter().all(is_a_metric));
        let different: std::collections::BTreeSet<&&str> = counted.iter().collect();
        assert_eq!(different.len(), counted.len());
        assert!(!counted.contains(&"webhook_rejected"));
    }

    #[test]
    fn names_are_sorted_and_stand_once() {
        assert!(FIELDS.is_sorted_by(|one, two| one.0 < two.0));
        assert!(METRICS.is_sorted_by(|one, two| one.0 < two.0));
    }
}
