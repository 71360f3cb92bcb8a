//! From the configuration as written to the configuration as meant: every rule a person can break is checked here.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use toml::Spanned;

use super::address::{BucketAddress, BucketUrl, DatabaseAddress, ExportAddress, SEQUENCE_GAP, Topology};
use super::apart::apart;
use super::as_written as raw;
use super::capture::{capture, rate_of};
use super::error::{ConfigError, Place, nearest};
use super::gate::gate;
use super::jobs::schedule;
use super::limits::mirror;
use super::notify::notify;
use super::profile::Profile;
use super::reach::reach;
use super::reference::Reference;
use super::retention::retention;
use super::source_name::{SourceName, is_plain_name};
use super::targets::targets;
use super::vault::{site_vault, vault};
use super::witness::{self, site_witness, witness};
use super::{Config, Site, VaultConfig, WitnessAddress, WitnessConfig};

/// Where a site keeps its state, and where `keygen` tells a person to put its keys, unless the file says otherwise.
const STATE: &str = "/var/lib/warmspare";
const IDENTITY: &str = "/etc/warmspare/identity.txt";
const SIGNING_KEY: &str = "/etc/warmspare/signing.key";

pub(super) fn config(path: &Path, text: &str) -> Result<Config, ConfigError> {
    let place = Place { path, text };
    let file: raw::File = toml::from_str(text).map_err(|e| place.toml_error(&e))?;
    let system = plain_name(&place, &file.system, "system")?;
    let name = file.profile.as_ref().map_or("minimal", |profile| profile.get_ref());
    let profile = Profile::load(name).map_err(|e| {
        let at = file.profile.as_ref().map(|profile| profile.span().start);
        place.error(at, e.to_string(), "Use a built-in profile, or write a folder (with a slash) of your own.")
    })?;
    let vault = vault(&place, &file.vault)?;
    let capture = capture(&place, file.capture.unwrap_or_default())?;
    let retention = retention(&place, file.retention.unwrap_or_default())?;
    let mirror = mirror(&place, file.mirror.unwrap_or_default())?;
    let schedule = schedule(&place, &system, &profile, &file.jobs)?;
    let witness = file.witness.as_ref().map(|raw| witness(&place, raw.get_ref())).transpose()?;
    let mut sites = BTreeMap::new();
    for (name, raw) in &file.sites {
        let site = site(&place, &vault, witness.as_ref(), name, raw)?;
        sites.insert(site.name.clone(), site);
    }
    two_sites(&place, &sites)?;
    keys_apart(&place, &file.vault, &vault, &sites)?;
    let live = live(&place, file.live.as_ref(), file.witness.is_some(), &sites)?;
    if let Some(raw) = &file.witness {
        witness::apart(&place, raw.get_ref().url.span().start, &sites)?;
    }
    if let Some((name, keys)) = file.vault.signers.iter().find(|(name, _)| !sites.contains_key(*name)) {
        return Err(unknown_site(&place, keys.span().start, "signers", name, &sites));
    }
    if let Some(missing) = sites.keys().find(|name| vault.signers.of(name).is_empty()) {
        let what = format!("`signers` has no verifying key for the site `{missing}`");
        return Err(place.error(
            None,
            what,
            &format!("Make one with `warmspare keygen --site {missing}` and pin it under [vault]."),
        ));
    }
    let targets = targets(&place, &profile.targets, file.targets.as_ref(), &captured(&profile, &sites))?;
    let notify = notify(&place, file.notify.iter())?;
    Ok(Config {
        path: path.to_owned(),
        system,
        profile,
        live,
        witness,
        vault,
        capture,
        retention,
        mirror,
        schedule,
        targets,
        notify,
        sites,
    })
}

/// The sources of a recovery point. Both sites have the same.
pub(super) fn captured(profile: &Profile, sites: &BTreeMap<String, Site>) -> Vec<SourceName> {
    let all = sites.values().next().map(Site::sources).unwrap_or_default();
    all.into_iter().filter(|source| profile.captures(source)).collect()
}

