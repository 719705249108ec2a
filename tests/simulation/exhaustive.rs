//! The pure machines in every state they can get into: the life of an invoice with its three effects, the ledger of a
//! bill, the watermark of the receipts. (The effect itself, with two workers and a crash at every step, is in
//! `effect_machine`.)

use domain::documents::Receipt;
use domain::effect::{Effect, EffectEvent, EffectStatus, Repetition};
use domain::ids::{DocumentKind, InvoiceId, OrderLineKey, QadInvoiceIdentity, ReceiptKey};
use domain::lifecycle::{Event, InvoiceEffect, InvoiceRecord, ParkReason, PostedHow, State, Voucher};
use domain::payments::{
    Allocation, BillPayments, NextEntry, PaymentEntry, PaymentKey, PaymentPolicy, PaymentStatus,
};
use domain::problem::Problem;
use domain::time::{Date, Timestamp};
use domain::timing::Timing;
use flows::feed::Watermark;
use flows::poll_receipts::{OVERLAP_DAYS, knows, watermark_after};
use rust_decimal::Decimal;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use tests::harness::BEGINNING;

fn problem() -> Problem {
    Problem::new("X", "")
}

fn voucher() -> Voucher {
    Voucher {
        year: 2026,
        daybook: "SI".to_owned(),
        number: 7,
    }
}

fn document_events() -> Vec<Event> {
    let parked = |reason| Event::Parked { reason };
    vec![
        Event::Received { coupa_status: None },
        Event::Received {
            coupa_status: Some("pending_approval".to_owned()),
        },
        Event::Delayed { problem: problem() },
        Event::Held {
            exceptions: Vec::new(),
            awaits: Vec::new(),
            tolerance_version: String::new(),
        },
        Event::Approved {
            identity: String::new(),
            request_sha256: String::new(),
            tolerance_version: String::new(),
            coupa_orders: vec![],
        },
        parked(ParkReason::Problem { problem: problem() }),
        parked(ParkReason::InQad {
            problem: problem(),
            voucher: None,
        }),
        Event::Posted {
            voucher: voucher(),
            how: PostedHow::Created,
        },
        Event::Exported,
        Event::Voided,
        Event::Rejected { problem: problem() },
    ]
}

fn effect_events(now: Timestamp) -> Vec<EffectEvent> {
    let holder = || "w".to_owned();
    vec![
        EffectEvent::Intended { holder: holder() },
        EffectEvent::LookUpClaimed { holder: holder() },
        EffectEvent::IntendedAgain,
        EffectEvent::Confirmed,
        EffectEvent::NotApplied {
            not_before: now,
            problem: problem(),
        },
        EffectEvent::MayHaveHappened { problem: problem() },
        EffectEvent::LookUpFailed {
            not_before: now,
            problem: problem(),
        },
        EffectEvent::Refused { problem: problem() },
        EffectEvent::Parked { problem: problem() },
        EffectEvent::Withdrawn,
    ]
}

/// What makes two records the same as far as anything can happen to them.
fn essence(record: &InvoiceRecord, now: Timestamp) -> String {
    let effect = |effect: &Option<Effect>| {
        effect.as_ref().map(|effect| {
            (
                effect.status,
                effect.attempts.min(1),
                effect.holder.is_empty(),
                effect.lease_until > now,
                effect.settle_until > now,
            )
        })
    };
    format!(
        "{:?} {:?} {:?} {:?}",
        record.state,
        effect(&record.creation),
        effect(&record.export),
        effect(&record.note)
    )
}

/// What the flows do beside an event: an approval brings a creation, a posting or a void an export.
fn with_effects(
    before: &InvoiceRecord,
    mut after: InvoiceRecord,
    event: &Event,
    now: Timestamp,
) -> InvoiceRecord {
    let ready = |repetition| {
        Effect::ready(
            String::new(),
            repetition,
            String::new(),
            String::new(),
            String::new(),
            now,
        )
    };
    match event {
        Event::Approved { .. } => {
            let creation = ready(Repetition::OnlyAfterLookUp).succeeding(before.creation.as_ref());
            after = InvoiceEffect::Creation.put(&after, creation);
        }
        Event::Posted { .. } | Event::Voided => {
            let export = ready(Repetition::Harmless).succeeding(before.export.as_ref());
            after = InvoiceEffect::Export.put(&after, export);
        }
        _ => {}
    }
    after
}

fn may_be_in_qad(record: &InvoiceRecord) -> bool {
    record
        .creation
        .as_ref()
        .is_some_and(|effect| !effect.is_certainly_not_applied())
}

