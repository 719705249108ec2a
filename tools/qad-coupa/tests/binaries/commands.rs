//! The operator's verbs against one demo that keeps running: the deployable functions on the local AWS, and both systems
//! simulated. Whatever a verb does, QAD never has a second document.

use crate::support::{DIFFERS, Demo, FAILED, NOT_FOUND, OK, REFUSED, UNREACHABLE, USAGE, program, text};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};

impl Demo {
    fn invoices(&self) -> Vec<Value> {
        self.json(OK, &["invoice", "list"]).as_array().unwrap().clone()
    }

    fn invoice(&self, id: &str) -> Value {
        self.invoices()
            .into_iter()
            .find(|invoice| invoice["invoice"].as_u64() == id.parse().ok())
            .unwrap()
    }

    /// Where the payments of an invoice stand; blank when QAD has shown none.
    fn bill_state(&self, id: &str) -> String {
        let bills = self.json(OK, &["payments"]);
        let bills = bills.as_array().unwrap();
        let id = Value::from(id.parse::<u64>().unwrap());
        let found = bills.iter().find(|one| one["invoice"] == id);
        found.map_or_else(String::new, |one| one["state"].as_str().unwrap().to_owned())
    }

    fn state(&self, id: &str) -> String {
        self.invoice(id)["state"].as_str().unwrap().to_owned()
    }

    fn by_code(&self, code: &str) -> Vec<String> {
        self.invoices()
            .iter()
            .filter(|invoice| invoice["codes"] == json!([code]))
            .map(|invoice| invoice["invoice"].to_string())
            .collect()
    }

    fn control(&self, path: &str, body: Value) {
        let file: Value =
            serde_json::from_slice(&std::fs::read(self.folder.0.join("sandbox.json")).unwrap()).unwrap();
        let headers = [("content-type", "application/json")];
        http(
            file["control_url"].as_str().unwrap(),
            "POST",
            path,
            &headers,
            &body.to_string(),
        );
    }

    /// An order over ten pieces at 10.00, and an approved invoice for them; nothing is received.
    fn bill(&self, id: u64, price: &str, exported: bool) -> String {
        let order = format!("PO{id}");
        let line = json!({ "number": 1, "part": "02-0001", "description": "Example bracket", "unit": "EA", "ordered": 10,
                           "unit_price": 10 });
        self.control(
            "/_control/orders",
            json!({ "number": order, "supplier": "S1001", "currency": "USD", "lines": [line] }),
        );
        self.invoice_in_coupa(id, price, exported);
        id.to_string()
    }

    /// An approved invoice for that order, in the place of the one of this id, if there is one.
    fn invoice_in_coupa(&self, id: u64, price: &str, exported: bool) {
        let line = json!({ "number": 1, "quantity": "10", "price": price, "unit": "EA", "order": format!("PO{id}"),
                           "order-line": 1 });
        let invoice = json!({ "id": id, "number": format!("INV-{id}"), "invoice-date": "2026-03-05", "supplier": 5001,
                              "currency": "USD", "exported": exported, "lines": [line] });
        self.control("/_control/invoices", json!({ "add": invoice }));
    }

    /// An invoice that waits for its receipt.
    fn held(&self, id: u64) -> String {
        let id = self.bill(id, "10", false);
        self.says(OK, &["recheck", &id]);
        self.wait_until("it is held", || self.state(&id) == "held");
        id
    }

    fn pause(&self, flow: &str) -> Value {
        self.json(OK, &["pause", flow, "--reason", "closing of the period"])
    }

    fn resume(&self, flow: &str) -> Value {
        self.json(OK, &["resume", flow, "--reason", "the period is closed"])
    }

    /// The warehouse posts what the invoice bills.
    fn receive(&self, id: &str) {
        self.says(
            OK,
            &[
                "sandbox",
                "receipt",
                &format!("PO{id}"),
                "--line",
                "1",
                "--quantity",
                "10",
            ],
        );
    }

    /// What both simulated systems hold.
    fn world(&self) -> Value {
        serde_json::from_str(&self.says(OK, &["sandbox", "state"])).unwrap()
    }

    /// How often each operation was asked of the two systems.
    fn asked(&self) -> BTreeMap<String, u64> {
        let file: Value =
            serde_json::from_slice(&std::fs::read(self.folder.0.join("sandbox.json")).unwrap()).unwrap();
        let url = file["control_url"].as_str().unwrap();
        let answer = http(url, "GET", "/_control/journal", &[], "");
        serde_json::from_value(answer["counters"].clone()).unwrap()
    }

    /// Everything that was asked of the two systems and changes something there.
    fn writes(&self) -> u64 {
        let writes = |name: &String| {
            [".create", ".update", ".exported", ".pay"]
                .iter()
                .any(|end| name.ends_with(end))
        };
        self.asked()
            .iter()
            .filter(|(name, _)| writes(name))
            .map(|(_, count)| count)
            .sum()
    }

