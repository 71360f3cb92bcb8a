//! The vault on a real folder: what the live site writes, the spare reads back; what was tampered with is named.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use warmspare::clock::{Clock, FixedClock, SystemClock};
use warmspare::config::SourceName;
use warmspare::config::address::VaultUrl;
use warmspare::keys::{Identity, SigningKey, VerifyingKey};
use warmspare::pipeline::ChunkerParameters;
use warmspare::store::Keys;
use warmspare::stream::{Attributes, Sink, SinkStream, Source, SourceStream, StreamKind, StreamName};
use warmspare::vault::layout::PointId;
use warmspare::vault::{
    CommittedSnapshot, EpochKeeping, EpochWriter, NewPoint, SeenPoints, VaultError, VaultReader, open_epoch,
};

/// Two sites and an escrow around one vault in a temporary folder.
struct Sites {
    folder: tempfile::TempDir,
    spare: Identity,
    escrow: Identity,
    signing: Arc<SigningKey>,
    signers: BTreeMap<String, VerifyingKey>,
    clock: Arc<dyn Clock>,
    state: Option<PathBuf>,
}

impl Sites {
    fn new() -> Self {
        let signing = Arc::new(SigningKey::generate().unwrap());
        Sites {
            folder: tempfile::tempdir().unwrap(),
            spare: Identity::generate(),
            escrow: Identity::generate(),
            signers: [("ams".to_owned(), signing.verifying_key())].into(),
            signing,
            clock: Arc::new(SystemClock),
            state: None,
        }
    }

    fn vault(&self) -> PathBuf {
        self.folder.path().join("vault")
    }

    fn state(&self) -> PathBuf {
        self.state.clone().unwrap_or_else(|| self.folder.path().join("state"))
    }

    fn keys(&self) -> Keys {
        Keys::init(&VaultUrl::Folder(self.vault())).unwrap()
    }

    fn reader(&self) -> VaultReader<Keys> {
        VaultReader::new(self.keys(), "app", self.signers.clone())
    }

    async fn writer(&self) -> Result<EpochWriter<Keys>, VaultError> {
        let sealed_to = [self.spare.recipient(), self.escrow.recipient()];
        let keeping = EpochKeeping {
            system: "app",
            site: "ams",
            term: 0,
            sealed_to: &sealed_to,
            chunker: Some(ChunkerParameters::small()),
            signer: &self.signing,
            state: &self.state(),
        };
        let heads = self.reader().heads(0).await?;
        let epoch = open_epoch(&self.keys(), &keeping, &heads, &*self.clock).await?;
        Ok(EpochWriter::new(self.keys(), "app", "ams", epoch, self.signing.clone(), self.clock.clone()))
    }

    /// Captures `tables` as one snapshot and publishes a point of it.
    async fn point(&self, tables: &[(&str, &[u8])]) -> Result<CommittedSnapshot, VaultError> {
        let writer = self.writer().await?;
        let snapshot = writer.begin(&source());
        for (name, data) in tables {
            let mut stream = snapshot.open(table(name)).await.unwrap();
            for part in data.chunks(50_000) {
                stream.write(Bytes::copy_from_slice(part)).await.unwrap();
            }
            stream.finish(Attributes::new()).await.unwrap();
        }
        let now = self.clock.now();
        let committed = writer.commit(snapshot.seal(now, serde_json::json!({})).await?).await?;
        let listing = self.reader().points().await?;
        let (id, previous) = SeenPoints::load(&self.state())?.allocate(&listing, 0)?;
        let snapshots = vec![committed.clone()];
        writer.publish(NewPoint { id, previous, started_at: now, captured_at: now, snapshots }).await?;
        Ok(committed)
    }

    /// Everything the newest point holds, opened with `identity`.
    async fn read_back(&self, identity: &Identity) -> Result<Vec<(String, Vec<u8>)>, String> {
        let listing = self.reader().points().await.map_err(|e| e.to_string())?;
        if let Some(damaged) = listing.damaged.first() {
            return Err(format!("{}: {}", damaged.key, damaged.what));
        }
        let point = listing.points.last().ok_or("no point")?;
        let (source, id, header) = point.headers.first().ok_or("no header")?;
        let said = |e: VaultError| warmspare::error::Error::from(e).to_string();
        let snapshot = self.reader().open_snapshot(source, *id, header, identity).await.map_err(said)?;
        let mut tables = Vec::new();
        for entry in snapshot.entries() {
            let mut stream = snapshot.read(&entry.name).await.map_err(|e| e.to_string())?;
            let mut data = Vec::new();
            while let Some(part) = stream.next().await.map_err(|e| e.to_string())? {
                data.extend_from_slice(&part);
            }
            tables.push((entry.name.name.clone(), data));
        }
        Ok(tables)
    }
}

