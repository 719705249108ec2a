use super::*;
use crate::effect::{EffectStatus, Repetition};

const NOW: Timestamp = Timestamp(1_774_000_000_000);

/// What the other system shows of it in these tests: a number.
type Shown = u32;

/// A shell that stores what it is asked to store, and whose clock moves only when it is told to.
struct Shell {
    drive: Drive<Shown>,
    effect: Effect,
    now: Timestamp,
    deadline: Timestamp,
    timing: Timing,
}

impl Shell {
    fn of(effect: Effect, manner: Manner) -> Self {
        Self {
            drive: Drive::new(manner, "a".into(), 0),
            effect,
            now: NOW,
            deadline: Timestamp(i64::MAX),
            timing: Timing::default(),
        }
    }

    fn new(manner: Manner) -> Self {
        Self::of(ready(Repetition::OnlyAfterLookUp), manner)
    }

    fn hears(&mut self, heard: Heard<Shown>) -> Ask<Shown> {
        let at = Moment {
            now: self.now,
            deadline: self.deadline,
            timing: &self.timing,
        };
        self.drive.next(heard, Some(&self.effect), &at)
    }

    fn begins(&mut self) -> Ask<Shown> {
        self.hears(Heard::Begun)
    }

    /// A worker that comes later.
    fn comes_back(&mut self, now: Timestamp) -> Ask<Shown> {
        self.drive = Drive::new(self.drive.manner, "b".into(), 0);
        self.now = now;
        self.begins()
    }

    fn finds(&mut self, finding: Finding<Shown>) -> Ask<Shown> {
        self.hears(Heard::LookedUp(Ok(finding)))
    }

    /// Stores what it is asked to store, which must be this step.
    fn stored(&mut self, step: &str, ask: Ask<Shown>) -> Option<End<Shown>> {
        let Ask::Store(wanted) = ask else {
            panic!("{step} expected: {ask:?}");
        };
        let event = wanted.event();
        assert_eq!(event.name(), step);
        self.effect = self.effect.after(&event, self.now, &self.timing).unwrap();
        match wanted {
            Move::Step(_) => None,
            Move::End(end) => Some(end),
        }
    }

    /// The same, and hears that it is stored.
    fn stores(&mut self, step: &str, ask: Ask<Shown>) -> (Option<End<Shown>>, Ask<Shown>) {
        (self.stored(step, ask), self.hears(Heard::Stored))
    }

    /// As far as the send of something that is not there yet.
    fn sends(&mut self) {
        assert_eq!(self.begins(), Ask::LookUp);
        let claim = self.finds(Finding::Nothing);
        assert_eq!(self.stores("intended", claim), (None, Ask::Send));
    }

    fn settled(&self) -> Timestamp {
        match self.effect.step(self.effect.not_before, &self.timing) {
            Step::LookEarly { settled } => settled,
            step => panic!("{step:?}"),
        }
    }

    /// As far as the first look-up after a lost answer.
    fn looks_early(&mut self) {
        self.sends();
        let lost = self.hears(Heard::Sent(Err(WriteError::Unknown(problem("TIMEOUT")))));
        assert_eq!(
            self.stores("may-have-happened", lost),
            (None, Ask::Over(Over::Later))
        );
        let first = self.comes_back(self.now.plus_millis(1_000));
        assert_eq!(self.stores("looked-early", first), (None, Ask::LookUp));
    }

    /// The same, once nothing of it can land any more.
    fn looks_at_last(&mut self) {
        self.looks_early();
        assert_eq!(self.finds(Finding::Nothing), Ask::Over(Over::Later));
        let claim = self.comes_back(self.settled());
        assert_eq!(self.stores("look-up-claimed", claim), (None, Ask::LookUp));
    }
}

fn ready(repetition: Repetition) -> Effect {
    Effect::ready(
        "k".into(),
        repetition,
        String::new(),
        String::new(),
        String::new(),
        NOW,
    )
}

