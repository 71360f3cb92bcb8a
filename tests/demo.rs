//! The demonstration is what a new user judges by, and what an operator shows to others: the whole job, and a failover in the end.

use std::process::Command;

use serde_json::Value;

use crate::support::sites::shown;

#[test]
fn the_whole_job_is_shown_and_ends_with_one_live_site() {
    let output = Command::new(env!("CARGO_BIN_EXE_warmspare")).args(["demo", "--json"]).output().unwrap();
    assert!(output.status.success(), "{}", shown(&output));
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(summary["restore"]["verdict"], "equal", "{summary:#}");
    assert_eq!((&summary["restore"]["point"], &summary["after"]["packages"]), (&"1-2".into(), &1010.into()));
    assert_eq!(summary["at_disaster"]["packages"], 1013, "what was published after the last point is told as lost");
    assert_eq!(summary["served_by"], serde_json::json!({"answer": "served", "site": "fra", "says": "1010 packages"}));
    assert_eq!(summary["old_site"]["state"], "STALE");
    assert_eq!(summary["old_site"]["gate_open"], false);
    let said = String::from_utf8_lossy(&output.stderr);
    for sentence in [
        "ams is live in term 1. Behind a load balancer that asks both gates, ams answers: 1000 packages.\n",
        "fra is live in term 2. Behind the load balancer, fra answers: 1010 packages.\n",
        "The daemon of ams wakes up: STALE, another site took over (term 2); its gate is closed.\n",
    ] {
        assert!(said.contains(sentence), "{sentence}{said}");
    }
}
