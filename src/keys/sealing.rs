//! Sealing small secrets to people, and opening them: every kind of recipient and identity, plugins included.
//!
//! A plugin is a program that may ask for a touch, a PIN or the network. Captures run without anybody there: a plugin
//! that asks a question gets none answered, and one that is silent for a minute is given up, each with an error that
//! names it. Its thread is left behind then; it ends with this process, and the plugin with its standard input.

use std::io::{Read, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use age::{Callbacks, DecryptError, EncryptError};
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use super::identity::{Identity, IdentityKey};
use super::recipient::{Recipient, RecipientKey};
use crate::error::{Class, Explain};
use crate::process::wipe_stack;

/// How long a plugin may take: long enough to touch a key that lies beside the keyboard.
const PLUGIN_PATIENCE: Duration = Duration::from_secs(60);

/// Why something was not sealed or not opened.
#[derive(Debug, thiserror::Error)]
pub enum SealingError {
    /// The plugin's program is not there.
    #[error("the program {program} is not on this host's PATH")]
    MissingPlugin {
        /// Its name.
        program: String,
    },
    /// The plugin failed.
    #[error("{program}: {what}")]
    Plugin {
        /// Its name.
        program: String,
        /// What it said.
        what: String,
    },
    /// The plugin wants to talk to somebody.
    #[error("{program} asks \"{question}\", and there is nobody to answer")]
    Question {
        /// Its name.
        program: String,
        /// What it asked.
        question: String,
    },
    /// The plugin does not answer.
    #[error("{program} has not answered within {} seconds", PLUGIN_PATIENCE.as_secs())]
    Silent {
        /// Its name.
        program: String,
    },
    /// Sealed, but to somebody else.
    #[error("it is not sealed to {recipient}")]
    NotForUs {
        /// Whom the identity at hand belongs to.
        recipient: String,
    },
    /// Not an age file, or one that was changed.
    #[error("it does not open: {0}")]
    Damaged(String),
    /// The recipients cannot be sealed to together, or the machine failed.
    #[error("it cannot be sealed: {0}")]
    Seal(String),
}

impl Explain for SealingError {
    fn class(&self) -> Class {
        Class::Failed
    }

    fn next_step(&self) -> Option<String> {
        Some(match self {
            SealingError::MissingPlugin { program } => {
                format!(
                    "Install {program} where the user warmspare runs as finds it, or use a recipient of another kind."
                )
            }
            SealingError::Plugin { program, .. } => {
                format!("Find out with `age` itself what {program} lacks: it uses the same plugin in the same way.")
            }
            SealingError::Question { program, .. } | SealingError::Silent { program } => {
                format!(
                    "Set {program} up so that it needs neither PIN nor touch here, or use a recipient of another kind."
                )
            }
            SealingError::NotForUs { .. } => {
                "Use the identity it was sealed to: the other site's of that time, or the escrow's.".to_owned()
            }
            SealingError::Damaged(_) => "Find out what changed the object.".to_owned(),
            SealingError::Seal(_) => "Look at the recipients in the configuration.".to_owned(),
        })
    }
}

/// `plain` as an age file that each of `recipients` can open.
///
/// # Errors
/// When there is no recipient, or a plugin is missing, fails, asks or is silent.
pub async fn seal_for(recipients: &[Recipient], plain: &SecretString) -> Result<Vec<u8>, SealingError> {
    let plugin = recipients.iter().find_map(Recipient::plugin);
    let (recipients, plain) = (recipients.to_vec(), plain.clone());
    apart(plugin, move || seal(&recipients, &plain)).await
}

/// What the age file `sealed` says, opened with `identity`.
///
/// # Errors
/// When it is not sealed to it, damaged or no text; when a plugin is missing, fails, asks or is silent.
pub async fn open_with(identity: &Identity, sealed: &[u8]) -> Result<SecretString, SealingError> {
    let plugin = identity.recipient().plugin();
    let (identity, sealed) = (identity.clone(), sealed.to_vec());
    apart(plugin, move || open(&identity, &sealed)).await
}

/// Seals a word to all of `recipients`: whether a capture can open a new epoch here, for `check`.
///
/// # Errors
/// Those of [`seal_for`].
pub async fn try_recipients(recipients: &[Recipient]) -> Result<(), SealingError> {
    seal_for(recipients, &SecretString::from("test")).await.map(drop)
}

/// Seals a word to the recipient of `identity` and opens it: whether it can be used here, for `check`.
///
/// # Errors
/// Those of [`seal_for`] and [`open_with`].
pub async fn try_identity(identity: &Identity) -> Result<(), SealingError> {
    let sealed = seal_for(&[identity.recipient()], &SecretString::from("test")).await?;
    open_with(identity, &sealed).await.map(drop)
}

/// Does `work` here, or, when it starts `plugin`, on a thread that can be given up.
async fn apart<T: Send + 'static>(
    plugin: Option<String>,
    work: impl FnOnce() -> Result<T, SealingError> + Send + 'static,
) -> Result<T, SealingError> {
    let Some(program) = plugin else {
        let done = work();
        wipe_stack();
        return done;
    };
    let (done, answer) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let outcome = work();
        wipe_stack();
        // Nobody waits any more when it took too long.
        let _ = done.send(outcome);
    });
    match tokio::time::timeout(PLUGIN_PATIENCE, answer).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(_)) => Err(SealingError::Plugin { program, what: "broke off".to_owned() }),
        Err(_) => Err(SealingError::Silent { program }),
    }
}