    /// One call of the local SQS, as any SDK makes it.
    fn sqs(&self, operation: &str, body: Value) -> Value {
        let run = self.run_file();
        let url = run["environment"]["AWS_ENDPOINT_URL_SQS"]
            .as_str()
            .unwrap()
            .to_owned();
        let target = format!("AmazonSQS.{operation}");
        let headers = [
            ("x-amz-target", target.as_str()),
            ("content-type", "application/x-amz-json-1.0"),
        ];
        http(&url, "POST", "/", &headers, &body.to_string())
    }

    fn run_file(&self) -> Value {
        serde_json::from_slice(&std::fs::read(self.folder.0.join("run.json")).unwrap()).unwrap()
    }

    fn queue(&self, name: &str) -> String {
        self.run_file()["queues"][name].as_str().unwrap().to_owned()
    }

    /// Loses every message of a queue: what is sent is held back, so that no function can take it, and purged once
    /// something is there.
    fn lose_all_messages(&self, resource: &str, queue: &str, until: impl FnOnce()) {
        let url = self.queue(resource);
        let hold_back = |seconds: &str| {
            self.sqs(
                "SetQueueAttributes",
                json!({ "QueueUrl": url, "Attributes": { "DelaySeconds": seconds } }),
            );
        };
        hold_back("900");
        until();
        self.wait_until("a message is held back", || {
            let status = self.json(OK, &["status"]);
            let queues = status["queues"].as_array().unwrap();
            let found = queues.iter().find(|one| one["queue"] == queue).unwrap();
            found["delayed"].as_u64().unwrap() > 0
        });
        // The sweep and the polls go on meanwhile: what they send just now is lost with the rest.
        self.wait_until("all are gone", || {
            self.sqs("PurgeQueue", json!({ "QueueUrl": url }));
            let status = self.json(OK, &["status"]);
            let queues = status["queues"].as_array().unwrap();
            let found = queues.iter().find(|one| one["queue"] == queue).unwrap();
            found["delayed"] == 0
        });
        hold_back("0");
    }

    fn arn(&self, resource: &str) -> String {
        let answer = self.sqs(
            "GetQueueAttributes",
            json!({ "QueueUrl": self.queue(resource), "AttributeNames": ["QueueArn"] }),
        );
        answer["Attributes"]["QueueArn"].as_str().unwrap().to_owned()
    }

    /// AWS's own move task, as the console or `aws sqs start-message-move-task` starts it.
    fn move_as_aws_does(&self, from: &str, to: Option<&str>) {
        let mut body = json!({ "SourceArn": self.arn(from) });
        if let Some(to) = to {
            body["DestinationArn"] = json!(self.arn(to));
        }
        let started = self.sqs("StartMessageMoveTask", body);
        assert!(started["TaskHandle"].is_string(), "{started}");
        self.wait_until("the move task is completed", || {
            let tasks = self.sqs("ListMessageMoveTasks", json!({ "SourceArn": self.arn(from) }));
            tasks["Results"][0]["Status"] == "COMPLETED"
        });
    }

    /// How many messages lie in a dead-letter queue.
    fn dead(&self, queue: &str) -> u64 {
        let listed = self.json(OK, &["dlq", "list"]);
        let queues = listed.as_array().unwrap();
        let found = queues.iter().find(|one| one["queue"] == queue).unwrap();
        found["messages"].as_u64().unwrap()
    }

    fn wait_for_quiet(&self) {
        self.wait_until("the queues are empty", || {
            let status = self.json(OK, &["status"]);
            let queues = status["queues"].as_array().unwrap();
            queues
                .iter()
                .filter(|queue| !queue["queue"].as_str().unwrap().ends_with("-dead-letter"))
                .all(|queue| queue["waiting"] == 0 && queue["in_work"] == 0)
        });
    }
}

