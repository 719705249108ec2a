//! The lists of suppliers and lookup values on both sides. QAD answers an unknown browse, and Coupa an unknown lookup, with
//! an empty list and success: what is empty is never taken for well.

use super::{Findings, LOOK_BACK_DAYS, Verdict, list};
use crate::place::Systems;
use domain::ids::SupplierCode;
use domain::lifecycle::InvoiceRecord;
use domain::lookups::LOOKUP_MISSING;
use domain::plans::{PlanRecord, PlanState};
use domain::time::Date;
use flows::ports::{CoupaLookups, CoupaSuppliers, QadSources, QadSuppliers};
use std::collections::BTreeSet;

/// Suppliers, when the connection aligns them.
pub(super) async fn suppliers(
    systems: &Systems,
    known: &[InvoiceRecord],
    since: Date,
    findings: &mut Findings,
) {
    if !systems.document.suppliers.enabled {
        let told = "not asked: suppliers.enabled is off";
        return findings.pass("qad", "suppliers", told);
    }
    let changed = systems.qad.suppliers_since(since).await;
    let mut code: Option<SupplierCode> = known.iter().find_map(|record| {
        let number = record.summary.as_ref()?.supplier_number.as_deref()?;
        number.trim().parse().ok()
    });
    if let Ok(scan) = &changed {
        for (_, problem) in &scan.unreadable {
            findings.problem("qad", "suppliers, unreadable row", problem);
        }
        code = code.or_else(|| scan.suppliers.first().map(|supplier| supplier.code.clone()));
    }
    list(
        findings,
        "suppliers",
        changed.map(|scan| scan.suppliers.len()),
        "suppliers",
    );
    let check = "one supplier, read in full";
    match code {
        None => findings.add(
            "qad",
            check,
            Verdict::Warn,
            "no supplier is known to ask for",
            &format!("Try again when a supplier has changed within {LOOK_BACK_DAYS} days."),
        ),
        Some(code) => match systems.qad.supplier(&code).await {
            Ok(Some(supplier)) => findings.pass("qad", check, supplier.code.to_string()),
            Ok(None) => findings.add(
                "qad",
                check,
                Verdict::Fail,
                format!("supplier {code}, which an invoice or the list names, is not found"),
                "Correct qad.profile.supplier, suppliers.shared_set, or the user's rights.",
            ),
            Err(error) => findings.problem("qad", check, error.problem()),
        },
    }
    match systems.coupa.suppliers(None, None).await {
        Err(error) => findings.problem("coupa", "suppliers", error.problem()),
        Ok(page) => {
            for (_, problem) in &page.unreadable {
                findings.problem("coupa", "suppliers, unreadable record", problem);
            }
            if page.suppliers.is_empty() {
                let fix =
                    "Coupa shows none: check the client's scope core.supplier.read and its content groups.";
                findings.add("coupa", "suppliers", Verdict::Warn, "none", fix);
            } else {
                let told = format!("{} on the first page", page.suppliers.len());
                findings.pass("coupa", "suppliers", told);
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
            "coupa",
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
        Err(error) => findings.problem("qad", check, error.problem()),
        Ok(scan) => {
            for (_, problem) in &scan.unreadable {
                findings.problem("qad", format!("{check}, unreadable row"), problem);
            }
            if scan.values.is_empty() {
                let fix = format!(
                    "Correct lookups.sources.{name} or the user's rights. QAD answers an unknown browse with an empty list."
                );
                findings.add("qad", check, Verdict::Warn, "no row", &fix);
            } else {
                findings.pass("qad", check, format!("{} values", scan.values.len()));
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
        Err(error) => findings.problem("coupa", check, error.problem()),
        Ok(scan) if !scan.values.is_empty() || !scan.unreadable.is_empty() => {
            for (_, problem) in &scan.unreadable {
                findings.problem("coupa", format!("{check}, unreadable value"), problem);
            }
            findings.pass("coupa", check, format!("{} values", scan.values.len()));
        }
        Ok(_) => match (systems.coupa.has_lookup(name).await, missing) {
            (Err(error), _) => findings.problem("coupa", check, error.problem()),
            (Ok(Some(true)), _) => findings.pass("coupa", check, "there, and without a value yet"),
            // Coupa has said so when a value was to be created.
            (Ok(None), Some(problem)) => findings.problem("coupa", check, problem),
            (Ok(Some(false)), _) => findings.add(
                "coupa",
                check,
                Verdict::Fail,
                "Coupa has no lookup of this name",
                "Create it in Coupa (Setup > Lookups), or correct the name in lookups.sync.",
            ),
            (Ok(None), None) => findings.add(
                "coupa",
                check,
                Verdict::Warn,
                "no value; Coupa answers so about a lookup that it does not have, too",
                "See that it is there (Setup > Lookups). The first run of sync-lookups fills it, or says that it is missing.",
            ),
        },
    }
}
