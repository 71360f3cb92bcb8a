//! HAProxy, 2.2 or later: one backend for each site and port, since a check names its gate for the whole backend.
//!
//! A check asks the gate first and then the unit; only if both are well is the server up. `option httpchk` is closed when nobody
//! answers, unlike `agent-check`. `on-marked-down shutdown-sessions` cuts what is connected, kept-alive sessions too. Until its first
//! check, within D/5 of a start, HAProxy takes a server for up (3.1 and later know `init-state`): the snippet says so.
//!
//! Whether a site takes writes is one more backend for each site, to which nobody is sent: its only server is the gate, up while
//! `/writes` says yes. The backend of the units refuses writes while that one is down; so it is the site that was chosen whose
//! maintenance counts.

use super::{Behind, NO_WRITES, Outline, Port, READS, Speaks, ms};

/// The part of `haproxy.cfg` that puts HAProxy before both sites; `defaults` and `global` are the operator's.
pub fn haproxy(outline: &Outline) -> String {
    // Two checks fail before a server is down: a wait, a check that hangs, a wait, another one. All of it within D.
    let every = ms(outline.drain / 5);
    let mut text = outline.head("HAProxy");
    text += &format!(
        "# For {every} after a start HAProxy believes in servers it has not checked: reload it, and restart it only while the\n\
         # spare's units are stopped; with 3.1 or later add `init-state fully-down` to the default-server lines.\n"
    );
    if outline.ports.iter().any(|port| port.speaks != Speaks::Tcp) {
        for site in &outline.sites {
            text += &takes_writes(outline, site, &every);
        }
    }
    for port in &outline.ports {
        text += &frontend(outline, port);
        for site in &outline.sites {
            text += &backend(outline, port, site, &every);
        }
    }
    text
}

fn name(outline: &Outline, port: &Port, site: &str) -> String {
    format!("{}_{}_{site}", outline.system, port.listen)
}

/// The backend that is up while the gate of `site` takes writes.
fn writes(outline: &Outline, site: &Behind) -> String {
    format!("{}_writes_{}", outline.system, site.site)
}

fn takes_writes(outline: &Outline, site: &Behind, every: &str) -> String {
    format!(
        "\n# Nobody is sent here: it is up while {site} takes writes, which it does not in maintenance.\nbackend {name}\n    \
         mode http\n    timeout connect 5s\n    timeout server 1m\n    timeout check {every}\n    option httpchk\n    \
         http-check send meth GET uri /writes\n    http-check expect status 200\n    \
         server gate {gate} check inter {every} fall 2 rise 2\n",
        name = writes(outline, site),
        site = site.site,
        gate = site.gate,
    )
}

fn frontend(outline: &Outline, port: &Port) -> String {
    let listen = port.listen;
    let mut text = format!("\nfrontend {}_{listen}\n    bind :{listen}\n    timeout client 1m\n", outline.system);
    text += match port.speaks {
        // A write refused by closing its connection would close the reads of everybody with it.
        Speaks::Tcp => {
            "    mode tcp\n    # Methods cannot be seen here: maintenance changes nothing, and writes go on.\n"
        }
        // What a client says of the way it came is dropped: the application believes it.
        Speaks::Http(_) => {
            "    mode http\n    \
             # End TLS here with `bind :443 ssl crt /path`; the application learns which it was.\n    \
             http-request del-header X-Forwarded-Proto\n    \
             http-request set-header X-Forwarded-Proto https if { ssl_fc }\n    \
             http-request set-header X-Forwarded-Proto http unless { ssl_fc }\n    \
             http-request set-header X-Forwarded-For %[src]\n"
        }
    };
    for site in &outline.sites {
        let backend = name(outline, port, &site.site);
        text += &format!("    use_backend {backend} if {{ nbsrv({backend}) gt 0 }}\n");
    }
    // Nobody is open: the first one's backend says 503, or closes.
    if let Some(first) = outline.sites.first() {
        text += &format!("    default_backend {}\n", name(outline, port, &first.site));
    }
    text
}

fn backend(outline: &Outline, port: &Port, site: &Behind, every: &str) -> String {
    let (gate_host, gate_port) = site.gate.rsplit_once(':').unwrap_or((&site.gate, ""));
    let gate_host = gate_host.trim_start_matches('[').trim_end_matches(']');
    let mut text = format!(
        "\nbackend {}\n    timeout connect 5s\n    timeout server 1m\n    timeout check {every}\n",
        name(outline, port, &site.site)
    );
    text += &match &port.speaks {
        Speaks::Http(path) => format!(
            "    mode http\n    option httpchk\n    \
             http-check connect addr {gate_host} port {gate_port}\n    \
             http-check send meth GET uri /live\n    \
             http-check expect status 200\n    \
             http-check connect port {unit}\n    \
             http-check send meth GET uri {path}\n    \
             http-check expect status 200\n    \
             http-request return status 503 content-type text/plain string \"{NO_WRITES}\" \
             unless {{ method {reads} }} or {{ nbsrv({writes}) gt 0 }}\n",
            unit = port.unit,
            reads = READS.join(" "),
            writes = writes(outline, site),
        ),
        Speaks::Tcp => format!(
            "    mode tcp\n    option tcp-check\n    \
             tcp-check connect addr {gate_host} port {gate_port}\n    \
             tcp-check send GET\\ /live\\ HTTP/1.0\\r\\n\\r\\n\n    \
             tcp-check expect rstring ^HTTP/1\\.[01]\\ 200\n    \
             tcp-check connect port {unit}\n",
            unit = port.unit
        ),
    };
    text += &format!("    default-server inter {every} fall 2 rise 2 on-marked-down shutdown-sessions\n");
    for (number, unit) in site.units.iter().enumerate() {
        text += &format!("    server {}{} {unit}:{} check\n", site.site, number + 1, port.unit);
    }
    text
}
