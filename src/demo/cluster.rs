//! A PostgreSQL server of our own: made from the installed programs in a folder, on a free loopback port, and gone when
//! its owner is gone.
//!
//! PostgreSQL refuses to run as root, so root runs it as the user `postgres`. It loses its data in a power cut
//! (`fsync=off`): it is for demonstrations and tests. Whatever happens to us, it does not outlive us: the kernel ends it
//! when our process ends (`PR_SET_PDEATHSIG`, set by `setpriv`).

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use secrecy::{ExposeSecret, SecretString};

use crate::error::Explain;
use crate::postgres::programs::{self, Programs};

/// The superuser of such a server.
pub const SUPERUSER: &str = "warmspare";

const START_TIMEOUT: Duration = Duration::from_secs(30);
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(10);
/// Another process may take the port between our choosing it and the server's binding it.
const PORT_ATTEMPTS: u32 = 5;
/// `sun_path` of a Unix socket address.
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// Where and of what to make a server.
#[derive(Clone, Debug, Default)]
pub struct ClusterOptions {
    /// The folder to keep it in; made if need be. One that holds a server already is started again.
    pub folder: PathBuf,
    /// The folder of the programs; the newest `/usr/lib/postgresql/*/bin` when absent.
    pub programs: Option<PathBuf>,
    /// A folder of a *stopped* server to copy instead of making a new one (which takes a second).
    pub template: Option<PathBuf>,
    /// Further settings, `name=value`.
    pub settings: Vec<String>,
}

/// Why a server could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// No server programs are installed.
    #[error("no PostgreSQL server is installed below /usr/lib/postgresql")]
    NotInstalled,
    /// We are root and there is nobody to run it as.
    #[error("PostgreSQL does not run as root, and there is no user postgres on this host")]
    NoUser,
    /// The user `postgres` cannot get to the folder.
    #[error("the user postgres may not enter {folder}")]
    Closed {
        /// The first folder on the way that is closed.
        folder: PathBuf,
    },
    /// A file or folder could not be made or read.
    #[error("{path}: {source}")]
    File {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A program of PostgreSQL could not be run.
    #[error("{program}: {what}")]
    Program {
        /// Which one.
        program: String,
        /// What it said.
        what: String,
    },
}

impl Explain for ClusterError {
    fn next_step(&self) -> Option<String> {
        let text = match self {
            ClusterError::NotInstalled => "Install the server, on Debian with: apt-get install postgresql",
            ClusterError::NoUser => {
                "Install Debian's postgresql package, which makes that user, or run this as an ordinary user."
            }
            ClusterError::Closed { .. } => {
                "Choose a folder that everybody may enter, for instance below /tmp or /var/tmp."
            }
            ClusterError::File { .. } => "Check the folder's owner and free space.",
            ClusterError::Program { .. } => return None,
        };
        Some(text.to_owned())
    }
}

/// A running server.
pub struct Cluster {
    folder: PathBuf,
    programs: PathBuf,
    settings: Vec<String>,
    port: u16,
    password: SecretString,
    child: Child,
    /// Held so that the thread that started the server, whose end would end it too, stays.
    _keeper: mpsc::Sender<()>,
}

