//! What the records of one delivery of the queue ask of Coupa together: the first look at each document is one request for all
//! that look ([`Gathering`]), and their orders are one more ([`crate::coupa_orders`]).
//!
//! A request goes out when each of the delivery's records either waits for it or is known not to take part, never after a time.
//! So it begins after each of them was loaded from the register, as a look of its own would, and each takes its answer from it
//! once: every later look of the same run is a request of its own. What the answer does not hold is asked for alone; it says
//! nothing about what is not there.

use crate::coupa_orders::{KnownOrders, OrderReads};
use crate::ports::{CoupaBill, CoupaTogether, ReadError, TOGETHER_MAX};
use crate::store::{Context, FlowError};
use async_trait::async_trait;
use domain::documents::Invoice;
use domain::ids::{ConnectionId, InvoiceId};
use futures_util::future::poll_fn;
use futures_util::lock::Mutex as AsyncMutex;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

/// What is read in one delivery, apart for each connection: two of them may know documents of one number. Kept until the
/// next delivery begins.
#[derive(Default)]
pub struct DeliveryReads(Mutex<(String, BTreeMap<ConnectionId, Arc<ConnectionReads>>)>);

impl DeliveryReads {
    /// What a connection's Coupa is asked during the delivery of this id.
    pub fn of(&self, delivery: &str, connection: &ConnectionId) -> Arc<ConnectionReads> {
        let mut reads = locked(&self.0);
        if reads.0 != delivery {
            *reads = (delivery.to_owned(), BTreeMap::new());
        }
        Arc::clone(reads.1.entry(connection.clone()).or_default())
    }
}

/// What one connection's Coupa is asked during one delivery.
#[derive(Default)]
pub struct ConnectionReads {
    /// Looks at invoices.
    pub invoices: Arc<Gathering<Invoice>>,
    /// Looks at their payments.
    pub bills: Arc<Gathering<CoupaBill>>,
    /// Orders.
    pub orders: Arc<KnownOrders>,
}

/// What one run of the match shares with the others of its delivery; by default it is alone.
#[derive(Default)]
pub struct Reads<'a> {
    /// The first look at its invoice.
    pub first_look: FirstLook<'a, Invoice>,
    /// The orders that its invoice bills.
    pub orders: OrderReads<'a>,
}

/// A kind of document of which several can be asked for at once.
#[async_trait]
pub trait Gathered: Send + Sized {
    /// Whose it is.
    fn id(&self) -> InvoiceId;
    /// Asks for these.
    async fn read(coupa: &dyn CoupaTogether, ids: &[InvoiceId]) -> Result<Vec<Self>, ReadError>;
}

#[async_trait]
impl Gathered for Invoice {
    fn id(&self) -> InvoiceId {
        self.id
    }
    async fn read(coupa: &dyn CoupaTogether, ids: &[InvoiceId]) -> Result<Vec<Self>, ReadError> {
        coupa.invoices(ids).await
    }
}

#[async_trait]
impl Gathered for CoupaBill {
    fn id(&self) -> InvoiceId {
        self.id
    }
    async fn read(coupa: &dyn CoupaTogether, ids: &[InvoiceId]) -> Result<Vec<Self>, ReadError> {
        coupa.bills(ids).await
    }
}

/// Where those who are about to look at a document wait for each other.
pub struct Gathering<T>(Mutex<Open<T>>);

/// The request that is being put together.
struct Open<T> {
    /// Those who may still take part.
    about_to_ask: usize,
    /// Those who wait for it.
    request: Arc<Request<T>>,
}

/// One request for several documents.
struct Request<T> {
    askers: Mutex<Askers>,
    /// Whoever comes first asks for all. When that run ends before the answer is there, the next one asks.
    answer: AsyncMutex<Option<Answer<T>>>,
}

type Answer<T> = Result<BTreeMap<InvoiceId, T>, ReadError>;

#[derive(Default)]
struct Askers {
    ids: Vec<InvoiceId>,
    is_complete: bool,
    wakers: Vec<Waker>,
}

impl<T> Default for Request<T> {
    fn default() -> Self {
        Self {
            askers: Mutex::default(),
            answer: AsyncMutex::new(None),
        }
    }
}

impl<T> Default for Gathering<T> {
    fn default() -> Self {
        Self(Mutex::new(Open {
            about_to_ask: 0,
            request: Arc::default(),
        }))
    }
}

impl<T> Open<T> {
    /// One of those who might have asked has asked, or does not.
    fn one_less(&mut self) {
        self.about_to_ask = self.about_to_ask.saturating_sub(1);
        let mut askers = locked(&self.request.askers);
        if self.about_to_ask > 0 && askers.ids.len() < TOGETHER_MAX {
            return;
        }
        askers.is_complete = true;
        askers.wakers.drain(..).for_each(Waker::wake);
        drop(askers);
        self.request = Arc::default();
    }
}