fn source() -> SourceName {
    "database.app".parse().unwrap()
}

fn table(name: &str) -> StreamName {
    StreamName::new(StreamKind::Table, name)
}

fn noise(seed: &str, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(seed.as_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

fn objects(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(objects(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

#[tokio::test]
async fn what_was_captured_comes_back_at_the_spare_and_from_the_escrow_but_not_at_home() {
    let sites = Sites::new();
    let (rows, blob) = (b"1\tone\n2\ttwo\n".repeat(40_000), noise("blob", 3_000_000));
    sites.point(&[("rows", &rows), ("blob", &blob), ("empty", b"")]).await.unwrap();
    let expected = vec![("rows".to_owned(), rows), ("blob".to_owned(), blob), ("empty".to_owned(), Vec::new())];
    assert_eq!(sites.read_back(&sites.spare).await.unwrap(), expected);
    assert_eq!(sites.read_back(&sites.escrow).await.unwrap(), expected);
    let error = sites.read_back(&Identity::generate()).await.unwrap_err();
    assert!(error.contains("do not open with this site's identity"), "{error}");
    // Nothing in the state folder opens the epoch either.
    for file in objects(&sites.state()) {
        let text = String::from_utf8_lossy(&std::fs::read(&file).unwrap()).into_owned();
        assert!(!text.contains("AGE-SECRET-KEY"), "{} holds an identity", file.display());
    }
}

#[tokio::test]
async fn a_second_snapshot_stores_what_changed_and_no_more() {
    let sites = Sites::new();
    let mut data = noise("table", 8_000_000);
    let first = sites.point(&[("t", &data)]).await.unwrap();
    assert!(first.header.stored_bytes > 8_000_000);
    data.splice(4_000_000..4_000_000, *b"one inserted row");
    let second = sites.point(&[("t", &data)]).await.unwrap();
    assert!(second.header.stored_bytes < 200_000, "{} bytes stored", second.header.stored_bytes);
    assert_eq!(second.id.epoch, first.id.epoch);
    assert_eq!(sites.read_back(&sites.spare).await.unwrap(), [("t".to_owned(), data)]);
}

#[tokio::test]
async fn a_lost_catalog_costs_one_upload_and_nothing_else() {
    let sites = Sites::new();
    let data = noise("table", 500_000);
    let first = sites.point(&[("t", &data)]).await.unwrap();
    let catalog = objects(&sites.state()).into_iter().find(|path| path.to_string_lossy().contains("catalog")).unwrap();
    std::fs::write(catalog, b"torn").unwrap();
    let second = sites.point(&[("t", &data)]).await.unwrap();
    assert_eq!(second.id.epoch.epoch, first.id.epoch.epoch + 1);
    assert_eq!(sites.read_back(&sites.spare).await.unwrap(), [("t".to_owned(), data)]);
}

#[tokio::test]
async fn a_week_later_a_new_epoch_is_opened() {
    let mut sites = Sites::new();
    let start: jiff::Timestamp = "2026-11-01T00:00:00Z".parse().unwrap();
    sites.clock = Arc::new(FixedClock(start));
    let first = sites.point(&[("t", b"x")]).await.unwrap();
    sites.clock = Arc::new(FixedClock(start + jiff::SignedDuration::from_hours(5 * 24)));
    let same = sites.point(&[("t", b"x")]).await.unwrap();
    assert_eq!(same.id.epoch, first.id.epoch);
    sites.clock = Arc::new(FixedClock(start + jiff::SignedDuration::from_hours(6 * 24 + 1)));
    let next = sites.point(&[("t", b"x")]).await.unwrap();
    assert_eq!(next.id.epoch.epoch, first.id.epoch.epoch + 1, "less than a longest run was left");
}

#[tokio::test]
async fn a_writer_that_sleeps_past_its_epoch_commits_nothing() {
    let mut sites = Sites::new();
    let start: jiff::Timestamp = "2026-11-01T00:00:00Z".parse().unwrap();
    sites.clock = Arc::new(FixedClock(start));
    let sealed_to = [sites.spare.recipient()];
    let state = sites.state();
    let keeping = EpochKeeping {
        system: "app",
        site: "ams",
        term: 0,
        sealed_to: &sealed_to,
        chunker: Some(ChunkerParameters::small()),
        signer: &sites.signing,
        state: &state,
    };
    let epoch = open_epoch(&sites.keys(), &keeping, &[], &*sites.clock).await.unwrap();
    let late: Arc<dyn Clock> = Arc::new(FixedClock(start + jiff::SignedDuration::from_hours(7 * 24)));
    let writer = EpochWriter::new(sites.keys(), "app", "ams", epoch, sites.signing.clone(), late);
    let sealed = writer.begin(&source()).seal(start, serde_json::json!({})).await.unwrap();
    assert!(matches!(writer.commit(sealed).await, Err(VaultError::EpochOver(_))));
    assert!(sites.reader().heads(0).await.unwrap().is_empty());
    let id = PointId { term: 0, seq: 1 };
    let point = NewPoint { id, previous: None, started_at: start, captured_at: start, snapshots: Vec::new() };
    assert!(matches!(writer.publish(point).await, Err(VaultError::EpochOver(_))), "not the point alone either");
}

#[tokio::test]
async fn an_unfinished_stream_cannot_be_sealed() {
    let sites = Sites::new();
    let writer = sites.writer().await.unwrap();
    let snapshot = writer.begin(&source());
    let stream = snapshot.open(table("t")).await.unwrap();
    assert!(snapshot.open(table("t")).await.is_err(), "a name is used once");
    drop(stream);
    let error = snapshot.seal(sites.clock.now(), serde_json::json!({})).await.map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("1 of its streams were not finished"), "{error}");
}

#[tokio::test]
async fn two_machines_with_one_state_folder_are_found_at_once() {
    let sites = Sites::new();
    sites.point(&[("t", b"x")]).await.unwrap();
    let copy = sites.folder.path().join("copy");
    std::fs::create_dir(&copy).unwrap();
    for file in objects(&sites.state()) {
        std::fs::copy(&file, copy.join(file.file_name().unwrap())).unwrap();
    }
    sites.point(&[("t", b"from the first machine")]).await.unwrap();
    std::fs::remove_dir_all(sites.state()).unwrap();
    std::fs::rename(&copy, sites.state()).unwrap();
    let error = sites.point(&[("t", b"from the second machine")]).await.unwrap_err();
    assert!(matches!(error, VaultError::OtherWriter { .. }), "{error}");
}

/// Copies the files of `from` into `to`, which is new or emptied first: a state folder that was cloned or put back.
fn clone_state(from: &Path, to: &Path) {
    if to.exists() {
        std::fs::remove_dir_all(to).unwrap();
    }
    std::fs::create_dir(to).unwrap();
    for file in objects(from) {
        std::fs::copy(&file, to.join(file.file_name().unwrap())).unwrap();
    }
}

#[tokio::test]
async fn two_machines_that_write_at_the_same_time_fork_no_chain_even_where_numbers_were_burned() {
    let mut sites = Sites::new();
    sites.point(&[("t", b"x")]).await.unwrap();
    let (ours, copy) = (sites.state(), sites.folder.path().join("copy"));
    clone_state(&ours, &copy);
    let now = sites.clock.now();
    let seal =
        async |writer: &EpochWriter<Keys>| writer.begin(&source()).seal(now, serde_json::json!({})).await.unwrap();
    // The first machine was killed once between allotting a number and putting a body under it.
    drop(seal(&sites.writer().await.unwrap()).await);
    let body = objects(&sites.vault()).into_iter().find(|path| path.ends_with("00000000-000001-00000002.body.age"));
    std::fs::remove_file(body.unwrap()).unwrap();
    let first = sites.writer().await.unwrap();
    sites.state = Some(copy);
    let second = sites.writer().await.unwrap();

    first.commit(seal(&first).await).await.unwrap();
    second.commit(seal(&second).await).await.unwrap();
    let shown = sites.reader().header_numbers(first.epoch()).await.unwrap();
    for (writer, stranger) in [(first, "00000002.json"), (second, "00000003.json")] {
        match writer.check_alone(&shown) {
            Err(VaultError::OtherWriter { key }) => assert!(key.ends_with(stranger), "{key}"),
            other => panic!("{stranger}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_state_folder_put_back_from_a_backup_does_not_write_into_an_epoch_that_was_left() {
    let mut sites = Sites::new();
    let start: jiff::Timestamp = "2026-11-01T00:00:00Z".parse().unwrap();
    sites.clock = Arc::new(FixedClock(start));
    sites.point(&[("t", b"x")]).await.unwrap();
    let backup = sites.folder.path().join("backup");
    clone_state(&sites.state(), &backup);
    sites.clock = Arc::new(FixedClock(start + jiff::SignedDuration::from_hours(7 * 24)));
    sites.point(&[("t", b"y")]).await.unwrap();
    clone_state(&backup, &sites.state());
    sites.clock = Arc::new(FixedClock(start));
    match sites.point(&[("t", b"z")]).await {
        Err(VaultError::OtherWriter { key }) => assert!(key.contains("00000000-000002"), "{key}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_epoch_opened_by_a_clock_that_was_ahead_is_left() {
    let mut sites = Sites::new();
    let start: jiff::Timestamp = "2026-11-01T00:00:00Z".parse().unwrap();
    sites.clock = Arc::new(FixedClock(start + jiff::SignedDuration::from_hours(300 * 24)));
    let ahead = sites.point(&[("t", b"x")]).await.unwrap();
    sites.clock = Arc::new(FixedClock(start));
    let right = sites.point(&[("t", b"x")]).await.unwrap();
    assert_eq!(right.id.epoch.epoch, ahead.id.epoch.epoch + 1);
    sites.clock = Arc::new(FixedClock(start - jiff::SignedDuration::from_secs(60)));
    let stepped = sites.point(&[("t", b"x")]).await.unwrap();
    assert_eq!(stepped.id.epoch, right.id.epoch, "a clock that is set right by a minute costs nothing");
}

#[tokio::test]
async fn a_header_under_our_number_with_a_strangers_bytes_is_not_taken_for_ours() {
    let sites = Sites::new();
    sites.point(&[("t", b"x")]).await.unwrap();
    let backup = sites.folder.path().join("backup");
    clone_state(&sites.state(), &backup);
    // A machine that shares the counter: the same number, other bytes.
    sites.point(&[("t", b"y")]).await.unwrap();
    clone_state(&backup, &sites.state());
    let writer = sites.writer().await.map(|_| ());
    assert!(matches!(writer, Err(VaultError::OtherWriter { .. })), "{writer:?}");
}

#[tokio::test]
async fn a_removed_point_is_a_gap_and_a_removed_tail_is_noticed() {
    let sites = Sites::new();
    for round in ["1", "2", "3"] {
        sites.point(&[("t", round.as_bytes())]).await.unwrap();
    }
    let mut seen = SeenPoints::load(&sites.state()).unwrap();
    seen.check(&sites.reader().points().await.unwrap(), "app").unwrap();
    let point = |seq: u64| sites.vault().join(format!("systems/app/points/00000000-{seq:08}.json"));

    let kept = std::fs::read(point(2)).unwrap();
    std::fs::remove_file(point(2)).unwrap();
    let damaged = sites.reader().points().await.unwrap().damaged;
    assert_eq!(damaged.len(), 1);
    assert_eq!(damaged[0].what, "missing: point 0-3 was taken after it");
    std::fs::write(point(2), kept).unwrap();

    std::fs::remove_file(point(3)).unwrap();
    let error = seen.check(&sites.reader().points().await.unwrap(), "app").unwrap_err();
    assert_eq!(
        error.to_string(),
        "vault: recovery point 0-3 was there before and is gone: the tail of the vault was cut"
    );
}

#[tokio::test]
async fn a_removed_header_breaks_the_chain_of_the_writer() {
    let sites = Sites::new();
    for round in ["1", "2", "3"] {
        sites.point(&[("t", round.as_bytes())]).await.unwrap();
    }
    let header =
        |seq: u64| sites.vault().join(format!("systems/app/snapshots/database.app/00000000-000001-{seq:08}.json"));
    let kept = std::fs::read(header(2)).unwrap();
    std::fs::remove_file(header(2)).unwrap();
    assert!(matches!(sites.writer().await, Err(VaultError::Chain { .. })));
    std::fs::write(header(2), kept).unwrap();
    std::fs::remove_file(header(3)).unwrap();
    assert!(matches!(sites.writer().await, Err(VaultError::TailCut { .. })));
}

#[tokio::test]
async fn a_flipped_byte_in_any_object_is_found_before_anything_wrong_is_given_out() {
    let sites = Sites::new();
    let data = noise("table", 60_000);
    sites.point(&[("t", &data)]).await.unwrap();
    let mut tried = 0;
    for object in objects(&sites.vault()) {
        let good = std::fs::read(&object).unwrap();
        let name = object.file_name().unwrap().to_string_lossy().into_owned();
        let informs_only = name == "vault.json" || name == "epoch.json";
        let step = (good.len() / 40).max(1);
        for at in (0..good.len()).step_by(step) {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            std::fs::write(&object, &bad).unwrap();
            match sites.read_back(&sites.spare).await {
                Err(_) => tried += 1,
                Ok(tables) => assert!(informs_only || tables == [("t".to_owned(), data.clone())], "{name} byte {at}"),
            }
        }
        std::fs::write(&object, &good).unwrap();
    }
    assert!(tried > 100, "{tried}");
    assert!(sites.read_back(&sites.spare).await.is_ok());
}
