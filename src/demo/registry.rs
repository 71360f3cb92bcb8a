//! A small Habitat Builder: the tables of its datastore that matter, artifacts under its key scheme, its secrets.
//!
//! Column facts and key scheme: habitat-sh/builder, migrations and `s3.rs` (`s3_key`).

use std::fmt;
use std::fs;
use std::ops::Range;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde::Serialize;

use super::wrong_file;
use crate::config::Here;
use crate::config::address::DatabaseAddress;
use crate::error::Error;
use crate::postgres::{Server, Session};

/// Packages the live site begins with.
pub(super) const PACKAGES: u64 = 1_000;
/// Packages whose artifact is large: every so many.
const LARGE_EVERY: u64 = 50;
const LARGE_BYTES: usize = 2 << 20;
/// Rows of one INSERT.
const BATCH: usize = 200;

const SCHEMA: &str = include_str!("habitat.sql");
/// The role that the service logs in as.
const ROLE: &str = "CREATE ROLE hab LOGIN PASSWORD 'hab'; GRANT SELECT ON ALL TABLES IN SCHEMA public TO hab";

/// What one site holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Rows of `origin_packages`.
    pub packages: u64,
    /// Objects in the bucket.
    pub artifacts: u64,
    /// Their bytes.
    pub artifact_bytes: u64,
    /// Secret and configuration files.
    pub secrets: u64,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = crate::units::Bytes(self.artifact_bytes);
        write!(f, "{} packages, {} artifacts ({bytes}), {} secret files", self.packages, self.artifacts, self.secrets)
    }
}

fn server(here: &Here, database: &str) -> Result<Option<Server>, Error> {
    let Some(address) = here.site.databases.get(database) else { return Ok(None) };
    let password = here.resolve("password", address.password.as_ref())?;
    Ok(Some(Server::new(address, password)?))
}

/// The site's server on `port`, as the service sees it.
pub(super) fn seen_by_service(here: &Here, database: &str, port: u16) -> Result<Option<Server>, Error> {
    let Some(address) = here.site.databases.get(database) else { return Ok(None) };
    let address = DatabaseAddress { url: format!("postgresql://hab@127.0.0.1:{port}/{database}"), ..address.clone() };
    Ok(Some(Server::new(&address, Some("hab".into()))?))
}

async fn session(here: &Here, database: &str) -> Result<Option<Session>, Error> {
    match server(here, database)? {
        Some(server) => Ok(Some(server.connect().await?)),
        None => Ok(None),
    }
}

/// Makes the database with its tables, origins and channels.
pub(super) async fn create(here: &Here, database: &str) -> Result<(), Error> {
    let Some(server) = server(here, database)? else { return Ok(()) };
    let maintenance = server.maintenance().await?;
    maintenance.execute("making the demo's database", &format!("CREATE DATABASE {database}")).await?;
    maintenance.close().await;
    let session = server.connect().await?;
    session.execute("making the demo's tables", SCHEMA).await?;
    session.execute("making the role of the demo's service", ROLE).await?;
    session.close().await;
    Ok(())
}

/// Uploads the artifacts of the packages numbered `numbers`, then writes their rows: the order a registry keeps.
pub(super) async fn publish(here: &Here, database: &str, bucket: &Path, numbers: Range<u64>) -> Result<(), Error> {
    let Some(session) = session(here, database).await? else { return Ok(()) };
    let numbers: Vec<u64> = numbers.collect();
    for batch in numbers.chunks(BATCH) {
        let mut rows = Vec::new();
        for &number in batch {
            let package = Package::new(number);
            package.upload(bucket)?;
            rows.push(package.row());
        }
        let sql = format!(
            "INSERT INTO public.origin_packages (id, owner_id, name, ident, ident_array, checksum, manifest, config, target, \
             deps, tdeps, exposes, visibility, origin) VALUES {};\n\
             INSERT INTO public.origin_channel_packages (channel_id, package_id) \
             SELECT 1, p.id FROM public.origin_packages p WHERE p.id = ANY (ARRAY[{}]::bigint[])",
            rows.join(",\n"),
            batch.iter().map(|number| Package::id(*number).to_string()).collect::<Vec<_>>().join(","),
        );
        session.execute("publishing packages", &sql).await?;
    }
    session.close().await;
    Ok(())
}

/// Promotes some packages to another channel and touches their rows.
pub(super) async fn promote(here: &Here, database: &str) -> Result<(), Error> {
    let Some(session) = session(here, database).await? else { return Ok(()) };
    let sql = "UPDATE public.origin_packages SET updated_at = now(), visibility = 'public' WHERE id % 97 = 0;\n\
               INSERT INTO public.origin_channel_packages (channel_id, package_id) \
               SELECT 2, id FROM public.origin_packages WHERE id % 97 = 0";
    session.execute("promoting packages", sql).await?;
    session.close().await;
    Ok(())
}