/// Who is live is said in one place: by this line, or by the witness.
fn live(
    place: &Place,
    written: Option<&Spanned<String>>,
    has_witness: bool,
    sites: &BTreeMap<String, Site>,
) -> Result<Option<String>, ConfigError> {
    match (written, has_witness) {
        (Some(live), true) => {
            let what = "`live` says who is live, and so does [witness]".to_owned();
            let next = "Take `live` out: with a witness the lease decides. To do without one, take [witness] and each site's \
                        `witness` out instead.";
            Err(place.error(Some(live.span().start), what, next))
        }
        (None, false) => {
            let what = "nothing says who is live".to_owned();
            let next = "Write live = \"NAME\", or a [witness] that decides it; docs/CONFIGURATION.md shows both.";
            Err(place.error(None, what, next))
        }
        (None, true) => Ok(None),
        (Some(live), false) if sites.contains_key(live.get_ref()) => Ok(Some(live.get_ref().clone())),
        (Some(live), false) => Err(unknown_site(place, live.span().start, "live", live.get_ref(), sites)),
    }
}

fn unknown_site(place: &Place, at: usize, key: &str, name: &str, sites: &BTreeMap<String, Site>) -> ConfigError {
    let known: Vec<&str> = sites.keys().map(String::as_str).collect();
    let next = match nearest(name, &known) {
        Some(site) => format!("Did you mean `{site}`?"),
        None => format!("The sites are {}.", known.join(" and ")),
    };
    place.error(Some(at), format!("`{key}` names the site `{name}`, which is not under [sites]"), &next)
}

fn plain_name(place: &Place, name: &Spanned<String>, what: &str) -> Result<String, ConfigError> {
    if is_plain_name(name.get_ref()) {
        return Ok(name.get_ref().clone());
    }
    let what = format!("`{}` cannot be the name of a {what}", name.get_ref());
    let next = "Use at most 40 lower-case letters, digits, `-` and `_`, beginning with a letter or digit.";
    Err(place.error(Some(name.span().start), what, next))
}

pub(super) fn parsed<T: FromStr<Err: std::fmt::Display>>(
    place: &Place,
    key: &str,
    text: &Spanned<String>,
    next: &str,
) -> Result<T, ConfigError> {
    let wrong = |e: T::Err| place.error(Some(text.span().start), format!("`{key}` is {e}"), next);
    text.get_ref().parse().map_err(wrong)
}

/// A secret by reference; one that stands in the file itself is refused without being repeated.
pub(super) fn reference(
    place: &Place,
    section: &str,
    key: &str,
    text: Option<&Spanned<String>>,
) -> Result<Option<Reference>, ConfigError> {
    let Some(text) = text else { return Ok(None) };
    let inline = |_| {
        let file = format!("/etc/warmspare/{}", section.rsplit('.').next().unwrap_or("secret"));
        let what = format!("`{key}` under [{section}] holds the secret itself");
        let next = format!(
            "Move it into a file only warmspare can read (`install -m 600 /dev/stdin {file}`), write \
             {key} = \"file:{file}\" (or env:NAME, command:PROGRAM), and change the secret: this file has shown it."
        );
        place.error(Some(text.span().start), what, &next)
    };
    Reference::parse(text.get_ref()).map(Some).map_err(inline)
}

