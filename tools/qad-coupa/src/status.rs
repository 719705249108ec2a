//! The health of one connection, in figures: what stands where, what waits, what needs somebody.

use crate::doctor::lists::{CENSUS_DAYS, counted_since, has_conditions};
use crate::output::{Column, Output};
use crate::place::{NamedQueue, Place, PlaceArguments, refused, unfinished, unread};
use crate::records::{self, STATES, Totals};
use crate::{Failure, lookups, payments, suppliers, view};
use aws::clock::SystemClock;
use aws_sdk_sqs::types::QueueAttributeName;
use clap::Args;
use domain::entities::Census;
use domain::explain;
use domain::ids::ConnectionId;
use domain::index::is_unknown;
use domain::lifecycle::{InvoiceRecord, State};
use domain::problem::Problem;
use domain::time::{Date, Timestamp};
use domain::words;
use flows::index::entries;
use flows::ports::{Books, Clock, RecordKey, Register, StoreError};
use flows::reconcile::Reconciliation;
use flows::{index, owner, pause};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// The polls that keep a watermark, by its name.
const WATERMARKS: [&str; 2] = ["receipts", "payments"];

#[derive(Debug, Args)]
pub(crate) struct StatusOptions {
    /// Ends with 4 when something needs a person: a parked invoice, bill, supplier or lookup, an unexplained difference of the daily
    /// reconcile, a lost answer, a dead letter.
    #[arg(long)]
    check: bool,
}

/// How full a queue is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Depth {
    pub(crate) queue: NamedQueue,
    pub(crate) visible: u64,
    pub(crate) in_work: u64,
    pub(crate) delayed: u64,
}

impl Depth {
    /// Nothing waits, and nobody works on anything.
    pub(crate) fn is_quiet(&self) -> bool {
        self.visible == 0 && self.in_work == 0 && self.delayed == 0
    }
}

/// Asks every queue how full it is.
pub(crate) async fn depths(place: &Place) -> Result<Vec<Depth>, Failure> {
    let mut depths = Vec::new();
    for queue in &place.queues {
        depths.push(depth(place, queue).await?);
    }
    Ok(depths)
}

/// Asks one queue how full it is.
pub(crate) async fn depth(place: &Place, queue: &NamedQueue) -> Result<Depth, Failure> {
    let attributes = attributes(place, queue).await?;
    let number = |name: QueueAttributeName| {
        let text = attributes.get(&name).map_or("", String::as_str);
        // What is not told is not "none".
        text.parse::<u64>().map_err(|_| {
            let fix = "Nothing to do: ask again. If it stays, this SQS is none that is known.";
            let problem = Problem::new("QUEUE_DEPTH_UNREADABLE", fix)
                .field(format!("{} {}", queue.name, name.as_str()))
                .expected("a number");
            Failure::Unreachable(problem.actual(text))
        })
    };
    Ok(Depth {
        queue: queue.clone(),
        visible: number(QueueAttributeName::ApproximateNumberOfMessages)?,
        in_work: number(QueueAttributeName::ApproximateNumberOfMessagesNotVisible)?,
        delayed: number(QueueAttributeName::ApproximateNumberOfMessagesDelayed)?,
    })
}

/// What SQS tells about a queue.
pub(crate) async fn attributes(
    place: &Place,
    queue: &NamedQueue,
) -> Result<HashMap<QueueAttributeName, String>, Failure> {
    let answer = place
        .clients()
        .sqs()
        .get_queue_attributes()
        .queue_url(&queue.url)
        .attribute_names(QueueAttributeName::All)
        .send()
        .await
        .map_err(|error| refused("SQS", "GetQueueAttributes", &error.into_service_error()))?;
    Ok(answer.attributes.unwrap_or_default())
}

/// Only what is told of a watermark: the flow that owns it has the rest.
#[derive(Deserialize)]
struct Watermark {
    cursor: Date,
}