impl Cluster {
    /// Makes (or copies, or finds) a server in the folder, starts it and waits until it takes connections.
    ///
    /// # Errors
    /// [`ClusterError`], with the end of the server's log where it did not start.
    pub fn start(options: &ClusterOptions) -> Result<Cluster, ClusterError> {
        let programs = options.programs.clone().or_else(newest).ok_or(ClusterError::NotInstalled)?;
        let user = Account::of_server()?;
        make_folder(&options.folder)?;
        let folder = fs::canonicalize(&options.folder).map_err(|e| file(&options.folder, e))?;
        user.can_enter(&folder)?;
        user.own(&folder)?;
        if !folder.join("data/PG_VERSION").exists() {
            match &options.template {
                Some(template) => copy(template, &folder)?,
                None => initialise(&programs, &folder, &user)?,
            }
        }
        let kept = folder.join("password");
        let password = SecretString::from(fs::read_to_string(&kept).map_err(|e| file(&kept, e))?);
        let mut attempt = 1;
        loop {
            let port = free_port()?;
            let (child, keeper) = launch(&programs, &folder, &user, port, &options.settings)?;
            let mut cluster = Cluster {
                folder: folder.clone(),
                programs: programs.clone(),
                settings: options.settings.clone(),
                port,
                password: password.clone(),
                child,
                _keeper: keeper,
            };
            match cluster.await_ready() {
                Ok(()) => return Ok(cluster),
                Err(ClusterError::Program { what, .. })
                    if what.contains("Address already in use") && attempt < PORT_ATTEMPTS =>
                {
                    attempt += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// The URL of a database, as the superuser, by TCP, without the password.
    pub fn url(&self, database: &str) -> String {
        format!("postgresql://{SUPERUSER}@127.0.0.1:{}/{database}", self.port)
    }

    /// The same by the Unix socket.
    pub fn socket_url(&self, database: &str) -> String {
        format!("host={} port={} user={SUPERUSER} dbname={database}", self.folder.join("socket").display(), self.port)
    }

    /// The superuser's password.
    pub fn password(&self) -> &SecretString {
        &self.password
    }

    /// The file with the superuser's password, for a `file:` reference.
    pub fn password_file(&self) -> PathBuf {
        self.folder.join("password")
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Stops it in order, and waits for its end.
    ///
    /// # Errors
    /// When it does not end in time; it is killed then.
    pub fn stop(mut self) -> Result<(), ClusterError> {
        self.halt()
    }

    /// Stops it in order, as [`Cluster::stop`], to be started again.
    ///
    /// # Errors
    /// When it does not end in time; it is killed then.
    pub fn halt(&mut self) -> Result<(), ClusterError> {
        // SIGINT is PostgreSQL's "fast" shutdown: sessions are ended, the data is left clean.
        if self.end(Signal::INT, STOP_TIMEOUT) {
            return Ok(());
        }
        Err(ClusterError::Program { program: "postgres".into(), what: "it did not stop in time and was killed".into() })
    }

    /// Starts one that was halted again: the same data at the same port.
    ///
    /// # Errors
    /// [`ClusterError`], also when somebody else has taken its port meanwhile.
    pub fn start_again(&mut self) -> Result<(), ClusterError> {
        let user = Account::of_server()?;
        (self.child, self._keeper) = launch(&self.programs, &self.folder, &user, self.port, &self.settings)?;
        self.await_ready()
    }

    /// Ends it as a crash would.
    pub fn kill(mut self) {
        self.end(Signal::QUIT, STOP_TIMEOUT);
    }

    /// Sends the signal and waits; false if it had to be killed.
    fn end(&mut self, signal: Signal, timeout: Duration) -> bool {
        if self.ended() {
            return true;
        }
        // The child is ours and not yet waited for, so its number cannot be another's.
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw)
            && let Err(error) = kill_process(pid, signal)
        {
            tracing::warn!(%error, pid = self.child.id(), "the PostgreSQL server cannot be signalled");
        }
        let deadline = Instant::now() + timeout;
        while Instant::now() < deadline {
            if self.ended() {
                return true;
            }
            std::thread::sleep(POLL);
        }
        for (what, result) in [("killed", self.child.kill()), ("awaited", self.child.wait().map(drop))] {
            if let Err(error) = result {
                tracing::warn!(%error, pid = self.child.id(), "the PostgreSQL server cannot be {what}");
            }
        }
        false
    }

    fn ended(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(Some(_)))
    }

    /// The server says in the last line of its lock file how far it is (`miscadmin.h`, `LOCK_FILE_LINE_PM_STATUS`).
    fn await_ready(&mut self) -> Result<(), ClusterError> {
        let lock = self.folder.join("data/postmaster.pid");
        let pid = self.child.id().to_string();
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            let text = fs::read_to_string(&lock).unwrap_or_default();
            let mut lines = text.lines();
            if lines.next() == Some(pid.as_str()) && lines.nth(6).is_some_and(|status| status.trim() == "ready") {
                return Ok(());
            }
            if self.ended() || Instant::now() > deadline {
                return Err(ClusterError::Program { program: "postgres".into(), what: self.last_words() });
            }
            std::thread::sleep(POLL);
        }
    }

    fn last_words(&self) -> String {
        let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
        let mut lines: Vec<&str> = log.lines().rev().take(10).collect();
        lines.reverse();
        format!("it did not start:\n{}", lines.join("\n"))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.end(Signal::QUIT, STOP_TIMEOUT);
    }
}

/// The user the server runs as.
struct Account {
    /// Uid and gid of `postgres` if we are root, else nothing to change.
    ids: Option<(u32, u32)>,
}

impl Account {
    fn of_server() -> Result<Account, ClusterError> {
        if !rustix::process::geteuid().is_root() {
            return Ok(Account { ids: None });
        }
        let users = fs::read_to_string("/etc/passwd").map_err(|e| file(Path::new("/etc/passwd"), e))?;
        let line = users.lines().find(|line| line.starts_with("postgres:")).ok_or(ClusterError::NoUser)?;
        let mut fields = line.split(':').skip(2).map(str::parse::<u32>);
        match (fields.next(), fields.next()) {
            (Some(Ok(uid)), Some(Ok(gid))) => Ok(Account { ids: Some((uid, gid)) }),
            _ => Err(ClusterError::NoUser),
        }
    }

    /// A command that runs as this user and ends with us.
    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]);
        if let Some((uid, gid)) = self.ids {
            command.args([format!("--reuid={uid}"), format!("--regid={gid}"), "--clear-groups".to_owned()]);
        }
        command.arg(program).stdin(Stdio::null()).env_clear().env("LC_ALL", "C.UTF-8").env("PATH", "/usr/bin:/bin");
        command
    }

    fn own(&self, path: &Path) -> Result<(), ClusterError> {
        let Some((uid, gid)) = self.ids else { return Ok(()) };
        std::os::unix::fs::chown(path, Some(uid), Some(gid)).map_err(|e| file(path, e))
    }

    /// Every folder above must be open to the user; the folder itself becomes its own.
    fn can_enter(&self, folder: &Path) -> Result<(), ClusterError> {
        let Some((uid, _)) = self.ids else { return Ok(()) };
        for above in folder.ancestors().skip(1) {
            let facts = fs::metadata(above).map_err(|e| file(above, e))?;
            let open = facts.mode() & 0o001 != 0 || (facts.uid() == uid && facts.mode() & 0o100 != 0);
            if !open {
                return Err(ClusterError::Closed { folder: above.to_owned() });
            }
        }
        Ok(())
    }
}

