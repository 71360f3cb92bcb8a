//! The rights that the two sites and the keeper should have, as a bucket policy.
//!
//! docs/vault-policy.json is the template, docs/THREATS.md says why each statement is there.

use crate::config::address::VaultUrl;

const TEMPLATE: &str = include_str!("../../docs/vault-policy.json");

/// Who is who to the store: ARNs, as bucket policies name users.
#[derive(Clone, Debug)]
pub struct PolicyUsers {
    /// Of the site that is live.
    pub live: String,
    /// Of its spare.
    pub spare: String,
    /// Of the keeper, who alone deletes.
    pub keeper: String,
}

/// The policy of the bucket at `url`, if it is one of S3: other stores spell rights in other ways.
pub fn bucket_policy(url: &VaultUrl, system: &str, live: &str, spare: &str, users: &PolicyUsers) -> Option<String> {
    let VaultUrl::S3 { bucket, prefix } = url else { return None };
    let text = TEMPLATE
        .replace("LIVE-ARN", &users.live)
        .replace("SPARE-ARN", &users.spare)
        .replace("KEEPER-ARN", &users.keeper)
        .replace("LIVE-SITE", live)
        .replace("SPARE-SITE", spare)
        .replace("SYSTEM", system)
        .replace("PREFIX/", prefix)
        .replace("BUCKET", bucket);
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filled_in_policy_is_json_without_a_placeholder() {
        let url = VaultUrl::S3 { bucket: "dr-vault".to_owned(), prefix: "a/b/".to_owned() };
        let arn = |user: &str| format!("arn:aws:iam:::user/{user}");
        let users = PolicyUsers { live: arn("live"), spare: arn("spare"), keeper: arn("keeper") };
        let text = bucket_policy(&url, "builder", "ams", "fra", &users).unwrap();
        let policy: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert!(policy["Statement"].as_array().unwrap().len() > 8);
        for placeholder in ["LIVE", "SPARE", "KEEPER", "SYSTEM", "PREFIX", "BUCKET"] {
            assert!(!text.contains(placeholder), "{placeholder} in {text}");
        }
        assert!(text.contains("arn:aws:s3:::dr-vault/a/b/systems/builder/status/fra.json"), "{text}");
        assert!(bucket_policy(&VaultUrl::Folder("/srv".into()), "builder", "ams", "fra", &users).is_none());
    }
}
