//! Both systems, the register and the queue as far as suppliers and lookup values need them: stateful, small, and able to
//! fail at any call.

use crate::owner;
use crate::ports::*;
use crate::store::{Change, Context, Loaded, load, save, verify_chain};
use async_trait::async_trait;
use domain::ids::{InvoiceId, SupplierCode, fold};
use domain::lookups::{Action, CoupaValue, LOOKUP_MISSING, LookupCode, ParentReference, VALUE_TAKEN};
use domain::ownership::{OWNED_BY_ANOTHER, OwnerEvent, OwnerState, Ownership};
use domain::problem::Problem;
use domain::suppliers::{CoupaSupplier, CoupaSupplierStatus, QadSupplier, SupplierData, SupplierField};
use domain::time::{Date, Timestamp};
use domain::timing::Timing;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::Duration;

pub(crate) const MINUTE: i64 = 60_000;

/// What goes wrong with one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing happened, and the caller is told so.
    Before,
    /// It happened, and the answer is lost.
    After,
    /// The caller dies before the call: nothing it does from here on happens.
    DieBefore,
    /// The caller dies after the call happened.
    DieAfter,
}

impl Fault {
    pub(crate) const ALL: [Self; 4] = [Self::Before, Self::After, Self::DieBefore, Self::DieAfter];
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) now: Timestamp,
    pub(crate) calls: usize,
    pub(crate) fault: Option<(usize, Fault)>,
    dead: bool,
    tokens: u64,
    pub(crate) records: BTreeMap<RecordKey, (u64, String)>,
    pub(crate) audit: BTreeMap<String, Vec<AuditEntry>>,
    done: BTreeMap<String, Commit>,
    pub(crate) commits: u64,
    pub(crate) hints: Vec<Hint>,
    /// Every write that either system carried out, in words.
    pub(crate) journal: Vec<String>,
    pub(crate) reads: u64,
    next_id: u64,
    pub(crate) lookups: BTreeSet<String>,
    pub(crate) values: BTreeMap<u64, (String, CoupaValue)>,
    pub(crate) sources: BTreeMap<String, SourceScan>,
    pub(crate) coupa: BTreeMap<u64, CoupaSupplier>,
    pub(crate) coupa_unreadable: Vec<(Option<u64>, Problem)>,
    pub(crate) qad: BTreeMap<String, QadSupplier>,
    pub(crate) qad_unreadable: Vec<(Option<SupplierCode>, Problem)>,
    /// Words that make Coupa refuse what holds them.
    pub(crate) refused_word: Option<String>,
    /// The same for lookup values.
    pub(crate) refused_values: Vec<String>,
    /// Lookup values that no listing shows yet.
    pub(crate) hidden: BTreeSet<u64>,
    /// Coupa does not tell which lookups it has.
    pub(crate) mute: bool,
    /// Coupa takes new names of lookup values and keeps the old ones.
    pub(crate) keeps_names: bool,
    /// Sources of which no answer can be read.
    pub(crate) unreadable_sources: BTreeSet<String>,
}

pub(crate) struct Model(Mutex<State>);

/// Another installation is the owner from here on, or nobody asks for one any more.
pub(crate) async fn owned_by_another(model: &Model, is_so: bool) {
    let timing = Timing::default();
    let context = model.context(&timing);
    let known = load::<Ownership>(context.register, owner::key()).await.unwrap();
    let Loaded { document, revision } = known.unwrap_or_else(|| Loaded {
        document: Ownership::new("one".to_owned()),
        revision: 0,
    });
    let another = OwnerState::Another {
        epoch: 1,
        problem: Problem::new(OWNED_BY_ANOTHER, ""),
        since: context.clock.now(),
    };
    let state = if is_so { another } else { OwnerState::Unguarded };
    let change = Change {
        document: Ownership { state, ..document },
        events: vec![OwnerEvent::Unguarded],
        writes: vec![],
    };
    save(&context, revision, change).await.unwrap();
}

enum Broken {
    Before,
    After,
}

fn problem(broken: &Broken) -> Problem {
    Problem::new(
        if matches!(broken, Broken::Before) {
            "NO_ANSWER"
        } else {
            "ANSWER_LOST"
        },
        "",
    )
}

