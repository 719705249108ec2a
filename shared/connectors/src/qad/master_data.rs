//! QAD's lists of codes and periods, to check settings and documents against. None of them is needed to post: a tenant that
//! shows one not, or differently, has it unchecked.

use super::QadClient;
use super::profile::Resource;
use super::sources::Source;
use super::translate::period;
use super::wire::Criterion;
use domain::master_data::{CodeList, Codes, MasterData, Period, Periods};
use flows::ports::{QadSources, ReadError, SourceScan};
use std::collections::BTreeMap;

/// Our name of the criterion that selects an entity's periods.
const ENTITY: &str = "entity";

impl QadClient {
    /// Everything that this client's entity can be checked against. What gives no answer is said to be not shown.
    pub async fn master_data(&self) -> MasterData {
        let mut lists = BTreeMap::new();
        for list in CodeList::ALL {
            let read = match self.code_list(list).await {
                Ok(scan) => codes(&scan),
                Err(error) => Codes::NotShown(error.problem().to_string()),
            };
            lists.insert(list, read);
        }
        MasterData {
            codes: lists,
            periods: match self.periods().await {
                Ok(periods) => periods,
                Err(error) => Periods::NotShown(error.problem().to_string()),
            },
        }
    }

    async fn code_list(&self, list: CodeList) -> Result<SourceScan, ReadError> {
        let of_profile = |resource: &Resource| Source::whole(resource.clone());
        let source = match list {
            CodeList::Daybooks => of_profile(&self.profile.daybooks),
            CodeList::InvoiceStatuses => of_profile(&self.profile.invoice_statuses),
            CodeList::CreditTerms => of_profile(&self.profile.credit_terms),
            CodeList::Currencies => of_profile(&self.profile.currencies),
            // As the lookups read them.
            CodeList::GlAccounts => return self.source_values("gl-accounts").await,
            CodeList::CostCenters => return self.source_values("cost-centers").await,
            CodeList::Projects => return self.source_values("projects").await,
        };
        self.read_source(list.words(), &source).await
    }

    async fn periods(&self) -> Result<Periods, ReadError> {
        let resource = &self.profile.periods;
        let criteria = [Criterion::equal(ENTITY, self.entity.as_str())];
        let rows = self.rows("list_periods", resource, &criteria).await?;
        let rows = self.view(&rows, resource);
        let periods: Vec<Period> = rows
            .iter()
            .filter_map(|row| period(row, &self.entity).ok())
            .collect();
        let whole = periods.len() == rows.len();
        Ok(Periods::of(periods, whole))
    }
}

fn codes(scan: &SourceScan) -> Codes {
    let readable = scan
        .values
        .iter()
        .map(|value| (value.code.as_str(), Some(value.active)));
    let in_part = scan
        .unreadable
        .iter()
        .filter_map(|(code, _)| Some((code.as_ref()?.as_str(), None)));
    let whole = scan.unreadable.iter().all(|(code, _)| code.is_some());
    Codes::of(readable.chain(in_part), whole)
}
