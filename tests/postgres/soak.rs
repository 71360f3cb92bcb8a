//! What takes long. `make soak` runs it with the release binary and prints what it measured.
//!
//! A row of half a gigabyte: PostgreSQL sends it in one message, which is held once or twice, and nothing else grows with it.
//! Twenty captures of an application that works and migrates without end: each point is consistent, and nobody was held up.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::load::{self, Load};
use crate::support::sites::{Sites, shown};

const FIELD_BYTES: u64 = 500 << 20;
/// 256 MiB and twice the largest row.
const MEMORY_BYTES_MAX: u64 = (256 << 20) + 2 * FIELD_BYTES;

/// Runs the binary at a site; the most memory it held.
fn measure(sites: &Sites, site: &str, arguments: &[&str]) -> u64 {
    let binary = std::env::var("WARMSPARE_SOAK_BINARY").unwrap_or(env!("CARGO_BIN_EXE_warmspare").to_owned());
    let mut command = Command::new(binary);
    command.env("WARMSPARE_CONFIG", sites.configuration()).env("WARMSPARE_SITE", site).args(arguments);
    let begun = Instant::now();
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let status = format!("/proc/{}/status", child.id());
    let watched = std::thread::spawn(move || {
        let mut peak = 0;
        // Until the process is gone; the mark only rises, and is looked at often.
        while let Ok(text) = std::fs::read_to_string(&status) {
            let high = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            let Some(high) = high else { break };
            peak = peak.max(high.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10);
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        peak
    });
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{arguments:?} at {site}: {}", shown(&output));
    let peak = watched.join().unwrap();
    println!("{}: {:.1} s, {} MiB", arguments.join(" "), begun.elapsed().as_secs_f64(), peak >> 20);
    peak
}

#[tokio::test]
#[ignore = "a row of 500 MB; make soak runs it"]
async fn a_row_of_500_mb_is_captured_and_comes_back_in_the_memory_that_is_promised() {
    let sites = Sites::filled().await;
    // Every chunk of it is another, as in a file that somebody put there.
    let sql = format!(
        "CREATE TABLE gigantic (t text); ALTER TABLE gigantic ALTER t SET STORAGE EXTERNAL; \
         INSERT INTO gigantic SELECT string_agg(md5(n::text), '') FROM generate_series(1, {}) n; \
         INSERT INTO gigantic VALUES ('small')",
        FIELD_BYTES / 32
    );
    sites.live.sql("app", &sql).await;
    let captured = measure(&sites, "ams", &["capture"]);
    let restored = measure(&sites, "fra", &["restore"]);
    let sum = "SELECT string_agg(md5(t), ' ' ORDER BY length(t)) FROM public.gigantic";
    assert_eq!(sites.live.value("app", sum).await, sites.spare.value("app", sum).await);
    assert!(captured.max(restored) <= MEMORY_BYTES_MAX, "more than {} MiB", MEMORY_BYTES_MAX >> 20);
}

#[tokio::test]
#[ignore = "a value of 512 MB; make soak runs it"]
async fn a_value_that_postgresql_cannot_write_as_text_ends_the_capture_at_once_and_names_its_table() {
    let sites = Sites::filled().await;
    let sql = "CREATE TABLE gigantic (b bytea); ALTER TABLE gigantic ALTER b SET STORAGE EXTERNAL; \
               INSERT INTO gigantic SELECT convert_to(repeat('x', 512 * 1024 * 1024), 'UTF8')";
    sites.live.sql("app", sql).await;
    let begun = Instant::now();
    let words = sites.refused("ams", &["capture"], 3);
    println!("{:.1} s: {words}", begun.elapsed().as_secs_f64());
    assert!(
        words.contains("a row is too large while reading table \"public\".\"gigantic\": invalid memory alloc"),
        "{words}"
    );
    assert!(words.contains("octet_length()"), "{words}");
}

const CAPTURES: usize = 20;
/// 2,000,000 accounts, 300 MB on disk.
const SCALE: u32 = 20;

/// How many attempts the capture of a point took.
fn attempts(sites: &Sites, point: &str) -> u64 {
    let shown = sites.run("ams", &["points", "show", point]);
    let facts = shown.lines().find_map(|line| line.strip_prefix("facts of database.app: ")).unwrap();
    serde_json::from_str::<serde_json::Value>(facts).unwrap()["attempts"].as_u64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "20 captures and restores of 300 MB; make soak runs it"]
async fn twenty_captures_during_endless_migrations_are_all_consistent_and_hold_nobody_up_for_six_seconds() {
    let sites = Sites::filled().await;
    load::fill(&sites.live, "app", SCALE);
    // A statement of a migration every second: a capture lasts several, and each lets go of who has waited five.
    let running = Load::start(&sites.live, "app", 4, Duration::from_secs(2)).await;
    for capture in 1..=CAPTURES {
        let captured = tokio::task::block_in_place(|| measure(&sites, "ams", &["capture", "--json"]));
        println!("capture {capture}: {} MiB of memory", captured >> 20);
    }
    let felt = running.stop().await;
    let points: Vec<String> =
        sites.points("ams").iter().map(|point| point["point"].as_str().unwrap().to_owned()).collect();
    assert_eq!(points.len(), CAPTURES);
    let all: u64 = points.iter().map(|point| attempts(&sites, point)).sum();
    println!("{CAPTURES} captures in {all} attempts; {felt}");
    felt.assert_bearable();
    for point in &points {
        // A restore proves that what stands there is what was captured, or fails.
        measure(&sites, "fra", &["restore", "--point", point, "--only", "database.app"]);
        let sums = sites.spare.value("app", load::SUMS).await;
        let all: Vec<&str> = sums.split(' ').collect();
        assert!(all.len() == 4 && all.iter().all(|sum| *sum == all[0]), "point {point}: {sums}");
    }
}