fn unread(broken: Broken) -> ReadError {
    ReadError::Unavailable {
        retry_after: None,
        problem: problem(&broken),
    }
}

fn unwritten(broken: Broken) -> WriteError {
    match broken {
        Broken::Before => WriteError::NotApplied {
            retry_after: None,
            problem: problem(&broken),
        },
        Broken::After => WriteError::Unknown(problem(&broken)),
    }
}

fn refused(code: &str) -> WriteError {
    WriteError::Refused(Problem::new(code, ""))
}

impl Model {
    pub(crate) fn new() -> Self {
        let state = State {
            now: Timestamp(1_774_000_000_000),
            next_id: 1_000,
            ..State::default()
        };
        Self(Mutex::new(state))
    }

    pub(crate) fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    pub(crate) fn wait(&self, minutes: i64) {
        let mut state = self.state();
        state.now = state.now.plus_millis(minutes * MINUTE);
        state.fault = None;
        state.dead = false;
    }

    pub(crate) fn context<'a>(&'a self, timing: &'a Timing) -> Context<'a> {
        Context {
            register: self,
            clock: self,
            chance: self,
            timing,
            deadline: self
                .state()
                .now
                .plus_millis(timing.function_millis - timing.stop_margin_millis),
        }
    }

    pub(crate) fn tick(&self) {
        let mut state = self.state();
        state.now = state.now.plus_millis(1);
    }

    pub(crate) fn journal(&self) -> Vec<String> {
        self.state().journal.clone()
    }

    /// All audit chains hold.
    pub(crate) fn verify(&self) {
        for entries in self.state().audit.values() {
            verify_chain(entries).unwrap();
        }
    }

    async fn call<T>(&self, act: impl FnOnce(&mut State) -> T) -> Result<T, Broken> {
        tokio::task::yield_now().await;
        let mut state = self.state();
        let number = state.calls;
        state.calls += 1;
        if state.dead {
            return Err(Broken::Before);
        }
        let fault = state
            .fault
            .filter(|(at, _)| *at == number)
            .map(|(_, fault)| fault);
        match fault {
            Some(Fault::Before) => Err(Broken::Before),
            Some(Fault::DieBefore) => {
                state.dead = true;
                Err(Broken::Before)
            }
            None => Ok(act(&mut state)),
            Some(fault) => {
                let _ = act(&mut state);
                state.dead = fault == Fault::DieAfter;
                Err(Broken::After)
            }
        }
    }

    async fn read<T>(&self, act: impl FnOnce(&mut State) -> T) -> Result<T, ReadError> {
        self.call(|state| {
            state.reads += 1;
            act(state)
        })
        .await
        .map_err(unread)
    }

    async fn write<T>(&self, act: impl FnOnce(&mut State) -> Result<T, WriteError>) -> Result<T, WriteError> {
        self.call(act).await.map_err(unwritten)?
    }

    async fn store<T>(&self, act: impl FnOnce(&mut State) -> T) -> Result<T, StoreError> {
        self.call(act)
            .await
            .map_err(|broken| StoreError(problem(&broken)))
    }
}

fn applied(state: &mut State, commit: &Commit) -> Result<(), CommitError> {
    if state.done.get(&commit.token) == Some(commit) {
        return Ok(());
    }
    let revision = |state: &State, key: &RecordKey| state.records.get(key).map_or(0, |record| record.0);
    let stands = commit.writes.iter().all(|write| match write {
        RecordWrite::Put { key, seen, .. } | RecordWrite::Check { key, seen } => {
            revision(state, key) == *seen
        }
        RecordWrite::Delete { .. } | RecordWrite::Index(_) => true,
    });
    let audit_fits = commit
        .audit
        .iter()
        .all(|entry| state.audit.get(&entry.document).map_or(0, Vec::len) as u64 + 1 == entry.sequence);
    if !stands || !audit_fits {
        return Err(CommitError::Conflict);
    }
    state.commits += 1;
    for write in &commit.writes {
        match write {
            RecordWrite::Put { key, seen, body, .. } => {
                state.records.insert(key.clone(), (seen + 1, body.clone()));
            }
            RecordWrite::Delete { key } => {
                state.records.remove(key);
            }
            RecordWrite::Check { .. } | RecordWrite::Index(_) => {}
        }
    }
    for entry in &commit.audit {
        state
            .audit
            .entry(entry.document.clone())
            .or_default()
            .push(entry.clone());
    }
    state.done.insert(commit.token.clone(), commit.clone());
    Ok(())
}

