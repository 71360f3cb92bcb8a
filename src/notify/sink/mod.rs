//! The places that are told. Each is tried once, within a limit; when to try again is for the memory.

mod command;
mod http;
mod smtp;

use secrecy::SecretString;

use super::NotifyError;
use super::message::Message;
use crate::config::reference::Reference;
use crate::config::{SinkConfig, SinkKind};

pub(super) use http::Ping;

/// Brings `message` to `sink`, which takes messages.
pub(super) async fn send(sink: &SinkConfig, message: &Message) -> Result<(), NotifyError> {
    let unfit = |what: String| NotifyError::Unfit { sink: sink.name.clone(), what };
    let json = |error: serde_json::Error| unfit(error.to_string());
    match &sink.kind {
        SinkKind::Webhook(http) => {
            let body = serde_json::to_vec(message).map_err(json)?;
            http::post(&sink.name, http, None, "application/json", body).await
        }
        SinkKind::Slack(http) => {
            let body = serde_json::to_vec(&message.slack()).map_err(json)?;
            http::post(&sink.name, http, None, "application/json", body).await
        }
        SinkKind::Smtp(smtp) => smtp::send(&sink.name, smtp, message).await,
        SinkKind::Command(words) => {
            let body = serde_json::to_vec(message).map_err(json)?;
            command::run(&sink.name, words, &body).await
        }
        // A ping has no words for an alarm: it says whether something lives.
        SinkKind::Ping { .. } => ping(sink, Ping::Success, message.text()).await,
    }
}

/// What a reference leads to, for the key of a sink. A program that hangs holds up nobody else: the sink's limit ends the waiting.
async fn secret(name: &str, key: &'static str, reference: &Reference) -> Result<SecretString, NotifyError> {
    let asked = reference.clone();
    let resolved = tokio::task::spawn_blocking(move || asked.resolve()).await;
    let resolved = resolved.map_err(|error| NotifyError::Unfit { sink: name.to_owned(), what: error.to_string() })?;
    resolved.map_err(|source| NotifyError::Reference { sink: name.to_owned(), key, source })
}

/// Asks for the URL of a ping.
pub(super) async fn ping(sink: &SinkConfig, what: Ping, text: String) -> Result<(), NotifyError> {
    let SinkKind::Ping { http, .. } = &sink.kind else {
        return Err(NotifyError::Unfit { sink: sink.name.clone(), what: "it is no ping".to_owned() });
    };
    http::post(&sink.name, http, Some(what), "text/plain; charset=utf-8", text.into_bytes()).await
}
