//! A program of the operator's: the message as JSON on its standard input, an environment of its own, and an end.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

use crate::notify::NotifyError;
use crate::process::{Group, quoted};

/// For all of it.
const TIME_MAX: Duration = Duration::from_secs(30);
/// What is kept of its standard error.
const COMPLAINT_BYTES_MAX: usize = 4 << 10;
/// What a program may need of the environment: the secrets warmspare was started with are none of its business.
const PASSED_ON: [&str; 6] = ["PATH", "HOME", "USER", "LOGNAME", "TZ", "XDG_RUNTIME_DIR"];

pub(super) async fn run(name: &str, words: &[String], message: &[u8]) -> Result<(), NotifyError> {
    let program = words.first().cloned().unwrap_or_default();
    let fail = |what: String| NotifyError::Command { sink: name.to_owned(), program: program.clone(), what };
    let mut running = Running::start(words).map_err(|error| fail(format!("cannot be started: {error}")))?;
    let ran = tokio::time::timeout(TIME_MAX, running.run(message)).await;
    let ran = ran.map_err(|_| fail(format!("did not end within {} s", TIME_MAX.as_secs())))?;
    match ran.map_err(|error| fail(format!("cannot be talked to: {error}")))? {
        (status, _) if status.success() => Ok(()),
        (status, complaint) => Err(fail(format!("failed ({status}){complaint}"))),
    }
}

/// A program under way; killed with all it started when dropped before its end.
struct Running {
    child: Child,
    group: Group,
}

impl Running {
    fn start(words: &[String]) -> std::io::Result<Self> {
        let (program, arguments) = words.split_first().ok_or(std::io::ErrorKind::InvalidInput)?;
        let mut command = Command::new(program);
        command.args(arguments).env_clear().env("LC_ALL", "C.UTF-8");
        command.envs(PASSED_ON.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let (child, group) = Group::spawn(&mut command)?;
        Ok(Running { child, group })
    }

    async fn run(&mut self, message: &[u8]) -> std::io::Result<(std::process::ExitStatus, String)> {
        let (stdin, stderr) = (self.child.stdin.take(), self.child.stderr.take());
        let tell = async {
            if let Some(mut stdin) = stdin {
                // One that does not want to hear it all may close it; its exit status is its verdict.
                match stdin.write_all(message).await {
                    Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => return Err(error),
                    _ => {}
                }
            }
            Ok(())
        };
        let listen = async {
            let mut kept = Vec::new();
            if let Some(mut stderr) = stderr {
                while stderr.read_buf(&mut kept).await? > 0 {
                    let surplus = kept.len().saturating_sub(COMPLAINT_BYTES_MAX);
                    kept.drain(..surplus);
                }
            }
            Ok::<_, std::io::Error>(kept)
        };
        let ((), complaint) = tokio::try_join!(tell, listen)?;
        let status = self.child.wait().await?;
        self.group.ended();
        Ok((status, quoted(&complaint)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn told(script: &str) -> Result<(), String> {
        let words = ["/bin/sh", "-c", script].map(str::to_owned);
        run("ops", &words, b"{\"format\":1}").await.map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn a_program_has_the_message_and_its_failure_is_named() {
        told("test \"$(cat)\" = '{\"format\":1}'").await.unwrap();
        told("exec <&-; exit 0").await.unwrap();
        told("test -z \"$CARGO_MANIFEST_DIR\"").await.expect("the environment is its own");
        let error = told("echo no such channel >&2; exit 7").await.unwrap_err();
        assert_eq!(error, "sink ops: `/bin/sh` failed (exit status: 7): no such channel");
        let error = run("ops", &["/no/such".to_owned()], b"").await.unwrap_err().to_string();
        assert!(error.starts_with("sink ops: `/no/such` cannot be started: No such file"), "{error}");
    }
}
