//! Which of QAD's codes the settings name, to be checked against QAD's own lists.

use super::ConnectionDocument;
use domain::ids::EntityCode;
use domain::master_data::{CodeList, Named, of_policy};

impl ConnectionDocument {
    /// The codes that the settings name, by the entity in whose lists they have to be. What is no entity's alone (suppliers,
    /// the second person) has to be in the first one's.
    pub fn named_codes(&self) -> Vec<(EntityCode, Vec<Named>)> {
        let mut by_entity: Vec<(EntityCode, Vec<Named>)> = self
            .entities
            .iter()
            .map(|entity| (entity.rule.code.clone(), of_policy(&entity.policy)))
            .collect();
        if by_entity.is_empty() {
            by_entity.push((self.policy.entity.clone(), of_policy(&self.policy)));
        }
        if let Some((_, named)) = by_entity.first_mut() {
            named.extend(self.of_the_connection());
        }
        by_entity
    }

    fn of_the_connection(&self) -> Vec<Named> {
        let mut named: Vec<Named> = self
            .second_person
            .above
            .keys()
            .map(|currency| {
                let setting = format!("invoices.second_person.above.{currency}");
                Named::new(CodeList::Currencies, currency.as_str(), setting)
            })
            .collect();
        if !self.suppliers.enabled {
            return named;
        }
        // Without a map of their own the suppliers take the invoices', which is asked for there.
        let terms = &self.suppliers.policy.payment_terms;
        if *terms != self.policy.credit_terms {
            named.extend(terms.iter().map(|(term, code)| {
                let setting = format!("suppliers.payment_terms.{term}");
                Named::new(CodeList::CreditTerms, code.as_str(), setting)
            }));
        }
        if self.suppliers.policy.create_in_qad {
            let defaults = &self.suppliers.qad_defaults;
            let of_defaults = [
                (CodeList::Currencies, &defaults.currency, "currency"),
                (CodeList::CreditTerms, &defaults.credit_terms, "credit_terms"),
                (
                    CodeList::InvoiceStatuses,
                    &defaults.invoice_status,
                    "invoice_status",
                ),
            ];
            named.extend(of_defaults.map(|(list, code, name)| {
                Named::new(list, code.trim(), format!("suppliers.qad_defaults.{name}"))
            }));
        }
        named
    }
}
