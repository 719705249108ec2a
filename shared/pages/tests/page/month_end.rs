//! Month end: what the comparison has found by its name, and what has to be accrued with its accounts.

use super::*;
use domain::matching::LineCoding;
use domain::policy::ChargeAccount;
use domain::reconcile::{Difference, Kind};
use flows::ports::IndexWrite;
use flows::reconcile::{self, Reconciliation, Report, Standing};

const MONTH: &str = "/month/2026-03";
/// Noon of 2026-04-02, when that month is over.
const APRIL: i64 = 1_775_131_200_000;
/// The morning of that day.
const COMPARED: Timestamp = Timestamp(1_775_109_600_000);
/// An hour before the month was over.
const TOO_EARLY: Timestamp = Timestamp(1_774_998_000_000);

fn difference(id: u64, entity: &str, month: &str, what: &str) -> Standing {
    Standing {
        difference: Difference {
            kind: Kind::MissingInQad,
            explained: false,
            invoice: InvoiceId(id),
            reference: format!("=INV-{id}"),
            currency: "USD".to_owned(),
            amount: "1296.5".to_owned(),
            entity: entity.to_owned(),
            month: month.to_owned(),
            what: what.to_owned(),
        },
        since: Timestamp(1_764_000_000_000),
    }
}

impl World {
    async fn in_april() -> Self {
        let world = Self::new().await;
        world.fakes.now.store(APRIL, Ordering::Relaxed);
        world
    }

    fn compared(&self, seen: u64, unexplained: Vec<Standing>, beyond: u64) {
        self.compared_at(COMPARED, seen, unexplained, beyond);
    }

    fn compared_at(&self, at: Timestamp, seen: u64, unexplained: Vec<Standing>, beyond: u64) {
        let last = Report {
            started: at,
            ended: at,
            from: Timestamp(1_763_900_000_000),
            looked_at: 12,
            counts: BTreeMap::from([(Kind::WaitsForAPerson, 2), (Kind::MissingInQad, 3)]),
            unexplained,
            beyond,
            new: 0,
        };
        let kept = Reconciliation {
            last: Some(last),
            running: None,
        };
        self.lay(reconcile::key(), seen, serde_json::to_string(&kept).unwrap());
    }

    /// What an index of another version has written of an invoice that needs a person.
    fn break_row(&self, id: u64) {
        let row = IndexWrite::Put {
            list: "view/needs-you".to_owned(),
            id: format!("{:020}-{id:020}", 1_764_000_000_000_u64),
            body: "{".to_owned(),
        };
        self.register.lay_down(&Commit {
            writes: vec![RecordWrite::Index(row)],
            ..Commit::default()
        });
    }
}