fn site(
    place: &Place,
    vault: &VaultConfig,
    witness: Option<&WitnessConfig>,
    name: &Spanned<String>,
    raw: &raw::Site,
) -> Result<Site, ConfigError> {
    let name = plain_name(place, name, "site")?;
    let section = format!("sites.{name}");
    if let Some(state) = raw.state.as_ref().filter(|state| !state.get_ref().is_absolute()) {
        let what = format!("`state` under [{section}] is not an absolute path");
        return Err(place.error(Some(state.span().start), what, "Write it from the root: /var/lib/warmspare."));
    }
    let secret = |key: &str, raw: Option<&Spanned<String>>, default: &str| {
        Ok(reference(place, &section, key, raw)?.or_else(|| Some(Reference::File(PathBuf::from(default)))))
    };
    let recipient = parsed(place, "recipient", &raw.recipient, "Make one with `warmspare keygen`.")?;
    let mut databases = BTreeMap::new();
    for (name, raw) in &raw.databases {
        let database = database(place, &section, name, raw)?;
        databases.insert(database.name.clone(), database);
    }
    let mut buckets = BTreeMap::new();
    for (name, raw) in &raw.buckets {
        let bucket = bucket(place, &section, name, raw)?;
        buckets.insert(bucket.name.clone(), bucket);
    }
    let mut exports = BTreeMap::new();
    for (name, raw) in &raw.exports {
        let export = export(place, &section, name, raw)?;
        exports.insert(export.name.clone(), export);
    }
    Ok(Site {
        name,
        state: raw.state.as_ref().map_or_else(|| PathBuf::from(STATE), |state| state.get_ref().clone()),
        recipient,
        identity: secret("identity", raw.identity.as_ref(), IDENTITY)?,
        signing_key: secret("signing_key", raw.signing_key.as_ref(), SIGNING_KEY)?,
        vault: site_vault(place, &section, vault, raw.vault.as_ref())?,
        witness: witness_of(place, &section, witness, raw)?,
        gate: raw.gate.as_ref().map(|raw| gate(place, &section, raw)).transpose()?,
        databases,
        buckets,
        exports,
    })
}

fn witness_of(
    place: &Place,
    section: &str,
    witness: Option<&WitnessConfig>,
    raw: &raw::Site,
) -> Result<Option<WitnessAddress>, ConfigError> {
    match (witness, &raw.witness) {
        (Some(witness), raw) => site_witness(place, section, witness, raw.as_ref()).map(Some),
        (None, None) => Ok(None),
        (None, Some(raw)) => {
            let what = format!("[{section}.witness] says how to reach a witness, and there is none");
            let next = "Write [witness] with its `url`, or take this out.";
            Err(place.error(Some(raw.span().start), what, next))
        }
    }
}

fn database(
    place: &Place,
    site: &str,
    name: &Spanned<String>,
    raw: &raw::Database,
) -> Result<DatabaseAddress, ConfigError> {
    let section = format!("{site}.databases.{}", name.get_ref());
    let url = raw.url.get_ref();
    if has_password(url) {
        let what = format!("`url` under [{section}] holds the password itself");
        let next = "Take it out of the URL and name it by reference: password = \"file:/etc/warmspare/pg\" (or env:NAME, \
                    command:PROGRAM). Change the password: this file has shown it.";
        return Err(place.error(Some(raw.url.span().start), what, next));
    }
    let name = plain_name(place, name, "database")?;
    Ok(DatabaseAddress {
        password: reference(place, &section, "password", raw.password.as_ref())?,
        application_roles: raw.application_roles.clone(),
        sequence_gap: raw.sequence_gap.unwrap_or(SEQUENCE_GAP),
        programs: raw.programs.clone(),
        rate: rate_of(place, &section, raw.rate.as_ref())?,
        ..database_address(&name, url)
    })
}

/// A database at `url`, of which nothing else is said.
pub(super) fn database_address(name: &str, url: &str) -> DatabaseAddress {
    DatabaseAddress {
        name: name.to_owned(),
        url: url.to_owned(),
        password: None,
        application_roles: Vec::new(),
        sequence_gap: SEQUENCE_GAP,
        programs: None,
        rate: None,
    }
}

/// Whether a connection string carries a password, as `user:password@` or `password=`.
pub(super) fn has_password(url: &str) -> bool {
    let authority = url.split_once("://").map(|(_, rest)| rest.split('/').next().unwrap_or(rest));
    let user = authority.and_then(|authority| authority.rsplit_once('@')).map(|(user, _)| user);
    let packed: String = url.split_whitespace().collect::<String>().to_ascii_lowercase();
    user.is_some_and(|user| user.contains(':')) || packed.contains("password=")
}

