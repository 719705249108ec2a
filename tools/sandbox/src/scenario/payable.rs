//! What accounts payable meets on an ordinary day: what is owed and to whom, and how QAD's receipts and orders really look.

use super::*;
use serde_json::json;

/// The names of these stories, in the order of the day: each is told with its sentence at its end.
pub fn told() -> Vec<&'static str> {
    let mut day = Day::new(1);
    payable(&mut day);
    day.scenarios.iter().map(|scenario| scenario.name).collect()
}

pub(super) fn payable(day: &mut Day) {
    what_is_owed(day);
    whether_it_is_paid_here(day);
    orders_and_receipts(day);
    the_same_bill_twice(day);
    credits_by_purpose(day);
}

/// A field of Coupa's that most invoices lack.
fn field(invoice: &mut CoupaInvoice, name: &str, value: Value) {
    invoice.overrides.insert(name.to_owned(), value);
}

fn line_field(invoice: &mut CoupaInvoice, name: &str, value: Value) {
    edit_first_line(invoice, |line| {
        line.overrides.insert(name.to_owned(), value);
    });
}

fn what_is_owed(day: &mut Day) {
    day.case(
        "reverse charge",
        "1,210.00 with tax, of which the customer owes the tax itself: 1,000.00 is posted.",
        Seller::Duebel,
        |case| {
            let bill = case.received_order(whole(10), amount(100, 0));
            let invoice = case.invoice_with(&[bill], |invoice| {
                invoice.tax = amount(210, 0);
                field(invoice, "tax-due-to-supplier", json!("0.00"));
            });
            case.send(invoice);
            case.posted(invoice);
        },
    );
    day.case(
        "withholding is no tax",
        "18.00 of tax, 10.00 withheld at payment: QAD gets the tax, and withholds by itself.",
        Seller::Fasteners,
        |case| {
            let bill = case.received_order(whole(10), amount(10, 0));
            let invoice = case.invoice_with(&[bill], |invoice| {
                invoice.tax = amount(18, 0);
                field(
                    invoice,
                    "tax-lines",
                    json!([{"amount": "18.00", "type": "TaxLine"}, {"amount": "10.00", "type": "WithholdingTaxLine"}]),
                );
            });
            case.posted(invoice);
        },
    );
    day.case(
        "tax on the freight alone",
        "Goods without tax, freight with 4.20: both are in the total.",
        Seller::Fasteners,
        |case| {
            let bill = case.received_order(whole(10), amount(10, 0));
            let invoice = case.invoice_with(&[bill], |invoice| {
                invoice.line_level_taxation = true;
                invoice.total = Some(amount(124, 20));
                field(invoice, "tax-amount", Value::Null);
                field(
                    invoice,
                    "invoice-charges",
                    json!([{"type": "InvoiceShippingCharge", "line-num": 1, "total": "20.00", "account": null,
                            "account-allocations": [], "tax-lines": [{"amount": "4.20", "type": "TaxLine"}]}]),
                );
            });
            case.posted(invoice);
        },
    );
    day.case(
        "forints without decimals",
        "3 pieces at 33.50 are 101 forints, as Coupa says of the currency.",
        Seller::Duebel,
        |case| {
            let bill = case.order_with(whole(3), amount(33, 50), |order| {
                order.currency = "HUF".to_owned()
            });
            case.received(&bill, whole(3));
            let invoice = case.invoice_with(&[bill], |invoice| {
                invoice.currency = "HUF".to_owned();
                invoice.total = Some(whole(101));
                edit_first_line(invoice, |line| line.total = Some(whole(101)));
                field(invoice, "currency", json!({"code": "HUF", "decimals": 0}));
            });
            case.posted(invoice);
        },
    );
    day.case(
        "totals with twenty places",
        "A line's total as Coupa documents it, with twenty places.",
        Seller::Fasteners,
        |case| {
            let bill = case.received_order(whole(3), dec(333_333, 6));
            let invoice = case.invoice_with(&[bill], |invoice| {
                invoice.total = Some(amount(1, 0));
                line_field(invoice, "total", json!("0.99999900000000000000"));
            });
            case.posted(invoice);
        },
    );
    day.case(
        "terms that QAD does not know",
        "The payment term has no credit terms in QAD: said, not dropped.",
        Seller::Fasteners,
        |case| {
            let bill = case.received_order(whole(10), amount(10, 0));
            let invoice = case.invoice_with(&[bill], |invoice| {
                invoice.payment_term = Some("Net 45 days, 2 % within 10 days".to_owned());
            });
            case.parked(invoice, "CREDIT_TERMS_NOT_MAPPED");
        },
    );
}

