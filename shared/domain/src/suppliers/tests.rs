use super::*;
use SupplierField::{Active, City, Country, Email, Name, PaymentTerms, TaxId};
use proptest::prelude::*;

fn code(text: &str) -> SupplierCode {
    text.parse().unwrap()
}

fn qad(text: &str, name: &str) -> QadSupplier {
    QadSupplier {
        code: code(text),
        data: SupplierData::default().with(Name, name).with(Active, "true"),
        kind: None,
        site: None,
        last_modified: "2026-03-05".parse().unwrap(),
    }
}

fn coupa(id: u64, name: &str, number: Option<&str>) -> CoupaSupplier {
    CoupaSupplier {
        id,
        number: number.map(str::to_owned),
        status: CoupaSupplierStatus::Active,
        data: SupplierData::default().with(Name, name),
        updated_at: Timestamp(0),
    }
}

fn tax_q(mut supplier: QadSupplier, tax: &str) -> QadSupplier {
    supplier.data.set(TaxId, tax);
    supplier
}

fn tax_c(mut supplier: CoupaSupplier, tax: &str) -> CoupaSupplier {
    supplier.data.set(TaxId, tax);
    supplier
}

fn directory(ours: &[QadSupplier], theirs: &[CoupaSupplier]) -> Directory {
    let mut directory = Directory::default();
    ours.iter().for_each(|one| directory.note_qad(one, None));
    theirs.iter().for_each(|one| directory.note_coupa(one, None));
    directory
}

fn link(supplier: &QadSupplier, directory: &Directory) -> QadLink {
    link_qad(supplier, directory, &SupplierPolicy::default(), None)
}

fn word(link: QadLink) -> String {
    match link {
        QadLink::Link(id, by) => format!("link {id} {by:?}"),
        QadLink::Create => "create".into(),
        QadLink::Park(problem) | QadLink::Propose(problem, _) => problem.code,
    }
}

#[test]
fn the_number_links_first_then_the_tax_id_and_a_name_only_proposes() {
    let theirs = [
        coupa(1, "ACME, Inc", Some("s1 ")),
        tax_c(coupa(2, "Beta", None), "DE-123 456 789"),
        coupa(3, "Gamma, Inc.", None),
        coupa(4, "Delta", Some("X9")),
    ];
    let link = |supplier: QadSupplier| {
        word(link(
            &supplier,
            &directory(std::slice::from_ref(&supplier), &theirs),
        ))
    };
    assert_eq!(link(qad("S1", "Acme Inc.")), "link 1 Number");
    assert_eq!(link(tax_q(qad("S2", "Beta"), "de123456789")), "link 2 TaxId");
    assert_eq!(link(qad("S3", "GAMMA INC")), "SUPPLIER_PROPOSED");
    assert_eq!(link(qad("S4", "Delta")), "SUPPLIER_NAME_TAKEN");
    assert_eq!(link(qad("S5", "Epsilon")), "create");
}

const TAX: &str = "NL001234567B01";

/// The contract's own example, and every filler of the built-in list: never linked, proposed with why, on both sides.
#[test]
fn strangers_with_the_same_filler_as_tax_id_are_never_linked() {
    for filler in [
        "N/A",
        "None",
        "PENDING",
        "exempt",
        "00-0000000",
        "NL000000000B00",
        "12-345",
        "999999999",
    ] {
        let cedar = tax_q(qad("10S1009", "Cedar Tools SA"), filler);
        let dahlia = tax_c(coupa(9009, "Dahlia Foods SARL", None), &filler.to_lowercase());
        let known = directory(std::slice::from_ref(&cedar), std::slice::from_ref(&dahlia));
        let QadLink::Propose(problem, candidates) = link(&cedar, &known) else {
            panic!("{filler}: {:?}", link(&cedar, &known))
        };
        assert_eq!(
            (problem.code.as_str(), candidates.len()),
            ("SUPPLIER_PROPOSED", 1)
        );
        let evidence = candidates[0].evidence;
        assert_eq!(
            (evidence.tax_id, evidence.tax_id_plausible),
            (Likeness::Same, false)
        );
        assert!(
            problem.actual.contains("cannot be one") && problem.actual.contains("Dahlia"),
            "{problem}"
        );
        let on = SupplierPolicy {
            create_in_qad: true,
            ..SupplierPolicy::default()
        };
        let other = link_coupa(&dahlia, &known, &on);
        assert!(matches!(other, CoupaLink::Propose(..)), "{filler}: {other:?}");
    }
}

