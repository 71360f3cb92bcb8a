//! Proof that proves: whatever differs from the point after the load turns the restore red, and is named.

#![cfg(feature = "failpoints")]

use std::os::unix::fs::PermissionsExt;

use crate::support::postgres::PROGRAMS;
use crate::support::sites::{Sites, shown};

/// Changes one thing at the spare between load (at the failpoint `after`) and proof, and returns the differences the restore tells.
async fn planted(sites: &Sites, after: &str, change: &str) -> Vec<String> {
    sites.forget_restores().await;
    let script = sites.path().join("plant.sh");
    let (port, password) = (sites.spare.cluster().port(), sites.spare.cluster().password_file());
    let text = format!(
        "#!/bin/sh\nset -e\nexport PGHOST=127.0.0.1 PGPORT={port} PGUSER=warmspare PGPASSWORD=\"$(cat {})\"\n\
         sql() {{ {PROGRAMS}/psql -qX -v ON_ERROR_STOP=1 -d app__0-1 -c \"$1\" >&2; }}\ncd {}\n{change}\n",
        password.display(),
        sites.path().display(),
    );
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o700)).unwrap();
    let run = format!("{after}={}", script.display());
    let output = sites.command("fra", ["restore", "--json"]).env("WARMSPARE_FAILPOINT_RUN", run).output().unwrap();
    assert_eq!(output.status.code(), Some(4), "a red proof has its own exit code: {}", shown(&output));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["verdict"], "different");
    let proofs = sites.points("fra")[0]["proofs"].as_array().unwrap().clone();
    assert_eq!(proofs.last().unwrap()["verdict"], "different", "the red proof is on record");
    let databases = sites.spare_databases().await;
    assert!(!databases.contains(&"app".to_owned()), "nothing different is swapped in: {databases:?}");
    let steps = report["steps"].as_array().unwrap();
    let differences = steps.iter().flat_map(|step| step["differences"].as_array().unwrap());
    differences.map(|difference| difference.as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn every_planted_change_turns_the_proof_red_and_is_named() {
    let sites = Sites::filled().await;
    sites.run("ams", &["capture"]);
    let checks = [
        ("sql \"UPDATE public.packages SET body = 'changed' WHERE id = 7\"", "\"packages\""),
        ("sql \"DELETE FROM public.packages WHERE id = 7\"", "\"packages\""),
        ("sql \"SELECT setval('public.packages_id_seq', 5)\"", "packages_id_seq"),
        ("sql \"REVOKE SELECT ON public.packages FROM app_reader\"", "public.packages"),
        ("sql \"DROP INDEX public.packages_origin\"", "packages_origin"),
        ("sql \"ALTER TABLE public.packages DROP CONSTRAINT packages_origin_fkey\"", "packages_origin_fkey"),
        ("chmod 644 fra/root/etc/app/secret.key", "secret.key"),
        ("echo other > fra/root/etc/app/app.conf", "app.conf"),
        ("printf y | dd of=fra/bucket/core/b.hart bs=1 seek=1000 conv=notrunc status=none", "core/b.hart"),
        ("rm fra/bucket/core/a.hart", "core/a.hart"),
    ];
    for (change, named) in checks {
        let is_file = change.contains("fra/root");
        let differences = planted(&sites, if is_file { "restore.placed" } else { "restore.loaded" }, change).await;
        let placed = sites.root("fra").join("etc/app/app.conf").exists();
        assert_eq!(placed, is_file, "{change}: files are touched only when all before them is equal");
        assert!(differences.iter().any(|difference| difference.contains(named)), "{change}: {differences:?}");
        println!("{change}\n  → {}", differences.join("\n    "));
        if change.contains("bucket") {
            std::fs::remove_dir_all(sites.bucket("fra")).unwrap();
            std::fs::create_dir_all(sites.bucket("fra").join("core")).unwrap();
            std::fs::create_dir_all(sites.bucket("fra").join("acme")).unwrap();
            for key in ["core/a.hart", "core/b.hart", "acme/c d.hart"] {
                std::fs::copy(sites.bucket("ams").join(key), sites.bucket("fra").join(key)).unwrap();
            }
        }
    }
    sites.forget_restores().await;
    sites.run("fra", &["restore"]);
    assert_eq!(sites.spare_databases().await, ["app"], "without a planted change it is equal and swapped in");
}
