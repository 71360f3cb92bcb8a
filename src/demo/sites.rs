//! The two sites of the demo: folders, servers, keys and a configuration file like anybody's.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::clock::Clock;
use crate::config::{Config, Here};
use crate::demo::cluster::{Cluster, ClusterOptions};
use crate::demo::registry::{self, Counts};
use crate::demo::{DemoError, wrong_file};
use crate::error::Error;
use crate::keygen;

pub(super) const LIVE: &str = "ams";
pub(super) const SPARE: &str = "fra";
const DATABASE: &str = "builder";

/// The demo's world. Dropped, its servers end; a temporary folder is removed.
pub(super) struct Sites {
    folder: Folder,
    live: Option<Cluster>,
    spare: Option<Cluster>,
}

/// A folder that is removed when it is dropped, unless it is to be kept.
struct Folder {
    path: PathBuf,
    kept: bool,
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.kept
            && let Err(error) = fs::remove_dir_all(&self.path)
        {
            tracing::warn!("the demo's folder {} cannot be removed: {error}", self.path.display());
        }
    }
}

impl Folder {
    fn make(keep: Option<PathBuf>) -> Result<Self, DemoError> {
        let kept = keep.is_some();
        let path = keep.unwrap_or_else(|| std::env::temp_dir().join(format!("warmspare-demo-{}", std::process::id())));
        fs::create_dir_all(&path).map_err(wrong_file(&path))?;
        if fs::read_dir(&path).map_err(wrong_file(&path))?.next().is_some() {
            return Err(DemoError::NotEmpty { path });
        }
        // The server may run as another user: it must be able to come in, though not to look around.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o711)).map_err(wrong_file(&path))?;
        let path = fs::canonicalize(&path).map_err(wrong_file(&path))?;
        Ok(Folder { path, kept })
    }

    fn site(&self, site: &str) -> PathBuf {
        self.path.join(site)
    }
}

impl Sites {
    /// Starts the servers, makes the keys and writes the configuration.
    pub fn build(keep: Option<PathBuf>, clock: &dyn Clock) -> Result<Self, Error> {
        let folder = Folder::make(keep)?;
        for name in ["vault", "ams/bucket", "fra/bucket", "ams/root", "fra/root"] {
            let path = folder.path.join(name);
            fs::create_dir_all(&path).map_err(wrong_file(&path))?;
        }
        let start = |site: &str| {
            let options = ClusterOptions { folder: folder.site(site).join("postgres"), ..ClusterOptions::default() };
            Cluster::start(&options)
        };
        let (live, spare) = (start(LIVE)?, start(SPARE)?);
        write_configuration(&folder, &live, &spare, clock)?;
        Ok(Sites { folder, live: Some(live), spare: Some(spare) })
    }

    /// The configuration as seen from `site`, read anew from its file.
    pub fn here(&self, site: &str) -> Result<Here, Error> {
        Ok(Here::new(Config::load(&self.folder.path.join("warmspare.toml"))?, site)?)
    }

    fn bucket(&self, site: &str) -> PathBuf {
        self.folder.site(site).join("bucket")
    }

    /// Fills the live site.
    pub async fn fill(&self) -> Result<(), Error> {
        let here = self.here(LIVE)?;
        registry::create(&here, DATABASE).await?;
        registry::publish(&here, DATABASE, &self.bucket(LIVE), 0..registry::PACKAGES).await?;
        registry::write_secrets(&self.folder.site(LIVE).join("root"))?;
        Ok(())
    }

    /// What happens between the first point and the second: new packages, and a few rows touched.
    pub async fn change(&self) -> Result<(), Error> {
        let here = self.here(LIVE)?;
        let new = registry::PACKAGES..registry::PACKAGES + registry::PACKAGES / 100;
        registry::publish(&here, DATABASE, &self.bucket(LIVE), new).await?;
        registry::promote(&here, DATABASE).await
    }

    /// What happens after the second point and is lost.
    pub async fn change_after_last_point(&self) -> Result<(), Error> {
        let first = registry::PACKAGES + registry::PACKAGES / 100;
        registry::publish(&self.here(LIVE)?, DATABASE, &self.bucket(LIVE), first..first + 3).await
    }

    /// What `site` holds.
    pub async fn count(&self, site: &str) -> Result<Counts, Error> {
        registry::count(&self.here(site)?, DATABASE, &self.bucket(site), &self.folder.site(site).join("root")).await
    }

    /// Kills the live site's server and removes everything it had.
    pub fn destroy_live(&mut self) -> Result<(), DemoError> {
        if let Some(live) = self.live.take() {
            live.kill();
        }
        let path = self.folder.site(LIVE);
        fs::remove_dir_all(&path).map_err(wrong_file(&path))
    }

    /// Where the report of the restore in `run` can be read after the demo.
    pub fn keep_report(&self, run: &Path) -> Result<PathBuf, DemoError> {
        let report = run.join("report.txt");
        if self.folder.kept {
            return Ok(report);
        }
        let mut copy = self.folder.path.clone().into_os_string();
        copy.push("-report.txt");
        let copy = PathBuf::from(copy);
        fs::copy(&report, &copy).map_err(wrong_file(&copy))?;
        Ok(copy)
    }

    /// Stops what is left running; in order only if somebody may want to start it again.
    pub fn finish(&mut self) -> Result<(), Error> {
        for cluster in [self.live.take(), self.spare.take()].into_iter().flatten() {
            if self.folder.kept { cluster.stop()? } else { cluster.kill() }
        }
        Ok(())
    }
}

fn write_configuration(folder: &Folder, live: &Cluster, spare: &Cluster, clock: &dyn Clock) -> Result<(), Error> {
    let escrow = keygen::escrow(&folder.path.join("escrow.txt"), clock)?;
    let (ams, fra) =
        (keygen::site(LIVE, &folder.site(LIVE).join("keys"))?, keygen::site(SPARE, &folder.site(SPARE).join("keys"))?);
    let base = folder.path.display();
    let section = |site: &str, keys: &keygen::SiteKeys, cluster: &Cluster| {
        format!(
            r#"
[sites.{site}]
state       = "{base}/{site}/state"
recipient   = "{recipient}"
identity    = "file:{identity}"
signing_key = "file:{signing}"
databases.{DATABASE}  = {{ url = "{url}", password = "file:{password}" }}
buckets.artifacts  = {{ url = "{base}/{site}/bucket" }}
exports.configs    = {{ root = "{base}/{site}/root", files = ["/hab/svc/builder-api/files/*", "/hab/user/*/config/user.toml"], commands = {{ kernel = ["uname", "-sr"] }} }}
"#,
            recipient = keys.recipient,
            identity = keys.identity_file.display(),
            signing = keys.signing_key_file.display(),
            url = cluster.url(DATABASE),
            password = cluster.password_file().display(),
        )
    };
    let text = format!(
        r#"system = "builder"
live   = "{LIVE}"

[vault]
url     = "{base}/vault"
escrow  = ["{escrow}"]
signers = {{ ams = "{ams_key}", fra = "{fra_key}" }}
{ams_section}{fra_section}"#,
        escrow = escrow.recipient,
        ams_key = ams.verifying_key,
        fra_key = fra.verifying_key,
        ams_section = section(LIVE, &ams, live),
        fra_section = section(SPARE, &fra, spare),
    );
    let path = folder.path.join("warmspare.toml");
    let written = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
    let written = written.and_then(|mut file| file.write_all(text.as_bytes()));
    Ok(written.map_err(wrong_file(&path))?)
}
