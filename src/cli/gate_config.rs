//! `warmspare gate config`: what a load balancer must be told.

use std::time::Duration;

use clap::{Args, ValueEnum};

use super::words;
use crate::config::Config;
use crate::error::{Class, Error};
use crate::site::balancer::{self, Floating, Outline, Port};

/// D where the configuration has no witness yet.
const DRAIN: Duration = Duration::from_secs(10);

#[derive(Debug, Args)]
pub(super) struct GateConfig {
    /// For which program.
    #[arg(value_enum)]
    pub program: Program,

    /// The gate of a site as the load balancer reaches it, if that is not where the configuration says.
    #[arg(long, value_name = "SITE=HOST:PORT")]
    pub gate: Vec<String>,

    /// A host that serves at a site; each site has at least one.
    #[arg(long, value_name = "SITE=HOST", required = true)]
    pub unit: Vec<String>,

    /// A port of the service: 443:tcp is passed through, 80:http:/health is HTTP, where a unit is well while it answers /health
    /// with 200; 80=8080:… listens on 80, and units do on 8080.
    #[arg(long, value_name = "PORT", required_if_eq_any([("program", "haproxy"), ("program", "nginx"), ("program", "caddy")]))]
    pub port: Vec<String>,

    /// keepalived: the address that follows the gate, with the length of its network's prefix.
    #[arg(long, value_name = "ADDRESS/LENGTH", required_if_eq("program", "keepalived"))]
    pub address: Option<String>,

    /// keepalived: the network interface that gets it, of the same name at both hosts.
    #[arg(long, value_name = "NAME", default_value = "eth0", requires = "address")]
    pub interface: String,

    /// keepalived: the number of this group in the network.
    #[arg(long, value_name = "1-255", default_value_t = 51, requires = "address")]
    pub router: u8,
}

/// The programs whose configuration is known, each tested.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Program {
    /// HAProxy 2.2 or later: HTTP and TCP; cuts what is connected; in maintenance refuses writes of HTTP.
    Haproxy,
    /// nginx with auth_request: HTTP; in maintenance refuses writes.
    Nginx,
    /// Caddy 2.6 or later: HTTP; in maintenance refuses writes.
    Caddy,
    /// keepalived 2.2 or later: an address of one network, at the host of the site whose gate is open; for the host at --site.
    Keepalived,
}

pub(super) fn run((config, here): (Config, String), command: &GateConfig) -> Result<Option<Class>, Error> {
    let ports = command.port.iter().map(|text| text.parse()).collect::<Result<Vec<Port>, _>>()?;
    let sites: Vec<&str> = config.sites.keys().map(String::as_str).collect();
    let drain = config.witness.as_ref().map_or(DRAIN, |witness| witness.drain);
    let configured = config.sites.values().filter_map(|site| {
        let is_named = command.gate.iter().any(|gate| gate.split_once('=').is_some_and(|(name, _)| name == site.name));
        let reached_at = site.gate.as_ref()?.reached_at.as_ref()?;
        (!is_named).then(|| format!("{}={reached_at}", site.name))
    });
    let gates: Vec<String> = command.gate.iter().cloned().chain(configured).collect();
    let outline = Outline::new((&config.system, &sites), &gates, &command.unit, &ports, drain)?;
    let snippet = match command.program {
        Program::Haproxy => balancer::haproxy(&outline),
        Program::Nginx => balancer::nginx(&outline)?,
        Program::Caddy => balancer::caddy(&outline)?,
        Program::Keepalived => {
            let address = command.address.as_deref().unwrap_or_default();
            balancer::keepalived(&outline, &Floating::new(address, &command.interface, command.router)?, &here)?
        }
    };
    words::data(&snippet);
    Ok(None)
}
