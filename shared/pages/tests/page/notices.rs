//! What everybody must know first stands on every page.

use super::*;
use domain::instruction::Instruction;
use domain::lifecycle::ChainEnd;
use domain::ownership::{HELD_MILLIS, MARK_UNKNOWN, OWNED_BY_ANOTHER, OwnerEvent, OwnerState, Ownership};
use flows::pause::{self, Flow};

const PAGES: [&str; 11] = [
    "/",
    "/invoices",
    "/invoices/7",
    "/invoices/7/release",
    "/invoices/7/ask-buyer",
    "/suppliers",
    "/lookups",
    "/month/2026-11",
    "/find?q=nothing",
    "/help",
    "/nowhere",
];

impl World {
    async fn own(&self, state: OwnerState) {
        let known = load::<Ownership>(&self.register, flows::owner::key())
            .await
            .unwrap();
        let (chain, revision) = known.map_or_else(
            || (ChainEnd::default(), 0),
            |known| (known.document.chain, known.revision),
        );
        let change = Change::<_, OwnerEvent> {
            document: Ownership {
                state,
                chain,
                ..Ownership::new("token-i".to_owned())
            },
            events: vec![],
            writes: vec![],
        };
        save(&self.context(), revision, change).await.unwrap();
    }

    async fn each_says(&self, told: &[&str], not_told: &[&str]) {
        let dana = self.enter(0).await;
        for path in PAGES {
            let body = self.get(&dana, path).await.body;
            for part in told {
                assert!(body.contains(part), "{path}: {part} in {body}");
            }
            for part in not_told {
                assert!(!body.contains(part), "{path}: {part} in {body}");
            }
        }
    }
}

#[tokio::test]
async fn each_page_says_what_is_paused_since_when_why_and_who_ends_it() {
    let world = World::new().await;
    world.park(parked(7, "Example Castings")).await;
    world
        .each_says(&[], &["paused", "Nothing is begun", "gave no answer"])
        .await;
    for flow in Flow::ALL {
        let why = Instruction::new(
            "arn:aws:sts::1:assumed-role/Ops/kim@example.com",
            "closing <b>of</b> March",
        );
        pause::set(&world.context(), flow, true, why.unwrap())
            .await
            .unwrap();
    }
    let told = [
        "Posting is paused",
        "Payments are paused",
        "The suppliers are paused",
        "The lookups are paused",
        "by <bdi>kim@example.com</bdi>: <bdi>closing &lt;b&gt;of&lt;/b&gt; March</bdi>",
        "Whoever runs this product ends it",
    ];
    world.each_says(&told, &["arn:aws"]).await;
}

#[tokio::test]
async fn each_page_says_that_another_installation_may_be_at_work_and_who_acts() {
    let world = World::new().await;
    world.park(parked(7, "Example Castings")).await;
    let now = world.context().clock.now();
    let problem =
        |code: &str| Problem::new(code, "`qad-coupa owner take`").actual("since 2026-11-30 08:00 UTC");
    let ours = |renewed| OwnerState::Ours {
        epoch: 1,
        renewed,
        beat: String::new(),
    };
    let stopped = [
        (
            OwnerState::Another {
                epoch: 2,
                problem: problem(OWNED_BY_ANOTHER),
                since: now,
            },
            "another installation works with this Coupa and QAD (",
            "Whoever runs this product decides",
        ),
        (
            ours(now.plus_millis(-HELD_MILLIS)),
            "nobody knows any more whether another",
            "tell whoever runs this product",
        ),
        (
            OwnerState::Unknown {
                problem: problem(MARK_UNKNOWN),
            },
            "nobody knows yet whether another",
            "tell whoever runs this product",
        ),
    ];
    for (state, why, who) in stopped {
        world.own(state).await;
        world.each_says(&[why, who], &["qad-coupa owner"]).await;
    }
    for state in [ours(now), OwnerState::Unguarded] {
        world.own(state).await;
        world.each_says(&[], &["another installation"]).await;
    }
}

/// One switch that cannot be read hides none of the others, and is named beside them.
#[tokio::test]
async fn each_page_names_what_cannot_be_read_beside_what_is_paused() {
    let world = World::new().await;
    world.park(parked(7, "Example Castings")).await;
    let why = || Instruction::new("local:kim@example.com", "closing of March").unwrap();
    for flow in [Flow::Invoices, Flow::Lookups] {
        pause::set(&world.context(), flow, true, why()).await.unwrap();
    }
    world.lay(Flow::Suppliers.key(), 0, "{".to_owned());
    let told = [
        "Posting is paused",
        "The lookups are paused",
        "Whether the suppliers are paused cannot be read",
    ];
    world
        .each_says(
            &told,
            &["gave no answer", "Whether another", "Payments are paused"],
        )
        .await;
    world.lay(flows::owner::key(), 0, "{".to_owned());
    let told = ["Posting is paused", "Whether another installation"];
    world.each_says(&told, &["gave no answer"]).await;
}

/// Today calls a look unfinished where nothing stops it: what waits for a pause or for an owner was not to be finished.
#[tokio::test]
async fn today_tells_of_unfinished_looks_only_while_nothing_stops_them() {
    let world = World::new().await;
    let problem = Problem::new("COUPA_UNAVAILABLE", "Nothing to do.");
    world
        .park_for(parked(7, "Example Castings"), Event::Delayed { problem })
        .await;
    let dana = world.enter(0).await;
    let says = async || {
        let today = world.get(&dana, "/").await.body;
        assert!(!today.contains("could not be asked"), "{today}");
        today.contains("The last look at 1 invoice could not be finished")
    };
    let set = async |paused| {
        let why = Instruction::new("local:kim@example.com", "closing of March").unwrap();
        pause::set(&world.context(), Flow::Invoices, paused, why)
            .await
            .unwrap();
    };
    assert!(says().await);
    set(true).await;
    assert!(!says().await, "it waits for the pause");
    set(false).await;
    assert!(says().await);
    let problem = Problem::new(MARK_UNKNOWN, "");
    world.own(OwnerState::Unknown { problem }).await;
    assert!(!says().await, "it waits for an owner");
}

/// What was found and cannot be read is not nothing.
#[tokio::test]
async fn a_search_that_finds_what_cannot_be_read_does_not_say_that_nothing_is_found() {
    let world = World::new().await;
    world.park(parked(7, "Example Castings")).await;
    world.lay(RecordKey::Invoice(InvoiceId(7)), 1, "{".to_owned());
    let dana = world.enter(0).await;
    let found = world.get(&dana, "/find?q=INV-7").await.body;
    assert!(
        found.contains("Not shown, for it cannot be read") && !found.contains("Nothing is found"),
        "{found}"
    );
    let nothing = world.get(&dana, "/find?q=INV-8").await.body;
    assert!(nothing.contains("Nothing is found"), "{nothing}");
}
