use super::*;
use crate::memory_register::{MemoryRegister, MemoryStore};
use crate::pause::{self, Stop};
use crate::store::verify_chain;
use crate::sync_model::{Fault, Model};
use domain::ownership::{HELD_MILLIS, MARK_NOT_RENEWED, MARK_TOO_YOUNG, MARK_UNKNOWN, OWNED_BY_ANOTHER};
use domain::timing::Timing;
use std::cell::RefCell;

const LOOKUP: &str = "QAD Integration Owner";
const MINUTE: i64 = 60_000;

/// One Coupa, and an installation with its own register.
struct Bench {
    coupa: Model,
    timing: Timing,
}

struct Installation {
    register: MemoryRegister,
    connection: ConnectionId,
}

fn installation() -> Installation {
    let connection: ConnectionId = "acme".parse().unwrap();
    Installation {
        register: MemoryStore::default().register(&connection),
        connection,
    }
}

impl Bench {
    fn new() -> Self {
        let coupa = Model::new();
        coupa.state().lookups.insert(LOOKUP.to_owned());
        Self {
            coupa,
            timing: Timing::default(),
        }
    }

    fn deps<'a>(&'a self, one: &'a Installation) -> Deps<'a> {
        Deps {
            context: Context {
                register: &one.register,
                ..self.coupa.context(&self.timing)
            },
            connection: &one.connection,
            coupa: &self.coupa,
            lookup: Some(LOOKUP),
        }
    }

    async fn watch(&self, one: &Installation) -> Watched {
        watch(&self.deps(one)).await.unwrap()
    }

    /// What keeps it from beginning anything, as the flows read it.
    async fn stop(&self, one: &Installation) -> Option<String> {
        let context = self.deps(one).context;
        let stop = pause::stop(&context, pause::Flow::Payments).await.unwrap();
        stop.map(|stop| stop.problem().code)
    }

    async fn take(&self, one: &Installation) -> Result<Option<u64>, OperatorError> {
        let why = Instruction::new("kim", "the other region is gone").unwrap();
        take(&self.deps(one), LOOKUP, &why, false).await
    }

    fn marks(&self) -> Vec<String> {
        let values = &self.coupa.state().values;
        values
            .values()
            .filter_map(|(_, value)| value.code.clone())
            .collect()
    }
}

async fn trail(one: &Installation) -> Vec<String> {
    let entries = one.register.audit(AUDIT_NAME).await.unwrap();
    verify_chain(&entries).unwrap();
    entries.into_iter().map(|entry| entry.events).collect()
}

#[tokio::test]
async fn the_first_owns_and_the_second_is_refused_with_its_name() {
    let bench = Bench::new();
    let (first, second) = (installation(), installation());
    assert_eq!(bench.watch(&first).await.trouble, None);
    let refused = bench.watch(&second).await;
    assert_eq!(bench.stop(&first).await, None);
    assert_eq!(bench.stop(&second).await.as_deref(), Some(OWNED_BY_ANOTHER));
    let OwnerState::Another { problem, .. } = refused.ownership.state else {
        panic!("{refused:?}")
    };
    let first = known(&first.register).await.unwrap().unwrap();
    assert!(problem.actual.contains(&first.installation), "{problem}");
    assert_eq!(bench.marks(), ["owner-1"]);
    let told = trail(&second).await;
    assert!(told.len() == 1 && told[0].contains("not-owned"), "{told:?}");
}

#[tokio::test]
async fn what_is_ours_is_asked_about_every_ten_minutes_and_renewed() {
    let bench = Bench::new();
    let one = installation();
    bench.watch(&one).await;
    let calls = bench.coupa.state().calls;
    assert_eq!(calls, 3, "a look, a claim, a look");
    bench.watch(&one).await;
    assert_eq!(
        bench.coupa.state().calls,
        calls,
        "nothing is asked while it is fresh"
    );
    for _ in 0..30 {
        bench.coupa.wait(10);
        let watched = bench.watch(&one).await;
        assert_eq!(watched.trouble, None);
        assert_eq!(bench.stop(&one).await, None);
    }
    let state = known(&one.register).await.unwrap().unwrap();
    assert_eq!(state.beats.len(), domain::ownership::BEATS_KEPT);
    assert_eq!(trail(&one).await.len(), 2, "renewals are no news");
}

#[tokio::test]
async fn an_outage_of_coupa_is_borne_for_an_hour_once_it_was_ours_and_never_before() {
    let bench = Bench::new();
    let one = installation();
    bench.coupa.state().fault = Some((0, Fault::DieBefore));
    let silent = bench.watch(&one).await;
    assert!(silent.trouble.is_some());
    assert_eq!(
        bench.stop(&one).await.as_deref(),
        Some(MARK_UNKNOWN),
        "never nobody's"
    );
    bench.coupa.wait(1);
    bench.watch(&one).await;
    assert_eq!(bench.stop(&one).await, None);
    for _ in 0..5 {
        bench.coupa.wait(10);
        let calls = bench.coupa.state().calls;
        bench.coupa.state().fault = Some((calls, Fault::DieBefore));
        assert!(bench.watch(&one).await.trouble.is_some());
        assert_eq!(bench.stop(&one).await, None);
    }
    bench.coupa.wait(10);
    assert_eq!(bench.stop(&one).await.as_deref(), Some(MARK_NOT_RENEWED));
    bench.watch(&one).await;
    assert_eq!(bench.stop(&one).await, None, "it goes on by itself");
}

