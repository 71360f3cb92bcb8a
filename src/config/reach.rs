//! How a bucket is reached: its server, the name it has in a request, whose certificate is believed. What makes no sense for this
//! kind of bucket is refused: a key that is silently ignored is one that somebody relies on.

use std::net::IpAddr;
use std::path::PathBuf;

use toml::Spanned;

use super::address::{Addressing, BucketUrl, REGION};
use super::as_written as raw;
use super::error::{ConfigError, Place};

/// What is said of the way to a bucket.
pub(super) struct Reach {
    pub endpoint: Option<String>,
    pub region: String,
    pub addressing: Addressing,
    pub ca_file: Option<PathBuf>,
}

pub(super) fn reach(place: &Place, section: &str, url: &BucketUrl, raw: &raw::Bucket) -> Result<Reach, ConfigError> {
    applies(place, section, url, raw)?;
    let endpoint = raw.endpoint.as_ref();
    if let Some(endpoint) = endpoint
        && let Some((why, next)) = unfit(endpoint.get_ref())
    {
        let what = format!("`endpoint` under [{section}] {why}");
        return Err(place.error(Some(endpoint.span().start), what, next));
    }
    let endpoint = endpoint.map(|endpoint| endpoint.get_ref().clone());
    let region = raw.region.as_ref().map_or(REGION, |region| region.get_ref()).to_owned();
    let addressing = addressing(place, section, url, endpoint.as_deref(), raw.addressing.as_ref())?;
    let ca_file = ca_file(place, section, endpoint.as_deref(), raw.ca_file.as_ref())?;
    Ok(Reach { endpoint, region, addressing, ca_file })
}

/// Refuses what does not apply to this kind of bucket.
fn applies(place: &Place, section: &str, url: &BucketUrl, raw: &raw::Bucket) -> Result<(), ConfigError> {
    let start = |text: &Option<Spanned<String>>| text.as_ref().map(|text| text.span().start);
    let given = [
        ("endpoint", start(&raw.endpoint)),
        ("region", start(&raw.region)),
        ("addressing", start(&raw.addressing)),
        ("ca_file", raw.ca_file.as_ref().map(|file| file.span().start)),
        ("credentials", start(&raw.credentials)),
    ];
    let (kind, meant): (_, &[&str]) = match url {
        BucketUrl::Folder(_) => ("a folder", &[]),
        BucketUrl::S3 { .. } => {
            ("a bucket of an S3 server", &["endpoint", "region", "addressing", "ca_file", "credentials"])
        }
        BucketUrl::Gcs { .. } => ("a bucket of Google", &["endpoint", "ca_file", "credentials"]),
        BucketUrl::Azure { .. } => ("a container of Azure", &["endpoint", "ca_file", "credentials"]),
    };
    let lost = given.into_iter().find_map(|(key, at)| at.filter(|_| !meant.contains(&key)).map(|at| (key, at)));
    if let Some((key, at)) = lost {
        let what = format!("`{key}` under [{section}] means nothing: {url} is {kind}");
        let next = "Take it out, or write the bucket's own url: s3://BUCKET, gs://BUCKET or az://CONTAINER.";
        return Err(place.error(Some(at), what, next));
    }
    if matches!(url, BucketUrl::Azure { .. }) && raw.credentials.is_none() {
        let what = format!("[{section}] has no credentials: Azure is asked by the name of an account");
        let next = "Write credentials = \"file:/etc/warmspare/azure\"; the file holds ACCOUNT:KEY.";
        return Err(place.error(Some(raw.url.span().start), what, next));
    }
    Ok(())
}

/// What is wrong with an endpoint, and how to write it.
pub(super) fn unfit(endpoint: &str) -> Option<(&'static str, &'static str)> {
    let next = "Write https://HOST, https://HOST:PORT or https://HOST/PATH.";
    let rest = ["https://", "http://"].iter().find_map(|scheme| endpoint.strip_prefix(scheme));
    let Some(rest) = rest else { return Some(("is not a URL", next)) };
    let authority = rest.split('/').next().unwrap_or_default();
    if authority.contains('@') {
        let next = "Take it out, write credentials = \"file:/etc/warmspare/bucket\", and change the secret: this file has shown it.";
        return Some(("holds a user or a password", next));
    }
    if authority.is_empty() || authority.starts_with(':') || endpoint.contains([' ', '\t', '\n']) {
        return Some(("names no host", next));
    }
    endpoint.contains(['?', '#']).then_some(("has more than a path after the host", next))
}

fn addressing(
    place: &Place,
    section: &str,
    url: &BucketUrl,
    endpoint: Option<&str>,
    raw: Option<&Spanned<String>>,
) -> Result<Addressing, ConfigError> {
    let usual = if endpoint.is_some() { Addressing::Path } else { Addressing::VirtualHost };
    let Some(raw) = raw else { return Ok(usual) };
    let refused = |what: String, next: &str| Err(place.error(Some(raw.span().start), what, next));
    match raw.get_ref().as_str() {
        "path" => return Ok(Addressing::Path),
        "virtual-host" => {}
        other => {
            let what = format!("`addressing` under [{section}] is `{other}`");
            return refused(
                what,
                "Write \"path\" (https://HOST/BUCKET/KEY) or \"virtual-host\" (https://BUCKET.HOST/KEY).",
            );
        }
    }
    if endpoint.is_some_and(is_an_address) {
        let what = format!("`addressing` under [{section}] is virtual-host, and an address has no names below it");
        return refused(what, "Write the server's name as its `endpoint`, or addressing = \"path\".");
    }
    match url {
        BucketUrl::S3 { bucket, .. } if !is_label(bucket) => {
            let what = format!(
                "the bucket {bucket} of [{section}] cannot be reached by virtual-host: it is no label of a host's name"
            );
            refused(what, "Write addressing = \"path\".")
        }
        _ => Ok(Addressing::VirtualHost),
    }
}

