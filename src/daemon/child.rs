//! One run of a job: this executable again, with the command of the job, in a process group of its own.
//!
//! A process, because it can be ended at its timeout with everything it has started, gives its memory back, and takes nothing down
//! when it dies. Its exit code is the verdict, its log lines are ours, its last error is what the run came to.

use std::convert::Infallible;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::process::{Child, ChildStderr, Command};
use tokio::sync::watch;

use crate::jobs::{NOTHING_NEW, RunVerdict};
use crate::process::PARENT;
use crate::schedule::{Job, Kind};

/// From the first signal to the one that nothing survives.
const GRACE: Duration = Duration::from_secs(30);
/// For the last words of a process that has ended; longer only when something it started lives on.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// More than any command prints as JSON that a run's record needs.
const OUTPUT_BYTES_MAX: u64 = 1 << 20;
/// What is remembered of a run's last error.
const WHAT_CHARS_MAX: usize = 500;

/// Where a command runs.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// This executable.
    pub(super) program: PathBuf,
    /// The configuration.
    pub(super) config: PathBuf,
    /// The site.
    pub(super) site: String,
}

/// What a run is told while it is under way.
pub(super) struct Orders {
    /// Why it must end.
    pub(super) stop: watch::Receiver<Option<String>>,
    /// How often the configuration was read again.
    pub(super) reload: watch::Receiver<u64>,
}

/// How a run ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) job: String,
    pub(super) verdict: RunVerdict,
    pub(super) what: String,
    pub(super) point: Option<String>,
}

/// The words of a job's command.
fn words(job: &Job) -> Vec<&str> {
    let mut words = match job.kind {
        Kind::Capture => vec!["capture", "--json"],
        Kind::Mirror => vec!["mirror", "run", "--json"],
        Kind::Rehearse => vec!["restore", "--if-new", "--json"],
        Kind::Verify => vec!["verify", "--json"],
        Kind::Prune => vec!["prune", "--json"],
        Kind::Check => vec!["check", "--json"],
        Kind::Report => vec!["report", "--json"],
    };
    words.extend(job.arguments.iter().map(String::as_str));
    words
}

fn command(place: &Place, job: &Job) -> Command {
    let mut command = Command::new(&place.program);
    let head: [OsString; 6] = [
        "--log".into(),
        "json".into(),
        "--config".into(),
        place.config.clone().into(),
        "--site".into(),
        place.site.clone().into(),
    ];
    command.args(head).args(words(job));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // It speaks to us, not to the service manager; and it ends with us.
    command.env_remove("NOTIFY_SOCKET").env_remove("WATCHDOG_USEC").env(PARENT, std::process::id().to_string());
    command.process_group(0).kill_on_drop(true);
    command
}

/// Runs the job to its end, or until it is told why it must not go on.
pub(super) async fn carry_out(place: Place, job: Job, orders: Orders) -> Ended {
    let failed = |what: String| Ended { job: job.name.clone(), verdict: RunVerdict::Failed, what, point: None };
    let mut child = match command(&place, &job).spawn() {
        Ok(child) => child,
        Err(error) => return failed(format!("{} cannot be started: {error}", place.program.display())),
    };
    let (Some(output), Some(errors)) = (child.stdout.take(), child.stderr.take()) else {
        return failed("its output cannot be read".to_owned());
    };
    let mut printed = tokio::spawn(printed(output));
    let (listens, listening) = watch::channel(false);
    let (says, last) = watch::channel(Last::default());
    let mut told = tokio::spawn(relay(job.name.clone(), errors, listens, says));
    let group = child.id();
    let (status, given_up) = wait(&mut child, &job, orders, listening).await;
    if tokio::time::timeout(LAST_WORDS, &mut told).await.is_err() {
        // Something it started holds its output, so the group is still there.
        signal(group, Signal::KILL);
        if tokio::time::timeout(LAST_WORDS, &mut told).await.is_err() {
            // Or what does has left the group: what it says is its own.
            tracing::warn!(job = %job.name, "a process that the run has left behind holds its output; it is not listened to any more");
            told.abort();
        }
    }
    let last = last.borrow().clone();
    let text = tokio::time::timeout(LAST_WORDS, &mut printed).await;
    printed.abort();
    let printed: Option<Value> = text.ok().and_then(Result::ok).and_then(|text| serde_json::from_slice(&text).ok());
    match status {
        Ok(status) => ended(&job, status, given_up, last, printed.unwrap_or_default()),
        Err(error) => failed(format!("its end cannot be waited for: {error}")),
    }
}

