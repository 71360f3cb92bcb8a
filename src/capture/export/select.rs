//! Which files an export holds: the patterns of the configuration, applied to the root as it is now.
//!
//! `*`, `?` and `[…]` do not cross a `/`; `**` as a whole name crosses any number of folders, links not
//! followed. A folder means all of it. A pattern that names nothing is an error, because a secret that is
//! missing shows only on the day it is needed; `?/path` says that it may be absent.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use globset::{GlobBuilder, GlobMatcher};
use rustix::fs::{FileType, Stat};
use rustix::io::Errno;

use super::error::Error;
use super::root::{Root, kind_word};
use super::{Remark, is_staged};

/// What stands at the paths of an export.
#[derive(Debug, Default)]
pub struct Selection {
    /// Files, folders and links, by path below the root: parents before what they hold.
    pub entries: BTreeMap<PathBuf, Stat>,
    /// The folders above them that are not themselves among them.
    pub ancestors: BTreeMap<PathBuf, Stat>,
    /// What was left out.
    pub remarks: Vec<Remark>,
}

/// Finds what the patterns name.
///
/// # Errors
/// When a pattern is wrong or names nothing, when a folder cannot be listed, and when a path written out in
/// full is a socket, fifo or device, or a link to something outside of the export.
pub fn select(root: &Root, patterns: &[String]) -> Result<Selection, Error> {
    let mut selection = Selection::default();
    let mut named = BTreeSet::new();
    for text in patterns {
        let pattern = Pattern::parse(text)?;
        let matches = pattern.matches(root)?;
        if matches.is_empty() && !pattern.optional {
            return Err(Error::NoMatch { pattern: text.clone(), root: root.path().to_owned() });
        }
        for path in matches {
            if pattern.is_literal() {
                named.insert(path.clone());
            }
            selection.add(root, path, pattern.is_literal())?;
        }
    }
    selection.add_ancestors(root)?;
    selection.judge_links(root, &named)?;
    Ok(selection)
}

impl Selection {
    fn add(&mut self, root: &Root, top: PathBuf, named: bool) -> Result<(), Error> {
        let mut waiting = vec![top.clone()];
        while let Some(path) = waiting.pop() {
            let found = root.stat_if_any(&path).map_err(Error::io(Root::seen(&path), "examined"))?;
            // It went between being listed and being looked at.
            let Some(stat) = found else { continue };
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::RegularFile | FileType::Symlink => {}
                FileType::Directory => waiting.extend(children(root, &path)?),
                _ if named && path == top => {
                    return Err(Error::Special { path: Root::seen(&path), kind: kind_word(stat.st_mode) });
                }
                _ => {
                    let what = format!("is a {} and was not captured", kind_word(stat.st_mode));
                    self.remarks.push(Remark::new(&path, what));
                    continue;
                }
            }
            self.entries.insert(path, stat);
        }
        Ok(())
    }

    fn add_ancestors(&mut self, root: &Root) -> Result<(), Error> {
        for path in self.entries.keys() {
            for above in path.ancestors().skip(1).filter(|above| !above.as_os_str().is_empty()) {
                if self.entries.contains_key(above) || self.ancestors.contains_key(above) {
                    break;
                }
                let stat = root.stat_followed(above).map_err(Error::io(Root::seen(above), "examined"))?;
                self.ancestors.insert(above.to_owned(), stat);
            }
        }
        Ok(())
    }

    /// A link is captured as a link; what it leads to must be in the export by itself, or be remarked upon.
    fn judge_links(&mut self, root: &Root, named: &BTreeSet<PathBuf>) -> Result<(), Error> {
        let held: BTreeSet<_> = self.entries.values().map(|stat| (stat.st_dev, stat.st_ino)).collect();
        for (path, stat) in &self.entries {
            if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
                continue;
            }
            let seen = Root::seen(path);
            let target = root.link(path).map_err(Error::io(&seen, "read"))?;
            let what = match root.stat_followed(path) {
                Ok(stat) if held.contains(&(stat.st_dev, stat.st_ino)) => continue,
                Ok(_) if named.contains(path) => return Err(Error::LinkLeadsOut { path: seen, target }),
                Ok(_) => format!("is a link to {target:?}, which is not part of the export"),
                Err(_) => format!("is a link to {target:?}, which does not exist"),
            };
            self.remarks.push(Remark::new(path, what));
        }
        Ok(())
    }
}

