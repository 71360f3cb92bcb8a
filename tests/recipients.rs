//! Whom the secrets of an epoch are sealed to: SSH keys and plugins beside age's own, new recipients for old epochs, and
//! the escrow's page. Everything is made and opened with the real tools, `ssh-keygen` and `age`, too.

use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use warmspare::clock::SystemClock;
use warmspare::keygen;

use crate::support::sites::{Sites, shown};

/// The search path with the plugin of tests/support on it.
fn path_with_plugin() -> OsString {
    let mut path = OsString::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support:"));
    path.push(std::env::var_os("PATH").unwrap());
    path
}

/// A recipient of the plugin and the file of its identity.
fn plugin_key(folder: &Path) -> (String, PathBuf) {
    let text = |prefix: &str| {
        let prefix = bech32::Hrp::parse_unchecked(prefix);
        bech32::encode::<bech32::Bech32>(prefix, b"a key in hardware").unwrap()
    };
    let (recipient, identity) = (text("age1double"), text("age-plugin-double-").to_uppercase());
    let file = folder.join("plugin.txt");
    fs::write(&file, format!("# made for a test\n#    Recipient: {recipient}\n{identity}\n")).unwrap();
    (recipient, file)
}

/// An SSH key without a passphrase: the public line and the private file.
fn ssh_key(folder: &Path, kind: &str) -> (String, PathBuf) {
    let file = folder.join(format!("id-{kind}"));
    let words = ["-q", "-N", "", "-C", "alice@example.org", "-t", kind, "-f"];
    assert!(Command::new("ssh-keygen").args(words).arg(&file).status().unwrap().success());
    (fs::read_to_string(file.with_extension("pub")).unwrap().trim().to_owned(), file)
}

/// The part of the configuration's text between the first `from` after `section` and the quotation mark that follows.
fn configured(sites: &Sites, section: &str, from: &str) -> String {
    let text = fs::read_to_string(sites.configuration()).unwrap();
    let rest = text.split_once(section).unwrap().1.split_once(from).unwrap().1;
    rest.split('"').next().unwrap().to_owned()
}

fn secrets(sites: &Sites, epoch: u32, n: u32) -> PathBuf {
    sites.vault().join(format!("systems/app/epochs/00000000-{epoch:06}/secrets-{n}.age"))
}

/// What age itself makes of `sealed`.
fn age(identity: &Path, sealed: &Path) -> Output {
    let mut age = Command::new("age");
    age.env("PATH", path_with_plugin()).arg("-d").arg("-i").arg(identity).arg(sealed).output().unwrap()
}

fn with_plugin(sites: &Sites, site: &str, arguments: &[&str], mode: &str) -> Output {
    sites.command(site, arguments).env("PATH", path_with_plugin()).env("DOUBLE", mode).output().unwrap()
}

#[tokio::test]
async fn secrets_sealed_to_ssh_keys_and_plugins_open_here_and_with_age_itself() {
    let sites = Sites::filled().await;
    let (ed25519, ed25519_file) = ssh_key(sites.path(), "ed25519");
    let (rsa, rsa_file) = ssh_key(sites.path(), "rsa");
    let (plugin, plugin_file) = plugin_key(sites.path());
    let old = configured(&sites, "[sites.fra]", "recipient = \"");
    sites.edit_configuration(&old, &ed25519);
    let escrow = configured(&sites, "[vault]", "escrow = [\"");
    sites.edit_configuration(&escrow, &format!("{escrow}\", \"{rsa}\", \"{plugin}"));

    let captured = with_plugin(&sites, "ams", &["capture"], "");
    assert!(captured.status.success(), "{}", shown(&captured));
    for identity in [&ed25519_file, &rsa_file, &plugin_file, &sites.path().join("escrow.txt")] {
        let opened = age(identity, &secrets(&sites, 1, 0));
        assert!(opened.status.success(), "{}: {}", identity.display(), shown(&opened));
        assert!(opened.stdout.starts_with(b"# warmspare epoch secrets, format 1\n"));
    }
    assert!(!age(&sites.path().join("ams-keys/identity.txt"), &secrets(&sites, 1, 0)).status.success());

    let mut named = "fra-keys/identity.txt";
    for identity in ["id-ed25519", "plugin.txt"] {
        sites.edit_configuration(named, identity);
        named = identity;
        let restored = with_plugin(&sites, "fra", &["restore", "--only", "export.configs", "--replace"], "");
        assert!(restored.stdout.starts_with(b"EQUAL"), "{identity}: {}", shown(&restored));
    }
    let asked = with_plugin(&sites, "fra", &["restore", "--replace"], "ask");
    let message = sites.words(&asked);
    assert!(message.contains("asks \"PIN of the double, please\", and there is nobody to answer"), "{message}");
    assert!(message.contains("next:  Set age-plugin-double up so that it needs neither PIN nor touch"), "{message}");
}