/// Each by its name, with its entity and a link, on the page and in the file; a month is not signed while any of it stands.
#[tokio::test]
async fn every_difference_of_a_month_is_named_and_none_is_signed_over() {
    let world = World::in_april().await;
    let casey = world.enter(3).await;
    let page = world.get(&casey, MONTH).await.body;
    assert!(page.contains("They were not compared yet"), "{page}");
    assert!(
        page.contains("Coupa and QAD not compared yet"),
        "it is signed as such: {page}"
    );
    world.park(parked(7, "Example Castings")).await;
    let old = page;
    world.compared(
        0,
        vec![
            difference(8, "10USACO", "2026-03", "voucher 2026/SI/8 is <b>gone</b>"),
            difference(9, "20MXCO", "2026-03", "voucher 2026/SI/9 is gone"),
            difference(10, "10USACO", "2026-02", "voucher 2026/SI/10 is gone"),
            difference(11, "", "", "never read"),
        ],
        0,
    );
    let page = world.get(&casey, MONTH).await.body;
    for part in [
        "Unexplained in entity <bdi>10USACO</bdi>",
        "Unexplained in entity <bdi>20MXCO</bdi>",
        "<a href=\"/invoices/8\"><bdi>=INV-8</bdi></a>",
        "is &lt;b&gt;gone&lt;/b&gt;",
        "1,296.50 USD",
        "never read",
        "<a href=\"/month/2026-02\">Unexplained in 2026-02: 1</a>",
        "<a href=\"/invoices?view=needs-you\">Waits for a person: 2</a>",
        "when nothing of it is unexplained any more",
    ] {
        assert!(page.contains(part), "{part} in {page}");
    }
    assert!(
        !page.contains("2026/SI/10") && !page.contains("id=\"reason\""),
        "{page}"
    );
    let token = {
        let start = "name=\"t\" value=\"";
        let forms: Vec<&str> = old.split(start).skip(1).collect();
        forms[0].split('"').next().unwrap().to_owned()
    };
    let form = [
        ("t", token.as_str()),
        ("reason", "agreed with the ledger"),
        ("sure", "yes"),
    ];
    assert_eq!(
        world.post(&casey, MONTH, &form).await.status,
        StatusCode::FORBIDDEN
    );
    let file = world.get(&casey, "/month/2026-03/differences.csv").await.body;
    let lines: Vec<&str> = file.split("\r\n").collect();
    assert_eq!(lines.len(), 5, "{file}");
    let named = "2026-03,10USACO,missing-in-qad,no,8,'=INV-8,1296.5,USD,";
    assert!(lines.iter().any(|line| line.starts_with(named)), "{file}");
    assert!(file.contains(",http://127.0.0.1:1/invoices/8"), "{file}");
    let explained = "2026-03,,need you,yes,7,INV-7,1296,USD,";
    assert!(lines.iter().any(|line| line.starts_with(explained)), "{file}");
    // Cleared up, and found so by the next run: then it is signed.
    world.compared(1, vec![difference(10, "", "2026-02", "gone")], 0);
    let page = world.get(&casey, MONTH).await.body;
    assert!(page.contains("Nothing of this month is unexplained") && page.contains("id=\"reason\""));
    world.compared(2, vec![], 3);
    let page = world.get(&casey, MONTH).await.body;
    assert!(page.contains("3 more are unexplained than are named") && !page.contains("id=\"reason\""));
    let late = world.fakes.now.fetch_add(3 * 86_400_000, Ordering::Relaxed);
    let again = world.enter(3).await;
    assert!(
        world
            .get(&again, MONTH)
            .await
            .body
            .contains("more than two days ago"),
        "{late}"
    );
}

/// What was found before the month was over, or by a comparison that has died, says nothing of the month.
#[tokio::test]
async fn a_month_is_signed_on_a_comparison_of_the_whole_of_it_that_is_no_older_than_two_days() {
    let world = World::in_april().await;
    let shown = async || {
        let casey = world.enter(3).await;
        world.get(&casey, MONTH).await.body
    };
    let is_offered = |page: &str| page.contains("id=\"reason\"");
    assert!(is_offered(&shown().await), "there is no comparison yet");
    world.compared_at(TOO_EARLY, 0, vec![], 0);
    let early = shown().await;
    assert!(
        early.contains("compared after the month was over") && !is_offered(&early),
        "{early}"
    );
    world.compared(1, vec![], 0);
    assert!(is_offered(&shown().await));
    world.fakes.now.fetch_add(2 * 86_400_000, Ordering::Relaxed);
    let late = shown().await;
    assert!(
        late.contains("compared again within two days") && !is_offered(&late),
        "{late}"
    );
}

/// What is open is explained by a comparison that has seen it and by nothing else; what it left unexplained stands there once.
#[tokio::test]
async fn no_invoice_stands_in_the_file_of_differences_as_explained_and_as_unexplained() {
    let world = World::in_april().await;
    for id in [7, 8] {
        world.park(parked(id, "Example Castings")).await;
    }
    let casey = world.enter(3).await;
    let read = async || {
        let file = world.get(&casey, "/month/2026-03/differences.csv").await.body;
        let lines = file.split("\r\n").skip(1).map(str::to_owned);
        lines.collect::<Vec<String>>()
    };
    let begin = |lines: &[String], starts: &[&str]| {
        assert_eq!(lines.len(), starts.len(), "{lines:?}");
        for start in starts {
            assert!(
                lines.iter().any(|line| line.starts_with(start)),
                "{start} in {lines:?}"
            );
        }
    };
    let uncompared = [
        "2026-03,,need you,,7,INV-7,1296,USD,",
        "2026-03,,need you,,8,INV-8,1296,USD,",
    ];
    begin(&read().await, &uncompared);
    world.compared(
        0,
        vec![difference(7, "", "2026-03", "voucher 2026/SI/7 is gone")],
        2,
    );
    let compared = [
        "2026-03,,missing-in-qad,no,7,",
        ",,not-named-here,no,,,,,,2 more are unexplained than are named here",
        "2026-03,,need you,yes,8,INV-8,1296,USD,",
    ];
    begin(&read().await, &compared);
    let page = world.get(&casey, MONTH).await.body;
    assert!(page.contains("What is unexplained and what is open"), "{page}");
}

