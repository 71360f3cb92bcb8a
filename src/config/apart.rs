//! Where the buckets and attics of the two sites lie: each apart from every other.
//!
//! What lies in a mirrored bucket is mirrored, and hidden, with it; what lies in an attic is let go by the points of its own bucket. The
//! live site reaches both sites' buckets by the same addresses, so two of one server, or two folders, are held against each other whichever
//! site has them.

use super::Site;
use super::address::{BucketAddress, BucketUrl, Topology};
use super::error::{ConfigError, Place};

/// Refuses what two buckets or attics must not have in common.
pub(super) fn apart(place: &Place, one: &Site, two: &Site) -> Result<(), ConfigError> {
    buckets_of_both(place, one, two)?;
    mirrors(place, one, two)?;
    let all: Vec<Whose> = of(one).chain(of(two)).collect();
    all.iter().try_for_each(|whose| attic(place, whose, &all))
}

/// A bucket, and whose it is.
struct Whose<'a> {
    site: &'a Site,
    bucket: &'a BucketAddress,
}

impl Whose<'_> {
    fn is(&self, other: &Whose<'_>) -> bool {
        (&self.site.name, &self.bucket.name) == (&other.site.name, &other.bucket.name)
    }

    fn meets(&self, url: &BucketUrl, endpoint: Option<&String>) -> bool {
        self.bucket.endpoint.as_ref() == endpoint && self.bucket.url.overlaps(url)
    }
}

impl std::fmt::Display for Whose<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "bucket.{} of {}", self.bucket.name, self.site.name)
    }
}

/// That both sites mean the same by each bucket.
fn buckets_of_both(place: &Place, one: &Site, two: &Site) -> Result<(), ConfigError> {
    for (name, bucket) in &one.buckets {
        let Some(other) = two.buckets.get(name) else { continue };
        if bucket.topology != other.topology {
            let [ours, theirs] = [bucket, other].map(|bucket| bucket.topology.as_str());
            let what = format!("bucket.{name} is `{ours}` at {} and `{theirs}` at {}", one.name, two.name);
            return Err(place.error(None, what, "Give it the same `topology` at both sites."));
        }
        let is_one = (&other.url, &other.endpoint) == (&bucket.url, &bucket.endpoint);
        if is_one && bucket.topology != Topology::Shared {
            let what = format!("bucket.{name} is {} at both sites: nothing would be mirrored anywhere", bucket.url);
            let next = "Give each site its own (the live site reaches both: mount the spare's folder there under another path), or \
                        say that they share it: topology = \"shared\".";
            return Err(place.error(None, what, next));
        }
    }
    Ok(())
}

fn of(site: &Site) -> impl Iterator<Item = Whose<'_>> {
    site.buckets.values().map(move |bucket| Whose { site, bucket })
}

fn mirrored(site: &Site) -> impl Iterator<Item = Whose<'_>> {
    of(site).filter(|whose| whose.bucket.topology == Topology::Mirror)
}

/// No mirrored bucket of one site lies in one of the other's: what is written to the one would be an object of the other.
fn mirrors(place: &Place, one: &Site, two: &Site) -> Result<(), ConfigError> {
    for ours in mirrored(one) {
        if let Some(theirs) = mirrored(two).find(|theirs| theirs.meets(&ours.bucket.url, ours.bucket.endpoint.as_ref()))
        {
            let what = format!(
                "{ours} is {}, and {theirs} {}: what is mirrored into the one would be an object of the other",
                ours.bucket.url, theirs.bucket.url
            );
            let next = "Give each bucket of each site a place of its own: another bucket, prefix or folder, in none of the others.";
            return Err(place.error(None, what, next));
        }
    }
    Ok(())
}