/// Waits for the end, and brings it about when it is time.
async fn wait(
    child: &mut Child,
    job: &Job,
    orders: Orders,
    listening: watch::Receiver<bool>,
) -> (std::io::Result<ExitStatus>, Option<(RunVerdict, String)>) {
    let Orders { mut stop, reload } = orders;
    let stopped = async move {
        match stop.wait_for(Option::is_some).await {
            Ok(why) => why.clone().unwrap_or_default(),
            Err(_) => "the daemon is ending".to_owned(),
        }
    };
    let group = child.id();
    let given_up = tokio::select! {
        status = child.wait() => return (status, None),
        () = tokio::time::sleep(job.timeout) => {
            (RunVerdict::TimedOut, format!("it was ended after {}, its timeout", crate::units::Span(job.timeout)))
        }
        why = stopped => (RunVerdict::Lost, why),
        never = pass_on(group, reload, listening) => match never {},
    };
    tracing::warn!(job = %job.name, "the run is told to end: {}", given_up.1);
    signal(group, Signal::TERM);
    let status = match tokio::time::timeout(GRACE, child.wait()).await {
        Ok(status) => status,
        Err(_) => {
            tracing::warn!(job = %job.name, "the run has not ended in {} s and is killed", GRACE.as_secs());
            signal(group, Signal::KILL);
            child.wait().await
        }
    };
    (status, Some(given_up))
}

/// Has the process read the configuration again whenever the daemon has. The signal would end one that does not listen yet, or never
/// does: it is told when it has said that it listens, and what it has started never is.
async fn pass_on(
    process: Option<u32>,
    mut reload: watch::Receiver<u64>,
    mut listening: watch::Receiver<bool>,
) -> Infallible {
    let process = process.and_then(|process| i32::try_from(process).ok()).and_then(Pid::from_raw);
    while let (Some(process), Ok(())) = (process, reload.changed().await) {
        if listening.wait_for(|listens| *listens).await.is_err() {
            break;
        }
        match kill_process(process, Signal::HUP) {
            // It has ended by itself.
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(error) => tracing::error!("a run cannot be told to read the configuration again: {error}"),
        }
    }
    std::future::pending().await
}

/// To the process and everything it has started.
fn signal(group: Option<u32>, signal: Signal) {
    let group = group.and_then(|group| i32::try_from(group).ok()).and_then(Pid::from_raw);
    let Some(group) = group else { return };
    match kill_process_group(group, signal) {
        // It has ended by itself.
        Ok(()) | Err(rustix::io::Errno::SRCH) => {}
        Err(error) => tracing::error!("a run cannot be ended: {error}"),
    }
}

fn ended(job: &Job, status: ExitStatus, given_up: Option<(RunVerdict, String)>, last: Last, printed: Value) -> Ended {
    let point = printed["point"].as_str().map(str::to_owned);
    let verdict = match status.code() {
        Some(0) => RunVerdict::Done,
        Some(3) => RunVerdict::Refused,
        Some(4) => RunVerdict::Incomplete,
        _ => RunVerdict::Failed,
    };
    // What came to its end while it was told to is done.
    let (verdict, what) = match given_up {
        Some(given_up) if verdict != RunVerdict::Done => given_up,
        _ => (verdict, what(&last, &point, verdict, status, &printed)),
    };
    Ended { job: job.name.clone(), verdict, what: what.chars().take(WHAT_CHARS_MAX).collect(), point }
}

fn what(last: &Last, point: &Option<String>, verdict: RunVerdict, status: ExitStatus, printed: &Value) -> String {
    match (verdict, point) {
        (RunVerdict::Done, Some(point)) if printed["nothing_new"] == true => format!("{NOTHING_NEW} since {point}"),
        (RunVerdict::Done, Some(point)) => format!("point {point}"),
        (RunVerdict::Done, None) => "done".to_owned(),
        _ => {
            let said = failure(printed)
                .or_else(|| difference(printed))
                .or_else(|| damage(printed))
                .or_else(|| last.error.clone())
                .or_else(|| last.warning.clone());
            said.unwrap_or_else(|| format!("it ended with {status}"))
        }
    }
}