#[test]
fn a_filler_of_the_connections_own_is_one_and_a_filler_of_one_that_is_linked_says_nothing() {
    let policy = SupplierPolicy {
        tax_id_fillers: TaxIdFillers::new(["12-3456789"]),
        ..SupplierPolicy::default()
    };
    let ours = tax_q(qad("S1", "Acme"), "123456789");
    let theirs = tax_c(coupa(1, "Acme", None), "12 3456789");
    let known = directory(std::slice::from_ref(&ours), std::slice::from_ref(&theirs));
    assert_eq!(word(link_qad(&ours, &known, &policy, None)), "SUPPLIER_PROPOSED");
    assert_eq!(word(link(&ours, &known)), "link 1 TaxId");
    // Two that are linked already carry the filler: that is nothing to ask a person about.
    let mut known = Directory::default();
    known.note_qad(&tax_q(qad("S2", "North"), "N/A"), Some(2));
    known.note_coupa(&tax_c(coupa(2, "North", Some("S2")), "N/A"), Some(&code("S2")));
    assert_eq!(word(link(&tax_q(qad("S3", "South"), "N/A"), &known)), "create");
    let alone = tax_c(coupa(4, "East", None), "N/A");
    assert!(matches!(
        link_coupa(&alone, &known, &SupplierPolicy::default()),
        CoupaLink::Wait(_)
    ));
}

#[test]
fn another_country_or_where_the_country_is_silent_another_name_speaks_against_a_tax_id() {
    let nobody = SupplierPolicy {
        masters: BTreeMap::from([(Name, Master::Nobody)]),
        ..SupplierPolicy::default()
    };
    let cases = [
        ("Acme", "NL", "Acme", "nl", "link 1 TaxId"),
        ("Acme", "NL", "Acme", "", "link 1 TaxId"),
        ("Acme", "", "Acme", "", "link 1 TaxId"),
        ("Acme", "NL", "", "NL", "link 1 TaxId"),
        ("Acme", "NL", "Acme", "BE", "SUPPLIER_PROPOSED"),
        ("Acme", "NL", "Other", "NL", "link 1 TaxId"),
        ("Acme", "NL", "Other", "", "SUPPLIER_PROPOSED"),
        ("Acme", "", "Other", "", "SUPPLIER_PROPOSED"),
    ];
    for (name, country, other, elsewhere, expected) in cases {
        let mut ours = tax_q(qad("S1", name), TAX);
        ours.data.set(Country, country);
        let mut theirs = tax_c(coupa(1, other, None), TAX);
        theirs.data.set(Country, elsewhere);
        let known = directory(std::slice::from_ref(&ours), std::slice::from_ref(&theirs));
        let linked = word(link_qad(&ours, &known, &nobody, None));
        assert_eq!(linked, expected, "{name} {country} {other} {elsewhere}");
    }
}