struct Package {
    number: u64,
    name: String,
    version: String,
    release: u64,
    content: Vec<u8>,
}

impl Package {
    fn id(number: u64) -> u64 {
        1_000_000_000 + number
    }

    fn new(number: u64) -> Self {
        let size = match number % LARGE_EVERY {
            0 => LARGE_BYTES,
            other => usize::try_from(other).unwrap_or(0) * 180 + 1,
        };
        let mut content = vec![0; size];
        blake3::Hasher::new().update(&number.to_le_bytes()).finalize_xof().fill(&mut content);
        let version = format!("{}.{}.{}", number % 7, number % 13, number % 29);
        Package { number, name: format!("package-{number:05}"), version, release: 20_261_121_000_000 + number, content }
    }

    fn ident(&self) -> String {
        format!("core/{}/{}/{}", self.name, self.version, self.release)
    }

    fn upload(&self, bucket: &Path) -> Result<(), Error> {
        let ident = self.ident();
        let file = format!("{}-x86_64-linux.hart", ident.replace('/', "-"));
        let folder = bucket.join(&ident).join("x86_64/linux");
        fs::create_dir_all(&folder).map_err(wrong_file(&folder))?;
        let path = folder.join(file);
        Ok(fs::write(&path, &self.content).map_err(wrong_file(&path))?)
    }

    fn row(&self) -> String {
        let (id, ident) = (Package::id(self.number), self.ident());
        let checksum = blake3::hash(&self.content);
        let (name, version, release) = (&self.name, &self.version, self.release);
        let deps: Vec<String> = (1..6).map(|n| format!("'core/glibc/2.{n}/{}'", self.number % 50)).collect();
        let deps = deps.join(",");
        let manifest = format!("# {ident}\n\n* __Source__: package {}\n", self.number).repeat(8);
        format!(
            "({id}, 1, '{name}', '{ident}', ARRAY['core','{name}','{version}','{release}'], '{checksum}', '{manifest}', \
             '[default]', 'x86_64-linux', ARRAY[{deps}], ARRAY[{deps}], ARRAY[80, 443], 'public', 'core')"
        )
    }
}

/// Writes the secrets and configuration that Builder's own disaster-recovery page forgets, and some it does not.
pub(super) fn write_secrets(root: &Path) -> Result<(), Error> {
    let files = [
        (
            "hab/svc/builder-api/files/bldr-20261121000000.box.key",
            0o600,
            "BOX-SEC-1\nbldr-20261121000000\n\nnot a real key\n",
        ),
        (
            "hab/svc/builder-api/files/bldr-20261121000000.pub",
            0o644,
            "BOX-PUB-1\nbldr-20261121000000\n\nnot a real key\n",
        ),
        ("hab/user/builder-api/config/user.toml", 0o640, "log_level = \"info\"\n\n[http]\nlisten = \"0.0.0.0\"\n"),
        ("hab/user/builder-datastore/config/user.toml", 0o640, "max_locks_per_transaction = 128\n"),
    ];
    for (name, mode, text) in files {
        let path = root.join(name);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(wrong_file(folder))?;
        }
        fs::write(&path, text).map_err(wrong_file(&path))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).map_err(wrong_file(&path))?;
    }
    Ok(())
}

/// What a site holds, asked of its own server and folders.
pub(super) async fn count(here: &Here, database: &str, bucket: &Path, root: &Path) -> Result<Counts, Error> {
    let mut packages = 0;
    if let Some(session) = session(here, database).await? {
        let sql = "SELECT count(*)::text FROM public.origin_packages";
        packages = session.text("counting packages", sql).await?.parse().unwrap_or(0);
        session.close().await;
    }
    let (artifacts, artifact_bytes) = files_below(bucket)?;
    let (secrets, _) = files_below(root)?;
    Ok(Counts { packages, artifacts, artifact_bytes, secrets })
}

/// Regular files below `folder` and their bytes; folders of warmspare's own begin with a dot.
fn files_below(folder: &Path) -> Result<(u64, u64), Error> {
    let (mut count, mut bytes) = (0, 0);
    for entry in fs::read_dir(folder).map_err(wrong_file(folder))? {
        let entry = entry.map_err(wrong_file(folder))?;
        let kind = entry.metadata().map_err(wrong_file(&entry.path()))?;
        if kind.is_file() {
            count += 1;
            bytes += kind.len();
        } else if !entry.file_name().to_string_lossy().starts_with('.') {
            let (more, more_bytes) = files_below(&entry.path())?;
            count += more;
            bytes += more_bytes;
        }
    }
    Ok((count, bytes))
}
