//! The lists of suppliers and lookup values on both sides. QAD answers an unknown browse, and Coupa an unknown lookup, with
//! an empty list and success: what is empty is never taken for well.

use super::{Findings, LOOK_BACK_DAYS, Verdict, days_ago, list};
use crate::place::Systems;
use domain::entities::Census;
use domain::ids::SupplierCode;
use domain::lifecycle::InvoiceRecord;
use domain::lookups::LOOKUP_MISSING;
use domain::plans::{PlanRecord, PlanState};
use domain::time::Date;
use flows::ports::{CoupaLookups, CoupaSuppliers, QadSources, QadSuppliers};
use std::collections::BTreeSet;

/// How many days back invoices are counted by whose they are.
pub(crate) const CENSUS_DAYS: i64 = 30;

/// The day since which they are counted.
pub(crate) fn counted_since() -> Date {
    days_ago(CENSUS_DAYS)
}

/// Whose the approved invoices of the last days are. A connection without conditions takes all of them, also another ERP's.
pub(super) async fn charts(systems: &Systems, findings: &mut Findings) {
    let (code, check) = ("COUPA_ENTITIES", "whose the invoices are");
    match systems.coupa.census(counted_since()).await {
        Err(error) => findings.problem(code, check, error.problem()),
        Ok(census) => {
            let (verdict, found, fix) = whose(&census, has_conditions(systems));
            findings.add(code, check, verdict, found, fix);
        }
    }
}

/// Whether fields of an invoice say whose it is.
pub(crate) fn has_conditions(systems: &Systems) -> bool {
    systems
        .document
        .entities
        .iter()
        .any(|entity| !entity.rule.when.is_empty())
}

fn whose(census: &Census, has_conditions: bool) -> (Verdict, String, &'static str) {
    let beginning = if census.whole { "" } else { "at least " };
    let left = census.left_alone();
    if !has_conditions {
        let found = format!("{beginning}{} in {CENSUS_DAYS} days", census.taken);
        return if census.values.len() > 1 {
            (
                Verdict::Warn,
                format!(
                    "{found}, of more than one chart of accounts: {}",
                    Census::words(&census.values)
                ),
                "All of them are taken for this connection's entity. If another ERP has some, give [[entities]] with `when`, and coupa.invoices.filter.",
            )
        } else {
            (Verdict::Pass, found, "")
        };
    }
    let mut found = format!("{beginning}{} taken in {CENSUS_DAYS} days", census.taken);
    if census.ambiguous > 0 {
        found = format!("{found}, {} of more than one entity", census.ambiguous);
    }
    if left > 0 {
        found = format!("{found}, {left} left alone: {}", Census::words(&census.untaken));
    }
    if left > 0 && census.taken == 0 {
        let fix = "No entity takes any of them: compare the conditions (entities[].when) with these values.";
        (Verdict::Warn, found, fix)
    } else {
        (Verdict::Pass, found, "")
    }
}

/// Suppliers, when the connection aligns them.
pub(super) async fn suppliers(
    systems: &Systems,
    known: &[InvoiceRecord],
    since: Date,
    findings: &mut Findings,
) {
    if !systems.document.suppliers.enabled {
        let told = "not asked: suppliers.enabled is off";
        return findings.pass("QAD_SUPPLIERS", "suppliers", told);
    }
    let changed = systems.qad.suppliers_since(since).await;
    let mut code: Option<SupplierCode> = known.iter().find_map(|record| {
        let number = record.summary.as_ref()?.supplier_number.as_deref()?;
        number.trim().parse().ok()
    });
    if let Ok(scan) = &changed {
        for (_, problem) in &scan.unreadable {
            findings.problem("QAD_SUPPLIERS_UNREADABLE", "suppliers, unreadable row", problem);
        }
        code = code.or_else(|| scan.suppliers.first().map(|supplier| supplier.code.clone()));
    }
    list(
        findings,
        "QAD_SUPPLIERS",
        "suppliers",
        changed.map(|scan| scan.suppliers.len()),
        "suppliers",
    );
    let check = "one supplier, read in full";
    match code {
        None => findings.add(
            "QAD_SUPPLIER",
            check,
            Verdict::Warn,
            "no supplier is known to ask for",
            &format!("Try again when a supplier has changed within {LOOK_BACK_DAYS} days."),
        ),
        Some(code) => match systems.qad.supplier(&code).await {
            Ok(Some(supplier)) => findings.pass("QAD_SUPPLIER", check, supplier.code.to_string()),
            Ok(None) => findings.add(
                "QAD_SUPPLIER",
                check,
                Verdict::Fail,
                format!("supplier {code}, which an invoice or the list names, is not found"),
                "Correct qad.profile.supplier, suppliers.shared_set, or the user's rights.",
            ),
            Err(error) => findings.problem("QAD_SUPPLIER", check, error.problem()),
        },
    }
    match systems.coupa.suppliers(None, None).await {
        Err(error) => findings.problem("COUPA_SUPPLIERS", "suppliers", error.problem()),
        Ok(page) => {
            for (_, problem) in &page.unreadable {
                findings.problem(
                    "COUPA_SUPPLIERS_UNREADABLE",
                    "suppliers, unreadable record",
                    problem,
                );
            }
            if page.suppliers.is_empty() {
                let fix =
                    "Coupa shows none: check the client's scope core.supplier.read and its content groups.";
                findings.add("COUPA_SUPPLIERS", "suppliers", Verdict::Warn, "none", fix);
            } else {
                let told = format!("{} on the first page", page.suppliers.len());
                findings.pass("COUPA_SUPPLIERS", "suppliers", told);
            }
        }
    }
}

