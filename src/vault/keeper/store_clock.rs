//! What time the store has: asked with an object that is new each time, because where a store keeps versions a listing
//! tells the time of a key's oldest one.

use bytes::Bytes;
use jiff::Timestamp;

use crate::failpoint;
use crate::keys::{random, to_hex};
use crate::store::{Create, Delete, Read};
use crate::vault::VaultError;
use crate::vault::layout;

/// The store's clock, as a new object among the canaries of `site` shows it. Those that a killed pass left go too.
///
/// # Errors
/// When the vault cannot be written, listed or deleted from.
pub async fn store_now<K: Read + Create + Delete>(keys: &K, site: &str) -> Result<Timestamp, VaultError> {
    let nonce = random::<16>().map_err(|e| VaultError::Machine(e.to_string()))?;
    let key = layout::clock(site, &to_hex(&*nonce));
    keys.create(&key, Bytes::from_static(b"what time is it\n")).await?;
    failpoint::hit("keeper.clock");
    let mut now = None;
    for listed in keys.list(&layout::canaries(site)).await? {
        if layout::is_clock(site, &listed.key) {
            now = now.or((listed.key == key).then_some(listed.modified));
            keys.delete(&listed.key).await?;
        }
    }
    now.ok_or_else(|| VaultError::TailCut { what: format!("object {key}") })
}
