//! What all connections to one QAD tenant share: which of them there are, whose a QAD identity is, what is reserved on an
//! order. The records of an invoice, and its payments, stay its own connection's.
//!
//! Two Coupa instances number their invoices alike, so whoever holds something is named with the connection.

use crate::claims::{IdentityClaim, claim_keys, identity_text};
use crate::match_invoice::OrderRecord;
use crate::ports::{Commit, CommitError, RecordKey, RecordWrite, Register, StoredRecord};
use crate::store::{Context, FlowError, parse, render};
use domain::documents::Reservation;
use domain::ids::{
    ConnectionId, DomainCode, Holder, InvoiceId, PurchaseOrderNumber, QadInvoiceIdentity, QadTenant,
};
use domain::lifecycle::InvoiceRecord;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Tries to be entered among the connections of a tenant while others are.
const ENTER_TRIES_MAX: u32 = 4;

/// Who asks, and which QAD tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home {
    /// The connection.
    pub connection: ConnectionId,
    /// Its QAD.
    pub tenant: QadTenant,
}

impl Home {
    fn shared(&self, name: String) -> RecordKey {
        RecordKey::Shared {
            tenant: self.tenant.clone(),
            name,
        }
    }

    /// Where the connections of the tenant are listed.
    pub(crate) fn connections_key(&self) -> RecordKey {
        self.shared("connections".to_owned())
    }

    /// Where a QAD identity is claimed, whatever connection asks.
    pub(crate) fn claim_key(&self, identity: &QadInvoiceIdentity) -> RecordKey {
        self.shared(identity_text(identity))
    }

    /// Where is kept what is credited of the invoice of an identity, whatever connection asks.
    pub(crate) fn credits_key(&self, identity: &QadInvoiceIdentity) -> RecordKey {
        self.shared(Self::credits_name(identity))
    }

    /// The name of [`Home::credits_key`].
    pub(crate) fn credits_name(identity: &QadInvoiceIdentity) -> String {
        format!("credited/{}", identity_text(identity))
    }

    /// An invoice of a connection as this connection sees it.
    pub(crate) fn holder(&self, connection: &ConnectionId, invoice: InvoiceId) -> Holder {
        self.seen(Some(connection.clone()), invoice)
    }

    /// Who has claimed an identity, as this connection sees it.
    pub(crate) fn claimed_by(&self, claim: &StoredRecord) -> Result<Holder, FlowError> {
        let claim = parse::<SharedClaim>(claim)?;
        Ok(self.seen(Some(claim.connection), claim.owner))
    }

    /// The same within a posting year, for an invoice that a person has released beside another of the same number.
    pub(crate) fn year_key(&self, identity: &QadInvoiceIdentity, year: u32) -> RecordKey {
        self.shared(format!("{}/{year}", identity_text(identity)))
    }

    /// Where is kept what is reserved on an order of a domain, whatever connection asks.
    pub(crate) fn order_key(&self, domain: &DomainCode, number: &PurchaseOrderNumber) -> RecordKey {
        // The length in front: no two orders can spell the same key.
        let domain = domain.folded();
        self.shared(format!(
            "order/{}:{domain}/{}",
            domain.chars().count(),
            number.folded()
        ))
    }

    /// A holder as this connection sees it. What names no connection is of the one that stored it.
    fn seen(&self, connection: Option<ConnectionId>, invoice: InvoiceId) -> Holder {
        Holder {
            connection: connection.filter(|connection| *connection != self.connection),
            invoice,
        }
    }

    /// What is reserved on an order, as this connection sees it: in the record that all share, and in the one of its own
    /// that earlier versions wrote. Who stands in the first has been approved anew since.
    pub(crate) fn reserved(
        &self,
        domain: &DomainCode,
        shared: Option<&StoredRecord>,
        own: Option<&StoredRecord>,
    ) -> Result<OrderRecord, FlowError> {
        let mut order = shared.map(parse::<OrderRecord>).transpose()?.unwrap_or_default();
        for reservation in &mut order.reservations {
            reservation.connection = self
                .seen(reservation.connection.take(), reservation.invoice)
                .connection;
        }
        let known: BTreeSet<Holder> = order.reservations.iter().map(Reservation::holder).collect();
        let earlier = own.map(parse::<OrderRecord>).transpose()?.unwrap_or_default();
        let earlier = earlier.reservations.into_iter();
        order.reservations.extend(earlier.filter(|reservation| {
            reservation.receipt.domain == *domain && !known.contains(&reservation.holder())
        }));
        Ok(order)
    }

    /// The same as it is stored, every holder with its connection.
    pub(crate) fn stored(&self, mut order: OrderRecord) -> OrderRecord {
        for reservation in &mut order.reservations {
            reservation
                .connection
                .get_or_insert_with(|| self.connection.clone());
        }
        order
    }
}

/// The connections of one tenant, as stored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Connections {
    connections: BTreeSet<ConnectionId>,
}

