use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;

const MINUTE: i64 = 60_000;
const LOOKUP: &str = "QAD Integration Owner";

fn value(id: u64, number: &str, name: &str) -> CoupaValue {
    CoupaValue {
        id,
        name: name.to_owned(),
        active: true,
        code: Some(number.to_owned()),
        external_ref_code: None,
        parent: None,
    }
}

fn mark(installation: &str, beat: &str, renewed: i64) -> Mark {
    Mark {
        installation: installation.to_owned(),
        connection: "acme".parse().unwrap(),
        renewed: Timestamp(renewed),
        beat: beat.to_owned(),
    }
}

#[test]
fn the_highest_epoch_counts_as_a_number_and_values_of_people_do_not() {
    let text = mark("one", "b1", 0).text();
    let values = [
        value(1, "owner-9", &text),
        value(2, "OWNER-10", &text),
        value(3, "owner-010", &text),
        value(4, "owner-", &text),
        value(5, "100", "100 Assembly"),
        value(6, "owner-99999999999999999999999", &text),
    ];
    let top = highest(&values);
    assert_eq!((top.len(), top[0].id, top[0].epoch), (1, 2, 10));
    assert_eq!(highest(&values[3..]), vec![]);
}

#[test]
fn a_mark_that_was_written_over_or_is_there_twice_is_nobody_elses_to_use() {
    let known = |beat: &str| beat == "b1";
    let ours = mark("one", "b1", 0).text();
    let alone = highest(&[value(1, "owner-3", &ours)]);
    assert!(matches!(
        standing(&alone, known),
        Standing::Ours { id: 1, epoch: 3, .. }
    ));
    let over = highest(&[value(1, "owner-3", "kim was here")]);
    assert_eq!(
        standing(&over, known),
        Standing::Another {
            epoch: 3,
            marks: vec![]
        }
    );
    let twice = highest(&[value(1, "owner-3", &ours), value(2, "owner-3", &ours)]);
    assert!(matches!(
        standing(&twice, known),
        Standing::Another { epoch: 3, .. }
    ));
    let beaten = highest(&[value(1, "owner-3", &ours), value(2, "owner-4", "kim was here")]);
    assert_eq!(
        standing(&beaten, known),
        Standing::Another {
            epoch: 4,
            marks: vec![]
        }
    );
    assert_eq!(standing(&[], known), Standing::Nobody);
}

#[test]
fn a_copy_of_a_register_does_not_know_the_beats_that_came_after_it() {
    let copy = Ownership::new("one".to_owned()).with_beat("b1".to_owned());
    let later = highest(&[value(1, "owner-1", &mark("one", "b2", 5).text())]);
    let seen = standing(&later, |beat| copy.beats.iter().any(|known| known == beat));
    let (after, events) = copy.after_look(&seen, LOOKUP, Timestamp(9));
    let stop = after.stop(Timestamp(9)).unwrap();
    assert_eq!(stop.code, OWNED_BY_ANOTHER);
    assert!(stop.actual.contains("another copy of this register"), "{stop}");
    assert!(matches!(events.as_slice(), [OwnerEvent::NotOwned { .. }]));
}

#[test]
fn renewals_that_are_lost_do_not_make_a_register_forget_the_beat_that_stands() {
    let standing_now = Standing::Ours {
        id: 1,
        epoch: 1,
        renewed: Timestamp(0),
        beat: "stands".to_owned(),
    };
    let first = Ownership::new("one".to_owned()).with_beat("stands".to_owned());
    let (mut register, _) = first.after_look(&standing_now, LOOKUP, Timestamp(0));
    for lost in 0..2 * BEATS_KEPT {
        register = register.with_beat(format!("lost-{lost}"));
        assert!(register.beats.len() <= BEATS_KEPT);
    }
    assert!(
        register.beats.contains(&"stands".to_owned()),
        "{:?}",
        register.beats
    );
    let newest = format!("lost-{}", 2 * BEATS_KEPT - 1);
    assert_eq!(register.beats.last(), Some(&newest));
}

