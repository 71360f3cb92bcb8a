//! The live site cannot read back what it wrote: everything it holds (its files, the environment and the whole writable
//! memory of its process, stopped at the worst moments of a real capture) is searched for anything that opens a secrets
//! object, a body or a pack. The control plants the spare's identity there, and the same search must find it.
//!
//! Searched for are identities as text; every 32 bytes (as they are, and as hexadecimal digits) whose X25519 public half
//! is the epoch's, the spare's or the escrow's recipient; and every 16 bytes that are the file key of one of the objects,
//! told by the MAC of its header.
//!
//! Without the allocator that wipes what is freed, this test is red: the crate that seals keeps 64 KiB of plain text in a
//! buffer it frees as it is.

#![cfg(feature = "failpoints")]

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hmac::{Hmac, KeyInit, Mac};
use secrecy::SecretString;
use sha2::Sha256;
use warmspare::keys::Identity;
use x25519_dalek::{PublicKey, StaticSecret};

use crate::support::sites::{Sites, shown};

/// A place of the live site and what it holds.
type Held = Vec<(String, Vec<u8>)>;

/// A capture that stands still after a durable step; it goes on when told, and is killed if nobody does.
struct Paused {
    child: Option<Child>,
    go: PathBuf,
}

impl Paused {
    fn at(sites: &Sites, step: &str, environment: &[(&str, &str)]) -> Paused {
        let (here, go) = (sites.path().join("paused"), sites.path().join("go"));
        for mark in [&here, &go] {
            let _ = fs::remove_file(mark);
        }
        let wait = format!("{step}=touch {}; while [ ! -e {} ]; do sleep 0.02; done", here.display(), go.display());
        let mut command = sites.command("ams", ["capture"]);
        command.env("WARMSPARE_FAILPOINT_RUN", wait).envs(environment.iter().copied());
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut paused = Paused { child: Some(child), go };
        let begun = Instant::now();
        while !here.exists() {
            let ended = paused.child.as_mut().unwrap().try_wait().unwrap().is_some();
            if ended || begun.elapsed() > Duration::from_secs(60) {
                let mut child = paused.child.take().unwrap();
                let _ = child.kill();
                panic!("the capture did not come to {step}: {}", shown(&child.wait_with_output().unwrap()));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        paused
    }

    fn process(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}", self.child.as_ref().unwrap().id()))
    }

    /// Environment and all writable memory of the process; `None` for a reader who is not root, whom the kernel refuses.
    fn memory(&self) -> Option<Held> {
        let memory = match File::open(self.process().join("mem")) {
            Err(error) if error.kind() == ErrorKind::PermissionDenied => return None,
            memory => memory.unwrap(),
        };
        let mut held = vec![("environment".to_owned(), fs::read(self.process().join("environ")).unwrap())];
        for line in fs::read_to_string(self.process().join("maps")).unwrap().lines() {
            let mut fields = line.split_whitespace();
            let (range, rights) = (fields.next().unwrap(), fields.next().unwrap());
            let (from, to) = range.split_once('-').unwrap();
            let (from, to) = (u64::from_str_radix(from, 16).unwrap(), u64::from_str_radix(to, 16).unwrap());
            let mut content = vec![0; (to - from) as usize];
            if rights.starts_with("rw") && memory.read_exact_at(&mut content, from).is_ok() {
                held.push((format!("memory {range} {}", fields.last().unwrap_or("")), content));
            }
        }
        Some(held)
    }

    fn end(mut self) {
        fs::write(&self.go, "").unwrap();
        let output = self.child.take().unwrap().wait_with_output().unwrap();
        assert!(output.status.success(), "{}", shown(&output));
    }
}

impl Drop for Paused {
    fn drop(&mut self) {
        let _ = fs::write(&self.go, "");
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn files_below(folder: &Path, found: &mut Held) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files_below(&path, found),
            false => found.push((path.display().to_string(), fs::read(&path).unwrap())),
        }
    }
}

