//! The demo's day, and a local run that finds its state again after a restart.

use crate::support::{FAILED, Folder, Running, UNREACHABLE, run, text, wait_until};
use serde_json::Value;

fn invoices(run_dir: &str) -> Vec<Value> {
    let output = run(&["--run-dir", run_dir, "invoice", "list", "--json"]);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(&output)))
}

fn state_of(invoices: &[Value], id: u64) -> Option<&str> {
    invoices
        .iter()
        .find(|invoice| invoice["invoice"] == id)
        .and_then(|invoice| invoice["state"].as_str())
}

#[test]
fn every_invoice_of_the_day_ends_where_its_scenario_says() {
    let folder = Folder::new("demo");
    let output = run(&["--run-dir", folder.0.to_str().unwrap(), "demo", "--seed", "7"]);
    let said = text(&output);
    assert!(output.status.success(), "{said}");
    assert!(said.contains(" 0 of them duplicates."), "{said}");
}

#[test]
fn a_receipt_releases_a_held_invoice_and_the_state_survives_a_restart() {
    let folder = Folder::new("local");
    let demo_dir = folder.at("demo");
    let demo = Running::start(&["--run-dir", &demo_dir, "demo", "--keep", "--seed", "3"]);
    let listed = run(&["--run-dir", &demo_dir, "suppliers", "list", "--json"]);
    let listed: Vec<Value> = serde_json::from_slice(&listed.stdout).unwrap();
    let supplier = |id: &str| listed.iter().find(|one| one["supplier"] == id).unwrap();
    for (id, name) in [
        ("qad/S2001", "Example Bearings Worldwide"),
        ("qad/C5006", "Example Coatings"),
    ] {
        let known = supplier(id);
        assert_eq!(known["state"], "linked", "{known}");
        assert_eq!(known["qad"]["fields"]["name"], name);
        assert_eq!(known["coupa"]["fields"]["name"], name);
        assert_eq!(known["coupa"]["number"], known["qad"]["code"]);
    }
    assert_eq!(supplier("qad/S1009")["code"], "SUPPLIER_PROPOSED");
    let parked = run(&["--run-dir", &demo_dir, "suppliers", "list", "--state", "parked"]);
    assert!(text(&parked).contains("EXAMPLE PAINT") && !text(&parked).contains("S2001"));
    let held = invoices(&demo_dir)
        .into_iter()
        .find(|invoice| invoice["codes"] == serde_json::json!(["RECEIPT_MISSING"]));
    let held = held.unwrap();
    let id = held["invoice"].as_u64().unwrap();
    let line = &held["awaits"][0];

    // A second connection to the same simulated systems, through a connection file.
    // It names no owner mark: with it, the installation that played the day would be the only one that works with them.
    let file = include_str!("../../src/demo-connection.toml")
        .replace("{coupa}", demo.address("Coupa "))
        .replace("{qad}", demo.address("QAD "))
        .replace("id = \"demo\"", "id = \"second\"")
        .replace("owner_lookup = ", "# owner_lookup = ");
    std::fs::write(folder.at("second.toml"), file).unwrap();
    let (second_dir, second_file, data) = (folder.at("second"), folder.at("second.toml"), folder.at("data"));
    let start = [
        "--run-dir",
        &second_dir,
        "local",
        "--connection",
        &second_file,
        "--data",
        &data,
    ];
    let second = Running::start(&start);
    wait_until("the poll finds the held invoice", || {
        state_of(&invoices(&second_dir), id) == Some("held")
    });
    drop(second);
    let _second = Running::start(&start);
    assert_eq!(
        state_of(&invoices(&second_dir), id),
        Some("held"),
        "found again at once"
    );

    let explained = run(&["--run-dir", &second_dir, "explain", &id.to_string(), "--json"]);
    let explained: Value = serde_json::from_slice(&explained.stdout).unwrap();
    assert_eq!(explained["awaits"][0], *line);
    assert_eq!(explained["lines"][0]["exceptions"][0], "RECEIPT_MISSING");

    let (order, number) = (line["order"].as_str().unwrap(), line["line"].to_string());
    let receipt = [
        "--run-dir",
        &demo_dir,
        "sandbox",
        "receipt",
        order,
        "--line",
        &number,
        "--quantity",
        "60",
    ];
    assert!(run(&receipt).status.success());
    for run_dir in [&demo_dir, &second_dir] {
        // Both connections want it; QAD's document is one, and the slower one takes it for a stranger's of ours.
        wait_until("the receipt releases it", || {
            state_of(&invoices(run_dir), id) != Some("held")
        });
    }
    let state = run(&["--run-dir", &demo_dir, "sandbox", "state"]);
    let state: Value = serde_json::from_slice(&state.stdout).unwrap();
    assert_eq!(state["duplicates"], 0, "{state}");
}

#[test]
fn a_connection_file_that_is_wrong_is_told_whole() {
    let folder = Folder::new("wrong");
    let file = folder.0.join("wrong.toml");
    std::fs::write(
        &file,
        "id = \"acme\"\n[coupa]\nbase_url = \"http://example.com\"\n",
    )
    .unwrap();
    let output = run(&[
        "--run-dir",
        folder.0.to_str().unwrap(),
        "local",
        "--connection",
        file.to_str().unwrap(),
    ]);
    let said = text(&output);
    assert_eq!(output.status.code(), Some(FAILED));
    for field in ["coupa", "qad", "webhook"] {
        assert!(said.contains(field), "{field} in {said}");
    }
}

#[test]
fn without_a_running_world_the_commands_say_so() {
    let folder = Folder::new("nothing");
    let output = run(&["--run-dir", folder.0.to_str().unwrap(), "invoice", "list"]);
    assert_eq!(output.status.code(), Some(UNREACHABLE));
    assert!(text(&output).contains("LOCAL_NOT_RUNNING"));
}

#[test]
fn every_reason_is_in_the_operators_manual() {
    let manual = include_str!("../../../../docs/operate.md");
    for code in domain::matching::ExceptionCode::ALL {
        assert!(
            manual.contains(&format!("| `{}` |", code.as_str())),
            "{}",
            code.as_str()
        );
        assert!(manual.contains(code.fix()), "{}", code.fix());
    }
}
