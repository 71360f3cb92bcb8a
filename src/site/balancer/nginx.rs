//! nginx: it has no health checks of its own, so each request asks the gate first (`auth_request`), and then goes to that site.
//!
//! A gate that is closed answers 403, one that is gone makes a 500; both send the request to the other site, whose gate is asked in
//! its turn. So a kept-alive session goes elsewhere with its next request; an answer that is on its way when the gate closes is not
//! cut, as HAProxy would. A unit that fails is passed over for a while (`max_fails`).
//!
//! A read asks `/live`, anything else `/writes`. A write that the live site refuses goes the same way as any: the other gate is
//! asked, which is closed, and so it ends in a 503 with the reason.

use super::{BalancerError, Behind, NO_WRITES, Outline, Port, READS, Speaks, ms};

/// The part of the `http` block of `nginx.conf` that puts nginx before both sites.
///
/// # Errors
/// [`BalancerError::NoTcp`] for a port that passes TCP through: nginx cannot ask a gate there.
pub fn nginx(outline: &Outline) -> Result<String, BalancerError> {
    if let Some(port) = outline.ports.iter().find(|port| port.speaks == Speaks::Tcp) {
        return Err(BalancerError::NoTcp { program: "nginx", port: port.listen });
    }
    let mut text = outline.head("nginx");
    // Two systems in one file may both say it.
    let reads = READS.map(|method| format!("    {method} live;\n")).concat();
    text += &format!(
        "\n# While maintenance is on a gate takes reads alone.\nmap $request_method $warmspare_asks {{\n{reads}    default writes;\n}}\n"
    );
    for site in &outline.sites {
        let gate = gate(outline, site);
        text += &format!("\nupstream {gate} {{\n    server {} max_fails=0;\n    keepalive 16;\n}}\n", site.gate);
    }
    for port in &outline.ports {
        for site in &outline.sites {
            text += &upstream(outline, port, site);
        }
        text += &server(outline, port);
    }
    Ok(text)
}

fn gate(outline: &Outline, site: &Behind) -> String {
    format!("{}_gate_{}", outline.system, site.site)
}

fn units(outline: &Outline, port: &Port, site: &Behind) -> String {
    format!("{}_{}_{}", outline.system, port.listen, site.site)
}

fn upstream(outline: &Outline, port: &Port, site: &Behind) -> String {
    let mut text = format!("\nupstream {} {{\n", units(outline, port, site));
    for unit in &site.units {
        text += &format!("    server {unit}:{} max_fails=2 fail_timeout=10s;\n", port.unit);
    }
    text + "}\n"
}

fn server(outline: &Outline, port: &Port) -> String {
    let mut text = format!(
        "\nserver {{\n    listen {};\n    # End TLS here with `listen 443 ssl;` and its certificate.\n    \
         client_max_body_size 0;\n    proxy_http_version 1.1;\n    \
         # What a client says of the way it came is dropped: the application believes it.\n    \
         proxy_set_header Host $host;\n    proxy_set_header X-Forwarded-Proto $scheme;\n    \
         proxy_set_header X-Forwarded-For $remote_addr;\n    proxy_set_header Connection \"\";\n    \
         proxy_request_buffering off;\n    recursive_error_pages on;\n",
        port.listen
    );
    let patience = ms(outline.drain / 5);
    for (number, site) in outline.sites.iter().enumerate() {
        let (gate, units) = (gate(outline, site), units(outline, port, site));
        let place = if number == 0 { "/".to_owned() } else { format!("@{}", site.site) };
        let next = outline.sites.get(number + 1).map(|next| format!("@{}", next.site));
        let next = next.unwrap_or_else(|| "@closed".to_owned());
        text += &format!(
            "\n    location = /.warmspare/{} {{\n        internal;\n        proxy_pass http://{gate}/$warmspare_asks?deny=403;\n        \
             proxy_pass_request_body off;\n        # Nothing of the client's is the gate's business, which refuses a head that is too long.\n        \
             proxy_pass_request_headers off;\n        proxy_set_header Content-Length \"\";\n        \
             proxy_connect_timeout {patience};\n        proxy_read_timeout {patience};\n    }}\n",
            site.site
        );
        // Only what the gate said leads to the other site; what a unit answers goes to the client as it is.
        text += &format!(
            "    location {place} {{\n        auth_request /.warmspare/{};\n        error_page 403 500 = {next};\n        \
             proxy_intercept_errors off;\n        proxy_pass http://{units};\n    }}\n",
            site.site
        );
    }
    text += &format!(
        "\n    location @closed {{\n        default_type text/plain;\n        if ($warmspare_asks = writes) {{\n            \
         return 503 \"{NO_WRITES}\";\n        }}\n        return 503;\n    }}\n}}\n"
    );
    text
}
