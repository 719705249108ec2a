//! The write protocol alone, exhaustively: two workers drive the product's [`Drive`], with every outcome of every step, a
//! crash before and after each, every order, a server that may commit as late as it is allowed to, as often as it takes
//! until nothing new can happen. No more than one document, ever; and each guard taken away, in the product's own lines,
//! gives two.

use domain::drive::{Ask, Drive, Finding, Heard, Manner, Moment, Move, Over, ReadError, WriteError};
use domain::effect::{Effect, EffectEvent, EffectStatus, Repetition, Step};
use domain::guards::{Guard, stands};
use domain::problem::Problem;
use domain::time::Timestamp;
use domain::timing::Timing;
use std::collections::{HashMap, VecDeque};
use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hasher};
use std::rc::Rc;

/// Time passes in steps of this, in milliseconds: every time in the chain below is a multiple of it, or short of one by a
/// millisecond.
const GRAIN_MILLIS: i64 = 1_000;
/// So many tries in a row and more are the same: the wait after them outlasts everything else.
const TRIES_MAX: i64 = 4;
/// Instants further ahead than this, in milliseconds, are the same: every claim is over and everything has settled by then.
const FAR_MILLIS: i64 = 15_000;
/// Instants further back than this, in milliseconds, are the same: they have passed on either clock.
const PAST_MILLIS: i64 = -2 * GRAIN_MILLIS;
/// Most worlds that one search may visit. Beyond it the search has not ended, and fails.
const WORLDS_MAX: usize = 6_000_000;

/// Far enough from zero that nothing is before it.
const BEGINNING: Timestamp = Timestamp(1_000_000);

/// What goes wrong, by the words of a history.
const FAULTS: [&str; 7] = [
    DIES,
    RECORD_CHANGES,
    NO_ANSWER,
    REQUEST_LOST,
    MADE_LATER,
    ANSWER_LOST,
    TURNED_AWAY,
];
const DIES: &str = "dies";
const RECORD_CHANGES: &str = "sees something else of the record change";
const NO_ANSWER: &str = "gets no answer to its look-up";
const REQUEST_LOST: &str = "sends, and it gets lost";
const MADE_LATER: &str = "sends, and it is made later";
const ANSWER_LOST: &str = "loses the answer";
const TURNED_AWAY: &str = "is turned away";

/// Whether this line of a history is something that went wrong.
pub(crate) fn is_fault(line: &str) -> bool {
    FAULTS.iter().any(|fault| line.ends_with(fault))
}

/// A chain of short times: the same links, and few look-ups before the settle window has passed.
fn short() -> Timing {
    let timing = Timing {
        http_millis: GRAIN_MILLIS,
        function_millis: 2 * GRAIN_MILLIS,
        stop_margin_millis: 0,
        lease_millis: 7 * GRAIN_MILLIS,
        commit_lateness_millis: GRAIN_MILLIS,
        // What is free by a clock that is behind is free a millisecond after this: with the next step.
        clock_skew_millis: 2 * GRAIN_MILLIS - 1,
        queue_visibility_millis: 12 * GRAIN_MILLIS,
        ..Timing::default()
    };
    assert!(timing.broken_links().is_empty(), "{:?}", timing.broken_links());
    timing
}

/// What is true of the world, and not in the product's hands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Given {
    /// The register heeds the conditions of writes.
    pub conditions: bool,
    /// How far the second worker's clock is ahead, in milliseconds.
    pub skew_millis: i64,
    /// Somebody has keyed it before anything is sent.
    pub keyed_by_hand: bool,
    /// What is proven absent is decided anew, as an invoice is, or simply sent again, as a payment is.
    pub anew: bool,
    /// How much may go wrong in one history; nothing for no bound.
    pub faults_max: Option<u32>,
    /// A worker may be stopped between the check of its lease and the first byte, and go on later.
    pub stops_before_the_first_byte: bool,
    /// What was given up may still be delivered, a lease later.
    pub late_bytes: bool,
}

impl Given {
    pub(crate) fn usual() -> Self {
        Self {
            conditions: true,
            skew_millis: short().clock_skew_millis,
            keyed_by_hand: false,
            anew: false,
            faults_max: None,
            stops_before_the_first_byte: false,
            late_bytes: false,
        }
    }
}

