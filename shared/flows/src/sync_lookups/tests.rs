use super::*;
use crate::plans::allow;
use crate::ports::SourceScan;
use crate::sync_model::{Fault, Model, owned_by_another};
use domain::lookups::QadValue;
use domain::timing::Timing;
use proptest::prelude::*;
use std::collections::BTreeSet;

const LOOKUP: &str = "QAD Cost Centers";
const SOURCE: &str = "cost-centers";

fn qad(code: &str, description: &str, active: bool) -> QadValue {
    QadValue {
        code: code.parse().unwrap(),
        description: description.into(),
        active,
        parent: None,
    }
}

fn below(parent: &str, value: QadValue) -> QadValue {
    QadValue {
        parent: Some(parent.parse().unwrap()),
        ..value
    }
}

fn model(list: Vec<QadValue>) -> Model {
    let model = Model::new();
    model.state().lookups.insert(LOOKUP.into());
    set(&model, list);
    model
}

fn set(model: &Model, list: Vec<QadValue>) {
    model.state().sources.insert(
        SOURCE.into(),
        SourceScan {
            values: list,
            unreadable: vec![],
        },
    );
}

async fn go(model: &Model, plan_only: bool) -> Result<LookupRun, PollError> {
    let timing = Timing::default();
    let lookups = [LookupSync {
        lookup: LOOKUP.into(),
        source: SOURCE.into(),
        policy: ChangeShare::default(),
    }];
    let deps = Deps {
        context: model.context(&timing),
        coupa: model,
        qad: model,
        lookups: &lookups,
        plan_only,
    };
    run(&deps).await.map(|mut runs| runs.remove(0))
}

async fn sync(model: &Model) -> LookupRun {
    go(model, false).await.unwrap()
}

fn active(model: &Model) -> BTreeSet<String> {
    let state = model.state();
    let values = state.values.values().map(|(_, value)| value);
    values
        .filter(|value| value.active && value.code.is_some())
        .map(|value| value.name.clone())
        .collect()
}

fn names(list: &[&str]) -> BTreeSet<String> {
    list.iter().map(|name| (*name).to_owned()).collect()
}

fn codes(run: &LookupRun) -> Vec<&str> {
    run.needs_a_person
        .iter()
        .map(|problem| problem.code.as_str())
        .collect()
}

fn start() -> Vec<QadValue> {
    vec![
        qad("100", "Plant", true),
        qad("200", "Office", true),
        below("100", qad("110", "Line 1", true)),
        qad("300", "Old", false),
    ]
}

fn changed() -> Vec<QadValue> {
    vec![
        qad("100", "Plant North", true),
        qad("300", "Old", true),
        below("100", qad("120", "Line 2", true)),
    ]
}

/// Ada has read the plan of this hash, and allows it.
async fn ada_allows(model: &Model, plan_sha256: &str) -> Result<PlanRecord, FlowError> {
    allow(
        &model.context(&Timing::default()),
        Some(LOOKUP),
        plan_sha256,
        "ada",
        "plant closed",
    )
    .await
}

#[tokio::test]
async fn a_list_is_filled_changed_and_then_left_alone() {
    let model = model(start());
    let first = sync(&model).await;
    assert_eq!((first.planned, first.written, first.open), (3, 3, 0));
    assert_eq!(active(&model), names(&["100 Plant", "200 Office", "110 Line 1"]));
    set(&model, changed());
    model.wait(60);
    let second = sync(&model).await;
    assert_eq!((second.planned, second.written), (5, 5));
    assert_eq!(
        active(&model),
        names(&["100 Plant North", "300 Old", "120 Line 2"])
    );
    model.verify();
    let counts = |model: &Model| {
        let state = model.state();
        (state.journal.len(), state.commits, state.reads)
    };
    let before = counts(&model);
    model.wait(60);
    let idle = sync(&model).await;
    assert_eq!((idle.planned, idle.written), (0, 0));
    let after = counts(&model);
    assert_eq!(
        after,
        (before.0, before.1, before.2 + 2),
        "an idle run reads each side once and writes nothing"
    );
}