/// Every file of the live site: state, keys, configuration, and the data it serves.
fn files_of_the_live_site(sites: &Sites) -> Held {
    let mut held = vec![("warmspare.toml".to_owned(), fs::read(sites.configuration()).unwrap())];
    for folder in ["ams", "ams-keys"] {
        files_below(&sites.path().join(folder), &mut held);
    }
    held
}

/// What the search is for.
struct Wanted {
    /// X25519 public halves, and whose they are.
    recipients: BTreeMap<[u8; 32], String>,
    /// Every sealed object: its key, its bytes, where its header's MAC stands.
    sealed: Vec<(String, Vec<u8>, usize)>,
    /// Every 16 bytes of every sealed object: copies of them in memory tell nothing that the vault does not.
    ciphertext: HashSet<u128>,
}

impl Wanted {
    fn of(sites: &Sites) -> Wanted {
        let (mut objects, mut sealed, mut recipients) = (Held::new(), Vec::new(), BTreeMap::new());
        files_below(&sites.vault(), &mut objects);
        let configuration = fs::read_to_string(sites.configuration()).unwrap();
        let spare = configuration.split_once("[sites.fra]").unwrap().1;
        let mut want = |text: &str, whose: &str| {
            let at = text.find("age1").unwrap();
            let recipient = text[at..].split('"').next().unwrap();
            let (_, public) = bech32::decode(recipient).unwrap();
            recipients.insert(public.try_into().unwrap(), whose.to_owned());
        };
        want(spare, "the spare");
        want(&configuration, "the escrow");
        for (key, content) in objects {
            if key.ends_with("epoch.json") {
                let record = String::from_utf8_lossy(&content).into_owned();
                want(record.split_once("\"recipient\":").unwrap().1, "the epoch");
            } else if key.ends_with(".age") {
                let mac = content.windows(5).position(|window| window == b"\n--- ").unwrap() + 4;
                sealed.push((key, content, mac));
            }
        }
        Wanted::new(recipients, sealed)
    }

    fn new(recipients: BTreeMap<[u8; 32], String>, sealed: Vec<(String, Vec<u8>, usize)>) -> Wanted {
        let windows = sealed.iter().flat_map(|(_, content, _)| content.windows(16)).map(value);
        let ciphertext = windows.collect();
        Wanted { recipients, sealed, ciphertext }
    }

    /// The objects that open with a window of `content`, and the recipients whose identity it is.
    fn in_windows(&self, content: &[u8], step: usize) -> BTreeSet<String> {
        let (mut found, mut seen) = (BTreeSet::new(), HashSet::new());
        for at in (0..content.len().saturating_sub(15)).step_by(step) {
            let short = value(&content[at..at + 16]);
            if !is_random(short) || self.ciphertext.contains(&short) {
                continue;
            }
            if seen.insert([short, 0]) {
                found.extend(self.opened_by_file_key(&short.to_ne_bytes()).map(|key| format!("the file key of {key}")));
            }
            let Some(long) = content.get(at..at + 32) else { continue };
            if is_random(value(&long[16..])) && seen.insert([short, value(&long[16..])]) {
                found.extend(self.owner(long.try_into().unwrap()).map(|whose| format!("the identity of {whose}")));
            }
        }
        found
    }

    fn owner(&self, secret: [u8; 32]) -> Option<&String> {
        self.recipients.get(PublicKey::from(&StaticSecret::from(secret)).as_bytes())
    }

    /// age-encryption.org/v1: the MAC key is HKDF of the file key with `header`; the MAC is over all before it.
    fn opened_by_file_key(&self, file_key: &[u8; 16]) -> impl Iterator<Item = &String> {
        let mut mac_key = [0; 32];
        hkdf::Hkdf::<Sha256>::new(None, file_key).expand(b"header", &mut mac_key).unwrap();
        let keyed = Hmac::<Sha256>::new_from_slice(&mac_key).unwrap();
        self.sealed.iter().filter_map(move |(key, content, mac)| {
            let tag = keyed.clone().chain_update(&content[..*mac]).finalize().into_bytes();
            content[*mac + 1..].starts_with(&base64_without_padding(&tag)).then_some(key)
        })
    }
}

