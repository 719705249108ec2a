//! The shell of the product's [`Drive`] in these lives: it looks up, sends, stores and reads again as it is asked to, a step
//! at a time, and each step may be the worker's last.

use crate::machines::Run;
use crate::machines::faults::{Fault, Place};
use crate::machines::marks::Mark;
use crate::machines::systems::{Change, Kind, Late, Write, voucher};
use crate::machines::worker::{After, Next, Seen, Stage, Worker, commit_of, problem};
use domain::drive::{
    Ask, Drive, End, Finding, Heard, JITTER_MAX, Manner, Moment, Move, Over, Proof, ReadError, WriteError,
};
use domain::effect::{Effect, EffectEvent, EffectStatus, Repetition};
use domain::lifecycle::{Event, InvoiceEffect, InvoiceRecord, ParkReason, PostedHow};
use domain::payments::{BillPayments, PaymentEntry};
use domain::time::Timestamp;
use std::rc::Rc;

/// A worker's way through one effect, and the record as it was stored or read last.
#[derive(Debug, Clone)]
pub(crate) struct Driving {
    /// Which effect.
    pub(crate) kind: Kind,
    seen: Seen,
    drive: Drive<()>,
    /// What the record was told by the decision, as long as that is not stored.
    opening: Option<Vec<Event>>,
}

impl Driving {
    /// The decision as a change of its own.
    fn beginning(&self) -> Change {
        match &self.seen {
            Seen::Record(revision, record) => Change::Record {
                seen: *revision,
                document: Rc::clone(record),
                events: self.opening.clone().unwrap_or_default(),
            },
            Seen::Bill(revision, bill) => Change::Bill {
                seen: *revision,
                document: Rc::clone(bill),
                right: None,
            },
        }
    }
}

impl Run {
    /// Begins to drive an effect. What is proven absent is sent again, as a payment is; only the flows decide an invoice anew.
    pub(crate) fn drive(&mut self, worker: &mut Worker, kind: Kind, seen: Seen) -> Next {
        self.begin(worker, kind, seen, None)
    }

    /// The same of an effect that follows from a decision, neither of which is stored yet.
    pub(crate) fn open(&mut self, worker: &mut Worker, kind: Kind, seen: Seen, told: Vec<Event>) -> Next {
        self.begin(worker, kind, seen, Some(told))
    }

    fn begin(&mut self, worker: &mut Worker, kind: Kind, seen: Seen, opening: Option<Vec<Event>>) -> Next {
        let jitter = self.delay(worker.number, worker.step, Place::Register) * 25;
        let jitter = u16::try_from(jitter).unwrap_or(JITTER_MAX);
        let holder = format!("w{}", worker.number);
        let handed = worker.goes_on_as.take().filter(|_| kind == Kind::Export);
        let is_handed = handed.is_some();
        let drive = match handed {
            Some(handed) => Drive::handed(Manner::default(), handed, jitter),
            None => Drive::new(Manner::default(), holder, jitter),
        };
        if kind == Kind::Create {
            worker.goes_on_as = Some(format!("w{} from step {}", worker.number, worker.step));
        }
        let driving = Box::new(Driving {
            kind,
            seen,
            drive,
            opening,
        });
        if is_handed {
            // Nothing is read in between: whoever has stored the document holds the record, and looks at its clock now.
            return Next::To(Stage::Hear(driving, Heard::Begun), Place::AtOnce);
        }
        self.hear(worker, driving, Heard::Begun)
    }

    /// Tells the drive what came of what it asked for, and turns to what it asks for next.
    pub(crate) fn hear(&mut self, worker: &mut Worker, mut driving: Box<Driving>, heard: Heard<()>) -> Next {
        let kind = driving.kind;
        match &heard {
            Heard::Sent(answer) => {
                let declined = matches!(answer, Err(WriteError::NotApplied { .. }));
                self.watch.answered(worker.number, declined, self.systems.now);
                if answer.is_ok() {
                    self.saw(Mark::Confirmed);
                }
            }
            Heard::LookedUp(Err(_)) => self.saw(Mark::LookUpFailed),
            Heard::LookedUp(Ok(Finding::There { .. })) => {
                let first = driving
                    .seen
                    .effect(kind)
                    .is_some_and(|effect| effect.attempts == 0);
                self.saw(if first {
                    Mark::FoundBeforeFirst
                } else {
                    Mark::FoundOurs
                });
            }
            _ => {}
        }
        let again = heard == Heard::Read;
        let at = Moment {
            now: self.clock(worker),
            deadline: Timestamp(worker.deadline),
            timing: &self.timing_of(kind),
        };
        match driving.drive.next(heard, driving.seen.effect(kind), &at) {
            Ask::LookUp => Next::To(Stage::LookUp(driving), Place::Register),
            Ask::Send => Next::To(Stage::Send(driving), Place::AtOnce),
            Ask::Store(Move::End(end)) if driving.opening.is_some() => {
                let begun = driving.beginning();
                let after = After::Opened(driving, Box::new(Move::End(end)));
                Next::To(commit_of(begun, after), Place::Commit)
            }
            Ask::Store(step) => self.store(worker, driving, &step, again),
            Ask::Over(_) if driving.opening.is_some() => {
                Next::To(commit_of(driving.beginning(), After::Fails), Place::Commit)
            }
            Ask::Read(_) => Next::To(Stage::Reload(driving), Place::Register),
            Ask::Over(Over::Finished) => {
                worker.looked = true;
                Next::To(Stage::Load, Place::Register)
            }
            Ask::Over(Over::Busy) => {
                if again {
                    self.saw(Mark::FenceHeld);
                }
                Next::Over
            }
            Ask::Over(Over::Later) => Next::Over,
            Ask::Over(Over::OutOfTime | Over::Contended) => Next::Failed,
            Ask::Over(Over::Impossible(illegal)) => {
                self.violate(format!("{}: {illegal}", worker.name()));
                Next::Over
            }
        }
    }

