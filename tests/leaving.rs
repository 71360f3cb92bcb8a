//! Leaving: the script of docs/, with age, zstd and awk alone, gets a table and an export out of a vault.

use std::path::PathBuf;
use std::process::Command;

use crate::support::sites::{Sites, shown};

fn without_warmspare(sites: &Sites, identity: &str, source: &str, kind: &str, name: &str) -> Vec<u8> {
    let system = sites.vault().join("systems/app");
    let mut bodies: Vec<PathBuf> =
        std::fs::read_dir(system.join("snapshots").join(source)).unwrap().map(|entry| entry.unwrap().path()).collect();
    bodies.retain(|path| path.to_string_lossy().ends_with(".body.age"));
    let output = Command::new("sh")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/restore-without-warmspare.sh"))
        .arg(&system)
        .arg(sites.path().join(identity))
        .arg(bodies.first().unwrap())
        .args([kind, name])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", shown(&output));
    output.stdout
}

#[tokio::test]
async fn the_documents_suffice_to_get_the_data_out() {
    let sites = Sites::filled().await;
    sites.run("ams", &["capture"]);
    for identity in ["fra-keys/identity.txt", "escrow.txt"] {
        let table = without_warmspare(&sites, identity, "database.app", "table", "\"public\".\"origins\"");
        assert_eq!(String::from_utf8(table).unwrap(), "core\t1\nacme\t2\n", "{identity}");
    }
    let packages = without_warmspare(&sites, "escrow.txt", "database.app", "table", "\"public\".\"packages\"");
    assert_eq!(packages.iter().filter(|byte| **byte == b'\n').count(), 2000);

    let bundle = sites.path().join("bundle.tar");
    std::fs::write(&bundle, without_warmspare(&sites, "escrow.txt", "export.configs", "export", "configs")).unwrap();
    let out = sites.path().join("out");
    std::fs::create_dir(&out).unwrap();
    let tar = ["--strip-components=1", "-C", out.to_str().unwrap(), "files"];
    assert!(Command::new("tar").arg("-xpf").arg(&bundle).args(tar).status().unwrap().success());
    assert_eq!(std::fs::read_to_string(out.join("etc/app/secret.key")).unwrap(), "key\n");
}
