//! What a person reads: the good path from capture to restore, and each refusal with its message.

use std::os::unix::fs::PermissionsExt;

use crate::support::sites::Sites;

#[tokio::test]
async fn from_one_site_to_a_proven_restore_at_the_other() {
    let sites = Sites::filled().await;
    assert!(sites.run("ams", &["capture", "--dry-run"]).contains("database.app"));
    assert!(sites.points("ams").is_empty(), "a dry run takes no point");
    let first = sites.run("ams", &["capture"]);
    assert!(first.contains("recovery point 0-1 of app"), "{first}");
    sites.live.sql("app", "UPDATE public.packages SET body = 'new' WHERE id % 200 = 0").await;
    sites.put_object("core/d.hart", b"new");
    sites.run("ams", &["capture"]);

    let plan = sites.run("fra", &["restore", "--dry-run"]);
    assert!(plan.contains("database app: new"), "{plan}");
    assert!(sites.spare_databases().await.is_empty(), "a dry run restores nothing");
    let report = sites.run("fra", &["restore"]);
    assert!(report.starts_with("EQUAL"), "{report}");
    assert_eq!(sites.spare.value("app", "SELECT count(*)::text FROM public.packages WHERE body = 'new'").await, "10");
    let secret = sites.root("fra").join("etc/app/secret.key");
    assert_eq!(std::fs::metadata(&secret).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(std::fs::read(sites.bucket("fra").join("core/d.hart")).unwrap(), b"new");

    let points = sites.points("fra");
    assert_eq!(points.len(), 2);
    assert_eq!(points[1]["record"]["closure"]["verdict"], "not judged");
    assert_eq!(points[1]["proofs"][0]["verdict"], "equal");
    assert_eq!(points[1]["proofs"][0]["complete"], true);
    let shown = sites.run("fra", &["points", "show", "0-2"]);
    assert!(shown.contains("proof 1 at fra: equal at fra"), "{shown}");
}

#[tokio::test]
async fn one_source_comes_back_beside_what_is_there() {
    let sites = Sites::filled().await;
    sites.run("ams", &["capture"]);
    let scratch = sites.path().join("scratch");
    let into = scratch.display().to_string();
    sites.run("fra", &["restore", "--only", "export.configs", "--into", &into]);
    assert_eq!(std::fs::read_to_string(scratch.join("etc/app/app.conf")).unwrap(), "listen = 1\n");
    assert!(!sites.root("fra").join("etc").exists(), "the real place was not touched");
    // Beside live data it is allowed at the live site too.
    sites.edit_configuration("live = \"ams\"", "live = \"fra\"");
    sites.run("fra", &["restore", "--only", "database.app", "--into", "app_look"]);
    assert_eq!(sites.spare_databases().await, ["app_look"]);
    assert!(sites.points("fra")[0]["proofs"].as_array().unwrap().is_empty(), "a look is no proof of the spare");
}

#[tokio::test]
async fn what_is_refused_says_why_and_what_to_do() {
    let sites = Sites::filled().await;
    let check = |site: &str, arguments: &[&str], code: i32, expected: &str| {
        assert_eq!(sites.refused(site, arguments, code), expected, "{arguments:?} at {site}");
    };
    check("fra", &["capture"], 3, {
        "error: fra is the spare: ams is the live site, and only the live site captures\n\
         next:  Run `warmspare capture` at ams."
    });
    check("fra", &["restore"], 1, {
        "error: there is no recovery point yet\n\
         next:  Take one on the live site with `warmspare capture`."
    });
    sites.run("ams", &["capture"]);
    check("ams", &["restore"], 3, {
        "error: ams is the live site: a restore would replace live data\n\
         next:  Run it at the spare; or restore one source beside the live data with --only SOURCE --into PLACE; \
         or, to replace live data, type the site's name: --on-live ams."
    });
    check("fra", &["restore", "--point", "0-9"], 2, {
        "error: there is no recovery point 0-9\nnext:  `warmspare points` lists those there are."
    });
    check("fra", &["restore", "--only", "bucket.nonesuch"], 2, {
        "error: point 0-1 has no snapshot of bucket.nonesuch\nnext:  `warmspare points show 0-1` lists what it has."
    });
    check("fra", &["restore", "--into", "x"], 2, {
        "error: --into x: name exactly one source with --only\n\
         next:  Use --only database.NAME --into NEW_DATABASE, --only export.NAME --into /new/folder, or --only bucket.NAME --into s3://NEW_BUCKET."
    });
    check("ber", &["points"], 2, {
        "error: `ber` is not a site of SITES/warmspare.toml (there are: ams, fra)\n\
         next:  Name it with --site, with WARMSPARE_SITE, or in the file /etc/warmspare/site."
    });
}

#[tokio::test]
async fn nothing_newer_or_foreign_is_replaced_unless_said() {
    let sites = Sites::filled().await;
    sites.run("ams", &["capture"]);
    sites.run("ams", &["capture"]);
    sites.spare.create("app", "CREATE TABLE public.own (id int)").await;
    let message = sites.refused("fra", &["restore"], 3);
    assert!(message.contains("database `app` at fra holds what is not from a recovery point"), "{message}");
    sites.run("fra", &["restore", "--replace"]);
    let message = sites.refused("fra", &["restore", "--point", "0-1"], 3);
    assert_eq!(
        message,
        "error: database `app` at fra holds the newer point 0-2; point 0-1 would replace it\n\
         next:  Choose a newer point, or say --replace; what stands there is kept under another name."
    );
    let databases = sites.spare_databases().await;
    assert!(databases.iter().any(|name| name.starts_with("app__before_")), "the foreign one is kept: {databases:?}");
}

#[tokio::test]
async fn a_vault_that_cannot_be_written_or_is_full_is_named() {
    let sites = Sites::filled().await;
    std::fs::remove_dir(sites.vault()).unwrap();
    let message = sites.refused("ams", &["capture"], 1);
    assert!(message.contains("SITES/vault") && message.contains("next:"), "{message}");

    // A disk of its own, too small for what is captured: needs the right to mount.
    std::fs::create_dir(sites.vault()).unwrap();
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=256k", "tmpfs"])
        .arg(sites.vault())
        .status();
    if !mounted.is_ok_and(|status| status.success()) {
        println!("not root: the full disk was not tried");
        return;
    }
    sites.put_object("core/big", &[7; 1000]);
    sites.live.sql("app", "INSERT INTO public.packages (ident, body) SELECT 'r' || n, md5(random()::text) FROM generate_series(1, 40000) n").await;
    let message = sites.refused("ams", &["capture"], 1);
    let listed = sites.points("ams");
    // Space is made on the same disk: on another one the epoch that was opened would be missing.
    let larger = std::process::Command::new("mount").args(["-o", "remount,size=64m"]).arg(sites.vault()).status();
    assert!(larger.is_ok_and(|status| status.success()));
    sites.run("ams", &["capture"]);
    let report = sites.run("fra", &["restore"]);
    let unmounted = std::process::Command::new("umount").arg(sites.vault()).status();
    assert!(unmounted.is_ok_and(|status| status.success()));
    assert!(message.contains("no space left") && message.contains("Free or add space at SITES/vault"), "{message}");
    assert!(listed.is_empty(), "nothing of it is listed");
    assert!(report.starts_with("EQUAL"), "{report}");
}

#[tokio::test]
async fn the_keys_of_the_wrong_site_are_refused() {
    let sites = Sites::filled().await;
    sites.edit_configuration("ams-keys/signing.key", "fra-keys/signing.key");
    let message = sites.refused("ams", &["capture"], 1);
    assert!(message.starts_with("error: `signing_key` of ams belongs to ed25519:"), "{message}");
    sites.edit_configuration("fra-keys/identity.txt", "ams-keys/identity.txt");
    let message = sites.refused("fra", &["restore"], 1);
    assert!(message.starts_with("error: `identity` of fra belongs to age1"), "{message}");
}

#[test]
fn every_command_explains_itself() {
    let help = |arguments: &[&str]| {
        let output =
            std::process::Command::new(env!("CARGO_BIN_EXE_warmspare")).args(arguments).arg("--help").output().unwrap();
        assert!(output.status.success(), "{arguments:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(help(&[]).contains("Exit codes: 0 done, 1 failed, 2 usage, 3 refused for safety, 4 stale or incomplete"));
    for command in ["demo", "keygen", "init", "check", "capture", "points", "restore"] {
        assert!(help(&[command]).contains("Usage: warmspare"), "{command}");
    }
}
