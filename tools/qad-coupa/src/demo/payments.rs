//! The payments of the demo's day: what Coupa and the register must show of them in the end, and the lines about it.

use super::{Complaints, Stage, lock};
use crate::output::Output;
use crate::payments;
use domain::explain;
use domain::lifecycle::InvoiceRecord;
use sandbox::scenario::payments::{PaymentDay, differs_in_coupa};

/// Stories that are told at the end.
const STORIES: [&str; 5] = [
    "paid in part, then the rest",
    "void after paid",
    "payment whose answer is lost",
    "paid more than the bill",
    "paid by Coupa",
];

/// What is not as the stories say.
pub(super) async fn unmet(stage: &Stage, day: &PaymentDay) -> Complaints {
    let mut complaints = Complaints::new();
    let bills = match payments::bills(&stage.register, None).await {
        Ok(bills) => bills,
        Err(failure) => return vec![format!("the bills cannot be read: {failure:?}")],
    };
    for expected in &day.bills {
        let found = bills.iter().find(|bill| bill.invoice.0 == expected.invoice);
        let word = found.map_or("without payments", |bill| bill.word());
        let problem = found.and_then(|bill| bill.left_alone.as_ref().or(bill.parked.as_ref()));
        let code = problem.map_or("", |problem| problem.code.as_str());
        if (word, code) != (expected.word, expected.code) {
            complaints.push(format!(
                "{}: the bill of invoice {} is {word} {code}; expected {} {}",
                expected.story, expected.invoice, expected.word, expected.code
            ));
        }
        if let Some(difference) = differs_in_coupa(&lock(&stage.simulators.world), expected) {
            complaints.push(format!("{}: {difference}", expected.story));
        }
    }
    let unmatched = payments::unmatched(&stage.register).await.unwrap_or_default();
    for reference in &day.unmatched {
        if !unmatched
            .iter()
            .any(|one| one.invoice.reference.as_str() == reference)
        {
            complaints.push(format!("the payment of {reference} is not shown as unmatched"));
        }
    }
    complaints
}

/// What became of the payments, in a few lines.
pub(super) fn report(stage: &Stage, day: &PaymentDay, records: &[InvoiceRecord], out: &Output) {
    let (mut paid, mut entries, mut negative) = (0usize, 0usize, 0usize);
    {
        let world = lock(&stage.simulators.world);
        for bill in &day.bills {
            let Some(invoice) = world.coupa.invoices.get(&bill.invoice) else {
                continue;
            };
            paid = paid.saturating_add(usize::from(invoice.paid));
            entries = entries.saturating_add(invoice.payments.len());
            let back = invoice
                .payments
                .iter()
                .filter(|entry| entry.amount_paid.is_sign_negative());
            negative = negative.saturating_add(back.count());
        }
    }
    out.line(&format!(
        "{entries} payment entries in Coupa for {} bills, {negative} of them negative; {paid} bills are paid, {} QAD payments belong to no invoice.",
        day.bills.len(),
        day.unmatched.len()
    ));
    out.gap();
    for name in STORIES {
        let story = day.scenarios.iter().find(|scenario| scenario.name == name);
        let bill = day.bills.iter().find(|bill| bill.story == name);
        let (Some(story), Some(bill)) = (story, bill) else {
            continue;
        };
        if let Some(record) = records.iter().find(|record| record.id.0 == bill.invoice) {
            out.line(&format!("{} ({})", explain::title(record), story.about));
            if let Some(state) = &record.paid {
                out.line(&format!("  {}", explain::paid_words(state)));
            }
        }
    }
    out.gap();
}
