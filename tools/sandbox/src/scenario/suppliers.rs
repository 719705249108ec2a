//! What the day shows of suppliers: one keyed in QAD, one approved in Coupa whose invoice waits for it, and two that share
//! a name and nothing else. They need `sync-suppliers`, which not everybody who plays the day runs: hence apart.

use super::{Case, Day, Scenario, Seller, Step, amount, whole};
use crate::world::World;
use crate::world::qad::Supplier;
use domain::ids::fold;
use domain::time::Timestamp;
use serde_json::{Map, Value};

/// First numbers of these stories, apart from those of the other stories.
const FIRST_INVOICE: u64 = 93_001;
/// See [`FIRST_INVOICE`].
const FIRST_ORDER: u32 = 4_600_101;
/// See [`FIRST_INVOICE`].
const FIRST_RECEIVER: u32 = 10_801;
/// Coupa's id of the supplier that is approved during the day.
const APPROVED: u64 = 5_006;
/// The code it gets by the built-in numbering.
const APPROVED_CODE: &str = "C5006";
/// Coupa's id of the supplier whose namesake QAD has.
const NAMESAKE: u64 = 5_005;
/// The namesake's code.
const NAMESAKE_CODE: &str = "S1009";
/// Code of the supplier keyed in QAD during the day.
const KEYED_CODE: &str = "S2001";
/// Its name at the end of the day.
const KEYED_NAME_AFTERWARDS: &str = "Example Bearings Worldwide";

/// What somebody does to a supplier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SupplierChange {
    /// Keys a new supplier in QAD.
    KeyInQad {
        /// Its code.
        code: String,
        /// Its name.
        name: String,
    },
    /// Changes one field of a supplier in QAD, by QAD's name of it.
    ChangeInQad {
        /// Its code.
        code: String,
        /// The field.
        field: &'static str,
        /// The value.
        value: Value,
    },
    /// Changes one field of a supplier in Coupa, by Coupa's name of it.
    ChangeInCoupa {
        /// Coupa's id.
        id: u64,
        /// The field.
        field: &'static str,
        /// The value.
        value: Value,
    },
}

impl SupplierChange {
    /// Does it.
    pub fn apply(&self, world: &mut World, now: Timestamp) {
        match self {
            Self::KeyInQad { code, name } => world.qad.add_supplier(
                &Supplier {
                    coupa_id: 0,
                    name: name.clone(),
                    coupa_number: None,
                    qad_code: Some(code.clone()),
                    currency: "USD".to_owned(),
                },
                now,
            ),
            Self::ChangeInQad { code, field, value } => world.qad.change_supplier(code, field, value, now),
            Self::ChangeInCoupa { id, field, value } => {
                let change = Map::from_iter([((*field).to_owned(), value.clone())]);
                // Whoever changes a supplier that is not there changes nothing.
                let _ = world.coupa.update_supplier(*id, change, now);
            }
        }
    }
}

/// How suppliers stand at the end of the day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExpectedSupplier {
    /// Both systems have it once under this code, with the same name and status.
    InBoth {
        /// The code.
        code: &'static str,
    },
    /// Both systems have it once under this code, and under this name, which it got after they had it.
    Renamed {
        /// The code.
        code: &'static str,
        /// The name.
        name: &'static str,
    },
    /// QAD has the code, and the supplier of the same name in Coupa has no number: a person must decide.
    Apart {
        /// The code.
        code: &'static str,
        /// Coupa's id.
        coupa: u64,
    },
}