async fn watermarks(register: &dyn Register) -> Result<Vec<(&'static str, Option<Date>)>, Failure> {
    let keys = WATERMARKS.map(|name| RecordKey::Watermark(name.to_owned()));
    let found = register
        .read(&keys)
        .await
        .map_err(|error| Failure::Unreachable(error.0))?;
    let marks = WATERMARKS.into_iter().zip(found).map(|(name, stored)| {
        let mark: Option<Watermark> = stored.and_then(|stored| records::readable(&[stored]).pop());
        (name, mark.map(|mark| mark.cursor))
    });
    Ok(marks.collect())
}

/// What stands where, with the two that are named.
pub(crate) struct Figures {
    /// Count and totals of each state.
    states: BTreeMap<String, (usize, Totals)>,
    oldest_hold: Option<InvoiceRecord>,
    unknown: Vec<InvoiceRecord>,
    delayed: usize,
}

impl Figures {
    /// From the index; from all invoices while the index does not hold all.
    pub(crate) async fn of(register: &dyn Books) -> Result<Self, Failure> {
        if records::is_whole(register).await? {
            Self::of_index(register).await
        } else {
            Ok(Self::of_records(records::all(register).await?))
        }
    }

    async fn of_index(register: &dyn Books) -> Result<Self, Failure> {
        let (standing, _) = index::figures(register, &[])
            .await
            .map_err(|error| Failure::Unreachable(error.0))?;
        let states = standing
            .states
            .into_iter()
            .map(|(word, sums)| {
                (
                    word,
                    (usize::try_from(sums.count).unwrap_or(0), Totals(sums.amounts)),
                )
            })
            .collect();
        Ok(Self {
            states,
            oldest_hold: records::oldest_of(register, index::HELD_LIST).await?,
            unknown: records::of_list(register, index::UNKNOWN_LIST).await?,
            delayed: usize::try_from(standing.delayed.count).unwrap_or(0),
        })
    }

    fn of_records(records: Vec<InvoiceRecord>) -> Self {
        let states = STATES
            .iter()
            .map(|word| {
                let of_state = || records.iter().filter(|record| record.state.word() == *word);
                ((*word).to_owned(), (of_state().count(), Totals::of(of_state())))
            })
            .collect();
        let delayed = records.iter().filter(|record| record.delay.is_some()).count();
        let oldest_hold = records
            .iter()
            .filter(|record| matches!(record.state, State::Held { .. }))
            .min_by_key(|record| record.since)
            .cloned();
        Self {
            states,
            oldest_hold,
            delayed,
            unknown: records.into_iter().filter(is_unknown).collect(),
        }
    }

    pub(crate) fn of_state(&self, word: &str) -> (usize, Totals) {
        self.states.get(word).cloned().unwrap_or_default()
    }
}

/// How much waits for a person, of each kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub(crate) struct Waiting {
    /// Parked invoices.
    invoices: usize,
    /// Bills whose payments are parked.
    bills: usize,
    /// Rows of QAD's payments that the last poll could not read or record.
    unreadable_payments: usize,
    /// Suppliers that are parked, or put aside because they cannot be read; and their plan, when it waits to be allowed.
    suppliers: usize,
    /// Lookups whose plan is parked and not allowed yet.
    lookups: usize,
    /// Differences between both sides that nothing explains, as the last daily run found them.
    differences: usize,
}

impl Waiting {
    pub(crate) async fn of(
        register: &dyn Books,
        invoices: usize,
        compared: &Reconciliation,
    ) -> Result<Self, Failure> {
        let (bills, suppliers) = Self::members(register).await?;
        let plan = suppliers::waiting_plan(register).await?;
        let lookups = lookups::records(register).await?;
        Ok(Self {
            invoices,
            bills,
            unreadable_payments: payments::unreadable(register).await?.len(),
            suppliers: suppliers
                .saturating_add(usize::from(plan.is_some_and(|plan| plan.waits_for_a_person()))),
            lookups: lookups
                .iter()
                .filter(|record| record.waits_for_a_person())
                .count(),
            differences: compared.last.as_ref().map_or(0, |last| {
                usize::try_from(last.unexplained_count()).unwrap_or(usize::MAX)
            }),
        })
    }