/// Whoever is master of the name, a link never writes over one, nor over a number; an empty one is filled.
#[test]
fn a_link_that_would_replace_a_name_or_a_number_is_proposed() {
    let master = |master| SupplierPolicy {
        masters: BTreeMap::from([(Name, master)]),
        ..SupplierPolicy::default()
    };
    let ours = tax_q(qad("S1", "Acme"), TAX);
    let replaces = |theirs: CoupaSupplier, policy: &SupplierPolicy| {
        let known = directory(std::slice::from_ref(&ours), std::slice::from_ref(&theirs));
        match link_qad(&ours, &known, policy, None) {
            QadLink::Propose(problem, candidates) => {
                assert!(problem.actual.contains("a link would replace"), "{problem}");
                candidates[0].replaces.clone()
            }
            QadLink::Link(..) => vec![],
            other => panic!("{other:?}"),
        }
    };
    let numbered = coupa(1, "Acme Old", Some("S1"));
    assert_eq!(
        replaces(numbered.clone(), &master(Master::Qad)),
        [Replaced::NameInCoupa]
    );
    assert_eq!(
        replaces(numbered.clone(), &master(Master::Either)),
        [Replaced::NameInCoupa]
    );
    assert_eq!(
        replaces(numbered.clone(), &master(Master::Coupa)),
        [Replaced::NameInQad]
    );
    assert_eq!(replaces(numbered, &master(Master::Nobody)), []);
    assert_eq!(replaces(coupa(1, "", Some("S1")), &master(Master::Qad)), []);
    assert_eq!(
        replaces(coupa(1, "A.C.M.E.", Some("S1")), &master(Master::Qad)),
        []
    );
    let mut renamed = tax_c(coupa(1, "Other", None), TAX);
    renamed.data.set(Country, "NL");
    let mut dutch = ours.clone();
    dutch.data.set(Country, "NL");
    let known = directory(std::slice::from_ref(&dutch), std::slice::from_ref(&renamed));
    assert_eq!(word(link(&dutch, &known)), "SUPPLIER_PROPOSED");
    // A number that QAD does not know would be written over as well.
    let stale = tax_c(coupa(1, "Acme", Some("X9")), TAX);
    assert_eq!(replaces(stale, &master(Master::Qad)), [Replaced::NumberInCoupa]);
    let mut known = directory(&[], &[]);
    known.note_qad(&qad("X9", "Another"), None);
    known.note_coupa(&tax_c(coupa(1, "Other", Some("X9")), TAX), None);
    assert_eq!(word(link(&ours, &known)), "create", "it is the other one's");
}

#[test]
fn what_a_person_accepted_is_linked_as_long_as_both_are_what_they_were() {
    let policy = SupplierPolicy::default();
    let ours = qad("S1", "Acme");
    let theirs = [coupa(1, "Acme Old", Some("S1"))];
    let known = directory(std::slice::from_ref(&ours), &theirs);
    let QadLink::Propose(_, candidates) = link(&ours, &known) else {
        panic!("proposed")
    };
    let accepted = Accepted {
        words: ours.words(),
        candidate: candidates[0].clone(),
    };
    let linked = |ours: &QadSupplier, theirs: &[CoupaSupplier]| {
        let known = directory(std::slice::from_ref(ours), theirs);
        word(link_qad(ours, &known, &policy, Some(&accepted)))
    };
    assert_eq!(linked(&ours, &theirs), "link 1 Person");
    assert_eq!(linked(&qad("S1", "Acme Ltd"), &theirs), "SUPPLIER_PROPOSED");
    assert_eq!(
        linked(&ours, &[coupa(1, "Dahlia", Some("S1"))]),
        "SUPPLIER_PROPOSED"
    );
    assert_eq!(
        linked(&ours, &[coupa(2, "Acme Old", Some("S1"))]),
        "SUPPLIER_PROPOSED"
    );
}

#[test]
fn a_tax_id_that_two_have_links_nobody() {
    let one = tax_q(qad("S1", "North"), TAX);
    let two = tax_q(qad("S2", "South"), TAX);
    let theirs = [tax_c(coupa(1, "North", None), TAX)];
    assert_eq!(
        word(link(&one, &directory(&[one.clone(), two], &theirs))),
        "SUPPLIER_PROPOSED"
    );
    let twins = [
        tax_c(coupa(1, "North", None), TAX),
        tax_c(coupa(2, "Other", None), TAX),
    ];
    assert_eq!(
        word(link(&one, &directory(std::slice::from_ref(&one), &twins))),
        "SUPPLIER_PROPOSED"
    );
    // One that has it and one that has only the name: the tax id says which.
    let namesake = [tax_c(coupa(1, "North", None), TAX), coupa(2, "NORTH", None)];
    assert_eq!(
        word(link(&one, &directory(std::slice::from_ref(&one), &namesake))),
        "link 1 TaxId"
    );
}

