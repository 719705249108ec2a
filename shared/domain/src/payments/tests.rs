use super::*;
use proptest::prelude::*;

fn usd() -> Currency {
    "USD".parse().unwrap()
}

fn key(number: u32) -> PaymentKey {
    PaymentKey::new(&"10USACO".parse().unwrap(), 2026, "ACH", &number.to_string(), "1").unwrap()
}

fn allocation(number: u32, status: PaymentStatus, amount: i64) -> Allocation {
    Allocation {
        key: key(number),
        invoice: Allocation::identity("10USACO", "10S1001", "INV-1", DocumentKind::Invoice).unwrap(),
        status,
        currency: usd(),
        payment_date: "2026-04-03".parse().unwrap(),
        last_modified: "2026-04-03".parse().unwrap(),
        reference: "ACH-1".into(),
        allocated: Decimal::from(amount),
        discount: Decimal::ZERO,
        in_invoice_currency: None,
        voucher: None,
    }
}

fn bill(total: i64) -> BillPayments {
    BillPayments::new(InvoiceId(7), Decimal::from(total), usd())
}

/// Writes everything that is demanded, as a Coupa that never fails would show it.
fn settle(mut bill: BillPayments) -> (BillPayments, Vec<PaymentEntry>, Option<Problem>) {
    let mut entries = Vec::new();
    for _ in 0..100 {
        match bill.next_entry(&PaymentPolicy::default()) {
            NextEntry::Settled => return (bill, entries, None),
            NextEntry::Park(problem) => return (bill, entries, Some(problem)),
            NextEntry::Append(entry) => {
                bill = bill.with_written(&entry);
                entries.push(entry);
            }
        }
    }
    panic!("never settles");
}

#[test]
fn partial_payments_are_written_in_order_and_the_last_one_pays_the_bill() {
    let first = bill(100).reading(allocation(1, PaymentStatus::Paid, 60)).unwrap();
    let both = first.reading(allocation(2, PaymentStatus::Paid, 40)).unwrap();
    let (_, entries, parked) = settle(both);
    assert_eq!(parked, None);
    let shown: Vec<_> = entries.iter().map(|e| (e.amount, e.paid)).collect();
    assert_eq!(shown, vec![(Decimal::from(60), false), (Decimal::from(40), true)]);
    assert!(entries[0].notes.starts_with("QAD 10USACO 2026/ACH/1#1"));
}

#[test]
fn a_discount_counts_towards_the_total_but_is_not_paid() {
    let mut discounted = allocation(1, PaymentStatus::Paid, 98);
    discounted.discount = Decimal::TWO;
    let (_, entries, _) = settle(bill(100).reading(discounted).unwrap());
    assert_eq!((entries[0].amount, entries[0].paid), (Decimal::from(98), true));
}

#[test]
fn a_void_after_paid_is_one_negative_entry_once() {
    let paid = settle(
        bill(100)
            .reading(allocation(1, PaymentStatus::Paid, 100))
            .unwrap(),
    )
    .0;
    let voided = paid.reading(allocation(1, PaymentStatus::Void, 100)).unwrap();
    let (after, entries, _) = settle(voided);
    assert_eq!(entries.len(), 1);
    assert_eq!((entries[0].amount, entries[0].paid), (Decimal::from(-100), false));
    let (_, again, _) = settle(after.reading(allocation(1, PaymentStatus::Bounced, 100)).unwrap());
    assert!(again.is_empty());
}

#[test]
fn what_was_never_paid_is_never_taken_back() {
    for status in [
        PaymentStatus::Void,
        PaymentStatus::Bounced,
        PaymentStatus::Initial,
        PaymentStatus::ForCollection,
        PaymentStatus::Unknown("Escheated".into()),
    ] {
        assert!(
            settle(bill(100).reading(allocation(1, status, 100)).unwrap())
                .1
                .is_empty()
        );
    }
}

#[test]
fn a_taking_back_is_written_before_a_later_payment() {
    let paid = settle(
        bill(100)
            .reading(allocation(1, PaymentStatus::Paid, 100))
            .unwrap(),
    )
    .0;
    let both = paid
        .reading(allocation(1, PaymentStatus::Bounced, 100))
        .unwrap()
        .reading(allocation(2, PaymentStatus::Paid, 100))
        .unwrap();
    let (_, entries, parked) = settle(both);
    assert_eq!(parked, None);
    let shown: Vec<_> = entries.iter().map(|e| (e.amount, e.paid)).collect();
    assert_eq!(
        shown,
        vec![(Decimal::from(-100), false), (Decimal::from(100), true)]
    );
}

