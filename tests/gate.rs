//! The gate as a load balancer meets it: over real sockets, with a clock that nobody waits for.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use warmspare::clock::{Clock, SystemClock};
use warmspare::error::Explain;
use warmspare::site::gate::{Gate, GateError, Listen, Shown, Sign, SignWriter, sign};
use warmspare::site::lease::{BootInstant, Name, Term};

const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

fn put_up(sign: Sign) -> Gate {
    let listen = Listen { http: ANY, agent: Some(ANY) };
    Gate::put_up(&listen, sign, Arc::new(SystemClock)).unwrap()
}

fn live_for(span: Duration) -> Shown {
    let until = Some(BootInstant(SystemClock.boot() + span));
    let (name, term) = (Name::Live, Term(3));
    Shown { name, term, open_until: until, witness_until: until, turning_until: until, maintenance: false }
}

fn open() -> (SignWriter, Gate) {
    let (mut writer, sign) = sign();
    writer.show(live_for(Duration::from_secs(3600)));
    (writer, put_up(sign))
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

/// All that comes until the other end closes.
fn rest(mut stream: TcpStream) -> String {
    let mut text = Vec::new();
    match stream.read_to_end(&mut text) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}"),
    }
    String::from_utf8(text).unwrap()
}

fn ask(gate: &Gate, request: &str) -> String {
    let mut stream = connect(gate.http);
    stream.write_all(request.as_bytes()).unwrap();
    rest(stream)
}

fn status(gate: &Gate, target: &str) -> u16 {
    let answer = ask(gate, &format!("HEAD {target} HTTP/1.1\r\nHost: gate\r\nConnection: close\r\n\r\n"));
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_balancer_reads_state_and_term_over_one_connection_or_many() {
    let (mut writer, gate) = open();
    let answer = ask(&gate, "GET /live HTTP/1.0\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nLIVE term 3\n"), "{answer}");
    assert!(answer.contains("\r\nX-Warmspare-Term: 3\r\n"), "{answer}");
    // Two at once, in pieces, and one that says it is the last.
    let mut stream = connect(gate.http);
    stream.write_all(b"GET /live HTTP/1.1\r\nHost: a\r\n\r\nGET /writes?deny=403 HTT").unwrap();
    stream.write_all(b"P/1.1\r\n\r\nHEAD /nothing HTTP/1.1\r\nConnection: close\r\n\r\n").unwrap();
    let answers = rest(stream);
    let statuses: Vec<&str> = answers.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect();
    assert_eq!(statuses, ["200", "200", "404"], "{answers}");
    writer.show(Shown { maintenance: true, ..live_for(Duration::from_secs(60)) });
    assert_eq!([status(&gate, "/live"), status(&gate, "/writes"), status(&gate, "/writes?deny=403")], [200, 503, 403]);
    let agent = connect(gate.agent.unwrap());
    assert_eq!(rest(agent), "ready up\n");
}

/// Nothing is written on the sign any more, as when the loop that holds the lease hangs or the process was stopped and goes on.
#[test]
fn a_gate_that_nobody_closes_closes_at_the_end_of_its_lease() {
    let (mut writer, sign) = sign();
    let gate = put_up(sign);
    assert_eq!(status(&gate, "/live"), 503, "before anything is known");
    let until = SystemClock.boot() + Duration::from_millis(400);
    writer.show(Shown { open_until: Some(BootInstant(until)), ..live_for(Duration::from_millis(400)) });
    let mut opened = 0;
    while SystemClock.boot() < until + Duration::from_millis(200) {
        let before = SystemClock.boot();
        let is_open = status(&gate, "/live") == 200;
        assert!(!is_open || before < until, "open after its end");
        assert!(is_open || SystemClock.boot() >= until, "closed before its end");
        opened += usize::from(is_open);
    }
    assert!(opened > 0);
    assert_eq!(status(&gate, "/healthz"), 503, "a balancer, and systemd, see that the loop hangs");
    writer.show(live_for(Duration::from_secs(60)));
    assert_eq!(status(&gate, "/live"), 200);
    drop(writer);
    assert_eq!(status(&gate, "/live"), 503, "whoever held the lease has ended");
}

#[test]
fn a_gate_that_is_taken_down_answers_nobody() {
    let (_writer, gate) = open();
    let (address, mut kept) = (gate.http, connect(gate.http));
    kept.write_all(b"GET /live HTTP/1.1\r\n\r\n").unwrap();
    let mut first = [0; 12];
    kept.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
    gate.take_down();
    assert_eq!(TcpStream::connect(address).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    drop(rest(kept));
}

#[test]
fn whoever_speaks_no_http_or_too_much_is_sent_away_and_the_gate_stays_up() {
    let (_writer, gate) = open();
    let first_line = |answer: String| answer.lines().next().unwrap_or_default().to_owned();
    let long = format!("GET /live HTTP/1.1\r\nA: {}\r\n\r\n", "b".repeat(9000));
    assert_eq!(first_line(ask(&gate, &long)), "HTTP/1.1 431 Request Header Fields Too Large");
    assert_eq!(first_line(ask(&gate, "\u{16}\u{3}\u{1}\u{2}")), "HTTP/1.1 400 Bad Request");
    // The second would be a request of its own to whoever read no body.
    let smuggled = "GET /live HTTP/1.1\r\nContent-Length: 30\r\n\r\nGET /live HTTP/1.1\r\nA: bcd\r\n\r\n";
    assert_eq!(ask(&gate, smuggled).matches("HTTP/1.1 ").count(), 1);
    let begun = Instant::now();
    assert_eq!(first_line(ask(&gate, "GET /live HT")), "HTTP/1.1 408 Request Timeout");
    assert!(begun.elapsed() > Duration::from_secs(4), "it had its time");
    assert_eq!(status(&gate, "/live"), 200);
}

#[test]
fn more_connections_than_there_are_places_are_closed_and_places_come_back() {
    let (_writer, gate) = open();
    let idle: Vec<TcpStream> = (0..512).map(|_| connect(gate.http)).collect();
    // In the order in which they came: the last has its place when this one is turned away.
    let turned_away = connect(gate.http);
    assert_eq!(rest(turned_away), "");
    drop(idle);
    let begun = Instant::now();
    while ask(&gate, "GET /live HTTP/1.0\r\n\r\n").is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(20), "the places of who has left are free");
    }
}

#[test]
fn a_port_that_is_taken_is_told_with_who_to_ask() {
    let (_writer, gate) = open();
    let listen = Listen { http: gate.http, agent: None };
    let error = Gate::put_up(&listen, sign().1, Arc::new(SystemClock)).unwrap_err();
    assert!(matches!(error, GateError::Listen { address, .. } if address == gate.http));
    assert_eq!(error.to_string(), format!("the gate cannot listen on {}", gate.http));
    assert!(error.next_step().unwrap().contains(&format!("sport = {}", gate.http.port())));
}