/// The first failure among the findings of a `check`.
fn failure(printed: &Value) -> Option<String> {
    let findings = printed["findings"].as_array()?;
    let first = findings.iter().find(|finding| finding["level"] == "failure")?;
    Some(format!("{}: {}", first["object"].as_str()?, first["found"].as_str()?))
}

/// What a rehearsal found different.
fn difference(printed: &Value) -> Option<String> {
    let point = printed["point"].as_str().filter(|_| printed["verdict"] == "different")?;
    let mut found = printed["steps"].as_array()?.iter().filter_map(|step| step["differences"].as_array()).flatten();
    let first = found.next().and_then(Value::as_str).unwrap_or("see its report");
    Some(format!("point {point} was found different: {first}"))
}

/// What a `verify` found missing or damaged: the first of the vault, or how many of the first bucket. Keys of objects stay out of it.
fn damage(printed: &Value) -> Option<String> {
    let of_vault = |fault: &Value| Some(format!("{}: {}", fault["object"].as_str()?, fault["what"].as_str()?));
    let of_bucket = |bucket: &Value| {
        let wrong = bucket["wrong"].as_u64().filter(|wrong| *wrong > 0)?;
        Some(format!("{}: {wrong} objects are not as the newest point says", bucket["source"].as_str()?))
    };
    let vault = printed["faults"].as_array().and_then(|faults| faults.first()).and_then(of_vault);
    vault.or_else(|| printed["buckets"].as_array()?.iter().find_map(of_bucket))
}

/// All it prints, as far as it is JSON of a sensible length.
async fn printed(output: impl AsyncRead + Unpin) -> Vec<u8> {
    let mut text = Vec::new();
    let mut head = output.take(OUTPUT_BYTES_MAX);
    if let Err(error) = head.read_to_end(&mut text).await {
        tracing::warn!("what a run prints cannot be read: {error}");
    }
    // Read on, so that it is not held up.
    if let Err(error) = tokio::io::copy(&mut head.into_inner(), &mut tokio::io::sink()).await {
        tracing::warn!("what a run prints cannot be read: {error}");
    }
    text
}

/// What a run said last.
#[derive(Clone, Debug, Default)]
struct Last {
    error: Option<String>,
    warning: Option<String>,
}

/// Passes on what a run says: log lines as such, words to a person as they are; and whether it listens for SIGHUP.
async fn relay(job: String, errors: ChildStderr, listens: watch::Sender<bool>, says: watch::Sender<Last>) {
    let mut lines = BufReader::new(errors).lines();
    loop {
        let line = match lines.next_line().await {
            Ok(Some(line)) => line,
            Ok(None) => return,
            Err(error) => {
                tracing::warn!(job, "what it says cannot be read: {error}");
                return;
            }
        };
        match Said::of(&line) {
            Said { level: Level::Error, text } => {
                tracing::error!(job, "{text}");
                says.send_modify(|last| last.error = Some(text));
            }
            Said { level: Level::Warning, text } => {
                tracing::warn!(job, "{text}");
                says.send_modify(|last| last.warning = Some(text));
            }
            Said { level: Level::Word, text } => tracing::info!(job, "{text}"),
            // For us alone.
            Said { level: Level::Listens, .. } => {
                listens.send_replace(true);
            }
        }
    }
}

enum Level {
    Error,
    Warning,
    Word,
    /// Not for people: SIGHUP does not end it any more.
    Listens,
}

/// A line of a run.
struct Said {
    level: Level,
    text: String,
}

