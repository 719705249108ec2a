use super::*;
use proptest::prelude::*;

fn code(text: &str) -> LookupCode {
    text.parse().unwrap()
}

fn qad(text: &str, description: &str, active: bool) -> QadValue {
    QadValue {
        code: code(text),
        description: description.into(),
        active,
        parent: None,
    }
}

fn below(parent: &str, value: QadValue) -> QadValue {
    QadValue {
        parent: Some(code(parent)),
        ..value
    }
}

fn coupa(id: u64, text: &str, name: &str, active: bool) -> CoupaValue {
    CoupaValue {
        id,
        name: name.into(),
        active,
        code: Some(text.into()),
        external_ref_code: Some(text.into()),
        parent: None,
    }
}

fn words(plan: &LookupPlan) -> Vec<String> {
    plan.changes().map(Action::sentence).collect()
}

fn codes(plan: &LookupPlan) -> Vec<&str> {
    plan.blocked.iter().map(|problem| problem.code.as_str()).collect()
}

/// Coupa, as far as plans need it: unique names and references below a parent.
fn apply(values: &mut Vec<CoupaValue>, action: &Action) {
    match action.id {
        Some(id) => {
            let value = values.iter_mut().find(|value| value.id == id).unwrap();
            value.name = action.name.clone();
            value.active = action.active;
        }
        None => {
            let own = action.code().unwrap().to_string();
            let external = match &action.parent_ref_code {
                Some(parent) => format!("{parent}-{own}"),
                None => own.clone(),
            };
            values.push(CoupaValue {
                id: values.iter().map(|value| value.id).max().unwrap_or(0) + 1,
                name: action.name.clone(),
                active: action.active,
                code: Some(own),
                external_ref_code: Some(external),
                parent: action.parent_ref_code.clone().map(|code| ParentReference {
                    id: action.parent_id,
                    external_ref_code: Some(code),
                }),
            });
        }
    }
}

fn carry_out(list: &[QadValue], values: &mut Vec<CoupaValue>) -> LookupPlan {
    for _ in 0..=DEPTH_MAX {
        let plan = plan(list, values, &[]);
        if plan.actions.is_empty() {
            return plan;
        }
        for action in &plan.actions {
            apply(values, action);
        }
    }
    plan(list, values, &[])
}

#[test]
fn every_kind_of_change_is_planned_and_a_persons_value_is_left_alone() {
    let list = [
        qad("100", "Plant", true),
        qad("200", "New name", true),
        qad("300", "Back", true),
        qad("400", "Old", false),
        qad("500", "", true),
    ];
    let mut person = coupa(9, "x", "Anything", true);
    person.code = None;
    let held = vec![
        coupa(1, "200", "200 Old name", true),
        coupa(2, "300", "300 Back", false),
        coupa(3, "400", "400 Old", true),
        coupa(4, "600", "600 Gone", true),
        person,
    ];
    let plan = plan(&list, &held, &[]);
    assert_eq!(
        words(&plan),
        [
            "create \"100 Plant\"",
            "reactivate \"300 Back\"",
            "create \"500\"",
            "rename \"200 Old name\" to \"200 New name\"",
            "deactivate \"400 Old\"",
            "deactivate \"600 Gone\"",
        ]
    );
    assert_eq!((plan.by_people, plan.ours_active, plan.first_fill), (1, 3, false));
    assert_eq!(plan.summary(), "create 2, rename 1, reactivate 1, deactivate 2");
}

#[test]
fn an_empty_list_deactivates_nothing() {
    assert!(plan(&[], &[coupa(1, "1", "1", true)], &[]).is_empty());
}

#[test]
fn a_row_that_cannot_be_read_protects_its_value_and_an_unnamed_one_protects_all() {
    let list = [qad("1", "", true)];
    let held = [
        coupa(1, "1", "1", true),
        coupa(2, "2", "2", true),
        coupa(3, "3", "3", true),
    ];
    let named = plan(&list, &held, &[Some(code("2"))]);
    assert_eq!(words(&named), ["deactivate \"3\""]);
    assert!(plan(&list, &held, &[None]).is_empty());
}

