//! Free space, against three times what has to go there: what stands there now, what is made beside it, and what the
//! making takes.

use std::path::Path;

use rustix::fs::statvfs;

use super::finding::Findings;
use super::limit;
use crate::units::Bytes;

/// How often over there should be room.
const TIMES: u64 = 3;
/// A state folder holds catalogs, journals and replaced files.
const STATE_BYTES_MIN: u64 = 64 << 20;

const ABOUT: &str = "space";

/// The bytes an ordinary user may still write below `folder`.
///
/// # Errors
/// Those of `statvfs(3)`.
pub fn free(folder: &Path) -> std::io::Result<u64> {
    let facts = statvfs(folder)?;
    Ok(facts.f_bavail.saturating_mul(facts.f_frsize))
}

/// Asks for the free space below `folder`; a folder that cannot be asked is a warning.
pub(super) async fn ask(findings: &mut Findings, object: &str, folder: &Path) -> Option<u64> {
    let asked = folder.to_owned();
    // The error is told as it is below; the limit is for a network disk that is gone.
    let answer = limit::blocking(object, move || Ok::<_, limit::LimitError>(free(&asked))).await;
    match answer {
        Ok(Ok(bytes)) => Some(bytes),
        Ok(Err(error)) => {
            let found = format!("its free space cannot be seen from here: {error}");
            findings.warning(ABOUT, object, found, "See on its own host that there is three times the room it needs.");
            None
        }
        Err(error) => {
            findings.error(ABOUT, object, error);
            None
        }
    }
}

/// Compares the free space below `folder` with `need` bytes of `what`.
pub(super) async fn judge(findings: &mut Findings, object: &str, folder: &Path, need: u64, what: &str) {
    let Some(free) = ask(findings, object, folder).await else { return };
    let (has, needs) = (Bytes(free), Bytes(need));
    let found = format!("{has} free in {}; {what}: {needs}", folder.display());
    let enough = Bytes(need.saturating_mul(TIMES));
    if free < need {
        let next = format!("Free or add space there: {enough} is what should be free.");
        findings.failure(ABOUT, object, found, next);
    } else if free < enough.0 {
        let next = format!("Free or add space there, until three times as much is free: {enough}.");
        findings.warning(ABOUT, object, found, next);
    } else {
        findings.ok(ABOUT, object, found);
    }
}

/// A state folder needs a little.
pub(super) async fn judge_state(findings: &mut Findings, folder: &Path) {
    let object = format!("state folder {}", folder.display());
    let Some(free) = ask(findings, &object, folder).await else { return };
    let found = format!("{} free", Bytes(free));
    if free < STATE_BYTES_MIN {
        let next = format!("Free space there: at least {}.", Bytes(STATE_BYTES_MIN));
        findings.failure(ABOUT, object, found, next);
    } else {
        findings.ok(ABOUT, object, found);
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    #[tokio::test]
    async fn once_is_needed_and_three_times_is_enough() {
        let folder = tempfile::tempdir().unwrap();
        let free = free(folder.path()).unwrap();
        let check = async |need: u64, level: Level| {
            let mut findings = Findings::default();
            judge(&mut findings, "the vault", folder.path(), need, "one upload of everything").await;
            assert_eq!(findings.count(level), 1, "{need} of {free}: {findings:?}");
        };
        check(free / 10, Level::Ok).await;
        check(free / 2, Level::Warning).await;
        check(free * 2, Level::Failure).await;
        let mut findings = Findings::default();
        judge(&mut findings, "gone", &folder.path().join("gone"), 1, "x").await;
        assert_eq!(findings.count(Level::Warning), 1);
    }
}