/// One exchange over a connection of its own.
fn http(url: &str, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Value {
    let address = url.strip_prefix("http://").unwrap().trim_end_matches('/');
    let mut stream = TcpStream::connect(address).unwrap();
    let mut head = format!("{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(&format!("content-length: {}\r\n\r\n", body.len()));
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let text = answer.split_once("\r\n\r\n").unwrap().1;
    let Some(start) = text.find('{') else {
        return Value::Null;
    };
    let end = text.rfind('}').unwrap();
    serde_json::from_str(&text[start..=end]).unwrap_or_else(|error| panic!("{error}: {answer}"))
}

#[test]
fn the_verbs_do_what_they_say_and_qad_never_has_a_second_document() {
    let demo = Demo::start("commands");
    demo.wait_for_quiet();
    for part in PARTS {
        part(&demo);
    }
    assert_eq!(demo.world()["duplicates"], 0);
}

/// In this order: each finds the world as those before have left it.
const PARTS: [fn(&Demo); 13] = [
    looks,
    people,
    many,
    paused,
    paused_others,
    planned,
    connections,
    two_people,
    as_in_aws,
    back_filled,
    dead_letters,
    lost_messages,
    evidence,
];

/// What only reads.
fn looks(demo: &Demo) {
    let status = demo.json(OK, &["status"]);
    let listed = demo.invoices();
    let counted: u64 = status["invoices"]
        .as_object()
        .unwrap()
        .values()
        .map(|state| state["count"].as_u64().unwrap())
        .sum();
    assert_eq!(counted, u64::try_from(listed.len()).unwrap());
    assert!(
        status["invoices"]["exported"]["totals"]["USD"].is_string(),
        "{status}"
    );
    assert!(status["oldest_hold"]["since"].is_string(), "{status}");
    assert!(
        demo.says(DIFFERS, &["status", "--check"])
            .contains("NEEDS_ATTENTION")
    );

    let exported = listed
        .iter()
        .find(|invoice| invoice["state"] == "exported")
        .unwrap();
    let reference = exported["reference"].as_str().unwrap().to_lowercase();
    let voucher = exported["voucher"].as_str().unwrap();
    let order = exported["orders"][0].as_str().unwrap();
    for key in [reference.as_str(), voucher, order] {
        let found = demo.json(OK, &["invoice", "find", &format!(" {key} ")]);
        let found = found.as_array().unwrap();
        assert!(
            found
                .iter()
                .any(|invoice| invoice["invoice"] == exported["invoice"]),
            "{key}"
        );
    }
    assert!(demo.says(OK, &["invoice", "show", voucher]).contains(voucher));
    assert!(
        demo.says(NOT_FOUND, &["invoice", "find", "no such thing"])
            .contains("INVOICE_NOT_FOUND")
    );
    assert!(
        demo.says(NOT_FOUND, &["explain", "no such thing"])
            .contains("INVOICE_NOT_FOUND")
    );
    assert_eq!(demo.run(&["invoice", "list", "--state", "nonsense"]).0, 2);

    let held = demo.json(OK, &["invoice", "list", "--state", "held"]);
    let csv = demo.says(OK, &["holds", "--csv"]);
    assert_eq!(csv.lines().count(), held.as_array().unwrap().len() + 1, "{csv}");
    let causes = demo.json(OK, &["parked"]);
    let parked: usize = causes
        .as_array()
        .unwrap()
        .iter()
        .map(|cause| cause["invoices"].as_array().unwrap().len())
        .sum();
    assert_eq!(
        u64::try_from(parked).unwrap(),
        status["invoices"]["parked"]["count"]
    );
    assert!(
        causes
            .as_array()
            .unwrap()
            .iter()
            .all(|cause| !cause["fix"].as_str().unwrap().is_empty()),
        "{causes}"
    );
}

/// What a person does with one invoice.
fn people(demo: &Demo) {
    let reason = ["--reason", "agreed with the buyer"];
    let with = |verb: &'static [&'static str], id: &str| -> Vec<String> {
        verb.iter()
            .map(|word| (*word).to_owned())
            .chain([id.to_owned()])
            .chain(reason.map(str::to_owned))
            .collect()
    };
    let run = |code: i32, arguments: Vec<String>| {
        demo.says(code, &arguments.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let held = demo.held(99_001);
    assert!(run(REFUSED, with(&["release"], &held)).contains("ahead of its receipt"));
    assert_eq!(
        demo.run(&["release", &held]).0,
        2,
        "without a reason it is not even tried"
    );
    assert!(
        demo.says(REFUSED, &["release", &held, "--reason", "ok"])
            .contains("REASON_TOO_SHORT")
    );

    let dear = demo.by_code("PRICE_OVER_TOLERANCE").remove(0);
    // Above the demo's limit one person's word is a request, and somebody else's is the release.
    assert!(run(DIFFERS, with(&["release", "--dry-run"], &dear)).contains("--dry-run"));
    assert!(run(DIFFERS, with(&["release"], &dear)).contains("SECOND_PERSON_NEEDED"));
    assert_eq!(demo.state(&dear), "parked");
    let second = demo
        .command(&["release", &dear, "--reason", "agreed with the buyer"])
        .env("USER", "somebody-else")
        .output()
        .unwrap();
    assert!(
        text(&second).contains("Accepted: PRICE_OVER_TOLERANCE"),
        "{}",
        text(&second)
    );
    demo.wait_until("the released invoice posts", || demo.state(&dear) == "exported");
    assert!(run(OK, with(&["release"], &dear)).contains("so already"));
    assert!(
        demo.says(OK, &["timeline", &dear])
            .contains("agreed with the buyer")
    );

    let other = demo.by_code("UNIT_DIFFERS").remove(0);
    assert!(run(OK, with(&["skip"], &other)).contains("parked -> rejected"));
    assert!(run(OK, with(&["skip"], &other)).contains("so already"));
    assert!(demo.says(2, &["recheck", &other]).contains("REASON_MISSING"));
    assert!(run(OK, with(&["recheck"], &other)).contains("-> parked"));
    assert!(run(REFUSED, with(&["skip"], &dear)).contains("SKIP_REFUSED"));

    let adopt = demo.says(
        NOT_FOUND,
        &[
            "adopt",
            &other,
            "--voucher",
            "2026/SI/999999",
            "--reason",
            "keyed by hand",
        ],
    );
    assert!(adopt.contains("QAD_DOCUMENT_NOT_FOUND"), "{adopt}");
    assert_eq!(
        demo.run(&["adopt", &other, "--voucher", "12", "--reason", "keyed by hand"])
            .0,
        2
    );
    assert!(
        demo.says(NOT_FOUND, &["recheck", "999999999", "--wait", "60"])
            .contains("COUPA_INVOICE_NOT_FOUND")
    );
}

/// What is done to many: nothing without confirmation, and twice is once.
fn many(demo: &Demo) {
    let before = demo.world();
    let preview = demo.json(OK, &["replay", "--all", "--dry-run"]);
    assert_eq!(preview["count"], demo.invoices().len());
    assert!(preview["totals"]["USD"].is_string(), "{preview}");
    assert!(demo.says(REFUSED, &["replay", "--all"]).contains("NOT_CONFIRMED"));
    assert!(
        demo.says(REFUSED, &["replay", "--all", "--confirm", "1"])
            .contains("NOT_CONFIRMED")
    );
    assert!(demo.says(USAGE, &["replay"]).contains("FILTER_MISSING"));
    let count = preview["count"].to_string();
    for _ in 0..2 {
        demo.says(OK, &["replay", "--all", "--confirm", &count, "--wait", "20"]);
        demo.wait_for_quiet();
        assert_eq!(
            demo.world()["qad-documents"],
            before["qad-documents"],
            "a replay creates nothing"
        );
    }
    let parked = demo.json(OK, &["recheck", "--all-parked", "--yes"]);
    assert!(parked["queued"].as_u64().unwrap() > 0, "{parked}");
    // Whatever is still looked at would wait for the end of the next part's pause too.
    demo.wait_for_quiet();
}

/// A pause holds even a receipt, and nothing is lost by it.
fn paused(demo: &Demo) {
    let held = demo.held(99_002);
    demo.pause("invoices");
    assert!(
        demo.says(OK, &["pause", "--reason", "closing of the period"])
            .contains("already")
    );
    assert!(demo.says(OK, &["status"]).contains("invoices: PAUSED since"));
    demo.receive(&held);
    demo.wait_until("it waits for the end of the pause", || {
        demo.invoice(&held)["delayed_by"] == "PAUSED"
    });
    assert_eq!(demo.state(&held), "held");
    let explained = demo.says(OK, &["explain", &held]);
    assert!(explained.contains("Posting is paused (by local:"), "{explained}");
    assert_eq!(demo.resume("invoices")["queued"], 1);
    demo.wait_until("it goes on", || demo.state(&held) == "exported");
}

/// Each flow is paused by itself: payments are known and not written, suppliers and lookups are not looked at, and
/// everything follows after it.
fn paused_others(demo: &Demo) {
    let id = demo.held(99_007);
    demo.receive(&id);
    demo.wait_until("it is posted", || demo.state(&id) == "exported");
    for flow in ["payments", "suppliers", "lookups"] {
        assert_eq!(demo.pause(flow)["changed"], true);
    }
    assert!(demo.says(OK, &["status"]).contains("Running: invoices"));
    demo.says(OK, &["sandbox", "pay", &format!("INV-{id}")]);
    let delayed = || demo.json(OK, &["payments", "show", &id]);
    demo.wait_until("the payment is known and waits", || {
        !demo.bill_state(&id).is_empty() && delayed()["code"] == "PAUSED"
    });
    assert_eq!(delayed()["in_coupa"], "0");
    for flow in ["sync-suppliers", "sync-lookups"] {
        let logs = demo.says(OK, &["run", flow]);
        assert!(logs.contains("\"outcome\":\"paused\""), "{logs}");
        assert!(!logs.contains("\"outcome\":\"complete\""), "{logs}");
    }
    assert_eq!(demo.resume("payments")["queued"], 1);
    let resumed = demo.json(OK, &["resume", "all", "--reason", "the period is closed"]);
    let changed: Vec<bool> = resumed
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["changed"] == true)
        .collect();
    assert_eq!(changed, [false, false, true, true], "{resumed}");
    demo.wait_until("the payment is written", || demo.bill_state(&id) == "settled");
    for flow in ["sync-suppliers", "sync-lookups"] {
        let logs = demo.says(OK, &["run", flow]);
        assert!(!logs.contains("\"outcome\":\"paused\""), "{logs}");
    }
}

/// A plan sees what would be posted and changes nothing anywhere.
fn planned(demo: &Demo) {
    let held = demo.held(99_003);
    demo.pause("invoices");
    demo.receive(&held);
    demo.wait_until("it waits for the end of the pause", || {
        demo.invoice(&held)["delayed_by"] == "PAUSED"
    });
    demo.wait_for_quiet();
    let (before, writes) = (demo.world(), demo.writes());
    let trail = demo.says(OK, &["timeline", &held]);
    let plan = demo.json(OK, &["plan"]);
    let row = plan["invoices"]
        .as_array()
        .unwrap()
        .iter()
        .find(|row| row["invoice"].as_u64() == held.parse().ok())
        .unwrap();
    assert_eq!(row["would_be"], "would-post", "{row}");
    assert!(!row["draft"]["matches"].as_array().unwrap().is_empty(), "{row}");
    assert_eq!(demo.world(), before);
    assert_eq!(demo.writes(), writes, "a plan writes nothing");
    assert_eq!(demo.says(OK, &["timeline", &held]), trail);
    demo.resume("invoices");
    demo.wait_until("it goes on", || demo.state(&held) == "exported");
    let logs = demo.says(OK, &["run", "poll-receipts"]);
    assert!(logs.contains("\"outcome\":\"complete\""), "{logs}");
}

fn connections(demo: &Demo) {
    assert_eq!(demo.json(OK, &["connection", "list"]), json!(["demo"]));
    let shown = demo.says(OK, &["connection", "show"]);
    assert!(shown.contains("(hidden)"), "{shown}");
    for secret in ["example-coupa-secret", "example-password", "a-fictional-secret"] {
        assert!(!shown.contains(secret), "{shown}");
    }
    let file = demo.folder.0.join("demo.toml");
    let text = include_str!("../../src/demo-connection.toml")
        .replace("{coupa}", demo.running.address("Coupa "))
        .replace("{qad}", demo.running.address("QAD "))
        .replace("hold_recheck_seconds = 600", "hold_recheck_seconds = 30")
        .replace("above = { USD = 1000 }", "above = { USD = 119.99 }");
    std::fs::write(&file, text).unwrap();
    let path = file.to_str().unwrap();
    demo.says(OK, &["connection", "validate", path]);
    let put = ["connection", "put", path, "--reason", "looked at more often"];
    let planned = demo.json(OK, &[put.as_slice(), &["--dry-run"]].concat());
    assert_eq!(
        planned["secrets"][0]["changed"],
        json!(["/hold_recheck_seconds", "/invoices/second_person/above/USD"]),
        "{planned}"
    );
    assert_eq!(planned["secrets"][1]["changed"], json!([]), "{planned}");
    // Nothing was changed with a reason yet: there is no way back.
    let back = ["connection", "rollback", "--reason", "too much load on QAD"];
    demo.says(NOT_FOUND, &back);
    demo.says(OK, &put);
    let again = demo.json(OK, &put);
    assert_eq!(again["secrets"][0]["changed"], json!([]), "{again}");
    let setting =
        |demo: &Demo| demo.json(OK, &["connection", "show"])["connection"]["hold_recheck_seconds"].clone();
    assert_eq!(setting(demo), 30);
    let taken = demo.json(OK, &back);
    assert_eq!(
        taken["secrets"][0]["changed"], planned["secrets"][0]["changed"],
        "{taken}"
    );
    assert_eq!(setting(demo), 600);
    // What was taken back can be taken back: the change again, for the rest of the day.
    demo.says(OK, &back);
    assert_eq!(setting(demo), 30);
    let told = demo.json(OK, &["connection", "history"]);
    let what: Vec<&str> = told
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["what"].as_str().unwrap())
        .collect();
    assert_eq!(what, ["changed", "taken back", "taken back"], "{told}");
    assert_eq!(told[0]["reason"], "looked at more often");
    assert!(
        !told.to_string().contains("600"),
        "names of settings alone: {told}"
    );
    let made = demo.folder.0.join("new.toml");
    demo.says(OK, &["connection", "init", made.to_str().unwrap()]);
    assert_eq!(
        demo.run(&["connection", "init", made.to_str().unwrap()]).0,
        1,
        "an existing file is never overwritten"
    );
    let validate = ["connection", "validate", made.to_str().unwrap()];
    let said = demo.says(FAILED, &validate);
    assert!(
        said.contains("CONNECTION_INVALID at webhook.secrets[0]"),
        "{said}"
    );
    let filled_in = std::fs::read_to_string(&made)
        .unwrap()
        .replace("replace-me", "an-own-text");
    std::fs::write(&made, filled_in).unwrap();
    demo.says(OK, &validate);
}

/// Above the limit of the connection one person's release is a request, and another person's confirms it.
fn two_people(demo: &Demo) {
    let id = demo.bill(99_008, "12", false);
    demo.receive(&id);
    demo.says(OK, &["recheck", &id]);
    demo.wait_until("it is parked", || demo.state(&id) == "parked");
    let release = |person: &str| {
        let output = demo
            .command(&["release", &id, "--reason", "price agreed with the buyer"])
            .env("USER", person)
            .output()
            .unwrap();
        let said =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        (output.status.code().unwrap(), said)
    };
    let (ended, said) = release("alice");
    assert!(
        ended == DIFFERS && said.contains("SECOND_PERSON_NEEDED"),
        "{ended} {said}"
    );
    let (ended, said) = release("alice");
    assert!(
        ended == REFUSED && said.contains("another person than local:alice"),
        "{ended} {said}"
    );
    assert_eq!(demo.state(&id), "parked");
    let (ended, said) = release("bob");
    assert_eq!(ended, OK, "{said}");
    demo.wait_until("the released invoice posts", || demo.state(&id) == "exported");
    let timeline = demo.says(OK, &["timeline", &id]);
    assert!(
        timeline.contains("local:bob") && timeline.contains("asked for by local:alice"),
        "{timeline}"
    );
}

/// What others exported before is taken in once; nothing that is known is touched.
fn back_filled(demo: &Demo) {
    let from = [
        "backfill",
        "--from",
        "2000-01-01",
        "--reason",
        "cut-over to this product",
    ];
    for id in [99_005, 99_006] {
        let id = demo.bill(id, "10", true);
        demo.receive(&id);
        demo.says(OK, &["recheck", &id]);
    }
    let exported = demo.by_code("EXPORTED_BY_OTHERS");
    let estimate = demo.json(OK, &[&from[..], &["--dry-run"]].concat());
    assert_eq!(estimate["to_take_in"], exported.len(), "{estimate}");
    assert!(!exported.is_empty());
    assert!(demo.says(REFUSED, &from).contains("NOT_CONFIRMED"));
    demo.says(
        OK,
        &[&from[..], &["--confirm", &exported.len().to_string()]].concat(),
    );
    for id in &exported {
        demo.wait_until("it is decided", || {
            demo.invoice(id)["codes"] != json!(["EXPORTED_BY_OTHERS"]) && demo.state(id) != "received"
        });
    }
    let again = demo.json(OK, &[&from[..], &["--dry-run"]].concat());
    assert_eq!(again["to_take_in"], 0, "{again}");
}

/// The same place opened as a stack in AWS, by profile, region and the functions' variables: the same answers.
fn as_in_aws(demo: &Demo) {
    let run = demo.run_file();
    let credentials = demo.folder.0.join("credentials");
    std::fs::write(
        &credentials,
        "[operator]\naws_access_key_id = local\naws_secret_access_key = local\n",
    )
    .unwrap();
    let asked = |arguments: &[&str]| {
        let mut command = program();
        command
            .env_clear()
            .env("AWS_SHARED_CREDENTIALS_FILE", &credentials)
            .env("AWS_CONFIG_FILE", "/nonexistent");
        for (name, value) in run["function_environment"].as_object().unwrap() {
            command.env(name, value.as_str().unwrap());
        }
        for (name, value) in run["environment"].as_object().unwrap() {
            if name.starts_with("AWS_ENDPOINT_URL") {
                command.env(name, value.as_str().unwrap());
            }
        }
        command.env(
            "INVOICES_DEAD_LETTER_QUEUE_URL",
            demo.queue("InvoicesDeadLetterQueue"),
        );
        command.args([
            "--stack",
            "qad-coupa",
            "--profile",
            "operator",
            "--region",
            "us-east-1",
        ]);
        command.args(arguments).output().unwrap()
    };
    let output = asked(&["invoice", "list", "--json"]);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let listed: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(listed, demo.invoices());
    let output = asked(&["connection", "list", "--json"]);
    assert_eq!(
        serde_json::from_slice::<Value>(&output.stdout).unwrap(),
        json!(["demo"])
    );
    let output = asked(&["dlq", "list", "--json"]);
    let queues: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(queues[0]["queue"], "invoices-dead-letter", "{queues}");
    assert_eq!(asked(&["sandbox", "state"]).status.code(), Some(REFUSED));
    let nobody = program()
        .env_clear()
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
        .env("AWS_CONFIG_FILE", "/nonexistent")
        .args(["--stack", "x", "--region", "us-east-1", "status"])
        .output()
        .unwrap();
    assert_eq!(nobody.status.code(), Some(UNREACHABLE));
    assert!(String::from_utf8_lossy(&nobody.stderr).contains("AWS_NOT_CONFIGURED"));
    behind_a_proxy(&credentials);
}

/// AWS is asked through the proxy that the machine's variables name, and a bundle of authorities that is none is told.
fn behind_a_proxy(credentials: &Path) {
    let proxy = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", proxy.local_addr().unwrap());
    let tunnels = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&tunnels);
    std::thread::spawn(move || {
        for stream in proxy.incoming() {
            let mut line = String::new();
            BufReader::new(stream.unwrap()).read_line(&mut line).unwrap();
            seen.lock().unwrap().push(line);
        }
    });
    let asked = |name: &str, value: &str| {
        program()
            .env_clear()
            .env("AWS_SHARED_CREDENTIALS_FILE", credentials)
            .env("AWS_CONFIG_FILE", "/nonexistent")
            .env(name, value)
            .args(["--stack", "qad-coupa", "--profile", "operator"])
            .args(["--region", "us-east-1", "status"])
            .output()
            .unwrap()
    };
    assert_eq!(asked("HTTPS_PROXY", &address).status.code(), Some(UNREACHABLE));
    let tunnels = tunnels.lock().unwrap();
    assert!(!tunnels.is_empty());
    let host = "CONNECT cloudformation.us-east-1.amazonaws.com:443 ";
    assert!(tunnels.iter().all(|line| line.starts_with(host)), "{tunnels:?}");
    let output = asked("AWS_CA_BUNDLE", "/nonexistent");
    assert!(String::from_utf8_lossy(&output.stderr).contains("TRUST_STORE_UNUSABLE"));
}