    fn store(&mut self, worker: &Worker, mut driving: Box<Driving>, step: &Move<()>, again: bool) -> Next {
        self.note_step(step, again);
        let Some((mut change, moved)) = self.moved(worker, driving.kind, &driving.seen, step) else {
            self.violate(format!("{} cannot store {}", worker.name(), step.event().name()));
            return Next::Over;
        };
        let Some(mut told) = driving.opening.take() else {
            return Next::To(commit_of(change, After::Hear(driving, moved)), Place::Commit);
        };
        if let Change::Record { events, .. } = &mut change {
            told.append(events);
            *events = told;
        }
        Next::To(commit_of(change, After::Began(driving, moved)), Place::Commit)
    }

    /// The decision is stored by itself: its effect has ended before anything was sent.
    pub(crate) fn opened(&mut self, worker: &Worker, mut driving: Box<Driving>, step: &Move<()>) -> Next {
        driving.seen = match driving.seen {
            Seen::Record(revision, record) => Seen::Record(revision + 1, record),
            Seen::Bill(revision, bill) => Seen::Bill(revision + 1, bill),
        };
        driving.opening = None;
        self.store(worker, driving, step, false)
    }

    fn note_step(&mut self, step: &Move<()>, again: bool) {
        if again {
            self.saw(Mark::OutcomeRewritten);
        }
        match step {
            Move::Step(EffectEvent::IntendedAgain) => self.saw(Mark::SentAgain),
            Move::Step(EffectEvent::NotApplied { problem, .. }) if problem.code == "OUT_OF_TIME" => {
                self.saw(Mark::TooLateToSend);
            }
            _ => {}
        }
    }

    /// The step is stored, or somebody else was faster.
    pub(crate) fn stored(&mut self, mut driving: Box<Driving>, moved: Option<Seen>) -> Next {
        let heard = if let Some(moved) = moved {
            driving.seen = moved;
            Heard::Stored
        } else {
            Heard::Overtaken
        };
        Next::To(Stage::Hear(driving, heard), Place::Register)
    }

    /// The record is read again.
    pub(crate) fn reload(&mut self, worker: &mut Worker, mut driving: Box<Driving>) -> Next {
        driving.seen = self.read(driving.kind);
        self.hear(worker, driving, Heard::Read)
    }

    /// What a complete look-up shows at this moment; its answer has to come back yet.
    pub(crate) fn look_up(&mut self, driving: Box<Driving>, lost: bool) -> Next {
        let kind = driving.kind;
        let key = driving.seen.effect(kind).map_or("", |effect| effect.key.as_str());
        let found = match (self.shown(kind, key), kind) {
            _ if lost => Err(ReadError::Unavailable {
                retry_after: None,
                problem: problem(),
            }),
            (0, _) => {
                self.watch.looked_up_empty(key, self.systems.now);
                Ok(Finding::Nothing)
            }
            (1, kind) => Ok(Finding::There {
                answer: (),
                adopted: kind == Kind::Create && !self.systems.documents[0],
            }),
            _ => Ok(Finding::Park {
                problem: problem(),
                answer: None,
            }),
        };
        Next::To(Stage::Hear(driving, Heard::LookedUp(found)), Place::Read)
    }

    /// The bytes are about to leave; the worker may still be stopped before the first one is out.
    pub(crate) fn send(&mut self, worker: &mut Worker, driving: Box<Driving>, fault: Fault) -> Next {
        if matches!(fault, Fault::Stalls(_)) && !worker.undead {
            return Next::To(Stage::Leave(driving), Place::Register);
        }
        self.leave(worker, driving, fault)
    }

