//! Signed records: two lines that anybody who can write to the store may have put there.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use secrecy::SecretString;
use serde::de::DeserializeOwned;
use warmspare::keys::SigningKey;
use warmspare::vault::v1::{
    EpochRecord, GcRecord, HoldRecord, PointRecord, ProofRecord, SealedRecord, Signed, SnapshotHeader, StatusRecord,
};

/// A key that everybody knows, so that what is behind the signature is reached.
static KEY: LazyLock<SigningKey> = LazyLock::new(|| {
    let text = format!("WARMSPARE-SIGNING-KEY-1:{}\n", "07".repeat(32));
    SigningKey::from_file_text(&SecretString::from(text)).expect("a key")
});

fn decode<T: DeserializeOwned>(bytes: &[u8], kind: &str) {
    let pinned = |signer: &str| if signer == "ams" { vec![KEY.verifying_key()] } else { vec![] };
    // What comes back is believed, so it has to be what was signed.
    if let Ok(Signed { signer, blake3, .. }) = Signed::<T>::decode(bytes, "a.json", kind, pinned) {
        assert_eq!((signer.as_str(), blake3), ("ams", blake3::hash(bytes)));
    }
}

fn decode_all(bytes: &[u8]) {
    decode::<EpochRecord>(bytes, "epoch");
    decode::<SnapshotHeader>(bytes, "snapshot");
    decode::<PointRecord>(bytes, "point");
    decode::<ProofRecord>(bytes, "proof");
    decode::<SealedRecord>(bytes, "sealed");
    decode::<StatusRecord>(bytes, "status");
    decode::<HoldRecord>(bytes, "hold");
    decode::<GcRecord>(bytes, "gc");
}

fuzz_target!(|data: &[u8]| {
    decode_all(data);
    // The same with a signature that holds.
    let line = data.split(|byte| *byte == b'\n').next().unwrap_or_default();
    if let Ok(value) = serde_json::from_slice::<serde_json::Value>(line)
        && let Ok(signed) = Signed::encode(&value, "a.json", "ams", &KEY)
    {
        decode_all(&signed);
    }
});