#[test]
fn more_than_the_total_currency_changes_and_revivals_are_parked() {
    let over = bill(100)
        .reading(allocation(1, PaymentStatus::Paid, 101))
        .unwrap();
    assert_eq!(settle(over).2.unwrap().code, "PAID_OVER_TOTAL");
    let mut yen = allocation(1, PaymentStatus::Paid, 100);
    yen.currency = "JPY".parse().unwrap();
    assert_eq!(
        settle(bill(100).reading(yen).unwrap()).2.unwrap().code,
        "PAYMENT_CURRENCY_DIFFERS"
    );
    let paid = settle(bill(100).reading(allocation(1, PaymentStatus::Paid, 50)).unwrap()).0;
    assert_eq!(
        settle(paid.reading(allocation(1, PaymentStatus::Paid, 60)).unwrap())
            .2
            .unwrap()
            .code,
        "PAYMENT_CHANGED"
    );
    let back = settle(paid.reading(allocation(1, PaymentStatus::Void, 50)).unwrap()).0;
    assert_eq!(
        settle(back.reading(allocation(1, PaymentStatus::Paid, 50)).unwrap())
            .2
            .unwrap()
            .code,
        "PAYMENT_REVIVED"
    );
}

#[test]
fn a_payment_that_goes_back_to_unpaid_is_parked_and_never_silently_left() {
    let paid = settle(
        bill(100)
            .reading(allocation(1, PaymentStatus::Paid, 100))
            .unwrap(),
    )
    .0;
    let back = paid.reading(allocation(1, PaymentStatus::Initial, 100)).unwrap();
    let (_, entries, parked) = settle(back);
    assert!(entries.is_empty());
    assert_eq!(parked.unwrap().code, "PAYMENT_WENT_BACK");
}

#[test]
fn a_credit_note_is_settled_downwards() {
    let (_, entries, parked) = settle(
        bill(-100)
            .reading(allocation(1, PaymentStatus::Paid, -100))
            .unwrap(),
    );
    assert_eq!(parked, None);
    assert_eq!((entries[0].amount, entries[0].paid), (Decimal::from(-100), true));
}

#[test]
fn a_key_is_not_taken_for_a_longer_one() {
    assert!(key(1).begins("QAD 10USACO 2026/ACH/1#1 cheque 5"));
    assert!(key(1).begins("QAD 10USACO 2026/ACH/1#1"));
    assert!(!key(1).begins("QAD 10USACO 2026/ACH/1#12"));
    assert_eq!(PaymentKey::new(&"E".parse().unwrap(), 1, "A#B", "1", "1"), None);
}

#[test]
fn entries_of_an_earlier_life_are_not_written_again() {
    let bill = bill(100)
        .reading(allocation(1, PaymentStatus::Paid, 100))
        .unwrap();
    let shown = CoupaPaymentEntry {
        amount: Decimal::from(100),
        date: None,
        notes: format!("{} ACH-1", key(1)),
    };
    let known = bill.reconciled(std::slice::from_ref(&shown), true).unwrap();
    assert!(settle(known).1.is_empty());
    // Its answer was read, and the flag was not set with it: that is made up for, and nothing else.
    let (_, entries, _) = settle(bill.reconciled(std::slice::from_ref(&shown), false).unwrap());
    assert_eq!(
        (entries.len(), entries[0].is_flag_only(), entries[0].paid),
        (1, true, true)
    );
    assert_eq!(
        bill.reconciled(&[shown.clone(), shown], true).unwrap_err().code,
        "COUPA_PAYMENT_TWICE"
    );
}