#[async_trait]
impl Register for Model {
    async fn read(&self, keys: &[RecordKey]) -> Result<Vec<Option<StoredRecord>>, StoreError> {
        self.store(|state| {
            let stored = |key: &RecordKey| {
                let (revision, body) = state.records.get(key)?.clone();
                Some(StoredRecord {
                    key: key.clone(),
                    revision,
                    body: Ok(body),
                })
            };
            keys.iter().map(stored).collect()
        })
        .await
    }
    async fn list(&self, group: &RecordGroup) -> Result<Vec<StoredRecord>, StoreError> {
        self.store(|state| {
            let belongs = |key: &RecordKey| {
                matches!((group, key), (RecordGroup::Collection(wanted), RecordKey::Entry { collection, .. }) if wanted == collection)
            };
            let found = state.records.iter().filter(|(key, _)| belongs(key));
            found.map(|(key, (revision, body))| StoredRecord { key: key.clone(), revision: *revision, body: Ok(body.clone()) }).collect()
        })
        .await
    }
    async fn commit(&self, commit: Commit) -> Result<(), CommitError> {
        self.store(|state| applied(state, &commit))
            .await
            .map_err(CommitError::Store)?
    }
    async fn due(&self, _: Timestamp, _: usize) -> Result<Vec<DueRecord>, StoreError> {
        Ok(vec![])
    }
    async fn audit(&self, document: &str) -> Result<Vec<AuditEntry>, StoreError> {
        Ok(self.state().audit.get(document).cloned().unwrap_or_default())
    }
    fn neighbour(&self, _: &domain::ids::ConnectionId) -> Box<dyn Register> {
        panic!("nothing of another connection is asked for")
    }
    async fn invoices(&self, _: Option<InvoiceId>, _: usize) -> Result<Vec<StoredRecord>, StoreError> {
        Ok(vec![])
    }
}

#[async_trait]
impl Queue for Model {
    async fn send(&self, hints: &[Hint]) -> Result<(), StoreError> {
        self.store(|state| state.hints.extend(hints.iter().cloned()))
            .await
    }
}

#[async_trait]
impl Clock for Model {
    fn now(&self) -> Timestamp {
        self.state().now
    }
    async fn sleep(&self, _: Duration) {
        tokio::task::yield_now().await;
    }
}

impl Chance for Model {
    fn token(&self) -> String {
        let mut state = self.state();
        state.tokens += 1;
        format!("token-{}", state.tokens)
    }
    fn up_to(&self, _: u64) -> u64 {
        0
    }
}

// ---------------------------------------------------------------------------------------------------------------

#[async_trait]
impl QadSources for Model {
    async fn source_values(&self, source: &str) -> Result<SourceScan, ReadError> {
        self.read(|state| {
            if state.unreadable_sources.contains(source) {
                return Err(ReadError::Unreadable(Problem::new("SOURCE_UNREADABLE", "")));
            }
            Ok(state.sources.get(source).cloned().unwrap_or_default())
        })
        .await?
    }
}

fn value_taken(state: &State, lookup: &str, value: &CoupaValue) -> bool {
    state.values.values().any(|(other_lookup, other)| {
        other_lookup == lookup
            && other.id != value.id
            && other.parent == value.parent
            && (other.name == value.name || (other.code.is_some() && other.code == value.code))
    })
}

