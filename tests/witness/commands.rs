//! `warmspare witness`: what a person reads, and each refusal with its message.

use std::fs;

use crate::support::postgres::PostgresServer;
use crate::support::sites::Sites;

/// Two sites, and a witness as written.
async fn sites(witness: &str, way: &str) -> Sites {
    let sites = Sites::empty().await;
    sites.edit_configuration("live = \"ams\"\n", &format!("\n[witness]\n{witness}\n"));
    if !way.is_empty() {
        for site in ["ams", "fra"] {
            let head = format!("[sites.{site}]\n");
            sites.edit_configuration(&head, &format!("{head}witness = {{ {way} }}\n"));
        }
    }
    sites
}

fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap()
}

#[tokio::test]
async fn a_witness_is_set_up_once_and_says_who_is_live() {
    let sites = sites("url = \"/WITNESS\"", "").await;
    let folder = sites.path().join("witness");
    sites.edit_configuration("/WITNESS", &folder.display().to_string());
    let check = |arguments: &[&str], code: i32, expected: &str| {
        assert_eq!(sites.refused("ams", arguments, code), expected, "{arguments:?}");
    };
    check(&["witness", "status"], 5, {
        "error: the witness cannot be used: cannot open SITES/witness: it is not there\n\
         next:  Check that SITES/witness is the right place, that it exists, and, if it is a folder, that its disk is mounted."
    });
    assert!(sites.run("ams", &["witness", "init", "--dry-run"]).is_empty());
    assert!(!folder.exists(), "a dry run makes nothing");
    let made = json(&sites.run("ams", &["witness", "init", "--term", "4", "--json"]));
    assert_eq!((&made["revision"], &made["record"]["term"]), (&1.into(), &4.into()));
    assert_eq!((&made["record"]["mode"], &made["record"]["system"]), (&"released".into(), &"app".into()));
    check(&["witness", "init"], 3, {
        "error: SITES/witness is set up already: nobody is live in term 4 of app (revision 1)\n\
         next:  Leave it: `warmspare witness status` shows all of it. A new witness is another place: another `url` under [witness]."
    });
    check(&["witness", "init", "--dry-run"], 3, {
        "error: SITES/witness is set up already: nobody is live in term 4 of app (revision 1)\n\
         next:  Leave it: `warmspare witness status` shows all of it. A new witness is another place: another `url` under [witness]."
    });
    let status = sites.run("fra", &["witness", "status"]);
    assert!(status.contains("4: nobody is live") && status.contains("set up"), "{status}");
    let status = json(&sites.run("fra", &["witness", "status", "--json"]));
    assert_eq!((&status["one_machine_only"], &status["takeover_wait_ms"]), (&true.into(), &74_334.into()));
    let history = sites.run("fra", &["witness", "history", "--limit", "5"]);
    assert!(history.starts_with("REVISION  TERM") && history.lines().count() == 2, "{history}");
    let history = json(&sites.run("fra", &["witness", "history", "--json"]));
    assert_eq!(history[0]["record"]["nonce"], made["record"]["nonce"]);
    for arguments in [&["--json"][..], &["--limit", "1"], &[]] {
        let of = |command: &str| sites.run("fra", &[&[command, "history"], arguments].concat());
        assert_eq!(of("lease"), of("witness"), "the same record, under both names");
    }
    let output = sites.command("fra", ["witness", "selftest"]).output().unwrap();
    let (out, words) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success() && out.contains("ok  lets one of many win"), "{out}");
    assert!(words.contains("a folder decides between processes of one machine only"), "{words}");
    let tried = json(&sites.run("fra", &["witness", "selftest", "--json"]));
    assert_eq!(tried["sound"], true);
    assert!(sites.run("fra", &["witness", "selftest", "--dry-run"]).is_empty());

    // Somebody else's, damaged, of a later release.
    let record = folder.join("lease/9999999998.json");
    let text = fs::read_to_string(&record).unwrap();
    fs::write(&record, text.replace("\"app\"", "\"quay\"")).unwrap();
    check(&["witness", "status"], 5, {
        "error: the witness is of the system `quay`, not of `app`\n\
         next:  Give each system a witness of its own: another folder, bucket or prefix."
    });
    fs::write(&record, text.replace("\"format\": 1", "\"format\": 9")).unwrap();
    check(&["witness", "status"], 5, {
        "error: lease/9999999998.json in SITES/witness is a record of format 9, which this release does not know\n\
         next:  Install the release that wrote it, at both sites."
    });
    fs::write(&record, "{").unwrap();
    let said = sites.refused("ams", &["witness", "status"], 5);
    assert!(said.starts_with("error: lease/9999999998.json in SITES/witness is no record of a witness: EOF"), "{said}");
    fs::remove_file(&record).unwrap();
    check(&["witness", "status"], 5, {
        "error: the witness SITES/witness was never set up: it has no record\n\
         next:  If it is new, run `warmspare witness init`. If there was a record, it is lost: fence both sites first, then give \
         `--term` a number above every term there was."
    });
}