#[test]
fn parents_come_first_and_children_go_first() {
    let list = [
        qad("A", "", true),
        below("A", qad("B", "", true)),
        below("B", qad("C", "", true)),
    ];
    let mut values = Vec::new();
    let first = plan(&list, &values, &[]);
    assert_eq!((first.actions.len(), first.after_parents.len()), (1, 2));
    assert!(carry_out(&list, &mut values).is_empty());
    assert_eq!(values[2].external_ref_code.as_deref(), Some("A-B-C"));
    let gone = plan(&[qad("Z", "", true)], &values, &[]);
    assert_eq!(
        words(&gone),
        [
            "create \"Z\"",
            "deactivate \"C\"",
            "deactivate \"B\"",
            "deactivate \"A\""
        ]
    );
}

#[test]
fn a_value_that_moves_below_another_parent_is_made_there_and_deactivated_here() {
    let mut values = Vec::new();
    carry_out(
        &[
            qad("A", "", true),
            qad("B", "", true),
            below("A", qad("X", "", true)),
        ],
        &mut values,
    );
    let moved = [
        qad("A", "", true),
        qad("B", "", true),
        below("B", qad("X", "", true)),
    ];
    assert_eq!(
        words(&plan(&moved, &values, &[])),
        ["create \"X\"", "deactivate \"X\""]
    );
    assert!(carry_out(&moved, &mut values).is_empty());
}

#[test]
fn what_cannot_be_right_is_blocked_with_its_reason() {
    let twice = [qad("1", "a", true), qad("1", "b", true)];
    assert_eq!(
        codes(&plan(&twice, &[coupa(1, "1", "1 x", true)], &[])),
        ["LOOKUP_CODE_TWICE"]
    );
    let same_name = [qad("1", "2 x", true), qad("1 2", "x", true)];
    let same = plan(&same_name, &[], &[]);
    assert_eq!((codes(&same), same.actions.len()), (vec!["LOOKUP_NAME_TAKEN"], 1));
    let orphan = plan(
        &[below("9", qad("1", "", true))],
        &[coupa(1, "1", "1", true)],
        &[],
    );
    assert_eq!(
        (codes(&orphan), orphan.is_empty()),
        (vec!["LOOKUP_PARENT_UNKNOWN"], true)
    );
    let circle = [below("2", qad("1", "", true)), below("1", qad("2", "", true))];
    assert_eq!(plan(&circle, &[], &[]).blocked.len(), 2);
    let references = [coupa(1, "1", "1", true), coupa(2, "1", "one", true)];
    let doubled = plan(&[qad("1", "", true)], &references, &[]);
    assert_eq!(
        (codes(&doubled), doubled.is_empty()),
        (vec!["LOOKUP_REFERENCE_TWICE"], true)
    );
    let mut person = coupa(1, "x", "1 Plant", true);
    person.code = None;
    assert_eq!(
        codes(&plan(&[qad("1", "Plant", true)], &[person], &[])),
        ["LOOKUP_NAME_TAKEN"]
    );
}

#[test]
fn the_guard_measures_what_changes_against_what_is_there() {
    let policy = ChangeShare::default();
    let held: Vec<CoupaValue> = (0..100)
        .map(|id| coupa(id, &id.to_string(), &id.to_string(), true))
        .collect();
    let list =
        |kept: usize| -> Vec<QadValue> { (0..kept).map(|id| qad(&id.to_string(), "", true)).collect() };
    assert_eq!(
        guard("L", &plan(&list(80), &held, &[]), &policy, |_| false),
        Guard::Open
    );
    let Guard::TooLarge(problem) = guard("L", &plan(&list(79), &held, &[]), &policy, |_| false) else {
        panic!("21 of 100")
    };
    assert_eq!(
        (problem.code.as_str(), problem.actual.as_str()),
        ("LOOKUP_CHANGE_TOO_LARGE", "deactivate 21")
    );
    let few = held[..12].to_vec();
    assert_eq!(
        guard("L", &plan(&list(2), &few, &[]), &policy, |_| false),
        Guard::Open
    );
    assert!(matches!(
        guard("L", &plan(&list(1), &few, &[]), &policy, |_| false),
        Guard::TooLarge(_)
    ));
    assert_eq!(
        guard("L", &plan(&list(5_000), &[], &[]), &policy, |_| false),
        Guard::Open,
        "a first fill destroys nothing"
    );
}