#[async_trait]
impl CoupaLookups for Model {
    async fn lookup_values(&self, lookup: &str) -> Result<LookupScan, ReadError> {
        self.read(|state| {
            let values = state
                .values
                .values()
                .filter(|(name, value)| name == lookup && !state.hidden.contains(&value.id))
                .map(|(_, value)| value.clone());
            LookupScan {
                values: values.collect(),
                unreadable: vec![],
            }
        })
        .await
    }
    async fn has_lookup(&self, lookup: &str) -> Result<Option<bool>, ReadError> {
        self.read(|state| (!state.mute).then(|| state.lookups.contains(lookup)))
            .await
    }
    async fn find_lookup_values(
        &self,
        lookup: &str,
        code: &LookupCode,
    ) -> Result<Vec<CoupaValue>, ReadError> {
        self.read(|state| {
            let values = state
                .values
                .values()
                .filter(|(name, _)| name == lookup)
                .map(|(_, value)| value.clone());
            values
                .filter(|value| value.code.as_deref() == Some(code.as_str()))
                .collect()
        })
        .await
    }
    async fn create_lookup_value(
        &self,
        lookup: &str,
        action: &Action,
        _: &str,
    ) -> Result<CoupaValue, WriteError> {
        self.write(|state| {
            let code = action.code().unwrap().to_string();
            let external = action
                .parent_ref_code
                .as_ref()
                .map_or(code.clone(), |parent| format!("{parent}-{code}"));
            let value = CoupaValue {
                id: state.next_id + 1,
                name: action.name.clone(),
                active: action.active,
                code: Some(code.clone()),
                external_ref_code: Some(external),
                parent: action.parent_ref_code.clone().map(|code| ParentReference {
                    id: None,
                    external_ref_code: Some(code),
                }),
            };
            let unwanted = state
                .refused_values
                .iter()
                .any(|word| value.name.contains(word.as_str()));
            if !state.lookups.contains(lookup) {
                state.journal.push(format!("refused {lookup}"));
                return Err(refused(LOOKUP_MISSING));
            }
            if value_taken(state, lookup, &value) {
                return Err(refused(VALUE_TAKEN));
            }
            if unwanted {
                return Err(refused("COUPA_REFUSED"));
            }
            state.next_id += 1;
            state.journal.push(format!("create value {code}"));
            state.values.insert(value.id, (lookup.to_owned(), value.clone()));
            Ok(value)
        })
        .await
    }
    async fn update_lookup_value(
        &self,
        lookup: &str,
        id: u64,
        action: &Action,
        _: &str,
    ) -> Result<CoupaValue, WriteError> {
        self.write(|state| {
            let mut value = state
                .values
                .get(&id)
                .map(|(_, value)| value.clone())
                .ok_or_else(|| refused("NOT_FOUND"))?;
            if !state.keeps_names {
                value.name = action.name.clone();
            }
            value.active = action.active;
            let unwanted = state
                .refused_values
                .iter()
                .any(|word| value.name.contains(word.as_str()));
            if unwanted {
                return Err(refused("COUPA_REFUSED"));
            }
            if value_taken(state, lookup, &value) {
                return Err(refused(VALUE_TAKEN));
            }
            state
                .journal
                .push(format!("update value {}", action.code().unwrap()));
            state.values.insert(id, (lookup.to_owned(), value.clone()));
            Ok(value)
        })
        .await
    }
}

// ---------------------------------------------------------------------------------------------------------------

fn take(supplier: &mut CoupaSupplier, data: &SupplierData, now: Timestamp) {
    for (field, text) in data.iter() {
        match (field, text) {
            (SupplierField::Active, "true") => supplier.status = CoupaSupplierStatus::Active,
            (SupplierField::Active, _) => supplier.status = CoupaSupplierStatus::Inactive,
            _ => supplier.data.set(field, text),
        }
    }
    supplier.updated_at = now;
}

fn supplier_taken(state: &State, supplier: &CoupaSupplier) -> bool {
    state.coupa.values().any(|other| {
        let number = |one: &CoupaSupplier| one.number.as_deref().map(fold);
        other.id != supplier.id
            && (fold(other.data.name()) == fold(supplier.data.name())
                || (supplier.number.is_some() && number(other) == number(supplier)))
    })
}

