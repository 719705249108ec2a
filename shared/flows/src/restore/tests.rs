use super::*;
use crate::plans;
use crate::sync_model::Model;
use domain::lifecycle::State;
use domain::timing::Timing;

fn why() -> Instruction {
    Instruction::new("kim", "the register was restored to 08:15").unwrap()
}

/// Writes one event of an invoice, as a flow does.
async fn tell(context: &Context<'_>, id: InvoiceId, event: Event) -> Result<(), CommitError> {
    let known = load::<InvoiceRecord>(context.register, RecordKey::Invoice(id))
        .await
        .unwrap();
    let Loaded { document, revision } = known.unwrap_or_else(|| Loaded {
        document: InvoiceRecord::new(id, context.clock.now()),
        revision: 0,
    });
    let change = Change {
        document: document.after(&event, context.clock.now()).unwrap(),
        events: vec![event],
        writes: vec![],
    };
    save(context, revision, change).await.map(|_| ())
}

fn waits(word: &str) -> Event {
    Event::Received {
        coupa_status: Some(word.to_owned()),
    }
}

/// What the trail of an invoice tells, and what its record says.
async fn both(context: &Context<'_>, id: InvoiceId) -> (State, State) {
    let entries = context.register.audit(&invoice_audit_name(id)).await.unwrap();
    let record = load::<InvoiceRecord>(context.register, RecordKey::Invoice(id))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(verify_chain(&entries).unwrap(), record.document.chain);
    let events: Vec<Event> = entries
        .iter()
        .flat_map(|entry| serde_json::from_str::<Vec<Event>>(&entry.events).unwrap())
        .collect();
    (State::replay(&events).unwrap(), record.document.state)
}

#[tokio::test]
async fn an_invoice_that_is_older_than_its_trail_stands_still_until_it_is_anchored() {
    let (model, timing) = (Model::new(), Timing::default());
    let context = model.context(&timing);
    let (known, new) = (InvoiceId(7), InvoiceId(8));
    tell(&context, known, waits("draft")).await.unwrap();
    let then = model.state().records.clone();
    tell(&context, known, waits("pending_approval")).await.unwrap();
    tell(&context, new, waits("draft")).await.unwrap();
    model.state().records = then;
    for id in [known, new] {
        assert_eq!(
            tell(&context, id, waits("on_hold")).await,
            Err(CommitError::Conflict),
            "{id}"
        );
        assert!(anchor_invoice(&context, id, &why()).await.unwrap());
        assert!(
            !anchor_invoice(&context, id, &why()).await.unwrap(),
            "nothing is left to anchor"
        );
    }
    let (replayed, stands) = both(&context, known).await;
    let draft = State::Received {
        coupa_status: Some("draft".to_owned()),
    };
    assert_eq!(
        (&replayed, &stands),
        (&draft, &draft),
        "it stands where the register says"
    );
    let (replayed, stands) = both(&context, new).await;
    assert_eq!(
        (replayed, stands),
        (
            State::Received { coupa_status: None },
            State::Received { coupa_status: None }
        )
    );
    for id in [known, new] {
        tell(&context, id, waits("on_hold")).await.unwrap();
        both(&context, id).await;
    }
    let record = load::<InvoiceRecord>(context.register, RecordKey::Invoice(known))
        .await
        .unwrap()
        .unwrap();
    assert!(record.document.look_again.is_some(), "it is looked at");
}

#[tokio::test]
async fn what_is_no_invoice_is_anchored_or_made_anew_on_its_trail_and_only_after_a_person_said_so() {
    let (model, timing) = (Model::new(), Timing::default());
    let context = model.context(&timing);
    let say = async |entity: &str| {
        let day = "2026-12-01".parse().unwrap();
        opening::say(&context, &entity.parse().unwrap(), day, why())
            .await
            .map(|_| ())
    };
    let allow = async |lookup: &str| {
        let mut plan = plans::load(&context, Some(lookup)).await.unwrap();
        plan.document.unsettled = !plan.document.unsettled;
        let change = Change {
            document: plan.document,
            events: vec!["moved"],
            writes: vec![],
        };
        save(&context, plan.revision, change).await.map(|_| ())
    };
    allow("Known").await.unwrap();
    let then = model.state().records.clone();
    allow("Known").await.unwrap();
    say("10USACO").await.unwrap();
    model.state().records = then;
    assert_eq!(allow("Known").await, Err(CommitError::Conflict));
    assert_eq!(
        say("10USACO").await,
        Err(FlowError::Contended),
        "it has a trail, and no person has said why"
    );
    begin(&context, 1, &why()).await.unwrap();
    assert!(
        anchor::<PlanRecord>(&context, plans::key(Some("Known")))
            .await
            .unwrap()
    );
    allow("Known").await.unwrap();
    say("10USACO").await.unwrap();
    say("10USACO").await.unwrap();
    model.verify();
    let told = context.register.audit(AUDIT_NAME).await.unwrap();
    assert!(
        told[0].events.contains("kim") && told[0].events.contains("08:15"),
        "{told:?}"
    );
    let trail = context.register.audit(opening::AUDIT_NAME).await.unwrap();
    assert_eq!(trail.len(), 3, "nothing of it was taken away");
}

/// Two who make a record at the same time are no restore: one of them is told, and nothing is written over.
#[tokio::test]
async fn whoever_is_slower_to_make_a_record_is_still_told_after_a_restore() {
    let (model, timing) = (Model::new(), Timing::default());
    let context = model.context(&timing);
    begin(&context, 0, &why()).await.unwrap();
    tell(&context, InvoiceId(7), waits("draft")).await.unwrap();
    let change = Change {
        document: InvoiceRecord::new(InvoiceId(7), context.clock.now()),
        events: vec![waits("on_hold")],
        writes: vec![],
    };
    assert_eq!(
        save(&context, 0, change).await.map(|_| ()),
        Err(CommitError::Conflict)
    );
}

/// Restored once more, to before the first repair: what was written down about that is older than its trail too.
#[tokio::test]
async fn a_restore_after_a_restore_is_written_down_behind_the_first_one() {
    let (model, timing) = (Model::new(), Timing::default());
    let context = model.context(&timing);
    begin(&context, 3, &why()).await.unwrap();
    model.state().records.clear();
    begin(&context, 4, &why()).await.unwrap();
    begin(&context, 5, &why()).await.unwrap();
    model.verify();
    assert_eq!(context.register.audit(AUDIT_NAME).await.unwrap().len(), 3);
}