#[test]
fn what_is_excused_does_not_count() {
    let held: Vec<CoupaValue> = (0..12)
        .map(|id| coupa(id, &id.to_string(), &id.to_string(), true))
        .collect();
    let plan = plan(&[qad("1", "", true)], &held, &[]);
    let policy = ChangeShare::default();
    assert!(matches!(
        guard("L", &plan, &policy, |_| false),
        Guard::TooLarge(_)
    ));
    let one = plan.actions[0].identity();
    assert_eq!(
        guard("L", &plan, &policy, |action| action.identity() == one),
        Guard::Open
    );
}

#[test]
fn an_answer_is_about_a_new_value_by_whatever_it_shows_of_the_parent() {
    let list = [qad("A", "", true), below("A", qad("X", "", true))];
    let mut root = coupa(7, "A", "A", true);
    // A server that leaves the path of a root value out.
    root.external_ref_code = None;
    let plan = plan(&list, &[root], &[]);
    let action = &plan.actions[0];
    assert_eq!(
        (action.parent_ref_code.as_deref(), action.parent_id),
        (Some("A"), Some(7))
    );
    let shown = |parent: Option<ParentReference>, path: Option<&str>| CoupaValue {
        parent,
        external_ref_code: path.map(str::to_owned),
        ..coupa(8, "X", "X", true)
    };
    let reference = |id: Option<u64>, code: Option<&str>| {
        Some(ParentReference {
            id,
            external_ref_code: code.map(str::to_owned),
        })
    };
    for ours in [
        shown(reference(None, Some("A")), None),
        shown(reference(Some(7), None), None),
        shown(None, Some("A-X")),
    ] {
        assert!(action.is_about(&ours), "{ours:?}");
    }
    for other in [
        shown(None, None),
        shown(None, Some("X")),
        shown(reference(Some(9), Some("B")), Some("B-X")),
        shown(reference(Some(9), None), None),
    ] {
        assert!(!action.is_about(&other), "{other:?}");
    }
}

#[test]
fn names_are_code_and_description_and_bounded() {
    assert_eq!(value_name(&code(" 10 "), "  Plant \n North "), "10 Plant   North");
    assert_eq!(value_name(&code("10"), " "), "10");
    assert_eq!(
        value_name(&code("10"), &"ü".repeat(999)).chars().count(),
        NAME_CHARACTERS_MAX
    );
}

fn list() -> impl Strategy<Value = Vec<QadValue>> {
    let one = (0u8..12, "[a-c]{0,2}", any::<bool>(), prop::option::of(0u8..12));
    prop::collection::vec(one, 1..12).prop_map(|rows| {
        let mut seen = BTreeSet::new();
        rows.into_iter()
            .filter(|(number, ..)| seen.insert(*number))
            .map(|(number, description, active, parent)| QadValue {
                code: code(&format!("k{number}")),
                description,
                active,
                // Only smaller numbers are parents: no circles, but some parents that are not there.
                parent: parent
                    .filter(|parent| *parent < number)
                    .map(|parent| code(&format!("K{parent}"))),
            })
            .collect()
    })
}

fn shown(values: &[CoupaValue]) -> BTreeSet<(String, String)> {
    let active = values.iter().filter(|value| value.active && value.code.is_some());
    active
        .map(|value| (value.code.clone().unwrap(), value.name.clone()))
        .collect()
}

proptest! {
    #[test]
    fn carrying_a_plan_out_leaves_nothing_to_do_whatever_changes(lists in prop::collection::vec(list(), 1..4)) {
        let mut values = Vec::new();
        for list in &lists {
            let left = carry_out(list, &mut values);
            prop_assert!(left.is_empty(), "{:?}", words(&left));
            let again = values.clone();
            carry_out(list, &mut values);
            prop_assert_eq!(&again, &values, "twice is once");
            if left.blocked.is_empty() {
                let wanted: BTreeSet<(String, String)> = list
                    .iter()
                    .filter(|value| value.active)
                    .map(|value| (value.code.to_string(), value_name(&value.code, &value.description)))
                    .collect();
                prop_assert_eq!(shown(&values), wanted);
            }
        }
    }

    #[test]
    fn a_persons_value_is_never_in_a_plan(list in list(), names in prop::collection::vec("[a-k0-9 ]{1,6}", 0..6)) {
        let people: Vec<CoupaValue> = names
            .iter()
            .enumerate()
            .map(|(id, name)| CoupaValue { code: None, external_ref_code: None, ..coupa(id as u64, "x", name, true) })
            .collect();
        let plan = plan(&list, &people, &[]);
        prop_assert!(plan.changes().all(|action| action.id.is_none()));
    }
}
