//! Paths worth taking: a run that never took one proves nothing about it, and says so.

/// One path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Mark {
    /// A call was lost before it was done.
    Lost,
    /// A call was done and its answer lost.
    AnswerLost,
    /// A write was declined.
    Declined,
    /// A write was booked to land late.
    Late,
    /// A late write landed.
    LateCommitLanded,
    /// A worker died.
    Died,
    /// A worker stopped for minutes.
    Stalled,
    /// A hint was lost.
    HintLost,
    /// A hint arrived twice.
    HintTwice,
    /// A worker was ended by the platform.
    TimedOut,
    /// A worker was past its end and went on.
    Undead,
    /// A write was sent.
    Sent,
    /// A write was confirmed.
    Confirmed,
    /// A write was sent again after a look-up had found nothing.
    SentAgain,
    /// A look-up after a lost answer found ours.
    FoundOurs,
    /// A look-up before the first send found ours already.
    FoundBeforeFirst,
    /// A look-up gave no answer.
    LookUpFailed,
    /// Nothing was sent because the lease was too far gone.
    TooLateToSend,
    /// A commit met another one.
    Conflict,
    /// The same commit was sent again and was found done.
    CommitRepeated,
    /// An outcome was not written because the claim was another's.
    FenceHeld,
    /// An outcome was written on the second try.
    OutcomeRewritten,
    /// The invoice was held.
    Held,
    /// A receipt came between the decision and the index.
    ReceiptMissed,
    /// The poll woke a waiting invoice.
    Woken,
    /// Two receipt polls met at the watermark.
    PollsMet,
    /// Two payment polls met at the watermark.
    PaymentPollsMet,
    /// A payment was taken back in Coupa.
    TakenBack,
    /// A bill was parked.
    BillParked,
    /// The sweep found something.
    Swept,
}

/// How many there are.
const COUNT: usize = 30;

/// All of them with their names.
const NAMES: [(Mark, &str); COUNT] = [
    (Mark::Lost, "call lost"),
    (Mark::AnswerLost, "answer lost"),
    (Mark::Declined, "write declined"),
    (Mark::Late, "late write booked"),
    (Mark::LateCommitLanded, "late write landed"),
    (Mark::Died, "worker died"),
    (Mark::Stalled, "worker stopped for minutes"),
    (Mark::HintLost, "hint lost"),
    (Mark::HintTwice, "hint arrived twice"),
    (Mark::TimedOut, "worker ended by the platform"),
    (Mark::Undead, "worker went on past its end"),
    (Mark::Sent, "write sent"),
    (Mark::Confirmed, "write confirmed"),
    (Mark::SentAgain, "sent again after an empty look-up"),
    (Mark::FoundOurs, "look-up found ours"),
    (Mark::FoundBeforeFirst, "found before the first send"),
    (Mark::LookUpFailed, "look-up without an answer"),
    (Mark::TooLateToSend, "too late in the lease to send"),
    (Mark::Conflict, "commit met another"),
    (Mark::CommitRepeated, "commit repeated and found done"),
    (Mark::FenceHeld, "outcome of an old claim dropped"),
    (Mark::OutcomeRewritten, "outcome written on a later try"),
    (Mark::Held, "invoice held"),
    (Mark::ReceiptMissed, "receipt came while it was being held"),
    (Mark::Woken, "poll woke an invoice"),
    (Mark::PollsMet, "receipt polls met"),
    (Mark::PaymentPollsMet, "payment polls met"),
    (Mark::TakenBack, "payment taken back"),
    (Mark::BillParked, "bill parked"),
    (Mark::Swept, "sweep found work"),
];

/// How often each was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Marks([u64; COUNT]);

impl Default for Marks {
    fn default() -> Self {
        Self([0; COUNT])
    }
}

impl Marks {
    /// Once more.
    pub fn add(&mut self, mark: Mark) {
        self.0[mark as usize] += 1;
    }

    /// Adds another run's.
    pub fn merge(&mut self, other: &Self) {
        for (sum, more) in self.0.iter_mut().zip(other.0) {
            *sum += more;
        }
    }

    /// How often.
    pub fn of(&self, mark: Mark) -> u64 {
        self.0[mark as usize]
    }

    /// Name and number of each, in their order.
    pub fn named(&self) -> Vec<(&'static str, u64)> {
        NAMES.iter().map(|(mark, name)| (*name, self.of(*mark))).collect()
    }

    /// Those never taken.
    pub fn never(&self) -> Vec<&'static str> {
        let none = |(name, times): (&'static str, u64)| (times == 0).then_some(name);
        self.named().into_iter().filter_map(none).collect()
    }
}