/// An attic lies within no bucket of either site, and no two share one: what is in it would be mirrored, or be let go by the other's
/// points.
fn attic(place: &Place, whose: &Whose<'_>, all: &[Whose<'_>]) -> Result<(), ConfigError> {
    let bucket = whose.bucket;
    if bucket.attic.is_some() && bucket.topology != Topology::Mirror {
        let what = format!("{whose} has an attic, and is `{}`", bucket.topology.as_str());
        return Err(place.error(None, what, "Leave the attic out: nothing of ours is ever written to such a bucket."));
    }
    let Some(attic) = bucket.attic_address() else { return Ok(()) };
    if std::mem::discriminant(&attic.url) != std::mem::discriminant(&bucket.url) {
        let what = format!("{whose} is {} and its attic {}", bucket.url, attic.url);
        let next = "The store copies from one to the other by itself: a folder has a folder for attic, a bucket another bucket of that \
                    server or account.";
        return Err(place.error(None, what, next));
    }
    let endpoint = attic.endpoint.as_ref();
    let in_bucket = all.iter().find(|other| other.meets(&attic.url, endpoint));
    let in_bucket = in_bucket.map(|other| format!("{other}, {},", other.bucket.url));
    let in_attic = all.iter().filter(|other| !other.is(whose)).find_map(|other| {
        let its = other.bucket.attic_address()?;
        let is_shared = its.endpoint.as_ref() == endpoint && its.url.overlaps(&attic.url);
        is_shared.then(|| format!("the attic of {other}, {},", its.url))
    });
    if let Some(other) = in_bucket.or(in_attic) {
        let what = format!("the attic of {whose} is {}, which {other} lies in, or around", attic.url);
        let next =
            "Give each bucket an attic of its own, beside every bucket: attic = \"s3://OTHER\" or \"/other/folder\".";
        return Err(place.error(None, what, next));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::config::Config;
    use crate::config::validate::tests::sample;
    use std::path::Path;

    const AMS: &str = "url = \"s3://artifacts/live\", endpoint = \"http://127.0.0.1:9000\"";
    const FRA: &str = "url = \"/srv/artifacts\"";

    /// What is said of these two addresses; nothing where they are right.
    fn said(ams: &str, fra: &str) -> String {
        let text = sample().replacen(AMS, ams, 1).replacen(FRA, fra, 1);
        match Config::parse(Path::new("w.toml"), &text) {
            Ok(_) => String::new(),
            Err(error) => error.to_string(),
        }
    }

    fn s3(bucket: &str, attic: &str) -> String {
        let attic = if attic.is_empty() { String::new() } else { format!(", attic = \"s3://{attic}\"") };
        format!("url = \"s3://{bucket}\", endpoint = \"http://127.0.0.1:9000\"{attic}")
    }

    #[test]
    fn a_bucket_of_one_site_in_one_of_the_others_is_refused() {
        let check = |ams: &str, fra: &str, is_refused: bool| {
            let said = said(ams, fra);
            assert_eq!(said.contains("would be an object of the other"), is_refused, "{ams} and {fra}: {said}");
            assert_eq!(said.is_empty(), !is_refused, "{ams} and {fra}: {said}");
        };
        check(&s3("artifacts", ""), &s3("artifacts/spare", ""), true);
        check(&s3("artifacts/live/deeper", ""), &s3("artifacts/live", ""), true);
        check(&s3("artifacts/live", ""), &s3("artifacts/spare", ""), false);
        check(&s3("artifacts/live", ""), &s3("artifacts/live-2", ""), false);
        check(&s3("artifacts", ""), &s3("artifacts", "").replace("9000", "9001"), false);
        check("url = \"/srv/live\"", "url = \"/srv/live/spare\"", true);
        check("url = \"/srv/live\"", "url = \"/srv/live-spare\"", false);
        let shared = |url: String| format!("{url}, topology = \"shared\"");
        check(&shared(s3("artifacts", "")), &shared(s3("artifacts", "")), false);
    }

    #[test]
    fn an_attic_in_a_bucket_or_an_attic_of_either_site_is_refused() {
        let check = |ams: &str, fra: &str, expected: &str| {
            let said = said(ams, fra);
            assert!(said.contains(expected) && said.is_empty() == expected.is_empty(), "{ams} and {fra}: {said}");
        };
        check(
            &s3("a", "a/attic"),
            &s3("b", ""),
            "the attic of bucket.artifacts of ams is s3://a/attic/, which bucket.artifacts of ams",
        );
        check(
            &s3("a", "b/attic"),
            &s3("b", ""),
            "the attic of bucket.artifacts of ams is s3://b/attic/, which bucket.artifacts of fra",
        );
        check(
            &s3("a/live", ""),
            &s3("b", "a"),
            "the attic of bucket.artifacts of fra is s3://a/, which bucket.artifacts of ams",
        );
        check(
            &s3("a", "attic"),
            &s3("b", "attic"),
            "which the attic of bucket.artifacts of fra, s3://attic/, lies in, or around",
        );
        check(&s3("a", "attic/a"), &s3("b", "attic/b"), "");
        check(&s3("a", "attic"), &s3("b", "attic").replace("9000", "9001"), "");
        check(
            "url = \"/srv/a\"",
            "url = \"/srv/a.attic/b\"",
            "the attic of bucket.artifacts of ams is /srv/a.attic, which bucket.artifacts of fra",
        );
        check("url = \"/srv/a\"", "url = \"/srv/b\"", "");
        check(
            "url = \"/srv/a\", topology = \"shared\", attic = \"/srv/c\"",
            "url = \"/srv/a\", topology = \"shared\"",
            "has an attic, and is `shared`",
        );
    }
}
