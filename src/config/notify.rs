//! Whom alarms are told, and how: `[notify.NAME]`.
//!
//! The address of a webhook is a secret: whoever has it can write there. So it is named by reference, like a password.

use std::path::PathBuf;
use std::time::Duration;

use toml::Spanned;

use super::as_written as raw;
use super::error::{ConfigError, Place, nearest};
use super::reference::Reference;
use super::source_name::is_plain_name;
use super::validate::{parsed, reference};
use crate::units::Span;

/// How often an alarm that stands is told again.
const REPEAT: Duration = Duration::from_secs(24 * 3_600);
/// More often nobody reads it.
const REPEAT_MIN: Duration = Duration::from_secs(60);

/// A place that is told.
#[derive(Clone, Debug)]
pub struct SinkConfig {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: SinkKind,
    /// What it is told of.
    pub when: Vec<When>,
    /// How often an alarm that stands is told again.
    pub repeat: Duration,
}

/// What it is told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// An alarm is raised, or still stands.
    Alarm,
    /// It is over.
    Recovery,
    /// A job begins.
    Start,
    /// A job did what it should; where no job is named, a look found no alarm.
    Success,
    /// A job did not; where none is named, there are alarms.
    Fail,
}

impl When {
    const OF_MESSAGES: [(&str, When); 2] = [("alarm", When::Alarm), ("recovery", When::Recovery)];
    const OF_PINGS: [(&str, When); 3] = [("start", When::Start), ("success", When::Success), ("fail", When::Fail)];
}

/// What kind of place it is.
#[derive(Clone, Debug)]
pub enum SinkKind {
    /// Takes our JSON by POST.
    Webhook(HttpSink),
    /// Takes what Slack's incoming webhooks take.
    Slack(HttpSink),
    /// Is asked for a URL at each sign of life, and alarms when none comes: healthchecks.io and its like.
    Ping {
        /// Where.
        http: HttpSink,
        /// The job whose runs it follows; without one it follows the alarms of this site.
        job: Option<String>,
    },
    /// Takes mail.
    Smtp(SmtpSink),
    /// A program of this host: the words, the message as JSON on its standard input.
    Command(Vec<String>),
}

impl SinkKind {
    const WORDS: [&str; 5] = ["webhook", "slack", "ping", "smtp", "command"];

    /// As it is written.
    pub fn as_str(&self) -> &'static str {
        match self {
            SinkKind::Webhook(_) => "webhook",
            SinkKind::Slack(_) => "slack",
            SinkKind::Ping { .. } => "ping",
            SinkKind::Smtp(_) => "smtp",
            SinkKind::Command(_) => "command",
        }
    }
}

/// A place that is reached by HTTP.
#[derive(Clone, Debug)]
pub struct HttpSink {
    /// Where its address is.
    pub url: Reference,
    /// A file of the authorities to trust instead of this host's.
    pub ca_file: Option<PathBuf>,
}

/// A server that takes mail.
#[derive(Clone, Debug)]
pub struct SmtpSink {
    /// Its name.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How it is talked to.
    pub tls: SmtpTls,
    /// `USER:PASSWORD`, where it asks for them.
    pub credentials: Option<Reference>,
    /// Whom the mail is from.
    pub from: String,
    /// Whom it goes to.
    pub to: Vec<String>,
    /// A file of the authorities to trust instead of this host's.
    pub ca_file: Option<PathBuf>,
}

/// How a mail server is talked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SmtpTls {
    /// In clear first, then by TLS or not at all (RFC 3207); port 587.
    StartTls,
    /// By TLS from the first byte (RFC 8314); port 465.
    Tls,
    /// In clear: for a server of this host.
    None,
}

impl SmtpTls {
    const WORDS: [(&str, SmtpTls, u16); 3] =
        [("starttls", SmtpTls::StartTls, 587), ("tls", SmtpTls::Tls, 465), ("none", SmtpTls::None, 25)];
}

/// The sinks in order of their names.
pub(super) fn notify<'a>(
    place: &Place,
    raw: impl Iterator<Item = (&'a Spanned<String>, &'a raw::Notify)>,
) -> Result<Vec<SinkConfig>, ConfigError> {
    raw.map(|(name, raw)| Sink { place, section: format!("notify.{}", name.get_ref()), name, raw }.read()).collect()
}

struct Sink<'a> {
    place: &'a Place<'a>,
    section: String,
    name: &'a Spanned<String>,
    raw: &'a raw::Notify,
}

