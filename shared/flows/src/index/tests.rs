use super::*;
use domain::ids::DocumentKind;
use domain::lifecycle::{Event, ParkReason, PostedHow, State, Summary, Voucher};
use domain::matching::{Exception, ExceptionCode};
use domain::payments::BillPayments;
use domain::suppliers::{
    Candidate, CoupaSupplier, CoupaSupplierStatus, SupplierData, SupplierId, SupplierRecord, SupplierState,
};

fn record(id: u64) -> InvoiceRecord {
    let mut record = InvoiceRecord::new(InvoiceId(id), Timestamp(1_764_547_200_000));
    record.summary = Some(Summary {
        reference: format!("INV-{id}").parse().unwrap(),
        kind: DocumentKind::Invoice,
        supplier_name: "Example Castings".into(),
        supplier_number: Some("10S1001".into()),
        invoice_date: "2026-03-05".parse().unwrap(),
        total: Decimal::from(100),
        currency: "USD".parse().unwrap(),
        orders: vec!["PO0042".parse().unwrap()],
        particulars: domain::documents::InvoiceParticulars::default(),
    });
    record
}

fn exception() -> Exception {
    Exception {
        code: ExceptionCode::PriceOverTolerance,
        line: None,
        order_line: None,
        expected: String::new(),
        actual: String::new(),
        limit: String::new(),
    }
}

/// Rows and tallies as the index writes build them, and how often each row was written.
#[derive(Default)]
struct Sheets {
    rows: BTreeMap<(String, String), String>,
    tallies: BTreeMap<(String, String), Tally>,
}

impl Sheets {
    fn apply(&mut self, writes: Vec<RecordWrite>) -> usize {
        let count = writes.len();
        for write in writes {
            match write {
                RecordWrite::Index(IndexWrite::Put { list, id, body }) => {
                    self.rows.insert((list, id), body);
                }
                RecordWrite::Index(IndexWrite::Remove { list, id }) => {
                    assert!(
                        self.rows.remove(&(list, id)).is_some(),
                        "what is removed was there"
                    );
                }
                RecordWrite::Index(IndexWrite::Count { sheet, changes, .. }) => {
                    for (name, change) in changes {
                        let tally = self.tallies.entry((sheet.clone(), name)).or_default();
                        tally.count += change.count;
                        tally.amount += change.amount;
                    }
                }
                other => panic!("{other:?}"),
            }
        }
        count
    }

    fn lists(&self) -> Vec<&str> {
        self.rows
            .keys()
            .map(|(list, _)| list.as_str())
            .filter(|list| !list.starts_with("find/"))
            .collect()
    }

    fn now(&self) -> Vec<(&str, i64, String)> {
        let of_now = self
            .tallies
            .iter()
            .filter(|((sheet, _), tally)| sheet == NOW && tally.count != 0);
        of_now
            .map(|((_, name), tally)| (name.as_str(), tally.count, tally.amount.to_string()))
            .collect()
    }
}

#[test]
fn rows_and_sums_follow_an_invoice_through_its_life_and_leave_nothing_behind() {
    let mut sheets = Sheets::default();
    let mut one = record(7);
    let now = Timestamp(1_764_550_800_000);
    sheets.apply(follow(&mut one, now).unwrap());
    assert_eq!(sheets.lists(), ["view/working"]);
    let parked = Event::Parked {
        reason: ParkReason::Match {
            exceptions: vec![exception()],
        },
    };
    let mut one = one.after(&parked, now).unwrap();
    sheets.apply(follow(&mut one, now).unwrap());
    assert_eq!(
        sheets.lists(),
        ["code/needs-you/PRICE_OVER_TOLERANCE", "view/needs-you"]
    );
    assert_eq!(
        sheets.now(),
        [
            ("code/needs-you/PRICE_OVER_TOLERANCE/USD", 1, "100".to_owned()),
            ("state/parked/USD", 1, "100".to_owned()),
            ("view/needs-you/USD", 1, "100".to_owned()),
        ]
    );
    one.state = State::Exported {
        voucher: Voucher {
            year: 2026,
            daybook: "SI".into(),
            number: 100_007,
        },
        how: PostedHow::Created,
    };
    if let Some(summary) = &mut one.summary {
        summary.total = Decimal::from(90);
    }
    sheets.apply(follow(&mut one, now).unwrap());
    assert_eq!(sheets.lists(), ["view/posted"]);
    assert_eq!(
        sheets.now(),
        [
            ("state/exported/USD", 1, "90".to_owned()),
            ("view/posted/USD", 1, "90".to_owned())
        ]
    );
    for found in [
        "find/100007",
        "find/INV7",
        "find/PO0042",
        "find/=90",
        "find/EXAMPLE",
    ] {
        assert!(sheets.rows.keys().any(|(list, _)| list == found), "{found}");
    }
    assert!(
        !sheets.rows.keys().any(|(list, _)| list == "find/=100"),
        "the old amount finds it no more"
    );
}

