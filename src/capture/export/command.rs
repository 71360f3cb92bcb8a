//! Runs a command whose standard output is part of an export.
//!
//! No shell, nothing on standard input, and an environment of its own: the secrets warmspare was started
//! with are none of its business. A command that fails, prints nothing, prints too much or does not end is
//! an error, and none of its processes stays behind.

use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};

use super::error::Error;
use crate::process::{Group, quoted};

/// The longest a command may take.
pub const TIME_MAX: Duration = Duration::from_secs(300);
/// The most a command may print, in bytes: it is held in memory.
pub const OUTPUT_BYTES_MAX: usize = 64 << 20;
/// What is kept of its standard error, in bytes.
const COMPLAINT_BYTES_MAX: usize = 4 << 10;
/// What a command may need of the environment; anything else goes into its words (`env NAME=VALUE program …`).
const PASSED_ON: [&str; 6] = ["PATH", "HOME", "USER", "LOGNAME", "TZ", "XDG_RUNTIME_DIR"];

/// Runs `words` and gives back what it printed.
///
/// # Errors
/// [`Error::Command`] when it cannot be started, exits with another code than 0, prints nothing or more
/// than [`OUTPUT_BYTES_MAX`], or takes longer than `time_max`.
pub async fn output(name: &str, words: &[String], time_max: Duration) -> Result<Vec<u8>, Error> {
    let fail = |what: String| Error::Command { name: name.to_owned(), what };
    let mut running = Running::start(words).map_err(fail)?;
    let ran = tokio::time::timeout(time_max, running.run()).await;
    let (status, printed, complaint) =
        ran.map_err(|_| fail(format!("did not end within {} s", time_max.as_secs())))?.map_err(fail)?;
    match status {
        status if !status.success() => Err(fail(format!("failed ({status}){}", quoted(&complaint)))),
        _ if printed.is_empty() => Err(fail(format!("printed nothing{}", quoted(&complaint)))),
        _ => Ok(printed),
    }
}

/// A command under way; killed with all it started when dropped before its end.
struct Running {
    child: Child,
    group: Group,
}

impl Running {
    fn start(words: &[String]) -> Result<Self, String> {
        let (program, arguments) = words.split_first().ok_or("has no words")?;
        let mut command = Command::new(program);
        command.args(arguments).env_clear().env("LC_ALL", "C.UTF-8");
        command.envs(PASSED_ON.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let started = Group::spawn(&mut command);
        let (child, group) = started.map_err(|error| format!("cannot be started: `{program}`: {error}"))?;
        Ok(Running { child, group })
    }

    async fn run(&mut self) -> Result<(ExitStatus, Vec<u8>, Vec<u8>), String> {
        let stdout = self.child.stdout.take().ok_or("has no standard output")?;
        let stderr = self.child.stderr.take().ok_or("has no standard error")?;
        let (printed, complaint) = tokio::join!(all(stdout), tail(stderr));
        let broken = |error| format!("cannot be read from: {error}");
        let (printed, complaint) = (printed.map_err(broken)?, complaint.map_err(broken)?);
        if printed.len() > OUTPUT_BYTES_MAX {
            return Err(format!("printed more than {} MiB", OUTPUT_BYTES_MAX >> 20));
        }
        let status = self.child.wait().await.map_err(|error| format!("cannot be waited for: {error}"))?;
        self.group.ended();
        Ok((status, printed, complaint))
    }
}

async fn all(stdout: impl AsyncRead + Unpin) -> std::io::Result<Vec<u8>> {
    let mut printed = Vec::new();
    stdout.take(OUTPUT_BYTES_MAX as u64 + 1).read_to_end(&mut printed).await?;
    Ok(printed)
}

async fn tail(mut stderr: impl AsyncRead + Unpin) -> std::io::Result<Vec<u8>> {
    let mut kept = Vec::new();
    while stderr.read_buf(&mut kept).await? > 0 {
        let surplus = kept.len().saturating_sub(COMPLAINT_BYTES_MAX);
        kept.drain(..surplus);
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Vec<String> {
        ["sh", "-c", script].map(str::to_owned).to_vec()
    }

    async fn complaint(script: &str, time_max: Duration) -> String {
        output("version", &shell(script), time_max).await.unwrap_err().to_string()
    }

    #[tokio::test]
    async fn what_it_prints_is_kept_to_the_byte() {
        let printed = output("version", &shell("printf 'a\\0b\\n\\n'"), TIME_MAX).await.unwrap();
        assert_eq!(printed, b"a\0b\n\n");
    }

    #[tokio::test]
    async fn each_way_to_fail_names_the_command_and_what_it_said() {
        let failed = complaint("echo one >&2; echo 'no such token' >&2; exit 3", TIME_MAX).await;
        assert_eq!(failed, "command `version` failed (exit status: 3): no such token");
        assert_eq!(complaint("true", TIME_MAX).await, "command `version` printed nothing");
        let missing = output("version", &["/no/such".to_owned()], TIME_MAX).await.unwrap_err().to_string();
        assert!(missing.starts_with("command `version` cannot be started: `/no/such`"), "{missing}");
        assert_eq!(output("version", &[], TIME_MAX).await.unwrap_err().to_string(), "command `version` has no words");
    }

    /// The grandchild holds the pipe open: only killing the whole group ends it.
    #[tokio::test]
    async fn a_command_that_hangs_is_killed_with_all_it_started() {
        let folder = tempfile::tempdir().unwrap();
        let pid_file = folder.path().join("pid");
        let script = format!("sleep 1000 & echo $! > {}; wait", pid_file.display());
        assert_eq!(complaint(&script, Duration::from_secs(1)).await, "command `version` did not end within 1 s");
        let pid = std::fs::read_to_string(&pid_file).unwrap();
        let status = format!("/proc/{}/stat", pid.trim());
        let gone = || std::fs::read_to_string(&status).map_or(true, |stat| stat.contains(") Z "));
        for _ in 0..100 {
            if gone() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{status} is still there");
    }

    #[tokio::test]
    async fn the_environment_of_warmspare_is_not_handed_on() {
        // PATH is passed on; CARGO_MANIFEST_DIR, which cargo sets for this very test, is not.
        let printed = output("env", &["env".to_owned()], TIME_MAX).await.unwrap();
        let printed = String::from_utf8(printed).unwrap();
        assert!(printed.contains("PATH="), "{printed}");
        assert!(!printed.contains("CARGO"), "{printed}");
    }
}
