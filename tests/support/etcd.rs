//! An etcd cluster on loopback, with TLS, in a temporary folder: gone when its owner is gone.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use secrecy::SecretString;
use warmspare::config::EtcdAddress;
use warmspare::config::reference::Reference;
use warmspare::store::Etcd;

use super::ports::free_port;

const PATIENCE: Duration = Duration::from_secs(30);

/// A running cluster.
pub struct EtcdServer {
    folder: tempfile::TempDir,
    members: Vec<Member>,
    tls: bool,
    /// Its tokens are signed, and say for which revision of users and roles they are.
    signs: bool,
}

struct Member {
    client_port: u16,
    peer_port: u16,
    process: Option<Child>,
}

impl EtcdServer {
    /// One member, with TLS, which asks its clients for certificates.
    pub async fn start() -> EtcdServer {
        EtcdServer::of(1, true).await
    }

    /// So many members.
    pub async fn of(count: usize, tls: bool) -> EtcdServer {
        EtcdServer::with(count, tls, false).await
    }

    /// One member with TLS whose tokens are signed (JWT): it keeps none, and knows one that is of an earlier time by what it says.
    pub async fn signing() -> EtcdServer {
        EtcdServer::with(1, true, true).await
    }

    async fn with(count: usize, tls: bool, signs: bool) -> EtcdServer {
        let folder = tempfile::tempdir().unwrap();
        certificates(folder.path());
        let member = |_| Member { client_port: free_port(), peer_port: free_port(), process: None };
        let mut server = EtcdServer { folder, members: (0..count).map(member).collect(), tls, signs };
        for number in 0..count {
            server.run(number);
        }
        server.wait().await;
        server
    }

    fn run(&mut self, number: usize) {
        let scheme = if self.tls { "https" } else { "http" };
        let peers = self.members.iter().enumerate();
        let peers = peers.map(|(number, member)| format!("m{number}=http://127.0.0.1:{}", member.peer_port));
        let peers = peers.collect::<Vec<_>>().join(",");
        let Member { client_port, peer_port, .. } = self.members[number];
        let (client, peer) = (format!("{scheme}://127.0.0.1:{client_port}"), format!("http://127.0.0.1:{peer_port}"));
        let log = std::fs::File::options().create(true).append(true).open(self.path("etcd.log")).unwrap();
        // It dies with the thread that started it.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "etcd", "--log-level", "error", "--logger", "zap"]);
        command.args(["--name", &format!("m{number}"), "--data-dir"]).arg(self.data(number));
        command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        command.args(["--initial-cluster", &peers, "--heartbeat-interval", "50", "--election-timeout", "500"]);
        if self.tls {
            command.arg("--client-cert-auth").arg("--trusted-ca-file").arg(self.path("ca.pem"));
            command.arg("--cert-file").arg(self.path("server.pem")).arg("--key-file").arg(self.path("server.key"));
        }
        if self.signs {
            let (public, private) = (self.path("sign.pub"), self.path("sign.key"));
            let (public, private) = (public.display(), private.display());
            command.arg("--auth-token");
            command.arg(format!("jwt,pub-key={public},priv-key={private},sign-method=RS256,ttl=1h"));
        }
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.members[number].process = Some(command.spawn().expect("etcd-server and util-linux are installed"));
    }