#[test]
fn what_a_person_keyed_is_known_by_reference_amount_and_day_alone() {
    let bill = bill(100)
        .reading(allocation(1, PaymentStatus::Paid, 100))
        .unwrap();
    let keyed = CoupaPaymentEntry {
        amount: Decimal::from(100),
        date: Some("2026-04-03".parse().unwrap()),
        notes: " ach-1".into(),
    };
    let written = |entry: CoupaPaymentEntry| settle(bill.reconciled(&[entry], true).unwrap()).1.len();
    assert_eq!(written(keyed.clone()), 0);
    let other_day = CoupaPaymentEntry {
        date: Some("2026-04-04".parse().unwrap()),
        ..keyed.clone()
    };
    let other_amount = CoupaPaymentEntry {
        amount: Decimal::from(99),
        ..keyed.clone()
    };
    let other_words = CoupaPaymentEntry {
        notes: "cheque".into(),
        ..keyed
    };
    for other in [other_day, other_amount, other_words] {
        assert_eq!(written(other), 1);
    }
}

#[test]
fn a_discount_that_comes_or_goes_later_moves_the_flag_alone() {
    let (bill, ..) = settle(bill(100).reading(allocation(1, PaymentStatus::Paid, 98)).unwrap());
    let mut granted = allocation(1, PaymentStatus::Paid, 98);
    granted.discount = Decimal::TWO;
    let (bill, entries, parked) = settle(bill.reading(granted).unwrap());
    assert_eq!(parked, None);
    let shown: Vec<_> = entries.iter().map(|e| (e.kind, e.amount, e.paid)).collect();
    assert_eq!(shown, [(EntryKind::Flag, Decimal::ZERO, true)]);
    let (bill, entries, _) = settle(bill.reading(allocation(1, PaymentStatus::Paid, 98)).unwrap());
    assert_eq!((entries.len(), entries[0].paid), (1, false));
    let mut too_much = allocation(1, PaymentStatus::Paid, 98);
    too_much.discount = Decimal::from(5);
    let (_, entries, parked) = settle(bill.reading(too_much).unwrap());
    assert_eq!(
        (entries.len(), parked.unwrap().code),
        (0, "PAID_OVER_TOTAL".to_owned())
    );
}

#[test]
fn an_allocation_that_is_all_discount_appends_nothing_and_counts() {
    let part = bill(100).reading(allocation(1, PaymentStatus::Paid, 98)).unwrap();
    let mut discount = allocation(2, PaymentStatus::Paid, 0);
    discount.discount = Decimal::TWO;
    let (bill, entries, _) = settle(part.reading(discount.clone()).unwrap());
    let shown: Vec<_> = entries.iter().map(|e| (e.amount, e.paid)).collect();
    assert_eq!(shown, [(Decimal::from(98), false), (Decimal::ZERO, true)]);
    discount.status = PaymentStatus::Void;
    let (_, entries, _) = settle(bill.reading(discount).unwrap());
    assert_eq!(
        (entries.len(), entries[0].amount, entries[0].paid),
        (1, Decimal::ZERO, false)
    );
}

#[test]
fn a_taking_back_leaves_the_flag_where_the_sum_says() {
    let mut small = allocation(1, PaymentStatus::Paid, 0);
    small.allocated = Decimal::new(3, 2);
    let both = bill(100)
        .reading(small.clone())
        .unwrap()
        .reading(allocation(2, PaymentStatus::Paid, 100))
        .unwrap();
    let (bill, ..) = settle(both);
    small.status = PaymentStatus::Void;
    let (_, entries, _) = settle(bill.reading(small).unwrap());
    assert_eq!(
        (entries.len(), entries[0].paid),
        (1, true),
        "100 of 100 stay paid"
    );
}

#[test]
fn a_credit_note_is_taken_back_and_never_over_settled() {
    let part = bill(-100)
        .reading(allocation(1, PaymentStatus::Paid, -60))
        .unwrap();
    let (bill, entries, _) = settle(part);
    assert_eq!((entries[0].amount, entries[0].paid), (Decimal::from(-60), false));
    let over = bill.reading(allocation(2, PaymentStatus::Paid, -50)).unwrap();
    assert_eq!(settle(over).2.unwrap().code, "PAID_OVER_TOTAL");
    let (bill, entries, _) = settle(bill.reading(allocation(1, PaymentStatus::Void, -60)).unwrap());
    assert_eq!((entries[0].amount, entries[0].paid), (Decimal::from(60), false));
    assert!(matches!(bill.paid_state(), Some(PaidState::TakenBack { .. })));
}

