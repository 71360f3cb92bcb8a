//! Every way to a bucket that the configuration knows, tried on real servers where one can be had.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use futures_util::TryStreamExt;
use secrecy::SecretString;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use warmspare::config::address::{Addressing, BucketAddress, BucketUrl};
use warmspare::error::Explain;
use warmspare::store::{Bucket, StoreError};

use crate::keys::open_to_all;
use crate::support::bucket_sites::BucketSites;
use crate::support::buckets::{contents, get, keys, noise, put, s3};
use crate::support::ceph::{CREDENTIALS, Ceph, HOST};
use crate::support::sites::shown;

fn address(bucket: &str, endpoint: &str) -> BucketAddress {
    let url = BucketUrl::S3 { bucket: bucket.to_owned(), prefix: String::new() };
    BucketAddress::at("artifacts", url).on_server(endpoint)
}

fn open(address: &BucketAddress, credentials: Option<&str>) -> Bucket {
    Bucket::open(address, credentials.map(SecretString::from)).unwrap()
}

async fn refused(address: &BucketAddress) -> StoreError {
    open(address, Some(CREDENTIALS)).list(None).try_collect::<Vec<_>>().await.unwrap_err()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_with_a_certificate_of_our_own_authority_is_believed_and_no_other() {
    for (ceph, stranger) in [(Ceph::shared(), Ceph::newest()), (Ceph::newest(), Ceph::shared())] {
        let name = ceph.bucket();
        let by_host = address(&name, &format!("https://127.0.0.1:{}", ceph.tls_port()));
        let error = refused(&by_host).await;
        let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        assert!(matches!(error, StoreError::Unavailable { .. }) && cause.contains("certificate"), "{error}: {cause}");
        assert!(error.next_step().unwrap().contains("certificate"));
        let error = refused(&BucketAddress { ca_file: Some(stranger.authority()), ..by_host.clone() }).await;
        assert!(matches!(error, StoreError::Unavailable { .. }), "{error}");

        let ours = open(&BucketAddress { ca_file: Some(ceph.authority()), ..by_host }, Some(CREDENTIALS));
        let content = noise(1, 9 << 20);
        put(&ours, "k", content.clone()).await.unwrap();
        assert!(get(&ours, "k").await.unwrap() == content);
    }
}

/// `program` with these words as `sites` starts it, on a host whose /etc/hosts is `hosts`.
fn on_a_host(sites: &BucketSites, hosts: &Path, arguments: &[&str]) -> Output {
    let plain = sites.command("ams", arguments);
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", "mount --bind \"$0\" /etc/hosts && exec \"$@\""]).arg(hosts);
    command.arg(plain.get_program()).args(plain.get_args());
    command.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.output().unwrap()
}

/// The server is known by the bucket's name alone, so that whoever asks by path finds nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_can_be_a_name_below_its_servers() {
    if !rustix::process::geteuid().is_root() {
        println!("not root: names of our own were not tried");
        return;
    }
    let ceph = Ceph::shared();
    let spare = ceph.bucket();
    let sites = BucketSites::folder_and_s3(&ceph, &spare);
    let hosts = sites.path().join("hosts");
    fs::write(&hosts, format!("127.0.0.1 localhost {spare}.{HOST}\n")).unwrap();
    let (plain, hosted) = (ceph.endpoint(), format!("https://{HOST}:{}", ceph.tls_port()));
    let more = format!("{hosted}\", ca_file = \"{}\", addressing = \"virtual-host", ceph.authority().display());
    sites.edit_configuration(plain, &more);
    sites.put("a b+c", b"one");
    sites.put("large", &noise(1, 9 << 20));
    let output = on_a_host(&sites, &hosts, &["capture", "--json"]);
    assert!(output.status.success(), "{}", shown(&output));
    let bucket = s3(ceph.endpoint(), &spare, "", Some(CREDENTIALS));
    assert_eq!(contents(&bucket).await.keys().collect::<Vec<_>>(), ["a b+c", "large"]);
    // Renamed: copied by the server, whose source is named by path.
    fs::rename(sites.bucket("ams").join("large"), sites.bucket("ams").join("renamed")).unwrap();
    let output = on_a_host(&sites, &hosts, &["capture", "--json"]);
    assert!(output.status.success(), "{}", shown(&output));
    assert!(keys(&bucket, None).await.contains(&"renamed".to_owned()));

    sites.edit_configuration("\", addressing = \"virtual-host", "");
    let output = on_a_host(&sites, &hosts, &["capture", "--json"]);
    assert_eq!(output.status.code(), Some(1), "{}", shown(&output));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_that_is_open_to_all_needs_no_credentials() {
    for ceph in [Ceph::shared(), Ceph::newest()] {
        let name = ceph.bucket();
        open_to_all(&ceph, &name);
        put(&s3(ceph.endpoint(), &name, "", Some(CREDENTIALS)), "k", "x").await.unwrap();
        let anybody = s3(ceph.endpoint(), &name, "", None);
        assert_eq!((keys(&anybody, None).await, get(&anybody, "k").await.unwrap()), (vec!["k".to_owned()], "x".into()));
    }
}

/// The head of the one request that `bucket` makes to look `key` up.
async fn asked(listener: &TcpListener, bucket: &Bucket) -> String {
    let answering = async {
        let (mut client, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(client.read_u8().await.unwrap());
        }
        client.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await.unwrap();
        String::from_utf8(head).unwrap()
    };
    let (head, answer) = tokio::join!(answering, bucket.head("a b"));
    assert!(answer.unwrap_err().is_not_found());
    head
}

#[tokio::test]
async fn region_token_and_path_are_said_as_configured() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let below = BucketAddress { region: "eu-central-1".to_owned(), ..address("b", &format!("{endpoint}/objects/s3")) };
    let head = asked(&listener, &open(&below, Some("AK:SK:a-token"))).await;
    assert!(head.starts_with("HEAD /objects/s3/b/a%20b HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("/eu-central-1/s3/aws4_request"), "{head}");
    assert!(head.contains("x-amz-security-token: a-token\r\n"), "{head}");
    assert!(!head.contains("SK"), "{head}");

    let head = asked(&listener, &open(&address("b", &endpoint), None)).await;
    assert!(head.starts_with("HEAD /b/a%20b HTTP/1.1\r\n") && !head.contains("authorization"), "{head}");

    // Where the host has to be an address there are no names below it, and the configuration says so.
    let hosted = BucketAddress { addressing: Addressing::VirtualHost, ..address("b", "http://localhost:1") };
    assert!(refused(&hosted).await.to_string().contains("s3://b/ at http://localhost:1"));
}