/// Everything is in the dead-letter queue, and goes back twice: no external write comes of it. Of every queue that has one.
fn dead_letters(demo: &Demo) {
    demo.wait_for_quiet();
    let listed = demo.json(OK, &["dlq", "list"]);
    let names: Vec<&Value> = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["queue"])
        .collect();
    // Whoever adds a queue adds it here.
    assert_eq!(
        names,
        [
            "invoices-dead-letter",
            "payments-dead-letter",
            "schedules-dead-letter"
        ]
    );
    let invoices = demo
        .invoices()
        .iter()
        .map(|one| json!({ "invoice": one["invoice"] }))
        .collect();
    let bills = demo.json(OK, &["payments"]);
    let bill = |one: &Value| json!({ "entry": { "collection": "bill", "id": one["invoice"].to_string() } });
    let bills = bills.as_array().unwrap().iter().map(bill).collect();
    redriven_twice(demo, "Invoices", "invoices-dead-letter", invoices);
    redriven_twice(demo, "Payments", "payments-dead-letter", bills);
    assert!(
        demo.says(REFUSED, &["dlq", "redrive", "schedules-dead-letter"])
            .contains("REDRIVE_REFUSED")
    );
    assert!(
        demo.says(REFUSED, &["dlq", "redrive", "invoices"])
            .contains("QUEUE_NOT_DEAD_LETTER")
    );
    assert!(
        demo.says(NOT_FOUND, &["dlq", "show", "nonsense"])
            .contains("QUEUE_NOT_FOUND")
    );
}

