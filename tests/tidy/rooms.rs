//! The invariants of absence: what a room must not know.

use super::source::{Findings, Source, line_of, named, read, sources};

/// What every room may use. Among themselves these know no order.
const BASE: [&str; 12] = [
    "blocking",
    "clock",
    "durable",
    "error",
    "failpoint",
    "https",
    "keys",
    "observe",
    "permit",
    "process",
    "stream",
    "units",
];
/// In the order of src/lib.rs, which is the order in which data passes through them. Each may import those before it.
const ROOMS: [&str; 17] = [
    "schedule",
    "config",
    "store",
    "postgres",
    "capture",
    "pipeline",
    "vault",
    "mirror",
    "point",
    "restore",
    "verify",
    "jobs",
    "site",
    "report",
    "notify",
    "preflight",
    "daemon",
];
/// What a person starts; it may import everything.
const TOP: [&str; 5] = ["cli", "demo", "init", "keygen", "trial"];
/// Imports against the order, which may then not go the other way. `restore` composes: what a step has loaded is
/// compared by `verify`, which also tells it what is there already.
const COMPOSES: [(&str, &str); 1] = [("restore", "verify")];

/// Modules whose answer depends on their arguments alone. Those that do not exist yet are bound already.
const PURE: [&str; 13] = [
    "schedule",
    "jobs/due",
    "pipeline",
    "vault/retention",
    "restore/plan",
    "site/balancer",
    "site/lease",
    "report/freshness",
    "report/alarms",
    "report/text",
    "report/metrics",
    "notify/message",
    "notify/ping",
];
const IMPURE: [&str; 16] = [
    "std::fs",
    "std::net",
    "std::process",
    "std::env",
    "std::thread",
    "std::os",
    "tokio",
    "rustix",
    "getrandom",
    "crate::clock",
    "crate::durable",
    "crate::failpoint",
    "crate::store",
    "crate::postgres",
    "crate::mirror",
    "crate::capture",
];

/// `std::time::Instant` measures how long something took, or how long to wait; it never says when something happened.
const MEASURES: [(&str, &str); 11] = [
    ("cli/progress", "how long a phase lasts, and how long it will"),
    ("demo", "the times of the summary, and the deadline for a server to start"),
    ("mirror/limits", "how long to wait for the next bytes or request"),
    ("mirror/width", "how much gets done in a while"),
    ("point/buckets", "how long each bucket took"),
    ("point/sources", "how long each source took"),
    ("point/take", "how long the point took"),
    ("postgres/rate", "how long to wait for the next bytes"),
    ("restore", "how long each step took"),
    ("site/witness/setup", "how long the witness takes to answer"),
    ("trial", "how long it all took"),
];

/// What a command may know: the words of the base, where it is, and the rooms that do whole jobs.
const CLI_KNOWS: [&str; 34] = [
    "crate::cli",
    "crate::clock",
    "crate::error",
    "crate::observe",
    "crate::units",
    "crate::config",
    "crate::point",
    "crate::restore",
    "crate::preflight",
    "crate::report",
    "crate::notify",
    "crate::demo",
    "crate::init",
    "crate::keygen",
    "crate::trial",
    "crate::daemon",
    "crate::jobs",
    "crate::site::daemon",
    "crate::site::driver::By",
    "crate::site::driver::StatusAt",
    "crate::site::operate",
    "crate::site::journal::Entry",
    "crate::verify::bucket",
    // What the witness says, a term to set it up with, and who asked.
    "crate::site::balancer",
    "crate::site::witness",
    "crate::site::lease::Term",
    "crate::process::operator",
    // Records as they are stored, and what is wrong with one, which `points` and `verify` print.
    "crate::vault::v1",
    "crate::vault::Damaged",
    "crate::vault::Fault",
    "crate::vault::ListedPoint",
    // What `vault` prints, and what a policy is filled in with.
    "crate::vault::DatedProbe",
    "crate::vault::PolicyUsers",
    "crate::vault::rekey",
];

