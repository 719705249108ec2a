//! What the verbs cost at a hundred and at a hundred thousand invoices, over a register that counts.

#![allow(
    clippy::arithmetic_side_effects,
    reason = "tests count small numbers; an overflow there is a failing test"
)]

use crate::records::{self, Filter, found, kept, one, trail};
use crate::status::{Figures, Waiting};
use crate::{lookups, payments, suppliers};
use domain::index::INDEX_VERSION;
use domain::time::Timestamp;
use flows::index::{Rebuilt, progress_key};
use flows::ports::{Commit, RecordWrite};
use std::collections::BTreeMap;
use tests::large_register::{Of, fill};
use tests::memory_register::MemoryRegister;

/// The index holds everything, as after `reindex`.
fn whole(register: &MemoryRegister) {
    let done = Rebuilt {
        complete: true,
        version: INDEX_VERSION,
        ..Rebuilt::default()
    };
    let put = RecordWrite::Put {
        key: progress_key(),
        seen: 0,
        body: serde_json::to_string(&done).unwrap(),
        state: String::new(),
        due: None,
    };
    register.lay_down(&Commit {
        writes: vec![put],
        ..Commit::default()
    });
}

async fn of_state(register: &MemoryRegister, state: &str) -> usize {
    let filter = Filter {
        state: Some(state.to_owned()),
        ..Filter::default()
    };
    kept(register, &filter, Timestamp(0)).await.unwrap().len()
}

/// Calls and items of each verb, and how much each found.
async fn costs(register: &MemoryRegister) -> BTreeMap<&'static str, (u64, u64, usize)> {
    let mut costs = BTreeMap::new();
    let now = || (register.reads(), register.items());
    macro_rules! cost {
        ($what:literal, $asked:expr) => {
            let before = now();
            let found: usize = $asked;
            let after = now();
            costs.insert($what, (after.0 - before.0, after.1 - before.1, found));
        };
    }
    cost!("status", {
        let figures = Figures::of(register).await.unwrap();
        let parked = figures.of_state("parked").0;
        let compared = flows::reconcile::known(register).await.unwrap();
        Waiting::of(register, parked, &compared).await.unwrap();
        parked
    });
    cost!("parked", of_state(register, "parked").await);
    cost!("holds", of_state(register, "held").await);
    cost!("invoice find", found(register, "inv 77").await.unwrap().len());
    cost!("explain", {
        let record = one(register, "INV-77").await.unwrap();
        trail(register, record.id).await.unwrap();
        1
    });
    cost!(
        "payments --state parked",
        payments::bills(register, Some("parked")).await.unwrap().len()
    );
    cost!(
        "suppliers list --state parked",
        suppliers::in_state(register, Some("parked")).await.unwrap().len()
    );
    cost!("lookups", lookups::records(register).await.unwrap().len());
    costs
}

#[tokio::test]
async fn a_verb_costs_what_it_shows_and_not_what_the_register_holds() {
    let register = MemoryRegister::new();
    whole(&register);
    fill(&register, Of::Waiting, 0, 100).unwrap();
    let small = costs(&register).await;
    fill(&register, Of::Done, 100, 100_001).unwrap();
    let large = costs(&register).await;
    assert_eq!(small, large);
    for (what, (calls, items, found)) in large {
        assert!(calls <= 12, "{what} takes {calls} reads");
        let shown = u64::try_from(found).unwrap();
        assert!(items <= shown * 2 + 12, "{what} reads {items} items for {found}");
        let expected = match what {
            "status" | "parked" | "holds" => 50,
            "payments --state parked" | "suppliers list --state parked" => 10,
            "lookups" => 0,
            _ => 1,
        };
        assert_eq!(found, expected, "{what}");
    }
    // What lists everything reads everything, page by page, and refuses nothing.
    assert_eq!(records::all(&register).await.unwrap().len(), 100_001);
    assert_eq!(payments::bills(&register, None).await.unwrap().len(), 10_000);
    assert_eq!(suppliers::in_state(&register, None).await.unwrap().len(), 10_000);
}
