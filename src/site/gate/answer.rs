//! What the gate answers: a pure function from a request, the sign and the time to a response.
//!
//! | path | 200 while | otherwise |
//! |---|---|---|
//! | `/live` | this site takes traffic | 503 |
//! | `/writes` | it does, and no maintenance is on | 503 |
//! | `/ready` | it is a spare that could take over on an operator's word: it reads the witness, and nothing fences it | 503 |
//! | `/healthz` | the loop that holds the lease turns | 503 |
//! | `/metrics` | always: what a report says, for Prometheus, from memory | 404 before the first report |
//!
//! With `?deny=403` a refusal is a 403: nginx's `auth_request` knows 2xx, 401 and 403, and calls everything else an error.
//! Each answer carries term and state in `X-Warmspare-Term` and `X-Warmspare-State`, and once more as its text.

use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;

use super::sign::Shown;
use crate::site::lease::{BootInstant, Name};

/// A request, as far as the gate is interested.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// How it is asked.
    pub method: Method,
    /// Path and query, as sent.
    pub target: String,
    /// Whether more may follow on this connection.
    pub keeps_open: bool,
}

/// How it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// GET.
    Get,
    /// HEAD: without the text.
    Head,
    /// Anything else.
    Other,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The text, without its last newline.
    pub text: String,
    /// What kind of text.
    pub content: &'static str,
}

/// Words for a person.
const WORDS: &str = "text/plain; charset=utf-8";
/// Metrics for Prometheus, in its text format.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

impl Response {
    fn new(status: u16, text: &str) -> Self {
        Response { status, text: text.to_owned(), content: WORDS }
    }

    /// Metrics.
    pub fn metrics(text: &str) -> Self {
        let text = text.strip_suffix('\n').unwrap_or(text).to_owned();
        Response { status: 200, text, content: METRICS }
    }

    /// When a request cannot be understood or has no end.
    pub fn refused(status: u16) -> Self {
        Response::new(status, reason(status))
    }

    /// As it is sent.
    pub fn bytes(&self, request: &Request, shown: &Shown, at: Timestamp) -> Vec<u8> {
        let Response { status, text, content } = self;
        let (reason, length) = (reason(*status), text.len() + 1);
        let date = DateTimePrinter::new().timestamp_to_rfc9110_string(&at).unwrap_or_default();
        let mut head = format!("HTTP/1.1 {status} {reason}\r\nDate: {date}\r\nContent-Length: {length}\r\n");
        head += &format!("Content-Type: {content}\r\nCache-Control: no-store\r\n");
        head += &format!("X-Warmspare-Term: {}\r\nX-Warmspare-State: {}\r\n", shown.term, shown.name);
        if *status == 405 {
            head += "Allow: GET, HEAD\r\n";
        }
        if !request.keeps_open {
            head += "Connection: close\r\n";
        }
        head += "\r\n";
        if request.method != Method::Head {
            head += text;
            head += "\n";
        }
        head.into_bytes()
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        431 => "Request Header Fields Too Large",
        _ => "Service Unavailable",
    }
}

/// The answer to `request` at `now`.
pub fn answer(request: &Request, shown: &Shown, now: BootInstant) -> Response {
    let (path, query) = request.target.split_once('?').unwrap_or((&request.target, ""));
    let is_yes = match path {
        "/live" => shown.is_open(now),
        "/writes" => shown.takes_writes(now),
        "/ready" => shown.is_ready(now),
        "/healthz" => shown.is_turning(now),
        _ => return Response::refused(404),
    };
    if request.method == Method::Other {
        return Response::refused(405);
    }
    let denied = match query {
        "" => 503,
        "deny=403" => 403,
        // Whoever meant something by it did not mean 503.
        _ => return Response::new(400, "the only question is ?deny=403"),
    };
    let status = if is_yes { 200 } else { denied };
    Response::new(status, &words(shown, now))
}

/// The state in a line, with what it does not say by itself.
fn words(shown: &Shown, now: BootInstant) -> String {
    let mut text = format!("{} term {}", shown.name, shown.term);
    if shown.name == Name::Live && !shown.is_open(now) {
        text += ", the lease has run out";
    }
    if shown.maintenance {
        text += ", maintenance";
    }
    if !shown.is_turning(now) {
        text += ", the loop hangs";
    }
    text
}