/// What a worker was asked to do, and does next.
#[derive(Debug, Clone)]
enum Doing {
    /// What there was when the look-up began: it may miss what lands while it runs.
    LookUp {
        documents: u32,
    },
    Send,
    Store(Move<()>),
    /// Its claim is stored, and the answer is on its way back.
    Hear,
    Read,
    /// The request is on its way.
    Sending(Exchange),
}

/// A worker, and what it remembers of the record.
#[derive(Debug, Clone)]
struct Worker {
    drive: Drive<()>,
    effect: Rc<Effect>,
    /// Whether the record is still as it was read.
    revision: u64,
    doing: Doing,
}

/// A request on its way, and what the server makes of it.
#[derive(Debug, Clone, Copy)]
struct Exchange {
    /// The exchange ends by then.
    until: Timestamp,
    /// When the document appears at the latest; nothing when it is there already or never comes.
    appears: Option<Timestamp>,
    /// Whether the server has made it.
    made: bool,
}

/// The stored effect, the server, the workers.
#[derive(Debug, Clone)]
struct World {
    now: Timestamp,
    effect: Rc<Effect>,
    revision: u64,
    documents: u32,
    late: Vec<Timestamp>,
    workers: [Option<Rc<Worker>>; 2],
    /// How much more may go wrong.
    faults: Option<u32>,
    impossible: bool,
}

struct Model {
    given: Given,
    timing: Timing,
}

