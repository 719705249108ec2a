//! Coupa's published scenarios for ERP adapters as one command: against the simulated day, or against a customer's test
//! systems with the documents that somebody prepared there. Reads only, and writes a report that can be filed.

mod report;
mod scenarios;

use crate::output::Output;
use crate::place::{Place, PlaceArguments, unfinished, unread};
use crate::{Failure, demo, place, reconcile, records, suppliers};
use aws::clock::SystemClock;
use aws::dynamo::DynamoRegister;
use clap::Args;
use connectors::connection::ORDER_FIELD;
use domain::explain;
use domain::payments::BillPayments;
use domain::problem::Problem;
use flows::bills::bill_key;
use flows::ports::{Clock, Coupa, CoupaPayments};
use flows::store::load;
use report::{Report, Section, Verdict};
use sandbox::scenario::{ExpectedSupplier, Scenario as Story, expected_suppliers};
use scenarios::{About, InvoiceEvidence, SCENARIOS, Scenario, SupplierEvidence};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Largest file of cases, in bytes.
const CASES_BYTES_MAX: u64 = 256 * 1024;
/// Most documents that one scenario may name.
const DOCUMENTS_MAX: usize = 1_000;

#[derive(Debug, Args)]
pub(crate) struct CertifyOptions {
    /// Which documents of the test systems show which scenario; without it the simulated day is played for it.
    #[arg(long, value_name = "FILE")]
    cases: Option<PathBuf>,
    /// The folder for certificate.json and certificate.html.
    #[arg(long, value_name = "DIR", default_value = "certificate")]
    report: PathBuf,
    /// Another simulated day: same stories, other figures.
    #[arg(long, default_value_t = 1, conflicts_with = "cases")]
    seed: u64,
}

/// Which documents show which scenario, by the scenario's number.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Cases {
    /// Suppliers by QAD's code, invoices by anything that finds them.
    cases: BTreeMap<String, Vec<String>>,
}

impl Cases {
    /// Reads a file of cases; an unknown scenario is an error, never left out.
    fn read(path: &Path) -> Result<Self, Failure> {
        let wrong = |expected: &str, actual: String| {
            Failure::from(
                Problem::new(
                    "CASES_UNREADABLE",
                    "Correct the file; docs/commands.md shows one.",
                )
                .field(path.display().to_string())
                .expected(expected)
                .actual(actual),
            )
        };
        let size = std::fs::metadata(path)
            .map_err(|error| wrong("a file", error.to_string()))?
            .len();
        if size > CASES_BYTES_MAX {
            return Err(wrong(
                &format!("at most {CASES_BYTES_MAX} bytes"),
                size.to_string(),
            ));
        }
        let text = std::fs::read_to_string(path).map_err(|error| wrong("a text", error.to_string()))?;
        Self::parse(&text)
            .map_err(|actual| wrong("[cases] with \"<scenario>\" = [\"<document>\", …]", actual))
    }

    fn parse(text: &str) -> Result<Self, String> {
        let cases: Self = toml::from_str(text).map_err(|error| error.message().to_owned())?;
        for (number, documents) in &cases.cases {
            if !SCENARIOS.iter().any(|scenario| scenario.number == number) {
                let known: Vec<&str> = SCENARIOS.iter().map(|scenario| scenario.number).collect();
                return Err(format!(
                    "scenario {number}, which is none of {}",
                    known.join(", ")
                ));
            }
            if documents.len() > DOCUMENTS_MAX {
                return Err(format!(
                    "{} documents for {number}, more than {DOCUMENTS_MAX}",
                    documents.len()
                ));
            }
        }
        Ok(cases)
    }

    fn of(&self, scenario: &Scenario) -> &[String] {
        self.cases.get(scenario.number).map_or(&[], Vec::as_slice)
    }