#[test]
fn what_changes_nothing_that_is_shown_writes_nothing() {
    let mut one = record(7);
    assert!(!follow(&mut one, Timestamp(0)).unwrap().is_empty());
    one.setbacks = 3;
    one.look_again = Some(Timestamp(5));
    assert!(follow(&mut one, Timestamp(9)).unwrap().is_empty());
}

#[test]
fn the_index_of_the_largest_invoice_leaves_room_in_its_transaction() {
    let mut one = record(7);
    if let Some(summary) = &mut one.summary {
        summary.orders = (0..500)
            .map(|number| format!("PO{number}").parse().unwrap())
            .collect();
    }
    let mut sheets = Sheets::default();
    let first = sheets.apply(follow(&mut one, Timestamp(0)).unwrap());
    if let Some(summary) = &mut one.summary {
        summary.orders = (500..900)
            .map(|number| format!("PO{number}").parse().unwrap())
            .collect();
    }
    let second = sheets.apply(follow(&mut one, Timestamp(0)).unwrap());
    assert!(first <= 20 && second <= 30, "{first} and {second} writes");
}

#[test]
fn a_record_of_an_older_version_is_read_and_taken_in() {
    let mut old = serde_json::to_value(record(7)).unwrap();
    assert!(old.as_object().unwrap().get("indexed").is_none());
    old.as_object_mut().unwrap().remove("indexed");
    let mut read: InvoiceRecord = serde_json::from_value(old).unwrap();
    assert!(read.indexed.is_none());
    assert!(!follow(&mut read, Timestamp(0)).unwrap().is_empty());
}

fn supplier(id: SupplierId, candidates: Vec<Candidate>) -> SupplierRecord {
    let mut record = SupplierRecord::new(id, Timestamp(0));
    record.state = SupplierState::Parked {
        problem: Problem::new("SUPPLIER_AMBIGUOUS", ""),
        coupa: None,
        by: None,
        candidates,
    };
    record
}

#[test]
fn a_supplier_stands_in_its_lists_while_it_waits_and_leaves_nothing_behind() {
    let mut sheets = Sheets::default();
    let mut one = SupplierRecord::new(SupplierId::Coupa(7), Timestamp(0));
    assert!(
        entries::follow_supplier(&mut one).unwrap().is_empty(),
        "nobody needs it"
    );
    assert!(one.listed.is_none());
    let mut one = supplier(one.id, vec![]);
    assert_eq!(sheets.apply(entries::follow_supplier(&mut one).unwrap()), 2);
    assert_eq!(sheets.lists(), ["supplier/parked"]);
    assert!(
        entries::follow_supplier(&mut one).unwrap().is_empty(),
        "nothing that is shown has changed"
    );
    one.coupa = Some(CoupaSupplier {
        id: 7,
        number: None,
        status: CoupaSupplierStatus::Active,
        data: SupplierData::default(),
        updated_at: Timestamp(0),
    });
    assert_eq!(
        sheets.apply(entries::follow_supplier(&mut one).unwrap()),
        1,
        "its row alone"
    );
    one.state = SupplierState::Alone { why: String::new() };
    sheets.apply(entries::follow_supplier(&mut one).unwrap());
    assert!(sheets.lists().is_empty() && one.listed.is_none());
    assert!(sheets.tallies.values().all(|tally| tally.count == 0));
}

#[test]
fn what_is_listed_under_another_layout_is_written_anew_and_not_counted_again() {
    let mut bill = BillPayments::new(InvoiceId(7), Decimal::ONE, "USD".parse().unwrap());
    bill.parked = Some(Problem::new("X", ""));
    assert_eq!(entries::follow_bill(&mut bill).len(), 2, "a row, and its count");
    bill.listed.as_mut().unwrap().version -= 1;
    let anew = entries::follow_bill(&mut bill);
    assert!(
        matches!(anew.as_slice(), [RecordWrite::Index(IndexWrite::Put { .. })]),
        "{anew:?}"
    );
    assert!(entries::follow_bill(&mut bill).is_empty(), "once");
}

#[test]
fn a_bill_stands_in_its_list_while_its_payments_wait_for_a_person() {
    let mut sheets = Sheets::default();
    let mut bill = BillPayments::new(InvoiceId(7), Decimal::ONE, "USD".parse().unwrap());
    assert!(entries::follow_bill(&mut bill).is_empty());
    bill.parked = Some(Problem::new("X", ""));
    sheets.apply(entries::follow_bill(&mut bill));
    assert_eq!(sheets.lists(), ["bill/parked"]);
    bill.parked = None;
    sheets.apply(entries::follow_bill(&mut bill));
    assert!(sheets.lists().is_empty());
}