/// What happened: whose step, and its words.
type Happened = (Option<usize>, &'static str);

impl Model {
    fn ahead(&self, worker: usize) -> i64 {
        if worker == 0 { 0 } else { self.given.skew_millis }
    }

    fn clock(&self, world: &World, worker: usize) -> Timestamp {
        world.now.plus_millis(self.ahead(worker))
    }

    fn ready(now: Timestamp) -> Effect {
        let none = String::new;
        Effect::ready(
            "k".into(),
            Repetition::OnlyAfterLookUp,
            none(),
            none(),
            none(),
            now,
        )
    }

    /// The world once a worker has been told something.
    fn told(&self, world: &World, number: usize, mut worker: Worker, heard: Heard<()>) -> World {
        let at = Moment {
            now: self.clock(world, number),
            deadline: Timestamp(i64::MAX),
            timing: &self.timing,
        };
        let ask = worker.drive.next(heard, Some(&worker.effect), &at);
        let mut next = world.clone();
        worker.doing = match ask {
            Ask::LookUp => Doing::LookUp {
                documents: world.documents,
            },
            Ask::Send => Doing::Send,
            Ask::Store(step) => Doing::Store(step),
            Ask::Read(_) => Doing::Read,
            Ask::Over(over) => {
                next.impossible |= matches!(over, Over::Impossible(_));
                next.workers[number] = None;
                return next;
            }
        };
        next.workers[number] = Some(Rc::new(worker));
        next
    }

    fn there(&self) -> Finding<()> {
        Finding::There {
            answer: (),
            adopted: self.given.keyed_by_hand,
        }
    }

    /// Every world one step of this worker can lead to, and what happened.
    fn steps(&self, world: &World, number: usize) -> Vec<(&'static str, World)> {
        let Some(worker) = world.workers[number].as_deref() else {
            return self.begins(world, number);
        };
        let told = |world: &World, heard| self.told(world, number, worker.clone(), heard);
        match worker.doing.clone() {
            Doing::LookUp { documents } => {
                let failed = ReadError::Unavailable {
                    retry_after: None,
                    problem: problem(),
                };
                let mut all = vec![(NO_ANSWER, Err(failed))];
                if documents == 0 {
                    all.push(("finds nothing", Ok(Finding::Nothing)));
                }
                if world.documents > 0 {
                    all.push(("finds it", Ok(self.there())));
                }
                all.into_iter()
                    .map(|(what, found)| (what, told(world, Heard::LookedUp(found))))
                    .collect()
            }
            Doing::Send => self.sends(world, number, worker),
            Doing::Sending(exchange) => {
                let unknown = Heard::Sent(Err(WriteError::Unknown(problem())));
                let given_up = self.given_up(world, exchange);
                let what = if exchange.made { ANSWER_LOST } else { "gives up" };
                let mut all = vec![(what, told(&given_up, unknown))];
                if world.now <= exchange.until && exchange.made {
                    let heard = Heard::Sent(Ok(self.there()));
                    all.push(("is told that it is made", told(world, heard)));
                } else if world.now <= exchange.until && exchange.appears.is_none() {
                    let declined = WriteError::NotApplied {
                        retry_after: None,
                        problem: problem(),
                    };
                    all.push((TURNED_AWAY, told(world, Heard::Sent(Err(declined)))));
                }
                all
            }
            Doing::Store(step) => vec![self.stores(world, number, worker, &step)],
            Doing::Hear => vec![("hears of it", told(world, Heard::Stored))],
            Doing::Read => {
                let read = Worker {
                    effect: Rc::clone(&world.effect),
                    revision: world.revision,
                    ..worker.clone()
                };
                vec![("reads", self.told(world, number, read, Heard::Read))]
            }
        }
    }

    fn begins(&self, world: &World, number: usize) -> Vec<(&'static str, World)> {
        let step = world.effect.step(self.clock(world, number), &self.timing);
        if matches!(step, Step::Wait(_) | Step::Finished) {
            return Vec::new();
        }
        let manner = Manner {
            anew_when_absent: self.given.anew,
            ..Manner::default()
        };
        let begun = Worker {
            drive: Drive::new(manner, "w".to_owned(), 0),
            effect: Rc::clone(&world.effect),
            revision: world.revision,
            doing: Doing::Read,
        };
        vec![("begins", self.told(world, number, begun, Heard::Begun))]
    }

    /// The server never sees it, commits at once, or as late as it may.
    fn sends(&self, world: &World, number: usize, worker: &Worker) -> Vec<(&'static str, World)> {
        let until = world.now.plus_millis(self.timing.http_millis);
        let never = Exchange {
            until,
            appears: None,
            made: false,
        };
        let at_once = Exchange { made: true, ..never };
        let late = Exchange {
            appears: Some(until.plus_millis(self.timing.commit_lateness_millis)),
            ..never
        };
        let all = [
            (REQUEST_LOST, never),
            ("sends, and it is made", at_once),
            (MADE_LATER, late),
        ];
        all.map(|(what, exchange)| {
            let mut next = world.clone();
            next.documents += u32::from(exchange.made);
            next.workers[number] = Some(Rc::new(Worker {
                doing: Doing::Sending(exchange),
                ..worker.clone()
            }));
            (what, next)
        })
        .into()
    }

    /// Stores a step as the register does: if the record is still as the worker read it.
    fn stores(
        &self,
        world: &World,
        number: usize,
        worker: &Worker,
        step: &Move<()>,
    ) -> (&'static str, World) {
        if self.given.conditions && worker.revision != world.revision {
            let overtaken = self.told(world, number, worker.clone(), Heard::Overtaken);
            return ("is overtaken", overtaken);
        }
        let mut next = world.clone();
        let event = step.event();
        let Ok(mut after) = worker
            .effect
            .after(&event, self.clock(world, number), &self.timing)
        else {
            // The claim was not stored, where that guard is gone: nothing is written, and the run fails.
            next.workers[number] = None;
            return ("cannot store what it knows", next);
        };
        if after.status == EffectStatus::Withdrawn {
            after = Self::ready(world.now).succeeding(Some(&after));
        }
        next.effect = Rc::new(after);
        next.revision += 1;
        let stored = Worker {
            drive: worker.drive.clone(),
            effect: Rc::clone(&next.effect),
            revision: next.revision,
            doing: Doing::Hear,
        };
        // Whoever is to send now may be asleep before it hears that. Before anything else it might as well be asleep later.
        match event {
            EffectEvent::Intended { .. } | EffectEvent::IntendedAgain => {
                next.workers[number] = Some(Rc::new(stored));
                (event.name(), next)
            }
            _ => (event.name(), self.told(&next, number, stored, Heard::Stored)),
        }
    }

    /// The caller is gone or has given up: no byte leaves after that, and what still comes, comes within the lateness.
    fn given_up(&self, world: &World, exchange: Exchange) -> World {
        let mut next = world.clone();
        if let Some(appears) = exchange.appears {
            let latest = world.now.plus_millis(self.timing.commit_lateness_millis);
            next.late.push(if self.given.late_bytes {
                appears.plus_millis(self.timing.lease_millis)
            } else {
                appears.min(latest)
            });
            next.late.sort_unstable();
        }
        next
    }

    /// Every world that anything at all can lead to, and what happened.
    fn next(&self, world: &World) -> Vec<(Happened, World)> {
        let mut all = Vec::new();
        for (number, worker) in world.workers.iter().enumerate() {
            let mut steps = self.steps(world, number);
            if let Some(worker) = worker {
                let mut dead = match worker.doing {
                    Doing::Sending(exchange) => self.given_up(world, exchange),
                    _ => world.clone(),
                };
                dead.workers[number] = None;
                steps.push((DIES, dead));
                // Before any other step of a worker it makes no difference.
                if worker.revision == world.revision && matches!(worker.doing, Doing::Store(_)) {
                    let mut changed = world.clone();
                    changed.revision += 1;
                    steps.push((RECORD_CHANGES, changed));
                }
            }
            for (what, mut next) in steps {
                if FAULTS.contains(&what) {
                    match next.faults {
                        Some(0) => continue,
                        left => next.faults = left.map(|left| left - 1),
                    }
                }
                all.push(((Some(number), what), next));
            }
        }
        if let Some(soonest) = next_landing(world) {
            all.push(((None, "it lands"), landed(world, soonest)));
        }
        // Between the check of the lease and the first byte no time passes that the lease does not allow for: the platform
        // ends whoever is stopped there.
        let about_to_send = world
            .workers
            .iter()
            .flatten()
            .any(|worker| matches!(worker.doing, Doing::Send));
        if let Some(moment) = self
            .next_moment(world)
            .filter(|_| !about_to_send || self.given.stops_before_the_first_byte)
        {
            let mut later = landed(world, moment);
            later.now = moment;
            all.push(((None, "time passes"), later));
        }
        all
    }

    /// The next instant at which something can be otherwise, for somebody who comes or for somebody who was asleep.
    fn next_moment(&self, world: &World) -> Option<Timestamp> {
        let clocks = (0..world.workers.len()).flat_map(|number| {
            let step = world.effect.step(self.clock(world, number), &self.timing);
            let waits = match step {
                Step::Wait(until) | Step::LookEarly { settled: until } => Some(until),
                _ => None,
            };
            let too_late = world.effect.send_deadline(&self.timing).plus_millis(1);
            let ahead = self.ahead(number);
            waits
                .into_iter()
                .chain([too_late])
                .map(move |until| until.plus_millis(-ahead))
        });
        let exchanges = world
            .workers
            .iter()
            .flatten()
            .filter_map(|worker| match worker.doing {
                Doing::Sending(exchange) if exchange.until >= world.now => {
                    Some(exchange.until.plus_millis(1))
                }
                Doing::Sending(exchange) => exchange.appears,
                _ => None,
            });
        let moments = clocks.chain(exchanges).chain(world.late.iter().copied());
        let soonest = moments.filter(|moment| *moment > world.now).min()?;
        let past_a_step = soonest.0.checked_rem_euclid(GRAIN_MILLIS).unwrap_or(0);
        Some(match past_a_step {
            0 => soonest,
            past => soonest.plus_millis(GRAIN_MILLIS - past),
        })
    }

    /// What makes two worlds the same for everything that can still happen: times from now on, fences against the stored
    /// one, and of what a worker has read only whether it is still so.
    fn essence(&self, world: &World) -> u128 {
        let mut essence = Essence {
            now: world.now.0,
            fence: i64::try_from(world.effect.fence).unwrap(),
            counts: Counts::Plain,
            bytes: Vec::with_capacity(1_024),
        };
        essence.effect(&world.effect);
        for worker in &world.workers {
            let Some(worker) = worker else {
                essence.bytes.push(0);
                continue;
            };
            // What rests on a record that has changed since is not stored; and whose claim is over, stores nothing at all.
            let overtaken = self.given.conditions && worker.revision != world.revision;
            let is_over = worker.effect.fence < world.effect.fence
                && stands(Guard::Fence)
                && stands(Guard::IntentFirst);
            match worker.doing {
                Doing::LookUp { .. } | Doing::Store(_) | Doing::Read if overtaken && is_over => {
                    essence.bytes.push(1);
                }
                Doing::Sending(exchange) if overtaken && is_over => {
                    write!(essence, "{exchange:?}").unwrap();
                }
                _ => {
                    write!(essence, "{:?}{:?}", worker.drive, worker.doing).unwrap();
                    essence.number(i64::from(worker.revision == world.revision));
                    if !overtaken {
                        essence.effect(&worker.effect);
                    }
                }
            }
        }
        for at in &world.late {
            essence.time(*at);
        }
        essence.number(i64::from(world.documents));
        essence.number(world.faults.map_or(-1, i64::from));
        essence.number(i64::from(world.impossible));
        essence.hash()
    }
}

fn problem() -> Problem {
    Problem::new("X", "")
}

/// When the next of what is on its way lands at the latest. It may land at any time before.
fn next_landing(world: &World) -> Option<Timestamp> {
    let sent = world
        .workers
        .iter()
        .flatten()
        .filter_map(|worker| match worker.doing {
            Doing::Sending(exchange) => exchange.appears,
            _ => None,
        });
    sent.chain(world.late.iter().copied()).min()
}

/// The world once everything has landed that must have landed by then.
fn landed(world: &World, moment: Timestamp) -> World {
    let mut landed = world.clone();
    landed.late.retain(|at| *at > moment);
    landed.documents += u32::try_from(world.late.len() - landed.late.len()).unwrap();
    for worker in landed.workers.iter_mut().flatten() {
        if let Doing::Sending(exchange) = worker.doing
            && exchange.appears.is_some_and(|at| at <= moment)
        {
            let made = Exchange {
                appears: None,
                made: true,
                ..exchange
            };
            Rc::make_mut(worker).doing = Doing::Sending(made);
            landed.documents += 1;
        }
    }
    landed
}

/// What the next number of a drive's text counts.
enum Counts {
    Plain,
    Time,
    /// Not to be tried before then: over as soon as it is reached.
    NotBefore,
    Fence,
    Tries,
    /// Of no matter to what happens next: a drive without turns ends, as one that dies does.
    Nothing,
}

/// A world, digested. What a drive holds is its own: it is read off its text.
struct Essence {
    now: i64,
    fence: i64,
    counts: Counts,
    bytes: Vec<u8>,
}

impl std::fmt::Write for Essence {
    fn write_str(&mut self, piece: &str) -> std::fmt::Result {
        let is_number = piece.as_bytes().first().is_some_and(u8::is_ascii_digit);
        let Some(number) = is_number.then(|| piece.parse::<i64>().unwrap_or(i64::MAX)) else {
            match piece {
                "not_before" => self.counts = Counts::NotBefore,
                "Timestamp" if matches!(self.counts, Counts::NotBefore) => {}
                "Timestamp" => self.counts = Counts::Time,
                "fence" => self.counts = Counts::Fence,
                "setbacks" => self.counts = Counts::Tries,
                "turns" => self.counts = Counts::Nothing,
                _ => {}
            }
            self.bytes.extend_from_slice(piece.as_bytes());
            return Ok(());
        };
        match std::mem::replace(&mut self.counts, Counts::Plain) {
            Counts::Plain => self.number(number),
            Counts::Time => self.time(Timestamp(number)),
            Counts::NotBefore => self.not_before(Timestamp(number)),
            Counts::Fence => self.number((number - self.fence).signum()),
            Counts::Tries => self.number(number.min(TRIES_MAX)),
            Counts::Nothing => {}
        }
        Ok(())
    }
}

impl Essence {
    fn number(&mut self, number: i64) {
        self.bytes.extend_from_slice(&number.to_le_bytes());
    }

    fn time(&mut self, at: Timestamp) {
        self.number(at.0.saturating_sub(self.now).clamp(PAST_MILLIS, FAR_MILLIS));
    }

    fn not_before(&mut self, at: Timestamp) {
        self.time(at.max(Timestamp(self.now)));
    }

    fn effect(&mut self, effect: &Effect) {
        self.number(effect.status as i64);
        self.number((i64::try_from(effect.fence).unwrap() - self.fence).signum());
        self.number(i64::from(effect.holder.is_empty()));
        for at in [effect.lease_until, effect.settle_until] {
            self.time(at);
        }
        self.not_before(effect.not_before);
        for tries in [effect.setbacks, effect.early_looks] {
            self.number(i64::from(tries).min(TRIES_MAX));
        }
    }

    /// Wide enough that no two worlds are taken for one.
    fn hash(&self) -> u128 {
        let [one, other] = [0, 1].map(|salt| {
            let mut hasher = DefaultHasher::new();
            hasher.write_u8(salt);
            hasher.write(&self.bytes);
            u128::from(hasher.finish())
        });
        (one << 64) | other
    }
}

/// What was explored.
#[derive(Debug, Default)]
pub(crate) struct Explored {
    pub worlds: usize,
    /// The shortest history to two documents.
    pub two_documents: Option<Vec<String>>,
    done_without_document: bool,
    stuck: bool,
    impossible: bool,
    unfinished: bool,
    done: usize,
}

/// How a world was reached: from which, and what happened.
type Reached = HashMap<u128, (u128, Happened)>;

/// What happened, from the beginning to this world.
fn history(reached: &Reached, mut essence: u128) -> Vec<String> {
    let mut history = Vec::new();
    while let Some((before, (who, what))) = reached.get(&essence)
        && *before != essence
    {
        history.push(match who {
            Some(number) => format!("worker {number} {what}"),
            None => (*what).to_owned(),
        });
        essence = *before;
    }
    history.reverse();
    history
}

pub(crate) fn explore(given: Given) -> Explored {
    let model = Model {
        given,
        timing: short(),
    };
    let first = World {
        now: BEGINNING,
        effect: Rc::new(Model::ready(BEGINNING)),
        revision: 1,
        documents: u32::from(given.keyed_by_hand),
        late: Vec::new(),
        workers: [None, None],
        faults: given.faults_max,
        impossible: false,
    };
    let beginning = model.essence(&first);
    let mut reached = Reached::from([(beginning, (beginning, (None, "")))]);
    let mut waiting = VecDeque::from([(beginning, first)]);
    let mut explored = Explored::default();
    while let Some((essence, world)) = waiting.pop_front() {
        explored.worlds += 1;
        explored.impossible |= world.impossible;
        if world.documents > 1 {
            explored.two_documents = Some(history(&reached, essence));
            return explored;
        }
        if explored.worlds >= WORLDS_MAX {
            explored.unfinished = true;
            return explored;
        }
        if world.effect.status == EffectStatus::Done {
            explored.done += 1;
            explored.done_without_document |= world.documents == 0;
        }
        let next = model.next(&world);
        explored.stuck |= next.is_empty() && !world.effect.is_finished();
        for (what, world) in next {
            let after = model.essence(&world);
            if let std::collections::hash_map::Entry::Vacant(place) = reached.entry(after) {
                place.insert((essence, what));
                waiting.push_back((after, world));
            }
        }
    }
    explored
}

/// A debug build lets one thing go wrong in a history, a release build as much as can.
fn faults_max() -> Option<u32> {
    cfg!(debug_assertions).then_some(1)
}

#[test]
fn no_history_of_two_workers_makes_two_documents() {
    for anew in [false, true] {
        let explored = explore(Given {
            anew,
            faults_max: faults_max(),
            ..Given::usual()
        });
        println!("decided anew when absent {anew}: {explored:?}");
        assert_eq!(explored.two_documents, None, "two documents");
        assert!(!explored.unfinished, "the search has not ended");
        assert!(!explored.done_without_document, "done, and QAD has nothing");
        assert!(!explored.impossible, "a step that the effect does not know");
        assert!(!explored.stuck, "a history without end and without a next step");
        assert!(explored.worlds > 20_000 && explored.done > 500, "{explored:?}");
    }
}

#[test]
fn what_somebody_has_keyed_before_is_never_made_again() {
    let keyed = Given {
        keyed_by_hand: true,
        faults_max: faults_max(),
        ..Given::usual()
    };
    let explored = explore(keyed);
    assert!(
        explored.two_documents.is_none() && !explored.unfinished,
        "{explored:?}"
    );
    assert!(explored.done > 10, "{explored:?}");
}

/// What no code can guard is an assumption, and each of them is needed.
#[test]
fn what_the_world_no_longer_grants_makes_two_documents() {
    let usual = Given::usual();
    let skew_millis = 40 * GRAIN_MILLIS;
    for (what, given) in [
        ("clocks that agree", Given { skew_millis, ..usual }),
        (
            "a platform that ends whoever is stopped before the first byte",
            Given {
                stops_before_the_first_byte: true,
                ..usual
            },
        ),
        (
            "a line that is cut when a request is given up",
            Given {
                late_bytes: true,
                ..usual
            },
        ),
    ] {
        let explored = explore(given);
        println!("without {what}: {explored:#?}");
        assert!(
            explored.two_documents.is_some(),
            "without {what} there never were two documents"
        );
    }
}