#[test]
fn amounts_are_sent_exactly_with_the_digits_of_their_currency() {
    let entry = |digits: i64, places: u32, currency: &str| PaymentEntry {
        amount: Decimal::new(digits, places).normalize(),
        currency: currency.parse().unwrap(),
        ..match bill(100)
            .reading(allocation(1, PaymentStatus::Paid, 1))
            .unwrap()
            .next_entry(&PaymentPolicy::default())
        {
            NextEntry::Append(entry) => entry,
            other => panic!("{other:?}"),
        }
    };
    for (digits, places, currency, text) in [
        (50_000, 2, "USD", "500.00"),
        (5, 1, "USD", "0.50"),
        (-1_234_500, 4, "EUR", "-123.45"),
        (12_345, 3, "EUR", "12.345"),
        (1_000, 0, "JPY", "1000"),
        (1, 0, "KWD", "1.000"),
    ] {
        assert_eq!(entry(digits, places, currency).amount_text(), text);
    }
}

#[test]
fn what_coupa_cannot_hold_exactly_is_parked() {
    let mut fine = allocation(1, PaymentStatus::Paid, 0);
    fine.allocated = Decimal::new(12_345_678, 6);
    let (_, entries, parked) = settle(bill(100).reading(fine).unwrap());
    assert_eq!(
        (entries.len(), parked.unwrap().code),
        (0, "PAYMENT_NOT_EXACT".to_owned())
    );
}

#[test]
fn a_day_between_time_zones_is_the_same_entry_and_more_is_not() {
    let NextEntry::Append(entry) = bill(100)
        .reading(allocation(1, PaymentStatus::Paid, 100))
        .unwrap()
        .next_entry(&PaymentPolicy::default())
    else {
        panic!("nothing to append");
    };
    let shown = |date: &str| CoupaPaymentEntry {
        amount: Decimal::from(100),
        date: Some(date.parse().unwrap()),
        notes: entry.notes.clone(),
    };
    assert!(is_entry(&shown("2026-04-03"), &entry));
    assert!(is_entry(&shown("2026-04-02"), &entry));
    assert!(!is_entry(&shown("2026-04-01"), &entry));
}

fn dec(text: &str) -> Decimal {
    text.parse().unwrap()
}

fn of(total: &str) -> BillPayments {
    BillPayments::new(InvoiceId(7), dec(total), usd())
}

fn paying(number: u32, amount: &str) -> Allocation {
    Allocation {
        allocated: dec(amount),
        ..allocation(number, PaymentStatus::Paid, 0)
    }
}

/// What QAD says of the invoice: whether it is open, and what is owed.
fn says(is_open: Option<bool>, balance: Option<&str>) -> InvoiceBalance {
    InvoiceBalance {
        invoice: allocation(1, PaymentStatus::Paid, 0).invoice,
        voucher: None,
        currency: usd(),
        is_open,
        balance: balance.map(dec),
        on: "2026-04-05".parse().unwrap(),
    }
}

fn with(bill: &BillPayments, balance: &InvoiceBalance) -> BillPayments {
    bill.balance_reading(balance, &PaymentPolicy::default()).unwrap()
}

fn shown(entries: &[PaymentEntry]) -> Vec<(String, bool)> {
    entries
        .iter()
        .map(|entry| (entry.amount_text(), entry.paid))
        .collect()
}

#[test]
fn a_bill_two_cents_short_is_paid_when_qad_has_closed_it_and_not_while_it_is_open() {
    let short = of("750.00").reading(paying(1, "749.98")).unwrap();
    let (closed, entries, parked) = settle(with(&short, &says(Some(false), None)));
    assert_eq!((shown(&entries), parked), (vec![("749.98".into(), true)], None));
    assert!(
        matches!(closed.paid_state(), Some(PaidState::Closed { settled, .. }) if settled == dec("749.98"))
    );
    let (_, entries, _) = settle(with(&short, &says(Some(true), Some("0.02"))));
    assert_eq!(shown(&entries), [("749.98".into(), false)], "QAD keeps it open");
    // Where QAD shows neither, the sum decides within 0.05.
    assert_eq!(shown(&settle(short).1), [("749.98".into(), true)]);
    let too_short = of("750.00").reading(paying(1, "749.94")).unwrap();
    assert_eq!(shown(&settle(too_short).1), [("749.94".into(), false)]);
}

