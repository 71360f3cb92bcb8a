//! Sealing packs and bodies with age: what a site writes, the same site cannot open.
//!
//! To X25519 recipients alone, which is what every epoch's is: no other program, no prompt, nothing but arithmetic.

use std::io::{BufRead, Read, Seek, Write};

use super::PipelineError;
use crate::keys::{Identity, Recipient};

/// `plain` as an age file for all of `recipients`.
///
/// # Errors
/// When there is no recipient, or one is not X25519.
pub fn seal(recipients: &[Recipient], plain: &[u8]) -> Result<Vec<u8>, PipelineError> {
    let foreign = || PipelineError::Seal("packs and bodies are sealed to X25519 recipients alone".to_owned());
    let to = recipients.iter().map(|recipient| recipient.as_x25519().ok_or_else(foreign));
    let to = to.collect::<Result<Vec<_>, _>>()?.into_iter().map(|recipient| recipient as &dyn age::Recipient);
    let encryptor = age::Encryptor::with_recipients(to).map_err(|e| PipelineError::Seal(e.to_string()))?;
    let mut sealed = Vec::with_capacity(plain.len() + plain.len() / 4096 + 512);
    let written = encryptor.wrap_output(&mut sealed).and_then(|mut writer| {
        writer.write_all(plain)?;
        writer.finish()
    });
    match written {
        Ok(_) => Ok(sealed),
        Err(error) => Err(PipelineError::Seal(error.to_string())),
    }
}

/// What the age file `sealed` holds, opened with `identity`.
///
/// # Errors
/// When `identity` is not X25519, when it is not sealed to it, or damaged.
pub fn open(identity: &Identity, sealed: &[u8]) -> Result<Vec<u8>, PipelineError> {
    let wrong = |e: &dyn std::fmt::Display| PipelineError::Open(e.to_string());
    let decryptor = age::Decryptor::new_buffered(sealed).map_err(|e| wrong(&e))?;
    let identity = identity.as_x25519().ok_or_else(|| wrong(&"an epoch's identity is X25519, and this one is not"))?;
    let identities = std::iter::once(identity as &dyn age::Identity);
    let mut reader = decryptor.decrypt(identities).map_err(|e| wrong(&e))?;
    let mut plain = Vec::with_capacity(sealed.len());
    reader.read_to_end(&mut plain).map_err(|e| wrong(&e))?;
    Ok(plain)
}

/// The age file `sealed`, opened with `identity` to be read here and there; each piece of 64 KiB is checked when it is read.
///
/// # Errors
/// When `identity` is not X25519, or it is not sealed to it.
pub fn open_seekable<R: BufRead + Seek>(
    identity: &Identity,
    sealed: R,
) -> Result<impl Read + Seek + use<R>, PipelineError> {
    let wrong = |e: &dyn std::fmt::Display| PipelineError::Open(e.to_string());
    let decryptor = age::Decryptor::new_buffered(sealed).map_err(|e| wrong(&e))?;
    let identity = identity.as_x25519().ok_or_else(|| wrong(&"an epoch's identity is X25519, and this one is not"))?;
    decryptor.decrypt(std::iter::once(identity as &dyn age::Identity)).map_err(|e| wrong(&e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_its_recipients_open_it() {
        let (spare, escrow, live) = (Identity::generate(), Identity::generate(), Identity::generate());
        let sealed = seal(&[spare.recipient(), escrow.recipient()], b"secret").unwrap();
        assert_eq!(open(&spare, &sealed).unwrap(), b"secret");
        assert_eq!(open(&escrow, &sealed).unwrap(), b"secret");
        assert!(open(&live, &sealed).is_err());
        assert!(seal(&[], b"secret").is_err());
    }

    #[test]
    fn a_flipped_or_missing_byte_is_noticed() {
        let identity = Identity::generate();
        let sealed = seal(&[identity.recipient()], &[7; 100_000]).unwrap();
        for at in [0, 60, 250, 70_000, sealed.len() - 1] {
            let mut damaged = sealed.clone();
            damaged[at] ^= 1;
            assert!(open(&identity, &damaged).is_err(), "byte {at}");
        }
        assert!(open(&identity, &sealed[..sealed.len() - 1]).is_err());
        assert!(open(&identity, &[]).is_err());
    }
}
