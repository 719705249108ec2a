//! The report of a certification: one value, as JSON and as a page that can be filed and printed.

use super::scenarios::Criterion;
use serde::Serialize;

/// How a scenario went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Verdict {
    /// Shown, and everything is as it must be.
    Passed,
    /// Shown, and something is not.
    Failed,
    /// Nothing was named that shows it.
    NotShown,
}

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::NotShown => "not shown",
        }
    }
}

/// One scenario of the report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Section {
    /// Its number in Coupa's list.
    pub(crate) number: String,
    /// What it shows.
    pub(crate) title: String,
    /// How it went.
    pub(crate) verdict: Verdict,
    /// What to prepare so that it can be shown.
    pub(crate) prepare: String,
    /// The criteria.
    pub(crate) criteria: Vec<Criterion>,
}

impl Section {
    /// The verdict over its criteria.
    pub(crate) fn judged(mut self) -> Self {
        self.verdict = if self.criteria.is_empty() {
            Verdict::NotShown
        } else if self.criteria.iter().all(|criterion| criterion.met) {
            Verdict::Passed
        } else {
            Verdict::Failed
        };
        self
    }
}

/// The whole report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Report {
    /// Version of this program.
    pub(crate) version: String,
    /// When it was made, UTC.
    pub(crate) made_at: String,
    /// The connection.
    pub(crate) connection: String,
    /// Against what: simulators, or the hosts of the test systems.
    pub(crate) against: String,
    /// The scenarios.
    pub(crate) scenarios: Vec<Section>,
}

impl Report {
    /// How many scenarios ended so.
    pub(crate) fn count(&self, verdict: Verdict) -> usize {
        self.scenarios
            .iter()
            .filter(|section| section.verdict == verdict)
            .count()
    }

    /// The verdict in one line.
    pub(crate) fn sentence(&self) -> String {
        format!(
            "{} of {} scenarios passed, {} failed, {} not shown.",
            self.count(Verdict::Passed),
            self.scenarios.len(),
            self.count(Verdict::Failed),
            self.count(Verdict::NotShown)
        )
    }

    /// As a page: no script, nothing from elsewhere, prints.
    pub(crate) fn html(&self) -> String {
        let mut page = String::from(HEAD);
        page.push_str(&format!(
            "<h1>Coupa ERP adapter scenarios</h1>\n<p>{} Made by qad-coupa {} on {} for connection {} against {}.</p>\n",
            escaped(&self.sentence()),
            escaped(&self.version),
            escaped(&self.made_at),
            escaped(&self.connection),
            escaped(&self.against)
        ));
        for section in &self.scenarios {
            page.push_str(&format!(
                "<section><h2>{} {} <span class=\"{}\">{}</span></h2>\n",
                escaped(&section.number),
                escaped(&section.title),
                section.verdict.word().replace(' ', "-"),
                section.verdict.word()
            ));
            if section.criteria.is_empty() {
                page.push_str(&format!(
                    "<p>To show it: {}</p></section>\n",
                    escaped(&section.prepare)
                ));
                continue;
            }
            page.push_str("<table><thead><tr><th scope=\"col\">Document</th><th scope=\"col\">Must be</th><th scope=\"col\">Found</th><th scope=\"col\">Met</th></tr></thead><tbody>\n");
            for criterion in &section.criteria {
                page.push_str(&format!(
                    "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>\n",
                    escaped(&criterion.document),
                    escaped(&criterion.expected),
                    escaped(&criterion.actual),
                    if criterion.met { "yes" } else { "NO" }
                ));
            }
            page.push_str("</tbody></table></section>\n");
        }
        page.push_str("</main></body></html>\n");
        page
    }
}

const HEAD: &str = "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
<title>Coupa ERP adapter scenarios</title><style>\
body{font:16px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:60rem;padding:0 1rem;color:#1b1b1b;background:#fff}\
table{border-collapse:collapse;width:100%}th,td{text-align:left;vertical-align:top;padding:.3rem .6rem;border-bottom:1px solid #ccc;overflow-wrap:anywhere}\
h2 span{font-size:.8em;padding:.1em .5em;border:1px solid}.passed{color:#0b5d1e}.failed{color:#a3000f}.not-shown{color:#555}\
section{break-inside:avoid}</style></head><body><main>\n";

/// A text inside a page: nothing in it is markup.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(criteria: Vec<Criterion>) -> Section {
        Section {
            number: "4.1".into(),
            title: "One line".into(),
            verdict: Verdict::NotShown,
            prepare: "An invoice.".into(),
            criteria,
        }
        .judged()
    }

    fn criterion(met: bool) -> Criterion {
        Criterion {
            document: "<b>INV-1</b>".into(),
            expected: "one document".into(),
            actual: "two".into(),
            met,
        }
    }

    #[test]
    fn a_scenario_passes_only_when_every_criterion_is_met_and_there_is_one() {
        assert_eq!(section(vec![]).verdict, Verdict::NotShown);
        assert_eq!(section(vec![criterion(true)]).verdict, Verdict::Passed);
        assert_eq!(
            section(vec![criterion(true), criterion(false)]).verdict,
            Verdict::Failed
        );
    }

    #[test]
    fn what_stands_in_a_document_is_never_markup_of_the_report() {
        let report = Report {
            version: "0".into(),
            made_at: "now".into(),
            connection: "acme".into(),
            against: "simulators".into(),
            scenarios: vec![section(vec![criterion(false)])],
        };
        let page = report.html();
        assert!(page.contains("&lt;b&gt;INV-1&lt;/b&gt;") && !page.contains("<b>"));
        assert!(page.contains("0 of 1 scenarios passed, 1 failed, 0 not shown."));
    }
}