#[async_trait]
impl CoupaSuppliers for Model {
    async fn suppliers(
        &self,
        since: Option<Timestamp>,
        after: Option<u64>,
    ) -> Result<CoupaSupplierPage, ReadError> {
        const PAGE: usize = 3;
        self.read(|state| {
            let wanted = |supplier: &&CoupaSupplier| {
                since.is_none_or(|since| supplier.updated_at > since)
                    && after.is_none_or(|after| supplier.id > after)
            };
            let suppliers: Vec<CoupaSupplier> =
                state.coupa.values().filter(wanted).take(PAGE).cloned().collect();
            CoupaSupplierPage {
                last: suppliers.last().map(|supplier| supplier.id),
                more: suppliers.len() == PAGE,
                unreadable: if after.is_none() {
                    state.coupa_unreadable.clone()
                } else {
                    vec![]
                },
                suppliers,
            }
        })
        .await
    }
    async fn suppliers_numbered(&self, number: &SupplierCode) -> Result<Vec<CoupaSupplier>, ReadError> {
        self.read(|state| {
            state
                .coupa
                .values()
                .filter(|supplier| supplier.is_numbered(number))
                .cloned()
                .collect()
        })
        .await
    }
    async fn create_supplier(
        &self,
        number: &SupplierCode,
        data: &SupplierData,
        _: &str,
    ) -> Result<CoupaSupplier, WriteError> {
        self.write(|state| {
            let mut supplier = CoupaSupplier {
                id: state.next_id + 1,
                number: Some(number.to_string()),
                status: CoupaSupplierStatus::NotApproved("draft".into()),
                data: SupplierData::default(),
                updated_at: state.now,
            };
            take(&mut supplier, data, state.now);
            let unwanted = state
                .refused_word
                .as_ref()
                .is_some_and(|word| supplier.data.name().contains(word.as_str()));
            if supplier_taken(state, &supplier) || unwanted {
                return Err(refused("COUPA_REFUSED"));
            }
            state.next_id += 1;
            state.journal.push(format!("create in coupa {number}"));
            state.coupa.insert(supplier.id, supplier.clone());
            Ok(supplier)
        })
        .await
    }
    async fn update_supplier(
        &self,
        id: u64,
        number: &SupplierCode,
        data: &SupplierData,
        _: &str,
    ) -> Result<CoupaSupplier, WriteError> {
        self.write(|state| {
            let mut supplier = state
                .coupa
                .get(&id)
                .cloned()
                .ok_or_else(|| refused("NOT_FOUND"))?;
            supplier.number = Some(number.to_string());
            take(&mut supplier, data, state.now);
            if supplier_taken(state, &supplier) {
                return Err(refused("COUPA_REFUSED"));
            }
            state.journal.push(format!("update in coupa {number}"));
            state.coupa.insert(id, supplier.clone());
            Ok(supplier)
        })
        .await
    }
}

#[async_trait]
impl QadSuppliers for Model {
    async fn suppliers_since(&self, since: Date) -> Result<QadSupplierScan, ReadError> {
        self.read(|state| QadSupplierScan {
            suppliers: state
                .qad
                .values()
                .filter(|supplier| supplier.last_modified >= since)
                .cloned()
                .collect(),
            unreadable: state.qad_unreadable.clone(),
        })
        .await
    }
    async fn supplier(&self, code: &SupplierCode) -> Result<Option<QadSupplier>, ReadError> {
        self.read(|state| state.qad.get(&code.folded()).cloned()).await
    }
    async fn create_supplier(
        &self,
        code: &SupplierCode,
        data: &SupplierData,
        _: &str,
    ) -> Result<QadSupplier, WriteError> {
        self.write(|state| {
            if state.qad.contains_key(&code.folded()) {
                return Err(WriteError::Unknown(Problem::new("QAD_ALREADY_EXISTS", "")));
            }
            let supplier = QadSupplier {
                code: code.clone(),
                data: data.clone(),
                kind: None,
                site: None,
                last_modified: state.now.date_utc(),
            };
            state.journal.push(format!("create in qad {code}"));
            state.qad.insert(code.folded(), supplier.clone());
            Ok(supplier)
        })
        .await
    }
    async fn update_supplier(
        &self,
        code: &SupplierCode,
        data: &SupplierData,
        _: &str,
    ) -> Result<QadSupplier, WriteError> {
        self.write(|state| {
            let now = state.now.date_utc();
            let supplier = state
                .qad
                .get_mut(&code.folded())
                .ok_or_else(|| refused("NOT_FOUND"))?;
            data.iter()
                .for_each(|(field, text)| supplier.data.set(field, text));
            supplier.last_modified = now;
            let supplier = supplier.clone();
            state.journal.push(format!("update in qad {code}"));
            Ok(supplier)
        })
        .await
    }
}