#[test]
fn tax_withheld_at_payment_closes_the_bill_with_less_and_the_note_says_so() {
    let bill = of("1220").reading(paying(1, "1020")).unwrap();
    let (_, entries, _) = settle(with(&bill, &says(None, Some("0"))));
    assert_eq!(shown(&entries), [("1020.00".into(), true)]);
    assert!(
        entries[0].notes.contains("200.00 USD of it without a payment"),
        "{}",
        entries[0].notes
    );
    let (_, entries, _) = settle(with(&bill, &says(None, Some("200"))));
    assert_eq!(shown(&entries), [("1020.00".into(), false)]);
}

#[test]
fn a_write_off_closes_a_bill_without_any_payment_and_its_reversal_opens_it_again() {
    assert_eq!(
        of("80").balance_reading(&says(Some(true), Some("80")), &PaymentPolicy::default()),
        None
    );
    let (bill, entries, parked) = settle(with(&of("80"), &says(Some(false), Some("0"))));
    assert_eq!((shown(&entries), parked), (vec![("0.00".into(), true)], None));
    assert!(entries[0].is_flag_only() && entries[0].notes.contains("80.00 USD of it without a payment"));
    assert!(matches!(bill.paid_state(), Some(PaidState::Closed { settled, .. }) if settled.is_zero()));
    let (bill, entries, _) = settle(with(&bill, &says(Some(true), Some("80"))));
    assert_eq!(shown(&entries), [("0.00".into(), false)]);
    assert!(matches!(bill.paid_state(), Some(PaidState::TakenBack { .. })));
}

#[test]
fn the_flag_follows_qad_in_both_directions_and_nothing_is_taken_back_by_it() {
    let bill = of("100").reading(paying(1, "100")).unwrap();
    let (bill, entries, _) = settle(with(&bill, &says(Some(true), Some("0.00001"))));
    assert_eq!(shown(&entries), [("100.00".into(), false)]);
    let (bill, entries, _) = settle(with(&bill, &says(Some(false), Some("0"))));
    assert_eq!(shown(&entries), [("0.00".into(), true)]);
    let (_, entries, _) = settle(with(&bill, &says(Some(true), Some("100"))));
    assert_eq!(shown(&entries), [("0.00".into(), false)]);
}

#[test]
fn a_balance_says_nothing_of_a_payment_that_came_or_went_after_it() {
    let (bill, ..) = settle(with(
        &of("100").reading(paying(1, "100")).unwrap(),
        &says(Some(false), None),
    ));
    let mut void = paying(1, "100");
    void.status = PaymentStatus::Void;
    let (_, entries, _) = settle(bill.reading(void).unwrap());
    assert_eq!(shown(&entries), [("-100.00".into(), false)]);
    let open = with(&of("100"), &says(Some(true), None));
    let (_, entries, _) = settle(open.reading(paying(1, "100")).unwrap());
    assert_eq!(
        shown(&entries),
        [("100.00".into(), true)],
        "as where QAD shows neither"
    );
}

#[test]
fn what_was_paid_in_another_currency_is_shown_in_the_invoices() {
    let eur = |settled: Option<&str>| {
        let mut bill = of("1000.00");
        bill.currency = "EUR".parse().unwrap();
        let mut paid = paying(1, "1085.00");
        paid.in_invoice_currency = settled.map(dec);
        bill.reading(paid).unwrap()
    };
    let balance = |left: &str| InvoiceBalance {
        currency: "EUR".parse().unwrap(),
        ..says(None, Some(left))
    };
    // As the row says it.
    assert_eq!(shown(&settle(eur(Some("1000.00"))).1), [("1000.00".into(), true)]);
    // By the difference of QAD's balances.
    assert_eq!(
        shown(&settle(with(&eur(None), &balance("0"))).1),
        [("1000.00".into(), true)]
    );
    assert_eq!(
        shown(&settle(with(&eur(None), &balance("400"))).1),
        [("600.00".into(), false)]
    );
    // Neither, two payments at once, a discount of its own, or a balance in a third currency: a person's.
    let two = {
        let second = Allocation {
            in_invoice_currency: None,
            ..paying(2, "10")
        };
        eur(None).reading(second).unwrap()
    };
    let discounted = {
        let mut paid = paying(1, "1085.00");
        paid.discount = dec("5");
        let mut bill = of("1000.00");
        bill.currency = "EUR".parse().unwrap();
        bill.reading(paid).unwrap()
    };
    for doubtful in [
        eur(None),
        with(&two, &balance("0")),
        with(&discounted, &balance("0")),
        with(&eur(None), &says(None, Some("0"))),
        with(&eur(None), &balance("1000")),
    ] {
        assert_eq!(settle(doubtful).2.unwrap().code, "PAYMENT_CURRENCY_DIFFERS");
    }
}