impl<T> Request<T> {
    /// Waits until nobody joins any more; whom it is about then.
    async fn complete(&self) -> Vec<InvoiceId> {
        poll_fn(|task| {
            let mut askers = locked(&self.askers);
            if askers.is_complete {
                return Poll::Ready(askers.ids.clone());
            }
            askers.wakers.push(task.waker().clone());
            Poll::Pending
        })
        .await
    }
}

impl<T: Gathered> Request<T> {
    /// `None` when nobody else asks, and when the wait for the others has left no time for a request.
    async fn answer(
        &self,
        context: &Context<'_>,
        coupa: &dyn CoupaTogether,
        id: InvoiceId,
    ) -> Option<Result<Option<T>, ReadError>> {
        let ids = self.complete().await;
        if ids.len() < 2 {
            return None;
        }
        let mut answer = self.answer.lock().await;
        let answer = match &mut *answer {
            Some(answer) => answer,
            None if !context.has_time_for_a_call() => return None,
            none => none.insert(asked(coupa, &ids).await),
        };
        Some(match answer {
            Ok(documents) => Ok(documents.remove(&id)),
            Err(error) => Err(error.clone()),
        })
    }
}

async fn asked<T: Gathered>(coupa: &dyn CoupaTogether, ids: &[InvoiceId]) -> Answer<T> {
    let read = T::read(coupa, ids).await;
    if let Err(error) = &read {
        let problem = error.problem();
        tracing::info!(code = %problem.code, %problem, count = ids.len(), "not read together; each is asked for alone");
    }
    Ok(read?
        .into_iter()
        .map(|document| (document.id(), document))
        .collect())
}

/// The right to take part in one request, once. Whoever gives it up is not waited for any longer.
pub struct Seat<T> {
    gathering: Arc<Gathering<T>>,
    is_taken: AtomicBool,
}

impl<T> Seat<T> {
    /// A seat for a run that is about to begin; the others wait until it has asked or its seat is given up.
    pub fn at(gathering: &Arc<Gathering<T>>) -> Self {
        let mut open = locked(&gathering.0);
        open.about_to_ask = open.about_to_ask.saturating_add(1);
        drop(open);
        Self {
            gathering: Arc::clone(gathering),
            is_taken: AtomicBool::new(true),
        }
    }

    fn leave(&self) {
        if self.is_taken.swap(false, Ordering::SeqCst) {
            locked(&self.gathering.0).one_less();
        }
    }

    /// Joins the request that is being put together; `None` for whoever has no seat any more.
    fn join(&self, id: InvoiceId) -> Option<Arc<Request<T>>> {
        if !self.is_taken.swap(false, Ordering::SeqCst) {
            return None;
        }
        let mut open = locked(&self.gathering.0);
        let request = Arc::clone(&open.request);
        locked(&request.askers).ids.push(id);
        open.one_less();
        Some(request)
    }
}

impl<T> Drop for Seat<T> {
    fn drop(&mut self) {
        self.leave();
    }
}

/// The first look of a run at its document in Coupa, asked for with those of the others; by default there are none.
pub struct FirstLook<'a, T>(Option<(&'a Seat<T>, &'a dyn CoupaTogether)>);

impl<T> Default for FirstLook<'_, T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<'a, T> FirstLook<'a, T> {
    /// With those who have a seat at the same gathering, where there is somebody to ask for several at once.
    pub fn of(seat: &'a Seat<T>, coupa: Option<&'a dyn CoupaTogether>) -> Self {
        Self(coupa.map(|coupa| (seat, coupa)))
    }

    /// This run does not look now, or does something else before: the others do not wait for it.
    pub(crate) fn leave(&self) {
        if let Some((seat, _)) = self.0 {
            seat.leave();
        }
    }
}

impl<T: Gathered> FirstLook<'_, T> {
    /// What Coupa shows of the document: as the request for all of them shows it, where this is the run's first look. Where it is
    /// not, and where that request failed or its answer does not hold the document, it is asked for `alone`.
    pub(crate) async fn of_document(
        &self,
        context: &Context<'_>,
        id: InvoiceId,
        alone: impl Future<Output = Result<Option<T>, ReadError>>,
    ) -> Result<Result<Option<T>, ReadError>, FlowError> {
        let Some((request, coupa)) = self.join(id) else {
            return Ok(alone.await);
        };
        match request.answer(context, coupa, id).await {
            Some(Ok(Some(document))) => return Ok(Ok(Some(document))),
            // What keeps all of them waiting keeps each of them waiting, and there is no time to hear it once more.
            Some(Err(error @ ReadError::Unavailable { .. })) if !context.has_time_for_a_call() => {
                return Ok(Err(error));
            }
            Some(_) | None if !context.has_time_for_a_call() => return Err(FlowError::OutOfTime),
            Some(_) | None => {}
        }
        Ok(alone.await)
    }

    /// The request that is being put together, as long as this run has not looked.
    fn join(&self, id: InvoiceId) -> Option<(Arc<Request<T>>, &dyn CoupaTogether)> {
        let (seat, coupa) = self.0?;
        Some((seat.join(id)?, coupa))
    }
}

pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
pub(crate) mod tests;
