//! Credentials that change on both systems while work is under way, and credentials that are simply wrong.

use super::world::{CONNECTION, Credentials, Life, now, until};
use sandbox::local::LocalEvent;
use sandbox::scenario::{Scenario, day};
use sandbox::world::World;

/// Stories that post without any trouble.
fn plain_stories() -> Vec<Scenario> {
    let mut stories = day(5);
    stories.retain(|story| {
        story.steps.len() <= 1
            && !story.expected.is_empty()
            && story.expected.iter().all(|one| one.state == "exported")
    });
    assert!(stories.len() >= 3, "{} stories", stories.len());
    stories
}

fn token_requests(life: &Life) -> u64 {
    let journal = life.simulators.journal.lock().unwrap();
    ["coupa.token", "qad.token"]
        .iter()
        .map(|name| journal.counters().get(*name).copied().unwrap_or(0))
        .sum()
}

const POLLS: [&str; 3] = ["PollCoupa", "PollReceipts", "PollPayments"];

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_on_both_systems_loses_nothing_and_a_wrong_credential_is_not_tried_in_a_loop() {
    let mut stories = plain_stories();
    // Approved one after the other, or the first poll would have them all.
    for invoice in stories.iter_mut().skip(1).flat_map(|story| &mut story.invoices) {
        invoice.status = "pending_approval".to_owned();
    }
    let invoices: Vec<u64> = stories.iter().map(|story| story.expected[0].invoice).collect();
    let world = World::seed(&stories, now());
    let life = Life::start("rotation", world, &[("Sweep", "every 1 second")]).await;

    // Every function has the credentials and a token.
    assert_eq!(life.send_event(invoices[0]).await.0, 202);
    life.wait_for(invoices[0], "exported").await;
    for poll in POLLS {
        life.local.run_schedule_now(CONNECTION, poll).await.unwrap();
    }

    // Both systems change at once, and so does the secret; nobody restarts anything.
    let second = Credentials {
        coupa_secret: "canary-coupa-client-secret-2".to_owned(),
        qad_password: "canary-qad-password-2".to_owned(),
    };
    life.rotate_there(&second);
    life.rotate_here(&second).await;
    let mut events = life.local.events();
    life.approve(invoices[1]);
    assert_eq!(life.send_event(invoices[1]).await.0, 202);
    life.wait_for(invoices[1], "exported").await;
    for poll in POLLS {
        life.local.run_schedule_now(CONNECTION, poll).await.unwrap();
    }
    while let Ok(event) = events.try_recv() {
        assert!(!matches!(event, LocalEvent::InvocationFailed { .. }), "{event:?}");
    }
    assert!(
        life.logs().contains("credentials_changed"),
        "a refusal made the secret be read again"
    );

    // They change again, and nobody tells us.
    life.rotate_there(&Credentials {
        coupa_secret: "canary-coupa-client-secret-3".to_owned(),
        qad_password: "canary-qad-password-3".to_owned(),
    });
    let before = token_requests(&life);
    life.approve(invoices[2]);
    assert_eq!(life.send_event(invoices[2]).await.0, 202);
    let waits = || {
        life.invoices().into_iter().find(|one| {
            one["invoice"] == invoices[2]
                && one["state"] == "received"
                && one["delayed_by"] == "COUPA_CREDENTIAL_REFUSED"
        })
    };
    until("it waits for the right credential", || async { waits() }).await;
    for _ in 0..10 {
        assert_eq!(life.send_event(invoices[2]).await.0, 202);
        life.local
            .run_schedule_now(CONNECTION, "PollReceipts")
            .await
            .unwrap();
    }
    until("all events are worked on", || async {
        let depth = life.local.queue_depths().await.unwrap()["InvoicesQueue"];
        (depth.visible + depth.in_flight == 0).then_some(())
    })
    .await;
    assert!(
        life.logs().contains("connection_refused"),
        "the alarm's metric is written"
    );
    assert!(waits().is_some(), "it is nobody's but its connection's");
    // A process asks once a minute, however much it has to do: at most four of match-invoice, and one of the poll's.
    let asked = token_requests(&life) - before;
    assert!(asked <= 12, "{asked} token requests with a wrong credential");
    life.shutdown().await;
}
