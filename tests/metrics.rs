//! What Prometheus reads: its own tools read it, find what is wrong, and find it when nothing is said at all.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use warmspare::clock::SystemClock;
use warmspare::config::{Config, Here};
use warmspare::notify::Watch;
use warmspare::site::gate::{Gate, Listen, Page, sign};

use crate::support::sites::{Sites, shown};

/// Has Prometheus' parser and linter look at it.
fn prometheus_reads(text: &str) {
    let mut promtool = Command::new("promtool");
    promtool.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = promtool.spawn().expect("promtool runs");
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{}\n{text}", shown(&output));
}

#[tokio::test]
async fn a_textfile_is_written_whole_for_everybody_or_not_at_all() {
    let sites = Sites::filled().await;
    sites.run("ams", &["capture"]);
    sites.run("fra", &["restore"]);
    let file = sites.path().join("warmspare.prom");
    let name = file.display().to_string();
    sites.run("fra", &["report", "--prometheus", &name]);
    let text = fs::read_to_string(&file).unwrap();
    prometheus_reads(&text);
    for line in [
        "warmspare_target_met{system=\"app\",target=\"proven\"} 1\n",
        "warmspare_points{system=\"app\"} 1\n",
        "warmspare_bucket_objects{system=\"app\",source=\"bucket.artifacts\"} 3\n",
        "warmspare_bucket_sent_bytes{system=\"app\",source=\"bucket.artifacts\"} 200010\n",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o644, "the exporter is another user");

    let nowhere = sites.path().join("no/such.prom").display().to_string();
    let message = sites.refused("fra", &["report", "--prometheus", &nowhere], 1);
    assert!(
        message.starts_with("error: the metrics cannot be written to SITES/no/such.prom: No such file"),
        "{message}"
    );
    assert!(message.contains("next:  Name a file that ends with .prom"), "{message}");
    let others = fs::read_dir(sites.path()).unwrap().filter(|entry| {
        let name = entry.as_ref().unwrap().file_name();
        name.to_string_lossy().contains(".prom")
    });
    assert_eq!(others.count(), 1, "nothing half-written is left");

    // A vault that is gone: what was known is known no more, and that is told.
    fs::rename(sites.vault(), sites.path().join("aside")).unwrap();
    let output = sites.command("fra", ["report", "--prometheus", &name]).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", shown(&output));
    let text = fs::read_to_string(&file).unwrap();
    prometheus_reads(&text);
    assert!(text.contains("warmspare_vault_readable{system=\"app\"} 0\n") && !text.contains("newest_point"), "{text}");
}