    /// The bytes leave.
    pub(crate) fn leave(&mut self, worker: &mut Worker, driving: Box<Driving>, fault: Fault) -> Next {
        self.saw(Mark::Sent);
        let kind = driving.kind;
        self.check_send(worker, kind, &driving.seen);
        let write = match kind {
            Kind::Create => Write::Document,
            Kind::Export => Write::Exported,
            Kind::Pay => {
                let entry = driving.seen.effect(kind).unwrap();
                Write::Entry(Box::new(serde_json::from_str(&entry.request).unwrap()))
            }
        };
        let now = self.systems.now;
        let takes = self.delay(worker.number, worker.step, Place::Write);
        let unknown = Err(WriteError::Unknown(problem()));
        let answer = match fault {
            Fault::Lost => unknown,
            Fault::AnswerLost => {
                self.systems.make(&write);
                unknown
            }
            Fault::Late(millis) => {
                // The last byte may be as late as the end of the exchange.
                self.systems.late.push(Late {
                    at: now + takes + millis.min(self.lateness(kind)),
                    worker: worker.number,
                    write,
                });
                unknown
            }
            Fault::Declined => Err(WriteError::NotApplied {
                retry_after: None,
                problem: problem(),
            }),
            _ => {
                self.systems.make(&write);
                Ok(Finding::There {
                    answer: (),
                    adopted: false,
                })
            }
        };
        self.watch.left(worker.number, now + self.real().http_millis);
        Next::To(Stage::Hear(driving, Heard::Sent(answer)), Place::Write)
    }

    // -----------------------------------------------------------------------------------------------------------
    // What is stored
    // -----------------------------------------------------------------------------------------------------------

    /// The record after a step of its effect: the change to commit, and the record as it will be.
    fn moved(&mut self, worker: &Worker, kind: Kind, seen: &Seen, step: &Move<()>) -> Option<(Change, Seen)> {
        let (now, timing) = (self.clock(worker), self.timing_of(kind));
        match seen {
            Seen::Record(revision, record) => {
                let which = match kind {
                    Kind::Export => InvoiceEffect::Export,
                    Kind::Create | Kind::Pay => InvoiceEffect::Creation,
                };
                let (document, told) = which.advance(record, step.event(), now, &timing).ok()?;
                let mut events = vec![told];
                let document = match step {
                    Move::Step(_) => document,
                    Move::End(end) => {
                        let (document, event) = ended_invoice(kind, &document, end, now)?;
                        events.extend(event);
                        self.handed_on(worker, document, &mut events, now)?
                    }
                };
                let document = Rc::new(document);
                let change = Change::Record {
                    seen: *revision,
                    document: Rc::clone(&document),
                    events,
                };
                Some((change, Seen::Record(revision + 1, document)))
            }
            Seen::Bill(revision, bill) => {
                let entry = bill.entry.as_ref()?;
                let mut document = (**bill).clone();
                document.entry = Some(entry.after(&step.event(), now, &timing).ok()?);
                if let Move::End(End::There { .. }) = step {
                    document = self.written(&document, entry, now);
                }
                let document = Rc::new(document);
                let change = Change::Bill {
                    seen: *revision,
                    document: Rc::clone(&document),
                    right: None,
                };
                Some((change, Seen::Bill(revision + 1, document)))
            }
        }
    }

    /// Whoever posts goes on with the exported flag: it is claimed in the same write.
    fn handed_on(
        &self,
        worker: &Worker,
        document: InvoiceRecord,
        events: &mut Vec<Event>,
        now: Timestamp,
    ) -> Option<InvoiceRecord> {
        let is_new = document
            .export
            .as_ref()
            .is_some_and(|export| export.status == EffectStatus::Ready && export.attempts == 0);
        let (true, Some(holder)) = (is_new, worker.goes_on_as.clone()) else {
            return Some(document);
        };
        let intended = EffectEvent::Intended { holder };
        let timing = self.timing_of(Kind::Export);
        let (claimed, told) = InvoiceEffect::Export
            .advance(&document, intended, now, &timing)
            .ok()?;
        events.push(told);
        Some(claimed)
    }

    fn written(&mut self, bill: &BillPayments, effect: &Effect, now: Timestamp) -> BillPayments {
        let entry: PaymentEntry = serde_json::from_str(&effect.request).unwrap();
        if entry.amount.is_sign_negative() {
            self.saw(Mark::TakenBack);
        }
        let mut document = bill.with_written(&entry);
        document.look_again = Some(now);
        document
    }
}

/// What an invoice is told when one of its writes has ended.
fn ended_invoice(
    kind: Kind,
    record: &InvoiceRecord,
    end: &End<()>,
    now: Timestamp,
) -> Option<(InvoiceRecord, Option<Event>)> {
    let event = match (kind, end) {
        (Kind::Export, End::There { .. }) => Event::Exported,
        (_, End::There { proof, .. }) => Event::Posted {
            voucher: voucher(),
            how: match proof {
                Proof::Confirmed => PostedHow::Created,
                Proof::Found => PostedHow::Recovered,
                Proof::Adopted => PostedHow::Adopted,
            },
        },
        (Kind::Create, End::Parked { problem, .. }) => Event::Parked {
            reason: ParkReason::InQad {
                problem: problem.clone(),
                voucher: None,
            },
        },
        _ => return Some((record.clone(), None)),
    };
    let mut document = record.after(&event, now).ok()?;
    if let (Kind::Create, End::There { .. }) = (kind, end) {
        let none = String::new;
        let export = Effect::ready(
            "exported".to_owned(),
            Repetition::Harmless,
            none(),
            none(),
            none(),
            now,
        )
        .succeeding(document.export.as_ref());
        document = InvoiceEffect::Export.put(&document, export);
    }
    Some((document, Some(event)))
}
