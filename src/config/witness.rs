//! The third place that says who is live, and how each site gets there.
//!
//! It must not be lost together with a site or the vault, and nothing of what it protects may lie in it: a witness in the bucket of
//! the vault would be pruned, expired or put back with it, and then two sites would be live.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use toml::Spanned;

use super::Site;
use super::address::{BucketUrl, DatabaseAddress, VaultAddress, VaultUrl};
use super::as_written as raw;
use super::error::{ConfigError, Place};
use super::reach::ca_file;
use super::reference::Reference;
use super::validate::{database_address, has_password, reference};
use super::vault::{is_plain_prefix, key_place, split_prefix};
use crate::units::Span;

/// T unless it is said.
const TTL: Duration = Duration::from_secs(60);
/// Shorter, a request to the witness would have less than half a second; longer, a failover waits for more than an hour.
const TTL_MIN: Duration = Duration::from_secs(6);
const TTL_MAX: Duration = Duration::from_secs(3_600);

/// The witness, as both sites see it.
#[derive(Clone, Debug)]
pub struct WitnessConfig {
    /// Where it is.
    pub url: WitnessUrl,
    /// T: for how long after the sending of a renewal the holder believes to be live.
    pub ttl: Duration,
    /// D: how long before that its gate closes, for load balancers to notice and for what runs to end.
    pub drain: Duration,
}

/// The place of the record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WitnessUrl {
    /// Numbered objects in a folder (trials on one machine) or in an object store.
    Keys(VaultUrl),
    /// A key of etcd, version 3.
    Etcd {
        /// `HOST:PORT` of each member that may be asked.
        members: Vec<String>,
        /// What our keys start with; ends with `/` unless it is empty.
        prefix: String,
        /// Whether they are reached by TLS.
        tls: bool,
    },
    /// A row of a database; its connection string, without the password.
    Postgres(String),
}

/// The witness as one site reaches it.
#[derive(Clone, Debug)]
pub enum WitnessAddress {
    /// In a folder or an object store.
    Keys(VaultAddress),
    /// In etcd.
    Etcd(EtcdAddress),
    /// In a database.
    Postgres(DatabaseAddress),
}

/// An etcd cluster as one site reaches it.
#[derive(Clone, Debug)]
pub struct EtcdAddress {
    /// `HOST:PORT` of each member that may be asked.
    pub members: Vec<String>,
    /// What our keys start with; ends with `/` unless it is empty.
    pub prefix: String,
    /// Whether they are reached by TLS.
    pub tls: bool,
    /// A file of the authorities to trust instead of this host's.
    pub ca_file: Option<PathBuf>,
    /// `USER:PASSWORD`, where the cluster asks for them.
    pub credentials: Option<Reference>,
    /// A certificate that says who we are, with what leads from it to an authority, and the reference to its key.
    pub certificate: Option<(PathBuf, Reference)>,
}

impl fmt::Display for WitnessUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WitnessUrl::Keys(url) => url.fmt(f),
            WitnessUrl::Etcd { members, prefix, tls } => {
                let scheme = if *tls { "etcds" } else { "etcd" };
                write!(f, "{scheme}://{}/{prefix}", members.join(","))
            }
            WitnessUrl::Postgres(url) => f.write_str(url),
        }
    }
}

pub(super) fn witness(place: &Place, raw: &raw::Witness) -> Result<WitnessConfig, ConfigError> {
    let text = raw.url.get_ref();
    let at = Some(raw.url.span().start);
    if has_password(text) {
        let what = "`url` under [witness] holds the password itself".to_owned();
        let next = "Take it out of the URL, name it by reference at each site: witness = { credentials = \"file:/etc/warmspare/witness\" }, \
                    and change the password: this file has shown it.";
        return Err(place.error(at, what, next));
    }
    let url = witness_url(text).ok_or_else(|| {
        let what = format!("the witness `{text}` is no place a record can lie in");
        let next = "Write s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, az://CONTAINER/PREFIX, etcd://HOST:PORT,HOST:PORT/PREFIX (etcds:// \
                    with TLS), postgresql://ROLE@HOST/DATABASE, or, for trials on one machine, an absolute path.";
        place.error(at, what, next)
    })?;
    let (ttl, drain) = timing(place, raw)?;
    Ok(WitnessConfig { url, ttl, drain })
}

