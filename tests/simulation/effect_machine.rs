//! The effect machine alone, exhaustively: two workers, every outcome of every step, a crash before and after each, every
//! order, a server that may commit as late as it is allowed to. No more than one document, ever; and each guard taken away
//! gives two.

use domain::effect::{Effect, EffectEvent, EffectStatus, Repetition, Step};
use domain::problem::Problem;
use domain::time::Timestamp;
use domain::timing::Timing;
use std::collections::BTreeSet;

/// Setbacks in a row explored: they only lengthen the backoff. Attempts are not bounded.
const SETBACKS_MAX: u32 = 3;

/// The guards; true when it stands.
#[derive(Debug, Clone, Copy)]
struct Guards {
    settle: bool,
    intent: bool,
    unknown: bool,
    look_up: bool,
    revision: bool,
    deadline: bool,
    clocks: bool,
}

const ALL: Guards = Guards {
    settle: true,
    intent: true,
    unknown: true,
    look_up: true,
    revision: true,
    deadline: true,
    clocks: true,
};

/// Where a worker is between two steps.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Worker {
    Idle,
    /// Read the effect; about to look up before the first send.
    Fresh(Read),
    /// Looked up before the first send; about to claim.
    Nothing(Read),
    /// Holds the claim; about to send.
    Claimed(Read),
    /// The request is on its way.
    Sending(Read, Exchange),
    /// About to look before that can prove that nothing is there.
    LooksEarly(Read),
    /// Holds the claim of a look-up; about to look up.
    LooksUp(Read),
    /// Looked up; about to tell.
    Found(Read, bool),
    /// Knows how it ended; about to write it.
    Tells(Read, Outcome),
}

/// What a worker remembers of the record.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Read {
    revision: u64,
    fence: u64,
    send_deadline: i64,
}

/// A request on its way, and what the server makes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Exchange {
    /// The exchange ends by then.
    until: i64,
    /// When the document appears; nothing when it is there already or never comes.
    appears: Option<i64>,
    /// Whether the server has made it at once.
    made: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    Confirmed,
    Declined,
    Unknown,
    LookUpFailed,
}

/// The stored effect, the server, the workers.
#[derive(Debug, Clone)]
struct World {
    now: i64,
    effect: Effect,
    revision: u64,
    documents: u32,
    late: Vec<i64>,
    workers: [Worker; 2],
}

struct Model {
    guards: Guards,
    believed: Timing,
    real: Timing,
}

impl Model {
    fn new(guards: Guards) -> Self {
        let real = Timing::default();
        let lateness = if guards.settle {
            real.commit_lateness_millis
        } else {
            1_000
        };
        Self {
            guards,
            believed: Timing {
                commit_lateness_millis: lateness,
                ..real
            },
            real,
        }
    }

    fn clock(&self, world: &World, worker: usize) -> Timestamp {
        let skew = if self.guards.clocks {
            self.real.clock_skew_millis
        } else {
            400_000
        };
        let ahead = if worker == 0 { 0 } else { skew };
        Timestamp(world.now + ahead)
    }

    fn read(&self, world: &World) -> Read {
        Read {
            revision: world.revision,
            fence: world.effect.fence,
            send_deadline: world.effect.send_deadline(&self.believed).0,
        }
    }

    /// Applies an event if the record is still as the worker saw it. Nothing when somebody else was faster.
    fn write(&self, world: &World, worker: usize, seen: &Read, event: &EffectEvent) -> Option<World> {
        if self.guards.revision && seen.revision != world.revision {
            return None;
        }
        let moved = world
            .effect
            .after(event, self.clock(world, worker), &self.believed)
            .ok()?;
        let mut next = world.clone();
        next.effect = moved;
        next.revision += 1;
        Some(next)
    }