#[test]
fn a_filter_says_which_suppliers_are_taken_up_and_why_another_is_not() {
    let words = |list: &[&str]| list.iter().map(|word| fold(word)).collect();
    let filter = SupplierFilter {
        active: true,
        types: words(&["trade"]),
        sites: words(&["10-100", "10-200"]),
    };
    let wanted = QadSupplier {
        kind: Some("TRADE".into()),
        site: Some("10-200".into()),
        ..qad("S1", "Acme")
    };
    assert_eq!(filter.leaves_out(&wanted), None);
    assert_eq!(SupplierFilter::default().leaves_out(&qad("S1", "Acme")), None);
    let mut inactive = wanted.clone();
    inactive.data.set(Active, "false");
    let other = |kind: Option<&str>, site: Option<&str>| QadSupplier {
        kind: kind.map(str::to_owned),
        site: site.map(str::to_owned),
        ..qad("S1", "Acme")
    };
    for (supplier, why) in [
        (inactive, "it is not active in QAD"),
        (other(Some("EMPLOYEE"), Some("10-100")), "its type is EMPLOYEE"),
        (other(None, Some("10-100")), "QAD shows no type of it"),
        (other(Some("trade"), Some("10-300")), "its site is 10-300"),
        (other(Some("trade"), None), "QAD shows no site of it"),
    ] {
        assert_eq!(filter.leaves_out(&supplier), Some(format!("left alone: {why}")));
    }
}

#[test]
fn a_proposal_keeps_ten_names_two_and_says_how_many_more() {
    let ours = tax_q(qad("S1", "Acme"), "N/A");
    let theirs: Vec<CoupaSupplier> = (1..=13)
        .map(|id| tax_c(coupa(id, &format!("Other {id}"), None), "n/a"))
        .collect();
    let QadLink::Propose(problem, candidates) = link(&ours, &directory(&[], &theirs)) else {
        panic!("proposed")
    };
    assert_eq!(candidates.len(), 10);
    assert!(problem.actual.ends_with("and 11 more"), "{problem}");
}

#[test]
fn a_number_that_two_have_and_one_that_moved_are_parked_with_both_sides() {
    let ours = qad("S1", "Acme");
    let twins = [coupa(1, "Acme", Some("S1")), coupa(2, "Acme 2", Some("S1"))];
    let QadLink::Park(problem) = link(&ours, &directory(&[], &twins)) else {
        panic!("parked")
    };
    assert_eq!(problem.code, "SUPPLIER_NUMBER_TWICE");
    assert!(
        problem.field.contains("QAD S1") && problem.actual.contains("Coupa 2"),
        "{problem}"
    );
    let mut moved = Directory::default();
    moved.note_coupa(&coupa(1, "Acme", Some("S1")), Some(&code("S7")));
    assert_eq!(word(link(&ours, &moved)), "SUPPLIER_NUMBER_CHANGED");
}

#[test]
fn a_supplier_of_coupa_is_created_in_qad_only_when_approved_alone_and_allowed() {
    let on = SupplierPolicy {
        create_in_qad: true,
        ..SupplierPolicy::default()
    };
    let off = SupplierPolicy::default();
    let known = directory(&[qad("S1", "Acme")], &[]);
    let new = coupa(77, "Newcomer", None);
    assert_eq!(link_coupa(&new, &known, &on), CoupaLink::Create(code("C77")));
    assert_eq!(
        link_coupa(&new, &known, &off),
        CoupaLink::Wait("creating suppliers in QAD is off")
    );
    let draft = CoupaSupplier {
        status: CoupaSupplierStatus::NotApproved("draft".into()),
        ..new.clone()
    };
    assert_eq!(
        link_coupa(&draft, &known, &on),
        CoupaLink::Wait("not approved in Coupa")
    );
    let parked = |supplier| match link_coupa(&supplier, &known, &on) {
        CoupaLink::Park(problem) | CoupaLink::Propose(problem, _) => problem.code,
        other => format!("{other:?}"),
    };
    assert_eq!(parked(coupa(77, "ACME", None)), "SUPPLIER_PROPOSED");
    assert_eq!(
        parked(coupa(77, "Newcomer", Some("S404"))),
        "SUPPLIER_NUMBER_UNKNOWN"
    );
    // One whose namesake by number is on its way to it is not for a person.
    assert!(matches!(
        link_coupa(&coupa(77, "Newcomer", Some("s1")), &known, &on),
        CoupaLink::Wait(_)
    ));
    let mut taken = Directory::default();
    taken.note_qad(&qad("S1", "Acme"), Some(5));
    let other = link_coupa(&coupa(77, "Newcomer", Some("S1")), &taken, &on);
    assert!(matches!(other, CoupaLink::Park(problem) if problem.code == "SUPPLIER_NUMBER_UNKNOWN"));
    assert_eq!(
        parked(coupa(99_999_999, "Newcomer", None)),
        "SUPPLIER_CODE_NOT_AVAILABLE"
    );
}

