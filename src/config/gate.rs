//! Where a site's gate listens.

use std::net::SocketAddr;

use toml::Spanned;

use super::as_written as raw;
use super::error::{ConfigError, Place};

/// Where load balancers ask whether this site takes traffic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GateAddress {
    /// For HTTP.
    pub listen: SocketAddr,
    /// For HAProxy's agent-check.
    pub agent: Option<SocketAddr>,
    /// Where load balancers reach it: `HOST:PORT`.
    pub reached_at: Option<String>,
}

pub(super) fn gate(place: &Place, section: &str, raw: &Spanned<raw::Gate>) -> Result<GateAddress, ConfigError> {
    let address = |key: &str, text: &Spanned<String>| {
        text.get_ref().parse::<SocketAddr>().map_err(|_| {
            let what = format!("`{key}` under [{section}.gate] is `{}`, which is no address with a port", text.get_ref());
            let next = "Write an address of this host and a port, like \"10.1.0.2:7777\", or \"0.0.0.0:7777\" for all of them.";
            place.error(Some(text.span().start), what, next)
        })
    };
    let gate = raw.get_ref();
    let listen = address("listen", &gate.listen)?;
    let agent = gate.agent.as_ref().map(|text| address("agent", text)).transpose()?;
    if agent == Some(listen) && listen.port() != 0 {
        let what = format!("`listen` and `agent` under [{section}.gate] are the same");
        return Err(place.error(Some(raw.span().start), what, "Give the agent a port of its own: it speaks no HTTP."));
    }
    let reached_at = gate.url.as_ref().map(|url| reached_at(place, section, url)).transpose()?;
    // Who listens on one address is reached there, unless something else is said.
    let reached_at = reached_at.or_else(|| (!listen.ip().is_unspecified()).then(|| listen.to_string()));
    Ok(GateAddress { listen, agent, reached_at })
}

/// `HOST:PORT` of `http://HOST:PORT`.
fn reached_at(place: &Place, section: &str, url: &Spanned<String>) -> Result<String, ConfigError> {
    let rest = url.get_ref().strip_prefix("http://").map(|rest| rest.strip_suffix('/').unwrap_or(rest));
    let is_place = |text: &&str| {
        let parts = text.rsplit_once(':');
        parts.is_some_and(|(host, port)| !host.is_empty() && !text.contains('/') && port.parse::<u16>().is_ok())
    };
    rest.filter(is_place).map(str::to_owned).ok_or_else(|| {
        let what = format!("`url` under [{section}.gate] is `{}`, which is not where a gate is reached", url.get_ref());
        let next = "Write it as load balancers reach it: \"http://10.1.0.2:7777\". A gate speaks HTTP, without TLS.";
        place.error(Some(url.span().start), what, next)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<GateAddress, String> {
        #[derive(serde::Deserialize)]
        struct Site {
            gate: Spanned<raw::Gate>,
        }
        let site: Site = toml::from_str(text).unwrap();
        let place = Place { path: "w.toml".as_ref(), text };
        gate(&place, "sites.ams", &site.gate).map_err(|error| format!("{error} {}", error.next))
    }

    #[test]
    fn a_gate_listens_on_an_address_and_a_port() {
        let found = parse("gate = { listen = \"0.0.0.0:7777\", agent = \"[::1]:7778\" }").unwrap();
        assert_eq!(
            (found.listen.to_string().as_str(), found.agent.map(|agent| agent.port())),
            ("0.0.0.0:7777", Some(7778))
        );
        let reached = |text: &str| parse(&format!("gate = {{ {text} }}")).map(|gate| gate.reached_at);
        assert_eq!(reached("listen = \"0.0.0.0:7777\"").unwrap(), None);
        assert_eq!(reached("listen = \"10.1.0.2:7777\"").unwrap().as_deref(), Some("10.1.0.2:7777"));
        let named = "listen = \"10.1.0.2:7777\", url = \"http://ams.example:80/\"";
        assert_eq!(reached(named).unwrap().as_deref(), Some("ams.example:80"));
        for url in ["https://ams:1", "ams:1", "http://ams", "http://:1", "http://ams:1/live", "http://ams:x"] {
            let error = reached(&format!("listen = \"0.0.0.0:7777\", url = \"{url}\"")).unwrap_err();
            assert!(error.contains(&format!("`url` under [sites.ams.gate] is `{url}`")), "{error}");
        }
        let error = parse("gate = { listen = \"7777\" }").unwrap_err();
        assert!(error.starts_with("w.toml:1: `listen` under [sites.ams.gate] is `7777`"), "{error}");
        let error = parse("gate = { listen = \"10.1.0.2:7777\", agent = \"10.1.0.2:7777\" }").unwrap_err();
        assert!(error.contains("are the same"), "{error}");
    }
}
