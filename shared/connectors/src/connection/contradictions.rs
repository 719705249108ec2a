//! What settings say against one another without putting a document at risk: refused where a file is checked and stored, told
//! nowhere else, so that no connection that runs stops running over it.

use super::{ConnectionDocument, invalid};
use domain::coupa_orders::{CoupaOrderPolicy, OnCoupaOrder};
use domain::policy::{OnLine, OnOrderOnlyInCoupa};
use domain::problem::Problem;

impl ConnectionDocument {
    /// Every pair of settings of which one makes the other meaningless, both named.
    pub fn contradictions(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        self.scopes_that_settings_need(&mut problems);
        self.orders_that_are_not_read(&mut problems);
        self.entities_with_the_same_conditions(&mut problems);
        if self.suppliers.policy.create_in_qad && !self.suppliers.enabled {
            let expected = "true, because suppliers.create_in_qad is true";
            problems.push(invalid("suppliers.enabled", expected, "false"));
        }
        problems
    }

    /// Scopes that are listed are all that a token gets.
    fn scopes_that_settings_need(&self, problems: &mut Vec<Problem>) {
        if self.coupa.scopes.is_empty() {
            return;
        }
        let lines = &self.match_policy().lines;
        for (is_on, scopes, setting) in [
            (
                self.coupa.integration_history.enabled,
                &["core.integration.read", "core.integration.write"][..],
                "coupa.integration_history.enabled is true",
            ),
            (
                self.suppliers.enabled,
                &["core.supplier.read", "core.supplier.write"][..],
                "suppliers.enabled is true",
            ),
            (
                self.lookups.is_some(),
                &["core.common.read", "core.common.write"][..],
                "the section lookups is there",
            ),
            (
                self.coupa.owner_lookup.is_some(),
                &["core.common.read", "core.common.write"][..],
                "coupa.owner_lookup names a lookup",
            ),
            (
                lines.without_receipt == OnLine::Gl,
                &["core.purchase_order.read"][..],
                "lines.without_receipt is \"gl\"",
            ),
            (
                lines.order_only_in_coupa == OnOrderOnlyInCoupa::Gl,
                &["core.purchase_order.read"][..],
                "lines.order_only_in_coupa is \"gl\"",
            ),
        ] {
            let missing = scopes
                .iter()
                .filter(|scope| is_on && !self.coupa.scopes.iter().any(|listed| listed == **scope));
            for scope in missing {
                let expected = format!("{scope} among them, because {setting}");
                problems.push(invalid("coupa.scopes", expected, self.coupa.scopes.join(" ")));
            }
        }
    }

    fn orders_that_are_not_read(&self, problems: &mut Vec<Problem>) {
        let orders = &self.coupa.orders;
        if orders.read {
            return;
        }
        let standard = CoupaOrderPolicy::default();
        let is_given = |ours: OnCoupaOrder, theirs: OnCoupaOrder| ours != theirs;
        for (is_given, setting) in [
            (
                is_given(orders.cancelled, standard.cancelled),
                "coupa.orders.cancelled",
            ),
            (is_given(orders.closed, standard.closed), "coupa.orders.closed"),
            (
                is_given(orders.soft_closed, standard.soft_closed),
                "coupa.orders.soft_closed",
            ),
            (!orders.statuses.is_empty(), "coupa.orders.statuses"),
        ] {
            if is_given {
                let expected = format!("true, because {setting} says what orders in Coupa do");
                problems.push(invalid("coupa.orders.read", expected, "false"));
            }
        }
    }

    /// Every invoice that fits would be both entities'.
    fn entities_with_the_same_conditions(&self, problems: &mut Vec<Problem>) {
        for (index, entity) in self.entities.iter().enumerate() {
            let before = self.entities.iter().take(index);
            if let Some(same) = before
                .enumerate()
                .find(|(_, other)| !other.rule.when.is_empty() && other.rule.when == entity.rule.when)
            {
                problems.push(invalid(
                    &format!("entities[{index}].when"),
                    format!("other conditions than entities[{}].when", same.0),
                    "the same: every invoice that fits would be both entities'",
                ));
            }
        }
    }
}