fn problem(code: &str) -> Problem {
    Problem::new(code, "")
}

fn anew() -> Manner {
    Manner {
        anew_when_absent: true,
        ..Manner::default()
    }
}

fn ours(answer: Shown) -> Finding<Shown> {
    Finding::There {
        answer,
        adopted: false,
    }
}

fn strangers(answer: Shown) -> Finding<Shown> {
    Finding::There {
        answer,
        adopted: true,
    }
}

fn two() -> Finding<Shown> {
    Finding::Park {
        problem: problem("TWO"),
        answer: Some(9),
    }
}

fn unavailable(retry_after: Option<Duration>) -> ReadError {
    ReadError::Unavailable {
        retry_after,
        problem: problem("DOWN"),
    }
}

fn no_answers() -> [ReadError; 3] {
    [
        unavailable(None),
        ReadError::Unreadable(problem("ODD")),
        ReadError::Refused(problem("NO_PERMISSION")),
    ]
}

fn proven(answer: Shown, proof: Proof) -> Option<End<Shown>> {
    Some(End::There { answer, proof })
}

fn parked(code: &str, answer: Option<Shown>) -> Option<End<Shown>> {
    Some(End::Parked {
        problem: problem(code),
        answer,
    })
}

#[test]
fn it_is_looked_up_then_claimed_then_sent_and_then_done() {
    let mut shell = Shell::new(Manner::default());
    shell.sends();
    let confirmed = shell.hears(Heard::Sent(Ok(ours(7))));
    let done = (proven(7, Proof::Confirmed), Ask::Over(Over::Finished));
    assert_eq!(shell.stores("confirmed", confirmed), done);
}

#[test]
fn nothing_is_sent_or_looked_up_under_a_claim_that_is_not_stored() {
    let mut shell = Shell::new(Manner::default());
    shell.begins();
    assert!(matches!(shell.finds(Finding::Nothing), Ask::Store(_)));
    assert_eq!(shell.hears(Heard::Overtaken), Ask::Over(Over::Busy));

    let mut late = Shell::new(Manner::default());
    late.looks_at_last();
    let again = late.finds(Finding::Nothing);
    assert!(matches!(again, Ask::Store(ref step) if step.event().name() == "intended-again"));
    assert_eq!(late.hears(Heard::Overtaken), Ask::Over(Over::Busy));
}

#[test]
fn what_may_be_repeated_is_claimed_without_a_look() {
    let mut shell = Shell::of(ready(Repetition::Harmless), Manner::default());
    let claim = shell.begins();
    assert_eq!(shell.stores("intended", claim), (None, Ask::Send));
}

#[test]
fn no_byte_leaves_when_the_exchange_could_outlast_the_lease() {
    for (late_millis, in_time) in [(0, true), (1, false)] {
        let mut shell = Shell::new(Manner::default());
        shell.begins();
        let claim = shell.finds(Finding::Nothing);
        shell.stored("intended", claim);
        shell.now = shell.effect.send_deadline(&shell.timing).plus_millis(late_millis);
        let ask = shell.hears(Heard::Stored);
        if in_time {
            assert_eq!(ask, Ask::Send);
        } else {
            assert_eq!(shell.stored("not-applied", ask), None);
            let begun_at_once = (EffectStatus::Ready, shell.now);
            assert_eq!((shell.effect.status, shell.effect.not_before), begun_at_once);
        }
    }
}

#[test]
fn nothing_is_begun_that_could_outlast_the_invocation() {
    let mut shell = Shell::new(Manner::default());
    shell.deadline = NOW.plus_millis(shell.timing.http_millis - 1);
    assert_eq!(shell.begins(), Ask::Over(Over::OutOfTime));
    let mut shell = Shell::new(Manner::default());
    shell.deadline = NOW.plus_millis(shell.timing.http_millis);
    assert_eq!(shell.begins(), Ask::LookUp);
    let claim = shell.finds(Finding::Nothing);
    shell.stored("intended", claim);
    shell.now = NOW.plus_millis(1);
    let instead = shell.hears(Heard::Stored);
    assert!(matches!(instead, Ask::Store(ref step) if step.event().name() == "not-applied"));
}