/// An address that is written in another way names the same month, and nothing is taken as nothing there.
#[tokio::test]
async fn an_address_in_other_letters_is_not_an_empty_month() {
    let world = World::new().await;
    world.park(parked(7, "Example Castings")).await;
    let casey = world.enter(3).await;
    for path in [
        "/month/2026%2D03",
        "/invoices/%37",
        "/month/2026%2D03/differences.csv",
    ] {
        let answer = world.get(&casey, path).await;
        let is_file = path.ends_with("csv");
        assert_eq!(
            answer.status == StatusCode::OK,
            is_file,
            "{path}: {}",
            answer.body
        );
        assert!(is_file || answer.body.contains("<h1>Not found"), "{path}");
    }
}

/// What waits is accrued on its accounts: one line for each, the total once, and nothing that a spreadsheet would run.
#[tokio::test]
async fn what_waits_is_accrued_with_its_accounts() {
    let world = World::new().await;
    let part = |line, amount: &str, account: Option<ChargeAccount>, coupa: &str| LineCoding {
        line,
        amount: amount.parse().unwrap(),
        account,
        coupa: coupa.to_owned(),
    };
    let account = ChargeAccount {
        gl_account: "6150".parse().unwrap(),
        sub_account: String::new(),
        cost_center: "@300".to_owned(),
        project: "P-1".to_owned(),
    };
    let mut coded = parked(7, "Example Castings");
    coded.coding = vec![
        part(Some(1), "1000.50", Some(account), "10USA-6150-300"),
        part(Some(1), "200", None, "+6999"),
        part(None, "95.5", None, ""),
    ];
    world.park(coded).await;
    world.park(parked(8, "Example Castings")).await;
    let casey = world.enter(3).await;
    let file = world.get(&casey, "/accrual.csv").await.body;
    let lines: Vec<&str> = file.split("\r\n").collect();
    assert_eq!(lines.len(), 5, "{file}");
    assert!(
        lines[0].ends_with(",line,line_net,gl_account,sub_account,cost_center,project,coupa_account,link")
    );
    let ends = |line: usize, end: &str| {
        let end = format!(
            "{end},http://127.0.0.1:1/invoices/{}",
            if line < 4 { 7 } else { 8 }
        );
        assert!(lines[line].ends_with(&end), "{end} in {}", lines[line]);
    };
    ends(1, ",1,1000.5,6150,,'@300,P-1,10USA-6150-300");
    ends(2, ",1,200,,,,,'+6999");
    ends(3, ",,95.5,,,,,");
    ends(4, ",,,,,,,");
    let totals = lines.iter().filter(|line| line.contains(",1296,USD,")).count();
    assert_eq!(totals, 2, "once for each invoice: {file}");
}

/// A record or a row that cannot be read is in the file with what is known of it, and takes nothing else away.
#[tokio::test]
async fn what_cannot_be_read_is_accrued_with_its_reason_and_never_as_nothing() {
    let world = World::new().await;
    for id in [7, 8, 9] {
        world.park(parked(id, "Example Castings")).await;
    }
    let mut posted = parked(10, "Example Castings");
    posted.state = State::Exported {
        voucher: Voucher {
            year: 2026,
            daybook: "SI".into(),
            number: 100_010,
        },
        how: PostedHow::Created,
    };
    posted.paid = Some(PaidState::Parked {
        problem: Problem::new("PAYMENT_AMBIGUOUS", ""),
    });
    let change = Change::<_, Event> {
        document: posted,
        events: vec![],
        writes: vec![],
    };
    save(&world.context(), 0, change).await.unwrap();
    for id in [7, 9] {
        world.lay(RecordKey::Invoice(InvoiceId(id)), 1, "{".to_owned());
    }
    for id in [8, 9, 10] {
        world.break_row(id);
    }
    let casey = world.enter(3).await;
    let file = world.get(&casey, "/accrual.csv").await.body;
    let lines: Vec<&str> = file.split("\r\n").skip(1).collect();
    let said = [
        ",INV-7,2026-03-05,PO7,1296,USD,REGISTER_RECORD_UNREADABLE,",
        ",INV-8,2026-03-05,PO8,1296,USD,PRICE_OVER_TOLERANCE,",
        "needs you,9,,,,,,,,,,REGISTER_RECORD_UNREADABLE,",
    ];
    assert_eq!(lines.len(), said.len(), "{file}");
    for (line, part) in lines.iter().zip(said) {
        assert!(line.contains(part), "{part} in {line}");
    }
}