fn bucket(place: &Place, site: &str, name: &Spanned<String>, raw: &raw::Bucket) -> Result<BucketAddress, ConfigError> {
    let section = format!("{site}.buckets.{}", name.get_ref());
    let url = bucket_url(place, &section, "bucket", &raw.url)?;
    let attic = raw.attic.as_ref().map(|raw| bucket_url(place, &section, "attic", raw)).transpose()?;
    let name = plain_name(place, name, "bucket")?;
    let reach = reach(place, &section, &url, raw)?;
    Ok(BucketAddress {
        credentials: reference(place, &section, "credentials", raw.credentials.as_ref())?,
        topology: topology(place, &section, raw.topology.as_ref())?,
        attic,
        canary: raw.canary.clone(),
        endpoint: reach.endpoint,
        region: reach.region,
        addressing: reach.addressing,
        ca_file: reach.ca_file,
        ..BucketAddress::at(&name, url)
    })
}

fn topology(place: &Place, section: &str, raw: Option<&Spanned<String>>) -> Result<Topology, ConfigError> {
    let Some(raw) = raw else { return Ok(Topology::default()) };
    let found = Topology::WORDS.iter().find(|(word, _)| word == raw.get_ref());
    found.map(|(_, topology)| *topology).ok_or_else(|| {
        let what = format!("`topology` under [{section}] is `{}`", raw.get_ref());
        let next = "Write \"mirror\" (we copy; the default), \"shared\" (both sites use one bucket) or \"external\" (the store replicates).";
        place.error(Some(raw.span().start), what, next)
    })
}

fn bucket_url(place: &Place, section: &str, what: &str, raw: &Spanned<String>) -> Result<BucketUrl, ConfigError> {
    let text = raw.get_ref();
    BucketUrl::parse(text).ok_or_else(|| {
        let wrong = format!("the {what} `{text}` under [{section}] is neither a folder nor a bucket");
        let next = "Write an absolute path, s3://BUCKET, gs://BUCKET or az://CONTAINER, the last three with or without a /PREFIX; of \
                    Google and Azure one of letters, digits, `.`, `-`, `_` and `/`.";
        place.error(Some(raw.span().start), wrong, next)
    })
}

fn export(place: &Place, site: &str, name: &Spanned<String>, raw: &raw::Export) -> Result<ExportAddress, ConfigError> {
    let at = Some(name.span().start);
    let section = format!("{site}.exports.{}", name.get_ref());
    if raw.files.is_empty() && raw.commands.is_empty() {
        let what = format!("[{section}] captures nothing");
        return Err(place.error(
            at,
            what,
            "Name files = [\"/etc/app/*.conf\"] or commands = { name = [\"program\"] }.",
        ));
    }
    if raw.commands.values().any(Vec::is_empty) {
        let what = format!("a command of [{section}] has no words");
        return Err(place.error(
            at,
            what,
            "Write the program and its arguments: [\"snap\", \"get\", \"-d\", \"app\"].",
        ));
    }
    if let Some(name) = raw.commands.keys().find(|name| !is_plain_name(name)) {
        let what = format!("`{name}` cannot be the name of a command of [{section}]: it becomes a file name");
        return Err(place.error(at, what, "Use lower-case letters, digits, `-` and `_`."));
    }
    Ok(ExportAddress {
        name: plain_name(place, name, "export")?,
        root: raw.root.clone().unwrap_or_else(|| PathBuf::from("/")),
        files: raw.files.clone(),
        commands: raw.commands.clone(),
    })
}

/// An escrow that is a site's own would open at that site what it wrote; one signing key could speak for both sites.
fn keys_apart(
    place: &Place,
    raw: &raw::Vault,
    vault: &VaultConfig,
    sites: &BTreeMap<String, Site>,
) -> Result<(), ConfigError> {
    for (text, escrow) in raw.escrow.iter().zip(&vault.escrow) {
        if let Some(site) = sites.values().find(|site| site.recipient == *escrow) {
            let what =
                format!("the escrow has the same recipient as {}: it must be kept away from both sites", site.name);
            let next = "Make one with `warmspare keygen --escrow`.";
            return Err(place.error(Some(text.span().start), what, next));
        }
    }
    let mut signers = vault.signers.iter();
    let (Some((one, keys)), Some((two, others))) = (signers.next(), signers.next()) else { return Ok(()) };
    if keys.iter().any(|key| others.contains(key)) {
        let what = format!("`signers` has the same verifying key for {one} and {two}");
        let at = raw.signers.get(two).map(|keys| keys.span().start);
        return Err(place.error(at, what, "Make one for each site with `warmspare keygen --site NAME`."));
    }
    Ok(())
}