#[test]
fn each_payment_in_another_currency_is_told_by_the_balance_before_and_after_it() {
    let mut bill = of("1000.00");
    bill.currency = "EUR".parse().unwrap();
    let balance = |left: &str| InvoiceBalance {
        currency: "EUR".parse().unwrap(),
        ..says(None, Some(left))
    };
    let (bill, first, _) = settle(with(&bill.reading(paying(1, "651.00")).unwrap(), &balance("400")));
    let (bill, second, _) = settle(with(&bill.reading(paying(2, "217.00")).unwrap(), &balance("200")));
    assert_eq!(
        (shown(&first), shown(&second)),
        (vec![("600.00".into(), false)], vec![("200.00".into(), false)])
    );
    // The first one is voided: exactly what was written is taken back.
    let mut void = paying(1, "651.00");
    void.status = PaymentStatus::Void;
    let (_, entries, parked) = settle(with(&bill.reading(void).unwrap(), &balance("800")));
    assert_eq!((shown(&entries), parked), (vec![("-600.00".into(), false)], None));
}

#[test]
fn while_entries_are_still_to_come_the_flag_waits_for_the_last_one() {
    let both = of("100")
        .reading(paying(1, "60"))
        .unwrap()
        .reading(paying(2, "40"))
        .unwrap();
    let (_, entries, _) = settle(with(&both, &says(Some(false), Some("0"))));
    assert_eq!(shown(&entries), [("60.00".into(), false), ("40.00".into(), true)]);
}

#[test]
fn nothing_settles_nothing_however_small_the_bill_is() {
    let (bill, ..) = settle(of("0.04").reading(paying(1, "0.04")).unwrap());
    let mut void = paying(1, "0.04");
    void.status = PaymentStatus::Void;
    let (_, entries, _) = settle(bill.reading(void).unwrap());
    assert_eq!(shown(&entries), [("-0.04".into(), false)]);
}

#[test]
fn a_bill_of_an_earlier_version_reads_back() {
    let mut stored = serde_json::to_value(settle(of("100").reading(paying(1, "100")).unwrap()).0).unwrap();
    let state = stored["allocations"]
        .as_object_mut()
        .unwrap()
        .values_mut()
        .next()
        .unwrap();
    state.as_object_mut().unwrap().remove("in_balance");
    let bill: BillPayments = serde_json::from_value(stored).unwrap();
    assert_eq!((bill.qad, bill.paid_flag), (None, Some(true)));
}

proptest! {
    /// After any history of readings, what was written adds up to what QAD demands, and the flag says whether it is all.
    #[test]
    fn coupa_adds_up_to_qad(history in proptest::collection::vec((0u32..4, 0usize..4), 1..30)) {
        let statuses = [PaymentStatus::Initial, PaymentStatus::Paid, PaymentStatus::Void, PaymentStatus::Bounced];
        let mut state = bill(100);
        let mut written: Vec<PaymentEntry> = Vec::new();
        for (number, status) in history {
            if let Some(next) = state.reading(allocation(number, statuses[status].clone(), 25)) {
                let (after, entries, _) = settle(next);
                state = after;
                written.extend(entries);
            }
        }
        let sum: Decimal = written.iter().map(|e| e.amount).sum();
        prop_assert_eq!(Some(sum), state.settled_amount());
        for number in 0..4 {
            for kind in [EntryKind::Payment, EntryKind::TakingBack] {
                prop_assert!(written.iter().filter(|e| e.key == key(number) && e.kind == kind).count() <= 1);
            }
        }
        if let Some(last) = written.last() {
            prop_assert_eq!(last.paid, sum == Decimal::from(100));
        }
    }
}