#[tokio::test]
async fn only_planning_writes_nothing_and_says_everything() {
    let model = model(start());
    let planned = go(&model, true).await.unwrap();
    assert_eq!(
        planned.changes,
        [
            "create \"100 Plant\"",
            "create \"200 Office\"",
            "create \"110 Line 1\""
        ]
    );
    assert_eq!((model.journal().len(), model.state().commits), (0, 0));
}

#[tokio::test]
async fn an_empty_source_is_parked_and_takes_nothing_away() {
    let model = model(start());
    sync(&model).await;
    set(&model, vec![]);
    model.wait(60);
    assert_eq!(codes(&sync(&model).await), ["LOOKUP_SOURCE_EMPTY"]);
    assert_eq!(active(&model).len(), 3);
    let commits = model.state().commits;
    sync(&model).await;
    assert_eq!(model.state().commits, commits, "told once");
    set(&model, start());
    assert_eq!(codes(&sync(&model).await), Vec::<&str>::new());
}

fn many(count: usize, description: &str) -> Vec<QadValue> {
    (0..count)
        .map(|number| qad(&format!("C{number}"), description, true))
        .collect()
}

#[tokio::test]
async fn a_large_change_waits_until_exactly_that_plan_is_allowed() {
    let model = model(many(60, "a"));
    assert_eq!(sync(&model).await.written, 60, "a first fill is not held back");
    set(&model, many(40, "a"));
    model.wait(60);
    let parked = sync(&model).await;
    assert_eq!(
        (codes(&parked), parked.written, parked.changes.len()),
        (vec!["LOOKUP_CHANGE_TOO_LARGE"], 0, 20)
    );
    let wrong = ada_allows(&model, "other").await.unwrap_err();
    assert_eq!(wrong.problem().code, "LOOKUP_PLAN_NOT_PARKED");
    ada_allows(&model, &parked.plan_sha256).await.unwrap();
    // Meanwhile the list changed: what was allowed was another plan.
    set(&model, many(39, "a"));
    assert_eq!(codes(&sync(&model).await), ["LOOKUP_CHANGE_TOO_LARGE"]);
    set(&model, many(40, "a"));
    let again = sync(&model).await;
    assert_eq!(codes(&again), ["LOOKUP_CHANGE_TOO_LARGE"]);
    ada_allows(&model, &again.plan_sha256).await.unwrap();
    assert_eq!(sync(&model).await.written, 20);
    assert_eq!(active(&model).len(), 40);
}

#[tokio::test]
async fn what_was_allowed_stays_allowed_when_the_run_dies_in_the_middle() {
    let model = model(many(60, "a"));
    sync(&model).await;
    set(&model, many(30, "a"));
    model.wait(60);
    let hash = sync(&model).await.plan_sha256;
    ada_allows(&model, &hash).await.unwrap();
    let calls = model.state().calls;
    model.state().fault = Some((calls + 20, Fault::DieBefore));
    let _ = go(&model, false).await;
    let left = active(&model).len();
    assert!(left > 30 && left < 60, "{left}");
    model.wait(60);
    sync(&model).await;
    model.wait(60);
    assert_eq!((codes(&sync(&model).await), active(&model).len()), (vec![], 30));
}

#[tokio::test]
async fn a_first_fill_that_dies_is_gone_on_with() {
    let model = model(many(60, "a"));
    model.state().fault = Some((100, Fault::DieAfter));
    let _ = go(&model, false).await;
    let some = active(&model).len();
    assert!(some > 0 && some < 49, "{some}");
    for _ in 0..2 {
        model.wait(60);
        assert_eq!(codes(&sync(&model).await), Vec::<&str>::new());
    }
    assert_eq!(active(&model).len(), 60);
}