    /// How many bills and suppliers wait: from the index; from all of them while the index does not hold all.
    async fn members(register: &dyn Books) -> Result<(usize, usize), Failure> {
        if !records::is_whole(register).await? {
            let bills = payments::bills(register, Some("parked")).await?;
            let suppliers = suppliers::all(register).await?;
            let waiting = suppliers.iter().filter(|known| known.waits_for_a_person());
            return Ok((bills.len(), waiting.count()));
        }
        let unreachable = |error: StoreError| Failure::Unreachable(error.0);
        let (counted, _) = entries::counted(register, &BTreeSet::new())
            .await
            .map_err(unreachable)?;
        let aside = entries::ids(register, entries::QUARANTINED_LIST)
            .await
            .map_err(unreachable)?;
        let parked = usize::try_from(counted.parked_suppliers).unwrap_or(usize::MAX);
        Ok((
            usize::try_from(counted.parked_bills).unwrap_or(usize::MAX),
            parked.saturating_add(aside.len()),
        ))
    }

    fn words(self) -> String {
        format!(
            "{}, {}, {}, {}, {}, {}",
            words::count(self.invoices, "invoice"),
            words::count(self.bills, "bill"),
            words::count(self.unreadable_payments, "unreadable payment"),
            words::count(self.suppliers, "supplier"),
            words::count(self.lookups, "lookup"),
            words::count(self.differences, "unexplained difference")
        )
    }

    /// Everything that needs a person, each kind with the verb that shows it; `None` when nothing does.
    fn attention(self, lost: usize, dead: u64) -> Option<String> {
        let dead = usize::try_from(dead).unwrap_or(usize::MAX);
        let told: Vec<String> = [
            (self.invoices, "parked invoice", "parked"),
            (self.bills, "parked bill", "payments --state parked"),
            (
                self.unreadable_payments,
                "unreadable payment",
                "payments --unreadable",
            ),
            (self.suppliers, "parked or quarantined supplier", "suppliers list"),
            (self.lookups, "parked lookup", "lookups"),
            (self.differences, "unexplained difference", "reconcile --last"),
            (lost, "lost answer", "status --json"),
            (dead, "dead letter", "dlq list"),
        ]
        .into_iter()
        .filter(|(count, ..)| *count > 0)
        .map(|(count, what, verb)| format!("{} (`qad-coupa {verb}`)", words::count(count, what)))
        .collect();
        (!told.is_empty()).then(|| format!("NEEDS_ATTENTION: {}.", told.join(", ")))
    }
}

/// Whole days from a date to an instant.
fn days_since(date: Date, now: Timestamp) -> i32 {
    date.until(now.date_utc()).map_or(0, |span| span.get_days())
}

/// Whose the approved invoices of the last days are; `None` where nothing says it, and everything is one entity's.
async fn census(place: &Place, connection: &ConnectionId) -> Option<Result<Census, Failure>> {
    let systems = match place.systems(connection).await {
        Ok(systems) => systems,
        Err(failure) => return Some(Err(failure)),
    };
    if !has_conditions(&systems) {
        return None;
    }
    let counted = systems.coupa.census(counted_since()).await;
    Some(counted.map_err(unread))
}

/// The health of a connection at one instant.
struct Health {
    connection: ConnectionId,
    place: String,
    now: Timestamp,
    figures: Figures,
    watermarks: Vec<(&'static str, Option<Date>)>,
    depths: Vec<Depth>,
    census: Option<Result<Census, Failure>>,
    pauses: Vec<(pause::Flow, Option<pause::Pause>)>,
    /// Why the owner mark lets nothing be begun.
    not_owner: Option<Problem>,
    waiting: Waiting,
    compared: Reconciliation,
}

impl Health {
    async fn of(place: &Place) -> Result<Self, Failure> {
        let connection = place.connection().await?;
        let register = place.register(&connection)?;
        let figures = Figures::of(&register).await?;
        let compared = flows::reconcile::known(&register).await.map_err(unfinished)?;
        let waiting = Waiting::of(&register, figures.of_state("parked").0, &compared).await?;
        let mut pauses = Vec::new();
        for flow in pause::Flow::ALL {
            pauses.push((flow, pause::of(&register, flow).await.map_err(unfinished)?));
        }
        Ok(Self {
            place: place.name().to_string(),
            now: SystemClock.now(),
            figures,
            watermarks: watermarks(&register).await?,
            depths: depths(place).await?,
            census: census(place, &connection).await,
            pauses,
            not_owner: owner::known(&register)
                .await
                .map_err(unfinished)?
                .and_then(|owner| owner.stop(SystemClock.now())),
            waiting,
            compared,
            connection,
        })
    }

