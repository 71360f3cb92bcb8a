//! The two sites of the demo: folders, servers, keys and a configuration file like anybody's.

use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::FutureExt;

use crate::clock::Clock;
use crate::config::{Config, Here};
use crate::demo::cluster::{Cluster, ClusterOptions, free_port};
use crate::demo::daemons::Daemon;
use crate::demo::registry::{self, Counts};
use crate::demo::service::{Behind, Service};
use crate::demo::{DemoError, wrong_file};
use crate::error::Error;
use crate::keygen;
use crate::point::SharedClock;
use crate::site::daemon::{self, Needs};
use crate::site::lease::Term;
use crate::site::witness;

pub(super) const LIVE: &str = "ams";
pub(super) const SPARE: &str = "fra";
const DATABASE: &str = "builder";
/// The jobs of the profile: here everything is done by hand, so that it can be told.
const JOBS: [&str; 5] = ["capture", "check", "prune", "rehearse", "verify"];

/// The demo's world. Dropped, its servers end; a temporary folder is removed.
pub(super) struct Sites {
    /// Before the rest: they end first.
    daemons: Vec<Daemon>,
    /// What stands behind the balancer, in the order of [`LIVE`] and [`SPARE`].
    behind: Vec<Behind>,
    live: Option<Cluster>,
    spare: Option<Cluster>,
    gates: [SocketAddr; 2],
    clock: SharedClock,
    folder: Folder,
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
    pub fn build(keep: Option<PathBuf>, clock: SharedClock) -> Result<Self, Error> {
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
        let gates = [free_port()?, free_port()?].map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        write_configuration(&folder, (&live, &spare), gates, &*clock)?;
        let (daemons, behind) = (Vec::new(), Vec::new());
        Ok(Sites { daemons, behind, live: Some(live), spare: Some(spare), gates, clock, folder })
    }

    fn file(&self) -> PathBuf {
        self.folder.path.join("warmspare.toml")
    }

    /// The configuration, read anew from its file.
    pub fn config(&self) -> Result<Config, Error> {
        Ok(Config::load(&self.file())?)
    }

    /// The configuration as seen from `site`, whoever is live.
    fn any(&self, site: &str) -> Result<Here, Error> {
        Ok(Here::led(self.config()?, site, None)?)
    }

    /// The configuration as seen from the live site, in its term, with its leave to write.
    pub async fn live(&self) -> Result<Here, Error> {
        daemon::here(self.config()?, LIVE, Needs::Live, Arc::clone(&self.clock)).boxed().await
    }

    /// Sets the witness up, and starts daemons and services.
    pub async fn run(&mut self) -> Result<(), Error> {
        let (config, here) = (self.config()?, self.any(LIVE)?);
        witness::init(&config, (&here.site, &here.other), (Term(0), "the demo"), self.clock.now()).boxed().await?;
        let ports = [&self.live, &self.spare].map(|cluster| cluster.as_ref().map(Cluster::port));
        for ((site, port), gate) in [LIVE, SPARE].into_iter().zip(ports).zip(self.gates) {
            self.daemons.push(Daemon::start(site, &self.file(), &self.folder.site(site).join("daemon.log"))?);
            let Some(port) = port else { continue };
            if let Some(server) = registry::seen_by_service(&self.any(site)?, DATABASE, port)? {
                self.behind.push(Behind { site, gate, service: Service::start(server).await? });
            }
        }
        Ok(())
    }

    /// The daemon of a site.
    pub fn daemon(&self, site: &'static str) -> Result<&Daemon, DemoError> {
        self.daemons.iter().find(|daemon| daemon.site() == site).ok_or(DemoError::NotRunning { site })
    }

    /// What a load balancer has behind it.
    pub fn behind(&self) -> &[Behind] {
        &self.behind
    }

    /// The gate of the site that was live first.
    pub fn first_gate(&self) -> SocketAddr {
        let [first, _] = self.gates;
        first
    }

    fn bucket(&self, site: &str) -> PathBuf {
        self.folder.site(site).join("bucket")
    }

    /// Fills the live site.
    pub async fn fill(&self) -> Result<(), Error> {
        let here = self.any(LIVE)?;
        registry::create(&here, DATABASE).await?;
        registry::publish(&here, DATABASE, &self.bucket(LIVE), 0..registry::PACKAGES).await?;
        registry::write_secrets(&self.folder.site(LIVE).join("root"))?;
        Ok(())
    }

    /// What happens between the first point and the second: new packages, and a few rows touched.
    pub async fn change(&self) -> Result<(), Error> {
        let here = self.any(LIVE)?;
        let new = registry::PACKAGES..registry::PACKAGES + registry::PACKAGES / 100;
        registry::publish(&here, DATABASE, &self.bucket(LIVE), new).await?;
        registry::promote(&here, DATABASE).await
    }

    /// What happens after the second point and is lost.
    pub async fn change_after_last_point(&self) -> Result<(), Error> {
        let first = registry::PACKAGES + registry::PACKAGES / 100;
        registry::publish(&self.any(LIVE)?, DATABASE, &self.bucket(LIVE), first..first + 3).await
    }

    /// What `site` holds.
    pub async fn count(&self, site: &str) -> Result<Counts, Error> {
        registry::count(&self.any(site)?, DATABASE, &self.bucket(site), &self.folder.site(site).join("root")).await
    }

    /// Kills the live site's server, removes what it served, and stops its daemon where it is.
    pub fn destroy_live(&mut self) -> Result<(), DemoError> {
        self.daemon(LIVE)?.freeze()?;
        if let Some(live) = self.live.take() {
            live.kill();
        }
        for lost in ["postgres", "bucket", "root"] {
            let path = self.folder.site(LIVE).join(lost);
            fs::remove_dir_all(&path).map_err(wrong_file(&path))?;
        }
        Ok(())
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
        self.daemons.clear();
        for cluster in [self.live.take(), self.spare.take()].into_iter().flatten() {
            if self.folder.kept { cluster.stop()? } else { cluster.kill() }
        }
        Ok(())
    }
}

fn write_configuration(
    folder: &Folder,
    (live, spare): (&Cluster, &Cluster),
    [live_gate, spare_gate]: [SocketAddr; 2],
    clock: &dyn Clock,
) -> Result<(), Error> {
    let escrow = keygen::escrow(&folder.path.join("escrow.txt"), clock)?;
    let (ams, fra) =
        (keygen::site(LIVE, &folder.site(LIVE).join("keys"))?, keygen::site(SPARE, &folder.site(SPARE).join("keys"))?);
    let base = folder.path.display();
    let section = |site: &str, keys: &keygen::SiteKeys, cluster: &Cluster, gate: SocketAddr| {
        format!(
            r#"
[sites.{site}]
state       = "{base}/{site}/state"
gate        = {{ listen = "{gate}" }}
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

[vault]
url     = "{base}/vault"
escrow  = ["{escrow}"]
signers = {{ ams = "{ams_key}", fra = "{fra_key}" }}

[witness]
url = "{base}/witness"
ttl = "6s"
{off}
{ams_section}{fra_section}"#,
        off = JOBS.map(|job| format!("\n[jobs.{job}]\nenabled = false\n")).concat(),
        escrow = escrow.recipient,
        ams_key = ams.verifying_key,
        fra_key = fra.verifying_key,
        ams_section = section(LIVE, &ams, live, live_gate),
        fra_section = section(SPARE, &fra, spare, spare_gate),
    );
    let path = folder.path.join("warmspare.toml");
    let written = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
    let written = written.and_then(|mut file| file.write_all(text.as_bytes()));
    Ok(written.map_err(wrong_file(&path))?)
}
