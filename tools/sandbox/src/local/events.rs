//! What happens in the local run, as it happens: for a live view.

use std::time::Duration;
use tokio::sync::broadcast;

/// Events kept for a reader that is slow; older ones are lost to it, and it is told so.
const EVENTS_KEPT: usize = 1024;

/// Who called a function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trigger {
    /// Messages of a queue.
    Queue {
        /// The queue's name in the template.
        queue: String,
        /// How many messages.
        messages: usize,
    },
    /// A schedule.
    Schedule {
        /// The connection it belongs to.
        connection: String,
        /// Its name in the template.
        schedule: String,
    },
    /// An HTTP request.
    Http {
        /// The route, for example `POST /webhooks/coupa/{connection}`.
        route: String,
    },
    /// A person, through `LocalRun::invoke`.
    Direct,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LocalEvent {
    /// A function was called.
    InvocationStarted {
        /// Its name in the template.
        function: String,
        /// Lambda's request id.
        request_id: String,
        /// Who called.
        trigger: Trigger,
    },
    /// A function answered.
    InvocationFinished {
        /// Its name in the template.
        function: String,
        /// Lambda's request id.
        request_id: String,
        /// From call to answer, starting the process included.
        duration: Duration,
    },
    /// A function answered with an error, or did not answer.
    InvocationFailed {
        /// Its name in the template.
        function: String,
        /// Lambda's request id.
        request_id: String,
        /// From call to failure.
        duration: Duration,
        /// Why.
        error: String,
    },
    /// A process ended while it waited for a call; the next call starts another.
    ProcessEnded {
        /// The function's name in the template.
        function: String,
    },
    /// Messages of a batch stay in their queue and come again after their visibility timeout.
    MessagesReturned {
        /// The queue's name in the template.
        queue: String,
        /// How many.
        count: usize,
        /// Why.
        reason: String,
    },
    /// A scheduled call failed for good. Its event is in `queue`, or nowhere: the next tick finds the same work.
    ScheduledCallAbandoned {
        /// The connection it belongs to.
        connection: String,
        /// The schedule's name in the template.
        schedule: String,
        /// How often it was tried.
        attempts: u64,
        /// The queue that holds it, by its ARN.
        queue: Option<String>,
        /// Why.
        error: String,
    },
}

/// Sends events to whoever listens.
#[derive(Debug, Clone)]
pub(crate) struct EventSender {
    sender: broadcast::Sender<LocalEvent>,
}

impl EventSender {
    pub(crate) fn new() -> Self {
        let (sender, _) = broadcast::channel(EVENTS_KEPT);
        Self { sender }
    }

    pub(crate) fn send(&self, event: LocalEvent) {
        // Nobody listening is no failure: the events are for watching.
        self.sender.send(event).ok();
    }

    pub(crate) fn subscribe(&self) -> broadcast::Receiver<LocalEvent> {
        self.sender.subscribe()
    }
}