#[tokio::test]
async fn renewals_that_keep_failing_do_not_cost_the_mark() {
    let bench = Bench::new();
    let one = installation();
    bench.watch(&one).await;
    bench.coupa.wait(10);
    for _ in 0..2 * domain::ownership::BEATS_KEPT {
        let calls = bench.coupa.state().calls;
        bench.coupa.state().fault = Some((calls + 1, Fault::Before));
        assert!(bench.watch(&one).await.trouble.is_some());
        bench.coupa.wait(1);
    }
    assert_eq!(bench.watch(&one).await.trouble, None);
    assert_eq!(bench.stop(&one).await, None, "it was its own all the time");
}

#[tokio::test]
async fn what_was_anothers_is_claimed_by_nobody_when_its_mark_has_gone() {
    let bench = Bench::new();
    let (first, second) = (installation(), installation());
    bench.watch(&first).await;
    bench.watch(&second).await;
    bench.coupa.state().values.clear();
    bench.coupa.wait(1);
    bench.watch(&second).await;
    assert_eq!(bench.stop(&second).await.as_deref(), Some(OWNED_BY_ANOTHER));
    assert_eq!(bench.marks(), Vec::<String>::new());
    bench.coupa.wait(10);
    bench.watch(&first).await;
    assert_eq!(bench.stop(&first).await, None, "its owner sets it again");
    bench.watch(&second).await;
    assert_eq!(bench.stop(&second).await.as_deref(), Some(OWNED_BY_ANOTHER));
    assert_eq!(bench.marks(), ["owner-2"]);
}

/// A fault at every call of a claim and of a renewal, in every way a call can fail.
#[tokio::test]
async fn whatever_fails_one_owns_it_in_the_end_and_the_other_never_does() {
    for fault in Fault::ALL {
        for at in 0..8 {
            let bench = Bench::new();
            let (first, second) = (installation(), installation());
            bench.coupa.state().fault = Some((at, fault));
            for round in 0..4 {
                for one in [&first, &second] {
                    bench.watch(one).await;
                    // Whoever works on a connection looks before it reads.
                    if round == 0 && known(&second.register).await.unwrap().is_none() {
                        continue;
                    }
                    let stops = [bench.stop(&first).await, bench.stop(&second).await];
                    assert!(stops.iter().any(Option::is_some), "{fault:?} at {at}: {stops:?}");
                }
                bench.coupa.wait(10);
            }
            let free = [bench.stop(&first).await, bench.stop(&second).await];
            let owners = free.iter().filter(|stop| stop.is_none()).count();
            assert_eq!(owners, 1, "{fault:?} at {at}: {free:?}");
            assert_eq!(bench.marks(), ["owner-1"], "{fault:?} at {at}");
        }
    }
}

#[tokio::test]
async fn a_lookup_that_is_not_there_stops_what_asked_for_the_mark_and_says_so() {
    let bench = Bench::new();
    bench.coupa.state().lookups.clear();
    let one = installation();
    let watched = bench.watch(&one).await;
    assert_eq!(watched.trouble.unwrap().code, domain::lookups::LOOKUP_MISSING);
    let context = bench.deps(&one).context;
    let stop = pause::stop(&context, pause::Flow::Invoices)
        .await
        .unwrap()
        .unwrap();
    assert!(matches!(stop, Stop::NotOwner(_)));
    assert!(
        stop.problem().actual.contains("COUPA_REFUSED")
            || stop.problem().actual.contains("COUPA_LOOKUP_MISSING"),
        "{}",
        stop.problem()
    );
}

#[tokio::test]
async fn without_a_lookup_nothing_is_asked_and_nothing_is_stopped_whatever_was_before() {
    let bench = Bench::new();
    let (first, second) = (installation(), installation());
    bench.watch(&first).await;
    bench.watch(&second).await;
    let calls = bench.coupa.state().calls;
    let unnamed = Deps {
        lookup: None,
        ..bench.deps(&second)
    };
    watch(&unnamed).await.unwrap();
    watch(&unnamed).await.unwrap();
    assert_eq!(bench.coupa.state().calls, calls);
    assert_eq!(bench.stop(&second).await, None);
    assert_eq!(
        trail(&second).await.len(),
        2,
        "that it was switched off is one entry"
    );
    let never = installation();
    let unnamed = Deps {
        lookup: None,
        ..bench.deps(&never)
    };
    watch(&unnamed).await.unwrap();
    assert_eq!(known(&never.register).await.unwrap(), None);
    bench.watch(&second).await;
    assert_eq!(
        bench.stop(&second).await.as_deref(),
        Some(OWNED_BY_ANOTHER),
        "named again"
    );
}

