//! A document in QAD that a person names on the page, and a question to the buyer.

use super::*;

const PATH: &str = "/invoices/7/adopt";

impl World {
    /// Sends the form of the act with what it carries, and the fields that are given.
    async fn name(&self, cookie: &str, fields: &[(&str, &str)]) -> Answer {
        let form = self.get(cookie, PATH).await;
        let carried = ["t", "revision", "content"].map(|name| (name, form.field(name)));
        let carried = carried.iter().map(|(name, value)| (*name, value.as_str()));
        let sent: Vec<(&str, &str)> = carried.chain(fields.iter().copied()).collect();
        self.post(cookie, PATH, &sent).await
    }
}

/// It goes into the register under what was seen, with who and why; QAD is asked by the one who has its credentials.
#[tokio::test]
async fn a_clerk_names_the_document_that_was_keyed_by_hand() {
    let world = World::new().await;
    world.park(parked(7, "Example Castings")).await;
    let dana = world.enter(0).await;
    let reason = ("reason", "keyed before the switch-on");
    for (fields, told) in [
        (
            &[("voucher", "100012"), reason][..],
            "Write the number as QAD shows it",
        ),
        (
            &[("voucher", "<script>/x/1"), reason],
            "Write the number as QAD shows it",
        ),
        (
            &[("voucher", "2026/SI/77"), ("total", "1,296"), reason],
            "Write the total in digits",
        ),
        (
            &[("voucher", "2026/SI/77"), ("total", "12"), ("reason", "ok")],
            "Say why in at least",
        ),
    ] {
        let answer = world.name(&dana, fields).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{fields:?}");
        assert!(
            answer.body.contains(told) && !answer.body.contains("<script"),
            "{}",
            answer.body
        );
        assert!(answer.body.contains(" id=\"complaint\""));
    }
    let named = [("voucher", " 2026/SI/77 "), ("total", "1290.5"), reason];
    let asked = world.name(&dana, &named).await;
    assert_eq!(
        (asked.status, asked.field("sure")),
        (StatusCode::OK, "yes".to_owned())
    );
    assert!(
        asked.body.contains("1,290.50 USD is accepted beside"),
        "{}",
        asked.body
    );
    assert_eq!(
        world.record(7).await.0.adoption,
        None,
        "nothing before it is confirmed"
    );
    let sure: Vec<(&str, &str)> = named.into_iter().chain([("sure", "yes")]).collect();
    let form = world.get(&dana, PATH).await;
    let done = world.name(&dana, &sure).await;
    assert_eq!(
        (done.location.as_str(), world.hints()),
        ("/invoices/7?done=adopt", 1)
    );
    let (record, _) = world.record(7).await;
    let request = record.adoption.unwrap();
    assert_eq!(request.voucher.to_string(), "2026/SI/77");
    assert_eq!(request.accepted_total, Some("1290.5".parse().unwrap()));
    assert_eq!(request.instruction.by, "local:dana@example.com");
    assert!(
        matches!(record.state, State::Parked { .. }),
        "it stands where it stood"
    );
    // The form that was in sight before is of what was there before.
    let (t, revision, content) = (form.field("t"), form.field("revision"), form.field("content"));
    let mut again: Vec<(&str, &str)> = vec![("t", &t), ("revision", &revision), ("content", &content)];
    again.extend(&sure);
    assert_eq!(world.post(&dana, PATH, &again).await.status, StatusCode::CONFLICT);
    let page = world.get(&dana, "/invoices/7?done=adopt").await.body;
    for part in [
        "has named QAD's <bdi>2026/SI/77</bdi> as its document",
        "is being looked up in QAD",
    ] {
        assert!(page.contains(part), "{part} in {page}");
    }
}

#[tokio::test]
async fn a_reader_names_no_document_and_asks_nobody() {
    let world = World::new().await;
    world.park(parked(7, "Example Castings")).await;
    let token = world.get(&world.enter(0).await, PATH).await.field("t");
    for reader in [3, 4] {
        let cookie = world.enter(reader).await;
        assert_eq!(world.get(&cookie, PATH).await.status, StatusCode::FORBIDDEN);
        let form = [("t", token.as_str()), ("voucher", "2026/SI/77"), ("sure", "yes")];
        assert_eq!(
            world.post(&cookie, PATH, &form).await.status,
            StatusCode::FORBIDDEN
        );
        let asked = world.get(&cookie, "/invoices/7/ask-buyer").await;
        assert_eq!(asked.status, StatusCode::FORBIDDEN);
    }
    assert_eq!((world.record(7).await.0.adoption, world.hints()), (None, 0));
}

/// What is on its way, or done with, has no document to be named.
#[tokio::test]
async fn no_document_is_named_of_what_is_on_its_way() {
    let world = World::new().await;
    let approved = Event::Approved {
        identity: "i".into(),
        request_sha256: "h".into(),
        tolerance_version: "t".into(),
        coupa_orders: vec![],
    };
    world.park_for(parked(7, "Example Castings"), approved).await;
    let dana = world.enter(0).await;
    assert_eq!(world.get(&dana, PATH).await.status, StatusCode::CONFLICT);
    let page = world.get(&dana, "/invoices/7").await.body;
    assert!(
        !page.contains("It is in QAD already") && !page.contains("Ask the buyer"),
        "{page}"
    );
    let asked = world.get(&dana, "/invoices/7/ask-buyer").await;
    assert_eq!(asked.status, StatusCode::CONFLICT);
    assert!(
        asked.body.contains("Nothing that this invoice waits for"),
        "{}",
        asked.body
    );
}