#[test]
fn before_the_first_send_a_look_decides() {
    for (finding, step, end) in [
        (ours(7), "confirmed", proven(7, Proof::Found)),
        (strangers(8), "confirmed", proven(8, Proof::Adopted)),
        (two(), "parked", parked("TWO", Some(9))),
    ] {
        let mut shell = Shell::new(Manner::default());
        shell.begins();
        let found = shell.finds(finding);
        assert_eq!(shell.stores(step, found), (end, Ask::Over(Over::Finished)));
        assert_eq!(shell.effect.attempts, 0);
    }
}

#[test]
fn a_first_look_up_without_an_answer_sends_nothing() {
    for error in no_answers() {
        let (step, end) = match &error {
            ReadError::Refused(_) => ("parked", parked("NO_PERMISSION", None)),
            ReadError::Unavailable { .. } | ReadError::Unreadable(_) => ("not-applied", None),
        };
        let mut shell = Shell::new(Manner::default());
        shell.begins();
        let told = shell.hears(Heard::LookedUp(Err(error.clone())));
        let (stored, next) = shell.stores(step, told);
        assert_eq!(stored, end);
        assert!(matches!(next, Ask::Over(_)), "{error:?}: {next:?}");
        assert_eq!(shell.effect.attempts, 0, "{error:?}");
    }
    let mut shell = Shell::new(Manner::default());
    shell.begins();
    let told = shell.finds(Finding::Unclear(problem("ODD")));
    assert_eq!(shell.stores("not-applied", told).0, None);
}

#[test]
fn a_first_look_up_that_the_connection_lacks_a_right_for_comes_again_for_a_day() {
    let refused = || Heard::LookedUp(Err(ReadError::Refused(problem("QAD_PERMISSION_DENIED"))));
    let mut shell = Shell::new(Manner::default());
    // What an outage has cost before does not count.
    shell.effect.setbacks = 1_000;
    shell.effect.problem = Some(problem("DOWN"));
    for refusals in 0..290 {
        assert!(shell.effect.setbacks == refusals || refusals == 0);
        shell.comes_back(shell.effect.not_before);
        let told = shell.hears(refused());
        assert_eq!(shell.stores("not-applied", told).0, None);
    }
    shell.comes_back(shell.effect.not_before);
    let told = shell.hears(refused());
    assert_eq!(
        shell.stores("parked", told).0,
        parked("QAD_PERMISSION_DENIED", None)
    );
    assert_eq!(shell.effect.attempts, 0);
}

#[test]
fn after_a_lost_answer_a_yes_counts_at_once() {
    let mut shell = Shell::new(anew());
    shell.looks_early();
    assert!(shell.now < shell.settled());
    let found = shell.finds(ours(7));
    let done = (proven(7, Proof::Found), Ask::Over(Over::Finished));
    assert_eq!(shell.stores("confirmed", found), done);
}

#[test]
fn after_a_lost_answer_nothing_else_counts_before_the_settle_window() {
    let nothing = [
        Ok(Finding::Nothing),
        Ok(strangers(8)),
        Ok(two()),
        Ok(Finding::Unclear(problem("ODD"))),
    ];
    let silent = no_answers().map(Err);
    for found in nothing.into_iter().chain(silent) {
        for manner in [Manner::default(), anew()] {
            let mut shell = Shell::new(manner);
            shell.looks_early();
            let before = shell.effect.clone();
            let next = shell.hears(Heard::LookedUp(found.clone()));
            assert_eq!(next, Ask::Over(Over::Later), "{found:?}");
            assert_eq!(shell.effect, before);
        }
    }
}

