//! Two sites as an operator has them: two PostgreSQL servers, two bucket folders, a vault, keys, one configuration
//! file, and the binary that is run at either of them.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::postgres::PostgresServer;
use warmspare::clock::SystemClock;
use warmspare::keygen;

pub struct Sites {
    pub live: PostgresServer,
    pub spare: PostgresServer,
    folder: tempfile::TempDir,
}

/// What the live site is filled with: enough of every kind for each durable step to be passed.
const SCHEMA: &str = "
CREATE ROLE app_reader NOLOGIN;
CREATE TABLE public.origins (name text PRIMARY KEY, owner_id bigint NOT NULL);
CREATE TABLE public.packages (id bigserial PRIMARY KEY, origin text REFERENCES public.origins, ident text UNIQUE, body text);
CREATE INDEX packages_origin ON public.packages (origin);
GRANT SELECT ON public.packages TO app_reader;
INSERT INTO public.origins VALUES ('core', 1), ('acme', 2);
INSERT INTO public.packages (origin, ident, body)
    SELECT 'core', 'core/p' || n, repeat(md5(n::text), 20) FROM generate_series(1, 2000) n;
";

impl Sites {
    /// Sites with a filled live one.
    pub async fn filled() -> Sites {
        let sites = Sites::empty().await;
        sites.live.create("app", SCHEMA).await;
        for (key, length) in [("core/a.hart", 10), ("core/b.hart", 200_000), ("acme/c d.hart", 0)] {
            sites.put_object(key, &vec![b'x'; length]);
        }
        for (name, mode, text) in [("etc/app/secret.key", 0o600, "key\n"), ("etc/app/app.conf", 0o644, "listen = 1\n")]
        {
            let path = sites.root("ams").join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
        sites
    }

    /// Sites that hold nothing yet.
    pub async fn empty() -> Sites {
        let (live, spare) = (PostgresServer::start(), PostgresServer::start());
        let folder = tempfile::tempdir().unwrap();
        let sites = Sites { live, spare, folder };
        for site in ["ams", "fra"] {
            fs::create_dir_all(sites.bucket(site)).unwrap();
            fs::create_dir_all(sites.root(site)).unwrap();
        }
        fs::create_dir_all(sites.vault()).unwrap();
        sites.write_configuration();
        sites
    }

    fn write_configuration(&self) {
        let path = self.folder.path();
        let escrow = keygen::escrow(&path.join("escrow.txt"), &SystemClock).unwrap();
        let mut signers = Vec::new();
        let mut sections = String::new();
        for (site, server) in [("ams", &self.live), ("fra", &self.spare)] {
            let keys = keygen::site(site, &path.join(format!("{site}-keys"))).unwrap();
            signers.push(format!("{site} = \"{}\"", keys.verifying_key));
            sections += &format!(
                "\n[sites.{site}]\nstate = \"{base}/{site}/state\"\nrecipient = \"{recipient}\"\n\
                 identity = \"file:{identity}\"\nsigning_key = \"file:{signing}\"\n\
                 databases.app = {{ url = \"{url}\", password = \"file:{password}\" }}\n\
                 buckets.artifacts = {{ url = \"{base}/{site}/bucket\" }}\n\
                 exports.configs = {{ root = \"{base}/{site}/root\", files = [\"/etc/app/*\"], \
                 commands = {{ release = [\"echo\", \"app 1.2.3\"] }} }}\n",
                base = path.display(),
                recipient = keys.recipient,
                identity = keys.identity_file.display(),
                signing = keys.signing_key_file.display(),
                url = server.cluster().url("app"),
                password = server.cluster().password_file().display(),
            );
        }
        let text = format!(
            "system = \"app\"\nlive = \"ams\"\n\n[vault]\nurl = \"{}\"\nescrow = [\"{}\"]\nsigners = {{ {} }}\n{sections}",
            self.vault().display(),
            escrow.recipient,
            signers.join(", ")
        );
        fs::write(self.configuration(), text).unwrap();
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn configuration(&self) -> PathBuf {
        self.path().join("warmspare.toml")
    }

    /// Changes the configuration's text.
    pub fn edit_configuration(&self, from: &str, to: &str) {
        edit(&self.configuration(), from, to);
    }

    /// Keeps the vault in a bucket from here on; each site reaches it with its own credentials (site, its, its keeper's).
    pub fn keep_vault_in(&self, url: &str, endpoint: &str, credentials: &[(&str, &str, Option<&str>)]) {
        let text = fs::read_to_string(self.configuration()).unwrap();
        let mut text =
            text.replace(&format!("url = \"{}\"\nescrow", self.vault().display()), &format!("url = \"{url}\"\nescrow"));
        for (site, its, keepers) in credentials {
            let mut access = format!("endpoint = \"{endpoint}\"");
            for (name, secret) in [("credentials", Some(its)), ("keeper", keepers.as_ref())] {
                let Some(secret) = secret else { continue };
                let file = self.path().join(format!("{site}.vault.{name}"));
                fs::write(&file, secret).unwrap();
                access += &format!(", {name} = \"file:{}\"", file.display());
            }
            let head = format!("[sites.{site}]\n");
            text = text.replace(&head, &format!("{head}vault = {{ {access} }}\n"));
        }
        fs::write(self.configuration(), text).unwrap();
    }

    pub fn vault(&self) -> PathBuf {
        self.path().join("vault")
    }

    pub fn bucket(&self, site: &str) -> PathBuf {
        self.path().join(site).join("bucket")
    }

    pub fn root(&self, site: &str) -> PathBuf {
        self.path().join(site).join("root")
    }

    pub fn state(&self, site: &str) -> PathBuf {
        self.path().join(site).join("state")
    }

    /// An object of the live bucket.
    pub fn put_object(&self, key: &str, content: &[u8]) {
        let path = self.bucket("ams").join(key);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// The binary, run at `site`.
    pub fn command<A: AsRef<OsStr>>(&self, site: &str, arguments: impl IntoIterator<Item = A>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_warmspare"));
        command.env("WARMSPARE_CONFIG", self.configuration()).env("WARMSPARE_SITE", site).args(arguments);
        command
    }

    /// Runs the binary at `site` and expects it to end well; returns its standard output.
    pub fn run(&self, site: &str, arguments: &[&str]) -> String {
        let output = self.command(site, arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?} at {site}: {}", shown(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs the binary at `site` and expects the exit code `code`; returns its standard error without log lines,
    /// with what differs from run to run replaced by words.
    pub fn refused(&self, site: &str, arguments: &[&str], code: i32) -> String {
        let output = self.command(site, arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?} at {site}: {}", shown(&output));
        self.words(&output)
    }

    /// The words of standard error: see [`Sites::refused`].
    pub fn words(&self, output: &Output) -> String {
        let text = String::from_utf8_lossy(&output.stderr).replace(&self.path().display().to_string(), "SITES");
        let text = text.replace(&self.live.cluster().port().to_string(), "LIVE-PORT");
        let text = text.replace(&self.spare.cluster().port().to_string(), "SPARE-PORT");
        let word = |line: &&str| !line.starts_with(|c: char| c.is_ascii_digit());
        text.lines().filter(word).collect::<Vec<_>>().join("\n")
    }

    /// Removes what captures have left: vault, state of the live site, mirror.
    pub fn forget_captures(&self) {
        for folder in [self.vault(), self.state("ams"), self.state("fra"), self.bucket("fra")] {
            if folder.exists() {
                fs::remove_dir_all(&folder).unwrap();
            }
        }
        fs::create_dir_all(self.vault()).unwrap();
        fs::create_dir_all(self.bucket("fra")).unwrap();
    }

    /// Removes what restores have left: state, files and databases of the spare.
    pub async fn forget_restores(&self) {
        for folder in [self.state("fra"), self.root("fra")] {
            if folder.exists() {
                fs::remove_dir_all(&folder).unwrap();
            }
        }
        fs::create_dir_all(self.root("fra")).unwrap();
        for database in self.spare_databases().await {
            self.spare.sql("postgres", &format!("DROP DATABASE \"{database}\" WITH (FORCE)")).await;
        }
    }

    /// The databases at the spare that restores made.
    pub async fn spare_databases(&self) -> Vec<String> {
        let session = self.spare.session("postgres").await;
        let sql = "SELECT datname::text FROM pg_database WHERE NOT datistemplate AND datname <> 'postgres' ORDER BY 1";
        let databases = session.texts("listing databases", sql).await.unwrap();
        session.close().await;
        databases
    }

    /// The points as `points --json` tells them.
    pub fn points(&self, site: &str) -> Vec<serde_json::Value> {
        let listing: serde_json::Value = serde_json::from_str(&self.run(site, &["points", "--json"])).unwrap();
        assert_eq!(listing["damaged"], serde_json::json!([]), "{listing}");
        listing["points"].as_array().unwrap().clone()
    }
}

/// Replaces `from`, which is in the file, by `to`.
pub fn edit(file: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(file).unwrap();
    assert!(text.contains(from), "the configuration has {from}");
    fs::write(file, text.replace(from, to)).unwrap();
}

/// An output as a failed assertion shows it.
pub fn shown(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!("{}\n--- stdout\n{}\n--- stderr\n{}", output.status, text(&output.stdout), text(&output.stderr))
}