#[inline(never)]
fn seal(recipients: &[Recipient], plain: &SecretString) -> Result<Vec<u8>, SealingError> {
    let talk = Talk::default();
    let to = recipients.iter().map(|recipient| age_recipient(recipient, &talk)).collect::<Result<Vec<_>, _>>()?;
    let program = recipients.iter().find_map(Recipient::plugin).unwrap_or_default();
    let wrong = |error: EncryptError| talk.question(&program).unwrap_or_else(|| seal_error(error, &program));
    let encryptor = age::Encryptor::with_recipients(to.iter().map(|to| &**to as &dyn age::Recipient)).map_err(wrong)?;
    let mut sealed = Vec::with_capacity(plain.expose_secret().len() + 4096);
    let mut writer = encryptor.wrap_output(&mut sealed).map_err(|e| seal_error(e.into(), &program))?;
    let written = writer.write_all(plain.expose_secret().as_bytes()).and_then(|()| writer.finish().map(drop));
    written.map_err(|e| seal_error(e.into(), &program))?;
    Ok(sealed)
}

#[inline(never)]
fn open(identity: &Identity, sealed: &[u8]) -> Result<SecretString, SealingError> {
    let talk = Talk::default();
    let program = identity.recipient().plugin().unwrap_or_default();
    let with = age_identity(identity, &talk)?;
    let wrong = |error: DecryptError| {
        let question = talk.question(&program);
        question.unwrap_or_else(|| open_error(error, &program, &identity.recipient()))
    };
    let decryptor = age::Decryptor::new_buffered(sealed).map_err(wrong)?;
    let mut reader = decryptor.decrypt(std::iter::once(&*with as &dyn age::Identity)).map_err(wrong)?;
    let mut plain = Zeroizing::new(Vec::with_capacity(sealed.len()));
    reader.read_to_end(&mut plain).map_err(|e| SealingError::Damaged(e.to_string()))?;
    let text = std::str::from_utf8(&plain).map_err(|_| SealingError::Damaged("it holds no text".to_owned()))?;
    Ok(super::secret_text(&[text]))
}

fn age_recipient(recipient: &Recipient, talk: &Talk) -> Result<Box<dyn age::Recipient>, SealingError> {
    Ok(match &recipient.key {
        RecipientKey::X25519(key) => Box::new(key.clone()),
        RecipientKey::Ssh(key) => Box::new((**key).clone()),
        RecipientKey::Plugin(key) => {
            let all = std::slice::from_ref(key);
            let plugin = age::plugin::RecipientPluginV1::new(key.plugin(), all, &[], talk.clone());
            Box::new(plugin.map_err(|_| missing(key.plugin()))?)
        }
    })
}

fn age_identity(identity: &Identity, talk: &Talk) -> Result<Box<dyn age::Identity>, SealingError> {
    Ok(match &identity.key {
        IdentityKey::X25519(key) => Box::new(key.clone()),
        IdentityKey::Ssh(key) => Box::new((**key).clone()),
        IdentityKey::Plugin(key) => {
            let all = std::slice::from_ref(key);
            let plugin = age::plugin::IdentityPluginV1::new(key.plugin(), all, talk.clone());
            Box::new(plugin.map_err(|_| missing(key.plugin()))?)
        }
    })
}