#[test]
fn who_looks_early_stores_first_when_to_look_next_and_looks_ever_more_rarely() {
    let mut shell = Shell::new(anew());
    shell.looks_early();
    let settled = shell.settled();
    let mut waits = Vec::new();
    while shell.effect.not_before < settled {
        waits.push(shell.effect.not_before.0 - shell.now.0);
        assert_eq!(shell.finds(Finding::Nothing), Ask::Over(Over::Later));
        let next = shell.comes_back(shell.effect.not_before);
        assert_eq!(shell.stores("looked-early", next), (None, Ask::LookUp));
    }
    assert_eq!(waits[..4], [1_000, 2_000, 4_000, 8_000]);
    assert_eq!(waits.last(), Some(&300_000));
    assert_eq!(shell.effect.not_before, settled, "and never beyond the window");
}

#[test]
fn what_is_absent_after_the_settle_window_is_decided_anew_or_sent_again() {
    let mut invoice = Shell::new(anew());
    invoice.looks_at_last();
    let absent = invoice.finds(Finding::Nothing);
    let given_up = (Some(End::Absent), Ask::Over(Over::Finished));
    assert_eq!(invoice.stores("proven-absent", absent), given_up);

    let mut payment = Shell::new(Manner::default());
    payment.looks_at_last();
    let again = payment.finds(Finding::Nothing);
    assert_eq!(payment.stores("intended-again", again), (None, Ask::Send));
    assert_eq!(payment.effect.attempts, 2);
}

#[test]
fn ours_a_strangers_and_two_count_after_the_settle_window() {
    for (finding, step, end) in [
        (ours(7), "confirmed", proven(7, Proof::Found)),
        (strangers(8), "confirmed", proven(8, Proof::Adopted)),
        (two(), "parked", parked("TWO", Some(9))),
    ] {
        let mut shell = Shell::new(anew());
        shell.looks_at_last();
        let found = shell.finds(finding);
        assert_eq!(shell.stores(step, found), (end, Ask::Over(Over::Finished)));
    }
}

#[test]
fn a_look_up_without_an_answer_leaves_it_unknown() {
    let unclear = Ok(Finding::Unclear(problem("ODD")));
    for found in no_answers().map(Err).into_iter().chain([unclear]) {
        let mut shell = Shell::new(Manner::default());
        shell.looks_at_last();
        let told = shell.hears(Heard::LookedUp(found.clone()));
        assert_eq!(
            shell.stores("look-up-failed", told),
            (None, Ask::Over(Over::Later)),
            "{found:?}"
        );
        let still = (EffectStatus::Unknown, 1);
        assert_eq!((shell.effect.status, shell.effect.attempts), still, "{found:?}");
    }
}

#[test]
fn what_was_not_applied_waits_as_long_as_it_was_asked_to_and_at_most_an_hour() {
    for (asked, waits_millis) in [
        (None, 1_000),
        (Some(Duration::from_secs(90)), 90_000),
        (Some(Duration::from_secs(9_000)), 3_600_000),
        (Some(Duration::MAX), 3_600_000),
    ] {
        let mut shell = Shell::new(Manner::default());
        shell.sends();
        let declined = shell.hears(Heard::Sent(Err(WriteError::NotApplied {
            retry_after: asked,
            problem: problem("BUSY"),
        })));
        shell.stores("not-applied", declined);
        let waits = (EffectStatus::Ready, NOW.plus_millis(waits_millis));
        assert_eq!((shell.effect.status, shell.effect.not_before), waits, "{asked:?}");
    }
}

#[test]
fn a_silent_look_up_waits_as_long_as_it_was_asked_to() {
    let asked = || Heard::LookedUp(Err(unavailable(Some(Duration::from_secs(90)))));
    let mut first = Shell::new(Manner::default());
    first.begins();
    let told = first.hears(asked());
    first.stores("not-applied", told);
    let mut last = Shell::new(Manner::default());
    last.looks_at_last();
    let told = last.hears(asked());
    last.stores("look-up-failed", told);
    for shell in [first, last] {
        assert_eq!(shell.effect.not_before, shell.now.plus_millis(90_000));
    }
}

