//! The names of users and groups at this host.
//!
//! Ids are no use at another host: `hab` may be 998 here and 1001 there. So an export carries names, and
//! whoever restores it asks for the id that the name has there. The local files are read first; accounts
//! from elsewhere (LDAP, sssd) are asked of getent(1), where it is installed.

use std::collections::HashMap;
use std::process::{Command, Stdio};

/// Users and groups, looked up once each.
#[derive(Debug)]
pub struct Accounts {
    /// Who owns.
    pub users: Table,
    /// Which group.
    pub groups: Table,
}

impl Accounts {
    /// Reads the local accounts. A host without the files has none.
    pub fn read() -> Self {
        Accounts { users: Table::read("passwd"), groups: Table::read("group") }
    }
}

/// One of the two: `passwd` or `group`.
#[derive(Debug)]
pub struct Table {
    database: &'static str,
    local: Vec<(String, u32)>,
    asked: HashMap<String, Option<(String, u32)>>,
}

impl Table {
    fn read(database: &'static str) -> Self {
        let text = std::fs::read(format!("/etc/{database}")).unwrap_or_default();
        let local = String::from_utf8_lossy(&text).lines().filter_map(parse).collect();
        Table { database, local, asked: HashMap::new() }
    }

    /// The name of an id.
    pub fn name(&mut self, id: u32) -> Option<String> {
        if let Some((name, _)) = self.local.iter().find(|(_, known)| *known == id) {
            return Some(name.clone());
        }
        self.ask(id.to_string()).map(|(name, _)| name)
    }

    /// The id of a name.
    pub fn id(&mut self, name: &str) -> Option<u32> {
        if let Some((_, id)) = self.local.iter().find(|(known, _)| known == name) {
            return Some(*id);
        }
        // A name of digits would be taken for an id, one with a dash for an option.
        let plain = !name.starts_with('-') && name.contains(|c: char| !c.is_ascii_digit());
        self.ask(plain.then(|| name.to_owned())?).map(|(_, id)| id)
    }

    fn ask(&mut self, key: String) -> Option<(String, u32)> {
        let database = self.database;
        self.asked.entry(key).or_insert_with_key(|key| getent(database, key)).clone()
    }
}

fn getent(database: &str, key: &str) -> Option<(String, u32)> {
    let mut command = Command::new("getent");
    command.args([database, key]).env_clear().env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin").stdin(Stdio::null());
    let output = command.stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).lines().find_map(parse))?
}

/// `name:x:id:…` of passwd(5) and group(5).
fn parse(line: &str) -> Option<(String, u32)> {
    let mut fields = line.split(':');
    let name = fields.next().filter(|name| !name.is_empty())?;
    let id = fields.nth(1)?.parse().ok()?;
    Some((name.to_owned(), id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_for_local_accounts_and_nothing_for_strangers() {
        let mut accounts = Accounts::read();
        assert_eq!(accounts.users.id("root"), Some(0));
        assert_eq!(accounts.groups.name(0).as_deref(), Some("root"));
        assert_eq!(accounts.users.id("no-such-account"), None);
        assert_eq!(accounts.users.name(3_999_999_999), None);
        assert_eq!(accounts.users.id("0"), None, "a number is not a name");
        assert_eq!(accounts.users.id("--help"), None);
    }
}