/// Once by the verb and once by AWS's own task.
fn redriven_twice(demo: &Demo, resource: &str, queue: &str, subjects: Vec<Value>) {
    assert!(!subjects.is_empty());
    demo.wait_for_quiet();
    let (world, writes) = (demo.world(), demo.writes());
    let (source, destination) = (format!("{resource}DeadLetterQueue"), format!("{resource}Queue"));
    for round in 0..2 {
        let begun = demo.dead(queue);
        for subject in &subjects {
            let hint = json!({ "v": "1", "connection": "demo", "subject": subject, "reason": "webhook",
                               "trace": format!("old-{round}") });
            demo.sqs(
                "SendMessage",
                json!({ "QueueUrl": demo.queue(&source), "MessageBody": hint.to_string() }),
            );
        }
        let count = begun + u64::try_from(subjects.len()).unwrap();
        assert_eq!(demo.dead(queue), count);
        if round == 1 {
            demo.move_as_aws_does(&source, Some(&destination));
            demo.wait_for_quiet();
            continue;
        }
        let shown = demo.json(OK, &["dlq", "show", queue, "--limit", "200"]);
        let about = |one: &Value| !one["about"].as_str().unwrap().starts_with("no hint");
        assert_eq!(
            shown.as_array().unwrap().iter().filter(|one| about(one)).count(),
            subjects.len(),
            "{shown}"
        );
        demo.wait_until("what was shown is visible again", || demo.dead(queue) == count);
        assert!(
            demo.says(OK, &["dlq", "redrive", queue, "--dry-run"])
                .contains("Nothing was moved")
        );
        let moved = demo.json(OK, &["dlq", "redrive", queue]);
        assert_eq!(moved["moved"], count, "{moved}");
        demo.wait_for_quiet();
    }
    assert_eq!(demo.world(), world);
    assert_eq!(
        demo.writes(),
        writes,
        "two redrives of everything wrote something"
    );
}