    /// Messages in the dead-letter queues.
    fn dead(&self) -> u64 {
        let dead = self.depths.iter().filter(|depth| depth.queue.is_dead_letter());
        dead.map(|depth| depth.visible).sum()
    }

    fn json(&self) -> Value {
        let states: serde_json::Map<String, Value> = STATES
            .iter()
            .map(|word| {
                let (count, totals) = self.figures.of_state(word);
                let sums = json!({ "count": count, "totals": totals.json() });
                ((*word).to_owned(), sums)
            })
            .collect();
        let queue = |depth: &Depth| {
            json!({ "queue": depth.queue.name, "waiting": depth.visible, "in_work": depth.in_work,
                    "delayed": depth.delayed })
        };
        let mark = |(name, date): &(&str, Option<Date>)| {
            json!({ "poll": name, "seen_until": date.map(|date| date.to_string()),
                    "days": date.map(|date| days_since(date, self.now)) })
        };
        let paused: BTreeMap<_, _> = self
            .pauses
            .iter()
            .filter_map(|(flow, pause)| Some((flow.word(), pause.as_ref()?)))
            .collect();
        let unknown = &self.figures.unknown;
        json!({
            "connection": self.connection, "place": self.place, "as_of": self.now.to_string(), "invoices": states,
            "paused": paused, "not_owner": self.not_owner,
            "oldest_hold": self.figures.oldest_hold.as_ref().map(view::invoice_json),
            "unknown": unknown.iter().map(view::invoice_json).collect::<Vec<_>>(),
            "delayed": self.figures.delayed,
            "watermarks": self.watermarks.iter().map(mark).collect::<Vec<_>>(),
            "queues": self.depths.iter().map(queue).collect::<Vec<_>>(),
            "waiting_for_a_person": self.waiting,
            "reconciled": self.compared.last.as_ref().map(|last| {
                json!({ "ended": last.ended.to_string(), "late": self.compared.is_late(self.now),
                        "looked_at": last.looked_at, "unexplained": last.unexplained_count(), "new": last.new })
            }),
            "entities": self.census.as_ref().map(|counted| match counted {
                Ok(census) => json!({ "days": CENSUS_DAYS, "census": census, "left_alone": census.left_alone() }),
                Err(failure) => json!({ "days": CENSUS_DAYS, "problem": failure.lines().join("; ") }),
            }),
        })
    }

    fn tell(&self, out: &Output) {
        let at = explain::instant(self.now);
        out.line(&format!("Connection {} ({}), {at}", self.connection, self.place));
        out.gap();
        let state = |word: &&str| {
            let (count, totals) = self.figures.of_state(word);
            vec![(*word).into(), count.into(), totals.to_string().into()]
        };
        out.texts(
            &[
                Column::word("State"),
                Column::figure("Invoices"),
                Column::sentence("Totals"),
            ],
            STATES.iter().map(state).collect(),
        );
        out.gap();
        self.tell_flows(out);
        out.line(&match &self.figures.oldest_hold {
            Some(record) => format!(
                "Oldest hold: {}, since {}",
                explain::title(record),
                explain::instant(record.since)
            ),
            None => "Oldest hold: none".to_owned(),
        });
        out.line(&format!("Waiting for a person: {}", self.waiting.words()));
        out.line(&format!(
            "Answers lost and not yet found again: {}",
            self.figures.unknown.len()
        ));
        out.line(&format!(
            "Could not be looked at, tried again by themselves: {}",
            self.figures.delayed
        ));
        self.tell_left_alone(out);
        for (name, date) in &self.watermarks {
            out.line(&match date {
                Some(date) => format!(
                    "Poll of {name}: seen until {date}, {} days ago",
                    days_since(*date, self.now)
                ),
                None => format!("Poll of {name}: never came to an end"),
            });
        }
        out.line(&format!(
            "Daily reconcile: {}",
            crate::reconcile::daily(&self.compared, self.now)
        ));
        out.gap();
        let queue = |depth: &Depth| {
            vec![
                depth.queue.name.as_str().into(),
                depth.visible.into(),
                depth.in_work.into(),
                depth.delayed.into(),
            ]
        };
        out.texts(
            &[
                Column::word("Queue"),
                Column::figure("Waiting"),
                Column::figure("In work"),
                Column::figure("Delayed"),
            ],
            self.depths.iter().map(queue).collect(),
        );
    }