#[test]
fn a_look_that_gives_no_answer_takes_nothing_and_gives_nothing() {
    let silent = Problem::new("COUPA_TIMEOUT", "");
    let fresh = Ownership::new("one".to_owned());
    let (unknown, _) = fresh.after_failure(&silent);
    assert_eq!(unknown.stop(Timestamp(0)).unwrap().code, MARK_UNKNOWN);
    assert_eq!(
        unknown.after_failure(&silent),
        (unknown.clone(), vec![]),
        "one entry"
    );
    let guarded_again = Ownership {
        state: OwnerState::Unguarded,
        ..fresh.clone()
    };
    assert_eq!(
        guarded_again
            .after_failure(&silent)
            .0
            .stop(Timestamp(0))
            .unwrap()
            .code,
        MARK_UNKNOWN
    );
    let ours = Ownership {
        state: OwnerState::Ours {
            epoch: 1,
            renewed: Timestamp(0),
            beat: String::new(),
        },
        ..fresh
    };
    let (still, events) = ours.after_failure(&silent);
    assert!(events.is_empty());
    assert_eq!(
        still.stop(Timestamp(HELD_MILLIS - 1)),
        None,
        "an outage is borne for a while"
    );
    assert_eq!(still.stop(Timestamp(HELD_MILLIS)).unwrap().code, MARK_NOT_RENEWED);
}

#[test]
fn whoever_may_be_taken_over_has_stopped_and_whatever_it_sent_has_come() {
    let longest = Timing {
        function_millis: 900_000,
        lease_millis: 1_000_000,
        commit_lateness_millis: crate::timing::CHAIN_MILLIS_MAX,
        ..Timing::default()
    };
    for timing in [Timing::default(), longest] {
        let sent_last = HELD_MILLIS + timing.function_millis;
        assert!(taken_over_after(&timing) >= sent_last + timing.settle_millis());
    }
    assert_eq!(taken_over_after(&Timing::default()), 120 * MINUTE);
    const { assert!(RENEWED_AFTER_MILLIS + 3 * LOOKED_AGAIN_AFTER_MILLIS < HELD_MILLIS) };
}

proptest! {
    #[test]
    fn a_mark_reads_back(installation in "[a-z0-9-]{1,36}", beat in "[a-z0-9-]{1,36}", renewed in 0_i64..4_000_000_000_000) {
        let mark = mark(&installation, &beat, renewed);
        prop_assert!(mark.text().chars().count() <= crate::lookups::NAME_CHARACTERS_MAX);
        prop_assert_eq!(Mark::read(&mark.text()), Some(mark));
    }

    #[test]
    fn no_text_makes_reading_it_panic(text in "(installation |connection |renewed |beat |, |\\PC){0,12}", number in "(owner-)?[0-9]{0,25}") {
        let _ = Mark::read(&text);
        let _ = highest(&[value(1, &number, &text)]);
    }
}

// ---------------------------------------------------------------------------------------------------------------
// Every order of what two installations can do
// ---------------------------------------------------------------------------------------------------------------

/// Coupa, a write that has not landed, and two registers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct World {
    now: i64,
    /// By epoch: Coupa takes a number once.
    marks: Vec<(u64, String)>,
    on_its_way: Option<(u64, String)>,
    /// As JSON, so that it can be compared.
    registers: [String; 2],
    tokens: u64,
}

#[derive(Debug, Clone, Copy)]
enum Act {
    /// Looks, and claims or renews, with every answer there.
    Watches(usize),
    /// The same, and its write gets no answer and lands later, if it still fits.
    WritesLate(usize),
    /// Gets no answer at all.
    LooksInVain(usize),
    /// A person gives the mark to it.
    Takes(usize),
    Lands,
    Passes(i64),
}

const ACTS: [Act; 12] = [
    Act::Watches(0),
    Act::Watches(1),
    Act::WritesLate(0),
    Act::WritesLate(1),
    Act::LooksInVain(0),
    Act::LooksInVain(1),
    Act::Takes(0),
    Act::Takes(1),
    Act::Lands,
    Act::Passes(RENEWED_AFTER_MILLIS),
    Act::Passes(HELD_MILLIS),
    Act::Passes(2 * HELD_MILLIS),
];

impl World {
    fn new() -> Self {
        let fresh = |name: &str| serde_json::to_string(&Ownership::new(name.to_owned())).unwrap();
        Self {
            now: 0,
            marks: vec![],
            on_its_way: None,
            registers: [fresh("a"), fresh("b")],
            tokens: 0,
        }
    }

    fn register(&self, which: usize) -> Ownership {
        serde_json::from_str(&self.registers[which]).unwrap()
    }

