//! Licences of everything that is linked, without cargo-deny: that program is not on every machine, cargo is.

use std::process::Command;

use serde_json::Value;

use super::source::{read, top};

/// Each package of the resolved graph for this machine's target: name and licence expression. Dependencies for other
/// systems are in Cargo.lock too, but were never downloaded, and are not linked.
fn packages() -> Vec<(String, String)> {
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let words = ["metadata", "--offline", "--locked", "--format-version", "1", "--filter-platform", &target];
    let output = Command::new(env!("CARGO")).args(words).current_dir(top()).output().expect("cargo runs");
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo prints JSON");
    let ids = metadata["resolve"]["nodes"].as_array().expect("a graph").iter().map(|node| node["id"].clone());
    let linked: Vec<Value> = ids.collect();
    let all = metadata["packages"].as_array().expect("packages").iter();
    let text = |package: &Value, key: &str| package[key].as_str().unwrap_or_default().to_owned();
    all.filter(|package| linked.contains(&package["id"])).map(|p| (text(p, "name"), text(p, "license"))).collect()
}

#[test]
fn every_dependency_has_a_licence_we_may_ship() {
    let deny: toml::Table = read("deny.toml").parse().expect("deny.toml is TOML");
    let allowed = deny["licenses"]["allow"].as_array().expect("a list of licences");
    let allowed: Vec<&str> = allowed.iter().filter_map(toml::Value::as_str).collect();
    let packages = packages();
    assert!(packages.len() > 100, "only {} packages", packages.len());
    let refused: Vec<String> = packages
        .iter()
        .filter(|(_, licence)| !permits(licence, &allowed))
        .map(|(name, licence)| format!("{name}: `{licence}`"))
        .collect();
    assert!(refused.is_empty(), "licences that deny.toml does not allow:\n{}", refused.join("\n"));
}

/// Whether a choice the expression offers consists of allowed licences only (SPDX 2.3, annex D; `/` is Cargo's old OR).
fn permits(expression: &str, allowed: &[&str]) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let mut words = spaced.split_whitespace().peekable();
    let permitted = any(&mut words, allowed);
    permitted && words.next().is_none()
}

type Words<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

fn any(words: &mut Words<'_>, allowed: &[&str]) -> bool {
    let mut permitted = all(words, allowed);
    while words.next_if_eq(&"OR").is_some() {
        permitted |= all(words, allowed);
    }
    permitted
}

fn all(words: &mut Words<'_>, allowed: &[&str]) -> bool {
    let mut permitted = one(words, allowed);
    while words.next_if_eq(&"AND").is_some() {
        permitted &= one(words, allowed);
    }
    permitted
}

fn one(words: &mut Words<'_>, allowed: &[&str]) -> bool {
    match words.next() {
        Some("(") => any(words, allowed) && words.next() == Some(")"),
        Some(licence) => match words.next_if_eq(&"WITH").and_then(|_| words.next()) {
            Some(exception) => allowed.contains(&format!("{licence} WITH {exception}").as_str()),
            None => allowed.contains(&licence),
        },
        None => false,
    }
}

#[test]
fn expressions_are_read_as_choices() {
    let allowed = ["MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "Unicode-3.0"];
    for permitted in ["MIT", "GPL-3.0 OR MIT", "(MIT OR GPL-3.0) AND Unicode-3.0", "MIT/GPL-2.0", "GPL-2.0 OR (MIT)"] {
        assert!(permits(permitted, &allowed), "{permitted}");
    }
    assert!(permits("GPL-3.0 OR Apache-2.0 WITH LLVM-exception OR X", &allowed));
    for refused in ["", "GPL-3.0", "MIT AND GPL-3.0", "MIT WITH Something", "(MIT OR X) AND GPL-3.0", "MIT MIT"] {
        assert!(!permits(refused, &allowed), "{refused}");
    }
}