/// The text is ready, as a mail and to be copied; nothing is written and nobody is asked by it.
#[tokio::test]
async fn the_buyer_is_asked_by_a_text_that_is_ready() {
    let world = World::new().await;
    world
        .park(parked(7, "Example <b>Castings</b>\r\nBcc: x@example.com"))
        .await;
    world.park(parked(8, &"x".repeat(2_000))).await;
    let before = world.record(7).await;
    let dana = world.enter(0).await;
    let page = world.get(&dana, "/invoices/7/ask-buyer").await.body;
    for part in [
        "href=\"mailto:?subject=Please%20look%20at",
        "If this price was agreed, please change the order",
        "asked for by <bdi>Robin Sample</bdi>",
        "https://acme.coupahost.com/invoices/7",
    ] {
        assert!(page.contains(part), "{part} in {page}");
    }
    assert!(!page.contains("<b>Castings"), "{page}");
    let long = world.get(&dana, "/invoices/8/ask-buyer").await.body;
    assert!(
        long.contains("too long to be opened") && !long.contains("mailto:"),
        "{long}"
    );
    assert_eq!((world.record(7).await, world.hints()), (before, 0));
}

/// Without a session, with one that has ended, from elsewhere, with another's form, for an invoice that is not known, or in 10,000
/// letters: each has its page, and none of it names anything.
#[tokio::test]
async fn what_a_stranger_sends_names_no_document() {
    let world = World::new().await;
    world.park(parked(7, "Example Castings")).await;
    let (dana, robin) = (world.enter(0).await, world.enter(1).await);
    let form = world.get(&dana, PATH).await;
    let (t, revision, content) = (form.field("t"), form.field("revision"), form.field("content"));
    let whole = [
        ("t", t.as_str()),
        ("revision", &revision),
        ("content", &content),
        ("voucher", "2026/SI/77"),
        ("reason", "keyed before the switch-on"),
        ("sure", "yes"),
    ];
    let before = world.record(7).await;
    let told = |answer: Answer, status: StatusCode, what: &str| {
        assert_eq!(answer.status, status, "{what}: {}", answer.body);
        assert!(answer.body.contains("<h1>"), "{what}: {}", answer.body);
    };
    told(
        world.post("", PATH, &whole).await,
        StatusCode::UNAUTHORIZED,
        "no session",
    );
    told(
        world.post("qad-coupa-s=x", PATH, &whole).await,
        StatusCode::UNAUTHORIZED,
        "a session of nobody",
    );
    for origin in ["http://evil.example", "null", ""] {
        let answer = world.post_from(origin, &dana, PATH, &whole).await;
        told(answer, StatusCode::FORBIDDEN, origin);
    }
    told(
        world.post(&robin, PATH, &whole).await,
        StatusCode::FORBIDDEN,
        "another's form",
    );
    let release = world.post(&dana, "/invoices/7/skip", &whole).await;
    told(release, StatusCode::FORBIDDEN, "the form of another act");
    let unknown = world.post(&dana, "/invoices/99/adopt", &whole).await;
    told(unknown, StatusCode::FORBIDDEN, "the form of another invoice");
    let letters = "x".repeat(10_000);
    for (name, other) in [("voucher", "reason"), ("total", "voucher"), ("reason", "voucher")] {
        let mut long: Vec<(&str, &str)> = whole
            .iter()
            .copied()
            .filter(|(field, _)| *field != name)
            .collect();
        long.push((name, &letters));
        let answer = world.post(&dana, PATH, &long).await;
        if name == "reason" {
            // What is longer than a reason is cut to one, as on the command line; it is confirmed as it is kept.
            assert!(answer.status.is_redirection(), "{}", answer.status);
            let (record, _) = world.record(7).await;
            assert!(record.adoption.unwrap().instruction.reason.chars().count() <= 600);
            continue;
        }
        told(answer, StatusCode::UNPROCESSABLE_ENTITY, other);
        assert_eq!(
            (world.record(7).await, world.hints()),
            (before.clone(), 0),
            "{name}"
        );
    }
    for path in [
        "/invoices/99/adopt",
        "/invoices/%00/adopt",
        "/invoices/99/ask-buyer",
        "/month/%00/differences.csv",
    ] {
        told(world.get(&dana, path).await, StatusCode::NOT_FOUND, path);
    }
    world.fakes.now.fetch_add(9 * 3_600_000, Ordering::Relaxed);
    told(
        world.post(&dana, PATH, &whole).await,
        StatusCode::UNAUTHORIZED,
        "a session that has ended",
    );
}

/// A document that was taken over another total shows both, and what lies between them.
#[tokio::test]
async fn a_total_that_was_accepted_is_shown_beside_the_invoices() {
    let world = World::new().await;
    for (id, total) in [(7, "1290.5"), (8, "1296")] {
        let mut record = parked(id, "Example Castings");
        record.state = State::Exported {
            voucher: Voucher {
                year: 2026,
                daybook: "SI".into(),
                number: id,
            },
            how: PostedHow::Adopted,
        };
        record.posted_total = Some(total.parse().unwrap());
        let change = Change::<_, Event> {
            document: record,
            events: vec![],
            writes: vec![],
        };
        save(&world.context(), 0, change).await.unwrap();
    }
    let dana = world.enter(0).await;
    let page = world.get(&dana, "/invoices/7").await.body;
    assert!(
        page.contains("1,290.50 USD, 5.50 USD less than in Coupa"),
        "{page}"
    );
    let page = world.get(&dana, "/invoices/8").await.body;
    assert!(!page.contains("Total in QAD"), "{page}");
}