/// DynamoDB refuses a transaction that names an item twice.
#[test]
fn what_two_records_of_one_commit_count_is_added_together() {
    let mut writes = Vec::new();
    for (id, is_parked) in [(1, true), (1, false), (5, true)] {
        let mut bill = BillPayments::new(InvoiceId(id), Decimal::ONE, "USD".parse().unwrap());
        bill.parked = Some(Problem::new("X", ""));
        let first = entries::follow_bill(&mut bill);
        if is_parked {
            writes.extend(first);
        } else {
            bill.parked = None;
            writes.extend(entries::follow_bill(&mut bill));
        }
    }
    let added = entries::added_together(writes);
    let counts: Vec<&RecordWrite> = added
        .iter()
        .filter(|write| matches!(write, RecordWrite::Index(IndexWrite::Count { .. })))
        .collect();
    let mut places = BTreeSet::new();
    for count in &counts {
        let RecordWrite::Index(IndexWrite::Count { sheet, part, .. }) = count else {
            continue;
        };
        assert!(places.insert((sheet, part)), "{counts:?}");
    }
    let mut sheets = Sheets::default();
    let only_counts = counts.into_iter().cloned().collect();
    sheets.apply(only_counts);
    let sum: i64 = sheets.tallies.values().map(|tally| tally.count).sum();
    assert_eq!(sum, 1);
}

#[test]
fn who_waits_for_a_supplier_and_since_when_is_counted_while_it_lasts() {
    let mut sheets = Sheets::default();
    let mut one = record(7);
    one.coupa_supplier = Some(5_001);
    let unlinked = Exception {
        code: ExceptionCode::SupplierNotLinked,
        ..exception()
    };
    let now = Timestamp(1_764_550_800_000);
    let parked = Event::Parked {
        reason: ParkReason::Match {
            exceptions: vec![unlinked],
        },
    };
    let mut one = one.after(&parked, now).unwrap();
    sheets.apply(follow(&mut one, now).unwrap());
    assert!(sheets.lists().contains(&AWAITED_LIST));
    let counted = |sheets: &Sheets, sheet: &str| -> i64 {
        let of_sheet = sheets.tallies.iter().filter(|((name, _), _)| name == sheet);
        of_sheet.map(|(_, tally)| tally.count).sum()
    };
    assert_eq!(
        (
            counted(&sheets, "awaited/5001"),
            counted(&sheets, "since/2025-12")
        ),
        (1, 1)
    );
    one.state = State::Held {
        exceptions: vec![],
        awaits: vec![],
    };
    sheets.apply(follow(&mut one, now).unwrap());
    assert!(sheets.lists().contains(&HELD_LIST) && !sheets.lists().contains(&AWAITED_LIST));
    assert_eq!(
        (
            counted(&sheets, "awaited/5001"),
            counted(&sheets, "since/2025-12")
        ),
        (0, 1)
    );
    one.state = State::Approved;
    sheets.apply(follow(&mut one, now).unwrap());
    assert_eq!(sheets.lists(), ["view/working"]);
    assert_eq!(counted(&sheets, "since/2025-12"), 0);
}

/// What the version before has indexed gets the rows and counts that it did not know, and none twice.
#[test]
fn what_an_earlier_version_has_indexed_is_listed_and_counted_as_if_it_were_new() {
    let now = Timestamp(1_764_550_800_000);
    let held = Event::Held {
        exceptions: vec![],
        awaits: vec![],
        tolerance_version: String::new(),
    };
    let mut new = record(7).after(&held, now).unwrap();
    let mut sheets = Sheets::default();
    sheets.apply(follow(&mut new, now).unwrap());
    // As it was before: neither listed as held nor counted by its age.
    let mut old = new.clone();
    if let Some(indexed) = &mut old.indexed {
        indexed.version = 1;
    }
    let mut before = Sheets::default();
    let known = |list: &str| list != HELD_LIST;
    before.rows = sheets
        .rows
        .clone()
        .into_iter()
        .filter(|((list, _), _)| known(list))
        .collect();
    let counted = |sheet: &str| !sheet.starts_with("since/");
    before.tallies = sheets
        .tallies
        .clone()
        .into_iter()
        .filter(|((sheet, _), _)| counted(sheet))
        .collect();
    before.apply(follow(&mut old, now).unwrap());
    assert_eq!(before.rows, sheets.rows);
    assert_eq!(before.tallies, sheets.tallies);
    assert_eq!(old, new);
}