fn base64_without_padding(bytes: &[u8]) -> Vec<u8> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = |chunk: &[u8]| {
        let padded = [chunk, &[0; 3][chunk.len()..]].concat();
        let bits = u32::from_be_bytes([0, padded[0], padded[1], padded[2]]);
        let count = chunk.len() + 1;
        (0..count).map(move |digit| DIGITS[(bits >> (18 - 6 * digit)) as usize & 63]).collect::<Vec<u8>>()
    };
    bytes.chunks(3).flat_map(digits).collect()
}

fn value(window: &[u8]) -> u128 {
    u128::from_ne_bytes(window.try_into().unwrap())
}

/// Whether at least two bytes of it are no ASCII and eleven differ: what keys look like, and text, pointers and zeros do
/// not. One key in some thousands would be overlooked.
fn is_random(window: u128) -> bool {
    const HIGH_BITS: u128 = u128::from_ne_bytes([0x80; 16]);
    if (window & HIGH_BITS).count_ones() < 2 {
        return false;
    }
    let mut seen = [0u64; 4];
    for byte in window.to_ne_bytes() {
        seen[usize::from(byte >> 6)] |= 1 << (byte & 63);
    }
    seen.iter().map(|bits| bits.count_ones()).sum::<u32>() >= 11
}

/// The identities that stand in `content` as text.
fn identities_in(content: &[u8]) -> Vec<Identity> {
    let mark = b"age-secret-key-1";
    let starts = content.iter().enumerate().filter(|(_, byte)| matches!(byte, b'a' | b'A')).map(|(at, _)| at);
    let text = |at: usize| String::from_utf8_lossy(&content[at..content.len().min(at + 74)]).to_uppercase();
    let marked = |at: &usize| content.get(*at..*at + mark.len()).is_some_and(|text| text.eq_ignore_ascii_case(mark));
    starts.filter(marked).filter_map(|at| Identity::from_file_text(&SecretString::from(text(at))).ok()).collect()
}

/// The bytes that runs of 64 and more hexadecimal digits write.
fn hexadecimal_in(content: &[u8]) -> Vec<u8> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16).map(|digit| digit as u8);
    let runs = content.split(|byte| !byte.is_ascii_hexdigit()).filter(|run| run.len() >= 64);
    runs.flat_map(|run| run.chunks_exact(2)).filter_map(|pair| Some(digit(&pair[0])? << 4 | digit(&pair[1])?)).collect()
}

/// What in `held` opens anything, each with its place.
fn search(held: &Held, wanted: &Wanted) -> BTreeSet<String> {
    let parts: Vec<(&String, &[u8], usize)> = held
        .iter()
        .flat_map(|(place, content)| {
            // Memory has its values at multiples of eight; files anywhere. Pages of zeros are left out.
            let step = if place.starts_with("memory") { 8 } else { 1 };
            let pieces = content.chunks(1 << 20).enumerate();
            pieces.map(move |(n, _)| (place, &content[n << 20..content.len().min(((n + 1) << 20) + 128)], step))
        })
        .filter(|(_, content, _)| content.iter().any(|byte| *byte != 0))
        .collect();
    let one = |(place, content, step): &(&String, &[u8], usize)| {
        let mut found = wanted.in_windows(content, *step);
        found.extend(wanted.in_windows(&hexadecimal_in(content), 1));
        for identity in identities_in(content) {
            let opens =
                |(_, sealed, _): &&(String, Vec<u8>, usize)| warmspare::pipeline::open(&identity, sealed).is_ok();
            found.extend(wanted.sealed.iter().filter(opens).map(|(key, ..)| format!("an identity that opens {key}")));
        }
        found.into_iter().map(|what| format!("{place}: {what}")).collect::<Vec<_>>()
    };
    let (left, right) = parts.split_at(parts.len() / 2);
    std::thread::scope(|scope| {
        let halves = [left, right].map(|half| scope.spawn(move || half.iter().flat_map(one).collect::<Vec<_>>()));
        halves.into_iter().flat_map(|half| half.join().unwrap()).collect()
    })
}