/// Two sites with the same sources: what is captured at one has a place at the other.
fn two_sites(place: &Place, sites: &BTreeMap<String, Site>) -> Result<(), ConfigError> {
    let mut all = sites.values();
    let (Some(one), Some(two), None) = (all.next(), all.next(), all.next()) else {
        let what = format!("[sites] names {} sites", sites.len());
        return Err(place.error(None, what, "Name exactly two: the primary and its warm spare."));
    };
    if one.recipient == two.recipient {
        let what = format!("{} and {} have the same recipient: a site could open what it wrote", one.name, two.name);
        return Err(place.error(None, what, "Make one identity for each site with `warmspare keygen --site NAME`."));
    }
    let (ours, theirs) = (one.sources(), two.sources());
    let only = |a: &[SourceName], b: &[SourceName]| a.iter().find(|source| !b.contains(source)).cloned();
    let lonely = only(&ours, &theirs).map(|s| (s, one, two)).or_else(|| only(&theirs, &ours).map(|s| (s, two, one)));
    if let Some((source, has, lacks)) = lonely {
        let what = format!("{source} is at {} but not at {}", has.name, lacks.name);
        return Err(place.error(
            None,
            what,
            &format!("Add it under [sites.{}]: the same name, its own address.", lacks.name),
        ));
    }
    apart(place, one, two)?;
    if ours.is_empty() {
        let what = "the sites name no database, bucket or export".to_owned();
        return Err(place.error(None, what, "docs/CONFIGURATION.md shows how to name them."));
    }
    Ok(())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::error::Explain;
    use crate::keys::{Identity, SigningKey};

    pub(in crate::config) fn sample() -> String {
        let age = || Identity::generate().recipient();
        let key = || SigningKey::generate().unwrap().verifying_key();
        format!(
            r#"system = "builder"
live = "ams"

[vault]
url = "/srv/vault"
escrow = ["{}"]
signers = {{ ams = "{}", fra = "{}" }}

[sites.ams]
state = "/var/lib/warmspare"
recipient = "{}"
signing_key = "file:/etc/warmspare/signing.key"
databases.builder = {{ url = "postgresql://warmspare@db/builder", password = "env:PGPASS" }}
buckets.artifacts = {{ url = "s3://artifacts/live", endpoint = "http://127.0.0.1:9000" }}
exports.configs = {{ files = ["/etc/app/*"] }}

[sites.fra]
state = "/var/lib/warmspare"
recipient = "{}"
databases.builder = {{ url = "postgresql://warmspare@db/builder" }}
buckets.artifacts = {{ url = "/srv/artifacts" }}
exports.configs = {{ root = "/srv/fra", files = ["/etc/app/*"] }}
"#,
            age(),
            key(),
            key(),
            age(),
            age()
        )
    }

    fn parse(text: &str) -> Result<Config, ConfigError> {
        Config::parse(Path::new("w.toml"), text)
    }

    #[test]
    fn a_short_file_has_every_default() {
        let config = parse(&sample()).unwrap();
        assert_eq!(config.profile.name, "minimal");
        assert!(config.capture.workers >= 2 && config.capture.chunks == crate::config::ChunkSize::Auto);
        let ams = config.site("ams").unwrap();
        assert_eq!(config.other("ams").unwrap().name, "fra");
        let bucket = &ams.buckets["artifacts"];
        assert_eq!(bucket.url, BucketUrl::S3 { bucket: "artifacts".into(), prefix: "live/".into() });
        assert_eq!(bucket.region, "us-east-1");
        assert_eq!(ams.exports["configs"].root, Path::new("/"));
        let sources: Vec<String> = config.sources().iter().map(ToString::to_string).collect();
        assert_eq!(sources, ["database.builder", "bucket.artifacts", "export.configs"]);
    }

    /// What is said when `from` is replaced by `to` in the sample.
    fn said(from: &str, to: &str) -> String {
        let text = sample();
        assert!(text.contains(from), "the sample has {from}");
        let error = parse(&text.replacen(from, to, 1)).unwrap_err();
        assert_eq!(error.class().exit_code(), 2);
        format!("{error}\n{}", error.next_step().unwrap())
    }

    #[test]
    fn what_a_person_gets_wrong_is_said_with_its_line() {
        let check = |from: &str, to: &str, expected: &str| assert_eq!(said(from, to), expected);
        check("system", "sytem", "w.toml:1: unknown key `sytem`\nDid you mean `system`?");
        check("password =", "pasword =", "w.toml:13: unknown key `pasword`\nDid you mean `password`?");
        check("state =", "kubernetes =", {
            "w.toml:10: unknown key `kubernetes`\n\
             Known here: state, recipient, identity, signing_key, vault, witness, gate, databases, buckets, exports."
        });
        check("live = \"ams\"", "live = \"amd\"", {
            "w.toml:2: `live` names the site `amd`, which is not under [sites]\nDid you mean `ams`?"
        });
        check("\"builder\"", "\"Builder\"", {
            "w.toml:1: `Builder` cannot be the name of a system\n\
             Use at most 40 lower-case letters, digits, `-` and `_`, beginning with a letter or digit."
        });
        check("buckets.artifacts = { url = \"/srv", "buckets.artefacts = { url = \"/srv", {
            "w.toml: bucket.artifacts is at ams but not at fra\n\
             Add it under [sites.fra]: the same name, its own address."
        });
        check("password = \"env:PGPASS\"", "rate = \"fast\"", {
            "w.toml:13: `rate` under [sites.ams.databases.builder]: `fast` is not a size; write it like \"64MiB\"\n\
             Write the bytes a second, like rate = \"50MiB\"."
        });
        check("live = ", "profile = \"nonesuch\"\nlive = ", {
            "w.toml:2: no profile `nonesuch` is built in (there is: minimal)\n\
             Use a built-in profile, or write a folder (with a slash) of your own."
        });
    }

    #[test]
    fn an_inline_secret_is_refused_and_not_repeated() {
        let message = said("\"env:PGPASS\"", "\"hunter2\"");
        assert!(!message.contains("hunter2"), "{message}");
        assert!(message.starts_with(
            "w.toml:13: `password` under [sites.ams.databases.builder] holds the secret itself\nMove it into a file"
        ));
        let spaced = "host=db password = 'hunter2'";
        for url in ["postgresql://warmspare:hunter2@db/builder", "host=db password=hunter2", spaced] {
            let message = said("postgresql://warmspare@db/builder", url);
            assert!(message.contains("holds the password itself") && !message.contains("hunter2"), "{message}");
        }
    }

    #[test]
    fn keys_and_buckets_that_two_must_not_share() {
        let text = sample();
        let value = |key: &str| text.split(key).nth(1).unwrap().split('"').next().unwrap();
        let check = |from: &str, to: &str, expected: &str| {
            let message = parse(&text.replacen(from, to, 1)).unwrap_err().to_string();
            assert!(message.starts_with(expected), "{message}");
        };
        check(value("escrow = [\""), value("recipient = \""), "w.toml:6: the escrow has the same recipient as ams");
        check(value("fra = \""), value("ams = \""), "w.toml:7: `signers` has the same verifying key for ams and fra");
        let s3 = "\"s3://artifacts/live\", endpoint = \"http://127.0.0.1:9000\"";
        check(s3, "\"/srv/artifacts\"", "w.toml: bucket.artifacts is /srv/artifacts at both sites");
    }

    #[test]
    fn without_an_escrow_there_is_no_vault() {
        let text = sample();
        let line = text.lines().find(|line| line.starts_with("escrow")).unwrap();
        let error = parse(&text.replacen(line, "", 1)).unwrap_err();
        let message = format!("{error}\n{}", error.next_step().unwrap());
        assert!(message.starts_with("w.toml: there is no escrow recipient"), "{message}");
        assert!(message.contains("keygen --escrow"), "{message}");
    }
}