    /// Which stories of the simulated day show which scenario.
    pub(crate) fn of_the_day(stories: &[Story]) -> Self {
        let named = |names: &[&str]| -> Vec<String> {
            stories
                .iter()
                .filter(|story| names.contains(&story.name))
                .filter_map(|story| story.expected.first())
                .map(|expected| expected.invoice.to_string())
                .collect()
        };
        let exported = stories
            .iter()
            .flat_map(|story| &story.expected)
            .filter(|expected| expected.state == "exported")
            .map(|expected| expected.invoice.to_string())
            .collect();
        let suppliers = |are: fn(&ExpectedSupplier) -> bool| -> Vec<String> {
            let all = expected_suppliers();
            let found = all.iter().filter(|supplier| are(supplier));
            found.map(|supplier| supplier.code().to_owned()).collect()
        };
        let mut cases: BTreeMap<String, Vec<String>> = STORIES
            .iter()
            .map(|(number, names)| ((*number).to_owned(), named(names)))
            .collect();
        let in_both = suppliers(|one| !matches!(one, ExpectedSupplier::Apart { .. }));
        let renamed = suppliers(|one| matches!(one, ExpectedSupplier::Renamed { .. }));
        cases.insert("2.1".to_owned(), in_both);
        cases.insert("2.2".to_owned(), renamed);
        cases.insert("4.9".to_owned(), exported);
        Self { cases }
    }
}

/// Which stories show a scenario, by their names.
const STORIES: [(&str, &[&str]); 9] = [
    ("4.1", &["single line", "released by a receipt"]),
    ("4.2", &["cleaning without an order"]),
    // The demo's connection has QAD's number of the document written to a custom field.
    ("4.3", &["single line"]),
    ("4.4", &["amount line, exact"]),
    ("4.5", &["tax by line"]),
    ("4.6", &["tax at the header"]),
    ("4.7", &["credit note for a return"]),
    ("4.8", &["voided before posting", "voided after posting"]),
    ("5.1", &["paid in full", "paid in part, then the rest"]),
];

/// `certify`.
pub(crate) async fn run(
    arguments: &PlaceArguments,
    options: &CertifyOptions,
    out: &Output,
) -> Result<(), Failure> {
    match &options.cases {
        Some(file) => {
            let cases = Cases::read(file)?;
            let place = Place::open(arguments).await?;
            certify(
                &place,
                &cases,
                "the systems of its settings",
                &options.report,
                out,
            )
            .await
        }
        None => {
            let run_dir = place::only_local(arguments)?;
            demo::certify(run_dir, options.seed, &options.report, out).await
        }
    }
}

/// Asks everything once, writes the report, and says how it went. A scenario that failed ends with exit code 4.
pub(crate) async fn certify(
    place: &Place,
    cases: &Cases,
    against: &str,
    folder: &Path,
    out: &Output,
) -> Result<(), Failure> {
    let connection = place.connection().await?;
    let register = place.register(&connection)?;
    let systems = place.systems(&connection).await?;
    let mut sections = Vec::new();
    for scenario in &SCENARIOS {
        let documents = cases.of(scenario);
        let mut criteria = match scenario.about {
            About::Suppliers => of_suppliers(&register, scenario, documents).await?,
            About::Invoices => of_invoices(&register, &systems, scenario, documents).await?,
        };
        if !documents.is_empty() {
            criteria.extend(scenarios::judge_all(scenario, documents.len()));
        }
        let section = Section {
            number: scenario.number.to_owned(),
            title: scenario.title.to_owned(),
            verdict: Verdict::NotShown,
            prepare: scenario.prepare.to_owned(),
            criteria,
        };
        sections.push(section.judged());
    }
    let report = Report {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        made_at: explain::instant(SystemClock.now()),
        connection: connection.to_string(),
        against: against.to_owned(),
        scenarios: sections,
    };
    write(&report, folder)?;
    tell(&report, folder, out);
    match report.count(Verdict::Failed) {
        0 => Ok(()),
        failed => Err(Failure::Differs(format!("{failed} scenarios failed"))),
    }
}

async fn of_suppliers(
    register: &DynamoRegister,
    scenario: &Scenario,
    codes: &[String],
) -> Result<Vec<scenarios::Criterion>, Failure> {
    if codes.is_empty() {
        return Ok(Vec::new());
    }
    let known = suppliers::all(register).await?;
    let mut criteria = Vec::new();
    for code in codes {
        let record = suppliers::record_of(&known, code).ok_or_else(|| {
            Failure::NotFound(
                Problem::new("SUPPLIER_NOT_FOUND", "Look it up in `qad-coupa suppliers list`.")
                    .field("cases")
                    .expected("QAD's code of a supplier that is kept aligned")
                    .actual(code),
            )
        })?;
        let evidence = SupplierEvidence {
            asked: code.clone(),
            record: record.clone(),
            trail: suppliers::trail(register, record).await?,
        };
        criteria.extend(scenarios::judge_supplier(scenario, &evidence));
    }
    Ok(criteria)
}

