//! Two sites that have a bucket and nothing else: no database server has to be started for them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use warmspare::clock::SystemClock;
use warmspare::keygen;

use super::ceph::{CREDENTIALS, Ceph};
use super::sites::{edit, shown};

pub struct BucketSites {
    folder: tempfile::TempDir,
}

impl BucketSites {
    /// A folder at each site.
    pub fn folders() -> BucketSites {
        let sites = BucketSites { folder: tempfile::tempdir().unwrap() };
        for site in ["ams", "fra"] {
            fs::create_dir_all(sites.bucket(site)).unwrap();
        }
        let bucket = |site: &str| format!("url = \"{}\"", sites.bucket(site).display());
        sites.configure(&bucket("ams"), &bucket("fra"));
        sites
    }

    /// A folder at the live site, and the bucket `spare` of an S3 server at the other.
    pub fn folder_and_s3(ceph: &Ceph, spare: &str) -> BucketSites {
        let sites = BucketSites { folder: tempfile::tempdir().unwrap() };
        fs::create_dir_all(sites.bucket("ams")).unwrap();
        let own = format!("url = \"{}\"", sites.bucket("ams").display());
        sites.configure(&own, &sites.s3_address(ceph, spare));
        sites
    }

    /// A bucket at each site, both of one S3 server.
    pub fn s3(ceph: &Ceph, live: &str, spare: &str) -> BucketSites {
        let sites = BucketSites { folder: tempfile::tempdir().unwrap() };
        sites.configure(&sites.s3_address(ceph, live), &sites.s3_address(ceph, spare));
        sites
    }

    /// A bucket of an S3 server, as the configuration has it.
    fn s3_address(&self, ceph: &Ceph, bucket: &str) -> String {
        let credentials = self.path().join("s3");
        fs::write(&credentials, CREDENTIALS).unwrap();
        let (endpoint, file) = (ceph.endpoint(), credentials.display());
        format!("url = \"s3://{bucket}\", endpoint = \"{endpoint}\", credentials = \"file:{file}\"")
    }

    /// Writes the configuration; what stands in the braces of `buckets.artifacts` at ams and at fra.
    pub fn configure(&self, ams: &str, fra: &str) {
        let path = self.path();
        let escrow = keygen::escrow(&path.join("escrow.txt"), &SystemClock).unwrap();
        let (mut signers, mut sections) = (Vec::new(), String::new());
        for (site, bucket) in [("ams", ams), ("fra", fra)] {
            let keys = keygen::site(site, &path.join(format!("{site}-keys"))).unwrap();
            signers.push(format!("{site} = \"{}\"", keys.verifying_key));
            sections += &format!(
                "\n[sites.{site}]\nstate = \"{}\"\nrecipient = \"{}\"\nidentity = \"file:{}\"\n\
                 signing_key = \"file:{}\"\nbuckets.artifacts = {{ {bucket} }}\n",
                self.state(site).display(),
                keys.recipient,
                keys.identity_file.display(),
                keys.signing_key_file.display(),
            );
        }
        let (vault, signers) = (path.join("vault"), signers.join(", "));
        fs::create_dir_all(&vault).unwrap();
        let text = format!(
            "system = \"app\"\nlive = \"ams\"\n\n[vault]\nurl = \"{}\"\nescrow = [\"{}\"]\nsigners = {{ {signers} }}\n{sections}",
            vault.display(),
            escrow.recipient,
        );
        fs::write(self.configuration(), text).unwrap();
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn configuration(&self) -> PathBuf {
        self.path().join("warmspare.toml")
    }

    /// Changes the configuration's text.
    pub fn edit_configuration(&self, from: &str, to: &str) {
        edit(&self.configuration(), from, to);
    }

    pub fn bucket(&self, site: &str) -> PathBuf {
        self.path().join(site).join("bucket")
    }

    pub fn state(&self, site: &str) -> PathBuf {
        self.path().join(site).join("state")
    }

    /// An object of the live bucket.
    pub fn put(&self, key: &str, content: &[u8]) {
        let path = self.bucket("ams").join(key);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    pub fn command(&self, site: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_warmspare"));
        command.env("WARMSPARE_CONFIG", self.configuration()).env("WARMSPARE_SITE", site).args(arguments);
        command
    }

    /// Runs the binary at `site` and expects the exit code `code`.
    pub fn ended(&self, site: &str, arguments: &[&str], code: i32) -> Output {
        let output = self.command(site, arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?} at {site}: {}", shown(&output));
        output
    }

    /// The same; its standard output as JSON.
    pub fn json(&self, site: &str, arguments: &[&str], code: i32) -> Value {
        let arguments: Vec<&str> = arguments.iter().copied().chain(["--json"]).collect();
        serde_json::from_slice(&self.ended(site, &arguments, code).stdout).unwrap()
    }

    /// The same; its words.
    pub fn words(&self, site: &str, arguments: &[&str], code: i32) -> String {
        let text = String::from_utf8(self.ended(site, arguments, code).stderr).unwrap();
        let word = |line: &&str| !line.starts_with(|c: char| c.is_ascii_digit());
        text.replace(&self.path().display().to_string(), "SITES").lines().filter(word).collect::<Vec<_>>().join("\n")
    }
}