#[tokio::test]
async fn a_lookup_that_coupa_does_not_have_is_tried_once_then_asked_for_and_fills_when_it_is_there() {
    let model = model(many(60, "a"));
    model.state().lookups.clear();
    let refusals = |model: &Model| {
        let state = model.state();
        let refused = state.journal.iter().filter(|line| line.starts_with("refused"));
        refused.count()
    };
    for _ in 0..4 {
        let refused = sync(&model).await;
        assert_eq!(
            (refused.written, codes(&refused)),
            (0, vec!["COUPA_LOOKUP_MISSING"])
        );
        assert_eq!(refusals(&model), 1);
        model.wait(60);
    }
    let commits = model.state().commits;
    sync(&model).await;
    assert_eq!(model.state().commits, commits, "nothing is stored anew either");
    model.state().lookups.insert(LOOKUP.into());
    sync(&model).await;
    assert_eq!(active(&model).len(), 60);
    assert_eq!(refusals(&model), 1);
}

#[tokio::test]
async fn where_coupa_does_not_tell_by_reading_one_write_a_run_finds_the_lookup() {
    let model = model(many(60, "a"));
    model.state().lookups.clear();
    model.state().mute = true;
    for _ in 0..2 {
        assert_eq!(codes(&sync(&model).await), ["COUPA_LOOKUP_MISSING"]);
        model.wait(60);
    }
    model.state().lookups.insert(LOOKUP.into());
    sync(&model).await;
    assert_eq!(active(&model).len(), 60);
}

#[tokio::test]
async fn values_that_are_refused_do_not_keep_the_others_away() {
    let model = model(many(60, "a"));
    // More of them, and earlier in the order, than are tried in a row.
    for number in 10..30 {
        model.state().refused_values.push(format!("C{number} "));
    }
    for _ in 0..3 {
        sync(&model).await;
        model.wait(60);
    }
    assert_eq!(active(&model).len(), 40);
    let calls = model.state().commits;
    let told = sync(&model).await;
    assert_eq!(
        (told.needs_a_person.len(), told.written, model.state().commits),
        (20, 0, calls),
        "remembered, told, and nothing is asked or written again"
    );
    assert!(
        matches!(plan_state(&model).await, PlanState::Parked { problem, plan_sha256, .. }
        if problem.code == "COUPA_REFUSED" && plan_sha256.is_empty())
    );
    model.state().refused_values.clear();
    model.wait(24 * 60);
    sync(&model).await;
    assert_eq!(active(&model).len(), 60);
    assert_eq!(plan_state(&model).await, PlanState::Settled);
}

async fn plan_state(model: &Model) -> PlanState {
    let timing = Timing::default();
    plans::load(&model.context(&timing), Some(LOOKUP))
        .await
        .unwrap()
        .document
        .state
}

fn put(model: &Model, id: u64, name: &str, code: Option<&str>, is_active: bool) {
    let value = CoupaValue {
        id,
        name: name.into(),
        active: is_active,
        code: code.map(str::to_owned),
        external_ref_code: code.map(str::to_owned),
        parent: None,
    };
    model.state().values.insert(id, (LOOKUP.into(), value));
}

#[tokio::test]
async fn what_carries_a_code_is_taken_over_and_what_a_person_made_is_left_alone() {
    let model = model(start());
    put(&model, 1, "Our plant", Some("100"), false);
    put(&model, 2, "Anything else", None, true);
    put(&model, 3, "200 Office", None, true);
    let run = sync(&model).await;
    assert_eq!(codes(&run), ["LOOKUP_NAME_TAKEN"]);
    let state = model.state();
    let shown = |id: u64| (state.values[&id].1.name.clone(), state.values[&id].1.active);
    assert_eq!(shown(1), ("100 Plant".into(), true));
    assert_eq!(shown(2), ("Anything else".into(), true));
    assert_eq!(shown(3), ("200 Office".into(), true));
    assert!(state.journal.iter().all(|line| line != "create value 100"));
}

