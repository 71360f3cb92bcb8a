//! The vault's place, and how each site gets there.

use std::collections::BTreeMap;
use std::path::PathBuf;

use toml::Spanned;

use super::address::{VaultAddress, VaultUrl};
use super::as_written as raw;
use super::error::{ConfigError, Place};
use super::reach::ca_file;
use super::validate::{parsed, reference};
use super::{Signers, VaultConfig};
use crate::keys::VerifyingKey;

pub(super) fn vault(place: &Place, raw: &raw::Vault) -> Result<VaultConfig, ConfigError> {
    let text = raw.url.get_ref();
    let url = key_place(text).ok_or_else(|| {
        let what = format!("the vault `{text}` is neither a folder nor a bucket");
        let next = "Write an absolute path, s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or az://CONTAINER/PREFIX. A prefix is \
                    made of names of letters, digits, `.`, `-` and `_`.";
        place.error(Some(raw.url.span().start), what, next)
    })?;
    if raw.escrow.is_empty() {
        let what =
            "there is no escrow recipient: if both sites lose their identities, nothing opens the vault".to_owned();
        let next = "Make one with `warmspare keygen --escrow`, keep its paper copy away from both sites, and write \
                    escrow = [\"age1…\"] under [vault].";
        return Err(place.error(None, what, next));
    }
    let next = "Make one with `warmspare keygen`.";
    let escrow = raw.escrow.iter().map(|text| parsed(place, "escrow", text, next)).collect::<Result<_, _>>()?;
    let signer = |(site, keys): (&String, &Spanned<toml::Value>)| Ok((site.clone(), signer_keys(place, site, keys)?));
    let signers: BTreeMap<_, _> = raw.signers.iter().map(signer).collect::<Result<_, _>>()?;
    Ok(VaultConfig { url, escrow, signers: Signers::from(signers) })
}

/// The keys of one site: a text, or a list of texts that begins with the one it signs with now.
fn signer_keys(place: &Place, site: &str, written: &Spanned<toml::Value>) -> Result<Vec<VerifyingKey>, ConfigError> {
    let list = match written.get_ref() {
        toml::Value::Array(list) => list.as_slice(),
        one => std::slice::from_ref(one),
    };
    let key = |value: &toml::Value| {
        let parsed = value.as_str().unwrap_or_default().parse();
        parsed.map_err(|e| {
            let what = format!("`signers.{site}` is {e}");
            place.error(Some(written.span().start), what, "Make one with `warmspare keygen`.")
        })
    };
    list.iter().map(key).collect()
}

/// A place of our own keys.
pub(super) fn key_place(text: &str) -> Option<VaultUrl> {
    if let Some(folder) = folder_of(text) {
        return Some(VaultUrl::Folder(folder));
    }
    let (scheme, rest) = text.split_once("://")?;
    let (bucket, prefix) = split_prefix(rest).filter(|(_, prefix)| is_plain_prefix(prefix))?;
    match scheme {
        "s3" => Some(VaultUrl::S3 { bucket, prefix }),
        "gs" => Some(VaultUrl::Gcs { bucket, prefix }),
        "az" => Some(VaultUrl::Azure { container: bucket, prefix }),
        _ => None,
    }
}

/// Our own keys, and the policies about them, are plain: a prefix with a `*` in it would be a pattern there.
pub(super) fn is_plain_prefix(prefix: &str) -> bool {
    let plain = |name: &str| {
        let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte));
        plain && !["", ".", ".."].contains(&name)
    };
    prefix.is_empty() || prefix.strip_suffix('/').is_some_and(|names| names.split('/').all(plain))
}

/// The folder a URL names, if it names one.
pub(super) fn folder_of(url: &str) -> Option<PathBuf> {
    let path = url.strip_prefix("file://").unwrap_or(url);
    path.starts_with('/').then(|| PathBuf::from(path))
}

/// `bucket/some/prefix` as the bucket and the prefix, which ends with `/` unless it is empty.
pub(super) fn split_prefix(rest: &str) -> Option<(String, String)> {
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let slash = if prefix.is_empty() || prefix.ends_with('/') { "" } else { "/" };
    (!bucket.is_empty()).then(|| (bucket.to_owned(), format!("{prefix}{slash}")))
}