/// What a folder holds; the leftovers of a restore that was killed are not part of it.
fn children(root: &Root, folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let names = root.names(folder).map_err(Error::io(Root::seen(folder), "listed"))?;
    Ok(names.into_iter().filter(|name| !is_staged(name)).map(|name| folder.join(name)).collect())
}

/// As [`children`]; none when it is not a folder, or not there.
fn children_if_any(root: &Root, folder: &Path) -> Result<Vec<PathBuf>, Error> {
    match root.stat_followed(folder) {
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => children(root, folder),
        Ok(_) | Err(Errno::NOENT | Errno::NOTDIR) => Ok(Vec::new()),
        Err(errno) => Err(Error::io(Root::seen(folder), "listed")(errno)),
    }
}

struct Pattern {
    optional: bool,
    names: Vec<Name>,
}

/// One name of a pattern, between two slashes.
enum Name {
    Literal(OsString),
    Glob(GlobMatcher),
    /// `**`
    AnyFolders,
}

impl Pattern {
    fn parse(text: &str) -> Result<Self, Error> {
        let wrong = |why: &str| Error::Pattern { pattern: text.to_owned(), why: why.to_owned() };
        let (optional, path) = text.strip_prefix('?').map_or((false, text), |path| (true, path));
        let path = path.strip_prefix('/').ok_or_else(|| wrong("is not an absolute path"))?;
        let mut names = Vec::new();
        for name in path.split('/').filter(|name| !name.is_empty() && *name != ".") {
            names.push(match name {
                ".." => return Err(wrong("contains `..`")),
                "**" => Name::AnyFolders,
                _ if name.contains(['*', '?', '[', '{', '\\']) => {
                    let glob = GlobBuilder::new(name).literal_separator(true).build();
                    Name::Glob(glob.map_err(|error| wrong(&format!("is no glob: {}", error.kind())))?.compile_matcher())
                }
                _ => Name::Literal(name.into()),
            });
        }
        // `/folder/**` is all of the folder, and so is the folder.
        while matches!(names.last(), Some(Name::AnyFolders)) {
            names.pop();
        }
        if names.is_empty() {
            return Err(wrong("names the whole root"));
        }
        Ok(Pattern { optional, names })
    }

    fn is_literal(&self) -> bool {
        self.names.iter().all(|name| matches!(name, Name::Literal(_)))
    }

    fn matches(&self, root: &Root) -> Result<Vec<PathBuf>, Error> {
        let mut matches = vec![PathBuf::new()];
        for name in &self.names {
            let mut deeper = Vec::new();
            for path in matches {
                match name {
                    Name::Literal(name) => deeper.push(path.join(name)),
                    Name::Glob(glob) => {
                        let fits = |path: &PathBuf| path.file_name().is_some_and(|name| is_match(glob, name));
                        deeper.extend(children_if_any(root, &path)?.into_iter().filter(fits));
                    }
                    Name::AnyFolders => deeper.extend(folders_below(root, path)?),
                }
            }
            matches = deeper;
        }
        let mut existing = Vec::new();
        for path in matches {
            if root.stat_if_any(&path).map_err(Error::io(Root::seen(&path), "examined"))?.is_some() {
                existing.push(path);
            }
        }
        Ok(existing)
    }
}

fn is_match(glob: &GlobMatcher, name: &OsStr) -> bool {
    // `Candidate` takes a name of any bytes; a name is never empty.
    !name.as_bytes().is_empty() && glob.is_match(Path::new(name))
}

