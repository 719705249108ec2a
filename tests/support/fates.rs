//! What goes wrong: faults at chosen calls, and faults by chance.

#![allow(
    clippy::arithmetic_side_effects,
    reason = "a test that overflows must fail loudly"
)]

use crate::gate::{After, Before, Call, Fate, Method, Rng};

/// One fault at one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The call is not made; a write is unknown.
    LostBefore,
    /// The call is made; its answer is lost.
    LostAfter,
    /// The call is not made, and the other side says so.
    Declined,
    /// What the call writes appears at the very end of the commit lateness.
    Late,
    /// The worker dies before the call.
    CrashBefore,
    /// The worker dies after the call.
    CrashAfter,
    /// The call takes a minute to get there.
    Slow,
    /// The worker stops before the call, for longer than it may live, and then goes on.
    StallBefore,
    /// The worker stops after the call, for longer than it may live, and then goes on.
    StallAfter,
}

/// How long a slow call takes, in milliseconds.
const SLOW_MILLIS: i64 = 60_000;
/// How long a worker stops, in milliseconds.
const STALL_MILLIS: i64 = 600_000;

impl Fault {
    /// The kinds of fault that only matter when somebody else acts meanwhile.
    pub const PAUSES: [Self; 3] = [Self::Slow, Self::StallBefore, Self::StallAfter];

    /// Every kind of fault that the method can have.
    pub fn of(method: Method) -> Vec<Self> {
        let mut kinds = vec![
            Self::LostBefore,
            Self::LostAfter,
            Self::CrashBefore,
            Self::CrashAfter,
        ];
        if method.writes_elsewhere() || method.reads_elsewhere() {
            kinds.push(Self::Declined);
        }
        if method.lands_late() {
            kinds.push(Self::Late);
        }
        if method == Method::Sleep {
            kinds = vec![Self::CrashBefore];
        }
        kinds
    }
}

impl Fault {
    /// The kinds of fault of the method that differ from each other and from a fault at the call before: losing a read
    /// before and after is the same, and so is dying before this call and after the one before.
    pub fn distinct(method: Method) -> Vec<Self> {
        if method.writes_elsewhere() {
            let mut kinds = vec![
                Self::LostBefore,
                Self::LostAfter,
                Self::Declined,
                Self::CrashAfter,
            ];
            if method.lands_late() {
                kinds.push(Self::Late);
            }
            kinds
        } else {
            match method {
                Method::Commit | Method::SendHints => {
                    vec![Self::LostBefore, Self::LostAfter, Self::CrashAfter]
                }
                Method::Sleep => vec![Self::CrashBefore],
                _ => vec![Self::LostBefore, Self::CrashAfter],
            }
        }
    }
}

/// Faults at chosen calls, by the calls' numbers; remembers which methods were called.
#[derive(Debug, Clone, Default)]
pub struct Script {
    /// Which call, which fault.
    pub faults: Vec<(u64, Fault)>,
    /// How late a late commit is, in milliseconds.
    pub lateness_millis: i64,
    /// The methods called so far, shared with the test.
    pub called: std::sync::Arc<std::sync::Mutex<Vec<Method>>>,
}

impl Script {
    fn fault(&self, call: &Call) -> Option<Fault> {
        self.faults
            .iter()
            .find(|(number, _)| *number == call.number)
            .map(|(_, fault)| *fault)
    }
}

impl Fate for Script {
    fn before(&mut self, call: &Call) -> Before {
        if let Ok(mut called) = self.called.lock() {
            called.push(call.method);
        }
        match self.fault(call) {
            Some(Fault::LostBefore) => Before::Lost,
            Some(Fault::Declined) => Before::Declined,
            Some(Fault::Late) => Before::Late(self.lateness_millis),
            Some(Fault::CrashBefore) => Before::Crash,
            Some(Fault::Slow) => Before::Slow(SLOW_MILLIS),
            Some(Fault::StallBefore) => Before::Stall(STALL_MILLIS),
            _ => Before::Proceed,
        }
    }