/// The other connections of the tenant. The one that asks is entered before it decides anything, so that whoever posts
/// something later knows whom to wake.
pub(crate) async fn others(
    context: &Context<'_>,
    home: &Home,
    mut stored: Option<StoredRecord>,
) -> Result<BTreeSet<ConnectionId>, FlowError> {
    for attempt in 0..ENTER_TRIES_MAX {
        let seen = stored.as_ref().map_or(0, |stored| stored.revision);
        let known = stored.as_ref().map(parse::<Connections>).transpose()?;
        let mut known = known.unwrap_or_default();
        if known.connections.remove(&home.connection) {
            return Ok(known.connections);
        }
        let others = known.connections.clone();
        known.connections.insert(home.connection.clone());
        let commit = Commit {
            token: context.chance.token(),
            writes: vec![put(home.connections_key(), seen, render(&known)?)],
            audit: vec![],
        };
        match context.register.commit(commit).await {
            Ok(()) => return Ok(others),
            Err(CommitError::Store(error)) => return Err(error.into()),
            Err(CommitError::Conflict) => context.pause(attempt).await,
        }
        stored = read_one(context.register, home.connections_key()).await?;
    }
    Err(FlowError::Contended)
}

/// The other connections of the tenant, for whoever only looks.
pub(crate) fn known_others(
    home: &Home,
    stored: Option<&StoredRecord>,
) -> Result<BTreeSet<ConnectionId>, FlowError> {
    let known = stored.map(parse::<Connections>).transpose()?;
    let mut others = known.unwrap_or_default().connections;
    others.remove(&home.connection);
    Ok(others)
}

/// The registers of the other connections of the tenant.
pub(crate) async fn registers(
    register: &dyn Register,
    home: &Home,
) -> Result<Vec<Box<dyn Register>>, FlowError> {
    let stored = read_one(register, home.connections_key()).await?;
    let others = known_others(home, stored.as_ref())?;
    Ok(others.iter().map(|other| register.neighbour(other)).collect())
}

async fn read_one(register: &dyn Register, key: RecordKey) -> Result<Option<StoredRecord>, FlowError> {
    Ok(register.read(&[key]).await?.into_iter().next().flatten())
}

fn put(key: RecordKey, seen: u64, body: String) -> RecordWrite {
    RecordWrite::Put {
        key,
        seen,
        body,
        state: String::new(),
        due: None,
    }
}

/// Who owns a QAD identity among all connections of the tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct SharedClaim {
    connection: ConnectionId,
    owner: InvoiceId,
}

/// How an identity stands with the other connections of the tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Elsewhere {
    key: RecordKey,
    revision: u64,
    /// Other connections' invoices that have claimed it.
    pub(crate) holders: Vec<Holder>,
}

impl Elsewhere {
    /// Takes the shared claim from what was read. Where there is none yet, what the others have claimed before there was
    /// such a thing counts all the same.
    pub(crate) async fn of(
        register: &dyn Register,
        home: &Home,
        identity: &QadInvoiceIdentity,
        stored: Option<&StoredRecord>,
        others: &BTreeSet<ConnectionId>,
    ) -> Result<Self, FlowError> {
        let mut holders = Vec::new();
        match stored.map(parse::<SharedClaim>).transpose()? {
            Some(claim) => holders.push(home.seen(Some(claim.connection), claim.owner)),
            None => {
                for other in others {
                    let found = register.neighbour(other).read(&claim_keys(identity)).await?;
                    for claim in found.iter().flatten() {
                        let owner = parse::<IdentityClaim>(claim)?.owner;
                        holders.push(home.seen(Some(other.clone()), owner));
                    }
                }
            }
        }
        holders.retain(|holder| holder.connection.is_some());
        Ok(Self {
            key: home.claim_key(identity),
            revision: stored.map_or(0, |stored| stored.revision),
            holders,
        })
    }

    /// The same within a posting year. No earlier version has claimed such a thing.
    pub(crate) fn of_year(
        home: &Home,
        identity: &QadInvoiceIdentity,
        year: u32,
        stored: Option<&StoredRecord>,
    ) -> Result<Self, FlowError> {
        let claim = stored.map(parse::<SharedClaim>).transpose()?;
        let mut holders: Vec<Holder> = claim
            .map(|claim| home.seen(Some(claim.connection), claim.owner))
            .into_iter()
            .collect();
        holders.retain(|holder| holder.connection.is_some());
        Ok(Self {
            key: home.year_key(identity, year),
            revision: stored.map_or(0, |stored| stored.revision),
            holders,
        })
    }

    /// Claims it for an invoice of the connection that asks.
    pub(crate) fn claim(&self, home: &Home, owner: InvoiceId) -> Result<RecordWrite, FlowError> {
        let claim = SharedClaim {
            connection: home.connection.clone(),
            owner,
        };
        Ok(put(self.key.clone(), self.revision, render(&claim)?))
    }
}

/// Reads invoices, each from the register of its own connection.
pub(crate) async fn invoices(
    register: &dyn Register,
    holders: &BTreeSet<Holder>,
) -> Result<BTreeMap<Holder, InvoiceRecord>, FlowError> {
    let mut by_connection: BTreeMap<Option<&ConnectionId>, Vec<InvoiceId>> = BTreeMap::new();
    for holder in holders {
        by_connection
            .entry(holder.connection.as_ref())
            .or_default()
            .push(holder.invoice);
    }
    let mut records = BTreeMap::new();
    for (connection, ids) in by_connection {
        let keys: Vec<RecordKey> = ids.into_iter().map(RecordKey::Invoice).collect();
        let found = match connection {
            Some(other) => register.neighbour(other).read(&keys).await?,
            None => register.read(&keys).await?,
        };
        for stored in found.iter().flatten() {
            let record = parse::<InvoiceRecord>(stored)?;
            let holder = Holder {
                connection: connection.cloned(),
                invoice: record.id,
            };
            records.insert(holder, record);
        }
    }
    Ok(records)
}
