//! The guards that "never twice, never ahead of the receipt, nothing lost" rests on, by name.
//!
//! Each stands for one condition in the code, which asks [`stands`] first. In every build that leaves a developer's
//! machine the answer is the constant `true` and the question costs nothing. Only a debug build with the feature
//! `removable-guards`, which the tests alone switch on, can take a guard away, for one thread and one test, to show that
//! its absence is noticed. A guard whose absence nobody notices is decoration.

/// One guard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Guard {
    /// After a lost answer a look-up proves nothing before no late commit can land any more.
    SettleWindow,
    /// The claim and the intent are durable before the first byte leaves.
    IntentFirst,
    /// An outcome is written only while the claim is still the writer's.
    Fence,
    /// A send is begun only when a whole exchange fits into the lease.
    SendInsideLease,
    /// What is not proven to be not applied is unknown.
    UnknownIsUnknown,
    /// A look-up that fails or is cut short is no answer, and never "none".
    FailedLookUpIsNoAnswer,
    /// Before the very first send somebody may have keyed it by hand.
    LookUpBeforeFirstSend,
    /// Clocks differ: a claim and a settle window end later by the skew.
    ClockSkew,
    /// What the other system confirms is compared with what was asked.
    EchoComparison,
    /// A QAD identity belongs to one invoice.
    IdentityClaim,
    /// What another invoice is about to bill is spoken for.
    Reservation,
    /// Of an invoice no more is credited than it has billed.
    CreditsWithinBilled,
    /// A credit of a price, or of anything but goods, takes no return.
    PriceTakesNoReturn,
    /// Nothing is posted before what it is matched to was received.
    NotBeforeReceipt,
    /// An invoice is matched and posted in its own entity's books.
    OwnBooks,
    /// Nothing is written of an invoice that is no entity's.
    LeftAlone,
    /// After an invoice is registered as waiting, the receipts are looked at once more.
    RecheckAfterRegister,
    /// A receipt is recorded before the invoices that wait for it are looked for.
    RecordBeforeWake,
    /// A poller's watermark moves after everything before it is recorded.
    WatermarkLast,
    /// An invoice that may be in flight is neither voided nor decided anew.
    NotWhileInFlight,
    /// What Coupa says while an invoice is under way is asked for afterwards.
    LookAfterwards,
    /// What a poller read before a later one took over is not recorded.
    PollersRight,
    /// Nothing is paid in Coupa before the invoice is in QAD.
    PaidAfterPosted,
    /// A bill is paid when QAD says so, whatever its payments add up to.
    QadSaysPaid,
    /// What was paid is shown in the invoice's own currency.
    InvoiceCurrency,
    /// A code that is reserved for a supplier of Coupa is given to nobody else.
    CodeReserved,
    /// Both sides of a link are written in one transaction: a supplier is linked once.
    LinkedOnce,
    /// What QAD has under a code is the supplier that was meant.
    CodeIsOurs,
    /// A reading that began before somebody wrote says nothing about what was written.
    OlderReadingSaysNothing,
    /// What we wrote is agreed and does not come back as news.
    OwnEcho,
    /// A run that read less far than another one does not move the cursors back.
    CursorsForward,
    /// A change of a lookup that is larger than its share waits for a person.
    ChangeShare,
    /// A list that came empty does not mean that everything is gone.
    EmptyIsNotGone,
    /// What an earlier run left open is finished before anything is planned.
    OpenFirst,
    /// Of two installations on the same systems one begins something new.
    OwnerMark,
}

impl Guard {
    /// All of them.
    pub const ALL: [Self; 35] = [
        Self::SettleWindow,
        Self::IntentFirst,
        Self::Fence,
        Self::SendInsideLease,
        Self::UnknownIsUnknown,
        Self::FailedLookUpIsNoAnswer,
        Self::LookUpBeforeFirstSend,
        Self::ClockSkew,
        Self::EchoComparison,
        Self::IdentityClaim,
        Self::Reservation,
        Self::CreditsWithinBilled,
        Self::PriceTakesNoReturn,
        Self::NotBeforeReceipt,
        Self::OwnBooks,
        Self::LeftAlone,
        Self::RecheckAfterRegister,
        Self::RecordBeforeWake,
        Self::WatermarkLast,
        Self::NotWhileInFlight,
        Self::LookAfterwards,
        Self::PollersRight,
        Self::PaidAfterPosted,
        Self::QadSaysPaid,
        Self::InvoiceCurrency,
        Self::CodeReserved,
        Self::LinkedOnce,
        Self::CodeIsOurs,
        Self::OlderReadingSaysNothing,
        Self::OwnEcho,
        Self::CursorsForward,
        Self::ChangeShare,
        Self::EmptyIsNotGone,
        Self::OpenFirst,
        Self::OwnerMark,
    ];
}

#[cfg(not(all(feature = "removable-guards", debug_assertions)))]
mod fixed {
    use super::Guard;

    /// True: in this build no guard can be taken away.
    #[inline(always)]
    pub const fn stands(_: Guard) -> bool {
        true
    }
}
#[cfg(not(all(feature = "removable-guards", debug_assertions)))]
pub use fixed::stands;

#[cfg(all(feature = "removable-guards", debug_assertions))]
mod removable {
    use super::Guard;
    use std::cell::Cell;

    thread_local! {
        static REMOVED: Cell<Option<Guard>> = const { Cell::new(None) };
    }

    /// True unless this thread is inside [`without`] this guard.
    pub fn stands(guard: Guard) -> bool {
        REMOVED.with(Cell::get) != Some(guard)
    }

    /// Does something on this thread while a guard is taken away; puts it back even when that panics.
    pub fn without<T>(guard: Guard, run: impl FnOnce() -> T) -> T {
        struct PutBack(Option<Guard>);
        impl Drop for PutBack {
            fn drop(&mut self) {
                REMOVED.with(|removed| removed.set(self.0));
            }
        }
        let _put_back = PutBack(REMOVED.with(|removed| removed.replace(Some(guard))));
        run()
    }
}
#[cfg(all(feature = "removable-guards", debug_assertions))]
pub use removable::{stands, without};