#[test]
fn counters_go_on_from_the_highest_and_never_exceed_eight_characters() {
    let codes = |list: &[&str]| {
        list.iter()
            .map(|code| (*code).to_owned())
            .collect::<BTreeSet<_>>()
    };
    let counter = Numbering::Counter {
        prefix: "cp".into(),
        digits: 4,
    };
    assert_eq!(counter.code(1, &codes(&[])).unwrap(), code("CP0001"));
    assert_eq!(
        counter.code(1, &codes(&["CP0041", "CP99", "X0077"])).unwrap(),
        code("CP0042")
    );
    assert!(
        counter
            .code(1, &codes(&["CP9999"]))
            .is_ok_and(|code| code.as_str() == "cp10000")
    );
    let wide = Numbering::Counter {
        prefix: "cp".into(),
        digits: 7,
    };
    assert_eq!(
        wide.code(1, &codes(&[])).unwrap_err().code,
        "SUPPLIER_CODE_NOT_AVAILABLE"
    );
    assert!(
        Numbering::default().code(5, &codes(&["C5"])).is_err(),
        "a code that exists is not given again"
    );
}

#[test]
fn counters_go_on_beyond_their_width() {
    let counter = Numbering::Counter {
        prefix: "CP".into(),
        digits: 4,
    };
    let codes = |list: &[&str]| {
        list.iter()
            .map(|code| (*code).to_owned())
            .collect::<BTreeSet<_>>()
    };
    assert_eq!(
        counter
            .code(1, &codes(&["CP9999", "CP10000", "CP10001"]))
            .unwrap(),
        code("CP10002")
    );
}

#[test]
fn a_supplier_without_a_name_is_parked_and_nobodys_namesake() {
    let on = SupplierPolicy {
        create_in_qad: true,
        ..SupplierPolicy::default()
    };
    let nameless = (qad("S1", ""), coupa(1, "", None));
    let known = directory(
        std::slice::from_ref(&nameless.0),
        std::slice::from_ref(&nameless.1),
    );
    assert_eq!(word(link(&nameless.0, &known)), "SUPPLIER_WITHOUT_NAME");
    let CoupaLink::Park(problem) = link_coupa(&nameless.1, &known, &on) else {
        panic!("parked")
    };
    assert_eq!(problem.code, "SUPPLIER_WITHOUT_NAME");
    // Names without letters and digits are no resemblance.
    let marks = [qad("S2", "--"), qad("S3", "**")];
    assert_eq!(
        word(link(&marks[0], &directory(&marks, &[coupa(2, "??", None)]))),
        "create"
    );
}

#[test]
fn what_qad_adds_to_a_new_supplier_goes_to_coupa_and_what_coupa_was_filled_with_stays_there() {
    let policy = SupplierPolicy::default();
    let mut record = record(
        SupplierData::default()
            .with(Name, "N")
            .with(PaymentTerms, "N30")
            .with(Active, "true"),
        SupplierData::default().with(Name, "N").with(Active, "true"),
    );
    let sent = record.coupa.as_ref().unwrap().comparable(&policy);
    let created = SupplierWrite::CreateInQad {
        code: code("S1"),
        id: 1,
        data: sent.clone(),
    };
    record.agreed = record.agreed_after(&created, &policy);
    let NextStep::Write(SupplierWrite::UpdateInCoupa { data, .. }) = record.next_step(&policy) else {
        panic!("{:?}", record.next_step(&policy))
    };
    assert_eq!(data, SupplierData::default().with(PaymentTerms, "N30"));
    // The other way: an address that only fills a gap in Coupa is no news for QAD, whoever is master.
    let coupas = SupplierPolicy {
        masters: BTreeMap::from([(City, Master::Coupa)]),
        ..SupplierPolicy::default()
    };
    let ours = SupplierData::default().with(Name, "N").with(Active, "true");
    let mut record = super::tests::record(ours.clone(), ours.clone().with(City, "Default"));
    record.coupa.as_mut().unwrap().number = Some("S1".into());
    let created = SupplierWrite::CreateInCoupa {
        code: code("S1"),
        data: ours,
    };
    record.agreed = record.agreed_after(&created, &coupas);
    assert_eq!(record.next_step(&coupas), NextStep::Settled);
}

