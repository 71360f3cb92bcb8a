//! Nothing secret leaves in a notice.
//!
//! What is told quotes errors: of servers, of programs, of commands that an operator wrote. So before it leaves, the secrets this site
//! refers to are taken out wherever they stand, and what looks like one besides.

use std::time::Duration;

use futures_util::future::join_all;
use secrecy::{ExposeSecret, SecretString};

use super::message::Message;
use crate::blocking::{self, NoAnswer};
use crate::config::reference::Reference;
use crate::config::{Here, SinkKind};

/// The longest that one may take to be read.
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// What stands in a secret's place.
const GONE: &str = "…";
/// Shorter parts of a secret are words that stand everywhere.
const PART_BYTES_MIN: usize = 6;
/// A word that begins so is a secret.
const BEGINNINGS: [&str; 4] = ["AGE-SECRET-KEY-", "AGE-PLUGIN-", "WARMSPARE-SIGNING-KEY-", "-----BEGIN"];
/// What follows one of these is a secret, up to the end of the word.
const BEFORE: [&str; 9] = [
    "password=",
    "passwd=",
    "secret=",
    "token=",
    "api_key=",
    "apikey=",
    "x-amz-signature=",
    "x-amz-security-token=",
    "sig=",
];

/// The secrets of this site that can be had without starting a program.
pub(super) struct Secrets(Vec<SecretString>);

impl Secrets {
    pub(super) async fn of(here: &Here) -> Self {
        let readable = references(here).into_iter().filter(|reference| !matches!(reference, Reference::Command(_)));
        let mut parts = Vec::new();
        // One that cannot be read now is in no error of now.
        for secret in join_all(readable.map(read)).await.into_iter().flatten() {
            let whole = of_address(secret.expose_secret()).trim();
            let pieces = whole.split([':', '\n', '/', '?', '&']).map(str::trim).filter(|piece| !is_plain(piece));
            let long = pieces.chain([whole]).filter(|piece| piece.len() >= PART_BYTES_MIN);
            parts.extend(long.map(SecretString::from));
        }
        // The longest first, so that no end of one is left standing.
        parts.sort_by_key(|part| std::cmp::Reverse(part.expose_secret().len()));
        Secrets(parts)
    }

    /// The message without them.
    pub(super) fn out_of(&self, mut message: Message) -> Message {
        for notice in &mut message.notices {
            notice.what = self.scrubbed(&notice.what);
            notice.next = self.scrubbed(&notice.next);
        }
        message
    }

    /// The text without them.
    pub(super) fn scrubbed(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for secret in &self.0 {
            text = text.replace(secret.expose_secret(), GONE);
        }
        let mut bearer = false;
        let scrub = |text: &str| {
            let follows = std::mem::replace(&mut bearer, text.eq_ignore_ascii_case("bearer"));
            if follows { GONE.to_owned() } else { word(text) }
        };
        text.split(' ').map(scrub).collect::<Vec<_>>().join(" ")
    }
}

/// Its file may lie on a disk that is gone.
async fn read(reference: Reference) -> Option<SecretString> {
    let what = reference.to_string();
    let reading = blocking::apart(&what, move || Ok::<_, NoAnswer>(reference.resolve().ok()));
    tokio::time::timeout(ANSWER_MAX, reading).await.ok()?.ok()?
}

/// What is secret of an address: everything behind the host.
fn of_address(secret: &str) -> &str {
    let Some((_, rest)) = secret.split_once("://").filter(|(scheme, _)| scheme.starts_with("http")) else {
        return secret;
    };
    rest.find('/').and_then(|at| rest.get(at..)).unwrap_or_default()
}

/// Parts of addresses that everybody knows.
fn is_plain(piece: &str) -> bool {
    piece.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'.' || byte == b'-')
}

fn references(here: &Here) -> Vec<Reference> {
    let sites = [&here.site, &here.other];
    let databases = here.site.databases.values().filter_map(|database| database.password.clone());
    let buckets = sites.iter().flat_map(|site| site.buckets.values()).filter_map(|bucket| bucket.credentials.clone());
    let vault = [&here.site.vault.credentials, &here.site.vault.keeper].into_iter().flatten().cloned();
    let keys = [&here.site.identity, &here.site.signing_key].into_iter().flatten().cloned();
    let sinks = here.config.notify.iter().filter_map(|sink| match &sink.kind {
        SinkKind::Webhook(http) | SinkKind::Slack(http) | SinkKind::Ping { http, .. } => Some(http.url.clone()),
        SinkKind::Smtp(smtp) => smtp.credentials.clone(),
        SinkKind::Command(_) => None,
    });
    databases.chain(buckets).chain(vault).chain(keys).chain(sinks).collect()
}

/// One word, without what looks like a secret in it.
fn word(word: &str) -> String {
    if BEGINNINGS.iter().any(|beginning| word.contains(beginning)) {
        return GONE.to_owned();
    }
    let word = without_userinfo(word);
    let lower = word.to_ascii_lowercase();
    for before in BEFORE {
        if let Some(at) = lower.find(before)
            && let Some(kept) = word.get(..at + before.len())
        {
            return format!("{kept}{GONE}");
        }
    }
    word
}

/// `scheme://user:password@host` without the password.
fn without_userinfo(word: &str) -> String {
    let Some((scheme, rest)) = word.split_once("://") else { return word.to_owned() };
    let end = rest.find('/').unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    match authority.rsplit_once('@') {
        Some((user, host)) if user.contains(':') => {
            let user = user.split(':').next().unwrap_or_default();
            format!("{scheme}://{user}:{GONE}@{host}{path}")
        }
        _ => word.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_the_address_of_a_webhook_the_host_is_no_secret() {
        assert_eq!(of_address("https://hooks.example:8443/T0/B0?key=1"), "/T0/B0?key=1");
        assert_eq!(of_address("https://hooks.example"), "");
        assert_eq!(of_address("ACCESS:SECRET/KEY"), "ACCESS:SECRET/KEY");
    }

    #[test]
    fn what_looks_like_a_secret_is_taken_out_and_the_rest_stays() {
        let secrets = Secrets(vec![SecretString::from("hunter2-xyz")]);
        let check = |text: &str, expected: &str| assert_eq!(secrets.scrubbed(text), expected);
        check("role app: hunter2-xyz is wrong", "role app: … is wrong");
        check("postgresql://app:other@db:5432/app refused", "postgresql://app:…@db:5432/app refused");
        check("GET https://s3/x?X-Amz-Signature=abc&y=1 is 403", "GET https://s3/x?X-Amz-Signature=… is 403");
        check("host=db password=other", "host=db password=…");
        check("Authorization: Bearer abc is refused", "Authorization: Bearer … is refused");
        check("AGE-SECRET-KEY-1QQ is no identity", "… is no identity");
        check(
            "point 3-12 of bucket.artifacts at s3://artifacts/live",
            "point 3-12 of bucket.artifacts at s3://artifacts/live",
        );
    }
}