    fn after(&mut self, call: &Call) -> After {
        match self.fault(call) {
            Some(Fault::LostAfter) => After::Lost,
            Some(Fault::CrashAfter) => After::Crash,
            Some(Fault::StallAfter) => After::Stall(STALL_MILLIS),
            _ => After::Proceed,
        }
    }
}

/// How often what goes wrong, of a thousand calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Odds {
    /// A write to Coupa or QAD is lost on its way.
    pub write_lost: u64,
    /// The answer to a write is lost.
    pub answer_lost: u64,
    /// A create commits late.
    pub late: u64,
    /// A write is declined (401, 429, record in use).
    pub declined: u64,
    /// A read of Coupa or QAD gives no answer.
    pub read_lost: u64,
    /// The register gives no answer to a read.
    pub store_read_lost: u64,
    /// The register gives no answer to a commit, before or after doing it.
    pub commit_lost: u64,
    /// The worker dies, before and again after each call.
    pub crash: u64,
    /// The worker stops for up to [`Odds::stall_millis`], before and again after each call.
    pub stall: u64,
    /// Longest stall, in milliseconds.
    pub stall_millis: i64,
    /// A call is slow.
    pub slow: u64,
    /// Longest time a slow call takes, in milliseconds.
    pub slow_millis: i64,
    /// A hint is lost.
    pub hint_lost: u64,
    /// A hint arrives twice.
    pub hint_twice: u64,
    /// Longest a hint waits in the queue, in milliseconds.
    pub hint_millis: i64,
    /// Longest a create commits late, in milliseconds.
    pub late_millis: i64,
}

impl Odds {
    /// The full load: everything at once.
    pub fn heavy(late_millis: i64) -> Self {
        Self {
            write_lost: 80,
            answer_lost: 100,
            late: 150,
            declined: 60,
            read_lost: 80,
            store_read_lost: 10,
            commit_lost: 40,
            crash: 8,
            stall: 8,
            stall_millis: 600_000,
            slow: 150,
            slow_millis: 60_000,
            hint_lost: 50,
            hint_twice: 100,
            hint_millis: 60_000,
            late_millis,
        }
    }

    /// A random half of the full load: faults hide each other when all are there.
    pub fn swarm(rng: &mut Rng, late_millis: i64) -> Self {
        let full = Self::heavy(late_millis);
        let mut some = |chance: u64| if rng.per_mille(600) { chance } else { 0 };
        Self {
            write_lost: some(full.write_lost),
            answer_lost: some(full.answer_lost),
            late: some(full.late),
            declined: some(full.declined),
            read_lost: some(full.read_lost),
            store_read_lost: some(full.store_read_lost),
            commit_lost: some(full.commit_lost),
            crash: some(full.crash),
            stall: some(full.stall),
            slow: some(full.slow),
            hint_lost: some(full.hint_lost),
            hint_twice: some(full.hint_twice),
            ..full
        }
    }
}

/// What happened, to the call or the hint of this number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Happened {
    /// Before a call.
    Before(u64, Before),
    /// After a call.
    After(u64, After),
    /// To a hint: how many copies of it arrived.
    Hint(u64, u32),
}

/// Everything that happened, shared with whoever wants to know.
pub type History = std::sync::Arc<std::sync::Mutex<Vec<Happened>>>;

/// Faults by chance.
#[derive(Debug, Clone)]
pub struct Chaos {
    odds: Odds,
    rng: Rng,
    hints: u64,
    history: History,
}

impl Chaos {
    /// Faults with these odds, from a seed.
    pub fn new(odds: Odds, seed: u64) -> Self {
        Self {
            odds,
            rng: Rng::new(seed),
            hints: 0,
            history: History::default(),
        }
    }

    /// What has happened so far.
    pub fn history(&self) -> History {
        self.history.clone()
    }

    fn note(&self, happened: Happened) {
        if let Ok(mut history) = self.history.lock() {
            history.push(happened);
        }
    }