#[tokio::test]
async fn a_plugin_that_cannot_seal_is_named_and_nothing_is_left_half_done() {
    let sites = Sites::filled().await;
    let escrow = configured(&sites, "[vault]", "escrow = [\"");
    sites.edit_configuration(&escrow, &plugin_key(sites.path()).0);
    let message = sites.refused("ams", &["capture"], 1);
    assert!(message.contains("the program age-plugin-double is not on this host's PATH"), "{message}");
    assert!(message.contains("next:  Install age-plugin-double"), "{message}");
    let check = sites.command("ams", ["check"]).output().unwrap();
    assert!(!check.status.success(), "{}", shown(&check));
    assert!(shown(&check).contains("age-plugin-double is not on this host's PATH"), "{}", shown(&check));
    for (mode, said) in [
        ("ask", "age-plugin-double asks \"PIN of the double, please\""),
        ("refuse", "age-plugin-double: (internal) the card is locked"),
        ("die", "age-plugin-double: ended before it had answered"),
    ] {
        let output = with_plugin(&sites, "ams", &["capture"], mode);
        assert_eq!(output.status.code(), Some(1), "{mode}: {}", shown(&output));
        assert!(sites.words(&output).contains(said), "{mode}: {}", shown(&output));
    }
    assert!(!sites.vault().join("systems/app/epochs").exists(), "a plugin that fails burns no number");
    let captured = with_plugin(&sites, "ams", &["capture"], "");
    assert!(captured.status.success(), "{}", shown(&captured));
}

#[test]
fn an_ssh_key_with_a_passphrase_is_refused_by_day() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key");
    let words = ["-q", "-N", "a passphrase", "-t", "ed25519", "-f"];
    assert!(Command::new("ssh-keygen").args(words).arg(&file).status().unwrap().success());
    let text = secrecy::SecretString::from(fs::read_to_string(&file).unwrap());
    let error = warmspare::keys::Identity::from_file_text(&text).unwrap_err().to_string();
    assert!(error.starts_with("not usable as it is: the SSH key has a passphrase"), "{error}");
}

/// Secrets that somebody who may create keys could put there: well formed, sealed to `recipient`, of another identity.
fn forge(at: &Path, recipient: &str) {
    let identity = warmspare::keys::Identity::generate().to_file_text();
    let digits = "5e".repeat(32);
    let text = format!(
        "# warmspare epoch secrets, format 1\n# system: app\n# epoch: 00000000-000001\n# chunk-id-key: {digits}\n{}",
        secrecy::ExposeSecret::expose_secret(&identity)
    );
    let mut age = Command::new("age").arg("-r").arg(recipient).arg("-o").arg(at).stdin(Stdio::piped()).spawn().unwrap();
    age.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    assert!(age.wait().unwrap().success());
}