/// A value that appears between the listing and the write.
#[tokio::test]
async fn a_value_that_is_taken_is_linked_when_it_has_our_code_and_told_when_it_is_a_strangers() {
    let model = model(vec![qad("100", "Plant", true), qad("200", "Office", true)]);
    let hidden = |code: Option<&str>, id: u64, name: &str| {
        put(&model, id, name, code, true);
        model.state().hidden.insert(id);
    };
    hidden(Some("100"), 1, "100 Plant, as a person calls it");
    hidden(None, 2, "200 Office");
    let run = sync(&model).await;
    assert_eq!((run.written, codes(&run)), (1, vec!["LOOKUP_NAME_TAKEN"]));
    assert_eq!(model.journal(), Vec::<String>::new(), "nothing was created twice");
    model.state().hidden.clear();
    model.wait(60);
    let second = sync(&model).await;
    assert_eq!(model.journal(), ["update value 100"], "its name follows");
    assert_eq!(codes(&second), ["LOOKUP_NAME_TAKEN"]);
}

#[tokio::test]
async fn a_name_that_coupa_keeps_otherwise_is_told_and_not_written_again_and_again() {
    let model = model(start());
    sync(&model).await;
    let mut list = start();
    list[0].description = "Plant North".into();
    set(&model, list);
    model.state().keeps_names = true;
    model.wait(60);
    assert_eq!(codes(&sync(&model).await), ["LOOKUP_VALUE_NOT_KEPT"]);
    let journal = model.journal().len();
    model.wait(60);
    assert_eq!(codes(&sync(&model).await), ["LOOKUP_VALUE_NOT_KEPT"]);
    assert_eq!(model.journal().len(), journal);
}

#[tokio::test]
async fn children_wait_for_their_parents_also_when_those_are_refused() {
    let family = vec![
        qad("100", "Plant", true),
        below("100", qad("110", "Hall", true)),
        below("110", qad("111", "Line", true)),
        qad("200", "Office", true),
    ];
    let model = model(family.clone());
    model.state().refused_values.push("Hall".into());
    let run = sync(&model).await;
    assert_eq!(active(&model), names(&["100 Plant", "200 Office"]));
    assert_eq!(codes(&run), ["COUPA_REFUSED"]);
    model.state().refused_values.clear();
    model.wait(24 * 60);
    sync(&model).await;
    let order: Vec<String> = model.journal();
    let at = |line: &str| order.iter().position(|one| one == line).unwrap();
    assert!(
        at("create value 100") < at("create value 110") && at("create value 110") < at("create value 111")
    );
    // Leaves go first.
    set(&model, vec![qad("200", "Office", true)]);
    model.wait(60);
    sync(&model).await;
    assert_eq!(
        model.journal()[order.len()..],
        ["update value 111", "update value 110", "update value 100"]
    );
}

#[tokio::test]
async fn a_parent_stays_active_while_a_value_below_it_cannot_be_deactivated() {
    let family = vec![
        qad("100", "Plant", true),
        below("100", qad("110", "Hall", true)),
        below("110", qad("111", "Line", true)),
        qad("200", "Office", true),
    ];
    let model = model(family);
    sync(&model).await;
    model.state().refused_values.push("Line".into());
    set(&model, vec![qad("200", "Office", true)]);
    model.wait(60);
    let run = sync(&model).await;
    assert_eq!(
        (run.written, run.open, codes(&run)),
        (0, 2, vec!["COUPA_REFUSED"])
    );
    assert_eq!(active(&model).len(), 4);
}

