//! What a list says, and what it refuses.

use super::*;
use crate::matching::tests::Case;
use crate::matching::{AdditionalCost, Verdict};
use proptest::prelude::*;

fn day(text: &str) -> Date {
    text.parse().unwrap()
}

fn draft() -> SupplierInvoiceDraft {
    match Case::invoice().decide().verdict {
        Verdict::Approve { draft } => *draft,
        other => panic!("{other:?}"),
    }
}

/// QAD with exactly what the draft of [`draft`] names, and cost center 900 retired.
fn qad() -> MasterData {
    let codes =
        |list: &[(&'static str, bool)]| Codes::of(list.iter().map(|(code, on)| (*code, Some(*on))), true);
    MasterData {
        codes: [
            (CodeList::Daybooks, codes(&[("si", true), (" RM ", true)])),
            (CodeList::InvoiceStatuses, codes(&[("AP-RMALLOC", true)])),
            (CodeList::CreditTerms, codes(&[("N30", true)])),
            (CodeList::GlAccounts, codes(&[("6100", true)])),
            (CodeList::CostCenters, codes(&[("300", true), ("900", false)])),
            (CodeList::Projects, codes(&[("P-100", true)])),
            (CodeList::Currencies, codes(&[("USD", true)])),
        ]
        .into(),
        periods: Periods::of(
            vec![
                Period {
                    start: day("2026-01-01"),
                    end: day("2026-02-28"),
                    locked: true,
                },
                Period {
                    start: day("2026-03-01"),
                    end: day("2026-03-31"),
                    locked: false,
                },
            ],
            true,
        ),
    }
}

fn told(problems: &[Problem]) -> Vec<(String, String)> {
    problems
        .iter()
        .map(|problem| (problem.code.clone(), problem.actual.clone()))
        .collect()
}

#[test]
fn what_is_in_qads_lists_is_not_refused_however_it_is_written() {
    assert_eq!(qad().refusals(&draft()), []);
}

#[test]
fn each_code_that_a_list_does_not_have_refuses_the_document() {
    let mut one = draft();
    one.daybook = "XX".parse().unwrap();
    one.credit_terms = Some("N99".parse().unwrap());
    one.costs.push(AdditionalCost {
        gl_account: "6150".parse().unwrap(),
        sub_account: "anything".to_owned(),
        cost_center: "900".to_owned(),
        project: String::new(),
        amount: rust_decimal::Decimal::ONE,
        description: "Freight".to_owned(),
    });
    assert_eq!(
        told(&qad().refusals(&one)),
        [
            (NOT_IN_QAD, "XX, which is not among QAD's daybooks"),
            (NOT_IN_QAD, "N99, which is not among QAD's credit terms"),
            (NOT_IN_QAD, "6150, which is not among QAD's GL accounts"),
            (
                INACTIVE_IN_QAD,
                "900, which is not active among QAD's cost centers"
            ),
        ]
        .map(|(code, actual)| (code.to_owned(), actual.to_owned()))
    );
}

#[test]
fn a_posting_date_in_a_locked_period_or_in_none_refuses_the_document() {
    for (posting, code) in [
        ("2026-02-28", Some(PERIOD_CLOSED)),
        ("2026-03-01", None),
        ("2026-03-31", None),
        ("2026-04-01", Some(NOT_IN_QAD)),
    ] {
        let one = SupplierInvoiceDraft {
            posting_date: day(posting),
            ..draft()
        };
        let codes: Vec<String> = qad()
            .refusals(&one)
            .into_iter()
            .map(|problem| problem.code)
            .collect();
        assert_eq!(
            codes,
            code.map(str::to_owned).into_iter().collect::<Vec<_>>(),
            "{posting}"
        );
    }
}

#[test]
fn a_period_that_is_open_counts_before_a_locked_one_over_the_same_day() {
    let locked = Period {
        start: day("2026-12-01"),
        end: day("2026-12-31"),
        locked: true,
    };
    let open = Period {
        start: day("2026-12-31"),
        end: day("2026-12-31"),
        locked: false,
    };
    let periods = Periods::of(vec![locked, open], true);
    assert_eq!(periods.says(day("2026-12-31")), Said::Usable);
    assert_eq!(periods.says(day("2026-12-30")), Said::Closed);
}

#[test]
fn what_a_tenant_does_not_show_refuses_nothing() {
    let nothing = MasterData {
        codes: BTreeMap::from([(CodeList::Daybooks, Codes::of([], true))]),
        periods: Periods::of(vec![], true),
    };
    let one = SupplierInvoiceDraft {
        daybook: "XX".parse().unwrap(),
        ..draft()
    };
    assert_eq!(nothing.refusals(&one), []);
    assert!(matches!(nothing.codes[&CodeList::Daybooks], Codes::NotShown(_)));
}

#[test]
fn a_row_that_cannot_be_read_may_be_any_code() {
    let codes = Codes::of([("SI", Some(true)), ("RM", None)], false);
    assert_eq!(codes.says("SI"), Said::Usable);
    assert_eq!(codes.says("RM"), Said::Nothing);
    assert_eq!(codes.says("XX"), Said::Nothing);
    let periods = Periods::of(
        vec![Period {
            start: day("2026-01-01"),
            end: day("2026-01-31"),
            locked: true,
        }],
        false,
    );
    assert_eq!(periods.says(day("2026-01-15")), Said::Nothing);
    assert_eq!(periods.says(day("2026-02-15")), Said::Nothing);
}

#[test]
fn every_constant_and_every_map_of_the_settings_is_asked_for_by_its_name() {
    let mut policy = Case::invoice().policy;
    let account = |gl: &str, center: &str| ChargeAccount {
        gl_account: gl.parse().unwrap(),
        sub_account: "S".to_owned(),
        cost_center: center.to_owned(),
        project: String::new(),
    };
    policy.credit_terms = [("NET30".to_owned(), "N30".parse().unwrap())].into();
    policy.charge_accounts = [(ChargeKind::Misc, account("6100", "300"))].into();
    policy.credits.price_account = Some(account("6200", ""));
    policy.not_payable.locked_status = "AP-LOCKED".to_owned();
    policy.gl_status = String::new();
    let field = |map: &[(&str, &str)]| CodedField {
        field: "segment-2".to_owned(),
        map: map
            .iter()
            .map(|(from, to)| ((*from).to_owned(), (*to).to_owned()))
            .collect(),
    };
    policy.coding = Some(crate::policy::Coding {
        gl_account: field(&[("100", "6100")]),
        sub_account: Some(field(&[("a", "b")])),
        cost_center: Some(field(&[])),
        project: Some(field(&[("P", "P-100"), ("none", " ")])),
    });
    policy
        .tolerance
        .by_currency
        .insert("HUF".parse().unwrap(), Default::default());
    let named: Vec<String> = of_policy(&policy)
        .into_iter()
        .map(|named| format!("{} = {} ({})", named.by, named.code, named.list.words()))
        .collect();
    assert_eq!(
        named,
        [
            "invoices.invoice_daybook = SI (daybooks)",
            "invoices.credit_note_daybook = SC (daybooks)",
            "invoices.matching_daybook = RM (daybooks)",
            "invoices.invoice_status = AP-RMALLOC (invoice status codes)",
            "invoices.locked_status_code = AP-LOCKED (invoice status codes)",
            "invoices.credit_terms.NET30 = N30 (credit terms)",
            "invoices.charge_accounts.misc.gl_account = 6100 (GL accounts)",
            "invoices.charge_accounts.misc.cost_center = 300 (cost centers)",
            "credits.price_account.gl_account = 6200 (GL accounts)",
            "coding.gl_account.map.100 = 6100 (GL accounts)",
            "coding.project.map.P = P-100 (projects)",
            "invoices.tolerance.by_currency.HUF = HUF (currencies)",
        ]
    );
}

proptest! {
    /// Nothing unreadable ever turns into a refusal, and a code is usable exactly when a readable row says so.
    #[test]
    fn only_a_whole_list_refuses(
        rows in prop::collection::vec(("[a-c]", prop::option::of(any::<bool>())), 0..6),
        asked in "[a-d]",
        whole in any::<bool>(),
    ) {
        let codes = Codes::of(rows.iter().map(|(code, on)| (code.as_str(), *on)), whole);
        let own: Vec<Option<bool>> = rows.iter().filter(|(code, _)| *code == asked).map(|(_, on)| *on).collect();
        let expected = if rows.is_empty() {
            Said::Nothing
        } else if own.contains(&Some(true)) {
            Said::Usable
        } else if own.is_empty() {
            if whole { Said::Absent } else { Said::Nothing }
        } else if own.contains(&None) {
            Said::Nothing
        } else {
            Said::Closed
        };
        prop_assert_eq!(codes.says(&asked), expected);
    }
}
