//! Mail, by a server that takes it. Only here is the mail library named.

use std::time::Duration;

use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, CertificateStore, Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport, Tokio1Executor};
use secrecy::ExposeSecret;

use crate::config::{SmtpSink, SmtpTls};
use crate::error::chain;
use crate::notify::NotifyError;
use crate::notify::message::Message;

/// For each answer of the server.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// For all of it.
const TIME_MAX: Duration = Duration::from_secs(30);
/// A longer one is cut.
const SUBJECT_CHARS_MAX: usize = 200;

pub(super) async fn send(name: &str, sink: &SmtpSink, message: &Message) -> Result<(), NotifyError> {
    let late = |_| NotifyError::Late { sink: name.to_owned(), seconds: TIME_MAX.as_secs() };
    tokio::time::timeout(TIME_MAX, sent(name, sink, message)).await.map_err(late)?
}

async fn sent(name: &str, sink: &SmtpSink, message: &Message) -> Result<(), NotifyError> {
    let mail = mail(name, sink, message)?;
    let transport = transport(name, sink).await?;
    transport.send(mail).await.map(drop).map_err(|error| {
        let (sink, host, what) = (name.to_owned(), format!("{}:{}", sink.host, sink.port), chain(&error));
        match (what.contains("certificate"), error.status()) {
            (true, _) => NotifyError::Untrusted { sink, host, what },
            (false, None) if !error.is_client() => NotifyError::Unreachable { sink, host, what },
            (false, _) => NotifyError::Mail { sink, host, what },
        }
    })
}

fn unfit(name: &str, what: impl ToString) -> NotifyError {
    NotifyError::Unfit { sink: name.to_owned(), what: what.to_string() }
}

fn mail(name: &str, sink: &SmtpSink, message: &Message) -> Result<lettre::Message, NotifyError> {
    let mailbox = |address: &str| address.parse().map_err(|error| unfit(name, format!("{address}: {error}")));
    let subject: String =
        message.subject().chars().map(|c| if c.is_control() { ' ' } else { c }).take(SUBJECT_CHARS_MAX).collect();
    // Servers take one without for advertising.
    let host = sink.from.rsplit('@').next().unwrap_or_default().trim_end_matches('>');
    let id = format!("<warmspare-{}-{}@{host}>", message.site, message.at.as_nanosecond());
    let builder = lettre::Message::builder().from(mailbox(&sink.from)?).subject(subject);
    let mut builder = builder.date(message.at.into()).message_id(Some(id));
    for to in &sink.to {
        builder = builder.to(mailbox(to)?);
    }
    // RFC 3834: nobody who is on holiday answers it.
    let automatic = HeaderValue::new(HeaderName::new_from_ascii_str("Auto-Submitted"), "auto-generated".to_owned());
    let builder = builder.raw_header(automatic).header(ContentType::TEXT_PLAIN);
    builder.body(message.text()).map_err(|error| unfit(name, error))
}

async fn transport(name: &str, sink: &SmtpSink) -> Result<AsyncSmtpTransport<Tokio1Executor>, NotifyError> {
    let builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&sink.host).port(sink.port);
    let tls = match sink.tls {
        SmtpTls::None => Tls::None,
        SmtpTls::StartTls => Tls::Required(tls(name, sink)?),
        SmtpTls::Tls => Tls::Wrapper(tls(name, sink)?),
    };
    let builder = builder.tls(tls).timeout(Some(ANSWER_MAX));
    let Some(reference) = &sink.credentials else { return Ok(builder.build()) };
    let secret = super::secret(name, "credentials", reference).await?;
    let parts = secret.expose_secret().trim().split_once(':');
    let (user, password) = parts.ok_or_else(|| unfit(name, "what its `credentials` lead to is not USER:PASSWORD"))?;
    Ok(builder.credentials(Credentials::new(user.to_owned(), password.to_owned())).build())
}

fn tls(name: &str, sink: &SmtpSink) -> Result<TlsParameters, NotifyError> {
    let mut builder = TlsParameters::builder(sink.host.clone());
    if let Some(file) = &sink.ca_file {
        let wrong = |what: String| NotifyError::Authorities { sink: name.to_owned(), file: file.clone(), what };
        let pem = std::fs::read(file).map_err(|error| wrong(error.to_string()))?;
        let authority = Certificate::from_pem(&pem).map_err(|error| wrong(error.to_string()))?;
        builder = builder.certificate_store(CertificateStore::None).add_root_certificate(authority);
    }
    builder.build().map_err(|error| unfit(name, chain(&error)))
}
