//! What a person writes: the configuration, ids, names, keys, units.

#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use secrecy::SecretString;
use warmspare::config::{Config, SourceName};
use warmspare::keys::{Identity, Recipient, SigningKey, VerifyingKey};
use warmspare::units::{Bytes, Span};
use warmspare::vault::layout::{Layout, PointId};

/// What is read is written as it was.
fn words(word: &str) {
    if let Ok(source) = word.parse::<SourceName>() {
        assert_eq!(source.to_string(), word);
    }
    if let Ok(id) = word.parse::<PointId>() {
        assert_eq!(id.to_string().parse(), Ok(id));
    }
    if let Ok(key) = word.parse::<VerifyingKey>() {
        assert_eq!(key.to_string().parse(), Ok(key));
    }
    drop((word.parse::<Recipient>(), word.parse::<Bytes>(), word.parse::<Span>()));
    let secret = SecretString::from(word.to_owned());
    drop((Identity::from_file_text(&secret), SigningKey::from_file_text(&secret)));
}

/// A key of the vault is taken for ours only if it is spelled as we spell it.
fn keys(key: &str) {
    let layout = Layout::new("app");
    if let Some(id) = layout.parse_point(key) {
        assert_eq!(layout.point(id), key);
    }
    if let Some((source, id)) = layout.parse_header(key) {
        assert_eq!(layout.header(&source, id), key);
    }
    if let Some((point, site, seq)) = layout.parse_proof(key) {
        assert_eq!(layout.proof(point, &site, seq), key);
    }
    if let Some((epoch, pack)) = layout.parse_pack(key) {
        assert_eq!(layout.pack(epoch, &pack), key);
    }
    drop((layout.parse_epoch(key), layout.parse_body(key), layout.parse_hold(key), layout.epoch_of(key)));
}

fuzz_target!(|text: &str| {
    drop(Config::parse(Path::new("warmspare.toml"), text));
    for word in text.split_whitespace().take(20) {
        words(word);
        keys(word);
    }
});