impl Said {
    fn of(line: &str) -> Said {
        if let Some(text) = line.strip_prefix("error: ") {
            return Said { level: Level::Error, text: text.to_owned() };
        }
        let Ok(Value::Object(logged)) = serde_json::from_str(line) else {
            return Said { level: Level::Word, text: line.to_owned() };
        };
        let level = match logged.get("level").and_then(Value::as_str) {
            Some("ERROR") => Level::Error,
            Some("WARN") => Level::Warning,
            _ if logged.get("fields").is_some_and(|fields| fields["listens_for"] == "SIGHUP") => Level::Listens,
            _ => Level::Word,
        };
        let mut text = String::new();
        for (key, value) in logged.get("fields").and_then(Value::as_object).into_iter().flatten() {
            let shown = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            match key.as_str() {
                "message" => text.insert_str(0, &shown),
                key => text += &format!(" {key}={shown}"),
            }
        }
        Said { level, text: text.trim().to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn job(timeout: Duration) -> Job {
        let at = Some("@daily".parse().unwrap());
        let (zone, on, after) = (jiff::tz::TimeZone::UTC, crate::schedule::On::Live, Vec::new());
        let (name, kind, second) = ("capture".to_owned(), Kind::Capture, Duration::from_secs(1));
        let (delay, retry_after, late_after) = (Duration::ZERO, second, second);
        Job {
            name,
            kind,
            at,
            zone,
            on,
            after,
            delay,
            timeout,
            retries: 0,
            retry_after,
            failures_allowed: 0,
            late_after,
            arguments: Vec::new(),
        }
    }

    /// A run of `script` in the place of this executable.
    async fn run(script: &str, timeout: Duration, stop: watch::Receiver<Option<String>>) -> Ended {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("program");
        // Written by another process: one that is forked here meanwhile would hold it open, and it could not be run.
        let write = ["-c", "printf '#!/bin/sh\n%s\n' \"$1\" > \"$2\" && chmod 700 \"$2\"", "sh", script];
        let written = std::process::Command::new("/bin/sh").args(write).arg(&program).status().unwrap();
        assert!(written.success());
        let place = Place { program, config: "/c.toml".into(), site: "ams".to_owned() };
        carry_out(place, job(timeout), Orders { stop, reload: read_again() }).await
    }

    /// The daemon has read its configuration again before the run has begun in earnest.
    fn read_again() -> watch::Receiver<u64> {
        let (reading, mut reload) = watch::channel(0);
        reading.send_replace(1);
        reload.mark_changed();
        reload
    }

    fn never() -> (watch::Sender<Option<String>>, watch::Receiver<Option<String>>) {
        watch::channel(None)
    }

    #[tokio::test]
    async fn the_exit_code_is_the_verdict_and_the_last_error_what_it_came_to() {
        let (_keep, stop) = never();
        let verdict = async |script: &str| {
            let ended = run(script, Duration::from_secs(60), stop.clone()).await;
            (ended.verdict, ended.what, ended.point)
        };
        let point = Some("0-3".to_owned());
        let good = verdict("echo '{\"point\": \"0-3\"}'").await;
        assert_eq!(good, (RunVerdict::Done, "point 0-3".to_owned(), point.clone()));
        let idle = verdict("echo '{\"point\": \"0-3\", \"nothing_new\": true}'").await;
        assert_eq!(idle, (RunVerdict::Done, "nothing new since 0-3".to_owned(), point));
        let refused = verdict("echo 'error: another operation' >&2; echo 'next:  wait' >&2; exit 3").await;
        assert_eq!(refused, (RunVerdict::Refused, "another operation".to_owned(), None));
        let logged = "{\"level\":\"WARN\",\"fields\":{\"message\":\"3 objects\",\"bucket\":\"b\"}}";
        let incomplete = verdict(&format!("echo '{logged}' >&2; exit 4")).await;
        assert_eq!(incomplete, (RunVerdict::Incomplete, "3 objects bucket=b".to_owned(), None));
        let findings = "{\"findings\": [{\"level\": \"failure\", \"object\": \"vault\", \"found\": \"full\"}]}";
        let checked = verdict(&format!("echo '{findings}'; exit 1")).await;
        assert_eq!(checked, (RunVerdict::Failed, "vault: full".to_owned(), None));
        let report = "{\"point\": \"0-3\", \"verdict\": \"different\", \"steps\": [{\"differences\": [\"a row\"]}]}";
        let red = verdict(&format!("echo '{report}'; exit 4")).await;
        assert_eq!((red.0, red.1.as_str()), (RunVerdict::Incomplete, "point 0-3 was found different: a row"));
        let lost = "{\"faults\": [], \"buckets\": [{\"source\": \"bucket.a\", \"wrong\": 2}]}";
        let rotten = verdict(&format!("echo '{lost}'; exit 4")).await;
        assert_eq!(rotten.1, "bucket.a: 2 objects are not as the newest point says");
        let packs = "{\"faults\": [{\"object\": \"a/pack\", \"what\": \"it is not there\"}], \"buckets\": []}";
        assert_eq!(verdict(&format!("echo '{packs}'; exit 4")).await.1, "a/pack: it is not there");
        let killed = verdict("kill -9 $$").await;
        assert_eq!((killed.0, killed.1.contains("signal: 9")), (RunVerdict::Failed, true), "{}", killed.1);
    }

    #[tokio::test]
    async fn at_its_timeout_a_run_ends_with_everything_it_has_started() {
        let folder = tempfile::tempdir().unwrap();
        let mark = folder.path().join("pid");
        let script = format!("sleep 1000 & echo $! > {}; wait", mark.display());
        let (_keep, stop) = never();
        let ended = run(&script, Duration::from_millis(500), stop).await;
        assert_eq!(
            (ended.verdict, ended.what.as_str()),
            (RunVerdict::TimedOut, "it was ended after 0.5 s, its timeout")
        );
        let pid = std::fs::read_to_string(mark).unwrap();
        // Dead, or about to be reaped by whoever inherited it.
        let state = std::fs::read_to_string(Path::new("/proc").join(pid.trim()).join("stat")).unwrap_or_default();
        assert!(state.is_empty() || state.contains(") Z "), "{state}");
    }

    #[tokio::test]
    async fn a_run_that_is_stopped_is_lost_unless_it_came_to_its_end() {
        let (stopping, stop) = never();
        stopping.send_replace(Some("the daemon is ending".to_owned()));
        let ended = run("sleep 1000", Duration::from_secs(60), stop.clone()).await;
        assert_eq!((ended.verdict, ended.what.as_str()), (RunVerdict::Lost, "the daemon is ending"));
        let ended = run("trap 'exit 0' TERM; sleep 1000 & wait", Duration::from_secs(60), stop).await;
        assert!(matches!(ended.verdict, RunVerdict::Done | RunVerdict::Lost), "{ended:?}");
    }

    #[tokio::test]
    async fn a_run_that_listens_is_told_that_the_configuration_was_read_again_and_no_other_is() {
        let (_keep, stop) = never();
        let listens = "{\"level\":\"INFO\",\"fields\":{\"message\":\"m\",\"listens_for\":\"SIGHUP\"}}";
        // It takes a while until it listens: told before, it would have ended by the signal.
        let file = tempfile::NamedTempFile::new().unwrap();
        let script = format!("sleep 0.5; trap 'exit 4' HUP; echo '{listens}' >&2; sleep 1000 & wait");
        std::fs::write(&file, script).unwrap();
        // A shell cannot catch what was ignored when it was started, as nohup(1) has it.
        let script = format!("exec env --default-signal=HUP sh {}", file.path().display());
        let ended = run(&script, Duration::from_secs(60), stop.clone()).await;
        assert_eq!(ended.verdict, RunVerdict::Incomplete, "{}", ended.what);
        let ended = run("sleep 1; exit 0", Duration::from_secs(60), stop).await;
        assert_eq!(ended.verdict, RunVerdict::Done, "{}", ended.what);
    }

    #[tokio::test]
    async fn a_process_that_is_left_behind_does_not_hold_up_the_end() {
        let (_keep, stop) = never();
        let ended = run("sleep 1000 & exit 0", Duration::from_secs(60), stop).await;
        assert_eq!(ended.verdict, RunVerdict::Done);
    }

    /// A program that a run had started became a daemon of its own, which no signal to the group reaches, and held the run's output: the
    /// job stayed `running` until somebody ended that.
    #[tokio::test]
    async fn a_process_in_a_session_of_its_own_does_not_hold_up_the_end_either() {
        let (_keep, stop) = never();
        let folder = tempfile::tempdir().unwrap();
        let mark = folder.path().join("pid");
        let left =
            format!("setsid sh -c 'echo $$ > {0}; exec sleep 1000' & while ! [ -s {0} ]; do :; done", mark.display());
        let script = format!("echo 'error: no such key' >&2; {left}; exit 1");
        let ended = tokio::time::timeout(Duration::from_secs(60), run(&script, Duration::from_secs(50), stop)).await;
        let pid = std::fs::read_to_string(mark).unwrap().trim().parse().ok().and_then(Pid::from_raw).unwrap();
        kill_process(pid, Signal::KILL).unwrap();
        let ended = ended.expect("the run is waited for as long as somebody holds its output");
        assert_eq!((ended.verdict, ended.what.as_str()), (RunVerdict::Failed, "no such key"));
    }
}