fn check_step(before: &InvoiceRecord, after: &InvoiceRecord, by: &str) {
    if let Some(voucher) = before.state.voucher() {
        // Parked as in QAD without naming the number is the one way to lose it, and no flow takes it.
        let named = after.state.voucher().is_none_or(|now| now == voucher);
        assert!(
            named,
            "{by} changed the voucher: {:?} to {:?}",
            before.state, after.state
        );
    }
    if may_be_in_qad(before) && may_be_in_qad(after) {
        let forgets = matches!(
            after.state,
            State::Received { .. } | State::Held { .. } | State::Rejected { .. } | State::Voided { .. }
        );
        let was = matches!(before.state, State::Approved);
        assert!(
            !(was && forgets),
            "{by} forgot what may be in QAD: {:?}",
            after.state
        );
    }
    let under_way = matches!(
        after.state,
        State::Approved | State::Posted { .. } | State::Voided { exported: false }
    );
    assert!(
        !under_way || after.due(&Timing::default()).is_some(),
        "{by} left it {} and never due",
        after.state.word()
    );
}

#[test]
fn in_every_state_of_every_record_every_event_is_lawful_or_refused() {
    let timing = Timing::default();
    let mut seen = BTreeSet::new();
    let start = Timestamp(1_000_000);
    let mut waiting = VecDeque::from([(InvoiceRecord::new(InvoiceId(1), start), start)]);
    let mut steps = 0u64;
    while let Some((record, now)) = waiting.pop_front() {
        if !seen.insert(essence(&record, now)) {
            continue;
        }
        let text = serde_json::to_string(&record).unwrap();
        assert_eq!(serde_json::from_str::<InvoiceRecord>(&text).unwrap(), record);
        // A moment later, and after everything has settled.
        waiting.push_back((record.clone(), now.plus_millis(1)));
        let settled = timing.lease_millis + timing.settle_millis() + timing.clock_skew_millis + 2;
        waiting.push_back((
            record.clone(),
            now.plus_millis(timing.lease_millis + timing.clock_skew_millis + 2),
        ));
        waiting.push_back((record.clone(), now.plus_millis(settled)));
        for event in document_events() {
            if let Ok(after) = record.after(&event, now) {
                let after = with_effects(&record, after, &event, now);
                check_step(&record, &after, event.name());
                waiting.push_back((after, now));
                steps += 1;
            }
        }
        for which in [
            InvoiceEffect::Creation,
            InvoiceEffect::Export,
            InvoiceEffect::Note,
        ] {
            for event in effect_events(now) {
                let name = event.name();
                if let Ok((after, told)) = which.advance(&record, event, now, &timing) {
                    assert_eq!(record.state.after(&told).unwrap(), after.state, "{name}");
                    check_step(&record, &after, name);
                    waiting.push_back((after, now));
                    steps += 1;
                }
            }
        }
    }
    println!(
        "{} states of an invoice's record, {steps} lawful steps",
        seen.len()
    );
    assert!(seen.len() > 100, "{}", seen.len());
}

// ---------------------------------------------------------------------------------------------------------------

fn allocation(number: u32, amount: u32, status: PaymentStatus) -> Allocation {
    let entity = "10USACO".parse().unwrap();
    let date: Date = "2026-03-20".parse().unwrap();
    Allocation {
        key: PaymentKey::new(&entity, 2026, "ACH", &number.to_string(), "1").unwrap(),
        invoice: QadInvoiceIdentity {
            entity,
            supplier: "S1".parse().unwrap(),
            reference: "I1".parse().unwrap(),
            kind: DocumentKind::Invoice,
        },
        status,
        currency: "USD".parse().unwrap(),
        payment_date: date,
        last_modified: date,
        reference: "CHK".to_owned(),
        allocated: Decimal::from(amount),
        discount: Decimal::ZERO,
        in_invoice_currency: None,
        voucher: None,
    }
}

/// Every history of readings of three payments, 60, 60 and 40 of a bill of 100, with an entry written whenever one may
/// be: Coupa never shows an entry twice, never more than the bill, and once all is written exactly what is paid.
#[test]
fn the_ledger_under_every_history_of_readings_tells_coupa_the_truth() {
    let policy = PaymentPolicy::default();
    let statuses = [
        PaymentStatus::Initial,
        PaymentStatus::Paid,
        PaymentStatus::Void,
        PaymentStatus::Bounced,
    ];
    let amounts = [60, 60, 40];
    let start = BillPayments::new(InvoiceId(1), Decimal::from(100), "USD".parse().unwrap());
    let mut seen = BTreeSet::new();
    let mut waiting = VecDeque::from([(start, Vec::<PaymentEntry>::new())]);
    let (mut settled, mut parked) = (0u64, 0u64);
    while let Some((bill, entries)) = waiting.pop_front() {
        let mut essence = serde_json::to_string(&bill.allocations).unwrap();
        essence.push_str(&entries.len().to_string());
        if !seen.insert(essence) {
            continue;
        }
        let mut ours = BTreeMap::new();
        let mut sum = Decimal::ZERO;
        for entry in entries.iter().filter(|entry| !entry.is_flag_only()) {
            let times: &mut u32 = ours
                .entry((entry.key.clone(), entry.amount.is_sign_negative()))
                .or_default();
            *times += 1;
            sum += entry.amount;
            assert_eq!(*times, 1, "{} is written twice", entry.key);
        }
        assert!(sum <= Decimal::from(100) + policy.over_total, "{sum} of 100");
        assert!(sum >= Decimal::ZERO, "{sum}");
        for (number, amount) in amounts.iter().enumerate() {
            for status in statuses.iter().take(if cfg!(debug_assertions) { 3 } else { 4 }) {
                let reading = allocation(u32::try_from(number).unwrap(), *amount, status.clone());
                if let Some(next) = bill.reading(reading) {
                    waiting.push_back((next, entries.clone()));
                }
            }
        }
        match bill.next_entry(&policy) {
            NextEntry::Append(entry) => {
                let mut more = entries.clone();
                let next = bill.with_written(&entry);
                more.push(entry);
                waiting.push_back((next, more));
            }
            NextEntry::Park(_) => parked += 1,
            NextEntry::Settled => {
                settled += 1;
                let paid: Decimal = bill
                    .allocations
                    .values()
                    .filter(|one| one.latest.status == PaymentStatus::Paid)
                    .map(|one| one.latest.allocated)
                    .sum();
                assert_eq!(
                    sum, paid,
                    "settled, and Coupa shows {sum} where QAD has paid {paid}"
                );
            }
        }
    }
    println!(
        "{} states of a ledger, {settled} settled, {parked} parked",
        seen.len()
    );
    assert!(seen.len() > 300 && settled > 0 && parked > 0);
}