/// QAD's answer to a create is lost, and then every queued message, and again every message about the payment: the sweep
/// finishes both.
fn lost_messages(demo: &Demo) {
    let held = demo.held(99_004);
    demo.says(
        OK,
        &[
            "sandbox",
            "fault",
            "qad",
            "supplier-invoices.create",
            "lost-after",
        ],
    );
    demo.receive(&held);
    demo.wait_until("its answer is lost", || {
        let status = demo.json(OK, &["status"]);
        let unknown = status["unknown"].as_array().unwrap().clone();
        let held = Value::from(held.parse::<u64>().unwrap());
        unknown.iter().any(|one| one["invoice"] == held)
    });
    demo.lose_all_messages("InvoicesQueue", "invoices", || {});
    demo.wait_until("it is found although its messages were deleted", || {
        demo.state(&held) == "exported"
    });
    assert!(demo.says(OK, &["timeline", &held]).contains("found by look-up"));

    demo.lose_all_messages("PaymentsQueue", "payments", || {
        demo.says(OK, &["sandbox", "pay", &format!("INV-{held}")]);
    });
    demo.wait_until("it is paid although its messages were deleted", || {
        demo.bill_state(&held) == "settled"
    });
    let shown = demo.json(OK, &["payments", "show", &held]);
    assert_eq!(shown["paid"], true, "{shown}");
}