/// `top` and every folder below it, links not followed.
fn folders_below(root: &Root, top: PathBuf) -> Result<Vec<PathBuf>, Error> {
    let mut folders = Vec::new();
    let mut waiting = vec![top];
    while let Some(folder) = waiting.pop() {
        for child in children_if_any(root, &folder)? {
            let found = root.stat_if_any(&child).map_err(Error::io(Root::seen(&child), "examined"))?;
            if found.is_some_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory) {
                waiting.push(child);
            }
        }
        folders.push(folder);
    }
    Ok(folders)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn tree(paths: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for path in paths {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        }
        root
    }

    /// Pattern in, paths out; folders end with a slash.
    fn check(root: &tempfile::TempDir, pattern: &str, expected: &str) {
        let root = Root::open(root.path()).unwrap();
        let found = match select(&root, &[pattern.to_owned()]) {
            Err(error) => error.to_string().replace(&format!("{:?}", root.path()), "ROOT"),
            Ok(selection) => {
                let words = selection.entries.iter().map(|(path, stat)| {
                    let folder = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
                    format!("{}{}", path.display(), if folder { "/" } else { "" })
                });
                words.collect::<Vec<_>>().join(" ")
            }
        };
        assert_eq!(found, expected, "{pattern}");
    }

    #[test]
    fn patterns_as_operators_write_them() {
        let root =
            tree(&["hab/a.box.key", "hab/a.pub", "hab/.hidden.pub", "hab/user/api/user.toml", "hab/user/db/user.toml"]);
        check(&root, "/hab/*.key", "hab/a.box.key");
        check(&root, "/hab/*.pub", "hab/.hidden.pub hab/a.pub");
        check(&root, "/hab/a.?ub", "hab/a.pub");
        check(&root, "/hab/a.[a-p]*", "hab/a.box.key hab/a.pub");
        check(&root, "/hab/user/*/user.toml", "hab/user/api/user.toml hab/user/db/user.toml");
        check(&root, "/**/user.toml", "hab/user/api/user.toml hab/user/db/user.toml");
        check(
            &root,
            "/hab/user/**",
            "hab/user/ hab/user/api/ hab/user/api/user.toml hab/user/db/ hab/user/db/user.toml",
        );
        check(&root, "/hab/user/a*", "hab/user/api/ hab/user/api/user.toml");
        check(&root, "//hab/./a.pub", "hab/a.pub");
        check(&root, "?/hab/none", "");
    }

    #[test]
    fn a_pattern_that_names_nothing_is_never_silent() {
        let root = tree(&["hab/user/api/user.toml"]);
        for pattern in ["/hab/*.toml", "/hab/none", "/none/*/x", "/hab/user/api/user.toml/x", "/hab/a?i/user.toml"] {
            check(&root, pattern, &format!("file pattern `{pattern}` matches nothing below ROOT"));
        }
        check(&root, "hab", "file pattern `hab` is not an absolute path");
        check(&root, "/hab/../etc", "file pattern `/hab/../etc` contains `..`");
        check(&root, "/**", "file pattern `/**` names the whole root");
        check(&root, "/a[", "file pattern `/a[` is no glob: unclosed character class; missing ']'");
    }

    #[test]
    fn a_link_that_was_named_must_not_lead_to_what_is_not_captured() {
        let root = tree(&["etc/releases/1/key", "etc/other"]);
        std::os::unix::fs::symlink("releases/1", root.path().join("etc/current")).unwrap();
        std::os::unix::fs::symlink("/etc/releases/1/key", root.path().join("etc/key")).unwrap();
        check(&root, "/etc/key", "\"/etc/key\" is a link to \"/etc/releases/1/key\", which is not part of the export");
        let open = Root::open(root.path()).unwrap();
        let both = select(&open, &["/etc/key".into(), "/etc/releases".into()]).unwrap();
        assert_eq!(both.remarks, []);
        let by_glob = select(&open, &["/etc/k*".into()]).unwrap();
        assert_eq!(by_glob.remarks.len(), 1, "{:?}", by_glob.remarks);
        // Through a link on the way, as the application would.
        check(&root, "/etc/current/key", "etc/current/key");
        check(&root, "/etc/*/key", "etc/current/key");
    }
}