/// How the site of `section` reaches the vault.
pub(super) fn site_vault(
    place: &Place,
    section: &str,
    vault: &VaultConfig,
    raw: Option<&Spanned<raw::SiteVault>>,
) -> Result<VaultAddress, ConfigError> {
    let at = raw.map(|raw| raw.span().start);
    let access = raw.map(Spanned::get_ref);
    let part = format!("{section}.vault");
    let endpoint = access.and_then(|access| access.endpoint.as_ref()).map(|text| text.get_ref().as_str());
    let address = VaultAddress {
        url: vault.url.clone(),
        ca_file: ca_file(place, &part, endpoint, access.and_then(|access| access.ca_file.as_ref()))?,
        endpoint: endpoint.map(str::to_owned),
        region: access.and_then(|access| access.region.clone()).unwrap_or_else(|| "us-east-1".to_owned()),
        credentials: reference(place, &part, "credentials", access.and_then(|access| access.credentials.as_ref()))?,
        keeper: reference(place, &part, "keeper", access.and_then(|access| access.keeper.as_ref()))?,
    };
    if let Some(endpoint) = access.and_then(|access| access.endpoint.as_ref())
        && !["http://", "https://"].iter().any(|scheme| endpoint.get_ref().starts_with(scheme))
    {
        let what = format!("`endpoint` under [{part}] is not a URL");
        return Err(place.error(Some(endpoint.span().start), what, "Write https://HOST or https://HOST:PORT."));
    }
    match (&address.url, raw, &address.credentials) {
        (VaultUrl::Folder(folder), Some(_), _) => {
            let what = format!("[{part}] says how to reach a bucket, but the vault is the folder {}", folder.display());
            Err(place.error(at, what, "Take it out, or write s3://, gs:// or az:// as the `url` under [vault]."))
        }
        (VaultUrl::Folder(_), None, _) | (_, _, Some(_)) => Ok(address),
        (url, _, None) => {
            let what = format!("the vault is {url}, and [{section}] has no credentials for it");
            let next = format!(
                "Write vault = {{ endpoint = \"https://…\", credentials = \"file:/etc/warmspare/vault\" }} under [{section}]; \
                 docs/CONFIGURATION.md says what the file holds."
            );
            Err(place.error(at, what, &next))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::Config;
    use super::super::validate::tests::sample;
    use super::*;
    use crate::error::Explain;

    #[test]
    fn where_a_vault_can_be() {
        let bucket = |text: &str, expected: &str| {
            assert_eq!(key_place(text).map(|url| url.to_string()).as_deref(), Some(expected), "{text}");
        };
        bucket("/srv/vault", "/srv/vault");
        bucket("file:///srv/vault", "/srv/vault");
        bucket("s3://dr-vault", "s3://dr-vault/");
        bucket("s3://dr-vault/a/b", "s3://dr-vault/a/b/");
        bucket("gs://dr-vault/a/", "gs://dr-vault/a/");
        bucket("az://container/a", "az://container/a/");
        for text in ["", "vault", "s3://", "s3:///a", "s3://b//a", "s3://b/a*", "s3://b/../a", "ftp://b/a"] {
            assert_eq!(key_place(text), None, "{text}");
        }
    }

    #[test]
    fn each_site_has_its_own_way_to_a_bucket() {
        let text = sample().replace("\"/srv/vault\"", "\"s3://dr-vault/builder\"");
        let access = |line: &str| {
            let text = text.replace("databases.builder =", &format!("{line}\ndatabases.builder ="));
            Config::parse(Path::new("w.toml"), &text)
        };
        let said = |line: &str| {
            let error = access(line).unwrap_err();
            format!("{error}\n{}", error.next_step().unwrap_or_default())
        };
        let good =
            "vault = { endpoint = \"http://10.1.0.6:9000\", credentials = \"env:VAULT\", keeper = \"env:KEEPER\" }";
        let config = access(good).unwrap();
        let address = &config.site("ams").unwrap().vault;
        assert_eq!((address.region.as_str(), address.url.clone()), ("us-east-1", config.vault.url.clone()));
        assert!(address.endpoint.is_some() && address.credentials.is_some() && address.keeper.is_some());

        let missing = said("");
        assert!(missing.contains("[sites.ams] has no credentials for it"), "{missing}");
        let inline = said("vault = { credentials = \"AKIA:hunter2\" }");
        assert!(inline.contains("`credentials` under [sites.ams.vault] holds the secret itself"), "{inline}");
        assert!(!inline.contains("hunter2"), "{inline}");
        let endpoint = said("vault = { endpoint = \"10.1.0.6:9000\", credentials = \"env:VAULT\" }");
        assert!(endpoint.contains("`endpoint` under [sites.ams.vault] is not a URL"), "{endpoint}");
    }

    #[test]
    fn a_folder_is_reached_without_credentials() {
        let text = sample().replace("databases.builder =", "vault = { credentials = \"env:V\" }\ndatabases.builder =");
        let error = Config::parse(Path::new("w.toml"), &text).unwrap_err().to_string();
        assert!(error.contains("the vault is the folder /srv/vault"), "{error}");
    }
}