/// Each list of QAD that a lookup shows, and the lookup in Coupa.
pub(super) async fn lookups(
    systems: &Systems,
    plans: &[PlanRecord],
    wanted: impl Fn(&str) -> bool,
    findings: &mut Findings,
) {
    let Some(settings) = &systems.document.lookups else {
        return findings.pass(
            "COUPA_LOOKUPS",
            "lookups",
            "not asked: the connection has no section lookups",
        );
    };
    let mut sources: BTreeSet<&str> = BTreeSet::new();
    for sync in &settings.syncs {
        if wanted("qad") && sources.insert(&sync.source) {
            source(systems, &sync.source, findings).await;
        }
        if wanted("coupa") {
            let plan = plans.iter().find(|plan| plan.name() == sync.lookup);
            lookup(systems, &sync.lookup, plan, findings).await;
        }
    }
}

async fn source(systems: &Systems, name: &str, findings: &mut Findings) {
    let check = format!("list {name}");
    match systems.qad.source_values(name).await {
        Err(error) => findings.problem("QAD_LIST", check, error.problem()),
        Ok(scan) => {
            for (_, problem) in &scan.unreadable {
                findings.problem("QAD_LIST_UNREADABLE", format!("{check}, unreadable row"), problem);
            }
            if scan.values.is_empty() {
                let fix = format!(
                    "Correct lookups.sources.{name} or the user's rights. QAD answers an unknown browse with an empty list."
                );
                findings.add("QAD_LIST", check, Verdict::Warn, "no row", &fix);
            } else {
                findings.pass("QAD_LIST", check, format!("{} values", scan.values.len()));
            }
        }
    }
}

async fn lookup(systems: &Systems, name: &str, plan: Option<&PlanRecord>, findings: &mut Findings) {
    let check = format!("lookup {name}");
    let missing = plan.and_then(|plan| match &plan.state {
        PlanState::Parked { problem, .. } if problem.code == LOOKUP_MISSING => Some(problem),
        _ => None,
    });
    match systems.coupa.lookup_values(name).await {
        Err(error) => findings.problem("COUPA_LOOKUP", check, error.problem()),
        Ok(scan) if !scan.values.is_empty() || !scan.unreadable.is_empty() => {
            for (_, problem) in &scan.unreadable {
                findings.problem("COUPA_LOOKUP_UNREADABLE", format!("{check}, unreadable value"), problem);
            }
            findings.pass("COUPA_LOOKUP", check, format!("{} values", scan.values.len()));
        }
        Ok(_) => match (systems.coupa.has_lookup(name).await, missing) {
            (Err(error), _) => findings.problem("COUPA_LOOKUP", check, error.problem()),
            (Ok(Some(true)), _) => findings.pass("COUPA_LOOKUP", check, "there, and without a value yet"),
            // Coupa has said so when a value was to be created.
            (Ok(None), Some(problem)) => findings.problem("COUPA_LOOKUP", check, problem),
            (Ok(Some(false)), _) => findings.add(
                "COUPA_LOOKUP",
                check,
                Verdict::Fail,
                "Coupa has no lookup of this name",
                "Create it in Coupa (Setup > Lookups), or correct the name in lookups.sync.",
            ),
            (Ok(None), None) => findings.add(
                "COUPA_LOOKUP",
                check,
                Verdict::Warn,
                "no value; Coupa answers so about a lookup that it does not have, too",
                "See that it is there (Setup > Lookups). The first run of sync-lookups fills it, or says that it is missing.",
            ),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn census(taken: usize, untaken: &[(&str, usize)], values: &[&str]) -> Census {
        Census {
            taken,
            untaken: untaken
                .iter()
                .map(|(value, count)| ((*value).to_owned(), *count))
                .collect(),
            values: values.iter().map(|value| ((*value).to_owned(), 1)).collect(),
            whole: true,
            ..Census::default()
        }
    }

    #[test]
    fn more_than_one_chart_of_accounts_warns_only_where_nothing_says_whose_an_invoice_is() {
        let several = census(
            2,
            &[],
            &["account-type.name is \"QAD\"", "account-type.name is \"SAP\""],
        );
        let (verdict, found, fix) = whose(&several, false);
        assert_eq!(verdict, Verdict::Warn);
        assert!(found.contains("account-type.name is \"SAP\": 1"), "{found}");
        assert!(fix.contains("when"), "{fix}");
        let one = census(2, &[], &["account-type.name is \"QAD\""]);
        assert_eq!(whose(&one, false).0, Verdict::Pass);
        assert_eq!(whose(&several, true).0, Verdict::Pass);
    }

    #[test]
    fn what_no_entity_takes_is_counted_and_warns_when_none_takes_anything() {
        let typo = census(0, &[("account-type.name is \"QAD 10USA\"", 12)], &["x"]);
        let (verdict, found, _) = whose(&typo, true);
        assert_eq!(
            (verdict, found.as_str()),
            (
                Verdict::Warn,
                "0 taken in 30 days, 12 left alone: account-type.name is \"QAD 10USA\": 12"
            )
        );
        let shared = census(40, &[("account-type.name is \"SAP Europe\"", 12)], &["x", "y"]);
        let (verdict, found, _) = whose(&shared, true);
        assert_eq!(verdict, Verdict::Pass);
        assert!(found.starts_with("40 taken in 30 days, 12 left alone"), "{found}");
    }
}