    /// Every world one step of this worker can lead to.
    fn steps(&self, world: &World, worker: usize) -> Vec<World> {
        let clock = self.clock(world, worker);
        let to = |world: &World, state: Worker| {
            let mut next = world.clone();
            next.workers[worker] = state;
            next
        };
        let holder = || format!("w{worker}");
        match world.workers[worker].clone() {
            Worker::Idle => {
                let read = self.read(world);
                match world.effect.step(clock, &self.believed) {
                    Step::LookUpThenSend => vec![to(world, Worker::Fresh(read))],
                    // Whoever comes may look, as often as they like: when the next one comes is not explored.
                    Step::LookEarly { .. } => vec![to(world, Worker::LooksEarly(read))],
                    Step::LookUp => {
                        let event = EffectEvent::LookUpClaimed { holder: holder() };
                        let claimed = self.write(world, worker, &read, &event);
                        claimed
                            .map(|next| to(&next, Worker::LooksUp(self.read(&next))))
                            .into_iter()
                            .collect()
                    }
                    Step::Send | Step::Wait(_) | Step::Finished => Vec::new(),
                }
            }
            Worker::Fresh(read) => {
                let mut next = vec![to(world, Worker::Tells(read.clone(), Outcome::Declined))];
                if world.documents == 0 || !self.guards.look_up {
                    next.push(to(world, Worker::Nothing(read)));
                } else {
                    next.push(to(world, Worker::Tells(read, Outcome::Confirmed)));
                }
                next
            }
            Worker::Nothing(read) => {
                let event = EffectEvent::Intended { holder: holder() };
                match self.write(world, worker, &read, &event) {
                    Some(next) => {
                        let claimed = self.read(&next);
                        let stored = if self.guards.intent { &next } else { world };
                        vec![to(stored, Worker::Claimed(claimed))]
                    }
                    None => vec![to(world, Worker::Idle)],
                }
            }
            Worker::Claimed(read) => {
                if self.guards.deadline && clock.0 > read.send_deadline {
                    return vec![to(world, Worker::Tells(read, Outcome::Declined))];
                }
                // The server never sees it, commits at once, or as late as it may.
                let until = world.now + self.real.http_millis;
                let never = Exchange {
                    until,
                    appears: None,
                    made: false,
                };
                let at_once = Exchange { made: true, ..never };
                let late = Exchange {
                    appears: Some(until + self.real.commit_lateness_millis),
                    ..never
                };
                let mut made = world.clone();
                made.documents += 1;
                vec![
                    to(world, Worker::Sending(read.clone(), never)),
                    to(&made, Worker::Sending(read.clone(), at_once)),
                    to(world, Worker::Sending(read, late)),
                ]
            }
            Worker::Sending(read, exchange) => {
                let unknown = if self.guards.unknown {
                    Outcome::Unknown
                } else {
                    Outcome::Declined
                };
                let mut all = vec![to(
                    &self.given_up(world, exchange),
                    Worker::Tells(read.clone(), unknown),
                )];
                if world.now <= exchange.until && exchange.made {
                    all.push(to(world, Worker::Tells(read, Outcome::Confirmed)));
                } else if world.now <= exchange.until && exchange.appears.is_none() {
                    all.push(to(world, Worker::Tells(read, Outcome::Declined)));
                }
                all
            }
            // Only that ours is there counts.
            Worker::LooksEarly(read) if world.documents > 0 => {
                vec![to(world, Worker::Tells(read, Outcome::Confirmed))]
            }
            Worker::LooksEarly(_) => vec![to(world, Worker::Idle)],
            Worker::LooksUp(read) => {
                let failed = if self.guards.look_up {
                    Worker::Tells(read.clone(), Outcome::LookUpFailed)
                } else {
                    Worker::Found(read.clone(), false)
                };
                vec![
                    to(world, Worker::Found(read, world.documents > 0)),
                    to(world, failed),
                ]
            }
            Worker::Found(read, true) => vec![to(world, Worker::Tells(read, Outcome::Confirmed))],
            Worker::Found(read, false) => {
                match self.write(world, worker, &read, &EffectEvent::IntendedAgain) {
                    Some(next) => vec![to(&next, Worker::Claimed(self.read(&next)))],
                    None => vec![to(world, Worker::Idle)],
                }
            }
            Worker::Tells(read, outcome) => vec![to(&self.tell(world, worker, &read, outcome), Worker::Idle)],
        }
    }