#[tokio::test]
async fn a_person_gives_it_away_when_its_owner_has_stopped_and_not_before() {
    let bench = Bench::new();
    let (first, second) = (installation(), installation());
    bench.watch(&first).await;
    bench.watch(&second).await;
    bench.coupa.wait(119);
    let Err(OperatorError::Refused(young)) = bench.take(&second).await else {
        panic!("too young")
    };
    assert_eq!(young.code, MARK_TOO_YOUNG);
    bench.coupa.wait(1);
    let why = Instruction::new("kim", "looking only").unwrap();
    let would = take(&bench.deps(&second), LOOKUP, &why, true).await.unwrap();
    assert_eq!(
        (would, bench.marks().len()),
        (Some(2), 1),
        "a dry run writes nothing"
    );
    assert_eq!(bench.take(&second).await.unwrap(), Some(2));
    assert_eq!(bench.take(&second).await.unwrap(), None, "it has it");
    assert_eq!(bench.stop(&second).await, None);
    assert_eq!(bench.stop(&first).await.as_deref(), Some(MARK_NOT_RENEWED));
    bench.watch(&first).await;
    assert_eq!(bench.stop(&first).await.as_deref(), Some(OWNED_BY_ANOTHER));
    let told = trail(&second).await.join(" ");
    assert!(
        told.contains("kim") && told.contains("the other region is gone"),
        "{told}"
    );
}

/// Two persons at once, in every order of the calls of both.
#[tokio::test]
async fn of_two_who_are_given_it_at_once_one_has_it() {
    for turns in 0..64_u32 {
        let bench = Bench::new();
        let (gone, first, second) = (installation(), installation(), installation());
        for one in [&gone, &first, &second] {
            bench.watch(one).await;
        }
        bench.coupa.wait(240);
        let order = RefCell::new(turns);
        let (mut one, mut other) = (Box::pin(bench.take(&first)), Box::pin(bench.take(&second)));
        let (mut ended_one, mut ended_other) = (None, None);
        while ended_one.is_none() || ended_other.is_none() {
            let bit = *order.borrow() & 1;
            *order.borrow_mut() >>= 1;
            if (bit == 0 || ended_other.is_some()) && ended_one.is_none() {
                ended_one = futures_util::FutureExt::now_or_never(&mut one);
            } else if ended_other.is_none() {
                ended_other = futures_util::FutureExt::now_or_never(&mut other);
            }
        }
        let taken = [ended_one.unwrap().is_ok(), ended_other.unwrap().is_ok()];
        let free = [
            bench.stop(&first).await.is_none(),
            bench.stop(&second).await.is_none(),
        ];
        assert_eq!(
            free.iter().filter(|free| **free).count(),
            1,
            "{turns:b}: {free:?}"
        );
        assert_eq!(taken, free, "{turns:b}: whoever was told so has it");
    }
}

/// The connections of one register are one installation; a copy of the register is another one.
#[tokio::test]
async fn two_connections_of_one_register_share_the_mark_and_a_copy_of_it_stops() {
    let bench = Bench::new();
    let store = MemoryStore::default();
    let of = |store: &MemoryStore, name: &str| {
        let connection: ConnectionId = name.parse().unwrap();
        Installation {
            register: store.register(&connection),
            connection,
        }
    };
    let (acme, beta) = (of(&store, "acme"), of(&store, "beta"));
    bench.watch(&acme).await;
    bench.watch(&beta).await;
    let copied = known(&acme.register).await.unwrap().unwrap();
    for _ in 0..3 {
        bench.coupa.wait(10);
        bench.watch(&beta).await;
        bench.watch(&acme).await;
    }
    assert_eq!([bench.stop(&acme).await, bench.stop(&beta).await], [None, None]);
    assert_eq!(bench.marks(), ["owner-1"]);
    let restored = of(&MemoryStore::default(), "acme");
    let context = bench.deps(&restored).context;
    let change = Change::<_, OwnerEvent> {
        document: copied,
        events: vec![],
        writes: vec![],
    };
    save(&context, 0, change).await.unwrap();
    bench.watch(&restored).await;
    assert_eq!(bench.stop(&restored).await.as_deref(), Some(OWNED_BY_ANOTHER));
    assert_eq!(bench.stop(&acme).await, None);
    bench.coupa.wait(2 * HELD_MILLIS / MINUTE);
    assert_eq!(
        bench.take(&restored).await.unwrap(),
        Some(2),
        "a person decides for the restored one"
    );
    bench.watch(&acme).await;
    assert_eq!(bench.stop(&acme).await.as_deref(), Some(OWNED_BY_ANOTHER));
}