#[tokio::test]
async fn what_needs_a_role_is_refused_and_check_takes_it_from_the_witness() {
    let sites = sites("url = \"/WITNESS\"\nttl = \"6s\"", "").await;
    let folder = sites.path().join("witness");
    sites.edit_configuration("/WITNESS", &folder.display().to_string());
    let refused = sites.refused("ams", &["capture"], 3);
    assert!(
        refused.starts_with("error: with a witness the role of ams is that of its daemon, and none runs here\n"),
        "{refused}"
    );
    let findings = |site: &str| {
        let output = sites.command(site, ["check", "--json"]).output().unwrap();
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let of_witness = |finding: &&serde_json::Value| finding["about"] == "witness";
        let text = |finding: &serde_json::Value| format!("{}: {}", finding["level"], finding["found"]).replace('"', "");
        let found: Vec<String> = report["findings"].as_array().unwrap().iter().filter(of_witness).map(text).collect();
        (report["live"].as_bool().unwrap(), found.join("\n"))
    };
    let (_, found) = findings("ams");
    assert!(found.contains("failure: the witness cannot be used: cannot open"), "{found}");
    sites.run("ams", &["witness", "init"]);
    let (live, found) = findings("ams");
    assert!(!live && found.contains("warning: nobody is live in term 0"), "{found}");
    assert!(found.contains("ok: it does what a witness must: all of 5 trials"), "{found}");
    // As the holder would write it.
    let first = fs::read_to_string(folder.join("lease/9999999998.json")).unwrap();
    let held = first.replace("\"holder\": null", "\"holder\": \"ams\"").replace("\"released\"", "\"live\"");
    fs::write(folder.join("lease/9999999997.json"), held).unwrap();
    let (live, found) = findings("ams");
    assert!(live && found.contains("ok: ams is live in term 0"), "{found}");
    assert!(!findings("fra").0);
}

#[tokio::test]
async fn a_witness_in_a_database_has_a_server_of_its_own() {
    let postgres = PostgresServer::with(&["fsync=on"]);
    let (url, password) = (postgres.cluster().url("postgres"), postgres.cluster().password_file());
    let way = format!("credentials = \"file:{}\"", password.display());
    let sites = sites(&format!("url = \"{url}\""), &way).await;
    let port = postgres.cluster().port().to_string();
    let said = sites.refused("ams", &["witness", "status"], 5).replace(&port, "PORT");
    assert_eq!(said, {
        "error: database postgres at 127.0.0.1:PORT has not the tables of a witness\n\
         next:  If it is new, run `warmspare witness init`. If there was a record, it is lost: fence both sites first, then give \
         `--term` a number above every term there was."
    });
    assert!(sites.run("ams", &["witness", "init", "--dry-run"]).is_empty());
    sites.run("ams", &["witness", "init"]);
    assert!(sites.run("fra", &["witness", "status"]).contains("0: nobody is live"));
    assert!(sites.run("fra", &["witness", "selftest"]).contains("ok  keeps what it confirmed"));

    let source = sites.live.cluster().url("app");
    sites.edit_configuration(&url, &source);
    let said = sites.refused("fra", &["witness", "status"], 5);
    assert_eq!(said, {
        "error: the witness is in database app at 127.0.0.1:LIVE-PORT, the server of database.app of ams\n\
         next:  Give it a server of its own, away from both sites: where its database is restored, an old record comes back, and two \
         sites can be live at once."
    });
}

#[tokio::test]
async fn without_a_witness_every_command_says_how_to_have_one() {
    let sites = Sites::empty().await;
    assert!(sites.refused("ams", &["lease", "history"], 2).starts_with("error: the configuration names no witness\n"));
    for command in [vec!["init"], vec!["selftest"], vec!["status"], vec!["history"]] {
        let arguments: Vec<&str> = std::iter::once("witness").chain(command).collect();
        assert_eq!(sites.refused("ams", &arguments, 2), {
            "error: the configuration names no witness\n\
             next:  Write [witness] with its `url` and take `live` out; docs/CONFIGURATION.md shows where one can be."
        });
    }
}