fn starts_with(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

fn mentions(path: &str, segments: &str) -> bool {
    format!("::{path}::").contains(&format!("::{segments}::"))
}

/// Finds the paths in shipped code for which `is_wrong` says why.
fn wrong(is_wrong: impl Fn(&Source, &str) -> Option<String>) -> Findings {
    let mut findings = Findings::default();
    for source in sources("src/") {
        for named in &source.named {
            if let Some(why) = is_wrong(source, &named.path) {
                findings.add(&source.path, named.line, format!("{}: {why}", named.path));
            }
        }
    }
    findings
}

#[test]
fn every_module_has_its_place_in_the_order() {
    let text = read("src/lib.rs");
    let listed: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    let placed: Vec<&str> = BASE.iter().chain(&ROOMS).chain(&TOP).copied().collect();
    assert_eq!(listed, placed, "src/lib.rs and the order of the rooms differ");
}

#[test]
fn no_room_imports_a_later_one() {
    let place = |room: &str| match ROOMS.iter().position(|other| *other == room) {
        Some(place) => Some(place + 1),
        None if BASE.contains(&room) => Some(0),
        None if TOP.contains(&room) => Some(ROOMS.len() + 1),
        None => None,
    };
    wrong(|source, path| {
        let from = source.room();
        let to = path.strip_prefix("crate::")?.split("::").next()?;
        let (from_place, to_place) = (place(from)?, place(to)?);
        let composes = COMPOSES.contains(&(from, to));
        let is_composed = COMPOSES.contains(&(to, from));
        (is_composed || to_place > from_place && !composes).then(|| format!("{from} comes before {to}"))
    })
    .none("a room may import only the rooms before it");
}

#[test]
fn a_room_names_others_from_the_crate_down() {
    // `super` that climbs out of a room would get round the order.
    wrong(|source, path| {
        let climbs = path.split("::").take_while(|segment| *segment == "super").count();
        let leaves = climbs > 0 && climbs >= source.module().len();
        (leaves && !source.module().is_empty()).then(|| "leaves the room; begin at `crate`".to_owned())
    })
    .none("other rooms are named from `crate`");
}

#[test]
fn what_is_pure_does_no_io_and_reads_no_clock() {
    wrong(|source, path| {
        PURE.iter().find(|pure| source.is_in(pure))?;
        let io = IMPURE.iter().any(|impure| starts_with(path, impure));
        let clock = ["Instant", "SystemTime", "Timestamp::now", "Zoned::now"].iter().any(|name| mentions(path, name));
        (io || clock).then(|| "no part of a pure function".to_owned())
    })
    .none("these modules do no I/O and read no clock");
}

#[test]
fn the_machines_clock_is_read_in_one_place() {
    let clocks = ["SystemTime", "Timestamp::now", "Zoned::now", "clock_gettime", "tokio::time::Instant"];
    wrong(|source, path| {
        if source.is_in("clock") {
            return None;
        }
        let measured = mentions(path, "Instant") && !MEASURES.iter().any(|(place, _)| source.is_in(place));
        let read = clocks.iter().any(|clock| mentions(path, clock));
        (measured || read).then(|| "take a Clock; a place that only measures is listed with its reason".to_owned())
    })
    .none("whatever reads a clock takes a `Clock`");
    let measures = |place: &str| sources("src/").any(|s| s.is_in(place) && s.shipped.contains("Instant"));
    for (place, why) in MEASURES {
        assert!(measures(place), "src/{place} does not measure {why} any more; take it from the list");
    }
}

#[test]
fn only_the_store_knows_the_crates_of_object_stores() {
    wrong(|source, path| {
        let first = path.split("::").next()?;
        let foreign = first == "object_store" || first.starts_with("aws_");
        (foreign && source.room() != "store").then(|| "belongs to src/store".to_owned())
    })
    .none("only src/store names the crates of object stores");
}

#[test]
fn only_the_postgres_room_knows_its_driver() {
    wrong(|source, path| {
        (path.starts_with("tokio_postgres") && source.room() != "postgres")
            .then(|| "belongs to src/postgres".to_owned())
    })
    .none("only src/postgres names tokio-postgres");
}

#[test]
fn who_writes_the_vault_can_neither_read_nor_delete() {
    let writers = ["vault/writer", "vault/packer", "vault/epoch", "vault/proof"];
    let readers = ["vault/reader", "vault/snapshot", "vault/scrub"];
    wrong(|source, path| {
        let forbidden: &[&str] = if writers.iter().any(|writer| source.is_in(writer)) {
            &["store::Read", "store::Delete", "store::Bucket", "store::*"]
        } else if readers.iter().any(|reader| source.is_in(reader)) {
            &["store::Create", "store::Delete", "store::Bucket", "store::*"]
        } else {
            &[]
        };
        forbidden.iter().any(|right| mentions(path, right)).then(|| "more than it may hold".to_owned())
    })
    .none("a type says what its holder may do with the vault");
}

#[test]
fn only_the_keeper_deletes_from_the_vault() {
    // And to the witness, whose place is its own: for old records, and what a self-test tried. The attic and scratch places will
    // be named here when they exist.
    wrong(|source, path| {
        let delete = mentions(path, "store::Delete") || mentions(path, "store::*");
        let may = source.room() == "store" || source.is_in("vault/keeper") || source.is_in("site/witness");
        (delete && !may).then(|| "hands out the right to delete".to_owned())
    })
    .none("`Delete` is handed to the keeper of the vault and to the witness's own place alone");
}

#[test]
fn only_the_keeper_and_a_restore_take_objects_away() {
    let places = ["mirror/hide", "mirror/let_go", "point/attics", "restore/steps/bucket_rebuild"];
    wrong(|source, path| {
        let may = source.room() == "store" || places.iter().any(|place| source.is_in(place));
        (mentions(path, "store::Removing") && !may).then(|| "holds the right to take objects away".to_owned())
    })
    .none("`Removing` is handed to the keeper and to a restore in place");
}

#[test]
fn what_both_sites_share_is_written_under_a_permit() {
    let mut findings = Findings::default();
    // What a check begins there it gives up at once.
    // The witness is what a permit comes from.
    let not_kept = ["src/store/", "src/preflight/", "src/site/witness/"];
    for source in sources("src/").filter(|source| !not_kept.iter().any(|room| source.path.starts_with(room))) {
        for opened in ["Bucket::open(", "Keys::open("] {
            for (at, _) in source.shipped.match_indices(opened) {
                let statement = source.shipped[at..].split([';', '}']).next().unwrap_or_default();
                if !statement.contains(".under(") {
                    findings.add(&source.path, line_of(&source.shipped, at), "is opened without `.under(permit)`");
                }
            }
        }
    }
    findings.none("whoever opens a bucket or the vault says under which permit it is written");
}

#[test]
fn commands_hold_no_logic() {
    let machine = ["std::fs", "std::net", "std::process", "std::env", "std::thread", "tokio", "rustix"];
    wrong(|source, path| {
        if source.room() != "cli" {
            return None;
        }
        let unknown = path.starts_with("crate::") && !CLI_KNOWS.iter().any(|known| starts_with(path, known));
        let works = machine.iter().any(|name| starts_with(path, name));
        (unknown || works).then(|| "is work for a room".to_owned())
    })
    .none("src/cli turns arguments into calls and results into words");
}

#[test]
fn stored_types_live_in_vault_v1() {
    // Files of the state folder are no part of the vault: each site reads only what it wrote itself. The chunker's
    // parameters are the one stored type that v1 takes from an earlier room, which has to check them.
    let elsewhere = [
        ("src/vault/seen.rs", "StateFile"),
        ("src/vault/status.rs", "StateFile"),
        ("src/vault/probe.rs", "DatedProbe"),
        ("src/vault/scrub/turns.rs", "Turns"),
        ("src/vault/seen.rs", "Highest"),
        ("src/vault/seen.rs", "Allocated"),
        ("src/vault/epoch.rs", "StateFile"),
        ("src/pipeline/chunker.rs", "ChunkerParameters"),
        // One field of a record, read to see whose it is.
        ("src/vault/removals.rs", "OfSystem"),
    ];
    let mut findings = Findings::default();
    for source in sources("src/vault/").chain(sources("src/pipeline/")) {
        if source.is_in("vault/v1") {
            continue;
        }
        for (at, name) in serialized(&source.shipped) {
            if !elsewhere.contains(&(source.path.as_str(), name.as_str())) {
                findings.add(&source.path, line_of(&source.shipped, at), format!("{name} is serialized"));
            }
        }
    }
    findings.none("stored types live in src/vault/v1 and nowhere else");
}

/// The types that derive or implement serde's traits, and where.
fn serialized(code: &str) -> Vec<(usize, String)> {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let mut found = Vec::new();
    for (at, _) in code.match_indices("derive(") {
        let (derived, after) = code[at..].split_once(']').unwrap_or_default();
        if derived.contains("Serialize") || derived.contains("Deserialize") {
            let keyword = ["struct ", "enum "].iter().filter_map(|word| Some(after.find(word)? + word.len())).min();
            let name: String = after.chars().skip(keyword.unwrap_or(0)).take_while(|c| is_name(*c)).collect();
            found.push((at, name));
        }
    }
    for mark in ["Serialize for ", "Deserialize<'de> for "] {
        for (at, _) in code.match_indices(mark) {
            found.push((at, code[at + mark.len()..].chars().take_while(|c| is_name(*c)).collect()));
        }
    }
    found
}

#[test]
fn the_checks_see_what_they_look_for() {
    let code =
        "use crate::store::{Create, Delete};\nuse std::{fs, time::Instant};\n#[derive(Clone, Serialize)]\nstruct A;";
    let paths: Vec<String> = named(code).into_iter().map(|named| named.path).collect();
    assert!(paths.iter().any(|path| mentions(path, "store::Delete")));
    assert!(paths.iter().any(|path| starts_with(path, "std::fs")));
    assert!(paths.iter().any(|path| mentions(path, "Instant")));
    assert!(!paths.iter().any(|path| mentions(path, "store::Read")));
    assert_eq!(serialized(code).first().map(|(_, name)| name.as_str()), Some("A"));
}