#[test]
fn a_reading_from_before_a_write_or_a_later_reading_says_nothing() {
    let mut record = SupplierRecord::new(SupplierId::Coupa(1), Timestamp(0));
    assert!(
        !record.is_newer_than(Timestamp(1_000), 0),
        "nothing was written yet"
    );
    record.written_at = Timestamp(1_000);
    assert!(record.is_newer_than(Timestamp(1_000), 0));
    assert!(record.is_newer_than(Timestamp(1_500), 500), "clocks may differ");
    assert!(!record.is_newer_than(Timestamp(1_501), 500));
    record.read_at = Timestamp(9_000);
    assert!(record.is_newer_than(Timestamp(8_999), 0));
    assert!(!record.is_newer_than(Timestamp(9_000), 0), "its own reading");
}

fn pair(ours: &[(SupplierField, &str)], theirs: &[(SupplierField, &str)]) -> (SupplierData, SupplierData) {
    let data = |fields: &[(SupplierField, &str)]| {
        fields
            .iter()
            .fold(SupplierData::default(), |data, (field, text)| {
                data.with(*field, text)
            })
    };
    (data(ours), data(theirs))
}

#[test]
fn the_master_decides_and_a_blank_erases_nothing() {
    let policy = SupplierPolicy {
        masters: BTreeMap::from([
            (Email, Master::Coupa),
            (Active, Master::Either),
            (City, Master::Nobody),
        ]),
        ..SupplierPolicy::default()
    };
    let (ours, theirs) = pair(
        &[
            (Name, "New"),
            (Email, "old@a.example"),
            (City, "Here"),
            (Active, "true"),
        ],
        &[
            (Name, "Old"),
            (Email, "new@a.example"),
            (City, "There"),
            (Active, "false"),
            (TaxId, "T"),
        ],
    );
    let alignment = align(&ours, &theirs, None, &policy);
    let (to_coupa, to_qad) = pair(&[(Name, "New"), (Active, "true")], &[(Email, "new@a.example")]);
    assert_eq!((alignment.to_coupa, alignment.to_qad), (to_coupa, to_qad));
    assert!(alignment.conflicts.is_empty());
}

#[test]
fn the_status_follows_whoever_changed_it() {
    let policy = SupplierPolicy::default();
    let (on, off) = pair(&[(Active, "true")], &[(Active, "false")]);
    let agreed = Agreed {
        qad: on.clone(),
        coupa: on.clone(),
    };
    assert_eq!(align(&off, &on, Some(&agreed), &policy).to_coupa, off);
    assert_eq!(align(&on, &off, Some(&agreed), &policy).to_qad, off);
}

#[test]
fn what_both_changed_differently_is_a_conflict_and_what_both_changed_alike_is_none() {
    let policy = SupplierPolicy::default();
    let (then, ours) = pair(&[(Name, "A")], &[(Name, "B")]);
    let agreed = Agreed {
        qad: then.clone(),
        coupa: then,
    };
    let (theirs, _) = pair(&[(Name, "C")], &[]);
    let alignment = align(&ours, &theirs, Some(&agreed), &policy);
    assert_eq!(alignment.conflicts, [(Name, "B".into(), "C".into())]);
    let problem = conflict(&code("S1"), &alignment.conflicts);
    assert!(
        problem.expected.contains("\"B\"") && problem.actual.contains("\"C\""),
        "{problem}"
    );
    assert_eq!(align(&ours, &ours, Some(&agreed), &policy), Alignment::default());
}

