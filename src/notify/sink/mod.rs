//! The places that are told. Each is tried once, within a limit; when to try again is for the memory.

mod command;
mod http;
mod smtp;

use super::NotifyError;
use super::message::Message;
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

/// Asks for the URL of a ping.
pub(super) async fn ping(sink: &SinkConfig, what: Ping, text: String) -> Result<(), NotifyError> {
    let SinkKind::Ping { http, .. } = &sink.kind else {
        return Err(NotifyError::Unfit { sink: sink.name.clone(), what: "it is no ping".to_owned() });
    };
    http::post(&sink.name, http, Some(what), "text/plain; charset=utf-8", text.into_bytes()).await
}
