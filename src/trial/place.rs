//! Where a trial happens: a folder that nobody else may look into, perhaps a server in it, perhaps a database on a scratch
//! server. All of it goes when the trial ends, however it ends; a kill leaves the folder, whose server dies with us.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::TrialError;
use crate::demo::cluster::{Cluster, ClusterError, ClusterOptions};
use crate::error::Error;
use crate::keys;
use crate::postgres::quote::identifier;
use crate::postgres::{self, Server, Session, lifecycle, roles};

/// How often the folder is removed again when a thread that was still writing made some of it anew.
const REMOVALS_MAX: u32 = 20;
const REMOVAL_PAUSE: Duration = Duration::from_millis(50);

/// The folder, and what runs in it.
pub(super) struct Place {
    path: PathBuf,
    cluster: Option<Cluster>,
    scratch: Option<Scratch>,
}

/// A database to be on somebody's scratch server.
struct Scratch {
    server: Server,
    /// Its name, which is nobody else's.
    database: String,
    /// The snapshot's roles that the server did not have.
    new_roles: Vec<String>,
}

impl Place {
    /// Makes the folder, in TMPDIR or /tmp.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn make() -> Result<Place, TrialError> {
        let name = format!("warmspare-try-{}", random()?);
        let path = std::env::temp_dir().join(name);
        let wrong = |source| TrialError::Folder { path: path.clone(), source };
        fs::DirBuilder::new().mode(0o700).create(&path).map_err(wrong)?;
        // A server of ours may run as another user: it must be able to come in, though not to look around.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o711)).map_err(wrong)?;
        let path = fs::canonicalize(&path).map_err(wrong)?;
        Ok(Place { path, cluster: None, scratch: None })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Starts a server of these programs in the folder.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start_cluster(&mut self, programs: PathBuf) -> Result<&Cluster, ClusterError> {
        let folder = self.path.join("server");
        let options = ClusterOptions { folder, programs: Some(programs), ..ClusterOptions::default() };
        Ok(self.cluster.insert(Cluster::start(&options)?))
    }

    /// Reserves a database on a scratch server.
    ///
    /// # Errors
    /// When there is no randomness for its name.
    pub fn reserve(&mut self, server: Server) -> Result<(), TrialError> {
        let database = format!("warmspare_try_{}", random()?);
        self.scratch = Some(Scratch { server, database, new_roles: Vec::new() });
        Ok(())
    }

    /// The name of the database on the scratch server, if it is restored there.
    pub fn scratch_database(&self) -> Option<String> {
        self.scratch.as_ref().map(|scratch| scratch.database.clone())
    }

    /// Notes which of the snapshot's roles a restore is going to make on the scratch server.
    ///
    /// # Errors
    /// When the server cannot be asked.
    pub async fn note_roles(&mut self, wanted: &[String]) -> Result<(), Error> {
        let Some(scratch) = &mut self.scratch else { return Ok(()) };
        let session = scratch.server.maintenance().await?;
        let existing = roles::existing(&session, wanted).await?;
        session.close().await;
        scratch.new_roles = wanted.iter().filter(|role| !existing.contains(role)).cloned().collect();
        Ok(())
    }

    /// Removes everything.
    ///
    /// # Errors
    /// Names what could not be removed; the rest is.
    pub async fn clean(mut self) -> Result<(), Error> {
        let scratch = match self.scratch.take() {
            Some(scratch) => scratch.remove().await,
            None => Ok(()),
        };
        if let Some(cluster) = self.cluster.take() {
            cluster.kill();
        }
        // A thread that was writing when we were interrupted may make its folder once more.
        for _ in 0..REMOVALS_MAX {
            if remove(&self.path).is_ok() {
                tokio::time::sleep(REMOVAL_PAUSE).await;
                if !self.path.exists() {
                    break;
                }
            }
        }
        remove(&self.path).map_err(|source| TrialError::Left { what: self.path.display().to_string(), source })?;
        scratch
    }
}

/// As `remove_dir_all`; what is gone is removed.
fn remove(path: &Path) -> std::io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

impl Drop for Place {
    /// For a trial that panicked; otherwise [`Place::clean`] was here.
    fn drop(&mut self) {
        if let Some(cluster) = self.cluster.take() {
            cluster.kill();
        }
        if let Err(error) = remove(&self.path) {
            tracing::warn!("the folder {} cannot be removed: {error}", self.path.display());
        }
    }
}

impl Scratch {
    async fn remove(self) -> Result<(), Error> {
        let session = self.server.maintenance().await?;
        let removed = self.remove_by(&session).await;
        session.close().await;
        Ok(removed?)
    }

    async fn remove_by(&self, session: &Session) -> Result<(), postgres::Error> {
        // The name itself, the one it is loaded under, and one that was replaced: all begin alike, and nobody else's do.
        let sql = format!(
            "SELECT datname::text FROM pg_catalog.pg_database WHERE starts_with(datname::text, '{}')",
            self.database
        );
        for database in session.texts("listing the trial's databases", &sql).await? {
            lifecycle::drop_database(&self.server, session, &database).await?;
        }
        for role in &self.new_roles {
            let sql = format!("DROP ROLE IF EXISTS {}", identifier(role));
            session.execute(&format!("dropping role {role}"), &sql).await?;
        }
        Ok(())
    }
}

fn random() -> Result<String, TrialError> {
    let bytes = keys::random::<8>().map_err(TrialError::Random)?;
    Ok(keys::to_hex(&*bytes))
}
