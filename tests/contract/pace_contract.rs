//! What the store of the shared pace promises, whoever keeps it: no two reservations overlap, a full bucket is taken from now
//! on, a block that is too far is not taken, and a pause only ever grows.
#![allow(
    clippy::arithmetic_side_effects,
    reason = "tests count small numbers; an overflow there is a failing test"
)]

use crate::Outcome;
use flows::pace::{Ask, PaceStore, Reserved};
use std::sync::Arc;

const NOW: i64 = 1_772_787_600_000_000;
const COST: i64 = 400_000;
const TRIAL: i64 = 30_000_000;

fn ask(now_micros: i64, latest_micros: i64) -> Ask {
    Ask {
        now_micros,
        latest_micros,
        cost_micros: COST,
        trial_micros: TRIAL,
    }
}

/// Runs the contract; `instance` makes what one instance has, over the same buckets.
pub(crate) async fn run(instance: &dyn Fn() -> Arc<dyn PaceStore>) -> Outcome {
    one_after_the_other(instance).await?;
    a_pause(instance).await?;
    a_trial(instance).await?;
    all_at_once(instance).await
}

async fn one_after_the_other(instance: &dyn Fn() -> Arc<dyn PaceStore>) -> Outcome {
    let (one, two, host) = (instance(), instance(), "one.example.com");
    let far = NOW + 60_000_000;
    assert_eq!(one.reserve(host, &ask(NOW, far)).await?, Reserved::From(NOW));
    assert_eq!(
        two.reserve(host, &ask(NOW + 1, far)).await?,
        Reserved::From(NOW + COST)
    );
    assert_eq!(
        one.reserve(host, &ask(NOW + 2, far)).await?,
        Reserved::From(NOW + 2 * COST)
    );
    let full_at = NOW + 3 * COST;
    assert_eq!(
        two.reserve(host, &ask(NOW + 3, full_at - 1)).await?,
        Reserved::TooFar(full_at)
    );
    assert_eq!(
        one.reserve(host, &ask(NOW + 4, full_at)).await?,
        Reserved::From(full_at),
        "what was too far is not taken, and the limit itself is near enough"
    );
    let later = NOW + 10_000_000;
    assert_eq!(
        two.reserve(host, &ask(later, later)).await?,
        Reserved::From(later),
        "it is full again"
    );
    assert_eq!(
        one.reserve(host, &ask(later, far)).await?,
        Reserved::From(later + COST)
    );
    assert_eq!(
        one.reserve("other.example.com", &ask(NOW, NOW)).await?,
        Reserved::From(NOW),
        "every host has its own"
    );
    Ok(())
}

async fn a_pause(instance: &dyn Fn() -> Arc<dyn PaceStore>) -> Outcome {
    let (one, two, host) = (instance(), instance(), "paused.example.com");
    let until = NOW + 30_000_000;
    one.hold(host, until).await?;
    two.hold(host, until - 20_000_000).await?;
    assert_eq!(
        two.reserve(host, &ask(NOW, until - 1)).await?,
        Reserved::TooFar(until)
    );
    assert_eq!(two.reserve(host, &ask(NOW, until)).await?, Reserved::From(until));
    Ok(())
}

async fn a_trial(instance: &dyn Fn() -> Arc<dyn PaceStore>) -> Outcome {
    let (one, two, host) = (instance(), instance(), "silent.example.com");
    let far = NOW + 600_000_000;
    let until = NOW + 10_000_000;
    one.healed(host).await?;
    assert_eq!(two.reserve(host, &ask(NOW, far)).await?, Reserved::From(NOW));
    one.rest(host, until).await?;
    assert_eq!(
        two.reserve(host, &ask(NOW, far)).await?,
        Reserved::TooFar(until),
        "nobody stands in line behind a silence"
    );
    two.rest(host, until - 1_000_000).await?;
    two.hold(host, until + 5).await?;
    assert_eq!(
        one.reserve(host, &ask(until, until + 4)).await?,
        Reserved::TooFar(until + 5),
        "a pause holds for the trial too"
    );
    assert_eq!(one.reserve(host, &ask(until, until + 5)).await?, Reserved::Trial);
    let over = until + TRIAL;
    assert_eq!(
        two.reserve(host, &ask(until + 1, far)).await?,
        Reserved::TooFar(over),
        "one tries it, for all"
    );
    assert_eq!(
        two.reserve(host, &ask(over, far)).await?,
        Reserved::Trial,
        "who died with the trial keeps nobody away for longer"
    );
    two.hold(host, over + 50).await?;
    two.healed(host).await?;
    assert_eq!(
        one.reserve(host, &ask(over + 1, over + 49)).await?,
        Reserved::TooFar(over + 50),
        "a pause outlasts the silence"
    );
    assert_eq!(
        one.reserve(host, &ask(over + 51, far)).await?,
        Reserved::From(over + 51),
        "all go on together"
    );
    one.healed(host).await?;
    assert_eq!(
        two.reserve(host, &ask(over + 52, far)).await?,
        Reserved::From(over + 51 + COST),
        "a host that was not on trial is as it was"
    );
    Ok(())
}

async fn all_at_once(instance: &dyn Fn() -> Arc<dyn PaceStore>) -> Outcome {
    const INSTANCES: i64 = 8;
    const BLOCKS: i64 = 5;
    let mut instances = Vec::new();
    for number in 0..INSTANCES {
        let store = instance();
        instances.push(tokio::spawn(async move {
            let mut from = Vec::new();
            for block in 0..BLOCKS {
                let now = NOW + number + block * 1_000;
                match store.reserve("many.example.com", &ask(now, i64::MAX)).await? {
                    Reserved::From(at) => from.push(at),
                    other => return Err(format!("{other:?} where all is near").into()),
                }
            }
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(from)
        }));
    }
    let mut from = Vec::new();
    for instance in instances {
        from.extend(instance.await?.map_err(|error| error.to_string())?);
    }
    from.sort_unstable();
    assert_eq!(i64::try_from(from.len())?, INSTANCES * BLOCKS);
    for (before, after) in from.iter().zip(from.iter().skip(1)) {
        assert!(after - before >= COST, "two blocks overlap");
    }
    let first = from.first().copied().unwrap_or(0);
    let last = from.last().copied().unwrap_or(0);
    assert_eq!(
        last - first,
        COST * (INSTANCES * BLOCKS - 1),
        "and no time is lost between them"
    );
    Ok(())
}