/// The line for HAProxy's agent-check (its configuration manual, `agent-check`). An agent that does not answer changes nothing
/// there, so this moves traffic away early, and never decides that there may be any: that is what `/live` is for.
pub fn agent_line(shown: &Shown, now: BootInstant) -> &'static str {
    match shown.name {
        _ if shown.is_open(now) => "ready up\n",
        Name::Draining => "drain\n",
        Name::Fenced | Name::Stale => "maint\n",
        _ => "ready down\n",
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::site::lease::Term;

    const NOW: BootInstant = BootInstant(Duration::from_secs(100));

    fn shown(name: Name) -> Shown {
        let later = Some(NOW + Duration::from_secs(1));
        let open_until = later.filter(|_| name == Name::Live);
        Shown { name, term: Term(3), open_until, witness_until: later, turning_until: later, maintenance: false }
    }

    fn asked(line: &str, shown: &Shown) -> String {
        let (method, target) = line.split_once(' ').unwrap();
        let method = match method {
            "GET" => Method::Get,
            "HEAD" => Method::Head,
            _ => Method::Other,
        };
        let request = Request { method, target: target.to_owned(), keeps_open: true };
        let answer = answer(&request, shown, NOW);
        format!("{} {}", answer.status, answer.text)
    }

    #[test]
    fn each_path_says_one_thing_in_each_state() {
        let maintenance = Shown { maintenance: true, ..shown(Name::Live) };
        let past = Shown { open_until: Some(NOW), turning_until: Some(NOW), ..shown(Name::Live) };
        let live = shown(Name::Live);
        let spare = shown(Name::Standby);
        for (line, shown, expected) in [
            ("GET /live", live, "200 LIVE term 3"),
            ("HEAD /live", live, "200 LIVE term 3"),
            ("GET /live?deny=403", live, "200 LIVE term 3"),
            ("GET /writes", live, "200 LIVE term 3"),
            ("GET /ready", live, "503 LIVE term 3"),
            ("GET /healthz", live, "200 LIVE term 3"),
            ("GET /live", maintenance, "200 LIVE term 3, maintenance"),
            ("GET /writes", maintenance, "503 LIVE term 3, maintenance"),
            ("GET /writes?deny=403", maintenance, "403 LIVE term 3, maintenance"),
            ("GET /live", past, "503 LIVE term 3, the lease has run out, the loop hangs"),
            ("GET /live?deny=403", past, "403 LIVE term 3, the lease has run out, the loop hangs"),
            ("GET /writes", past, "503 LIVE term 3, the lease has run out, the loop hangs"),
            ("GET /healthz", past, "503 LIVE term 3, the lease has run out, the loop hangs"),
            ("GET /live", spare, "503 STANDBY term 3"),
            ("GET /ready", spare, "200 STANDBY term 3"),
            ("GET /ready", shown_fenced(), "503 FENCED term 3"),
            ("GET /live?deny=500", live, "400 the only question is ?deny=403"),
            ("GET /live?", live, "200 LIVE term 3"),
            ("POST /live", live, "405 Method Not Allowed"),
            ("OPTIONS /live", live, "405 Method Not Allowed"),
            ("GET /", live, "404 Not Found"),
            ("GET /live/", live, "404 Not Found"),
            ("GET /metrics", live, "404 Not Found"),
        ] {
            assert_eq!(asked(line, &shown), expected, "{line} of {shown:?}");
        }
    }

    fn shown_fenced() -> Shown {
        shown(Name::Fenced)
    }

    #[test]
    fn no_state_but_live_opens_and_the_agent_says_the_same() {
        for (name, line) in [
            (Name::Live, "ready up\n"),
            (Name::Draining, "drain\n"),
            (Name::Standby, "ready down\n"),
            (Name::Closed, "ready down\n"),
            (Name::Starting, "ready down\n"),
            (Name::Fenced, "maint\n"),
            (Name::Stale, "maint\n"),
        ] {
            assert_eq!(agent_line(&shown(name), NOW), line, "{name}");
            assert_eq!(asked("GET /live", &shown(name)).starts_with("200"), name == Name::Live, "{name}");
        }
        let past = Shown { open_until: Some(NOW), ..shown(Name::Live) };
        assert_eq!(agent_line(&past, NOW), "ready down\n");
    }

    #[test]
    fn an_answer_as_it_is_sent() {
        let at = "2026-11-21T04:00:00Z".parse().unwrap();
        let request = Request { method: Method::Get, target: "/live".to_owned(), keeps_open: false };
        let sent = |request: &Request| {
            let answer = answer(request, &shown(Name::Live), NOW);
            String::from_utf8(answer.bytes(request, &shown(Name::Live), at)).unwrap()
        };
        let head = "HTTP/1.1 200 OK\r\nDate: Sat, 21 Nov 2026 04:00:00 GMT\r\nContent-Length: 12\r\n\
                    Content-Type: text/plain; charset=utf-8\r\nCache-Control: no-store\r\nX-Warmspare-Term: 3\r\n\
                    X-Warmspare-State: LIVE\r\n";
        assert_eq!(sent(&request), format!("{head}Connection: close\r\n\r\nLIVE term 3\n"));
        let request = Request { method: Method::Head, keeps_open: true, ..request };
        assert_eq!(sent(&request), format!("{head}\r\n"));
    }
}
