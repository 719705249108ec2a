//! What people ask of a Coupa invoice and nothing is decided by.
//!
//! Read forgivingly, unlike everything else: a due date that cannot be read must not keep an invoice from the ledger. What
//! cannot be read is left out, and the page then shows that it is not known, which is what Coupa's leaving it out means too.

use crate::json::Node;
use domain::documents::InvoiceParticulars;
use domain::ids::DocumentKind;
use domain::problem::clean;
use rust_decimal::Decimal;

/// Longest of these texts that is kept, in characters.
const CHARACTERS_MAX: usize = 80;
/// A discount of more than everything is none.
const PERCENT_MAX: Decimal = Decimal::ONE_HUNDRED;

/// Reads them; an address of Coupa's is not among the fields of an invoice and is added by the client.
pub(super) fn particulars(root: &Node<'_>, kind: DocumentKind) -> InvoiceParticulars {
    let term = root.get("payment-term");
    let date = |name: &str| root.get(name).required_date().ok();
    let rate = |field: &Node<'_>| {
        let percent = field.decimal().ok().flatten()?;
        (percent > Decimal::ZERO && percent <= PERCENT_MAX).then(|| percent.normalize())
    };
    InvoiceParticulars {
        due: date("net-due-date"),
        discount_until: date("discount-due-date"),
        discount_percent: rate(&term.get("discount-rate")),
        payment_term: first(&term, &["description", "code"]),
        requester: person(&root.get("requested-by")),
        plant: first(&root.get("ship-to-address"), &["name", "location-code", "city"]),
        original: first(root, &["original-invoice-number"]).filter(|_| kind == DocumentKind::CreditNote),
        page: None,
    }
}

/// The first of these fields that says something.
fn first(node: &Node<'_>, names: &[&str]) -> Option<String> {
    names.iter().find_map(|name| {
        let text = clean(&node.get(name).shown().ok().flatten()?);
        let short: String = text.chars().take(CHARACTERS_MAX).collect();
        let short = short.trim();
        (!short.is_empty()).then(|| short.to_owned())
    })
}

/// A user of Coupa's, by the name that people call him.
fn person(user: &Node<'_>) -> Option<String> {
    let whole = first(user, &["fullname"]).or_else(|| {
        let names = [first(user, &["firstname"]), first(user, &["lastname"])];
        let names: Vec<String> = names.into_iter().flatten().collect();
        (!names.is_empty()).then(|| names.join(" "))
    });
    whole.or_else(|| first(user, &["email", "login"]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::parse;

    fn read(text: &str, kind: DocumentKind) -> InvoiceParticulars {
        particulars(&Node::root(&parse(text.as_bytes()).unwrap()), kind)
    }

    #[test]
    fn what_people_ask_is_read_as_coupa_writes_it() {
        let text = r#"{
            "net-due-date": "2026-10-28T00:00:00+02:00", "discount-due-date": "2026-10-08T00:00:00+02:00",
            "payment-term": {"code": "NET30", "description": "Net 30, 2 % in 10", "discount-rate": 2.0},
            "requested-by": {"id": 5, "login": "rsample", "fullname": "Robin Sample"},
            "ship-to-address": {"name": null, "location-code": "10USA", "city": "Toledo"},
            "original-invoice-number": "INV-9"
        }"#;
        let invoice = InvoiceParticulars {
            due: "2026-10-28".parse().ok(),
            discount_until: "2026-10-08".parse().ok(),
            discount_percent: Some(Decimal::TWO),
            payment_term: Some("Net 30, 2 % in 10".to_owned()),
            requester: Some("Robin Sample".to_owned()),
            plant: Some("10USA".to_owned()),
            original: None,
            page: None,
        };
        assert_eq!(read(text, DocumentKind::Invoice), invoice);
        let credit = InvoiceParticulars {
            original: Some("INV-9".to_owned()),
            ..invoice
        };
        assert_eq!(read(text, DocumentKind::CreditNote), credit);
    }

    #[test]
    fn a_person_is_called_by_name_and_else_by_what_there_is() {
        for (user, called) in [
            (
                r#"{"firstname": "Robin", "lastname": "Sample", "login": "r"}"#,
                Some("Robin Sample"),
            ),
            (r#"{"lastname": "Sample"}"#, Some("Sample")),
            (
                r#"{"email": "r@example.com", "login": "r"}"#,
                Some("r@example.com"),
            ),
            (r#"{"login": "r"}"#, Some("r")),
            (r#"{"login": " "}"#, None),
            ("null", None),
        ] {
            let text = format!(r#"{{"requested-by": {user}}}"#);
            assert_eq!(
                read(&text, DocumentKind::Invoice).requester.as_deref(),
                called,
                "{user}"
            );
        }
    }

    /// None of it decides anything, so none of it may stand in the way.
    #[test]
    fn what_cannot_be_read_is_left_out() {
        let long = "x".repeat(5_000);
        let text = format!(
            r#"{{"net-due-date": "soon", "discount-due-date": 7, "payment-term": {{"code": ["x"], "discount-rate": "101"}},
               "requested-by": "Robin", "ship-to-address": {{"name": "A\u0000{long}"}}, "original-invoice-number": {{}}}}"#
        );
        let read = read(&text, DocumentKind::CreditNote);
        let plant = read.plant.clone().unwrap();
        assert_eq!(plant.chars().count(), CHARACTERS_MAX);
        assert!(plant.starts_with("A x"), "{plant}");
        assert_eq!(
            InvoiceParticulars { plant: None, ..read },
            InvoiceParticulars::default()
        );
    }
}