    /// The caller is gone or has given up: no byte leaves after that, and what still comes, comes within the lateness.
    fn given_up(&self, world: &World, exchange: Exchange) -> World {
        let mut next = world.clone();
        if let Some(appears) = exchange.appears {
            next.late
                .push(appears.min(world.now + self.real.commit_lateness_millis));
            next.late.sort_unstable();
        }
        next
    }

    /// Writes an outcome as the engine does: on a conflict once more, if the claim is still the worker's.
    fn tell(&self, world: &World, worker: usize, read: &Read, outcome: Outcome) -> World {
        let problem = || Problem::new("X", "");
        let not_before = self.clock(world, worker);
        let event = match outcome {
            Outcome::Confirmed => EffectEvent::Confirmed,
            Outcome::Declined => EffectEvent::NotApplied {
                not_before,
                problem: problem(),
            },
            Outcome::Unknown => EffectEvent::MayHaveHappened { problem: problem() },
            Outcome::LookUpFailed => EffectEvent::LookUpFailed {
                not_before,
                problem: problem(),
            },
        };
        let ours = world.effect.fence == read.fence && !world.effect.is_finished();
        if !ours && self.guards.revision {
            return world.clone();
        }
        let current = self.read(world);
        self.write(world, worker, &current, &event)
            .unwrap_or_else(|| world.clone())
    }

    /// Every world that anything at all can lead to.
    fn next(&self, world: &World) -> Vec<World> {
        let mut all = Vec::new();
        for worker in 0..world.workers.len() {
            all.extend(self.steps(world, worker));
            let mut dead = match &world.workers[worker] {
                Worker::Idle => continue,
                Worker::Sending(_, exchange) => self.given_up(world, *exchange),
                _ => world.clone(),
            };
            dead.workers[worker] = Worker::Idle;
            all.push(dead);
        }
        if let Some(moment) = self.next_moment(world) {
            let mut later = world.clone();
            later.now = moment;
            let landed = later.late.iter().filter(|at| **at <= moment).count();
            later.late.drain(..landed);
            later.documents += u32::try_from(landed).unwrap();
            for worker in &mut later.workers {
                if let Worker::Sending(_, exchange) = worker
                    && exchange.appears.is_some_and(|at| at <= moment)
                {
                    exchange.appears = None;
                    exchange.made = true;
                    later.documents += 1;
                }
            }
            all.push(later);
        }
        all
    }

    /// The next instant at which something can be otherwise.
    fn next_moment(&self, world: &World) -> Option<i64> {
        let waits = (0..world.workers.len()).filter_map(|worker| {
            let ahead = self.clock(world, worker).0 - world.now;
            match world.effect.step(self.clock(world, worker), &self.believed) {
                Step::Wait(until) | Step::LookEarly { settled: until } => Some(until.0 - ahead),
                _ => None,
            }
        });
        let exchanges = world.workers.iter().filter_map(|worker| match worker {
            Worker::Sending(_, exchange) if exchange.until > world.now => Some(exchange.until),
            Worker::Sending(_, exchange) => exchange.appears,
            _ => None,
        });
        let moments = waits.chain(exchanges).chain(world.late.iter().copied());
        moments.filter(|moment| *moment > world.now).min()
    }
}