/// The rest of what has to fit together is a fixed part of T: a renewal every T/6, and T/12 for a request.
fn timing(place: &Place, raw: &raw::Witness) -> Result<(Duration, Duration), ConfigError> {
    let span = |key: &str, raw: Option<&Spanned<String>>| {
        let Some(raw) = raw else { return Ok(None) };
        let wrong = |e: crate::units::UnitError| {
            let next = "Write it like ttl = \"60s\".";
            place.error(Some(raw.span().start), format!("`{key}` under [witness]: {e}"), next)
        };
        raw.get_ref().parse::<Span>().map(|span| Some(span.0)).map_err(wrong)
    };
    let ttl = span("ttl", raw.ttl.as_ref())?.unwrap_or(TTL);
    if !(TTL_MIN..=TTL_MAX).contains(&ttl) {
        let what = format!("`ttl` under [witness] is `{}`", raw.ttl.as_ref().map_or("", |text| text.get_ref()));
        let next = "Write 6s to 1h; 60s is usual. The shorter, the sooner the other site may take over, and the sooner a witness \
                    that is slow or away closes this one.";
        return Err(place.error(raw.ttl.as_ref().map(|text| text.span().start), what, next));
    }
    let drain = span("drain", raw.drain.as_ref())?.unwrap_or(ttl / 6);
    // A renewal and two requests take T/3 and have to end before the gate closes.
    if drain >= ttl * 2 / 3 {
        let what = format!(
            "`drain` under [witness] is {} of a lease of {}: no time is left to renew it",
            Span(drain),
            Span(ttl)
        );
        let next = "Write less than two thirds of `ttl`, or a longer `ttl`: a renewal is due every sixth of it, and two requests of a \
                    twelfth each must end before the gate closes.";
        return Err(place.error(raw.drain.as_ref().map(|text| text.span().start), what, next));
    }
    Ok((ttl, drain))
}

fn witness_url(text: &str) -> Option<WitnessUrl> {
    if let Some(url) = key_place(text) {
        return Some(WitnessUrl::Keys(url));
    }
    let (scheme, rest) = text.split_once("://")?;
    match scheme {
        "postgresql" | "postgres" => Some(WitnessUrl::Postgres(text.to_owned())),
        "etcd" | "etcds" => {
            let (members, prefix) = split_prefix(rest).filter(|(_, prefix)| is_plain_prefix(prefix))?;
            let members: Vec<String> = members.split(',').map(str::to_owned).collect();
            members.iter().all(|member| is_member(member)).then(|| WitnessUrl::Etcd {
                members,
                prefix,
                tls: scheme == "etcds",
            })
        }
        _ => None,
    }
}

/// `host:2379`, `10.1.0.7:2379` or `[::1]:2379`.
fn is_member(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    let is_host = match bare {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.bytes().all(is_plain),
    };
    is_host && port.parse::<u16>().is_ok_and(|port| port > 0)
}