#[test]
fn a_field_the_other_system_keeps_in_its_own_form_is_written_once() {
    let policy = SupplierPolicy::default();
    let (ours, echo) = pair(&[(Name, "Straße 1")], &[(Name, "STRASSE 1")]);
    let agreed = Agreed {
        qad: ours.clone(),
        coupa: echo.clone(),
    };
    assert_eq!(align(&ours, &echo, Some(&agreed), &policy), Alignment::default());
}

#[test]
fn payment_terms_are_compared_in_qads_codes_and_written_in_coupas() {
    let policy = SupplierPolicy {
        payment_terms: BTreeMap::from([("NET30".into(), "N30".parse().unwrap())]),
        ..SupplierPolicy::default()
    };
    let mut theirs = coupa(1, "A", Some("S1"));
    theirs.data.set(PaymentTerms, "NET30");
    assert_eq!(theirs.comparable(&policy).get(PaymentTerms), Some("N30"));
    let (data, _) = pair(&[(PaymentTerms, "n30")], &[]);
    assert_eq!(in_coupa_words(data, &policy).get(PaymentTerms), Some("NET30"));
}

#[test]
fn values_are_cleaned_and_bounded() {
    let data = SupplierData::default()
        .with(Name, "  A \n B\u{7}  ")
        .with(Email, "   ");
    assert_eq!((data.name(), data.get(Email)), ("A B", None));
    assert_eq!(
        SupplierData::default()
            .with(Name, &"ü".repeat(300))
            .name()
            .chars()
            .count(),
        NAME_CHARACTERS_MAX
    );
}

fn record(ours: SupplierData, theirs: SupplierData) -> SupplierRecord {
    let mut record = SupplierRecord::new(SupplierId::Qad(code("S1")), Timestamp(0));
    record.qad = Some(QadSupplier {
        data: ours,
        ..qad("S1", "x")
    });
    record.coupa = Some(take(coupa(1, "x", None), &theirs));
    record
}

fn take(mut supplier: CoupaSupplier, data: &SupplierData) -> CoupaSupplier {
    for (field, text) in data.iter() {
        match (field, text) {
            (Active, "true") => supplier.status = CoupaSupplierStatus::Active,
            (Active, _) => supplier.status = CoupaSupplierStatus::Inactive,
            _ => supplier.data.set(field, text),
        }
    }
    supplier
}

/// Carries out what the record asks for, both sides answering with what they hold then; how many writes it took.
fn settle(record: &mut SupplierRecord, policy: &SupplierPolicy) -> Result<u32, Problem> {
    for writes in 0..6 {
        match record.next_step(policy) {
            NextStep::Settled => return Ok(writes),
            NextStep::Agree(agreed) => {
                record.agreed = Some(agreed);
                assert_eq!(record.next_step(policy), NextStep::Settled);
                return Ok(writes);
            }
            NextStep::Park(problem) => return Err(problem),
            NextStep::Write(write) => {
                match &write {
                    SupplierWrite::UpdateInCoupa { data, code, .. } => {
                        let mut now = take(record.coupa.clone().unwrap(), data);
                        now.number = Some(code.to_string());
                        record.coupa = Some(now);
                    }
                    SupplierWrite::UpdateInQad { data, .. } => {
                        let mut now = record.qad.clone().unwrap();
                        data.iter().for_each(|(field, text)| now.data.set(field, text));
                        record.qad = Some(now);
                    }
                    other => panic!("{other:?}"),
                }
                record.agreed = record.agreed_after(&write, policy);
            }
        }
    }
    panic!("does not settle");
}

fn data() -> impl Strategy<Value = SupplierData> {
    let text = prop_oneof![Just(String::new()), "[abAB]{1,2}"];
    (prop::collection::vec(text, 9), any::<bool>()).prop_map(|(texts, active)| {
        let mut data = SupplierData::default();
        let fields = SupplierField::ALL.into_iter().filter(|field| *field != Active);
        fields.zip(texts).for_each(|(field, text)| data.set(field, &text));
        data.with(Active, if active { "true" } else { "false" })
    })
}

fn masters() -> impl Strategy<Value = BTreeMap<SupplierField, Master>> {
    let master = prop_oneof![
        Just(Master::Qad),
        Just(Master::Coupa),
        Just(Master::Either),
        Just(Master::Nobody)
    ];
    prop::collection::vec(master, 10).prop_map(|list| SupplierField::ALL.into_iter().zip(list).collect())
}