    fn draw_before(&mut self, call: &Call) -> Before {
        let odds = self.odds;
        let rng = &mut self.rng;
        if rng.per_mille(odds.crash) {
            return Before::Crash;
        }
        if rng.per_mille(odds.stall) {
            return Before::Stall(rng.millis(odds.stall_millis));
        }
        let method = call.method;
        if method.writes_elsewhere() {
            if rng.per_mille(odds.write_lost) {
                return Before::Lost;
            }
            if rng.per_mille(odds.declined) {
                return Before::Declined;
            }
            if method.lands_late() && rng.per_mille(odds.late) {
                return Before::Late(rng.millis(odds.late_millis));
            }
        }
        let lost = match method {
            Method::Commit => odds.commit_lost / 2,
            _ if method.is_register() || method == Method::SendHints => odds.store_read_lost,
            _ if method.reads_elsewhere() => odds.read_lost,
            _ => 0,
        };
        if rng.per_mille(lost) {
            return Before::Lost;
        }
        if rng.per_mille(odds.slow) {
            let longest = if method.is_register() {
                1_000
            } else {
                odds.slow_millis
            };
            return Before::Slow(rng.millis(longest));
        }
        Before::Proceed
    }

    fn draw_after(&mut self, call: &Call) -> After {
        let odds = self.odds;
        let rng = &mut self.rng;
        if rng.per_mille(odds.crash) {
            return After::Crash;
        }
        if rng.per_mille(odds.stall) {
            return After::Stall(rng.millis(odds.stall_millis));
        }
        let lost = match call.method {
            Method::Commit => odds.commit_lost / 2,
            method if method.writes_elsewhere() => odds.answer_lost,
            Method::SendHints => odds.store_read_lost,
            _ => 0,
        };
        if rng.per_mille(lost) {
            After::Lost
        } else {
            After::Proceed
        }
    }
}

impl Fate for Chaos {
    fn before(&mut self, call: &Call) -> Before {
        let before = self.draw_before(call);
        if before != Before::Proceed {
            self.note(Happened::Before(call.number, before));
        }
        before
    }

    fn after(&mut self, call: &Call) -> After {
        let after = self.draw_after(call);
        if after != After::Proceed {
            self.note(Happened::After(call.number, after));
        }
        after
    }

    fn hint(&mut self) -> (u32, i64) {
        let odds = self.odds;
        self.hints += 1;
        let copies = if self.rng.per_mille(odds.hint_lost) {
            0
        } else if self.rng.per_mille(odds.hint_twice) {
            2
        } else {
            1
        };
        if copies != 1 {
            self.note(Happened::Hint(self.hints, copies));
        }
        (copies, odds.hint_millis)
    }
}

/// The faults of a list and no others.
#[derive(Debug, Clone)]
pub struct Again {
    happened: Vec<Happened>,
    hints: u64,
    hint_millis: i64,
}

impl Again {
    /// These.
    pub fn new(happened: Vec<Happened>, hint_millis: i64) -> Self {
        Self {
            happened,
            hints: 0,
            hint_millis,
        }
    }
}

impl Fate for Again {
    fn before(&mut self, call: &Call) -> Before {
        let is_it = |one: &Happened| match one {
            Happened::Before(number, before) if *number == call.number => Some(*before),
            _ => None,
        };
        self.happened.iter().find_map(is_it).unwrap_or(Before::Proceed)
    }

    fn after(&mut self, call: &Call) -> After {
        let is_it = |one: &Happened| match one {
            Happened::After(number, after) if *number == call.number => Some(*after),
            _ => None,
        };
        self.happened.iter().find_map(is_it).unwrap_or(After::Proceed)
    }

    fn hint(&mut self) -> (u32, i64) {
        self.hints += 1;
        let is_it = |one: &Happened| match one {
            Happened::Hint(number, copies) if *number == self.hints => Some(*copies),
            _ => None,
        };
        let copies = self.happened.iter().find_map(is_it).unwrap_or(1);
        (copies, self.hint_millis)
    }
}