fn whether_it_is_paid_here(day: &mut Day) {
    day.case(
        "no payment needed",
        "Coupa marks the invoice as canceled: nobody pays it by accident.",
        Seller::Castings,
        |case| {
            let bill = case.received_order(whole(10), amount(10, 0));
            let invoice = case.invoice_with(&[bill], |invoice| field(invoice, "canceled", json!(true)));
            case.parked(invoice, "CANCELED_IN_COUPA");
        },
    );
    day.case(
        "paid in advance",
        "Its notes say that it is paid already.",
        Seller::Castings,
        |case| {
            let bill = case.received_order(whole(10), amount(10, 0));
            let invoice = case.invoice_with(&[bill], |invoice| {
                field(
                    invoice,
                    "payment-agreement-notes",
                    json!("Paid by card on the phone"),
                );
            });
            case.parked(invoice, "PREPAID");
        },
    );
    day.case(
        "to be paid, as it says",
        "\"To be paid within 30 days\" says nothing of the kind: it posts.",
        Seller::Castings,
        |case| {
            let bill = case.received_order(whole(10), amount(10, 0));
            let invoice = case.invoice_with(&[bill], |invoice| {
                field(
                    invoice,
                    "payment-agreement-notes",
                    json!("To be paid within 30 days"),
                );
            });
            case.posted(invoice);
        },
    );
    day.case(
        "another payee",
        "The remit-to address is a factor that nobody has confirmed.",
        Seller::Castings,
        |case| {
            let bill = case.received_order(whole(10), amount(10, 0));
            let invoice = case.invoice_with(&[bill], |invoice| {
                field(
                    invoice,
                    "remit-to-address",
                    json!({"external-src-ref": "EXAMPLE-FACTOR", "remit-to-code": null}),
                );
            });
            case.parked(invoice, "REMIT_TO_NOT_MAPPED");
        },
    );
}

fn orders_and_receipts(day: &mut Day) {
    day.case(
        "discount on the order",
        "List price 100.00 with 10 percent discount: 90.00 is the price.",
        Seller::Fasteners,
        |case| {
            let bill = discounted(case);
            let invoice = case.invoice(&[bill.at(amount(90, 0))]);
            case.posted(invoice);
        },
    );
    day.case(
        "discount that the supplier forgot",
        "The same order, billed at the list price.",
        Seller::Fasteners,
        |case| {
            let bill = discounted(case);
            let invoice = case.invoice(&[bill]);
            case.parked(invoice, "PRICE_OVER_TOLERANCE");
        },
    );
    day.case(
        "price raised after the receipt",
        "Received at 10.00, the order is raised to 12.00 later, and 12.00 is billed.",
        Seller::Fasteners,
        |case| {
            let bill = case.order(whole(10), amount(12, 0));
            case.received_with(&bill, whole(10), |receipt| {
                receipt.unit_cost = Some(Exact(amount(10, 0)))
            });
            let invoice = case.invoice(&[bill]);
            case.parked(invoice, "PRICE_OVER_TOLERANCE");
        },
    );
    day.case(
        "scheduled order",
        "A schedule orders nothing by itself: what was received is the limit.",
        Seller::Castings,
        |case| {
            let bill = case.order_with(whole(500), amount(2, 0), |order| {
                edit_order_line(order, |line| {
                    line.ordered = Exact::default();
                    line.terms.scheduled = true;
                });
            });
            case.received(&bill, whole(500));
            let invoice = case.invoice(&[bill]);
            case.posted(invoice);
        },
    );
    day.case(
        "receiver closed short",
        "One of 100 was finished with 98; the bill for the next 100 takes the next alone.",
        Seller::Castings,
        |case| {
            let bill = case.order(whole(200), amount(2, 0));
            case.received_with(&bill, whole(100), |receipt| {
                receipt.vouchered = Exact(whole(98));
                receipt.finished = true;
            });
            case.received(&bill, whole(100));
            let invoice = case.invoice(&[bill.of(whole(100))]);
            case.posted(invoice);
        },
    );
    day.case(
        "consigned goods",
        "They are in the warehouse and still the supplier's: nothing is owed before they are used.",
        Seller::Castings,
        |case| {
            let bill = case.order_with(whole(10), amount(10, 0), |order| {
                edit_order_line(order, |line| line.terms.consignment = true);
            });
            case.received_with(&bill, whole(10), |receipt| receipt.consigned = true);
            // Its neighbour is bought outright, and shows what a pending voucher looks like in this tenant.
            let bought = case.another_line(whole(5), amount(3, 0));
            case.received(&bought, whole(5));
            let invoice = case.invoice(&[bill]);
            case.held(invoice, "CONSIGNED_NOT_USED");
        },
    );
    day.case(
        "evaluated receipts disallowed",
        "The order's word for evaluated receipts is 1, which means no: an ordinary bill.",
        Seller::Castings,
        |case| {
            let bill = case.order_with(whole(10), amount(10, 0), |order| {
                edit_order_line(order, |line| line.terms.evaluated_receipts = "1".to_owned());
            });
            case.received(&bill, whole(10));
            let invoice = case.invoice(&[bill]);
            case.posted(invoice);
        },
    );
    day.case(
        "lump sum by the month",
        "1,000.00 of a lump sum of 12,000.00: a twelfth is matched, to eight places.",
        Seller::Castings,
        |case| {
            let bill = case.received_order(whole(1), amount(12_000, 0));
            let invoice = case.invoice_with(&[bill], |invoice| amount_line(invoice, amount(1_000, 0)));
            case.posted(invoice);
        },
    );
}