async fn of_invoices(
    register: &DynamoRegister,
    systems: &place::Systems,
    scenario: &Scenario,
    documents: &[String],
) -> Result<Vec<scenarios::Criterion>, Failure> {
    let mut criteria = Vec::new();
    for asked in documents {
        let record = records::one(register, asked).await?;
        let bill = load::<BillPayments>(register, bill_key(record.id))
            .await
            .map_err(unfinished)?;
        let evidence = InvoiceEvidence {
            asked: asked.clone(),
            invoice: systems.coupa.invoice(record.id).await.map_err(unread)?,
            documents: reconcile::documents_of(systems, &record).await?,
            shown: systems.coupa.bill(record.id).await.map_err(unread)?,
            bill: bill.map(|bill| bill.document),
            order_in_field: systems.document.coupa.order_number.field != ORDER_FIELD,
            shown_voucher: systems.coupa.shown_voucher(record.id).await.map_err(unread)?,
            trail: records::trail(register, record.id).await?.len(),
            record,
        };
        criteria.extend(scenarios::judge_invoice(scenario, &evidence));
    }
    Ok(criteria)
}

fn write(report: &Report, folder: &Path) -> Result<(), Failure> {
    let failed = |error: String| {
        Failure::from(
            Problem::new(
                "REPORT_NOT_WRITTEN",
                "Name a folder that can be written with --report.",
            )
            .field(folder.display().to_string())
            .actual(error),
        )
    };
    std::fs::create_dir_all(folder).map_err(|error| failed(error.to_string()))?;
    let text = serde_json::to_string_pretty(report).map_err(|error| failed(error.to_string()))?;
    std::fs::write(folder.join("certificate.json"), text).map_err(|error| failed(error.to_string()))?;
    std::fs::write(folder.join("certificate.html"), report.html()).map_err(|error| failed(error.to_string()))
}

fn tell(report: &Report, folder: &Path, out: &Output) {
    if out.is_json() {
        out.json(&serde_json::json!(report));
        return;
    }
    for section in &report.scenarios {
        let word = match section.verdict {
            Verdict::Passed => "passed",
            Verdict::Failed => "FAILED",
            Verdict::NotShown => "not shown",
        };
        out.line(&format!("{:<4} {:<10} {}", section.number, word, section.title));
        for criterion in section.criteria.iter().filter(|criterion| !criterion.met) {
            out.line(&format!(
                "       {}: {}; found: {}",
                criterion.document, criterion.expected, criterion.actual
            ));
        }
        if section.verdict == Verdict::NotShown {
            out.line(&format!("       to show it: {}", section.prepare));
        }
    }
    out.line(&report.sentence());
    out.line(&format!(
        "The report is in {}, as certificate.html and certificate.json.",
        folder.display()
    ));
}

#[cfg(test)]
mod tests {
    use super::*;
    use sandbox::scenario::day;

    #[test]
    fn a_file_of_cases_names_known_scenarios_only() {
        let cases = Cases::parse("[cases]\n\"4.1\" = [\"INV-1\"]\n").unwrap();
        assert_eq!(cases.of(&SCENARIOS[2]), ["INV-1"]);
        let unknown = Cases::parse("[cases]\n\"4.10\" = [\"INV-1\"]\n").unwrap_err();
        assert!(unknown.contains("4.10") && unknown.contains("4.9"), "{unknown}");
        assert!(Cases::parse("cases = 1").is_err());
        assert!(Cases::parse("[case]\n").is_err());
    }

    #[test]
    fn every_story_that_shows_a_scenario_is_played() {
        let mut stories = day(1);
        stories.extend(sandbox::scenario::payments::payments(1).scenarios);
        for (number, names) in STORIES {
            for name in names {
                assert!(
                    stories.iter().any(|story| story.name == *name),
                    "{number}: {name}"
                );
            }
        }
        let cases = Cases::of_the_day(&stories);
        for scenario in &SCENARIOS {
            assert!(
                !cases.of(scenario).is_empty(),
                "nothing shows {}",
                scenario.number
            );
        }
        assert!(cases.cases["4.9"].len() >= scenarios::MANY_INVOICES);
    }
}