// ---------------------------------------------------------------------------------------------------------------

fn received(number: u32, date: Date) -> Receipt {
    Receipt {
        key: ReceiptKey {
            domain: "10USA".parse().unwrap(),
            receiver: format!("RC{number}").parse().unwrap(),
            order_line: OrderLineKey {
                order: "PO7".parse().unwrap(),
                line: 1,
            },
        },
        received: Decimal::TEN,
        vouchered: Decimal::ZERO,
        unit: "EA".parse().unwrap(),
        date,
        packing_slip: String::new(),
        currency: None,
        pending: Default::default(),
        closed: false,
        unit_cost: None,
        rounded: Vec::new(),
    }
}

/// Three receipts, each dated today, yesterday, at the edge of the window or before it, each appearing at any of four
/// polls: the cursor never goes back, and what was never read is never taken for known.
#[test]
fn the_watermark_under_every_order_of_back_dated_receipts_forgets_nothing() {
    let today = BEGINNING.date_utc();
    let back = |days: i64| today.checked_sub(jiff_days(days)).unwrap();
    let dates = [today, back(1), back(OVERLAP_DAYS), back(OVERLAP_DAYS + 1)];
    const POLLS: usize = 4;
    let mut histories = 0u64;
    for code in 0..(dates.len() * POLLS).pow(3) {
        let choice = |place: u32| (code / (dates.len() * POLLS).pow(place)) % (dates.len() * POLLS);
        let receipts: Vec<(Receipt, usize)> = (0..3u32)
            .map(|number| {
                let chosen = choice(number);
                (
                    received(number, dates[chosen % dates.len()]),
                    chosen / dates.len(),
                )
            })
            .collect();
        let mut watermark: Option<Watermark> = None;
        for poll in 0..POLLS {
            let since = watermark
                .as_ref()
                .map_or(today, Watermark::cursor)
                .checked_sub(jiff_days(OVERLAP_DAYS))
                .unwrap();
            let there = |one: &&(Receipt, usize)| one.1 <= poll && one.0.date >= since;
            let scan: Vec<Receipt> = receipts.iter().filter(there).map(|one| one.0.clone()).collect();
            let after = watermark_after(watermark.as_ref(), &scan, today);
            if let Some(before) = &watermark {
                assert!(after.cursor() >= before.cursor());
            }
            for (receipt, appears) in &receipts {
                assert!(
                    !knows(&after, receipt) || *appears <= poll,
                    "known before it was there"
                );
                // What the window has left behind is never read again and need not be remembered.
                let window = after.cursor().checked_sub(jiff_days(OVERLAP_DAYS)).unwrap();
                let in_window = receipt.date >= since && receipt.date >= window;
                assert!(
                    !(in_window && *appears <= poll) || knows(&after, receipt),
                    "read and not known"
                );
            }
            watermark = Some(after);
        }
        histories += 1;
    }
    println!("{histories} histories of back-dated receipts");
}

fn jiff_days(days: i64) -> jiff::Span {
    jiff::Span::new().days(days)
}

/// The statuses that say that nothing of an effect can still arrive are those the machine lets a record go by.
#[test]
fn what_is_certainly_not_applied_is_never_claimed() {
    for status in [EffectStatus::Intent, EffectStatus::Unknown, EffectStatus::Done] {
        let mut effect = Effect::ready(
            String::new(),
            Repetition::OnlyAfterLookUp,
            String::new(),
            String::new(),
            String::new(),
            Timestamp(0),
        );
        effect.status = status;
        effect.attempts = 1;
        assert!(!effect.is_certainly_not_applied(), "{status:?}");
    }
}
