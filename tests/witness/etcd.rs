//! etcd as the witness: with TLS and certificates of both sides, users, and members that are gone.

use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;
use warmspare::config::reference::Reference;
use warmspare::error::{Explain, chain};
use warmspare::site::witness::{Opened, Outcome, Reach, Witness, WitnessError};
use warmspare::store::Etcd;

use crate::support::etcd::EtcdServer;
use crate::support::proxy::{Fault, Proxy};
use crate::support::wire::Wire;
use crate::support::witness_conformance::{REQUEST_MAX, Rig, conforms, read, record, survives, won};

fn opened(etcd: Etcd, request: Duration) -> Opened {
    Opened::of_etcd(etcd, request)
}

fn witness(server: &EtcdServer) -> Opened {
    let request = Duration::from_secs(10);
    opened(Etcd::open(&server.address(), None, Some(&server.key()), request).unwrap(), request)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcd_with_tls_is_a_witness() {
    let server = EtcdServer::start().await;
    let witness = witness(&server);
    assert_eq!(witness.reach(), Reach::Everywhere);
    let tried = witness.selftest("ams", "n1").await.unwrap();
    assert!(tried.verdict("etcd").is_ok() && tried.left.is_empty(), "{tried:?}");
    conforms(&witness).await;
    let history = witness.history(3).await.unwrap();
    assert_eq!(history.iter().map(|(_, record)| record.term).collect::<Vec<_>>(), [9, 4, 3]);
    assert!(history.is_sorted_by(|(newer, _), (older, _)| newer > older));
    assert_eq!(witness.prune().await.unwrap(), 0, "etcd compacts its past itself");
}

/// etcd by a line, on the disk of this machine.
struct Etcds {
    server: EtcdServer,
    wire: Wire,
    backup: Option<PathBuf>,
}

impl Rig for Etcds {
    fn wire(&self) -> &Wire {
        &self.wire
    }

    async fn open(&self) -> Opened {
        let address = self.server.address_by(&[self.wire.port()]);
        opened(Etcd::open(&address, None, Some(&self.server.key()), REQUEST_MAX).unwrap(), REQUEST_MAX)
    }

    async fn restart(&mut self) {
        self.server.kill(0);
        self.server.restart().await;
    }

    async fn back_up(&mut self) {
        self.backup = Some(self.server.back_up());
        self.server.restart().await;
    }

    async fn put_back(&mut self) {
        self.server.put_back(&self.backup.take().unwrap()).await;
    }

    async fn delete(&mut self) {
        let etcd = Etcd::open(&self.server.address(), None, Some(&self.server.key()), REQUEST_MAX).unwrap();
        etcd.delete("lease").await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcd_survives_what_happens_to_it() {
    let server = EtcdServer::start().await;
    let wire = Wire::to(&format!("127.0.0.1:{}", server.port(0))).await;
    survives(&mut Etcds { server, wire, backup: None }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_whose_reply_is_lost_or_a_false_500_is_sent_once_and_known_as_our_own() {
    let server = EtcdServer::of(1, false).await;
    let direct = witness(&server);
    let mut revision = won(&direct, None, &record(1, 1)).await;
    for (fault, nonce) in [(Fault::LosesReplies(1), 2), (Fault::SaysFailed(1), 3)] {
        let proxy = Proxy::start(&format!("http://127.0.0.1:{}", server.port(0)), fault).await;
        let port = proxy.endpoint().rsplit(':').next().unwrap().parse().unwrap();
        let ours = opened(Etcd::open(&server.address_by(&[port]), None, None, REQUEST_MAX).unwrap(), REQUEST_MAX);
        let outcome = ours.replace(Some(revision), &record(1, nonce)).await;
        assert!(matches!(outcome, Outcome::Unknown(_)), "{fault:?}: {outcome:?}");
        let sent = proxy.writes().into_iter().filter(|write| write.line.contains("/v3/kv/txn")).count();
        assert_eq!(sent, 1, "{fault:?}");
        let (now, there) = read(&ours).await;
        assert_eq!(there.nonce, record(1, nonce).nonce, "{fault:?}: it was done");
        revision = now;
    }
}

/// Three members; one is gone, then two.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_is_gone_is_passed_over_and_one_without_the_others_is_not_believed() {
    let mut server = EtcdServer::of(3, false).await;
    let witness = witness(&server);
    let first = won(&witness, None, &record(1, 1)).await;
    server.kill(0);
    // A write goes to one member, once; the read after it finds another.
    let _ = witness.replace(Some(first), &record(1, 2)).await;
    let (revision, _) = read(&witness).await;
    let newer = won(&witness, Some(revision), &record(1, 3)).await;
    server.kill(1);
    let error = witness.read().await.unwrap_err();
    assert_eq!(error.class().exit_code(), 5);
    let outcome = witness.replace(Some(newer), &record(1, 4)).await;
    assert!(matches!(outcome, Outcome::Unknown(_)), "{outcome:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_not_is_told_why() {
    let server = EtcdServer::start().await;
    let open = |user: Option<&str>, key: Option<&SecretString>| {
        let user = user.map(SecretString::from);
        let address = server.address();
        Etcd::open(&address, user.as_ref(), key, REQUEST_MAX).map(|etcd| opened(etcd, REQUEST_MAX))
    };
    let key = server.key();
    let told = |error: &WitnessError| {
        assert_eq!(error.class().exit_code(), 5);
        assert!(!chain(error).contains("hunter2"), "{error}");
        chain(error)
    };
    // No certificate, then no authority that knows theirs.
    assert!(told(&open(None, None).unwrap().read().await.unwrap_err()).contains("does not answer"));
    let mut stranger = server.address();
    stranger.ca_file = None;
    let stranger = opened(Etcd::open(&stranger, None, Some(&key), REQUEST_MAX).unwrap(), REQUEST_MAX);
    assert!(told(&stranger.read().await.unwrap_err()).contains("does not answer"));
    let Err(error) = open(Some("no colon"), Some(&key)) else { panic!("it is taken") };
    assert!(error.to_string().contains("USER:PASSWORD"), "{error}");

    server.ask_for_users("hunter2");
    assert!(told(&open(None, Some(&key)).unwrap().read().await.unwrap_err()).contains("access denied"));
    let mut named = server.address();
    named.certificate = Some((server.path("named.pem"), Reference::File(server.path("named.key"))));
    let named_key = SecretString::from(std::fs::read_to_string(server.path("named.key")).unwrap());
    let user = SecretString::from("witness:hunter2");
    let named = opened(Etcd::open(&named, Some(&user), Some(&named_key), REQUEST_MAX).unwrap(), REQUEST_MAX);
    let said = told(&named.read().await.unwrap_err());
    assert!(said.contains("access denied") && said.contains("CommonName"), "{said}");
    let wrong = open(Some("witness:hunter3"), Some(&key)).unwrap();
    assert!(told(&wrong.read().await.unwrap_err()).contains("access denied"));
    let witness = open(Some("witness:hunter2"), Some(&key)).unwrap();
    let first = won(&witness, None, &record(1, 1)).await;
    assert_eq!(read(&witness).await.0, first);
}

/// Somebody added a user of another service: the tokens of before are not taken any more, and the witness was gone until they expired.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_users_costs_a_token_and_not_the_witness() {
    let server = EtcdServer::signing().await;
    server.ask_for_users("hunter2");
    let user = SecretString::from("witness:hunter2");
    let etcd = Etcd::open(&server.address(), Some(&user), Some(&server.key()), REQUEST_MAX).unwrap();
    let witness = opened(etcd, REQUEST_MAX);
    let first = won(&witness, None, &record(1, 1)).await;
    server.add_user("other");
    assert_eq!(read(&witness).await.0, first, "a read fetches another token");
    let second = won(&witness, Some(first), &record(1, 2)).await;
    server.add_user("another");
    // A write is sent once, and was not done.
    let outcome = witness.replace(Some(second), &record(1, 3)).await;
    let Outcome::Unknown(error) = outcome else { panic!("{outcome:?}") };
    assert!(chain(&error).contains("its token is not taken any more"), "{}", chain(&error));
    let (revision, there) = read(&witness).await;
    assert_eq!((revision, there.nonce), (second, record(1, 2).nonce));
    won(&witness, Some(revision), &record(1, 3)).await;
}