#[tokio::test]
async fn what_somebody_wrote_after_this_run_had_read_both_sides_is_not_written_over() {
    let model = model(start());
    sync(&model).await;
    let timing = Timing::default();
    let sync = LookupSync {
        lookup: LOOKUP.into(),
        source: SOURCE.into(),
        policy: ChangeShare::default(),
    };
    let deps = Deps {
        context: model.context(&timing),
        coupa: &model,
        qad: &model,
        lookups: &[],
        plan_only: false,
    };
    let values: Vec<CoupaValue> = model
        .state()
        .values
        .values()
        .map(|(_, value)| value.clone())
        .collect();
    let planned = plan(&[qad("100", "As it was", true)], &values, &[]);
    let rename = planned
        .actions
        .iter()
        .find(|action| action.kind == ActionKind::Rename)
        .unwrap();
    let key = value_key(LOOKUP, &rename.path);
    let stored = crate::ports::Register::read(&model, &[key])
        .await
        .unwrap()
        .remove(0);
    let written_at = parse::<LookupValueRecord>(stored.as_ref().unwrap())
        .unwrap()
        .written_at;
    let work = |started: Timestamp| Work {
        deps: &deps,
        sync: &sync,
        started,
        record: Loaded {
            document: PlanRecord::new(Some(LOOKUP)),
            revision: 0,
        },
        mark: None,
        values: Vec::new(),
        refused_in_a_row: 0,
        failed: Vec::new(),
        refused: BTreeSet::new(),
        stopped: false,
    };
    let stale = work(written_at).before(rename, stored.clone()).unwrap();
    assert!(matches!(stale, Before::Not(Changed::Overtaken)));
    // Clocks may differ by so much.
    let skew = Timing::default().clock_skew_millis;
    let in_doubt = work(written_at.plus_millis(skew));
    let in_doubt = in_doubt.before(rename, stored.clone()).unwrap();
    assert!(matches!(in_doubt, Before::Not(Changed::Overtaken)));
    let fresh = work(written_at.plus_millis(skew + 1));
    let fresh = fresh.before(rename, stored).unwrap();
    assert!(matches!(fresh, Before::Drive(_)));
}

#[tokio::test]
async fn one_lookup_that_gives_no_answer_does_not_stop_the_others() {
    let model = model(start());
    let timing = Timing::default();
    let entry = |lookup: &str, source: &str| LookupSync {
        lookup: lookup.into(),
        source: source.into(),
        policy: ChangeShare::default(),
    };
    let lookups = [entry("QAD Projects", "projects"), entry(LOOKUP, SOURCE)];
    model.state().unreadable_sources.insert("projects".into());
    let deps = Deps {
        context: model.context(&timing),
        coupa: &model,
        qad: &model,
        lookups: &lookups,
        plan_only: false,
    };
    let runs = run(&deps).await.unwrap();
    assert_eq!(runs[0].unanswered.as_ref().unwrap().code, "SOURCE_UNREADABLE");
    assert_eq!(runs[1].written, 3);
}

#[tokio::test]
async fn a_record_of_ours_that_cannot_be_read_stops_its_own_value_only() {
    let model = model(start());
    let path = ["200".parse().unwrap()];
    model
        .state()
        .records
        .insert(value_key(LOOKUP, &path), (1, "{".into()));
    let run = sync(&model).await;
    assert_eq!(
        (run.written, codes(&run)),
        (2, vec!["REGISTER_RECORD_UNREADABLE"])
    );
}

#[tokio::test]
async fn what_is_new_beside_an_allowed_plan_counts_by_itself() {
    let model = model(many(60, "a"));
    sync(&model).await;
    set(&model, many(30, "a"));
    model.wait(60);
    let hash = sync(&model).await.plan_sha256;
    let allowed = ada_allows(&model, &hash).await;
    assert_eq!(allowed.unwrap().allowed_plan, Some(hash.clone()));
    let commits = model.state().commits;
    ada_allows(&model, &hash).await.unwrap();
    assert_eq!(model.state().commits, commits, "allowing twice is allowing once");
    let calls = model.state().calls;
    model.state().fault = Some((calls + 20, Fault::DieBefore));
    let _ = go(&model, false).await;
    let mut list = many(30, "a");
    list.push(qad("new", "", true));
    set(&model, list);
    model.wait(60);
    sync(&model).await;
    model.wait(60);
    assert_eq!((codes(&sync(&model).await), active(&model).len()), (vec![], 31));
}