    /// Waits until the cluster answers.
    async fn wait(&self) {
        let etcd = Etcd::open(&self.address(), None, Some(&self.key()), Duration::from_secs(2)).unwrap();
        let deadline = Instant::now() + PATIENCE;
        while let Err(error) = etcd.get("ready").await {
            // One that asks for a user is there, too.
            if matches!(error, warmspare::store::StoreError::Denied { .. }) {
                return;
            }
            let log = || std::fs::read_to_string(self.path("etcd.log")).unwrap_or_default();
            assert!(Instant::now() < deadline, "etcd does not answer: {}\n{}", warmspare::error::chain(&error), log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn data(&self, number: usize) -> PathBuf {
        self.path(&format!("data-{number}"))
    }

    pub fn port(&self, number: usize) -> u16 {
        self.members[number].client_port
    }

    /// The key of the clients' certificate.
    pub fn key(&self) -> SecretString {
        SecretString::from(std::fs::read_to_string(self.path("client.key")).unwrap())
    }

    pub fn address(&self) -> EtcdAddress {
        self.address_by(&self.members.iter().map(|member| member.client_port).collect::<Vec<_>>())
    }

    /// The way to the cluster by these ports of loopback.
    pub fn address_by(&self, ports: &[u16]) -> EtcdAddress {
        let key = Reference::File(self.path("client.key"));
        EtcdAddress {
            members: ports.iter().map(|port| format!("127.0.0.1:{port}")).collect(),
            prefix: "builder/".to_owned(),
            tls: self.tls,
            ca_file: self.tls.then(|| self.path("ca.pem")),
            credentials: None,
            certificate: self.tls.then(|| (self.path("client.pem"), key)),
        }
    }

    /// Kills a member.
    pub fn kill(&mut self, number: usize) {
        if let Some(mut process) = self.members[number].process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// Starts the killed members again.
    pub async fn restart(&mut self) {
        for number in 0..self.members.len() {
            if self.members[number].process.is_none() {
                self.run(number);
            }
        }
        self.wait().await;
    }

    /// What the only member has on its disk, as a backup of the whole machine would have it.
    pub fn back_up(&mut self) -> PathBuf {
        self.kill(0);
        let backup = self.path("backup");
        copy(&self.data(0), &backup);
        backup
    }

    /// Puts the backup back.
    pub async fn put_back(&mut self, backup: &Path) {
        self.kill(0);
        std::fs::remove_dir_all(self.data(0)).unwrap();
        copy(backup, &self.data(0));
        self.restart().await;
    }

    /// Has the cluster ask for users: `witness` with `password` may write below the prefix, `root` everything.
    pub fn ask_for_users(&self, password: &str) {
        let text = |text: &str| STANDARD.encode(text);
        self.call("auth/role/add", r#"{"name":"root"}"#);
        self.call("auth/user/add", r#"{"name":"root","password":"r"}"#);
        self.call("auth/user/grant", r#"{"user":"root","role":"root"}"#);
        self.call("auth/role/add", r#"{"name":"witness"}"#);
        let (from, to) = (text("builder/"), text("builder0"));
        let may =
            format!(r#"{{"name":"witness","perm":{{"permType":"READWRITE","key":"{from}","range_end":"{to}"}}}}"#);
        self.call("auth/role/grant", &may);
        self.call("auth/user/add", &format!(r#"{{"name":"witness","password":"{password}"}}"#));
        self.call("auth/user/grant", r#"{"user":"witness","role":"witness"}"#);
        self.call("auth/enable", "{}");
    }

    /// Adds a user, where they are asked for: whoever has a token has one of before that.
    pub fn add_user(&self, name: &str) {
        let told = self.call("auth/authenticate", r#"{"name":"root","password":"r"}"#);
        let token = serde_json::from_str::<serde_json::Value>(&told).unwrap()["token"].as_str().unwrap().to_owned();
        self.call_as(Some(&token), "auth/user/add", &format!(r#"{{"name":"{name}","password":"x"}}"#));
    }

    fn call(&self, path: &str, body: &str) -> String {
        self.call_as(None, path, body)
    }

    fn call_as(&self, token: Option<&str>, path: &str, body: &str) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        let url = format!("{scheme}://127.0.0.1:{}/v3/{path}", self.members[0].client_port);
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--fail", "--data", body]);
        if self.tls {
            curl.arg("--cacert").arg(self.path("ca.pem")).arg("--cert").arg(self.path("client.pem"));
            curl.arg("--key").arg(self.path("client.key"));
        }
        if let Some(token) = token {
            curl.args(["--header", &format!("Authorization: {token}")]);
        }
        let output = curl.arg(&url).output().unwrap();
        assert!(output.status.success(), "{path}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for EtcdServer {
    fn drop(&mut self) {
        for member in &mut self.members {
            if let Some(mut process) = member.process.take() {
                let _ = process.kill();
                let _ = process.wait();
            }
        }
    }
}

fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
}

/// An authority, and of it a certificate for the server and one for the client.
pub fn certificates(folder: &Path) {
    let openssl = |words: &str| {
        let output = Command::new("openssl").args(words.split(' ')).current_dir(folder).output().unwrap();
        assert!(output.status.success(), "openssl {words}: {}", String::from_utf8_lossy(&output.stderr));
    };
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    std::fs::write(folder.join("names"), "subjectAltName=IP:127.0.0.1,DNS:localhost\n").unwrap();
    openssl(&format!("req -x509 {key} -days 2 -subj /CN=ours -keyout ca.key -out ca.pem"));
    // etcd that asks for users refuses, over HTTP, a certificate that names somebody.
    for (who, subject) in [("server", "/CN=server"), ("client", "/O=ours"), ("named", "/CN=witness")] {
        openssl(&format!("req {key} -subj {subject} -keyout {who}.key -out {who}.csr"));
        let sign = "-CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names";
        openssl(&format!("x509 -req -in {who}.csr {sign} -out {who}.pem"));
    }
    openssl("genrsa -out sign.key 2048");
    openssl("rsa -in sign.key -pubout -out sign.pub");
}
