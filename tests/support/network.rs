//! Places on a network of their own: a namespace of the kernel each, joined by a bridge, whose links are cut by packet filters.
//!
//! As root they are made as they are; anybody else gets a namespace of users around them. A socket with a path is reached from any
//! of them: by such sockets, carried on by HAProxy inside, the servers of a test are where the places can reach them.

use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use tokio::net::{TcpStream, UnixListener};
use tokio::task::JoinHandle;

const PATIENCE: Duration = Duration::from_secs(30);

/// The places, each with its address on the bridge.
pub const PLACES: [(&str, &str); 4] =
    [("ams", "10.77.0.1"), ("fra", "10.77.0.2"), ("witness", "10.77.0.3"), ("client", "10.77.0.4")];

/// Makes the bridge and the places, says their processes, and ends with its standard input.
const SCRIPT: &str = r#"
set -eu
ip link set lo up
ip link add bridge type bridge
ip link set bridge up
ours=$(readlink /proc/self/ns/net)
pids=
trap 'kill -9 $pids' EXIT
for place in "$@"; do
    setpriv --pdeathsig KILL unshare --net sleep infinity &
    pid=$!
    pids="$pids $pid"
    while [ "$(readlink /proc/$pid/ns/net)" = "$ours" ] || [ "$(cat /proc/$pid/comm)" != sleep ]; do :; done
    name=${place%%=*} address=${place#*=}
    ip link add "at-$name" type veth peer name line netns $pid
    ip link set "at-$name" master bridge up
    nsenter --net=/proc/$pid/ns/net sh -c "ip link set lo up; ip address add $address/24 dev line; ip link set line up"
    echo "$name $pid"
done
echo ready
cat >/dev/null
"#;

/// A network that is there as long as this is.
pub struct Network {
    hub: Child,
    /// Closed, it ends the script.
    _until: ChildStdin,
    places: Vec<(String, u32)>,
    as_root: bool,
}

impl Network {
    pub fn start() -> Network {
        let as_root = rustix::process::geteuid().is_root();
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "unshare", "--net"]);
        if !as_root {
            command.arg("--map-root-user");
        }
        command.args(["sh", "-c", SCRIPT, "network"]);
        command.args(PLACES.map(|(name, address)| format!("{name}={address}")));
        let mut hub = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let until = hub.stdin.take().unwrap();
        let mut said = BufReader::new(hub.stdout.take().unwrap()).lines();
        let mut places = Vec::new();
        loop {
            let line = said.next().expect("iproute2, util-linux and namespaces are there").unwrap();
            match line.split_once(' ') {
                Some((name, pid)) => places.push((name.to_owned(), pid.parse().unwrap())),
                None => break,
            }
        }
        Network { hub, _until: until, places, as_root }
    }

    /// The same command, run in a place; its process is the one that is started, and ends with the thread that does.
    pub fn inside(&self, place: &str, command: &Command) -> Command {
        let mut inside = self.enter(place);
        inside.args(["setpriv", "--pdeathsig", "KILL"]);
        inside.arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => inside.env(name, value),
                None => inside.env_remove(name),
            };
        }
        inside
    }

    fn enter(&self, place: &str) -> Command {
        let (_, pid) = self.places.iter().find(|(name, _)| name == place).unwrap();
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{pid}/ns/net"));
        if !self.as_root {
            command.arg("--preserve-credentials").arg(format!("--user=/proc/{}/ns/user", self.hub.id()));
        }
        command
    }

    /// From now on nothing goes from `place` to `other`, nor back.
    pub fn cut(&self, place: &str, other: &str) {
        self.filter(
            place,
            &[format!("input ip saddr {}", address(other)), format!("output ip daddr {}", address(other))],
        );
    }

    /// From now on `place` does not hear what `other` says.
    pub fn deafen(&self, place: &str, other: &str) {
        self.filter(place, &[format!("input ip saddr {}", address(other))]);
    }

    fn filter(&self, place: &str, rules: &[String]) {
        let mut script = "add table ip cut\n".to_owned();
        for hook in ["input", "output"] {
            script += &format!("add chain ip cut {hook} {{ type filter hook {hook} priority 0 ; }}\n");
        }
        rules.iter().for_each(|rule| script += &format!("add rule ip cut {rule} drop\n"));
        self.does(place, &["nft", &script]);
    }

    /// Everything goes again.
    pub fn heal(&self, place: &str) {
        self.does(place, &["nft", "flush ruleset"]);
    }

    fn does(&self, place: &str, command: &[&str]) {
        self.says(place, command);
    }

    /// What a command that ends well says in a place.
    pub fn says(&self, place: &str, command: &[&str]) -> String {
        let output = self.enter(place).args(command).output().unwrap();
        assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// In `place`, passes on what comes to each `bind` to each `server`, as HAProxy spells them.
    pub fn pass_on(&self, place: &str, file: &Path, ways: &[(String, String)]) -> Program {
        let mut text =
            "defaults\n    mode tcp\n    timeout connect 2s\n    timeout client 1m\n    timeout server 1m\n".to_owned();
        for (number, (bind, server)) in ways.iter().enumerate() {
            text += &format!("listen way{number}\n    bind {bind}\n    server way {server}\n");
        }
        // It listens at all of them or none: at this one it can be asked.
        let ready = file.with_extension("ready");
        text += &format!("listen ready\n    bind unix@{}\n    server nobody 127.0.0.1:1\n", ready.display());
        std::fs::write(file, text).unwrap();
        let mut command = Command::new("haproxy");
        command.args(["-db", "-f"]).arg(file);
        let program = Program::start(&mut self.inside(place, &command));
        let begun = Instant::now();
        while UnixStream::connect(&ready).is_err() {
            assert!(begun.elapsed() < PATIENCE, "HAProxy does not start in {place}");
            std::thread::sleep(Duration::from_millis(10));
        }
        program
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let _ = self.hub.kill();
        let _ = self.hub.wait();
    }
}

pub fn address(place: &str) -> &'static str {
    PLACES.iter().find(|(name, _)| *name == place).unwrap().1
}

/// A program that ends with this.
pub struct Program(Child);

impl Program {
    pub fn start(command: &mut Command) -> Program {
        Program(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A socket with a path that leads to a port of this machine, as long as this lives.
pub struct Door(JoinHandle<()>);

impl Door {
    pub fn open(path: PathBuf, port: u16) -> Door {
        let listener = UnixListener::bind(path).unwrap();
        Door(tokio::spawn(async move {
            loop {
                let (mut one, _) = listener.accept().await.unwrap();
                tokio::spawn(async move {
                    let Ok(mut other) = TcpStream::connect(("127.0.0.1", port)).await else { return };
                    let _ = tokio::io::copy_bidirectional(&mut one, &mut other).await;
                });
            }
        }))
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.0.abort();
    }
}