#[tokio::test]
async fn one_refused_value_does_not_stop_the_others() {
    let model = model(start());
    model.state().refused_values.push("Office".into());
    let run = sync(&model).await;
    assert_eq!((run.written, codes(&run)), (2, vec!["COUPA_REFUSED"]));
}

/// Runs until nothing is left to do; at the end both sides agree and every value was created once.
async fn recover(model: &Model, story: &str) {
    for _ in 0..3 {
        model.wait(10);
        let _ = go(model, false).await;
    }
    model.wait(10);
    let written = model.journal().len();
    let commits = model.state().commits;
    let last = sync(model).await;
    assert_eq!(
        (last.planned, last.open, model.journal().len()),
        (0, 0, written),
        "{story}"
    );
    assert_eq!(
        model.state().commits,
        commits,
        "{story}: an idle run writes nothing"
    );
    model.verify();
    let mut created: Vec<String> = model
        .journal()
        .into_iter()
        .filter(|line| line.starts_with("create"))
        .collect();
    let all = created.len();
    created.sort();
    created.dedup();
    assert_eq!(created.len(), all, "{story}: created twice");
}

#[tokio::test]
async fn a_fault_at_any_call_loses_nothing_and_repeats_nothing() {
    for fault in Fault::ALL {
        for at in 0.. {
            let model = model(start());
            sync(&model).await;
            set(&model, changed());
            let before = model.state().calls;
            model.state().fault = Some((before + at, fault));
            model.tick();
            let _ = go(&model, false).await;
            if model.state().calls <= before + at {
                break;
            }
            let story = format!("{fault:?} at {at}");
            recover(&model, &story).await;
            assert_eq!(
                active(&model),
                names(&["100 Plant North", "300 Old", "120 Line 2"]),
                "{story}"
            );
        }
    }
}

/// A run dies around its create, and the run that finds out what became of it dies too: the create may rest planned, not sent.
#[tokio::test]
async fn a_create_that_never_left_is_withdrawn_when_qad_takes_the_value_off_its_list() {
    let mut rested = 0;
    for (fault, at) in Fault::ALL
        .into_iter()
        .flat_map(|fault| (0..14).map(move |at| (fault, at)))
    {
        for second in 0..14 {
            let model = model(start());
            sync(&model).await;
            let mut longer = start();
            longer.push(qad("400", "Annex", true));
            set(&model, longer);
            for (fault, at) in [(fault, at), (Fault::DieAfter, second)] {
                model.wait(10);
                let before = model.state().calls;
                model.state().fault = Some((before + at, fault));
                let _ = go(&model, false).await;
                model.state().fault = None;
            }
            rested += usize::from(ready(&model));
            set(&model, start());
            let story = format!("{fault:?} at {at}, then died after {second}");
            recover(&model, &story).await;
            assert_eq!(
                active(&model),
                names(&["100 Plant", "200 Office", "110 Line 1"]),
                "{story}"
            );
            assert!(!ready(&model), "{story}: a create is planned for ever");
        }
    }
    assert!(rested > 0, "no create rested planned and not sent");
}

/// Whether the create of 400 is planned and certain not to have left.
fn ready(model: &Model) -> bool {
    let stored = model
        .state()
        .records
        .get(&value_key(LOOKUP, &["400".parse().unwrap()]))
        .cloned();
    stored.is_some_and(|(_, body)| {
        let record: LookupValueRecord = serde_json::from_str(&body).unwrap();
        record.is_open() && !record.effect.is_some_and(|effect| effect.may_have_left())
    })
}