/// What the gate at `address` answers to a request for `/metrics`.
async fn asked(address: std::net::SocketAddr) -> String {
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn the_gate_shows_the_metrics_of_the_last_look() {
    let sites = Sites::filled().await;
    sites.run("ams", &["capture"]);
    let here = Here::new(Config::load(&sites.configuration()).unwrap(), "fra").unwrap();
    let mut watch = Watch::new(&here, Arc::new(SystemClock)).unwrap();
    let listen = Listen { http: "127.0.0.1:0".parse().unwrap(), agent: None };
    let (_writer, sign) = sign();
    let gate = Gate::put_up_showing(&listen, sign.clone(), Arc::new(SystemClock), watch.page()).unwrap();
    assert!(asked(gate.http).await.starts_with("HTTP/1.1 404 "), "before the first look");
    watch.look(&here, None, Vec::new()).await;
    let answer = asked(gate.http).await;
    let (head, text) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(head.contains("\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n"), "{head}");
    prometheus_reads(text);
    assert!(text.contains("warmspare_alarm{system=\"app\",alarm=\"proof.late\",severity=\"warning\"} 1\n"), "{text}");
    drop(gate);
    let gate = Gate::put_up_showing(&listen, sign, Arc::new(SystemClock), Page::default()).unwrap();
    assert!(asked(gate.http).await.starts_with("HTTP/1.1 404 "), "a gate of no watch");
}

/// The rules that are shipped, with series as Prometheus would have scraped them.
#[test]
fn the_alerts_fire_on_what_is_missed_old_and_absent() {
    let rules = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/prometheus/warmspare.rules.yml");
    let promtool = |arguments: &[&str]| {
        let output = Command::new("promtool").args(arguments).output().expect("promtool runs");
        assert!(output.status.success(), "{}", shown(&output));
    };
    promtool(&["check", "rules", rules]);
    let series = "{system=\"app\",instance=\"fra\"}";
    let alert = |name: &str, at: &str, labels: &str| {
        format!("      - {{ alertname: {name}, eval_time: {at}, exp_alerts: [{labels}] }}\n")
    };
    let critical = |labels: &str| format!("{{ exp_labels: {{ severity: critical{labels} }} }}");
    let named = ", system: app, instance: fra";
    let case = |title: &str, series: &[String], alerts: &str| {
        let series: String = series.iter().map(|series| format!("      - {series}\n")).collect();
        format!("  - name: {title}\n    interval: 1m\n    input_series:\n{series}    alert_rule_test:\n{alerts}")
    };
    let one = |metric: &str, more: &str, values: &str| {
        let labels = series.replace('}', &format!("{more}}}"));
        format!("{{ series: 'warmspare_{metric}{labels}', values: '{values}' }}")
    };
    // Prometheus' time begins at 0, so a report of every minute is `0+60xN`.
    let healthy = [
        one("report_timestamp_seconds", "", "0+60x100"),
        one("newest_point_timestamp_seconds", "", "0+60x100"),
        one("target_met", ",target=\"point\"", "1x100"),
    ];
    let quiet: String = [
        "WarmspareReportAbsent",
        "WarmspareReportOld",
        "WarmspareTargetMissed",
        "WarmsparePointAbsent",
        "WarmspareAlarm",
    ]
    .iter()
    .map(|name| alert(name, "90m", ""))
    .collect();
    let stopped = [one("report_timestamp_seconds", "", "0x100"), one("newest_point_timestamp_seconds", "", "0x100")];
    let blind = [one("report_timestamp_seconds", "", "0+60x100"), one("alarm", ",alarm=\"vault.unusable\"", "1x100")];
    let missed = [one("report_timestamp_seconds", "", "0+60x100"), one("target_met", ",target=\"proven\"", "0x100")];
    let nothing = ["{ series: 'up{job=\"x\"}', values: '1x100' }".to_owned()];
    let warning = "{ exp_labels: { severity: warning, system: app, instance: fra, alarm: vault.unusable } }";
    let cases = [
        case("healthy", &healthy, &quiet),
        case("stopped", &stopped, &alert("WarmspareReportOld", "90m", &critical(named))),
        case("nobody", &nothing, &alert("WarmspareReportAbsent", "20m", &critical(""))),
        case(
            "blind",
            &blind,
            &(alert("WarmsparePointAbsent", "20m", &critical(named)) + &alert("WarmspareAlarm", "20m", warning)),
        ),
        case("missed", &missed, &alert("WarmspareTargetMissed", "10m", &critical(&format!("{named}, target: proven")))),
    ];
    // What is said besides is in the rules; labels alone are compared.
    let text = fs::read_to_string(rules).unwrap();
    let bare: Vec<&str> = text.lines().filter(|line| !is_annotation(line)).collect();
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("rules.yml"), bare.join("\n")).unwrap();
    let tests = folder.path().join("tests.yml");
    fs::write(&tests, format!("rule_files: [rules.yml]\nevaluation_interval: 1m\ntests:\n{}", cases.concat())).unwrap();
    promtool(&["test", "rules", path(&tests)]);
}

fn is_annotation(line: &str) -> bool {
    ["annotations:", "summary:", "description:"].iter().any(|word| line.trim_start().starts_with(word))
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}