    fn tell_flows(&self, out: &Output) {
        if let Some(problem) = &self.not_owner {
            let problem = crate::owner::with_command(problem.clone());
            out.line(&format!("NOTHING IS BEGUN: {problem}"));
        }
        for (flow, pause) in &self.pauses {
            if let Some(pause) = pause {
                out.line(&format!(
                    "{}: PAUSED since {} by {}: {}",
                    flow.word(),
                    explain::instant(pause.since),
                    pause.instruction.by,
                    pause.instruction.reason
                ));
            }
        }
        let running: Vec<&str> = self
            .pauses
            .iter()
            .filter(|(_, pause)| pause.is_none())
            .map(|(flow, _)| flow.word())
            .collect();
        if !running.is_empty() && self.not_owner.is_none() {
            out.line(&format!("Running: {}", running.join(", ")));
        }
    }

    fn tell_left_alone(&self, out: &Output) {
        match &self.census {
            None => {}
            Some(Ok(census)) => out.line(&format!(
                "Approved in Coupa in {CENSUS_DAYS} days and left alone, because no entity takes them: {}{}{}",
                if census.whole { "" } else { "at least " },
                census.left_alone(),
                match Census::words(&census.untaken) {
                    words if words.is_empty() => words,
                    words => format!(" ({words})"),
                }
            )),
            // A failed look-up is not "none".
            Some(Err(failure)) => out.line(&format!(
                "Approved in Coupa and left alone: could not be counted. {}",
                failure.lines().join("; ")
            )),
        }
    }
}

/// `status`.
pub(crate) async fn run(
    place: &PlaceArguments,
    options: &StatusOptions,
    out: &Output,
) -> Result<(), Failure> {
    let health = Health::of(&Place::open(place).await?).await?;
    out.value(|| health.json(), |out| health.tell(out));
    let attention = || {
        health
            .waiting
            .attention(health.figures.unknown.len(), health.dead())
    };
    match health
        .not_owner
        .as_ref()
        .map(Problem::to_string)
        .or_else(attention)
    {
        Some(told) if options.check => Err(Failure::Differs(told)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_waits_for_a_person_is_told_with_the_verb_that_shows_it() {
        assert_eq!(Waiting::default().attention(0, 0), None);
        let waiting = Waiting {
            bills: 2,
            lookups: 1,
            ..Waiting::default()
        };
        assert_eq!(
            waiting.attention(0, 3).as_deref(),
            Some(
                "NEEDS_ATTENTION: 2 parked bills (`qad-coupa payments --state parked`), 1 parked lookup \
                 (`qad-coupa lookups`), 3 dead letters (`qad-coupa dlq list`)."
            )
        );
        for waiting in [
            Waiting {
                invoices: 1,
                ..Waiting::default()
            },
            Waiting {
                suppliers: 1,
                ..Waiting::default()
            },
            Waiting {
                differences: 1,
                ..Waiting::default()
            },
        ] {
            assert!(waiting.attention(0, 0).is_some(), "{waiting:?}");
        }
        assert!(Waiting::default().attention(1, 0).is_some());
    }
}
