//! Programs of another Debian release, unpacked into a folder and not installed.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

/// The folder that holds `packages` of `suite` and all they need; fetched the first time, kept below `target/`.
pub fn unpacked(suite: &str, name: &str, packages: &[&str]) -> PathBuf {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{suite}"));
    if !folder.exists() {
        // Under another name until it is whole, and one per process: another test run may fetch it too.
        let partial = folder.with_extension(format!("partial-{}", std::process::id()));
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/fetch-debs.sh");
        let mut fetch = Command::new(script);
        fetch.arg(suite).arg(&partial).args(packages).stdin(Stdio::null());
        let output = fetch.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{name} of Debian {suite} could not be fetched: {said}");
        if std::fs::rename(&partial, &folder).is_err() {
            assert!(folder.exists(), "{} could not be moved to {}", partial.display(), folder.display());
            std::fs::remove_dir_all(&partial).unwrap();
        }
    }
    folder
}