#[test]
fn the_jitter_adds_up_to_a_quarter() {
    let waits = |jitter| after_wait(NOW, 3, None, jitter).0 - NOW.0;
    assert_eq!(
        [0, 500, 1_000, u16::MAX].map(waits),
        [8_000, 9_000, 10_000, 10_000]
    );
}

#[test]
fn a_refusal_ends_it_unless_it_is_asked_again() {
    let refused = |code: &str| Heard::Sent(Err(WriteError::Refused(problem(code))));
    let mut shell = Shell::new(Manner::default());
    shell.sends();
    let told = shell.hears(refused("WRONG"));
    let end = Some(End::Refused(problem("WRONG")));
    assert_eq!(shell.stores("refused", told), (end, Ask::Over(Over::Finished)));

    let mut patient = Shell::new(Manner {
        asks_again_after_millis: Some(77_000),
        ..Manner::default()
    });
    patient.sends();
    let told = patient.hears(refused("WRONG"));
    patient.stores("not-applied", told);
    assert_eq!(patient.effect.not_before, NOW.plus_millis(77_000));

    let mut secret = Shell::new(Manner::default());
    secret.sends();
    let told = secret.hears(refused("QAD_CREDENTIAL_REFUSED"));
    secret.stores("not-applied", told);
    assert_eq!(
        secret.effect.status,
        EffectStatus::Ready,
        "it goes on once the secret is right"
    );
}

#[test]
fn what_was_just_sent_is_ours_however_it_is_echoed_and_may_be_parked() {
    for (answer, step, end) in [
        (strangers(7), "confirmed", proven(7, Proof::Confirmed)),
        (two(), "parked", parked("TWO", Some(9))),
    ] {
        let mut shell = Shell::new(Manner::default());
        shell.sends();
        let told = shell.hears(Heard::Sent(Ok(answer)));
        assert_eq!(shell.stores(step, told).0, end);
    }
}

#[test]
fn an_answer_that_proves_nothing_is_a_lost_one() {
    for answer in [Finding::Nothing, Finding::Unclear(problem("ODD"))] {
        let mut shell = Shell::new(Manner::default());
        shell.sends();
        let told = shell.hears(Heard::Sent(Ok(answer)));
        shell.stores("may-have-happened", told);
        assert_eq!(shell.effect.status, EffectStatus::Unknown);
    }
}

#[test]
fn an_outcome_that_was_overtaken_is_stored_under_its_own_claim_alone() {
    type Meanwhile = fn(&mut Effect);
    let same: Meanwhile = |_| {};
    let newer: Meanwhile = |effect| effect.fence += 1;
    let finished: Meanwhile = |effect| effect.status = EffectStatus::Done;
    for (meanwhile, is_ours) in [(same, true), (newer, false), (finished, false)] {
        let mut shell = Shell::new(Manner::default());
        shell.sends();
        let first = shell.hears(Heard::Sent(Ok(ours(7))));
        assert_eq!(shell.hears(Heard::Overtaken), Ask::Read(0));
        meanwhile(&mut shell.effect);
        let next = shell.hears(Heard::Read);
        if is_ours {
            assert_eq!(next, first);
            assert_eq!(shell.stores("confirmed", next).0, proven(7, Proof::Confirmed));
        } else {
            assert_eq!(next, Ask::Over(Over::Busy));
        }
    }
}