#[tokio::test]
async fn nothing_the_live_site_holds_opens_what_it_wrote() {
    let sites = Sites::filled().await;
    // The epoch was just opened; its secrets were just put; the point was just published.
    for step in ["vault.epoch.record", "vault.epoch.secrets", "vault.point"] {
        sites.forget_captures();
        let paused = Paused::at(&sites, step, &[]);
        assert_eq!(core_limit(&paused.process()), "0", "core dumps are off");
        let memory = paused.memory();
        let held_files = files_of_the_live_site(&sites);
        // Sealed meanwhile or later: the secrets must not be in the memory of any moment.
        paused.end();
        assert!(
            held_files.iter().any(|(_, content)| !identities_in(content).is_empty()),
            "the live site's own identity"
        );
        let wanted = Wanted::of(&sites);
        assert!(wanted.recipients.len() == 3 && wanted.sealed.len() >= 5, "{} objects", wanted.sealed.len());
        assert_eq!(search(&held_files, &wanted), BTreeSet::new(), "files at {step}");
        let Some(memory) = memory else {
            println!("not root: the kernel refused to show the memory of a process of the same user, as it should");
            continue;
        };
        let bytes: usize = memory.iter().map(|(_, content)| content.len()).sum();
        let begun = Instant::now();
        assert_eq!(search(&memory, &wanted), BTreeSet::new(), "memory at {step}");
        println!("{step}: {} MiB of memory searched in {:?}", bytes >> 20, begun.elapsed());
    }
}

#[tokio::test]
async fn the_spares_identity_planted_at_the_live_site_is_found() {
    let sites = Sites::filled().await;
    let planted = fs::read_to_string(sites.path().join("fra-keys/identity.txt")).unwrap();
    let line = planted.lines().last().unwrap();
    let paused = Paused::at(&sites, "vault.point", &[("FORGOTTEN", line)]);
    let memory = paused.memory();
    paused.end();
    let wanted = Wanted::of(&sites);
    assert_eq!(search(&files_of_the_live_site(&sites), &wanted), BTreeSet::new());

    fs::write(sites.state("ams").join("old-identity.txt"), &planted).unwrap();
    let found = search(&files_of_the_live_site(&sites), &wanted);
    let in_file =
        |what: &&String| what.contains("old-identity.txt: an identity that opens") && what.ends_with("secrets-0.age");
    assert!(found.iter().any(|what| in_file(&what)), "{found:?}");
    if let Some(memory) = memory {
        let found = search(&memory.into_iter().filter(|(place, _)| place == "environment").collect(), &wanted);
        assert!(found.iter().any(|what| what.starts_with("environment: an identity that opens")), "{found:?}");
    }

    // Without its text form, at an odd place and among other bytes.
    let (_, raw) = bech32::decode(line).unwrap();
    let digits = warmspare::keys::to_hex(&raw);
    for content in [[&[7; 13][..], &raw, &[9; 40]].concat(), format!("key={digits};").into_bytes()] {
        let found = search(&vec![("a file".to_owned(), content)], &wanted);
        assert_eq!(found, ["a file: the identity of the spare".to_owned()].into());
    }
    let opened = warmspare::pipeline::open(&identities_in(line.as_bytes())[0], &wanted.sealed_ending("secrets-0.age"));
    let epoch = identities_in(&opened.unwrap()).pop().unwrap();
    let opens = wanted.sealed.iter().filter(|(_, sealed, _)| warmspare::pipeline::open(&epoch, sealed).is_ok()).count();
    assert_eq!(opens, wanted.sealed.len() - 1, "with the spare's identity everything opens: bodies and packs");
}