#[cfg(feature = "failpoints")]
#[tokio::test]
async fn after_a_rekey_the_new_identity_opens_old_epochs_and_forged_secrets_do_not_count() {
    use std::os::unix::process::ExitStatusExt;

    let sites = Sites::filled().await;
    sites.run("ams", &["capture"]);
    let old_file = sites.path().join("fra-keys/identity.txt");
    let new = keygen::site("fra", &sites.path().join("fra-new")).unwrap();
    let old = configured(&sites, "[sites.fra]", "recipient = \"");
    sites.edit_configuration(&old, &new.recipient);
    sites.edit_configuration("fra-keys/identity.txt", "fra-new/identity.txt");
    let message = sites.refused("fra", &["restore"], 1);
    assert!(message.contains("do not open with this site's identity"), "{message}");

    forge(&secrets(&sites, 1, 1), &new.recipient);
    assert!(sites.refused("fra", &["vault", "rekey"], 4).contains("Not every epoch was opened"));
    let line = fs::read_to_string(&old_file).unwrap().lines().nth(1).unwrap().to_owned();
    let message = sites.refused("fra", &["vault", "rekey", "--identity", &line], 2);
    assert!(message.contains("--identity file:/path") && !message.contains(&line), "{message}");

    let reference = format!("file:{}", old_file.display());
    let rekey = ["vault", "rekey", "--identity", &reference];
    let planned = sites.run("fra", &[&rekey[..], &["--dry-run"]].concat());
    assert!(planned.contains("would be re-keyed  secrets-2.age"), "{planned}");
    assert!(planned.contains("does not count     secrets-1.age"), "{planned}");
    assert!(!secrets(&sites, 1, 2).exists());
    let killed = sites.command("fra", rekey).env("WARMSPARE_FAILPOINT", "vault.rekey.secrets").output().unwrap();
    assert_eq!(killed.status.signal(), Some(9), "{}", shown(&killed));
    for _ in 0..2 {
        let json = sites.run("fra", &[&rekey[..], &["--json"]].concat());
        let report: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(report["epochs"][0]["outcome"], "nothing to do", "{report}");
    }
    assert!(!secrets(&sites, 1, 3).exists(), "run again, it does nothing twice");

    let opens = |identity: &Path, n| age(identity, &secrets(&sites, 1, n)).status.success();
    assert!(opens(&new.identity_file, 2) && opens(&sites.path().join("escrow.txt"), 2));
    assert!(opens(&old_file, 0) && !opens(&old_file, 2), "the old identity keeps what it had and gets nothing new");
    let restored = sites.command("fra", ["restore"]).output().unwrap();
    assert!(restored.stdout.starts_with(b"EQUAL"), "{}", shown(&restored));
    let log = String::from_utf8_lossy(&restored.stderr).into_owned();
    assert!(log.contains("secrets-1.age does not count: its identity is of"), "{log}");

    let body = sites.vault().join("systems/app/snapshots/export.configs/00000000-000001-00000001.body.age");
    let mut script = Command::new("sh");
    script.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/restore-without-warmspare.sh"));
    script.arg(sites.vault().join("systems/app")).args([&new.identity_file, &body]).args(["export", "configs"]);
    let output = script.output().unwrap();
    assert!(output.status.success() && output.stdout.len() > 1024, "{}", shown(&output));

    sites.run("ams", &["capture"]);
    assert!(
        !age(&old_file, &secrets(&sites, 2, 0)).status.success(),
        "a new epoch is sealed to the new identity alone"
    );
    assert!(sites.run("fra", &["vault", "rekey"]).contains("00000000-000002  ams         nothing to do"));
}

#[tokio::test]
async fn a_page_typed_back_is_compared_with_the_configuration() {
    let sites = Sites::empty().await;
    let verify = |page: &Path| {
        let page = page.display().to_string();
        sites.command("fra", ["keygen", "--escrow", "--verify", &page]).output().unwrap()
    };
    let page = sites.path().join("escrow.txt");
    let output = verify(&page);
    assert!(output.status.success() && sites.words(&output).contains("It is an escrow"), "{}", shown(&output));
    assert_eq!(output.stdout, format!("{}\n", configured(&sites, "[vault]", "escrow = [\"")).as_bytes());

    let numbered = |line: &&str| line.trim_start_matches(['#', ' ']).starts_with(['1', '2', '3', '4']);
    let text = fs::read_to_string(&page).unwrap();
    let typed = sites.path().join("typed.txt");
    let slip = |from: char, to: char| {
        let lines: Vec<String> = text.lines().filter(numbered).map(|line| line.to_lowercase()).collect();
        let second = lines[1].split_once(':').unwrap().1.replacen(from, &to.to_string(), 1);
        fs::write(&typed, [&lines[0], &format!("2:{second}"), &lines[2], &lines[3]].map(String::as_str).join("\n"))
    };
    slip('q', 'q').unwrap();
    assert!(verify(&typed).status.success(), "{}", shown(&verify(&typed)));
    let letter =
        text.lines().filter(numbered).nth(1).unwrap().split_once(':').unwrap().1.trim().chars().next().unwrap();
    slip(letter.to_ascii_lowercase(), if letter == 'Q' { 'p' } else { 'q' }).unwrap();
    let message = sites.words(&verify(&typed));
    assert!(message.contains("typed.txt is not good: line 2 does not fit its check word"), "{message}");

    let other = sites.path().join("other.txt");
    keygen::escrow(&other, &SystemClock).unwrap();
    let output = verify(&other);
    assert_eq!(output.status.code(), Some(1));
    assert!(sites.words(&output).contains("IT IS NOT IN THE CONFIGURATION"), "{}", shown(&output));
    assert!(
        String::from_utf8_lossy(&verify(&sites.path().join("fra-keys/identity.txt")).stderr).contains("a site's own")
    );
}