/// Few values each, so that they often agree; fillers, ids that can be one, and texts of any letters.
fn particulars() -> impl Strategy<Value = Particulars> {
    let tax = prop_oneof![
        Just(TAX.to_owned()),
        Just("N/A".to_owned()),
        "[0-9]{0,9}",
        "\\PC{0,6}"
    ];
    let short = || prop_oneof![Just(String::new()), "[abAB]", "\\PC{0,4}"];
    (prop::option::of("[sS][12]?"), tax, short(), short()).prop_map(|(number, tax, country, name)| {
        let data = SupplierData::default()
            .with(TaxId, &tax)
            .with(Country, &country)
            .with(Name, &name);
        Particulars::new(number.as_deref(), &data)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn evidence_is_symmetric_and_a_link_always_rests_on_a_number_or_a_tax_id_that_can_be_one(one in particulars(), other in particulars()) {
        let fillers = TaxIdFillers::default();
        let evidence = Evidence::between(&one, &other, &fillers);
        prop_assert_eq!(evidence, Evidence::between(&other, &one, &fillers));
        let same_number = one.number.is_some() && one.number == other.number;
        match evidence.verdict() {
            Verdict::Link(LinkedBy::Number) => prop_assert!(same_number),
            Verdict::Link(by) => {
                prop_assert_eq!(by, LinkedBy::TaxId);
                prop_assert!(evidence.number == Likeness::NotBoth, "another number speaks against it");
                let tax = one.tax_id.as_deref().unwrap_or_default();
                prop_assert_eq!(Some(tax), other.tax_id.as_deref());
                let digits: BTreeSet<char> = tax.chars().filter(char::is_ascii_digit).collect();
                prop_assert!(digits.len() > 1 && tax.chars().filter(char::is_ascii_digit).count() >= 6, "{}", tax);
                let countries = (&one.country, &other.country);
                let agree = one.country.is_some() && countries.0 == countries.1;
                let silent = one.country.is_none() || other.country.is_none();
                prop_assert!(agree || (silent && evidence.name != Likeness::Differs));
            }
            Verdict::Resemble => prop_assert!(!same_number && (one.tax_id == other.tax_id || one.name == other.name)),
            Verdict::Strangers => {
                let nothing = |one: &Option<String>, other: &Option<String>| one.is_none() || one != other;
                prop_assert!(nothing(&one.tax_id, &other.tax_id) && nothing(&one.name, &other.name) && !same_number);
            }
        }
    }
}

proptest! {
    #[test]
    fn any_two_suppliers_settle_equal_and_stay_so(ours in data(), theirs in data(), masters in masters()) {
        let policy = SupplierPolicy { masters, ..SupplierPolicy::default() };
        let mut record = record(ours, theirs);
        settle(&mut record, &policy).unwrap();
        let (q, c) = (record.qad.clone().unwrap().data, record.coupa.clone().unwrap().comparable(&policy));
        for field in SupplierField::ALL {
            let decider = match policy.master(field) {
                Master::Qad | Master::Either => q.get(field),
                Master::Coupa => c.get(field),
                Master::Nobody => None,
            };
            if decider.is_some() {
                prop_assert!(same(field, q.get(field), c.get(field)), "{field:?} {q:?} {c:?}");
            }
        }
        prop_assert_eq!(settle(&mut record, &policy).unwrap(), 0, "twice is once");
    }

    #[test]
    fn a_change_of_one_side_settles_in_one_write_and_the_echo_in_none(start in data(), change in data(), in_qad in any::<bool>()) {
        let policy = SupplierPolicy::default();
        let mut record = record(start.clone(), start);
        settle(&mut record, &policy).unwrap();
        if in_qad {
            record.qad.as_mut().unwrap().data = change;
        } else {
            record.coupa = Some(take(record.coupa.clone().unwrap(), &change));
        }
        let writes = settle(&mut record, &policy).unwrap();
        prop_assert!(writes <= 2, "{writes}");
        prop_assert_eq!(settle(&mut record, &policy).unwrap(), 0);
    }
}
