//! The business of qad-coupa: what an invoice, an order and a receipt are, when they match, how an invoice
//! lives, and how a write to the other side is made exactly once.
//!
//! Nothing here knows a clock, a network, a file, an await or a name from anyone's wire. Every function is
//! total: it answers with data for every input, never with a panic.
//!
//! | module | what it holds |
//! |---|---|
//! | [`ids`] | codes and numbers that cannot be wrong once they exist |
//! | [`reference`] | when two invoice numbers are one, and when they are near |
//! | [`money`] | currencies, exact decimals, the one rounding function |
//! | [`time`] | instants and calendar dates as data |
//! | [`problem`] | what is wrong, in the shape every error has: code, field, expected, actual, fix |
//! | [`documents`] | invoice, purchase order, goods receipt as this product holds them true |
//! | [`policy`] | tolerances and posting defaults: versioned data, not code |
//! | [`tolerance`] | how far a figure may differ before a person must look |
//! | [`master_data`] | QAD's own lists of codes and periods, and what they refuse |
//! | [`matching`] | the three-way match: [`matching::decide`] |
//! | [`lifecycle`] | the states of an invoice and the one function that moves it |
//! | [`timing`] | the chain of times that "never twice" rests on |
//! | [`effect`] | the state machine of a write to another system |
//! | [`drive`] | the protocol that moves it: what to do next, given what happened |
//! | [`guards`] | the conditions that all of this rests on, by name |
//! | [`ownership`] | which installation works with a pair of systems |
//! | [`parallel`] | what would have been posted, against what was keyed in QAD
//! | [`reconcile`] | what differs between both sides, and what explains it |
//! | [`payments`] | what QAD's payments demand of a Coupa invoice |
//! | [`suppliers`] | which supplier is which on both sides, and who is told what |
//! | [`lookups`] | what a Coupa lookup needs to show a QAD list |
//! | [`explain`] | any state in one plain sentence and a line matrix |
//! | [`words`] | figures, instants and codes in one form wherever a person reads them |

#![cfg_attr(
    test,
    allow(
        clippy::arithmetic_side_effects,
        clippy::as_conversions,
        clippy::result_large_err,
        reason = "tests count small numbers; an overflow there is a failing test"
    )
)]

pub mod coupa_orders;
pub mod csv;
pub mod documents;
pub mod drive;
pub mod effect;
pub mod entities;
pub mod explain;
pub mod guards;
pub mod ids;
pub mod index;
pub mod instruction;
pub mod lifecycle;
pub mod lookups;
pub mod mark;
pub mod master_data;
pub mod matching;
pub mod money;
pub mod ownership;
pub mod parallel;
pub mod patience;
pub mod payments;
pub mod plans;
pub mod policy;
pub mod problem;
pub mod reconcile;
pub mod reference;
pub mod suppliers;
pub mod time;
pub mod timing;
pub mod tolerance;
pub mod words;
