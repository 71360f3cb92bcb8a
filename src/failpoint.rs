//! Named durable steps at which a test can kill the process or let something happen.
//!
//! A call of [`hit`] stands directly *after* every step that changes something durable: a put, a rename,
//! a commit. With the feature `failpoints` off (every release) the call is empty. With it on:
//!
//! - `WARMSPARE_FAILPOINT_LOG=FILE` appends the name of each step as it is passed;
//! - `WARMSPARE_FAILPOINT=NAME` or `NAME:N` kills this process with signal 9 when NAME is passed for the N-th time;
//! - `WARMSPARE_FAILPOINT_RUN=NAME=COMMAND` runs a shell command there, once, and goes on.

/// Marks that the durable step `name` has just been done.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub fn hit(_name: &'static str) {}

/// Marks that the durable step `name` has just been done.
#[cfg(feature = "failpoints")]
pub fn hit(name: &'static str) {
    armed::hit(name);
}

#[cfg(feature = "failpoints")]
mod armed {
    use std::collections::HashMap;
    use std::fs::OpenOptions;
    use std::io::Write;
    use std::process::Command;
    use std::sync::Mutex;

    static PASSED: Mutex<Option<HashMap<&'static str, u64>>> = Mutex::new(None);

    pub fn hit(name: &'static str) {
        let count = {
            let mut passed = PASSED.lock().unwrap_or_else(|e| e.into_inner());
            let count = passed.get_or_insert_default().entry(name).or_default();
            *count += 1;
            *count
        };
        if let Ok(path) = std::env::var("WARMSPARE_FAILPOINT_LOG") {
            append(&path, name);
        }
        if let Ok(armed) = std::env::var("WARMSPARE_FAILPOINT") {
            let (at, nth) = armed.split_once(':').unwrap_or((&armed, "1"));
            if at == name && nth.parse() == Ok(count) {
                kill_self();
            }
        }
        if let Ok(run) = std::env::var("WARMSPARE_FAILPOINT_RUN")
            && count == 1
            && let Some((at, command)) = run.split_once('=')
            && at == name
        {
            let status = Command::new("/bin/sh").arg("-c").arg(command).status();
            assert!(status.is_ok_and(|s| s.success()), "the command of failpoint {name} failed: {command}");
        }
    }

    fn append(path: &str, name: &str) {
        let file = OpenOptions::new().append(true).create(true).open(path);
        let written = file.and_then(|mut file| file.write_all(format!("{name}\n").as_bytes()));
        assert!(written.is_ok(), "the failpoint log {path} cannot be written: {written:?}");
    }

    fn kill_self() -> ! {
        let pid = rustix::process::getpid();
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        // The signal is on its way; nothing after this step may run.
        loop {
            std::thread::park();
        }
    }
}