#[test]
fn an_outcome_whose_record_is_gone_is_nobodys() {
    let mut shell = Shell::new(Manner::default());
    shell.sends();
    shell.hears(Heard::Sent(Ok(ours(7))));
    shell.hears(Heard::Overtaken);
    let at = Moment {
        now: NOW,
        deadline: Timestamp(i64::MAX),
        timing: &Timing::default(),
    };
    assert_eq!(shell.drive.next(Heard::Read, None, &at), Ask::Over(Over::Busy));
    let mut nothing = Drive::<Shown>::new(Manner::default(), "a".into(), 0);
    assert_eq!(nothing.next(Heard::Begun, None, &at), Ask::Over(Over::Finished));
}

#[test]
fn an_outcome_is_not_stored_for_ever() {
    let mut shell = Shell::new(Manner::default());
    shell.sends();
    shell.hears(Heard::Sent(Ok(ours(7))));
    for tries in 0..STORE_TRIES_MAX {
        assert_eq!(shell.hears(Heard::Overtaken), Ask::Read(tries));
        let next = shell.hears(Heard::Read);
        if tries + 1 < STORE_TRIES_MAX {
            assert!(matches!(next, Ask::Store(_)), "{next:?}");
        } else {
            assert_eq!(next, Ask::Over(Over::Contended));
        }
    }
}

#[test]
fn a_drive_has_an_end() {
    let mut shell = Shell::of(ready(Repetition::Harmless), Manner::default());
    let mut ask = shell.begins();
    for turn in 1..=TURNS_MAX {
        assert_eq!(shell.stores("intended", ask), (None, Ask::Send), "{turn}");
        let declined = shell.hears(Heard::Sent(Err(WriteError::NotApplied {
            retry_after: None,
            problem: problem("BUSY"),
        })));
        shell.stored("not-applied", declined);
        shell.now = shell.effect.not_before;
        ask = shell.hears(Heard::Stored);
    }
    assert_eq!(ask, Ask::Over(Over::Contended));
}

#[test]
fn an_answer_to_what_was_not_asked_is_a_defect_and_nothing_is_done() {
    let mut shell = Shell::new(Manner::default());
    let ask = shell.hears(Heard::Sent(Ok(ours(7))));
    assert!(matches!(ask, Ask::Over(Over::Impossible(_))), "{ask:?}");
}

/// An effect that was claimed in the write that stored what it follows from.
fn handed(repetition: Repetition, holder: &str) -> Shell {
    let intended = EffectEvent::Intended {
        holder: holder.to_owned(),
    };
    let effect = ready(repetition).after(&intended, NOW, &Timing::default());
    let mut shell = Shell::of(effect.unwrap(), Manner::default());
    shell.drive = Drive::handed(Manner::default(), "a".to_owned(), 0);
    shell
}

#[test]
fn what_was_claimed_for_this_worker_is_sent_under_that_claim() {
    let mut shell = handed(Repetition::Harmless, "a");
    assert_eq!(shell.begins(), Ask::Send);
    let done = shell.hears(Heard::Sent(Ok(ours(1))));
    let (end, over) = shell.stores("confirmed", done);
    assert!(matches!(end, Some(End::There { .. })));
    assert_eq!(over, Ask::Over(Over::Finished));
    assert_eq!((shell.effect.attempts, shell.effect.fence), (1, 1));
}

#[test]
fn what_was_claimed_for_another_worker_waits_for_its_lease() {
    let mut shell = handed(Repetition::Harmless, "b");
    assert_eq!(shell.begins(), Ask::Over(Over::Later));
}

#[test]
fn what_must_be_looked_up_is_never_sent_because_it_was_handed_on() {
    let mut shell = handed(Repetition::OnlyAfterLookUp, "a");
    assert_eq!(shell.begins(), Ask::Over(Over::Later));
}

#[test]
fn what_was_handed_on_too_late_is_not_sent_under_that_claim() {
    let mut shell = handed(Repetition::Harmless, "a");
    shell.now = shell.effect.send_deadline(&shell.timing).plus_millis(1);
    let late = shell.begins();
    shell.stored("not-applied", late);
    assert_eq!(shell.effect.status, EffectStatus::Ready);
}
