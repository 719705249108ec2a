//! The demo's stories about lookup values: played beside the day, checked by the world and by the register.

use aws::clock::SystemClock;
use aws::dynamo::DynamoRegister;
use domain::plans::{PlanRecord, PlanState};
use domain::time::Timestamp;
use flows::ports::Clock;
use flows::store::load;

use sandbox::faults::Faults;
use sandbox::scenario::lookups::{Act, LookupStory, Rests, differences, play, stories};
use sandbox::world::World;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::JoinSet;

/// Longest one act may take, in milliseconds.
const ACT_MILLIS_MAX: i64 = 300_000;
/// How often the register is looked at, in milliseconds.
const LOOK_MILLIS: u64 = 400;

/// The stories while they are played.
pub(crate) struct Stories {
    playing: JoinSet<(LookupStory, Result<String, String>)>,
}

impl Stories {
    /// Begins all of them.
    pub(crate) fn begin(
        world: &Arc<Mutex<World>>,
        faults: &Arc<Mutex<Faults>>,
        register: &DynamoRegister,
    ) -> Self {
        let mut playing = JoinSet::new();
        for story in stories() {
            let (world, faults, register) = (Arc::clone(world), Arc::clone(faults), register.clone());
            playing.spawn(async move {
                let ended = tell(&story, &world, &faults, &register).await;
                (story, ended)
            });
        }
        Self { playing }
    }

    /// Waits for their ends: what to say of them, and what did not end as it should.
    pub(crate) async fn finish(mut self) -> (Vec<String>, Vec<String>) {
        let mut lines = Vec::new();
        let mut complaints = Vec::new();
        while let Some(ended) = self.playing.join_next().await {
            match ended {
                Ok((story, Ok(end))) => {
                    lines.push(format!("Lookup {} ({})", story.lookup, story.about));
                    lines.push(format!("  {end}"));
                }
                Ok((story, Err(complaint))) => complaints.push(format!("{}: {complaint}", story.lookup)),
                Err(error) => complaints.push(format!("a story about lookup values: {error}")),
            }
        }
        (lines, complaints)
    }
}

async fn tell(
    story: &LookupStory,
    world: &Mutex<World>,
    faults: &Mutex<Faults>,
    register: &DynamoRegister,
) -> Result<String, String> {
    let mut end = String::new();
    for act in &story.acts {
        {
            let mut world = world.lock().unwrap_or_else(PoisonError::into_inner);
            let mut faults = faults.lock().unwrap_or_else(PoisonError::into_inner);
            for change in &act.changes {
                play(story, change, &mut world, &mut faults);
            }
        }
        end = rest(story, act, world, register).await?;
    }
    Ok(end)
}

async fn rest(
    story: &LookupStory,
    act: &Act,
    world: &Mutex<World>,
    register: &DynamoRegister,
) -> Result<String, String> {
    let started = SystemClock.now();
    loop {
        let state = state_of(story.lookup, register).await;
        let differences = differences(story, &world.lock().unwrap_or_else(PoisonError::into_inner));
        match (&act.rests, &state) {
            (Rests::Equal, Some(PlanState::Settled)) if differences.is_empty() => {
                return Ok("Coupa shows exactly what QAD lists.".to_owned());
            }
            (Rests::Parked(code), Some(PlanState::Parked { problem, .. }))
                if problem.code == *code && !differences.is_empty() =>
            {
                return Ok(format!("Waits for a person: {problem}"));
            }
            _ => {}
        }
        if late(started) {
            let state = state.map_or("unknown".to_owned(), |state| format!("{state:?}"));
            return Err(format!(
                "it is {state} with {} differences ({}) and never became {:?}",
                differences.len(),
                differences.first().map_or("", String::as_str),
                act.rests
            ));
        }
        SystemClock.sleep(Duration::from_millis(LOOK_MILLIS)).await;
    }
}

fn late(started: Timestamp) -> bool {
    SystemClock.now().millis_since(started) > ACT_MILLIS_MAX
}

async fn state_of(lookup: &str, register: &DynamoRegister) -> Option<PlanState> {
    let loaded = load::<PlanRecord>(register, flows::plans::key(Some(lookup))).await;
    Some(loaded.ok()??.document.state)
}