    fn keep(&mut self, which: usize, after: &Ownership) {
        self.registers[which] = serde_json::to_string(after).unwrap();
    }

    fn look(&self, register: &Ownership) -> (Standing, Vec<Mark>) {
        let values: Vec<CoupaValue> = (1..)
            .zip(&self.marks)
            .map(|(id, (epoch, name))| value(id, &number_of(*epoch), name))
            .collect();
        let top = highest(&values);
        let marks = top.iter().filter_map(|found| found.mark.clone()).collect();
        let known = |beat: &str| register.beats.iter().any(|known| known == beat);
        (standing(&top, known), marks)
    }

    /// A renewal writes its own value; a claim makes one whose number is free.
    fn land(&mut self, epoch: u64, text: String, creates: bool) {
        match self.marks.iter_mut().find(|(known, _)| *known == epoch) {
            Some(held) if !creates => held.1 = text,
            Some(_) => {}
            None => self.marks.push((epoch, text)),
        }
    }

    fn write(&mut self, which: usize, epoch: u64, creates: bool, late: bool) {
        self.tokens += 1;
        let beat = format!("b{}", self.tokens);
        let register = self.register(which).with_beat(beat.clone());
        let text = mark(&register.installation, &beat, self.now).text();
        self.keep(which, &register);
        if late && creates {
            self.on_its_way = Some((epoch, text));
        } else if !late {
            self.land(epoch, text, creates);
        }
    }

    fn settle(&mut self, which: usize) {
        let register = self.register(which);
        let (seen, _) = self.look(&register);
        let (after, _) = register.after_look(&seen, LOOKUP, Timestamp(self.now));
        self.keep(which, &after);
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Watches(which) | Act::WritesLate(which) => {
                let late = matches!(act, Act::WritesLate(_));
                let register = self.register(which);
                match self.look(&register).0 {
                    Standing::Nobody => self.write(which, register.epoch() + 1, true, late),
                    Standing::Ours { epoch, renewed, .. } if self.now >= renewed.0 + RENEWED_AFTER_MILLIS => {
                        self.write(which, epoch, false, late);
                    }
                    _ => {}
                }
                self.settle(which);
            }
            Act::LooksInVain(which) => {
                let after = self
                    .register(which)
                    .after_failure(&Problem::new("COUPA_TIMEOUT", ""))
                    .0;
                self.keep(which, &after);
            }
            Act::Takes(which) => {
                let register = self.register(which);
                let (seen, marks) = self.look(&register);
                if let Standing::Another { epoch, .. } = seen
                    && register
                        .too_young(&marks, LOOKUP, &Timing::default(), Timestamp(self.now))
                        .is_none()
                {
                    self.write(which, epoch + 1, true, false);
                    self.settle(which);
                }
            }
            Act::Lands => {
                if let Some((epoch, text)) = self.on_its_way.take() {
                    self.land(epoch, text, true);
                }
            }
            Act::Passes(millis) => self.now += millis,
        }
    }

    fn plan(&self, which: usize) -> bool {
        self.register(which).stop(Timestamp(self.now)).is_none()
    }
}

/// All worlds that so many acts can lead to, each once; what was seen of them.
fn explored(depth: usize, start: World) -> (usize, usize, bool) {
    let (mut seen, mut edge) = (BTreeSet::new(), vec![start]);
    let (mut owned, mut changed_hands) = (0, false);
    for _ in 0..depth {
        let mut next = Vec::new();
        for world in edge {
            for act in ACTS {
                let mut after = world.clone();
                after.act(act);
                if !seen.insert(after.clone()) {
                    continue;
                }
                let plans = [after.plan(0), after.plan(1)];
                assert_ne!(plans, [true, true], "{act:?} leads to {after:#?} from {world:#?}");
                owned += usize::from(plans != [false, false]);
                changed_hands |= plans == [false, true] && after.marks.len() > 1;
                next.push(after);
            }
        }
        edge = next;
    }
    (seen.len(), owned, changed_hands)
}

#[test]
fn in_every_order_of_six_acts_at_most_one_of_two_installations_begins_anything() {
    let (worlds, owned, changed_hands) = explored(6, World::new());
    assert!(worlds > 1_000, "{worlds}");
    assert!(owned > 100, "{owned}");
    assert!(changed_hands, "a person gave it to the other one");
}