/// What `reconcile` finds no reason for: kind and invoice, in order.
fn unexplained(demo: &Demo) -> Vec<String> {
    let reconciled = demo.json(DIFFERS, &["reconcile"]);
    let mut found: Vec<String> = reconciled["differences"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|one| one["explained"] == false)
        .map(|one| format!("{} {}", one["kind"].as_str().unwrap(), one["invoice"]))
        .collect();
    assert_eq!(reconciled["unexplained"], found.len(), "{reconciled}");
    found.sort_unstable();
    found
}

/// The daily run, begun by hand: its result is kept, and shown without asking anybody anew.
fn daily(demo: &Demo) {
    let logs = demo.says(OK, &["run", "reconcile"]);
    assert!(logs.contains("\"outcome\":\"complete\""), "{logs}");
    assert!(logs.contains("\"metric\":\"reconcile_unexplained\""), "{logs}");
    // What was paid today the polls still have time for.
    let last = demo.json(OK, &["reconcile", "--last"]);
    assert_eq!(
        (&last["unexplained"], &last["late"]),
        (&json!(0), &json!(false)),
        "{last}"
    );
    let invoices = demo.json(OK, &["invoice", "list"]).as_array().unwrap().len();
    assert_eq!(last["looked_at"], invoices, "{last}");
    let status = demo.json(OK, &["status"]);
    assert_eq!(status["reconciled"]["looked_at"], invoices, "{status}");
}