/// The newest server programs that packages brought to this host.
fn newest() -> Option<PathBuf> {
    servers(programs::packaged()).into_iter().max().map(|(_, bin)| bin)
}

/// The server programs on this host for what came from a server of that major version: the same, or the next newer one;
/// those of `PATH` where no package brought any.
pub fn programs_for(major: u32) -> Option<PathBuf> {
    let next = |folders| servers(folders).into_iter().filter(|(found, _)| *found >= major).min().map(|(_, bin)| bin);
    next(programs::packaged()).or_else(|| next(programs::installed()))
}

/// Those of the folders that hold a server, each with its major version.
fn servers(folders: Vec<PathBuf>) -> Vec<(u32, PathBuf)> {
    let version = |bin: &Path| {
        let output = Command::new(bin.join("postgres")).arg("--version").output().ok()?;
        Programs::major_of(&String::from_utf8_lossy(&output.stdout))
    };
    let whole = folders.into_iter().filter(|bin| bin.join("initdb").exists());
    whole.filter_map(|bin| Some((version(&bin)?, bin))).collect()
}

fn file(path: &Path, source: std::io::Error) -> ClusterError {
    ClusterError::File { path: path.to_owned(), source }
}

fn make_folder(folder: &Path) -> Result<(), ClusterError> {
    fs::create_dir_all(folder).map_err(|e| file(folder, e))
}

pub(super) fn free_port() -> Result<u16, ClusterError> {
    let bound = TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr());
    bound.map(|address| address.port()).map_err(|e| file(Path::new("127.0.0.1"), e))
}