fn is_an_address(endpoint: &str) -> bool {
    let authority = endpoint.split("://").nth(1).unwrap_or_default().split('/').next().unwrap_or_default();
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    host.parse::<IpAddr>().is_ok()
}

/// Whether a bucket's name can stand in a host's, and in one certificate for all of them: no dots, no capitals.
fn is_label(bucket: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    bucket.len() <= 63 && bucket.bytes().all(plain) && !bucket.starts_with('-') && !bucket.ends_with('-')
}

pub(super) fn ca_file(
    place: &Place,
    section: &str,
    endpoint: Option<&str>,
    raw: Option<&Spanned<PathBuf>>,
) -> Result<Option<PathBuf>, ConfigError> {
    let Some(raw) = raw else { return Ok(None) };
    let refused = |what: String, next: &str| Err(place.error(Some(raw.span().start), what, next));
    if !raw.get_ref().is_absolute() {
        let what = format!("`ca_file` under [{section}] is not an absolute path");
        return refused(what, "Write it from the root: /etc/warmspare/ca.pem.");
    }
    if endpoint.is_some_and(|endpoint| endpoint.starts_with("http://")) {
        let what = format!("`ca_file` under [{section}] is never looked at: the endpoint is reached without TLS");
        return refused(what, "Write https:// as the `endpoint`, or take it out.");
    }
    Ok(Some(raw.get_ref().clone()))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::Config;
    use super::super::validate::tests::sample;
    use super::*;
    use crate::error::Explain;

    /// The live site's bucket is written as `bucket`.
    fn parse(bucket: &str) -> Result<Config, ConfigError> {
        let written = "{ url = \"s3://artifacts/live\", endpoint = \"http://127.0.0.1:9000\" }";
        Config::parse(Path::new("w.toml"), &sample().replacen(written, &format!("{{ {bucket} }}"), 1))
    }

    #[test]
    fn each_way_to_a_bucket() {
        let check = |bucket: &str, addressing: Addressing, region: &str| {
            let config = parse(bucket).unwrap_or_else(|error| panic!("{bucket}: {error}"));
            let address = &config.site("ams").unwrap().buckets["artifacts"];
            assert_eq!((address.addressing, address.region.as_str()), (addressing, region), "{bucket}");
        };
        use Addressing::{Path, VirtualHost};
        check("url = \"s3://a.b\", region = \"eu-central-1\"", VirtualHost, "eu-central-1");
        check("url = \"s3://a\", addressing = \"path\"", Path, "us-east-1");
        check("url = \"s3://a.b\", endpoint = \"https://[::1]:9000/s3\"", Path, "us-east-1");
        let hosted =
            "url = \"s3://a\", endpoint = \"https://s3.example\", addressing = \"virtual-host\", ca_file = \"/ca.pem\"";
        check(hosted, VirtualHost, "us-east-1");
        check("url = \"gs://a/b\"", VirtualHost, "us-east-1");
        check("url = \"az://a\", credentials = \"env:AZ\", endpoint = \"http://127.0.0.1/dev\"", Path, "us-east-1");
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let check = |bucket: &str, expected: &str| {
            let error = parse(bucket).err().unwrap_or_else(|| panic!("{bucket} is taken"));
            let said = format!("{error}\n{}", error.next_step().unwrap_or_default());
            assert!(said.contains(expected) && said.contains("w.toml:"), "{said}");
            assert!(!said.contains("hunter2"), "{said}");
        };
        let s3 = |rest: &str| format!("url = \"s3://a\", {rest}");
        check(
            "url = \"/srv/a\", region = \"eu\"",
            "`region` under [sites.ams.buckets.artifacts] means nothing: /srv/a is a folder",
        );
        check("url = \"/srv/a\", credentials = \"env:X\"", "`credentials` under");
        check("url = \"gs://a\", addressing = \"path\"", "`addressing` under");
        check("url = \"az://a\"", "has no credentials: Azure is asked by the name of an account");
        check("url = \"gs://a/b//c\"", "is neither a folder nor a bucket");
        check(&s3("endpoint = \"10.1.0.6:9000\""), "is not a URL");
        check(&s3("endpoint = \"https://:9000\""), "names no host");
        check(&s3("endpoint = \"https://AK:hunter2@s3.example\""), "holds a user or a password");
        check(&s3("endpoint = \"https://s3.example/?x\""), "has more than a path");
        check(&s3("addressing = \"dns\""), "`addressing` under [sites.ams.buckets.artifacts] is `dns`");
        check(
            &s3("endpoint = \"http://10.1.0.6:9\", addressing = \"virtual-host\""),
            "an address has no names below it",
        );
        check(&s3("endpoint = \"http://[::1]:9\", addressing = \"virtual-host\""), "an address has no names below it");
        check("url = \"s3://a.b\", addressing = \"virtual-host\"", "the bucket a.b of");
        check(&s3("ca_file = \"ca.pem\""), "`ca_file` under [sites.ams.buckets.artifacts] is not an absolute path");
        check(&s3("endpoint = \"http://a\", ca_file = \"/ca.pem\""), "is reached without TLS");
    }
}
