//! Caddy, 2.6 or later: each request asks the gate first, as `forward_auth` does it, and then goes to that site.
//!
//! `handle_response` has one answer for an open gate and one for a closed one, where the other site's gate is asked. A gate that gives no
//! answer is an error of the request and not a response: `handle_errors` goes on with the other site then. What it must not do is go
//! on after a unit failed: a variable says that a gate has answered. So a kept-alive session goes elsewhere with its next
//! request; an answer that is on its way when the gate closes is not cut, as HAProxy would.
//!
//! A gate is asked without anything of the client's: `header_up -**` takes every field (`-*` ends the connection in 2.6), and
//! `rewrite` with a bare `?` the query.
//!
//! A read asks `/live`, anything else `/writes`: which it is, and what a refused write is told, are variables of the request.

use super::{BalancerError, Behind, NO_WRITES, Outline, Port, READS, Speaks, ms};

/// The part of a `Caddyfile` that puts Caddy before both sites; global options are the operator's.
///
/// # Errors
/// [`BalancerError::NoTcp`] for a port that passes TCP through: Caddy knows HTTP alone.
pub fn caddy(outline: &Outline) -> Result<String, BalancerError> {
    let mut text = outline.head("Caddy");
    text += "# HTTP alone: Caddy passes no TCP through. When a gate closes, answers that are under way are not cut. Nobody open is a \
             503;\n# a 502, if neither gate answers.\n";
    for port in &outline.ports {
        let Speaks::Http(path) = &port.speaks else {
            return Err(BalancerError::NoTcp { program: "Caddy", port: port.listen });
        };
        for site in &outline.sites {
            text += &units(outline, port, site, path);
        }
        for number in (0..outline.sites.len()).rev() {
            text += &gate(outline, port, number);
        }
        text += &server(outline, port);
    }
    Ok(text)
}

fn name(outline: &Outline, port: &Port, site: &Behind) -> String {
    format!("{}_{}_{}", outline.system, port.listen, site.site)
}

/// A site's units. What a client says of the way it came is dropped by Caddy itself, and said anew.
fn units(outline: &Outline, port: &Port, site: &Behind, path: &str) -> String {
    let every = ms(outline.drain / 5);
    let units: Vec<String> = site.units.iter().map(|unit| format!("{unit}:{}", port.unit)).collect();
    format!(
        "\n({name}) {{\n\treverse_proxy {units} {{\n\t\thealth_uri {path}\n\t\thealth_status 200\n\t\thealth_interval {every}\n\
         \t\thealth_timeout {every}\n\t\tfail_duration 10s\n\t\tlb_try_duration {every}\n\t}}\n}}\n",
        name = name(outline, port, site),
        units = units.join(" "),
    )
}

/// The gate of the site with this number, and what follows its answer.
fn gate(outline: &Outline, port: &Port, number: usize) -> String {
    let Some(site) = outline.sites.get(number) else { return String::new() };
    let (name_of, patience) = (|site| name(outline, port, site), ms(outline.drain / 5));
    let closed = match outline.sites.get(number + 1) {
        Some(next) => format!("import {}_gate", name_of(next)),
        None => CLOSED.to_owned(),
    };
    format!(
        "\n({name}_gate) {{\n\treverse_proxy {gate} {{\n\t\tmethod GET\n\t\trewrite /{{http.vars.asks}}?\n\
         \t\t# Nothing of the client's is the gate's business.\n\t\theader_up -**\n\
         \t\ttransport http {{\n\t\t\tdial_timeout {patience}\n\t\t\tresponse_header_timeout {patience}\n\t\t}}\n\
         \t\t@open status 200\n\t\thandle_response @open {{\n\t\t\tvars gate answered\n\t\t\timport {name}\n\t\t}}\n\
         \t\thandle_response {{\n\t\t\tvars gate answered\n\t\t\t{closed}\n\t\t}}\n\t}}\n}}\n",
        name = name_of(site),
        gate = site.gate,
    )
}

/// The answer while nobody is open. Empty, but for a write.
const CLOSED: &str = "respond \"{http.vars.refusal}\" 503";

fn server(outline: &Outline, port: &Port) -> String {
    let gates: Vec<String> = outline.sites.iter().map(|site| format!("{}_gate", name(outline, port, site))).collect();
    let first = gates.first().map(|gate| format!("import {gate}")).unwrap_or_default();
    let next = gates.get(1).map_or(CLOSED.to_owned(), |gate| format!("import {gate}"));
    format!(
        "\n# For TLS write the name of the service in place of `:{listen}`, or a `tls` line below it.\n:{listen} {{\n\
         \troute {{\n\t\t# While maintenance is on a gate takes reads alone.\n\t\t@read method {reads}\n\
         \t\t@write not method {reads}\n\t\tvars @read asks live\n\t\tvars @write {{\n\t\t\tasks writes\n\
         \t\t\trefusal \"{NO_WRITES}\"\n\t\t}}\n\t\t{first}\n\t}}\n\thandle_errors {{\n\t\t@answered vars {{http.vars.gate}} answered\n\
         \t\thandle @answered {{\n\t\t\trespond 503\n\t\t}}\n\
         \t\t# The first gate is silent, so it is closed.\n\t\thandle {{\n\t\t\t{next}\n\t\t}}\n\t}}\n}}\n",
        listen = port.listen,
        reads = READS.join(" "),
    )
}