impl Sink<'_> {
    fn read(&self) -> Result<SinkConfig, ConfigError> {
        if !is_plain_name(self.name.get_ref()) {
            let what = format!("`{}` cannot be the name of a sink", self.name.get_ref());
            let next = "Use at most 40 lower-case letters, digits, `-` and `_`, beginning with a letter or digit.";
            return Err(self.place.error(Some(self.name.span().start), what, next));
        }
        let kind = self.kind()?;
        Ok(SinkConfig { name: self.name.get_ref().clone(), when: self.when(&kind)?, repeat: self.repeat()?, kind })
    }

    fn wrong(&self, at: usize, what: &str, next: &str) -> ConfigError {
        self.place.error(Some(at), format!("{what} under [{}]", self.section), next)
    }

    fn kind(&self) -> Result<SinkKind, ConfigError> {
        let (kind, raw) = (self.raw.kind.get_ref().as_str(), self.raw);
        let fits: &[&str] = match kind {
            "webhook" | "slack" => &["url", "ca_file"],
            "ping" => &["url", "ca_file", "job"],
            "smtp" => &["server", "tls", "from", "to", "credentials", "ca_file"],
            "command" => &["command"],
            other => {
                let next = match nearest(other, &SinkKind::WORDS) {
                    Some(word) => format!("Did you mean `{word}`?"),
                    None => format!("Write one of {}.", SinkKind::WORDS.join(", ")),
                };
                return Err(self.wrong(raw.kind.span().start, &format!("`kind` is `{other}`"), &next));
            }
        };
        if let Some((key, at)) = self.written().into_iter().find(|(key, _)| !fits.contains(key)) {
            let next = format!("A {kind} takes {}.", fits.join(", "));
            return Err(self.wrong(at, &format!("`{key}` says nothing to a {kind}"), &next));
        }
        match kind {
            "webhook" => Ok(SinkKind::Webhook(self.http()?)),
            "slack" => Ok(SinkKind::Slack(self.http()?)),
            "ping" => Ok(SinkKind::Ping { http: self.http()?, job: raw.job.as_ref().map(|job| job.get_ref().clone()) }),
            "smtp" => Ok(SinkKind::Smtp(self.smtp()?)),
            _ => Ok(SinkKind::Command(self.command()?)),
        }
    }

    /// Which of the keys that not every kind takes stand there, and where.
    fn written(&self) -> Vec<(&'static str, usize)> {
        let raw = self.raw;
        let text = |key: &'static str, at: Option<&Spanned<String>>| at.map(|at| (key, at.span().start));
        let texts = [
            text("url", raw.url.as_ref()),
            raw.ca_file.as_ref().map(|at| ("ca_file", at.span().start)),
            text("job", raw.job.as_ref()),
            text("server", raw.server.as_ref()),
            text("tls", raw.tls.as_ref()),
            text("from", raw.from.as_ref()),
            text("to", raw.to.first()),
            text("credentials", raw.credentials.as_ref()),
            text("command", raw.command.first()),
        ];
        texts.into_iter().flatten().collect()
    }

    fn lacks(&self, key: &str, next: &str) -> ConfigError {
        self.wrong(self.raw.kind.span().start, &format!("`{key}` is missing"), next)
    }

    fn ca_file(&self) -> Result<Option<PathBuf>, ConfigError> {
        let Some(file) = &self.raw.ca_file else { return Ok(None) };
        if !file.get_ref().is_absolute() {
            let next = "Write it from the root: /etc/warmspare/authorities.pem.";
            return Err(self.wrong(file.span().start, "`ca_file` is not an absolute path", next));
        }
        Ok(Some(file.get_ref().clone()))
    }

    fn http(&self) -> Result<HttpSink, ConfigError> {
        let url = reference(self.place, &self.section, "url", self.raw.url.as_ref())?;
        let next =
            "Put the address into a file, which is the secret, and name it: url = \"file:/etc/warmspare/webhook\".";
        Ok(HttpSink { url: url.ok_or_else(|| self.lacks("url", next))?, ca_file: self.ca_file()? })
    }

    fn smtp(&self) -> Result<SmtpSink, ConfigError> {
        let raw = self.raw;
        let (tls, usual) = match &raw.tls {
            None => (SmtpTls::StartTls, 587),
            Some(text) => {
                let found = SmtpTls::WORDS.iter().find(|(word, _, _)| word == text.get_ref());
                let wrong = || {
                    self.wrong(
                        text.span().start,
                        &format!("`tls` is `{}`", text.get_ref()),
                        "Write \"starttls\", \"tls\" or \"none\".",
                    )
                };
                found.map(|(_, tls, port)| (*tls, *port)).ok_or_else(wrong)?
            }
        };
        let server = raw.server.as_ref();
        let server = server.ok_or_else(|| self.lacks("server", "Write server = \"mail.example:587\"."))?;
        let (host, port) = match server.get_ref().rsplit_once(':') {
            None => (server.get_ref().as_str(), Some(usual)),
            Some((host, port)) => (host, port.parse().ok()),
        };
        let Some(port) = port.filter(|_| !host.is_empty()) else {
            let what = format!("`server` is `{}`, which is no host with a port", server.get_ref());
            return Err(self.wrong(server.span().start, &what, "Write server = \"mail.example:587\"."));
        };
        let from = raw.from.as_ref().ok_or_else(|| self.lacks("from", "Write from = \"warmspare@example.org\"."))?;
        if raw.to.is_empty() {
            return Err(self.lacks("to", "Write to = [\"operators@example.org\"]."));
        }
        for address in raw.to.iter().chain([from]) {
            if !is_mail_address(address.get_ref()) {
                let what = format!("`{}` is no mail address", address.get_ref());
                return Err(self.wrong(address.span().start, &what, "Write NAME@HOST, or \"Words <NAME@HOST>\"."));
            }
        }
        let credentials = reference(self.place, &self.section, "credentials", raw.credentials.as_ref())?;
        if let (Some(_), SmtpTls::None, Some(at)) = (&credentials, tls, &raw.credentials) {
            let next = "Leave `tls` out, or the credentials: a password in clear is everybody's.";
            return Err(self.wrong(at.span().start, "`credentials` would go over the line in clear", next));
        }
        Ok(SmtpSink {
            host: host.trim_matches(['[', ']']).to_owned(),
            port,
            tls,
            credentials,
            from: from.get_ref().clone(),
            to: raw.to.iter().map(|to| to.get_ref().clone()).collect(),
            ca_file: self.ca_file()?,
        })
    }

    fn command(&self) -> Result<Vec<String>, ConfigError> {
        let words: Vec<String> = self.raw.command.iter().map(|word| word.get_ref().clone()).collect();
        match words.first() {
            Some(program) if program.starts_with('/') => Ok(words),
            Some(_) => {
                let next = "Write it from the root: it is started without a shell and without PATH.";
                let at = self.raw.command.first().map_or(0, |word| word.span().start);
                Err(self.wrong(at, "the program of `command` is not an absolute path", next))
            }
            None => Err(self.lacks("command", "Write command = [\"/usr/local/bin/tell\", \"operators\"].")),
        }
    }

    fn when(&self, kind: &SinkKind) -> Result<Vec<When>, ConfigError> {
        let known: &[(&str, When)] = match kind {
            SinkKind::Ping { .. } => &When::OF_PINGS,
            _ => &When::OF_MESSAGES,
        };
        let Some(words) = &self.raw.when else { return Ok(known.iter().map(|(_, when)| *when).collect()) };
        let read = |text: &Spanned<String>| {
            known.iter().find(|(word, _)| word == text.get_ref()).map(|(_, when)| *when).ok_or_else(|| {
                let words: Vec<&str> = known.iter().map(|(word, _)| *word).collect();
                let next = format!("A {} is told of {}.", kind.as_str(), words.join(", "));
                self.wrong(text.span().start, &format!("`when` names `{}`", text.get_ref()), &next)
            })
        };
        let when: Vec<When> = words.iter().map(read).collect::<Result<_, _>>()?;
        // Who was not told of an alarm is not told that it is over.
        let needed = if matches!(kind, SinkKind::Ping { .. }) { !when.is_empty() } else { when.contains(&When::Alarm) };
        if !needed {
            let next =
                format!("Name one of {} at least.", known.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", "));
            let next = if matches!(kind, SinkKind::Ping { .. }) {
                next
            } else {
                "Write when = [\"alarm\"], or leave it out.".to_owned()
            };
            return Err(self.wrong(self.raw.kind.span().start, "`when` leaves nothing to be told of", &next));
        }
        Ok(when)
    }

    fn repeat(&self) -> Result<Duration, ConfigError> {
        let Some(text) = &self.raw.repeat else { return Ok(REPEAT) };
        let Span(repeat) = parsed(self.place, "repeat", text, "Write a span like \"24h\".")?;
        if repeat < REPEAT_MIN {
            return Err(self.wrong(text.span().start, "`repeat` is less than a minute", "Write a span like \"24h\"."));
        }
        Ok(repeat)
    }
}