/// How the site of `section` reaches the witness.
pub(super) fn site_witness(
    place: &Place,
    section: &str,
    witness: &WitnessConfig,
    raw: Option<&Spanned<raw::SiteWitness>>,
) -> Result<WitnessAddress, ConfigError> {
    let part = format!("{section}.witness");
    let nothing = raw::SiteWitness::default();
    let way = raw.map_or(&nothing, Spanned::get_ref);
    applies(place, &part, &witness.url, way)?;
    let credentials = reference(place, &part, "credentials", way.credentials.as_ref())?;
    match &witness.url {
        WitnessUrl::Keys(url) => {
            let lacks = credentials.is_none() && !matches!(url, VaultUrl::Folder(_));
            if lacks {
                let what = format!("the witness is {url}, and [{section}] has no credentials for it");
                let next = format!(
                    "Write witness = {{ endpoint = \"https://…\", credentials = \"file:/etc/warmspare/witness\" }} under [{section}]; \
                     docs/CONFIGURATION.md says what the file holds."
                );
                return Err(place.error(raw.map(|raw| raw.span().start), what, &next));
            }
            let endpoint = way.endpoint.as_ref();
            if let Some(endpoint) = endpoint
                && let Some((why, next)) = super::reach::unfit(endpoint.get_ref())
            {
                let what = format!("`endpoint` under [{part}] {why}");
                return Err(place.error(Some(endpoint.span().start), what, next));
            }
            let endpoint = endpoint.map(|endpoint| endpoint.get_ref().clone());
            Ok(WitnessAddress::Keys(VaultAddress {
                url: url.clone(),
                ca_file: ca_file(place, &part, endpoint.as_deref(), way.ca_file.as_ref())?,
                endpoint,
                region: way.region.as_ref().map_or("us-east-1", |region| region.get_ref()).to_owned(),
                credentials,
                keeper: None,
            }))
        }
        WitnessUrl::Etcd { members, prefix, tls } => Ok(WitnessAddress::Etcd(EtcdAddress {
            members: members.clone(),
            prefix: prefix.clone(),
            tls: *tls,
            ca_file: ca_file(place, &part, None, way.ca_file.as_ref())?,
            credentials,
            certificate: certificate(place, &part, way)?,
        })),
        WitnessUrl::Postgres(url) => {
            Ok(WitnessAddress::Postgres(DatabaseAddress { password: credentials, ..database_address("witness", url) }))
        }
    }
}

/// A certificate needs its key, and a key its certificate.
fn certificate(place: &Place, part: &str, way: &raw::SiteWitness) -> Result<Option<(PathBuf, Reference)>, ConfigError> {
    let key = reference(place, part, "certificate_key", way.certificate_key.as_ref())?;
    match (&way.certificate, key) {
        (None, None) => Ok(None),
        (Some(file), Some(key)) if file.get_ref().is_absolute() => Ok(Some((file.get_ref().clone(), key))),
        (Some(file), Some(_)) => {
            let what = format!("`certificate` under [{part}] is not an absolute path");
            Err(place.error(Some(file.span().start), what, "Write it from the root: /etc/warmspare/etcd.pem."))
        }
        (file, key) => {
            let has = if file.is_some() { "certificate" } else { "certificate_key" };
            let lacks = if key.is_some() { "certificate" } else { "certificate_key" };
            let at = file.as_ref().map(|file| file.span().start);
            let at = at.or_else(|| way.certificate_key.as_ref().map(|key| key.span().start));
            let next = "Write both: certificate = \"/etc/warmspare/etcd.pem\", certificate_key = \"file:/etc/warmspare/etcd.key\".";
            Err(place.error(at, format!("[{part}] has a `{has}` and no `{lacks}`"), next))
        }
    }
}