/// What makes two worlds the same for everything that can still happen: times from now on, and of what a worker has read
/// only whether it is still so.
fn essence(world: &World) -> Vec<i64> {
    let from_now = |instant: i64| (instant - world.now).max(-1);
    let effect = &world.effect;
    let mut essence = vec![
        effect.status as i64,
        i64::from(effect.holder.is_empty()),
        from_now(effect.lease_until.0),
        from_now(effect.settle_until.0),
        from_now(effect.not_before.0),
        i64::from(effect.setbacks),
        i64::from(world.documents),
    ];
    for worker in &world.workers {
        let (kind, read, more) = match worker {
            Worker::Idle => (0, None, 0),
            Worker::Fresh(read) => (1, Some(read), 0),
            Worker::Nothing(read) => (2, Some(read), 0),
            Worker::Claimed(read) => (3, Some(read), 0),
            Worker::Sending(read, exchange) if exchange.made => (4, Some(read), from_now(exchange.until)),
            Worker::Sending(read, exchange) if exchange.appears.is_some() => (
                8,
                Some(read),
                from_now(exchange.until.max(world.now - 1)) * 2_000_000
                    + from_now(exchange.appears.unwrap_or(0)),
            ),
            Worker::Sending(read, exchange) => (9, Some(read), from_now(exchange.until)),
            Worker::LooksUp(read) => (5, Some(read), 0),
            Worker::LooksEarly(read) => (10, Some(read), 0),
            Worker::Found(read, there) => (6, Some(read), i64::from(*there)),
            Worker::Tells(read, outcome) => (7, Some(read), *outcome as i64),
        };
        essence.extend([kind, more]);
        if let Some(read) = read {
            essence.extend([
                i64::from(read.revision == world.revision),
                i64::from(read.fence == effect.fence),
                from_now(read.send_deadline),
            ]);
        }
    }
    essence.extend(world.late.iter().map(|at| from_now(*at)));
    essence
}

/// What was explored.
#[derive(Debug, Default)]
struct Explored {
    worlds: usize,
    two_documents: bool,
    done_without_document: bool,
    stuck: bool,
    done: usize,
}

fn explore(guards: Guards) -> Explored {
    let model = Model::new(guards);
    let effect = Effect::ready(
        "k".into(),
        Repetition::OnlyAfterLookUp,
        "{}".into(),
        "h".into(),
        "i".into(),
        Timestamp(0),
    );
    let mut waiting = std::collections::VecDeque::from([World {
        now: 1,
        effect,
        revision: 1,
        documents: 0,
        late: Vec::new(),
        workers: [Worker::Idle, Worker::Idle],
    }]);
    let mut seen = BTreeSet::new();
    let mut explored = Explored::default();
    while let Some(world) = waiting.pop_front() {
        if world.effect.setbacks > SETBACKS_MAX || !seen.insert(essence(&world)) {
            continue;
        }
        explored.worlds += 1;
        if world.documents > 1 {
            explored.two_documents = true;
            return explored;
        }
        if world.effect.status == EffectStatus::Done {
            explored.done += 1;
            explored.done_without_document |= world.documents == 0;
        }
        let next = model.next(&world);
        explored.stuck |= next.is_empty() && !world.effect.is_finished();
        waiting.extend(next);
    }
    explored
}

#[test]
fn no_history_of_two_workers_makes_two_documents() {
    let explored = explore(ALL);
    println!("{explored:?}");
    assert!(!explored.two_documents, "two documents");
    assert!(!explored.done_without_document, "done, and QAD has nothing");
    assert!(!explored.stuck, "a history without end and without a next step");
    assert!(explored.worlds > 1_000 && explored.done > 0, "{explored:?}");
}

#[test]
fn each_guard_taken_away_makes_two_documents() {
    let without = [
        ("the settle window", Guards { settle: false, ..ALL }),
        ("the durable intent", Guards { intent: false, ..ALL }),
        (
            "the unknown outcome",
            Guards {
                unknown: false,
                ..ALL
            },
        ),
        (
            "the complete look-up",
            Guards {
                look_up: false,
                ..ALL
            },
        ),
        (
            "the revision condition",
            Guards {
                revision: false,
                ..ALL
            },
        ),
        (
            "the send deadline",
            Guards {
                deadline: false,
                ..ALL
            },
        ),
        ("clocks that agree", Guards { clocks: false, ..ALL }),
    ];
    for (guard, guards) in without {
        let explored = explore(guards);
        println!(
            "without {guard}: {} histories until two documents",
            explored.worlds
        );
        assert!(
            explored.two_documents,
            "without {guard} there never were two documents"
        );
    }
}