#[tokio::test]
async fn two_runs_at_once_create_everything_once() {
    let model = model(start());
    let (one, two) = tokio::join!(go(&model, false), go(&model, false));
    let _ = (one.unwrap(), two.unwrap());
    recover(&model, "overlap").await;
    assert_eq!(active(&model).len(), 3);
    assert_eq!(model.journal().len(), 3);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn any_mix_of_changes_and_faults_ends_equal(
        lists in prop::collection::vec(prop::collection::vec((0u8..9, "[ab]?", any::<bool>()), 1..9), 1..4),
        faults in prop::collection::vec((0usize..60, 0usize..4, any::<bool>()), 1..4),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let model = model(vec![qad("k0", "", true)]);
        for (index, rows) in lists.iter().enumerate() {
            let mut seen = BTreeSet::new();
            let mut list: Vec<QadValue> = rows
                .iter()
                .filter(|(number, ..)| seen.insert(*number))
                .map(|(number, text, on)| qad(&format!("k{number}"), text, *on))
                .collect();
            list.push(qad("always", "", true));
            set(&model, list.clone());
            let (at, fault, recovers) = faults[index % faults.len()];
            model.wait(10);
            let calls = model.state().calls;
            model.state().fault = Some((calls + at, Fault::ALL[fault]));
            let _ = runtime.block_on(go(&model, false));
            if !recovers && index + 1 < lists.len() {
                continue;
            }
            runtime.block_on(recover(&model, "mix"));
            let wanted: BTreeSet<String> = list
                .iter()
                .filter(|value| value.active)
                .map(|value| domain::lookups::value_name(&value.code, &value.description))
                .collect();
            prop_assert_eq!(active(&model), wanted);
        }
    }
}

/// Whatever call a run breaks at: while another installation is at work nothing is sent again, neither what is proven absent
/// nor what could be repeated without harm, and afterwards both sides become equal.
#[tokio::test]
async fn nothing_is_sent_again_while_another_installation_owns() {
    let (mut absent, mut repeated) = (0, 0);
    for fault in Fault::ALL {
        for at in 0.. {
            let model = model(start());
            sync(&model).await;
            set(&model, changed());
            model.wait(10);
            let before = model.state().calls;
            model.state().fault = Some((before + at, fault));
            let _ = go(&model, false).await;
            if model.state().calls <= before + at {
                break;
            }
            let story = format!("{fault:?} at {at}");
            model.wait(1);
            let written = model.journal();
            owned_by_another(&model, true).await;
            for _ in 0..3 {
                model.wait(20);
                repeated += sync(&model).await.open;
            }
            assert_eq!(model.journal(), written, "{story}: sent for another's pair");
            let records = &model.state().records.clone();
            absent += usize::from(
                records
                    .values()
                    .any(|(_, body)| body.contains("\"status\":\"withdrawn\"")),
            );
            owned_by_another(&model, false).await;
            recover(&model, &story).await;
            assert_eq!(
                active(&model),
                names(&["100 Plant North", "300 Old", "120 Line 2"]),
                "{story}"
            );
        }
    }
    assert!(
        absent > 0 && repeated > 0,
        "{absent} proven absent, {repeated} left open"
    );
}

#[tokio::test]
async fn a_paused_run_writes_nothing_and_the_next_one_sees_everything() {
    let set_pause = async |model: &Model, paused| {
        let timing = Timing::default();
        let why = domain::instruction::Instruction::new("somebody", "closing of the period").unwrap();
        pause::set(&model.context(&timing), pause::Flow::Lookups, paused, why)
            .await
            .unwrap();
    };
    let model = model(start());
    sync(&model).await;
    let written = model.journal().len();
    set_pause(&model, true).await;
    set(&model, changed());
    model.wait(60);
    let paused = sync(&model).await;
    assert!(paused.paused.is_some() && paused.planned == 0);
    assert_eq!(model.journal().len(), written);
    assert_eq!(
        go(&model, true).await.unwrap().planned,
        5,
        "a plan may be looked at"
    );
    set_pause(&model, false).await;
    assert_eq!(sync(&model).await.written, 5);
    assert_eq!(
        active(&model),
        names(&["100 Plant North", "300 Old", "120 Line 2"])
    );
    model.verify();
}