/// Refuses what does not apply to this kind of witness.
fn applies(place: &Place, part: &str, url: &WitnessUrl, way: &raw::SiteWitness) -> Result<(), ConfigError> {
    let start = |text: &Option<Spanned<String>>| text.as_ref().map(|text| text.span().start);
    let file = |path: &Option<Spanned<PathBuf>>| path.as_ref().map(|path| path.span().start);
    let given = [
        ("endpoint", start(&way.endpoint)),
        ("region", start(&way.region)),
        ("ca_file", file(&way.ca_file)),
        ("credentials", start(&way.credentials)),
        ("certificate", file(&way.certificate)),
        ("certificate_key", start(&way.certificate_key)),
    ];
    let (kind, meant): (_, &[&str]) = match url {
        WitnessUrl::Keys(VaultUrl::Folder(_)) => ("a folder of this host", &[]),
        WitnessUrl::Keys(VaultUrl::S3 { .. }) => {
            ("a bucket of an S3 server", &["endpoint", "region", "ca_file", "credentials"])
        }
        WitnessUrl::Keys(VaultUrl::Gcs { .. }) => ("a bucket of Google", &["endpoint", "ca_file", "credentials"]),
        WitnessUrl::Keys(VaultUrl::Azure { .. }) => ("a container of Azure", &["endpoint", "ca_file", "credentials"]),
        WitnessUrl::Etcd { tls: true, .. } => {
            ("etcd with TLS", &["ca_file", "credentials", "certificate", "certificate_key"])
        }
        WitnessUrl::Etcd { tls: false, .. } => ("etcd without TLS", &["credentials"]),
        WitnessUrl::Postgres(_) => ("a database", &["credentials"]),
    };
    let lost = given.into_iter().find_map(|(key, at)| at.filter(|_| !meant.contains(&key)).map(|at| (key, at)));
    let Some((key, at)) = lost else { return Ok(()) };
    let what = format!("`{key}` under [{part}] means nothing: the witness {url} is {kind}");
    let next = match url {
        WitnessUrl::Etcd { tls: false, .. } => "Take it out, or write etcds:// as the `url` under [witness].",
        WitnessUrl::Postgres(_) => {
            "Take it out; authorities are named in the URL: ?sslmode=verify-full&sslrootcert=/path."
        }
        _ => "Take it out, or write another `url` under [witness]; docs/CONFIGURATION.md says what each kind has.",
    };
    Err(place.error(Some(at), what, next))
}

/// Refuses a witness that lies where the vault, a bucket or an attic lies: whatever expires, replicates, prunes or puts back the
/// one would do so with the other.
pub(super) fn apart(place: &Place, at: usize, sites: &BTreeMap<String, Site>) -> Result<(), ConfigError> {
    for site in sites.values() {
        let Some(WitnessAddress::Keys(witness)) = &site.witness else { continue };
        let meets = |url: &VaultUrl, endpoint: &Option<String>| share(&witness.url, url, *endpoint == witness.endpoint);
        let bucket = sites.values().flat_map(|site| site.buckets.values()).find_map(|bucket| {
            let attic = bucket.attic_address().map(|attic| attic.url);
            let mut urls = std::iter::once(&bucket.url).chain(&attic);
            urls.any(|url| meets(&of_bucket(url), &bucket.endpoint)).then(|| format!("bucket.{}", bucket.name))
        });
        let vault = meets(&site.vault.url, &site.vault.endpoint).then(|| "the vault".to_owned());
        if let Some(whose) = vault.or(bucket) {
            let what = format!("the witness {} lies where {whose} lies", witness.url);
            let next = "Give it a place of its own in a third failure domain, without lifecycle rules, replication or lock: what \
                        puts back or expires one must not do so to the other.";
            return Err(place.error(Some(at), what, next));
        }
    }
    Ok(())
}

/// Whether both lie in one bucket, whatever the prefix, because its rules hold for all of it; or one folder in the other.
fn share(one: &VaultUrl, two: &VaultUrl, is_one_server: bool) -> bool {
    match (one, two) {
        (VaultUrl::Folder(one), VaultUrl::Folder(two)) => one.starts_with(two) || two.starts_with(one),
        (VaultUrl::S3 { bucket: one, .. }, VaultUrl::S3 { bucket: two, .. })
        | (VaultUrl::Gcs { bucket: one, .. }, VaultUrl::Gcs { bucket: two, .. })
        | (VaultUrl::Azure { container: one, .. }, VaultUrl::Azure { container: two, .. }) => {
            is_one_server && one == two
        }
        _ => false,
    }
}

