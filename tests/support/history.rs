//! A vault with a past: points captured on days long gone, by a live site whose clock the test is, on a folder whose
//! times are set to match; and the binary, run at either site.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use secrecy::SecretString;
use warmspare::clock::{Clock, FixedClock};
use warmspare::config::Config;
use warmspare::keygen;
use warmspare::keys::{Identity, SigningKey};
use warmspare::pipeline::ChunkerParameters;
use warmspare::store::Keys;
use warmspare::stream::{Attributes, Sink, SinkStream, Source, SourceStream, StreamKind, StreamName};
use warmspare::vault::{EpochKeeping, EpochWriter, NewPoint, SeenPoints, VaultReader, open_epoch};

use super::sites::shown;

pub struct History {
    folder: tempfile::TempDir,
    pub now: Timestamp,
}

impl History {
    /// Two sites and an empty vault; `retention` are the lines of that section.
    pub fn new(retention: &str) -> Self {
        let history = History { folder: tempfile::tempdir().unwrap(), now: Timestamp::now() };
        let path = history.folder.path();
        fs::create_dir(history.vault()).unwrap();
        let escrow = keygen::escrow(&path.join("escrow.txt"), &FixedClock(history.now)).unwrap();
        let (mut signers, mut sections) = (Vec::new(), String::new());
        for site in ["ams", "fra"] {
            let keys = keygen::site(site, &path.join(format!("{site}-keys"))).unwrap();
            signers.push(format!("{site} = \"{}\"", keys.verifying_key));
            sections += &format!(
                "\n[sites.{site}]\nstate = \"{base}/{site}\"\nrecipient = \"{}\"\nidentity = \"file:{}\"\n\
                 signing_key = \"file:{}\"\nexports.configs = {{ files = [\"/etc/hostname\"] }}\n",
                keys.recipient,
                keys.identity_file.display(),
                keys.signing_key_file.display(),
                base = path.display(),
            );
        }
        let text = format!(
            "system = \"app\"\nlive = \"ams\"\nvault = {{ url = \"{}\", escrow = [\"{}\"], signers = {{ {} }} }}\n\
             [retention]\n{retention}\n{sections}",
            history.vault().display(),
            escrow.recipient,
            signers.join(", "),
        );
        fs::write(path.join("w.toml"), text).unwrap();
        history
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn vault(&self) -> PathBuf {
        self.path().join("vault")
    }

    pub fn keys(&self) -> Keys {
        Keys::folder(&self.vault()).unwrap()
    }

    fn secret(&self, name: &str) -> SecretString {
        SecretString::from(fs::read_to_string(self.path().join(name)).unwrap())
    }

    pub fn signing_key(&self, site: &str) -> SigningKey {
        SigningKey::from_file_text(&self.secret(&format!("{site}-keys/signing.key"))).unwrap()
    }

    pub fn identity(&self) -> Identity {
        Identity::from_file_text(&self.secret("fra-keys/identity.txt")).unwrap()
    }

    pub fn reader(&self) -> VaultReader<Keys> {
        let config = Config::load(&self.path().join("w.toml")).unwrap();
        VaultReader::new(self.keys(), "app", config.vault.signers)
    }

    pub fn hours_ago(&self, hours: i64) -> Timestamp {
        self.now - SignedDuration::from_hours(hours)
    }

    /// A point of one table, captured so many hours ago by every clock.
    pub async fn point(&self, hours: i64, data: &[u8]) -> String {
        let before = objects(&self.vault());
        let at = self.hours_ago(hours);
        let clock: Arc<dyn Clock> = Arc::new(FixedClock(at));
        let signer = Arc::new(self.signing_key("ams"));
        let (sealed_to, state) = ([self.identity().recipient()], self.path().join("ams/vault"));
        let keeping = EpochKeeping {
            system: "app",
            site: "ams",
            term: 0,
            sealed_to: &sealed_to,
            chunker: Some(ChunkerParameters::small()),
            signer: &signer,
            state: &state,
        };
        let heads = self.reader().heads(0).await.unwrap();
        let epoch = open_epoch(&self.keys(), &keeping, &heads, &*clock).await.unwrap();
        let writer = EpochWriter::new(self.keys(), "app", "ams", epoch, Arc::clone(&signer), clock);
        let snapshot = writer.begin(&"database.app".parse().unwrap());
        let mut stream = snapshot.open(StreamName::new(StreamKind::Table, "t")).await.unwrap();
        stream.write(Bytes::copy_from_slice(data)).await.unwrap();
        stream.finish(Attributes::new()).await.unwrap();
        let sealed = snapshot.seal(at, serde_json::json!({})).await.unwrap();
        let committed = writer.commit(sealed).await.unwrap();
        let listing = self.reader().points().await.unwrap();
        let (id, previous) = SeenPoints::load(&state).unwrap().allocate(&listing, 0).unwrap();
        let point = NewPoint { id, previous, started_at: at, captured_at: at, snapshots: vec![committed] };
        writer.publish(point).await.unwrap();
        for new in objects(&self.vault()).difference(&before) {
            set_time(new, at);
        }
        id.to_string()
    }

    /// Sets the store's time of everything whose path contains `part` back.
    pub fn age(&self, part: &str, hours: i64) {
        for path in objects(&self.vault()).iter().filter(|path| path.to_string_lossy().contains(part)) {
            set_time(path, self.hours_ago(hours));
        }
    }

    /// Opens everything that every listed point holds, and expects nothing to be damaged.
    pub async fn read_every_point(&self, when: &str) -> Vec<String> {
        let listing = self.reader().points().await.unwrap();
        assert!(listing.damaged.is_empty(), "{when}: {:?}", listing.damaged);
        for point in &listing.points {
            for (source, id, header) in &point.headers {
                let opened = self.reader().open_snapshot(source, *id, header, &self.identity()).await;
                let snapshot = opened.unwrap_or_else(|error| panic!("{when}: {error}: {error:?}"));
                for entry in snapshot.entries() {
                    let mut stream = snapshot.read(&entry.name).await.unwrap();
                    while stream.next().await.unwrap_or_else(|e| panic!("{when}: point {}: {e}", point.id)).is_some() {}
                }
            }
        }
        listing.points.iter().map(|point| point.id.to_string()).collect()
    }

    pub fn command(&self, site: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_warmspare"));
        command.env("WARMSPARE_CONFIG", self.path().join("w.toml")).env("WARMSPARE_SITE", site).args(arguments);
        command
    }

    /// Runs the binary, expects the exit code, and returns both outputs.
    pub fn run(&self, site: &str, arguments: &[&str], code: i32) -> String {
        let output = self.command(site, arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?} at {site}: {}", shown(&output));
        shown(&output)
    }

    /// Runs the binary with --json and expects success.
    pub fn json(&self, site: &str, arguments: &[&str]) -> serde_json::Value {
        let output = self.command(site, arguments).arg("--json").output().unwrap();
        assert!(output.status.success(), "{arguments:?} at {site}: {}", shown(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Every object of the vault but those that tell of passes, by key.
    pub fn keys_there(&self) -> BTreeSet<String> {
        let vault = self.vault();
        let key = |path: &PathBuf| path.strip_prefix(&vault).unwrap().to_string_lossy().into_owned();
        objects(&vault).iter().map(key).filter(|key| !key.starts_with("gc/") && !key.starts_with("probe/")).collect()
    }
}

fn set_time(path: &Path, at: Timestamp) {
    fs::File::options().write(true).open(path).unwrap().set_modified(at.into()).unwrap();
}

pub fn objects(folder: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(objects(&path));
        } else {
            found.insert(path);
        }
    }
    found
}