/// `NAME@HOST`, or `Words <NAME@HOST>`: a slip shows here, the rest of RFC 5322 when a mail is written.
fn is_mail_address(text: &str) -> bool {
    let bare = match text.split_once('<') {
        None => Some(text),
        Some((_, rest)) => rest.strip_suffix('>'),
    };
    let parts = bare.and_then(|bare| bare.rsplit_once('@'));
    parts.is_some_and(|(name, host)| {
        let is_plain =
            |part: &str| !part.is_empty() && !part.contains(|c: char| c.is_whitespace() || "<>@,".contains(c));
        is_plain(name) && is_plain(host)
    }) && !text.contains(char::is_control)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn read(text: &str) -> Result<Vec<SinkConfig>, String> {
        #[derive(serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct File {
            notify: BTreeMap<Spanned<String>, raw::Notify>,
        }
        let place = Place { path: "w.toml".as_ref(), text };
        let file: File = toml::from_str(text).map_err(|error| place.toml_error(&error).to_string())?;
        notify(&place, file.notify.iter()).map_err(|error| format!("{error}\n{}", error.next))
    }

    #[test]
    fn each_kind_with_its_defaults() {
        let text = "[notify]\n\
             a = { kind = \"webhook\", url = \"env:A\" }\n\
             b = { kind = \"slack\", url = \"file:/b\", when = [\"alarm\"], repeat = \"1h\" }\n\
             c = { kind = \"ping\", url = \"file:/c\", job = \"capture\" }\n\
             d = { kind = \"smtp\", server = \"mail.example\", from = \"w@example.org\", to = [\"Ops <o@example.org>\"] }\n\
             e = { kind = \"command\", command = [\"/bin/tell\", \"x\"] }\n";
        let sinks = read(text).unwrap();
        let kinds: Vec<&str> = sinks.iter().map(|sink| sink.kind.as_str()).collect();
        assert_eq!(kinds, ["webhook", "slack", "ping", "smtp", "command"]);
        assert_eq!((&sinks[0].when[..], sinks[0].repeat), (&[When::Alarm, When::Recovery][..], REPEAT));
        assert_eq!((&sinks[1].when[..], sinks[1].repeat.as_secs()), (&[When::Alarm][..], 3_600));
        assert_eq!(sinks[2].when, [When::Start, When::Success, When::Fail]);
        let SinkKind::Smtp(smtp) = &sinks[3].kind else { panic!("{:?}", sinks[3]) };
        assert_eq!((smtp.host.as_str(), smtp.port, smtp.tls), ("mail.example", 587, SmtpTls::StartTls));
    }

    #[test]
    fn a_sink_that_cannot_be_meant_is_said_with_its_line() {
        let check = |sink: &str, expected: &str| {
            let error = read(&format!("[notify.ops]\n{sink}")).unwrap_err();
            assert_eq!(error, expected);
        };
        check("kind = \"webhok\"", "w.toml:2: `kind` is `webhok` under [notify.ops]\nDid you mean `webhook`?");
        check("kind = \"slack\"\ncommand = [\"/bin/x\"]", {
            "w.toml:3: `command` says nothing to a slack under [notify.ops]\nA slack takes url, ca_file."
        });
        check("kind = \"ping\"\nurl = \"env:P\"\nwhen = [\"alarm\"]", {
            "w.toml:4: `when` names `alarm` under [notify.ops]\nA ping is told of start, success, fail."
        });
        check("kind = \"slack\"\nurl = \"env:P\"\nwhen = [\"recovery\"]", {
            "w.toml:2: `when` leaves nothing to be told of under [notify.ops]\nWrite when = [\"alarm\"], or leave it out."
        });
        check("kind = \"command\"\ncommand = [\"mail\"]", {
            "w.toml:3: the program of `command` is not an absolute path under [notify.ops]\n\
             Write it from the root: it is started without a shell and without PATH."
        });
        check("kind = \"smtp\"\nserver = \"mail\"\nfrom = \"nobody\"\nto = [\"o@example.org\"]", {
            "w.toml:4: `nobody` is no mail address under [notify.ops]\nWrite NAME@HOST, or \"Words <NAME@HOST>\"."
        });
        check(
            "kind = \"smtp\"\nserver = \"mail:25\"\ntls = \"none\"\nfrom = \"w@example.org\"\nto = [\"o@example.org\"]\ncredentials = \"env:M\"",
            {
                "w.toml:7: `credentials` would go over the line in clear under [notify.ops]\n\
             Leave `tls` out, or the credentials: a password in clear is everybody's."
            },
        );
    }

    #[test]
    fn the_address_of_a_webhook_is_a_secret_and_is_not_repeated() {
        let error = read("[notify.ops]\nkind = \"slack\"\nurl = \"https://hooks.example/T0/hunter2\"").unwrap_err();
        assert!(
            error.starts_with("w.toml:3: `url` under [notify.ops] holds the secret itself\nMove it into a file"),
            "{error}"
        );
        assert!(!error.contains("hunter2"), "{error}");
    }
}