fn of_bucket(url: &BucketUrl) -> VaultUrl {
    match url.clone() {
        BucketUrl::Folder(folder) => VaultUrl::Folder(folder),
        BucketUrl::S3 { bucket, prefix } => VaultUrl::S3 { bucket, prefix },
        BucketUrl::Gcs { bucket, prefix } => VaultUrl::Gcs { bucket, prefix },
        BucketUrl::Azure { container, prefix } => VaultUrl::Azure { container, prefix },
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::Config;
    use super::super::validate::tests::sample;
    use super::*;
    use crate::error::Explain;

    /// The sample with a witness, and at both sites this way there.
    fn text(witness: &str, way: &str) -> String {
        let way = if way.is_empty() { String::new() } else { format!("witness = {{ {way} }}\n") };
        sample()
            .replace("live = \"ams\"\n", "")
            .replace("[vault]\n", &format!("[witness]\n{witness}\n\n[vault]\n"))
            .replace("databases.builder =", &format!("{way}databases.builder ="))
    }

    fn parse(witness: &str, way: &str) -> Result<Config, ConfigError> {
        Config::parse(Path::new("w.toml"), &text(witness, way))
    }

    fn said(error: &ConfigError) -> String {
        assert_eq!(error.class().exit_code(), 2);
        format!("{error}\n{}", error.next_step().unwrap())
    }

    #[test]
    fn where_a_witness_can_be() {
        let check = |url: &str, way: &str, expected: &str| {
            let config = parse(&format!("url = \"{url}\""), way).unwrap_or_else(|error| panic!("{url}: {error}"));
            assert_eq!(config.witness.unwrap().url.to_string(), expected);
            assert!(config.live.is_none() && config.sites.values().all(|site| site.witness.is_some()), "{url}");
        };
        check("/srv/witness", "", "/srv/witness");
        let bucket = "endpoint = \"https://10.1.0.6:9000\", ca_file = \"/ca.pem\", credentials = \"env:W\"";
        check("s3://dr-witness/builder", bucket, "s3://dr-witness/builder/");
        check("gs://dr-witness", "credentials = \"env:W\"", "gs://dr-witness/");
        check("az://dr-witness/a", "credentials = \"env:W\"", "az://dr-witness/a/");
        check("etcd://10.1.0.7:2379,w-2.example:2379/builder", "", "etcd://10.1.0.7:2379,w-2.example:2379/builder/");
        let tls =
            "ca_file = \"/ca.pem\", credentials = \"file:/w\", certificate = \"/c.pem\", certificate_key = \"file:/k\"";
        check("etcds://[::1]:2379", tls, "etcds://[::1]:2379/");
        check("postgresql://w@10.1.0.8/witness", "credentials = \"env:W\"", "postgresql://w@10.1.0.8/witness");
    }

    #[test]
    fn the_spans_have_defaults_that_fit_and_others_that_do_not_are_refused() {
        let spans = |spans: &str| {
            parse(&format!("url = \"/srv/witness\"\n{spans}"), "").map(|config| {
                let witness = config.witness.unwrap();
                (witness.ttl.as_secs(), witness.drain.as_secs())
            })
        };
        assert_eq!(spans("").unwrap(), (60, 10));
        assert_eq!(spans("ttl = \"6s\"").unwrap(), (6, 1));
        assert_eq!(spans("ttl = \"90s\"\ndrain = \"59s\"").unwrap(), (90, 59));
        let refused = |text: &str, expected: &str| assert_eq!(said(&spans(text).unwrap_err()), expected);
        refused("ttl = \"5s\"", {
            "w.toml:5: `ttl` under [witness] is `5s`\n\
             Write 6s to 1h; 60s is usual. The shorter, the sooner the other site may take over, and the sooner a witness that is \
             slow or away closes this one."
        });
        refused("drain = \"40s\"", {
            "w.toml:5: `drain` under [witness] is 40.0 s of a lease of 1m 00s: no time is left to renew it\n\
             Write less than two thirds of `ttl`, or a longer `ttl`: a renewal is due every sixth of it, and two requests of a \
             twelfth each must end before the gate closes."
        });
        assert!(said(&spans("ttl = \"a minute\"").unwrap_err()).starts_with("w.toml:5: `ttl` under [witness]: "));
    }

    #[test]
    fn who_is_live_is_said_in_one_place() {
        let both = text("url = \"/srv/witness\"", "").replace("system =", "live = \"ams\"\nsystem =");
        assert_eq!(said(&Config::parse(Path::new("w.toml"), &both).unwrap_err()), {
            "w.toml:1: `live` says who is live, and so does [witness]\n\
             Take `live` out: with a witness the lease decides. To do without one, take [witness] and each site's `witness` out \
             instead."
        });
        let none = sample().replace("live = \"ams\"\n", "");
        assert_eq!(said(&Config::parse(Path::new("w.toml"), &none).unwrap_err()), {
            "w.toml: nothing says who is live\n\
             Write live = \"NAME\", or a [witness] that decides it; docs/CONFIGURATION.md shows both."
        });
        let way = sample().replace("databases.builder =", "witness = { credentials = \"env:W\" }\ndatabases.builder =");
        let error = said(&Config::parse(Path::new("w.toml"), &way).unwrap_err());
        assert!(error.contains("[sites.ams.witness] says how to reach a witness, and there is none"), "{error}");
    }

    #[test]
    fn a_witness_that_would_be_lost_with_what_it_protects_is_refused() {
        let refused = |witness: &str, way: &str, expected: &str| {
            let error = said(&parse(witness, way).unwrap_err());
            assert!(error.starts_with(&format!("w.toml:4: the witness {expected}")), "{error}");
            assert!(error.contains("third failure domain"), "{error}");
        };
        refused("url = \"/srv/vault/witness\"", "", "/srv/vault/witness lies where the vault lies");
        refused("url = \"/srv/artifacts\"", "", "/srv/artifacts lies where bucket.artifacts lies");
        refused("url = \"/srv/artifacts.attic/x\"", "", "/srv/artifacts.attic/x lies where bucket.artifacts lies");
        let server = "endpoint = \"http://127.0.0.1:9000\", credentials = \"env:W\"";
        refused("url = \"s3://artifacts/witness\"", server, "s3://artifacts/witness/ lies where bucket.artifacts lies");
        let elsewhere = "endpoint = \"http://10.9.0.1:9000\", credentials = \"env:W\"";
        assert!(parse("url = \"s3://artifacts/witness\"", elsewhere).is_ok(), "of the same name at another server");
    }

    #[test]
    fn what_makes_no_sense_is_refused_and_no_secret_is_repeated() {
        let refused = |url: &str, way: &str, expected: &str| {
            let error = said(&parse(&format!("url = \"{url}\""), way).unwrap_err());
            assert!(error.contains(expected), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        };
        for url in ["witness", "s3://", "etcd://", "etcd://host/x", "etcd://a:0/x", "etcd://a:1/x*", "consul://a:1"] {
            refused(url, "", "is no place a record can lie in");
        }
        refused("postgresql://w:hunter2@db/w", "", "`url` under [witness] holds the password itself");
        refused("etcd://root:hunter2@10.1.0.7:2379/x", "", "`url` under [witness] holds the password itself");
        refused("s3://w", "", "[sites.ams] has no credentials for it");
        refused(
            "s3://w",
            "credentials = \"hunter2\"",
            "`credentials` under [sites.ams.witness] holds the secret itself",
        );
        refused("/srv/w", "region = \"eu\"", "`region` under [sites.ams.witness] means nothing: the witness /srv/w is");
        refused("etcd://a:1", "ca_file = \"/ca.pem\"", "or write etcds:// as the `url`");
        refused("etcds://a:1", "endpoint = \"https://a\"", "means nothing: the witness etcds://a:1/ is etcd with TLS");
        refused("etcds://a:1", "certificate = \"/c.pem\"", "has a `certificate` and no `certificate_key`");
        refused("etcds://a:1", "certificate_key = \"hunter2\"", "holds the secret itself");
        refused("etcds://a:1", "ca_file = \"ca.pem\"", "is not an absolute path");
        refused("postgresql://w@db/w", "ca_file = \"/ca.pem\"", "sslrootcert=/path");
    }
}