fn missing(name: &str) -> SealingError {
    SealingError::MissingPlugin { program: format!("age-plugin-{name}") }
}

fn seal_error(error: EncryptError, program: &str) -> SealingError {
    match error {
        EncryptError::Plugin(errors) => plugin_error(program, &errors),
        EncryptError::Io(error) if !program.is_empty() => gone(program, &error),
        other => SealingError::Seal(one_line(&other.to_string())),
    }
}

fn open_error(error: DecryptError, program: &str, recipient: &Recipient) -> SealingError {
    match error {
        DecryptError::NoMatchingKeys => SealingError::NotForUs { recipient: recipient.to_string() },
        DecryptError::Plugin(errors) => plugin_error(program, &errors),
        DecryptError::Io(error) if !program.is_empty() => gone(program, &error),
        other => SealingError::Damaged(one_line(&other.to_string())),
    }
}

fn plugin_error(program: &str, errors: &[impl std::fmt::Display]) -> SealingError {
    let what: Vec<String> = errors.iter().map(|error| one_line(&error.to_string())).collect();
    SealingError::Plugin { program: program.to_owned(), what: what.join("; ") }
}

fn gone(program: &str, error: &std::io::Error) -> SealingError {
    let what = match error.kind() {
        std::io::ErrorKind::ConnectionAborted | std::io::ErrorKind::BrokenPipe => {
            "ended before it had answered".to_owned()
        }
        _ => one_line(&error.to_string()),
    };
    SealingError::Plugin { program: program.to_owned(), what }
}

/// The crate's messages have lines of advice for users of another program; the first says what happened.
fn one_line(message: &str) -> String {
    message.lines().next().unwrap_or_default().trim_end_matches(['.', ':']).to_owned()
}

/// Takes down what a plugin asks; answers nothing.
#[derive(Clone, Default)]
struct Talk(Arc<Mutex<Option<String>>>);

impl Talk {
    fn asked(&self, question: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| one_line(question));
    }

    fn question(&self, program: &str) -> Option<SealingError> {
        let question = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
        Some(SealingError::Question { program: program.to_owned(), question })
    }
}

impl Callbacks for Talk {
    fn display_message(&self, message: &str) {
        tracing::info!("an age plugin says: {}", one_line(message));
    }

    fn confirm(&self, message: &str, _: &str, _: Option<&str>) -> Option<bool> {
        self.asked(message);
        None
    }

    fn request_public_string(&self, description: &str) -> Option<String> {
        self.asked(description);
        None
    }

    fn request_passphrase(&self, description: &str) -> Option<SecretString> {
        self.asked(description);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_its_recipients_open_it() {
        let (spare, escrow, live) = (Identity::generate(), Identity::generate(), Identity::generate());
        let secret = SecretString::from("secret");
        let sealed = seal_for(&[spare.recipient(), escrow.recipient()], &secret).await.unwrap();
        for identity in [&spare, &escrow] {
            assert_eq!(open_with(identity, &sealed).await.unwrap().expose_secret(), "secret");
            try_identity(identity).await.unwrap();
        }
        let error = open_with(&live, &sealed).await.map(|_| ()).unwrap_err();
        assert!(matches!(error, SealingError::NotForUs { .. }), "{error}");
        assert!(seal_for(&[], &secret).await.is_err());
        let error = open_with(&spare, &sealed[..sealed.len() - 1]).await.map(|_| ()).unwrap_err();
        assert!(matches!(error, SealingError::Damaged(_)), "{error}");
    }

    #[tokio::test]
    async fn a_plugin_that_is_not_installed_is_named() {
        let prefix = bech32::Hrp::parse_unchecked("age1nonesuch");
        let recipient: Recipient = bech32::encode::<bech32::Bech32>(prefix, b"key").unwrap().parse().unwrap();
        assert!(recipient.plugin().is_some());
        let error = try_recipients(&[recipient]).await.unwrap_err();
        assert_eq!(error.to_string(), "the program age-plugin-nonesuch is not on this host's PATH");
    }
}