/// The two sides agree, but for the bill that both of them pay, and the trail is whole.
fn evidence(demo: &Demo) {
    demo.wait_for_quiet();
    assert_eq!(unexplained(demo), ["paid-twice 94014"]);
    daily(demo);
    let verified = demo.json(OK, &["audit", "verify"]);
    assert_eq!(verified["broken"], json!([]));
    let file = demo.folder.0.join("audit.ndjson");
    demo.says(OK, &["audit", "export", "--out", file.to_str().unwrap()]);
    let lines = std::fs::read_to_string(&file).unwrap();
    assert!(u64::try_from(lines.lines().count()).unwrap() >= verified["entries"].as_u64().unwrap());
    for kind in [
        "invoice/",
        "payments/",
        "supplier/",
        "lookup/",
        "lookup-value/",
        "flow/pause-",
    ] {
        assert!(
            lines.contains(&format!("\"document\":\"{kind}")),
            "no entry of {kind}"
        );
    }
    for line in [
        &["status", "--check"][..],
        &["audit", "verify"],
        &["holds"],
        &["pause", "--reason", "a mistyped name"],
    ] {
        let told = demo.says(NOT_FOUND, &[&["-c", "demmo"], line].concat());
        assert!(
            told.contains("CONNECTION_UNKNOWN") && told.contains("Did you mean `demo`?"),
            "{told}"
        );
    }
    let (ended, _, told) = demo.run(&["-c", "demmo", "holds", "--json"]);
    assert_eq!(ended, NOT_FOUND);
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["error"]["problems"][0]["code"], "CONNECTION_UNKNOWN");
    for line in lines.lines() {
        assert!(serde_json::from_str::<Value>(line).unwrap()["hash"].is_string());
    }
    // A flag that somebody resets in Coupa is a difference that nothing explains, until it is seen and set again.
    demo.lose_all_messages("InvoicesQueue", "invoices", || {
        demo.invoice_in_coupa(99_003, "10", false);
        assert_eq!(
            unexplained(demo),
            ["exported-flag-missing 99003", "paid-twice 94014"]
        );
    });
    demo.wait_until("the flag is set again", || {
        unexplained(demo) == ["paid-twice 94014"]
    });
    let exported = demo
        .invoices()
        .into_iter()
        .find(|invoice| invoice["state"] == "exported")
        .unwrap();
    assert!(
        demo.says(OK, &["audit", "show", &exported["invoice"].to_string()])
            .contains("hash ")
    );
}
