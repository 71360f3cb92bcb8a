//! The first keys of a folder, without asking for more than the names of the others.

use std::fs::{self, DirEntry};
use std::io;
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;

use super::ListedKey;

/// The first `count` keys in the folder `prefix` of `root`. Nothing where the names alone do not tell which they are: there are folders in
/// it, or names that nobody here writes.
pub(super) async fn first(root: &Arc<Path>, prefix: &str, count: u16) -> io::Result<Option<Vec<ListedKey>>> {
    let (root, prefix) = (Arc::clone(root), prefix.to_owned());
    let read = tokio::task::spawn_blocking(move || first_of(&root, &prefix, count));
    read.await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

fn first_of(root: &Path, prefix: &str, count: u16) -> io::Result<Option<Vec<ListedKey>>> {
    let folder = root.join(prefix);
    let entries = match fs::read_dir(&folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Some(Vec::new())),
        entries => entries?,
    };
    let mut names = Vec::new();
    for entry in entries {
        match name_of(&entry?)? {
            Name::Key(name) => names.push(name),
            Name::Staged => {}
            Name::Other => return Ok(None),
        }
    }
    names.sort_unstable();
    let mut keys = Vec::new();
    for name in names {
        if keys.len() == usize::from(count) {
            break;
        }
        let found = match fs::metadata(folder.join(&name)) {
            // Removed since.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            found => found?,
        };
        let modified = Timestamp::try_from(found.modified()?).map_err(io::Error::other)?;
        keys.push(ListedKey { key: format!("{prefix}{name}"), size: found.len(), modified });
    }
    Ok(Some(keys))
}

enum Name {
    Key(String),
    /// What object_store writes before it gives it its name: `key#1`. It lists none of them.
    Staged,
    Other,
}

fn name_of(entry: &DirEntry) -> io::Result<Name> {
    let name = entry.file_name().into_string().unwrap_or_default();
    let is_plain =
        |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    Ok(match name.rsplit_once('#') {
        _ if !entry.file_type()?.is_file() => Name::Other,
        Some((key, number)) if is_plain(key) && number.bytes().all(|b| b.is_ascii_digit()) => Name::Staged,
        None if is_plain(&name) => Name::Key(name),
        _ => Name::Other,
    })
}