/// `initdb`, with a random password for the superuser.
fn initialise(programs: &Path, folder: &Path, user: &Account) -> Result<(), ClusterError> {
    let mut bytes = [0u8; 16];
    getrandom::fill(&mut bytes)
        .map_err(|e| ClusterError::Program { program: "getrandom".into(), what: e.to_string() })?;
    let password = SecretString::from(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
    let path = folder.join("password");
    let mut kept = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&path)
        .map_err(|e| file(&path, e))?;
    kept.write_all(password.expose_secret().as_bytes()).map_err(|e| file(&path, e))?;
    user.own(&path)?;
    let output = user
        .command(&programs.join("initdb"))
        .args(["--no-sync", "--encoding=UTF8", "--locale=C.UTF-8", "--auth=scram-sha-256", "--username", SUPERUSER])
        .arg(format!("--pwfile={}", path.display()))
        .arg("-D")
        .arg(folder.join("data"))
        .output()
        .map_err(|e| ClusterError::Program { program: "initdb".into(), what: e.to_string() })?;
    if output.status.success() {
        return Ok(());
    }
    Err(ClusterError::Program {
        program: "initdb".into(),
        what: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    })
}

/// Copies a stopped server, owners and modes included.
fn copy(template: &Path, folder: &Path) -> Result<(), ClusterError> {
    for part in ["data", "password"] {
        let copied = Command::new("cp").arg("-a").arg(template.join(part)).arg(folder).status();
        match copied {
            Ok(status) if status.success() => {}
            Ok(status) => return Err(ClusterError::Program { program: "cp".into(), what: status.to_string() }),
            Err(error) => return Err(ClusterError::Program { program: "cp".into(), what: error.to_string() }),
        }
    }
    Ok(())
}

/// Starts the server from a thread that lives as long as the returned sender: the death signal follows the *thread*
/// that started the child (prctl(2)), and threads of a test or a runtime come and go.
fn launch(
    programs: &Path,
    folder: &Path,
    user: &Account,
    port: u16,
    settings: &[String],
) -> Result<(Child, mpsc::Sender<()>), ClusterError> {
    let socket = folder.join("socket");
    make_folder(&socket)?;
    user.own(&socket)?;
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o755)).map_err(|e| file(&socket, e))?;
    let log_path = folder.join("log");
    let log = fs::File::create(&log_path).map_err(|e| file(&log_path, e))?;
    let words = log.try_clone().map_err(|e| file(&log_path, e))?;
    let short = socket.as_os_str().len() + "/.s.PGSQL.65535.lock".len() <= SOCKET_PATH_BYTES_MAX;
    let sockets = if short { socket.display().to_string() } else { String::new() };
    let mut command = user.command(&programs.join("postgres"));
    command.arg("-D").arg(folder.join("data")).args(["-p", &port.to_string()]).stdout(log).stderr(words);
    let fixed = [
        "listen_addresses=127.0.0.1",
        "fsync=off",
        "synchronous_commit=off",
        "full_page_writes=off",
        "max_connections=60",
    ];
    for setting in fixed.iter().map(ToString::to_string).chain([format!("unix_socket_directories={sockets}")]) {
        command.args(["-c", &setting]);
    }
    for setting in settings {
        command.args(["-c", setting]);
    }
    spawn_kept(command).map_err(|source| ClusterError::Program { program: "postgres".into(), what: source.to_string() })
}

/// Starts a command that says `--pdeathsig` from a thread that stays as long as the sender: its end would end the child, too.
pub(super) fn spawn_kept(mut command: Command) -> std::io::Result<(Child, mpsc::Sender<()>)> {
    let (answer, started) = mpsc::channel();
    let (keeper, until) = mpsc::channel::<()>();
    std::thread::spawn(move || {
        let gone = answer.send(command.spawn()).is_err();
        // Ends with an error when the sender is dropped, which is what is waited for.
        while !gone && until.recv().is_ok() {}
    });
    let child = started.recv().map_err(|_| std::io::Error::other("the thread that starts it ended"))??;
    Ok((child, keeper))
}