impl ExpectedSupplier {
    /// QAD's code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::InBoth { code } | Self::Renamed { code, .. } | Self::Apart { code, .. } => code,
        }
    }

    /// The state in which `sync-suppliers` must have it.
    pub fn state(&self) -> &'static str {
        match self {
            Self::InBoth { .. } | Self::Renamed { .. } => "linked",
            Self::Apart { .. } => "parked",
        }
    }

    /// What is otherwise in the two systems; nothing when all is as it should be.
    pub fn complaint(&self, world: &World) -> Option<String> {
        let code = self.code();
        let text = |record: &Map<String, Value>, field: &str| {
            record
                .get(field)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        let Some(ours) = world.qad.suppliers.get(&fold(code)) else {
            return Some(format!("QAD has no supplier {code}"));
        };
        let numbered: Vec<_> = world
            .coupa
            .suppliers
            .values()
            .filter(|supplier| fold(&text(supplier, "number")) == fold(code))
            .collect();
        match (self, numbered.as_slice()) {
            (Self::InBoth { .. } | Self::Renamed { .. }, [theirs]) => {
                let active = text(theirs, "status") == "active";
                let name = text(theirs, "name");
                let same = text(ours, "businessRelationName") == name
                    && !matches!(self, Self::Renamed { name: wanted, .. } if *wanted != name)
                    && ours.get("isActive") == Some(&Value::Bool(active));
                (!same).then(|| format!("supplier {code} differs between QAD and Coupa"))
            }
            (Self::Apart { coupa, .. }, []) => {
                let theirs = world.coupa.suppliers.get(coupa);
                let alone = theirs.is_some_and(|supplier| text(supplier, "number").is_empty());
                (!alone).then(|| format!("Coupa's supplier {coupa} is gone or has got a number"))
            }
            (_, others) => Some(format!(
                "{} suppliers in Coupa have the number {code}",
                others.len()
            )),
        }
    }
}

/// True when Coupa has a supplier of this number.
pub fn is_in_coupa(world: &World, code: &str) -> bool {
    let is_it = |supplier: &Map<String, Value>| {
        let number = supplier.get("number").and_then(Value::as_str);
        number.is_some_and(|number| fold(number) == fold(code))
    };
    world.coupa.suppliers.values().any(is_it)
}

/// How suppliers stand at the end of the day.
pub fn expected_suppliers() -> Vec<ExpectedSupplier> {
    vec![
        ExpectedSupplier::Renamed {
            code: KEYED_CODE,
            name: KEYED_NAME_AFTERWARDS,
        },
        ExpectedSupplier::InBoth { code: APPROVED_CODE },
        ExpectedSupplier::Apart {
            code: NAMESAKE_CODE,
            coupa: NAMESAKE,
        },
    ]
}

/// What the systems hold before the day begins, besides what the stories seed.
pub fn before_the_day(world: &mut World, now: Timestamp) {
    for change in [
        SupplierChange::ChangeInCoupa {
            id: APPROVED,
            field: "status",
            value: Value::from("draft"),
        },
        SupplierChange::KeyInQad {
            code: NAMESAKE_CODE.to_owned(),
            name: "EXAMPLE PAINT".to_owned(),
        },
    ] {
        change.apply(world, now);
    }
}

/// The stories.
pub fn supplier_stories() -> Vec<Scenario> {
    let mut day = Day::new(0);
    day.next_invoice = FIRST_INVOICE;
    day.next_order = FIRST_ORDER;
    day.next_receiver = FIRST_RECEIVER;
    day.case(
        "supplier keyed in QAD",
        "It appears in Coupa under QAD's code, and gets another name there when QAD has it.",
        Seller::Fasteners,
        |case| {
            case.step(Step::ChangeSupplier(SupplierChange::KeyInQad {
                code: KEYED_CODE.to_owned(),
                name: "Example Bearings".to_owned(),
            }));
            case.step(Step::WaitForSupplier(KEYED_CODE));
            case.step(Step::ChangeSupplier(SupplierChange::ChangeInQad {
                code: KEYED_CODE.to_owned(),
                field: "businessRelationName",
                value: Value::from(KEYED_NAME_AFTERWARDS),
            }));
        },
    );
    day.case(
        "supplier approved in Coupa",
        "Its invoice waits until QAD has the supplier and Coupa its number.",
        Seller::Coatings,
        approved_in_coupa,
    );
    day.scenarios
}

fn approved_in_coupa(case: &mut Case<'_>) {
    let bill = case.order_with(whole(10), amount(10, 0), |order| {
        order.supplier = APPROVED_CODE.to_owned();
    });
    case.received(&bill, whole(10));
    let invoice = case.invoice(&[bill]);
    case.send(invoice);
    case.step(Step::WaitForState {
        invoice,
        state: "parked",
    });
    case.step(Step::ChangeSupplier(SupplierChange::ChangeInCoupa {
        id: APPROVED,
        field: "status",
        value: Value::from("active"),
    }));
    case.posted(invoice);
}