impl Wanted {
    fn sealed_ending(&self, name: &str) -> Vec<u8> {
        self.sealed.iter().find(|(key, ..)| key.ends_with(name)).unwrap().1.clone()
    }
}

#[test]
fn the_search_knows_a_file_key_when_it_sees_one() {
    // The plugin of the tests writes the file key down, where any other would seal it.
    let folder = tempfile::tempdir().unwrap();
    let (plain, sealed) = (folder.path().join("plain"), folder.path().join("sealed.age"));
    fs::write(&plain, "a secret").unwrap();
    let mut path = std::ffi::OsString::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support:"));
    path.push(std::env::var_os("PATH").unwrap());
    let hrp = bech32::Hrp::parse_unchecked("age1double");
    let recipient = bech32::encode::<bech32::Bech32>(hrp, b"a key in hardware").unwrap();
    let mut age = Command::new("age");
    age.env("PATH", path).args(["-r", &recipient, "-o"]).args([&sealed, &plain]);
    assert!(age.status().unwrap().success());
    let content = fs::read(&sealed).unwrap();
    let mac = content.windows(5).position(|window| window == b"\n--- ").unwrap() + 4;
    let stanza = String::from_utf8_lossy(&content[..mac]).lines().nth(2).unwrap().to_owned();
    let mut decode = Command::new("base64").arg("-d").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut decode.stdin.take().unwrap(), format!("{stanza}==").as_bytes()).unwrap();
    let file_key = decode.wait_with_output().unwrap().stdout;
    assert_eq!(file_key.len(), 16);
    let wanted = Wanted::new(BTreeMap::new(), vec![("sealed.age".to_owned(), content, mac)]);
    let held = vec![("a file".to_owned(), [&[1; 5][..], &file_key, &[2; 40]].concat())];
    assert_eq!(search(&held, &wanted), ["a file: the file key of sealed.age".to_owned()].into());
}

/// A command run by a user who is not root: nobody's own when the tests are run by root.
fn unprivileged(program: &Path) -> Command {
    if !rustix::process::geteuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(program);
    command
}

#[test]
fn another_process_of_the_same_user_cannot_look_inside_and_a_crash_leaves_no_core() {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let binary = folder.path().join("warmspare");
    fs::copy(env!("CARGO_BIN_EXE_warmspare"), &binary).unwrap();
    // A shell that allows cores becomes the command, which waits for a page to be typed.
    let mut command = unprivileged(Path::new("sh"));
    command.args(["-c", "ulimit -c unlimited; exec \"$0\" \"$@\""]).arg(&binary);
    command.args(["keygen", "--escrow", "--verify", "-"]).current_dir("/").stdin(Stdio::piped());
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let process = PathBuf::from(format!("/proc/{}", child.id()));
    let is_open = || {
        let links = fs::read_link(process.join("exe"));
        links.is_ok_and(|exe| exe == binary) && core_limit(&process) == "0"
    };
    let begun = Instant::now();
    while !is_open() && begun.elapsed() < Duration::from_secs(20) {
        std::thread::sleep(Duration::from_millis(10));
    }
    let read = |path: &Path| unprivileged(Path::new("cat")).arg(path).output().unwrap();
    let (look, control) = (read(&process.join("environ")), read(Path::new("/proc/self/environ")));
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::ABORT).unwrap();
    let status = child.wait().unwrap();
    assert!(control.status.success(), "{}", shown(&control));
    assert!(String::from_utf8_lossy(&look.stderr).contains("Permission denied"), "{}", shown(&look));
    assert_eq!((status.signal(), status.core_dumped()), (Some(6), false));
}

/// The soft limit of the size of a core.
fn core_limit(process: &Path) -> String {
    let limits = fs::read_to_string(process.join("limits")).unwrap_or_default();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max core file size"));
    line.and_then(|line| line.split_whitespace().next()).unwrap_or_default().to_owned()
}