fn discounted(case: &mut Case<'_>) -> Bill {
    let bill = case.order_with(whole(10), amount(100, 0), |order| {
        edit_order_line(order, |line| line.terms.discount_percent = Exact(whole(10)));
    });
    case.received(&bill, whole(10));
    bill
}

fn the_same_bill_twice(day: &mut Day) {
    day.case(
        "the same number with a zero",
        "3856/GST23-24 and 03856/GST23-24 over one amount: somebody compares before the second is paid.",
        Seller::Castings,
        |case| {
            let (first, second) = two_bills(case, "3856/GST23-24", "03856/GST23-24");
            case.posted(first);
            case.parked(second, "NEAR_DUPLICATE");
        },
    );
    day.case(
        "the same number to the eye",
        "The second carries an invisible letter: it is the same number.",
        Seller::Castings,
        |case| {
            let (first, second) = two_bills(case, "ZW-7001", "ZW-7001\u{200b}");
            case.posted(first);
            case.expect(second, "parked", &["DUPLICATE_REFERENCE"], 1, false);
        },
    );
}

/// Two orders of one amount; the second bill is approved when the first is in QAD.
fn two_bills(case: &mut Case<'_>, one: &str, other: &str) -> (u64, u64) {
    let first_bill = case.received_order(whole(10), amount(36, 0));
    let second_bill = case.received_order(whole(10), amount(36, 0));
    let first = case.invoice_with(&[first_bill], |invoice| invoice.number = one.to_owned());
    let second = case.invoice_with(&[second_bill], |invoice| {
        invoice.number = other.to_owned();
        invoice.status = "pending_approval".to_owned();
    });
    case.send(first);
    case.step(Step::WaitForState {
        invoice: first,
        state: "exported",
    });
    case.step(Step::Approve(second));
    case.send(second);
    (first, second)
}

fn credits_by_purpose(day: &mut Day) {
    day.case(
        "credit for a price",
        "A price credit while goods went back: it takes no return, and the return's own credit posts.",
        Seller::Fasteners,
        |case| {
            let bill = billed_with_a_return(case, 100);
            let for_price = case.invoice_with(&[bill.of(dec(-100, 0)).at(dec(5, 1))], |invoice| {
                credit(invoice);
                line_field(invoice, "adjustment-type", json!("Price"));
            });
            let for_goods = case.invoice_with(&[bill.of(dec(-100, 0))], credit);
            case.parked(for_price, "CREDIT_NOT_MAPPED");
            case.posted(for_goods);
        },
    );
    day.case(
        "return credited at less than it cost",
        "10 went back at 12.50 and are credited at 5.00: our loss, so a person looks.",
        Seller::Fasteners,
        |case| {
            let bill = billed_with_a_return(case, 10);
            let invoice = case.invoice_with(&[bill.of(dec(-10, 0)).at(amount(5, 0))], credit);
            case.parked(invoice, "PRICE_UNDER_TOLERANCE");
        },
    );
    day.case(
        "replacement billed before its credit note",
        "10 of 100 went back and came again: their bill waits for the credit note, then posts by itself.",
        Seller::Fasteners,
        |case| {
            let bill = billed_with_a_return(case, 10);
            case.received(&bill, whole(10));
            let note = case.invoice_with(&[bill.of(dec(-10, 0))], |invoice| {
                credit(invoice);
                invoice.status = "pending_approval".to_owned();
            });
            let replacement = case.invoice(&[bill.of(whole(10))]);
            case.send(replacement);
            case.step(Step::WaitForState {
                invoice: replacement,
                state: "held",
            });
            case.step(Step::Approve(note));
            case.send(note);
            case.posted(note);
            case.posted(replacement);
        },
    );
}

fn credit(invoice: &mut CoupaInvoice) {
    invoice.kind = DocumentKind::CreditNote;
    invoice.original_number = Some("INV-90001".to_owned());
}

/// 100 received and billed at 12.50, and some of them sent back.
fn billed_with_a_return(case: &mut Case<'_>, returned: u32) -> Bill {
    let bill = case.order(whole(100), amount(12, 50));
    case.received_with(&bill, whole(100), |receipt| {
        receipt.vouchered = Exact(whole(100));
        receipt.finished = true;
    });
    case.received_with(&bill, whole(returned), |receipt| receipt.is_return = true);
    bill
}
